"""COCO's keypoint evaluation in two steps: match once, then take the figures of any resample.

The figures equal those of pycocotools' COCOeval (iouType "keypoints") where ids start at 1.
`match` pairs predictions with annotated persons, image by image; `accumulate` draws precision over
recall from the pairs, with each image counted as often as asked.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from hrnetpose.artifacts.metrics import Metrics
from hrnetpose.data.annotations import MOST_PERSONS, Annotations
from hrnetpose.pose import oks
from hrnetpose.pose.oks import Doubles

Indices = npt.NDArray[np.intp]
Booleans = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]

THRESHOLDS: Doubles = np.linspace(0.5, 0.95, 10)
RECALLS: Doubles = np.linspace(0.0, 1.0, 101)
AREAS = {"all": (0.0, 1e5**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e5**2)}

# A prediction's fate at a threshold.
FALSE, TRUE, IGNORED = 0, 1, -1


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
    """What became of each prediction; A areas (as in AREAS) and T thresholds (as in THRESHOLDS).

    Attributes:
        image_ids: int64 [I], all images, rising.
        truths: int64 [A, I], persons to be found.
        scores: float64 [D], falling; equal ones in the order of images.
        images: intp [D], indices into `image_ids`.
        fates: int8 [A, T, D]: TRUE, FALSE or IGNORED.
    """

    image_ids: Counts
    truths: Counts
    scores: Doubles
    images: Indices
    fates: npt.NDArray[np.int8]


def match(truths: Annotations, detections: Detections, sigmas: npt.ArrayLike) -> Matches:
    """Matches the best 20 predictions of each image with its annotated persons.

    Predictions choose in the order of their scores, at each threshold and for each range of areas:
    each the person with the highest OKS that is still free; one that is to be ignored only if
    there is no other.

    Two things differ from COCOeval: ids change nothing, while there a match with the annotation
    whose id is 0 counts as none; and a keypoint that is NaN is infinitely far away, while there it
    matches whatever comes last.

    Args:
        truths: the annotated persons.
        detections: the predicted persons.
        sigmas: the OKS constants [K].

    Raises:
        ValueError: a prediction is on an image that is not evaluated on.
    """
    sigmas = np.asarray(sigmas, np.float64)
    images = np.searchsorted(truths.image_ids, detections.image_ids)
    known = images < len(truths.image_ids)
    known[known] = truths.image_ids[images[known]] == detections.image_ids[known]
    if not known.all():
        raise ValueError(
            f"a prediction is on image {detections.image_ids[~known][0]}, which is not annotated"
        )
    best = _best_of_each_image(images, detections.scores)
    ranges = np.array(list(AREAS.values()))
    out_of_range = _outside(truths.areas, ranges) | truths.ignored
    fates = np.where(_outside(detections.areas[best], ranges)[:, None], IGNORED, FALSE)
    fates = fates.astype(np.int8).repeat(len(THRESHOLDS), axis=1)
    for here, there in _by_image(images[best], truths.images):
        predicted = detections.keypoints[best[here]]
        similarities = [
            oks.with_annotation(
                predicted, truths.keypoints[g], truths.areas[g], truths.boxes[g], sigmas
            )
            for g in there
        ]
        _match_image(
            np.stack(similarities, axis=1),
            out_of_range[:, there],
            truths.crowds[there],
            fates[:, :, here],
        )
    count = len(truths.image_ids)
    persons = [np.bincount(truths.images[~out], minlength=count) for out in out_of_range]
    falling = np.argsort(-detections.scores[best], kind="stable")
    return Matches(
        image_ids=truths.image_ids,
        truths=np.stack(persons),
        scores=detections.scores[best][falling],
        images=images[best][falling],
        fates=fates[:, :, falling],
    )


def _best_of_each_image(images: Indices, scores: Doubles) -> Indices:
    """Returns the predictions that count, by image, then by falling score."""
    order = np.lexsort((-scores, images))
    first = np.searchsorted(images[order], images[order])
    return order[np.arange(len(order)) - first < MOST_PERSONS]


def _outside(areas: Doubles, ranges: Doubles) -> Booleans:
    return (areas < ranges[:, :1]) | (areas > ranges[:, 1:])


def _by_image(images: Indices, others: Indices) -> Iterator[tuple[slice, Indices]]:
    """Yields for each image that both have the slice of the first (sorted) and rows of the second.

    Rows are in reverse: of equally similar persons, COCOeval takes the last.
    """
    order = np.argsort(others, kind="stable")
    common = np.intersect1d(images, others)
    bounds = [
        np.searchsorted(values, common, side).tolist()
        for values in (images, others[order])
        for side in ("left", "right")
    ]
    for start, stop, first, last in zip(*bounds, strict=True):
        yield slice(start, stop), order[first:last][::-1]


def _match_image(
    similarities: Doubles,
    ignored: Booleans,
    crowds: Booleans,
    fates: npt.NDArray[np.int8],
) -> None:
    """Settles the fates of one image's predictions, in place.

    Args:
        similarities: float64 [D, G], predictions by falling score.
        ignored: bool [A, G].
        crowds: bool [G].
        fates: int8 [A, T, D], what becomes of each prediction that is not matched.
    """
    areas, thresholds = np.ogrid[: fates.shape[0], : fates.shape[1]]
    free = np.ones((*fates.shape[:2], len(crowds)), bool)
    similar = similarities[:, None, :] >= THRESHOLDS[:, None]
    for rank in np.flatnonzero(similar.any(axis=(1, 2))):
        possible = free & similar[rank]
        wanted = possible & ~ignored[:, None]
        possible = np.where(wanted.any(axis=2, keepdims=True), wanted, possible)
        chosen = np.where(possible, similarities[rank], -1).argmax(axis=2)
        matched = possible.any(axis=2)
        fate = np.where(ignored[areas, chosen], IGNORED, TRUE)
        fates[:, :, rank] = np.where(matched, fate, fates[:, :, rank])
        free[areas, thresholds, chosen] &= ~matched | crowds[chosen]


@dataclass(frozen=True)
class Curve:
    """Precision over recall for one range of areas, at all thresholds, of any resample.

    Only predictions that are true change the recall, and only at those can the precision have a
    maximum: between them, false ones need only be counted.  So a resample costs far less than a
    pass over all predictions at each threshold.

    Attributes:
        images: intp [D], the predictions' images, by falling score.
        truths: int64 [I], persons to be found in each image.
        rows: for each threshold, the predictions that are true or ignored.
        true: for each threshold, which of `rows` are true.
    """

    images: Indices
    truths: Counts
    rows: list[Indices]
    true: list[Booleans]

    @classmethod
    def of(cls, matches: Matches, area: str) -> Self:
        """Prepares the curves for an area of AREAS."""
        number = list(AREAS).index(area)
        rows = [np.flatnonzero(fates != FALSE) for fates in matches.fates[number]]
        true = [fates[row] == TRUE for fates, row in zip(matches.fates[number], rows, strict=True)]
        return cls(matches.images, matches.truths[number], rows, true)

    def average(self, weights: Counts | None = None) -> tuple[Doubles, Doubles] | None:
        """Returns the average precision and the largest recall at each threshold.

        Args:
            weights: int64 [I], how often each image counts; None for once.

        Returns:
            Two float64 [T], or None if there is no person to be found.
        """
        if weights is None:
            weights = np.ones(len(self.truths), np.int64)
        persons = int(weights @ self.truths)
        if persons == 0:
            return None
        each = weights[self.images]
        so_far = each.cumsum()
        precision, recall = np.zeros((2, len(self.rows)))
        for number, (rows, true) in enumerate(zip(self.rows, self.true, strict=True)):
            weight = each[rows]
            hits = (weight * true).cumsum()[true]
            if not len(hits):
                continue
            not_ignored = (so_far[rows] - (weight * ~true).cumsum())[true]
            # The precision at a recall is the highest that there is at this or a higher recall.
            highest = np.maximum.accumulate((hits / (not_ignored + np.spacing(1)))[::-1])[::-1]
            reached = np.searchsorted(hits / persons, RECALLS)
            precision[number] = np.append(highest, 0.0)[reached].mean()
            recall[number] = hits[-1] / persons
        return precision, recall


def accumulate(matches: Matches, image_weights: Counts | None = None) -> Metrics:
    """Returns COCO's ten figures, None where there is no person of a size.

    Args:
        matches: what `match` returned.
        image_weights: int64 [I], how often each image counts (a bootstrap resample); None for once.
    """
    figures: dict[str, float | None] = {}
    for area, letter in (("all", ""), ("medium", "M"), ("large", "L")):
        averages = Curve.of(matches, area).average(image_weights)
        for name, values in zip(("AP", "AR"), averages or (None, None), strict=True):
            figures[name + letter] = None if values is None else float(values.mean())
            if area == "all":
                figures[f"{name}50"] = None if values is None else float(values[0])
                figures[f"{name}75"] = None if values is None else float(values[5])
    return Metrics(**figures)
