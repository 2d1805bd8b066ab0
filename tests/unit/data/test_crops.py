"""Crops are mmpose's, bit for bit."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrnetpose import files
from hrnetpose.artifacts.model import Crop
from hrnetpose.data import coco, crops, cutting
from hrnetpose.data.annotations import Image, Person, ground_truth
from hrnetpose.data.images import ImageStore
from hrnetpose.data.persons import Persons
from hrnetpose.stage import StageError

Floats = npt.NDArray[np.float32]

PLAIN = Crop(height=256, width=192)
CROPS = [PLAIN, Crop(height=384, width=288, udp=True), Crop(height=64, width=96, padding=1.1)]
CORNERS = st.floats(-50, 2000, width=32)
LENGTHS = st.floats(0.125, 1500, width=32)
BOXES = st.tuples(CORNERS, CORNERS, LENGTHS, LENGTHS).map(
    lambda box: np.array([[box[0], box[1], box[0] + box[2], box[1] + box[3]]], np.float32)
)


@pytest.fixture(scope="module")
def mmpose() -> SimpleNamespace:
    """The parts of mmpose that crops are compared with."""
    from hrnetpose.models import mmpose

    mmpose.import_mmpose()
    from mmpose.datasets import transforms
    from mmpose.structures import bbox

    return SimpleNamespace(transforms=transforms, bbox=bbox)


def theirs(mmpose: SimpleNamespace, crop: Crop, box: Floats, **image: Any) -> dict[str, Any]:
    """Run mmpose's test pipeline on a box, and on an image if there is one."""
    result = mmpose.transforms.GetBBoxCenterScale(padding=crop.padding)({"bbox": box, **image})
    size = (crop.width, crop.height)
    return mmpose.transforms.TopdownAffine(input_size=size, use_udp=crop.udp)(
        {"img": np.zeros((1, 1, 3), np.uint8), **result}
    )


@pytest.mark.parametrize("crop", CROPS, ids=str)
@given(box=BOXES)
def test_centre_and_scale_are_those_of_mmpose(
    mmpose: SimpleNamespace, crop: Crop, box: Floats
) -> None:
    expected = theirs(mmpose, crop, box)

    centers, scales = cutting.center_and_scale(box, crop)

    assert np.array_equal(centers[0], expected["input_center"])
    assert np.array_equal(scales[0], expected["input_scale"])
    assert centers.dtype == scales.dtype == np.float32


@given(boxes=st.lists(BOXES, max_size=20))
def test_many_boxes_at_a_time_are_the_same_as_one_by_one(boxes: list[Floats]) -> None:
    together = cutting.center_and_scale(
        np.concatenate([np.zeros((0, 4), np.float32), *boxes]), PLAIN
    )

    for index, box in enumerate(boxes):
        alone = cutting.center_and_scale(box, PLAIN)
        assert np.array_equal(together[0][index], alone[0][0])
        assert np.array_equal(together[1][index], alone[1][0])
    assert together[0].shape == together[1].shape == (len(boxes), 2)


@pytest.mark.parametrize("crop", CROPS, ids=str)
@given(box=BOXES)
def test_the_warp_matrix_is_that_of_mmpose(
    mmpose: SimpleNamespace, crop: Crop, box: Floats
) -> None:
    (center,), (scale,) = cutting.center_and_scale(box, crop)
    warp = mmpose.bbox.get_udp_warp_matrix if crop.udp else mmpose.bbox.get_warp_matrix

    matrix = cutting.warp_matrix(center, scale, crop)

    assert np.array_equal(matrix, warp(center, scale, 0.0, output_size=(crop.width, crop.height)))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Image], Path]:
    """Images of noise, which hides no wrong pixel, with persons inside and on the border."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(5)
    images = []
    for number, persons in enumerate([1, 3, 2, 1, 4, 2, 1]):
        height, width = rng.integers(40, 120, 2).tolist()
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), pixels)
        ends = np.sort(rng.uniform(0, 1, (persons, 2, 2)), axis=1) * (width - 1, height - 1)
        boxes = ends.reshape(-1, 4).astype(np.float32)
        found = tuple(
            Person(100 * number + index, number, box, 1.0) for index, box in enumerate(boxes)
        )
        images.append(Image(number, f"{number}.png", width, height, found))
    return images, folder


def written(
    images: list[Image], folder: Path, crop: Crop, output: Path, threads: int = 2
) -> tuple[npt.NDArray[np.uint8], dict[str, npt.NDArray[Any]]]:
    """Write crops and read them back, with their table."""
    paths = output / "crops.npy", output / "instances.npz"
    cutting.write(images, "gt", ImageStore(folder), crop, *paths, threads)
    found = crops.read(paths[0])
    return found, crops.read_instances(paths[1], len(found))


def assert_same_as_mmpose(
    mmpose: SimpleNamespace, images: list[Image], folder: Path, crop: Crop, output: Path
) -> None:
    found, table = written(images, folder, crop, output)
    load = mmpose.transforms.LoadImage()
    row = 0
    for image in images:
        for person in image.persons:
            loaded = load({"img_path": str(folder / image.file_name)})
            expected = theirs(mmpose, crop, person.box[None], img=loaded["img"])
            assert np.array_equal(found[row], expected["img"][..., ::-1])
            assert np.array_equal(table["center"][row], expected["input_center"])
            assert np.array_equal(table["scale"][row], expected["input_scale"])
            assert table["id"][row] == person.id
            row += 1
    assert row == len(found)


@pytest.mark.parametrize("crop", CROPS, ids=str)
def test_drawn_crops_are_those_of_mmpose(
    mmpose: SimpleNamespace, drawn: tuple[list[Image], Path], crop: Crop, tmp_path: Path
) -> None:
    assert_same_as_mmpose(mmpose, *drawn, crop, tmp_path)


def test_real_crops_are_those_of_mmpose(
    mmpose: SimpleNamespace, real: Path, tmp_path: Path
) -> None:
    path = real / "annotations" / "person_keypoints_val2017.json"
    images = Persons.of(ground_truth(coco.read(path)), "gt").first(40)

    assert_same_as_mmpose(mmpose, images, real / "images" / "val2017", PLAIN, tmp_path)


def test_the_table_says_which_crop_is_whose(
    drawn: tuple[list[Image], Path], tmp_path: Path
) -> None:
    images, folder = drawn
    persons = [person for image in images for person in image.persons]

    found, table = written(images, folder, PLAIN, tmp_path)

    assert len(found) == len(persons) == 14
    assert table["id"].tolist() == [person.id for person in persons]
    assert table["image_id"].tolist() == [person.image_id for person in persons]
    assert np.array_equal(table["box"], [person.box for person in persons])
    assert table["box_score"].tolist() == [1.0] * len(persons)
    assert table["boxes_from"] == "gt"


@pytest.mark.parametrize("threads", [2, 8])
def test_the_file_does_not_depend_on_the_number_of_threads(
    drawn: tuple[list[Image], Path], tmp_path: Path, threads: int
) -> None:
    for folder, number in (("one", 1), ("many", threads)):
        written(*drawn, PLAIN, tmp_path / folder, number)

    for name in ("crops.npy", "instances.npz"):
        assert files.sha256(tmp_path / "one" / name) == files.sha256(tmp_path / "many" / name)


def test_the_file_can_be_memory_mapped(drawn: tuple[list[Image], Path], tmp_path: Path) -> None:
    found, _ = written(*drawn, PLAIN, tmp_path)

    mapped = np.load(tmp_path / "crops.npy", mmap_mode="r")

    assert isinstance(found, np.memmap)
    assert isinstance(mapped, np.memmap)
    assert mapped.shape == (14, 256, 192, 3)
    assert mapped.dtype == np.uint8
    assert np.array_equal(mapped, np.load(tmp_path / "crops.npy"))


def test_a_shard_without_persons_gives_an_empty_file(
    drawn: tuple[list[Image], Path], tmp_path: Path
) -> None:
    found, table = written([], drawn[1], PLAIN, tmp_path)

    assert found.shape == (0, 256, 192, 3)
    assert all(len(table[name]) == 0 for name in crops.COLUMNS if name != "boxes_from")


@pytest.mark.parametrize("threads", [1, 4])
def test_a_damaged_image_leaves_no_file(
    drawn: tuple[list[Image], Path], tmp_path: Path, threads: int
) -> None:
    images, folder = drawn
    (tmp_path / "images").mkdir()
    for image in images:
        content = (folder / image.file_name).read_bytes()
        whole = image.id != 4
        (tmp_path / "images" / image.file_name).write_bytes(content if whole else content[:500])

    with pytest.raises(StageError, match=r"image 4\.png is damaged"):
        written(images, tmp_path / "images", PLAIN, tmp_path / "crops", threads)
    assert list((tmp_path / "crops").iterdir()) == []


def npy(array: npt.NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


CROPS_FILE = npy(np.zeros((20, 16, 16, 3), np.uint8))
SPOILED = {
    "truncated": CROPS_FILE[:-5000],
    "cut in the header": CROPS_FILE[:50],
    "empty": b"",
    "of floats": npy(np.zeros((20, 8, 8, 3))),
    "of grey images": npy(np.zeros((20, 16, 16), np.uint8)),
    "pickled": npy(np.array([{}] * 5000, dtype=object)),
}


@pytest.mark.parametrize("form", [*SPOILED, "npz", "missing"])
def test_spoiled_crops_are_refused_by_name(tmp_path: Path, form: str) -> None:
    path = tmp_path / "crops.npy"
    path.write_bytes(SPOILED.get(form, CROPS_FILE))
    if form == "npz":
        with path.open("wb") as file:
            np.savez(file, crops=np.zeros((20, 16, 16, 3), np.uint8))
    if form == "missing":
        path.unlink()

    with pytest.raises(StageError, match=r"crops\.npy: "):
        crops.read(path)


def test_a_table_of_other_crops_is_refused(drawn: tuple[list[Image], Path], tmp_path: Path) -> None:
    written(*drawn, PLAIN, tmp_path)

    with pytest.raises(StageError, match=r"instances\.npz: has 14 rows for 13 crops"):
        crops.read_instances(tmp_path / "instances.npz", 13)


@pytest.mark.parametrize(("count", "size"), [(12, 1), (12, 4), (12, 12), (12, 50), (0, 4)])
def test_crops_are_read_in_batches(tmp_path: Path, count: int, size: int) -> None:
    content = np.random.default_rng(0).integers(0, 256, (count, 8, 6, 3), dtype=np.uint8)
    np.save(tmp_path / "crops.npy", content)

    found = list(crops.read_batches(tmp_path / "crops.npy", size))

    assert {len(batch) for batch in found[:-1]} <= {size}
    assert np.array_equal(np.concatenate([content[:0], *found]), content)
