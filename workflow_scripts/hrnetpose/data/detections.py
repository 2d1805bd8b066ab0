"""Boxes of a person detector, in COCO's result format."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from hrnetpose.artifacts.findings import Finding
from hrnetpose.data import findings
from hrnetpose.data.annotations import Annotations, Image, Person, attach_persons
from hrnetpose.data.values import is_number, read_box, read_int, read_json
from hrnetpose.stage import StageError, shown


def read(
    path: Path, annotations: Annotations, minimum_score: float = 0.0
) -> tuple[list[Image], list[Finding]]:
    """Return the images on which a detector found persons, with its boxes.

    Boxes are taken as they are, not clipped, and numbered in the order of the file, as mmpose's
    CocoDataset does.  Boxes on images that are not annotated are left out.

    Args:
        path: boxes in COCO's result format, [{image_id, category_id, bbox, score}, ...].
        annotations: say which images there are, and which category the persons are.
        minimum_score: boxes with a lower score are left out.

    Raises:
        StageError: the file is missing, malformed, or has no box on the annotated images.
    """
    entries = _load(path)
    places = {number: place for place, number in enumerate(annotations.image_ids.tolist())}
    persons: dict[int, list[Person]] = {}
    categories: Counter[int] = Counter()
    boxes, on_images = [], []
    elsewhere = 0
    for index, entry in enumerate(entries):
        where = f"{path}: detection {index}"
        missing = [n for n in ("image_id", "category_id", "bbox", "score") if n not in entry]
        if missing:
            raise StageError(f"{where} lacks `{missing[0]}`")
        category = read_int(entry, "category_id", where)
        categories[category] += 1
        if category != annotations.category:
            continue
        image = read_int(entry, "image_id", where)
        if image not in places:
            elsewhere += 1
            continue
        given, score = _read_box_and_score(entry, where)
        boxes.append(given)
        on_images.append(places[image])
        if np.float32(score) < np.float32(minimum_score):
            continue
        box = np.array(given, np.float32)
        box[2:] += box[:2]
        number = categories[category] - 1
        persons.setdefault(image, []).append(Person(number, image, box, score))
    total = categories[annotations.category]
    if not persons:
        wanted = f"category {annotations.category}, {annotations.category_name!r}"
        seen = ", ".join(f"{kind} ({count} boxes)" for kind, count in sorted(categories.items()))
        raise StageError(
            f"{path}: no person box on the annotated images: {wanted} has {total}, of which "
            f"{elsewhere} are on other images and {len(boxes)} have a score below {minimum_score}; "
            f"categories found: {seen or 'none'}"
        )
    found = [
        findings.make_finding(
            "boxes_elsewhere",
            elsewhere,
            "{} detected boxes are on images that are not annotated: left out",
            boxes="det",
        ),
        findings.make_finding(
            "boxes_of_others",
            len(entries) - total,
            f"{{}} detected boxes are of other categories than {annotations.category}: left out",
            boxes="det",
        ),
        *findings.find_in_boxes(boxes, annotations.sizes[on_images], "det"),
    ]
    return attach_persons(annotations, persons), [one for one in found if one.count]


def _read_box_and_score(entry: dict[str, Any], where: str) -> tuple[tuple[float, ...], float]:
    given, score = read_box(entry["bbox"]), entry["score"]
    if given is None:
        raise StageError(f"{where}: bbox is {shown(entry['bbox'])}; expected four finite numbers")
    if not is_number(score) or not abs(score) < 1e38:
        raise StageError(f"{where}: score is {shown(score)}; expected a number")
    return given, float(score)


def _load(path: Path) -> list[dict[str, Any]]:
    entries = read_json(
        path,
        "file of detected boxes; put it there, or evaluate with `protocols: {boxes: [gt]}`",
    )
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise StageError(f"{path}: expected a list of detections in COCO's result format")
    return entries
