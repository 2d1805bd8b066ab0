"""A path that leads to nothing usable is told with what is wrong with it."""

import multiprocessing
import os
import zipfile
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path

import pytest

from hrnetpose import paths

NOBODY = 65534


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.pth").write_bytes(b"content")
    (tmp_path / "empty.pth").touch()
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.jpg").write_bytes(b"a")
    (tmp_path / "nothing").mkdir()
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("a.jpg", b"a")
    (tmp_path / "dangling.pth").symlink_to("gone.pth")
    (tmp_path / "link.pth").symlink_to("file.pth")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


@pytest.mark.parametrize("path", ["file.pth", "./file.pth", "link.pth", "images/../file.pth"])
def test_a_file_that_is_there_is_right(folder: Path, path: str) -> None:
    assert paths.fault(path) is None


@pytest.mark.parametrize("path", ["images", "images/", "images.zip"])
def test_images_are_a_folder_or_a_zip(folder: Path, path: str) -> None:
    assert paths.fault(path, images=True) is None


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("gone.pth", "there is no such file; correct the path"),
        ("here/there/gone.pth", "there is no such file"),
        ("file.pth/gone.pth", "there is no such file"),
        ("images", "it is a folder; a file is expected"),
        ("file.pth/", "it is a file; leave out the / at the end"),
        ("empty.pth", "the file is empty"),
        ("dangling.pth", "it is a link to gone.pth, which is not there"),
        ("~/file.pth", f"~ is not expanded, write {Path.home()}/file.pth"),
        ("$HOME/file.pth", "variables are not expanded"),
        ("${DATA}/file.pth", "variables are not expanded"),
        ("C:\\data\\file.pth", "as on Windows"),
        ("D:/data/file.pth", "as on Windows"),
        ("images\\a.jpg", "as on Windows"),
        ("file.pth ", "starts or ends with a space"),
        (" file.pth", "starts or ends with a space"),
        ("pipe", "it is neither a file nor a folder"),
        ("x" * 5000, "it cannot be read: File name too long"),
        ("a\0b", "no path has a null character in it"),
        ("gone\n\x1b[31m.pth", "there is no such file"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(folder: Path, path: str, reason: str) -> None:
    said = paths.fault(path)

    assert said
    assert reason in said
    assert said.isprintable()
    assert len(said) < 500


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("nothing", "the folder is empty"),
        ("file.pth", "neither a folder of images nor a zip"),
        ("gone", "there is no such file"),
    ],
)
def test_images_that_are_none(folder: Path, path: str, reason: str) -> None:
    assert reason in str(paths.fault(path, images=True))


@pytest.fixture
def user(folder: Path) -> Iterator[Executor]:
    """A process in the folder that is not root's: root may read everything."""
    folder.chmod(0o755)
    uid = os.geteuid() or NOBODY
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, fork, initializer=os.setuid, initargs=(uid,)) as pool:
        yield pool


@pytest.mark.parametrize(
    ("path", "images", "reason"),
    [
        ("file.pth", False, "it may not be read"),
        ("images", True, "the folder may not be read"),
        ("images/a.jpg", False, "may not be entered"),
    ],
)
def test_what_may_not_be_read(
    folder: Path, user: Executor, path: str, images: bool, reason: str
) -> None:
    assert user.submit(paths.fault, path, images=images).result() is None

    closed = folder / path.partition("/")[0]
    closed.chmod(0)
    said = user.submit(paths.fault, path, images=images).result()
    closed.chmod(0o700)

    assert reason in said


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("data/a.pth", "data/a.pth"),
        ("file:///data/a%20b.pth", "/data/a b.pth"),
        ("https://host/a.pth", None),
    ],
)
def test_only_sources_on_this_machine_have_a_path(source: str, path: str | None) -> None:
    assert paths.local(source) == path
