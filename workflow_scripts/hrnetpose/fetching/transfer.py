"""Download of one file over HTTP.

`requests` does the protocol: proxies of the environment, redirects, TLS.  `urllib3.util.Retry` is
the retry policy.  Resuming after a cut, of the connection or of the process, is added here.
"""

import argparse
import http.client
import io
import json
import logging
import re
import shutil
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import InvalidHeader, MaxRetryError, ProtocolError
from urllib3.util import Retry

from hrnetpose import files
from hrnetpose.data import archives
from hrnetpose.fetching.progress import Progress
from hrnetpose.stage import StageError

PIECE = 1 << 16
LONGEST_WAIT = 60
"""Seconds between two attempts, at most."""
ADVANCE = 1 << 20
"""Bytes; so much progress makes the count of failures start again."""
TRANSIENT = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class RetryPolicy:
    """Retry policy for one server.

    Attributes:
        attempts: consecutive failures, without a megabyte of progress, before giving up.
        timeout: seconds without an answer that are a failure.
        backoff: the first retry is immediate; retry n waits backoff * 2 ** (n - 1) seconds.
    """

    attempts: int = 5
    timeout: float = 60.0
    backoff: float = 1.0

    @classmethod
    def add_options(cls, command: argparse.ArgumentParser) -> None:
        """Add an option for each attribute to a stage command."""
        for name, text in (
            ("attempts", "consecutive failures to give up at"),
            ("timeout", "seconds without an answer that are a failure"),
            ("backoff", "seconds; retry n waits backoff * 2^(n-1), but the first is immediate"),
        ):
            default = getattr(cls, name)
            command.add_argument(f"--{name}", type=type(default), default=default, help=text)


class TransferError(Exception):
    """A file is not available from a URL; the text says why."""


class _CutError(Exception):
    """A failure after the headers, which a retry may mend."""


class _Retry(Retry):
    """urllib3's policy with messages: each failure is logged, the last one is a TransferError."""

    def __init__(self, source: str, timeout: float, **options: Any) -> None:
        super().__init__(**options)
        self.source, self.timeout = source, timeout

    def new(self, **changes: Any) -> Self:
        return super().new(source=self.source, timeout=self.timeout, **changes)

    def increment(self, *args: Any, **given: Any) -> Self:
        if error := given.get("error"):
            reason = _describe(error, self.timeout)
        else:
            reason = f"{given['response'].status} {given['response'].reason}"
        try:
            following = super().increment(*args, **given)
        except MaxRetryError as exhausted:
            attempts = len(self.history) + 1
            counted = f" ({attempts} attempts)" if attempts > 1 else ""
            raise TransferError(f"{reason}{counted}") from exhausted
        logging.info("%s: %s; trying again", self.source, reason)
        return following

    def parse_retry_after(self, retry_after: str) -> float:
        with suppress(InvalidHeader):
            return super().parse_retry_after(retry_after)
        return 0.0


# Its warnings show Python objects; `_Retry` says the same in words.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


def download(
    url: str, partial: Path, policy: RetryPolicy, size: int | None = None, quiet: bool = False
) -> None:
    """Download a URL into a file; resume what an earlier call has left there.

    The bytes that are there are used if the server says that the file is still the same (ETag, or
    Last-Modified); otherwise it starts again.

    Args:
        url: http or https.
        partial: where the bytes go; `PARTIAL.json` beside it says what they are the beginning of.
        policy: when to retry and to give up.
        size: the file's length in bytes, if it is known.
        quiet: show no progress.

    Raises:
        TransferError: the file is not available; `partial` holds what came, if it can be resumed.
        StageError: the disk is full.
    """
    source = display(url)
    fresh = retry = _Retry(
        source,
        policy.timeout,
        total=policy.attempts - 1,
        other=0,  # TLS
        status_forcelist=TRANSIENT,
        backoff_factor=policy.backoff,
        backoff_jitter=policy.backoff / 2,
        backoff_max=LONGEST_WAIT,
        retry_after_max=LONGEST_WAIT,
    )
    furthest = _length(partial)
    adapter = HTTPAdapter()
    with requests.Session() as session:
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        while True:
            state = _State.read(partial, source)
            if state and state.total == _length(partial):
                return  # interrupted between the last byte and the check
            adapter.max_retries = retry
            try:
                with session.get(
                    url, headers=_headers(partial, state), stream=True, timeout=policy.timeout
                ) as response:
                    retry = response.raw.retries
                    _receive(response, source, partial, state, size, quiet)
                return
            except (
                _CutError,
                requests.exceptions.ChunkedEncodingError,
                requests.exceptions.ConnectionError,
            ) as error:
                if _length(partial) >= furthest + ADVANCE:
                    furthest, retry = _length(partial), fresh
                retry = retry.increment("GET", error=ProtocolError("cut", error))
                retry.sleep()
            except requests.RequestException as error:
                raise TransferError(str(error).replace(url, source)) from error


def resumable(partial: Path) -> bool:
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


@dataclass(frozen=True)
class _State:
    """What the bytes in a partial file are the beginning of."""

    url: str
    validator: str
    """A strong ETag, or Last-Modified."""
    total: int | None

    @classmethod
    def read(cls, partial: Path, url: str) -> "_State | None":
        try:
            state = cls(**json.loads(_state_file(partial).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
        return state if state.url == url else None

    def write(self, partial: Path) -> None:
        files.write_text(_state_file(partial), json.dumps(vars(self)))


def _state_file(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _headers(partial: Path, state: _State | None) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity"}
    if state and (have := _length(partial)):
        headers |= {"Range": f"bytes={have}-", "If-Range": state.validator}
    return headers


def _receive(
    response: Any, source: str, partial: Path, state: _State | None, size: int | None, quiet: bool
) -> None:
    """Write the body of a response: behind the bytes that `state` tells of, or from the start."""
    status, headers = response.status_code, response.headers
    have, total = _length(partial) if state else 0, None
    # A compressed transfer has another length than the file, and cannot be resumed.
    plain = "Content-Encoding" not in headers
    # Some servers send a part with the status of a whole file.
    if status in (206, 416) or (status == 200 and "Content-Range" in headers):
        part = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
        # The validator is compared here too: some servers know ranges and not If-Range.
        same = not state or _validator(headers) in (None, state.validator)
        if not part or int(part[1]) != have or not same:
            discard(partial)
            raise _CutError("the file has changed on the server")
        total = int(part[2]) if part[2] != "*" else None
    elif status != 200:
        raise TransferError(f"{status} {response.reason}")
    else:
        have = 0
        if plain and headers.get("Content-Length", "").isdigit():
            total = int(headers["Content-Length"])
    pieces = response.iter_content(PIECE)
    first = next(pieces, b"")
    if not have and (page := archives.describe_html(first)):
        raise TransferError(f"the server sent {page}")
    if size is not None and total not in (None, size):
        raise TransferError(f"the server offers {total} bytes, expected {size}")
    if not have:
        discard(partial)
        if plain and (validator := _validator(headers)):
            _State(source, validator, total).write(partial)
    _require_space(partial, (total or 0) - have)
    # Unbuffered, so that a killed process leaves all that has come.
    with (
        Progress("" if quiet else source.rpartition("/")[2], total, have) as progress,
        partial.open("ab", buffering=0) as file,
    ):
        for piece in chain([first], pieces):
            _write(file, piece)
            progress.advance(len(piece))
    if total is not None and _length(partial) != total:
        raise _CutError(f"the connection broke off at {_length(partial)} of {total} bytes")


def _write(file: io.FileIO, piece: bytes) -> None:
    rest = memoryview(piece)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise StageError(f"{file.name}: {error.strerror}; make room and run again") from error


def _require_space(partial: Path, needed: int) -> None:
    free = shutil.disk_usage(partial.parent).free
    if needed > free:
        raise StageError(
            f"{partial.parent}: {needed / 1e6:.0f} MB are needed and {free / 1e6:.0f} MB are free; "
            "make room and run again"
        )


def _validator(headers: Any) -> str | None:
    """Return what identifies this version of the file; a weak ETag does not."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified")


def _describe(error: BaseException, timeout: float) -> str:
    """Say what happened to a connection; the libraries' own texts show Python objects."""
    seen: BaseException | None = error
    while seen:
        match seen:
            case _CutError():
                return str(seen)
            case socket.gaierror():
                return f"the host's name cannot be resolved ({seen.strerror})"
            case http.client.RemoteDisconnected():
                return "the server closed the connection without an answer"
            case TimeoutError():
                return f"no answer for {timeout:g} s"
            case ssl.SSLError():
                reason = getattr(seen, "verify_message", "") or seen.reason
                return f"no secure connection: {reason}"
            case OSError(strerror=str(strerror)) if seen.errno:
                return strerror[0].lower() + strerror[1:]
            case OSError(args=(str(text),)) if text.startswith("Tunnel connection failed: "):
                return f"the proxy refuses: {text.partition(': ')[2]}"
        # Some of them hold the cause as an argument.
        inner = (argument for argument in seen.args if isinstance(argument, BaseException))
        seen = next(inner, None) or seen.__cause__ or seen.__context__
    return "the connection broke off"
