"""Keypoints of annotations and of models, matched by their names."""

import re
from collections.abc import Sequence

from hrnetpose.data.values import list_some


def match_names(found: Sequence[str], number: int, wanted: Sequence[str]) -> list[int] | str:
    """Return which annotated keypoint is each of a model's, or what is wrong.

    Args:
        found: the names in the annotations; empty if they have none.
        number: of annotated keypoints.
        wanted: the model's names.
    """
    remedy = "evaluate the model on annotations of its own keypoints"
    if number != len(wanted):
        return f"has {number} keypoints, but the model has {len(wanted)}; {remedy}"
    if not found:
        return list(range(number))
    places = {normalize(name): place for place, name in enumerate(found)}
    known = {normalize(name) for name in wanted}
    missing = [name for name in wanted if normalize(name) not in places]
    if missing:
        other = [name for name in found if normalize(name) not in known]
        return (
            f"has other keypoints than the model: it lacks {list_some(missing)}, and has "
            f"{list_some(other)}; {remedy}, or rename them in the file if they are the same points"
        )
    return [places[normalize(name)] for name in wanted]


def normalize(name: str) -> str:
    """Return a name without what spellings differ in: case, spaces, hyphens, underscores."""
    return re.sub(r"[\s_-]+", "", name).casefold()
