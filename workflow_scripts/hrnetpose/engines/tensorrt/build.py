"""Build a plan from an ONNX graph.

Networks are strongly typed: precision is in the ONNX graph, and no precision flag is set.  So the
same code serves TensorRT 10, which has such flags, and TensorRT 11, which has none.
"""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hrnetpose import files
from hrnetpose.engines import cuda, onnx_input
from hrnetpose.engines.base import BuildRequest
from hrnetpose.engines.plugin import package_version
from hrnetpose.engines.tensorrt.flavour import Flavour
from hrnetpose.engines.tensorrt.layers import inspect
from hrnetpose.engines.tensorrt.logger import create_monitor, make_error, reset_logger
from hrnetpose.engines.tensorrt.options import TensorRtOptions, profile
from hrnetpose.engines.tensorrt.runtime import load
from hrnetpose.stage import StageError

LAYERS_FILE = "layers.json"


def build(flavour: Flavour, request: BuildRequest[TensorRtOptions], output: Path) -> None:
    """Build a plan and, if there is a GPU, write its layers beside it.

    Raises:
        StageError: with the nodes that the parser rejects, or the builder's message.
    """
    from hrnetpose.graphs import onnx_graph

    options, crop = request.options, request.card.crop
    shapes = [(batch, crop.height, crop.width, 3) for batch in profile(options, request.batch)]
    plan = compile_plan(
        flavour,
        onnx_input.with_pixels(request),
        {onnx_graph.CROPS: shapes},
        options,
        source=request.graph,
        threads=request.threads,
        timing_cache=_timing_cache_file(flavour, options, request.cache),
    )
    layers = None
    if not cuda.missing_gpu_reason():
        layers = inspect(flavour, load(flavour, plan, output, options))
    with files.atomic_path(output) as temporary:
        temporary.write_bytes(plan)
    if layers is not None:
        files.write_text(output.with_name(LAYERS_FILE), json.dumps(layers, indent=1) + "\n")


def compile_plan(
    flavour: Flavour,
    model: bytes,
    profile: Mapping[str, Sequence[tuple[int, ...]]],
    options: TensorRtOptions,
    source: Path | None,
    threads: int = 1,
    timing_cache: Path | None = None,
) -> bytes:
    """Return the plan of an ONNX model.

    Args:
        flavour: the package to use.
        model: the serialised ONNX model.
        profile: input name -> smallest, optimal and largest shape.
        options: of the builder.
        source: the file named in errors.
        threads: of the builder.
        timing_cache: a file that is read, if it exists, and updated.

    Raises:
        StageError: with the nodes that the parser rejects, or the builder's message.
    """
    trt = flavour.module
    logger = reset_logger(flavour)
    builder = trt.Builder(logger)
    builder.max_threads = threads
    # TensorRT 11 has strongly typed networks only; there the flag is a deprecated no-op.
    strongly_typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(strongly_typed)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        errors = [_describe(parser.get_error(number)) for number in range(parser.num_errors)]
        raise StageError(f"{source}: {flavour.title} cannot parse it: {errors[0]}", errors[1:])
    config = builder.create_builder_config()
    config.progress_monitor = create_monitor(flavour)
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
    optimization_profile = builder.create_optimization_profile()
    for name, shapes in profile.items():
        optimization_profile.set_shape(name, *shapes)
    if timing_cache:
        _read_timing_cache(config, timing_cache)
    plan = None
    if config.add_optimization_profile(optimization_profile) >= 0:
        plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise make_error(flavour, source, "cannot build an engine from it")
    if timing_cache:
        _write_timing_cache(config, timing_cache)
    return bytes(plan)


def _timing_cache_file(
    flavour: Flavour, options: TensorRtOptions, folder: Path | None
) -> Path | None:
    """Return the file of measured kernels for this GPU and version; TensorRT-RTX measures none."""
    if flavour.portable or not options.timing_cache or folder is None:
        return None
    gpu = cuda.require_gpu()
    name = f"{flavour.package}-{package_version(flavour.package)}-{gpu.name}-sm{gpu.capability}"
    return folder / f"{re.sub(r'[^A-Za-z0-9.]+', '-', name)}.cache"


def _read_timing_cache(config: Any, file: Path) -> None:
    """Load the timing cache of earlier builds; replace a damaged one."""
    content = file.read_bytes() if file.is_file() else b""
    cache = config.create_timing_cache(content)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        logging.warning("%s: the timing cache does not fit this build; a new one replaces it", file)
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def _write_timing_cache(config: Any, file: Path) -> None:
    """Save the timing cache, merged with what a concurrent build has written."""
    cache = config.get_timing_cache()
    if file.is_file() and (other := config.create_timing_cache(file.read_bytes())):
        cache.combine(other, ignore_mismatch=True)
    with files.atomic_path(file) as temporary:
        temporary.write_bytes(bytes(cache.serialize()))


def _describe(error: Any) -> str:
    operator = error.node_operator()
    node = f"node {error.node_name()!r} ({operator}): " if operator else ""
    return f"{node}{error.desc()} [{str(error.code()).rpartition('.')[2]}]"
