"""The precision of an engine's layers, from TensorRT's engine inspector."""

import importlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from hrnetpose.engines.tensorrt.flavour import Flavour

# The inspector's words differ between versions: `Datatype` is `Half`, `Format/Datatype` is
# `Two wide channel vectorized row major FP16 format`.
_TYPES = (
    ("bf16", ("bfloat16", "bf16")),
    ("fp8", ("fp8", "float8", "e4m3")),
    ("int8", ("int8",)),
    ("fp16", ("half", "fp16", "float16")),
    ("fp32", ("float", "fp32", "float32")),
)
_HEAVY = re.compile(r"conv|gemm|matrixmultiply|matmul", re.IGNORECASE)
_HEAVY_NODE = re.compile(r"[/ ](Conv|ConvTranspose|Gemm|MatMul)(_\d+)?\]")
"""In the metadata of a layer: `[ONNX Layer: /stem/conv1/Conv]`, one for each node."""


def inspect(flavour: Flavour, engine: Any) -> dict[str, Any]:
    """Returns the engine inspector's report: the layers with their types and tactics."""
    trt = importlib.import_module(flavour.package)
    inspector = engine.create_engine_inspector()
    return json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def count_heavy_layers(information: Mapping[str, Any]) -> Counter[str]:
    """Counts convolutions and matrix products by the type of their input.

    A layer into which several were fused counts once.

    Args:
        information: what `inspect` returns; the form of TensorRT 10 or of 11.
    """
    layers: Counter[str] = Counter()
    for layer in information.get("Layers", []):
        if not isinstance(layer, Mapping):
            continue
        kind, nodes = str(layer.get("LayerType", "")), str(layer.get("Metadata", ""))
        # A fused layer has a type of its own; its metadata names its ONNX nodes.
        if _HEAVY.search(kind) or (_HEAVY_NODE.search(nodes) and kind != "Reformat"):
            inputs = layer.get("Inputs") or [{}]
            layers[_type(inputs[0])] += 1
    return layers


def _type(tensor: Mapping[str, Any]) -> str:
    words = " ".join(str(tensor.get(key, "")) for key in ("Datatype", "Format/Datatype", "Format"))
    for name, spellings in _TYPES:
        if any(spelling in words.lower() for spelling in spellings):
            return name
    return "other"
