"""Confidence intervals for differences of AP, by a paired bootstrap over images.

Images are drawn with replacement, the same for both variants, so what makes an image hard for both
cancels (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13: the percentile
interval).  What COCO's evaluation matched on an image does not depend on the others, so a draw
only counts each image as often as it was drawn.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pycocotools.cocoeval import Params

from hrnetpose.pose.evaluation import FALSE, TRUE, Counts, Evaluated, Indices, Matches

Verdict = Literal["better", "worse", "not distinguishable"]
_TAIL = 0.025
_RECALLS = Params("keypoints").recThrs


class Difference(NamedTuple):
    """AP of one variant less that of another, and the 95 % interval of it."""

    difference: float
    low: float
    high: float


def ap_difference(a: Evaluated, b: Evaluated, resamples: int = 1000, seed: int = 0) -> Difference:
    """Return AP(a) - AP(b) with its 95 % interval.

    The result depends on the evaluations and `seed` alone.

    Args:
        a: one variant's evaluation.
        b: another's, on the same images and annotations.
        resamples: how many times images are drawn; 1000 place the ends well enough.
        seed: of the draws.

    Raises:
        ValueError: the two are not of the same images and persons, no person is to be found, or
            `resamples` is not positive.
    """
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; at least one is needed")
    if not (
        np.array_equal(a.matches.image_ids, b.matches.image_ids)
        and np.array_equal(a.matches.truths, b.matches.truths)
    ):
        raise ValueError("the two variants were not evaluated on the same images and annotations")
    if a.metrics.AP is None or b.metrics.AP is None:
        raise ValueError("there is no person to be found; AP is not defined")
    observed = a.metrics.AP - b.metrics.AP
    curves = Curve.of(a.matches), Curve.of(b.matches)
    count = len(a.matches.image_ids)
    generator = np.random.default_rng(seed)
    draws = (
        _difference(*curves, np.bincount(generator.integers(count, size=count), minlength=count))
        for _ in range(resamples)
    )
    # A draw of images without a person has no AP.
    drawn = sorted(draw for draw in draws if draw is not None) or [observed]
    # Ranks counted from both ends, so that swapping the variants mirrors the interval exactly.
    rank = int(_TAIL * (len(drawn) - 1))
    return Difference(observed, drawn[rank], drawn[-1 - rank])


@dataclass(frozen=True)
class Curve:
    """Precision over recall at all thresholds, of any resample.

    Only detections that are true change the recall, and only at those can the precision have a
    maximum: between them, false ones need only be counted.  So a resample costs far less than a
    pass over all detections at each threshold.

    Attributes:
        images: intp [D], the detections' images, by falling score.
        truths: int64 [I], persons to be found in each image.
        rows: for each threshold, the detections that are true or ignored.
        true: for each threshold, which of `rows` are true.
    """

    images: Indices
    truths: Counts
    rows: list[Indices]
    true: list[npt.NDArray[np.bool_]]

    @classmethod
    def of(cls, matches: Matches) -> Self:
        """Prepare the curves of what was matched."""
        rows = [np.flatnonzero(fates != FALSE) for fates in matches.fates]
        true = [fates[row] == TRUE for fates, row in zip(matches.fates, rows, strict=True)]
        return cls(matches.images, matches.truths, rows, true)

    def average_precision(self, weights: Counts) -> float | None:
        """Return COCO's AP; None if there is no person to be found.

        Args:
            weights: int64 [I], how often each image counts.
        """
        persons = int(weights @ self.truths)
        if persons == 0:
            return None
        each = weights[self.images]
        so_far = each.cumsum()
        precisions = []
        for rows, true in zip(self.rows, self.true, strict=True):
            weight = each[rows]
            hits = (weight * true).cumsum()[true]
            not_ignored = (so_far[rows] - (weight * ~true).cumsum())[true]
            # The precision at a recall is the highest that there is at this or a higher recall.
            highest = np.maximum.accumulate((hits / (not_ignored + np.spacing(1)))[::-1])[::-1]
            reached = np.searchsorted(hits / persons, _RECALLS)
            precisions.append(np.append(highest, 0.0)[reached].mean())
        return float(np.mean(precisions))


def _difference(a: Curve, b: Curve, weights: Counts) -> float | None:
    of_a, of_b = a.average_precision(weights), b.average_precision(weights)
    return None if of_a is None or of_b is None else of_a - of_b


def verdict(low: float, high: float) -> Verdict:
    """Say what an interval of AP(a) - AP(b) tells of a."""
    if low > 0:
        return "better"
    return "worse" if high < 0 else "not distinguishable"
