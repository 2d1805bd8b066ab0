"""The int8 graph is valid, explicit and close."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from hrnetpose.artifacts.model import ModelCard
from hrnetpose.graphs import onnx_graph, quantize
from hrnetpose.stage import StageError


def test_the_graph_is_valid_and_says_where_it_is_quantised(tiny: Path) -> None:
    onnx_graph.check(tiny / "int8.onnx")

    kinds = Counter(node.op_type for node in onnx_graph.read(tiny / "int8.onnx").graph.node)
    assert kinds["QuantizeLinear"] > 0
    # One for the weights of each convolution, one for each tensor that convolutions take.
    assert kinds["DequantizeLinear"] == kinds["QuantizeLinear"] + kinds["Conv"]
    assert onnx_graph.output_shapes(onnx_graph.read(tiny / "int8.onnx")) == {
        "heatmaps": ["batch", 17, 16, 8]
    }


@pytest.mark.parametrize("batch", [1, 3])
def test_the_graph_is_close_to_the_original(tiny: Path, batch: int) -> None:
    images = onnx_graph.fixed_inputs(ModelCard.read(tiny / "model.json"), batch)

    error = onnx_graph.largest_error(
        onnx_graph.run(tiny / "int8.onnx", images), onnx_graph.run(tiny / "fp32.onnx", images)
    )

    assert 0 < error < 0.2


def int8(model: Path, crops: np.ndarray, card: ModelCard, symmetric: bool = False) -> ModelProto:
    """Return a graph with all layers in int8."""
    graph = onnx_graph.read(model)
    ranges = quantize.calibrate(graph, crops, card)
    return quantize.insert(graph, ranges, quantize.layers(graph), symmetric)


def error_of(graph: ModelProto, folder: Path, images: np.ndarray) -> float:
    outputs = quantize.Session(graph)({"input": images})
    return onnx_graph.largest_error(outputs, onnx_graph.run(folder / "fp32.onnx", images))


def test_the_calibration_crops_make_a_difference(tiny: Path) -> None:
    card = ModelCard.read(tiny / "model.json")
    images = onnx_graph.fixed_inputs(card)
    grey = np.full((4, 64, 32, 3), 128, np.uint8)

    bad = error_of(int8(tiny / "fp32.onnx", grey, card), tiny, images)
    good = error_of(onnx_graph.read(tiny / "int8.onnx"), tiny, images)

    assert bad > 2 * good


def test_crops_are_calibrated_in_the_order_of_channels_that_the_model_takes(tiny: Path) -> None:
    card = ModelCard.read(tiny / "model.json")
    swapped = card.model_copy(update={"channel_order": "BGR"})
    crops = np.load(tiny / "crops.npy")
    crops[..., 0] //= 8  # dark red: the order shows in the ranges

    rgb = int8(tiny / "fp32.onnx", crops, card)
    bgr = int8(tiny / "fp32.onnx", crops[..., ::-1], swapped)

    assert rgb == bgr


def test_calibration_without_crops_is_refused(tiny: Path) -> None:
    card = ModelCard.read(tiny / "model.json")
    none = np.zeros((0, 64, 32, 3), np.uint8)

    with pytest.raises(StageError, match="int8 calibration needs at least one person"):
        quantize.calibrate(onnx_graph.read(tiny / "fp32.onnx"), none, card)


def test_the_ranges_are_those_of_the_values(tiny: Path) -> None:
    card = ModelCard.read(tiny / "model.json")
    graph, crops = onnx_graph.read(tiny / "fp32.onnx"), np.load(tiny / "crops.npy")

    low, high = quantize.calibrate(graph, crops, card)["input"]

    images = onnx_graph.normalised(crops, card)
    assert (low, high) == (images.min(), images.max())


def test_symmetric_activations_have_the_zero_point_0_and_others_span_the_range(tiny: Path) -> None:
    card = ModelCard.read(tiny / "model.json")
    graph = int8(tiny / "fp32.onnx", np.load(tiny / "crops.npy"), card, symmetric=True)
    graphs_zero = {
        t.name: numpy_helper.to_array(t) for t in graph.graph.initializer if t.name.endswith("zero")
    }

    assert graphs_zero
    assert all((zero == 0).all() for zero in graphs_zero.values())
    assert error_of(graph, tiny, onnx_graph.fixed_inputs(card)) < 0.3


@given(
    low=st.floats(-1e4, 1e4), span=st.floats(0, 1e4), symmetric=st.booleans(),
    share=st.floats(0, 1),
)  # fmt: skip
def test_a_scale_holds_0_and_both_ends_within_half_a_step(
    low: float, span: float, symmetric: bool, share: float
) -> None:
    high = low + span
    scale, zero = quantize.activation_scale(low, high, symmetric)
    value = low + share * span

    assert -128 <= zero <= 127
    whole = np.clip(np.rint(value / scale) + zero, -128, 127)
    assert abs((whole - zero) * scale - value) <= scale * (1 + 1e-6)


def test_weights_are_scaled_by_channel_and_a_dead_channel_is_kept(tiny: Path) -> None:
    values = np.random.default_rng(0).normal(size=(5, 3, 3, 3)).astype(np.float32)
    values[2] = 0
    values[3] *= 1000

    scales, whole = quantize._int8_weights(values)

    assert np.abs(whole).max() == 127
    np.testing.assert_allclose(whole * scales[:, None, None, None], values, atol=scales.max() / 2)
    np.testing.assert_allclose(
        whole[0] * scales[0], values[0], atol=scales[0] / 2, err_msg="not by channel"
    )


def test_layers_that_are_not_chosen_stay_as_they_were(tiny: Path) -> None:
    card = ModelCard.read(tiny / "model.json")
    graph, crops = onnx_graph.read(tiny / "fp32.onnx"), np.load(tiny / "crops.npy")
    ranges = quantize.calibrate(graph, crops, card)
    first, *others = quantize.layers(graph)

    assert quantize.insert(graph, ranges, []) == graph
    part = quantize.insert(graph, ranges, others)
    assert {n.name for n in part.graph.node} > {n.name for n in graph.graph.node}
    kept = quantize.layers(part)
    assert kept[first] == quantize.layers(graph)[first]
    assert set(kept) == {first}  # the weights of the others come from DequantizeLinear


def test_depthwise_layers_are_left_alone() -> None:
    weights = numpy_helper.from_array(np.zeros((4, 1, 3, 3), np.float32), "w")
    node = helper.make_node("Conv", ["input", "w"], ["heatmaps"], name="depthwise", group=4)
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4, 8, 8])
        for name in ("input", "heatmaps")
    ]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])

    with pytest.raises(StageError, match="no dense convolution with constant weights"):
        quantize.layers(model)


def test_an_old_opset_is_refused(tiny: Path) -> None:
    graph = onnx_graph.read(tiny / "fp32.onnx")
    graph.opset_import[0].version = 11

    with pytest.raises(StageError, match="the graph's opset is 11; int8 needs 13 or later"):
        quantize.layers(graph)
