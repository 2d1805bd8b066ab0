"""The persons of a dataset as a compact table: written once, then cut into shards.

Annotations of a million persons are gigabytes once parsed.  Here they are 50 bytes each, so that a
thousand jobs can each take their part without reading all of COCO's JSON.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import numpy.typing as npt

from hrnetpose.data.annotations import Image, Person
from hrnetpose.data.tables import Table
from hrnetpose.stage import StageError

Floats = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Persons(Table):
    """M images and their N persons; `start[i]:start[i + 1]` are the persons of image i."""

    image_id: Annotated[Counts, "int64 M"]
    file_name: Annotated[npt.NDArray[np.str_], "str M"]
    width: Annotated[Counts, "int64 M"]
    height: Annotated[Counts, "int64 M"]
    start: Annotated[Counts, "int64 S"]
    """M + 1 of them."""
    id: Annotated[Counts, "int64 N"]
    """Of the annotations."""
    box: Annotated[Floats, "float32 N 4"]
    """x1, y1, x2, y2 in pixels."""
    score: Annotated[Floats, "float32 N"]
    boxes_from: Annotated[str, "str"]
    """`gt` or `det`."""

    @classmethod
    def of(cls, images: list[Image], boxes_from: str) -> Self:
        """Make the table of `images`, in their order."""
        persons = [person for image in images for person in image.persons]
        return cls(
            image_id=np.array([image.id for image in images], np.int64),
            file_name=np.array([image.file_name for image in images], str),
            width=np.array([image.width for image in images], np.int64),
            height=np.array([image.height for image in images], np.int64),
            start=np.cumsum([0] + [len(image.persons) for image in images], dtype=np.int64),
            id=np.array([person.id for person in persons], np.int64),
            box=np.array([person.box for person in persons], np.float32).reshape(-1, 4),
            score=np.array([person.score for person in persons], np.float32),
            boxes_from=boxes_from,
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        table = super().read(path)
        whole = np.concatenate([[0], table.start, [len(table.id)]])
        if len(table.start) != len(table.image_id) + 1 or (np.diff(whole) < 0).any():
            raise StageError(f"{path}: its columns do not fit together; delete it, run again")
        return table

    def images(self, first: int = 0, last: int | None = None) -> list[Image]:
        """Return images `first` to `last` (excluded) with their persons."""
        last = len(self.image_id) if last is None else last
        return [self._image(index) for index in range(first, last)]

    def _image(self, index: int) -> Image:
        image = int(self.image_id[index])
        return Image(
            image,
            str(self.file_name[index]),
            int(self.width[index]),
            int(self.height[index]),
            tuple(
                Person(int(self.id[row]), image, self.box[row], float(self.score[row]))
                for row in range(self.start[index], self.start[index + 1])
            ),
        )

    def first(self, persons: int) -> list[Image]:
        """Return the first images that hold at least so many persons together."""
        return self.images(0, min(int(np.searchsorted(self.start, persons)), len(self.image_id)))

    def shard(self, index: int, count: int) -> list[Image]:
        """Return part `index` (from 1) of `count`, consecutive and of about as many persons each.

        The parts in order are the whole table, so results do not depend on how it is cut.
        """
        total = max(len(self.id), 1)
        part = np.minimum(self.start[:-1] * count // total, count - 1)
        first, last = np.searchsorted(part, [index - 1, index])
        return self.images(int(first), int(last))
