"""Images come from folders and zips; what is missing or damaged is named."""

import struct
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from hrnetpose import stage
from hrnetpose.data.images import ImageStore
from hrnetpose.stage import StageError

Pixels = npt.NDArray[np.uint8]

WIDTH, HEIGHT = 40, 30


@pytest.fixture(scope="module")
def image() -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def png(image: Pixels) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


@pytest.fixture(scope="module")
def jpeg(image: Pixels) -> bytes:
    return cv2.imencode(".jpg", image)[1].tobytes()


@pytest.fixture(params=["folder", "zip", "zip with a folder"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Callable[[dict[str, bytes]], ImageStore]:
    """Makes a store of given files: a folder, a zip, or a zip such as COCO's."""

    def make(contents: dict[str, bytes]) -> ImageStore:
        if request.param == "folder":
            folder = tmp_path / "images"
            folder.mkdir()
            for name, content in contents.items():
                (folder / name).write_bytes(content)
            return ImageStore(folder)
        path = tmp_path / "val2017.zip"
        with zipfile.ZipFile(path, "w") as archive:
            if request.param == "zip with a folder":
                archive.mkdir("val2017")
            for name, content in contents.items():
                inside = name if request.param == "zip" else f"val2017/{name}"
                archive.writestr(inside, content)
        return ImageStore(path)

    return make


Make = Callable[[dict[str, bytes]], ImageStore]


def test_an_image_is_read_as_it_was_written(store: Make, image: Pixels, png: bytes) -> None:
    opened = store({"a.png": png})

    assert opened.read("a.png") == png
    assert np.array_equal(opened.decode("a.png", WIDTH, HEIGHT), image)


def test_a_jpeg_is_decoded_as_opencv_does(store: Make, jpeg: bytes) -> None:
    expected = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)

    assert np.array_equal(store({"a.jpg": jpeg}).decode("a.jpg", WIDTH, HEIGHT), expected)


def test_a_grey_image_has_three_channels(store: Make, image: Pixels) -> None:
    grey = cv2.imencode(".png", image[..., 0])[1].tobytes()

    assert store({"a.png": grey}).decode("a.png", WIDTH, HEIGHT).shape == (HEIGHT, WIDTH, 3)


def test_images_are_read_by_several_threads_at_a_time(store: Make, image: Pixels) -> None:
    images = {f"{n}.png": np.roll(image, n, axis=1) for n in range(20)}
    opened = store(
        {name: cv2.imencode(".png", pixels)[1].tobytes() for name, pixels in images.items()}
    )
    names = list(images) * 5

    with ThreadPoolExecutor(8) as pool:
        decoded = list(pool.map(lambda name: opened.decode(name, WIDTH, HEIGHT), names))

    for name, pixels in zip(names, decoded, strict=True):
        assert np.array_equal(pixels, images[name])


def refusal(opened: ImageStore, name: str = "a.jpg") -> str:
    with pytest.raises(StageError) as error:
        opened.decode(name, WIDTH, HEIGHT)
    assert stage.name(name) in str(error.value)
    assert str(error.value).isprintable()
    return str(error.value)


@pytest.mark.parametrize("name", ["b.jpg", "x" * 5000, "a\n\x1b[31mb"], ids=repr)
def test_a_missing_image_is_named(store: Make, jpeg: bytes, name: str) -> None:
    said = refusal(store({"a.jpg": jpeg}), name)

    assert "holds no image" in said


def test_an_image_of_another_size_is_refused(store: Make, image: Pixels) -> None:
    turned = cv2.imencode(".png", cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE))[1].tobytes()

    said = refusal(store({"a.png": turned}), "a.png")

    assert "is 30x40, but its annotation says 40x30 (width x height)" in said


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.99])
def test_a_truncated_jpeg_is_damaged(store: Make, jpeg: bytes, share: float) -> None:
    opened = store({"a.jpg": jpeg[: int(len(jpeg) * share)]})

    assert "is damaged: it cannot be decoded whole" in refusal(opened)


@pytest.mark.parametrize("cut", [1, 2, 20])
def test_a_jpeg_without_its_last_bytes_is_damaged(store: Make, jpeg: bytes, cut: int) -> None:
    assert "is damaged" in refusal(store({"a.jpg": jpeg[:-cut]}))


def test_a_jpeg_that_ends_in_zeros_is_damaged(store: Make, jpeg: bytes) -> None:
    """What a transfer leaves that reserved the room first; OpenCV decodes it, with a grey rest."""
    content = jpeg[:-500] + bytes(500)
    assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) is not None

    assert "is damaged" in refusal(store({"a.jpg": content}))


def test_what_follows_the_end_of_a_jpeg_does_not_matter(store: Make, jpeg: bytes) -> None:
    content = jpeg + b"\xff\xda and more"

    assert store({"a.jpg": content}).decode("a.jpg", WIDTH, HEIGHT).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    "flags", [[cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]]
)
def test_other_forms_of_jpeg_are_whole(store: Make, image: Pixels, flags: list[int]) -> None:
    content = cv2.imencode(".jpg", image, flags)[1].tobytes()

    assert store({"a.jpg": content}).decode("a.jpg", WIDTH, HEIGHT).shape == (HEIGHT, WIDTH, 3)


def test_a_jpeg_with_a_preview_inside_is_whole_only_if_its_own_end_is_there(
    store: Make, jpeg: bytes
) -> None:
    """An EXIF segment holds a small JPEG, with an end marker of its own."""
    preview = b"Exif\0\0" + jpeg
    segment = b"\xff\xe1" + struct.pack(">H", len(preview) + 2) + preview
    whole = jpeg[:2] + segment + jpeg[2:]
    opened = store({"whole.jpg": whole, "a.jpg": whole[:-200] + bytes(200)})

    assert opened.decode("whole.jpg", WIDTH, HEIGHT).shape == (HEIGHT, WIDTH, 3)
    assert "is damaged" in refusal(opened)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_truncated_png_is_damaged(store: Make, png: bytes, share: float) -> None:
    assert "is damaged" in refusal(store({"a.jpg": png[: int(len(png) * share)]}))


def test_what_is_no_image_is_damaged(store: Make) -> None:
    assert "is damaged" in refusal(store({"a.jpg": b"<html>404</html>"}))


def test_an_image_that_claims_to_be_huge_is_damaged(store: Make, png: bytes) -> None:
    header = png[12:16] + struct.pack(">II", 1_000_000, 1_000_000) + png[24:29]
    huge = png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]

    assert "is damaged" in refusal(store({"a.jpg": huge}))


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hostname", "sub/../../secret.png"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, png: bytes, name: str) -> None:
    (tmp_path / "secret.png").write_bytes(png)
    (tmp_path / "images" / "sub").mkdir(parents=True)

    assert "is outside this folder" in refusal(ImageStore(tmp_path / "images"), name)


def test_a_folder_of_links_is_one_of_images(tmp_path: Path, png: bytes) -> None:
    """As DVC, caches and subsets make them: the name is checked, not where a link leads."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "9f86d0").write_bytes(png)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").symlink_to(tmp_path / "cache" / "9f86d0")
    (tmp_path / "images" / "b.png").symlink_to(tmp_path / "cache" / "gone")
    opened = ImageStore(tmp_path / "images")

    assert opened.read("a.png") == png
    assert "holds no image b.png" in refusal(opened, "b.png")


def places(tmp_path: Path, form: str, *names: str) -> ImageStore:
    """A folder or a zip `val` that holds files of these names; their content is their name."""
    if form == "folder":
        for name in names:
            file = tmp_path / "val" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(name)
        return ImageStore(tmp_path / "val")
    with zipfile.ZipFile(tmp_path / "val.zip", "w") as archive:
        for name in names:
            archive.writestr(name, name)
    return ImageStore(tmp_path / "val.zip")


@pytest.mark.parametrize("form", ["folder", "zip"])
@pytest.mark.parametrize(
    ("holds", "name", "found"),
    [
        ("images/a.jpg", "a.jpg", "images/a.jpg"),  # the root of an export
        ("export/images/train/a.jpg", "train/a.jpg", "export/images/train/a.jpg"),
        ("a.jpg", "val/a.jpg", "a.jpg"),  # the annotations were made one folder further out
        ("cam1/a.jpg", "val/cam1/a.jpg", "cam1/a.jpg"),
        ("images/a.jpg", "images\\a.jpg", "images/a.jpg"),  # written on Windows
        ("a\\b.jpg", "a\\b.jpg", "a\\b.jpg"),
        ("./a.jpg".removeprefix("./"), "./a.jpg", "a.jpg"),
    ],
)
def test_a_name_may_be_relative_to_another_folder(
    tmp_path: Path, form: str, holds: str, name: str, found: str
) -> None:
    assert places(tmp_path, form, holds).read(name) == found.encode()


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_no_other_image_is_taken_for_it(tmp_path: Path, form: str) -> None:
    opened = places(tmp_path, form, "cam1/a.jpg", "cam2/a.jpg", "cam2/b.jpg")

    assert "holds several images a.jpg, in different folders" in refusal(opened, "a.jpg")
    assert "holds no image" in refusal(opened, "cam1/b.jpg")
    assert "holds no image" in refusal(opened, "train/b.jpg")
    assert opened.read("cam2/a.jpg") == b"cam2/a.jpg"


def test_a_check_finds_what_decoding_finds(store: Make, image: Pixels, jpeg: bytes) -> None:
    other = cv2.imencode(".jpg", cv2.resize(image, (WIDTH + 9, HEIGHT)))[1].tobytes()
    opened = store({"whole.jpg": jpeg, "cut.jpg": jpeg[:-9], "other.jpg": other, "text.jpg": b"?"})

    opened.check("whole.jpg", WIDTH, HEIGHT)
    for name in ("cut.jpg", "other.jpg", "text.jpg", "missing.jpg"):
        with pytest.raises(StageError, match=name):
            opened.check(name, WIDTH, HEIGHT)


def test_a_folder_that_is_a_link_is_a_folder(tmp_path: Path, png: bytes) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.png").write_bytes(png)
    (tmp_path / "images").symlink_to(tmp_path / "there")

    assert ImageStore(tmp_path / "images").read("a.png") == png


def test_a_damaged_member_of_a_zip_is_named(tmp_path: Path, jpeg: bytes) -> None:
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.jpg", jpeg)
        archive.writestr("b.jpg", jpeg)
    content = bytearray(path.read_bytes())
    content[len(jpeg) // 2] ^= 0xFF
    path.write_bytes(content)
    opened = ImageStore(path)

    said = refusal(opened)

    assert "images.zip: image a.jpg is damaged: Bad CRC-32" in said
    assert opened.read("b.jpg") == jpeg


def test_a_truncated_zip_is_refused(tmp_path: Path, jpeg: bytes) -> None:
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.jpg", jpeg)
    path.write_bytes(path.read_bytes()[:-30])

    with pytest.raises(StageError, match=r"images\.zip: not a whole zip"):
        ImageStore(path)


def test_a_place_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="there is no such folder or zip of images"):
        ImageStore(tmp_path / "images.zip")
