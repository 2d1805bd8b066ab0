"""Images come from folders and zips; what is missing or damaged is named."""

import struct
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from hrnetpose import stage
from hrnetpose.data.images import ImageStore
from hrnetpose.stage import StageError

WIDTH, HEIGHT = 40, 30
PIXELS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
JPEG = cv2.imencode(".jpg", PIXELS)[1].tobytes()
PNG = cv2.imencode(".png", PIXELS)[1].tobytes()

Make = Callable[[dict[str, bytes]], ImageStore]


def in_folder(path: Path, contents: dict[str, bytes]) -> ImageStore:
    for name, content in contents.items():
        file = path / "val" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return ImageStore(path / "val")


def in_zip(path: Path, contents: dict[str, bytes], prefix: str = "") -> ImageStore:
    with zipfile.ZipFile(path / "val.zip", "w") as archive:
        for name, content in contents.items():
            archive.writestr(f"{prefix}{name}", content)
    return ImageStore(path / "val.zip")


def in_folder_of_zip(path: Path, contents: dict[str, bytes]) -> ImageStore:
    """As COCO's zips are."""
    return in_zip(path, contents, "val/")


@pytest.fixture(params=[in_folder, in_zip, in_folder_of_zip], ids=lambda make: make.__name__)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    return lambda contents: request.param(tmp_path, contents)


@pytest.fixture(params=[in_folder, in_zip], ids=lambda make: make.__name__)
def names(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., ImageStore]:
    """A folder or a zip `val` that holds files of these names; their content is their name."""
    return lambda *names: request.param(tmp_path, {name: name.encode() for name in names})


def refusal(opened: ImageStore, name: str = "a.jpg") -> str:
    with pytest.raises(StageError) as error:
        opened.decode(name, WIDTH, HEIGHT)
    assert stage.name(name) in str(error.value)
    return str(error.value)


def test_images_are_read_by_several_threads_at_a_time(store: Make) -> None:
    images = {f"{n}.png": np.roll(PIXELS, n, axis=1) for n in range(20)}
    opened = store(
        {name: cv2.imencode(".png", pixels)[1].tobytes() for name, pixels in images.items()}
    )
    names = list(images) * 5

    with ThreadPoolExecutor(8) as pool:
        decoded = list(pool.map(lambda name: opened.decode(name, WIDTH, HEIGHT), names))

    for name, pixels in zip(names, decoded, strict=True):
        assert np.array_equal(pixels, images[name])


def test_an_image_that_is_missing_or_of_another_size_is_named(store: Make) -> None:
    turned = cv2.imencode(".jpg", cv2.rotate(PIXELS, cv2.ROTATE_90_CLOCKWISE))[1].tobytes()
    opened = store({"a.jpg": turned})

    for name in ("b.jpg", "x" * 5000, "a\n\x1b[31mb"):
        said = refusal(opened, name)
        assert f"holds no image {stage.name(name)}" in said
        assert said.isprintable()
    assert "is 30x40, but its annotation says 40x30 (width x height)" in refusal(opened)


def with_preview(jpeg: bytes) -> bytes:
    """An EXIF segment holds a small JPEG, with an end marker of its own."""
    preview = b"Exif\0\0" + jpeg
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(preview) + 2) + preview + jpeg[2:]


def encode(*flags: int) -> bytes:
    return cv2.imencode(".jpg", PIXELS, flags)[1].tobytes()


WHOLE = {
    "jpeg": JPEG,
    "jpeg and more": JPEG + b"\xff\xda and more",
    "jpeg with a preview": with_preview(JPEG),
    "progressive jpeg": encode(cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "jpeg with restarts": encode(cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
    "png": PNG,
    "grey png": cv2.imencode(".png", PIXELS[..., 0])[1].tobytes(),
}


@pytest.mark.parametrize("form", WHOLE)
def test_all_forms_are_decoded_as_opencv_does(tmp_path: Path, form: str) -> None:
    expected = cv2.imdecode(np.frombuffer(WHOLE[form], np.uint8), cv2.IMREAD_COLOR)
    opened = in_folder(tmp_path, {"a.jpg": WHOLE[form]})

    assert np.array_equal(opened.decode("a.jpg", WIDTH, HEIGHT), expected)
    opened.check("a.jpg", WIDTH, HEIGHT)


HUGE = PNG[12:16] + struct.pack(">II", 1_000_000, 1_000_000) + PNG[24:29]
DAMAGED = {
    **{f"jpeg of {share:.0%}": JPEG[: int(len(JPEG) * share)] for share in (0, 0.01, 0.7, 0.99)},
    "jpeg without its last byte": JPEG[:-1],
    # What a transfer leaves that reserved the room first; OpenCV decodes it, the rest grey.
    "jpeg that ends in zeros": JPEG[:-500] + bytes(500),
    "jpeg with a preview that ends in zeros": with_preview(JPEG)[:-200] + bytes(200),
    **{f"png of {share:.0%}": PNG[: int(len(PNG) * share)] for share in (0.1, 0.5, 0.95)},
    "png that claims to be huge": PNG[:12] + HUGE + struct.pack(">I", zlib.crc32(HUGE)) + PNG[33:],
    "page": b"<html>404</html>",
}


@pytest.mark.parametrize("form", DAMAGED)
def test_what_is_not_a_whole_image_is_damaged(tmp_path: Path, form: str) -> None:
    opened = in_folder(tmp_path, {"a.jpg": DAMAGED[form]})

    assert "is damaged: it cannot be decoded whole" in refusal(opened)
    with pytest.raises(StageError, match=r"a\.jpg is damaged"):
        opened.check("a.jpg", WIDTH, HEIGHT)


def test_a_check_compares_sizes_but_for_a_few_pixels(tmp_path: Path) -> None:
    opened = in_folder(tmp_path, {"a.jpg": JPEG})

    opened.check("a.jpg", WIDTH - 5, HEIGHT)
    with pytest.raises(StageError, match="is 40x30, but its annotation says 49x30"):
        opened.check("a.jpg", WIDTH + 9, HEIGHT)


def test_an_image_that_opencv_cannot_cut_from_is_refused(tmp_path: Path) -> None:
    opened = in_folder(
        tmp_path,
        {
            f"{width}.png": cv2.imencode(".png", np.zeros((1, width), np.uint8))[1].tobytes()
            for width in (32766, 32767)
        },
    )
    for read in (opened.check, opened.decode):
        read("32766.png", 32766, 1)
        with pytest.raises(StageError, match=r"image 32767\.png is 32767x1, but OpenCV cuts"):
            read("32767.png", 32767, 1)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hostname", "sub/../../secret.png"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.png").write_bytes(PNG)

    assert "is outside this folder" in refusal(in_folder(tmp_path, {"sub/a.jpg": JPEG}), name)


def test_links_are_followed(tmp_path: Path) -> None:
    """As DVC, caches and subsets make them: the name is checked, not where a link leads."""
    in_folder(tmp_path / "cache", {"9f86d0": PNG})
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "a.png").symlink_to(tmp_path / "cache" / "val" / "9f86d0")
    (tmp_path / "val" / "b.png").symlink_to(tmp_path / "cache" / "gone")
    (tmp_path / "images").symlink_to(tmp_path / "val")
    opened = ImageStore(tmp_path / "images")

    assert opened.read("a.png") == PNG
    assert "holds no image b.png" in refusal(opened, "b.png")


def test_a_linked_folder_further_in_is_searched_once(tmp_path: Path) -> None:
    in_folder(tmp_path / "coco", {"a.png": PNG})
    images = in_folder(tmp_path, {"old/b.png": PNG}).path
    (images / "2017").symlink_to(tmp_path / "coco" / "val")
    (images / "2017" / "round").symlink_to(images)
    (images / "again").symlink_to(images / "old")

    assert ImageStore(images).find("a.png") == "2017/a.png"
    assert ImageStore(images).find("b.png") == "old/b.png"


@pytest.mark.parametrize(
    ("holds", "name", "found"),
    [
        ("images/a.jpg", "a.jpg", "images/a.jpg"),  # the root of an export
        ("export/images/train/a.jpg", "train/a.jpg", "export/images/train/a.jpg"),
        ("a.jpg", "val/a.jpg", "a.jpg"),  # the annotations were made one folder further out
        ("cam1/a.jpg", "val/cam1/a.jpg", "cam1/a.jpg"),
        ("images/a.jpg", "images\\a.jpg", "images/a.jpg"),  # written on Windows
        ("a\\b.jpg", "a\\b.jpg", "a\\b.jpg"),
        ("a.jpg", "./a.jpg", "a.jpg"),
    ],
)
def test_a_name_may_be_relative_to_another_folder(
    names: Callable[..., ImageStore], holds: str, name: str, found: str
) -> None:
    assert names(holds).read(name) == found.encode()


def test_no_other_image_is_taken_for_it(names: Callable[..., ImageStore]) -> None:
    opened = names("cam1/a.jpg", "cam2/a.jpg", "cam2/b.jpg", "old/c.jpg", "c.jpg")

    assert "holds several images a.jpg, in different folders" in refusal(opened, "a.jpg")
    assert "holds no image" in refusal(opened, "cam1/b.jpg")
    assert "holds no image" in refusal(opened, "train/b.jpg")
    for name in ("cam2/a.jpg", "c.jpg"):
        assert opened.read(name) == name.encode()


def test_a_damaged_member_of_a_zip_is_named(tmp_path: Path) -> None:
    opened = in_zip(tmp_path, {"a.jpg": JPEG, "b.jpg": JPEG})
    content = bytearray(opened.path.read_bytes())
    content[len(JPEG) // 2] ^= 0xFF
    opened.path.write_bytes(content)
    opened = ImageStore(opened.path)

    assert "val.zip: image a.jpg is damaged: Bad CRC-32" in refusal(opened)
    assert opened.read("b.jpg") == JPEG


def test_a_place_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="there is no such folder or zip of images"):
        ImageStore(tmp_path / "images.zip")
