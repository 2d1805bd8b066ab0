"""kill -9 at random moments, then the same command again: nothing is lost, redone or different."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from hrnetpose.artifacts import Perf
from planner import Planner
from support import Project, environment

KILLS = 50
SEED = 7
VARIANTS = ("fp32", "ort")
COMMAND = ("--configfile", "overlay.yaml", "--", "report")
# Ten images, and everything else of the sample.
OVERLAY = {
    "dataset": "few",
    "datasets": {"few": {"images": "given/val.zip", "annotations": "given/val.json"}},
    "variants": {
        **dict.fromkeys(("pytorch", "fp16", "bf16", "int8")),
        "ort": {"backend": "onnxruntime", "precision": "fp32", "batch": 4},
    },
    "benchmark": {"min_seconds": 0.05, "min_samples": 2},
    "shards": 2,
}
DETERMINED = ("*_accuracy.json", "*_parity.json")
"""Results that are the same every time; speed is not."""


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planner]:
    with Planner(tmp_path_factory.mktemp("planner")) as started:
        yield started


@pytest.fixture(scope="module")
def fresh(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which nothing has run."""
    project = Project.copied(repository, tmp_path_factory.mktemp("interrupted") / "fresh")
    (project.folder / "given").mkdir()
    subprocess.run(
        [sys.executable, "workflow_scripts/draw_sample.py", "--split", "val", "--images", "10",
         "--archive", "given/val.zip", "--annotations", "given/val.json"],
        cwd=project.folder, env=environment(), check=True,
    )  # fmt: skip
    project.overlay(OVERLAY)
    return project


@pytest.fixture(scope="module")
def undisturbed(fresh: Project, planner: Planner) -> Project:
    """The same, run without a disturbance."""
    project = Project(fresh.folder.with_name("undisturbed"))
    shutil.copytree(fresh.folder, project.folder)
    status, printed = planner.snakemake(project.folder, *COMMAND)
    assert status == 0, printed
    return project


class Progress:
    """What a run printed: which jobs it began and which it finished."""

    def __init__(self, printed: str) -> None:
        numbers: dict[str, str] = {}
        for block in printed.split("\n\n"):
            output = re.search(r"^    output: (.*)$", block, re.MULTILINE)
            number = re.search(r"^    jobid: (\d+)$", block, re.MULTILINE)
            if output and number:
                numbers[number[1]] = output[1]
        self.begun = set(numbers.values())
        done = re.findall(r"^Finished jobid: (\d+) ", printed, re.MULTILINE)
        self.finished = {numbers[number] for number in done if number in numbers}


def stages(snakemake: int) -> list[psutil.Process]:
    """Returns the stages that run: Python processes below Snakemake's shells."""
    with suppress(psutil.NoSuchProcess):
        return [
            process
            for process in psutil.Process(snakemake).children(recursive=True)
            if any("workflow_scripts/" in part for part in _command(process)[:2])
        ]
    return []


def _command(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []


def kill(process: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
        return True
    return False


def running(process: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    return False


def disturb(snakemake: int, chance: random.Random) -> str | None:
    """Kills Snakemake, a stage or both at a random moment; returns what, None if it was over."""
    victim = chance.choice(["snakemake", "stage", "both"])
    if victim == "snakemake" and chance.random() < 0.3:
        time.sleep(chance.uniform(0, 1.5))  # while it plans
        return "planning" if running(snakemake) and kill(snakemake) else None
    while running(snakemake) and not stages(snakemake):
        time.sleep(0.02)
    time.sleep(chance.uniform(0, 1.0))
    there = stages(snakemake)
    stage = chance.choice(there) if there else None
    name = Path(_command(stage)[1]).stem if stage and len(_command(stage)) > 1 else "between stages"
    if not running(snakemake):
        return None
    if victim in ("snakemake", "both"):
        kill(snakemake)
    if victim in ("stage", "both"):
        if stage is None:
            return name if victim == "both" else None
        kill(stage.pid)
    return name


def wait_for_orphans(processes: list[psutil.Process]) -> None:
    psutil.wait_procs(processes, timeout=120)


def test_kill_9_at_any_moment_and_the_same_command_again(
    fresh: Project, undisturbed: Project, planner: Planner, tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    struck: Counter[str] = Counter()
    rounds = 0
    while struck.total() < KILLS:
        rounds += 1
        project = Project(tmp_path / f"round{rounds}")
        shutil.copytree(fresh.folder, project.folder)
        finished: set[str] = set()
        status = 1
        while status != 0:
            snakemake = planner.start(project.folder, *COMMAND)
            what = disturb(snakemake, chance) if struck.total() < KILLS else None
            status, printed = planner.finish()
            if what is None:
                assert status in (0, -signal.SIGKILL, 1), printed
            else:
                struck[what] += 1
                print(struck.total(), what, flush=True)
            assert "Directory cannot be locked" not in printed
            progress = Progress(printed)
            assert not finished & progress.begun, "what was finished is done again"
            finished |= progress.finished
            if what is None and status != 0:
                raise AssertionError(printed)
        compare(project, undisturbed)
        shutil.rmtree(project.folder)
    print(f"\n{struck.total()} kills in {rounds} rounds: {dict(struck)}")


def compare(project: Project, undisturbed: Project) -> None:
    """Both have the same results, and the disturbed one left nothing behind but its log."""
    for pattern in DETERMINED:
        expected = sorted((undisturbed.folder / "results").glob(pattern))
        assert len(expected) == len(VARIANTS)
        for path in expected:
            assert (project.folder / "results" / path.name).read_bytes() == path.read_bytes()
    for path in (undisturbed.folder / "build/predictions").rglob("*.npz"):
        other = project.folder / path.relative_to(undisturbed.folder)
        assert other.read_bytes() == path.read_bytes()
    for variant in VARIANTS:
        perf = Perf.read(project.folder / f"results/{variant}_perf.json")
        raw = json.loads((project.folder / "results" / perf.raw).read_text())
        assert len(raw["latency_s"]) == perf.samples
    assert (project.folder / "results/report.html").stat().st_size > 0
