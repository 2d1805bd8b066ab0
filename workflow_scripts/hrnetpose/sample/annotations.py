"""COCO annotations, read from the owner map: labels follow what can be seen."""

from typing import Any

import numpy as np

from hrnetpose.sample.canvas import PARTS_PER_PERSON
from hrnetpose.sample.figures import Figure
from hrnetpose.sample.geometry import Array
from hrnetpose.sample.keypoints import KEYPOINTS, SIDES

# People with fewer visible keypoints keep their box but no keypoints, as in COCO.
_MIN_VISIBLE_KEYPOINTS = 4
_MIN_VISIBLE_PIXELS = 60  # people with fewer are not annotated


def _list_parts_showing() -> dict[str, frozenset[str]]:
    """Return the parts of the body on which each keypoint can be seen."""
    shown = {"nose": frozenset({"nose", "head"})}
    for side, _ in SIDES:
        own = {
            "eye": {"head", "nose"},
            "ear": {f"{side}_ear"},
            "shoulder": {"torso", f"{side}_upper_arm", f"{side}_sleeve"},
            "elbow": {f"{side}_upper_arm", f"{side}_forearm", f"{side}_elbow_patch"},
            "wrist": {f"{side}_forearm", f"{side}_hand", f"{side}_thumb"},
            "hip": {"torso", "pelvis", "skirt", f"{side}_thigh"},
            "knee": {f"{side}_thigh", f"{side}_shin", f"{side}_knee", f"{side}_kneecap"},
            "ankle": {f"{side}_shin", f"{side}_foot"},
        }
        shown |= {f"{side}_{name}": frozenset(parts) for name, parts in own.items()}
    return shown


_PARTS_SHOWING = _list_parts_showing()
# How far behind the middle of a part (in body heights) a joint may lie and still show on it: the
# far shoulder of a person in profile does not.
_MAX_DEPTH = 0.06
# A hidden keypoint is labelled if its limb shows within this many body heights of it.
_GUESS_REACH = 0.03
# Points of the head that face farther away from the viewer are not labelled.
_MIN_FACING = -0.4


def annotate(owner: Array, figure: Figure, number: int) -> dict[str, Any] | None:
    """Return the COCO annotation of a person, without ids; None if too little can be seen.

    Args:
        owner: uint8 (H, W), the finished owner map of `Canvas`.
        figure: the projected person.
        number: the person's number in the owner map.
    """
    mask = owner // PARTS_PER_PERSON == number
    area = int(np.count_nonzero(mask))
    if area < _MIN_VISIBLE_PIXELS:
        return None
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    left, top = int(columns[0]), int(rows[0])
    right, bottom = int(columns[-1]) + 1, int(rows[-1]) + 1
    keypoints = np.zeros((len(KEYPOINTS), 3))
    for index, name in enumerate(KEYPOINTS):
        x, y = figure.points[name][:2]
        if not (left <= x < right - 0.5 and top <= y < bottom - 0.5):
            continue
        if index < 5 and figure.facing(name, "head") < _MIN_FACING:
            continue
        if _is_visible(owner, figure, number, name):
            keypoints[index] = x, y, 2
        elif _is_guessable(owner, figure, number, name):
            keypoints[index] = x, y, 1
    if np.count_nonzero(keypoints[:, 2] == 2) < _MIN_VISIBLE_KEYPOINTS:
        keypoints[:] = 0
    return {
        "category_id": 1,
        "iscrowd": 0,
        "area": area,
        "bbox": [left, top, right - left, bottom - top],
        "num_keypoints": int(np.count_nonzero(keypoints[:, 2])),
        "keypoints": [round(float(value), 2) for value in keypoints.ravel()],
    }


def _is_guessable(owner: Array, figure: Figure, number: int, name: str) -> bool:
    """Return True if a part on which a hidden keypoint lies can be seen close to it."""
    reach = max(1, round(_GUESS_REACH * figure.scale))
    column, row = (round(value) for value in figure.points[name][:2])
    near = owner[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
    parts = [
        number * PARTS_PER_PERSON + index
        for index, part in enumerate(figure.parts)
        if part.name in _PARTS_SHOWING[name]
    ]
    return bool(np.isin(near, parts).any())


def _is_visible(owner: Array, figure: Figure, number: int, name: str) -> bool:
    """Return True if the pixel at a keypoint shows a part of the person on which it lies."""
    x, y, depth = figure.points[name]
    person, index = divmod(int(owner[round(y), round(x)]), PARTS_PER_PERSON)
    if person != number:
        return False
    part = figure.parts[index]
    return part.name in _PARTS_SHOWING[name] and depth > figure.depth(*part.spheres) - _MAX_DEPTH
