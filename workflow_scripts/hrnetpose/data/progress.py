"""How far a long transfer is: a bar on a terminal, sober lines in the log."""

import fcntl
import logging
import os
import time
from contextlib import suppress
from typing import Any, Self, TextIO

from hrnetpose import stage

LOG_EVERY = 10.0
"""Seconds between two lines in the log."""


class Progress:
    """Counts bytes, or things, on their way; a context manager.

    Args:
        label: what is on its way.
        total: how much there is; None if that is not known.
        done: how much of it was there before.
        unit: "bytes", or the plural of what is counted.
    """

    def __init__(self, label: str, total: int | None, done: int = 0, unit: str = "bytes") -> None:
        self._label, self._total, self._done, self._unit = label, total, done, unit
        self._started_with = done
        self._bar: Any = None
        self._turn: TextIO | None = None

    def __enter__(self) -> Self:
        self._started = self._logged = time.monotonic()
        terminal = stage.terminal()
        if terminal:
            self._turn = _turn_on(terminal)
        if terminal and self._turn:
            self._bar = _bar(terminal, self._unit)
            self._task = self._bar.add_task(
                self._label, total=self._total, completed=self._started_with
            )
            self._bar.start()
        return self

    def advance(self, amount: int) -> None:
        """Says that so much more is there."""
        self._done += amount
        if self._bar:
            self._bar.update(self._task, completed=self._done)
        if time.monotonic() - self._logged >= LOG_EVERY:
            self._logged = time.monotonic()
            logging.info("%s: %s", self._label, self._state())

    def __exit__(self, *exception: object) -> None:
        if self._bar:
            self._bar.stop()
        if self._turn:
            self._turn.close()
        logging.info("%s: %s", self._label, self._state())

    def _state(self) -> str:
        seconds = max(time.monotonic() - self._started, 1e-3)
        rate = (self._done - self._started_with) / seconds
        parts = [_amount(self._done, self._unit)]
        if self._total:
            parts = [
                f"{_amount(self._done, self._unit)} of {_amount(self._total, self._unit)}",
                f"{self._done / self._total:.0%}",
            ]
        parts.append(f"{_amount(rate, self._unit)}/s")
        if self._total and rate and self._done < self._total:
            parts.append(f"{(self._total - self._done) / rate:.0f} s left")
        return ", ".join(parts)


def _amount(number: float, unit: str) -> str:
    if unit != "bytes":
        return f"{number:.4g}"
    for name, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:.1f} {name}"
    return f"{number:.0f} bytes"


def _turn_on(terminal: TextIO) -> TextIO | None:
    """Reserves the terminal: bars of several processes would overwrite each other.

    A lock belongs to an open file, and the processes of one shell share theirs: hence a new one.
    """
    with suppress(OSError):
        own = open(os.ttyname(terminal.fileno()), "w")  # noqa: SIM115 - closed with the bar
        try:
            fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            own.close()
        else:
            return own
    return None


def _bar(terminal: TextIO, unit: str) -> Any:
    from rich import progress
    from rich.console import Console

    columns: list[Any] = [progress.TextColumn("{task.description}"), progress.BarColumn()]
    if unit == "bytes":
        columns += [progress.DownloadColumn(), progress.TransferSpeedColumn()]
    else:
        columns += [progress.MofNCompleteColumn(), progress.TextColumn(unit)]
    columns.append(progress.TimeRemainingColumn())
    return progress.Progress(*columns, console=Console(file=terminal), transient=True)
