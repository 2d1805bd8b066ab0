"""Values of JSON files that others wrote."""

from typing import Any

from hrnetpose.stage import StageError, shown

LARGEST = 10**300


def whole(entry: dict[str, Any], key: str, where: str) -> int:
    """Returns a whole number; some tools write it as 3.0."""
    if key not in entry:
        raise StageError(f"{where} lacks `{key}`")
    value = entry[key]
    if not is_number(value) or value != int(value):
        raise StageError(f"{where}: {key} is {shown(value)}; expected a whole number")
    if not -(2**63) <= value < 2**63:
        raise StageError(f"{where}: {key} is {shown(value)}, which is beyond 64 bits")
    return int(value)


def is_number(value: Any) -> bool:
    """Tells whether a JSON value is a finite number that a float can hold."""
    if isinstance(value, float):
        return value - value == 0
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST


def four_numbers(box: object) -> tuple[float, ...] | None:
    """Returns four finite numbers, None for anything else."""
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        return None
    return tuple(float(value) for value in box)
