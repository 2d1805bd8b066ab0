"""Download of one file over HTTP.

`requests` does the protocol: proxies of the environment, redirects, TLS.  `urllib3.util.Retry`
counts failures and waits.  Resuming after a cut, of the connection or of the process, is added
here.
"""

import argparse
import io
import json
import logging
import re
import shutil
from dataclasses import dataclass, field, fields
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import requests
from requests import exceptions
from urllib3.exceptions import InvalidHeader, MaxRetryError
from urllib3.util import Retry

from hrnetpose import files
from hrnetpose.progress import Progress
from hrnetpose.stage import StageError

PIECE = 1 << 16
LONGEST_WAIT = 60
"""Seconds between two attempts, at most."""
ADVANCE = 1 << 20
"""Bytes; so much progress makes the count of failures start again."""
TRANSIENT = {408, 425, 429, 500, 502, 503, 504}


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"type": type(default), "help": text})


@dataclass(frozen=True)
class RetryPolicy:
    """Retry policy for one server; each attribute is an option of the stages that download."""

    attempts: int = _option(5, "consecutive failures to give up at")
    timeout: float = _option(60.0, "seconds without an answer that are a failure")
    backoff: float = _option(1.0, "seconds; retry n > 1 waits backoff * 2^(n-1), the first not")

    @classmethod
    def add_options(cls, command: argparse.ArgumentParser) -> None:
        """Add an option for each attribute to a stage command."""
        for one in fields(cls):
            command.add_argument(f"--{one.name}", default=one.default, **one.metadata)


class TransferError(StageError):
    """A source does not have the file."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{display(source)}: {reason}")


class _TransientError(Exception):
    """A failure that a retry may mend, and the answer that says so, if there is one."""

    def __init__(self, reason: str, answer: Any = None) -> None:
        super().__init__(reason)
        self.answer = answer


def download(
    url: str, partial: Path, policy: RetryPolicy, size: int | None = None, label: str = ""
) -> None:
    """Download a URL into a file; resume what an earlier call has left there.

    The bytes that are there are used if the server says that the file is still the same (ETag, or
    Last-Modified); otherwise it starts again.

    Args:
        url: http or https.
        partial: where the bytes go; `PARTIAL.json` beside it says what they are the beginning of.
        policy: when to retry and to give up.
        size: the file's length in bytes, if it is known.
        label: shown with the progress; empty: show none.

    Raises:
        TransferError: the file is not available; `partial` holds what came, if it can be resumed.
        StageError: the disk is full.
    """
    retry = fresh = Retry(
        total=policy.attempts - 1,
        backoff_factor=policy.backoff,
        backoff_jitter=policy.backoff / 2,
        backoff_max=LONGEST_WAIT,
        retry_after_max=LONGEST_WAIT,
    )
    furthest = _length(partial)
    while True:
        try:
            return _attempt(url, partial, policy.timeout, size, label)
        except _TransientError as error:
            failure = error
        if _length(partial) >= furthest + ADVANCE:
            furthest, retry = _length(partial), fresh
        try:
            retry = retry.increment(error=failure)
        except MaxRetryError:
            raise TransferError(url, f"{failure} ({policy.attempts} attempts)") from failure
        logging.info("%s: %s; trying again", display(url), failure)
        try:
            retry.sleep(failure.answer)
        except InvalidHeader:  # an odd Retry-After
            retry.sleep()


def can_resume(partial: Path) -> bool:
    """Return True if `download` can resume what is there."""
    return _state_file(partial).is_file() and _length(partial) > 0


def discard(partial: Path) -> None:
    """Delete what `download` has left."""
    _state_file(partial).unlink(missing_ok=True)
    partial.unlink(missing_ok=True)


def display(source: str) -> str:
    """Return a source for messages: a URL without user name and password."""
    if not files.is_url(source):
        return source
    parts = urlsplit(source)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


class _State(NamedTuple):
    """What the bytes in a partial file are the beginning of."""

    source: str
    validator: str
    """A strong ETag, or Last-Modified."""
    total: int | None
    """The length of the whole file, if it is known."""


def _read_state(partial: Path, url: str) -> _State | None:
    try:
        state = _State(*json.loads(_state_file(partial).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return state if state.source == display(url) else None


def _state_file(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _attempt(url: str, partial: Path, timeout: float, size: int | None, label: str) -> None:
    """Ask once for what is missing of a file, and write what comes."""
    state, have = _read_state(partial, url), _length(partial)
    if state and state.total == have:
        return  # interrupted between the last byte and the check
    headers = {"Accept-Encoding": "identity"}
    if state and have:
        headers |= {"Range": f"bytes={have}-", "If-Range": state.validator}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=timeout) as response:
            _receive(response, url, partial, state, size, label)
    except exceptions.SSLError as error:
        raise TransferError(url, f"no secure connection: {_cause(error, timeout)}") from error
    except (
        exceptions.ConnectionError, exceptions.Timeout, exceptions.ChunkedEncodingError
    ) as error:  # fmt: skip
        raise _TransientError(_cause(error, timeout)) from error
    except (requests.RequestException, ValueError) as error:  # a redirect to what is no URL
        raise TransferError(url, str(error).replace(url, display(url))) from error


def _receive(
    response: Any, url: str, partial: Path, state: _State | None, size: int | None, label: str
) -> None:
    """Write the body of a response: behind the bytes that `state` is about, or from the start."""
    have, total = _extent(response, url, partial, state)
    pieces = response.iter_content(PIECE)
    first = next(pieces, b"")
    if page := files.describe_stand_in(first):
        raise TransferError(url, f"the server sent {page}")
    if size is not None and total not in (None, size):
        raise TransferError(url, f"the server offers {total} bytes, expected {size}")
    if not have:
        discard(partial)
        if (validator := _validator(response.headers)) and _is_plain(response):
            state = _State(display(url), validator, total)
            files.write_text(_state_file(partial), json.dumps(state))
    _require_space(partial, (total or 0) - have)
    # Unbuffered, so that a killed process leaves all that has come.
    with Progress(label, total, have) as progress, partial.open("ab", buffering=0) as file:
        for piece in chain([first], pieces):
            _write(file, piece)
            progress.advance(len(piece))
    if total not in (None, _length(partial)):
        raise _TransientError(f"the connection broke off at {_length(partial)} of {total} bytes")


def _extent(response: Any, url: str, partial: Path, state: _State | None) -> tuple[int, int | None]:
    """Return how many bytes precede the body of a response, and the file's length, if known."""
    status, headers = response.status_code, response.headers
    if status in TRANSIENT:
        raise _TransientError(f"{status} {response.reason}", response.raw)
    # Some servers send a part with the status of a whole file.
    if status in (206, 416) or (status == 200 and "Content-Range" in headers):
        have = _length(partial) if state else 0
        part = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
        # Some servers know ranges and not If-Range.
        same = not state or _validator(headers) in (None, state.validator)
        if not part or int(part[1]) != have or not same:
            discard(partial)
            raise _TransientError("the file has changed on the server")
        return have, None if part[2] == "*" else int(part[2])
    if status != 200:
        raise TransferError(url, f"{status} {response.reason}")
    length = headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() and _is_plain(response) else None


def _validator(headers: Any) -> str | None:
    """Return what identifies this version of the file; a weak ETag does not."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified")


def _is_plain(response: Any) -> bool:
    """Return False for a compressed transfer: its length is not the file's, and it has no parts."""
    return "Content-Encoding" not in response.headers


def _require_space(partial: Path, needed: int) -> None:
    free = shutil.disk_usage(partial.parent).free
    if needed > free:
        raise StageError(
            f"{partial.parent}: {needed / 1e6:.0f} MB are needed and {free / 1e6:.0f} MB are free; "
            "make room and run again"
        )


def _write(file: io.FileIO, piece: bytes) -> None:
    try:
        while piece:
            piece = piece[file.write(piece) :]
    except OSError as error:
        raise StageError(f"{file.name}: {error.strerror}; make room and run again") from error


def _cause(error: BaseException, timeout: float) -> str:
    """Return why a connection failed; the libraries' own texts show Python objects."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    if isinstance(error, TimeoutError):
        return f"no answer for {timeout:g} s"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "the connection broke off"
