"""What an ONNX file says of itself in `metadata_props`: what it takes, how to read what it gives.

`model_card` is the model card as one JSON value; the other keys say the same for readers that do
not know it, by the names that they have in the exports of other tools.
"""

import json
from pathlib import Path, PurePath
from typing import Any

import onnx

from hrnetpose import files
from hrnetpose.artifacts.model import ModelCard, OnnxOrigin
from hrnetpose.graphs import onnx_graph
from hrnetpose.stage import StageError

CARD = "model_card"
_OF_THIS_MACHINE: Any = {"onnx_sha256": True, "origin": {"files", "changes"}}
"""What a file cannot say of itself, or is the user's own."""


def describe(card: ModelCard) -> dict[str, str]:
    """Return the metadata of a graph, JSON by key but for what is a word.

    Args:
        card: of the model.
    """
    crop, points, origin = card.crop, card.keypoints, card.origin
    # A name says enough; the rest of a path is the user's own.
    place = "file" if isinstance(origin, OnnxOrigin) else "config"
    known = origin.model_copy(update={place: PurePath(getattr(origin, place)).name})
    card = card.model_copy(update={"origin": known})
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


def write(model: onnx.ModelProto, card: ModelCard, output: Path) -> None:
    """Write a graph with the metadata of its model; the card learns the file's hash.

    Raises:
        StageError: the graph is not valid, or larger than an ONNX file can be.
    """
    with files.atomic_path(output) as temporary:
        try:
            onnx.save(with_metadata(model, card), temporary)
        except ValueError as error:  # protobuf's limit
            raise StageError(
                f"{output}: has more than the 2 GiB that an ONNX file holds; take a smaller model"
            ) from error
        onnx_graph.check(temporary)
    card.onnx_sha256 = files.sha256(output)


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
