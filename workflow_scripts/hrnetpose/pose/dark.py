"""Distribution-aware refinement of heatmap peaks: DARK, and its variant for UDP.

Both blur a heatmap, take its logarithm, which makes a Gaussian a parabola, and go to the top of
the parabola that has the derivatives found at the peak:

- DARK: Zhang et al., Distribution-Aware Coordinate Representation for Human Pose Estimation,
  CVPR 2020;
- UDP: Huang et al., The Devil is in the Details, CVPR 2020.

mmpose scales each blurred map to the maximum that it had before, and clips it.  A factor becomes
a constant under the logarithm and drops out of the derivatives, so for most peaks 5x5 blurred
pixels are enough, and no map is blurred as a whole.  Where clipping, cancellation or a flat top
could make a visible difference, the whole map is blurred as mmpose does it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.floating]
Indices = npt.NDArray[np.intp]

# Derivatives are taken from the 5x5 pixels around a peak.
_REACH = 2


@dataclass(frozen=True)
class Method:
    """How derivatives are taken.

    Attributes:
        lower, upper: the range that blurred heatmaps are clipped to.
        margin: a peak that is nearer to the border, in pixels, is not refined.
        derivatives: from log-heatmaps float32 [M, 5, 5] around the peaks to the gradients [M, 2]
            (x, y) and the Hessians [M, 2, 2].
    """

    lower: float
    upper: float
    margin: int
    derivatives: Callable[[Floats], tuple[Numbers, Numbers]]


def _wide_derivatives(logs: Floats) -> tuple[Numbers, Numbers]:
    """Second derivatives from pixels two apart."""
    at = np.moveaxis(logs, 0, -1)
    gradient = 0.5 * np.stack([at[2, 3] - at[2, 1], at[3, 2] - at[1, 2]], axis=-1)
    xx = 0.25 * (at[2, 4] - 2 * at[2, 2] + at[2, 0])
    yy = 0.25 * (at[4, 2] - 2 * at[2, 2] + at[0, 2])
    xy = 0.25 * (at[3, 3] - at[1, 3] - at[3, 1] + at[1, 1])
    return gradient, np.stack([xx, xy, xy, yy], axis=-1).reshape(-1, 2, 2)


def _narrow_derivatives(logs: Floats) -> tuple[Numbers, Numbers]:
    """Second derivatives from adjacent pixels; a trace of the unit matrix keeps them invertible."""
    at = np.moveaxis(logs, 0, -1)
    gradient = 0.5 * np.stack([at[2, 3] - at[2, 1], at[3, 2] - at[1, 2]], axis=-1)
    xx = at[2, 3] - 2 * at[2, 2] + at[2, 1]
    yy = at[3, 2] - 2 * at[2, 2] + at[1, 2]
    xy = 0.5 * (
        at[3, 3] - at[2, 3] - at[3, 2] + at[2, 2] + at[2, 2] - at[2, 1] - at[1, 2] + at[1, 1]
    )
    hessian = np.stack([xx, xy, xy, yy], axis=-1).reshape(-1, 2, 2)
    return gradient, hessian + np.finfo(np.float32).eps * np.eye(2)


DARK = Method(1e-10, np.inf, margin=2, derivatives=_wide_derivatives)
UDP = Method(1e-3, 50.0, margin=0, derivatives=_narrow_derivatives)


def refine(
    positions: Floats, scores: Floats, heatmaps: Floats, kernel: int, method: Method
) -> Floats:
    """Move peaks to where the blurred heatmap has its top.

    Args:
        positions: float32 [N, K, 2], whole pixels (x, y); negative where there is no peak, and then
            not refined.
        scores: float32 [N, K], the heatmaps' maxima.
        heatmaps: float32 [N, K, H, W].
        kernel: the blur's size in pixels, odd.
        method: DARK or UDP.

    Returns:
        float32 [N, K, 2] in heatmap pixels; NaN where a heatmap holds a NaN.
    """
    height, width = heatmaps.shape[2:]
    maps = heatmaps.reshape(-1, height, width)
    refined = positions.reshape(-1, 2).copy()
    x, y = refined.T.astype(np.intp)
    m = method.margin
    rows = np.flatnonzero((m <= x) & (x < width - m) & (m <= y) & (y < height - m))
    x, y = x[rows], y[rows]
    steps, sure = _local_steps(maps, rows, x, y, scores.reshape(-1)[rows], kernel, method)
    rest = np.flatnonzero(~sure)
    steps[rest] = _global_steps(maps[rows[rest]], x[rest], y[rest], kernel, method)
    refined[rows] -= steps
    return refined.reshape(positions.shape)


def _local_steps(
    maps: Floats, rows: Indices, x: Indices, y: Indices, peaks: Floats, kernel: int, method: Method
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return the steps [M, 2] to take back, from surroundings only, and which can be trusted.

    A step is trusted if neither clipping nor rounding can move it by more than about 1e-4 pixels,
    whatever the factor that mmpose scales the map by.  It lies between 1 and peak / blurred peak,
    since a blur with zeros around lowers the maximum, though not below the value at the peak.
    """
    surroundings = _surroundings(maps, rows, x, y, _REACH + kernel // 2)
    blurred = _blurred_centres(surroundings, kernel)
    ys, xs = _near(x, y, maps.shape[1:])
    ys, xs = ys - y[:, None, None] + _REACH, xs - x[:, None, None] + _REACH
    blurred = blurred[np.arange(len(rows))[:, None, None], ys, xs]
    lowest = blurred.min(axis=(1, 2))
    with np.errstate(all="ignore"):
        highest = blurred.max(axis=(1, 2)) * (peaks / blurred[:, _REACH, _REACH])
        steps, inverse_norm = _newton_steps(*method.derivatives(np.log(blurred)))
        sure = (
            # No value is a small difference of large ones, ...
            (surroundings.min(axis=(1, 2)) >= -peaks)
            & (lowest >= 0.05 * peaks)
            # ... none is clipped ...
            & (lowest >= method.lower)
            & (highest <= method.upper)
            # ... and the parabola is steep enough.
            & (inverse_norm * (1 + np.abs(steps).max(axis=1)) <= 100)
        )
    return steps, sure


def _global_steps(maps: Floats, x: Indices, y: Indices, kernel: int, method: Method) -> Floats:
    """Return the steps [M, 2] to take back, from whole maps blurred and clipped as by mmpose."""
    blurred = blurred_maps(maps, kernel)
    near = np.arange(len(maps))[:, None, None], *_near(x, y, maps.shape[1:])
    with np.errstate(all="ignore"):
        factor = maps.max(axis=(1, 2)) / blurred.max(axis=(1, 2))
        values = np.clip(blurred[near] * factor[:, None, None], method.lower, method.upper)
        return _newton_steps(*method.derivatives(np.log(values)))[0]


def _near(x: Indices, y: Indices, shape: tuple[int, ...]) -> tuple[Indices, Indices]:
    """Return the rows [M, 5, 1] and columns [M, 1, 5] around pixels, kept inside the map."""
    height, width = shape
    around = np.arange(-_REACH, _REACH + 1)
    ys = np.clip(y[:, None] + around, 0, height - 1)
    xs = np.clip(x[:, None] + around, 0, width - 1)
    return ys[:, :, None], xs[:, None, :]


def _newton_steps(gradient: Numbers, hessian: Numbers) -> tuple[Floats, npt.NDArray[np.float64]]:
    """Return inverse(hessian) @ gradient, float32 [M, 2], and the inverse's largest entry [M].

    A singular Hessian gives no step.
    """
    xx, xy, yy = hessian[:, 0, 0], hessian[:, 0, 1], hessian[:, 1, 1]
    singular = xx * yy - xy * xy == 0
    # Products of single precision are exact in double: no cancellation in the determinant.
    xx, xy, yy = (entry.astype(np.float64) for entry in (xx, xy, yy))
    x, y = gradient.T.astype(np.float64)
    determinant = np.where(singular, 1, xx * yy - xy * xy)
    steps = np.stack([yy * x - xy * y, xx * y - xy * x], axis=-1) / determinant[:, None]
    steps[singular] = 0
    norm = np.abs([xx, xy, yy]).max(axis=0) / np.abs(determinant)
    return steps.astype(np.float32), norm


def _surroundings(maps: Floats, rows: Indices, x: Indices, y: Indices, reach: int) -> Floats:
    """Copy the squares around pixels, zero outside the map: [M, 2 reach + 1, 2 reach + 1]."""
    height, width = maps.shape[1:]
    around = np.arange(-reach, reach + 1)
    ys, xs = y[:, None] + around, x[:, None] + around
    inside = ((ys >= 0) & (ys < height))[:, :, None] & ((xs >= 0) & (xs < width))[:, None, :]
    lines = rows[:, None] * height + np.clip(ys, 0, height - 1)
    pixels = lines[:, :, None] * width + np.clip(xs, 0, width - 1)[:, None, :]
    return np.where(inside, maps.reshape(-1).take(pixels), np.float32(0))


def _blurred_centres(squares: Floats, kernel: int) -> Floats:
    """Blur squares [M, 4 + kernel, 4 + kernel] and return what is whole of them: [M, 5, 5].

    Sums of arrays, not a product of matrices: the order in which BLAS adds depends on M, and a
    keypoint must not depend on what else is in its batch.
    """
    weights = cv2.getGaussianKernel(kernel, 0, cv2.CV_32F)[:, 0]
    size = 2 * _REACH + 1
    values = np.ascontiguousarray(np.moveaxis(squares, 0, -1))
    values = sum(weight * values[k : k + size] for k, weight in enumerate(weights))
    values = sum(weight * values[:, k : k + size] for k, weight in enumerate(weights))
    return np.moveaxis(values, -1, 0)


def blurred_maps(maps: Floats, kernel: int) -> Floats:
    """Blur maps [M, H, W] with zeros around, all in one call: rows of zeros keep them apart.

    The columns of zeros make rows as long as mmpose's.  OpenCV takes the ends of a row another way
    than the rest, and the results may differ in the last bit.
    """
    count, height, width = maps.shape
    border = kernel // 2
    inner = np.s_[:, :height, border : border + width]
    apart = np.zeros((count, height + border, width + 2 * border), np.float32)
    apart[inner] = maps
    if count:
        lines = apart.reshape(-1, apart.shape[2])
        blurred = cv2.GaussianBlur(lines, (kernel, kernel), 0, borderType=cv2.BORDER_CONSTANT)
        apart = blurred.reshape(apart.shape)
    return apart[inner]
