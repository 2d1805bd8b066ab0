"""Accuracy-aware int8: the layers that int8 hurts most are left in floating point.

Layers are ranked by what int8 in that layer alone does to the heatmaps; then a bisection finds
how many of them, from the top, have to be left so that the loss of AP stays within a limit.  All
of it looks at calibration persons only.
"""

import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from hrnetpose.artifacts import ModelCard
from hrnetpose.model import graphs, quantize
from hrnetpose.model.quantize import BATCH, Crops, Ranges
from hrnetpose.stage import StageError

CHOSEN = "int8_layer"
"""The input by which `switched` is told which layer is in int8."""

Evaluate = Callable[[Path], float]
"""Takes a graph's file and returns its AP on the calibration persons."""


@dataclass(frozen=True)
class Layer:
    """A layer's name, and the relative error of the heatmaps when it alone is in int8."""

    name: str
    error: float


@dataclass(frozen=True)
class Selection:
    """What an accuracy-aware quantisation did, on the calibration persons.

    Attributes:
        fp32_ap: AP of the graph as it was.
        int8_ap: AP of the result.
        max_drop: the limit.
        layers: how many layers could be in int8.
        int8_layers: how many are.
        left: those that are not, the most sensitive one first.
        tried: pairs of how many layers were left and the AP, in the order tried.
    """

    fp32_ap: float
    int8_ap: float
    max_drop: float
    layers: int
    int8_layers: int
    left: list[Layer]
    tried: list[tuple[int, float]]

    def as_json(self) -> dict[str, Any]:
        """Returns what `json.dumps` takes."""
        return asdict(self)


def to_int8(
    model: Path,
    crops: Crops,
    card: ModelCard,
    output: Path,
    evaluate: Evaluate,
    max_drop: float,
    symmetric: bool = False,
) -> Selection:
    """Writes the graph with as many layers in int8 as the limit allows.

    Args:
        model: the fp32 graph.
        crops: uint8 [N, H, W, 3] RGB calibration crops, N >= 1.
        card: says how crops are normalised.
        output: where the graph goes.
        evaluate: returns a graph's AP on the calibration persons.
        max_drop: the loss of AP that is allowed there.
        symmetric: activations have the zero point 0, as TensorRT demands.

    Raises:
        StageError: there are no crops, the graph cannot be quantised, or no layer can be in int8
            within the limit.
    """
    graph = graphs.read(model)
    ranges = quantize.calibrate(graph, crops, card)
    ranking = rank(graph, ranges, spread(crops, BATCH), card, symmetric)
    names = [layer.name for layer in ranking]
    reference = evaluate(model)
    tried: list[tuple[int, float]] = []
    with tempfile.TemporaryDirectory() as scratch:
        candidate = Path(scratch) / "candidate.onnx"

        def within(left: int) -> bool:
            onnx.save(quantize.insert(graph, ranges, names[left:], symmetric), candidate)
            tried.append((left, evaluate(candidate)))
            logging.info("%d of %d layers left: AP %.4f", left, len(names), tried[-1][1])
            return reference - tried[-1][1] <= max_drop

        left = least(within, len(names))
    if left == len(names):
        raise StageError(
            f"{model}: no layer can be in int8 within a drop of {max_drop} AP; allow more, or use "
            "another precision"
        )
    onnx.save(quantize.insert(graph, ranges, names[left:], symmetric), output)
    return Selection(
        fp32_ap=reference,
        int8_ap=dict(tried)[left],
        max_drop=max_drop,
        layers=len(names),
        int8_layers=len(names) - left,
        left=ranking[:left],
        tried=tried,
    )


def least(within: Callable[[int], bool], count: int) -> int:
    """Returns the least number below `count` that is within a limit, or `count`, by bisection.

    `within` is taken to hold for all numbers above one for which it holds; where it does not, the
    result is still one for which it held.
    """
    low, high = 0, count
    while low < high:
        # Few layers do most of the harm: the first guesses are near the start.
        middle = low + (high - low) // 4
        if within(middle):
            high = middle
        else:
            low = middle + 1
    return high


def rank(
    model: onnx.ModelProto,
    ranges: Ranges,
    crops: Crops,
    card: ModelCard,
    symmetric: bool = False,
) -> list[Layer]:
    """Returns all layers, the most sensitive one first.

    Args:
        model: the fp32 graph.
        ranges: what `quantize.calibrate` returned.
        crops: uint8 [N, H, W, 3] RGB; all go through the graph once per layer, in one batch.
        card: says how crops are normalised.
        symmetric: activations have the zero point 0.
    """
    names = list(quantize.layers(model))
    call = quantize.Session(switched(model, ranges, names, symmetric))
    images = graphs.normalised(crops, card)

    def heatmaps(layer: int) -> quantize.Floats:
        return call({card.input.name: images, CHOSEN: np.array(layer)})[0]

    logging.info("ranking %d layers on %d crops", len(names), len(crops))
    reference = heatmaps(-1)
    ranked = [
        Layer(name, graphs.relative_error(heatmaps(number), reference))
        for number, name in enumerate(names)
    ]
    return sorted(ranked, key=lambda layer: -layer.error)


def switched(
    model: onnx.ModelProto, ranges: Ranges, names: Sequence[str], symmetric: bool = False
) -> onnx.ModelProto:
    """Returns a graph in which an input says which layer is in int8.

    One graph that is loaded once takes the place of as many as there are layers.  Its further
    input `int8_layer` is an int64 scalar, an index into `names`, or -1 for none.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    numbers = {name: number for number, name in enumerate(names)}
    chosen = {node.output[0]: name for name, node in quantize.layers(model).items()}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    constants: dict[str, TensorProto] = {}
    nodes: list[NodeProto] = []
    for node in graph.node:
        number = numbers.get(chosen.get(node.output[0], ""))
        if number is None:
            nodes.append(node)
            continue
        added, stored = quantize.quantised(
            node, weights[node.input[1]], ranges[node.input[0]], symmetric
        )
        index = numpy_helper.from_array(np.array(number), f"{CHOSEN}_{number}")
        constants |= {tensor.name: tensor for tensor in (*stored, index)}
        condition = f"{CHOSEN}_is_{number}"
        nodes += [
            helper.make_node("Equal", [CHOSEN, index.name], [condition]),
            helper.make_node(
                "If",
                [condition],
                [node.output[0]],
                then_branch=_branch(added, f"{condition}_then"),
                else_branch=_branch([node], f"{condition}_else"),
            ),
        ]
    nodes = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants.values())
    graph.input.append(helper.make_tensor_value_info(CHOSEN, TensorProto.INT64, []))
    return result


def spread(crops: Crops, count: int) -> Crops:
    """Returns at most so many crops, evenly spread over all of them."""
    rows = np.linspace(0, len(crops) - 1, min(count, len(crops))).astype(int)
    return crops[rows]


def _branch(nodes: list[NodeProto], prefix: str) -> onnx.GraphProto:
    """Returns nodes as a subgraph whose output is the last one's; names inside get a prefix."""
    inside = {node.output[0]: f"{prefix}_{node.output[0]}" for node in nodes}
    copies = []
    for node in nodes:
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.name = f"{prefix}_{node.name}"
        copy.input[:] = [inside.get(name, name) for name in node.input]
        copy.output[:] = [inside[node.output[0]]]
        copies.append(copy)
    output = helper.make_tensor_value_info(copies[-1].output[0], TensorProto.FLOAT, None)
    return helper.make_graph(copies, prefix, [], [output])
