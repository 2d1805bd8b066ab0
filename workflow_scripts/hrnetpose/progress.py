"""Progress of what takes long: a bar on a terminal, a line in the log now and then."""

import logging
import os
import time
from contextlib import suppress
from typing import Self, TextIO

import filelock
from rich import progress
from rich.console import Console

from hrnetpose import stage

LOG_EVERY = 10.0
"""Seconds between two lines in the log."""


class Progress:
    """Count bytes or things as they arrive; a context manager.

    Args:
        label: what arrives; empty: show and log nothing.
        total: how much there is; None if that is not known.
        done: how much of it was there before.
        in_bytes: False if things are counted.
    """

    def __init__(self, label: str, total: int | None, done: int = 0, in_bytes: bool = True) -> None:
        count = progress.DownloadColumn() if in_bytes else progress.MofNCompleteColumn()
        rate = [progress.TransferSpeedColumn()] if in_bytes else []
        self._columns = [
            count, *rate, progress.TaskProgressColumn(), progress.TimeRemainingColumn()
        ]  # fmt: skip
        self._label = label
        self._terminal = _reserve_terminal() if label else None
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            *self._columns,
            console=Console(file=self._terminal),
            transient=True,
            disable=not self._terminal,
        )
        self._task = self._bar.add_task(label, total=total, completed=done)

    def __enter__(self) -> Self:
        self._logged = time.monotonic()
        self._bar.start()
        return self

    def advance(self, amount: int) -> None:
        """Count what has arrived."""
        self._bar.update(self._task, advance=amount)
        if time.monotonic() - self._logged >= LOG_EVERY:
            self._log()

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()
        if self._terminal:
            self._terminal.close()
        self._log()

    def _log(self) -> None:
        if self._label:
            self._logged = time.monotonic()
            shown = [str(column(self._bar.tasks[0])).strip() for column in self._columns]
            logging.info("%s: %s", self._label, ", ".join(filter(None, shown)))


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
