"""COCO's keypoint evaluation: pycocotools', given clean data, and what it matched.

pycocotools takes a match with the annotation whose id is 0 for none, needs an area and a number of
keypoints in every annotation, cannot load a file without results, and lets a keypoint that is NaN
match whatever comes last.  So ids are given from 1, results are not loaded, and NaN is nowhere.
"""

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hrnetpose.artifacts.metrics import Metrics
from hrnetpose.data.annotations import Annotations
from hrnetpose.pose.oks import Doubles

Indices = npt.NDArray[np.intp]
Counts = npt.NDArray[np.int64]

FALSE, TRUE, IGNORED = 0, 1, -1
"""What becomes of a detection at a threshold."""
_CATEGORY = 1


@dataclass(frozen=True)
class Detections:
    """Predicted persons, D in all.

    Attributes:
        image_ids: int64 [D].
        keypoints: float64 [D, K, 2] in pixels.
        scores: float64 [D].
        areas: float64 [D] in square pixels, of the boxes that persons were found by.
    """

    image_ids: Counts
    keypoints: Doubles
    scores: Doubles
    areas: Doubles


@dataclass(frozen=True)
class Matches:
    """What became of the best 20 detections of each image, D in all, at T thresholds of OKS.

    Attributes:
        image_ids: int64 [I], all images, rising.
        truths: int64 [I], persons to be found.
        images: intp [D], indices into `image_ids`, by falling score; equal ones in that order.
        fates: int8 [T, D]: TRUE, FALSE or IGNORED.
    """

    image_ids: Counts
    truths: Counts
    images: Indices
    fates: npt.NDArray[np.int8]


@dataclass(frozen=True)
class Evaluated:
    """COCO's evaluation of detections.

    Attributes:
        metrics: the ten figures.
        matches: what they were taken from, persons of all sizes.
        precision: float64 [T, R], at T thresholds of OKS and R recalls; empty without persons.
        summary: the ten figures as pycocotools prints them.
    """

    metrics: Metrics
    matches: Matches
    precision: Doubles
    summary: str


def evaluate(truths: Annotations, detections: Detections, sigmas: npt.ArrayLike) -> Evaluated:
    """Evaluate detections with pycocotools' COCOeval.

    Args:
        truths: the annotated persons.
        detections: the predicted persons.
        sigmas: the OKS constants [K].

    Raises:
        ValueError: a detection is on an image that is not evaluated on.
    """
    unknown = ~np.isin(detections.image_ids, truths.image_ids)
    if unknown.any():
        raise ValueError(
            f"a detection is on image {detections.image_ids[unknown][0]}, which is not annotated"
        )
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCOeval(_annotated(truths), _detected(truths, detections), "keypoints")
        coco.params.kpt_oks_sigmas = np.asarray(sigmas, np.float64)
        coco.evaluate()
        coco.accumulate()
    with contextlib.redirect_stdout(io.StringIO()) as summary:
        coco.summarize()
    figures = [None if value == -1 else value for value in coco.stats.tolist()]
    return Evaluated(
        metrics=Metrics(**dict(zip(Metrics.model_fields, figures, strict=True))),
        matches=_matches(coco, truths.image_ids),
        # Of the one category, of persons of all sizes; -1 where there is nobody.
        precision=np.maximum(coco.eval["precision"][:, :, 0, 0, -1], 0.0),
        summary=summary.getvalue(),
    )


def _annotated(truths: Annotations) -> COCO:
    # Of `num_keypoints`, COCOeval asks only whether it is 0: such a person is ignored.
    count, number, _ = truths.keypoints.shape
    columns = {
        "image_id": truths.images,
        "keypoints": truths.keypoints.reshape(count, number * 3),
        "num_keypoints": ~truths.ignored,
        "iscrowd": truths.crowds,
        "bbox": truths.boxes,
        "area": truths.areas,
    }
    return _dataset(len(truths.image_ids), columns)


def _detected(truths: Annotations, detections: Detections) -> COCO:
    count, number, _ = detections.keypoints.shape
    triples = np.ones((count, number, 3))
    triples[..., :2] = np.nan_to_num(
        detections.keypoints, nan=np.inf, posinf=np.inf, neginf=-np.inf
    )
    columns = {
        "image_id": np.searchsorted(truths.image_ids, detections.image_ids),
        "keypoints": triples.reshape(count, number * 3),
        "score": detections.scores,
        "area": detections.areas,
    }
    return _dataset(len(truths.image_ids), columns)


def _dataset(images: int, columns: dict[str, npt.NDArray[Any]]) -> COCO:
    """Return annotations or results with ids from 1, on images that are numbered from 0."""
    # Numbers become Python's, which is quicker; keypoints stay arrays, which is smaller.
    values = [list(column) if column.ndim > 1 else column.tolist() for column in columns.values()]
    dataset = COCO()
    dataset.dataset = {
        "images": [{"id": number} for number in range(images)],
        "categories": [{"id": _CATEGORY}],
        "annotations": [
            {"id": number, "category_id": _CATEGORY, **dict(zip(columns, row, strict=True))}
            for number, row in enumerate(zip(*values, strict=True), 1)
        ],
    }
    dataset.createIndex()
    return dataset


def _matches(coco: COCOeval, image_ids: Counts) -> Matches:
    # The first range of areas is that of all; there is None for an image with nothing on it.
    found = [one for one in coco.evalImgs[: len(image_ids)] if one is not None]
    places = np.array([one["image_id"] for one in found], np.intp)
    truths = np.zeros(len(image_ids), np.int64)
    truths[places] = [np.count_nonzero(one["gtIgnore"] == 0) for one in found]
    scores = np.array([score for one in found for score in one["dtScores"]], np.float64)
    falling = np.argsort(-scores, kind="stable")
    none = np.empty((len(coco.params.iouThrs), 0))
    matched = np.concatenate([none, *(one["dtMatches"] for one in found)], axis=1) > 0
    ignored = np.concatenate([none, *(one["dtIgnore"] for one in found)], axis=1) > 0
    fates = np.where(ignored, IGNORED, np.where(matched, TRUE, FALSE)).astype(np.int8)
    return Matches(
        image_ids=image_ids,
        truths=truths,
        images=places.repeat([len(one["dtScores"]) for one in found])[falling],
        fates=fates[:, falling],
    )
