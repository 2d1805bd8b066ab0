"""The annotated persons of a dataset as a table: read once from COCO's JSON, then from here."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Self

import numpy as np
import numpy.typing as npt

from hrnetpose.artifacts.findings import Finding
from hrnetpose.data.keypoint_names import match_names
from hrnetpose.data.tables import Table
from hrnetpose.stage import StageError

MEAN_AREA = 0.53
"""The mean share of COCO's person boxes that the persons cover; xtcocotools takes it, too."""
MOST_PERSONS = 20
"""COCO's evaluation takes so many predictions of an image (maxDets)."""

Doubles = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Person:
    """One box to cut out.

    Attributes:
        id: annotation id; orders the persons of an image.
        image_id: COCO image id.
        box: float32 [4], x1, y1, x2, y2 in pixels, clipped to the image.
        score: how sure the box is; 1 for ground truth.
    """

    id: int
    image_id: int
    box: npt.NDArray[np.float32]
    score: float


@dataclass(frozen=True)
class Image:
    """An image and its persons; `file_name`, `width` and `height` as annotated."""

    id: int
    file_name: str
    width: int
    height: int
    persons: tuple[Person, ...]


@dataclass(frozen=True)
class Annotations(Table):
    """The persons of one category, G in all with K keypoints each, on I images."""

    image_ids: Annotated[Counts, "int64 I"]
    """All images of the dataset, rising."""
    file_names: Annotated[npt.NDArray[np.str_], "str I"]
    sizes: Annotated[Counts, "int64 I 2"]
    """Width and height as annotated."""
    ids: Annotated[Counts, "int64 G"]
    """In the order of the file."""
    images: Annotated[Counts, "int64 G"]
    """Indices into `image_ids`."""
    keypoints: Annotated[Doubles, "float64 G K 3"]
    """x, y in pixels and the visibility, 0 if not labelled."""
    boxes: Annotated[Doubles, "float64 G 4"]
    """x, y, width, height in pixels; zeros where there is no usable one."""
    areas: Annotated[Doubles, "float64 G"]
    """In square pixels; `MEAN_AREA` of the box where the file has none."""
    crowds: Annotated[Booleans, "bool G"]
    """Those that stand for many persons, and can be matched many times."""
    ignored: Annotated[Booleans, "bool G"]
    """Those that need not be found: crowds and persons without keypoints."""
    evaluated: Annotated[Booleans, "bool G"]
    """Those that are cut out by their annotated boxes: mmpose's choice (CocoDataset)."""
    names: Annotated[npt.NDArray[np.str_], "str L"]
    """Of the keypoints, K; none if the file does not name them."""
    category: Annotated[int, "int64"]
    """The category's id."""
    category_name: Annotated[str, "str"]
    source: Annotated[str, "str"]
    """The file, for messages."""
    findings: tuple[Finding, ...] = ()
    """What was found in the file; not kept with the table."""

    def reorder(self, names: Sequence[str]) -> Self:
        """Return the annotations with the keypoints of a model, in its order.

        Names are compared without regard to case, spaces, hyphens and underscores.  Where the file
        has no names, the number decides, and a finding says so.

        Args:
            names: the model's keypoints, [K].

        Raises:
            StageError: the keypoints are others than the model's.
        """
        order = match_names(self.names.tolist(), self.keypoints.shape[1], names)
        if isinstance(order, str):
            raise StageError(f"{self.source}: category {self.category_name!r} {order}")
        told = self.findings
        if not len(self.names):
            told += (Finding(kind="unnamed", count=len(names), text=_UNNAMED),)
        elif order != list(range(len(names))):
            told += (Finding(kind="reordered", count=len(names), text=_REORDERED),)
        return replace(
            self, keypoints=self.keypoints[:, order], names=np.array(names, str), findings=told
        )

    def with_areas_of_boxes(self) -> Self:
        """Return the annotations as xtcocotools takes them with `use_area=False`."""
        return replace(self, areas=estimate_areas(self.boxes))


_UNNAMED = (
    "the annotations do not name their keypoints: they are taken for the model's, in its order"
)
_REORDERED = "the keypoints are in another order than the model's: they were matched by name"


def ground_truth(annotations: Annotations) -> list[Image]:
    """Return the images that hold persons to evaluate, with their annotated boxes.

    Which persons count follows mmpose's CocoDataset: not crowds, at least one labelled keypoint,
    a box that is not empty after clipping.

    Raises:
        StageError: no person is left.
    """
    persons: dict[int, list[Person]] = {}
    for row in np.flatnonzero(annotations.evaluated).tolist():
        index = annotations.images[row]
        image, (width, height) = int(annotations.image_ids[index]), annotations.sizes[index]
        box = clip(tuple(annotations.boxes[row].tolist()), int(width), int(height))
        persons.setdefault(image, []).append(Person(int(annotations.ids[row]), image, box, 1.0))
    if not persons:
        lost = " ".join(finding.text for finding in annotations.findings)
        raise StageError(
            f"{annotations.source}: no person with labelled keypoints and a box to evaluate; {lost}"
        )
    return attach_persons(annotations, persons)


def estimate_areas(boxes: Doubles) -> Doubles:
    """Return the areas [N] that persons in boxes [N, 4] have on the mean."""
    return np.maximum(boxes[:, 2:], 0).prod(axis=1) * MEAN_AREA


def clip(box: tuple[float, ...], width: int, height: int) -> npt.NDArray[np.float32]:
    """Return COCO's x, y, width, height as corners inside the image, as mmpose clips them."""
    x, y, w, h = box
    corners = np.array([x, y, x + w, y + h])
    return np.clip(corners, 0, np.array([width, height] * 2) - 1).astype(np.float32)


def attach_persons(annotations: Annotations, persons: dict[int, list[Person]]) -> list[Image]:
    """Return the images with the persons given by image id, both in the order of their ids."""
    return [
        Image(number, str(name), width, height, tuple(sorted(persons[number], key=lambda p: p.id)))
        for number, name, (width, height) in zip(
            annotations.image_ids.tolist(),
            annotations.file_names,
            annotations.sizes.tolist(),
            strict=True,
        )
        if number in persons
    ]
