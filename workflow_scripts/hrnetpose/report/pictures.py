"""What a variant broke: the persons on whom it is worst beside its reference; then typical ones."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hrnetpose import files
from hrnetpose.artifacts.accuracy import PersonOks
from hrnetpose.data.annotations import Annotations
from hrnetpose.data.images import ImageStore
from hrnetpose.report import drawing
from hrnetpose.report.drawing import Image
from hrnetpose.report.rows import Row

WORST, TYPICAL = 8, 2
"""Persons of each variant that are drawn."""
BUDGET = 4_000_000
"""Characters of all pictures of the page; of each variant the worst persons come first."""
LEAST_FALL = 0.0005
"""Of OKS, from which a person is shown among the worst."""
CROP_WIDTH, WHOLE_WIDTH = 220, 360
"""Pixels."""
ANNOTATED = "annotated"
"""What the reference itself is compared with."""

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Pair:
    """A person as the reference and as the variant see it, as `data:` URLs.

    Attributes:
        image: file name.
        oks: of the variant.
        reference: OKS of the reference; None for the reference itself.
        crop: the person, before and after.
        whole: the image, before and after.
    """

    image: str
    oks: float
    reference: float | None
    crop: tuple[str, str]
    whole: tuple[str, str]

    @property
    def size(self) -> int:
        """Characters of its pictures."""
        return sum(map(len, chain(self.crop, self.whole)))


@dataclass
class Gallery:
    """The pictures of a variant.

    Attributes:
        variant: its name.
        before: whose skeletons stand on the left: the reference's name, or `annotated`.
        worst: the worst persons, the very worst first.
        typical: some in the middle.
        left_out: how many there was no room for.
    """

    variant: str
    before: str
    worst: list[Pair] = field(default_factory=list)
    typical: list[Pair] = field(default_factory=list)
    left_out: int = 0


@dataclass(frozen=True)
class _Persons:
    """A variant's predicted persons: [K, 3] by annotation, and by image."""

    by_id: Mapping[int, Floats]
    by_image: Mapping[int, list[Floats]]


class Painter:
    """Draws persons over their images.

    Args:
        predictions: files of all variants, in folders of their names.
        truths: the annotated persons, with the model's keypoints.
        store: the images.
        row: one whose model has those keypoints.
    """

    def __init__(
        self, predictions: Sequence[Path], truths: Annotations, store: ImageStore, row: Row
    ) -> None:
        assert row.engine
        self._predictions = predictions
        self._info = row.engine.model.keypoints
        self._truths = truths.reorder(self._info.names)
        self._store = store
        self._found: dict[tuple[str, bool], _Persons] = {}

    def draw(self, person: PersonOks, before: str, row: Row) -> Pair:
        """Draw a person as `before` and as the row's variant see it."""
        truths = self._truths
        index = int(np.searchsorted(truths.image_ids, person.image_id))
        width, height = map(int, truths.sizes[index])
        name = str(truths.file_names[index])
        pixels = self._store.decode(name, width, height)
        box = truths.boxes[int(np.flatnonzero(truths.ids == person.id)[0])]
        pictures = []
        for variant in (before, row.name):
            persons = self._persons(variant, row)
            everybody = persons.by_image.get(person.image_id, [])
            whole = drawing.skeletons(pixels, np.array(everybody or self._nobody()), self._info)
            drawing.frame(whole, box)
            alone = np.array([persons.by_id[person.id]])
            crop, origin, scale = _enlarge(pixels, box)
            alone[..., :2] = (alone[..., :2] - origin) * scale
            pictures.append((drawing.skeletons(crop, alone, self._info), whole))
        (crop_before, whole_before), (crop_after, whole_after) = pictures
        return Pair(
            image=name,
            oks=person.oks,
            reference=person.reference,
            crop=(
                drawing.data_url(crop_before, CROP_WIDTH),
                drawing.data_url(crop_after, CROP_WIDTH),
            ),
            whole=(
                drawing.data_url(whole_before, WHOLE_WIDTH),
                drawing.data_url(whole_after, WHOLE_WIDTH),
            ),
        )

    def _nobody(self) -> Floats:
        return np.zeros((0, len(self._info.names), 3))

    def _persons(self, variant: str, row: Row) -> _Persons:
        assert row.viewed
        flip = row.viewed.protocol.flip
        key = (variant, flip)
        if key not in self._found:
            is_truth = variant == ANNOTATED
            self._found[key] = self._annotated() if is_truth else self._read(variant, flip)
        return self._found[key]

    def _annotated(self) -> _Persons:
        truths = self._truths
        return _collect(truths.ids, truths.image_ids[truths.images], truths.keypoints)

    def _read(self, variant: str, flip: bool) -> _Persons:
        """Read a variant's persons on annotated boxes."""
        columns = {
            "flip": "int64 F",
            "keypoints": "float32 F N K 2",
            "scores": "float32 F N K",
            "id": "int64 N",
            "image_id": "int64 N",
            "boxes_from": "str",
        }
        tables: list[Any] = [
            files.read_table(path, columns)
            for path in self._predictions
            if path.parent.name == variant
        ]
        ids, images, persons = [], [], []
        for table in tables:
            if table["boxes_from"] == "gt":
                row = list(table["flip"]).index(int(flip))
                sure = table["scores"][row][..., None]
                persons.append(np.concatenate([table["keypoints"][row], sure], axis=2))
                ids.append(table["id"])
                images.append(table["image_id"])
        return _collect(np.concatenate(ids), np.concatenate(images), np.concatenate(persons))


def draw(
    rows: Sequence[Row],
    predictions: Sequence[Path],
    annotations: Path,
    images: Path,
    budget: int = BUDGET,
) -> list[Gallery]:
    """Draw the worst and some typical persons of each variant that was scored on annotated boxes.

    Args:
        rows: of the report.
        predictions: files, in folders of the variants' names.
        annotations: as audit_dataset read them.
        images: a folder or a zip.
        budget: characters of all pictures; the worst of each variant come before the next worst.
    """
    there = {path.parent.name for path in predictions}
    shown = [
        (row, Gallery(row.name, before))
        for row in rows
        if row.view and row.view.worst and row.name in there
        for reference in [row.delta.reference if row.delta else None]
        for before in [reference if reference in there else ANNOTATED]
    ]
    if not shown:
        return []
    truths, store = Annotations.read(annotations), ImageStore(images)
    painters: dict[str, Painter] = {}
    spent = 0
    for row, gallery, person, pairs in _in_turns(shown):
        if spent > budget:
            gallery.left_out += 1
            continue
        model = row.variant.model
        if model not in painters:
            painters[model] = Painter(predictions, truths, store, row)
        pair = painters[model].draw(person, gallery.before, row)
        spent += pair.size
        pairs.append(pair)
    return [gallery for _, gallery in shown]


def _in_turns(
    shown: Sequence[tuple[Row, Gallery]],
) -> Iterator[tuple[Row, Gallery, PersonOks, list[Pair]]]:
    """Yield the persons to draw: the worst of each variant, the next worst of each, ..."""
    for place in range(WORST + TYPICAL):
        for row, gallery in shown:
            assert row.view
            worst = [person for person in row.view.worst if has_fallen(person)][:WORST]
            persons = worst if place < WORST else row.view.typical[:TYPICAL]
            index = place if place < WORST else place - WORST
            if index < len(persons):
                yield (
                    row,
                    gallery,
                    persons[index],
                    gallery.worst if place < WORST else gallery.typical,
                )


def has_fallen(person: PersonOks) -> bool:
    """Return True if a person's OKS is lower than the reference's, as far as it is written."""
    return person.reference is None or person.reference - person.oks >= LEAST_FALL


def _collect(ids: npt.NDArray[Any], images: npt.NDArray[Any], persons: Floats) -> _Persons:
    by_image: dict[int, list[Floats]] = {}
    for image, person in zip(images.tolist(), persons, strict=True):
        by_image.setdefault(image, []).append(person)
    return _Persons(dict(zip(ids.tolist(), persons, strict=True)), by_image)


def _enlarge(image: Image, box: Floats) -> tuple[Image, Floats, float]:
    """Return the surroundings of a box, large enough to draw on, their origin and their scale.

    Args:
        image: uint8 [H, W, 3].
        box: x, y, width, height in pixels.
    """
    height, width = image.shape[:2]
    x, y, w, h = (float(value) for value in box)
    half_w, half_h = max(w, 0.75 * h) * 0.625, max(h, w) * 0.625
    left, right = max(0, int(x + w / 2 - half_w)), min(width, int(x + w / 2 + half_w) + 1)
    top, bottom = max(0, int(y + h / 2 - half_h)), min(height, int(y + h / 2 + half_h) + 1)
    cut = image[top : max(bottom, top + 1), left : max(right, left + 1)]
    scale = max(1.0, 2 * CROP_WIDTH / cut.shape[1])
    return drawing.scale(cut, scale), np.array([left, top], np.float64), scale
