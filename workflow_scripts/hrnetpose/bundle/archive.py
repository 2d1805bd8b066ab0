"""A zip that is the same whenever it is made from the same files."""

import hashlib
import zipfile
from pathlib import Path

from hrnetpose import files
from hrnetpose.bundle.runtime import SUMS_FILE

_DATE = (1980, 1, 1, 0, 0, 0)
_CHUNK = 1 << 20


def write_sums(folder: Path) -> None:
    """Write the SHA-256 of all files of a folder, as `sha256sum -c` reads it."""
    listed = (path for path in _in(folder) if path != folder / SUMS_FILE)
    lines = [f"{files.sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in listed]
    (folder / SUMS_FILE).write_text("".join(lines), encoding="utf-8")


def write_zip(folder: Path, output: Path) -> str:
    """Write all files of a folder as a zip, in a folder of its name; return its SHA-256.

    Args:
        folder: holds the files.
        output: the zip; what is in it lies in a folder of the same name.
    """
    with files.atomic_path(output) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            for path in _in(folder):
                name = f"{output.stem}/{path.relative_to(folder).as_posix()}"
                entry = zipfile.ZipInfo(name, _DATE)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                entry.file_size = path.stat().st_size
                with path.open("rb") as source, archive.open(entry, "w") as target:
                    while chunk := source.read(_CHUNK):
                        target.write(chunk)
        with temporary.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def _in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
