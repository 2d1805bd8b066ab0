"""IxRT, Iluvatar's counterpart of TensorRT, on Iluvatar's GPUs.  The engine file is the plan.

It is imported as `tensorrt` and has the API of TensorRT 8: explicit batch, precision flags on the
fp32 graph, bindings by number.  Shapes are static; the engine takes normalised NCHW floats.
Written after Iluvatar's published examples for SDK 4.2; it has not run on the hardware.
"""

import importlib
import math
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from hrnetpose import files
from hrnetpose.artifacts.engine import ENGINE_FILE, EngineCard, ExecutedPrecision
from hrnetpose.engines.base import (
    Backend,
    BuildRequest,
    Crops,
    Engine,
    Heatmaps,
    Options,
    package_version,
)
from hrnetpose.stage import StageError

_SDK = "Iluvatar's IXUCA SDK, whose Python has its own tensorrt"


class IxrtEngine(Engine):
    """A plan on the first device, with one buffer for each binding."""

    def __init__(self, folder: Path, card: EngineCard, threads: int) -> None:
        self.batch = card.batch
        self._file = folder / ENGINE_FILE
        self._card = card

    def __enter__(self) -> Self:
        trt = importlib.import_module("tensorrt")
        self._cudart = importlib.import_module("cuda.cudart")
        runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        engine = runtime.deserialize_cuda_engine(self._file.read_bytes())
        if engine is None:
            raise StageError(f"{self._file}: IxRT cannot load it")
        self._engine, self._context = engine, engine.create_execution_context()
        self._buffers, self._shapes = [], []
        for number in range(engine.num_bindings):
            shape = tuple(engine.get_binding_shape(number))
            size = math.prod(shape) * np.dtype(np.float32).itemsize
            self._buffers.append(self._call("cudaMalloc", size))
            self._shapes.append(shape)
            if engine.binding_is_input(number):
                self._input = number
            else:
                self._output = number
        return self

    def __exit__(self, *exception: object) -> None:
        for buffer in self._buffers:
            self._call("cudaFree", buffer)
        del self._context, self._engine

    def infer(self, crops: Crops) -> Heatmaps:
        from hrnetpose.model import graphs

        images = graphs.normalised(graphs.padded(crops, self.batch), self._card.model)
        heatmaps = np.empty(self._shapes[self._output], np.float32)
        kind = self._cudart.cudaMemcpyKind
        self._call("cudaMemcpy", self._buffers[self._input], images.ctypes.data, images.nbytes,
                   kind.cudaMemcpyHostToDevice)  # fmt: skip
        if not self._context.execute_v2([int(buffer) for buffer in self._buffers]):
            raise StageError(f"{self._file}: IxRT cannot run it")
        self._call("cudaMemcpy", heatmaps.ctypes.data, self._buffers[self._output],
                   heatmaps.nbytes, kind.cudaMemcpyDeviceToHost)  # fmt: skip
        return heatmaps[: len(crops)]

    def executed(self) -> ExecutedPrecision:
        """IxRT does not say what it runs."""
        return ExecutedPrecision(precision="unknown", layers={})

    def _call(self, name: str, *arguments: Any) -> Any:
        status, *values = getattr(self._cudart, name)(*arguments)
        if status != self._cudart.cudaError_t.cudaSuccess:
            raise StageError(f"{self._file}: {name} answers {status}")
        return values[0] if values else None


def build(request: BuildRequest, output: Path) -> None:
    """Builds a plan at a fixed batch."""
    from hrnetpose.model import graphs

    trt = importlib.import_module("tensorrt")
    fixed = graphs.with_batch(graphs.read(request.graph), request.batch)
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    config = builder.create_builder_config()
    parser = trt.OnnxParser(network, logger)
    with tempfile.TemporaryDirectory() as scratch:
        graph = Path(scratch) / "model.onnx"
        graph.write_bytes(fixed.SerializeToString())
        if not parser.parse_from_file(str(graph)):
            errors = [str(parser.get_error(number)) for number in range(parser.num_errors)]
            first = errors[0] if errors else "it does not say why"
            raise StageError(f"{request.graph}: IxRT cannot parse it: {first}", errors[1:])
    if request.precision == "fp16":
        config.set_flag(trt.BuilderFlag.FP16)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise StageError(f"{request.graph}: IxRT cannot build an engine of it; the log says why")
    with files.atomic_path(output) as temporary:
        temporary.write_bytes(bytes(plan))


def lacking(options: Mapping[str, Any]) -> str | None:
    """NVIDIA's package has the same name; from 10 on, its API is another."""
    found = package_version("tensorrt")
    if re.match(r"\d\d", found):
        return f"tensorrt {found} is NVIDIA's; it needs {_SDK}"
    return None


def _device(options: Mapping[str, Any]) -> str:
    return "Iluvatar"


BACKEND = Backend(
    name="ixrt",
    graphs={"fp32": "fp32", "fp16": "fp32"},
    packages=("tensorrt",),
    options=Options,
    build=build,
    open=IxrtEngine,
    device=_device,
    gpus=lambda options: 1,
    lacking=lacking,
    install=_SDK,
)
