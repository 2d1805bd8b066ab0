"""Which persons are evaluated is what mmpose's CocoDataset says; what is malformed is named."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnetpose.data import coco
from hrnetpose.data.coco import Image
from hrnetpose.stage import StageError

Content = dict[str, Any]

WIDTH, HEIGHT = 64, 48
# Inside the image, on its border, far outside of it, and not whole.
PLACES = st.sampled_from([-200.0, -1.5, 0.0, 0.25, 10.0, 47.0, 62.75, 63.0, 64.0, 500.0])
SIZES = st.sampled_from([-5.0, 0.0, 0.5, 1.0, 30.0, 1000.0])
KEYPOINTS = st.lists(
    st.tuples(st.sampled_from([-3, 0, 0.5, 20, 300]), st.sampled_from([-3, 0, 7]),
              st.sampled_from([0, 1, 2])),
    min_size=3, max_size=3,
).map(lambda points: [value for point in points for value in point])  # fmt: skip


@st.composite
def annotations(draw: st.DrawFn) -> Content:
    """COCO annotations with crowds, persons without keypoints and boxes outside the image."""
    images = draw(st.permutations([3, 1, 2]))
    entries = []
    for number in range(draw(st.integers(0, 8))):
        entry: Content = {
            "id": (number * 7 + 3) % 31,
            "image_id": draw(st.sampled_from(images)),
            "category_id": 1,
            "bbox": [draw(PLACES), draw(PLACES), draw(SIZES), draw(SIZES)],
        }
        optional = {
            "keypoints": KEYPOINTS,
            "num_keypoints": st.integers(0, 3),
            "iscrowd": st.integers(0, 1),
            "area": st.just(100.0),
        }
        for key, values in optional.items():
            if draw(st.integers(0, 4)):
                entry[key] = draw(values)
        entries.append(entry)
    return {
        "images": [
            {"id": n, "file_name": f"{n}.jpg", "width": WIDTH, "height": HEIGHT} for n in images
        ],
        "annotations": entries,
        "categories": [{"id": 1, "name": "person"}],
    }


Persons = dict[int, tuple[int, list[float], float]]
"""id -> image, box and score."""


@pytest.fixture(scope="module")
def mmpose_persons(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Persons]:
    """What mmpose's CocoDataset makes of annotations, or of detected boxes."""
    from hrnetpose.model import mmpose

    mmpose.import_mmpose()
    import pycocotools.coco
    from mmpose.datasets.datasets import CocoDataset
    from mmpose.datasets.datasets.base import base_coco_style_dataset

    folder = tmp_path_factory.mktemp("coco")

    def persons(
        content: Content, boxes: list[Content] | None = None, minimum: float = 0.0
    ) -> Persons:
        (folder / "annotations.json").write_text(json.dumps(content))
        (folder / "boxes.json").write_text(json.dumps(boxes))
        with pytest.MonkeyPatch.context() as patch:
            # It asks for xtcocotools, whose part used here is pycocotools'.
            patch.setattr(base_coco_style_dataset, "COCO", pycocotools.coco.COCO)
            dataset = CocoDataset(
                ann_file=str(folder / "annotations.json"),
                bbox_file=None if boxes is None else str(folder / "boxes.json"),
                filter_cfg={"bbox_score_thr": minimum} if minimum else None,
                data_mode="topdown",
                test_mode=True,
                serialize_data=False,
            )
        return {
            item["id"]: (item["img_id"], item["bbox"][0].tolist(), float(item["bbox_score"][0]))
            for item in dataset.data_list
        }

    return persons


def by_id(images: list[Image]) -> Persons:
    return {
        person.id: (person.image_id, person.box.tolist(), float(np.float32(person.score)))
        for image in images
        for person in image.persons
    }


def or_nobody(persons: Callable[[], list[Image]]) -> Persons:
    """Nobody to evaluate is refused here, and an empty dataset in mmpose."""
    try:
        images = persons()
    except StageError as error:
        if "no person" not in str(error) and "no annotation" not in str(error):
            raise
        return {}
    return by_id(images)


@settings(max_examples=60)
@given(content=annotations())
def test_the_persons_and_their_boxes_are_those_of_mmpose(
    mmpose_persons: Callable[..., Persons], content: Content
) -> None:
    ours = or_nobody(lambda: coco.ground_truth(content, Path("annotations.json")))

    assert ours == mmpose_persons(content)


def test_the_real_persons_and_their_boxes_are_those_of_mmpose(
    mmpose_persons: Callable[..., Persons], real: Path
) -> None:
    path = real / "annotations" / "person_keypoints_val2017.json"
    content = coco.read(path)

    ours = by_id(coco.ground_truth(content, path))

    assert len(ours) == 399
    assert ours == mmpose_persons(content)


SCORES = st.sampled_from([0.1, 0.3, float(np.float32(0.3)), 0.30000001, 0.5, 1.0])
BOX_NUMBERS = st.floats(0, 500, allow_subnormal=False)
DETECTIONS = st.lists(
    st.fixed_dictionaries(
        {
            "image_id": st.sampled_from([1, 2, 3]),
            "category_id": st.sampled_from([1, 1, 1, 18]),
            "bbox": st.tuples(BOX_NUMBERS, BOX_NUMBERS, BOX_NUMBERS, BOX_NUMBERS).map(list),
            "score": SCORES,
        }
    ),
    min_size=1,
    max_size=8,
)


def detected(tmp_path: Path, content: Content, boxes: object, minimum: float = 0.0) -> list[Image]:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(boxes))
    return coco.detections(path, content, minimum)


@settings(max_examples=60)
@given(boxes=DETECTIONS, minimum=st.sampled_from([0.0, 0.3, 0.5]))
def test_the_detected_boxes_are_those_of_mmpose(
    mmpose_persons: Callable[..., Persons],
    tmp_path_factory: pytest.TempPathFactory,
    boxes: list[Content],
    minimum: float,
) -> None:
    content: Content = {
        "images": [
            {"id": n, "file_name": f"{n}.jpg", "width": WIDTH, "height": HEIGHT} for n in (2, 3, 1)
        ],
        "annotations": [],
        "categories": [{"id": 1, "name": "person"}],
    }
    folder = tmp_path_factory.getbasetemp()

    ours = or_nobody(lambda: detected(folder, content, boxes, minimum))

    assert ours == mmpose_persons(content, boxes, minimum)


def test_the_real_detected_boxes_are_those_of_mmpose(
    mmpose_persons: Callable[..., Persons], real: Path
) -> None:
    content = coco.read(real / "annotations" / "person_keypoints_val2017_with_detections.json")
    path = real / "annotations" / "COCO_val2017_detections_AP_H_56_person.json"

    ours = by_id(coco.detections(path, content))

    assert len(ours) == 1440
    assert ours == mmpose_persons(content, json.loads(path.read_bytes()))


@pytest.fixture
def content() -> Content:
    """Two images; one person in the first, three in the second, not in order."""
    return {
        "images": [
            {"id": 20, "file_name": "b.jpg", "width": 64, "height": 48},
            {"id": 10, "file_name": "a.jpg", "width": 64, "height": 48},
            {"id": 30, "file_name": "empty.jpg", "width": 64, "height": 48},
        ],
        "annotations": [
            {
                "id": number, "image_id": image, "category_id": 1, "bbox": [1, 2, 30, 40],
                "keypoints": [5, 6, 2] * 3, "num_keypoints": 3, "iscrowd": 0,
            }
            for number, image in [(9, 20), (2, 20), (5, 10), (4, 20)]
        ],
        "categories": [{"id": 1, "name": "person"}],
    }  # fmt: skip


def read(content: object, tmp_path: Path) -> list[Image]:
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(content))
    return coco.ground_truth(coco.read(path), path)


def refusal(content: object, tmp_path: Path) -> str:
    path = tmp_path / "annotations.json"
    with pytest.raises(StageError) as error:
        read(content, tmp_path)
    assert str(error.value).startswith(f"{path}: ")
    return str(error.value).removeprefix(f"{path}: ")


def test_images_and_persons_come_by_their_ids(content: Content, tmp_path: Path) -> None:
    found = read(content, tmp_path)

    assert [(image.id, image.file_name) for image in found] == [(10, "a.jpg"), (20, "b.jpg")]
    assert [[person.id for person in image.persons] for image in found] == [[5], [2, 4, 9]]
    assert found[0].persons[0].box.tolist() == [1, 2, 31, 42]
    assert found[0].persons[0].box.dtype == np.float32
    assert found[0].persons[0].score == 1.0


def test_a_missing_annotation_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"val\.json: there is no such annotation file"):
        coco.read(tmp_path / "val.json")


def test_truncated_json_is_refused(content: Content, tmp_path: Path) -> None:
    path = tmp_path / "val.json"
    path.write_text(json.dumps(content)[:-20])

    with pytest.raises(StageError, match=r"val\.json: not JSON .*fetch or write it again"):
        coco.read(path)


@pytest.mark.parametrize("other", [[], 3, "text", None])
def test_json_of_another_kind_is_refused(tmp_path: Path, other: object) -> None:
    assert "expected a JSON object" in refusal(other, tmp_path)


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_a_missing_list_is_named(content: Content, tmp_path: Path, key: str) -> None:
    del content[key]
    assert refusal(content, tmp_path).startswith(f"`{key}` is missing")

    content[key] = {"id": 1}
    assert refusal(content, tmp_path).startswith(f"`{key}` is missing or no list")


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("images", "id"), ("images", "file_name"), ("images", "width"), ("images", "height"),
        ("annotations", "id"), ("annotations", "image_id"), ("annotations", "bbox"),
        ("categories", "id"),
    ],
)  # fmt: skip
def test_a_missing_key_is_named_with_its_place(
    content: Content, tmp_path: Path, key: str, name: str
) -> None:
    del content[key][-1][name]

    assert refusal(content, tmp_path) == f"{key}[{len(content[key]) - 1}] lacks `{name}`"


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
@pytest.mark.parametrize("entry", [3, None, "id image_id bbox", ["id"]])
def test_an_entry_that_is_no_object_is_named_with_its_place(
    content: Content, tmp_path: Path, key: str, entry: object
) -> None:
    content[key].append(entry)

    assert refusal(content, tmp_path).startswith(f"{key}[{len(content[key]) - 1}] ")


@pytest.mark.parametrize(
    ("key", "name", "value"),
    [
        ("images", "id", "10"),
        ("images", "id", [10]),
        ("images", "file_name", 10),
        ("images", "width", "64"),
        ("images", "height", None),
        ("images", "height", 48.5),
        ("annotations", "id", "9"),
        ("annotations", "id", None),
        ("annotations", "image_id", [10]),
        ("annotations", "bbox", [1, 2, 3]),
        ("annotations", "bbox", None),
        ("annotations", "bbox", "1234"),
        ("annotations", "bbox", {"x": 1}),
        ("annotations", "bbox", [1, 2, "wide", 4]),
        ("annotations", "bbox", [1, 2, math.inf, 4]),
        ("annotations", "bbox", [1, 2, math.nan, 4]),
        ("annotations", "keypoints", [1, 2]),
        ("annotations", "keypoints", []),
        ("annotations", "keypoints", None),
        ("annotations", "keypoints", 7),
        ("annotations", "keypoints", ["x", 1, 2]),
        ("annotations", "keypoints", [math.nan, 1, 2]),
        ("annotations", "num_keypoints", "3"),
        ("annotations", "num_keypoints", None),
    ],
)
def test_a_malformed_value_is_named_with_its_place(
    content: Content, tmp_path: Path, key: str, name: str, value: object
) -> None:
    content[key][1][name] = value

    said = refusal(content, tmp_path)

    assert said.startswith(f"{key}[1]")
    assert name in said


def test_an_annotation_of_an_unknown_image_is_named(content: Content, tmp_path: Path) -> None:
    content["annotations"][2]["image_id"] = 99

    said = refusal(content, tmp_path)

    assert said == "annotations[2] (id 5): image_id 99 is not among the images"


@pytest.mark.parametrize("key", ["images", "annotations"])
def test_an_id_that_is_there_twice_is_named(content: Content, tmp_path: Path, key: str) -> None:
    content[key][1]["id"] = content[key][0]["id"]

    assert refusal(content, tmp_path).startswith(f"{key}[1]")


def test_annotations_without_keypoints_are_refused(content: Content, tmp_path: Path) -> None:
    for entry in content["annotations"]:
        del entry["keypoints"]

    assert refusal(content, tmp_path).startswith("no annotation has `keypoints`")


def test_annotations_with_nobody_to_evaluate_are_refused(content: Content, tmp_path: Path) -> None:
    for entry in content["annotations"]:
        entry["iscrowd"] = 1

    assert refusal(content, tmp_path).startswith("no person with labelled keypoints")


def detection(**changes: object) -> Content:
    return {"image_id": 10, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5, **changes}


def test_boxes_on_other_images_are_left_out(content: Content, tmp_path: Path) -> None:
    boxes = [detection(image_id=99), detection(), detection(category_id=2), detection(image_id=20)]

    found = detected(tmp_path, content, boxes)

    assert [image.id for image in found] == [10, 20]
    # Numbered as mmpose does: persons in the order of the file, wherever they are.
    assert [person.id for image in found for person in image.persons] == [1, 2]
    assert found[0].persons[0].score == 0.5


def test_a_missing_file_of_boxes_is_answered_with_what_to_do(
    content: Content, tmp_path: Path
) -> None:
    with pytest.raises(StageError, match=r"boxes\.json: there is no such file .*boxes: \[gt\]"):
        coco.detections(tmp_path / "boxes.json", content)


@pytest.mark.parametrize(
    ("boxes", "says"),
    [
        ({}, "expected a list of detections"),
        ([3], "expected a list of detections"),
        ([], "no person box on the annotated images"),
        ([detection(image_id=99)], "no person box on the annotated images"),
        (
            [detection(), {"image_id": 10, "category_id": 1, "bbox": [1, 2, 3, 4]}],
            "1 lacks `score`",
        ),
        ([detection(), detection(score="high")], "detection 1: score is 'high'"),
        ([detection(), detection(score=math.nan)], "detection 1: score is nan"),
        ([detection(), detection(bbox=[1, 2, 3])], "detection 1: bbox is [1, 2, 3]"),
        ([detection(), detection(bbox="1234")], "detection 1: bbox is '1234'"),
        ([detection(), detection(bbox=[1, 2, math.inf, 4])], "detection 1: bbox is"),
        ([detection(), detection(image_id=[10])], "detection 1: image_id is [10]"),
    ],
    ids=repr,
)
def test_malformed_boxes_are_named_with_their_place(
    content: Content, tmp_path: Path, boxes: object, says: str
) -> None:
    with pytest.raises(StageError) as error:
        detected(tmp_path, content, boxes)
    assert str(error.value).startswith(f"{tmp_path / 'boxes.json'}: ")
    assert says in str(error.value)


def test_truncated_boxes_are_refused(content: Content, tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text(json.dumps([detection()])[:-5])

    with pytest.raises(StageError, match=r"boxes\.json: not JSON"):
        coco.detections(tmp_path / "boxes.json", content)
