"""Keypoints of annotations and of models, matched by their names."""

import re
from collections.abc import Sequence

from hrnetpose import stage


def match_names(found: Sequence[str], number: int, wanted: Sequence[str]) -> list[int] | str:
    """Returns which annotated keypoint is each of a model's, or what is wrong.

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
    places = {spelling(name): place for place, name in enumerate(found)}
    lacking = [name for name in wanted if spelling(name) not in places]
    if lacking:
        known = {spelling(name) for name in wanted}
        other = listed([name for name in found if spelling(name) not in known])
        return (
            f"has other keypoints than the model: it lacks {listed(lacking)}, and has {other}"
            f"; {remedy}, or rename them in the file if they are the same points"
        )
    return [places[spelling(name)] for name in wanted]


def spelling(name: str) -> str:
    """Returns a name as it is compared."""
    return re.sub(r"[\s_-]+", "", name).casefold()


def listed(items: Sequence[object], most: int = 5) -> str:
    """Returns the first items for a message, and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(stage.name(str(item)) for item in items[:most]) + more
