"""The JSON files of real mmdeploy exports, with graphs that fit them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hrnetpose.artifacts.model import ModelCard
from support import refusal


def export(real: Path, prefix: str, folder: Path) -> Path:
    """Put the JSON files of an mmdeploy export into a folder, by the names that they had."""
    folder.mkdir()
    for name in ("pipeline", "detail", "deploy"):
        shutil.copy(real / f"onnx/mmdeploy/{prefix}_{name}.json", folder / f"{name}.json")
    return folder


def write_graph(path: Path, outputs: dict[str, list[int]]) -> None:
    """Write a graph with seeded weights: an average of the image, and a product for each output."""
    generator = np.random.default_rng(0)
    nodes = [helper.make_node("GlobalAveragePool", ["input"], ["mean"])]
    nodes.append(helper.make_node("Flatten", ["mean"], ["flat"]))
    stored, values = [], []
    for name, shape in outputs.items():
        weights = generator.normal(size=(3, int(np.prod(shape)))).astype(np.float32)
        stored += [
            numpy_helper.from_array(weights, f"{name}_weights"),
            numpy_helper.from_array(np.array([1, *shape]), f"{name}_shape"),
        ]
        nodes += [
            helper.make_node("MatMul", ["flat", f"{name}_weights"], [f"{name}_product"]),
            helper.make_node("Reshape", [f"{name}_product", f"{name}_shape"], [name]),
        ]
        values.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, *shape]))
    graph = helper.make_graph(
        nodes, "seeded",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 256, 192])],
        values, stored,
    )  # fmt: skip
    opset = helper.make_opsetid("", 11)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=6), path)


def bring(run_stage: Callable[..., None], folder: Path, keypoints: str | None) -> ModelCard:
    output = folder.parent / "model.json"
    run_stage(
        "import_onnx", "--name", "mine", "--onnx", folder, "--crop", "256x192",
        "--given", json.dumps({"keypoints": keypoints} if keypoints else {}),
        "--output", output.with_suffix(".onnx"), "--card", output,
    )  # fmt: skip
    return ModelCard.read(output)


def test_rtmpose_of_mmdeploy(real: Path, tmp_path: Path, run_stage: Callable[..., None]) -> None:
    folder = export(real, "rtmpose-m", tmp_path / "rtmpose")
    write_graph(folder / "end2end.onnx", {"simcc_x": [17, 384], "simcc_y": [17, 512]})

    assert "nothing says keypoints (detail.json: exported from rtmpose-m" in refusal(
        bring, run_stage, folder, None
    )
    card = bring(run_stage, folder, "coco")

    assert (card.mean, card.std, card.channel_order) == (
        [123.675, 116.28, 103.53], pytest.approx([58.395, 57.12, 57.375]), "RGB",
    )  # fmt: skip
    assert str(card.crop) == "256x192"
    codec = card.codec
    assert (codec.type, codec.simcc_split_ratio, codec.sigma) == ("SimCCLabel", 2.0, (4.9, 5.66))
    assert (codec.normalize, codec.use_dark) == (False, False)
    assert [output.shape for output in card.outputs] == [["batch", 17, 384], ["batch", 17, 512]]
    assert card.origin.sources["codec"] == "pipeline.json"
    # Of a split ratio of 1 the graph would be another one.
    write_graph(folder / "end2end.onnx", {"simcc_x": [17, 192], "simcc_y": [17, 256]})
    said = refusal(bring, run_stage, folder, "coco")
    assert "need outputs [batch, 17, 384] and [batch, 17, 512]; it has simcc_x" in said


def test_hrnet_of_mmdeploy_with_fourteen_keypoints(
    real: Path, tmp_path: Path, run_stage: Callable[..., None]
) -> None:
    folder = export(real, "hrnet-aic", tmp_path / "hrnet")
    write_graph(folder / "end2end.onnx", {"output": [14, 64, 48]})

    assert "need an output [batch, 17, ?, ?]" in refusal(bring, run_stage, folder, "coco")
    card = bring(run_stage, folder, "aic")

    assert (len(card.keypoints.names), card.flip_shift) == (14, True)
    assert (card.codec.type, card.codec.label) == ("MSRAHeatmap", "plain")
    assert card.outputs[0].shape == ["batch", 14, 64, 48]


def test_a_detector_of_mmdeploy_is_refused(
    real: Path, tmp_path: Path, run_stage: Callable[..., None]
) -> None:
    folder = export(real, "rtmdet-nano", tmp_path / "rtmdet")
    shutil.copy(real / "onnx/rtmdet-nano.onnx", folder / "end2end.onnx")

    said = refusal(bring, run_stage, folder, "coco")

    assert "detail.json: codebase.task is 'ObjectDetection'; expected PoseDetection" in said
