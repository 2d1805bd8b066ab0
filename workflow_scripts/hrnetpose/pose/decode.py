"""From a model's outputs to keypoints: each codec has a module."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hrnetpose.artifacts.model import Codec, Crop, HeatmapCodec
from hrnetpose.pose import heatmaps, simcc

Floats = npt.NDArray[np.float32]


def flip_back(
    outputs: Sequence[Floats], codec: Codec, flip_indices: list[int], shift: bool
) -> tuple[Floats, ...]:
    """Turn the outputs for mirrored crops into outputs for the crops.

    Args:
        outputs: what the codec takes, float32 [N, ...] each.
        codec: how keypoints were encoded.
        flip_indices: for each of K keypoints, its partner on the other side of the body.
        shift: move heatmaps by one pixel to the right; SimCC's vectors are not moved.

    Returns:
        Copies, in the same shapes.
    """
    if isinstance(codec, HeatmapCodec):
        (maps,) = outputs
        return (heatmaps.flip_back(maps, flip_indices, shift, codec.flip_mode),)
    x, y = outputs
    return simcc.flip_back(x, y, flip_indices)


def decode(outputs: Sequence[Floats], codec: Codec, crop: Crop) -> tuple[Floats, Floats]:
    """Find keypoints.

    Args:
        outputs: what the codec takes, float32 [N, ...] each.
        codec: how keypoints were encoded.
        crop: what the outputs are of.

    Returns:
        Positions float32 [N, K, 2] (x, y) in pixels of the crop, and scores float32 [N, K].
    """
    if isinstance(codec, HeatmapCodec):
        (maps,) = outputs
        return heatmaps.decode(maps, codec, crop)
    x, y = outputs
    return simcc.decode(x, y, codec)


def to_image(positions: Floats, crop: Crop, centers: Floats, scales: Floats) -> Floats:
    """Map positions in a crop to pixels of the image that it was cut from.

    Args:
        positions: float32 [N, K, 2] in pixels of the crop.
        crop: its size.
        centers: float32 [N, 2] of the boxes.
        scales: float32 [N, 2], their padded sizes.

    Returns:
        float64-computed float32 [N, K, 2].
    """
    size = np.array([crop.width, crop.height], np.float64)
    corner = centers - 0.5 * scales.astype(np.float64)
    return (positions / size * scales[:, None] + corner[:, None]).astype(np.float32)
