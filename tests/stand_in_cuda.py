"""Stand-ins for pycuda and for a TensorRT runtime: they take the calls and keep what happened.

Nothing of this is the real thing.  The device is lazy in the way a GPU may be at worst: work in a
stream is done only when somebody waits for it, then no more than what that waits for, and with the
contents that buffers have at that moment.  So a missing event, or a buffer that is filled too
early, gives wrong heatmaps and not only another order of calls.
"""

import itertools
import sys
import types
from collections import deque
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from typing import Any

import numpy as np
import pytest

from hrnetpose.engines import cuda

GPU = cuda.Gpu("NVIDIA GeForce RTX 4090", "8.9", "580.95.05 (CUDA 13.0)")
Mark = tuple["Stream", object]


class Device:
    """Memory by address, streams by handle, and the calls that were made."""

    def __init__(self) -> None:
        self.memory: dict[int, np.ndarray] = {}
        self.streams: dict[int, Stream] = {}
        self.calls: list[str] = []
        self.addresses = itertools.count(0x1000, 0x1000)


class Stream:
    """Work that waits to be done."""

    def __init__(self, device: Device) -> None:
        self.handle = next(device.addresses)
        self.work: deque[Callable[[], None] | object] = deque()
        device.streams[self.handle] = self
        self._device = device

    def wait_for_event(self, event: "Event") -> None:
        mark = event.mark
        self.work.append(lambda: reach(mark))

    def synchronize(self) -> None:
        self._device.calls.append("synchronize stream")
        mark = object()
        self.work.append(mark)
        reach((self, mark))


def reach(mark: Mark) -> None:
    """Does the work of a stream up to a mark; nothing if that was done before."""
    stream, end = mark
    while end in stream.work:
        first = stream.work.popleft()
        if callable(first):
            first()


class Event:
    """A mark in a stream."""

    def __init__(self, device: Device, flags: int = 0) -> None:
        self._device, self.timed = device, not flags
        self.mark: Mark | None = None

    def record(self, stream: Stream) -> None:
        self.mark = (stream, object())
        stream.work.append(self.mark[1])

    def synchronize(self) -> None:
        assert self.mark is not None
        self._device.calls.append("synchronize event")
        reach(self.mark)

    def time_since(self, start: "Event") -> float:
        assert self.timed
        assert start.timed
        return 2.5


class Allocation:
    """Device memory; its number is its address."""

    def __init__(self, device: Device, size: int) -> None:
        self.address = next(device.addresses)
        device.memory[self.address] = np.full(size, 0xEE, np.uint8)
        self._device = device

    def __int__(self) -> int:
        return self.address

    def free(self) -> None:
        del self._device.memory[self.address]


def pycuda(device: Device) -> dict[str, types.ModuleType]:
    """Returns the modules of pycuda that a run imports."""

    def htod(target: Allocation, source: np.ndarray) -> None:
        content = np.ascontiguousarray(source).reshape(-1).view(np.uint8)
        device.memory[target.address][: content.size] = content

    def htod_async(target: Allocation, source: np.ndarray, stream: Stream) -> None:
        device.calls.append("copy in")
        stream.work.append(lambda: htod(target, source))

    def dtoh_async(target: np.ndarray, source: Allocation, stream: Stream) -> None:
        device.calls.append("copy out")

        def copy() -> None:
            content = device.memory[source.address][: target.nbytes]
            target[...] = content.view(target.dtype).reshape(target.shape)

        stream.work.append(copy)

    def pagelocked_empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return np.full(shape, 77, dtype)

    driver = module(
        "pycuda.driver",
        Stream=lambda: Stream(device),
        Event=lambda flags=0: Event(device, flags),
        event_flags=types.SimpleNamespace(DISABLE_TIMING=2),
        pagelocked_empty=pagelocked_empty,
        mem_alloc=lambda size: Allocation(device, size),
        memcpy_htod=htod,
        memcpy_htod_async=htod_async,
        memcpy_dtoh_async=dtoh_async,
    )
    context = types.SimpleNamespace(synchronize=lambda: device.calls.append("synchronize context"))
    primary = module("pycuda.autoprimaryctx", context=context)
    return {
        "pycuda": module("pycuda", driver=driver, autoprimaryctx=primary),
        "pycuda.driver": driver,
        "pycuda.autoprimaryctx": primary,
    }


def module(name: str, **content: Any) -> types.ModuleType:
    """Returns a module that looks imported."""
    made = types.ModuleType(name)
    made.__spec__ = ModuleSpec(name, None)
    vars(made).update(content)
    return made


def install(patch: pytest.MonkeyPatch) -> Device:
    """Puts the stand-in in the place of pycuda and of the driver's answer."""
    device = Device()
    for name, made in pycuda(device).items():
        patch.setitem(sys.modules, name, made)
    patch.setattr(cuda, "find", lambda: GPU)
    return device


class ExecutionContext:
    """Runs a function in a stream, on the addresses and the shape of the call."""

    def __init__(self, engine: "CudaEngine") -> None:
        self._engine = engine
        self._shape: tuple[int, ...] | None = None
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._engine.device.calls.append(f"shape {shape[0]}")
        self._shape = shape
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        device, shape, addresses = self._engine.device, self._shape, dict(self._addresses)
        if self._engine.broken:
            return False
        assert shape is not None, "no input shape"
        device.calls.append("execute")

        def work() -> None:
            size = int(np.prod(shape))
            crops = device.memory[addresses["crops"]][:size].reshape(shape)
            for name, values in self._engine.compute(crops.copy()).items():
                content = values.reshape(-1).view(np.uint8)
                device.memory[addresses[name]][: content.size] = content

        device.streams[stream_handle].work.append(work)
        return True


class EngineInspector:
    """Says what a TensorRT 10 would."""

    def __init__(self, layers: dict[str, Any]) -> None:
        self._layers = layers

    def get_engine_information(self, form: Any) -> str:
        import json

        return json.dumps(self._layers)


class CudaEngine:
    """An engine of one input, `crops`, and outputs that a function computes."""

    def __init__(
        self,
        device: Device,
        outputs: list[str],
        compute: Callable[[np.ndarray], dict[str, np.ndarray]],
        profile: list[tuple[int, ...]],
        layers: dict[str, Any],
        modes: Any,
    ) -> None:
        self.device, self.compute, self.broken = device, compute, False
        self._names = [*outputs, "crops"]
        self.num_io_tensors = len(self._names)
        self._profile, self._layers, self._modes = profile, layers, modes

    def get_tensor_name(self, number: int) -> str:
        return self._names[number]

    def get_tensor_mode(self, name: str) -> Any:
        return self._modes.INPUT if name == "crops" else self._modes.OUTPUT

    def get_tensor_profile_shape(self, name: str, number: int) -> list[tuple[int, ...]]:
        return self._profile

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector(self._layers)

    def create_runtime_config(self) -> types.SimpleNamespace:
        return types.SimpleNamespace(cuda_graph_strategy=None)

    def create_execution_context(self, config: Any = None) -> ExecutionContext:
        if config is not None:
            self.device.calls.append(f"context {config.cuda_graph_strategy}")
        return ExecutionContext(self)


def install_cuda_bindings(patch: pytest.MonkeyPatch, device: Device) -> None:
    """Puts a stand-in in the place of cuda-bindings: it keeps work instead of capturing kernels."""
    success = types.SimpleNamespace(name="cudaSuccess")
    captured: dict[int, deque[Any]] = {}

    def call(name: str, result: Callable[..., Any]) -> Callable[..., tuple[Any, ...]]:
        def run(*arguments: Any) -> tuple[Any, ...]:
            device.calls.append(name)
            value = result(*arguments)
            return (success,) if value is None else (success, value)

        return run

    def begin(handle: int, mode: str) -> None:
        captured[handle] = device.streams[handle].work
        device.streams[handle].work = deque()

    def end(handle: int) -> list[Any]:
        stream = device.streams[handle]
        work, stream.work = list(stream.work), captured[handle]
        return work

    def launch(graph: list[Any], handle: int) -> None:
        device.streams[handle].work.extend(graph)

    functions = {
        "cudaStreamBeginCapture": begin,
        "cudaStreamEndCapture": end,
        "cudaGraphInstantiate": lambda graph, flags: graph,
        "cudaGraphDestroy": lambda graph: None,
        "cudaGraphLaunch": launch,
        "cudaGraphExecDestroy": lambda graph: None,
    }
    runtime = module(
        "cuda.bindings.runtime",
        cudaError_t=types.SimpleNamespace(cudaSuccess=success),
        cudaStreamCaptureMode=types.SimpleNamespace(cudaStreamCaptureModeThreadLocal=1),
        **{name: call(name, function) for name, function in functions.items()},
    )
    bindings = module("cuda.bindings", runtime=runtime)
    for made in (module("cuda", bindings=bindings), bindings, runtime):
        patch.setitem(sys.modules, made.__name__, made)
