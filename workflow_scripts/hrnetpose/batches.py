"""Batches: the crops that go into an engine and the arrays that come out."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

Crops = npt.NDArray[np.uint8]
"""[N, height, width, 3], RGB."""
Array = npt.NDArray[np.float32]
Outputs = Mapping[str, Array]
"""What a model gives for a batch: float32 arrays [N, ...] by name, in the order of its card."""


def pad(crops: Crops, size: int) -> Crops:
    """Return the crops with black ones behind them, `size` in all."""
    if len(crops) == size:
        return crops
    return np.concatenate([crops, np.zeros((size - len(crops), *crops.shape[1:]), np.uint8)])


def split(crops: Crops, size: int) -> Iterator[Crops]:
    """Yield the crops in batches; the last may be smaller."""
    for start in range(0, len(crops), size):
        yield crops[start : start + size]


def fill(crops: Crops, size: int, count: int) -> list[Crops]:
    """Return full batches, contiguous; crops are repeated where there are too few."""
    rows = np.arange(size * count) % len(crops)
    return [np.ascontiguousarray(crops[part]) for part in rows.reshape(count, size)]


def count_images(outputs: Outputs) -> int:
    """Return how many images the outputs are of; the fewest that any output has."""
    return min(map(len, outputs.values()))
