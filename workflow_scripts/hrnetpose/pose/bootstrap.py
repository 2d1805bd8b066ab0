"""Confidence intervals for differences of AP, by a paired bootstrap over images.

Images are drawn with replacement, the same for both variants, so what makes an image hard for both
cancels (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13: the percentile
interval).
"""

from typing import Literal, NamedTuple

import numpy as np

from hrnetpose.pose.evaluation import Counts, Curve, Matches

Verdict = Literal["better", "worse", "not distinguishable"]
_TAIL = 0.025


class Difference(NamedTuple):
    """AP of one variant less that of another, and the 95 % interval of it."""

    difference: float
    low: float
    high: float


def ap_difference(
    matches_a: Matches, matches_b: Matches, resamples: int = 1000, seed: int = 0
) -> Difference:
    """Returns AP(a) - AP(b) with its 95 % interval.

    The result depends on the matches and `seed` alone.

    Args:
        matches_a: of one variant.
        matches_b: of another, on the same images and annotations.
        resamples: how many times images are drawn; 1000 place the ends well enough.
        seed: of the draws.

    Raises:
        ValueError: the two are not of the same images and persons, no person is to be found, or
            `resamples` is not positive.
    """
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; at least one is needed")
    if not (
        np.array_equal(matches_a.image_ids, matches_b.image_ids)
        and np.array_equal(matches_a.truths, matches_b.truths)
    ):
        raise ValueError("the two variants were not evaluated on the same images and annotations")
    curves = Curve.of(matches_a, "all"), Curve.of(matches_b, "all")
    count = len(matches_a.image_ids)
    observed = _difference(*curves, np.ones(count, np.int64))
    if observed is None:
        raise ValueError("there is no person to be found; AP is not defined")
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


def _difference(a: Curve, b: Curve, weights: Counts) -> float | None:
    average_a, average_b = a.average(weights), b.average(weights)
    if average_a is None or average_b is None:
        return None
    return float(average_a[0].mean() - average_b[0].mean())


def verdict(low: float, high: float) -> Verdict:
    """Says what an interval of AP(a) - AP(b) tells of a."""
    if low > 0:
        return "better"
    return "worse" if high < 0 else "not distinguishable"
