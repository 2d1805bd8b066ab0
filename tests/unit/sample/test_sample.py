"""The embedded sample: the same every time, and labelled as it is drawn."""

import json
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from hrnetpose.sample.images import draw_image
from hrnetpose.sample.split import write_split

IMAGES = 60
NOSE, LEFT_EYE, RIGHT_EYE = 0, 1, 2
FACE = slice(0, 5)
LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_HIP, RIGHT_HIP = 5, 6, 11, 12

Drawn = tuple[np.ndarray, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def drawn() -> list[Drawn]:
    return [draw_image("val", index) for index in range(IMAGES)]


@pytest.fixture(scope="module")
def people(drawn: list[Drawn]) -> list[dict[str, Any]]:
    return [person for _, annotations in drawn for person in annotations]


def keypoints(person: dict[str, Any]) -> np.ndarray:
    return np.reshape(person["keypoints"], (17, 3))


def test_an_image_depends_on_its_split_and_index_alone(drawn: list[Drawn]) -> None:
    image, annotations = draw_image("val", 7)

    assert np.array_equal(image, drawn[7][0])
    assert annotations == drawn[7][1]


def test_splits_share_no_image_and_no_id(drawn: list[Drawn]) -> None:
    others = [draw_image("train", index) for index in range(20)]

    assert {image.tobytes() for image, _ in drawn}.isdisjoint(
        image.tobytes() for image, _ in others
    )
    assert {person["image_id"] for _, found in drawn for person in found}.isdisjoint(
        person["image_id"] for _, found in others for person in found
    )


@pytest.mark.parametrize(("split", "index"), [("test", 0), ("val", -1)])
def test_unknown_images_are_refused(split: str, index: int) -> None:
    with pytest.raises(ValueError, match="splits are train, val"):
        draw_image(split, index)


def test_files_are_the_same_bytes_twice_and_valid_coco(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_split("val", 4, tmp_path / f"{name}.zip", tmp_path / f"{name}.json")

    for suffix in (".zip", ".json"):
        first, second = ((tmp_path / f"{name}{suffix}") for name in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()
    coco = COCO(str(tmp_path / "first.json"))
    assert len(coco.getImgIds()) == 4
    assert set(coco.getCatIds()) == {1}
    assert len(coco.loadCats(1)[0]["keypoints"]) == 17
    with zipfile.ZipFile(tmp_path / "first.zip") as archive:
        for record in coco.loadImgs(coco.getImgIds()):
            info = archive.getinfo(record["file_name"])
            assert info.compress_type == zipfile.ZIP_STORED
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
            image = cv2.imdecode(np.frombuffer(archive.read(info), np.uint8), cv2.IMREAD_COLOR)
            assert image is not None
            assert image.shape == (record["height"], record["width"], 3)


def test_a_failed_write_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 images"):
        write_split("val", 0, tmp_path / "a.zip", tmp_path / "a.json")

    assert list(tmp_path.iterdir()) == []


def test_annotations_are_plain_json_numbers(people: list[dict[str, Any]]) -> None:
    assert json.loads(json.dumps(people)) == people
    assert len({person["id"] for person in people}) == len(people)


def test_labelled_keypoints_lie_in_the_image_and_in_the_box(drawn: list[Drawn]) -> None:
    for image, annotations in drawn:
        height, width = image.shape[:2]
        for person in annotations:
            x, y, visibility = keypoints(person).T
            left, top, box_width, box_height = person["bbox"]
            assert min(left, top) >= 0
            assert left + box_width <= width
            assert top + box_height <= height
            assert 0 < person["area"] <= box_width * box_height
            labelled = visibility > 0
            assert person["num_keypoints"] == labelled.sum()
            assert set(visibility) <= {0, 1, 2}
            assert not np.stack([x, y])[:, ~labelled].any()
            for values, start, size in ((x, left, box_width), (y, top, box_height)):
                assert ((values[labelled] >= start) & (values[labelled] < start + size)).all()


def test_left_is_right_of_right_on_whoever_faces_the_viewer(people: list[dict[str, Any]]) -> None:
    """Hold in a person's own frame, so for a mirrored image too once the names are swapped."""
    agreeing = []
    for person in people:
        points, visibility = keypoints(person)[:, :2], keypoints(person)[:, 2]
        if (visibility[FACE] == 2).all():
            eyes = points[LEFT_EYE] - points[RIGHT_EYE]
            down = points[NOSE] - 0.5 * (points[LEFT_EYE] + points[RIGHT_EYE])
            agreeing.append(eyes[0] * down[1] - eyes[1] * down[0] > 0)
    assert len(agreeing) >= 8
    assert all(agreeing)


def test_people_are_seen_from_the_front_and_from_behind(people: list[dict[str, Any]]) -> None:
    front = back = 0
    for person in people:
        points, visibility = keypoints(person)[:, :2], keypoints(person)[:, 2]
        if (visibility[[LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_HIP, RIGHT_HIP]] > 0).all():
            shoulders = points[LEFT_SHOULDER] - points[RIGHT_SHOULDER]
            hips = 0.5 * (points[LEFT_HIP] + points[RIGHT_HIP])
            down = hips - 0.5 * (points[LEFT_SHOULDER] + points[RIGHT_SHOULDER])
            if shoulders[0] * down[1] - shoulders[1] * down[0] > 0:
                front += 1
            else:
                back += 1
    assert front > 20
    assert back > 15


def test_crowds_occlusion_and_truncation_occur(drawn: list[Drawn]) -> None:
    crowd = [len(annotations) for _, annotations in drawn]
    assert min(crowd) == 1
    assert max(crowd) >= 4
    visibility = np.stack([keypoints(person)[:, 2] for _, found in drawn for person in found])
    assert 0.05 < (visibility == 1).mean() < 0.4
    cut = [
        person
        for image, annotations in drawn
        for person in annotations
        if person["bbox"][0] + person["bbox"][2] == image.shape[1]
        or person["bbox"][1] + person["bbox"][3] == image.shape[0]
    ]
    assert len(cut) >= 5
