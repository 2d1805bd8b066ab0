"""Accuracy by keypoint, for predictions whose person is known: those on ground-truth boxes.

There prediction and annotation have the same id, so no matching is involved, and what is measured
is the keypoints alone.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from hrnetpose.data.annotations import Annotations
from hrnetpose.pose import evaluation, oks
from hrnetpose.pose.evaluation import Detections
from hrnetpose.pose.oks import Doubles

Indices = npt.NDArray[np.intp]

PCK_FRACTIONS = (0.05, 0.1, 0.2)


def pairs(
    truth_ids: npt.NDArray[np.int64], prediction_ids: npt.NDArray[np.int64]
) -> tuple[Indices, Indices]:
    """Return the rows of truths and of predictions that have the same id: two intp [P].

    Args:
        truth_ids: int64 [G], annotation ids, each once.
        prediction_ids: int64 [D], the annotation that each prediction was made on, each once.
    """
    _, truths, predictions = np.intersect1d(
        truth_ids, prediction_ids, assume_unique=True, return_indices=True
    )
    return truths, predictions


def person_oks(
    predicted: Doubles, truths: Annotations, rows: Indices, sigmas: npt.ArrayLike
) -> Doubles:
    """Return the OKS of predictions with the persons that they belong to.

    Args:
        predicted: float64 [P, K, 2] in pixels.
        truths: the annotated persons.
        rows: intp [P], the person that each prediction belongs to.
        sigmas: the OKS constants [K].

    Returns:
        float64 [P], between 0 and 1; NaN for a person without labelled keypoints.
    """
    return oks.of_pairs(
        predicted, truths.keypoints[rows], truths.areas[rows], np.asarray(sigmas, np.float64)
    )


def mean_oks(similarities: Doubles) -> float:
    """Return the mean of what `person_oks` returned; NaN if no person has labelled keypoints."""
    return float(_over_persons(np.nanmean, similarities))


def distances(predicted: Doubles, keypoints: Doubles) -> Doubles:
    """Return how far keypoints are from where they were annotated.

    Args:
        predicted: float64 [P, K, 2] in pixels.
        keypoints: float64 [P, K, 3], x, y in pixels and the visibility, which is 0 if not labelled.

    Returns:
        float64 [P, K] in pixels; NaN where the keypoint is not labelled, infinite where it is
        labelled and not predicted (NaN).
    """
    distance = np.linalg.norm(predicted - keypoints[..., :2], axis=2)
    return np.where(keypoints[..., 2] > 0, np.nan_to_num(distance, nan=np.inf), np.nan)


def normalised(distance: Doubles, boxes: Doubles) -> Doubles:
    """Return distances as fractions of the longer side of the person's annotated box.

    Args:
        distance: float64 [P, K] in pixels.
        boxes: float64 [P, 4], x, y, width, height in pixels.
    """
    return distance / boxes[:, 2:].max(axis=1, keepdims=True)


def pck(fractions: Doubles, limits: Sequence[float] = PCK_FRACTIONS) -> Doubles:
    """Return the percentage of correct keypoints as a fraction (Yang and Ramanan, PAMI 2013).

    A keypoint is correct if it is not farther than `limit` times the person's size, which here is
    the longer side of the annotated box.

    Args:
        fractions: float64 [P, K], what `normalised` returned.
        limits: L of them.

    Returns:
        float64 [L, K + 1], for each joint and, last, for all labelled keypoints together; NaN where
        none is labelled.
    """
    labelled = ~np.isnan(fractions)
    correct = np.array([(fractions <= limit).sum(axis=0) for limit in limits], np.float64)
    correct = np.append(correct, correct.sum(axis=1, keepdims=True), axis=1)
    total = np.append(labelled.sum(axis=0), labelled.sum())
    return np.divide(correct, total, out=np.full(correct.shape, np.nan), where=total > 0)


def mean_and_median(distance: Doubles) -> tuple[Doubles, Doubles]:
    """Return mean and median over persons for each joint, two float64 [K]; NaN where unlabelled.

    Args:
        distance: float64 [P, K], in pixels or normalised.
    """
    return _over_persons(np.nanmean, distance), _over_persons(np.nanmedian, distance)


def visibility_bins(keypoints: int) -> list[tuple[int, int]]:
    """Return ranges of labelled keypoints of a person: few, some, most; COCO's 5, 10 and 17."""
    ends = [round(keypoints * share / 17) for share in (0, 5, 10, 17)]
    return [(low + 1, high) for low, high in pairwise(ends) if low < high]


def ap_by_visible_keypoints(
    truths: Annotations,
    detections: Detections,
    sigmas: npt.ArrayLike,
    bins: Sequence[tuple[int, int]],
) -> list[float | None]:
    """Return the AP of the persons with so many labelled keypoints.

    As COCOeval does with sizes, other persons are ignored: they need not be found, and finding one
    costs nothing.  A prediction that matches nobody is false in every bin.

    Args:
        truths: the annotated persons.
        detections: the predicted persons.
        sigmas: the OKS constants [K].
        bins: the fewest and the most keypoints, both included.

    Returns:
        One for each bin; None where there is no such person.
    """
    labelled = (truths.keypoints[..., 2] > 0).sum(axis=1)
    figures = []
    for fewest, most in bins:
        others = (labelled < fewest) | (labelled > most)
        chosen = replace(truths, ignored=truths.ignored | others)
        figures.append(evaluation.evaluate(chosen, detections, sigmas).metrics.AP)
    return figures


def _over_persons(function: Callable[..., Doubles], values: Doubles) -> Doubles:
    """Apply a NaN-ignoring reduction, to which columns of nothing but NaN are no surprise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return function(values, axis=0)
