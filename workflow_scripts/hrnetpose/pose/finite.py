"""Heatmaps that are no numbers: what was made of them would be no figure."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hrnetpose.stage import StageError

WIDE = ("fp32", "bf16")
"""Precisions with the range of fp32, in which a sound model does not overflow."""


def require(arrays: Iterable[npt.NDArray[np.float32]], source: Path, precision: str) -> None:
    """Refuse NaN and infinite values.

    Args:
        arrays: float32 of any shape, what a model gave.
        source: the engine's folder or the graph.
        precision: of the source.

    Raises:
        StageError: with the remedy.
    """
    for array in arrays:
        if np.isfinite(array).all():
            continue
        bad = array.size - int(np.isfinite(array).sum())
        remedy = (
            "its weights overflow by themselves, correct the checkpoint"
            if precision in WIDE
            else f"this model overflows in {precision}, use precision bf16 or fp32"
        )
        raise StageError(f"{source}: {bad} of {array.size} outputs are NaN or infinite; {remedy}")
