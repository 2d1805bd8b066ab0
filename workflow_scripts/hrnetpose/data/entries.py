"""One annotation with keypoints, as its file has it."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hrnetpose.data.annotations import Doubles, Image, clip
from hrnetpose.data.values import four_numbers, is_number, whole
from hrnetpose.stage import StageError, shown


@dataclass(frozen=True)
class Entry:
    """An annotation with keypoints.

    Attributes:
        where: its place in the file, for messages.
        id, image_id: as given.
        keypoints: float64 [K, 3], zeros where nothing is labelled.
        box: x, y, width, height; None if they are not four finite numbers.
        given_box: as the file has it.
        clipped: corners inside the image, float32 [4]; None where that is empty.
        area: None if it is no positive number.
        given_area: as the file has it.
        crowd: whether it stands for many persons.
        labelled: how many keypoints are.
        without: whether COCO's evaluation takes it for one without keypoints (`num_keypoints` 0).
    """

    where: str
    id: int
    image_id: int
    keypoints: Doubles
    box: tuple[float, ...] | None
    given_box: object
    clipped: npt.NDArray[np.float32] | None
    area: float | None
    given_area: object
    crowd: bool
    labelled: int
    without: bool

    @classmethod
    def of(cls, entry: dict[str, Any], where: str, images: dict[int, Image]) -> Self:
        number = whole(entry, "id", where)
        where = f"{where} (id {number})"
        keypoints = triples(entry["keypoints"], where)
        labelled = int((keypoints[:, 2] > 0).sum())
        count = entry.get("num_keypoints")
        declared = labelled if count is None else whole(entry, "num_keypoints", where)
        crowd = entry.get("iscrowd") or 0
        if not isinstance(crowd, int | float):
            raise StageError(f"{where}: iscrowd is {shown(crowd)}; expected 0 or 1")
        image = images[whole(entry, "image_id", where)]
        box = four_numbers(entry.get("bbox"))
        clipped = None if box is None else clip(box, image.width, image.height)
        area: Any = entry.get("area")
        return cls(
            where=where,
            id=number,
            image_id=image.id,
            keypoints=keypoints,
            box=box,
            given_box=entry.get("bbox"),
            clipped=clipped if clipped is not None and (clipped[2:] > clipped[:2]).all() else None,
            area=float(area) if is_number(area) and area > 0 else None,
            given_area=area,
            crowd=bool(crowd),
            labelled=labelled,
            without=declared == 0,
        )

    @property
    def wanted(self) -> bool:
        """Tells whether mmpose would evaluate it, if it has a box."""
        # Where the number is not given, mmpose goes by the coordinates alone.
        return not self.crowd and not self.without and self.keypoints[:, :2].max() > 0


def triples(values: Any, where: str) -> Doubles:
    """Returns keypoints [K, 3], given flat or as triples; what is not labelled may be null."""
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
    unlabelled = keypoints[:, 2] <= 0
    keypoints[unlabelled] = np.where(missing[unlabelled], 0, keypoints[unlabelled])
    broken = ~np.isfinite(keypoints).all(axis=1)
    if broken.any():
        number = int(broken.argmax())
        raise StageError(
            f"{where}: keypoints: number {number} (from 0) is labelled, but is "
            f"{keypoints[number].tolist()}; expected finite x, y and visibility"
        )
    return keypoints
