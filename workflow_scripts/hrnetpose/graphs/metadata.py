"""What an ONNX file says of itself in `metadata_props`: what it takes, how to read what it gives.

`model_card` is the model card as one JSON value; the other keys say the same for readers that do
not know it, by the names that they have in the exports of other tools.
"""

import json

import onnx

from hrnetpose.artifacts.model import ModelCard

CARD = "model_card"
_OF_THIS_MACHINE = {"onnx_sha256", "files", "changes"}
"""What a file cannot say of itself, or is the user's own."""


def describe(card: ModelCard) -> dict[str, str]:
    """Return the metadata of a graph, JSON by key but for what is a word.

    Args:
        card: of the model.
    """
    crop, points = card.crop, card.keypoints
    values = {
        "imgsz": [crop.height, crop.width],
        "kpt_shape": [len(points.names), 3],
        "keypoint_names": points.names,
        "flip_idx": points.flip_indices,
        "skeleton": points.skeleton,
        "mean": card.mean,
        "std": card.std,
        "padding": crop.padding,
        "codec": card.codec.model_dump(mode="json"),
        CARD: card.model_dump(mode="json", exclude=_OF_THIS_MACHINE),
    }
    words = {"task": "pose", "name": card.name, "channel_order": card.channel_order}
    return words | {key: json.dumps(value) for key, value in values.items()}


def with_metadata(model: onnx.ModelProto, card: ModelCard, **more: str) -> onnx.ModelProto:
    """Return the graph with the metadata of its model.

    Args:
        model: the graph.
        card: of the model.
        more: further keys, or other values of these.
    """
    described = onnx.ModelProto()
    described.CopyFrom(model)
    found = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(described, found | describe(card) | more)
    return described
