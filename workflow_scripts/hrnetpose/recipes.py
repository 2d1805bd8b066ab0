"""The ONNX graphs: which is made from which, by which stage, and what the report says of it."""

from typing import Literal

Precision = Literal["fp32", "fp16", "bf16", "int8", "fp8"]

Graph = Literal["fp32", "fp16", "bf16", "int8", "int8-fp16", "fp8"]
"""The ONNX graphs that engines are built from: build/models/{model}/{graph}.onnx.

`int8` has fp32 beside its int8 layers; `int8-fp16` and `fp8` have fp16 there, and zero points that
are all 0, as TensorRT demands.
"""
