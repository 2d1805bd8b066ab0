"""OpenVINO on the CPU.

The engine file is the ONNX graph with pixels as input.  It is compiled when it is opened, for the
machine that it is opened on, and at the batch and number of streams asked for: OpenVINO is fastest
with a batch that it knows.
"""

import io
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from hrnetpose import files
from hrnetpose.artifacts.engine import Device, ExecutedPrecision
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.batches import Crops, Outputs
from hrnetpose.engines.base import BuildRequest, Engine, StreamOptions, summarize_layers
from hrnetpose.engines.plugin import Backend
from hrnetpose.engines.slots import Slot
from hrnetpose.recipes import Precision
from hrnetpose.stage import StageError

# What int8 leaves in floating point runs in bf16: next to int8 its error does not show.
_HINTS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "bf16"}
_NAMES = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "u8": "int8", "i8": "int8"}


class OpenVinoOptions(StreamOptions):
    """Options of `backend: openvino`."""


class OpenVinoSlot(Slot):
    """A request and its tensors, which are the buffers."""

    def __init__(self, compiled: Any, outputs: Iterable[str]) -> None:
        self._request = compiled.create_infer_request()
        self._names = tuple(outputs)

    def copy_in(self, crops: Crops) -> None:
        np.copyto(self._request.get_input_tensor(0).data, crops)

    def launch(self) -> None:
        self._request.start_async()

    def wait(self) -> None:
        self._request.wait()

    def take(self) -> Outputs:
        return {name: self._request.get_tensor(name).data.copy() for name in self._names}


class OpenVinoEngine(Engine[OpenVinoOptions]):
    """The graph, compiled for the CPU."""

    def _open(self) -> list[Slot]:
        try:
            self._compiled = _compile(
                self._file.read_bytes(),
                self._card.model,
                self._card.requested,
                self.batch,
                self._options,
                self._threads,
            )
        except RuntimeError as error:
            raise StageError(f"{self._file}: OpenVINO cannot load it: {error}") from error
        # Twice what can run: the next batch waits while the caller is busy with the last.
        requests = 2 * int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self.check_outputs(output.get_any_name() for output in self._compiled.outputs)
        return [OpenVinoSlot(self._compiled, self.output_shapes) for _ in range(requests)]

    def _close(self) -> None:
        del self._compiled

    def executed(self) -> ExecutedPrecision:
        layers: Counter[str] = Counter()
        for node in self._compiled.get_runtime_model().get_ops():
            info = node.get_rt_info()
            if info["layerType"].astype(str) in ("Convolution", "MatMul", "FullyConnected"):
                precision = info["runtimePrecision"].astype(str)
                layers[_NAMES.get(precision, precision)] += 1
        return summarize_layers(layers)


def _properties(
    core: Any, precision: str, options: OpenVinoOptions, threads: int
) -> dict[str, Any]:
    hint = _HINTS[precision]
    # Without fp16 units OpenVINO would take bf16 for it, which is the less exact of the two.
    if hint == "f16" and "FP16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        hint = "f32"
    return {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": threads,
        **({"NUM_STREAMS": options.streams} if options.streams else {}),
    }


def _compile(
    content: bytes,
    card: ModelCard,
    precision: Precision,
    batch: int,
    options: OpenVinoOptions,
    threads: int,
) -> Any:
    import openvino

    core = openvino.Core()
    model = core.read_model(io.BytesIO(content))
    model.reshape([batch, card.crop.height, card.crop.width, 3])
    return core.compile_model(model, "CPU", _properties(core, precision, options, threads))


def build(request: BuildRequest[OpenVinoOptions], output: Path) -> None:
    """Writes the graph with normalisation and layout inside, and makes sure that it compiles."""
    from hrnetpose.graphs import onnx_graph

    pixels = onnx_graph.with_pixel_input(onnx_graph.read(request.graph), request.card)
    content = pixels.SerializeToString()
    try:
        _compile(
            content,
            request.card,
            request.precision,
            request.batch,
            request.options,
            request.threads,
        )
    except RuntimeError as error:
        raise StageError(f"{request.graph}: OpenVINO cannot compile it: {error}") from error
    with files.atomic_path(output) as temporary:
        temporary.write_bytes(content)


def _device(options: OpenVinoOptions) -> Device:
    import openvino

    return Device(kind="cpu", name=openvino.Core().get_property("CPU", "FULL_DEVICE_NAME"))


BACKEND = Backend(
    name="openvino",
    graphs={"fp32": "fp32", "fp16": "fp16", "bf16": "fp32", "int8": "int8"},
    packages=("openvino",),
    options=OpenVinoOptions,
    build=build,
    open=OpenVinoEngine,
    device=_device,
    any_batch=True,
)
