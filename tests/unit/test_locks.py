"""A lock goes if whoever took it is gone, and stays if somebody might be there."""

import fcntl
import socket
from pathlib import Path

import pytest

from hrnetpose import locks


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks/0.output.lock").write_text("results/report.html\n")
    (tmp_path / "alive").write_text(socket.gethostname())
    return tmp_path


def is_locked(state: Path) -> bool:
    return bool(list((state / "locks").iterdir()))


def test_the_lock_of_a_process_that_is_gone_is_removed(state: Path) -> None:
    locks.drop_stale(state)

    assert not is_locked(state)


def test_the_lock_of_a_process_that_is_there_stays(state: Path) -> None:
    with (state / "alive").open() as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        locks.drop_stale(state)

    assert is_locked(state)


@pytest.mark.parametrize("host", ["", "another-host"])
def test_a_lock_that_may_be_of_another_machine_stays(state: Path, host: str) -> None:
    (state / "alive").write_text(host)

    locks.drop_stale(state)

    assert is_locked(state)


def test_a_folder_that_cannot_be_written_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file, where a folder is to be")

    locks.drop_stale(tmp_path / "state")
