"""The report's rows as plain text, and how figures are written."""

from collections.abc import Iterable, Sequence
from string import ascii_lowercase

from tabulate import tabulate

from hrnetpose.artifacts.accuracy import Delta
from hrnetpose.artifacts.verdicts import Recommendation
from hrnetpose.report.numbers import MISSING, number, share
from hrnetpose.report.rows import Row

FAILED = "FAILED"


def labels(rows: Iterable[Row]) -> dict[str, str]:
    """Return a letter for each headline protocol, if there are several: they do not compare."""
    found = dict.fromkeys(row.accuracy.protocol.label for row in rows if row.accuracy)
    if len(found) < 2:
        return {}
    return {label: ascii_lowercase[index % 26] for index, label in enumerate(found)}


def letter(row: Row, letters: dict[str, str]) -> str:
    """Return the letter of a row's headline protocol; none if there is but one protocol."""
    return letters.get(row.accuracy.protocol.label, "") if row.accuracy else ""


def fastest(rows: Iterable[Row]) -> Row | None:
    """Return the row with the highest throughput; None if no speed was measured."""
    return max(
        (row for row in rows if row.perf),
        key=lambda row: row.perf.throughput.fps if row.perf else 0.0,
        default=None,
    )


def failures(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Return the name of each row that is not complete with what it lacks and why."""
    return [(row.name, reason) for row in rows for reason in row.variant.reasons()]


def failures_heading(rows: Sequence[Row]) -> str:
    """Return how many rows are not complete, and what to do."""
    count = sum(bool(row.variant.failures) for row in rows)
    return (
        f"NOT COMPLETE: {count} of {len(rows)} rows lack figures; mend the causes and run the same"
        " command again, which makes what is missing"
    )


def interval(delta: Delta | None) -> str:
    """Format a change with its interval."""
    if delta is None:
        return MISSING
    low, high = (number(end, sign=True) for end in delta.ci95)
    return f"{number(delta.AP, sign=True)} [{low}, {high}]"


def published(figures: dict[str, float] | None) -> str:
    """Format figures that somebody else measured."""
    if not figures:
        return MISSING
    names = {"fps": "images/s"}
    return ", ".join(
        f"{names.get(name, name)} {number(value, 1 if name == 'fps' else 3)}"
        for name, value in figures.items()
    )


DISTURBED = "attempts that were disturbed; the first undisturbed one counts"


COLUMNS = {
    "variant": "left",
    "backend": "left",
    "precision": "left",
    "AP": "right",
    "change [95 %]": "right",
    "images/s": "right",
    "p50 ms": "right",
    "p99 ms": "right",
    "of limit": "right",
    "speed": "right",
    "MB": "right",
}


def as_text(
    rows: Sequence[Row],
    recommendations: Sequence[Recommendation] = (),
    warnings: Sequence[str] = (),
) -> str:
    """Return the summary for a terminal; `warnings` say what was found in the data."""
    letters = labels(rows)
    lines = [
        (
            row.name,
            row.variant.backend,
            row.precision,
            FAILED
            if row.variant.lacks("accuracy")
            else f"{number(row.ap)} {letter(row, letters)}".rstrip(),
            interval(row.delta),
            *_speed(row),
            number(row.engine.bytes / 1e6 if row.engine else None, 1),
        )
        for row in rows
    ]
    table = tabulate(
        lines, list(COLUMNS), "simple", disable_numparse=True, colalign=list(COLUMNS.values())
    )
    answers = [*(one.text for one in recommendations), ""] if recommendations else []
    return "\n".join([*_failures(rows), *answers, table, *_notes(rows, warnings)]) + "\n"


def _speed(row: Row) -> tuple[str, ...]:
    perf = row.perf
    if perf is None:
        return MISSING, MISSING, MISSING, MISSING, FAILED
    return (
        number(perf.throughput.fps, 1),
        number(perf.latency_ms.p50, 1),
        number(perf.latency_ms.p99, 1),
        share(perf.roofline.fraction),
        "INVALID" if perf.invalid else "VALID",
    )


def _failures(rows: Sequence[Row]) -> list[str]:
    """Return what is missing and why, for the top."""
    found = [f"  {name}: {reason}" for name, reason in failures(rows)]
    return [f"{failures_heading(rows)}:", *found, ""] if found else []


def _notes(rows: Sequence[Row], warnings: Sequence[str]) -> list[str]:
    """Return what must be known of figures, a paragraph for each kind."""
    invalid = [
        f"  {row.name}: {'; '.join(row.perf.invalid)}"
        for row in rows
        if row.perf and row.perf.invalid
    ]
    verdicts = [
        f"  {row.name}: {row.verdict.text}" for row in rows if row.verdict and row.verdict.text
    ]
    disturbed = [
        f"  {row.name}: {row.perf.disturbed}" for row in rows if row.perf and row.perf.disturbed
    ]
    protocols = [f"  {letter}: {label}" for label, letter in labels(rows).items()]
    return [
        *(["", "found in the data:", *(f"  {text}" for text in warnings)] if warnings else []),
        *(
            ["", "AP of different protocols, which do not compare:", *protocols]
            if protocols
            else []
        ),
        *(["", "speed that cannot be believed:", *invalid] if invalid else []),
        *(["", f"{DISTURBED}:", *disturbed] if disturbed else []),
        *(["", "precisions:", *verdicts] if verdicts else []),
    ]
