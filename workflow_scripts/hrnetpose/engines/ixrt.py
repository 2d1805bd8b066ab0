"""IxRT, Iluvatar's counterpart of TensorRT, on Iluvatar's GPUs.  The engine file is the plan.

It is imported as `tensorrt` and has the API of TensorRT 8: explicit batch, a precision flag on the
fp32 graph, bindings by number.
"""

import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np

from hrnetpose import files
from hrnetpose.artifacts.engine import Device
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.backend_rules import Options
from hrnetpose.batches import Crops
from hrnetpose.engines import iluvatar
from hrnetpose.engines.base import BuildRequest, Engine
from hrnetpose.engines.plugin import Backend, package_version
from hrnetpose.engines.slots import Slot
from hrnetpose.stage import StageError


class IxrtSlot(Slot):
    """An execution context with a device buffer for each binding; each call blocks.

    Args:
        engine: IxRT's.
        bindings: the names of its bindings, by number.
        card: the model card.
        file: the engine file, for errors.
    """

    def __init__(self, engine: Any, bindings: list[str], card: ModelCard, file: Path) -> None:
        self._context, self._card, self._file = engine.create_execution_context(), card, file
        self._cudart = importlib.import_module("cuda.cudart")
        arrays = {
            name: np.empty(tuple(engine.get_binding_shape(number)), np.float32)
            for number, name in enumerate(bindings)
        }
        self._buffers = {
            name: self._call("cudaMalloc", values.nbytes) for name, values in arrays.items()
        }
        self.outputs = {output.name: arrays[output.name] for output in card.outputs}

    def copy_in(self, crops: Crops) -> None:
        from hrnetpose.graphs import onnx_graph

        images = onnx_graph.normalised(crops, self._card)
        buffer = self._buffers[self._card.input.name]
        self._copy(buffer, images.ctypes.data, images.nbytes, "cudaMemcpyHostToDevice")

    def launch(self) -> None:
        if not self._context.execute_v2([int(buffer) for buffer in self._buffers.values()]):
            raise StageError(f"{self._file}: IxRT cannot run it")

    def copy_out(self) -> None:
        for name, values in self.outputs.items():
            self._copy(
                values.ctypes.data, self._buffers[name], values.nbytes, "cudaMemcpyDeviceToHost"
            )

    def free(self) -> None:
        for buffer in self._buffers.values():
            self._call("cudaFree", buffer)

    def _copy(self, target: Any, source: Any, size: int, kind: str) -> None:
        self._call("cudaMemcpy", target, source, size, getattr(self._cudart.cudaMemcpyKind, kind))

    def _call(self, name: str, *arguments: Any) -> Any:
        status, *values = getattr(self._cudart, name)(*arguments)
        if status != self._cudart.cudaError_t.cudaSuccess:
            raise StageError(f"{self._file}: {name} returns {status}")
        return values[0] if values else None


class IxrtEngine(Engine[Options]):
    """A plan on the first device."""

    def _open(self) -> list[Slot]:
        trt = importlib.import_module("tensorrt")
        runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine = runtime.deserialize_cuda_engine(self._file.read_bytes())
        if self._engine is None:
            raise StageError(f"{self._file}: IxRT cannot load it")
        model = self._card.model
        bindings = [self._engine.get_binding_name(n) for n in range(self._engine.num_bindings)]
        self.check_outputs(set(bindings) - {model.input.name})
        return [IxrtSlot(self._engine, bindings, model, self._file)]

    def _close(self) -> None:
        del self._engine


def build(request: BuildRequest[Options], output: Path) -> None:
    """Build a plan at a fixed batch size."""
    trt = importlib.import_module("tensorrt")
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    config = builder.create_builder_config()
    parser = trt.OnnxParser(network, logger)
    with iluvatar.fixed_graph(request) as graph:
        if not parser.parse_from_file(str(graph)):
            errors = [str(parser.get_error(number)) for number in range(parser.num_errors)]
            first = errors[0] if errors else "no reason given"
            raise StageError(f"{request.graph}: IxRT cannot parse it: {first}", errors[1:])
    if request.precision == "fp16":
        config.set_flag(trt.BuilderFlag.FP16)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise StageError(f"{request.graph}: IxRT cannot build an engine from it; see the log")
    with files.atomic_path(output) as temporary:
        temporary.write_bytes(bytes(plan))


def unavailable_reason(options: Options) -> str | None:
    """Return why IxRT cannot run here: the installed package is NVIDIA's, of another API."""
    version = package_version("tensorrt")
    if re.match(r"\d\d", version):
        return f"tensorrt {version} is NVIDIA's; it needs {iluvatar.SDK}"
    return None


BACKEND = Backend(
    name="ixrt",
    graphs=iluvatar.GRAPHS,
    packages=("tensorrt",),
    options=Options,
    build=build,
    open=IxrtEngine,
    device=lambda options: Device(kind="gpu", name="Iluvatar"),
    gpus=lambda options: 1,
    unavailable_reason=unavailable_reason,
    install=iluvatar.SDK,
    bundled_with=iluvatar.BUNDLED_WITH,
)
