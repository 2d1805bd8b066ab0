"""The first NVIDIA GPU, found without loading the driver into this process."""

import json
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hrnetpose.artifacts.engine import Device
from hrnetpose.stage import StageError

LIBRARY = "libcuda.so.1"
_KERNEL_MODULE = Path("/proc/driver/nvidia/version")
_TIMEOUT = 60
"""Seconds.  Without the persistence daemon, initialising eight GPUs takes several."""

_PROGRAM = """
import ctypes, json, sys

def fail(reason):
    print(json.dumps({"error": reason}))
    sys.exit()

try:
    cuda = ctypes.CDLL(sys.argv[1])
except OSError:
    fail(f"there is no NVIDIA driver ({sys.argv[1]} cannot be loaded)")

def call(name, *arguments):
    status = getattr(cuda, name)(*arguments)
    if status:
        text = ctypes.c_char_p()
        cuda.cuGetErrorString(status, ctypes.byref(text))
        fail(f"{name} of the NVIDIA driver fails: {(text.value or b'unknown error').decode()}")

def number(name, *arguments):
    value = ctypes.c_int()
    call(name, ctypes.byref(value), *arguments)
    return value.value

call("cuInit", 0)
if not number("cuDeviceGetCount"):
    fail("the NVIDIA driver finds no GPU")
device = number("cuDeviceGet", 0)
name = ctypes.create_string_buffer(256)
call("cuDeviceGetName", name, len(name), device)
# Attributes 75 and 76 are the two parts of the compute capability.
major, minor = (number("cuDeviceGetAttribute", part, device) for part in (75, 76))
cuda_version = number("cuDriverGetVersion")
print(json.dumps({
    "name": name.value.decode(),
    "capability": f"{major}.{minor}",
    "driver": f"CUDA {cuda_version // 1000}.{cuda_version % 1000 // 10}",
}))
"""


@dataclass(frozen=True)
class Gpu:
    """The first GPU of this process (CUDA_VISIBLE_DEVICES).

    Attributes:
        name: as the driver reports it.
        capability: compute capability, for example `9.0`.
        driver: version of the driver, where known, and its CUDA version.
    """

    name: str
    capability: str
    driver: str

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.capability}), {self.driver}"

    def build_environment(self) -> dict[str, str]:
        """Return what an engine built for this GPU alone is tied to."""
        return {"GPU": self.name, "compute capability": self.capability, "driver": self.driver}


@cache
def find_gpu(library: str = LIBRARY) -> Gpu | str:
    """Return the GPU, or the reason why there is none.

    The driver is queried in a subprocess: a damaged driver, or one that does not match its kernel
    module, may crash, and a process that has initialised CUDA must not fork.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _PROGRAM, library],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"the NVIDIA driver does not answer within {_TIMEOUT} s"
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return f"the query of the NVIDIA driver failed ({reason})"
    if "error" in answer:
        return str(answer["error"])
    with suppress(OSError):
        # "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build ..."
        if version := re.search(r"\b\d{3}\.\d+(\.\d+)?\b", _KERNEL_MODULE.read_text()):
            answer["driver"] = f"{version[0]} ({answer['driver']})"
    return Gpu(**answer)


def missing_gpu_reason() -> str | None:
    """Return why there is no GPU; None if there is one."""
    gpu = find_gpu()
    return gpu if isinstance(gpu, str) else None


def require_gpu() -> Gpu:
    """Return the GPU.

    Raises:
        StageError: there is none.
    """
    gpu = find_gpu()
    if isinstance(gpu, str):
        raise StageError(gpu)
    return gpu


def describe_device(gpu: bool = True) -> Device:
    """Return the device as an engine card describes it.

    Args:
        gpu: describe the GPU, without a name where there is none; otherwise the CPU.
    """
    if not gpu:
        return Device(kind="cpu")
    return Device(kind="gpu", name=None if missing_gpu_reason() else str(find_gpu()))
