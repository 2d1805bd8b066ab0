"""The report's rows as plain text, and how figures are written."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from string import ascii_lowercase

from tabulate import tabulate

from hrnetpose.artifacts.accuracy import Delta
from hrnetpose.artifacts.verdicts import Baseline, Recommendation
from hrnetpose.report.numbers import MISSING, number, share
from hrnetpose.report.rows import Row

FAILED = "FAILED"


def labels(rows: Iterable[Row]) -> dict[str, str]:
    """Return a letter for the conditions of each headline AP; none if all AP compare."""
    found = dict.fromkeys(row.accuracy.protocol.conditions for row in rows if row.accuracy)
    if len(found) < 2:
        return {}
    return {label: ascii_lowercase[index % 26] for index, label in enumerate(found)}


def headline(rows: Iterable[Row]) -> str:
    """Return what all headline APs were measured under; empty if it is not the same."""
    protocols = [row.accuracy.protocol for row in rows if row.accuracy]
    for found in ({one.label for one in protocols}, {one.conditions for one in protocols}):
        if len(found) == 1:
            return found.pop()
    return ""


def letter(row: Row, letters: dict[str, str]) -> str:
    """Return the letter of a row's headline AP; none if all compare."""
    return letters.get(row.accuracy.protocol.conditions, "") if row.accuracy else ""


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


def as_csv(rows: Sequence[Row]) -> str:
    """Return the rows for a spreadsheet: figures as the artifacts have them, missing ones empty."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in rows:
        delta, perf, accuracy, engine = row.delta, row.perf, row.accuracy, row.engine
        energy = perf.energy.joules_per_image if perf else None
        writer.writerow(
            [
                _plain_cell(row.name),
                _plain_cell(row.variant.model),
                row.variant.backend,
                row.variant.precision,
                engine.executed.precision if engine else None,
                _plain_cell(accuracy.protocol.label) if accuracy else None,
                row.ap,
                *((delta.AP, *delta.ci95) if delta else (None, None, None)),
                *(
                    (
                        perf.throughput.fps,
                        perf.throughput.interval,
                        perf.batch,
                        perf.throughput.streams,
                        perf.latency_ms.p50,
                        perf.latency_ms.p99,
                        perf.roofline.fraction,
                        "INVALID" if perf.invalid else "VALID",
                    )
                    if perf
                    else (None,) * 8
                ),
                energy,
                engine.bytes if engine else None,
                "; ".join(row.variant.reasons()),
            ]
        )
    return file.getvalue()


def _plain_cell(text: str) -> str:
    """Return a name that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def as_markdown(
    rows: Sequence[Row],
    recommendations: Sequence[Recommendation],
    baseline: Baseline | None,
    warnings: Mapping[str, Sequence[str]],
) -> str:
    """Return the summary for a pull request."""
    letters = labels(rows)
    lines = [f"**{_escape(one.text)}**" for one in recommendations]
    if count := len(failures(rows)):
        lines += ["", f"{count} failure{'s' if count > 1 else ''}:", ""]
        lines += [f"- **{_escape(name)}**: {_escape(reason)}" for name, reason in failures(rows)]
    cells = [[_escape(cell) for cell in _cells(row, letters)] for row in rows]
    lines += ["", *_markdown_table(list(COLUMNS), list(COLUMNS.values()), cells)]
    if letters:
        lines += ["", *(f"- {letter}: {_escape(label)}" for label, letter in letters.items())]
    if baseline:
        lines += [
            "",
            f"Compared with {_escape(baseline.source)}: **{say_baseline(baseline)}**",
            "",
        ]
        changes = [
            [
                _escape(one.variant),
                one.figure,
                number(one.before, DIGITS[one.figure]),
                number(one.now, DIGITS[one.figure]),
                _escape(f"{one.verdict}: {one.reason}" if one.reason else one.verdict),
            ]
            for one in baseline.changes
        ]
        heads = ["variant", "figure", "before", "now", "verdict"]
        lines += _markdown_table(heads, ["left", "left", "right", "right", "left"], changes)
    texts = [text for group in warnings.values() for text in group]
    if texts:
        lines += ["", f"<details><summary>{len(texts)} warnings</summary>", ""]
        lines += [*(f"- {_escape(text)}" for text in texts), "", "</details>"]
    return "\n".join(lines).strip() + "\n"


def _markdown_table(heads: list[str], sides: list[str], cells: list[list[str]]) -> list[str]:
    rules = ["---:" if side == "right" else "---" for side in sides]
    return [f"| {' | '.join(line)} |" for line in (heads, rules, *cells)]


def _escape(text: str) -> str:
    """Return text of a name or message that Markdown and HTML leave as it is, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", " ".join(text.split()))


def say_baseline(baseline: Baseline) -> str:
    """Return how many figures are improved, worse, within noise or refused."""
    counts = Counter[str](change.verdict for change in baseline.changes)
    names = ("worse", "improved", "within noise", "refused")
    return ", ".join(f"{counts[name]} {name}" for name in names if counts[name]) or "nothing"


DIGITS = {"AP": 4, "images/s": 1, "p50 ms": 2}
"""Of the figures that are compared with an older run."""
CSV_COLUMNS = (
    "variant", "model", "backend", "precision", "executed", "protocol", "AP", "change",
    "change_low", "change_high", "images_per_s", "images_per_s_interval", "batch",
    "streams", "p50_ms", "p99_ms", "of_roofline", "speed", "joules_per_image", "bytes", "failures",
)  # fmt: skip

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
    "of roofline": "right",
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
    lines = [_cells(row, letters) for row in rows]
    table = tabulate(
        lines, list(COLUMNS), "simple", disable_numparse=True, colalign=list(COLUMNS.values())
    )
    answers = [*(one.text for one in recommendations), ""] if recommendations else []
    return "\n".join([*_failures(rows), *answers, table, *_notes(rows, warnings)]) + "\n"


def _cells(row: Row, letters: dict[str, str]) -> tuple[str, ...]:
    """Return a row, in the order of `COLUMNS`."""
    return (
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


def _speed(row: Row) -> tuple[str, ...]:
    perf = row.perf
    if perf is None:
        return MISSING, MISSING, MISSING, MISSING, FAILED
    return (
        number(perf.throughput.fps, 1),
        number(perf.latency_ms.p50, 2),
        number(perf.latency_ms.p99, 2),
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
    departures = [
        f"  {row.name}: {row.parity.departure}"
        for row in rows
        if row.parity and row.parity.departure
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
        *(["", "engines:", *departures] if departures else []),
    ]
