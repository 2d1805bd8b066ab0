"""Pictures of skeletons over images."""

import base64
import colorsys

import cv2
import numpy as np
import numpy.typing as npt

from hrnetpose.artifacts.model import Keypoints

Image = npt.NDArray[np.uint8]
SHIFT = 4
"""Fractional bits of OpenCV's drawing coordinates: 1/16 pixel."""
FARTHEST = 1 << 20
"""Pixels: what is farther away is drawn there; OpenCV's coordinates have 32 bits."""


def skeletons(
    image: Image, persons: npt.NDArray[np.floating], info: Keypoints, threshold: float = 0.2
) -> Image:
    """Draw skeletons over an image.

    Args:
        image: uint8 [H, W, 3] BGR; it is not changed.
        persons: [N, K, 3], x, y and how sure the keypoint is.
        info: names and links of the keypoints.
        threshold: keypoints less sure than this are left out.

    Returns:
        uint8 [H, W, 3] BGR.
    """
    canvas = image.copy()
    size = max(1.0, min(image.shape[:2]) / 240)
    for person in persons:
        shown = person[:, 2] > threshold
        near = np.clip(np.nan_to_num(person[:, :2]), -FARTHEST, FARTHEST)
        points = np.round(near * (1 << SHIFT)).astype(int)
        for a, b in info.skeleton:
            if shown[a] and shown[b]:
                color = _color(info.names[a], info.names[b])
                cv2.line(
                    canvas, tuple(map(int, points[a])), tuple(map(int, points[b])),
                    color, round(2 * size), cv2.LINE_AA, SHIFT,
                )  # fmt: skip
        for index in np.flatnonzero(shown):
            center = tuple(map(int, points[index]))
            radius = round(2.5 * size * (1 << SHIFT))
            cv2.circle(canvas, center, radius, (255, 255, 255), -1, cv2.LINE_AA, SHIFT)
            inner = round(1.7 * size * (1 << SHIFT))
            name = info.names[index]
            cv2.circle(canvas, center, inner, _color(name, name), -1, cv2.LINE_AA, SHIFT)
    return canvas


def _color(first: str, second: str) -> tuple[int, int, int]:
    """Left is warm, right is cool, the middle is green: a swapped side is seen at once."""
    ends = (first, second)
    sides = {side for side in ("left", "right") if any(name.startswith(side) for name in ends)}
    hue = {frozenset({"left"}): 0.06, frozenset({"right"}): 0.57}.get(frozenset(sides), 0.36)
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, 0.95)
    return round(blue * 255), round(green * 255), round(red * 255)


def frame(image: Image, box: npt.NDArray[np.floating]) -> None:
    """Draw the frame of a box, x, y, width, height in pixels, into an image."""
    x, y, width, height = (round(float(value)) for value in box)
    thick = max(1, round(min(image.shape[:2]) / 200))
    cv2.rectangle(image, (x, y), (x + width, y + height), (255, 255, 255), thick, cv2.LINE_AA)


def scale(image: Image, factor: float) -> Image:
    """Return an enlarged image, at least one pixel large."""
    size = [max(1, round(side * factor)) for side in image.shape[1::-1]]
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def data_url(image: Image, width: int = 420) -> str:
    """Return the image as a JPEG in a `data:` URL, scaled to a width."""
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    scaled = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", scaled, [cv2.IMWRITE_JPEG_QUALITY, 82])
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()
