"""Images that are evaluated are not calibrated on."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from hrnetpose.data import overlap
from hrnetpose.data.coco import Image
from hrnetpose.data.images import ImageStore
from hrnetpose.stage import StageError

Folder = Callable[..., tuple[list[Image], ImageStore]]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Makes a folder of images from their ids and contents."""

    def make(name: str, contents: dict[int, bytes]) -> tuple[list[Image], ImageStore]:
        (tmp_path / name).mkdir()
        images = []
        for number, content in contents.items():
            (tmp_path / name / f"{number}.jpg").write_bytes(content)
            images.append(Image(number, f"{number}.jpg", 4, 4, ()))
        return images, ImageStore(tmp_path / name)

    return make


def test_sets_with_nothing_in_common_are_hashed(folder: Folder) -> None:
    calibration = folder("train", {1: b"one", 2: b"two"})
    evaluated = folder("val", {3: b"three"})

    digests = overlap.refuse(*calibration, *evaluated)

    assert digests == [hashlib.sha256(content).hexdigest() for content in (b"one", b"two")]


def test_the_same_id_is_refused_whatever_the_content(folder: Folder) -> None:
    calibration = folder("train", {1: b"one", 2: b"two"})
    evaluated = folder("val", {2: b"another"})

    with pytest.raises(StageError) as error:
        overlap.refuse(*calibration, *evaluated)

    assert "train: 1 calibration images are also evaluated, by their id: 2.jpg (id 2); " in str(
        error.value
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
