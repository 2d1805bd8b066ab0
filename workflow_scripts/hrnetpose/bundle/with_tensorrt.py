"""What a bundle of TensorRT or TensorRT-RTX has beside: its runner, which builds on arrival."""

from functools import partial
from pathlib import Path
from typing import Any

from hrnetpose import files
from hrnetpose.bundle.runtime import RUNNERS, Runner
from hrnetpose.engines.tensorrt.build import compile_plan
from hrnetpose.engines.tensorrt.flavour import TENSORRT, TENSORRT_RTX, Flavour
from hrnetpose.engines.tensorrt.options import profile
from hrnetpose.engines.tensorrt.plugin import machine_environment
from hrnetpose.engines.tensorrt.runtime import TensorRtEngine
from hrnetpose.graphs.onnx_graph import CROPS


def build_plan(flavour: Flavour, graph: Path, card: Any, output: Path) -> None:
    """Build a plan from the graph of the bundle, with the options of the engine card.

    Args:
        flavour: the package to use.
        graph: an ONNX file that takes crops.
        card: the engine card.
        output: the engine's file.
    """
    crop, options = card.model.crop, card.options
    shapes = [(n, crop.height, crop.width, 3) for n in profile(options, card.batch)]
    plan = compile_plan(flavour, graph.read_bytes(), {CROPS: shapes}, options, source=graph)
    with files.atomic_path(output) as temporary:
        temporary.write_bytes(plan)


for _flavour in (TENSORRT, TENSORRT_RTX):
    RUNNERS[_flavour.package] = Runner(
        partial(TensorRtEngine, _flavour),
        (_flavour.package,),
        environment=partial(machine_environment, _flavour),
        build=partial(build_plan, _flavour),
    )
