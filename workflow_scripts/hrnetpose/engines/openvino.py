"""OpenVINO on the CPU.

The engine file is the ONNX graph with pixels as input.  It is compiled when it is opened, for the
machine that it is opened on, and at the batch and number of streams asked for: OpenVINO is fastest
with a batch that it knows.
"""

import io
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import Field

from hrnetpose import files
from hrnetpose.artifacts.engine import ENGINE_FILE, EngineCard, ExecutedPrecision
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.engines.base import (
    Backend,
    BuildRequest,
    Crops,
    Engine,
    Heatmaps,
    Options,
    Phases,
    in_order,
    majority,
)
from hrnetpose.recipes import Precision
from hrnetpose.stage import StageError

# What int8 leaves in floating point runs in bf16: next to int8 its error does not show.
_HINTS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "bf16"}
_NAMES = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "u8": "int8", "i8": "int8"}


class OpenVinoOptions(Options):
    """Options of `backend: openvino`."""

    streams: int | None = Field(None, ge=1)
    """Requests that run at the same time; by default what OpenVINO finds best for throughput."""


class OpenVinoEngine(Engine):
    """The graph, compiled for the CPU."""

    def __init__(self, folder: Path, card: EngineCard, threads: int) -> None:
        self.batch = card.batch
        self._file = folder / ENGINE_FILE
        self._card = card
        self._threads = threads

    def __enter__(self) -> Self:
        try:
            self._compiled = _compile(
                self._file.read_bytes(),
                self._card.model,
                self._card.requested,
                self.batch,
                OpenVinoOptions(**self._card.options),
                self._threads,
            )
        except RuntimeError as error:
            raise StageError(f"{self._file}: OpenVINO cannot load it: {error}") from error
        # Twice what can run: the next batch waits while the caller is busy with the last.
        self.requests = 2 * int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._slots = [self._compiled.create_infer_request() for _ in range(self.requests)]
        return self

    def __exit__(self, *exception: object) -> None:
        # Requests keep the compiled model alive.
        self._slots.clear()
        del self._compiled

    def infer(self, crops: Crops) -> Heatmaps:
        self._submit(0, crops)
        return self._collect(0)

    def infer_in_phases(self, crops: Crops) -> tuple[Heatmaps, Phases]:
        start = time.perf_counter()
        self._copy_in(0, crops)
        copied = time.perf_counter()
        self._slots[0].start_async()
        self._slots[0].wait()
        done = time.perf_counter()
        heatmaps = self._collect(0)
        return heatmaps, Phases(copied - start, done - copied, time.perf_counter() - done)

    def stream(self, batches: Iterable[Crops]) -> Iterator[Heatmaps]:
        return in_order(self._submit, self._collect, self.requests, batches)

    def _copy_in(self, slot: int, crops: Crops) -> None:
        tensor = self._slots[slot].get_input_tensor(0).data
        if tensor.shape != crops.shape:
            raise ValueError(f"crops are {list(crops.shape)}; expected {list(tensor.shape)}")
        np.copyto(tensor, crops)

    def _submit(self, slot: int, crops: Crops) -> None:
        self._copy_in(slot, crops)
        self._slots[slot].start_async()

    def _collect(self, slot: int) -> Heatmaps:
        self._slots[slot].wait()
        return self._slots[slot].get_output_tensor(0).data.copy()

    def executed(self) -> ExecutedPrecision:
        layers: Counter[str] = Counter()
        for node in self._compiled.get_runtime_model().get_ops():
            info = node.get_rt_info()
            if info["layerType"].astype(str) in ("Convolution", "MatMul", "FullyConnected"):
                precision = info["runtimePrecision"].astype(str)
                layers[_NAMES.get(precision, precision)] += 1
        return majority(layers)


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
        "INFERENCE_NUM_THREADS": options.threads or threads,
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


def build(request: BuildRequest, output: Path) -> None:
    """Writes the graph with normalisation and layout inside, and makes sure that it compiles."""
    from hrnetpose.model import graphs

    pixels = graphs.with_pixel_input(graphs.read(request.graph), request.card)
    content = pixels.SerializeToString()
    options = OpenVinoOptions(**request.options)
    try:
        _compile(content, request.card, request.precision, request.batch, options, request.threads)
    except RuntimeError as error:
        raise StageError(f"{request.graph}: OpenVINO cannot compile it: {error}") from error
    with files.atomic_path(output) as temporary:
        temporary.write_bytes(content)


def _device(options: Mapping[str, Any]) -> str:
    import openvino

    return f"CPU: {openvino.Core().get_property('CPU', 'FULL_DEVICE_NAME')}"


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
