"""Snakemake's locks that outlived their process.

Snakemake locks its files by writing their names down.  A process that is killed leaves that behind,
and the same command again would refuse to start.  The operating system's own locks end with their
process, so they tell whether anybody is still there.  Several processes may be: the lock is shared,
which `filelock` does not offer for a plain file.
"""

import fcntl
import socket
from pathlib import Path
from typing import TextIO

_held: list[TextIO] = []


def drop_stale(state: Path) -> None:
    """Say that this process is alive, and remove Snakemake's locks if it is the only one.

    Locks are left alone if another process is alive, or might be: on another machine, or where the
    file system has no locks.  Then Snakemake says what to do.

    Args:
        state: Snakemake's folder, `.snakemake`.
    """
    try:
        state.mkdir(exist_ok=True)
        file = (state / "alive").open("a+")
        _held.append(file)  # until the process ends
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(file, fcntl.LOCK_SH)
            return
        locks = list((state / "locks").glob("*.lock"))
        file.seek(0)
        if not locks or file.read() == socket.gethostname():
            for lock in locks:
                lock.unlink(missing_ok=True)
            file.truncate(0)
            file.write(socket.gethostname())
            file.flush()
        fcntl.flock(file, fcntl.LOCK_SH)
    except OSError:
        return
