"""Files from elsewhere: fetched or copied, checked, and only then given their name."""

import fcntl
import logging
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from hrnetpose import files
from hrnetpose.data import archives, transfer
from hrnetpose.data.transfer import Patience, TransferError, shown
from hrnetpose.stage import StageError


def fetch(
    sources: Sequence[str],
    output: Path,
    sha256: str = "",
    size: int | None = None,
    patience: Patience | None = None,
    quiet: bool = False,
    otherwise: str = "",
) -> str:
    """Brings a file here, from the first source that has the right one.

    A file that is there already and has the right hash stays as it is.  What an interrupted
    transfer leaves is `.NAME.partial` beside `output`, and the next one goes on with it.  If
    several processes fetch the same file, one does and the others wait for it.

    Args:
        sources: http, https and file URLs, and paths; tried in this order.
        output: where it goes.
        sha256: its hash or the first digits of it; not checked if empty.
        size: its length in bytes; not checked if None.
        patience: when to give up on a server.
        quiet: no progress is shown, and success is not logged.
        otherwise: what else the user can do without the file, for the message.

    Returns:
        The whole hash.

    Raises:
        StageError: no source has it, or only another file than expected; its `details` say what
            happened with each source.  `output` is as it was.
    """
    if sha256 and output.is_file():
        found = files.sha256(output)
        if found.startswith(sha256):
            logging.info("%s: is there, and has the right hash", output)
            files.remember_sha256(output, found)
            return found
    before = _identity(output)
    failures = []
    with _claimed(output) as partial:
        if _identity(output) not in (None, before):
            found = files.sha256(output)
            if found.startswith(sha256):
                logging.info("%s: another process has fetched it", output)
                return found
        for source in sources:
            try:
                _bring(source, partial, patience or Patience(), size, quiet)
                found = _checked(partial, output, sha256, size)
            except TransferError as error:
                failures.append((shown(source) if files.is_url(source) else source, str(error)))
                logging.info("%s: %s", *failures[-1])
                continue
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            transfer.forget(partial)
            partial.replace(output)
            files.remember_sha256(output, found)
            if not quiet:
                logging.info("%s: from %s, sha256 %s", output, shown(source), found)
            return found
    reason = ": ".join(failures[0]) if failures else f"{output}: the configuration names no source"
    hashed = f" (sha256 {sha256})" if sha256 else ""
    raise StageError(
        f"{reason}; on a machine without internet, put the file at {output}{hashed} by hand"
        + (f", or {otherwise}" if otherwise else ""),
        [f"{source}: {text}" for source, text in failures] if len(failures) > 1 else [],
    )


def local_path(source: str) -> Path | None:
    """Returns the path that a source names, by itself or as a file URL; None for others."""
    if not files.is_url(source):
        return Path(source)
    parts = urlsplit(source)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def _bring(source: str, partial: Path, patience: Patience, size: int | None, quiet: bool) -> None:
    path = local_path(source)
    if path is None:
        transfer.download(source, partial, patience, size, quiet)
        return
    transfer.forget(partial)
    try:
        shutil.copyfile(path, partial)
    except FileNotFoundError as error:
        raise TransferError("there is no such file") from error
    except OSError as error:
        raise TransferError(f"cannot be copied: {error.strerror}") from error


def _checked(partial: Path, output: Path, sha256: str, size: int | None) -> str:
    """Returns the hash of what has come; deletes it if it is not what was expected.

    Raises:
        TransferError: it is another file than expected.
    """
    try:
        with partial.open("rb") as file:
            problem = archives.what_it_is(file.read(4096))
        if problem:
            raise TransferError(f"it is {problem}")
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
        transfer.empty(partial)
        raise
    return found


def _identity(path: Path) -> tuple[int, int] | None:
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else None


@contextmanager
def _claimed(output: Path) -> Iterator[Path]:
    """Yields the partial file of an output, ours alone as long as the block runs.

    The lock is on the partial file itself, so it leaves nothing behind and ends with the process,
    however that ends.  Who gets it after a rename holds a file that has another name by then, and
    starts over.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = common = output.with_name(f".{output.name}.partial")
    while True:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.info("%s: another process is fetching it; waiting", output)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            # A file system without locks: it may be fetched twice at a time, under two names.
            partial.unlink(missing_ok=True)
            os.close(descriptor)
            own = f".{output.name}.{socket.gethostname()}.{os.getpid()}.partial"
            partial = output.with_name(own)
            descriptor = os.open(partial, os.O_RDWR | os.O_CREAT, 0o666)
        if _is_at(descriptor, partial):
            break
        os.close(descriptor)
    try:
        yield partial
    finally:
        # Nothing is kept that cannot be gone on with.  After a rename the name is free for others.
        kept = partial == common and transfer.resumable(partial)
        if _is_at(descriptor, partial) and not kept:
            transfer.forget(partial)
            partial.unlink()
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Tells whether an open file still has this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
