"""Zip archives from elsewhere: opened only if none of their members can do harm.

Nothing is ever unpacked under a name that an archive gives: images are read in place, and a member
that is extracted goes where the caller says.
"""

import difflib
import errno
import shutil
import stat
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath

from hrnetpose import files
from hrnetpose.stage import StageError

LARGEST_MEMBER = 4 << 30
"""Bytes; COCO's largest annotation file has 0.5 GB."""
LARGEST_RATIO = 200
"""Unpacked over packed size of a member of more than `SMALL` bytes; JSON has 5 to 20."""
SMALL = 16 << 20


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open an archive for reading, after a check of its directory.

    Raises:
        StageError: it is no zip or not a whole one; or a member's name leaves the folder or is
            there twice, a member is a link, is encrypted, or unpacks to far more than it should.
    """
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError as error:
        raise StageError(f"{path}: there is no such zip") from error
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        with path.open("rb") as file:
            problem = files.describe_stand_in(file.read(4096))
        raise StageError(
            f"{path}: {problem or 'not a whole zip'} ({error}); delete it and fetch it again"
        ) from error
    try:
        _refuse_harm(path, archive)
    except StageError:
        archive.close()
        raise
    return archive


def check_content(path: Path) -> None:
    """Read all members of an archive; zipfile compares their checksums.

    Raises:
        StageError: the archive is refused by `open_zip`, or a member is damaged.
    """
    with open_zip(path) as archive:
        for member in archive.infolist():
            with reading(path, f"member {member.filename}"), archive.open(member) as file:
                while file.read(1 << 20):
                    pass


def extract(path: Path, name: str, output: Path) -> None:
    """Write one member of an archive to a file.

    Raises:
        StageError: the archive is refused by `open_zip`, lacks the member, or holds it damaged.
    """
    with open_zip(path) as archive:
        members = [member.filename for member in archive.infolist() if not member.is_dir()]
        if name not in members:
            close = difflib.get_close_matches(name, members, n=3, cutoff=0.3)
            raise StageError(
                f"{path}: holds no {name}; it holds {', '.join(close or members[:3])}"
                f"{' and more' if len(members) > 3 else ''}"
            )
        with (
            files.atomic_path(output) as temporary,
            reading(path, f"member {name}"),
            archive.open(name) as source,
            temporary.open("wb") as target,
        ):
            shutil.copyfileobj(source, target, 1 << 20)


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn what zipfile and zlib raise for a damaged member into a StageError that names it."""
    try:
        yield
    except OSError as error:
        # EINVAL: the zip says that a member begins before the file does.  Others are of the disk.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise StageError(f"{path}: {what} is damaged: {error}") from error
    except StageError:
        raise
    except Exception as error:  # bad CRC, unknown compression, truncated: many kinds
        reason = str(error) or type(error).__name__
        raise StageError(f"{path}: {what} is damaged: {reason}; fetch it again") from error


def _refuse_harm(path: Path, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    for member in members:
        problem = _problem(member)
        if problem:
            raise StageError(f"{path}: member {member.filename!r} {problem}; the zip is refused")
    counts = Counter(PureWindowsPath(member.filename).as_posix() for member in members)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise StageError(f"{path}: member {twice[0]!r} is there twice; the zip is refused")
    # Members that share their data, or many small ones, unpack to any amount, each innocent.
    size = path.stat().st_size
    unpacked = sum(member.file_size for member in members)
    if sum(member.compress_size for member in members) > size or unpacked > max(
        SMALL, LARGEST_RATIO * size
    ):
        raise StageError(
            f"{path}: unpacks from {size} to {unpacked} bytes, as a zip bomb; the zip is refused"
        )


def _problem(member: zipfile.ZipInfo) -> str | None:
    """Return what is wrong with a member, or None; its name is judged by all systems' rules."""
    name = PureWindowsPath(member.filename)
    if name.drive or name.root or ".." in name.parts:
        return "would leave the folder"
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device, not a file"
    if member.flag_bits & 1:
        return "is encrypted"
    if member.file_size > LARGEST_MEMBER:
        return f"unpacks to {member.file_size} bytes, more than {LARGEST_MEMBER}"
    if member.file_size > max(SMALL, LARGEST_RATIO * member.compress_size):
        return f"unpacks from {member.compress_size} to {member.file_size} bytes, as a zip bomb"
    return None
