"""Boxes as a detector gives them, in pixels of its input, and the way there and back."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from hrnetpose.artifacts.detector import Preprocessing

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
STRIDES = (8, 16, 32)
"""Of YOLOX's three grids."""
MOST_BOXES = 100
"""Of an image, the best ones: COCO's evaluation takes so many (maxDets)."""


@dataclass(frozen=True)
class Boxes:
    """N boxes of persons.

    Attributes:
        corners: float32 [N, 4], x1, y1, x2, y2 in pixels.
        scores: float32 [N].
    """

    corners: Floats
    scores: Floats


def scaled_size(width: int, height: int, how: Preprocessing) -> tuple[int, int]:
    """Return the width and height to which an image is scaled: mmcv's `rescale_size`."""
    ratio = min(how.width / width, how.height / height)
    return max(int(width * ratio + 0.5), 1), max(int(height * ratio + 0.5), 1)


def prepare(image: Pixels, how: Preprocessing) -> Floats:
    """Scale an image with its ratio, pad it at the right and the bottom, and normalise it.

    Args:
        image: uint8 [h, w, 3] BGR.
        how: of the detector.

    Returns:
        float32 [1, 3, height, width].
    """
    width, height = scaled_size(image.shape[1], image.shape[0], how)
    padded = np.full((how.height, how.width, 3), how.pad, np.uint8)
    padded[:height, :width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    ordered = padded if how.channel_order == "BGR" else padded[..., ::-1]
    normal = (ordered - np.array(how.mean, np.float32)) / np.array(how.std, np.float32)
    return np.ascontiguousarray(normal.transpose(2, 0, 1)[None])


def to_image(boxes: Boxes, width: int, height: int, how: Preprocessing) -> Boxes:
    """Return boxes of a prepared image in pixels of the image, clipped to it; empty ones go."""
    scaled = np.array(scaled_size(width, height, how), np.float32)
    size = np.array([width, height], np.float32)
    corners = np.clip(boxes.corners / np.tile(scaled / size, 2), 0, np.tile(size, 2))
    order = np.argsort(-boxes.scores, kind="stable")[:MOST_BOXES]
    kept = order[(corners[order, 2:] > corners[order, :2]).all(axis=1)]
    return Boxes(corners[kept].astype(np.float32), boxes.scores[kept])


def cells(height: int, width: int, strides: Sequence[int] = STRIDES) -> Floats:
    """Return x, y and stride of all cells of YOLOX's grids, float32 [A, 3]: x runs first."""
    found = []
    for stride in strides:
        y, x = np.mgrid[: height // stride, : width // stride]
        found.append(np.stack([x, y, np.full_like(x, stride)], axis=-1).reshape(-1, 3))
    return np.concatenate(found).astype(np.float32)


def read_grid(
    output: Floats, how: Preprocessing, decoded: bool, person: int, score: float, nms: float
) -> Boxes:
    """Return the persons in the output of YOLOX's own export (`YOLOXHead.decode_outputs`).

    Args:
        output: float32 [A, 5 + classes]: centre, size, objectness and probabilities of a cell.
        how: says how large the input is.
        decoded: centre and size are pixels; else (dx + cell) * stride and exp(size) * stride are.
        person: the class.
        score: boxes with a lower product of objectness and probability are dropped.
        nms: the lesser of two boxes with a higher IoU is dropped.
    """
    scores = output[:, 4] * output[:, 5 + person]
    wanted = np.flatnonzero(scores >= score)
    center, size = output[wanted, :2], output[wanted, 2:4]
    if not decoded:
        grid = cells(how.height, how.width)[wanted]
        # A size that overflows is clipped to the image.
        with np.errstate(over="ignore"):
            center, size = (center + grid[:, :2]) * grid[:, 2:], np.exp(size) * grid[:, 2:]
    scores, corners = scores[wanted], np.concatenate([center - size / 2, center + size / 2], axis=1)
    corners = np.clip(corners, -how.width - how.height, 2 * (how.width + how.height))
    kept = suppress(corners, scores, nms)
    return Boxes(corners[kept], scores[kept])


def suppress(corners: Floats, scores: Floats, overlap: float) -> npt.NDArray[np.intp]:
    """Return which boxes are left by greedy NMS, by falling score; equal ones in their order.

    Args:
        corners: float32 [N, 4].
        scores: float32 [N].
        overlap: the IoU above which the lesser of two is dropped.
    """
    waiting = np.argsort(-scores, kind="stable")
    area = np.maximum(corners[:, 2:] - corners[:, :2], 0).prod(axis=1)
    kept = []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        start = np.maximum(corners[best, :2], corners[waiting, :2])
        end = np.minimum(corners[best, 2:], corners[waiting, 2:])
        common = np.maximum(end - start, 0).prod(axis=1)
        union = area[best] + area[waiting] - common
        waiting = waiting[common <= overlap * union]
    return np.array(kept, np.intp)
