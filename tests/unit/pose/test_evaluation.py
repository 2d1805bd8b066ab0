"""The figures are those of pycocotools' COCOeval."""

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnetpose.artifacts.metrics import Metrics
from hrnetpose.pose import evaluation, oks, score
from unit.pose.datasets import FIGURES, SIGMAS, drawn, evaluate, judged, stats, truths_of

datasets = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "images": st.integers(1, 12),
        "persons": st.sampled_from([0.3, 2.0, 5.0]),
        "detections": st.sampled_from([0.5, 3.0, 25.0]),
        "tied": st.booleans(),
        "boxes": st.booleans(),
        "noise": st.sampled_from([0.3, 1.0, 3.0]),
    }
)


def figures(metrics: Metrics) -> list[float]:
    return [-1 if value is None else value for value in (getattr(metrics, n) for n in FIGURES)]


def matched(dataset: dict[str, Any], results: list[dict[str, Any]]) -> evaluation.Matches:
    return evaluation.match(truths_of(dataset), score.from_coco(results), SIGMAS)


@given(options=datasets, extras=st.booleans())
@settings(max_examples=150, deadline=None)
def test_the_ten_figures_are_cocoeval_s(options: dict[str, Any], extras: bool) -> None:
    dataset, results = drawn(**options, extras=extras)
    if not (results and dataset["annotations"]):
        return
    untouched = copy.deepcopy((dataset, results))

    ours = evaluate(dataset, results)

    np.testing.assert_allclose(figures(ours), stats(dataset, results), rtol=0, atol=1e-12)
    assert (dataset, results) == untouched


@given(options=datasets, order=st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_ids_of_annotations_change_no_figure(options: dict[str, Any], order: Any) -> None:
    dataset, results = drawn(**options)
    if not (results and dataset["annotations"]):
        return
    before = evaluate(dataset, results)
    ids = list(range(len(dataset["annotations"])))
    order.shuffle(ids)

    for entry, number in zip(dataset["annotations"], ids, strict=True):
        entry["id"] = number

    assert evaluate(dataset, results) == before


@given(options=datasets, weight_seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_weights_count_an_image_as_often_as_it_would_be_there(
    options: dict[str, Any], weight_seed: int
) -> None:
    # Copies of an image with two equal scores are sorted otherwise than one image counted twice.
    dataset, results = drawn(**{**options, "tied": False}, extras=False)
    weights = np.random.default_rng(weight_seed).integers(0, 4, len(dataset["images"]))
    if not (results and dataset["annotations"]):
        return
    ids = sorted(image["id"] for image in dataset["images"])
    repeated: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
    repeated["categories"] = dataset["categories"]
    repeated_results = []
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

    ours = evaluation.accumulate(matched(dataset, results), weights)

    expected = stats(repeated, repeated_results)
    np.testing.assert_allclose(figures(ours), expected, rtol=0, atol=1e-12)


@given(options=datasets)
@settings(max_examples=30, deadline=None)
def test_oks_is_cocoeval_s_to_the_last_bit(options: dict[str, Any]) -> None:
    dataset, results = drawn(**options)
    if not results:
        return
    theirs = judged(dataset, results).ious
    if not dataset["annotations"]:
        return
    truths, found = truths_of(dataset), score.from_coco(results)
    for number, image in enumerate(truths.image_ids):
        rows = np.flatnonzero(found.image_ids == image)
        rows = rows[np.argsort(-found.scores[rows], kind="stable")][:20]
        for place, g in enumerate(np.flatnonzero(truths.images == number)):
            ours = oks.with_annotation(
                found.keypoints[rows],
                truths.keypoints[g],
                truths.areas[g],
                truths.boxes[g],
                np.array(SIGMAS),
            )
            if len(rows):
                np.testing.assert_array_equal(ours, theirs[image, 1][:, place])


def test_oks_with_all_seventeen_keypoints_is_cocoeval_s_to_the_last_bit() -> None:
    # From eight terms on, the order in which numpy sums depends on the layout in memory.
    generator = np.random.default_rng(0)
    sigmas = generator.uniform(0.02, 0.11, 17)
    for visible in range(1, 18):
        keypoints = generator.uniform(0, 100, (17, 3))
        keypoints[:, 2] = generator.permutation(17) < visible
        predicted = keypoints[:, :2] + generator.normal(0, 5, (6, 17, 2))
        ours = oks.with_annotation(predicted, keypoints, 1234.5, np.zeros(4), sigmas)
        there = keypoints[:, 2] > 0
        for similarity, person in zip(ours, predicted, strict=True):
            dx, dy = (person - keypoints[:, :2]).T
            error = (dx**2 + dy**2) / (sigmas * 2) ** 2 / (1234.5 + np.spacing(1)) / 2
            assert similarity == np.sum(np.exp(-error[there])) / visible


def test_only_the_best_twenty_of_an_image_count() -> None:
    dataset, results = drawn(seed=3, images=2, persons=6, detections=60)
    assert max(sum(r["image_id"] == i["id"] for r in results) for i in dataset["images"]) > 40

    matches = matched(dataset, results)

    assert np.bincount(matches.images).tolist() == [20, 20]


def test_matches_are_compact_and_sorted() -> None:
    dataset, results = drawn(seed=4, images=6)
    matches = matched(dataset, results)
    count = len(matches.scores)

    assert matches.fates.shape == (3, 10, count)
    assert matches.fates.dtype == np.int8
    assert matches.truths.shape == (3, 6)
    assert (np.diff(matches.scores) <= 0).all()


def test_no_predictions() -> None:
    dataset, _ = drawn(seed=5, images=4, extras=False)
    metrics = evaluate(dataset, [])
    assert metrics.AP == metrics.AR == 0


def test_a_broken_engine_has_no_ap() -> None:
    dataset, results = drawn(seed=6, images=4, extras=False)
    for result in results:
        result["keypoints"] = [float("nan")] * len(result["keypoints"])
    assert evaluate(dataset, results).AP == 0


def test_one_keypoint_that_is_nowhere_is_one_that_is_wrong() -> None:
    keypoints = np.array([[0.0, 0, 2], [10, 10, 2], [5, 5, 0]])
    predicted = keypoints[None, :, :2].copy()
    predicted[0, 1] = np.nan
    similarity = oks.with_annotation(predicted, keypoints, 100.0, np.zeros(4), np.full(3, 0.1))
    np.testing.assert_array_equal(similarity, [0.5])


def test_an_unknown_image_is_named() -> None:
    dataset, results = drawn(seed=7, images=3)
    results.append({**results[0], "image_id": 777})
    with pytest.raises(ValueError, match="777"):
        evaluate(dataset, results)
