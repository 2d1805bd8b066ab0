"""Static fp8 quantisation of an ONNX graph, as explicit QuantizeLinear/DequantizeLinear pairs.

The form that TensorRT takes on GPUs with fp8 units (compute capability 8.9 and later): E4M3
(ONNX's FLOAT8E4M3FN, largest value 448), scales per tensor, no zero points, fp16 for all else.
Calibration and candidate layers are those of int8 (quantize.py).

NVIDIA ModelOpt could write such graphs, but its `onnx` extra (0.47) installs cupy and an
onnxruntime-gpu of another version than the stages', and with int8's layers, ranges and nodes only
the scales are left to write.
"""

import logging

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, numpy_helper

from hrnetpose.artifacts.model import ModelCard
from hrnetpose.graphs import half_precision, onnx_graph, quantize
from hrnetpose.graphs.quantize import Crops, Floats, Quantised, Ranges

E4M3 = ml_dtypes.float8_e4m3fn
LARGEST = 448.0


def to_fp8(model: onnx.ModelProto, crops: Crops, card: ModelCard) -> onnx.ModelProto:
    """Return the fp8 graph: dense convolutions in fp8, all else in fp16.

    Args:
        model: the fp32 graph; it is not changed.
        crops: uint8 [N, H, W, 3] RGB calibration crops, N >= 1.
        card: says how crops are normalised.

    Raises:
        StageError: there are no crops, or the graph cannot be quantised.
    """
    return half_precision.to_fp16(insert(model, quantize.calibrate(model, crops, card)))


def insert(model: onnx.ModelProto, ranges: Ranges) -> onnx.ModelProto:
    """Return the graph with its dense convolutions in fp8, and all else as it was.

    Args:
        model: the fp32 graph; it is not changed.
        ranges: the least and the greatest value of what each layer takes.
    """
    result = onnx_graph.with_opset(model, half_precision.QDQ_HALF_OPSET)
    layers = quantize.layers(result)

    def quantise(node: NodeProto, weights: TensorProto) -> Quantised:
        low, high = ranges[node.input[0]]
        values = numpy_helper.to_array(weights)
        stored = scale(float(np.abs(values).max()))
        zero = np.array(0, E4M3)
        return quantize.explicit(
            node,
            "fp8",
            (scale(max(-low, high)), zero),
            (to_e4m3(values / stored), stored, zero),
        )

    quantize.replace_layers(result.graph, layers.values(), quantise)
    logging.info("%d layers in fp8", len(layers))
    return result


def scale(peak: float) -> npt.NDArray[np.float32]:
    """Return the scale that spans -peak to peak: the next one that fp16 holds."""
    wanted = np.float32(peak / LARGEST)
    found = np.float16(wanted)
    if found < wanted or not found:
        found = np.nextafter(found, np.float16(np.inf))
    return np.array(found, np.float32)


def to_e4m3(values: Floats) -> npt.NDArray[np.generic]:
    """Round to E4M3; what lies beyond its range becomes its largest value, and not NaN."""
    return np.clip(values, -LARGEST, LARGEST).astype(E4M3)
