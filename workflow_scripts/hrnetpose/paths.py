"""What is wrong with a path that somebody wrote, in one line."""

import os
import re
import stat
import zipfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from hrnetpose import files, stage


def local(source: str) -> str | None:
    """Return the path of a source; None if it is a URL of another machine."""
    if not files.is_url(source):
        return source
    return unquote(urlsplit(source).path) if urlsplit(source).scheme == "file" else None


def exists(path: str | Path) -> bool:
    """Return True if there is something at a path."""
    try:
        return os.path.lexists(path)
    except ValueError:  # a null byte
        return False


def is_same(one: str, other: str) -> bool:
    """Return True if two paths lead to the same place, whether or not there is a file."""
    try:
        return os.path.realpath(one) == os.path.realpath(other)
    except ValueError:  # a null byte
        return False


def has_wildcard(path: str) -> bool:
    """Return True if Snakemake would put a value into a path, in the place of braces in it."""
    return re.search(r"\{.*\}", path) is not None


def fault(path: str, *, images: bool = False, is_folder: bool = False) -> str | None:
    """Say why a file cannot be read.

    Args:
        path: as it was written.
        images: a folder or a zip of images is expected, in place of a file.
        is_folder: a folder is as good as a file.

    Returns:
        One line that starts with the path; None if all is well.
    """
    name = stage.name(path)
    try:
        found = os.stat(path)
    except PermissionError:
        return f"{name}: a folder on the way to it may not be entered; give yourself the permission"
    except (OSError, ValueError) as error:
        return f"{name}: {_absent(path, error)}"
    if stat.S_ISDIR(found.st_mode):
        reason = (
            _folder_fault(path) if images or is_folder else "it is a folder; a file is expected"
        )
    elif not stat.S_ISREG(found.st_mode):
        reason = "it is neither a file nor a folder"
    elif not os.access(path, os.R_OK):
        reason = "it may not be read; give yourself the permission (chmod u+r)"
    elif not found.st_size:
        reason = "the file is empty; copy or fetch it again"
    elif images and not zipfile.is_zipfile(path):
        reason = "it is neither a folder of images nor a zip"
    else:
        return None
    return reason and f"{name}: {reason}"


def _folder_fault(path: str) -> str | None:
    if not os.access(path, os.R_OK | os.X_OK):
        return "the folder may not be read; give yourself the permission (chmod u+rx)"
    with os.scandir(path) as entries:
        return None if any(entries) else "the folder is empty"


def _absent(path: str, error: OSError | ValueError) -> str:
    """Say why there is nothing at a path."""
    text = "there is no such file"
    if isinstance(error, ValueError):
        return "no path has a null character in it"
    if os.path.islink(path):
        return f"it is a link to {os.readlink(path)}, which is not there"
    if path.startswith("~"):
        return f"{text}; ~ is not expanded, write {os.path.expanduser(path)}"
    if "$" in path:
        return f"{text}; variables are not expanded, write the path out"
    if re.match(r"[A-Za-z]:[\\/]|.*\\", path):
        return f"{text}; it is written as on Windows, write it as on this machine, with /"
    if path != path.strip():
        return f"{text}; it starts or ends with a space, leave that out"
    if path.endswith("/") and os.path.isfile(path.rstrip("/")):
        return "it is a file; leave out the / at the end"
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        return f"it cannot be read: {error.strerror}"
    folder = Path(path).parent
    while not folder.exists():
        folder = folder.parent
    there = folder != Path(path).parent and folder.name
    return f"{text}{f', only the folder {folder}' if there else ''}; correct the path"
