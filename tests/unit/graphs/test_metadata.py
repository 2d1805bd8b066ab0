"""What an ONNX file says of itself."""

import json

import onnx
from onnx import TensorProto, helper

from hrnetpose.artifacts.model import ModelCard
from hrnetpose.graphs.metadata import with_metadata


def test_the_card_and_plain_keys_are_in_the_file(model_card: ModelCard) -> None:
    values = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["input"], ["heatmaps"])], "graph", [values],
        [helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, [1])],
    )  # fmt: skip
    model = helper.make_model(graph)
    helper.set_model_props(model, {"author": "somebody", "task": "detect"})

    described = with_metadata(model, model_card, decoder="plain")

    onnx.checker.check_model(described)
    found = {entry.key: entry.value for entry in described.metadata_props}
    # What was there stays, but for what it says of the model.
    assert (found["author"], found["task"], found["decoder"]) == ("somebody", "pose", "plain")
    assert json.loads(found["imgsz"]) == [64, 32]
    assert json.loads(found["keypoint_names"]) == ["nose", "left_eye", "right_eye"]
    card = json.loads(found["model_card"]) | {"onnx_sha256": model_card.onnx_sha256}
    assert ModelCard.model_validate(card) == model_card
