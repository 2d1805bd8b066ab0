"""Energy is read where it is told, and never guessed."""

# ruff: noqa: N802 (the names are NVML's)

import types
from pathlib import Path
from typing import Any

import pytest

from hrnetpose.artifacts.engine import Device
from hrnetpose.speed import energy, host, nvml
from hrnetpose.speed.energy import Meter


@pytest.fixture
def powercap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two packages, a part of one, the same one by other registers, and one that is no package."""
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    for name, kind in (
        ("intel-rapl:0", "package-0"),
        ("intel-rapl:0:0", "core"),
        ("intel-rapl:1", "package-1"),
        ("intel-rapl:2", "psys"),
        ("intel-rapl-mmio:0", "package-0"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(f"{kind}\n")
        (tmp_path / name / "energy_uj").write_text("1000000\n")
        (tmp_path / name / "max_energy_range_uj").write_text("5000000\n")
    return tmp_path


def test_the_packages_are_added_up(powercap: Path) -> None:
    meter = Meter(None)
    for zone in powercap.iterdir():
        (zone / "energy_uj").write_text("1500000\n")

    assert meter.joules() == (pytest.approx(1.0), "RAPL")


def test_a_counter_may_begin_again_from_zero(powercap: Path) -> None:
    meter = Meter(None)
    (powercap / "intel-rapl:1" / "energy_uj").write_text("250000\n")

    assert meter.joules() == (pytest.approx(4.25), "RAPL")


def test_a_machine_without_counters_says_so(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "none")

    assert Meter(None).joules() == (None, "not available: the machine has no RAPL")


class FakeNvml(types.ModuleType):
    """A GPU that takes 250 J between two readings, and is throttled and shared when told."""

    NVML_CLOCK_SM = 1

    class NVMLError(Exception):
        pass

    def __init__(
        self, counts: bool = True, reasons: int = 0, processes: int = 1, second: str = "Abacus X"
    ) -> None:
        super().__init__("pynvml")
        self.names = ["Abacus X", second, "Abacus X", "Abacus X"]
        self.counts, self.reasons, self.processes = counts, reasons, processes
        self.opened: list[object] = []
        self.millijoules = 1_000_000

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetCount(self) -> int:
        return len(self.names)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        if index == 2:
            raise self.NVMLError("Insufficient Permissions")
        self.opened.append(index)
        return self.names[index]

    def nvmlDeviceGetHandleByUUID(self, name: str) -> str:
        self.opened.append(name)
        return "Abacus X"

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: str) -> int:
        if not self.counts:
            raise self.NVMLError("Not Supported")
        self.millijoules += 250_000
        return self.millijoules

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, gpu: str) -> int:
        return self.reasons

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: str) -> list[str]:
        return ["process"] * self.processes

    def nvmlDeviceGetClockInfo(self, gpu: str, clock: int) -> int:
        return 1980

    def nvmlDeviceGetName(self, gpu: str) -> str:
        return gpu

    def nvmlSystemGetDriverVersion(self) -> str:
        return "600.1"


def install(monkeypatch: pytest.MonkeyPatch, **values: Any) -> FakeNvml:
    fake = FakeNvml(**values)
    monkeypatch.setitem(__import__("sys").modules, "pynvml", fake)
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)
    return fake


def test_a_gpu_tells_its_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)

    assert Meter(nvml.Watch()).joules() == (250.0, "NVML")


def test_a_gpu_that_does_not_count_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, counts=False)

    joules, source = Meter(nvml.Watch()).joules()

    assert joules is None
    assert source == "not available: NVML: this GPU does not count its energy"


def test_a_machine_without_a_driver_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = install(monkeypatch)

    def refuse() -> None:
        raise fake.NVMLError("NVML Shared Library Not Found")

    monkeypatch.setattr(fake, "nvmlInit", refuse, raising=False)

    watch = nvml.Watch()

    assert watch.report() is None
    assert Meter(watch).joules() == (
        None, "not available: NVML: NVML Shared Library Not Found"
    )  # fmt: skip
    assert nvml.describe() is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, nvml.Report(False, 0, (1980.0, 1980.0))),
        ({"reasons": 0x40}, nvml.Report(True, 0, (1980.0, 1980.0))),
        # A power cap is how a GPU works at full load.
        ({"reasons": 0x04}, nvml.Report(False, 0, (1980.0, 1980.0))),
        ({"processes": 3}, nvml.Report(False, 2, (1980.0, 1980.0))),
        ({"processes": 0}, nvml.Report(False, 0, (1980.0, 1980.0))),
    ],
)
def test_a_gpu_tells_what_disturbed_it(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, int], expected: nvml.Report
) -> None:
    install(monkeypatch, **values)

    assert nvml.Watch().report() == expected


@pytest.mark.parametrize(
    ("visible", "opened"), [("", 0), ("3,1", 3), ("GPU-12ab", "GPU-12ab"), (None, 0)]
)
def test_the_gpu_is_the_one_that_cuda_counts_first(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, opened: object
) -> None:
    fake = install(monkeypatch)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    assert nvml.describe() == "Abacus X, driver 600.1"
    assert fake.opened[-1] == opened


def test_which_of_different_gpus_cuda_counts_first_is_not_guessed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CUDA counts the fastest first, NVML by the bus: energy would be another GPU's."""
    fake = install(monkeypatch, second="Abacus Y")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")

    watch = nvml.Watch()

    assert watch.report() is None
    joules, source = Meter(watch).joules()
    assert joules is None
    assert source.endswith("counts in another order; set CUDA_DEVICE_ORDER=PCI_BUS_ID")
    known = Device(kind="gpu", name="Abacus X (compute capability 1.0)")
    assert host.describe(known).gpu == known.name

    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert Meter(nvml.Watch()).joules() == (250.0, "NVML")
    assert fake.opened[-1] == 1
    assert nvml.describe() == "Abacus Y, driver 600.1"
