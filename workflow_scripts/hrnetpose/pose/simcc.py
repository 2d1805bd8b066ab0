"""From SimCC's vectors to keypoints, as mmpose's SimCCLabel does it, for whole batches at once.

A keypoint's x and y are classes: one element of a vector for each fraction of a pixel (Li et al.,
SimCC: a Simple Coordinate Classification Perspective for Human Pose Estimation, ECCV 2022).
"""

import cv2
import numpy as np
import numpy.typing as npt

from hrnetpose.artifacts.model import SimCCCodec

Floats = npt.NDArray[np.float32]

_LOWER, _UPPER = 1e-3, 50.0
"""The range that blurred vectors are clipped to before their logarithm."""


def flip_back(x: Floats, y: Floats, flip_indices: list[int]) -> tuple[Floats, Floats]:
    """Turn the vectors of mirrored crops into vectors of the crops (mmpose's flip_vectors).

    Args:
        x: float32 [N, K, Wx].
        y: float32 [N, K, Wy].
        flip_indices: for each of K keypoints, its partner on the other side of the body.

    Returns:
        Both, copied, in the same shapes.
    """
    return x[:, flip_indices, ::-1], y[:, flip_indices]


def decode(x: Floats, y: Floats, codec: SimCCCodec) -> tuple[Floats, Floats]:
    """Find keypoints in vectors.

    Positions are those of mmpose's codec, to 1e-3 pixels, but for one case: where a vector has no
    positive value, mmpose's `use_dark` goes on to refine a peak that there is not, and here the
    position stays as it is without `use_dark`.

    Args:
        x: float32 [N, K, Wx].
        y: float32 [N, K, Wy].
        codec: how keypoints were encoded.

    Returns:
        Positions float32 [N, K, 2] (x, y) in pixels of the crop, of the first maxima, or one vector
        element before the first where a vector has no positive value; and scores float32 [N, K],
        the lower of the two maxima.
    """
    peaks: list[Floats] = [values.argmax(axis=2).astype(np.float32) for values in (x, y)]
    highest, other = x.max(axis=2), y.max(axis=2)
    scores = np.where(highest > other, other, highest)  # not np.minimum: of NaN it does as mmpose
    if codec.use_dark:
        kernels = codec.blur_kernel_sizes
        peaks = [_refine(*one) for one in zip(peaks, (x, y), kernels, strict=True)]
    positions: Floats = np.stack(peaks, axis=-1)
    positions[scores <= 0] = -1
    positions /= np.float32(codec.simcc_split_ratio)
    return positions, scores


def _refine(peaks: Floats, vectors: Floats, kernel: int) -> Floats:
    """Move peaks to where the blurred vector has its top: DARK (see dark.py) along a line.

    Args:
        peaks: float32 [N, K], whole elements.
        vectors: float32 [N, K, W].
        kernel: the blur's size in elements, odd.
    """
    n, k, width = vectors.shape
    border = kernel // 2
    inner = np.s_[:, border : border + width]
    lines = np.zeros((n * k, width + 2 * border), np.float32)
    lines[inner] = vectors.reshape(n * k, width)
    if len(lines):
        lines = cv2.GaussianBlur(lines, (kernel, 1), 0).reshape(lines.shape)
    around = peaks.reshape(-1, 1).astype(np.intp) + np.arange(-2, 3)
    with np.errstate(all="ignore"):
        blurred = lines[inner]
        factor = vectors.max(axis=2).reshape(-1, 1) / blurred.max(axis=1, keepdims=True)
        near = np.take_along_axis(blurred, around.clip(0, width - 1), axis=1) * factor
        before2, before, top, after, after2 = np.log(near.clip(_LOWER, _UPPER)).T
        slope = np.float32(0.5) * (after - before)
        curvature = np.float32(1e-9) + np.float32(0.25) * (after2 - 2 * top + before2)
        return peaks - (slope / curvature).reshape(n, k)
