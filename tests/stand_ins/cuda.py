"""Stand-ins for pycuda, cuda-bindings and TensorRT's runtime; they record the calls.

The device is as lazy as a GPU may be at worst: work in a stream is done only when something waits
for it, no more than needed, and with the contents that buffers have at that moment.  So a missing
event, or a buffer that is filled too early, gives wrong outputs, not only another order of calls.
ONNX Runtime computes what a GPU would.
"""

import itertools
import json
import os
import sys
import types
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tensorrt_rtx

from hrnetpose.artifacts.model import ModelCard
from hrnetpose.engines import cuda, tensorrt
from hrnetpose.engines.tensorrt import flavour, plugin
from hrnetpose.graphs import onnx_graph

GPU = cuda.Gpu("NVIDIA GeForce RTX 4090", "8.9", "580.95.05 (CUDA 13.0)")
Mark = tuple["Stream", object]
LAYERS: dict[str, Any] = {
    "Layers": [
        {
            "Name": "conv1", "LayerType": "CaskConvolution", "TacticName": "sm89_xmma",
            "Inputs": [{"Name": "a", "Format/Datatype": "Channel major FP16 format"}],
        },
        {
            "Name": "myelin1", "LayerType": "kgen", "Metadata": "[ONNX Layer: /stem/conv2/Conv]",
            "Inputs": [{"Name": "b", "Format/Datatype": "Row major linear FP32"}],
        },
        {
            "Name": "Reformatting CopyNode for /stem/conv1/Conv", "LayerType": "Reformat",
            "Metadata": "[ONNX Layer: /stem/conv1/Conv]",
            "Inputs": [{"Name": "c", "Format/Datatype": "Row major linear FP32"}],
        },
        {
            "Name": "relu", "LayerType": "kgen", "Metadata": "[ONNX Layer: /stem/conv3/Relu]",
            "Inputs": [{"Name": "d", "Format/Datatype": "Row major linear FP32"}],
        },
        {"Name": "conv3", "LayerType": "CaskConvolution", "Inputs": [{"Datatype": "Half"}]},
    ],
    "Bindings": ["crops", "heatmaps"],
}  # fmt: skip
"""What the engine inspector of TensorRT 10 reports."""


class Device:
    """Memory by address, streams by handle, the calls, and the plan that the runtime loads.

    Attributes:
        graph: the ONNX graph of that plan.
        profile: its optimization profile.
    """

    def __init__(self, graph: Path, card: Path) -> None:
        self.graph, self.card = graph, card
        self.profile: list[tuple[int, ...]] = [(4, 64, 32, 3)] * 3
        self.memory: dict[int, np.ndarray] = {}
        self.streams: dict[int, Stream] = {}
        self.calls: list[str] = []
        self.addresses = itertools.count(0x1000, 0x1000)


class Stream:
    """A queue of work."""

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
    """Do the work of a stream up to a mark, unless it was done before."""
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
    """Device memory, which converts to its address."""

    def __init__(self, device: Device, size: int) -> None:
        self.address = next(device.addresses)
        device.memory[self.address] = np.full(size, 0xEE, np.uint8)
        self._device = device

    def __int__(self) -> int:
        return self.address

    def free(self) -> None:
        del self._device.memory[self.address]


def pycuda(device: Device) -> dict[str, types.ModuleType]:
    """Return the modules of pycuda that an engine imports."""

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
        memcpy_htod_async=htod_async,
        memcpy_dtoh_async=dtoh_async,
    )
    context = types.SimpleNamespace(synchronize=lambda: device.calls.append("synchronize context"))

    def create_context(name: str) -> Any:
        """Make the context on the GPU that pycuda picks, as the module does when it is imported."""
        if name != "context":
            raise AttributeError(name)
        device.calls.append(f"context of GPU {os.environ.get('CUDA_DEVICE', 'any')}")
        return context

    primary = module("pycuda.autoprimaryctx", __getattr__=create_context)
    return {
        "pycuda": module("pycuda", driver=driver, autoprimaryctx=primary),
        "pycuda.driver": driver,
        "pycuda.autoprimaryctx": primary,
    }


def module(name: str, **content: Any) -> types.ModuleType:
    """Return a module that looks imported."""
    made = types.ModuleType(name)
    made.__spec__ = ModuleSpec(name, None)
    vars(made).update(content)
    return made


def install(patch: pytest.MonkeyPatch, graph: Path, card: Path) -> Device:
    """Replace pycuda, the driver's answer and the runtime of TensorRT-RTX.

    Args:
        graph: what plans compute.
        card: of its model.
    """
    device = Device(graph, card)
    for name, made in pycuda(device).items():
        patch.setitem(sys.modules, name, made)
    patch.setattr(cuda, "find_gpu", lambda: GPU)
    patch.setattr(tensorrt_rtx, "Runtime", lambda logger: Runtime(device))
    return device


def install_tensorrt(patch: pytest.MonkeyPatch) -> None:
    """Make backend `tensorrt` use the package TensorRT-RTX as if it were TensorRT."""
    renamed = replace(
        flavour.TENSORRT, package="tensorrt_rtx", magic=b"vtrt", versions=((1, 0), (2, 0))
    )
    patch.setattr(tensorrt, "BACKEND", replace(plugin.create_backend(renamed), name="tensorrt"))
    patch.delattr(tensorrt_rtx, "CudaGraphStrategy")


class Runtime:
    """Loads each plan as an engine that computes the graph of the device."""

    engine_host_code_allowed = False

    def __init__(self, device: Device) -> None:
        self._device = device

    def deserialize_cuda_engine(self, plan: bytes) -> "CudaEngine":
        device = self._device
        pixels = onnx_graph.with_pixel_input(
            onnx_graph.read(device.graph), ModelCard.read(device.card)
        )
        return CudaEngine(device, onnxruntime.InferenceSession(pixels.SerializeToString()))


class ExecutionContext:
    """Runs a function in a stream, on the addresses and the shape of the call.

    As NVIDIA documents it, a graph that was captured from a context is void once that has been
    changed; one that captures itself does so anew when its addresses change.
    """

    def __init__(self, engine: "CudaEngine", captures: bool) -> None:
        self._engine, self._captures = engine, captures
        self._shape: tuple[int, ...] | None = None
        self._addresses: dict[str, int] = {}
        self._captured: dict[str, int] = {}
        self.profiler: Any = None

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
        if self._captures and self._captured != addresses:
            device.calls.append("capture")
            self._captured = addresses

        def work() -> None:
            size = int(np.prod(shape))
            crops = device.memory[addresses["crops"]][:size].reshape(shape)
            for name, values in self._engine.compute(crops.copy()).items():
                content = values.reshape(-1).view(np.uint8)
                device.memory[addresses[name]][: content.size] = content
            if self.profiler is not None:
                for layer in LAYERS["Layers"]:
                    self.profiler.report_layer_time(layer["Name"], 2.0)

        work.is_valid = lambda: self._addresses == addresses  # type: ignore[attr-defined]
        device.streams[stream_handle].work.append(work)
        return True


class EngineInspector:
    """Reports `LAYERS`."""

    def get_engine_information(self, form: Any) -> str:
        return json.dumps(LAYERS)


class CudaEngine:
    """An engine that ONNX Runtime computes."""

    def __init__(self, device: Device, session: onnxruntime.InferenceSession) -> None:
        self.device, self.session, self.broken = device, session, False
        self._outputs = [output.name for output in session.get_outputs()]
        self._names = [*self._outputs, "crops"]
        self.num_io_tensors = len(self._names)

    def compute(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        values = self.session.run(self._outputs, {"crops": crops})
        return dict(zip(self._outputs, values, strict=True))

    def get_tensor_name(self, number: int) -> str:
        return self._names[number]

    def get_tensor_mode(self, name: str) -> Any:
        modes = tensorrt_rtx.TensorIOMode
        return modes.INPUT if name == "crops" else modes.OUTPUT

    def get_tensor_profile_shape(self, name: str, number: int) -> list[tuple[int, ...]]:
        return self.device.profile

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector()

    def create_runtime_config(self) -> types.SimpleNamespace:
        return types.SimpleNamespace(cuda_graph_strategy=None)

    def create_execution_context(self, config: Any = None) -> ExecutionContext:
        if config is not None:
            self.device.calls.append(f"context {config.cuda_graph_strategy}")
        return ExecutionContext(self, captures=config is not None)


def install_cuda_bindings(patch: pytest.MonkeyPatch, device: Device) -> None:
    """Replace cuda-bindings; a captured graph is the work that was enqueued."""
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
        assert all(work.is_valid() for work in graph), "its context has changed since the capture"
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
