"""COCO keypoint annotations: read, checked, and turned into the persons to evaluate."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hrnetpose.stage import StageError


@dataclass(frozen=True)
class Person:
    """One box to cut out.

    Attributes:
        id: annotation id; orders the persons of an image.
        image_id: COCO image id.
        box: float32 [4], x1, y1, x2, y2 in pixels, clipped to the image.
        score: how sure the box is; 1 for ground truth.
    """

    id: int
    image_id: int
    box: npt.NDArray[np.float32]
    score: float


@dataclass(frozen=True)
class Image:
    """An image and its persons; `file_name`, `width` and `height` as annotated."""

    id: int
    file_name: str
    width: int
    height: int
    persons: tuple[Person, ...]


_KEYS: dict[str, dict[str, type]] = {
    "images": {"id": int, "file_name": str, "width": int, "height": int},
    "annotations": {"id": int, "image_id": int, "bbox": list},
    "categories": {"id": int},
}


def read(path: Path) -> dict[str, Any]:
    """Reads annotations in COCO's keypoint format.

    Raises:
        StageError: the file is missing, is no JSON, or is not of that format.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise StageError(f"{path}: there is no such annotation file") from error
    except (ValueError, RecursionError) as error:
        raise StageError(f"{path}: not JSON ({error}); fetch or write it again") from error
    if not isinstance(content, dict):
        raise StageError(f"{path}: expected a JSON object with COCO's keys, found a list or value")
    for key, kinds in _KEYS.items():
        if not isinstance(content.get(key), list):
            raise StageError(f"{path}: `{key}` is missing or no list; expected COCO's format")
        known = set()
        for index, entry in enumerate(content[key]):
            where = f"{path}: {key}[{index}]"
            if not isinstance(entry, dict):
                raise StageError(f"{where} is {entry!r}; expected a JSON object")
            for name, kind in kinds.items():
                if name not in entry:
                    raise StageError(f"{where} lacks `{name}`")
                if not isinstance(entry[name], kind):
                    raise StageError(
                        f"{where}: {name} is {entry[name]!r}; expected {kind.__name__}"
                    )
                if kind is int and not -(2**63) <= entry[name] < 2**63:
                    raise StageError(f"{where}: {name} is {entry[name]}, which is beyond 64 bits")
            if entry["id"] in known:
                raise StageError(f"{where}: id {entry['id']} is there twice")
            known.add(entry["id"])
    return content


def ground_truth(content: dict[str, Any], path: Path) -> list[Image]:
    """Returns the images that hold persons to evaluate, with their annotated boxes.

    Which persons count follows mmpose's CocoDataset: not crowds, at least one labelled keypoint,
    a box that is not empty after clipping.

    Args:
        content: what `read` returned.
        path: where it came from, for messages.

    Raises:
        StageError: no person with keypoints is left, or an annotation is malformed.
    """
    images = {entry["id"]: entry for entry in content["images"]}
    persons: dict[int, list[Person]] = {}
    with_keypoints = 0
    for index, entry in enumerate(content["annotations"]):
        if "keypoints" not in entry:
            continue
        with_keypoints += 1
        where = f"{path}: annotations[{index}] (id {entry['id']})"
        if entry["image_id"] not in images:
            raise StageError(f"{where}: image_id {entry['image_id']} is not among the images")
        image = images[entry["image_id"]]
        box = _clipped(entry["bbox"], image["width"], image["height"], where)
        keypoints = _keypoints(entry["keypoints"], where)
        # Where the number is not given, mmpose goes by the coordinates alone.
        labelled = entry.get("num_keypoints", len(keypoints))
        if not isinstance(labelled, int):
            raise StageError(f"{where}: num_keypoints is {labelled!r}; expected int")
        if entry.get("iscrowd") or labelled == 0 or keypoints[:, :2].max() <= 0:
            continue
        if (box[2:] <= box[:2]).any():
            continue
        persons.setdefault(image["id"], []).append(Person(entry["id"], image["id"], box, 1.0))
    if not with_keypoints:
        raise StageError(
            f"{path}: no annotation has `keypoints`; expected COCO keypoint annotations, such as "
            "person_keypoints_val2017.json"
        )
    if not persons:
        raise StageError(f"{path}: no person with labelled keypoints and a box to evaluate")
    return _with_persons(content, persons)


def detections(path: Path, content: dict[str, Any], minimum_score: float = 0.0) -> list[Image]:
    """Returns the images on which a detector found persons, with its boxes.

    Boxes are taken as they are, not clipped, and numbered in the order of the file, as mmpose's
    CocoDataset does.  Boxes on images that are not annotated are left out.

    Args:
        path: boxes in COCO's result format, [{image_id, category_id, bbox, score}, ...].
        content: the annotations, as `read` returned them.
        minimum_score: boxes with a lower score are left out.

    Raises:
        StageError: the file is missing, malformed, or has no box on the annotated images.
    """
    try:
        entries = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise StageError(
            f"{path}: there is no such file of detected boxes; put it there, or evaluate with "
            "`protocols: {boxes: [gt]}`"
        ) from error
    except (ValueError, RecursionError) as error:
        raise StageError(f"{path}: not JSON ({error}); fetch or write it again") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise StageError(f"{path}: expected a list of detections in COCO's result format")
    images = {entry["id"]: entry for entry in content["images"]}
    persons: dict[int, list[Person]] = {}
    number = 0
    for index, entry in enumerate(entries):
        where = f"{path}: detection {index}"
        missing = [n for n in ("image_id", "category_id", "bbox", "score") if n not in entry]
        if missing:
            raise StageError(f"{where} lacks `{missing[0]}`")
        if entry["category_id"] != 1:
            continue
        number += 1
        if not isinstance(entry["image_id"], int):
            raise StageError(f"{where}: image_id is {entry['image_id']!r}; expected int")
        if entry["image_id"] not in images:
            continue
        box = np.array(_box(entry["bbox"], where), np.float32)
        box[2:] += box[:2]
        score = entry["score"]
        if not isinstance(score, int | float) or not abs(score) < 1e38:
            raise StageError(f"{where}: score is {score!r}; expected a number")
        if np.float32(score) < np.float32(minimum_score):
            continue
        person = Person(number - 1, entry["image_id"], box, float(score))
        persons.setdefault(entry["image_id"], []).append(person)
    if not persons:
        raise StageError(f"{path}: no person box on the annotated images; is it another dataset's?")
    return _with_persons(content, persons)


def _with_persons(content: dict[str, Any], persons: dict[int, list[Person]]) -> list[Image]:
    return [
        Image(
            entry["id"],
            entry["file_name"],
            entry["width"],
            entry["height"],
            tuple(sorted(persons[entry["id"]], key=lambda person: person.id)),
        )
        for entry in sorted(content["images"], key=lambda entry: entry["id"])
        if entry["id"] in persons
    ]


def _box(box: Any, where: str) -> list[float]:
    try:
        numbers = [float(value) for value in box] if isinstance(box, list) else []
    except (TypeError, ValueError, OverflowError):
        numbers = []
    if len(numbers) != 4 or not np.isfinite(numbers).all():
        raise StageError(f"{where}: bbox is {box!r}; expected four finite numbers")
    return numbers


def _clipped(box: Any, width: int, height: int, where: str) -> npt.NDArray[np.float32]:
    """COCO's x, y, width, height as corners inside the image, as mmpose clips them."""
    x, y, w, h = _box(box, where)
    corners = np.array([x, y, x + w, y + h])
    return np.clip(corners, 0, np.array([width, height] * 2) - 1).astype(np.float32)


def _keypoints(values: Any, where: str) -> npt.NDArray[np.float64]:
    try:
        keypoints = np.array(values, float).reshape(-1, 3)
    except (TypeError, ValueError, OverflowError) as error:
        raise StageError(f"{where}: keypoints are not triples of x, y and visibility") from error
    if not len(keypoints) or not np.isfinite(keypoints).all():
        raise StageError(f"{where}: keypoints are empty, or not finite numbers")
    return keypoints
