"""SimCC's vectors are decoded as mmpose's SimCCLabel decodes them, good ones and bad ones."""

import importlib
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hrnetpose.artifacts.model import Crop, SimCCCodec
from hrnetpose.models.mmpose import import_mmpose
from hrnetpose.pose import decode

CODECS = {
    "rtmpose": SimCCCodec(type="SimCCLabel", sigma=(4.9, 5.66), normalize=False),
    "rtmpose, dark": SimCCCodec(
        type="SimCCLabel", sigma=(4.9, 5.66), normalize=False, use_dark=True
    ),
    "simcc, dark": SimCCCodec(type="SimCCLabel", use_dark=True),
    "one element a pixel": SimCCCodec(type="SimCCLabel", simcc_split_ratio=1.0),
    "three halves, dark": SimCCCodec(
        type="SimCCLabel", simcc_split_ratio=1.5, sigma=0.8, use_dark=True
    ),
}
KINDS = [
    "noise", "positive noise", "gaussian", "gaussian and noise", "logits", "faint", "two equal",
    "steps", "border", "dot", "plateau", "flat", "negative", "zero", "dip",
]  # fmt: skip
CROPS = [Crop(height=64, width=48), Crop(height=24, width=20)]


def mmpose_codec(codec: SimCCCodec, crop: Crop) -> Any:
    import_mmpose()
    codecs = importlib.import_module("mmpose.codecs")
    options = codec.model_dump(exclude={"type"})
    return codecs.SimCCLabel(input_size=(crop.width, crop.height), **options)


def reference(
    x: np.ndarray, y: np.ndarray, codec: SimCCCodec, crop: Crop
) -> tuple[np.ndarray, np.ndarray]:
    """mmpose's keypoints in input pixels [N, K, 2] and scores [N, K]; its heads decode singly."""
    decoder = mmpose_codec(codec, crop)
    with np.errstate(all="ignore"):
        decoded = [
            decoder.decode(a[None].copy(), b[None].copy()) for a, b in zip(x, y, strict=True)
        ]
    return tuple(np.concatenate(part) for part in zip(*decoded, strict=True))  # type: ignore[return-value]


def vector(kind: str, generator: np.random.Generator, size: int) -> np.ndarray:
    """One vector of a kind, float32 [W]."""
    at = np.arange(size)

    def gaussian(center: float, sigma: float) -> np.ndarray:
        return np.exp(-((at - center) ** 2) / (2 * sigma**2))

    noise = generator.normal(0, 1, size)
    peak = gaussian(generator.uniform(-1, size), generator.uniform(0.7, 7))
    match kind:
        case "noise":
            values = noise
        case "positive noise":
            values = np.abs(noise)
        case "gaussian":
            values = peak
        case "gaussian and noise":
            values = peak + 0.05 * noise
        case "logits":
            values = generator.uniform(5, 80) * peak + noise
        case "faint":
            values = 10 ** generator.uniform(-12, -1) * (peak + 0.01 * noise)
        case "two equal":
            values = np.maximum(gaussian(3, 2), gaussian(size - 4, 2))
        case "steps":
            values = generator.integers(-1, 3, size).astype(np.float64)
        case "border":
            values = gaussian(generator.choice([0, 1, 2, size - 3, size - 2, size - 1]), 4)
        case "dot":
            values = np.zeros(size)
            values[generator.integers(size)] = 1
        case "plateau":
            values = np.minimum(gaussian(generator.uniform(0, size), 6), 0.4)
        case "flat":
            values = np.full(size, 0.25)
        case "negative":
            values = -np.abs(noise) - 0.1
        case "zero":
            values = np.zeros(size)
        case _:
            values = peak - 3 * gaussian(generator.uniform(0, size), 2)
    return values.astype(np.float32)


def draw(
    kinds: list[tuple[str, str]], codec: SimCCCodec, crop: Crop, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Two persons whose keypoints have vectors of such kinds in x and y."""
    generator = np.random.default_rng(seed)
    sizes = [shape[-1] for shape in codec.shapes(len(kinds), crop)]
    x, y = (
        np.array([[vector(pair[axis], generator, size) for pair in kinds] for _ in range(2)])
        for axis, size in enumerate(sizes)  # type: ignore[arg-type]
    )
    return x, y


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@given(
    seed=st.integers(0, 2**32 - 1),
    kinds=st.lists(st.tuples(*[st.sampled_from(KINDS)] * 2), min_size=1, max_size=4),
    crop=st.sampled_from(CROPS),
)
@example(seed=0, kinds=[(kind, kind) for kind in KINDS], crop=CROPS[0])
@example(seed=1, kinds=[(kind, "gaussian") for kind in KINDS], crop=CROPS[1])
@settings(max_examples=60, deadline=None)
def test_positions_and_scores_are_mmpose_s(
    codec: SimCCCodec, seed: int, kinds: list[tuple[str, str]], crop: Crop
) -> None:
    x, y = draw(kinds, codec, crop, seed)
    untouched = x.copy(), y.copy()

    positions, scores = decode.decode([x, y], codec, crop)

    expected, expected_scores = reference(x, y, codec, crop)
    np.testing.assert_array_equal(scores, expected_scores)
    # Where there is no peak, mmpose's DARK goes on to read elements that are not the keypoint's.
    there = np.broadcast_to(scores[..., None] > 0, positions.shape)
    np.testing.assert_allclose(positions[there], expected[there], atol=1e-3, rtol=1e-5)
    np.testing.assert_array_equal(positions[~there], np.float32(-1 / codec.simcc_split_ratio))
    if not codec.use_dark:
        np.testing.assert_array_equal(positions, expected)
    np.testing.assert_array_equal(x, untouched[0])
    np.testing.assert_array_equal(y, untouched[1])


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("where", [0, 13, -1])
def test_nan_goes_where_mmpose_lets_it_go(
    codec: SimCCCodec, axes: tuple[int, ...], where: int
) -> None:
    crop = CROPS[0]
    vectors = draw([("gaussian and noise",) * 2] * 3, codec, crop, seed=2)
    for axis in axes:
        vectors[axis][0, 1, where] = np.nan

    positions, scores = decode.decode(vectors, codec, crop)

    expected, expected_scores = reference(*vectors, codec, crop)
    np.testing.assert_allclose(positions, expected, atol=1e-3)
    np.testing.assert_array_equal(scores, expected_scores)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_no_crops(codec: SimCCCodec) -> None:
    x, y = draw([("flat", "flat")] * 3, codec, CROPS[0], seed=0)

    positions, scores = decode.decode([x[:0], y[:0]], codec, CROPS[0])

    assert positions.shape == (0, 3, 2)
    assert scores.shape == (0, 3)


def test_flip_back_is_mmpose_s() -> None:
    import torch

    import_mmpose()
    flip_vectors = importlib.import_module("mmpose.models.utils.tta").flip_vectors
    flip_indices = [0, 2, 1, 4, 3]
    codec = CODECS["rtmpose"]
    x, y = draw([("noise", "noise")] * 5, codec, CROPS[0], seed=3)
    untouched = x.copy(), y.copy()

    flipped = decode.flip_back([x, y], codec, flip_indices, shift=True)

    expected = flip_vectors(torch.from_numpy(x), torch.from_numpy(y), flip_indices)
    for found, wanted in zip(flipped, expected, strict=True):
        np.testing.assert_array_equal(found, wanted.numpy())
    flipped[0][:] = flipped[1][:] = 1
    np.testing.assert_array_equal(x, untouched[0])
    np.testing.assert_array_equal(y, untouched[1])


def test_a_blur_that_mmpose_cannot_do_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"use_dark\n.*needs a sigma of 0\.8 or more"):
        SimCCCodec(type="SimCCLabel", sigma=0.7, use_dark=True)
