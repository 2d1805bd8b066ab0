"""A graph that takes crops and gives keypoints: decoding in standard operators.

Heatmaps are decoded plainly: the maximum, moved a quarter pixel towards its higher neighbour (Xiao
et al., Simple Baselines, ECCV 2018); SimCC's vectors by their maxima (Li et al., SimCC, ECCV 2022).
"""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hrnetpose.artifacts.model import ModelCard, SimCCCodec
from hrnetpose.graphs import onnx_graph

KEYPOINTS, SCORES = "keypoints", "scores"
"""Its outputs: float32 [N, K, 2], x and y in pixels of the crop, and float32 [N, K]."""


def missing_reason(card: ModelCard) -> str | None:
    """Return why a model has no such graph; None if it has one."""
    if card.codec.type in ("MSRAHeatmap", "SimCCLabel"):
        return None
    return f"{card.codec.type} is not decoded by a maximum and a quarter of a pixel"


def decoder(card: ModelCard) -> str:
    """Return what the graph decodes by: `simcc`, or `plain` also for a model of DARK."""
    return "simcc" if card.codec.type == "SimCCLabel" else "plain"


def with_keypoint_outputs(model: onnx.ModelProto, card: ModelCard) -> onnx.ModelProto:
    """Return a graph whose outputs are keypoints and scores.

    Args:
        model: gives heatmaps, or SimCC's two vectors.
        card: of the model.
    """
    decoded = onnx.ModelProto()
    decoded.CopyFrom(model)
    nodes = _Nodes(decoded.graph)
    names = [output.name for output in card.outputs]
    if card.codec.type == "SimCCLabel":
        _decode_vectors(nodes, names[0], names[1], card.codec, len(card.keypoints.names))
    else:
        _decode_heatmaps(nodes, names[0], card)
    batch, count = card.input.shape[0], len(card.keypoints.names)
    del decoded.graph.output[:]
    decoded.graph.output.extend(
        [
            helper.make_tensor_value_info(KEYPOINTS, TensorProto.FLOAT, [batch, count, 2]),
            helper.make_tensor_value_info(SCORES, TensorProto.FLOAT, [batch, count]),
        ]
    )
    return onnx_graph.with_opset(decoded, 13)


class _Nodes:
    """Adds nodes to a graph; each returns the name of its output."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph

    def constant(self, values: Any, kind: type) -> str:
        name = f"decode_{len(self._graph.initializer)}_constant"
        tensor = numpy_helper.from_array(np.array(values, kind), name)
        self._graph.initializer.append(tensor)
        return name

    def add(self, operator: str, *inputs: str, output: str | None = None, **options: Any) -> str:
        name = output or f"decode_{len(self._graph.node)}_{operator}"
        node = helper.make_node(operator, [*inputs], [name], name=name, **options)
        self._graph.node.append(node)
        return name


def _decode_heatmaps(nodes: _Nodes, heatmaps: str, card: ModelCard) -> None:
    height, width = map(int, card.outputs[0].shape[2:])
    count = len(card.keypoints.names)
    flat = nodes.add("Reshape", heatmaps, nodes.constant([0, count, height * width], np.int64))
    best = nodes.add("ArgMax", flat, axis=2, keepdims=1)
    score = nodes.add("GatherElements", flat, best, axis=2)
    wide = nodes.constant([width], np.int64)
    y = nodes.add("Div", best, wide)
    x = nodes.add("Sub", best, nodes.add("Mul", y, wide))
    one, last = nodes.constant([1], np.int64), nodes.constant([height * width - 1], np.int64)

    def beside(distance: int) -> str:
        """Return the difference of the values after and before the maximum; clipped at the ends."""
        step = nodes.constant([distance], np.int64)
        zero = nodes.constant([0], np.int64)
        after = nodes.add("Min", nodes.add("Add", best, step), last)
        before = nodes.add("Max", nodes.add("Sub", best, step), zero)
        values = [nodes.add("GatherElements", flat, place, axis=2) for place in (after, before)]
        return nodes.add("Sign", nodes.add("Sub", *values))

    def inside(place: str, size: int, other: str) -> str:
        """Return 1.0 where mmpose moves a maximum: not at an edge."""
        end, zero = nodes.constant([size - 1], np.int64), nodes.constant([0], np.int64)
        low = nodes.add("Greater", place, one)
        parts = nodes.add("And", low, nodes.add("Less", place, end))
        whole = nodes.add("And", parts, nodes.add("Greater", other, zero))
        return nodes.add("Cast", whole, to=TensorProto.FLOAT)

    quarter, minus = nodes.constant([0.25], np.float32), nodes.constant([-1], np.float32)
    nothing = nodes.constant([0], np.float32)
    is_found = nodes.add("Greater", score, nothing)
    moved = []
    for place, other, size, distance in ((x, y, width, 1), (y, x, height, width)):
        step = nodes.add("Mul", beside(distance), inside(place, size, other))
        start = nodes.add("Cast", place, to=TensorProto.FLOAT)
        position = nodes.add("Add", start, nodes.add("Mul", step, quarter))
        moved.append(nodes.add("Where", is_found, position, minus))
    both = nodes.add("Concat", *moved, axis=2)
    scale = [card.crop.width / width, card.crop.height / height]
    nodes.add("Mul", both, nodes.constant(scale, np.float32), output=KEYPOINTS)
    shape = nodes.constant([0, count], np.int64)
    nodes.add("Reshape", score, shape, output=SCORES)


def _decode_vectors(nodes: _Nodes, across: str, down: str, codec: SimCCCodec, count: int) -> None:
    places, values = [], []
    for vectors in (across, down):
        best = nodes.add("ArgMax", vectors, axis=2, keepdims=1)
        values.append(nodes.add("GatherElements", vectors, best, axis=2))
        places.append(nodes.add("Cast", best, to=TensorProto.FLOAT))
    score = nodes.add("Min", *values)
    is_found = nodes.add("Greater", score, nodes.constant([0], np.float32))
    both = nodes.add("Concat", *places, axis=2)
    found = nodes.add("Where", is_found, both, nodes.constant([-1], np.float32))
    ratio = nodes.constant([codec.simcc_split_ratio], np.float32)
    nodes.add("Div", found, ratio, output=KEYPOINTS)
    nodes.add("Reshape", score, nodes.constant([0, count], np.int64), output=SCORES)
