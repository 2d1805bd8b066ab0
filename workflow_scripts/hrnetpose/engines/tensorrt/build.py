"""From an ONNX graph to a plan.

Networks are strongly typed: precision is in the ONNX graph, and no precision flag is ever set, so
that the same code serves TensorRT 10, where such flags exist, and 11, where they are gone.
"""

import importlib
import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hrnetpose import files
from hrnetpose.engines import cuda
from hrnetpose.engines.base import BuildRequest
from hrnetpose.engines.plugin import package_version
from hrnetpose.engines.tensorrt.flavour import Flavour
from hrnetpose.engines.tensorrt.layers import inspect
from hrnetpose.engines.tensorrt.logger import create_monitor, get_logger, make_error
from hrnetpose.engines.tensorrt.options import TensorRtOptions
from hrnetpose.engines.tensorrt.runtime import load
from hrnetpose.stage import StageError

LAYERS_FILE = "layers.json"


def build(flavour: Flavour, request: BuildRequest[TensorRtOptions], output: Path) -> None:
    """Builds a plan and, where there is a device, writes its layers beside it.

    Raises:
        StageError: with the nodes that the parser refuses, or what the builder says.
    """
    from hrnetpose.graphs import onnx_graph

    options = request.options
    low, best, high = options.profile(request.batch)
    pixels = onnx_graph.with_pixel_input(onnx_graph.read(request.graph), request.card)
    crop = request.card.crop
    plan = compile_plan(
        flavour,
        pixels.SerializeToString(),
        {onnx_graph.CROPS: [(batch, crop.height, crop.width, 3) for batch in (low, best, high)]},
        options,
        source=request.graph,
        threads=request.threads,
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
        options: of the builder.
        source: the file that errors name.
        threads: for the builder.
        timing_cache: a file that is read, if it is there, and written.

    Raises:
        StageError: with the nodes that the parser refuses, or what the builder says.
    """
    trt = importlib.import_module(flavour.package)
    logger = get_logger(flavour.package)
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
    config.progress_monitor = create_monitor(flavour.package)
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
        raise make_error(flavour, source, "cannot build an engine of it")
    if timing_cache:
        _write_timing_cache(config, timing_cache)
    return bytes(plan)


def _timing_cache(flavour: Flavour, options: TensorRtOptions, folder: Path | None) -> Path | None:
    """Returns the file of measured kernels for this GPU and version; RTX measures none."""
    if flavour.portable or not options.timing_cache or folder is None:
        return None
    gpu = cuda.require_gpu()
    name = f"{flavour.package}-{package_version(flavour.package)}-{gpu.name}-sm{gpu.capability}"
    return folder / f"{re.sub(r'[^A-Za-z0-9.]+', '-', name)}.cache"


def _read_timing_cache(config: Any, file: Path) -> None:
    """Loads what earlier builds measured; a damaged cache is replaced."""
    content = file.read_bytes() if file.is_file() else b""
    cache = config.create_timing_cache(content)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        logging.warning("%s: the timing cache does not fit this build; a new one replaces it", file)
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def _write_timing_cache(config: Any, file: Path) -> None:
    """Saves what was measured, merged with what another build has written meanwhile."""
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
