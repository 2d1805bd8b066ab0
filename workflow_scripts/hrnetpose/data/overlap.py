"""Calibration images must not be among those that are evaluated."""

import hashlib
from collections.abc import Sequence

from hrnetpose.data.coco import Image
from hrnetpose.data.images import ImageStore
from hrnetpose.stage import StageError

NAMED = 5
"""How many of the images in question an error names."""


def refuse(
    calibration: Sequence[Image],
    calibration_store: ImageStore,
    evaluated: Sequence[Image],
    evaluated_store: ImageStore,
) -> list[str]:
    """Makes sure that two sets of images have none in common.

    Images are the same if they have the same id or the same encoded bytes.

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
    ids = {image.id for image in evaluated}
    same_id = [f"{image.file_name} (id {image.id})" for image in calibration if image.id in ids]
    _refuse(calibration_store, "id", same_id)
    contents = {_digest(evaluated_store, image): image.file_name for image in evaluated}
    digests = [_digest(calibration_store, image) for image in calibration]
    same_content = [
        f"{image.file_name} (the same as {contents[digest]})"
        for image, digest in zip(calibration, digests, strict=True)
        if digest in contents
    ]
    _refuse(calibration_store, "content", same_content)
    return digests


def _digest(store: ImageStore, image: Image) -> str:
    return hashlib.sha256(store.read(image.file_name)).hexdigest()


def _refuse(store: ImageStore, what: str, offenders: list[str]) -> None:
    if not offenders:
        return
    named = ", ".join(offenders[:NAMED])
    more = f" and {len(offenders) - NAMED} more" if len(offenders) > NAMED else ""
    raise StageError(
        f"{store.path}: {len(offenders)} calibration images are also evaluated, by their {what}: "
        f"{named}{more}; calibrate on other images"
    )
