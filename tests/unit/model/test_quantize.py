"""The int8 graph is valid, explicit and close."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hrnetpose.artifacts import ModelCard
from hrnetpose.model import graphs, quantize
from hrnetpose.stage import StageError


def test_the_graph_is_valid_and_says_where_it_is_quantised(tiny: Path) -> None:
    graphs.check(tiny / "int8.onnx")

    kinds = Counter(node.op_type for node in graphs.read(tiny / "int8.onnx").graph.node)
    assert kinds["QuantizeLinear"] > 0
    # One for the weights of each convolution, one for each tensor that convolutions take.
    assert kinds["DequantizeLinear"] == kinds["QuantizeLinear"] + kinds["Conv"]
    assert graphs.output_shape(graphs.read(tiny / "int8.onnx")) == ["batch", 17, 16, 8]


@pytest.mark.parametrize("batch", [1, 3])
def test_the_graph_is_close_to_the_original(tiny: Path, batch: int) -> None:
    images = graphs.fixed_inputs(ModelCard.read(tiny / "model.json"), batch)

    error = graphs.relative_error(
        graphs.run(tiny / "int8.onnx", images), graphs.run(tiny / "fp32.onnx", images)
    )

    assert 0 < error < 0.2


def test_the_calibration_crops_make_a_difference(tiny: Path, tmp_path: Path) -> None:
    card = ModelCard.read(tiny / "model.json")
    images = graphs.fixed_inputs(card)
    grey = np.full((4, 64, 32, 3), 128, np.uint8)

    quantize.to_int8(tiny / "fp32.onnx", grey, card, tmp_path / "int8.onnx")

    expected = graphs.run(tiny / "fp32.onnx", images)
    bad = graphs.relative_error(graphs.run(tmp_path / "int8.onnx", images), expected)
    good = graphs.relative_error(graphs.run(tiny / "int8.onnx", images), expected)
    assert bad > 2 * good


def test_crops_are_calibrated_in_the_order_of_channels_that_the_model_takes(
    tiny: Path, tmp_path: Path
) -> None:
    card = ModelCard.read(tiny / "model.json")
    swapped = card.model_copy(update={"channel_order": "BGR"})
    crops = np.load(tiny / "crops.npy")
    crops[..., 0] //= 8  # dark red: the order shows in the ranges

    quantize.to_int8(tiny / "fp32.onnx", crops, card, tmp_path / "rgb.onnx")
    quantize.to_int8(tiny / "fp32.onnx", crops[..., ::-1], swapped, tmp_path / "bgr.onnx")

    assert (tmp_path / "rgb.onnx").read_bytes() == (tmp_path / "bgr.onnx").read_bytes()


def test_calibration_without_crops_is_refused(tiny: Path, tmp_path: Path) -> None:
    card = ModelCard.read(tiny / "model.json")
    none = np.zeros((0, 64, 32, 3), np.uint8)

    with pytest.raises(StageError, match="int8 calibration needs at least one person"):
        quantize.to_int8(tiny / "fp32.onnx", none, card, tmp_path / "int8.onnx")
