"""OpenVINO on the CPU.

The engine file is OpenVINO's exported model; it is compiled for the machine when it is opened.
"""

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import Field

from hrnetpose import files
from hrnetpose.artifacts import ENGINE_FILE, EngineCard, ExecutedPrecision
from hrnetpose.engines.base import (
    Backend,
    BuildRequest,
    Crops,
    Engine,
    Heatmaps,
    Options,
    in_order,
    majority,
)
from hrnetpose.stage import StageError

# What int8 leaves in floating point runs in bf16: next to int8 its error does not show.
_HINTS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "bf16"}
_NAMES = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "u8": "int8", "i8": "int8"}


class OpenVinoOptions(Options):
    """Options of `backend: openvino`."""

    streams: int | None = Field(None, ge=1)
    """Requests that run at the same time; by default what OpenVINO finds best for throughput."""


class OpenVinoEngine(Engine):
    """An exported model, compiled for the CPU."""

    def __init__(self, folder: Path, card: EngineCard, threads: int) -> None:
        self.batch = card.batch
        self._file = folder / ENGINE_FILE
        self._card = card
        self._threads = threads

    def __enter__(self) -> Self:
        import openvino

        core = openvino.Core()
        options = OpenVinoOptions(**self._card.options)
        try:
            self._compiled = core.import_model(
                self._file.read_bytes(),
                "CPU",
                _properties(core, self._card.requested, options, self._threads),
            )
        except RuntimeError as error:
            raise StageError(f"{self._file}: OpenVINO cannot load it: {error}") from error
        self.requests = int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._slots = [self._compiled.create_infer_request() for _ in range(self.requests)]
        return self

    def __exit__(self, *exception: object) -> None:
        # Requests keep the compiled model alive.
        self._slots.clear()
        del self._compiled

    def infer(self, crops: Crops) -> Heatmaps:
        self._submit(0, crops)
        return self._collect(0)

    def stream(self, batches: Iterable[Crops]) -> Iterator[Heatmaps]:
        return in_order(self._submit, self._collect, self.requests, batches)

    def _submit(self, slot: int, crops: Crops) -> None:
        self._slots[slot].start_async({0: np.ascontiguousarray(crops)})

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


def build(request: BuildRequest, output: Path) -> None:
    """Compiles a graph at a fixed batch and writes the exported model."""
    import openvino

    from hrnetpose.model import graphs

    pixels = graphs.with_pixel_input(graphs.read(request.graph), request.card)
    core = openvino.Core()
    crop = request.card.crop
    try:
        model = core.read_model(io.BytesIO(pixels.SerializeToString()))
        model.reshape([request.batch, crop.height, crop.width, 3])
        options = OpenVinoOptions(**request.options)
        compiled = core.compile_model(
            model, "CPU", _properties(core, request.precision, options, request.threads)
        )
    except RuntimeError as error:
        raise StageError(f"{request.graph}: OpenVINO cannot compile it: {error}") from error
    with files.atomic_path(output) as temporary:
        temporary.write_bytes(compiled.export_model().getvalue())


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
)
