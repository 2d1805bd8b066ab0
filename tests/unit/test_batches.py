"""Batches are cut, filled and counted."""

import numpy as np
import pytest

from hrnetpose import batches


def crops(count: int) -> batches.Crops:
    return np.arange(1, 1 + count, dtype=np.uint8).reshape(count, 1, 1, 1).repeat(3, axis=3)


def numbers(found: batches.Crops) -> list[int]:
    return found[:, 0, 0, 0].tolist()


def test_black_crops_fill_a_batch_up() -> None:
    assert numbers(batches.pad(crops(2), 5)) == [1, 2, 0, 0, 0]
    assert numbers(batches.pad(crops(0), 2)) == [0, 0]


def test_a_full_batch_is_not_copied() -> None:
    full = crops(4)

    assert batches.pad(full, 4) is full


@pytest.mark.parametrize(("count", "wanted"), [(0, []), (2, [[1, 2]]), (5, [[1, 2], [3, 4], [5]])])
def test_crops_are_split_into_batches(count: int, wanted: list[list[int]]) -> None:
    assert list(map(numbers, batches.split(crops(count), 2))) == wanted


@pytest.mark.parametrize(
    ("count", "wanted"), [(1, [1, 1, 1, 1]), (3, [1, 2, 3, 1]), (9, [1, 2, 3, 4])]
)
def test_batches_are_filled_from_few_crops_or_many(count: int, wanted: list[int]) -> None:
    found = batches.fill(crops(count), size=2, count=2)

    assert [number for batch in found for number in numbers(batch)] == wanted
    assert all(batch.flags["C_CONTIGUOUS"] for batch in found)


def test_images_are_counted_by_the_shortest_output() -> None:
    outputs = {"x": np.zeros((4, 2), np.float32), "y": np.zeros((3, 2), np.float32)}

    assert batches.count_images(outputs) == 3
