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

from hrnetpose import files
from hrnetpose.data import archives
from hrnetpose.fetching import transfer
from hrnetpose.fetching.transfer import RetryPolicy, TransferError
from hrnetpose.stage import StageError


def fetch(
    sources: Sequence[str],
    output: Path,
    sha256: str = "",
    size: int | None = None,
    policy: RetryPolicy | None = None,
    quiet: bool = False,
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
        quiet: show no progress, and do not log success.
        otherwise: what else the user can do without the file, for the message.

    Returns:
        The whole hash.

    Raises:
        StageError: no source has it, or only another file than expected; its `details` say what
            happened with each source.  `output` is as it was.
    """
    if sha256 and (found := _matching_hash(output, sha256)):
        logging.info("%s: exists, with the right hash", output)
        return found
    before = _identity(output)
    failures = []
    with exclusive(output) as partial:
        if _identity(output) != before and (found := _matching_hash(output, sha256)):
            logging.info("%s: another process has fetched it", output)
            return found
        for source in sources:
            try:
                _copy_or_download(source, partial, policy or RetryPolicy(), size, quiet)
                found = _verify(partial, output, sha256, size)
            except TransferError as error:
                failures.append(f"{transfer.display(source)}: {error}")
                logging.info("%s", failures[-1])
                continue
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(output)
            files.remember_sha256(output, found)
            if not quiet:
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
        try:
            lock.acquire(blocking=False)
        except Timeout:
            logging.info("%s: another process is fetching it; waiting", output)
            lock.acquire(poll_interval=0.2)
    except OSError:
        # A file system without locks: the file may be fetched twice at a time, under two names.
        own = f".{output.name}.{socket.gethostname()}.{os.getpid()}.partial"
        partial = output.with_name(own)
    try:
        yield partial
    finally:
        if not (lock.is_locked and transfer.resumable(partial)):
            transfer.discard(partial)
        # Deleted while it is held: who waits for it notices, and creates a new one.
        with suppress(OSError):
            Path(lock.lock_file).unlink()
        lock.release()


def local_path(source: str) -> Path | None:
    """Return the path that a source names, by itself or as a file URL; None for other URLs."""
    if not files.is_url(source):
        return Path(source)
    parts = urlsplit(source)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def _copy_or_download(
    source: str, partial: Path, policy: RetryPolicy, size: int | None, quiet: bool
) -> None:
    path = local_path(source)
    if path is None:
        transfer.download(source, partial, policy, size, quiet)
        return
    transfer.discard(partial)
    try:
        shutil.copyfile(path, partial)
    except FileNotFoundError as error:
        raise TransferError("there is no such file") from error
    except OSError as error:
        raise TransferError(f"cannot be copied: {error.strerror}") from error


def _verify(partial: Path, output: Path, sha256: str, size: int | None) -> str:
    """Return the hash of what has come; delete it if it is not what was expected.

    Raises:
        TransferError: it is another file than expected.
    """
    try:
        with partial.open("rb") as file:
            page = archives.describe_html(file.read(4096))
        if page:
            raise TransferError(f"it is {page}")
        found = files.sha256(partial)
        length = partial.stat().st_size
        if not found.startswith(sha256):
            raise TransferError(
                f"sha256 is {found}, expected {sha256} ({length} bytes); it is not the right file, "
                "or it is damaged, and was deleted"
            )
        if size not in (None, length):
            raise TransferError(f"has {length} bytes, expected {size}, and was deleted")
        if output.suffix == ".zip" and not sha256:
            try:
                archives.check_content(partial)
            except StageError as error:
                raise TransferError(str(error).replace(str(partial), "the zip")) from error
    except TransferError:
        transfer.discard(partial)
        raise
    return found


def _matching_hash(path: Path, sha256: str) -> str | None:
    """Return the whole hash of a file if it begins as expected."""
    found = files.known_sha256(path) if path.is_file() else None
    return found if found and found.startswith(sha256) else None


def _identity(path: Path) -> tuple[int, int] | None:
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else None
