"""A stage that fails leaves a row with a reason in the report; the rest of the report is made."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hrnetpose.models import mmpose
from planner import Planner
from support import TINY_CONFIG, Project, environment

QUICK = {
    "model": "tiny",
    "models": {name: {"config": "tiny.py", "weights": f"{name}.pth"} for name in ("tiny", "over")},
    "benchmark": {"min_seconds": 0.05, "min_samples": 2, "batches": [1]},
    "protocols": {"flip": [False]},
    "dataset": "few",
    "datasets": {"few": {"images": "few.zip", "annotations": "few.json"}},
}
GOOD = {
    **dict.fromkeys(("pytorch", "fp16", "bf16", "int8")),
    "fp32": {"backend": "openvino"},
}
# Two that fail, of two models: a half overflows; an SDK is not there.
BAD = {
    "half": {"model": "over", "backend": "pytorch", "precision": "fp16"},
    "absent": {"backend": "ixrt", "precision": "fp16"},
}
REPORT = ("--configfile", "overlay.yaml", "--", "report")
REASONS = [
    "  half: no accuracy: predict_keypoints: build/engines/half: ",
    "  half: no speed: benchmark_engine: build/engines/half: ",
    "  half: no parity: measure_parity: build/engines/half: ",
    "  absent: no engine, accuracy, speed, parity: build_engine: backend ixrt ",
]


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planner]:
    with Planner(tmp_path_factory.mktemp("planner")) as started:
        yield started


def write_models(project: Project) -> None:
    """A small network, and the same whose heatmaps lie beyond fp16's range."""
    (project.folder / "tiny.py").write_text(TINY_CONFIG)
    model = mmpose.build_model(mmpose.read_config(str(project.folder / "tiny.py")), None)
    state = model.state_dict()
    torch.save({"state_dict": state}, project.folder / "tiny.pth")
    state["head.final_layer.bias"] += 1e5
    torch.save({"state_dict": state}, project.folder / "over.pth")


def summary(project: Project) -> str:
    return (project.folder / "results/summary.txt").read_text()


def page(project: Project) -> str:
    return (project.folder / "results/report.html").read_text()


@pytest.fixture(scope="module")
def failed(
    repository: Path, planner: Planner, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Project, str]:
    """A project whose report lacks two rows, and what the run printed."""
    project = Project.copied(repository, tmp_path_factory.mktemp("failed"))
    write_models(project)
    subprocess.run(
        [sys.executable, "workflow_scripts/draw_sample.py", "--split", "val", "--images", "10",
         "--archive", "few.zip", "--annotations", "few.json"],
        cwd=project.folder, env=environment(), check=True,
    )  # fmt: skip
    project.overlay({**QUICK, "variants": {**GOOD, **BAD}})
    status, printed = planner.snakemake(project.folder, *REPORT)
    assert status == 1, printed
    return project, printed


@pytest.fixture
def project(failed: tuple[Project, str], tmp_path: Path) -> Project:
    """A copy of it, to go on with."""
    shutil.copytree(failed[0].folder, tmp_path / "project")
    return Project(tmp_path / "project")


def test_what_failed_is_a_row_with_its_reason_and_the_rest_is_measured(
    failed: tuple[Project, str],
) -> None:
    project, _ = failed
    text = summary(project)

    heading, *reasons = text.splitlines()[:5]
    assert heading.startswith("NOT COMPLETE: 2 of 3 rows ")
    for reason, start in zip(sorted(reasons, reverse=True), sorted(REASONS, reverse=True),
                             strict=True):  # fmt: skip
        assert reason.startswith(start)
        assert reason.count("NaN or infinite; this model overflows in fp16") == ("half" in start)
    for variant in ("half", "absent"):
        assert re.search(rf"^{variant} .* FAILED ", text, re.MULTILINE)
    assert re.search(r"^fp32 +openvino +fp32 +0\.\d{4} .* (IN)?VALID ", text, re.MULTILINE)
    failures = page(project).partition('id="failures"')[2].partition("</section>")[0]
    assert "<li><b>half</b>: " in failures
    assert page(project).count("<img ") >= 12
    assert not project.leftovers()


def test_the_reasons_are_printed_last_and_no_figure_is_left(failed: tuple[Project, str]) -> None:
    project, printed = failed
    assert summary(project) in printed[printed.index("Exiting because a job execution failed") :]
    figures = {path.name for path in (project.folder / "results").glob("*.json")}
    assert not any(name.startswith(("half_", "absent_")) for name in figures)
    assert not any("FAILED" in path.read_text()
                   for path in (project.folder / "results").glob("*.json"))  # fmt: skip


def test_the_same_call_tries_again_what_failed_and_nothing_else(project: Project) -> None:
    assert project.jobs(*REPORT) == {
        "build_engine": 1,
        "predict_keypoints": 2,
        "score_accuracy": 2,
        "benchmark_engine": 2,
        "measure_parity": 2,
        "write_report": 1,
        "report": 1,
    }


def test_when_the_cause_is_mended_the_whole_report_is_made(
    project: Project, planner: Planner
) -> None:
    mended = {
        "half": {"model": "over", "backend": "openvino", "precision": "fp32"},
        "absent": {"backend": "onnxruntime", "precision": "fp32"},
    }
    project.overlay({**QUICK, "variants": {**GOOD, **mended}})
    status, printed = planner.snakemake(project.folder, *REPORT)
    assert status == 0, printed
    assert "NOT COMPLETE" not in summary(project) + page(project)
    whole = r"^(?:half|absent) .* 0\.\d{4} .* (?:IN)?VALID "
    assert len(re.findall(whole, summary(project), re.MULTILINE)) == 2
    assert "Nothing to be done" in project.succeed(*REPORT)


def test_when_what_failed_is_no_longer_asked_for_the_report_is_made_anew_each_time(
    project: Project, planner: Planner
) -> None:
    """All figures are there each time, and it is the page alone that is an incomplete one."""
    for _ in range(2):
        project.overlay({**QUICK, "variants": GOOD})
        status, printed = planner.snakemake(project.folder, *REPORT)
        assert status == 0, printed
        assert "NOT COMPLETE" not in summary(project)
        assert "half" not in summary(project)
        absent = {"absent": BAD["absent"]}
        project.overlay({**QUICK, "variants": {**GOOD, **absent}})
        assert planner.snakemake(project.folder, *REPORT)[0] == 1
        assert "NOT COMPLETE: 1 of 2 rows" in summary(project)


def refuse_in(project: Project, script: str, message: str) -> None:
    """Make a stage fail."""
    path = project.folder / f"workflow_scripts/{script}.py"
    text = f'    from hrnetpose.stage import StageError\n\n    raise StageError("{message}")\n'
    start = '    """Run the stage."""\n'
    head, line, rest = path.read_text().partition(start)
    assert rest
    path.write_text(f"{head}{line}{text}{rest}")


def test_old_figures_of_an_engine_that_cannot_be_built_any_more_are_not_shown(
    project: Project, planner: Planner
) -> None:
    refuse_in(project, "build_engine", r"<b>no</b> \x1b[31mmore")
    status, _ = planner.snakemake(project.folder, *REPORT)
    assert status == 1
    assert (project.folder / "results/fp32_perf.json").exists()
    reason = "  fp32: no engine, accuracy, speed, parity: build_engine: <b>no</b> more\n"
    assert reason in summary(project)
    assert "build_engine: &lt;b&gt;no&lt;/b&gt; more" in page(project)


def test_a_figure_whose_engine_is_gone_is_not_up_to_date(
    project: Project, planner: Planner
) -> None:
    """The build removes the engine and fails; what was measured on the old one lies there still."""
    refuse_in(project, "build_engine", "no")
    target = ("--configfile", "overlay.yaml", "--", "results/fp32_perf.json")
    for _ in range(2):
        status, printed = planner.snakemake(project.folder, *target)
        assert status == 1, printed
    assert (project.folder / "results/fp32_perf.json").exists()


def test_an_early_stage_is_named_in_each_row_also_where_nothing_can_be_shown(
    project: Project, planner: Planner
) -> None:
    refuse_in(project, "export_onnx", "no such layer")
    status, _ = planner.snakemake(project.folder, *REPORT)
    assert status == 1
    heading, *lines = summary(project).splitlines()
    assert "3 of 3 rows" in heading
    reason = "no engine, accuracy, speed, parity: export_onnx: no such layer"
    for variant in ("absent", "fp32", "half"):
        assert f"  {variant}: {reason}" in lines
        assert f"<b>{variant}</b>: {reason}" in page(project)


def test_a_single_figure_that_fails_leaves_the_report_alone(
    project: Project, planner: Planner
) -> None:
    before = page(project)
    (project.folder / "results/summary.txt").unlink()
    status, _ = planner.snakemake(
        project.folder, "--configfile", "overlay.yaml", "--", "results/absent_perf.json"
    )
    assert status == 1
    assert page(project) == before
    assert not (project.folder / "results/summary.txt").exists()
