"""Values of JSON files that others wrote, and how messages show them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hrnetpose import stage
from hrnetpose.stage import StageError, shown

LARGEST = 10**300


def read_json(path: Path, kind: str) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        kind: what there is not if the file is missing, for the message.

    Raises:
        StageError: the file is missing or is no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise StageError(f"{path}: there is no such {kind}") from error
    except (ValueError, RecursionError) as error:
        raise StageError(f"{path}: not JSON ({error}); fetch or write it again") from error


def read_int(entry: dict[str, Any], key: str, where: str) -> int:
    """Return a whole number; some tools write it as 3.0.

    Raises:
        StageError: the key is missing, or its value is no whole number of 64 bits.
    """
    if key not in entry:
        raise StageError(f"{where} lacks `{key}`")
    value = entry[key]
    if not is_number(value) or value != int(value):
        raise StageError(f"{where}: {key} is {shown(value)}; expected a whole number")
    if not -(2**63) <= value < 2**63:
        raise StageError(f"{where}: {key} is {shown(value)}, which is beyond 64 bits")
    return int(value)


def read_box(value: object) -> tuple[float, ...] | None:
    """Return four finite numbers, None for anything else."""
    if not isinstance(value, list) or len(value) != 4 or not all(map(is_number, value)):
        return None
    return tuple(float(number) for number in value)


def is_number(value: Any) -> bool:
    """Return True if a JSON value is a finite number that a float can hold."""
    if isinstance(value, float):
        return value - value == 0
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST


def list_some(items: Sequence[object], most: int = 5) -> str:
    """Return the first items for a message, and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(stage.name(str(item)) for item in items[:most]) + more
