"""Cutting persons out of images, exactly as mmpose's top-down test pipeline does."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from hrnetpose.artifacts.model import Crop
from hrnetpose.data import crops as crop_files
from hrnetpose.data.annotations import Image
from hrnetpose.data.images import ImageStore

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Item = TypeVar("Item")
Result = TypeVar("Result")


def center_and_scale(boxes: Floats, crop: Crop) -> tuple[Floats, Floats]:
    """Return the centre and the padded size of boxes (GetBBoxCenterScale, TopdownAffine).

    Args:
        boxes: float32 [N, 4], x1, y1, x2, y2.
        crop: padding factor and aspect ratio.

    Returns:
        Centres (x, y) and sizes (width, height) in image pixels, each float32 [N, 2]; the size
        has the aspect ratio of the crop.
    """
    centers = (boxes[:, 2:] + boxes[:, :2]) * np.float32(0.5)
    width, height = ((boxes[:, 2:] - boxes[:, :2]) * np.float32(crop.padding)).T
    aspect = crop.width / crop.height
    wide = width > height * aspect
    scales = np.where(
        wide[:, None],
        np.stack([width, width / aspect], axis=1),
        np.stack([height * aspect, height], axis=1),
    )
    return centers, scales.astype(np.float32)


def warp_matrix(center: Floats, scale: Floats, crop: Crop) -> npt.NDArray[np.float64]:
    """Return the [2, 3] affine from image pixels to crop pixels.

    UDP measures sizes between pixel centres, the plain transform counts pixels (Huang et al.,
    The Devil is in the Details, CVPR 2020).
    """
    if crop.udp:
        x, y = (crop.width - 1) / scale[0], (crop.height - 1) / scale[1]
        return np.array(
            [
                [x, 0, x * (0.5 * scale[0] - center[0])],
                [0, y, y * (0.5 * scale[1] - center[1])],
            ],
            np.float32,
        )
    # Three corresponding points: the centre, the left edge, and one that spans a right angle.
    # mmpose's own points, in its precision: the crops are to be the same to the last bit.
    w, h = crop.width * 0.5, crop.height * 0.5
    half = np.float32(scale[0] * 0.5)
    source = np.array([center, center - [half, 0], [0, 0]], np.float32)
    source[2] = source[1] + [0, source[0, 0] - source[1, 0]]
    target = np.array([[w, h], [0, h], [0, h + w]], np.float32)
    return cv2.getAffineTransform(source, target)


def cut(image: Pixels, center: Floats, scale: Floats, crop: Crop) -> Pixels:
    """Cut one person out.

    Args:
        image: uint8 [h, w, 3] BGR.
        center: float32 [2].
        scale: float32 [2].
        crop: the geometry.

    Returns:
        uint8 [crop.height, crop.width, 3] RGB, the order that engines take.
    """
    matrix = warp_matrix(center, scale, crop)
    size = (crop.width, crop.height)
    return cv2.cvtColor(
        cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR), cv2.COLOR_BGR2RGB
    )


def write(
    images: list[Image],
    boxes_from: str,
    store: ImageStore,
    crop: Crop,
    crops: Path,
    instances: Path,
    threads: int = 1,
) -> None:
    """Write the crops of all persons, and the table that says which is which.

    Each image is decoded once.  Memory does not grow with the number of persons.

    Args:
        images: the images and their persons; their order is the order of the crops.
        boxes_from: `gt` or `det`, kept in the table.
        store: where the images are.
        crop: the geometry.
        crops: the crops' file.
        instances: the table's.
        threads: how many images are decoded at a time.

    Raises:
        StageError: an image is missing or damaged.
    """
    persons = [person for image in images for person in image.persons]
    boxes, centers, scales = geometry(images, crop)
    shape = (len(persons), crop.height, crop.width, 3)
    crop_files.write(crops, shape, cut_all(images, store, crop, threads))
    crop_files.write_instances(
        instances,
        {
            "id": [person.id for person in persons],
            "image_id": [person.image_id for person in persons],
            "box": boxes,
            "box_score": [person.score for person in persons],
            "center": centers,
            "scale": scales,
            "boxes_from": boxes_from,
        },
    )


def geometry(images: list[Image], crop: Crop) -> tuple[Floats, Floats, Floats]:
    """Return boxes [N, 4], centres [N, 2] and sizes [N, 2] of all persons."""
    boxes = [person.box for image in images for person in image.persons]
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    return corners, *center_and_scale(corners, crop)


def cut_all(
    images: Iterable[Image], store: ImageStore, crop: Crop, threads: int = 1
) -> Iterator[Pixels]:
    """Yield the crops of all persons in order, each uint8 [crop.height, crop.width, 3] RGB.

    Each image is decoded once, `threads` of them at a time, and not far ahead of what is taken.

    Raises:
        StageError: an image is missing or damaged.
    """
    cv2.setNumThreads(1)

    def crops_of(image: Image) -> list[Pixels]:
        pixels = store.decode(image.file_name, image.width, image.height)
        return cut_persons(pixels, image, crop)

    for cut_out in _map_in_order(crops_of, images, threads):
        yield from cut_out


def cut_persons(pixels: Pixels, image: Image, crop: Crop) -> list[Pixels]:
    """Return the crops of an image's persons."""
    _, centers, scales = geometry([image], crop)
    return [cut(pixels, center, scale, crop) for center, scale in zip(centers, scales, strict=True)]


def stack_batches(crops: Iterable[Pixels], size: int) -> Iterator[Pixels]:
    """Stack crops to batches, uint8 [size, H, W, 3]; the last may be smaller."""
    waiting = iter(crops)
    while batch := list(itertools.islice(waiting, size)):
        yield np.stack(batch)


def _map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Iterator[Result]:
    """Map in threads, in order, with a bounded number of results waiting."""
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > 2 * threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
