"""Load a plan and run it on the GPU."""

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

from hrnetpose.artifacts.engine import ExecutedPrecision
from hrnetpose.batches import Crops
from hrnetpose.engines.base import Engine, LayerTime, OpenRequest, summarize_layers
from hrnetpose.engines.cuda_slots import PycudaSlot, Streams
from hrnetpose.engines.slots import Slot
from hrnetpose.engines.tensorrt.flavour import Flavour
from hrnetpose.engines.tensorrt.layers import count_heavy_layers, describe_layers, inspect
from hrnetpose.engines.tensorrt.logger import make_error, reset_logger
from hrnetpose.engines.tensorrt.options import TensorRtOptions, profile
from hrnetpose.stage import StageError


def load(flavour: Flavour, plan: bytes, file: Path, options: TensorRtOptions) -> Any:
    """Return the engine of a plan, an ICudaEngine.

    Args:
        flavour: the package to use.
        plan: the content of the file.
        file: the file named in errors.
        options: as the plan was built.

    Raises:
        StageError: it is not a plan, is damaged, or is of another version or for another device.
    """
    if not plan.startswith(flavour.magic):
        raise StageError(
            f"{file}: {flavour.title} cannot load it: it starts with {plan[:4]!r}, but a plan with "
            f"{flavour.magic!r}"
        )
    runtime = flavour.module.Runtime(reset_logger(flavour))
    if options.version_compatible:
        # Such a plan contains its own runtime, which is code; the card's hash vouches for it.
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise make_error(flavour, file, "cannot load it")
    return engine


class TensorRtEngine(Engine[TensorRtOptions]):
    """A plan on the GPU, with several batches in flight."""

    def __init__(self, flavour: Flavour, request: OpenRequest[TensorRtOptions]) -> None:
        super().__init__(request)
        self._flavour = flavour

    def _open(self) -> list[Slot]:
        trt = self._flavour.module
        # Created first: it makes the context current in which the runtime works.
        self._streams = Streams()
        self._engine = load(self._flavour, self._file.read_bytes(), self._file, self._options)
        names = [self._engine.get_tensor_name(n) for n in range(self._engine.num_io_tensors)]
        inputs = [n for n in names if self._engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        self.check_outputs(set(names) - set(inputs))
        self._input = inputs[0]
        self._check_profile()
        # TensorRT-RTX captures CUDA graphs itself.
        graphs, captures_itself = self._options.cuda_graphs, hasattr(trt, "CudaGraphStrategy")
        buffers = self._options.buffers
        # A context must not change after a graph was captured from it, and TensorRT-RTX captures
        # anew where addresses change: so each slot has its own.
        contexts = [
            self._create_context(graphs and captures_itself)
            for _ in range(buffers if graphs else 1)
        ]
        slots = [self._create_slot(contexts[n % len(contexts)]) for n in range(buffers)]
        if graphs and not captures_itself:
            for slot in slots:
                slot.capture()
        return [*slots]

    def _close(self) -> None:
        del self._engine, self._streams

    def time_layers(self, crops: Crops, count: int) -> list[LayerTime]:
        milliseconds: defaultdict[str, float] = defaultdict(float)
        base: Any = self._flavour.module.IProfiler

        class Profiler(base):
            def __init__(self) -> None:
                base.__init__(self)

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                milliseconds[layer_name] += ms

        # A context of its own: a profiler slows one down, and a captured graph has none.
        context, profiler = self._create_context(capture=False), Profiler()
        slot = self._create_slot(context)
        try:
            slot.copy_in(self._pad(crops))
            slot.launch()
            slot.wait()
            context.profiler = profiler
            for _ in range(count):
                slot.launch()
                slot.wait()
        finally:
            slot.free()
        described = describe_layers(inspect(self._flavour, self._engine))
        return [
            LayerTime(name, *described.get(name, ("", "unknown")), spent / 1e3 / count)
            for name, spent in milliseconds.items()
        ]

    def executed(self) -> ExecutedPrecision:
        return summarize_layers(count_heavy_layers(inspect(self._flavour, self._engine)))

    def _check_profile(self) -> None:
        """Check that the plan has the optimization profile of the card."""
        found = [tuple(shape) for shape in self._engine.get_tensor_profile_shape(self._input, 0)]
        size, batches = self.crops_shape[1:], profile(self._options, self.batch)
        if found != [(batch, *size) for batch in batches]:
            raise StageError(
                f"{self._file}: its profile is {found}, but the card's is {batches} images of "
                f"{size}; {self._remedy}"
            )

    def _create_context(self, capture: bool) -> Any:
        """Create an execution context; it captures CUDA graphs itself if `capture` is set."""
        reset_logger(self._flavour)
        if capture:
            config = self._engine.create_runtime_config()
            strategy = self._flavour.module.CudaGraphStrategy
            config.cuda_graph_strategy = strategy.WHOLE_GRAPH_CAPTURE
            context = self._engine.create_execution_context(config)
        else:
            context = self._engine.create_execution_context()
        if context is None:
            raise make_error(self._flavour, self._file, "cannot run it")
        context.set_input_shape(self._input, self.crops_shape)
        return context

    def _create_slot(self, context: Any) -> PycudaSlot:
        shapes = self.crops_shape, self.output_shapes
        return PycudaSlot(self._streams, *shapes, partial(self._enqueue, context))

    def _enqueue(self, context: Any, slot: PycudaSlot) -> None:
        context.set_tensor_address(self._input, int(slot.device_input))
        for name, buffer in slot.device_outputs.items():
            context.set_tensor_address(name, int(buffer))
        if not context.execute_async_v3(slot.compute.handle):
            raise make_error(self._flavour, self._file, "cannot run it")
