"""What pycocotools and mmpose pass over in silence, and a user of figures should know."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from hrnetpose.artifacts.findings import Finding
from hrnetpose.data.annotations import MEAN_AREA, MOST_PERSONS, Annotations, Counts, Image
from hrnetpose.data.entries import Entry
from hrnetpose.data.values import list_some
from hrnetpose.stage import shown

MOST = 0.9
"""The share from which on a finding speaks of all: in most files a few are odd in another way."""


def make_finding(
    kind: str,
    count: int,
    text: str,
    label: str | None = None,
    boxes: Literal["gt", "det"] | None = None,
) -> Finding:
    """Return a finding; `{}` in its texts becomes the count."""
    return Finding(
        kind=kind,
        count=count,
        text=text.replace("{}", str(count)),
        label=label.replace("{}", str(count)) if label else None,
        boxes=boxes,
    )


def find_in_images(images: dict[int, Image]) -> list[Finding]:
    """Return a finding if an image is listed twice."""
    names = Counter(image.file_name for image in images.values())
    twice = [name for name, count in names.items() if count > 1]
    text = "{} images are listed under several ids, which splits their persons: " + list_some(twice)
    return [make_finding("images_twice", len(twice), text)]


def find_in_persons(persons: list[Entry], table: Annotations) -> list[Finding]:
    """Return what was found in annotations, and the table made of them; some have count 0."""

    def first(chosen: list[Entry], value: Callable[[Entry], object]) -> str:
        if not chosen:
            return ""
        where = chosen[0].where.removeprefix(f"{table.source}: ")
        return f" (first: {where}: {shown(value(chosen[0]))})"

    lost = [p for p in persons if p.is_wanted and not p.can_be_cut]
    zero = [p for p in persons if p.is_empty and p.labelled and not p.is_crowd]
    placed = [
        p for p in persons
        if p.is_empty and not p.labelled and not p.is_crowd and p.keypoints[:, :2].max() > 0
    ]  # fmt: skip
    to_find = [p for p in persons if not p.is_crowd and not p.is_empty]
    by_box = [p for p in to_find if not p.labelled]
    marked = [p for p in to_find if p.given.get("ignore")]
    different = {(p.image_id, p.keypoints.tobytes()) for p in to_find if p.labelled}
    again = len(to_find) - len(by_box) - len(different)
    counts = np.bincount(table.images[~table.ignored], minlength=len(table.image_ids))
    beyond = int(np.maximum(counts - MOST_PERSONS, 0).sum())
    no_area = [
        person for person, ignored in zip(persons, table.ignored, strict=True)
        if person.area is None and not ignored
    ]  # fmt: skip
    sizes = np.maximum(table.boxes[:, 2:], 0).prod(axis=1)
    beyond_box = int((~table.ignored & (sizes > 0) & (table.areas > 1.1 * sizes)).sum())
    of_box = int((np.abs(table.areas - sizes) <= 1e-3 * sizes).sum())
    odd = sum(bool((~np.isin(p.keypoints[:, 2], (0, 1, 2))).any()) for p in persons)
    return [
        make_finding(
            "no_box",
            len(lost),
            "{} persons with keypoints have no usable box: with annotated boxes they are not "
            f"predicted, and count as missed{first(lost, lambda p: p.given.get('bbox'))}",
            "{} persons without a box count as missed",
            "gt",
        ),
        make_finding(
            "no_count",
            len(zero),
            "{} persons have num_keypoints 0 beside labelled keypoints: they are not evaluated, "
            f"as in COCO's evaluation{first(zero, lambda p: p.labelled)}",
            "{} persons with num_keypoints 0 left out",
        ),
        make_finding(
            "not_labelled",
            len(placed),
            "{} persons have keypoints of which none is labelled (visibility 0): they are left "
            f"out, as in COCO's evaluation{first(placed, lambda p: p.keypoints[0].tolist())}",
        ),
        make_finding(
            "matched_by_box",
            len(by_box),
            "{} persons have a num_keypoints above 0, but no labelled keypoint (visibility 0): "
            "COCO's evaluation takes whoever is predicted in or near their box for a perfect match"
            f"{first(by_box, lambda p: p.keypoints[0].tolist())}",
            "{} persons matched by their box alone",
        ),
        make_finding(
            "crowded",
            beyond,
            f"{{}} persons are beyond the {MOST_PERSONS} of an image that COCO's evaluation takes: "
            "they count as missed",
            f"{{}} persons beyond {MOST_PERSONS} on an image count as missed",
        ),
        make_finding(
            "no_area",
            len(no_area),
            "the area of {} persons is missing or no positive number: it is taken as "
            f"{MEAN_AREA} of the box, COCO's mean{first(no_area, lambda p: p.given.get('area'))}",
            "{} areas estimated",
        ),
        make_finding(
            "area_of_box",
            of_box if of_box > MOST * len(persons) else 0,
            "the area of {} persons is that of their box; COCO's is that of their outline, about "
            f"{MEAN_AREA} of it: AP comes out higher than with outlines",
        ),
        make_finding(
            "area_beyond_box",
            beyond_box,
            "the area of {} persons is larger than their box: COCO's is that of their outline, and "
            "AP comes out higher the larger it is",
            "{} areas larger than the box",
        ),
        make_finding(
            "ignore",
            len(marked),
            "{} persons have `ignore`, which COCO's evaluation does not read: they are evaluated; "
            "it leaves out those with iscrowd 1 or num_keypoints 0"
            f"{first(marked, lambda p: p.given['ignore'])}",
        ),
        make_finding(
            "persons_twice",
            again,
            "{} persons are there again, with the same keypoints on the same image: NMS takes what "
            "is predicted for them for one person, so they count as missed",
            "{} persons annotated twice",
        ),
        make_finding("odd_visibility", odd, "{} persons have visibilities other than 0, 1 and 2"),
        *find_in_boxes(
            [p.box for p in persons if p.box],
            table.sizes[table.images[[p.box is not None for p in persons]]],
            "gt",
        ),
    ]


def are_corners(boxes: npt.NDArray[np.floating], sizes: npt.NDArray[np.integer]) -> bool:
    """Return True if boxes [N, 4] look like x1, y1, x2, y2, and hardly like x, y, width, height.

    Args:
        boxes: four numbers each.
        sizes: [N, 2] or [1, 2], width and height of their images.
    """
    if not len(boxes):
        return False
    outside = (boxes[:, :2] + boxes[:, 2:] > 1.02 * sizes).any(axis=1)
    corners = ((boxes[:, 2:] > boxes[:, :2]) & (boxes[:, 2:] <= 1.02 * sizes)).all(axis=1)
    return bool(outside.mean() > 0.5 and corners.mean() > MOST)


def find_in_boxes(
    boxes: Sequence[Sequence[float]], sizes: Counts, which: Literal["gt", "det"]
) -> list[Finding]:
    """Return a finding if boxes are hardly x, y, width, height in pixels.

    Args:
        boxes: N of four numbers.
        sizes: int64 [N, 2], width and height of their images.
        which: annotated or detected ones.
    """
    found = np.array(boxes, np.float64).reshape(-1, 4)
    if not len(found):
        return []
    fractions = (np.abs(found) <= 1.5).all(axis=1)
    if fractions.mean() > MOST and sizes.min() > 8:
        kind, form = "fractions", "fractions of the image"
    elif are_corners(found, sizes):
        kind, form = "corners", "x1, y1, x2, y2"
    else:
        return []
    return [
        make_finding(
            f"boxes_{kind}",
            len(found),
            f"the {{}} {which} boxes look like {form}, but COCO's are x, y, width, height in "
            "pixels, and are taken as such",
            f"boxes that look like {form}",
            which,
        )
    ]
