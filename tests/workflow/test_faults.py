"""A disk that is full, results that cannot be written, two runs at once, state that is damaged:
one clear message, nothing lost."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import Project, environment, stage_command

ANNOTATIONS = "resources/datasets/sample/val.json"
PERSONS = "build/datasets/sample/persons_gt.npz"
CROPS = "build/datasets/sample/128x96/gt/crops_1-of-1.npy"


@pytest.fixture(scope="module")
def drawn(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose images are drawn and whose persons are listed."""
    project = Project.copied(repository, tmp_path_factory.mktemp("drawn"))
    project.succeed(PERSONS)
    return project


@pytest.fixture
def project(drawn: Project, tmp_path: Path) -> Project:
    shutil.copytree(drawn.folder, tmp_path / "project")
    return Project(tmp_path / "project")


@pytest.fixture
def small_disk(project: Project) -> Iterator[Path]:
    """The folder above the crops, on a file system of one megabyte."""
    folder = project.folder / "build/datasets/sample/128x96"
    folder.mkdir(parents=True)
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=False
        ).returncode
    ):
        pytest.skip("a small file system can only be mounted by root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def error_lines(done: "subprocess.CompletedProcess[str]", script: str) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith(f"{script}: error: ")]


def test_a_disk_that_is_too_small_is_refused_when_the_run_is_planned(
    project: Project, small_disk: Path
) -> None:
    done = project.snakemake(CROPS)
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("configuration: ")]
    assert re.match(r"configuration: disk: this run needs \S+ MB of crops \(gt, 128x96, \d+ ", line)
    assert "only 1.0 MB are free" in line


def test_a_disk_that_has_become_too_small_is_named_before_anything_is_written(
    drawn: Project, project: Project, small_disk: Path
) -> None:
    command = stage_command(drawn.succeed("--dry-run", "--printshellcmds", CROPS))
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=project.folder, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = error_lines(done, "make_crops")
    assert f"{CROPS}: " in line
    assert "1.0 MB are free" in line
    assert not [path for path in small_disk.rglob("*") if path.is_file()]


def test_when_there_is_room_again_the_same_command_goes_on(
    project: Project, small_disk: Path
) -> None:
    project.snakemake(CROPS)
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    started = project.succeed(CROPS)
    assert "rule make_crops" in started
    assert "rule draw_sample" not in started


def test_a_folder_that_cannot_be_written_is_named(project: Project) -> None:
    """A mount of its own, since nothing else keeps root from writing."""
    command = stage_command(project.succeed("--dry-run", "--printshellcmds", CROPS))
    folder = project.folder / "build/datasets/sample/128x96/gt"
    folder.mkdir(parents=True)
    mount = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"'
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", f"{{ {mount}; }} || exit 99; {command}", "bash",
         str(folder)],
        cwd=project.folder, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 99 or done.stderr.startswith("unshare: "):
        pytest.skip(f"a read-only file system cannot be mounted here: {done.stderr}")
    assert done.returncode == 1
    (line,) = error_lines(done, "make_crops")
    assert line.startswith("make_crops: error: build/datasets/sample/128x96/gt/")
    assert "Read-only file system" in line
    assert list(folder.iterdir()) == []


def test_a_second_run_in_the_same_folder_says_that_there_is_a_first(project: Project) -> None:
    """The first one is in the middle of a job: its script waits."""
    script = project.folder / "workflow_scripts/make_crops.py"
    waiting = project.folder / "waiting"
    script.write_text(
        script.read_text().replace(
            '    """Run the stage."""\n',
            '    """Run the stage."""\n'
            "    import time\n"
            f"    Path({str(waiting)!r}).touch()\n"
            f"    while Path({str(waiting)!r}).exists():\n"
            "        time.sleep(0.05)\n",
        )
    )
    with subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--cores", "1", CROPS],
        cwd=project.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as first:  # fmt: skip
        while not waiting.exists():
            assert first.poll() is None
            time.sleep(0.05)
        second = project.snakemake(CROPS)
        waiting.unlink()
        _, errors = first.communicate()
    assert second.returncode != 0
    assert "Directory cannot be locked" in second.stderr
    assert "Traceback" not in second.stderr
    assert first.returncode == 0, errors
    assert "Nothing to be done" in project.succeed(CROPS)


def test_locks_of_a_process_that_is_gone_are_no_hindrance(project: Project) -> None:
    locks = project.folder / ".snakemake/locks"
    locks.mkdir(exist_ok=True)
    (locks / "0.output.lock").write_text(f"{CROPS}\n")
    project.succeed(CROPS)
    assert (project.folder / CROPS).is_file()


def test_locks_that_may_be_of_another_machine_are_respected(project: Project) -> None:
    locks = project.folder / ".snakemake/locks"
    locks.mkdir(exist_ok=True)
    (locks / "0.output.lock").write_text(f"{CROPS}\n")
    (project.folder / ".snakemake/alive").write_text("another-host")
    done = project.snakemake(CROPS)
    assert done.returncode != 0
    assert "Directory cannot be locked" in done.stderr


def test_damaged_records_cost_at_most_the_work(project: Project) -> None:
    project.succeed(CROPS)
    before = (project.folder / CROPS).read_bytes()
    for record in (project.folder / ".snakemake/metadata").iterdir():
        record.write_bytes(b'{"rule": "make')
    project.succeed(CROPS)
    assert (project.folder / CROPS).read_bytes() == before
