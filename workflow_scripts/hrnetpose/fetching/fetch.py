"""Files from elsewhere: downloaded or copied, checked, and only then given their name."""

import logging
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from filelock import FileLock, Timeout

from hrnetpose import archives, files
from hrnetpose.fetching import transfer
from hrnetpose.fetching.transfer import RetryPolicy, TransferError
from hrnetpose.stage import StageError


def fetch(
    sources: Sequence[str],
    output: Path,
    sha256: str = "",
    size: int | None = None,
    policy: RetryPolicy | None = None,
    otherwise: str = "",
) -> str:
    """Fetch a file from the first mirror that has the right one.

    A file that exists with the right hash stays as it is.  An interrupted transfer leaves
    `.NAME.partial` beside `output`, and the next one resumes it.  If several processes fetch the
    same file, one does and the others wait for it.

    Args:
        sources: http, https and file URLs, and paths; tried in this order.
        output: where it goes.
        sha256: its hash or the first digits of it; not checked if empty.
        size: its length in bytes; not checked if None.
        policy: when to retry and to give up on a server.
        otherwise: what else the user can do without the file, for the message.

    Returns:
        The whole hash.

    Raises:
        StageError: no source has it, or only another file than expected; its `details` say what
            happened with each source.  `output` is as it was.
    """
    before = _identity(output)
    failures = []
    with exclusive(output) as partial:
        if output.is_file() and (sha256 or _identity(output) != before):
            found = files.known_sha256(output)
            if found.startswith(sha256):
                logging.info("%s: exists, with sha256 %s", output, found)
                return found
        for source in sources:
            try:
                _copy_or_download(source, partial, policy or RetryPolicy(), size, output.name)
                found = _check(source, partial, sha256, size, is_zip=output.suffix == ".zip")
            except TransferError as error:
                failures.append(str(error))
                logging.info("%s", error)
                continue
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(output)
            files.remember_sha256(output, found)
            logging.info("%s: from %s, sha256 %s", output, transfer.display(source), found)
            return found
    reason = failures[0] if failures else f"{output}: the configuration names no source"
    hashed = f" (sha256 {sha256})" if sha256 else ""
    raise StageError(
        f"{reason}; on a machine without internet, put the file at {output}{hashed} by hand"
        + (f", or {otherwise}" if otherwise else ""),
        failures if len(failures) > 1 else [],
    )


@contextmanager
def exclusive(output: Path) -> Iterator[Path]:
    """Yield the partial file of an output, locked against other processes.

    On exit the partial file is deleted, unless a transfer can resume it.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.partial")
    lock = FileLock(output.with_name(f".{output.name}.lock"), fallback_to_soft=False)
    try:
        with suppress(Timeout):
            lock.acquire(blocking=False)
        if not lock.is_locked:
            logging.info("%s: another process is fetching it; waiting", output)
            lock.acquire(poll_interval=0.2)
    except OSError:
        # A file system without locks: the file may be fetched twice at a time, under two names.
        own = f".{output.name}.{socket.gethostname()}.{os.getpid()}.partial"
        partial = output.with_name(own)
    try:
        yield partial
    finally:
        if not (lock.is_locked and transfer.can_resume(partial)):
            transfer.discard(partial)
        # Deleted while it is held: who waits for it notices, and creates a new one.
        with suppress(OSError):
            Path(lock.lock_file).unlink()
        lock.release()


def _copy_or_download(
    source: str, partial: Path, policy: RetryPolicy, size: int | None, label: str
) -> None:
    if files.is_url(source) and not source.startswith("file://"):
        transfer.download(source, partial, policy, size, label)
        return
    transfer.discard(partial)
    path = url2pathname(urlsplit(source).path) if files.is_url(source) else source
    try:
        shutil.copyfile(path, partial)
    except OSError as error:
        raise TransferError(source, f"cannot be copied: {error.strerror}") from error


def _check(source: str, partial: Path, sha256: str, size: int | None, is_zip: bool) -> str:
    """Return the hash of what a source gave; delete it if it is another file than expected.

    Raises:
        TransferError: it is.
    """
    with partial.open("rb") as file:
        page = files.describe_stand_in(file.read(4096))
    found, length = files.sha256(partial), partial.stat().st_size
    problem = None
    if page:
        problem = f"it is {page}"
    elif not found.startswith(sha256):
        problem = f"sha256 is {found}, expected {sha256} ({length} bytes)"
    elif size not in (None, length):
        problem = f"has {length} bytes, expected {size}"
    elif is_zip and not sha256:
        try:
            archives.check_content(partial)
        except StageError as error:
            problem = str(error).replace(str(partial), "the zip")
    if problem:
        transfer.discard(partial)
        raise TransferError(source, f"{problem}; it was not kept")
    return found


def _identity(path: Path) -> tuple[int, int] | None:
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else None
