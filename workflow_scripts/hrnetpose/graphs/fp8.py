"""Static fp8 quantisation of an ONNX graph, as explicit QuantizeLinear/DequantizeLinear pairs.

The form that TensorRT takes on GPUs with fp8 units (compute capability 8.9 and later): E4M3
(ONNX's FLOAT8E4M3FN, largest value 448), scales per tensor, no zero points, fp16 for all else.
Calibration and candidate layers are those of int8 (quantize.py).

NVIDIA ModelOpt could write such graphs, but its ONNX extra installs GPU packages, this stage runs
on a CPU, and with int8's layers and ranges only the insertion of the nodes is left to do.
"""

import logging

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from hrnetpose.artifacts.model import ModelCard
from hrnetpose.graphs import half_precision, onnx_graph, quantize
from hrnetpose.graphs.quantize import Crops, Floats, Ranges

E4M3 = ml_dtypes.float8_e4m3fn
LARGEST = 448.0


def to_fp8(model: onnx.ModelProto, crops: Crops, card: ModelCard) -> onnx.ModelProto:
    """Returns the fp8 graph: dense convolutions in fp8, all else in fp16.

    Args:
        model: the fp32 graph; it is not changed.
        crops: uint8 [N, H, W, 3] RGB calibration crops, N >= 1.
        card: says how crops are normalised.

    Raises:
        StageError: there are no crops, or the graph cannot be quantised.
    """
    return half_precision.to_fp16(insert(model, quantize.calibrate(model, crops, card)))


def insert(model: onnx.ModelProto, ranges: Ranges) -> onnx.ModelProto:
    """Returns the graph with its dense convolutions in fp8, and all else as it was.

    Args:
        model: the fp32 graph; it is not changed.
        ranges: the least and the greatest value of what each layer takes.
    """
    result = onnx_graph.with_opset(model, half_precision.QDQ_HALF_OPSET)
    graph = result.graph
    layers = {node.output[0] for node in quantize.layers(result).values()}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes: dict[str, NodeProto] = {}
    constants: dict[str, TensorProto] = {}
    for node in graph.node:
        if node.output[0] in layers:
            source, kernel = node.input[0], node.input[1]
            values = numpy_helper.to_array(weights[kernel])
            low, high = ranges[source]
            activations = scale(max(-low, high))
            stored = scale(float(np.abs(values).max()))
            arrays = {
                f"{source}_scale": activations,
                f"{source}_zero": np.array(0, E4M3),
                f"{kernel}_fp8": to_e4m3(values / stored),
                f"{kernel}_scale": stored,
                f"{kernel}_zero": np.array(0, E4M3),
            }
            constants |= {name: numpy_helper.from_array(a, name) for name, a in arrays.items()}
            pair = [f"{source}_scale", f"{source}_zero"]
            added = [
                _node("QuantizeLinear", [source, *pair], f"{source}_q"),
                _node("DequantizeLinear", [f"{source}_q", *pair], f"{source}_dq"),
                _node(
                    "DequantizeLinear",
                    [f"{kernel}_fp8", f"{kernel}_scale", f"{kernel}_zero"],
                    f"{kernel}_dq",
                ),
            ]
            # Layers with the same input or the same weights share the nodes in front of them.
            nodes |= {one.output[0]: one for one in added if one.output[0] not in nodes}
            node.input[0], node.input[1] = f"{source}_dq", f"{kernel}_dq"
        nodes[node.output[0]] = node
    logging.info("%d layers in fp8", len(layers))
    quantize.replace_nodes(graph, nodes.values(), constants.values())
    return result


def scale(peak: float) -> npt.NDArray[np.float32]:
    """Returns the scale that spans -peak to peak: the next one that fp16 holds."""
    wanted = np.float32(peak / LARGEST)
    found = np.float16(wanted)
    if found < wanted or not found:
        found = np.nextafter(found, np.float16(np.inf))
    return np.array(found, np.float32)


def to_e4m3(values: Floats) -> npt.NDArray[np.generic]:
    """Rounds to E4M3; what lies beyond its range becomes its largest value, and not NaN."""
    return np.clip(values, -LARGEST, LARGEST).astype(E4M3)


def _node(kind: str, inputs: list[str], output: str) -> NodeProto:
    return helper.make_node(kind, inputs, [output], name=output)
