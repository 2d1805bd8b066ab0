"""Intervals hold what they promise."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnetpose.pose import bootstrap, evaluation
from hrnetpose.pose.bootstrap import Curve
from hrnetpose.pose.evaluation import Evaluated
from unit.pose.datasets import SIGMAS, detections_of, drawn, evaluate, stats, truths_of


def variant(seed: int, images: int = 30, noise: float = 1.0, truth_seed: int = 0) -> Evaluated:
    """A variant that is the worse the more noise it has, always on the same persons."""
    dataset, results = drawn(truth_seed, images, extras=False)
    generator = np.random.default_rng(seed)
    found = detections_of(results)
    found.keypoints[:] += generator.normal(0, noise, found.keypoints.shape)
    return evaluation.evaluate(truths_of(dataset), found, SIGMAS)


@given(
    seed=st.integers(0, 2**32 - 1),
    persons=st.sampled_from([0.3, 2.0, 5.0]),
    detections=st.sampled_from([0.5, 3.0, 25.0]),
    noise=st.sampled_from([0.3, 1.0, 3.0]),
    once=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_an_image_counts_as_often_as_it_was_drawn(
    seed: int, persons: float, detections: float, noise: float, once: bool
) -> None:
    # Scores differ: two copies of an image with two equal ones are not sorted like one image.
    dataset, results = drawn(seed, 8, persons, detections, extras=False, noise=noise)
    weights = np.random.default_rng(seed).integers(0, 4, len(dataset["images"]))
    weights = np.ones_like(weights) if once else weights
    if not (results and dataset["annotations"]):
        return
    repeated: dict[str, Any] = {**dataset, "images": [], "annotations": []}
    repeated_results = []
    ids = sorted(image["id"] for image in dataset["images"])
    for place, (image, weight) in enumerate(zip(ids, weights, strict=True)):
        for number in range(weight):
            new = {"image_id": 10 * place + number}
            repeated["images"].append({**dataset["images"][0], "id": new["image_id"]})
            for entry in dataset["annotations"]:
                if entry["image_id"] == image:
                    number_of_all = len(repeated["annotations"]) + 1
                    repeated["annotations"].append({**entry, **new, "id": number_of_all})
            repeated_results += [{**r, **new} for r in results if r["image_id"] == image]
    if not (repeated_results and repeated["annotations"]):
        return

    ap = Curve.of(evaluate(dataset, results).matches).average_precision(weights)

    assert ap == pytest.approx(stats(repeated, repeated_results)[0], abs=1e-12)


@given(seed=st.integers(0, 1000), draw=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_a_variant_does_not_differ_from_itself(seed: int, draw: int) -> None:
    same = variant(seed)
    assert bootstrap.ap_difference(same, same, 50, draw) == (0, 0, 0)


@given(seed=st.integers(0, 1000), resamples=st.integers(1, 80))
@settings(max_examples=10, deadline=None)
def test_swapping_negates(seed: int, resamples: int) -> None:
    a, b = variant(seed, noise=1), variant(seed + 1, noise=3)
    difference, low, high = bootstrap.ap_difference(a, b, resamples)
    assert bootstrap.ap_difference(b, a, resamples) == (-difference, -high, -low)
    assert low <= high


def test_the_difference_is_that_of_the_figures() -> None:
    a, b = variant(1, noise=1), variant(2, noise=4)
    expected = a.metrics.AP - b.metrics.AP  # type: ignore[operator]
    assert bootstrap.ap_difference(a, b, 10).difference == expected


def test_the_seed_decides() -> None:
    a, b = variant(1), variant(2, noise=2)
    assert bootstrap.ap_difference(a, b, 100, 7) == bootstrap.ap_difference(a, b, 100, 7)
    assert bootstrap.ap_difference(a, b, 100, 7) != bootstrap.ap_difference(a, b, 100, 8)


def test_a_clear_difference_is_told() -> None:
    result = bootstrap.ap_difference(variant(1, noise=0.5), variant(2, noise=8), 200)
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


def subset(whole: Evaluated, images: np.ndarray) -> Evaluated:
    """What was matched on some images, each once."""
    matches = whole.matches
    place = np.full(len(matches.image_ids), -1)
    place[images] = np.arange(len(images))
    rows = place[matches.images] >= 0
    some = evaluation.Matches(
        image_ids=matches.image_ids[images],
        truths=matches.truths[images],
        images=place[matches.images[rows]],
        fates=matches.fates[:, rows],
    )
    return replace(whole, matches=some)


def test_intervals_cover_the_true_difference_about_as_often_as_they_should() -> None:
    # The population is large, so its own difference stands for the truth.
    a, b = variant(1, images=3000, noise=1.0), variant(2, images=3000, noise=1.6)
    truth = a.metrics.AP - b.metrics.AP  # type: ignore[operator]
    generator = np.random.default_rng(0)
    covered = 0
    for number in range(40):
        images = np.sort(generator.choice(3000, 150, replace=False))
        _, low, high = bootstrap.ap_difference(subset(a, images), subset(b, images), 80, number)
        covered += low <= truth <= high
    # 38 expected; fewer than 33 has a probability below 1 %.
    assert covered >= 33


def test_images_without_persons_leave_out_draws_and_not_the_result() -> None:
    whole = variant(1, images=30)
    empty = whole.matches.truths == 0
    few = np.append(np.flatnonzero(empty)[:3], np.flatnonzero(~empty)[:1])
    some = subset(whole, np.sort(few))
    assert bootstrap.ap_difference(some, some, 50) == (0, 0, 0)


def test_what_cannot_be_compared_is_refused() -> None:
    a, b = variant(1, truth_seed=0), variant(1, truth_seed=1)
    with pytest.raises(ValueError, match="same images"):
        bootstrap.ap_difference(a, b)
    with pytest.raises(ValueError, match="resamples"):
        bootstrap.ap_difference(a, a, 0)
    dataset, results = drawn(0, 5, extras=False)
    for entry in dataset["annotations"]:
        entry["num_keypoints"] = 0
    nobody = evaluate(dataset, results)
    with pytest.raises(ValueError, match="not defined"):
        bootstrap.ap_difference(nobody, nobody)
