"""Figures by keypoint, on persons few enough to count by hand."""

import numpy as np
import pytest

from hrnetpose.pose import joints
from unit.pose.datasets import SIGMAS, detections_of, drawn, evaluate, judged, stats, truths_of

TRUTH = np.array(
    [
        [[10, 10, 2], [20, 10, 1], [0, 0, 0]],
        [[50, 50, 2], [60, 50, 2], [0, 0, 0]],
    ],
    np.float64,
)
BOXES = np.array([[0, 0, 100, 50], [0, 0, 20, 40]], np.float64)


def predicted(*offsets: tuple[float, float]) -> np.ndarray:
    """Predictions that are off by so much on each person's first and second keypoint."""
    keypoints = TRUTH[..., :2].copy()
    keypoints[:, :2, 0] += np.reshape(offsets, (2, 2))
    return keypoints


def test_pairs_joins_by_id() -> None:
    truths, predictions = joints.pairs(np.array([7, 3, 9]), np.array([9, 1, 7]))
    assert truths.tolist() == [0, 2]
    assert predictions.tolist() == [2, 0]


def test_distances_are_of_labelled_keypoints() -> None:
    distance = joints.distances(predicted((3, 0), (-4, 10)), TRUTH)
    np.testing.assert_allclose(distance, [[3, 0, np.nan], [4, 10, np.nan]])


def test_a_keypoint_that_is_nowhere_is_infinitely_far() -> None:
    keypoints = predicted((0, 0), (0, 0))
    keypoints[0, 0] = np.nan
    assert joints.distances(keypoints, TRUTH)[0, 0] == np.inf


def test_normalised_by_the_longer_side() -> None:
    fractions = joints.normalised(np.array([[10.0], [10.0]]), BOXES)
    np.testing.assert_allclose(fractions, [[0.1], [0.25]])


def test_pck_by_joint_and_in_all() -> None:
    distance = joints.distances(predicted((5, 6), (4, 9)), TRUTH)
    rates = joints.pck(joints.normalised(distance, BOXES))
    expected = [[0.5, 0, np.nan, 0.25], [1, 0.5, np.nan, 0.75], [1, 0.5, np.nan, 0.75]]
    np.testing.assert_allclose(rates, expected)


def test_mean_and_median_by_joint() -> None:
    distance = np.array([[1, np.nan], [2, np.nan], [6, np.nan]])
    mean, median = joints.mean_and_median(distance)
    np.testing.assert_allclose(mean, [3, np.nan])
    np.testing.assert_allclose(median, [2, np.nan])


def test_mean_oks_is_one_for_perfect_predictions_and_that_of_the_pairs_for_others() -> None:
    dataset, _ = drawn(seed=1, images=6)
    truths = truths_of(dataset)
    rows = np.flatnonzero(~truths.ignored)
    perfect = truths.keypoints[rows, :, :2]
    assert joints.mean_oks(joints.person_oks(perfect, truths, rows, SIGMAS)) == 1
    assert np.isnan(joints.mean_oks(joints.person_oks(perfect[:0], truths, rows[:0], SIGMAS)))

    moved = perfect + 3
    # Every person on an image of its own, so that COCOeval compares it with its prediction alone.
    dataset["images"] = [{**dataset["images"][0], "id": g} for g in range(len(rows))]
    dataset["annotations"] = [
        {**dataset["annotations"][row], "image_id": g} for g, row in enumerate(rows)
    ]
    results = [
        {"image_id": g, "category_id": 1, "score": 1.0}
        | {"keypoints": np.column_stack([person, np.ones(len(SIGMAS))]).ravel().tolist()}
        for g, person in enumerate(moved)
    ]
    expected = np.mean([one.item() for one in judged(dataset, results).ious.values()])
    found = joints.mean_oks(joints.person_oks(moved, truths, rows, SIGMAS))
    assert found == pytest.approx(expected, abs=1e-12)


def test_ap_by_visible_keypoints_ignores_the_others() -> None:
    dataset, results = drawn(seed=2, images=40, extras=False)
    truths, found = truths_of(dataset), detections_of(results)
    everybody, nobody = joints.ap_by_visible_keypoints(truths, found, SIGMAS, [(1, 4), (5, 9)])
    few, most = joints.ap_by_visible_keypoints(truths, found, SIGMAS, [(1, 2), (3, 4)])

    assert everybody == evaluate(dataset, results).metrics.AP
    assert nobody is None
    assert few is not None
    assert most is not None
    assert few != most


def test_a_bin_is_cocoeval_s_with_the_others_ignored() -> None:
    # COCOeval ignores a person whose `num_keypoints` is 0.
    dataset, results = drawn(seed=3, images=20, extras=False)
    for entry in dataset["annotations"]:
        if not 1 <= entry["num_keypoints"] <= 2:
            entry["num_keypoints"] = 0
    found = joints.ap_by_visible_keypoints(
        truths_of(dataset), detections_of(results), SIGMAS, [(1, 2)]
    )
    assert found == stats(dataset, results)[:1]


def test_bins_are_coco_s_for_its_keypoints_and_cover_any_other_number() -> None:
    assert joints.visibility_bins(17) == [(1, 5), (6, 10), (11, 17)]
    for count in range(1, 200):
        bins = joints.visibility_bins(count)
        assert [n for low, high in bins for n in range(low, high + 1)] == list(range(1, count + 1))
