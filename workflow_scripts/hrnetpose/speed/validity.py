"""Whether a measurement can be believed, as MLPerf's LoadGen says it: VALID, or INVALID and why.

The rules are fixed, and not part of the configuration: a figure that is VALID means the same
everywhere.
"""

from collections.abc import Callable

import numpy as np

from hrnetpose.artifacts.measured import Check, failures
from hrnetpose.batches import Array, Outputs
from hrnetpose.speed.monitor import Report

MIN_SECONDS = 3.0
"""Latency and throughput must each be measured for this long."""
MIN_REQUESTS = 50
"""Latency needs this many samples, ..."""
MIN_BATCHES = 12
"""... throughput this many batches."""
MAX_SPREAD = 0.10
"""Windows of a measurement must not differ by more."""
MAX_OTHERS = 0.05
"""Other processes may take this share of the CPUs ..."""
MIN_OTHERS_CORES = 0.1
"""... or this much of one, if that is more: what a quiet system needs for itself."""
MAX_STEAL = 0.02
"""The hypervisor may take this share of the CPUs."""
RESOLUTION = 0.05
"""CPU seconds that counters, which count ticks of 10 ms, cannot tell; it matters below 1 s only."""
MAX_CLOCK_LOSS = 0.10
"""The clock must not fall by more between the ends of a measurement."""
MAX_DIFFERENCE = 0.3
"""Outputs for one image may differ by this share; low precision rounds by far less."""


def audit_size(samples: int, fewest: int, seconds: float) -> list[Check]:
    """Check that a measurement is large enough to be believed; another one would be as large.

    Args:
        samples: how many it has.
        fewest: how many it needs.
        seconds: how long it took.
    """
    return [
        Check.that(
            "enough samples",
            samples >= fewest,
            f"{samples} samples, {fewest} are needed",
            f"too few samples: {samples}, at least {fewest} are needed",
            "raise `benchmark.min_samples` and `benchmark.min_seconds`",
        ),
        Check.that(
            "long enough",
            seconds >= MIN_SECONDS,
            f"{seconds:.1f} s, {MIN_SECONDS:g} s are needed",
            f"too short: {seconds:.1f} s, at least {MIN_SECONDS:g} s are needed",
            f"set `benchmark.min_seconds` to {MIN_SECONDS:g} or more",
        ),
    ]


def audit_spread(spread: float) -> list[Check]:
    """Check that the windows of a measurement differ by little."""
    differ = f"windows differ by {spread:.1%}, at most {MAX_SPREAD:.0%} is allowed"
    remedy = "measure on a machine with a steady clock, or raise `benchmark.patience`"
    return [Check.that("steady", spread <= MAX_SPREAD, differ, f"unstable: {differ}", remedy)]


def audit_machine(machine: Report) -> list[Check]:
    """Check that nothing disturbed a measurement; counters that are missing are not measurable."""
    capacity = machine.seconds * machine.cpus
    allowed = max(MAX_OTHERS * capacity, MIN_OTHERS_CORES * machine.seconds, RESOLUTION)
    checks = [
        _count(
            "no other processes",
            machine.others,
            allowed,
            lambda found: (
                f"other processes took {found / machine.seconds:.2f} of {machine.cpus} CPUs"
            ),
            "end what runs beside it, or raise `benchmark.patience`",
        ),
        _count(
            "no steal",
            machine.steal,
            max(MAX_STEAL * capacity, RESOLUTION),
            lambda found: f"the hypervisor took {found / capacity:.0%} of the CPUs (steal)",
            "measure on a machine of your own, or when its neighbours are quiet",
        ),
        _count(
            "no swapping",
            machine.swapped,
            0,
            lambda found: f"{found} pages were swapped",
            "free memory",
        ),
        _count(
            "no heat",
            machine.thermal,
            0,
            lambda found: f"the clock was throttled for heat {found} times",
            "cool the machine, or lower its clock for good",
        ),
        _count(
            "no quota",
            machine.quota,
            0,
            lambda found: f"a CPU quota held the process back for {found:.2f} s",
            "raise the CPU quota of the container or control group",
        ),
        _clock("the CPU", machine.clocks_mhz),
    ]
    if machine.gpu:
        remedy = "cool the GPU, or lock its clock below the throttling point"
        throttled, others = "the GPU's clock was throttled", machine.gpu.others
        checks += [
            Check.that(
                "GPU not throttled", not machine.gpu.throttled, "not throttled", throttled, remedy
            ),
            _count(
                "GPU alone",
                others,
                0,
                lambda found: f"{found} other processes compute on the GPU",
                "end what computes beside it",
            ),
            _clock("the GPU", machine.gpu.clocks_mhz),
        ]
    return checks


def disturbances(machine: Report) -> list[str]:
    """Return what disturbed a measurement."""
    return failures(audit_machine(machine))


def audit_batch(alone: Outputs, in_batch: Outputs) -> list[Check]:
    """Check that the last image of a batch has the outputs that it has alone.

    An engine that computes fewer images than its batch declares is caught by it, even if it fills
    up what it returns.

    Args:
        alone: of a batch that repeats the image.
        in_batch: of a batch of others with the same image at the end.
    """
    errors = {name: _difference(in_batch[name][-1], alone[name][0]) for name in alone}
    return [
        Check.that(
            f"whole batch ({name})",
            error <= MAX_DIFFERENCE,
            f"the last image of a batch is off by {error:.1%}",
            f"batch: the last image of a batch has other {name} than alone (off by {error:.0%})",
            "the engine does not compute all of its batch: take another `batch`, or build it again",
        )
        for name, error in errors.items()
    ]


def _difference(values: Array, reference: Array) -> float:
    return float(np.linalg.norm(values - reference)) / (float(np.linalg.norm(reference)) or 1.0)


def _count(
    rule: str,
    found: float | None,
    allowed: float,
    describe: Callable[[float], str],
    remedy: str,
) -> Check:
    """Hold a counter against what is allowed."""
    if found is None:
        return Check.unknown(rule, "this system does not count it")
    return Check.that(rule, found <= allowed, describe(found), describe(found), remedy)


def _clock(what: str, clocks: tuple[float, float] | None) -> Check:
    rule = f"steady clock of {what}"
    if clocks is None:
        return Check.unknown(rule, "its clock cannot be read")
    before, after = clocks
    return Check.that(
        rule,
        after >= before * (1 - MAX_CLOCK_LOSS),
        f"{before:.0f} MHz before, {after:.0f} MHz after",
        f"the clock of {what} fell from {before:.0f} to {after:.0f} MHz",
        "cool it, or lock its clock",
    )
