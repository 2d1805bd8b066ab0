"""TensorRT and TensorRT-RTX: one code for both, since they have one Python API.

Networks are strongly typed: precision is in the ONNX graph, and no precision flag is ever set, so
that the same code serves TensorRT 10, where such flags exist, and 11, where they are gone.  The
engine file is the plan itself.  Beside it lies layers.json, what the engine inspector says of it.
"""

import importlib
import importlib.util
import json
import logging
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from hrnetpose import files
from hrnetpose.artifacts.engine import ENGINE_FILE, EngineCard, ExecutedPrecision
from hrnetpose.engines import cuda
from hrnetpose.engines.base import (
    Backend,
    BuildRequest,
    Crops,
    Engine,
    Heatmaps,
    Options,
    Phases,
    majority,
    package_version,
    rebuild,
)
from hrnetpose.stage import StageError

LAYERS_FILE = "layers.json"

# By the words of the engine inspector, whose form differs from version to version: `Datatype` is
# `Half`, `Format/Datatype` is `Two wide channel vectorized row major FP16 format`.
_TYPES = (
    ("bf16", ("bfloat16", "bf16")),
    ("fp8", ("fp8", "float8", "e4m3")),
    ("int8", ("int8",)),
    ("fp16", ("half", "fp16", "float16")),
    ("fp32", ("float", "fp32", "float32")),
)
_HEAVY = re.compile(r"conv|gemm|matrixmultiply|matmul", re.IGNORECASE)
_HEAVY_NODE = re.compile(r"[/ ](Conv|ConvTranspose|Gemm|MatMul)(_\d+)?\]")
"""In the metadata of a layer: `[ONNX Layer: /stem/conv1/Conv]`, one for each node."""
_SECONDS_BETWEEN = 2.0
# What calls say, besides their own error, on a machine without a driver.
_AFTERMATH = "CUDA driver version is insufficient"


@dataclass(frozen=True)
class Flavour:
    """What differs between the two.

    Attributes:
        package: the Python package.
        title: its name.
        versions: the first one supported, and the first one that no longer is.
        magic: the first bytes of a plan.
        portable: a plan is compiled for the GPU when it is loaded, and can be built without one.
        install: how to install it, and pycuda.
    """

    package: str
    title: str
    versions: tuple[tuple[int, int], tuple[int, int]]
    magic: bytes
    portable: bool
    install: str


class TensorRtOptions(Options):
    """Options of `backend: tensorrt` and `backend: tensorrt_rtx`."""

    min_batch: int | None = Field(None, ge=1)
    """The smallest batch of the optimization profile; by default the variant's `batch`."""
    opt_batch: int | None = Field(None, ge=1)
    """The batch that kernels are chosen for; by default the variant's `batch`."""
    max_batch: int | None = Field(None, ge=1)
    """The largest batch of the optimization profile; by default the variant's `batch`."""
    workspace_mib: int | None = Field(None, ge=1)
    """Limit of the scratch memory of layers, MiB; by default all of the device's."""
    optimization_level: int = Field(3, ge=0, le=5)
    """How long the builder searches, from 0 to 5."""
    tf32: bool = False
    """Whether fp32 layers may run in TF32, which has 10 bits of mantissa."""
    hardware_compatibility: Literal["none", "same_compute_capability", "ampere_plus"] = "none"
    """On which other GPUs the engine may run; anything but `none` costs speed."""
    version_compatible: bool = False
    """Whether later versions of the same major version may run the engine."""
    timing_cache: bool = True
    """Whether measured kernels are kept for the next build, in build/timing_cache/."""
    buffers: int = Field(2, ge=1, le=16)
    """Batches in flight: while one is computed, others are copied."""
    cuda_graphs: bool = False
    """Whether a batch is launched as one CUDA graph; needs cuda-bindings."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        given = [n for n in (self.min_batch, self.opt_batch, self.max_batch) if n is not None]
        if given != sorted(given):
            raise ValueError("min_batch <= opt_batch <= max_batch does not hold")
        return self

    def profile(self, batch: int) -> tuple[int, int, int]:
        """Returns the least, the best and the largest batch.

        Raises:
            StageError: they are not in this order, or do not have the variant's batch among them.
        """
        low, best, high = (n or batch for n in (self.min_batch, self.opt_batch, self.max_batch))
        if not (low <= best <= high and low <= batch <= high):
            raise StageError(
                f"options: the optimization profile needs min_batch <= opt_batch <= max_batch with "
                f"batch {batch} between the ends, not {low} <= {best} <= {high}"
            )
        return low, best, high


_RUNTIME_OPTIONS = {"threads", "timing_cache", "buffers", "cuda_graphs"}


def lacking(flavour: Flavour, options: Mapping[str, Any]) -> str | None:
    """Says what this machine lacks to run an engine."""
    found = package_version(flavour.package)
    (oldest, newest), number = flavour.versions, _major_minor(found)
    if not oldest <= number < newest:
        return (
            f"{flavour.title} {found} is installed, but >={oldest[0]}.{oldest[1]},<{newest[0]} is "
            f"supported; install it with {flavour.install}"
        )
    if options.get("cuda_graphs") and not flavour.portable and not _has_cuda_bindings():
        return f"`cuda_graphs` needs cuda-bindings; install it with {flavour.install}"
    return cuda.lacking(flavour.install)


def _major_minor(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _has_cuda_bindings() -> bool:
    with suppress(ModuleNotFoundError):
        return importlib.util.find_spec("cuda.bindings") is not None
    return False


def built_for(flavour: Flavour, batch: int, options: Mapping[str, Any]) -> dict[str, str]:
    """Returns what an engine that is built here is tied to.

    The GPU that a plan was built for cannot be read from it.
    """
    chosen = TensorRtOptions(**options)
    version = package_version(flavour.package)
    if chosen.version_compatible:
        version = f"{_major_minor(version)[0]}.x"
    facts = {flavour.title: version}
    if not flavour.portable:
        gpu = cuda.gpu()
        capability = gpu.capability
        match chosen.hardware_compatibility:
            case "none":
                facts |= gpu.as_built_for()
            case "same_compute_capability":
                facts["compute capability"] = capability
            case "ampere_plus":
                new = _major_minor(capability) >= (8, 0)
                facts["compute capability"] = "8.0 or newer" if new else capability
    facts["profile"] = "-".join(str(n) for n in chosen.profile(batch))
    built = chosen.model_dump(exclude=_RUNTIME_OPTIONS, exclude_defaults=True)
    facts["options"] = json.dumps(built, sort_keys=True)
    return facts


def device(options: Mapping[str, Any]) -> str:
    """Names the device."""
    found = cuda.find()
    return str(found) if isinstance(found, cuda.Gpu) else "none: built without a device"


def build(flavour: Flavour, request: BuildRequest, output: Path) -> None:
    """Builds a plan and, where there is a device, writes its layers beside it.

    Raises:
        StageError: with the nodes that the parser refuses, or what the builder says.
    """
    from hrnetpose.model import graphs

    options = TensorRtOptions(**request.options)
    low, best, high = options.profile(request.batch)
    pixels = graphs.with_pixel_input(graphs.read(request.graph), request.card)
    crop = request.card.crop
    plan = compile_plan(
        flavour,
        pixels.SerializeToString(),
        {graphs.CROPS: [(batch, crop.height, crop.width, 3) for batch in (low, best, high)]},
        options,
        source=request.graph,
        threads=options.threads or request.threads,
        timing_cache=_timing_cache(flavour, options, request.cache),
    )
    layers = None
    if isinstance(cuda.find(), cuda.Gpu):
        layers = inspect(flavour, load(flavour, plan, output, options))
    with files.atomic_path(output) as temporary:
        temporary.write_bytes(plan)
    if layers is not None:
        files.write_text(output.with_name(LAYERS_FILE), json.dumps(layers, indent=1) + "\n")


def compile_plan(
    flavour: Flavour,
    model: bytes,
    profile: Mapping[str, list[tuple[int, ...]]],
    options: TensorRtOptions,
    source: Path,
    threads: int = 1,
    timing_cache: Path | None = None,
) -> bytes:
    """Returns the plan of an ONNX model.

    Args:
        flavour: which package.
        model: the serialised ONNX model.
        profile: input -> its least, best and largest shape.
        options: as checked.
        source: the file that errors name.
        threads: for the builder.
        timing_cache: a file that is read, if it is there, and written.

    Raises:
        StageError: with the nodes that the parser refuses, or what the builder says.
    """
    trt = importlib.import_module(flavour.package)
    logger = _logger(flavour.package)
    logger.errors.clear()
    builder = trt.Builder(logger)
    builder.max_threads = threads
    # In TensorRT 11 all networks are strongly typed, and the flag is a deprecated no-op.
    strongly_typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(strongly_typed)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        errors = [_parser_error(parser.get_error(n)) for n in range(parser.num_errors)]
        raise StageError(f"{source}: {flavour.title} cannot parse it: {errors[0]}", errors[1:])
    config = builder.create_builder_config()
    config.progress_monitor = _monitor(flavour.package)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.builder_optimization_level = options.optimization_level
    if not options.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if options.workspace_mib:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    if options.hardware_compatibility != "none":
        config.hardware_compatibility_level = getattr(
            trt.HardwareCompatibilityLevel, options.hardware_compatibility.upper()
        )
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    shapes = builder.create_optimization_profile()
    for name, (low, best, high) in profile.items():
        shapes.set_shape(name, low, best, high)
    if timing_cache:
        _read_timing_cache(config, timing_cache)
    plan = None
    if config.add_optimization_profile(shapes) >= 0:
        plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _failure(flavour, source, "cannot build an engine of it")
    if timing_cache:
        _write_timing_cache(config, timing_cache)
    return bytes(plan)


def load(flavour: Flavour, plan: bytes, file: Path, options: TensorRtOptions | None = None) -> Any:
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
    logger = _logger(flavour.package)
    logger.errors.clear()
    runtime = trt.Runtime(logger)
    if options and options.version_compatible:
        # Such a plan brings its own runtime, which is code; the sidecar's hash says it is ours.
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise _failure(flavour, file, "cannot load it")
    return engine


def inspect(flavour: Flavour, engine: Any) -> dict[str, Any]:
    """Returns what the engine inspector says: the layers with their types and tactics."""
    trt = importlib.import_module(flavour.package)
    inspector = engine.create_engine_inspector()
    return json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def heavy_layers(information: Mapping[str, Any]) -> Counter[str]:
    """Counts convolutions and matrix products by the type of what they take.

    Several may have been fused into one layer, which counts once.

    Args:
        information: what `inspect` returns; the form of TensorRT 10 or of 11.
    """
    layers: Counter[str] = Counter()
    for layer in information.get("Layers", []):
        if not isinstance(layer, Mapping):
            continue
        kind, nodes = str(layer.get("LayerType", "")), str(layer.get("Metadata", ""))
        # A fused layer has a type of its own, and the ONNX nodes it is made of in its metadata.
        if _HEAVY.search(kind) or (_HEAVY_NODE.search(nodes) and kind != "Reformat"):
            inputs = layer.get("Inputs") or [{}]
            layers[_type(inputs[0])] += 1
    return layers


def _type(tensor: Mapping[str, Any]) -> str:
    words = " ".join(str(tensor.get(key, "")) for key in ("Datatype", "Format/Datatype", "Format"))
    for name, spellings in _TYPES:
        if any(spelling in words.lower() for spelling in spellings):
            return name
    return "other"


class TensorRtEngine(Engine):
    """A plan on the device, with batches in flight."""

    def __init__(self, flavour: Flavour, folder: Path, card: EngineCard, threads: int) -> None:
        self.batch = card.batch
        self._flavour = flavour
        self._folder = folder
        self._card = card
        self._options = TensorRtOptions(**card.options)

    def __enter__(self) -> Self:
        trt = importlib.import_module(self._flavour.package)
        file = self._folder / ENGINE_FILE
        crop, model = self._card.model.crop, self._card.model
        self._crop = (crop.height, crop.width, 3)
        heatmaps = tuple(int(size) for size in model.output.shape[1:])
        # First of all: it makes the context in which the runtime is to work.
        self._batches = cuda.Batches(
            (self.batch, *self._crop), (self.batch, *heatmaps), self._options.buffers
        )
        self._engine = load(self._flavour, file.read_bytes(), file, self._options)
        names = [self._engine.get_tensor_name(n) for n in range(self._engine.num_io_tensors)]
        inputs = [n for n in names if self._engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        self._input = inputs[0]
        self._output = next(name for name in names if name != self._input)
        self._check_profile(file)
        self._context = self._create_context(trt)
        self._images = 0
        self._graphs: list[cuda.Graph] = []
        if self._options.cuda_graphs and not self._own_graphs:
            for slot in range(self._options.buffers):
                self._enqueue(slot, self.batch)
                self._batches.compute.synchronize()
                self._graphs.append(
                    cuda.Graph(self._batches.compute, partial(self._enqueue, slot, self.batch))
                )
        self.requests = self._options.buffers
        return self

    def __exit__(self, *exception: object) -> None:
        for graph in self._graphs:
            graph.close()
        self._batches.close()
        # In this order: a context outlives neither its engine nor its buffers.
        del self._context, self._engine, self._batches

    def infer(self, crops: Crops) -> Heatmaps:
        return self._batches.infer(self._launch, crops)

    def infer_in_phases(self, crops: Crops) -> tuple[Heatmaps, Phases]:
        return self._batches.infer_in_phases(self._launch, crops)

    def stream(self, batches: Iterable[Crops]) -> Iterator[Heatmaps]:
        return self._batches.stream(self._launch, batches)

    def device_times(self, crops: Crops, count: int) -> list[float]:
        return self._batches.times(self._launch, crops, count)

    def executed(self) -> ExecutedPrecision:
        return majority(heavy_layers(inspect(self._flavour, self._engine)))

    def _check_profile(self, file: Path) -> None:
        """Refuses a plan whose profile is not the sidecar's."""
        found = self._engine.get_tensor_profile_shape(self._input, 0)
        batches = self._options.profile(self.batch)
        if [tuple(shape) for shape in found] != [(batch, *self._crop) for batch in batches]:
            raise StageError(
                f"{file}: its profile is {[tuple(shape) for shape in found]}, but the sidecar's is "
                f"{batches} images of {self._crop}; build it again: {rebuild(self._folder)}"
            )

    def _create_context(self, trt: Any) -> Any:
        """Makes the execution context; TensorRT-RTX captures CUDA graphs itself."""
        strategies = getattr(trt, "CudaGraphStrategy", None)
        self._own_graphs = strategies is not None
        logger = _logger(self._flavour.package)
        logger.errors.clear()
        if strategies is not None and self._options.cuda_graphs:
            config = self._engine.create_runtime_config()
            config.cuda_graph_strategy = strategies.WHOLE_GRAPH_CAPTURE
            context = self._engine.create_execution_context(config)
        else:
            context = self._engine.create_execution_context()
        if context is None:
            raise _failure(self._flavour, self._folder / ENGINE_FILE, "cannot run it")
        return context

    def _launch(self, slot: int, images: int) -> None:
        if self._graphs and images == self.batch:
            self._graphs[slot].launch()
        else:
            self._enqueue(slot, images)

    def _enqueue(self, slot: int, images: int) -> None:
        buffers = self._batches.slots[slot]
        context = self._context
        if images != self._images:
            context.set_input_shape(self._input, (images, *self._crop))
            self._images = images
        context.set_tensor_address(self._input, int(buffers.device_input))
        context.set_tensor_address(self._output, int(buffers.device_output))
        if not context.execute_async_v3(self._batches.compute.handle):
            raise _failure(self._flavour, self._folder / ENGINE_FILE, "cannot run it")


def backend(name: str, flavour: Flavour) -> Backend:
    """Returns the plug-in of a flavour."""
    return Backend(
        name=name,
        graphs={"fp32": "fp32", "fp16": "fp16", "bf16": "bf16", "int8": "int8-fp16", "fp8": "fp8"},
        packages=(flavour.package,),
        options=TensorRtOptions,
        build=partial(build, flavour),
        open=partial(TensorRtEngine, flavour),
        device=device,
        lacking=partial(lacking, flavour),
        built_for=partial(built_for, flavour),
        builds_anywhere=flavour.portable,
        gpus=lambda options: 1,
        install=flavour.install,
    )


def _timing_cache(flavour: Flavour, options: TensorRtOptions, folder: Path | None) -> Path | None:
    """Returns the file of measured kernels for this GPU and version; RTX measures none."""
    if flavour.portable or not options.timing_cache or folder is None:
        return None
    gpu = cuda.gpu()
    name = f"{flavour.package}-{package_version(flavour.package)}-{gpu.name}-sm{gpu.capability}"
    return folder / f"{re.sub(r'[^A-Za-z0-9.]+', '-', name)}.cache"


def _read_timing_cache(config: Any, file: Path) -> None:
    """Takes what earlier builds measured; a cache that is damaged is started anew."""
    content = file.read_bytes() if file.is_file() else b""
    cache = config.create_timing_cache(content)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        logging.warning("%s: a timing cache that does not fit; it is started anew", file)
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def _write_timing_cache(config: Any, file: Path) -> None:
    """Keeps what was measured, with what another build may have written meanwhile."""
    cache = config.get_timing_cache()
    if file.is_file() and (other := config.create_timing_cache(file.read_bytes())):
        cache.combine(other, ignore_mismatch=True)
    with files.atomic_path(file) as temporary:
        temporary.write_bytes(bytes(cache.serialize()))


def _parser_error(error: Any) -> str:
    where = (
        f"node {error.node_name()!r} ({error.node_operator()}): " if error.node_operator() else ""
    )
    return f"{where}{error.desc()} [{str(error.code()).rpartition('.')[2]}]"


def _failure(flavour: Flavour, source: Path, what: str) -> StageError:
    """Returns an error with what the logger collected, the cause first."""
    errors = [" ".join(text.split()) for text in _logger(flavour.package).errors]
    causes = [text for text in dict.fromkeys(errors) if _AFTERMATH not in text] or errors
    first = causes[0] if causes else "it does not say why"
    return StageError(f"{source}: {flavour.title} {what}: {first}", causes[1:])


@cache
def _logger(package: str) -> Any:
    """Returns the one logger of the process: TensorRT keeps the first that it is given."""
    trt: Any = importlib.import_module(package)
    levels = {
        trt.ILogger.Severity.INTERNAL_ERROR: logging.ERROR,
        trt.ILogger.Severity.ERROR: logging.ERROR,
        trt.ILogger.Severity.WARNING: logging.WARNING,
        trt.ILogger.Severity.INFO: logging.INFO,
    }

    class Logger(trt.ILogger):
        """Passes messages on, each once, and collects errors."""

        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []
            self._seen: set[str] = set()

        def log(self, severity: Any, message: str) -> None:
            level = levels.get(severity)
            if level == logging.ERROR:
                self.errors.append(message)
            if level is not None and message not in self._seen:
                self._seen.add(message)
                logging.log(level, "%s: %s", package, message)

    return Logger()


def _monitor(package: str) -> Any:
    """Returns what shows how far a build is."""
    trt: Any = importlib.import_module(package)

    class Monitor(trt.IProgressMonitor):
        """Logs each phase when it begins, and the step it is at every few seconds."""

        def __init__(self) -> None:
            super().__init__()
            self._steps: dict[str, int] = {}
            self._told = time.monotonic()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            new = phase_name not in self._steps
            self._steps[phase_name] = num_steps
            if new:
                logging.info("%s: %d steps", phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if time.monotonic() - self._told > _SECONDS_BETWEEN:
                self._told = time.monotonic()
                logging.info("%s: %d of %d", phase_name, step + 1, self._steps[phase_name])
            return True

        def phase_finish(self, phase_name: str) -> None:
            """Says nothing: the next phase does."""

    return Monitor()
