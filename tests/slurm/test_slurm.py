"""The sample's report on a Slurm cluster of three nodes, one of which dies on the way.

make test-slurm
"""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from slurm.cluster import GPU_NODE, Cluster, missing
from support import Project

QUICK = {
    "benchmark": {"min_seconds": 0.1, "min_samples": 2},
    "shards": 3,
    "variants": {"fp16": None, "bf16": None, "int8": None},
}
VARIANTS = ("pytorch", "fp32")
# What a user takes from profiles/slurm as it is, but for the patience of a real cluster.
PROFILE = [
    "--workflow-profile", "profiles/slurm",
    "--latency-wait", "5",
    "--seconds-between-status-checks", "2",
    "--slurm-init-seconds-before-status-checks", "2",
    "--slurm-status-command", "squeue",  # this cluster keeps no accounts
    "--set-threads", "benchmark_engine=2", "measure_machine=2",
    # No backend here needs a GPU, so one rule is told to; nothing opens the device.
    "--set-resources", "benchmark_engine:gpu=1", "benchmark_engine:slurm_extra='--exclusive'",
    "measure_machine:slurm_extra='--exclusive'",
]  # fmt: skip


@dataclass
class Run:
    """What the run left behind."""

    project: Project
    status: int
    log: str
    records: dict[str, dict[str, str]]
    rules: dict[str, str] = field(default_factory=dict)
    cancelled: str = ""
    orphaned: str = ""


@pytest.fixture(scope="module")
def run(repository: Path) -> Iterator[Run]:
    """Run the report on the cluster, cancels a job and powers a node off in the middle."""
    lacks = missing()
    assert not lacks, (
        f"needs {', '.join(lacks)}; as root: apt-get install --no-install-recommends slurmctld "
        "slurmd slurm-client munge slurm-wlm-basic-plugins"
    )
    # Sockets want a short path.
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as name:
        folder = Path(name)
        project = Project.copied(repository, folder / "project")
        overlay = project.overlay(QUICK)
        log = folder / "run.log"
        with Cluster(folder) as cluster, log.open("w") as output:
            snakemake = subprocess.Popen(
                [sys.executable, "-m", "snakemake", *PROFILE, "--configfile", overlay, "--",
                 "report"],
                cwd=project.folder, env=cluster.environment, stdout=output, stderr=output,
            )  # fmt: skip
            try:
                cancelled, _ = running_job(cluster, snakemake, "make_crops")
                cluster.command("scancel", cancelled)
                orphaned, node = running_job(cluster, snakemake, "predict_keypoints")
                cluster.power_off(node)
                status = snakemake.wait(600)
            finally:
                snakemake.kill()
                snakemake.wait()
            records = {record["JobId"]: record for record in cluster.records()}
        text = log.read_text()
        submitted = r"submitted with SLURM jobid (\d+) \(log: \S*/rule_(\w+)/"
        yield Run(
            project, status, text, records, dict(re.findall(submitted, text)), cancelled, orphaned
        )
        shown = [
            f"{job} {run_.get('JobState')} {run_.get('Partition')} {run_.get('NodeList')}"
            for job, run_ in records.items()
        ]
        print("\n".join(["", "Slurm's records (job, state, partition, node):", *shown]))


def running_job(
    cluster: Cluster, snakemake: "subprocess.Popen[bytes]", rule: str
) -> tuple[str, str]:
    """Wait until a job of a rule runs, and return its id and its node."""
    while snakemake.poll() is None:
        for job, node, comment in cluster.running():
            if rule in comment:
                return job, node
        time.sleep(0.2)
    raise AssertionError("the run ended before the test could disturb it")


def test_the_report_is_made_all_the_same(run: Run) -> None:
    assert run.status == 0, run.log[-5000:]
    assert (run.project.folder / "results/report.html").is_file()
    assert not run.project.leftovers()


def test_jobs_ran_on_more_than_one_node(run: Run) -> None:
    completed = [r for r in run.records.values() if r["JobState"] == "COMPLETED"]
    nodes = {record["NodeList"] for record in completed}
    assert GPU_NODE in nodes
    assert len(nodes) > 1


def test_rules_with_a_gpu_ran_on_the_gpu_partition_and_no_others(run: Run) -> None:
    places = {
        (run.rules[job] == "benchmark_engine", record["Partition"], record["NodeList"] == GPU_NODE)
        for job, record in run.records.items()
    }
    assert places == {(True, "gpu", True), (False, "main", False)}


def test_all_jobs_ran_on_the_cluster_but_those_that_fetch(run: Run) -> None:
    assert {"make_crops", "export_onnx", "build_engine", "score_accuracy"} <= {*run.rules.values()}
    assert not {rule for rule in run.rules.values() if rule.startswith("fetch_")}


def test_a_job_that_was_cancelled_and_one_whose_node_died_ran_again(run: Run) -> None:
    assert run.records[run.cancelled]["JobState"] == "CANCELLED"
    assert run.records[run.orphaned]["JobState"] == "NODE_FAIL"
    for job in (run.cancelled, run.orphaned):
        again = [other for other, rule in run.rules.items() if rule == run.rules[job]]
        assert any(
            run.records[other]["JobState"] == "COMPLETED"
            for other in again
            if int(other) > int(job)
        )


def test_results_are_those_of_a_local_run(run: Run, repository: Path, tmp_path: Path) -> None:
    local = Project.copied(repository, tmp_path / "local")
    names = [
        f"results/{variant}_{kind}.json" for variant in VARIANTS for kind in ("accuracy", "parity")
    ]
    local.succeed("--configfile", local.overlay({**QUICK, "shards": 1}), "--", *names)
    for name in names:
        assert (run.project.folder / name).read_bytes() == (local.folder / name).read_bytes()


def test_speed_was_measured_on_the_gpu_node(run: Run) -> None:
    for variant in VARIANTS:
        perf = run.project.json(f"results/{variant}_perf.json")
        assert perf["threads"] == 2


def test_nothing_is_left_to_do(run: Run) -> None:
    again = run.project.succeed("--dry-run", "--configfile", "overlay.yaml", "--", "report")
    assert "Nothing to be done" in again
