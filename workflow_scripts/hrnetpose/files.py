"""Hashes, and files that appear whole or not at all."""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hrnetpose.stage import StageError

CONTENTS = Path("build/contents")
"""Where digests of files and folders are kept from one plan to the next."""


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def bytes_text(count: float) -> str:
    """Return a number of bytes for a message, in decimal units."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def is_url(source: str) -> bool:
    """Tell a URL from a path."""
    return "://" in source


def known_sha256(path: Path, memory: Path | None = None) -> str:
    """Return the SHA-256 of a file, which is computed again only after the file has changed.

    It is remembered in `memory`, by default `.NAME.sha256` beside the file, with the file's size
    and times.
    """
    memory = memory or _memory(path)
    try:
        known, *stamp = memory.read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        stamp = []
    if stamp == _stamp(path):
        return known
    found = sha256(path)
    remember_sha256(path, found, memory)
    return found


def content(path: Path) -> str:
    """Return the SHA-256 of a file of the user's; an empty string if it cannot be read.

    It is remembered in build/contents/: the folder of a file may be anybody's.
    """
    name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:16]
    try:
        return known_sha256(path, CONTENTS / f"{name}.sha256")
    except OSError:
        return ""


def recall(path: Path, asked: str) -> str | None:
    """Return what `remember` was told of a file, if the file is still the same."""
    try:
        found, *stamp = _answer(path, asked).read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return None
    return found if stamp == _stamp(path) else None


def remember(path: Path, asked: str, answer: str) -> None:
    """Remember, in build/contents/, what is known of a file as long as it stays the same.

    Args:
        path: the file.
        asked: what it was asked.
        answer: one word.
    """
    with suppress(OSError):
        write_text(_answer(path, asked), " ".join([answer, *_stamp(path)]) + "\n")


def _answer(path: Path, asked: str) -> Path:
    name = hashlib.sha256(os.fsencode(path.absolute()) + asked.encode()).hexdigest()[:16]
    return CONTENTS / f"{name}.checked"


def remember_sha256(path: Path, digest: str, memory: Path | None = None) -> None:
    """Write down what `known_sha256` returns as long as the file stays as it is."""
    with suppress(OSError):  # a folder that others own
        write_text(memory or _memory(path), " ".join([digest, *_stamp(path)]) + "\n")


def _memory(path: Path) -> Path:
    return path.with_name(f".{path.name}.sha256")


def _stamp(path: Path) -> list[str]:
    """Return what changes with a file: programs that copy or unpack set its date, not its ctime."""
    status = path.stat()
    return [str(status.st_size), str(status.st_mtime_ns), str(status.st_ctime_ns)]


def describe_stand_in(head: bytes) -> str | None:
    """Return a description if a file begins like what comes in a file's place; else None."""
    if head.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS; run `git lfs pull` where it comes from"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:14].lower() == b"<!doctype html" or text[:5].lower() == b"<html":
        start, end = text.lower().find(b"<title>"), text.lower().find(b"</title>")
        title = " ".join(text[start + 7 : end].decode("utf-8", "replace").split())[:80]
        named = f" ({title!r})" if 0 <= start < end else ""
        return f"an HTML page{named} in place of the file, as proxies and logins send it"
    return None


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` and renames it to `path` on success.

    Readers see the old file, then the new one, never a part of it; on any exception (a full disk,
    a signal) the temporary file is removed and `path` stays as it was.  The temporary name keeps
    the suffix, since some writers choose their format by it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def copy(source: Path, target: Path) -> None:
    """Copy a file's content, atomically."""
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


def walk(path: Path) -> Iterator[str]:
    """Yield all files below a folder, through symbolic links too, but into no folder twice.

    A folder that is there by itself and by a link comes by its own name.
    """
    seen: set[str] = set()
    for folder, inner, names in os.walk(path, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:
            inner.clear()
            continue
        seen.add(real)
        inner.sort(key=lambda name: os.path.islink(os.path.join(folder, name)))
        for name in names:
            yield os.path.join(folder, name)


def read_table(path: Path, columns: Mapping[str, str]) -> dict[str, npt.NDArray[Any]]:
    """Read arrays of a .npz that belong together; pickled objects are refused.

    Args:
        path: the file.
        columns: name -> type and shape, as `float32 N 4`.  A letter is a length that must be the
            same wherever it stands; `str` is text of any length.

    Raises:
        StageError: the file is missing or damaged, or its arrays are others than expected.
    """
    arrays = read_npz(path, columns)
    lengths: dict[str, int] = {}
    for name, form in columns.items():
        kind, *sizes = form.split()
        array = arrays[name]
        fits = array.ndim == len(sizes) and (
            array.dtype.kind == "U" if kind == "str" else array.dtype == np.dtype(kind)
        )
        for size, length in zip(sizes, array.shape, strict=False):
            expected = int(size) if size.isdigit() else lengths.setdefault(size, length)
            fits = fits and length == expected
        if not fits:
            raise StageError(
                f"{path}: {name} is {array.dtype} {list(array.shape)}, expected {form}; delete the "
                "file and run again"
            )
    return arrays


def read_npz(path: Path, names: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
    """Read the named arrays of a .npz; pickled objects are refused.

    Raises:
        StageError: the file is missing or damaged, or lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}
    except Exception as error:  # numpy's, zipfile's and zlib's have no common base
        raise StageError(f"{path}: cannot be read ({error}); delete it and run again") from error
