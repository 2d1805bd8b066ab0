"""ONNX graphs: checks, counts, comparison, precision and the pixel input that engines take."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, inliner, numpy_helper

from hrnetpose import batches, files
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.recipes import Precision
from hrnetpose.stage import StageError

Floats = npt.NDArray[np.float32]

INPUT, OPSET = "input", 17
"""Of all graphs that this project makes, but where an opset is too old for what is in them."""
CROPS = "crops"
"""The input that `with_pixel_input` gives a graph."""
_QUANTISED = {
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul",
    "ConvInteger", "MatMulInteger", "QGemm",
}  # fmt: skip
FP8 = {
    TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E4M3FNUZ, TensorProto.FLOAT8E5M2,
    TensorProto.FLOAT8E5M2FNUZ,
}  # fmt: skip


def read(path: Path, weights: bool = True) -> onnx.ModelProto:
    """Read a graph, and what it keeps in files beside it unless `weights` is false.

    What it defines as functions of its own is put in their place: all that looks for nodes finds
    them.

    Raises:
        StageError: the file is missing or is no ONNX model.
    """
    try:
        model = onnx.load(path, load_external_data=weights)
        if model.functions:
            model = inliner.inline_local_functions(model)
    except FileNotFoundError as error:
        raise StageError(f"{path}: there is no such ONNX file") from error
    except Exception as error:
        with path.open("rb") as file:
            stand_in = files.describe_stand_in(file.read(4096))
        if stand_in:
            raise StageError(f"{path}: not an ONNX model but {stand_in}") from error
        raise StageError(f"{path}: not an ONNX model ({error}); export it again") from error
    for part in ("node", "input", "output"):
        if not getattr(model.graph, part):
            raise StageError(
                f"{path}: not an ONNX model (its graph has no {part}); export it again"
            )
    return model


def check(path: Path) -> None:
    """Run ONNX's checker with shape inference.

    Raises:
        StageError: with what the checker found.
    """
    try:
        onnx.checker.check_model(read(path), full_check=True)
    except StageError:
        raise
    except Exception as error:  # ValidationError, InferenceError, ValueError: no common base
        raise StageError(f"{path}: not a valid ONNX graph: {error}") from error


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operators."""
    return next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)


def held_precision(model: onnx.ModelProto) -> Precision:
    """Return what a graph holds: int8 or fp8 if it is quantised, else what its weights are in."""
    sizes: Counter[int] = Counter()
    tensors = [
        *model.graph.initializer,
        *(one.t for node in model.graph.node if node.op_type == "Constant"
          for one in node.attribute if one.HasField("t")),
    ]  # fmt: skip
    for tensor in tensors:
        sizes[tensor.data_type] += math.prod(tensor.dims)
    if any(node.op_type in _QUANTISED for node in model.graph.node):
        return "fp8" if sizes.keys() & FP8 else "int8"
    floats: dict[int, Precision] = {
        TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16", TensorProto.BFLOAT16: "bf16",
    }  # fmt: skip
    return floats[max(floats, key=lambda kind: sizes[kind])]


def output_shapes(model: onnx.ModelProto) -> dict[str, list[int | str]]:
    """Return the shapes of the outputs by name; a dynamic dimension is its name."""
    inferred = onnx.shape_inference.infer_shapes(model)
    return {
        output.name: [dim.dim_param or dim.dim_value for dim in output.type.tensor_type.shape.dim]
        for output in inferred.graph.output
    }


def with_output_shapes(
    model: onnx.ModelProto, shapes: Iterable[Sequence[int | str]]
) -> onnx.ModelProto:
    """Return the graph with the shapes of its outputs declared; a string is a dynamic axis."""
    declared = onnx.ModelProto()
    declared.CopyFrom(model)
    for output, shape in zip(declared.graph.output, shapes, strict=True):
        kind = output.type.tensor_type.elem_type
        output.CopyFrom(helper.make_tensor_value_info(output.name, kind, shape))
    return declared


def fixed_inputs(card: ModelCard, batch: int = 2) -> npt.NDArray[np.float32]:
    """Return normalised NCHW images that are the same every time, for comparing graphs."""
    shape = (batch, card.crop.height, card.crop.width, 3)
    return normalised(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), card)


def normalised(crops: npt.NDArray[np.uint8], card: ModelCard) -> npt.NDArray[np.float32]:
    """Return crops as the graphs take them.

    Args:
        crops: uint8 [N, H, W, 3] RGB.
        card: mean, standard deviation and channel order.

    Returns:
        float32 [N, 3, H, W].
    """
    pixels = crops[..., ::-1] if card.channel_order == "BGR" else crops
    mean, std = np.array(card.mean, np.float32), np.array(card.std, np.float32)
    return np.ascontiguousarray(((pixels - mean) / std).transpose(0, 3, 1, 2))


def run(
    model: Path, images: npt.NDArray[Any], names: Sequence[str] | None = None, threads: int = 0
) -> list[Floats]:
    """Run a graph in ONNX Runtime on the CPU: the judge when two graphs are compared.

    Args:
        model: the graph.
        images: float32 [N, 3, H, W], normalised.
        names: of the outputs; all of the graph's without them.
        threads: CPU threads; 0: as many as there are cores.

    Returns:
        The outputs, float32 [N, ...] each.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    # Graph optimisations would blur what is compared.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
        source = session.get_inputs()[0]
        batch = source.shape[0] if isinstance(source.shape[0], int) else max(len(images), 1)
        return batches.run_in_full(
            lambda full: session.run(names, {source.name: full}), images, batch
        )
    except Exception as error:
        raise StageError(f"{model}: ONNX Runtime cannot run it: {error}") from error


def relative_error(values: Floats, reference: Floats) -> float:
    """Return ||values - reference|| / ||reference||; NaN counts as infinite."""
    norm = float(np.linalg.norm(reference)) or 1.0
    error = float(np.linalg.norm(values - reference)) / norm
    return error if math.isfinite(error) else math.inf


def largest_error(outputs: Sequence[Floats], reference: Sequence[Floats]) -> float:
    """Return the relative error of the output for which it is the largest."""
    return max(relative_error(*pair) for pair in zip(outputs, reference, strict=True))


def with_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """Return a copy of the graph, brought to an opset if its own is older."""
    if opset_of(model) < opset:
        return onnx.version_converter.convert_version(model, opset)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def with_batch(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """Return the graph with its first input fixed to a batch."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    for value in (*fixed.graph.output, *fixed.graph.value_info):
        value.type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(fixed)


def with_pixel_input(model: onnx.ModelProto, card: ModelCard) -> onnx.ModelProto:
    """Return the graph with normalisation and layout inside.

    The new input `crops` is uint8 [N, H, W, 3] in RGB: a quarter of the bytes of the float
    tensor, and nothing left to do for the caller.
    """
    pixels = onnx.ModelProto()
    pixels.CopyFrom(model)
    graph = pixels.graph
    constants = {
        "crops_mean": np.array(card.mean, np.float32),
        "crops_std": np.array(card.std, np.float32),
    }
    # First of all floats: TensorRT can do nothing else with bytes.
    nodes = [helper.make_node("Cast", [CROPS], ["crops_float"], to=TensorProto.FLOAT)]
    source = "crops_float"
    if card.channel_order == "BGR":
        constants["crops_channels"] = np.array([2, 1, 0], np.int64)
        nodes.append(helper.make_node("Gather", [source, "crops_channels"], ["crops_bgr"], axis=3))
        source = "crops_bgr"
    nodes += [
        helper.make_node("Sub", [source, "crops_mean"], ["crops_centred"]),
        helper.make_node("Div", ["crops_centred", "crops_std"], ["crops_normalised"]),
        helper.make_node(
            "Transpose", ["crops_normalised"], [graph.input[0].name], perm=[0, 3, 1, 2]
        ),
    ]
    shape = [card.input.shape[0], card.crop.height, card.crop.width, 3]
    graph.input[0].CopyFrom(helper.make_tensor_value_info(CROPS, TensorProto.UINT8, shape))
    graph.initializer.extend(
        numpy_helper.from_array(values, name) for name, values in constants.items()
    )
    nodes += graph.node
    del graph.node[:]
    graph.node.extend(nodes)
    return pixels
