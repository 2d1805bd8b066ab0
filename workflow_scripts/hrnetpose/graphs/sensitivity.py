"""Accuracy-aware int8: the layers that int8 hurts most are left in floating point.

Layers are ranked by what int8 in that layer alone does to the outputs; then a bisection finds
how many of them, from the top, have to be left so that the loss of AP stays within a limit.  All
of it looks at calibration persons only.
"""

import logging
from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from hrnetpose import batches
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.artifacts.quantization import SensitiveLayer, Sensitivity, Trial
from hrnetpose.graphs import onnx_graph, quantize
from hrnetpose.graphs.quantize import BATCH, Crops, Ranges
from hrnetpose.progress import Progress
from hrnetpose.stage import StageError

CHOSEN = "int8_layer"
"""The input by which `switched` is told which layer is in int8."""

Evaluate = Callable[[onnx.ModelProto], float]
"""Takes a graph and returns its AP on the calibration persons."""


def select(
    graph: onnx.ModelProto,
    ranges: Ranges,
    crops: Crops,
    card: ModelCard,
    evaluate: Evaluate,
    ap_drop: float,
    symmetric: bool = False,
) -> tuple[list[str], Sensitivity]:
    """Find as many layers for int8 as a limit allows.

    Args:
        graph: the fp32 graph.
        ranges: what `quantize.calibrate` returned.
        crops: uint8 [N, H, W, 3] RGB calibration crops, N >= 1.
        card: says how crops are normalised.
        evaluate: returns a graph's AP on the calibration persons.
        ap_drop: the loss of AP that is allowed there.
        symmetric: activations have the zero point 0.

    Returns:
        The names of the layers to put into int8, and what was tried.

    Raises:
        StageError: no layer can be in int8 within the limit.
    """
    names = list(quantize.layers(graph))
    reference = evaluate(graph)
    logging.info("fp32: AP %.4f", reference)
    trials: dict[int, float] = {}

    def within(left: int) -> bool:
        trials[left] = evaluate(quantize.insert(graph, ranges, names[left:], symmetric))
        logging.info("%d of %d layers left: AP %.4f", left, len(names), trials[left])
        return reference - trials[left] <= ap_drop

    ranking: list[SensitiveLayer] = []
    left = 0
    if not within(0):
        # Only now: the ranking takes as many runs as there are layers.
        ranking = rank(graph, ranges, spread(crops, BATCH), card, symmetric)
        names = [layer.name for layer in ranking]
        left = least(within, 1, len(names))
    if left == len(names):
        raise StageError(
            f"no layer can be in int8 within a drop of {ap_drop} AP on the calibration persons; "
            "allow more with `quantization: {ap_drop: ...}`, or use another precision"
        )
    return names[left:], Sensitivity(
        ap_drop=ap_drop,
        ap_fp32=reference,
        ap_int8=trials[left],
        left=ranking[:left],
        trials=[Trial(left=left, AP=ap) for left, ap in trials.items()],
    )


def least(within: Callable[[int], bool], low: int, high: int) -> int:
    """Return the least number from `low` to below `high` that is within a limit, or `high`.

    By bisection: `within` is taken to hold for all numbers above one for which it holds; where it
    does not, the result is still one for which it held.
    """
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
) -> list[SensitiveLayer]:
    """Return all layers, the most sensitive one first.

    Args:
        model: the fp32 graph.
        ranges: what `quantize.calibrate` returned.
        crops: uint8 [N, H, W, 3] RGB; all go through the graph once per layer, in one batch if it
            takes any.
        card: says how crops are normalised.
        symmetric: activations have the zero point 0.
    """
    names = list(quantize.layers(model))
    call = quantize.Session(switched(model, ranges, names, symmetric))
    images = onnx_graph.normalised(crops, card)
    taken = [output.name for output in card.decoded]

    def run(layer: int) -> list[quantize.Floats]:
        return batches.run_in_full(
            lambda full: call({card.input.name: full, CHOSEN: np.array(layer)}, taken),
            images,
            card.fixed_batch or len(images),
        )

    logging.info("ranking %d layers on %d crops", len(names), len(crops))
    reference = run(-1)
    ranked = []
    with Progress(f"{card.name}: layers ranked", len(names), in_bytes=False) as progress:
        for number, name in enumerate(names):
            error = onnx_graph.largest_error(run(number), reference)
            ranked.append(SensitiveLayer(name=name, error=error))
            progress.advance(1)
    return sorted(ranked, key=lambda layer: -layer.error)


def switched(
    model: onnx.ModelProto, ranges: Ranges, names: Sequence[str], symmetric: bool = False
) -> onnx.ModelProto:
    """Return a graph in which an input says which layer is in int8.

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
    """Return at most so many crops, evenly spread over all of them."""
    rows = np.linspace(0, len(crops) - 1, min(count, len(crops))).astype(int)
    return crops[rows]


def _branch(nodes: list[NodeProto], prefix: str) -> onnx.GraphProto:
    """Return nodes as a subgraph whose output is the last one's; names inside get a prefix."""
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
