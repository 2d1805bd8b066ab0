"""Which files a model's config reads: those of the user's own, recorded while it is run.

What stands in a config literally is found without running it (config_file.py).  A path that is
computed, or a module that a module imports, shows only when the config is run: by the export, which
writes the files and their hashes into the model card, where the next plan looks for changes.
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

_opened: list[set[str]] = []
"""What is being recorded; a hook of Python's stays for good, so it must be told when to listen."""


@cache
def _foreign() -> tuple[str, ...]:
    """Folders of the interpreter, of installed packages, of this project and of the system."""
    own = Path(__file__).parents[2]
    found = {*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()}
    found |= {sys.prefix, sys.base_prefix, str(own), "/proc", "/sys", "/dev", "/etc"}
    # Caches and settings of libraries.
    found |= {str(folder) for folder in Path.home().glob(".*")}
    return tuple(os.path.join(os.path.realpath(folder), "") for folder in found)


def is_own(path: Path) -> bool:
    """Tells whether a file is the user's: it belongs to no package, and not to the system."""
    return not os.path.realpath(path).startswith(_foreign())


def _listen(event: str, arguments: tuple[object, ...]) -> None:
    if event != "open" or not _opened:
        return
    path, mode, flags = arguments
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    reads = mode.startswith("r") if isinstance(mode, str) else isinstance(flags, int) and (
        flags & os.O_ACCMODE == os.O_RDONLY
    )  # fmt: skip
    if isinstance(path, str) and reads:
        for names in _opened:
            names.add(os.path.abspath(path))


@cache
def _start_listening() -> None:
    sys.addaudithook(_listen)


@contextmanager
def recorded(*known: Path | None) -> Iterator[dict[str, str]]:
    """Records which of the user's files are read or imported.

    Args:
        known: files that are left out: they are inputs already.

    Yields:
        A dictionary that is filled at the end: path, relative if it lies below the working
        directory -> SHA-256.
    """
    _start_listening()
    names: set[str] = set()
    found: dict[str, str] = {}
    _opened.append(names)
    try:
        yield found
    finally:
        _opened.remove(names)
    left_out = {path.resolve() for path in known if path}
    for path in sorted({_source(name) for name in names}):
        # What is gone was temporary.
        if path.is_file() and is_own(path) and path.resolve() not in left_out:
            inside = path.is_relative_to(Path.cwd())
            name = path.relative_to(Path.cwd()) if inside else path
            found[str(name)] = files.sha256(path)


def _source(name: str) -> Path:
    """Returns the file that a compiled module was made from, and any other file as it is."""
    if name.endswith(".pyc"):
        try:
            return Path(importlib.util.source_from_cache(name))
        except ValueError:
            pass
    return Path(name)


def changes(before: Mapping[str, str]) -> str | None:
    """Compares recorded hashes with the files as they are.

    Hashes are computed again only for files with another size or date.

    Returns:
        None if all files are as they were; else a digest of what they hold now.
    """
    now = {name: files.content(Path(name)) for name in before}
    if now == dict(before):
        return None
    return hashlib.sha256(repr(sorted(now.items())).encode()).hexdigest()[:16]
