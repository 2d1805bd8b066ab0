"""Decoded positions are those of mmpose's codecs, on heatmaps good and bad."""

import importlib
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hrnetpose.artifacts.model import Crop, HeatmapCodec
from hrnetpose.models.mmpose import import_mmpose
from hrnetpose.pose import dark, decode
from hrnetpose.pose import heatmaps as heatmap_decoding

STRIDE = 4
CODECS = {
    "plain": HeatmapCodec(type="MSRAHeatmap", sigma=2.0),
    "dark": HeatmapCodec(type="MSRAHeatmap", sigma=2.0, unbiased=True),
    "dark, wide": HeatmapCodec(type="MSRAHeatmap", sigma=3.0, unbiased=True, blur_kernel_size=17),
    "udp": HeatmapCodec(type="UDPHeatmap", sigma=2.0),
    "udp, narrow": HeatmapCodec(type="UDPHeatmap", sigma=1.0, blur_kernel_size=7),
    "udp combined": HeatmapCodec(type="UDPHeatmap", sigma=2.0, heatmap_type="combined"),
    "megvii": HeatmapCodec(type="MegviiHeatmap", sigma=2.0, blur_kernel_size=11),
}
KINDS = [
    "noise", "positive noise", "gaussian", "gaussian and noise", "faint", "bright", "two equal",
    "steps", "border", "dots", "plateau", "negative dip",
]  # fmt: skip


def mmpose_codec(codec: HeatmapCodec, width: int, height: int) -> Any:
    import_mmpose()
    codecs = importlib.import_module("mmpose.codecs")
    kind = getattr(codecs, codec.type)
    options: dict[str, Any] = {
        "input_size": (width * STRIDE, height * STRIDE),
        "heatmap_size": (width, height),
    }
    if codec.type == "MegviiHeatmap":
        return kind(**options, kernel_size=codec.blur_kernel_size)
    options |= {
        "sigma": codec.sigma,
        "blur_kernel_size": codec.blur_kernel_size,
    }
    if codec.type == "MSRAHeatmap":
        return kind(**options, unbiased=codec.unbiased)
    return kind(**options, heatmap_type=codec.heatmap_type, radius_factor=codec.radius_factor)


def reference(heatmaps: np.ndarray, codec: HeatmapCodec) -> tuple[np.ndarray, np.ndarray]:
    """mmpose's keypoints in input pixels [N, K, 2] and scores [N, K]."""
    decoder = mmpose_codec(codec, heatmaps.shape[3], heatmaps.shape[2])
    with np.errstate(all="ignore"):
        decoded = [decoder.decode(crop) for crop in heatmaps]
    return tuple(np.concatenate(part) for part in zip(*decoded, strict=True))  # type: ignore[return-value]


def ours(heatmaps: np.ndarray, codec: HeatmapCodec) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints in input pixels."""
    height, width = (STRIDE * side for side in heatmaps.shape[2:])
    return decode.decode([heatmaps], codec, Crop(height=height, width=width))


def heatmap(kind: str, generator: np.random.Generator, width: int, height: int) -> np.ndarray:
    """One map of a kind, float32 [H, W]."""
    y, x = np.mgrid[:height, :width]

    def gaussian(cx: float, cy: float, sigma: float) -> np.ndarray:
        return np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma**2))

    def anywhere() -> tuple[float, float]:
        return generator.uniform(-1, width), generator.uniform(-1, height)

    noise = generator.normal(0, 1, (height, width))
    peak = gaussian(*anywhere(), generator.uniform(0.7, 4))
    match kind:
        case "noise":
            values = noise
        case "positive noise":
            values = np.abs(noise)
        case "gaussian":
            values = peak
        case "gaussian and noise":
            values = peak + 0.05 * noise
        case "faint":
            values = 10 ** generator.uniform(-12, -1) * (peak + 0.01 * noise)
        case "bright":
            values = 10 ** generator.uniform(1, 4) * (peak + 0.01 * noise)
        case "two equal":
            values = np.maximum(gaussian(3, 5, 2), gaussian(width - 4, 5, 2))
        case "steps":
            values = generator.integers(-1, 3, (height, width)).astype(np.float64)
        case "border":
            at = generator.choice([0, 1, 2, width - 3, width - 2, width - 1])
            values = gaussian(at, generator.choice([0, 1, 2, height - 2, height - 1]), 2)
        case "dots":
            values = np.zeros((height, width))
            values[generator.integers(height), generator.integers(width)] = 1
        case "plateau":
            values = np.minimum(gaussian(*anywhere(), 6), 0.4)
        case _:
            values = peak - 3 * gaussian(*anywhere(), 2)
    return values.astype(np.float32)


def has_peak(heatmaps: np.ndarray, codec: HeatmapCodec) -> np.ndarray:
    """Where a map has a positive value: [N, K]."""
    return ours(heatmaps, codec)[1] > score(0.0, codec)


def score(maximum: float, codec: HeatmapCodec) -> np.float32:
    """The score of a keypoint whose heatmap has this maximum."""
    if codec.type == "MegviiHeatmap":
        return np.float32(maximum) / np.float32(255) + np.float32(0.5)
    return np.float32(maximum)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@given(
    seed=st.integers(0, 2**32 - 1),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
    width=st.sampled_from([8, 24, 48]),
    height=st.sampled_from([12, 64]),
)
@example(seed=0, kinds=KINDS, width=48, height=64)
@settings(max_examples=40, deadline=None)
def test_positions_and_scores_are_mmpose_s(
    codec: HeatmapCodec, seed: int, kinds: list[str], width: int, height: int
) -> None:
    generator = np.random.default_rng(seed)
    channels = [kind for kind in kinds for _ in range(codec.channels)]
    crops = [[heatmap(kind, generator, width, height) for kind in channels] for _ in range(2)]
    heatmaps = np.array(crops)
    untouched = heatmaps.copy()

    keypoints, scores = ours(heatmaps, codec)
    expected, expected_scores = reference(heatmaps, codec)

    # Where a Hessian is almost singular, mmpose's single precision sets a limit.
    there = np.broadcast_to(has_peak(heatmaps, codec)[..., None], keypoints.shape)
    np.testing.assert_allclose(keypoints[there], expected[there], atol=1e-3, rtol=2e-5)
    np.testing.assert_array_equal(scores, expected_scores)
    np.testing.assert_array_equal(heatmaps, untouched)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_trained_like_heatmaps_of_many_persons(codec: HeatmapCodec) -> None:
    generator = np.random.default_rng(1)
    shape = (12, 17 * codec.channels)
    heatmaps = np.array(
        [heatmap("gaussian and noise", generator, 48, 64) for _ in range(shape[0] * shape[1])]
    ).reshape(*shape, 64, 48)

    keypoints, scores = ours(heatmaps, codec)
    expected, expected_scores = reference(heatmaps, codec)

    np.testing.assert_allclose(keypoints, expected, atol=1e-3)
    np.testing.assert_array_equal(scores, expected_scores)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("value", [0.0, -0.5], ids=["zero", "negative"])
def test_a_map_without_a_positive_value_has_no_peak(codec: HeatmapCodec, value: float) -> None:
    heatmaps = np.full((1, 2 * codec.channels, 16, 12), value, np.float32)

    positions, scores = heatmap_decoding.find(heatmaps, codec)

    np.testing.assert_array_equal(positions, -1)
    np.testing.assert_array_equal(scores, score(value, codec))
    if codec.type == "MSRAHeatmap":
        np.testing.assert_allclose(ours(heatmaps, codec)[0], reference(heatmaps, codec)[0])


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_flat_maps(codec: HeatmapCodec) -> None:
    heatmaps = np.full((1, 2 * codec.channels, 16, 12), 0.25, np.float32)

    np.testing.assert_allclose(ours(heatmaps, codec)[0], reference(heatmaps, codec)[0], atol=1e-3)


@pytest.mark.parametrize("name", ["plain", "dark", "udp"])
@pytest.mark.parametrize("where", [(8, 6), (0, 0), (15, 11)])
def test_nan_goes_where_mmpose_lets_it_go(name: str, where: tuple[int, int]) -> None:
    heatmaps = np.stack(
        [heatmap("gaussian and noise", np.random.default_rng(i), 12, 16) for i in range(3)]
    )[None]
    heatmaps[0, 1][where] = np.nan

    keypoints, scores = ours(heatmaps, CODECS[name])
    expected, expected_scores = reference(heatmaps, CODECS[name])

    np.testing.assert_allclose(keypoints, expected, atol=1e-3)
    np.testing.assert_array_equal(scores, expected_scores)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_no_crops(codec: HeatmapCodec) -> None:
    positions, scores = ours(np.zeros((0, 3 * codec.channels, 16, 12), np.float32), codec)

    assert positions.shape == (0, 3, 2)
    assert scores.shape == (0, 3)


@pytest.mark.parametrize("name", ["dark", "udp"])
def test_the_short_way_is_taken_for_trained_like_heatmaps(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(2)
    heatmaps = np.array([heatmap("gaussian", generator, 48, 64) for _ in range(40)])[None]
    heatmaps = 0.9 * heatmaps + 0.02 * generator.random(heatmaps.shape, np.float32)
    blurred = []
    whole = dark.blurred_maps
    monkeypatch.setattr(
        dark,
        "blurred_maps",
        lambda maps, kernel: (blurred.append(len(maps)), whole(maps, kernel))[1],
    )

    ours(heatmaps, CODECS[name])

    assert sum(blurred) < 10


def test_a_singular_hessian_gives_no_step() -> None:
    gradient = np.ones((2, 2), np.float32)
    hessian = np.array([np.zeros((2, 2)), [[1, 2], [2, 4]]], np.float32)

    steps, _ = dark._newton_steps(gradient, hessian)

    np.testing.assert_array_equal(steps, 0)


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("mode", ["heatmap", "udp_combined"])
def test_flip_back_is_mmpose_s(mode: Any, shift: bool) -> None:
    import torch

    import_mmpose()
    flip_heatmaps = importlib.import_module("mmpose.models.utils.tta").flip_heatmaps
    flip_indices = [0, 2, 1, 4, 3]
    channels = 3 if mode == "udp_combined" else 1
    shape = (2, 5 * channels, 6, 4)
    heatmaps = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    untouched = heatmaps.copy()

    kind = "combined" if mode == "udp_combined" else "gaussian"
    codec = HeatmapCodec(type="UDPHeatmap", sigma=2.0, heatmap_type=kind)
    (flipped,) = decode.flip_back([heatmaps], codec, flip_indices, shift)

    expected = flip_heatmaps(torch.from_numpy(heatmaps.copy()), flip_indices, mode, shift)
    np.testing.assert_array_equal(flipped, expected.numpy())
    np.testing.assert_array_equal(heatmaps, untouched)


def test_to_image_puts_the_crop_onto_its_box() -> None:
    corners = np.array([[[0, 0], [96, 256]]], np.float32)
    centers, scales = np.array([[100, 200]], np.float32), np.array([[96, 128]], np.float32)

    found = decode.to_image(corners, Crop(height=256, width=192), centers, scales)

    np.testing.assert_allclose(found, [[[52, 136], [100, 264]]])
