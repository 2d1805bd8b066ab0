"""One file over HTTP, through all that happens to transfers.

`requests` does the protocol: proxies of the environment, redirects, TLS.  What it lacks is here:
going on after a cut, whether of the connection or of the process.
"""

import argparse
import http.client
import json
import logging
import random
import re
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from itertools import chain
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

from hrnetpose import files
from hrnetpose.data import archives
from hrnetpose.data.progress import Progress
from hrnetpose.stage import StageError

PIECE = 1 << 16
LONGEST_WAIT = 60.0
"""Seconds between two attempts, at most."""
ADVANCE = 1 << 20
"""Bytes; an attempt that brought so many more was no failure."""
TRANSIENT = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Patience:
    """How long a server is borne with.

    Attributes:
        attempts: failures in a row, without a megabyte of progress, before giving up.
        timeout: seconds without an answer that are a failure.
        backoff: seconds to wait after the first failure; twice as long after each further one.
    """

    attempts: int = 5
    timeout: float = 60.0
    backoff: float = 1.0

    @classmethod
    def add_options(cls, command: argparse.ArgumentParser) -> None:
        """Gives a stage command an option for each."""
        command.add_argument(
            "--attempts", type=int, default=cls.attempts, help="failures in a row to give up at"
        )
        command.add_argument(
            "--timeout", type=float, default=cls.timeout, help="seconds without an answer"
        )
        command.add_argument(
            "--backoff", type=float, default=cls.backoff, help="seconds before the second attempt"
        )

    @classmethod
    def given(cls, args: argparse.Namespace) -> Self:
        """Returns what those options say."""
        return cls(args.attempts, args.timeout, args.backoff)


class TransferError(Exception):
    """A file cannot be had from a URL; the text says why."""


class _BrokenError(Exception):
    """A failure that may pass, and when the server wants to be asked again (seconds)."""

    def __init__(self, text: str, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after = retry_after


def download(
    url: str, partial: Path, patience: Patience, size: int | None = None, quiet: bool = False
) -> None:
    """Fetches a URL into a file, and goes on with what an earlier call has left there.

    The beginning that is there is used if the server says that the file is still the same (by
    ETag, or Last-Modified); otherwise it starts again.

    Args:
        url: http or https.
        partial: where the bytes go; what it is made of is written in `PARTIAL.json` beside it.
        patience: when to give up.
        size: the file's length in bytes, if it is known.
        quiet: no progress is shown.

    Raises:
        TransferError: it cannot be had; `partial` holds what came, if it can be gone on with.
        StageError: the disk is full.
    """
    failures = 0
    furthest = _length(partial)
    while True:
        try:
            _attempt(url, partial, patience, size, quiet)
            return
        except _BrokenError as broken:
            if _length(partial) >= furthest + ADVANCE:
                furthest = _length(partial)
                failures = 0
            failures += 1
            if failures >= patience.attempts:
                raise TransferError(f"{broken} ({failures} attempts)") from broken
            wait = patience.backoff * 2 ** (failures - 1) * random.uniform(0.75, 1.25)  # noqa: S311
            wait = min(max(wait, broken.retry_after), LONGEST_WAIT)
            logging.info("%s: %s; trying again in %.1f s", shown(url), broken, wait)
            time.sleep(wait)


def empty(partial: Path) -> None:
    """Forgets what a transfer has left; the file itself stays, since a lock may be on it."""
    forget(partial)
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.open("wb").close()


def resumable(partial: Path) -> bool:
    """Tells whether `download` could go on with what it has left."""
    return _State.read(partial) is not None and _length(partial) > 0


def forget(partial: Path) -> None:
    """Deletes what `download` wrote about its progress; the file itself stays."""
    _state_file(partial).unlink(missing_ok=True)


def shown(url: str) -> str:
    """Returns a URL as messages show it: without user name and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


@dataclass(frozen=True)
class _State:
    """What the bytes in a partial file are the beginning of."""

    url: str
    validator: str
    """A strong ETag or a Last-Modified."""
    total: int | None

    @classmethod
    def read(cls, partial: Path) -> "_State | None":
        try:
            return cls(**json.loads(_state_file(partial).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, partial: Path) -> None:
        files.write_text(_state_file(partial), json.dumps(vars(self)))


def _state_file(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _attempt(url: str, partial: Path, patience: Patience, size: int | None, quiet: bool) -> None:
    import requests

    state = _State.read(partial)
    if state and state.url != shown(url):
        state = None
    have = _length(partial) if state else 0
    if state and state.total == have:
        return  # interrupted between the last byte and the check
    headers = {"Accept-Encoding": "identity"}
    if state and have:
        headers |= {"Range": f"bytes={have}-", "If-Range": state.validator}
    try:
        with (
            requests.Session() as session,
            session.get(url, headers=headers, stream=True, timeout=patience.timeout) as response,
        ):
            _receive(response, shown(url), partial, state, have, size, quiet)
    except requests.exceptions.SSLError as error:
        raise TransferError(f"no secure connection: {_root(error)}") from error
    except (
        requests.exceptions.TooManyRedirects,
        requests.exceptions.InvalidSchema,
        requests.exceptions.MissingSchema,
        requests.exceptions.InvalidURL,
        requests.exceptions.ContentDecodingError,
    ) as error:
        raise TransferError(str(error)) from error
    except requests.RequestException as error:
        raise _BrokenError(_reason(error, patience.timeout)) from error


def _receive(
    response: Any,
    url: str,
    partial: Path,
    state: _State | None,
    have: int,
    size: int | None,
    quiet: bool,
) -> None:
    """Writes the body of a response behind the `have` bytes that are there, or in their place."""
    status = response.status_code
    if status == 416:  # there is nothing behind the bytes that are here
        empty(partial)
        raise _BrokenError("the file has changed on the server; starting again")
    if status in TRANSIENT:
        raise _BrokenError(f"{status} {response.reason}", _retry_after(response))
    if status not in (200, 206):
        raise TransferError(f"{status} {response.reason}")
    # A compressed transfer has another length than the file, and cannot be gone on with.
    length = response.headers.get("Content-Length")
    plain = "Content-Encoding" not in response.headers
    remaining = int(length) if plain and length and length.isdigit() else None
    if status == 206:
        found = re.fullmatch(
            r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip()
        )
        if not have or not found or int(found[1]) != have:
            empty(partial)
            raise _BrokenError("the server sent another part than was asked for; starting again")
        # Some servers know ranges and not If-Range.
        if state and _validator(response) not in (None, state.validator):
            empty(partial)
            raise _BrokenError("the file has changed on the server; starting again")
        total = int(found[2]) if found[2] != "*" else None
    else:
        if have:
            logging.info("%s: the server starts again from the first byte", url)
        have, total = 0, remaining
    pieces = response.iter_content(PIECE)
    first = next(pieces, b"")
    if not have:
        problem = archives.what_it_is(first)
        if problem:
            raise TransferError(f"the server sent {problem}")
    if size is not None and total not in (None, size):
        raise TransferError(f"the server offers {total} bytes, expected {size}")
    _require_space(partial, (total or 0) - _length(partial))
    if not have:
        empty(partial)
        validator = _validator(response) if plain else None
        if validator:
            _State(url, validator, total).write(partial)
    label = "" if quiet else url.rpartition("/")[2]
    _write(partial, have, chain([first], pieces), total, label)
    if total is not None and _length(partial) != total:
        raise _BrokenError(f"the connection broke off at {_length(partial)} of {total} bytes")


def _write(
    partial: Path, have: int, pieces: Iterator[bytes], total: int | None, label: str
) -> None:
    def put(file: Any, piece: bytes) -> None:
        try:
            file.write(piece)
        except OSError as error:
            raise StageError(f"{partial}: {error.strerror}; make room and run again") from error

    # Unbuffered, so that what has come is in the file when the process is killed.
    with partial.open("r+b", buffering=0) as file:
        file.seek(have)
        file.truncate()
        if not label:
            for piece in pieces:
                put(file, piece)
            return
        with Progress(label, total, have) as progress:
            for piece in pieces:
                put(file, piece)
                progress.advance(len(piece))


def _require_space(partial: Path, needed: int) -> None:
    free = shutil.disk_usage(partial.parent).free
    if needed > free:
        raise StageError(
            f"{partial.parent}: {needed / 1e6:.0f} MB are needed and {free / 1e6:.0f} MB are free; "
            "make room and run again"
        )


def _validator(response: Any) -> str | None:
    """Returns what tells later whether the file is still the same; weak ETags do not."""
    tag = response.headers.get("ETag", "")
    if tag.startswith('"'):
        return tag
    return response.headers.get("Last-Modified")


def _retry_after(response: Any) -> float:
    text = response.headers.get("Retry-After", "")
    if text.isdigit():
        return float(text)
    try:
        return parsedate_to_datetime(text).timestamp() - time.time()
    except (TypeError, ValueError):
        return 0.0


def _root(error: BaseException) -> BaseException:
    """Returns the first of the errors that followed from each other."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return error


def _reason(error: BaseException, timeout: float) -> str:
    """Says what happened to a connection; requests' own texts hold Python objects."""
    text = str(error)
    seen: BaseException | None = error
    while seen:
        match seen:
            case socket.gaierror():
                return f"the host's name cannot be resolved ({seen.strerror})"
            case http.client.RemoteDisconnected():
                return "the server closed the connection without an answer"
            case TimeoutError():
                return f"no answer for {timeout:g} s"
            case ssl.SSLError():
                return f"no secure connection: {seen.reason}"
            case OSError(strerror=str(strerror)) if seen.errno:
                return strerror[0].lower() + strerror[1:]
        seen = seen.__cause__ or seen.__context__
    found = re.search(r"IncompleteRead\((\d+) bytes read, (\d+) more expected\)", text)
    if found:
        return f"the connection broke off, {found[2]} bytes before the end"
    return f"the connection broke off ({text[:200]})" if text else type(error).__name__
