"""The ONNX graphs: which is made from which, by which stage, and what the report says of it."""

from dataclasses import dataclass
from typing import Literal, get_args

Precision = Literal["fp32", "fp16", "bf16", "int8", "fp8"]
Graph = Literal["fp32", "fp16", "bf16", "int8", "int8-symmetric", "int8-fp16", "fp8"]
"""A graph that an engine is built from, or that one of those is made from."""
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
CALIBRATED: tuple[Precision, ...] = ("int8", "fp8")
"""The precisions that need calibration images."""


@dataclass(frozen=True)
class Recipe:
    """How a graph is made.

    Attributes:
        source: the graph that it is made from; None for the simplified one.
        stage: the stage that makes it.
        note: what it is.
        calibrated: it depends on a dataset.
    """

    source: Graph | None
    stage: Literal["convert_precision", "quantize_int8", "quantize_fp8"]
    note: str
    calibrated: bool = False


RECIPES: dict[Graph, Recipe] = {
    "fp32": Recipe(None, "convert_precision", "fp32"),
    "fp16": Recipe(None, "convert_precision", "fp16 inside, fp32 at both ends"),
    "bf16": Recipe(None, "convert_precision", "bfloat16 inside, fp32 at both ends"),
    "int8": Recipe(None, "quantize_int8", "int8 Q/DQ, fp32 for the rest", calibrated=True),
    "int8-symmetric": Recipe(
        None, "quantize_int8", "int8 Q/DQ whose zero points are all 0", calibrated=True
    ),
    "int8-fp16": Recipe(
        "int8-symmetric",
        "convert_precision",
        "int8-symmetric with fp16 for the rest, as TensorRT takes it",
        calibrated=True,
    ),
    "fp8": Recipe(None, "quantize_fp8", "fp8 (E4M3) Q/DQ, fp16 for the rest", calibrated=True),
}


def made_by(stage: str) -> list[Graph]:
    """Return the graphs that a stage makes."""
    return [name for name, recipe in RECIPES.items() if recipe.stage == stage]


def lineage(graph: Graph) -> list[Graph]:
    """Return a graph and those that it is made from, itself first."""
    source = RECIPES[graph].source
    return [graph, *(lineage(source) if source else [])]
