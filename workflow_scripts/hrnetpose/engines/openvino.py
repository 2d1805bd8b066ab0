"""OpenVINO on the CPU.

The engine file is the ONNX graph with pixels as input.  It is compiled when it is opened, for the
machine, batch size and number of streams: OpenVINO is fastest at a fixed batch size.
"""

import io
from collections import Counter
from typing import Any

import numpy as np

from hrnetpose.artifacts.engine import Device, ExecutedPrecision
from hrnetpose.batches import Crops
from hrnetpose.engines import onnx_input
from hrnetpose.engines.base import Engine, LayerTime, StreamOptions, summarize_layers
from hrnetpose.engines.plugin import Backend
from hrnetpose.engines.slots import Slot
from hrnetpose.stage import StageError

# The layers that an int8 graph leaves in floating point run in bf16: the error of int8 is larger.
_HINTS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "bf16"}
_NAMES = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "u8": "int8", "i8": "int8"}
_HEAVY = ("Convolution", "Deconvolution", "MatMul", "FullyConnected")


class OpenVinoOptions(StreamOptions):
    """Options of `backend: openvino`."""


class OpenVinoSlot(Slot):
    """An inference request; its tensors are the buffers."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        self._input = self._request.get_input_tensor(0).data
        self.outputs = {
            output.get_any_name(): self._request.get_tensor(output).data
            for output in compiled.outputs
        }

    def copy_in(self, crops: Crops) -> None:
        np.copyto(self._input, crops)

    def launch(self) -> None:
        self._request.start_async()

    def wait(self) -> None:
        self._request.wait()


class OpenVinoEngine(Engine[OpenVinoOptions]):
    """The graph, compiled for the CPU."""

    @property
    def streams(self) -> int:
        # At most as many as there are threads, whatever was asked for.
        return int(self._compiled.get_property("NUM_STREAMS"))

    def _open(self) -> list[Slot]:
        self._compiled = self._compile()
        self.check_outputs(output.get_any_name() for output in self._compiled.outputs)
        # Twice as many as can run: the next batch is ready while the caller handles the last.
        requests = 2 * int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        return [OpenVinoSlot(self._compiled) for _ in range(requests)]

    def _compile(self, **more: Any) -> Any:
        """Compile the graph for this machine, with more properties than an engine has."""
        import openvino

        core = openvino.Core()
        try:
            model = core.read_model(io.BytesIO(self._file.read_bytes()))
            model.reshape(list(self.crops_shape))
            return core.compile_model(model, "CPU", self._properties(core) | more)
        except RuntimeError as error:
            raise StageError(f"{self._file}: OpenVINO cannot load it: {error}") from error

    def _close(self) -> None:
        del self._compiled

    def time_layers(self, crops: Crops, count: int) -> list[LayerTime]:
        compiled = self._compile(PERF_COUNT=True)
        request = compiled.create_infer_request()
        np.copyto(request.get_input_tensor(0).data, self._pad(crops))
        request.infer()
        seconds: Counter[str] = Counter()
        for _ in range(count):
            request.infer()
            for layer in request.profiling_info:
                seconds[layer.node_name] += layer.real_time.total_seconds()
        kinds = {layer.node_name: layer.node_type for layer in request.profiling_info}
        precisions = {
            node.get_friendly_name(): node.get_rt_info()["runtimePrecision"].astype(str)
            for node in compiled.get_runtime_model().get_ops()
        }
        return [
            LayerTime(name, kinds[name], _name_precision(precisions.get(name)), spent / count)
            for name, spent in seconds.items()
            if spent
        ]

    def executed(self) -> ExecutedPrecision:
        layers: Counter[str] = Counter()
        for node in self._compiled.get_runtime_model().get_ops():
            info = node.get_rt_info()
            if info["layerType"].astype(str) in _HEAVY:
                layers[_name_precision(info["runtimePrecision"].astype(str))] += 1
        return summarize_layers(layers)

    def _properties(self, core: Any) -> dict[str, Any]:
        hint = _HINTS[self._card.requested]
        # Without fp16 units OpenVINO would replace fp16 by bf16, which is less accurate than fp32.
        if hint == "f16" and "FP16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            hint = "f32"
        properties = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": self._threads,
        }
        return properties | (
            {"NUM_STREAMS": self._options.streams} if self._options.streams else {}
        )


def _name_precision(given: str | None) -> str:
    """Return our name of a precision that OpenVINO names."""
    return _NAMES.get(given, given) if given else "unknown"


def _describe_device(options: OpenVinoOptions) -> Device:
    import openvino

    return Device(kind="cpu", name=openvino.Core().get_property("CPU", "FULL_DEVICE_NAME"))


BACKEND = Backend(
    name="openvino",
    graphs={"fp32": "fp32", "fp16": "fp16", "bf16": "fp32", "int8": "int8"},
    packages=("openvino",),
    options=OpenVinoOptions,
    build=onnx_input.write_with_pixels,
    open=OpenVinoEngine,
    device=_describe_device,
    any_batch=True,
)
