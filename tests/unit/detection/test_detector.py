"""Boxes of detectors: the same from every layout, in pixels of the image; what does not fit."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from pydantic import ValidationError

from hrnetpose.artifacts.detector import Preprocessing
from hrnetpose.detection import boxes, card, evaluation
from hrnetpose.detection.boxes import Boxes
from hrnetpose.detection.model import Detector
from hrnetpose.detector import DetectorCard
from support import refusal

GRID = {"grid": {"decoded": False}, "decoded": {"decoded": True}, "dets": {}}


def opened(path: Path, **given: Any) -> Detector:
    return Detector(path, card.complete(DetectorCard(layout="yolox", **given), None))


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (50, 150, 3), dtype=np.uint8)


@pytest.mark.parametrize("person", [0, 2])
def test_three_exports_of_one_network_find_the_same(
    yolox: dict[Any, Path], image: np.ndarray, person: int
) -> None:
    found = {
        layout: opened(
            path, person=person, **GRID[layout], **({} if layout == "dets" else {"score": 0.3})
        ).detect(image)
        for layout, path in yolox.items()
    }

    assert len(found["dets"].scores) > 5
    for other in ("grid", "decoded"):
        np.testing.assert_allclose(found[other].corners, found["dets"].corners, atol=1e-3)
        np.testing.assert_allclose(found[other].scores, found["dets"].scores, atol=1e-6)


@given(
    width=st.integers(1, 700), height=st.integers(1, 700),
    start=st.tuples(st.floats(0, 0.8), st.floats(0, 0.8)), size=st.floats(0.1, 0.2),
)  # fmt: skip
def test_a_box_that_is_drawn_is_where_it_was_drawn(
    width: int, height: int, start: tuple[float, float], size: float
) -> None:
    how = Preprocessing(
        height=320, width=448, mean=[0] * 3, std=[1] * 3, channel_order="BGR", pad=114
    )
    drawn = np.array([*start, start[0] + size, start[1] + size]) * ([width, height] * 2)
    scaled = np.array(boxes.scaled_size(width, height, how))
    given_to_it = Boxes(
        (drawn / ([width, height] * 2) * np.tile(scaled, 2)).astype(np.float32)[None],
        np.ones(1, np.float32),
    )

    found = boxes.to_image(given_to_it, width, height, how)

    assert (scaled <= [448, 320]).all()
    assert (scaled == [448, 320]).any()
    np.testing.assert_allclose(found.corners[0], drawn, atol=1e-3)


def test_an_image_keeps_its_ratio_and_stands_at_the_top_left(image: np.ndarray) -> None:
    how = Preprocessing(
        height=64, width=96, mean=[1, 2, 3], std=[2, 4, 8], channel_order="RGB", pad=114
    )

    prepared = boxes.prepare(image, how)[0].transpose(1, 2, 0) * [2, 4, 8] + [1, 2, 3]

    expected = cv2.resize(image, (96, 32), interpolation=cv2.INTER_LINEAR)[..., ::-1]
    np.testing.assert_allclose(prepared[:32], expected, atol=1e-3)
    np.testing.assert_allclose(prepared[32:], 114, atol=1e-3)


@pytest.mark.parametrize(
    ("layout", "given_card", "says"),
    [
        ("grid", {}, r"detector\.card\.decoded: missing; .*grid\.onnx has YOLOX's one output"),
        ("dets", {"nms": 0.5}, r"detector\.card\.nms: .*dets\.onnx decides that itself"),
        ("dets", {"input": "64x64"}, r"detector\.card\.input: 64x64, but .* takes \[64, 96\]"),
        ("grid", {"decoded": True, "person": 3}, r"card\.person: 3, but .* has 3 classes"),
    ],
)
def test_a_card_that_does_not_fit_the_graph_is_refused(
    yolox: dict[Any, Path], image: np.ndarray, layout: str, given_card: dict[str, Any], says: str
) -> None:
    import re

    text = refusal(lambda: opened(yolox[layout], **given_card).detect(image))

    assert re.search(says, text)


def graph_with(path: Path, inputs: list[Any], outputs: dict[str, tuple[Any, list[Any]]]) -> Path:
    """Write a graph that gives constant arrays."""
    nodes, constants = [], []
    for name, (kind, shape) in outputs.items():
        fixed = [size if isinstance(size, int) else 1 for size in shape]
        array = np.zeros(fixed, helper.tensor_dtype_to_np_dtype(kind))
        constants.append(onnx.numpy_helper.from_array(array, f"{name}_value"))
        nodes.append(helper.make_node("Identity", [f"{name}_value"], [name]))
    given_to_it = [helper.make_tensor_value_info("in", TensorProto.FLOAT, inputs)]
    given_back = [helper.make_tensor_value_info(n, k, s) for n, (k, s) in outputs.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "g", given_to_it, given_back, constants),
        opset_imports=[helper.make_opsetid("", 13)], ir_version=8,
    )  # fmt: skip
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("inputs", "outputs", "says"),
    [
        ([1, 3, 64, 64], {"heatmaps": (1, [1, 17, 16, 16])}, "gives heatmaps [1, 17, 16, 16]; a "),
        ([8, 3, 64, 64], {"output": (1, [8, 84, 85])}, "and a batch of 1 or any"),
        ([1, 3, "h", "w"], {"output": (1, [1, 84, 85])}, "detector.card.input: missing, and "),
        ([1, 3, 60, 64], {"output": (1, [1, 84, 85])}, "sides are multiples of 32"),
        (
            [1, 3, 64, 64],
            {"boxes": (1, [1, 84, 4]), "scores": (1, [1, 84, 1])},
            "gives boxes [1, 84, 4], scores [1, 84, 1]; a detector gives dets ",
        ),
    ],
)  # fmt: skip
def test_a_graph_that_is_no_such_detector_is_refused(
    tmp_path: Path, inputs: list[Any], outputs: dict[str, Any], says: str
) -> None:
    path = graph_with(tmp_path / "m.onnx", inputs, outputs)
    image = np.zeros((40, 40, 3), np.uint8)

    assert says in refusal(lambda: opened(path, decoded=True).detect(image))


def test_yolov8_is_refused_before_the_keys_of_yolox_are_asked_for(tmp_path: Path) -> None:
    outputs: dict[str, Any] = {"output0": (1, [1, 84, 8400])}
    path = graph_with(tmp_path / "m.onnx", [1, 3, 640, 640], outputs)

    text = refusal(opened, path)

    assert "gives output0 [1, 84, 8400]; a detector gives dets" in text
    assert "[batch, 8400, 5 + classes], as YOLOX does for an input of 640x640" in text


def test_what_is_no_onnx_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_text("version https://git-lfs.github.com/spec/v1\n")

    assert "m.onnx: ONNX Runtime cannot load it" in refusal(opened, path)


def pipeline(tmp_path: Path, *steps: dict[str, Any], module: str = "mmdet") -> Path:
    tasks = [{"module": "Transform", "transforms": [*steps]}, {"module": module}]
    path = tmp_path / "pipeline.json"
    path.write_text(json.dumps({"pipeline": {"tasks": tasks}}))
    return path


RESIZE = {"type": "Resize", "keep_ratio": True, "size": [640, 640]}
NORMALIZE = {"type": "Normalize", "to_rgb": True, "mean": [1, 2, 3], "std": [4, 5, 6]}


def test_a_pipeline_says_what_the_card_does_not(tmp_path: Path) -> None:
    path = pipeline(
        tmp_path, {"type": "LoadImageFromFile"}, RESIZE,
        {"type": "Pad", "size": [640, 640], "pad_val": {"img": [7, 7, 7]}},
        NORMALIZE, {"type": "Pad", "size_divisor": 1}, {"type": "Collect"},
    )  # fmt: skip

    found = card.complete(DetectorCard(std=[9, 9, 9], layout="rtmdet"), path)

    assert (found.input, found.pad, found.channel_order) == ("640x640", 7, "RGB")
    assert (found.mean, found.std) == ([1, 2, 3], [9, 9, 9])


@pytest.mark.parametrize(
    ("steps", "module", "says"),
    [
        ([RESIZE | {"keep_ratio": False}], "mmdet", "Resize has keep_ratio False"),
        ([RESIZE, {"type": "LetterResize"}], "mmdet", "the step 'LetterResize' is not supported"),
        ([NORMALIZE | {"std": [0, 1, 1]}], "mmdet", "std.0 is 0"),
        ([RESIZE, NORMALIZE], "mmpose", "is of a pose model"),
        ([], "mmdet", "no pipeline of mmdeploy"),
    ],
)
def test_a_pipeline_that_is_not_supported_is_refused(
    tmp_path: Path, steps: list[dict[str, Any]], module: str, says: str
) -> None:
    path = pipeline(tmp_path, *steps, module=module)

    assert says in refusal(card.complete, DetectorCard(), path)


def test_what_nothing_says_is_asked_for() -> None:
    text = refusal(card.complete, DetectorCard(input="64x64"), None)

    assert text.startswith("detector.card.mean: missing")
    with pytest.raises(ValidationError):
        DetectorCard(std=[0, 1, 1])


def test_the_real_detector_finds_the_person(real: Path) -> None:
    known = real / "onnx/mmdeploy/rtmdet-nano_pipeline.json"
    detector = Detector(real / "onnx/rtmdet-nano.onnx", card.complete(DetectorCard(), known))

    found = detector.detect(cv2.imread(str(real / "images/val2017/000000000785.jpg")))

    # The annotated box is 280.8, 44.7, 499.5, 391.4.
    assert found.corners[0] == pytest.approx([279.9, 41.6, 499.7, 384.0], abs=0.1)
    assert found.scores[0] > 0.85
    assert (found.scores[1:] < 0.2).all()


def test_the_figures_are_those_of_coco_on_a_file_that_it_reads(real: Path) -> None:
    """pycocotools reads COCO's own file; boxes of the usual detector, with their usual figures."""
    import contextlib
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from hrnetpose.data import coco

    path = real / "annotations/person_keypoints_val2017_with_detections.json"
    detections = real / "annotations/COCO_val2017_detections_AP_H_56_person.json"
    entries = json.loads(detections.read_text())

    metrics, _ = evaluation.evaluate(evaluation.read_truths(path, coco.read(path)), entries)

    with contextlib.redirect_stdout(io.StringIO()):
        truths = COCO(str(path))
        theirs = COCOeval(truths, truths.loadRes(str(detections)), "bbox")
        theirs.evaluate()
        theirs.accumulate()
        theirs.summarize()
    found = [-1 if value is None else value for value in metrics.model_dump().values()]
    assert found == pytest.approx(theirs.stats.tolist(), abs=1e-12)
