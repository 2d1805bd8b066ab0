"""One annotation with keypoints, as its file has it."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from hrnetpose.data.annotations import Doubles, Image, clip
from hrnetpose.data.values import is_number, read_box, read_int
from hrnetpose.stage import StageError, shown


@dataclass(frozen=True)
class Entry:
    """An annotation with keypoints.

    Attributes:
        given: as the file has it.
        where: its place in the file, for messages.
        id, image_id: as given.
        keypoints: float64 [K, 3], zeros where nothing is labelled.
        labelled: how many keypoints are.
        box: x, y, width, height; None if they are not four finite numbers.
        can_be_cut: whether a part of the box is inside the image.
        area: None if it is no positive number.
        is_crowd: whether it stands for many persons.
        is_empty: whether COCO's evaluation takes it for one without keypoints (`num_keypoints` 0).
    """

    given: dict[str, Any]
    where: str
    id: int
    image_id: int
    keypoints: Doubles
    labelled: int
    box: tuple[float, ...] | None
    can_be_cut: bool
    area: float | None
    is_crowd: bool
    is_empty: bool

    @classmethod
    def parse(cls, given: dict[str, Any], where: str, images: dict[int, Image]) -> Self:
        """Check an annotation of a file.

        Raises:
            StageError: a value is missing or malformed.
        """
        number = read_int(given, "id", where)
        where = f"{where} (id {number})"
        keypoints = read_keypoints(given["keypoints"], where)
        labelled = int((keypoints[:, 2] > 0).sum())
        no_count = given.get("num_keypoints") is None
        crowd = given.get("iscrowd") or 0
        if not isinstance(crowd, int | float):
            raise StageError(f"{where}: iscrowd is {shown(crowd)}; expected 0 or 1")
        image = images[read_int(given, "image_id", where)]
        box = read_box(given.get("bbox"))
        corners = clip(box or (0.0,) * 4, image.width, image.height)
        area: Any = given.get("area")
        return cls(
            given=given,
            where=where,
            id=number,
            image_id=image.id,
            keypoints=keypoints,
            labelled=labelled,
            box=box,
            can_be_cut=bool((corners[2:] > corners[:2]).all()),
            area=float(area) if is_number(area) and area > 0 else None,
            is_crowd=bool(crowd),
            is_empty=(labelled if no_count else read_int(given, "num_keypoints", where)) == 0,
        )

    @property
    def is_wanted(self) -> bool:
        """Return True if mmpose would evaluate it, given a box."""
        # Where the number is not given, mmpose goes by the coordinates alone.
        return not self.is_crowd and not self.is_empty and self.keypoints[:, :2].max() > 0


def read_keypoints(values: Any, where: str) -> Doubles:
    """Return keypoints [K, 3], given flat or as triples; what is not labelled may be null.

    Raises:
        StageError: they are of another form, or one that is labelled is not finite.
    """
    try:
        found = np.array(values)
        flat = found.ravel().tolist()
        known = all(value is None or type(value) in (int, float) for value in flat)
        whole = (found.ndim == 1 and len(flat) % 3 == 0) or (
            found.ndim == 2 and found.shape[1] == 3
        )
        keypoints = np.array(flat if known and whole and flat else "", np.float64).reshape(-1, 3)
    except (TypeError, ValueError, OverflowError) as error:
        raise StageError(
            f"{where}: keypoints are {shown(values)}; expected triples of x, y and visibility"
        ) from error
    missing = ~np.isfinite(keypoints)
    keypoints[missing.all(axis=1)] = 0
    keypoints[missing & (keypoints[:, 2:] <= 0)] = 0
    broken = ~np.isfinite(keypoints).all(axis=1)
    if broken.any():
        number = int(broken.argmax())
        raise StageError(
            f"{where}: keypoints: number {number} (from 0) is labelled, but is "
            f"{keypoints[number].tolist()}; expected finite x, y and visibility"
        )
    return keypoints
