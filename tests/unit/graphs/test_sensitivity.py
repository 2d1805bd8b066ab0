"""Layers that int8 hurts stay in floating point, as few of them as a limit allows."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrnetpose.artifacts.model import ModelCard
from hrnetpose.graphs import onnx_graph, quantize, sensitivity
from hrnetpose.graphs.quantize import Ranges
from hrnetpose.stage import StageError


@pytest.fixture(scope="module")
def card(tiny: Path) -> ModelCard:
    return ModelCard.read(tiny / "model.json")


@pytest.fixture(scope="module")
def graph(tiny: Path) -> onnx.ModelProto:
    return onnx_graph.read(tiny / "fp32.onnx")


@pytest.fixture(scope="module")
def crops(tiny: Path) -> np.ndarray:
    return np.load(tiny / "crops.npy")


@pytest.fixture(scope="module")
def ranges(graph: onnx.ModelProto, crops: np.ndarray, card: ModelCard) -> Ranges:
    return quantize.calibrate(graph, crops, card)


def heatmaps(graph: onnx.ModelProto, crops: np.ndarray, card: ModelCard) -> np.ndarray:
    return np.concatenate([found for (found,) in quantize.run(graph, crops, card)])


@given(count=st.integers(1, 40), first=st.integers(0, 40))
def test_the_bisection_finds_the_least_number_within_the_limit(count: int, first: int) -> None:
    asked: list[int] = []

    def within(number: int) -> bool:
        asked.append(number)
        return number >= first

    assert sensitivity.least(within, 0, count) == min(first, count)
    assert len(asked) == len(set(asked))


def test_the_ranking_is_that_of_each_layer_alone_in_int8(
    graph: onnx.ModelProto, ranges: Ranges, crops: np.ndarray, card: ModelCard
) -> None:
    expected = heatmaps(graph, crops, card)

    ranking = sensitivity.rank(graph, ranges, crops, card)

    assert {layer.name for layer in ranking} == set(quantize.layers(graph))
    errors = [layer.error for layer in ranking]
    assert errors == sorted(errors, reverse=True)
    for layer in (ranking[0], ranking[-1]):
        alone = heatmaps(quantize.insert(graph, ranges, [layer.name]), crops, card)
        # The two graphs round differently.
        error = onnx_graph.relative_error(alone, expected)
        assert layer.error == pytest.approx(error, rel=1e-3, abs=1e-5)


def test_a_limit_that_holds_leaves_nothing_and_ranks_nothing(
    graph: onnx.ModelProto, ranges: Ranges, crops: np.ndarray, card: ModelCard,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delattr(sensitivity, "rank")

    chosen, found = sensitivity.select(graph, ranges, crops, card, lambda model: 0.7, 0.0)

    assert chosen == list(quantize.layers(graph))
    assert (found.left, found.ap_fp32, found.ap_int8) == ([], 0.7, 0.7)


def test_the_worst_layers_are_left_until_the_limit_holds(
    graph: onnx.ModelProto, ranges: Ranges, crops: np.ndarray, card: ModelCard
) -> None:
    count = len(quantize.layers(graph))

    def evaluate(model: onnx.ModelProto) -> float:
        left = sum(node.op_type == "Conv" for node in model.graph.node) - sum(
            node.op_type == "DequantizeLinear" and node.input[0].endswith("_int8")
            for node in model.graph.node
        )
        return 0.8 if left >= 3 else 0.7

    chosen, found = sensitivity.select(graph, ranges, crops, card, evaluate, 0.05)

    assert len(chosen) == count - 3
    assert found.left == sensitivity.rank(graph, ranges, crops, card)[:3]
    assert not set(chosen) & {layer.name for layer in found.left}
    assert (found.ap_fp32, found.ap_int8) == (0.8, 0.8)
    assert {trial.left: trial.AP for trial in found.trials}[0] == 0.7


def test_a_limit_that_no_layer_holds_is_refused(
    graph: onnx.ModelProto, ranges: Ranges, crops: np.ndarray, card: ModelCard
) -> None:
    def evaluate(model: onnx.ModelProto) -> float:
        return 0.0 if any(n.op_type == "QuantizeLinear" for n in model.graph.node) else 0.9

    with pytest.raises(StageError, match=r"no layer can be in int8 within a drop of 0\.1 AP"):
        sensitivity.select(graph, ranges, crops, card, evaluate, 0.1)
