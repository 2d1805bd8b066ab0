"""Which of the user's own files a model's config reads: recorded while it is run.

Files that a config names literally are found without running it (config_file.py).  A computed path,
or a module that a module imports, shows only when the config is run: by the export, which writes
the files and their hashes into the model card, where the next plan looks for changes.
"""

import hashlib
import importlib.util
import os
import site
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from hrnetpose import files

_recordings: list[set[str]] = []
"""The names that each open recording has seen.  An audit hook cannot be removed."""


@cache
def _foreign() -> tuple[str, ...]:
    """Return the folders of the interpreter, of packages, of this project and of the system."""
    own = Path(__file__).parents[2]
    folders = {*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()}
    folders |= {sys.prefix, sys.base_prefix, str(own), "/proc", "/sys", "/dev", "/etc"}
    # Caches and settings of libraries.
    folders |= {str(folder) for folder in Path.home().glob(".*")}
    return tuple(os.path.join(os.path.realpath(folder), "") for folder in folders)


def is_own(path: Path) -> bool:
    """Return True if a file is the user's own: of no package, and not of the system."""
    return not os.path.realpath(path).startswith(_foreign())


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if event != "open" or not _recordings:
        return
    path, mode, flags = arguments
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    if isinstance(mode, str):
        reads = mode.startswith("r")
    else:
        reads = isinstance(flags, int) and flags & os.O_ACCMODE == os.O_RDONLY
    if isinstance(path, str) and reads:
        for names in _recordings:
            names.add(os.path.abspath(path))


@cache
def _add_hook() -> None:
    sys.addaudithook(_audit)


@contextmanager
def record(*known: Path | None) -> Iterator[dict[str, str]]:
    """Record which of the user's own files are read or imported.

    Args:
        known: files that are left out: they are inputs already.

    Yields:
        A dictionary that is filled at the end: path, relative if it is below the working
        directory -> SHA-256.
    """
    _add_hook()
    names: set[str] = set()
    hashes: dict[str, str] = {}
    _recordings.append(names)
    try:
        yield hashes
    finally:
        _recordings.remove(names)
    left_out = {path.resolve() for path in known if path}
    for path in sorted({_find_source(name) for name in names}):
        # Files that are gone were temporary.
        if path.is_file() and is_own(path) and path.resolve() not in left_out:
            below = path.is_relative_to(Path.cwd())
            name = path.relative_to(Path.cwd()) if below else path
            hashes[str(name)] = files.sha256(path)


def _find_source(name: str) -> Path:
    """Return the source of a compiled module, and any other file as it is."""
    if name.endswith(".pyc"):
        try:
            return Path(importlib.util.source_from_cache(name))
        except ValueError:
            pass
    return Path(name)


def digest_changes(before: Mapping[str, str]) -> str | None:
    """Compare recorded hashes with the files.

    Hashes are computed again only for files with another size or date.

    Returns:
        None if no file has changed; else a digest of what they hold now.
    """
    now = {name: files.content(Path(name)) for name in before}
    if now == dict(before):
        return None
    return hashlib.sha256(repr(sorted(now.items())).encode()).hexdigest()[:16]
