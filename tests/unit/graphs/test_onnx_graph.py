"""Graphs are checked, counted and rewritten without changing what they compute."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hrnetpose.artifacts.model import ModelCard
from hrnetpose.graphs import half_precision, onnx_graph
from hrnetpose.stage import StageError

Floats = npt.NDArray[np.float32]


@pytest.fixture
def card(tiny: Path) -> ModelCard:
    return ModelCard.read(tiny / "model.json")


def error_of(model: onnx.ModelProto, reference: Path, images: Floats, folder: Path) -> float:
    """The relative error of a graph against a reference."""
    path = folder / "changed.onnx"
    onnx.save(model, path)
    onnx_graph.check(path)
    return onnx_graph.largest_error(onnx_graph.run(path, images), onnx_graph.run(reference, images))


def test_the_export_is_valid_and_has_a_dynamic_batch(tiny: Path) -> None:
    onnx_graph.check(tiny / "model.onnx")

    assert onnx_graph.output_shapes(onnx_graph.read(tiny / "model.onnx")) == {
        "heatmaps": ["batch", 17, 16, 8]
    }


def test_a_missing_graph_is_named(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"model\.onnx: there is no such ONNX file"):
        onnx_graph.read(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"\(its graph has no node\); export it again"),
        (bytes(100), "export it again"),
        (b"<html><title>Sign in</title>", r"but an HTML page \('Sign in'\)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "run `git lfs pull`"),
    ],
)
def test_what_is_no_graph_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)

    with pytest.raises(StageError, match=rf"model\.onnx: not an ONNX model .*{said}"):
        onnx_graph.read(path)


def test_a_truncated_graph_is_refused(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes((tiny / "model.onnx").read_bytes()[:-1000])

    with pytest.raises(StageError, match=r"model\.onnx: not an ONNX model"):
        onnx_graph.read(path)


def test_a_graph_of_unknown_operators_is_not_valid(tiny: Path, tmp_path: Path) -> None:
    model = onnx_graph.read(tiny / "fp32.onnx")
    model.graph.node[0].op_type = "Convolute"
    onnx.save(model, tmp_path / "model.onnx")

    with pytest.raises(StageError, match=r"model\.onnx: not a valid ONNX graph"):
        onnx_graph.check(tmp_path / "model.onnx")


def test_a_graph_that_cannot_run_is_refused(tiny: Path) -> None:
    with pytest.raises(StageError, match=r"fp32\.onnx: ONNX Runtime cannot run it"):
        onnx_graph.run(tiny / "fp32.onnx", np.zeros((1, 3, 5, 5), np.float32))


def test_the_inputs_for_comparisons_are_normalised_and_always_the_same(card: ModelCard) -> None:
    images = onnx_graph.fixed_inputs(card, 3)

    assert np.array_equal(images, onnx_graph.fixed_inputs(card, 3))
    assert images.shape == (3, 3, 64, 32)
    assert images.dtype == np.float32
    pixels = images * np.array(card.std).reshape(3, 1, 1) + np.array(card.mean).reshape(3, 1, 1)
    assert np.allclose(pixels, pixels.round(), atol=1e-3)
    assert -0.5 < pixels.min() < 5
    assert 250 < pixels.max() < 255.5


@pytest.mark.parametrize(("order", "channels"), [("RGB", [0, 1, 2]), ("BGR", [2, 1, 0])])
def test_crops_are_normalised_channel_by_channel(
    model_card: ModelCard, order: str, channels: list[int]
) -> None:
    card = model_card.model_copy(update={"channel_order": order})
    crops = np.random.default_rng(0).integers(0, 256, (2, 64, 32, 3), dtype=np.uint8)

    images = onnx_graph.normalised(crops, card)

    assert images.dtype == np.float32
    assert images.flags.c_contiguous
    for place, channel in enumerate(channels):
        expected = (crops[..., channel] - card.mean[place]) / card.std[place]
        assert np.allclose(images[:, place], expected, atol=1e-6)


def test_the_relative_error_is_that_of_the_norms() -> None:
    reference = np.array([3, 4], np.float32)

    assert onnx_graph.relative_error(reference, reference) == 0
    assert onnx_graph.relative_error(np.array([3, 5], np.float32), reference) == pytest.approx(0.2)
    assert onnx_graph.relative_error(np.array([3, np.nan], np.float32), reference) == np.inf
    assert onnx_graph.relative_error(np.ones(2, np.float32), np.zeros(2, np.float32)) > 0


def test_half_precision_is_close_and_has_one_cast_at_each_end(
    tiny: Path, card: ModelCard, tmp_path: Path
) -> None:
    half = half_precision.to_fp16(onnx_graph.read(tiny / "fp32.onnx"))

    assert 0 < error_of(half, tiny / "fp32.onnx", onnx_graph.fixed_inputs(card), tmp_path) < 5e-3
    kinds = Counter(node.op_type for node in half.graph.node)
    assert kinds["Cast"] == 2
    assert half.graph.node[0].op_type == half.graph.node[-1].op_type == "Cast"


def test_half_precision_keeps_the_ends_and_halves_the_file(tiny: Path, tmp_path: Path) -> None:
    full = onnx_graph.read(tiny / "fp32.onnx")
    half = half_precision.to_fp16(full)

    for ends in ("input", "output"):
        assert getattr(half.graph, ends) == getattr(full.graph, ends)
    assert half.ByteSize() < 0.6 * full.ByteSize()
    floats = [t.name for t in half.graph.initializer if t.data_type == TensorProto.FLOAT]
    resizes = [node for node in half.graph.node if node.op_type == "Resize"]
    assert set(floats) <= {name for node in resizes for name in node.input[1:]}


def test_converting_leaves_the_original_as_it_was(tiny: Path, card: ModelCard) -> None:
    model = onnx_graph.read(tiny / "fp32.onnx")
    before = model.SerializeToString()

    half_precision.to_fp16(model)
    onnx_graph.with_pixel_input(model, card)

    assert model.SerializeToString() == before


def test_weights_beyond_half_precision_are_clipped(tmp_path: Path) -> None:
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 2])
    output = helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, ["batch", 2])
    weights = numpy_helper.from_array(np.array([1e6, -1e6], np.float32), "weights")
    node = helper.make_node("Add", ["input", "weights"], ["heatmaps"])
    model = helper.make_model(
        helper.make_graph([node], "add", [image], [output], [weights]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(half_precision.to_fp16(model), tmp_path / "half.onnx")

    (result,) = onnx_graph.run(tmp_path / "half.onnx", np.zeros((1, 2), np.float32))

    assert result.tolist() == [[65504, -65504]]


def chain(file: Path, constants: dict[str, float], *nodes: Any) -> Path:
    """Write a graph of nodes from `input` to `heatmaps`, float32 [batch, 2] both."""
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2])
        for name in ("input", "heatmaps")
    ]
    known = [numpy_helper.from_array(np.array(v, np.float32), n) for n, v in constants.items()]
    graph = helper.make_graph([*nodes], "chain", ends[:1], ends[1:], known)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), file)
    return file


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("value", [{"value_float": 3.0}, {"value_floats": [3.0, 3.0]}])
def test_constants_of_every_form_are_converted(
    tmp_path: Path, run_stage: Callable[..., None], precision: str, value: dict[str, Any]
) -> None:
    model = chain(
        tmp_path / "fp32.onnx",
        {},
        helper.make_node("Constant", [], ["three"], **value),
        helper.make_node("Mul", ["input", "three"], ["heatmaps"]),
    )
    output = tmp_path / f"{precision}.onnx"

    run_stage("convert_precision", "--precision", precision, "--model", model, "--output", output)

    if precision == "fp16":  # ONNX Runtime has no bfloat16 on the CPU
        (result,) = onnx_graph.run(output, np.ones((1, 2), np.float32))
        assert result.tolist() == [[3, 3]]


def test_an_epsilon_below_half_precision_still_keeps_from_dividing_by_zero(tmp_path: Path) -> None:
    model = chain(
        tmp_path / "fp32.onnx",
        {"epsilon": 1e-12},
        helper.make_node("Abs", ["input"], ["size"]),
        helper.make_node("Add", ["size", "epsilon"], ["divisor"]),
        helper.make_node("Div", ["input", "divisor"], ["heatmaps"]),
    )
    onnx.save(half_precision.to_fp16(onnx_graph.read(model)), tmp_path / "half.onnx")

    (result,) = onnx_graph.run(tmp_path / "half.onnx", np.array([[0, 2]], np.float32))

    assert result.tolist() == [[0, 1]]


def test_a_graph_that_a_precision_does_not_suit_is_named(
    tmp_path: Path, run_stage: Callable[..., None]
) -> None:
    model = chain(
        tmp_path / "fp32.onnx",
        {},
        helper.make_node("RandomNormalLike", ["input"], ["noise"], dtype=TensorProto.FLOAT),
        helper.make_node("Add", ["input", "noise"], ["heatmaps"]),
    )

    with pytest.raises(StageError) as error:
        run_stage(
            "convert_precision", "--precision", "fp16", "--model", model,
            "--output", tmp_path / "fp16.onnx",
        )  # fmt: skip

    assert str(error.value).startswith(f"{model}: cannot be written in fp16: not a valid ONNX")
    assert str(error.value).endswith("take another `precision`")


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_pixels_are_normalised_as_by_hand(
    tiny: Path, card: ModelCard, tmp_path: Path, order: str
) -> None:
    card = card.model_copy(update={"channel_order": order})
    crops = np.load(tiny / "crops.npy")
    channels = crops if order == "RGB" else crops[..., ::-1]
    images = (channels - np.array(card.mean)) / np.array(card.std)
    expected = onnx_graph.run(
        tiny / "fp32.onnx", np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)
    )
    onnx.save(
        onnx_graph.with_pixel_input(onnx_graph.read(tiny / "fp32.onnx"), card),
        tmp_path / "pixels.onnx",
    )
    onnx_graph.check(tmp_path / "pixels.onnx")

    found = onnx_graph.run(tmp_path / "pixels.onnx", crops)

    assert onnx_graph.largest_error(found, expected) < 1e-5


def test_the_order_of_the_channels_matters(tiny: Path, card: ModelCard, tmp_path: Path) -> None:
    """Otherwise the test above would not see a wrong one."""
    crops = np.load(tiny / "crops.npy")
    onnx.save(
        onnx_graph.with_pixel_input(onnx_graph.read(tiny / "fp32.onnx"), card),
        tmp_path / "pixels.onnx",
    )

    plain = onnx_graph.run(tmp_path / "pixels.onnx", crops)
    swapped = onnx_graph.run(tmp_path / "pixels.onnx", np.ascontiguousarray(crops[..., ::-1]))

    assert onnx_graph.largest_error(swapped, plain) > 1e-2


def test_the_pixel_input_is_called_crops_and_has_a_dynamic_batch(
    tiny: Path, card: ModelCard
) -> None:
    pixels = onnx_graph.with_pixel_input(onnx_graph.read(tiny / "fp32.onnx"), card)

    (entry,) = pixels.graph.input
    assert entry.name == onnx_graph.CROPS
    assert entry.type.tensor_type.elem_type == TensorProto.UINT8
    dims = [dim.dim_param or dim.dim_value for dim in entry.type.tensor_type.shape.dim]
    assert dims == ["batch", 64, 32, 3]
