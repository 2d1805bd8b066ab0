"""Compare two runs of `make bench` on one machine; say what got slower, and exit with 1 if any did.

python tools/bench/compare_bench.py old/bench.json results/bench.json
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from tabulate import tabulate

from hrnetpose import stage
from hrnetpose.stage import StageError

SAME = ("cpu", "features", "cores", "gpu", "memory_bytes")
"""What must be the same of two hosts."""
NOISE = 0.05
"""Figures of the same code differ by so much; more, if their own rounds do."""


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument("before", type=Path, help="bench.json")
    command.add_argument("after", type=Path, help="bench.json")
    return command


def main(*, before: Path, after: Path) -> None:
    """Compare."""
    old, new = read(before), read(after)
    for key in SAME:
        if old["host"].get(key) != new["host"].get(key):
            raise StageError(
                f"{after}: host.{key} is {new['host'].get(key)!r}, but {before} was "
                f"measured where it is {old['host'].get(key)!r}; speeds of two machines do not "
                "compare"
            )
    if old["data"] != new["data"]:
        raise StageError(f"{after}: measured on {new['data']} images, {before} on {old['data']}")
    shared = [name for name in old["figures"] if name in new["figures"]]
    rows = [compare(name, old["figures"][name], new["figures"][name]) for name in shared]
    notes = [
        ", ".join(
            f"INVALID in {path}"
            for run, path in ((old, before), (new, after))
            if name in run["disturbances"]
        )
        for name in shared
    ]
    header = ["figure", "before", "after", "change", "noise", "verdict", ""]
    table = tabulate(
        [(*row, note) for row, note in zip(rows, notes, strict=True)],
        header,
        "simple",
        disable_numparse=True,
        colalign=["left", *["right"] * 4, "left", "left"],
    )
    print(table)
    slower = [
        line for line, row in zip(table.splitlines()[2:], rows, strict=True) if row[-1] == "slower"
    ]
    if slower:
        raise StageError(f"{len(slower)} figures got slower, beyond noise", slower)


def compare(name: str, before: list[float], after: list[float]) -> tuple[str, ...]:
    """Return a row of the table; its last cell is the verdict.

    Args:
        name: of the figure; more is better.
        before: its values, one for each round.
        after: the same, later.
    """
    old, new = statistics.fmean(before), statistics.fmean(after)
    noise = max(NOISE, *((max(v) - min(v)) / statistics.fmean(v) for v in (before, after)))
    change = new / old - 1
    verdict = "slower" if change < -noise else "faster" if change > noise else "same"
    return name, f"{old:.3f}", f"{new:.3f}", f"{change:+.1%}", f"{noise:.1%}", verdict


def read(path: Path) -> dict[str, Any]:
    """Read what `make bench` wrote.

    Raises:
        StageError: the file is missing, or is something else.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise StageError(f"{path}: there is no such file; `make bench` writes it") from error
    except ValueError as error:
        raise StageError(f"{path}: not JSON ({error}); run `make bench` again") from error
    if not isinstance(content, dict) or content.get("schema") != 1 or "figures" not in content:
        raise StageError(f"{path}: not a bench.json of this version; run `make bench` again")
    return content


if __name__ == "__main__":
    stage.run(parser(), main)
