"""`quantize_int8 --ap-drop` takes the AP on the calibration persons."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrnetpose.artifacts.model import ModelCard
from hrnetpose.artifacts.quantization import Quantization
from hrnetpose.data import coco
from hrnetpose.data import crops as crop_files
from hrnetpose.graphs import onnx_graph, quantize
from hrnetpose.pose import predict
from hrnetpose.stage import StageError

RunStage = Callable[..., None]


@pytest.fixture
def quantize_int8(tiny: Path, tmp_path: Path, run_stage: RunStage) -> Callable[..., Quantization]:
    """Quantise the small HRNet for persons whose keypoints are where fp32 finds them."""
    card = ModelCard.read(tiny / "model.json")
    crops = np.load(tiny / "crops.npy")
    count, number = len(crops), len(card.keypoints.names)
    table: dict[str, Any] = {
        "id": np.arange(count),
        "image_id": np.arange(count),
        "box": np.tile(np.float32([10, 10, 90, 190]), (count, 1)),
        "box_score": np.ones(count),
        "center": np.tile(np.float32([50, 100]), (count, 1)),
        "scale": np.tile(np.float32([100, 200]), (count, 1)),
        "boxes_from": "gt",
    }
    crop_files.write_instances(tmp_path / "instances.npz", table)
    heatmaps = np.concatenate(
        [found for (found,) in quantize.run(onnx_graph.read(tiny / "fp32.onnx"), crops, card)]
    )
    (keypoints,), _ = predict.keypoints(
        {card.outputs[0].name: heatmaps}, None, [0], card, table["center"], table["scale"]
    )

    def run(*options: object, labelled: bool = True) -> Quantization:
        visible = np.full((count, number, 1), 2 if labelled else 0)
        persons = np.concatenate([keypoints, visible], axis=2).reshape(count, -1)
        annotations = [
            {
                "id": n, "image_id": n, "category_id": 1, "keypoints": person.tolist(),
                "bbox": [10.0, 10.0, 80.0, 180.0], "area": 7632.0,
            }
            for n, person in enumerate(persons)
        ]  # fmt: skip
        images = [{"id": n, "file_name": f"{n}", "width": 100, "height": 200} for n in range(count)]
        categories = [{"id": 1, "name": "person", "keypoints": card.keypoints.names}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        coco.parse(content, tmp_path / "few.json").write(tmp_path / "audit.npz")
        run_stage(
            "quantize_int8", "--model", tiny / "fp32.onnx", "--card", tiny / "model.json",
            "--crops", tiny / "crops.npy", "--instances", tmp_path / "instances.npz",
            "--calibration", tiny / "calibration.json", "--annotations", tmp_path / "audit.npz",
            *options, "--output", tmp_path / "int8.onnx", "--summary", tmp_path / "int8.json",
        )  # fmt: skip
        return Quantization.read(tmp_path / "int8.json")

    return run


def test_the_ap_of_fp32_is_that_of_persons_where_it_finds_them(
    quantize_int8: Callable[..., Quantization],
) -> None:
    generous, strict = (quantize_int8("--ap-drop", drop) for drop in (1, 0.1))

    for found, drop in ((generous, 1), (strict, 0.1)):
        assert found.sensitivity is not None
        assert found.sensitivity.ap_fp32 == pytest.approx(1, abs=1e-9)
        assert 1 - found.sensitivity.ap_int8 <= drop
    assert generous.int8_layers == generous.layers
    assert strict.int8_layers <= generous.int8_layers


def test_persons_of_whom_nothing_is_labelled_have_no_ap(
    quantize_int8: Callable[..., Quantization],
) -> None:
    with pytest.raises(StageError, match="the calibration persons have no AP"):
        quantize_int8("--ap-drop", 1, labelled=False)
