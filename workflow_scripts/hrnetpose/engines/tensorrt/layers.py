"""The precision of a plan's layers, from TensorRT's engine inspector."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from hrnetpose.engines.tensorrt.flavour import Flavour

# The inspector's fields differ between versions: `Datatype` is `Half`, `Format/Datatype` is
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
"""In the metadata of a layer, which has `[ONNX Layer: /stem/conv1/Conv]` for each node."""


def inspect(flavour: Flavour, engine: Any) -> dict[str, Any]:
    """Return the engine inspector's report: layers with their types and tactics.

    Args:
        flavour: the package of the engine.
        engine: an ICudaEngine.
    """
    inspector = engine.create_engine_inspector()
    report = inspector.get_engine_information(flavour.module.LayerInformationFormat.JSON)
    return json.loads(report)


def count_heavy_layers(report: Mapping[str, Any]) -> Counter[str]:
    """Count convolutions and matrix products by the type of their input; a fused layer is one.

    Args:
        report: what `inspect` returned, from TensorRT 10 or 11.
    """
    layers: Counter[str] = Counter()
    for layer in report.get("Layers", []):
        if not isinstance(layer, Mapping):  # a plan built without details has only names
            continue
        kind, nodes = str(layer.get("LayerType", "")), str(layer.get("Metadata", ""))
        # A fused layer has a type of its own; its metadata lists its ONNX nodes.
        if _HEAVY.search(kind) or (_HEAVY_NODE.search(nodes) and kind != "Reformat"):
            inputs = layer.get("Inputs") or [{}]
            layers[_read_type(inputs[0])] += 1
    return layers


def describe_layers(report: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the type of each layer and the precision of its input, by its name.

    Args:
        report: what `inspect` returned.
    """
    return {
        str(layer.get("Name")): (
            str(layer.get("LayerType", "")),
            _read_type((layer.get("Inputs") or [{}])[0]),
        )
        for layer in report.get("Layers", [])
        if isinstance(layer, Mapping)
    }


def _read_type(tensor: Mapping[str, Any]) -> str:
    words = " ".join(str(tensor.get(key, "")) for key in ("Datatype", "Format/Datatype", "Format"))
    for name, spellings in _TYPES:
        if any(spelling in words.lower() for spelling in spellings):
            return name
    return "other"
