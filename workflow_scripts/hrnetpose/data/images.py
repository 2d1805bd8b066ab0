"""Images from a folder, or from a zip that is read in place."""

import threading
import zipfile
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import numpy.typing as npt

from hrnetpose.data import archives
from hrnetpose.stage import StageError

LARGEST_IMAGE = 1 << 28
"""Bytes of an encoded image; it is read into memory."""


class ImageStore:
    """Finds and decodes images by the file name that annotations give them.

    Safe to use from several threads.

    Args:
        path: a folder, or a zip whose members may be in a folder of their own (as COCO's are).

    Raises:
        StageError: `path` is neither, or `archives.open_zip` refuses the zip.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._members: dict[str, zipfile.ZipInfo] | None = None
        if path.is_dir():
            return
        if not path.exists():
            raise StageError(f"{path}: there is no such folder or zip of images")
        self._zip = archives.open_zip(path)
        self._members = {}
        self._ambiguous: set[str] = set()
        for member in self._zip.infolist():
            if not member.is_dir():
                self._members[member.filename] = member
        # COCO's val2017.zip holds val2017/000000000139.jpg.
        short: dict[str, zipfile.ZipInfo] = {}
        for inside, member in self._members.items():
            name = PurePosixPath(inside).name
            if name not in self._members and short.setdefault(name, member) is not member:
                self._ambiguous.add(name)
        self._members |= short

    def read(self, name: str) -> bytes:
        """Returns the encoded image.

        Raises:
            StageError: it is not there, or its zip member is damaged.
        """
        if self._members is None:
            file = self.path / name
            if not file.resolve().is_relative_to(self.path.resolve()):
                raise StageError(f"{self.path}: image {name!r} is outside this folder")
            try:
                return file.read_bytes()
            except OSError as error:
                raise StageError(f"{file}: image cannot be read: {error.strerror}") from error
        if name not in self._members:
            raise StageError(f"{self.path}: holds no image {name}")
        if name in self._ambiguous:
            raise StageError(f"{self.path}: holds several images {name}, in different folders")
        member = self._members[name]
        if member.file_size > LARGEST_IMAGE:
            raise StageError(f"{self.path}: image {name} has {member.file_size} bytes: no image")
        with self._lock, archives.reading(self.path, f"image {name}"):
            return self._zip.read(member)

    def decode(self, name: str, width: int, height: int) -> npt.NDArray[np.uint8]:
        """Decodes an image.

        Returns:
            uint8 [height, width, 3] in BGR.

        Raises:
            StageError: it is missing, damaged, or not of the annotated size.
        """
        content = self.read(name)
        encoded = np.frombuffer(content, np.uint8)
        try:
            image = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        except cv2.error:  # empty, or of an absurd size
            image = None
        if image is None or _truncated_jpeg(content):
            raise StageError(f"{self.path}: image {name} is damaged: it cannot be decoded whole")
        if image.shape[:2] != (height, width):
            raise StageError(
                f"{self.path}: image {name} is {image.shape[1]}x{image.shape[0]}, but its "
                f"annotation says {width}x{height} (width x height)"
            )
        return image


def _truncated_jpeg(content: bytes) -> bool:
    """Tells whether the end of a JPEG is missing: zeros in its place are decoded as grey.

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
