"""The files of a split."""

import json
import zipfile
from pathlib import Path
from typing import Any

import cv2

from hrnetpose.files import atomic_path, write_text
from hrnetpose.sample.geometry import Array
from hrnetpose.sample.images import SEED_AND_FIRST_ID, SPLITS, draw_image
from hrnetpose.sample.keypoints import KEYPOINTS, SKELETON

_JPEG_QUALITY = 92


def write_split(split: str, images: int, archive: Path, annotations: Path) -> None:
    """Write the first images of a split and their annotations, the same bytes every time.

    Args:
        split: "train" or "val".
        images: how many images to draw.
        archive: an uncompressed zip of JPEG files, named by image id as COCO does.
        annotations: a COCO person keypoints file.

    Raises:
        ValueError: the split is unknown or `images` is not positive.
        OSError: a file cannot be written.
    """
    if split not in SPLITS or images < 1:
        raise ValueError(f"cannot draw {images} images of split {split!r}")
    first_id = SEED_AND_FIRST_ID[split][1]
    records: list[dict[str, Any]] = []
    people: list[dict[str, Any]] = []
    with atomic_path(archive) as temporary, zipfile.ZipFile(temporary, "w") as file:
        for index in range(images):
            image, annotated = draw_image(split, index)
            name = f"{first_id + index:012d}.jpg"
            entry = zipfile.ZipInfo(name)  # has a constant time stamp
            entry.external_attr = 0o644 << 16
            file.writestr(entry, _encode_jpeg(image))
            height, width = image.shape[:2]
            record = {"id": first_id + index, "file_name": name, "height": height, "width": width}
            records.append(record)
            people += annotated
    category = {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": KEYPOINTS,
        "skeleton": SKELETON,
    }
    info = {"description": f"Embedded pose sample, {split} split, drawn", "version": "1.0"}
    dataset = {
        "info": info,
        "images": records,
        "annotations": people,
        "categories": [category],
    }
    write_text(annotations, json.dumps(dataset) + "\n")


def _encode_jpeg(image: Array) -> bytes:
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return encoded.tobytes()
