"""Static int8 quantisation of an ONNX graph, as explicit QuantizeLinear/DequantizeLinear pairs.

A layer is a dense convolution with constant weights.  An int8 layer takes its activations from a
pair of Q/DQ nodes (per tensor) and its weights from a DQ node (symmetric, per output channel); its
bias stays fp32.  This is the form that ONNX Runtime, OpenVINO and TensorRT's explicit quantisation
take.  Additions, resizes and concatenations stay in floating point: they gather the large values
of the residual stream, where eight bits lose most, and hold little of the arithmetic.

`onnxruntime.quantization` could write such graphs, but sensitivity.py needs layers one by one, to
hold each twice in one graph and switch them by an input, and with that there is no more to write.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from hrnetpose import batches
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.graphs import onnx_graph
from hrnetpose.stage import StageError

BATCH = 16
OPSET = 13
"""The first one whose DequantizeLinear has scales per channel."""

Crops = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Ranges = dict[str, tuple[float, float]]
"""The least and the greatest value of each tensor that a layer takes."""
Quantised = tuple[list[NodeProto], list[TensorProto]]
"""What takes a layer's place: nodes in the order that they run in, and their constants."""


def layers(model: onnx.ModelProto) -> dict[str, NodeProto]:
    """Return the layers that can be quantised, by name, in the order of the graph.

    Depthwise and grouped convolutions are not among them: with one input channel or a few for each
    output channel, they gain little from int8 and lose most.  A node without a name goes by its
    output's.

    Raises:
        StageError: there are none, or the graph's opset is too old.
    """
    if (opset := onnx_graph.opset_of(model)) < OPSET:
        raise StageError(f"the graph's opset is {opset}; int8 needs {OPSET} or later")
    constants = {tensor.name for tensor in model.graph.initializer}
    found = {
        _name(node): node
        for node in model.graph.node
        if node.op_type == "Conv" and node.input[1] in constants and _groups(node) == 1
    }
    if not found:
        raise StageError("the graph has no dense convolution with constant weights to quantise")
    return found


def calibrate(model: onnx.ModelProto, crops: Crops, card: ModelCard) -> Ranges:
    """Return the range of all tensors that layers take, over all crops.

    Args:
        model: the fp32 graph.
        crops: uint8 [N, H, W, 3] RGB, N >= 1.
        card: says how crops are normalised.

    Raises:
        StageError: there are no crops, the graph has no layers, or a value is not finite.
    """
    if (held := onnx_graph.held_precision(model)) != "fp32":
        raise StageError(
            f"the graph holds {held} already, and nothing else can be made of it; ask for "
            f"`precision: {held}` and run again: it is then taken as it is"
        )
    if not len(crops):
        raise StageError("int8 calibration needs at least one person, but the crops are empty")
    tensors = list(dict.fromkeys(node.input[0] for node in layers(model).values()))
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    for number, tensor in enumerate(tensors):
        for kind in ("Min", "Max"):
            name = f"calibration_{kind}_{number}"
            probe.graph.node.append(helper.make_node(f"Reduce{kind}", [tensor], [name], keepdims=0))
            probe.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, []))
    logging.info("calibrating on %d crops", len(crops))
    extremes = np.array(list(run(probe, crops, card)))
    low, high = extremes[:, ::2].min(axis=0), extremes[:, 1::2].max(axis=0)
    finite = np.isfinite(low) & np.isfinite(high)
    if not finite.all():
        raise StageError(f"the values of {tensors[int(finite.argmin())]} are not finite")
    bounds = zip(low.tolist(), high.tolist(), strict=True)
    return dict(zip(tensors, bounds, strict=True))


def insert(
    model: onnx.ModelProto, ranges: Ranges, chosen: Collection[str], symmetric: bool = False
) -> onnx.ModelProto:
    """Return the graph with the chosen layers in int8 and all others as they were.

    Args:
        model: the fp32 graph; it is not changed.
        ranges: what `calibrate` returned.
        chosen: names of layers.
        symmetric: activations have the zero point 0.

    Raises:
        KeyError: a name is not a layer's.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    found = layers(result)

    def quantise(node: NodeProto, weights: TensorProto) -> Quantised:
        return quantised(node, weights, ranges[node.input[0]], symmetric)

    replace_layers(result.graph, [found[name] for name in chosen], quantise)
    return result


def replace_layers(
    graph: onnx.GraphProto,
    chosen: Iterable[NodeProto],
    quantise: Callable[[NodeProto, TensorProto], Quantised],
) -> None:
    """Put what is quantised in the place of layers, in place; unused initializers are dropped.

    Args:
        graph: what is changed.
        chosen: layers of the graph.
        quantise: takes a layer and its weights, returns what takes its place.
    """
    outputs = {node.output[0] for node in chosen}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes: dict[str, NodeProto] = {}
    constants: dict[str, TensorProto] = {}
    for node in graph.node:
        if node.output[0] not in outputs:
            nodes[node.output[0]] = node
            continue
        added, stored = quantise(node, weights[node.input[1]])
        # Layers with the same input or the same weights share the nodes in front of them.
        nodes |= {one.output[0]: one for one in added if one.output[0] not in nodes}
        constants |= {tensor.name: tensor for tensor in stored}
    # Copies: deleting what a graph holds would empty the nodes that are to stay.
    ordered = [NodeProto.FromString(node.SerializeToString()) for node in nodes.values()]
    used = {name for node in ordered for name in node.input}
    kept = [
        TensorProto.FromString(tensor.SerializeToString())
        for tensor in graph.initializer
        if tensor.name in used
    ]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(ordered)
    graph.initializer.extend([*kept, *constants.values()])


def quantised(
    node: NodeProto, weights: TensorProto, bounds: tuple[float, float], symmetric: bool
) -> Quantised:
    """Return a layer in int8.

    Args:
        node: the layer; it is not changed.
        weights: its weights, float32 [O, I, ...].
        bounds: the least and the greatest value of its input.
        symmetric: activations have the zero point 0.
    """
    scale, zero = activation_scale(*bounds, symmetric)
    scales, whole = _int8_weights(numpy_helper.to_array(weights))
    return explicit(
        node,
        "int8",
        (np.array(scale, np.float32), np.array(zero, np.int8)),
        (whole, scales, np.zeros(len(scales), np.int8)),
    )


def explicit(
    node: NodeProto, kind: str, activations: tuple[Any, Any], weights: tuple[Any, Any, Any]
) -> Quantised:
    """Return a layer with its quantisation in nodes of its own.

    Args:
        node: the layer; it is not changed.
        kind: what its weights are stored in.
        activations: scale and zero point of its input, each a scalar.
        weights: as they are stored [O, I, ...], their scales and zero points: scalars, or [O].

    Returns:
        Four nodes: Q and DQ of the input, DQ of the weights, the layer; and their constants.
    """
    source, kernel = node.input[0], node.input[1]
    taken = [f"{source}_scale", f"{source}_zero"]
    stored = [f"{kernel}_{kind}", f"{kernel}_scale", f"{kernel}_zero"]
    by_channel = {"axis": 0} if weights[1].ndim else {}
    layer = NodeProto()
    layer.CopyFrom(node)
    layer.input[0], layer.input[1] = f"{source}_dq", f"{kernel}_dq"
    nodes = [
        _node("QuantizeLinear", [source, *taken], f"{source}_q"),
        _node("DequantizeLinear", [f"{source}_q", *taken], f"{source}_dq"),
        _node("DequantizeLinear", stored, f"{kernel}_dq", **by_channel),
        layer,
    ]
    constants = zip([*taken, *stored], [*activations, *weights], strict=True)
    return nodes, [numpy_helper.from_array(array, name) for name, array in constants]


def activation_scale(low: float, high: float, symmetric: bool) -> tuple[float, int]:
    """Return the scale and the int8 zero point that span a range and hold 0 exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    if symmetric:
        return max(-low, high) / 127 or 1.0, 0
    scale = (high - low) / 255 or 1.0
    return scale, round(-128 - low / scale)


def run(
    model: onnx.ModelProto, crops: Crops, card: ModelCard, names: Sequence[str] | None = None
) -> Iterator[list[Floats]]:
    """Yield the outputs of a graph for each batch of crops, from ONNX Runtime.

    Args:
        model: the graph.
        crops: uint8 [N, H, W, 3] RGB.
        card: says how crops are normalised.
        names: of the outputs; all of the graph's without them.

    Raises:
        StageError: ONNX Runtime cannot run the graph.
    """
    call = Session(model)
    size = card.fixed_batch or BATCH
    for start in range(0, len(crops), size):
        given = crops[start : start + size]
        images = onnx_graph.normalised(
            batches.pad(given, size) if card.fixed_batch else given, card
        )
        outputs = call({card.input.name: images}, names)
        yield [values[: len(given)] if values.ndim else values for values in outputs]


class Session:
    """A graph in ONNX Runtime: called with inputs by name, it returns the outputs, or some by name.

    Args:
        model: the graph.
        optimised: whether ONNX Runtime may change it first.

    Raises:
        StageError: ONNX Runtime cannot load it or cannot run it.
    """

    def __init__(self, model: onnx.ModelProto, optimised: bool = True) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3 if optimised else 4
        if not optimised:
            level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.graph_optimization_level = level
        try:
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise StageError(f"ONNX Runtime cannot load the graph: {error}") from error

    def __call__(
        self, inputs: dict[str, npt.NDArray[Any]], names: Sequence[str] | None = None
    ) -> list[Floats]:
        try:
            return self._session.run(names, inputs)
        except Exception as error:
            raise StageError(f"ONNX Runtime cannot run the graph: {error}") from error


def _name(node: NodeProto) -> str:
    return node.name or node.output[0]


def _node(kind: str, inputs: list[str], output: str, **attributes: int) -> NodeProto:
    return helper.make_node(kind, inputs, [output], name=output, **attributes)


def _groups(node: NodeProto) -> int:
    return next((entry.i for entry in node.attribute if entry.name == "group"), 1)


def _int8_weights(values: Floats) -> tuple[Floats, npt.NDArray[np.int8]]:
    """Return scales [O] and whole numbers [O, I, ...], of which -128 is not used."""
    shape = (-1,) + (1,) * (values.ndim - 1)
    peaks = np.abs(values).reshape(len(values), -1).max(axis=1)
    scales = np.where(peaks > 0, peaks / 127, 1).astype(np.float32)
    return scales, np.clip(np.rint(values / scales.reshape(shape)), -127, 127).astype(np.int8)
