"""A YOLOX network of seeded weights in the three layouts that people export."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hrnetpose.detection.boxes import cells

HEIGHT, WIDTH, CLASSES = 64, 96, 3
CELLS = sum((HEIGHT // stride) * (WIDTH // stride) for stride in (8, 16, 32))
Layout = Literal["grid", "decoded", "dets"]


class Graph:
    """An ONNX graph that is put together node by node."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any, kind: Any = np.float32) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, kind), name))
        return name

    def add(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        name = name or f"value_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def part(self, value: str, start: int, end: int) -> str:
        """Return columns of the last axis."""
        bounds = [self.constant([place], np.int64) for place in (start, end, -1)]
        return self.add("Slice", value, *bounds)


def network(graph: Graph) -> str:
    """Add three convolutions of different strides; return [1, cells, 5 + classes], not decoded."""
    generator = np.random.default_rng(3)
    levels = []
    for stride in (8, 16, 32):
        shape = (5 + CLASSES, 3, stride, stride)
        weights = graph.constant(generator.normal(0, 0.002 / stride, shape))
        bias = graph.constant([0.5, 0.5, 1.2, 1.2, 1.0, *[0.5] * CLASSES])
        raw = graph.add(
            "Conv", "images", weights, bias, kernel_shape=shape[2:], strides=[stride] * 2
        )
        flat = graph.add("Reshape", raw, graph.constant([1, 5 + CLASSES, -1], np.int64))
        levels.append(graph.add("Transpose", flat, perm=[0, 2, 1]))
    whole = graph.add("Concat", *levels, axis=1)
    shares = graph.add("Sigmoid", graph.part(whole, 4, 5 + CLASSES))
    return graph.add("Concat", graph.part(whole, 0, 4), shares, axis=2)


def decoded(graph: Graph, grid: str) -> tuple[str, str]:
    """Add what `decode_in_inference` adds; return centres and sizes."""
    place = cells(HEIGHT, WIDTH)[None]
    stride = graph.constant(place[..., 2:])
    shifted = graph.add("Add", graph.part(grid, 0, 2), graph.constant(place[..., :2]))
    size = graph.add("Exp", graph.part(grid, 2, 4))
    return graph.add("Mul", shifted, stride), graph.add("Mul", size, stride)


def write(path: Path, layout: Layout) -> Path:
    """Write the network."""
    graph = Graph()
    grid = network(graph)
    outputs: dict[str, tuple[int, list[Any]]] = {
        "output": (TensorProto.FLOAT, [1, CELLS, 5 + CLASSES])
    }
    if layout == "grid":
        graph.add("Identity", grid, name="output")
    else:
        center, size = decoded(graph, grid)
    if layout == "decoded":
        graph.add("Concat", center, size, graph.part(grid, 4, 5 + CLASSES), axis=2, name="output")
    if layout == "dets":
        outputs = {
            "dets": (TensorProto.FLOAT, ["batch", "num_dets", 5]),
            "labels": (TensorProto.INT64, ["batch", "num_dets"]),
        }
        suppress(graph, grid, center, size)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "yolox",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, HEIGHT, WIDTH])],
            [helper.make_tensor_value_info(name, *form) for name, form in outputs.items()],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def suppress(graph: Graph, grid: str, center: str, size: str) -> None:
    """Add ONNX's own NMS, and what mmdeploy makes of its result."""
    half = graph.add("Mul", size, graph.constant(0.5))
    corners = graph.add(
        "Concat", graph.add("Sub", center, half), graph.add("Add", center, half), axis=2
    )
    scores = graph.add("Mul", graph.part(grid, 4, 5), graph.part(grid, 5, 5 + CLASSES))
    by_class = graph.add("Transpose", scores, perm=[0, 2, 1])
    limits = [graph.constant(100, np.int64), graph.constant(0.65), graph.constant(0.3)]
    chosen = graph.add("NonMaxSuppression", corners, by_class, *limits)
    axis = graph.constant([1], np.int64)
    label = graph.add("Squeeze", graph.part(chosen, 1, 2), axis)
    place = graph.add("Squeeze", graph.part(chosen, 2, 3), axis)
    first = graph.add("Squeeze", corners, graph.constant([0], np.int64))
    score = graph.add("GatherND", by_class, chosen)
    rows = graph.add(
        "Concat", graph.add("Gather", first, place), graph.add("Unsqueeze", score, axis), axis=1
    )
    start = graph.constant([0], np.int64)
    # Rows that are no boxes, as mmdeploy's exports have them.
    filler = graph.constant(np.zeros((1, 2, 5)))
    graph.add("Concat", graph.add("Unsqueeze", rows, start), filler, axis=1, name="dets")
    none = graph.constant(np.zeros((1, 2)), np.int64)
    graph.add("Concat", graph.add("Unsqueeze", label, start), none, axis=1, name="labels")


@pytest.fixture(scope="session")
def yolox(tmp_path_factory: pytest.TempPathFactory) -> dict[Layout, Path]:
    """The files, by layout."""
    folder = tmp_path_factory.mktemp("yolox")
    layouts: tuple[Layout, ...] = ("grid", "decoded", "dets")
    return {layout: write(folder / f"{layout}.onnx", layout) for layout in layouts}
