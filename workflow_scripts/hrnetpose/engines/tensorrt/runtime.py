"""Plans on the device."""

import importlib
from pathlib import Path
from typing import Any

from hrnetpose.artifacts.engine import ExecutedPrecision
from hrnetpose.engines.base import Engine, OpenRequest, summarize_layers
from hrnetpose.engines.cuda_slots import PycudaSlot, Streams
from hrnetpose.engines.folder import rebuild_command
from hrnetpose.engines.slots import Slot
from hrnetpose.engines.tensorrt.flavour import Flavour
from hrnetpose.engines.tensorrt.layers import count_heavy_layers, inspect
from hrnetpose.engines.tensorrt.logger import get_logger, make_error
from hrnetpose.engines.tensorrt.options import TensorRtOptions
from hrnetpose.stage import StageError


def load(flavour: Flavour, plan: bytes, file: Path, options: TensorRtOptions) -> Any:
    """Returns the engine of a plan, an ICudaEngine.

    Raises:
        StageError: it is no plan, is damaged, or is of another version or for another device.
    """
    if not plan.startswith(flavour.magic):
        raise StageError(
            f"{file}: {flavour.title} cannot load it: it begins with {plan[:4]!r}, and its plans "
            f"with {flavour.magic!r}"
        )
    trt = importlib.import_module(flavour.package)
    logger = get_logger(flavour.package)
    logger.errors.clear()
    runtime = trt.Runtime(logger)
    if options.version_compatible:
        # Such a plan brings its own runtime, which is code; the card's hash says it is ours.
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise make_error(flavour, file, "cannot load it")
    return engine


class TensorRtEngine(Engine[TensorRtOptions]):
    """A plan on the device, with batches in flight."""

    def __init__(self, flavour: Flavour, request: OpenRequest[TensorRtOptions]) -> None:
        super().__init__(request)
        self._flavour = flavour

    def _open(self) -> list[Slot]:
        trt = importlib.import_module(self._flavour.package)
        # First of all: it makes the context in which the runtime is to work.
        streams = Streams()
        self._engine = load(self._flavour, self._file.read_bytes(), self._file, self._options)
        self._input = self._find_input(trt)
        self._check_profile()
        self._context = self._create_context(trt)
        self._context.set_input_shape(self._input, self.crops_shape)
        slots = [
            PycudaSlot(streams, self.crops_shape, self.output_shapes, self._enqueue)
            for _ in range(self._options.buffers)
        ]
        if self._options.cuda_graphs and not _captures_graphs(trt):
            for slot in slots:
                slot.capture()
        return [*slots]

    def _close(self) -> None:
        # In this order: a context does not outlive its engine.
        del self._context, self._engine

    def executed(self) -> ExecutedPrecision:
        return summarize_layers(count_heavy_layers(inspect(self._flavour, self._engine)))

    def _find_input(self, trt: Any) -> str:
        """Returns the name of the plan's input; refuses other outputs than the card's."""
        names = [self._engine.get_tensor_name(n) for n in range(self._engine.num_io_tensors)]
        inputs = [n for n in names if self._engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        self.check_outputs(set(names) - set(inputs))
        return inputs[0]

    def _check_profile(self) -> None:
        """Refuses a plan whose profile is not the card's."""
        found = self._engine.get_tensor_profile_shape(self._input, 0)
        size, batches = self.crops_shape[1:], self._options.profile(self.batch)
        if [tuple(shape) for shape in found] != [(batch, *size) for batch in batches]:
            raise StageError(
                f"{self._file}: its profile is {[tuple(shape) for shape in found]}, but the card's "
                f"is {batches} images of {size}; build it again: "
                f"{rebuild_command(self._file.parent)}"
            )

    def _create_context(self, trt: Any) -> Any:
        """Creates the execution context."""
        logger = get_logger(self._flavour.package)
        logger.errors.clear()
        if self._options.cuda_graphs and _captures_graphs(trt):
            config = self._engine.create_runtime_config()
            config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            context = self._engine.create_execution_context(config)
        else:
            context = self._engine.create_execution_context()
        if context is None:
            raise make_error(self._flavour, self._file, "cannot run it")
        return context

    def _enqueue(self, slot: PycudaSlot) -> None:
        context = self._context
        context.set_tensor_address(self._input, int(slot.device_input))
        for name, buffer in slot.device_outputs.items():
            context.set_tensor_address(name, int(buffer))
        if not context.execute_async_v3(slot.compute.handle):
            raise make_error(self._flavour, self._file, "cannot run it")


def _captures_graphs(trt: Any) -> bool:
    """Returns True for TensorRT-RTX, which captures CUDA graphs itself."""
    return hasattr(trt, "CudaGraphStrategy")
