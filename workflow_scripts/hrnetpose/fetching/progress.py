"""Progress of a long transfer: a bar on a terminal, a line in the log now and then."""

import logging
import os
import time
from contextlib import suppress
from typing import Any, Self, TextIO

import filelock
from rich import filesize, progress
from rich.console import Console

from hrnetpose import stage

LOG_EVERY = 10.0
"""Seconds between two lines in the log."""


class Progress:
    """Counts bytes, or things, on their way; a context manager.

    Args:
        label: what is on its way; empty: show and log nothing.
        total: how much there is; None if that is not known.
        done: how much of it was there before.
        unit: "bytes", or the plural of what is counted.
    """

    def __init__(self, label: str, total: int | None, done: int = 0, unit: str = "bytes") -> None:
        self._label, self._total, self._unit = label, total, unit
        self._start = self._done = done
        self._bar: progress.Progress | None = None
        self._terminal: TextIO | None = None

    def __enter__(self) -> Self:
        self._started = self._logged = time.monotonic()
        self._terminal = _reserve_terminal() if self._label else None
        if self._terminal:
            self._bar = _bar(self._terminal, self._unit)
            self._task = self._bar.add_task(self._label, total=self._total, completed=self._done)
            self._bar.start()
        return self

    def advance(self, amount: int) -> None:
        """Count what has come."""
        self._done += amount
        if self._bar:
            self._bar.update(self._task, completed=self._done)
        if time.monotonic() - self._logged >= LOG_EVERY:
            self._log()

    def __exit__(self, *exception: object) -> None:
        if self._bar:
            self._bar.stop()
        if self._terminal:
            self._terminal.close()
        self._log()

    def _log(self) -> None:
        if not self._label:
            return
        self._logged = time.monotonic()
        rate = (self._done - self._start) / max(self._logged - self._started, 1e-3)
        state = [self._amount(self._done)]
        if self._total:
            state = [
                f"{state[0]} of {self._amount(self._total)}", f"{self._done / self._total:.0%}"
            ]  # fmt: skip
        state.append(f"{self._amount(rate)}/s")
        if self._total and rate and self._done < self._total:
            state.append(f"{(self._total - self._done) / rate:.0f} s left")
        logging.info("%s: %s", self._label, ", ".join(state))

    def _amount(self, number: float) -> str:
        return filesize.decimal(int(number)) if self._unit == "bytes" else f"{number:.4g}"


def _reserve_terminal() -> TextIO | None:
    """Return the terminal, locked until it is closed; None where there is none, or it is taken.

    Bars of several processes would overwrite each other.  A lock belongs to an open file, and the
    processes of one shell share theirs: hence a new one.
    """
    terminal = stage.terminal()
    with suppress(OSError):
        own = open(os.ttyname(terminal.fileno()), "w") if terminal else None  # noqa: SIM115
        if own and filelock.lock_descriptor(own.fileno(), blocking=False):
            return own
    return None


def _bar(terminal: TextIO, unit: str) -> progress.Progress:
    columns: list[Any] = [progress.TextColumn("{task.description}"), progress.BarColumn()]
    if unit == "bytes":
        columns += [progress.DownloadColumn(), progress.TransferSpeedColumn()]
    else:
        columns += [progress.MofNCompleteColumn(), progress.TextColumn(unit)]
    columns.append(progress.TimeRemainingColumn())
    return progress.Progress(*columns, console=Console(file=terminal), transient=True)
