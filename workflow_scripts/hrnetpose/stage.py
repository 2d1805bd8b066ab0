"""What every stage command has in common: its log and the form of its errors.

A stage that fails says why in one line on the terminal, leaves the traceback and that line in its
log and exits with 1.  `StageError` is for causes that the user can act on; its text names the file
or key, the value found, what was expected and the remedy.
"""

import argparse
import datetime
import logging
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NoReturn, TextIO, TypeVar

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")

_terminal: TextIO | None = None


class StageError(Exception):
    """A failure with a cause that the user can mend; its text is shown as it is.

    Args:
        text: one line.
        details: further lines, where there is a list to show.
    """

    def __init__(self, text: str, details: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.details = tuple(details)


def command(doc: str | None) -> argparse.ArgumentParser:
    """Return an argument parser whose help is the script's docstring."""
    return argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )


@dataclass(frozen=True)
class Json(Generic[T]):
    """The type of a flag that is given as JSON: `add_argument(..., type=Json(dict[str, Limits]))`.

    Attributes:
        kind: what the JSON is checked against and becomes.
    """

    kind: type[T]

    def __call__(self, text: str) -> T:
        """Read a flag's value; argparse shows what is wrong with it."""
        try:
            return TypeAdapter(self.kind).validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            key = "".join(f"{name(str(part))}: " for part in first["loc"])
            raise argparse.ArgumentTypeError(f"{shown(text)}: {key}{first['msg']}") from error


def run(parser: argparse.ArgumentParser, main: Callable[..., None]) -> NoReturn:
    """Parse the command line, calls `main` with what it gives, and end the process.

    `main` takes the parser's destinations as keyword arguments, so that types and not a namespace
    go on from here.  Adds `--log FILE`: everything that the stage and its libraries print goes
    there.
    """
    parser.add_argument("--log", type=Path, metavar="FILE", help="write all messages to this file")
    given = vars(parser.parse_args())
    log = given.pop("log")
    # A terminated stage unwinds like a failed one, so that no temporary file is left.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    global _terminal  # noqa: PLW0603 - there is one for each process
    with _output_to(log) as terminal:
        _terminal = terminal
        logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
        start = time.monotonic()
        try:
            main(**given)
            if log:
                print(finished(time.monotonic() - start), file=sys.stderr, flush=True)
        except Exception as error:
            lines = [
                f"{error_prefix(Path(parser.prog).stem)}{describe(error)}",
                *(f"  {line}" for line in getattr(error, "details", ())),
            ]
            print("\n".join(lines), file=terminal, flush=True)
            if log:
                # A disk that is full has no room for the traceback either.
                with suppress(OSError):
                    traceback.print_exc()
                    print("\n".join(lines), file=sys.stderr, flush=True)
            sys.exit(1)
    sys.exit(0)


def finished(seconds: float) -> str:
    """Return what a stage that is done writes into its log: when that was, and how long it took."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return f"finished {now} after {seconds:.1f} s"


FINISHED = re.compile(r"finished (\S+) after ([0-9.]+) s")
"""What `finished` writes."""


def error_prefix(name: str) -> str:
    """Return what the line that tells why a stage failed starts with."""
    return f"{name}: error: "


def terminal() -> TextIO | None:
    """Return the terminal that the stage was started from, None where there is none."""
    return _terminal if _terminal and _terminal.isatty() else None


def shown(value: object, limit: int = 100) -> str:
    """Return a value as Python writes it, on one line and not too long for a message."""
    text = repr(value).replace("\n", " ")  # of arrays, for example
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def name(text: str, limit: int = 300) -> str:
    """Return a key or a path for a message: as it is, or quoted if it cannot be printed so."""
    is_plain = text.isprintable() and text == text.strip() and 0 < len(text) <= limit
    return text if is_plain else shown(text)


def describe(error: BaseException) -> str:
    """Return one line that tells what happened."""
    match error:
        case StageError():
            text = str(error)
        case OSError(filename=str(name), strerror=str(reason)):
            text = f"{name}: {reason}"
        case OSError(strerror=str(reason)):
            text = reason
        case MemoryError():
            text = "out of memory"
        case _:
            # The name of an exception says nothing to who did not write the code.
            text = f"unexpected error: {error}; its traceback is in the log (--log)"
    return " ".join(text.split())


@contextmanager
def _output_to(log: Path | None) -> Iterator[TextIO]:
    """Send file descriptors 1 and 2 to `log`, so that compiled libraries are caught too.

    Yields the stream for the one-line error: the terminal.
    """
    if log is None:
        yield sys.stderr
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    terminal = os.fdopen(os.dup(2), "w")
    with log.open("w") as file:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield terminal
    finally:
        terminal.close()
