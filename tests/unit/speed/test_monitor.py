"""What else runs on the machine is noticed."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from hrnetpose.speed import host, monitor
from hrnetpose.speed.monitor import Monitor


def burn(seconds: float) -> None:
    """Take so much time of a CPU, however busy the machine is."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_another_process_that_computes_is_noticed() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.3)
        with Monitor() as watched:
            time.sleep(1.0)
    finally:
        busy.kill()
        busy.wait()

    assert watched.report.others is not None
    # On a machine that is busy itself it gets a part of a CPU only.
    assert watched.report.others > 0.1
    assert watched.report.cpus == host.cores()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on paper with two CPUs, in whose files counters stand."""
    monkeypatch.setattr(monitor, "PROC", tmp_path / "proc")
    monkeypatch.setattr(monitor, "SYS", tmp_path / "sys")
    monkeypatch.setattr(host, "cpus", lambda: [0, 1])
    write(tmp_path, busy=100, steal=0, swapped=0, heat=0, throttled=0)
    return tmp_path


def write(folder: Path, busy: int, steal: int, swapped: int, heat: int, throttled: int) -> None:
    """Write the counters; `busy` and `steal` in ticks, of each CPU."""
    contents = {
        "proc/stat": "cpu  9 9 9 9 9 9 9 9 0 0\n"
        + "".join(f"cpu{n} {busy} 0 0 500 3 0 0 {steal} 0 0\n" for n in range(3)),
        "proc/vmstat": f"nr_free_pages 7\npswpin {swapped}\npswpout {swapped}\n",
        "proc/self/cgroup": "0::/job\n",
        "sys/fs/cgroup/job/cpu.stat": f"usage_usec 5\nthrottled_usec {throttled}\n",
        "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": f"{heat}\n",
    }
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def test_counters_of_the_cpus_that_are_used_are_read_at_both_ends(machine: Path) -> None:
    with Monitor() as watched:
        burn(0.05)
        write(machine, busy=300, steal=50, swapped=8, heat=2, throttled=250_000)

    report = watched.report
    # 200 ticks of each of two CPUs, at 100 a second, less what this process took itself.
    assert report.others == pytest.approx(4.0, abs=0.5)
    assert report.others < 4.0
    assert report.steal == pytest.approx(1.0)
    assert (report.swapped, report.thermal) == (16, 2)
    assert report.quota == pytest.approx(0.25)
    assert report.seconds >= 0.05


@pytest.mark.parametrize(
    ("groups", "folder", "line"),
    [
        ("0::/pod/job\n", "pod", "throttled_usec 400000"),
        ("4:cpu,cpuacct:/pod/job\n0::/\n", "cpu/pod", "throttled_time 400000000"),
        # A container sees its own group as the root, by another path than it is told.
        ("4:cpu,cpuacct:/docker/4f2a\n", "cpu", "throttled_time 400000000"),
        ("0::/../elsewhere\n", ".", "throttled_usec 400000"),
    ],
)
def test_the_quota_of_a_group_around_its_own_holds_a_process_back_too(
    machine: Path, groups: str, folder: str, line: str
) -> None:
    (machine / "proc/self/cgroup").write_text(groups)
    around = machine / "sys/fs/cgroup" / folder / "cpu.stat"
    own = around.parent / "job/cpu.stat"
    for file in (around, own):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("throttled_usec 0\nthrottled_time 0\n")

    with Monitor() as watched:
        around.write_text(f"{line}\n")

    assert watched.report.quota == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/pod/job\n", {"pod/job/cpu.max": "max 100000", "pod/cpu.max": "150000 100000"}, 1.5),
        (
            "4:cpu,cpuacct:/docker/4f2a\n",
            {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"},
            0.5,
        ),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("0::/\n", {}, None),
    ],
)
def test_the_smallest_quota_is_what_a_process_has(
    machine: Path, groups: str, files: dict[str, str], cores: float | None
) -> None:
    (machine / "proc/self/cgroup").write_text(groups)
    for name, content in files.items():
        (machine / "sys/fs/cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (machine / "sys/fs/cgroup" / name).write_text(f"{content}\n")

    assert monitor.quota_cores() == cores


def test_processors_that_are_listed_but_not_counted_tell_nothing(machine: Path) -> None:
    """As in gVisor: not that nobody else computes."""
    (machine / "proc/stat").write_text("".join(f"cpu{n} 0 0 0 0 0 0 0 0 0 0\n" for n in range(2)))

    with Monitor() as watched:
        burn(0.02)

    assert (watched.report.others, watched.report.steal) == (None, None)


def test_nothing_is_concluded_where_there_are_no_counters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "PROC", tmp_path)
    monkeypatch.setattr(monitor, "SYS", tmp_path)

    with Monitor() as watched:
        pass

    report = watched.report
    assert (report.others, report.steal, report.swapped, report.thermal) == (None,) * 4
    assert report.quota is None
    assert report.gpu is None
