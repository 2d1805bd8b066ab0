"""NVIDIA's driver, found without loading it, and batches on the device through pycuda.

pycuda is imported only by what runs an engine.
"""

import importlib.util
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hrnetpose.engines.base import Crops, Heatmaps, Phases, in_order
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

    def as_built_for(self) -> dict[str, str]:
        """Returns what an engine for this device is built for."""
        facts = asdict(self)
        return {"GPU": facts["name"], "compute capability": self.capability, "driver": self.driver}


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


def gpu() -> Gpu:
    """Returns the device.

    Raises:
        StageError: there is none.
    """
    found = find()
    if isinstance(found, str):
        raise StageError(found)
    return found


def lacking(install: str) -> str | None:
    """Says what this machine lacks to run an engine through pycuda; None: nothing.

    Args:
        install: how to install pycuda.
    """
    if importlib.util.find_spec("pycuda") is None:
        return f"pycuda is not installed; install it with {install}"
    found = find()
    return f"{found}; `backend: auto` takes one that can" if isinstance(found, str) else None


Shape = tuple[int, ...]
Launch = Callable[[int, int], None]
"""`launch(slot, images)` enqueues the work on a slot's buffers in `Batches.compute`."""


class _Slot:
    """The buffers of one batch: pinned on the host, and on the device."""

    def __init__(self, driver: Any, crops: Shape, heatmaps: Shape) -> None:
        self.input = driver.pagelocked_empty(crops, np.uint8)
        self.output = driver.pagelocked_empty(heatmaps, np.float32)
        self.device_input = driver.mem_alloc(self.input.nbytes)
        self.device_output = driver.mem_alloc(self.output.nbytes)
        no_timing = driver.event_flags.DISABLE_TIMING
        self.uploaded = driver.Event(no_timing)
        self.computed = driver.Event(no_timing)
        self.downloaded = driver.Event(no_timing)
        self.images = 0

    def free(self) -> None:
        self.device_input.free()
        self.device_output.free()


class Batches:
    """Batches that travel to the device, through it and back, several at the same time.

    Copies in, work and copies out have a stream each, so that one batch is computed while the next
    comes in and the last goes out; events keep each batch in order.  The context is the device's
    primary one, which PyTorch and the CUDA runtime share.

    Args:
        crops: the shape of a full batch, uint8.
        heatmaps: the shape of what comes out, float32.
        slots: how many batches are in flight.
    """

    def __init__(self, crops: Shape, heatmaps: Shape, slots: int) -> None:
        import pycuda.autoprimaryctx
        import pycuda.driver

        self._driver = pycuda.driver
        self._context = pycuda.autoprimaryctx.context
        self.upload, self.compute, self.download = (self._driver.Stream() for _ in range(3))
        self.slots = [_Slot(self._driver, crops, heatmaps) for _ in range(slots)]

    def close(self) -> None:
        """Frees the buffers."""
        self._context.synchronize()
        for slot in self.slots:
            slot.free()
        self.slots.clear()

    def infer(self, launch: Launch, crops: Crops) -> Heatmaps:
        """Runs one batch and waits for it."""
        self._submit(launch, 0, crops)
        return self._collect(0)

    def stream(self, launch: Launch, batches: Iterable[Crops]) -> Iterator[Heatmaps]:
        """Runs batches, as many at a time as there are slots; results come in order."""

        def submit(slot: int, crops: Crops) -> None:
            self._submit(launch, slot, crops)

        return in_order(submit, self._collect, len(self.slots), batches)

    def times(self, launch: Launch, crops: Crops, count: int) -> list[float]:
        """Returns the device's seconds for a batch that lies there already, `count` times."""
        slot = self.slots[0]
        np.copyto(slot.input[: len(crops)], crops)
        self._driver.memcpy_htod(slot.device_input, slot.input)
        marks = [(self._driver.Event(), self._driver.Event()) for _ in range(count)]
        for start, end in marks:
            start.record(self.compute)
            launch(0, len(crops))
            end.record(self.compute)
        self.compute.synchronize()
        return [end.time_since(start) / 1e3 for start, end in marks]

    def infer_in_phases(self, launch: Launch, crops: Crops) -> tuple[Heatmaps, Phases]:
        """Runs one batch as `infer` does, and waits for each of its parts."""
        slot = self.slots[0]
        start = time.perf_counter()
        self._copy_in(slot, crops)
        self.upload.synchronize()
        copied = time.perf_counter()
        launch(0, len(crops))
        self.compute.synchronize()
        done = time.perf_counter()
        self._copy_out(slot)
        heatmaps = self._collect(0)
        return heatmaps, Phases(copied - start, done - copied, time.perf_counter() - done)

    def _submit(self, launch: Launch, number: int, crops: Crops) -> None:
        slot = self.slots[number]
        self._copy_in(slot, crops)
        slot.uploaded.record(self.upload)
        self.compute.wait_for_event(slot.uploaded)
        launch(number, len(crops))
        slot.computed.record(self.compute)
        self.download.wait_for_event(slot.computed)
        self._copy_out(slot)

    def _copy_in(self, slot: _Slot, crops: Crops) -> None:
        slot.images = len(crops)
        pinned = slot.input[: slot.images]
        np.copyto(pinned, crops)
        self._driver.memcpy_htod_async(slot.device_input, pinned, stream=self.upload)

    def _copy_out(self, slot: _Slot) -> None:
        pinned = slot.output[: slot.images]
        self._driver.memcpy_dtoh_async(pinned, slot.device_output, stream=self.download)
        slot.downloaded.record(self.download)

    def _collect(self, number: int) -> Heatmaps:
        slot = self.slots[number]
        slot.downloaded.synchronize()
        return slot.output[: slot.images].copy()


class Graph:
    """Work captured from a stream into a CUDA graph: one call launches all its kernels.

    pycuda has no graphs; the CUDA runtime takes its stream by the same handle.

    Args:
        stream: a stream of pycuda.
        enqueue: puts the work into the stream; it was run once before.

    Raises:
        StageError: the work cannot be captured.
    """

    def __init__(self, stream: Any, enqueue: Callable[[], None]) -> None:
        from cuda.bindings import runtime

        self._runtime = runtime
        self._stream = stream.handle
        mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", self._stream, mode)
        enqueue()
        graph = self._call("cudaStreamEndCapture", self._stream)
        self._graph = self._call("cudaGraphInstantiate", graph, 0)
        self._call("cudaGraphDestroy", graph)

    def launch(self) -> None:
        """Enqueues the work."""
        self._call("cudaGraphLaunch", self._graph, self._stream)

    def close(self) -> None:
        """Frees the graph."""
        self._call("cudaGraphExecDestroy", self._graph)

    def _call(self, name: str, *arguments: Any) -> Any:
        status, *values = getattr(self._runtime, name)(*arguments)
        if status != self._runtime.cudaError_t.cudaSuccess:
            raise StageError(f"CUDA graph: {name} answers {status.name}; run without `cuda_graphs`")
        return values[0] if values else None
