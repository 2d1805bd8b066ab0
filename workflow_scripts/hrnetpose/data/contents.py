"""What a folder or a zip of images holds, whatever its dates: what decides whether crops are stale.

A folder's date does not change when one of its files is written again, and dates change when
nothing else does (a copy, a checkout).  So images are compared by content: a zip by the checksums
in its directory, a folder by hashes, which are kept and only taken again for files whose size or
dates have changed.
"""

import hashlib
import json
import os
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter

from hrnetpose import files

Stamp = tuple[int, int, int]
"""Size, and the times of the last change of content and of the file, in nanoseconds."""

_RECORD = TypeAdapter(dict[str, tuple[int, int, int, str]])
"""Stamps and hashes of files, as the cache keeps them."""

RECENT = 2_000_000_000
"""A file that changed less than this ago (ns) may change again within one tick of its clock."""


def digest(images: Path, cache: Path) -> str:
    """Return a digest of all that `images` holds: names and contents.

    Args:
        images: a folder or a zip.
        cache: a folder in which hashes are kept from one time to the next.  Where it cannot be
            read or written, hashes are taken again.

    Returns:
        A hexadecimal digest; an empty string if there is nothing that can be read.
    """
    try:
        held = _folder(images, cache) if images.is_dir() else _zip(images)
    except (OSError, zipfile.BadZipFile, NotImplementedError):
        return ""  # the stage that reads the images says what is wrong with them
    return hashlib.sha256(json.dumps(sorted(held)).encode()).hexdigest()


def digest_given(path: Path) -> str:
    """Return a digest of the user's own images or of another file, kept in build/contents/."""
    return digest(path, files.CONTENTS) or files.content(path)


def _zip(path: Path) -> list[tuple[str, str]]:
    with zipfile.ZipFile(path) as archive:
        return [(m.filename, f"{m.CRC:08x} {m.file_size}") for m in archive.infolist()]


def _folder(path: Path, cache: Path) -> list[tuple[str, str]]:
    record = cache / f"{hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:16]}.json"
    try:
        known = _RECORD.validate_json(record.read_bytes())
    except (OSError, ValueError):  # no cache yet, or a damaged one
        known = {}
    stamps = dict(_stamps(path))
    changed = [name for name, stamp in stamps.items() if known.get(name, ())[:-1] != stamp]
    with ThreadPoolExecutor(8) as pool:
        hashes = dict(
            zip(changed, pool.map(lambda name: files.sha256(path / name), changed), strict=True)
        )
    held = {name: hashes.get(name) or known[name][-1] for name in stamps}
    if changed or known.keys() != stamps.keys():
        now = time.time_ns()
        kept = {
            name: (*stamp, held[name])
            for name, stamp in stamps.items()
            if now - max(stamp[1:]) > RECENT
        }
        with suppress(OSError):  # a cache: without it, it only takes longer
            files.write_text(record, json.dumps(kept))
    return list(held.items())


def _stamps(path: Path) -> Iterator[tuple[str, Stamp]]:
    """Yield all files below a folder."""
    for file in files.walk(path):
        with suppress(FileNotFoundError):  # a dangling link
            found = os.stat(file)
            yield (
                os.path.relpath(file, path),
                (found.st_size, found.st_mtime_ns, found.st_ctime_ns),
            )
