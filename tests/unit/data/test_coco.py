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

from hrnetpose.data import coco, detections
from hrnetpose.data.annotations import Annotations, Image, ground_truth
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
    from hrnetpose.models import mmpose

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


def parsed(content: Content) -> Annotations:
    return coco.parse(content, Path("annotations.json"))


@settings(max_examples=60)
@given(content=annotations())
def test_the_persons_and_their_boxes_are_those_of_mmpose(
    mmpose_persons: Callable[..., Persons], content: Content
) -> None:
    ours = or_nobody(lambda: ground_truth(parsed(content)))

    assert ours == mmpose_persons(content)


def test_the_real_persons_and_their_boxes_are_those_of_mmpose(
    mmpose_persons: Callable[..., Persons], real: Path
) -> None:
    path = real / "annotations" / "person_keypoints_val2017.json"
    annotations = coco.read(path)

    ours = by_id(ground_truth(annotations))

    assert len(ours) == 399
    assert ours == mmpose_persons(json.loads(path.read_bytes()))
    assert [finding.kind for finding in annotations.findings] == []


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
    return detections.read(path, parsed(content), minimum)[0]


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
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "keypoints": [2, 2, 2]}
        ],
        "categories": [{"id": 1, "name": "person"}],
    }
    folder = tmp_path_factory.getbasetemp()

    ours = or_nobody(lambda: detected(folder, content, boxes, minimum))

    assert ours == mmpose_persons(content, boxes, minimum)


def test_the_real_detected_boxes_are_those_of_mmpose(
    mmpose_persons: Callable[..., Persons], real: Path
) -> None:
    annotations = real / "annotations" / "person_keypoints_val2017_with_detections.json"
    path = real / "annotations" / "COCO_val2017_detections_AP_H_56_person.json"

    images, _ = detections.read(path, coco.read(annotations))
    ours = by_id(images)

    assert len(ours) == 1440
    content = json.loads(annotations.read_bytes())
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
                "keypoints": [5, number, 2] * 3, "num_keypoints": 3, "iscrowd": 0,
            }
            for number, image in [(9, 20), (2, 20), (5, 10), (4, 20)]
        ],
        "categories": [{"id": 1, "name": "person"}],
    }  # fmt: skip


def read(content: object, tmp_path: Path) -> list[Image]:
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(content))
    return ground_truth(coco.read(path))


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


def test_files_that_are_missing_or_no_json_are_named(content: Content, tmp_path: Path) -> None:
    annotations, path = parsed(content), tmp_path / "val.json"

    def read_boxes(path: Path) -> None:
        detections.read(path, annotations)

    for read, says in (
        (coco.read, "annotation file"),
        (read_boxes, r"file of detected boxes; .* evaluate with `protocols: {boxes: \[gt\]}`"),
    ):
        with pytest.raises(StageError, match=rf"val\.json: there is no such {says}"):
            read(path)
        path.write_text(json.dumps(content)[:-20])
        with pytest.raises(StageError, match=r"val\.json: not JSON .*fetch or write it again"):
            read(path)
        path.unlink()


@pytest.mark.parametrize("other", [[], 3, "text", None])
def test_json_of_another_kind_is_refused(tmp_path: Path, other: object) -> None:
    assert "expected a JSON object" in refusal(other, tmp_path)


@pytest.mark.parametrize("key", ["images", "annotations"])
def test_a_missing_list_is_named(content: Content, tmp_path: Path, key: str) -> None:
    del content[key]
    assert refusal(content, tmp_path).startswith(f"`{key}` is missing")

    content[key] = {"id": 1}
    assert refusal(content, tmp_path).startswith(f"`{key}` is missing or no list")


def told(content: Content, *names: str) -> list[str]:
    """The kinds of what was found."""
    return [finding.kind for finding in parsed(content).reorder(names).findings]


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
@pytest.mark.parametrize("entry", [3, None, "id image_id bbox", ["id"]])
def test_an_entry_that_is_no_object_is_named_with_its_place(
    content: Content, tmp_path: Path, key: str, entry: object
) -> None:
    content[key].append(entry)

    assert refusal(content, tmp_path).startswith(f"{key}[{len(content[key]) - 1}] ")


MISSING = object()


@pytest.mark.parametrize(
    ("key", "name", "values"),
    [
        ("images", "id", [MISSING, "10", [10], True]),
        ("images", "file_name", [MISSING, 10]),
        ("images", "width", [MISSING, "64", 0]),
        ("images", "height", [MISSING, None, 48.5, 1e300]),
        ("annotations", "id", [MISSING, "9", None]),
        ("annotations", "image_id", [MISSING, [10]]),
        ("annotations", "keypoints",
         [[1, 2], 7, ["x", 1, 2], [math.nan, 1, 2], ["5", "6", "2"] * 3, [[5, 6]] * 3,
          [[5, 6, 2], [5, 6]], [5, None, 2] * 3, [5, 6, None] * 3, {"nose": [5, 6, 2]},
          [5, 6, 2] * 2, [10**400, 6, 2] * 3]),
        ("annotations", "num_keypoints", ["3"]),
        ("annotations", "iscrowd", ["no"]),
        ("annotations", "category_id", ["person"]),
    ],
)  # fmt: skip
def test_a_missing_or_malformed_value_is_named_with_its_place(
    content: Content, tmp_path: Path, key: str, name: str, values: list[object]
) -> None:
    for value in values:
        content[key][1].pop(name, None)
        if value is MISSING:
            assert refusal(content, tmp_path) == f"{key}[1] lacks `{name}`"
        else:
            content[key][1][name] = value
            said = refusal(content, tmp_path)
            assert said.startswith(f"{key}[1]")
            assert name in said


@pytest.mark.parametrize("key", ["images", "annotations"])
def test_an_id_that_is_there_twice_is_named(content: Content, tmp_path: Path, key: str) -> None:
    content[key][1]["id"] = content[key][0]["id"]

    assert refusal(content, tmp_path).startswith(f"{key}[1]")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"keypoints": []}, "no annotation has `keypoints`"),
        ({"iscrowd": 1}, "no person with labelled keypoints"),
        ({"bbox": None}, "no person with labelled keypoints and a box to evaluate; 4 persons with"),
    ],
)
def test_annotations_with_nobody_to_evaluate_are_refused(
    content: Content, tmp_path: Path, changes: Content, says: str
) -> None:
    for entry in content["annotations"]:
        entry.update(changes)

    assert refusal(content, tmp_path).startswith(says)


POINTS = ("nose", "left_eye", "right_eye")
SCATTERED = [10, 11, 2, 20, 21, 1, 30, 31, 2]


def named(content: Content, *names: str) -> Content:
    """The category names its keypoints."""
    content["categories"][0]["keypoints"] = list(names)
    for number, entry in enumerate(content["annotations"]):
        entry["keypoints"] = [SCATTERED[0] + number, *SCATTERED[1:]]
    return content


@pytest.mark.parametrize(
    "names", [POINTS, ("Nose", "left eye", "RIGHT-EYE"), (" NOSE ", "leftEye", "right__eye")]
)
def test_names_are_compared_without_regard_to_spelling(
    content: Content, names: tuple[str, ...]
) -> None:
    assert told(named(content, *names), *POINTS) == ["no_area"]


def test_keypoints_in_another_order_are_matched_by_name(content: Content) -> None:
    annotations = parsed(named(content, "right_eye", "nose", "left_eye")).reorder(POINTS)

    assert annotations.keypoints[0].tolist() == [[20, 21, 1], [30, 31, 2], [10, 11, 2]]
    assert annotations.findings[-1].kind == "reordered"


@pytest.mark.parametrize("names", [(), ("0", "1", "2")])
def test_keypoints_without_names_are_taken_in_order_and_told(
    content: Content, names: tuple[str, ...]
) -> None:
    assert told(named(content, *names), *POINTS)[-1] == "unnamed"


@pytest.mark.parametrize(
    ("names", "model", "says"),
    [
        (("nose", "LEye", "REye"), POINTS,
         "category 'person' has other keypoints .* lacks left_eye, right_eye, and has LEye, REye"),
        (("nose", "\x1b[31mred", "right_eye"), POINTS, r"lacks left_eye, and has '\\x1b\[31mred'"),
        (("thumb", "palm", "wrist"), POINTS,
         "lacks nose, left_eye, right_eye, and has thumb, palm, wrist"),
        (POINTS, (*POINTS, "mouth"), "has 3 keypoints, but the model has 4"),
        ((), (*POINTS, "mouth"), "has 3 keypoints, but the model has 4"),
        (("nose", "mouth"), POINTS, r"annotations\[0\].* has 3 keypoints.* 'person' has 2"),
        (("nose", "left_eye", "left eye"), POINTS, "names keypoint 'lefteye' twice"),
        ((1, 2, 3), POINTS, r"keypoints of category 'person' are \[1, 2, 3\]; expected a list"),
    ],
)  # fmt: skip
def test_keypoints_that_are_not_the_model_s_are_refused(
    content: Content, names: tuple[str, ...], model: tuple[str, ...], says: str
) -> None:
    with pytest.raises(StageError, match=says):
        parsed(named(content, *names)).reorder(model)


@pytest.fixture
def several(content: Content) -> Content:
    """Persons of three keypoints, and skis of two, as CVAT exports them."""
    named(content, *POINTS)
    content["categories"].append({"id": 7, "name": "skis", "keypoints": ["tip", "tail"]})
    content["annotations"].append(
        {"id": 50, "image_id": 10, "category_id": 7, "bbox": [1, 2, 30, 40],
         "keypoints": [5, 6, 2] * 2}
    )  # fmt: skip
    return content


def test_of_several_categories_the_one_with_the_model_s_keypoints_is_taken(
    several: Content,
) -> None:
    persons = coco.parse(several, Path("a.json"), POINTS)
    skis = coco.parse(several, Path("a.json"), ("tail", "tip"))

    assert (persons.category_name, sorted(persons.ids)) == ("person", [2, 4, 5, 9])
    assert (skis.category_name, skis.category, skis.ids.tolist()) == ("skis", 7, [50])
    assert "1 other categories have keypoints, and are left out: skis" in [
        finding.text for finding in persons.findings
    ]


def test_a_category_with_the_model_s_names_is_taken_before_one_without(several: Content) -> None:
    del several["categories"][1]["keypoints"]
    several["annotations"][-1]["keypoints"] = SCATTERED

    assert coco.parse(several, Path("a.json"), POINTS).category_name == "person"


def test_the_configuration_may_name_the_category(several: Content) -> None:
    assert coco.parse(several, Path("a.json"), category="Skis").category == 7
    with pytest.raises(StageError, match="no keypoints of a category 'dog'"):
        coco.parse(several, Path("a.json"), category="dog")


@pytest.mark.parametrize("names", [(), ("wrist", "thumb")])
def test_categories_of_which_none_or_several_fit_are_listed(
    several: Content, names: tuple[str, ...]
) -> None:
    listed = r"'person' \(3 keypoints, 4 annotations\), 'skis' \(2 keypoints, 1 annotations\)"
    with pytest.raises(StageError, match=listed):
        coco.parse(several, Path("a.json"), names)


def test_a_category_that_is_listed_twice_has_the_names_that_are_given_once(
    content: Content,
) -> None:
    """As files have it that were put together of several."""
    named(content, "right_eye", "nose", "left_eye")["categories"].insert(0, {"id": 1})

    assert told(content, *POINTS)[-1] == "reordered"


@pytest.mark.parametrize("number", ["1", 0, None])
def test_a_category_without_an_entry_is_refused_where_there_are_some(
    content: Content, number: object
) -> None:
    """COCO's evaluation finds nobody in it, and its keypoints have no names."""
    named(content, *POINTS)["categories"][0]["id"] = number

    says = rf"4 annotations are of category 1, but `categories` lists {number!r};"
    with pytest.raises(StageError, match=says):
        parsed(content)


@pytest.mark.parametrize("area", [0, None, math.nan, math.inf, -5, "123.4", [], True])
def test_an_area_that_is_none_is_estimated_and_told(content: Content, area: object) -> None:
    content["annotations"][2]["area"] = area
    annotations = parsed(content)

    assert annotations.areas[2] == 0.53 * 30 * 40
    finding = next(f for f in annotations.findings if f.kind == "no_area")
    assert (finding.count, finding.label) == (4, "4 areas estimated")
    assert "annotations[0] (id 9): None" in finding.text


def test_areas_of_boxes_are_told(content: Content) -> None:
    for entry in content["annotations"]:
        entry["area"] = 30 * 40.0
    assert told(content, *POINTS) == ["area_of_box", "unnamed"]
    for entry in content["annotations"]:
        entry["area"] = 600.0
    content["annotations"][0] |= {"area": 64 * 48, "iscrowd": 1}
    content["annotations"][1]["area"] = 64 * 48
    (found,) = parsed(content).findings
    assert (found.kind, found.label) == ("area_beyond_box", "1 areas larger than the box")


@pytest.mark.parametrize(
    "box", [[0, 0, 0, 0], [], None, [1, 2, 3], [1, 2, math.nan, 4], ["1", "2", "3", "4"],
            [500, 500, 9, 9], [1, 2, -3, 4], {"x": 1}],
    ids=repr,
)  # fmt: skip
def test_persons_without_a_usable_box_count_as_missed_and_are_told(
    content: Content, box: object
) -> None:
    content["annotations"][1]["bbox"] = box
    annotations = parsed(content)

    assert annotations.evaluated.tolist() == [True, False, True, True]
    assert not annotations.ignored.any()
    finding = next(f for f in annotations.findings if f.kind == "no_box")
    assert (finding.count, finding.boxes) == (1, "gt")
    assert finding.label == "1 persons without a box count as missed"
    assert "annotations[1] (id 2)" in finding.text


def test_a_box_that_is_left_out_is_one_too(content: Content) -> None:
    del content["annotations"][1]["bbox"]
    assert told(content, *POINTS) == ["no_box", "no_area", "unnamed"]


def test_persons_that_cocoeval_leaves_out_or_cannot_find_are_told(content: Content) -> None:
    content["annotations"][0]["num_keypoints"] = 0
    content["annotations"][1] |= {"keypoints": [5, 6, 0] * 3, "num_keypoints": 0}
    annotations = parsed(content)

    assert annotations.ignored.tolist() == [True, True, False, False]
    kinds = {finding.kind: finding for finding in annotations.findings}
    assert kinds["no_count"].label == "1 persons with num_keypoints 0 left out"
    assert kinds["not_labelled"].count == 1


def test_persons_that_are_matched_by_their_box_are_told(content: Content) -> None:
    for entry in content["annotations"][:2]:
        entry["keypoints"] = [5, 6, 0] * 3

    finding = next(f for f in parsed(content).findings if f.kind == "matched_by_box")

    assert finding.label == "2 persons matched by their box alone"
    assert "annotations[0] (id 9): [5.0, 6.0, 0.0]" in finding.text


def test_persons_without_keypoints_and_ignored_ones_and_copies_are_told(content: Content) -> None:
    first, second = content["annotations"][:2]
    content["annotations"] += [
        {**first, "id": 90},
        {**first, "id": 91, "keypoints": None},
        {"id": 92, "image_id": 10, "category_id": 1, "bbox": [1, 2, 30, 40], "iscrowd": 1},
        {"id": 93, "image_id": 99, "category_id": 1},
        {"id": 94, "image_id": 10, "category_id": 2, "keypoints": []},
    ]
    second["ignore"] = 1

    found = parsed(content)

    kinds = {finding.kind: finding for finding in found.findings}
    assert len(found.ids) == 5
    assert kinds["no_keypoints"].label == "2 persons without keypoints not ignored"
    assert kinds["persons_twice"].label == "1 persons annotated twice"
    assert (kinds["ignore"].count, kinds["ignore"].label) == (1, None)


def test_persons_beyond_the_twenty_of_an_image_are_told(content: Content) -> None:
    first = content["annotations"][0]
    content["annotations"] = [{**first, "id": number} for number in range(23)]
    content["annotations"] += [{**first, "id": number, "iscrowd": 1} for number in range(23, 30)]

    finding = next(f for f in parsed(content).findings if f.kind == "crowded")

    assert finding.label == "3 persons beyond 20 on an image count as missed"


def test_what_is_not_labelled_may_be_null(content: Content) -> None:
    for entry in content["annotations"]:
        entry["keypoints"] = [5, 6, 2, None, math.nan, 0, None, None, None]

    found = parsed(content)

    assert found.keypoints[0].tolist() == [[5, 6, 2], [0, 0, 0], [0, 0, 0]]


def test_other_spellings_are_read(content: Content) -> None:
    expected = parsed(content)
    for entry in content["annotations"]:
        entry["keypoints"] = [[5, entry["id"], 2.0]] * 3
        entry["num_keypoints"] = None
        entry["image_id"] = float(entry["image_id"])
    for entry in content["images"]:
        entry["width"] = float(entry["width"])
    content["annotations"] += [
        {"id": 77, "image_id": 10, "category_id": 3, "keypoints": []},
        {"id": 9, "image_id": "?", "segmentation": []},
        {"id": 79, "image_id": 99, "category_id": 1, "keypoints": [5, 6, 2] * 3},
    ]
    del content["categories"]

    found = parsed(content)

    for name in ("image_ids", "ids", "images", "keypoints", "boxes", "areas", "evaluated"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert [finding.kind for finding in found.findings] == ["elsewhere", "no_area"]


@pytest.mark.parametrize(
    ("boxes", "kind"),
    [
        ([[10, 5, 50, 40], [30, 20, 60, 45], [40, 1, 63, 47]], "boxes_corners"),
        ([[0.1, 0.2, 0.5, 0.5], [0.0, 0.0, 1.0, 1.0]], "boxes_fractions"),
        # One that was clipped to nothing or ends far outside, or is of another form.
        ([[10, 5, 50, 40], [30, 20, 60, 45]] * 6 + [[64, 5, 64, 30]], "boxes_corners"),
        ([[10, 5, 50, 40], [30, 20, 60, 45]] * 6 + [[40, 5, 90, 30]], "boxes_corners"),
        ([[0.1, 0.2, 0.5, 0.5]] * 12 + [[10, 5, 30, 40]], "boxes_fractions"),
        ([[10, 5, 30, 40], [30, 20, 30, 25], [40, 1, 20, 47]], None),
    ],
)
def test_boxes_of_another_form_are_told(
    content: Content, tmp_path: Path, boxes: list[list[float]], kind: str | None
) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps([detection(bbox=box) for box in boxes]))
    _, found = detections.read(path, parsed(content))
    assert [finding.kind for finding in found] == ([kind] if kind else [])

    content["annotations"] = [
        {
            **content["annotations"][0],
            "id": number,
            "bbox": box,
            "area": 500,
            "keypoints": [number, 6, 2] * 3,
        }
        for number, box in enumerate(boxes)
    ]
    kinds = [finding.kind for finding in parsed(content).findings]
    assert [one for one in kinds if one.startswith("boxes")] == ([kind] if kind else [])


def test_the_table_is_read_back(content: Content, tmp_path: Path) -> None:
    content["images"][0]["file_name"] = "Ж/人 1.jpg"
    annotations = parsed(named(content, *POINTS))
    annotations.write(tmp_path / "audit.npz")

    found = Annotations.read(tmp_path / "audit.npz")

    for name, value in vars(annotations).items():
        if name != "findings":
            np.testing.assert_array_equal(getattr(found, name), value, err_msg=name)


def test_boxes_are_those_of_the_persons_category(content: Content, tmp_path: Path) -> None:
    for entry in [*content["annotations"], *content["categories"]]:
        entry["id" if "name" in entry else "category_id"] = 2
    boxes = [detection(category_id=1), detection(category_id=2, score=0.25)]

    found = detected(tmp_path, content, boxes)

    assert [person.score for image in found for person in image.persons] == [0.25]
    with pytest.raises(StageError, match=r"categories found: 0 \(1 boxes\), 1 \(1 boxes\)"):
        detected(tmp_path, content, [detection(category_id=0), detection(category_id=1)])


def detection(**changes: object) -> Content:
    return {"image_id": 10, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5, **changes}


def test_boxes_on_other_images_are_left_out(content: Content, tmp_path: Path) -> None:
    boxes = [detection(image_id=99), detection(), detection(category_id=2), detection(image_id=20)]

    found = detected(tmp_path, content, boxes)

    assert [image.id for image in found] == [10, 20]
    # Numbered as mmpose does: persons in the order of the file, wherever they are.
    assert [person.id for image in found for person in image.persons] == [1, 2]
    assert found[0].persons[0].score == 0.5


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
        ([detection(), detection(score=1e39)], "detection 1: score is 1e+39"),
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
