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

from hrnetpose.artifacts.perf import Perf
from planner import Planner
from support import Project, environment

KILLS = 50
SEED = 7
VARIANTS = ("fp32", "ort")
COMMAND = ("--configfile", "overlay.yaml", "--", "report")
# All paths are hostile: whatever a shell could take amiss.
HOSTILE = 'it\'s a "näïve" folder $HOME `x`; 人'
GIVEN = "what 'is' given"
OVERLAY = {
    "models": {
        "sample": {
            "config": f"{GIVEN}/model ß.py",
            "weights": f'{GIVEN}/it\'s "the" weights.pth',
        },
    },
    "dataset": "few",
    "datasets": {
        "few": {"images": f"{GIVEN}/val ü.zip", "annotations": f'{GIVEN}/val "ü".json'},
    },
    "variants": {
        **dict.fromkeys(("pytorch", "fp16", "bf16", "int8")),
        "ort": {"backend": "onnxruntime", "precision": "fp32", "batch": 4},
    },
    "benchmark": {"min_seconds": 0.05, "min_samples": 2},
    "shards": 2,
}
# In the order of the DAG.
STAGES = [
    "fetch_file",
    "list_persons",
    "export_onnx",
    "make_crops",
    "simplify_onnx",
    "convert_precision",
    "reference_outputs",
    "build_engine",
    "predict_keypoints",
    "measure_parity",
    "score_accuracy",
    "measure_machine",
    "benchmark_engine",
    "write_report",
]


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planner]:
    with Planner(tmp_path_factory.mktemp("planner")) as started:
        yield started


@pytest.fixture(scope="module")
def fresh(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which nothing has run."""
    folder = tmp_path_factory.mktemp("interrupted") / HOSTILE
    project = Project.copied(repository, folder / "fresh")
    given = project.folder / GIVEN
    given.mkdir()
    sample = project.folder / "resources/sample"
    shutil.copy(sample / "hrnet_sample_128x96.py", given / "model ß.py")
    shutil.copy(sample / "hrnet_sample_128x96.pth", given / 'it\'s "the" weights.pth')
    subprocess.run(
        [sys.executable, "workflow_scripts/draw_sample.py", "--split", "val", "--images", "10",
         "--archive", f"{GIVEN}/val ü.zip", "--annotations", f"{GIVEN}/val \"ü\".json"],
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
    """Return the stages that run: Python processes below Snakemake's shells."""
    with suppress(psutil.NoSuchProcess):
        return [
            process
            for process in psutil.Process(snakemake).children(recursive=True)
            if script(process) in STAGES
        ]
    return []


def script(process: psutil.Process) -> str:
    """Return the stage that a process runs; nothing if it runs none, or has ended."""
    with suppress(psutil.Error):
        paths = [Path(part) for part in process.cmdline()[1:2]]
        return next((path.stem for path in paths if path.parent.name == "workflow_scripts"), "")
    return ""


def kill(process: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
        return True
    return False


def running(process: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    return False


def disturb(snakemake: int, least: int, struck: Counter[str], chance: random.Random) -> str | None:
    """Kill Snakemake, a stage or both at a random moment.

    Args:
        snakemake: its process id.
        least: how far down the DAG (an index into STAGES) the run is to have come.
        struck: how often each stage was hit before; one that was hit less is preferred.
        chance: the dice.

    Returns:
        What was hit; None if the run was over before.
    """
    victim = chance.choice(["snakemake", "stage", "both", "planning"])
    if victim == "planning":
        time.sleep(chance.uniform(0, 1.5))
        return "planning" if running(snakemake) and kill(snakemake) else None
    while running(snakemake):
        there = {name: process for process in stages(snakemake) if (name := script(process))}
        reached = [name for name in there if STAGES.index(name) >= least]
        if reached:
            name = min(reached, key=lambda stage: (struck[stage], STAGES.index(stage)))
            time.sleep(chance.uniform(0, 0.7))
            both = {"stage": there[name].pid, "snakemake": snakemake}
            victims = [pid for kind, pid in both.items() if victim in (kind, "both")]
            # A stage may have ended by itself; then another one is waited for.
            if [pid for pid in victims if running(pid) and kill(pid)]:
                return name
        time.sleep(0.02)
    return None


def test_all_of_it_works_in_a_folder_whose_name_is_hostile(undisturbed: Project) -> None:
    """The stages that the kills leave out, too: PyTorch, and int8 with its calibration images."""
    overlay = json.loads(json.dumps(OVERLAY))
    overlay["variants"] = {"fp16": None, "bf16": None}
    overlay["datasets"]["few"]["calibration"] = {
        "images": "resources/datasets/sample/train.zip",
        "annotations": "resources/datasets/sample/train.json",
    }
    names = [f"results/{name}_{kind}.json" for name in ("pytorch", "int8")
             for kind in ("accuracy", "parity")]  # fmt: skip
    undisturbed.succeed("--configfile", undisturbed.overlay(overlay, "all.yaml"), "--", *names)
    assert all((undisturbed.folder / name).is_file() for name in names)


@pytest.mark.slow
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
        depths = sorted([*range(len(STAGES))] * 3)
        while True:
            snakemake = planner.start(project.folder, *COMMAND)
            more = depths and struck.total() < KILLS
            hit = disturb(snakemake, depths[0], struck, chance) if more else None
            depths = depths[hit != "planning" :]
            orphans = stages(snakemake)
            status, printed = planner.finish()
            assert "Directory cannot be locked" not in printed
            progress = Progress(printed)
            assert not finished & progress.begun, "what was finished is done again"
            finished |= progress.finished
            if hit is None:
                assert status == 0, printed
                break
            struck[hit] += 1
            # Half of the time a stage that lost its Snakemake goes on beside the next run.
            if chance.random() < 0.5:
                psutil.wait_procs(orphans, timeout=60)
        compare(project, undisturbed)
        shutil.rmtree(project.folder)
    depths = [STAGES.index(stage) for stage in struck if stage != "planning"]
    # From one end of the DAG to the other.
    assert min(depths) <= STAGES.index("make_crops"), struck
    assert max(depths) >= STAGES.index("predict_keypoints"), struck
    print(f"\n{struck.total()} kills in {rounds} rounds: {dict(struck)}")


def compare(project: Project, undisturbed: Project) -> None:
    """Both have the same results, and the disturbed one left nothing behind but its log."""
    for variant in VARIANTS:
        names = [f"results/{variant}_accuracy.json", f"results/{variant}_parity.json"]
        predicted = undisturbed.folder / "build/predictions" / variant
        names += [str(path.relative_to(undisturbed.folder)) for path in predicted.iterdir()]
        for name in names:
            assert (project.folder / name).read_bytes() == (undisturbed.folder / name).read_bytes()
    for variant in VARIANTS:
        perf = Perf.read(project.folder / f"results/{variant}_perf.json")
        raw = json.loads((project.folder / "results" / perf.raw).read_text())
        assert len(raw["latency_s"]) == perf.latency.samples
    assert (project.folder / "results/report.html").stat().st_size > 0
