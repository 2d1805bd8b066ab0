"""Files appear whole or not at all."""

import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hrnetpose import files
from hrnetpose.stage import StageError

RunPython = Callable[..., subprocess.CompletedProcess[str]]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_hash_is_that_of_the_content(tmp_path: Path) -> None:
    content = bytes(range(256)) * 1000
    (tmp_path / "file").write_bytes(content)

    assert files.sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "new folder" / "file.npz"

    with files.atomic_path(target) as temporary:
        temporary.write_text("half")
        assert not target.exists()
        temporary.write_text("whole")

    assert target.read_text() == "whole"
    assert names(target.parent) == ["file.npz"]


def test_the_temporary_name_keeps_folder_and_suffix(tmp_path: Path) -> None:
    with files.atomic_path(tmp_path / "crops.npz") as temporary:
        temporary.touch()

        assert temporary.parent == tmp_path
        assert temporary.suffix == ".npz"
        assert temporary.name.startswith(".")


@pytest.mark.parametrize("problem", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, problem: type[BaseException]
) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")

    def write() -> None:
        with files.atomic_path(target) as temporary:
            temporary.write_text("half")
            raise problem

    with pytest.raises(problem):
        write()

    assert target.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_a_writer_that_writes_nothing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), files.atomic_path(tmp_path / "file.txt"):
        pass

    assert names(tmp_path) == []


def test_text_is_written_as_utf8(tmp_path: Path) -> None:
    files.write_text(tmp_path / "file.txt", "größer\n")

    assert (tmp_path / "file.txt").read_bytes() == "größer\n".encode()


def test_a_copy_has_the_same_content(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(os.urandom(100))

    files.copy(tmp_path / "source", tmp_path / "target")

    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()


@pytest.mark.parametrize("log", [[], ["--log", "stage.log"]])
def test_a_full_disk_is_one_line_and_no_file(
    tmp_path: Path, run_python: RunPython, log: list[str]
) -> None:
    """A limit on the size of files stands in for the full disk; the log is on that disk, too."""
    done = run_python(
        """
        import resource
        from pathlib import Path
        from hrnetpose import files, stage

        def main():
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
            files.write_text(Path("big.txt"), "x" * 1_000_000)

        stage.run(stage.command(""), main)
        """,
        *log,
    )

    assert done.returncode != 0
    assert "File too large" in done.stderr
    assert done.stderr.count("\n") == 1
    assert [name for name in names(tmp_path) if "big" in name] == []


def test_arrays_are_read_back(tmp_path: Path) -> None:
    np.savez(tmp_path / "file.npz", a=np.arange(3), b=np.zeros((2, 2)), c=np.ones(1))

    arrays = files.read_npz(tmp_path / "file.npz", ["a", "b"])

    assert list(arrays) == ["a", "b"]
    assert arrays["a"].tolist() == [0, 1, 2]


def test_pickled_objects_are_refused_and_not_executed(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "executed",)

    np.savez(tmp_path / "file.npz", a=np.array([Trap()], dtype=object))

    with pytest.raises(StageError, match=r"file\.npz: cannot be read .*; delete it and run again"):
        files.read_npz(tmp_path / "file.npz", ["a"])
    assert not (tmp_path / "executed").exists()


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[200] ^= 0xFF
    path.write_bytes(content)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def no_npz(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.arange(3))


@pytest.mark.parametrize("spoil", [truncated, damaged, emptied, no_npz, Path.unlink])
def test_a_spoiled_npz_is_refused_by_name(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    path = tmp_path / "file.npz"
    np.savez(path, a=np.arange(100))
    spoil(path)

    with pytest.raises(StageError, match=r"file\.npz: cannot be read"):
        files.read_npz(path, ["a"])


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "file.npz", a=np.arange(3))

    with pytest.raises(StageError, match="scores"):
        files.read_npz(tmp_path / "file.npz", ["a", "scores"])


def test_a_known_hash_is_computed_once_and_again_after_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"one")
    one = files.known_sha256(path)
    computed: list[Path] = []
    compute = files.sha256
    monkeypatch.setattr(files, "sha256", lambda path: computed.append(path) or compute(path))

    assert files.known_sha256(path) == one == compute(path)
    assert computed == []
    path.write_bytes(b"two, longer")
    assert files.known_sha256(path) == compute(path)
    os.utime(path, (1, 1))
    assert files.known_sha256(path) == compute(path)
    assert computed == [path, path]
    # Another content of the same size, with the date of the old one, as archives may give it.
    before = path.stat().st_ctime_ns
    while path.stat().st_ctime_ns == before:
        path.write_bytes(b"TWO, LONGER")
        os.utime(path, (1, 1))
    assert files.known_sha256(path) == compute(path)


def test_a_remembered_hash_that_is_damaged_is_computed_again(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"one")
    for content in (b"", b"\xff", b"1234", b"1 2 3 4"):
        (tmp_path / ".weights.pth.sha256").write_bytes(content)
        assert files.known_sha256(path) == files.sha256(path)


def test_a_hash_is_known_in_a_folder_that_others_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"one")

    def refuse(path: Path, text: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(files, "write_text", refuse)

    assert files.known_sha256(path) == files.sha256(path)
    assert list(tmp_path.iterdir()) == [path]
