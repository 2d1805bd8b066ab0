"""Bring an ONNX file into the form of this project's own exports.

The graph gets one input `input`, float32 [batch, 3, height, width], normalised, and the outputs
that its codec decodes, by their names and with their axes.  What a graph does not allow stays as it
is, and is said.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from hrnetpose.artifacts.model import OnnxOrigin, Tensor
from hrnetpose.graphs import onnx_graph
from hrnetpose.graphs.onnx_graph import INPUT, OPSET
from hrnetpose.models.onnx_card import OnnxDescription
from hrnetpose.models.onnx_file import OriginalGraph
from hrnetpose.stage import StageError

Array = npt.NDArray[np.float32]
IR_VERSION = 8
"""That of opset 17; before version 4 weights had to be inputs, too."""
TOLERANCE = 1e-4
"""Largest relative error of a graph that was brought to another opset or batch."""
HALF_TOLERANCE = 2e-2
"""The same where the graph computes in 16 or 8 bits."""
_WEIGHTS = {
    **dict.fromkeys((
        "Conv", "ConvTranspose", "ConvInteger", "MatMul", "MatMulInteger", "Gemm",
        # ONNX Runtime's own
        "FusedConv", "FusedGemm", "FusedMatMul",
    ), 1),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "QGemm"), 3),
}  # fmt: skip
"""Layers whose operations are counted -> the input that is their weights."""
IMAGES = 3
"""A graph with a batch is tried with so many, and with two."""


def fixed_images(described: OnnxDescription, count: int = IMAGES) -> Array:
    """Return normalised images [N, 3, H, W] that are the same every time."""
    shape = (count, described.crop.height, described.crop.width, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    normalised = (pixels - np.array(described.mean)) / np.array(described.std)
    return np.ascontiguousarray(normalised.transpose(0, 3, 1, 2).astype(np.float32))


def normalise(
    model: onnx.ModelProto, origin: OnnxOrigin, described: OnnxDescription, original: OriginalGraph
) -> tuple[onnx.ModelProto, list[Tensor], int | None]:
    """Return the graph in the form of an export, its outputs and its fixed batch, if it has one.

    Args:
        model: the graph of the file; it is not changed.
        origin: how its ends become the card's.
        described: its card; notes are added to it.
        original: the file, which says what is right.

    Raises:
        StageError: the outputs are not finite, or no form of the graph gives what the file gives.
    """
    images = fixed_images(described)
    expected = original.run(origin, images)
    if not all(np.isfinite(values).all() for values in expected):
        raise StageError(f"{original.path}: its outputs are not finite; the file is broken")
    tolerance = TOLERANCE if onnx_graph.held_precision(model) == "fp32" else HALF_TOLERANCE
    plain = _with_ends(model, origin, described)
    batch = origin.input.shape[0]
    fixed = batch if isinstance(batch, int) else 1

    def is_right(graph: onnx.ModelProto, size: int) -> bool:
        try:
            found = _run(graph, images, size)
        except StageError:
            return False
        return all(
            a.shape == b.shape and onnx_graph.relative_error(a, b) <= tolerance
            for a, b in zip(found, expected, strict=True)
        )

    for graph, note in _forms(plain):
        dynamic = _find_dynamic(
            graph, fixed, lambda one: is_right(one, 2) and is_right(one, IMAGES)
        )
        if dynamic is not None:
            _declare(dynamic, described, expected, None)
            described.notes += note
            return dynamic, _describe_outputs(dynamic), None
        if is_right(graph, fixed):
            _declare(graph, described, expected, fixed)
            described.notes += [
                *note,
                f"the graph takes batches of {fixed} and no other: it holds that number inside; "
                "engines keep it",
            ]
            return graph, _describe_outputs(graph), fixed
    raise StageError(
        f"{original.path}: in the form of an export the graph does not give what the file gives; "
        "please report this with the file"
    )


def _forms(plain: onnx.ModelProto) -> Iterator[tuple[onnx.ModelProto, list[str]]]:
    """Yield the graph in the opset of exports, if its own is older, then as it is."""
    own, reason = onnx_graph.opset_of(plain), "there it gives something else"
    if own >= OPSET:
        yield plain, []
        return
    try:
        converted = onnx.version_converter.convert_version(plain, OPSET)
        converted.ir_version = max(converted.ir_version, IR_VERSION)
    except Exception as error:  # of C++, without a common base
        reason = str(error).strip().split("\n")[0][:200]
    else:
        yield converted, []
    yield plain, [f"the graph stays at opset {own}: it cannot be brought to {OPSET} ({reason})"]


def _find_dynamic(
    graph: onnx.ModelProto, fixed: int, is_right: Callable[[onnx.ModelProto], bool]
) -> onnx.ModelProto | None:
    """Return the graph with a dynamic batch if there is one that gives the same; else None."""
    for frees in (False, True):
        candidate = onnx.ModelProto()
        candidate.CopyFrom(graph)
        if frees:
            _free_reshapes(candidate, fixed)
        candidate.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
        for value in candidate.graph.output:
            value.type.tensor_type.ClearField("shape")
        del candidate.graph.value_info[:]
        if is_right(candidate):
            return candidate
    return None


def _free_reshapes(model: onnx.ModelProto, fixed: int) -> None:
    """Let the first dimension that a Reshape gives be free, where it is the number of the batch."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    taken = set(_list_names(graph))
    for node in graph.node:
        tensor = constants.get(node.input[1]) if node.op_type == "Reshape" else None
        if tensor is None:
            continue
        shape = numpy_helper.to_array(tensor)
        if shape.ndim != 1 or len(shape) < 2 or shape[0] != fixed:
            continue
        # 0 takes the dimension of what is reshaped; -1 works out what is left.
        freed = np.array([0 if -1 in shape else -1, *shape[1:]], np.int64)
        name = _unused(taken, f"{node.output[0]}_shape")
        graph.initializer.append(numpy_helper.from_array(freed, name))
        node.input[1] = name


def _with_ends(
    model: onnx.ModelProto, origin: OnnxOrigin, described: OnnxDescription
) -> onnx.ModelProto:
    """Return the graph with the ends of an export, and nothing that these do not need."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    result.ir_version = max(result.ir_version, IR_VERSION)
    graph = result.graph
    _store_constants(graph)
    for node in graph.node:
        if node.op_type == "BatchNormalization":
            _mend_batch_normalization(node, result)
    names = [INPUT, *described.codec.OUTPUTS]
    used = [origin.input.name, *(end.name for end in origin.outputs)]
    # Those of something inside, and the ends' own: all make room for what is put around them.
    taken = {*_list_names(graph), *names}
    inside = {name: _unused(taken, f"{name}_inside") for name in dict.fromkeys([*names, *used])}
    for old, new in inside.items():
        _rename(graph, old, new)
    before = _input_nodes(origin, inside[origin.input.name], taken)
    after = [
        node
        for end, name in zip(origin.outputs, names[1:], strict=True)
        for node in _output_nodes(end, inside[end.name], name, taken)
    ]
    nodes = [*before, *graph.node, *after]
    del graph.input[:], graph.output[:], graph.value_info[:]
    batch = origin.input.shape[0]
    crop = described.crop
    shape: list[Any] = [batch, 3, crop.height, crop.width]
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, shape))
    graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names[1:]
    )
    kept = [
        onnx.NodeProto.FromString(node.SerializeToString()) for node in _needed(nodes, names[1:])
    ]
    del graph.node[:]
    graph.node.extend(kept)
    wanted = {name for node in kept for name in _names_in(node)}
    stored = [
        TensorProto.FromString(tensor.SerializeToString())
        for tensor in graph.initializer
        if tensor.name in wanted
    ]
    del graph.initializer[:]
    graph.initializer.extend(stored)
    return result


def _store_constants(graph: onnx.GraphProto) -> None:
    """Store the weights that a graph has in nodes, as Paddle's converter writes them, as such."""
    kept = []
    for node in graph.node:
        tensor = next((one.t for one in node.attribute if one.name == "value"), None)
        if node.op_type == "Constant" and tensor is not None:
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
        else:
            kept.append(onnx.NodeProto.FromString(node.SerializeToString()))
    del graph.node[:]
    graph.node.extend(kept)


def _unused(taken: set[str], wanted: str) -> str:
    """Take a name that is not taken yet: the one wanted, or it with a number."""
    numbered = (f"{wanted}_{number}" for number in itertools.count(1))
    name = next(name for name in itertools.chain([wanted], numbered) if name not in taken)
    taken.add(name)
    return name


def _list_names(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield the names of the tensors of a graph and of the graphs inside it."""
    yield from (one.name for one in (*graph.input, *graph.output, *graph.initializer))
    for node in graph.node:
        yield from (*node.input, *node.output)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _list_names(inner)


def _mend_batch_normalization(node: onnx.NodeProto, model: onnx.ModelProto) -> None:
    """Leave out `spatial=0` where there is one number for each channel: MXNet wrote it in error."""
    scale = next((one for one in model.graph.initializer if one.name == node.input[1]), None)
    if scale is not None and len(scale.dims) == 1:
        kept = [one for one in node.attribute if one.name != "spatial"]
        copies = [onnx.AttributeProto.FromString(one.SerializeToString()) for one in kept]
        del node.attribute[:]
        node.attribute.extend(copies)


def _input_nodes(origin: OnnxOrigin, target: str, taken: set[str]) -> list[onnx.NodeProto]:
    """Return the nodes from an export's input to the file's own."""
    steps: list[tuple[str, dict[str, Any]]] = []
    if origin.input.axes != [0, 1, 2, 3]:
        steps.append(("Transpose", {"perm": np.argsort(origin.input.axes).tolist()}))
    if origin.input.dtype != "float32":
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(origin.input.dtype))
        steps.append(("Cast", {"to": kind}))
    return _chain(INPUT, target, steps, taken)


def _output_nodes(end: Any, source: str, target: str, taken: set[str]) -> list[onnx.NodeProto]:
    """Return the nodes from an output of the file to the card's."""
    steps: list[tuple[str, dict[str, Any]]] = []
    if end.dtype != "float32":
        steps.append(("Cast", {"to": TensorProto.FLOAT}))
    if not end.batched:
        shape = [1, *map(int, end.shape)]
        steps.append(("Reshape", {"shape": shape}))
    if end.axes != sorted(end.axes):
        steps.append(("Transpose", {"perm": end.axes}))
    return _chain(source, target, steps, taken)


def _chain(
    source: str, target: str, steps: list[tuple[str, dict[str, Any]]], taken: set[str]
) -> list[onnx.NodeProto]:
    nodes = []
    steps = steps or [("Identity", {})]
    for number, (kind, attributes) in enumerate(steps):
        is_last = number == len(steps) - 1
        output = target if is_last else _unused(taken, f"{target}_{number}")
        inputs = [source]
        if shape := attributes.pop("shape", None):
            inputs.append(_unused(taken, f"{target}_shape"))
            constant = helper.make_tensor(inputs[1], TensorProto.INT64, [len(shape)], shape)
            nodes.append(helper.make_node("Constant", [], [inputs[1]], value=constant))
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        source = output
    return nodes


def _needed(nodes: list[onnx.NodeProto], outputs: list[str]) -> list[onnx.NodeProto]:
    """Return the nodes that some outputs need, in their order."""
    wanted, found = set(outputs), []
    for node in reversed(nodes):
        if wanted & set(node.output):
            found.append(node)
            wanted |= set(_names_in(node))
    return found[::-1]


def _names_in(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names that a node takes, those in its inner graphs with them."""
    yield from node.input
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            for one in inner.node:
                yield from _names_in(one)
            yield from (value.name for value in inner.output)


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Rename a tensor in a graph and in the graphs inside it."""
    for value in (*graph.input, *graph.output, *graph.initializer):
        if value.name == old:
            value.name = new
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _rename(inner, old, new)


def _run(graph: onnx.ModelProto, images: Array, size: int) -> list[Array]:
    """Run images in batches; what is left over of the last one is cut off."""
    from hrnetpose import batches
    from hrnetpose.graphs.quantize import Session

    call = Session(graph, optimised=False)
    return batches.run_in_full(lambda full: call({INPUT: full}), images, size)


def _declare(
    graph: onnx.ModelProto, described: OnnxDescription, outputs: list[Array], batch: int | None
) -> None:
    """Declare the shapes of the ends."""
    crop, first = described.crop, batch or "batch"
    shape = [first, 3, crop.height, crop.width]
    graph.graph.input[0].CopyFrom(helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, shape))
    for value, values in zip(graph.graph.output, outputs, strict=True):
        shape = [first, *values.shape[1:]]
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, shape))


def _describe_outputs(graph: onnx.ModelProto) -> list[Tensor]:
    return [
        Tensor(
            name=value.name,
            shape=[dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
            dtype="float32",
        )
        for value in graph.graph.output
    ]


def count_parameters(model: onnx.ModelProto) -> int:
    """Count the numbers that a graph stores in a floating-point or 8-bit type."""
    kinds = {
        TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE,
        TensorProto.INT8, TensorProto.UINT8, *onnx_graph.FP8,
    }  # fmt: skip
    return sum(
        math.prod(tensor.dims) for tensor in model.graph.initializer if tensor.data_type in kinds
    )


def count_macs(model: onnx.ModelProto, batch: int, image: Array) -> int:
    """Count the multiply-accumulate operations of convolutions and products for one image.

    Args:
        model: the graph.
        batch: images that it takes.
        image: float32 [1, 3, H, W].
    """
    from hrnetpose.graphs.quantize import Session

    layers = [node for node in model.graph.node if node.op_type in _WEIGHTS]
    tensors = {name for node in layers for name in _operands(node)}
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    stored = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    asked, taken = sorted(tensors - stored.keys()), set(_list_names(model.graph))
    for number, name in enumerate(asked):
        shape = _unused(taken, f"shape_{number}")
        probe.graph.node.append(helper.make_node("Shape", [name], [shape]))
        probe.graph.output.append(helper.make_tensor_value_info(shape, TensorProto.INT64, None))
    found = Session(probe, optimised=False)({INPUT: np.repeat(image, batch, axis=0)})
    shapes = stored | {name: tuple(map(int, one)) for name, one in zip(asked, found, strict=True)}
    total = 0
    for node in layers:
        first, second, out = (shapes[name] for name in _operands(node))
        if node.op_type.endswith(("Conv", "ConvInteger")):
            total += math.prod(out) * math.prod(second[1:])
        elif node.op_type == "ConvTranspose":
            total += math.prod(first) * math.prod(second[1:])
        else:
            transposed = any(one.name == "transA" and one.i for one in node.attribute)
            total += math.prod(out) * first[-2 if transposed else -1]
    return total // batch


def _operands(node: onnx.NodeProto) -> tuple[str, str, str]:
    """Return what a layer takes, its weights, and what it gives."""
    return node.input[0], node.input[_WEIGHTS[node.op_type]], node.output[0]
