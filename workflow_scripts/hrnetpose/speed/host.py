"""The machine that is measured.

`psutil` gives memory and load.  CPUs are read from the system's files: `psutil` lists them without
their numbers, so that those of this process cannot be told apart where others are offline.
"""

import os
import platform
from pathlib import Path

import psutil

from hrnetpose.artifacts.engine import Device
from hrnetpose.artifacts.measured import Host
from hrnetpose.speed import nvml

_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16",
             "amx_bf16", "amx_int8", "amx_fp16", "asimd", "asimdhp", "bf16", "i8mm",
             "sve")  # fmt: skip
_CPUS = Path("/sys/devices/system/cpu")


def cpus() -> list[int]:
    """Return the numbers of the CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def cores() -> int:
    """Return the number of CPUs that this process may use."""
    return len(cpus())


def describe(device: Device | None = None) -> Host:
    """Describe this machine.

    Args:
        device: what the engine runs on; a GPU is described, too.
    """
    cpu = _cpu_info()
    flags = set((cpu.get("flags") or cpu.get("Features") or "").split())
    return Host(
        cpu=cpu.get("model name") or platform.processor() or platform.machine(),
        features=[feature for feature in _FEATURES if feature in flags],
        cores=cores(),
        cache_bytes=_last_level_cache(),
        clock_mhz=clock_mhz(),
        virtual="hypervisor" in flags,
        gpu=nvml.describe() or device.name if device and device.kind == "gpu" else None,
        memory_bytes=psutil.virtual_memory().total,
        os=platform.platform(),
        python=platform.python_version(),
        load_average=psutil.getloadavg()[0],
    )


def clock_mhz() -> float | None:
    """Return the present mean clock of the CPUs that this process may use, or None.

    Virtual machines usually report a constant.
    """
    found = []
    for number in cpus():
        try:
            text = (_CPUS / f"cpu{number}/cpufreq/scaling_cur_freq").read_text()
        except OSError:
            continue
        found.append(float(text) / 1e3)
    if not found:
        try:
            lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        except OSError:
            return None
        found = [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
    return sum(found) / len(found) if found else None


def _last_level_cache() -> int | None:
    sizes = []
    for index in sorted((_CPUS / f"cpu{cpus()[0]}/cache").glob("index*")):
        try:
            text = (index / "size").read_text().strip()
        except OSError:
            continue
        unit = {"K": 2**10, "M": 2**20}.get(text[-1:], 1)
        sizes.append(int(text.rstrip("KM")) * unit)
    return max(sizes, default=None)


def _cpu_info() -> dict[str, str]:
    """Return the first processor's entry of /proc/cpuinfo; empty where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    lines = text.split("\n\n")[0].splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
