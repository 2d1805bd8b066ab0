"""Intervals hold what they promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnetpose.pose import bootstrap, evaluation, score
from hrnetpose.pose.evaluation import Matches
from unit.pose.datasets import SIGMAS, drawn, truths_of


def matches(seed: int, images: int = 30, noise: float = 1.0, truth_seed: int = 0) -> Matches:
    """Of a variant that is the worse the more noise it has, always on the same persons."""
    dataset, results = drawn(truth_seed, images, extras=False)
    generator = np.random.default_rng(seed)
    truths, found = truths_of(dataset), score.from_coco(results)
    found.keypoints[:] += generator.normal(0, noise, found.keypoints.shape)
    return evaluation.match(truths, found, SIGMAS)


@given(seed=st.integers(0, 1000), draw=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_a_variant_does_not_differ_from_itself(seed: int, draw: int) -> None:
    variant = matches(seed)
    assert bootstrap.ap_difference(variant, variant, 50, draw) == (0, 0, 0)


@given(seed=st.integers(0, 1000), resamples=st.integers(1, 80))
@settings(max_examples=10, deadline=None)
def test_swapping_negates(seed: int, resamples: int) -> None:
    a, b = matches(seed, noise=1), matches(seed + 1, noise=3)
    difference, low, high = bootstrap.ap_difference(a, b, resamples)
    assert bootstrap.ap_difference(b, a, resamples) == (-difference, -high, -low)
    assert low <= high


def test_the_difference_is_that_of_the_figures() -> None:
    a, b = matches(1, noise=1), matches(2, noise=4)
    expected = evaluation.accumulate(a).AP - evaluation.accumulate(b).AP  # type: ignore[operator]
    assert bootstrap.ap_difference(a, b, 10).difference == pytest.approx(expected, abs=1e-15)


def test_the_seed_decides() -> None:
    a, b = matches(1), matches(2, noise=2)
    assert bootstrap.ap_difference(a, b, 100, 7) == bootstrap.ap_difference(a, b, 100, 7)
    assert bootstrap.ap_difference(a, b, 100, 7) != bootstrap.ap_difference(a, b, 100, 8)


def test_a_clear_difference_is_told() -> None:
    result = bootstrap.ap_difference(matches(1, noise=0.5), matches(2, noise=8), 200)
    assert result.low > 0
    assert bootstrap.verdict(result.low, result.high) == "better"


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.001, 0.002, "better"),
        (-0.002, -0.001, "worse"),
        (-0.001, 0.001, "not distinguishable"),
        (0.0, 0.0, "not distinguishable"),
        (0.0, 0.1, "not distinguishable"),
    ],
)
def test_verdict(low: float, high: float, said: str) -> None:
    assert bootstrap.verdict(low, high) == said


def subset(variant: Matches, images: np.ndarray) -> Matches:
    """The matches on some images, each once."""
    place = np.full(len(variant.image_ids), -1)
    place[images] = np.arange(len(images))
    rows = place[variant.images] >= 0
    return Matches(
        image_ids=variant.image_ids[images],
        truths=variant.truths[:, images],
        scores=variant.scores[rows],
        images=place[variant.images[rows]],
        fates=variant.fates[:, :, rows],
    )


def test_intervals_cover_the_true_difference_about_as_often_as_they_should() -> None:
    # The population is large, so its own difference stands for the truth.
    a, b = matches(1, images=3000, noise=1.0), matches(2, images=3000, noise=1.6)
    truth = evaluation.accumulate(a).AP - evaluation.accumulate(b).AP  # type: ignore[operator]
    generator = np.random.default_rng(0)
    covered = 0
    for number in range(40):
        images = np.sort(generator.choice(3000, 150, replace=False))
        _, low, high = bootstrap.ap_difference(subset(a, images), subset(b, images), 80, number)
        covered += low <= truth <= high
    # 38 expected; fewer than 33 has a probability below 1 %.
    assert covered >= 33


def test_images_without_persons_leave_out_draws_and_not_the_result() -> None:
    variant = matches(1, images=30)
    few = np.flatnonzero(variant.truths[0] == 0)[:3]
    some = np.sort(np.append(few, np.flatnonzero(variant.truths[0])[:1]))
    result = bootstrap.ap_difference(subset(variant, some), subset(variant, some), 50)
    assert result == (0, 0, 0)


def test_what_cannot_be_compared_is_refused() -> None:
    a, b = matches(1, truth_seed=0), matches(1, truth_seed=1)
    with pytest.raises(ValueError, match="same images"):
        bootstrap.ap_difference(a, b)
    with pytest.raises(ValueError, match="resamples"):
        bootstrap.ap_difference(a, a, 0)
    empty = subset(a, np.flatnonzero(a.truths[0] == 0))
    with pytest.raises(ValueError, match="not defined"):
        bootstrap.ap_difference(empty, empty)
