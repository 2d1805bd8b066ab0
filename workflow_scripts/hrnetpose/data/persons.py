"""The persons of a dataset as a compact table: written once, then cut into shards.

Annotations of a million persons are gigabytes once parsed.  Here they are 50 bytes each, so that a
thousand jobs can each take their part without reading all of COCO's JSON.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hrnetpose import files
from hrnetpose.data.annotations import Image, Person
from hrnetpose.stage import StageError

_COLUMNS = {
    "image_id": "int64 M",
    "width": "int64 M",
    "height": "int64 M",
    "name": "uint8 B",
    "name_end": "int64 M",
    "start": "int64 S",
    "id": "int64 N",
    "box": "float32 N 4",
    "score": "float32 N",
    "boxes_from": "str",
}


@dataclass(frozen=True)
class Persons:
    """Images and their persons; `start[i]:start[i + 1]` are the persons of image i.

    Attributes:
        image_id, width, height: int64 [M].
        name: UTF-8 of all file names, one after the other, uint8 [B].
        name_end: where each of them ends, int64 [M].
        start: int64 [M + 1].
        id: annotation ids, int64 [N].
        box: float32 [N, 4], x1, y1, x2, y2 in pixels.
        score: float32 [N].
        boxes_from: `gt` or `det`.
    """

    image_id: npt.NDArray[np.int64]
    width: npt.NDArray[np.int64]
    height: npt.NDArray[np.int64]
    name: npt.NDArray[np.uint8]
    name_end: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    id: npt.NDArray[np.int64]
    box: npt.NDArray[np.float32]
    score: npt.NDArray[np.float32]
    boxes_from: str

    @classmethod
    def of(cls, images: list[Image], boxes_from: str) -> "Persons":
        """Makes the table of `images`, in their order."""
        names = [image.file_name.encode() for image in images]
        persons = [person for image in images for person in image.persons]
        return cls(
            image_id=np.array([image.id for image in images], np.int64),
            width=np.array([image.width for image in images], np.int64),
            height=np.array([image.height for image in images], np.int64),
            name=np.frombuffer(b"".join(names), np.uint8),
            name_end=np.cumsum([len(name) for name in names], dtype=np.int64),
            start=np.cumsum([0] + [len(image.persons) for image in images], dtype=np.int64),
            id=np.array([person.id for person in persons], np.int64),
            box=np.array([person.box for person in persons], np.float32).reshape(-1, 4),
            score=np.array([person.score for person in persons], np.float32),
            boxes_from=boxes_from,
        )

    def write(self, path: Path) -> None:
        """Writes the table (.npz), atomically."""
        columns: dict[str, Any] = {**vars(self), "boxes_from": np.array(self.boxes_from)}
        with files.atomic_path(path) as temporary:
            np.savez(temporary, **columns)

    @classmethod
    def read(cls, path: Path) -> "Persons":
        """Reads a table back.

        Raises:
            StageError: the file is missing, damaged or not such a table.
        """
        columns = files.read_table(path, _COLUMNS)
        boxes_from = str(columns.pop("boxes_from"))
        table = cls(**columns, boxes_from=boxes_from)
        for ends, last in ((table.start, len(table.id)), (table.name_end, len(table.name))):
            whole = np.concatenate([[0], ends, [last]])
            if len(table.start) != len(table.image_id) + 1 or (np.diff(whole) < 0).any():
                raise StageError(f"{path}: its columns do not fit together; delete it, run again")
        try:
            table.name.tobytes().decode()
        except UnicodeDecodeError as error:
            raise StageError(
                f"{path}: names are no UTF-8 ({error}); delete it, run again"
            ) from error
        return table

    def images(self, first: int = 0, last: int | None = None) -> list[Image]:
        """Returns images `first` to `last` (excluded) with their persons."""
        last = len(self.image_id) if last is None else last
        return [self._image(index) for index in range(first, last)]

    def _image(self, index: int) -> Image:
        image = int(self.image_id[index])
        begin = int(self.name_end[index - 1]) if index else 0
        return Image(
            image,
            self.name[begin : self.name_end[index]].tobytes().decode(errors="replace"),
            int(self.width[index]),
            int(self.height[index]),
            tuple(
                Person(int(self.id[row]), image, self.box[row], float(self.score[row]))
                for row in range(self.start[index], self.start[index + 1])
            ),
        )

    def first(self, persons: int) -> list[Image]:
        """Returns the first images that hold at least so many persons together."""
        return self.images(0, min(int(np.searchsorted(self.start, persons)), len(self.image_id)))

    def shard(self, index: int, count: int) -> list[Image]:
        """Returns part `index` (from 1) of `count`, consecutive and of about as many persons each.

        The parts in order are the whole table, so results do not depend on how it is cut.
        """
        total = max(len(self.id), 1)
        part = np.minimum(self.start[:-1] * count // total, count - 1)
        first, last = np.searchsorted(part, [index - 1, index])
        return self.images(int(first), int(last))
