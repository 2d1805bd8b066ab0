"""Batches go in, keypoints come out."""

from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from hrnetpose.artifacts.model import ModelCard
from hrnetpose.batches import Crops, Outputs
from hrnetpose.pose import predict


def stream(batches: Iterable[Crops]) -> Iterator[Outputs]:
    """An engine whose heatmaps are the crops' first channel."""
    for batch in batches:
        yield {"heatmaps": batch[..., :1].transpose(0, 3, 1, 2).astype(np.float32)}


@pytest.fixture
def crops() -> Crops:
    return np.random.default_rng(0).integers(1, 256, (10, 6, 5, 3), dtype=np.uint8)


@pytest.mark.parametrize("mirror", [False, True])
def test_each_batch_comes_back_plain_and_mirrored(crops: Crops, mirror: bool) -> None:
    batches = [crops[:4], crops[4:8], crops[8:]]

    found = list(predict.infer(stream, iter(batches), mirror))

    plain = [one["heatmaps"] for one, _ in found]
    assert [len(one) for one in plain] == [4, 4, 2]
    assert np.array_equal(np.concatenate(plain)[:, 0], crops[..., 0])
    for one, other in found:
        assert (other is not None) == mirror
        if other is not None:
            assert np.array_equal(other["heatmaps"], one["heatmaps"][..., ::-1])


def test_no_batches_give_no_outputs() -> None:
    assert list(predict.infer(stream, iter([]), mirror=True)) == []


def test_both_protocols_come_from_the_same_heatmaps(model_card: ModelCard) -> None:
    plain = np.zeros((2, 3, 16, 8), np.float32)
    plain[:, :, 5, 3] = 1
    mirrored = np.zeros_like(plain)
    mirrored[:, :, 5, 5] = 1  # its mirror image, moved by a pixel, is at 3
    kept = plain.copy()
    boxes = np.full((2, 2), 64, np.float32)

    positions, scores = predict.keypoints(
        {"heatmaps": plain}, {"heatmaps": mirrored}, [0, 1], model_card, boxes, boxes
    )

    assert positions.shape == (2, 2, 3, 2)
    assert np.allclose(positions[0], positions[1])
    assert np.allclose(scores, 1)
    assert np.array_equal(plain, kept)
