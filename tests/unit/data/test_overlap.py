"""Images that are evaluated are not calibrated on."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from hrnetpose.data import overlap
from hrnetpose.data.annotations import Image
from hrnetpose.data.images import ImageStore
from hrnetpose.stage import StageError

WIDTH, HEIGHT = 64, 48

Folder = Callable[..., tuple[list[Image], ImageStore]]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Make a folder of images from their ids and contents."""

    def make(name: str, contents: dict[int, bytes]) -> tuple[list[Image], ImageStore]:
        (tmp_path / name).mkdir()
        images = []
        for number, content in contents.items():
            (tmp_path / name / f"{number}.jpg").write_bytes(content)
            images.append(Image(number, f"{number}.jpg", WIDTH, HEIGHT, ()))
        return images, ImageStore(tmp_path / name)

    return make


def test_sets_with_nothing_in_common_are_hashed(folder: Folder) -> None:
    calibration = folder("train", {1: b"one", 2: b"two"})
    evaluated = folder("val", {3: b"three"})

    digests = overlap.refuse(*calibration, *evaluated)

    assert digests == [hashlib.sha256(content).hexdigest() for content in (b"one", b"two")]


def jpeg(seed: int, quality: int = 95) -> bytes:
    """A smooth picture, encoded."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    pixels = cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def test_sets_that_are_both_numbered_from_1_have_nothing_in_common(folder: Folder) -> None:
    calibration = folder("train", {1: jpeg(1), 2: jpeg(2)})
    evaluated = folder("val", {1: jpeg(3), 2: jpeg(4)})

    assert len(overlap.refuse(*calibration, *evaluated)) == 2


def test_a_picture_that_was_encoded_again_under_its_name_is_refused(folder: Folder) -> None:
    calibration = folder("train", {1: jpeg(1), 2: jpeg(2)})
    evaluated = folder("val", {2: jpeg(2, quality=60)})

    with pytest.raises(StageError) as error:
        overlap.refuse(*calibration, *evaluated)

    said = str(error.value)
    assert (
        "train: 1 calibration images are also evaluated, by their name and picture: 2.jpg" in said
    )


def test_the_same_content_is_refused_whatever_the_name(folder: Folder) -> None:
    calibration = folder("train", {number: bytes([number]) for number in range(1, 9)})
    evaluated = folder("val", {number + 100: bytes([number]) for number in range(1, 9)})

    with pytest.raises(StageError) as error:
        overlap.refuse(*calibration, *evaluated)

    said = str(error.value)
    assert "8 calibration images are also evaluated, by their content: " in said
    assert "1.jpg (the same as 101.jpg)" in said
    assert said.endswith(" and 3 more; calibrate on other images")
