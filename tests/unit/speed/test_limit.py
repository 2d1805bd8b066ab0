"""The limit follows from what was measured, and what was measured is plausible."""

import pytest

from hrnetpose.artifacts.engine import Device
from hrnetpose.artifacts.machine import Peaks
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.speed import host, limit

CARD_FLOPS = 5e8
"""Twice the card's operations."""
ENDS = 64 * 32 * 3 + 3 * 16 * 8 * 4
"""Bytes of a crop and of its heatmaps."""


def test_operations_bound_where_the_product_is_slow(model_card: ModelCard) -> None:
    peaks = Peaks(flops=5e10, bandwidth=1e12, measured_with="paper")

    found = limit.roofline(model_card, "bf16", 8, None, peaks, fps=40.0)

    assert found.flops_per_image == CARD_FLOPS
    assert found.limit_fps == pytest.approx(100.0)
    assert found.fraction == pytest.approx(0.4)
    assert found.bound == "compute"


def test_bytes_bound_where_the_copy_is_slow(model_card: ModelCard) -> None:
    peaks = Peaks(flops=1e15, bandwidth=ENDS * 50.0, measured_with="paper")

    found = limit.roofline(model_card, "bf16", 8, None, peaks, fps=10.0)

    assert found.bound == "memory"
    assert found.limit_fps == pytest.approx(50.0)


def test_there_is_no_limit_without_a_product(model_card: ModelCard) -> None:
    peaks = Peaks(flops=None, bandwidth=1e9, measured_with="not available")

    found = limit.roofline(model_card, "int8", 8, None, peaks, 10.0)

    assert (found.bound, found.limit_fps, found.fraction) == (None, None, None)
    assert found.measured_with == "not available"


@pytest.mark.parametrize(
    ("precision", "batch", "cache", "weights"),
    [
        ("fp32", 1, 0, 6_000_000),
        ("fp32", 32, 1_000_000, 5_000_000 / 32),
        ("int8", 1, 1_000_000, 500_000),
        ("bf16", 4, 32_000_000, 0),  # they stay in the cache
        ("fp32", 4, None, 0),  # whose size is not known
    ],
)
def test_weights_are_shared_by_a_batch_and_kept_by_the_cache(
    model_card: ModelCard, precision: str, batch: int, cache: int | None, weights: float
) -> None:
    found = limit.fewest_bytes(model_card, precision, batch, cache)

    assert found == pytest.approx(ENDS + weights)


def test_the_peak_is_that_of_the_fastest_precision_in_use() -> None:
    assert limit.precision_of({"int8": 3, "bf16": 90}, "bf16") == "int8"
    assert limit.precision_of({"fp8": 3, "fp16": 90}, "fp16") == "fp8"
    assert limit.precision_of({"fp32": 40}, "fp32") == "fp32"
    assert limit.precision_of({}, "unknown") == "unknown"


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_this_machine_multiplies_and_copies(precision: str) -> None:
    found = limit.measure(precision, Device(kind="cpu"), threads=2, seconds=0.1)

    assert found.flops is not None
    assert 1e8 < found.flops < 1e15
    assert found.bandwidth is not None
    assert 1e8 < found.bandwidth < 1e13
    assert "OpenVINO" in found.measured_with


def test_a_gpu_without_a_library_has_no_limit() -> None:
    found = limit.measure("fp16", Device(kind="gpu", name="NVIDIA H100"), threads=2)

    assert found.flops is None or "PyTorch" in found.measured_with


def test_a_precision_that_is_not_known_has_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of TensorRT in ONNX Runtime, which does not say what it runs."""
    monkeypatch.setattr(limit, "_has_cuda", lambda: True)
    monkeypatch.setattr(limit, "_cuda_bandwidth", lambda: 1e12)

    found = limit.measure("unknown", Device(kind="gpu", name="NVIDIA H100"), threads=2)

    assert (found.flops, found.bandwidth) == (None, 1e12)
    assert found.measured_with == "not available: the executed precision is unknown"


def test_the_best_of_several_counts() -> None:
    """What disturbs a measurement makes the peak lower."""
    found = [
        Peaks(flops=3e9, bandwidth=1e9, measured_with="a"),
        Peaks(flops=5e9, bandwidth=None, measured_with="b"),
        Peaks(flops=None, bandwidth=7e8, measured_with="c"),
    ]

    assert limit.best(found) == Peaks(flops=5e9, bandwidth=1e9, measured_with="c")


def test_the_peaks_of_a_cpu_are_those_that_it_has_units_for() -> None:
    machine = host.describe()
    old = machine.model_copy(update={"features": ["avx2"]})
    new = machine.model_copy(update={"features": ["avx512_vnni", "avx512_bf16"]})

    assert limit.native_precisions(Device(kind="cpu"), old) == ["fp32"]
    assert limit.native_precisions(Device(kind="cpu"), new) == ["fp32", "bf16", "int8"]
