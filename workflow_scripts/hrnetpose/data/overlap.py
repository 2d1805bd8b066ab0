"""Calibration images must not be among those that are evaluated."""

import hashlib
from collections.abc import Sequence

import cv2
import numpy as np

from hrnetpose.data.annotations import Image
from hrnetpose.data.images import ImageStore
from hrnetpose.data.values import list_some
from hrnetpose.stage import StageError

THUMBNAIL = (32, 32)
ALIKE = 8.0
"""Mean difference of grey levels, of 255, up to which two thumbnails show the same picture."""


def refuse(
    calibration: Sequence[Image],
    calibration_store: ImageStore,
    evaluated: Sequence[Image],
    evaluated_store: ImageStore,
) -> list[str]:
    """Refuse two sets of images that have some in common.

    Images are the same if they have the same encoded bytes, or the same id and file name and show
    the same picture, encoded again.  An id alone says nothing: many files are numbered from 1.

    Args:
        calibration: the images that int8 is calibrated on.
        calibration_store: holds them.
        evaluated: the images that accuracy is measured on.
        evaluated_store: holds them.

    Returns:
        The hexadecimal SHA-256 of each calibration image.

    Raises:
        StageError: some are in both, with the first of them; or an image cannot be read.
    """
    contents = {_digest(evaluated_store, image): image.file_name for image in evaluated}
    digests = [_digest(calibration_store, image) for image in calibration]
    same = [
        f"{image.file_name} (the same as {contents[digest]})"
        for image, digest in zip(calibration, digests, strict=True)
        if digest in contents
    ]
    _refuse(calibration_store, "content", same)
    named = {(image.id, image.file_name): image for image in evaluated}
    again = [
        f"{image.file_name} (id {image.id})"
        for image in calibration
        if (other := named.get((image.id, image.file_name)))
        and _look_alike(image, calibration_store, other, evaluated_store)
    ]
    _refuse(calibration_store, "name and picture", again)
    return digests


def _digest(store: ImageStore, image: Image) -> str:
    return hashlib.sha256(store.read(image.file_name)).hexdigest()


def _look_alike(one: Image, store: ImageStore, other: Image, other_store: ImageStore) -> bool:
    thumbnails = [
        cv2.resize(
            cv2.cvtColor(
                found.decode(image.file_name, image.width, image.height), cv2.COLOR_BGR2GRAY
            ),
            THUMBNAIL,
            interpolation=cv2.INTER_AREA,
        ).astype(np.float32)
        for image, found in ((one, store), (other, other_store))
    ]
    return float(np.abs(thumbnails[0] - thumbnails[1]).mean()) <= ALIKE


def _refuse(store: ImageStore, what: str, offenders: list[str]) -> None:
    if not offenders:
        return
    raise StageError(
        f"{store.path}: {len(offenders)} calibration images are also evaluated, by their {what}: "
        f"{list_some(offenders)}; calibrate on other images"
    )
