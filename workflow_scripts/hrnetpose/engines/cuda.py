"""NVIDIA's driver and its first device, found without loading the driver here."""

import importlib.util
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
_MODULE_VERSION = Path("/proc/driver/nvidia/version")
_TIMEOUT = 60
"""Seconds; a driver that initialises eight GPUs without the persistence daemon takes several."""

_PROGRAM = """
import ctypes, json, sys

def stop(text):
    print(json.dumps({"error": text}))
    sys.exit()

try:
    cuda = ctypes.CDLL(sys.argv[1])
except OSError:
    stop(f"there is no NVIDIA driver ({sys.argv[1]} cannot be loaded)")

def call(name, *arguments):
    status = getattr(cuda, name)(*arguments)
    if status:
        text = ctypes.c_char_p()
        cuda.cuGetErrorString(status, ctypes.byref(text))
        stop(f"the NVIDIA driver answers {name} with {(text.value or b'an error').decode()!r}")

def number(name, *arguments):
    value = ctypes.c_int()
    call(name, ctypes.byref(value), *arguments)
    return value.value

call("cuInit", 0)
if not number("cuDeviceGetCount"):
    stop("the NVIDIA driver knows no device")
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
    """The first device that this process may use (CUDA_VISIBLE_DEVICES).

    Attributes:
        name: NVIDIA's.
        capability: compute capability, for example `9.0`.
        driver: the driver's CUDA version and, where it says so, its own.
    """

    name: str
    capability: str
    driver: str

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.capability}), {self.driver}"

    def build_environment(self) -> dict[str, str]:
        """Returns what an engine that is built for this device alone is tied to."""
        return {"GPU": self.name, "compute capability": self.capability, "driver": self.driver}


@cache
def find(library: str = LIBRARY) -> Gpu | str:
    """Returns the device, or in words what is missing.

    A process of its own asks the driver: one that is damaged, or does not fit its kernel module,
    may crash, and a process that has initialised CUDA must not fork.
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
        reason = (done.stderr.strip().splitlines() or [f"it exits with {done.returncode}"])[-1]
        return f"the NVIDIA driver cannot be asked ({reason})"
    if "error" in answer:
        return str(answer["error"])
    with suppress(OSError):
        # "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build ..."
        if found := re.search(r"\b\d{3}\.\d+(\.\d+)?\b", _MODULE_VERSION.read_text()):
            answer["driver"] = f"{found[0]} ({answer['driver']})"
    return Gpu(**answer)


def require_gpu() -> Gpu:
    """Returns the device.

    Raises:
        StageError: there is none.
    """
    found = find()
    if isinstance(found, str):
        raise StageError(found)
    return found


def device() -> Device:
    """Returns the device as an engine's card names it; without a name where there is none."""
    found = find()
    return Device(kind="gpu", name=str(found) if isinstance(found, Gpu) else None)


def unavailable_reason(install: str) -> str | None:
    """Says why no engine can run here through pycuda; None if one can.

    Args:
        install: how to install pycuda.
    """
    if importlib.util.find_spec("pycuda") is None:
        return f"pycuda is not installed; install it with {install}"
    found = find()
    return f"{found}; `backend: auto` takes one that can" if isinstance(found, str) else None
