"""Points, rotations and outlines."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]


def rotation(axis: str, degrees: float) -> Array:
    """Return the float64 (3, 3) right-handed rotation about "x", "y" or "z"."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = cos
    matrix[first, second], matrix[second, first] = -sin, sin
    return matrix


def unit_circle(corners: int) -> Array:
    """Return a regular polygon (corners, 2) whose corners are at distance 1 from the origin."""
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


_CIRCLE = unit_circle(24)


def convex_hull(centres: Array, radii: Array) -> Array:
    """Return the convex hull, float32 (N, 2), of circles with centres (S, 2) and radii (S,)."""
    outline = centres[:, None] + radii[:, None, None] * _CIRCLE
    hull: Array = cv2.convexHull(outline.reshape(-1, 2).astype(np.float32))[:, 0]
    return hull


def ellipse(centre: ArrayLike, half_width: float, half_height: float) -> Array:
    """Return the outline (24, 2) of an ellipse."""
    outline: Array = _CIRCLE * (half_width, half_height) + np.asarray(centre)
    return outline


def box(left: float, top: float, right: float, bottom: float) -> Array:
    """Return the corners (4, 2) of a rectangle."""
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def to_fixed_point(points: Array) -> Array:
    """Return points as int32 sixteenths of a pixel, as OpenCV's `shift=4` wants them."""
    fixed: Array = np.rint(16 * points).astype(np.int32)
    return fixed
