"""ONNX graphs in fp16 and bfloat16."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hrnetpose.graphs import onnx_graph

QDQ_HALF_OPSET = 19
"""The first one whose QuantizeLinear takes fp16, and makes fp8."""
BF16_OPSET = 22
"""The first one whose Conv takes bfloat16."""


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph in half precision, with one cast at each end.

    Inputs and outputs stay fp32, so that engines of all precisions are called alike; scales of
    Resize stay fp32, as ONNX demands.  Weights beyond the range of fp16 are clipped to it.  What
    is in int8 or fp8 stays so, with scales in fp16.
    """
    quantized = any(node.op_type == "DequantizeLinear" for node in model.graph.node)
    return _to_half(
        onnx_graph.with_opset(model, QDQ_HALF_OPSET if quantized else 0), TensorProto.FLOAT16
    )


def to_bf16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph in bfloat16, as `to_fp16` does; ONNX Runtime has no CPU code for it."""
    return _to_half(onnx_graph.with_opset(model, BF16_OPSET), TensorProto.BFLOAT16)


def _to_half(half: onnx.ModelProto, kind: int) -> onnx.ModelProto:
    """Change a graph to a 16-bit type of onnx.TensorProto and return it."""
    graph = half.graph
    del graph.value_info[:]
    kept = {name for node in graph.node if node.op_type == "Resize" for name in node.input[1:]}
    linear = ("QuantizeLinear", "DequantizeLinear")
    scales = {node.input[1] for node in graph.node if node.op_type in linear}
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in kept:
            tensor.CopyFrom(_half(tensor, kind, tensor.name in scales))
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = kind
            elif node.op_type == "Constant" and node.output[0] in kept:
                continue
            elif attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
                attribute.t.CopyFrom(_half(attribute.t, kind))
            elif attribute.name in ("value_float", "value_floats"):  # of a Constant
                values = np.array(helper.get_attribute_value(attribute), np.float32)
                tensor = _half(numpy_helper.from_array(values), kind)
                attribute.CopyFrom(helper.make_attribute("value", tensor))
    ends = {value.name: f"{value.name}_half" for value in (*graph.input, *graph.output)}
    for node in graph.node:
        node.input[:] = [ends.get(name, name) for name in node.input]
        node.output[:] = [ends.get(name, name) for name in node.output]
    first = [
        helper.make_node("Cast", [value.name], [ends[value.name]], to=kind) for value in graph.input
    ]
    last = [
        helper.make_node("Cast", [ends[value.name]], [value.name], to=TensorProto.FLOAT)
        for value in graph.output
    ]
    nodes = [*first, *graph.node, *last]
    del graph.node[:]
    graph.node.extend(nodes)
    return half


def _half(tensor: TensorProto, kind: int, positive: bool = False) -> TensorProto:
    dtype: Any = helper.tensor_dtype_to_np_dtype(kind)
    values = numpy_helper.to_array(tensor)
    if kind == TensorProto.FLOAT16:
        limit, smallest = np.finfo(np.float16).max, np.finfo(np.float16).smallest_subnormal
        values = np.clip(values, -limit, limit)
        if positive or values.size == 1:
            # A scale, or an epsilon, that became 0 would be divided by.
            values = np.where((values > 0) & (values < smallest), smallest, values)
    return numpy_helper.from_array(np.asarray(values).astype(dtype), tensor.name)
