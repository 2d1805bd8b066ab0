"""Images from a folder, or from a zip that is read in place."""

import os
import threading
from functools import cached_property
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import numpy.typing as npt

from hrnetpose import archives, files, stage
from hrnetpose.stage import StageError

LARGEST_IMAGE = 1 << 28
"""Bytes of an encoded image; it is read into memory."""
LONGEST_SIDE = 32766
"""Of an image, in pixels: `cv2.warpAffine` takes no longer one."""
REDUCED = 8
"""What `check` divides sides by: a JPEG is then decoded in a fifth of the time."""


class ImageStore:
    """Images, found and decoded by the file name that annotations give them.

    The name may be relative to a folder further in (COCO's zips hold `val2017/NAME`, exports
    `images/NAME`) or further out (`val2017/NAME` with the images of the folder `val2017`).

    Safe to use from several threads.

    Args:
        path: a folder or a zip.

    Raises:
        StageError: `path` is neither, or `archives.open_zip` refuses the zip.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._zip = None
        if path.is_dir():
            return
        if not path.exists():
            raise StageError(f"{path}: there is no such folder or zip of images")
        self._zip = archives.open_zip(path)

    def read(self, name: str) -> bytes:
        """Return the encoded image.

        Raises:
            StageError: it is not there, or its zip member is damaged.
        """
        found = self.find(name)
        if self._zip is None:
            file = self.path / found
            try:
                return file.read_bytes()
            except OSError as error:
                raise StageError(f"{file}: image cannot be read: {error.strerror}") from error
        member = self._zip.getinfo(found)
        if member.file_size > LARGEST_IMAGE:
            raise StageError(
                f"{self.path}: image {stage.name(name)} has {member.file_size} bytes: no image"
            )
        with self._lock, archives.reading(self.path, f"image {stage.name(name)}"):
            return self._zip.read(member)

    def find(self, name: str) -> str:
        """Return where in the folder or zip an image is.

        The name is checked, not where a link of the folder's owner leads.

        Raises:
            StageError: it is not there, there are several, or the name leads out of the folder.
        """
        parts = PurePosixPath(name.replace("\\", "/")).parts  # written on Windows
        if not parts or parts[0] == "/" or ".." in parts or "\0" in name:
            raise StageError(f"{self.path}: image {stage.shown(name, 300)} is outside this folder")
        inside = name if self._has(name) else "/".join(parts)
        if self._has(inside):
            return inside
        further_in = self._inner.get(inside, [])
        if len(further_in) > 1:
            raise StageError(
                f"{self.path}: holds several images {stage.name(name)}, in different folders: "
                f"{', '.join(further_in[:3])}"
            )
        if further_in:
            return further_in[0]
        outer = Path(os.path.abspath(self.path.with_suffix("") if self._zip else self.path)).parts
        for count in range(1, len(parts)):
            rest = "/".join(parts[count:])
            if outer[-count:] == parts[:count] and self._has(rest):
                return rest
        raise StageError(f"{self.path}: holds no image {stage.name(name)}")

    def _has(self, name: str) -> bool:
        if self._zip is None:
            return os.path.isfile(self.path / name)  # false of what is too long for a path
        return name in self._zip.NameToInfo and not name.endswith("/")

    @cached_property
    def _inner(self) -> dict[str, list[str]]:
        """Paths of the images by what they are called from a folder on the way to them."""
        found: dict[str, list[str]] = {}
        for name in self._names():
            parts = name.split("/")
            for start in range(1, len(parts)):
                found.setdefault("/".join(parts[start:]), []).append(name)
        return found

    def _names(self) -> list[str]:
        if self._zip is not None:
            return [member.filename for member in self._zip.infolist() if not member.is_dir()]
        return [os.path.relpath(file, self.path) for file in files.walk(self.path)]

    def check(self, name: str, width: int, height: int) -> None:
        """Check an image as `decode` does, at an eighth of its size.

        Raises:
            StageError: it is missing, damaged, or not of the annotated size, give or take 7 pixels.
        """
        content = self.read(name)
        image = _decode(content, cv2.IMREAD_REDUCED_COLOR_8)
        expected = (-(-height // REDUCED), -(-width // REDUCED))
        if (
            image is None
            or _is_truncated_jpeg(content)
            or image.shape[:2] != expected
            or max(width, height) > LONGEST_SIDE
        ):
            self.decode(name, width, height)  # which says what is wrong

    def decode(self, name: str, width: int, height: int) -> npt.NDArray[np.uint8]:
        """Decode an image.

        Returns:
            uint8 [height, width, 3] in BGR.

        Raises:
            StageError: it is missing, damaged, too large, or not of the annotated size.
        """
        image = decode_whole(self.read(name))
        if image is None:
            raise StageError(
                f"{self.path}: image {stage.name(name)} is damaged: it cannot be decoded whole"
            )
        if image.shape[:2] != (height, width):
            raise StageError(
                f"{self.path}: image {stage.name(name)} is {image.shape[1]}x{image.shape[0]}, "
                f"but its annotation says {width}x{height} (width x height)"
            )
        if max(width, height) > LONGEST_SIDE:
            raise StageError(
                f"{self.path}: image {stage.name(name)} is {width}x{height}, but OpenCV cuts "
                f"persons out of images of up to {LONGEST_SIDE} pixels a side; cut it into parts"
            )
        return image


def decode_whole(content: bytes) -> npt.NDArray[np.uint8] | None:
    """Return an image, uint8 [height, width, 3] in BGR; None if it is damaged."""
    image = _decode(content, cv2.IMREAD_COLOR)
    return None if _is_truncated_jpeg(content) else image


def _decode(content: bytes, how: int) -> npt.NDArray[np.uint8] | None:
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), how)
    except cv2.error:  # empty, or of an absurd size
        return None


def _is_truncated_jpeg(content: bytes) -> bool:
    """Return True if the end of a JPEG is missing: zeros in its place are decoded as grey.

    Inside compressed data every 0xFF is escaped, so an end marker behind the scan header is the
    real one; that of a preview lies in a segment before it, which is skipped.
    """
    if not content.startswith(b"\xff\xd8"):
        return False
    place = 2
    while content[place : place + 1] == b"\xff":
        if content[place + 1 : place + 2] == b"\xda":
            return content.find(b"\xff\xd9", place) < 0
        length = int.from_bytes(content[place + 2 : place + 4], "big")
        place += 2 + length
    return False  # an odd header; the decoder has taken it
