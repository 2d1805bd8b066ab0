"""NVIDIA GPUs: their clocks, their other users and their energy, from NVML.

Its Python package is imported only when a GPU is used.  What cannot be read is None, and `problem`
says why.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

# Reasons for a lower clock that no benchmark survives (nvml.h, nvmlClocksEventReason*): hardware
# slowdown, software and hardware thermal slowdown, power brake.
_THROTTLED = 0x08 | 0x20 | 0x40 | 0x80


@dataclass(frozen=True)
class Report:
    """What NVML knows of the time between two readings.

    Attributes:
        throttled: the clock was held back for heat or by the power supply, at either end.
        others: how many other processes compute on the GPU.
        clocks_mhz: of the multiprocessors, at both ends.
    """

    throttled: bool
    others: int
    clocks_mhz: tuple[float, float]


class Watch:
    """Read a GPU now, and again in `report` and `joules`."""

    def __init__(self) -> None:
        self.problem = ""
        self._before: dict[str, Any] = {}
        try:
            self._nvml, self._gpu = _open()
            self._before = self._state()
        except Exception as error:  # no package, no driver, no GPU, no permission
            self.problem = f"NVML: {error}"

    def report(self) -> Report | None:
        """Tell what happened since; None if NVML cannot be asked."""
        if self.problem:
            return None
        after, before = self._state(), self._before
        return Report(
            throttled=bool((before["reasons"] | after["reasons"]) & _THROTTLED),
            # This process is one of them; a container knows it by another number than NVML.
            others=max(0, before["processes"] - 1, after["processes"] - 1),
            clocks_mhz=(before["clock"], after["clock"]),
        )

    def joules(self) -> float | None:
        """Return the energy that the GPU has taken since; None if it does not tell."""
        if not self.problem and self._before["energy"] is None:
            self.problem = "NVML: this GPU does not count its energy"
        if self.problem:
            return None
        return (self._state()["energy"] - self._before["energy"]) / 1e3

    def _state(self) -> dict[str, Any]:
        nvml, gpu = self._nvml, self._gpu
        try:
            energy = nvml.nvmlDeviceGetTotalEnergyConsumption(gpu)  # millijoules
        except nvml.NVMLError:
            energy = None
        return {
            "energy": energy,
            "reasons": nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu),
            "processes": len(nvml.nvmlDeviceGetComputeRunningProcesses(gpu)),
            "clock": float(nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM)),
        }


def describe() -> str | None:
    """Name the GPU that is used and its driver; None if NVML cannot be asked."""
    try:
        nvml, gpu = _open()
        name, driver = nvml.nvmlDeviceGetName(gpu), nvml.nvmlSystemGetDriverVersion()
    except Exception:
        return None
    return f"{name}, driver {driver}"


def _open() -> tuple[Any, Any]:
    """Return the module and the GPU that CUDA calls number 0.

    NVML counts GPUs by their place on the bus, CUDA the fastest first unless it is told otherwise
    (CUDA C++ Programming Guide, CUDA_DEVICE_ORDER).

    Raises:
        LookupError: which of several different GPUs it is cannot be told.
    """
    import pynvml

    pynvml.nvmlInit()
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip() or "0"
    if not first.isdigit():
        return pynvml, pynvml.nvmlDeviceGetHandleByUUID(first)
    names = set()
    for number in range(pynvml.nvmlDeviceGetCount()):
        with suppress(pynvml.NVMLError):  # a GPU that this process may not use is counted, too
            names.add(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(number)))
    if len(names) > 1 and os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        raise LookupError(
            "GPUs of several kinds, which CUDA counts in another order; set "
            "CUDA_DEVICE_ORDER=PCI_BUS_ID"
        )
    return pynvml, pynvml.nvmlDeviceGetHandleByIndex(int(first))
