"""IxRT, Iluvatar's counterpart of TensorRT, on Iluvatar's GPUs.  The engine file is the plan.

It is imported as `tensorrt` and has the API of TensorRT 8: explicit batch, precision flags on the
fp32 graph, bindings by number.  Shapes are static; the engine takes normalised NCHW floats.
Written after Iluvatar's published examples for SDK 4.2; it has not run on the hardware.
"""

import importlib
import math
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from hrnetpose import files
from hrnetpose.artifacts.engine import Device, ExecutedPrecision
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.batches import Crops, Outputs
from hrnetpose.engines.base import BuildRequest, Engine, Options, summarize_layers
from hrnetpose.engines.plugin import Backend, package_version
from hrnetpose.engines.slots import Slot
from hrnetpose.stage import StageError

_SDK = "Iluvatar's IXUCA SDK, whose Python has its own tensorrt"


class IxrtSlot(Slot):
    """A context and a buffer for each binding; each call blocks.

    Args:
        engine: the plan's.
        card: says how crops are normalised, and names the outputs.
        file: the engine file, for errors.
    """

    def __init__(self, engine: Any, card: ModelCard, file: Path) -> None:
        self._context, self._card, self._file = engine.create_execution_context(), card, file
        self._cudart = importlib.import_module("cuda.cudart")
        self._shapes = [tuple(engine.get_binding_shape(n)) for n in range(engine.num_bindings)]
        self._buffers = [
            self._call("cudaMalloc", math.prod(shape) * np.dtype(np.float32).itemsize)
            for shape in self._shapes
        ]
        names = [engine.get_binding_name(n) for n in range(engine.num_bindings)]
        self._input = names.index(card.input.name)
        self._outputs = {output.name: names.index(output.name) for output in card.outputs}

    def copy_in(self, crops: Crops) -> None:
        from hrnetpose.graphs import onnx_graph

        images = onnx_graph.normalised(crops, self._card)
        self._copy(
            self._buffers[self._input], images.ctypes.data, images.nbytes, "cudaMemcpyHostToDevice"
        )

    def launch(self) -> None:
        if not self._context.execute_v2([int(buffer) for buffer in self._buffers]):
            raise StageError(f"{self._file}: IxRT cannot run it")

    def take(self) -> Outputs:
        outputs = {}
        for name, number in self._outputs.items():
            values = np.empty(self._shapes[number], np.float32)
            self._copy(
                values.ctypes.data, self._buffers[number], values.nbytes, "cudaMemcpyDeviceToHost"
            )
            outputs[name] = values
        return outputs

    def free(self) -> None:
        for buffer in self._buffers:
            self._call("cudaFree", buffer)

    def _copy(self, target: Any, source: Any, size: int, kind: str) -> None:
        self._call("cudaMemcpy", target, source, size, getattr(self._cudart.cudaMemcpyKind, kind))

    def _call(self, name: str, *arguments: Any) -> Any:
        status, *values = getattr(self._cudart, name)(*arguments)
        if status != self._cudart.cudaError_t.cudaSuccess:
            raise StageError(f"{self._file}: {name} answers {status}")
        return values[0] if values else None


class IxrtEngine(Engine[Options]):
    """A plan on the first device."""

    def _open(self) -> list[Slot]:
        trt = importlib.import_module("tensorrt")
        runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine = runtime.deserialize_cuda_engine(self._file.read_bytes())
        if self._engine is None:
            raise StageError(f"{self._file}: IxRT cannot load it")
        return [IxrtSlot(self._engine, self._card.model, self._file)]

    def _close(self) -> None:
        del self._engine

    def executed(self) -> ExecutedPrecision:
        """IxRT does not say what it runs."""
        return summarize_layers({})


def build(request: BuildRequest[Options], output: Path) -> None:
    """Builds a plan at a fixed batch."""
    from hrnetpose.graphs import onnx_graph

    trt = importlib.import_module("tensorrt")
    fixed = onnx_graph.with_batch(onnx_graph.read(request.graph), request.batch)
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


def unavailable_reason(options: Options) -> str | None:
    """NVIDIA's package has the same name; from 10 on, its API is another."""
    found = package_version("tensorrt")
    if re.match(r"\d\d", found):
        return f"tensorrt {found} is NVIDIA's; it needs {_SDK}"
    return None


def _device(options: Options) -> Device:
    return Device(kind="gpu", name="Iluvatar")


BACKEND = Backend(
    name="ixrt",
    graphs={"fp32": "fp32", "fp16": "fp32"},
    packages=("tensorrt",),
    options=Options,
    build=build,
    open=IxrtEngine,
    device=_device,
    gpus=lambda options: 1,
    unavailable_reason=unavailable_reason,
    install=_SDK,
)
