"""Flags of a command line that is made from values."""


def option(flag: str, value: object) -> list[str]:
    """Return a flag and its value or values; nothing if there is none: None, "" or []."""
    values = value if isinstance(value, list | tuple) else [value]
    return [flag, *map(str, values)] if value or value == 0 else []
