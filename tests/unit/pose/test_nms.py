"""NMS keeps what mmpose's keeps, in its order."""

import importlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnetpose.models.mmpose import import_mmpose
from hrnetpose.pose.nms import nms, soft_nms

SIGMAS = np.array([0.026, 0.025, 0.035, 0.079, 0.107])


def mmpose_nms() -> Any:
    import_mmpose()
    return importlib.import_module("mmpose.evaluation.functional.nms")


def persons(seed: int, count: int, tied: bool, dtype: type) -> tuple[np.ndarray, ...]:
    """Keypoints, scores and areas of persons that overlap now and then."""
    generator = np.random.default_rng(seed)
    of = generator.integers(max(count // 3, 1), size=count)
    keypoints = generator.uniform(0, 300, (count, len(SIGMAS), 2))[of]
    keypoints += generator.normal(0, generator.choice([0.5, 2, 6], (count, 1, 1)), keypoints.shape)
    scores = generator.random(count)
    if tied:
        scores = np.round(scores * 3) / 3
        keypoints = keypoints[generator.integers(count, size=count)]
    areas = generator.uniform(32**2, 300**2, count)
    return keypoints.astype(dtype), scores.astype(dtype), areas.astype(dtype)


def instances(keypoints: np.ndarray, scores: np.ndarray, areas: np.ndarray) -> list[dict[str, Any]]:
    triples = np.concatenate([keypoints, np.ones_like(keypoints[..., :1])], axis=2)
    return [
        {"keypoints": triple, "score": score, "area": area}
        for triple, score, area in zip(triples, scores, areas, strict=True)
    ]


crowds = st.tuples(
    st.integers(0, 2**32 - 1),
    st.integers(1, 60),
    st.booleans(),
    st.sampled_from([np.float32, np.float64]),
)


@given(crowd=crowds, threshold=st.sampled_from([0.3, 0.5, 0.9, 1.0]))
@settings(max_examples=80, deadline=None)
def test_nms_is_mmpose_s_index_for_index(crowd: Any, threshold: float) -> None:
    found = persons(*crowd)
    expected = mmpose_nms().oks_nms(instances(*found), threshold, SIGMAS)
    keypoints, scores, areas = found
    assert nms(keypoints, scores, areas, SIGMAS, threshold).tolist() == expected.tolist()


@given(crowd=crowds, threshold=st.sampled_from([0.3, 0.9]), limit=st.sampled_from([1, 5, 20, 100]))
@settings(max_examples=80, deadline=None)
def test_soft_nms_is_mmpose_s_index_for_index(crowd: Any, threshold: float, limit: int) -> None:
    found = persons(*crowd)
    keypoints, scores, areas = found
    before = scores.copy()
    expected = mmpose_nms().soft_oks_nms(instances(*found), threshold, limit, SIGMAS)
    assert (
        soft_nms(keypoints, scores, areas, SIGMAS, threshold, limit).tolist() == expected.tolist()
    )
    np.testing.assert_array_equal(scores, before)


@pytest.mark.parametrize("suppress", [nms, soft_nms])
def test_nobody(suppress: Any) -> None:
    nobody = np.zeros((0, 5, 2)), np.zeros(0), np.zeros(0)
    assert suppress(*nobody, SIGMAS, 0.9).tolist() == []


def test_a_keypoint_that_is_nowhere_suppresses_nobody() -> None:
    keypoints = np.zeros((2, 5, 2))
    keypoints[0] = np.nan
    assert nms(keypoints, np.array([0.9, 0.8]), np.full(2, 1e4), SIGMAS, 0.9).tolist() == [0, 1]
