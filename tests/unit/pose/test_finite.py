"""What is no number is refused, wherever it stands, with a remedy that fits."""

from pathlib import Path

import numpy as np
import pytest

from hrnetpose.pose import finite
from hrnetpose.stage import StageError

ENGINE = Path("build/engines/half")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_one_value_is_enough_also_in_the_mirrored_image(value: float, which: int) -> None:
    arrays = [np.ones((2, 3, 4, 5), np.float32), np.ones((2, 3, 4, 5), np.float32)]
    arrays[which][1, 2, 3, 4] = value

    with pytest.raises(StageError, match="build/engines/half: 1 of 120 outputs are NaN or inf"):
        finite.require(arrays, ENGINE, "fp16")


def test_large_and_subnormal_values_pass() -> None:
    finite.require([np.array([3.4e38, -3.4e38, 1e-45, 0.0], np.float32)], ENGINE, "fp16")
    finite.require([], ENGINE, "fp16")


@pytest.mark.parametrize(
    ("precision", "remedy"),
    [
        ("fp16", "this model overflows in fp16, use precision bf16 or fp32"),
        ("int8", "this model overflows in int8, use precision bf16 or fp32"),
        ("bf16", "correct the checkpoint"),
        ("fp32", "correct the checkpoint"),
    ],
)
def test_the_remedy_is_a_wider_precision_if_there_is_one(precision: str, remedy: str) -> None:
    with pytest.raises(StageError, match=remedy):
        finite.require([np.array([np.nan], np.float32)], ENGINE, precision)
