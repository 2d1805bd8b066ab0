"""Images are compared by content: dates, order and places say nothing."""

import os
import shutil
import zipfile
from pathlib import Path

import pytest

from hrnetpose import files
from hrnetpose.data import contents


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "images"
    (path / "inner").mkdir(parents=True)
    for name, content in (("a.jpg", b"one"), ("inner/ü b.jpg", b"two")):
        (path / name).write_bytes(content)
        os.utime(path / name, ns=(10**18, 10**18))
    return path


def test_a_copy_has_the_same_digest(folder: Path, tmp_path: Path) -> None:
    before = contents.digest(folder, tmp_path / "cache")
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)

    assert len(before) == 64
    assert contents.digest(tmp_path / "copy", tmp_path / "cache") == before


@pytest.mark.parametrize("change", ["other", "renamed", "more", "less"])
def test_any_change_of_content_is_another_digest(folder: Path, tmp_path: Path, change: str) -> None:
    before = contents.digest(folder, tmp_path / "cache")
    match change:
        case "other":  # of the same length and date
            (folder / "a.jpg").write_bytes(b"ONE")
            os.utime(folder / "a.jpg", ns=(10**18, 10**18))
        case "renamed":
            (folder / "a.jpg").rename(folder / "b.jpg")
        case "more":
            (folder / "b.jpg").touch()
        case "less":
            (folder / "a.jpg").unlink()

    assert contents.digest(folder, tmp_path / "cache") != before


@pytest.mark.parametrize(
    ("recent", "expected"),
    [(-1, ["a.jpg", "a.jpg", "ü b.jpg"]), (10**12, ["a.jpg", "ü b.jpg"] * 3)],
)
def test_only_what_has_changed_or_may_change_unseen_is_hashed_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recent: int, expected: list[str]
) -> None:
    hashed, sha256 = [], files.sha256
    monkeypatch.setattr(files, "sha256", lambda path: hashed.append(path.name) or sha256(path))
    monkeypatch.setattr(contents, "RECENT", recent)

    before = contents.digest(folder, tmp_path / "cache")
    (folder / "a.jpg").write_bytes(b"another")
    after = [contents.digest(folder, tmp_path / "cache") for _ in range(2)]

    assert after[0] == after[1] != before
    assert sorted(hashed) == sorted(expected)


@pytest.mark.parametrize("damage", [b"", b"\x00", b"[]", b'{"a.jpg": [1, 2]}', b'{"a.jpg": 7}'])
def test_a_damaged_cache_is_made_anew(folder: Path, tmp_path: Path, damage: bytes) -> None:
    before = contents.digest(folder, tmp_path / "cache")
    (record,) = (tmp_path / "cache").iterdir()
    record.write_bytes(damage)

    assert contents.digest(folder, tmp_path / "cache") == before


def test_a_cache_that_cannot_be_written_is_done_without(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, where a folder is to be")

    assert len(contents.digest(folder, tmp_path / "cache")) == 64


def test_links_that_lead_in_a_circle_come_to_an_end(folder: Path, tmp_path: Path) -> None:
    (folder / "inner/up").symlink_to(folder)
    (folder / "nowhere.jpg").symlink_to(tmp_path / "nowhere")

    assert len(contents.digest(folder, tmp_path / "cache")) == 64


def test_a_zip_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    digests = []
    for number, members in enumerate(({"a": b"1", "b": b"2"}, {"b": b"2", "a": b"1"}, {"a": b"2"})):
        path = tmp_path / f"{number}.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if number else 0) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        digests.append(contents.digest(path, tmp_path / "cache"))

    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("content", [None, b"no zip", b"PK\x05\x06"])
def test_what_cannot_be_read_has_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "images.zip").write_bytes(content)

    assert contents.digest(tmp_path / "images.zip", tmp_path / "cache") == ""
