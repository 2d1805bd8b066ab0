"""Each rule has its reason, and nothing else is a reason."""

from dataclasses import replace

import numpy as np
import pytest

from hrnetpose.artifacts.measured import failures
from hrnetpose.batches import Outputs
from hrnetpose.speed import nvml, validity
from hrnetpose.speed.monitor import Report

QUIET = Report(
    seconds=4.0,
    cpus=2,
    others=0.2,
    steal=0.0,
    swapped=0,
    thermal=0,
    quota=0.0,
    clocks_mhz=(2600.0, 2500.0),
    gpu=nvml.Report(throttled=False, others=0, clocks_mhz=(1980.0, 1980.0)),
    joules=(None, "not available"),
)


def shortcomings(samples: int, fewest: int, seconds: float) -> list[str]:
    return failures(validity.audit_size(samples, fewest, seconds))


def unsteadiness(spread: float) -> list[str]:
    return failures(validity.audit_spread(spread))


def batch_content(alone: Outputs, in_batch: Outputs) -> list[str]:
    return failures(validity.audit_batch(alone, in_batch))


def test_a_long_steady_measurement_on_a_quiet_machine_is_valid() -> None:
    assert shortcomings(50, 50, 3.0) == []
    assert unsteadiness(0.10) == []
    assert validity.disturbances(QUIET) == []


def test_a_machine_that_tells_nothing_is_not_accused() -> None:
    silent = Report(4.0, 2, None, None, None, None, None, None, None, (None, ""))

    assert validity.disturbances(silent) == []
    assert {check.passed for check in validity.audit_machine(silent)} == {None}


def test_each_rule_has_its_evidence_and_a_remedy_only_if_it_is_broken() -> None:
    kept = validity.audit_machine(QUIET)
    broken = [*validity.audit_machine(replace(QUIET, swapped=7)), *validity.audit_size(1, 50, 1.0)]

    assert [(check.rule, check.evidence) for check in kept][:1] == [
        ("no other processes", "other processes took 0.05 of 2 CPUs")
    ]
    assert all(check.passed and check.evidence and check.remedy is None for check in kept)
    assert [check.rule for check in broken if not check.passed] == [
        *("no swapping", "enough samples", "long enough")
    ]
    assert all(bool(check.remedy) == (not check.passed) for check in broken)


def test_a_measurement_that_is_too_small_is_not() -> None:
    assert shortcomings(49, 50, 1.0) == [
        "too few samples: 49, at least 50 are needed",
        "too short: 1.0 s, at least 3 s are needed",
    ]


def test_a_measurement_that_is_unsteady_is_not() -> None:
    assert unsteadiness(0.2) == ["unstable: windows differ by 20.0%, at most 10% is allowed"]


def test_a_tick_of_the_counters_is_no_process() -> None:
    """A window of a sweep is so short that one or two of them are more than 5 %."""
    assert validity.disturbances(replace(QUIET, seconds=0.3, others=0.04, steal=0.02)) == []
    assert len(validity.disturbances(replace(QUIET, seconds=0.3, others=0.3, steal=0.3))) == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"others": 4.0}, "other processes took 1.00 of 2 CPUs"),
        ({"steal": 0.4}, "the hypervisor took 5% of the CPUs (steal)"),
        ({"swapped": 12}, "12 pages were swapped"),
        ({"thermal": 3}, "the clock was throttled for heat 3 times"),
        ({"quota": 0.5}, "a CPU quota held the process back for 0.50 s"),
        ({"clocks_mhz": (3000.0, 2000.0)}, "the clock of the CPU fell from 3000 to 2000 MHz"),
        (
            {"gpu": nvml.Report(True, 0, (1980.0, 1980.0))},
            "the GPU's clock was throttled",
        ),
        (
            {"gpu": nvml.Report(False, 2, (1980.0, 1980.0))},
            "2 other processes compute on the GPU",
        ),
        (
            {"gpu": nvml.Report(False, 0, (1980.0, 1200.0))},
            "the clock of the GPU fell from 1980 to 1200 MHz",
        ),
    ],
)
def test_every_disturbance_is_a_reason(change: dict[str, object], reason: str) -> None:
    assert validity.disturbances(replace(QUIET, **change)) == [reason]


def test_one_busy_process_counts_the_less_the_more_cpus_there_are() -> None:
    one = replace(QUIET, cpus=64, others=4.0)

    assert validity.disturbances(one) == []


def test_the_last_image_of_a_batch_must_be_computed() -> None:
    image = np.random.default_rng(0).random((3, 16, 8)).astype(np.float32)
    others = np.ones((3, 3, 16, 8), np.float32)
    alone = {"x": np.stack([image] * 4), "y": np.stack([image] * 4)}

    near = {name: np.concatenate([others, [image * np.float32(1.01)]]) for name in alone}
    assert batch_content(alone, near) == []
    assert batch_content(alone, {**near, "y": np.zeros((4, 3, 16, 8), np.float32)}) == [
        "batch: the last image of a batch has other y than alone (off by 100%)"
    ]
