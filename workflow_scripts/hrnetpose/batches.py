"""Batches: the crops that go into an engine and the arrays that come out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Crops = npt.NDArray[np.uint8]
"""[N, height, width, 3], RGB."""
Array = npt.NDArray[np.float32]
Outputs = Mapping[str, Array]
"""What a model gives for a batch: float32 arrays [N, ...] by name, in the order of its card."""


def pad(images: Any, size: int) -> Any:
    """Return crops or images [N, ...] with black ones behind them, `size` in all."""
    if len(images) == size:
        return images
    return np.concatenate([images, np.zeros((size - len(images), *images.shape[1:]), images.dtype)])


def split(crops: Crops, size: int) -> Iterator[Crops]:
    """Yield the crops in batches; the last may be smaller."""
    for start in range(0, len(crops), size):
        yield crops[start : start + size]


def in_full(images: Any, size: int) -> Iterator[tuple[Any, int]]:
    """Yield crops or images [N, ...] in full batches, each with how many of it are not padding."""
    for start in range(0, len(images), size):
        part = images[start : start + size]
        yield pad(part, size), len(part)


def run_in_full(run: Callable[[Any], Sequence[Array]], images: Any, size: int) -> list[Array]:
    """Run images [N, ...], N >= 1, in full batches; return the outputs for all of them.

    Args:
        run: takes a full batch and returns its outputs.
        images: of any type.
        size: of a batch.
    """
    parts = [[values[:count] for values in run(full)] for full, count in in_full(images, size)]
    return [np.concatenate(same) for same in zip(*parts, strict=True)]


def fill(crops: Crops, size: int, count: int) -> list[Crops]:
    """Return full batches, contiguous; crops are repeated where there are too few."""
    rows = np.arange(size * count) % len(crops)
    return [np.ascontiguousarray(crops[part]) for part in rows.reshape(count, size)]


def count_images(outputs: Outputs) -> int:
    """Return how many images the outputs are of; the fewest that any output has."""
    return min(map(len, outputs.values()))
