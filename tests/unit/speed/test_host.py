"""The machine is described as it is."""

import os
import platform
from pathlib import Path

from hrnetpose.speed import host


def test_the_description_is_of_this_machine() -> None:
    found = host.describe()

    assert found.cpu
    assert found.python == platform.python_version()
    assert platform.system() in found.os
    assert 1 <= found.cores <= (os.cpu_count() or 1)
    assert 2**28 < found.memory_bytes < 2**50
    assert found.load_average >= 0


def test_no_more_cores_are_counted_than_this_process_may_use() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})

        assert host.cores() == host.describe().cores == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert host.cores() == len(allowed)


def test_the_features_are_among_the_flags_of_the_processor() -> None:
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()

    assert set(host.describe().features) <= set(flags)
    assert ("avx2" in host.describe().features) == ("avx2" in flags)
