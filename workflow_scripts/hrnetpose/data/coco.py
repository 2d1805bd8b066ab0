"""COCO keypoint annotations: read and checked, as the files that people have spell them.

What pycocotools and mmpose accept is accepted.  What changes a figure, or could, is a `Finding`;
what leaves no right figure is refused, with its place in the file.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hrnetpose.data import findings
from hrnetpose.data.annotations import Annotations, Image, estimate_areas
from hrnetpose.data.entries import Entry, read_keypoints
from hrnetpose.data.keypoint_names import match_names, normalize
from hrnetpose.data.values import is_number, list_some, read_int, read_json
from hrnetpose.stage import StageError, shown


def load(path: Path) -> dict[str, Any]:
    """Read a JSON file with COCO's lists, whose entries are objects.

    Raises:
        StageError: the file is missing, is no JSON, or is not of that form.
    """
    content = read_json(path, "annotation file")
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
    """Read annotations in COCO's keypoint format; see `parse`.

    Raises:
        StageError: the file is missing, is no JSON, or `parse` refuses it.
    """
    return parse(load(path), path, names, category)


def parse(
    content: dict[str, Any], path: Path, names: Sequence[str] = (), category: str | None = None
) -> Annotations:
    """Check annotations, and return the persons of one category.

    Args:
        content: what `load` returned; it is not changed.
        path: where it came from, for messages.
        names: the model's keypoints, by which the category is chosen if several have keypoints.
        category: the name of the category.

    Raises:
        StageError: an entry is malformed, or no category fits.
    """
    images = _parse_images(content["images"], path)
    entries: dict[int, list[tuple[dict[str, Any], str]]] = {}
    bare = []
    elsewhere = 0
    for index, entry in enumerate(content["annotations"]):
        if not entry.get("keypoints"):  # other objects have none, or an empty list
            image = entry.get("image_id")
            if is_number(image) and image in images:
                bare.append(entry.get("category_id", 1))
            continue
        where = f"{path}: annotations[{index}]"
        if read_int(entry, "image_id", where) not in images:
            elsewhere += 1
            continue
        kind = read_int(entry, "category_id", where) if "category_id" in entry else 1
        entries.setdefault(kind, []).append((entry, where))
    if not entries:
        raise StageError(
            f"{path}: no annotation has `keypoints`; expected COCO keypoint annotations, such as "
            "person_keypoints_val2017.json"
        )
    categories = [
        _Category.parse(content, number, *members[0], len(members), path)
        for number, members in sorted(entries.items())
    ]
    chosen = _choose(categories, path, names, category)
    listed = [entry.get("id") for entry in content.get("categories", [])]
    if listed and chosen.id not in listed:
        raise StageError(
            f"{path}: {chosen.persons} annotations are of category {chosen.id}, but `categories` "
            f"lists {list_some([shown(one) for one in listed])}; give a category one id in both"
        )
    persons = [Entry.parse(entry, where, images) for entry, where in entries[chosen.id]]
    for person in persons:
        if len(person.keypoints) != chosen.number:
            raise StageError(
                f"{person.where}: has {len(person.keypoints)} keypoints, but its category "
                f"{chosen.name!r} has {chosen.number}"
            )
    table = _make_table(persons, images, chosen, path)
    found = [
        findings.make_finding(
            "elsewhere",
            elsewhere,
            "{} annotations with keypoints are on images that the file does not list: left out",
        ),
        findings.make_finding(
            "other_categories",
            len(categories) - 1,
            "{} other categories have keypoints, and are left out: "
            + list_some([one.name for one in categories if one != chosen]),
        ),
        findings.make_finding(
            "no_keypoints",
            bare.count(chosen.id),
            f"{{}} annotations of category {chosen.name!r} have no keypoints: they are left out, "
            "and who is found there counts as false; COCO gives such persons zeros and "
            "num_keypoints 0, and ignores them",
            "{} persons without keypoints not ignored",
        ),
        *findings.find_in_images(images),
        *findings.find_in_persons(persons, table),
    ]
    return replace(table, findings=tuple(one for one in found if one.count))


@dataclass(frozen=True)
class _Category:
    """A category with keypoints; `keypoints` are their names, empty if the file has none."""

    id: int
    name: str
    keypoints: list[str]
    number: int
    persons: int

    @classmethod
    def parse(
        cls,
        content: dict[str, Any],
        number: int,
        first: dict[str, Any],
        where: str,
        persons: int,
        path: Path,
    ) -> "_Category":
        """Check a category by its entry, which may be missing, and its first person."""
        nothing: dict[str, Any] = {}
        known = content.get("categories", [])
        listed = [entry for entry in known if entry.get("id") == number]
        # Files that were put together list a category several times.
        entry = max(listed, key=lambda entry: bool(entry.get("keypoints")), default=nothing)
        name = str(entry.get("name") or f"category {number}")
        keypoints = _read_names(entry.get("keypoints") or [], name, path)
        total = len(keypoints) or len(read_keypoints(first["keypoints"], where))
        return cls(number, name, keypoints, total, persons)

    def __str__(self) -> str:
        return f"{self.name!r} ({self.number} keypoints, {self.persons} annotations)"

    def mismatch(self, names: Sequence[str]) -> str | None:
        """Return what is wrong with the keypoints for a model of these."""
        order = match_names(self.keypoints, self.number, names)
        return order if isinstance(order, str) else None


def _read_names(names: Any, category: str, path: Path) -> list[str]:
    """Return a category's keypoint names; bare numbers, which some tools write, name nothing."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise StageError(
            f"{path}: the keypoints of category {category!r} are {shown(names)}; expected a list "
            "of names"
        )
    if all(name.strip().isdigit() for name in names):
        return []
    twice = [name for name, count in Counter(map(normalize, names)).items() if count > 1]
    if twice:
        raise StageError(
            f"{path}: category {category!r} names keypoint {twice[0]!r} twice; give each a name "
            "of its own"
        )
    return names


def _choose(
    categories: list[_Category], path: Path, names: Sequence[str], wanted: str | None
) -> _Category:
    """Return the category to evaluate: the one asked for, or that has the model's keypoints."""
    known = f"categories with keypoints: {list_some(categories)}"
    fitting = categories
    if wanted is not None:
        fitting = [one for one in categories if normalize(one.name) == normalize(wanted)]
        if not fitting:
            raise StageError(f"{path}: has no keypoints of a category {wanted!r}; {known}")
    elif len(categories) > 1 and names:
        matches = [one for one in categories if not one.mismatch(names)]
        # Names tell more than a number that happens to be the same.
        fitting = [one for one in matches if one.keypoints] or matches
        if not fitting:
            raise StageError(
                f"{path}: no category has the model's {len(names)} keypoints "
                f"({list_some(names, 3)}); {known}"
            )
    if len(fitting) > 1:
        raise StageError(
            f"{path}: AP is taken over one category, and several fit; {known}; name one as the "
            "dataset's `category` in the configuration"
        )
    if names and (problem := fitting[0].mismatch(names)):
        raise StageError(f"{path}: category {fitting[0].name!r} {problem}")
    return fitting[0]


def _make_table(
    persons: list[Entry], images: dict[int, Image], category: _Category, path: Path
) -> Annotations:
    twice = [number for number, count in Counter(p.id for p in persons).items() if count > 1]
    if twice:
        where = [person.where for person in persons if person.id == twice[0]][1]
        raise StageError(f"{where}: the id is there twice; give each annotation its own")
    image_ids = np.array(sorted(images), np.int64)
    known = [images[number] for number in image_ids.tolist()]
    boxes = np.array([person.box or (0.0,) * 4 for person in persons], np.float64)
    areas = np.array([person.area for person in persons], np.float64)  # NaN where there is none
    crowds = np.array([person.is_crowd for person in persons], bool)
    return Annotations(
        image_ids=image_ids,
        file_names=np.array([image.file_name for image in known], str),
        sizes=np.array([(image.width, image.height) for image in known], np.int64).reshape(-1, 2),
        ids=np.array([person.id for person in persons], np.int64),
        images=np.searchsorted(image_ids, [person.image_id for person in persons]),
        keypoints=np.stack([person.keypoints for person in persons]),
        boxes=boxes,
        areas=np.where(np.isnan(areas), estimate_areas(boxes), areas),
        crowds=crowds,
        ignored=crowds | [person.is_empty for person in persons],
        evaluated=np.array([person.is_wanted and person.can_be_cut for person in persons], bool),
        names=np.array(category.keypoints, str),
        category=category.id,
        category_name=category.name,
        source=str(path),
    )


def _parse_images(entries: list[dict[str, Any]], path: Path) -> dict[int, Image]:
    found: dict[int, Image] = {}
    for index, entry in enumerate(entries):
        where = f"{path}: images[{index}]"
        number = read_int(entry, "id", where)
        if number in found:
            raise StageError(f"{where}: id {number} is there twice")
        if "file_name" not in entry:
            raise StageError(f"{where} lacks `file_name`")
        name = entry["file_name"]
        if not isinstance(name, str):
            raise StageError(f"{where}: file_name is {shown(name)}; expected text")
        size = {side: read_int(entry, side, where) for side in ("width", "height")}
        for side, length in size.items():
            if length < 1:
                raise StageError(f"{where}: {side} is {length}; expected the image's, in pixels")
        found[number] = Image(number, name, persons=(), **size)
    return found
