"""The graphs for GPUs: fp8, int8 beside fp16, bfloat16; valid, explicit and close."""

from collections import Counter
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper

from hrnetpose.artifacts.model import ModelCard
from hrnetpose.graphs import fp8, half_precision, onnx_graph
from hrnetpose.stage import StageError


def initializers(model: onnx.ModelProto) -> dict[str, Any]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.mark.parametrize("graph", ["bf16", "int8-fp16", "fp8"])
def test_the_graph_is_valid_and_called_like_all_others(tiny: Path, graph: str) -> None:
    onnx_graph.check(tiny / f"{graph}.onnx")

    model = onnx_graph.read(tiny / f"{graph}.onnx")
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert model.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert onnx_graph.output_shapes(model) == {"heatmaps": ["batch", 17, 16, 8]}
    assert Counter(node.op_type for node in model.graph.node)["Cast"] == 2


@pytest.mark.parametrize(("graph", "limit"), [("int8-fp16", 0.2), ("fp8", 0.5)])
def test_the_graph_is_close_to_the_original(tiny: Path, graph: str, limit: float) -> None:
    """E4M3 has three bits of mantissa: each layer is off by some 5 %."""
    images = onnx_graph.fixed_inputs(ModelCard.read(tiny / "model.json"), 3)

    error = onnx_graph.largest_error(
        onnx_graph.run(tiny / f"{graph}.onnx", images), onnx_graph.run(tiny / "fp32.onnx", images)
    )

    assert 0 < error < limit


@pytest.mark.parametrize(
    ("graph", "kind"), [("int8-fp16", np.dtype(np.int8)), ("fp8", np.dtype(fp8.E4M3))]
)
def test_weights_are_stored_small_and_zero_points_are_zero(
    tiny: Path, graph: str, kind: np.dtype[Any]
) -> None:
    model = onnx_graph.read(tiny / f"{graph}.onnx")
    constants = initializers(model)
    nodes = [n for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]

    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    made_by = {node.output[0]: node for node in nodes}
    for convolution in convolutions:
        assert made_by[convolution.input[0]].op_type == "DequantizeLinear"
        assert constants[made_by[convolution.input[1]].input[0]].dtype == kind
    for node in nodes:
        assert constants[node.input[1]].dtype == np.float16
        assert (constants[node.input[1]] > 0).all()
        assert constants[node.input[2]].dtype == kind
        assert not constants[node.input[2]].astype(np.float32).any()


def test_bfloat16_holds_what_it_can(tiny: Path) -> None:
    """ONNX Runtime has no code for it, so that values are looked at."""
    before = initializers(onnx_graph.read(tiny / "fp32.onnx"))
    after = initializers(onnx_graph.read(tiny / "bf16.onnx"))

    changed = {n for n, values in after.items() if values.dtype == ml_dtypes.bfloat16}
    assert {name for name, values in before.items() if values.ndim == 4} <= changed
    for name in changed:
        error = np.abs(after[name].astype(np.float32) - before[name])
        assert (error <= np.abs(before[name]) * 2**-8).all()


@given(peak=st.floats(1e-9, 2e7))
def test_a_scale_spans_the_peak_and_fp16_holds_it(peak: float) -> None:
    scale = float(fp8.scale(peak))

    assert scale > 0
    assert float(np.float16(scale)) == scale
    assert scale * fp8.LARGEST >= peak * (1 - 1e-6)


def test_what_lies_beyond_e4m3_becomes_its_largest_value() -> None:
    values = np.array([-1e4, -448, -0.1, 0, 17, 450, 1e4], np.float32)

    found = fp8.to_e4m3(values).astype(np.float32)

    assert found.tolist() == pytest.approx([-448, -448, -0.1015625, 0, 16, 448, 448])


def test_a_scale_that_fp16_cannot_hold_does_not_become_zero(tiny: Path) -> None:
    model = onnx_graph.read(tiny / "int8.onnx")
    scale = next(n for n in model.graph.node if n.op_type == "DequantizeLinear").input[1]
    tensor = next(t for t in model.graph.initializer if t.name == scale)
    tiny_scale = numpy_helper.to_array(tensor) * np.float32(0) + np.float32(1e-12)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(tiny_scale, np.float32), scale))

    assert (initializers(half_precision.to_fp16(model))[scale] > 0).all()


def test_calibration_without_crops_is_refused(tiny: Path) -> None:
    none = np.zeros((0, 64, 32, 3), np.uint8)

    with pytest.raises(StageError, match="calibration needs at least one person"):
        fp8.to_fp8(onnx_graph.read(tiny / "fp32.onnx"), none, ModelCard.read(tiny / "model.json"))


def test_a_graph_is_fixed_to_a_batch(tiny: Path) -> None:
    fixed = onnx_graph.with_batch(onnx_graph.read(tiny / "fp32.onnx"), 5)

    onnx.checker.check_model(fixed, full_check=True)
    assert onnx_graph.output_shapes(fixed) == {"heatmaps": [5, 17, 16, 8]}
