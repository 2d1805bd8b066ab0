"""From heatmaps to keypoints, as mmpose's heatmap codecs do it, for whole batches at once."""

from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from hrnetpose.artifacts.model import Crop, HeatmapCodec
from hrnetpose.pose import dark

Floats = npt.NDArray[np.float32]
FlipMode = Literal["heatmap", "udp_combined"]


def flip_back(
    heatmaps: Floats, flip_indices: list[int], shift: bool, mode: FlipMode = "heatmap"
) -> Floats:
    """Turn the heatmaps of mirrored crops into heatmaps of the crops (mmpose's flip_heatmaps).

    Args:
        heatmaps: float32 [N, C, H, W].
        flip_indices: for each of K keypoints, its partner on the other side of the body.
        shift: move by one pixel to the right, which aligns the two when the stride is even.
        mode: what the channels are. `heatmap`: one per keypoint; `udp_combined`: three, and the
            second, the offset in x, changes its sign.

    Returns:
        float32 [N, C, H, W].
    """
    n, _, h, w = heatmaps.shape
    channels = 3 if mode == "udp_combined" else 1
    grouped = heatmaps.reshape(n, len(flip_indices), channels, h, w)[:, flip_indices]
    flipped = np.empty_like(grouped)
    if shift:
        flipped[..., 1:] = grouped[..., :0:-1]
        flipped[..., 0] = grouped[..., -1]
    else:
        flipped[...] = grouped[..., ::-1]
    if mode == "udp_combined":
        np.negative(flipped[:, :, 1], out=flipped[:, :, 1])
    return flipped.reshape(heatmaps.shape)


def decode(heatmaps: Floats, codec: HeatmapCodec, crop: Crop) -> tuple[Floats, Floats]:
    """Find keypoints in heatmaps.

    The decoder is MSRA's quarter offset, DARK (`unbiased`), UDP's with Gaussian or combined
    heatmaps, or Megvii's.  Positions are those of mmpose's codec, to 1e-3 pixels, but for one case:
    where a map has no positive value, mmpose's UDP and Megvii go on to read another keypoint's map
    or to divide zero by zero, and here the position stays at (-1, -1), as it does with MSRA.

    Args:
        heatmaps: float32 [N, C, H, W]; C is the number of keypoints K, or 3 K (the keypoint's
            response, offset in x, offset in y) if the codec's `heatmap_type` is `combined`.
        codec: how keypoints were encoded.
        crop: what the heatmaps are of.  MSRA takes a heatmap for as wide as its pixels are many,
            UDP for as wide as the distance of its outermost pixels' centres.

    Returns:
        Positions float32 [N, K, 2] (x, y) in pixels of the crop, and scores float32 [N, K], the
        maxima; Megvii's heatmaps peak at 255, and its scores are maximum / 255 + 0.5.
    """
    positions, scores = find(heatmaps, codec)
    size = np.array(heatmaps.shape[:1:-1], np.float64)
    if codec.type == "UDPHeatmap":
        size -= 1
    return (positions / size * (crop.width, crop.height)).astype(np.float32), scores


def find(heatmaps: Floats, codec: HeatmapCodec) -> tuple[Floats, Floats]:
    """Return positions in heatmap pixels, (-1, -1) where no value is positive, and scores."""
    if codec.type == "MegviiHeatmap":
        return _megvii(heatmaps, codec)
    if codec.type == "UDPHeatmap" and codec.heatmap_type == "combined":
        return _combined(heatmaps, codec)
    positions, scores = _maxima(heatmaps)
    if codec.type == "UDPHeatmap":
        refined = dark.refine(positions, scores, heatmaps, codec.blur_kernel_size, dark.UDP)
    elif codec.unbiased:
        refined = dark.refine(positions, scores, heatmaps, codec.blur_kernel_size, dark.DARK)
    else:
        refined = _quarter_offset(positions, heatmaps)
    return refined, scores


def _maxima(heatmaps: Floats) -> tuple[Floats, Floats]:
    """Return the whole-pixel positions [N, K, 2] and the values [N, K] of the first maxima."""
    n, k, h, w = heatmaps.shape
    flat = heatmaps.reshape(n, k, h * w)
    index = flat.argmax(axis=2)
    scores = np.take_along_axis(flat, index[..., None], axis=2)[..., 0]
    positions = np.stack([index % w, index // w], axis=-1).astype(np.float32)
    positions[scores <= 0] = -1
    return positions, scores


def _quarter_offset(positions: Floats, heatmaps: Floats) -> Floats:
    """Move a quarter pixel towards the higher neighbour (Xiao et al., Simple Baselines, 2018)."""
    n, k, h, w = heatmaps.shape
    x, y = np.moveaxis(positions.astype(np.intp), -1, 0)
    flat = heatmaps.reshape(-1)
    maps = np.arange(n * k).reshape(n, k) * (h * w)

    def at(dx: int, dy: int) -> Floats:
        # What is clipped is masked below.
        return flat[maps + np.clip(y + dy, 0, h - 1) * w + np.clip(x + dx, 0, w - 1)]

    inside_x = (x > 1) & (x < w - 1) & (y > 0)
    inside_y = (y > 1) & (y < h - 1) & (x > 0)
    dx = np.where(inside_x, at(1, 0) - at(-1, 0), np.float32(0))
    dy = np.where(inside_y, at(0, 1) - at(0, -1), np.float32(0))
    return positions + np.sign(np.stack([dx, dy], axis=-1)) * np.float32(0.25)


def _megvii(heatmaps: Floats, codec: HeatmapCodec) -> tuple[Floats, Floats]:
    """Blur, and move a quarter pixel from the pixel's far corner (Li et al., MSPN, 2019)."""
    n, k, h, w = heatmaps.shape
    maps = heatmaps.reshape(n * k, h, w)
    blurred = dark.blurred_maps(maps, codec.blur_kernel_size)
    before, after = maps.max(axis=(1, 2)), blurred.max(axis=(1, 2))
    factor = np.divide(before, after, out=np.ones_like(before), where=after != 0)
    blurred = (blurred * factor[:, None, None]).reshape(heatmaps.shape)
    positions, scores = _maxima(blurred)
    inside = ((positions > 1) & (positions < np.array([w - 1, h - 1]))).all(axis=-1, keepdims=True)
    refined = _quarter_offset(positions, blurred) + np.float32(0.5)
    return np.where(inside, refined, positions), scores / np.float32(255) + np.float32(0.5)


def _combined(heatmaps: Floats, codec: HeatmapCodec) -> tuple[Floats, Floats]:
    """Add the offsets found at the maximum of the blurred response (Huang et al., UDP, 2020)."""
    n, channels, h, w = heatmaps.shape
    grouped = heatmaps.reshape(n, channels // 3, 3, h, w)
    size = 2 * codec.blur_kernel_size + 1
    responses = np.empty((n, channels // 3, h, w), np.float32)
    for source, target in zip(
        grouped[:, :, 0].reshape(-1, h, w), responses.reshape(-1, h, w), strict=True
    ):
        cv2.GaussianBlur(source, (size, size), 0, dst=target)
    positions, scores = _maxima(responses)
    x, y = np.moveaxis(positions.astype(np.intp), -1, 0)
    instances, keypoints = np.ogrid[:n, : channels // 3]
    offsets = np.stack([grouped[instances, keypoints, axis, y, x] for axis in (1, 2)], axis=-1)
    offsets *= np.float32(codec.radius_factor * max(w, h))
    return np.where((x >= 0)[..., None], positions + offsets, positions), scores
