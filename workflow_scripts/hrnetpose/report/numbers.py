"""How figures are written: as the page's JavaScript writes them, to the last digit."""

from decimal import ROUND_HALF_UP, Decimal

MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
MOST_DIGITS = 9


def number(value: float | None, digits: int = 4, sign: bool = False) -> str:
    """Format a figure; a missing one is a dash.  Halves are rounded away from zero."""
    if value is None:
        return MISSING
    rounded = Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    text = f"{rounded:+f}" if sign else f"{rounded:f}"
    return text.replace("-", MINUS)


def enough_digits(value: float, digits: int) -> int:
    """Return how many digits, at least those given, show that a figure is not 0."""
    return next(
        (more for more in range(digits, MOST_DIGITS) if number(value, more).strip("0.")),
        MOST_DIGITS,
    )


def plain(value: float) -> str:
    """Format a number that a person wrote, as far as six digits behind the point."""
    text = number(value, 6)
    return text.rstrip("0").rstrip(".")


def share(value: float | None, digits: int = 0) -> str:
    """Format a share in percent; a missing one is a dash."""
    return MISSING if value is None else f"{number(100 * value, digits)} %"
