"""Energy, where the machine tells it: RAPL for a CPU, NVML for a GPU.  Never a guess."""

import os
from pathlib import Path

from hrnetpose.speed import nvml

POWERCAP = Path("/sys/class/powercap")


class Meter:
    """Read energy counters now, and again in `joules`.

    Args:
        gpu: the GPU that is used; None for a CPU.
    """

    def __init__(self, gpu: nvml.Watch | None) -> None:
        self._gpu = gpu
        self._before: dict[Path, int] = {}
        self._problem = ""
        if gpu is None:
            try:
                self._before = {zone: _read(zone / "energy_uj") for zone in _packages()}
            except PermissionError:
                self._problem = "not available: RAPL can be read by root only"
            except (OSError, ValueError) as error:
                self._problem = f"not available: RAPL cannot be read ({error})"
            if not self._before:
                self._problem = self._problem or "not available: the machine has no RAPL"

    def joules(self) -> tuple[float | None, str]:
        """Return what the device has taken since, and its source or why it is not known."""
        if self._gpu is not None:
            joules = self._gpu.joules()
            return joules, "NVML" if joules is not None else f"not available: {self._gpu.problem}"
        if self._problem:
            return None, self._problem
        total = 0
        for zone, before in self._before.items():
            used = _read(zone / "energy_uj") - before
            # The counter starts again from zero.
            total += used if used >= 0 else used + _read(zone / "max_energy_range_uj")
        return total / 1e6, "RAPL"


def _packages() -> list[Path]:
    """Return the zones of whole packages: intel-rapl:0, whoever made the CPU; not their parts.

    Nor intel-rapl-mmio:0, which counts the first package once more through other registers.
    """
    if not POWERCAP.is_dir():
        return []
    names = [name for name in sorted(os.listdir(POWERCAP)) if name.startswith("intel-rapl:")]
    zones = [POWERCAP / name for name in names if name.count(":") == 1]
    return [zone for zone in zones if (zone / "name").read_text().startswith("package")]


def _read(path: Path) -> int:
    return int(path.read_text())
