"""What else ran on the machine during a measurement.

Counters are read before and after, never in between, so that watching costs nothing.  Missing
counters are None and are ignored.  `psutil` has no counters of heat and quotas, gives 0 for
missing swap counters, and lists CPUs without their numbers.
"""

import os
import resource
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from hrnetpose.artifacts.engine import Device
from hrnetpose.speed import energy, host, nvml

PROC, SYS = Path("/proc"), Path("/sys")
_THROTTLE = ("core_throttle_count", "package_throttle_count")


@dataclass(frozen=True)
class Report:
    """What happened during the measurement.

    Attributes:
        seconds: its duration.
        cpus: number of CPUs that this process may use; counters are of these.
        others: CPU seconds that other processes took.
        steal: CPU seconds that the hypervisor took.
        swapped: pages swapped in and out.
        thermal: number of thermal throttling events.
        quota: seconds of throttling by the control group's CPU quota.
        clocks_mhz: clock before and after, under load.
        gpu: what NVML found; None if no GPU is used.
        joules: energy of the device, and where it is from or why it is not known.
    """

    seconds: float
    cpus: int
    others: float | None
    steal: float | None
    swapped: int | None
    thermal: int | None
    quota: float | None
    clocks_mhz: tuple[float, float] | None
    gpu: nvml.Report | None
    joules: tuple[float | None, str]


class Monitor:
    """Watch what runs inside a `with` statement; then `report` has the result.

    Args:
        device: what the engine runs on; a GPU is watched, too.
    """

    report: Report

    def __init__(self, device: Device | None = None) -> None:
        self._gpu = nvml.Watch() if device and device.kind == "gpu" else None

    def __enter__(self) -> Self:
        self._cpus = host.cpus()
        self._clock = host.clock_mhz()
        self._energy = energy.Meter(self._gpu)
        self._before = _counters(self._cpus)
        self._start = time.perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        seconds = time.perf_counter() - self._start
        after, before = _counters(self._cpus), self._before
        clock = host.clock_mhz()
        changes = {name: after[name] - before[name] for name in after.keys() & before.keys()}
        own = changes["own"]
        busy = changes.get("busy")
        self.report = Report(
            seconds=seconds,
            cpus=len(self._cpus),
            others=None if busy is None else max(0.0, busy - own),
            steal=changes.get("steal"),
            swapped=None if "swapped" not in changes else int(changes["swapped"]),
            thermal=None if "thermal" not in changes else int(changes["thermal"]),
            quota=changes.get("quota"),
            clocks_mhz=(self._clock, clock) if self._clock and clock else None,
            gpu=self._gpu.report() if self._gpu else None,
            joules=self._energy.joules(),
        )


def quota_cores() -> float | None:
    """Return how many cores the control groups of this process allow; None without a limit."""
    found = []
    for folder in _cgroups():
        for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
            words = " ".join(line for name in names for line in _lines(folder / name)).split()
            with suppress(ValueError):  # "max" is no number, and a missing file has none
                quota, period = map(int, words)
                if quota > 0:
                    found.append(quota / period)
    return round(min(found), 2) if found else None


def _counters(cpus: list[int]) -> dict[str, float]:
    """Read the counters that this system has; times in seconds."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    found = {"own": sum(usage.ru_utime + usage.ru_stime for usage in used)}
    for line in _lines(PROC / "stat"):
        name, *ticks = line.split()
        if name[:3] == "cpu" and name[3:].isdigit() and int(name[3:]) in cpus:
            user, nice, system, idle, _, irq, softirq, steal = map(int, ticks[:8])
            if not user + system + idle:
                continue  # gVisor has the line, and counts nothing
            per_second = os.sysconf("SC_CLK_TCK")
            busy = (user + nice + system + irq + softirq) / per_second
            found["busy"] = found.get("busy", 0.0) + busy
            found["steal"] = found.get("steal", 0.0) + steal / per_second
    for line in _lines(PROC / "vmstat"):
        name, _, pages = line.partition(" ")
        if name in ("pswpin", "pswpout"):
            found["swapped"] = found.get("swapped", 0.0) + int(pages)
    for number in cpus:
        for name in _THROTTLE:
            file = SYS / f"devices/system/cpu/cpu{number}/thermal_throttle/{name}"
            for line in _lines(file):
                found["thermal"] = found.get("thermal", 0.0) + int(line)
    units = {"throttled_usec": 1e6, "throttled_time": 1e9}  # of versions 2 and 1
    for folder in _cgroups():
        for line in _lines(folder / "cpu.stat"):
            name, _, value = line.partition(" ")
            if name in units:
                found["quota"] = found.get("quota", 0.0) + int(value) / units[name]
    return found


def _cgroups() -> list[Path]:
    """Return the folders of this process's control group and of those that it is in.

    A quota of any of them holds the process back.  Inside a container only the root may be there.
    """
    root = SYS / "fs/cgroup"
    for line in _lines(PROC / "self/cgroup"):
        number, controllers, path = line.split(":", 2)
        if number == "0" or "cpu" in controllers.split(","):
            top = root if number == "0" else root / "cpu"
            own = top / path.lstrip("/")
            return [one for one in (own, *own.parents) if one.is_relative_to(top)]
    return [root]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
