"""What a cluster must know of each job, and what its profiles say; runs need a cluster."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from hrnetpose.data.persons import Persons
from planner import Planner, inputs_in
from support import Project, peak_memory

PROFILES = ("default", "slurm", "cluster-generic", "kubernetes")
SHARDS = 1000


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planner]:
    with Planner(tmp_path_factory.mktemp("planner")) as started:
        yield started


@pytest.fixture(scope="module")
def project(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project.copied(repository, tmp_path_factory.mktemp("project"))


def test_every_rule_states_what_it_needs(project: Project, planner: Planner) -> None:
    status, printed = planner.snakemake(project.folder, "--dry-run", "--", "report", "gate")
    assert status == 0
    blocks = [block for block in printed.split("\n\n") if re.search(r"^    jobid:", block, re.M)]
    assert len(blocks) > 30
    for block in blocks:
        # A job that says nothing of GPUs needs none.
        opens_engine = re.search(r"rule (build|predict|benchmark|measure)_", block)
        for resource in ("mem_mb", "runtime", *(["gpu"] if opens_engine else [])):
            assert re.search(rf"resources: .*\b{resource}=", block) or "rule report" in block \
                or "rule gate" in block, block  # fmt: skip


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_name_rules_that_there_are(repository: Path, profile: str) -> None:
    content = yaml.safe_load((repository / f"profiles/{profile}/profile.yaml").read_text())
    rules = {
        name
        for file in (repository / "rules").glob("*.smk")
        for name in re.findall(r"^rule (\w+):", file.read_text(), re.MULTILINE)
    }
    named = [
        re.split("[=:]", entry)[0]
        for key in ("set-threads", "set-resources")
        for entry in content.get(key, [])
    ]
    assert set(named) <= rules
    # Jobs are compared by content everywhere alike.
    assert content["max-checksum-file-size"] == "256MB"
    assert content["rerun-incomplete"] is True


def test_a_copied_slurm_profile_has_partitions_and_an_account_of_its_own(
    project: Project, tmp_path: Path
) -> None:
    """As docs/cluster.md copies it, with what its comments say for an account."""
    shutil.copytree(project.folder / "profiles", tmp_path / "profiles")
    guide = (project.folder / "docs/cluster.md").read_text()
    for command in re.findall(r"^    ((?:cp|sed) .*?)(?: {2,}#.*)?$", guide, re.MULTILINE):
        subprocess.run(shlex.split(command), cwd=tmp_path, check=True)
    profile = tmp_path / "profiles/mine/profile.yaml"

    content = yaml.safe_load(
        profile.read_text().replace("  # - slurm_account", "  - slurm_account")
    )

    assert content["slurm-partition-config"] == "profiles/mine/partitions.yaml"
    assert (tmp_path / "profiles/mine/partitions.yaml").is_file()
    assert "slurm_account=my_project" in content["default-resources"]


def test_the_submit_command_for_lsf_gives_the_script_and_prints_the_id(
    repository: Path, tmp_path: Path
) -> None:
    """The command stands in a comment, and the plugin puts the job's script behind it."""
    profile = (repository / "profiles/cluster-generic/profile.yaml").read_text()
    found = re.search(r"^#   LSF: +(sh -c '[^']*')", profile, re.MULTILINE)
    assert found
    command = re.sub(r"\{[a-z_.]+\}", "2", re.sub(r"\n# *", " ", found[1]))
    stand_in = tmp_path / "bsub"
    stand_in.write_text('#!/bin/sh\nshift $(($# - 1)); test -f "$1" &&\n'
                        'echo "Job <4711> is submitted to queue <normal2>."\n')  # fmt: skip
    stand_in.chmod(0o755)
    (tmp_path / "job.sh").write_text("#!/bin/sh\n")

    done = subprocess.run(
        ["sh", "-c", f'{command} "job.sh"'], cwd=tmp_path, capture_output=True, text=True,
        check=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
    )  # fmt: skip

    assert done.stdout == "4711\n"


def test_a_thousand_shards_are_planned(project: Project, planner: Planner) -> None:
    overlay = project.overlay(
        {"shards": SHARDS, "variants": dict.fromkeys(["pytorch", "fp16", "bf16", "int8"])}
    )
    status, printed = planner.snakemake(
        project.folder, "--dry-run", "--configfile", overlay, "--", "report"
    )
    assert status == 0
    rules = [job.rule for job, _ in inputs_in(printed)]
    assert rules.count("predict_keypoints") == SHARDS
    assert rules.count("make_crops") == SHARDS + 1
    assert rules.count("list_persons") == rules.count("score_accuracy") == 1


def test_a_shard_of_a_million_boxes_takes_the_memory_of_its_own(
    project: Project, tmp_path: Path
) -> None:
    """The same persons, as one of a thousand shards and as all that there is."""
    import cv2

    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images/a.jpg"), np.full((480, 640, 3), 90, np.uint8))
    peaks = {}
    for images, shard in ((250, "1-of-1"), (250_000, f"500-of-{SHARDS}")):
        table = persons(images, 4)
        table.write(tmp_path / "persons.npz")
        peaks[images] = peak_memory(
            project, "workflow_scripts/make_crops.py", "--persons", tmp_path / "persons.npz",
            "--images", tmp_path / "images", "--crop", "128x96", "--shard", shard,
            "--output", tmp_path / "crops.npy", "--instances", tmp_path / "instances.npz",
        )  # fmt: skip
        assert len(np.load(tmp_path / "crops.npy", mmap_mode="r")) == 1000
    assert peaks[250_000] < peaks[250] + 300e6


def persons(images: int, each: int) -> Persons:
    """A table of so many images, with so many persons on each."""
    return Persons(
        image_id=np.arange(images),
        file_name=np.full(images, "a.jpg"),
        width=np.full(images, 640),
        height=np.full(images, 480),
        start=np.arange(images + 1) * each,
        id=np.arange(images * each),
        box=np.tile(np.array([100, 50, 300, 400], np.float32), (images * each, 1)),
        score=np.ones(images * each, np.float32),
        boxes_from="gt",
    )
