"""COCO keypoint annotations: read and checked, as the files that people have spell them.

What pycocotools and mmpose accept is accepted.  What changes a figure, or could, is a `Finding`;
what leaves no right figure is refused, with its place in the file.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hrnetpose.data import findings
from hrnetpose.data.annotations import MEAN_AREA, Annotations, Image
from hrnetpose.data.entries import Entry, triples
from hrnetpose.data.keypoint_names import listed, match_names, spelling
from hrnetpose.data.values import whole
from hrnetpose.stage import StageError, shown


def load(path: Path) -> dict[str, Any]:
    """Reads a JSON file with COCO's lists, whose entries are objects.

    Raises:
        StageError: the file is missing, is no JSON, or is not of that form.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise StageError(f"{path}: there is no such annotation file") from error
    except (ValueError, RecursionError) as error:
        raise StageError(f"{path}: not JSON ({error}); fetch or write it again") from error
    if not isinstance(content, dict):
        raise StageError(f"{path}: expected a JSON object with COCO's keys, found a list or value")
    content.setdefault("categories", [])
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise StageError(f"{path}: `{key}` is missing or no list; expected COCO's format")
        for index, entry in enumerate(content[key]):
            if not isinstance(entry, dict):
                raise StageError(
                    f"{path}: {key}[{index}] is {shown(entry)}; expected a JSON object"
                )
    return content


def read(path: Path, names: Sequence[str] = (), category: str | None = None) -> Annotations:
    """Reads annotations in COCO's keypoint format; see `parse`.

    Raises:
        StageError: the file is missing, is no JSON, or `parse` refuses it.
    """
    return parse(load(path), path, names, category)


def parse(
    content: dict[str, Any], path: Path, names: Sequence[str] = (), category: str | None = None
) -> Annotations:
    """Checks annotations, and returns the persons of one category.

    Args:
        content: what `load` returned; it is not changed.
        path: where it came from, for messages.
        names: the model's keypoints, by which the category is chosen if several have keypoints.
        category: the name of the category.

    Raises:
        StageError: an entry is malformed, or no category fits.
    """
    images = _images(content["images"], path)
    entries: dict[int, list[tuple[str, dict[str, Any]]]] = {}
    elsewhere = 0
    for index, entry in enumerate(content["annotations"]):
        if not entry.get("keypoints"):  # other objects have none, or an empty list
            continue
        where = f"{path}: annotations[{index}]"
        if whole(entry, "image_id", where) not in images:
            elsewhere += 1
            continue
        kind = whole(entry, "category_id", where) if "category_id" in entry else 1
        entries.setdefault(kind, []).append((where, entry))
    chosen = _choose_category(content, entries, path, names, category)
    persons = [Entry.of(entry, where, images) for where, entry in entries[chosen.id]]
    for person in persons:
        if len(person.keypoints) != chosen.number:
            raise StageError(
                f"{person.where}: has {len(person.keypoints)} keypoints, but its category "
                f"{chosen.name!r} has {chosen.number}"
            )
    table = _table(persons, images, chosen, path)
    told = [
        findings.finding(
            "elsewhere",
            elsewhere,
            "{} annotations with keypoints are on images that the file does not list: left out",
        ),
        findings.finding(
            "other_categories",
            len(entries) - 1,
            "{} other categories have keypoints, and are left out: "
            + listed([_label(content, number) for number in entries if number != chosen.id]),
        ),
        *findings.of_images(images),
        *findings.of_persons(persons, table),
    ]
    return replace(table, findings=tuple(one for one in told if one.count))


@dataclass(frozen=True)
class _Category:
    id: int
    name: str
    keypoints: list[str]
    number: int
    persons: int

    def __str__(self) -> str:
        return f"{self.name!r} ({self.number} keypoints, {self.persons} annotations)"


def _entry(content: dict[str, Any], number: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    return next(
        (entry for entry in content.get("categories", []) if entry.get("id") == number), found
    )


def _label(content: dict[str, Any], number: int) -> str:
    return str(_entry(content, number).get("name") or f"category {number}")


def _choose_category(
    content: dict[str, Any],
    entries: dict[int, list[tuple[str, dict[str, Any]]]],
    path: Path,
    names: Sequence[str],
    wanted: str | None,
) -> _Category:
    """Returns the category to evaluate: the one asked for, or that has the model's keypoints."""
    if not entries:
        raise StageError(
            f"{path}: no annotation has `keypoints`; expected COCO keypoint annotations, such as "
            "person_keypoints_val2017.json"
        )
    found = []
    for number, members in sorted(entries.items()):
        keypoints = _names(content, number, path)
        where, first = members[0]
        found.append(
            _Category(
                id=number,
                name=_label(content, number),
                keypoints=keypoints,
                number=len(keypoints) or len(triples(first["keypoints"], where)),
                persons=len(members),
            )
        )
    known = f"categories with keypoints: {listed(found)}"
    fitting = found
    if wanted is not None:
        fitting = [one for one in found if spelling(one.name) == spelling(wanted)]
        if not fitting:
            raise StageError(f"{path}: has no keypoints of a category {wanted!r}; {known}")
    elif len(found) > 1 and names:
        matches = [
            one
            for one in found
            if not isinstance(match_names(one.keypoints, one.number, names), str)
        ]
        # Names tell more than a number that happens to be the same.
        fitting = [one for one in matches if one.keypoints] or matches
        if not fitting:
            raise StageError(
                f"{path}: no category has the model's {len(names)} keypoints ({listed(names, 3)}); "
                f"{known}"
            )
    if len(fitting) > 1:
        raise StageError(
            f"{path}: AP is taken over one category, and several fit; {known}; name one as the "
            "dataset's `category` in the configuration"
        )
    if names:
        order = match_names(fitting[0].keypoints, fitting[0].number, names)
        if isinstance(order, str):
            raise StageError(f"{path}: category {fitting[0].name!r} {order}")
    return fitting[0]


def _names(content: dict[str, Any], number: int, path: Path) -> list[str]:
    """Returns a category's keypoint names; bare numbers, which some tools write, name nothing."""
    names = _entry(content, number).get("keypoints") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise StageError(
            f"{path}: the keypoints of category {_label(content, number)!r} are {shown(names)}; "
            "expected a list of names"
        )
    if all(name.strip().isdigit() for name in names):
        return []
    twice = [name for name, count in Counter(map(spelling, names)).items() if count > 1]
    if twice:
        raise StageError(
            f"{path}: category {_label(content, number)!r} names keypoint {twice[0]!r} twice; give "
            "each a name of its own"
        )
    return names


def _table(
    persons: list[Entry], images: dict[int, Image], category: _Category, path: Path
) -> Annotations:
    twice = [number for number, count in Counter(p.id for p in persons).items() if count > 1]
    if twice:
        where = [person.where for person in persons if person.id == twice[0]][1]
        raise StageError(f"{where}: the id is there twice; give each annotation its own")
    image_ids = np.array(sorted(images), np.int64)
    known = [images[number] for number in image_ids.tolist()]
    boxes = np.array([person.box or (0.0,) * 4 for person in persons], np.float64)
    guessed = np.maximum(boxes[:, 2:], 0).prod(axis=1) * MEAN_AREA
    areas = [person.area for person in persons]
    crowds = np.array([person.crowd for person in persons], bool)
    return Annotations(
        image_ids=image_ids,
        file_names=np.array([image.file_name for image in known], str),
        sizes=np.array([(image.width, image.height) for image in known], np.int64).reshape(-1, 2),
        ids=np.array([person.id for person in persons], np.int64),
        images=np.searchsorted(image_ids, [person.image_id for person in persons]),
        keypoints=np.stack([person.keypoints for person in persons]),
        boxes=boxes,
        areas=np.where([area is None for area in areas], guessed, np.array(areas, np.float64)),
        crowds=crowds,
        ignored=crowds | [person.without for person in persons],
        evaluated=np.array([p.wanted and p.clipped is not None for p in persons], bool),
        names=np.array(category.keypoints, str),
        category=category.id,
        category_name=category.name,
        source=str(path),
    )


def _images(entries: list[dict[str, Any]], path: Path) -> dict[int, Image]:
    found: dict[int, Image] = {}
    for index, entry in enumerate(entries):
        where = f"{path}: images[{index}]"
        number = whole(entry, "id", where)
        if number in found:
            raise StageError(f"{where}: id {number} is there twice")
        if "file_name" not in entry:
            raise StageError(f"{where} lacks `file_name`")
        name = entry["file_name"]
        if not isinstance(name, str):
            raise StageError(f"{where}: file_name is {shown(name)}; expected text")
        size = [whole(entry, side, where) for side in ("width", "height")]
        for side, length in zip(("width", "height"), size, strict=True):
            if length < 1:
                raise StageError(f"{where}: {side} is {length}; expected the image's, in pixels")
        found[number] = Image(number, name, size[0], size[1], ())
    return found
