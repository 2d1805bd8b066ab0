"""Which of the user's files are read is recorded, and later compared."""

import importlib
import os
import sys
from pathlib import Path

import pytest

from hrnetpose import files
from hrnetpose.models import reading


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    # Not syspath_prepend: it calls pkg_resources, for which mmengine may have a stand-in.
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_files_that_are_read_are_recorded_with_their_hashes(folder: Path) -> None:
    read = write(folder / "data/sigmas.json", "[1]")
    deep = write(folder / "data/bytes.npy", "abc")
    write(folder / "other.json", "[2]")

    with reading.record() as found:
        read.read_text()
        os.close(os.open(deep, os.O_RDONLY))
        write(folder / "written.json", "[3]")
    (folder / "other.json").read_text()

    assert found == {"data/bytes.npy": files.sha256(deep), "data/sigmas.json": files.sha256(read)}


@pytest.mark.parametrize("compiled", [False, True])
def test_modules_are_recorded_as_their_sources(
    folder: Path, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    names = [f"outer_{compiled}", f"inner_{compiled}"]
    write(folder / f"{names[0]}.py", f"import {names[1]}\n")
    write(folder / f"{names[1]}.py", "x = 1\n")
    importlib.invalidate_caches()
    for _ in range(1 + compiled):
        with reading.record() as found:
            importlib.import_module(names[0])
        for name in names:
            del sys.modules[name]

    assert set(found) == {f"{name}.py" for name in names}
    assert (folder / "__pycache__").is_dir()


def test_what_belongs_to_others_is_left_out(folder: Path) -> None:
    checkpoint, temporary = write(folder / "w.pth", "w"), write(folder / "tmp.py", "x")

    with reading.record(checkpoint, None) as found:
        for path in (checkpoint, temporary, Path(pytest.__file__), Path(os.__file__)):
            path.read_bytes()
        Path("/proc/self/status").read_text()
        Path(reading.__file__).read_text()
        temporary.unlink()

    assert found == {}


def test_changes_are_seen_by_content(folder: Path) -> None:
    path = write(folder / "a.json", "[1]")
    before = {"a.json": files.sha256(path)}
    assert reading.digest_changes(before) is None
    os.utime(path, ns=(1, 1))
    assert reading.digest_changes(before) is None

    path.write_text("[2]")
    first = reading.digest_changes(before)
    path.write_text("[3]")
    second = reading.digest_changes(before)
    path.unlink()
    third = reading.digest_changes(before)

    assert None not in (first, second, third)
    assert len({first, second, third}) == 3
    write(path, "[1]")
    assert reading.digest_changes(before) is None
    assert not list(folder.glob(".*")), "nothing is left beside the user's files"
