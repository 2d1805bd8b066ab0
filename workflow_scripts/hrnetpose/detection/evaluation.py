"""COCO's evaluation of a detector's boxes: pycocotools', on one category."""

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hrnetpose.artifacts.detector import BoxMetrics
from hrnetpose.data import coco
from hrnetpose.data.annotations import Annotations, estimate_areas
from hrnetpose.data.values import is_number, read_box, read_int


@dataclass(frozen=True)
class Truths:
    """The annotated boxes of a category.

    Attributes:
        image_ids: all images, also those without any.
        entries: as pycocotools takes them, with ids from 1.
    """

    image_ids: list[int]
    entries: list[dict[str, Any]]

    @property
    def count(self) -> int:
        """How many are to be found."""
        return sum(not entry["iscrowd"] for entry in self.entries)


def read_truths(path: Path, annotations: Annotations) -> Truths:
    """Return the boxes of a category, also those of persons without keypoints.

    An area that is missing or not positive is estimated, as for keypoints; an entry without a
    usable box is left out.

    Args:
        path: annotations in COCO's format.
        annotations: say which category, and which images there are.

    Raises:
        StageError: the file cannot be read.
    """
    known = set(annotations.image_ids.tolist())
    entries: list[dict[str, Any]] = []
    for index, entry in enumerate(coco.load(path)["annotations"]):
        where = f"{path}: annotations[{index}]"
        category = read_int(entry, "category_id", where) if "category_id" in entry else 1
        box = read_box(entry.get("bbox"))
        if category != annotations.category or box is None or min(box[2:]) <= 0:
            continue
        image, area = read_int(entry, "image_id", where), entry.get("area")
        if image not in known:
            continue
        if not is_number(area) or not area > 0:
            area = float(estimate_areas(np.array([box]))[0])
        entries.append(
            {
                "id": len(entries) + 1,
                "image_id": image,
                "category_id": 1,
                "bbox": list(box),
                "area": area,
                "iscrowd": int(bool(entry.get("iscrowd"))),
            }
        )
    return Truths(sorted(known), entries)


def evaluate(truths: Truths, detections: list[dict[str, Any]]) -> tuple[BoxMetrics, str]:
    """Return the twelve figures, and how pycocotools prints them.

    Args:
        truths: the annotated boxes.
        detections: in COCO's result format.
    """
    found = [
        {
            "id": number,
            "image_id": entry["image_id"],
            "category_id": 1,
            "bbox": entry["bbox"],
            "area": entry["bbox"][2] * entry["bbox"][3],
            "score": entry["score"],
            "iscrowd": 0,
        }
        for number, entry in enumerate(detections, 1)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(
            _dataset(truths.image_ids, truths.entries), _dataset(truths.image_ids, found), "bbox"
        )
        evaluation.evaluate()
        evaluation.accumulate()
    with contextlib.redirect_stdout(io.StringIO()) as summary:
        evaluation.summarize()
    figures = [None if value == -1 else value for value in evaluation.stats.tolist()]
    metrics = BoxMetrics(**dict(zip(BoxMetrics.model_fields, figures, strict=True)))
    return metrics, summary.getvalue()


def _dataset(image_ids: list[int], entries: list[dict[str, Any]]) -> COCO:
    dataset = COCO()
    dataset.dataset = {
        "images": [{"id": number} for number in image_ids],
        "categories": [{"id": 1}],
        "annotations": entries,
    }
    dataset.createIndex()
    return dataset
