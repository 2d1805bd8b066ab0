"""Runs beside each other, from other folders and as modules of other workflows."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from planner import Planner, fabricate
from support import Project

RUN: dict[str, Any] = {
    "run": "mine",
    "dataset": "mine",
    "datasets": {
        "mine": {
            "images": "given/images",
            "annotations": "given/annotations.json",
            "calibration": {"images": "given/images", "annotations": "given/annotations.json"},
        }
    },
}
SHARED = {"export_onnx", "simplify_onnx", "fetch_file"}
"""What all runs of a model have in common; also its graphs in floating point."""


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planner]:
    with Planner(tmp_path_factory.mktemp("planner")) as started:
        yield started


@pytest.fixture
def project(repository: Path, tmp_path: Path) -> Project:
    """A project with a dataset of the user's own."""
    project = Project.copied(repository, tmp_path / "project")
    given = project.folder / "given"
    (given / "images").mkdir(parents=True)
    (given / "images/a.jpg").write_bytes(b"a")
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}],
        "annotations": [
            {"id": 1, "image_id": 1, "bbox": [1, 1, 5, 5], "keypoints": [2, 2, 2] * 17}
        ],
    }
    (given / "annotations.json").write_text(json.dumps(content))
    project.overlay(RUN)
    return project


OVERLAY = ("--configfile", "overlay.yaml", "--", "report", "gate")


def test_runs_do_not_overwrite_each_other(project: Project, planner: Planner) -> None:
    fabricate(planner, project.folder, "--", "report", "gate")
    first = {path: path.read_bytes() for path in (project.folder / "results").iterdir()}

    jobs = planner.jobs(project.folder, *OVERLAY)
    assert not {job.rule for job in jobs} & SHARED
    assert {job["graph"] for job in jobs if job.rule == "convert_precision"} == set()
    assert {job["dataset"] for job in jobs if job.rule == "quantize_int8"} == {"mine"}
    fabricate(planner, project.folder, *OVERLAY)

    assert planner.jobs(project.folder, "--", "report", "gate") == set()
    assert planner.jobs(project.folder, *OVERLAY) == set()
    assert {path: path.read_bytes() for path in first} == first
    results = {path.name for path in (project.folder / "results/mine").iterdir()}
    assert {"fp16_perf.json", "int8_accuracy.json", "report.html", "gate.txt"} <= results


def test_one_run_is_removed_alone(project: Project, planner: Planner) -> None:
    fabricate(planner, project.folder, "--", "report")
    fabricate(planner, project.folder, *OVERLAY)

    done = project.make("clean", "RUN=mine")
    assert done.returncode == 0, done.stderr

    assert planner.jobs(project.folder, "--", "report") == set()
    assert not (project.folder / "results/mine").exists()
    assert not (project.folder / "build/engines/mine").exists()
    for wrong in ("../given", "bundles", ""):
        assert project.make("clean", f"RUN={wrong}").returncode != 0
    assert (project.folder / "given/images/a.jpg").is_file()
    assert (project.folder / "results/report.html").is_file()


def test_a_run_without_a_name_that_would_overwrite_another_s_results_says_so(
    project: Project, planner: Planner
) -> None:
    results = project.folder / "results"
    results.mkdir()
    figure = {"protocol": {"subset": "sample (100 images, 374 persons)"}}
    (results / "fp16_accuracy.json").write_text(json.dumps(figure))
    project.overlay({**RUN, "run": None})

    _, unnamed = planner.snakemake(project.folder, "--dry-run", *OVERLAY)
    project.overlay(RUN)
    _, named = planner.snakemake(project.folder, "--dry-run", *OVERLAY)

    said = "results/fp16_accuracy.json is of dataset 'sample' and will be overwritten by one of"
    assert said in unnamed
    assert "overwritten" not in named


def test_graphs_where_an_earlier_version_had_them_are_named(
    project: Project, planner: Planner
) -> None:
    graph = project.folder / "build/models/sample/int8.onnx"
    graph.parent.mkdir(parents=True)
    graph.write_bytes(b"")

    _, printed = planner.snakemake(project.folder, "--dry-run", "--", "report")

    assert "build/models/sample/int8.onnx: of an earlier version" in printed


@pytest.mark.parametrize("name", ["fp16", "bundles", "../up", "a/b", ""])
def test_a_name_that_a_run_cannot_have_is_refused(
    project: Project, planner: Planner, name: str
) -> None:
    project.overlay({**RUN, "run": name})

    status, printed = planner.snakemake(project.folder, "--dry-run", *OVERLAY)

    assert status == 1
    assert "configuration: run: " in printed


# --- from elsewhere -------------------------------------------------------------------------------


def counts(printed: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z_]+) +([0-9]+)$", printed, re.MULTILINE))


def test_a_run_from_another_folder_is_the_same_and_writes_there(
    project: Project, planner: Planner, tmp_path: Path
) -> None:
    overlay = tmp_path / "more.yaml"
    overlay.write_text(yaml.safe_dump({"variants": {"ort": {"backend": "onnxruntime",
                                                            "precision": "fp32"}}}))  # fmt: skip
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    more = ("--dry-run", "--configfile", str(overlay), "--", "report")

    _, here = planner.snakemake(project.folder, *more)
    status, there = planner.snakemake(
        elsewhere, "--snakefile", str(project.folder / "Snakefile"), *more
    )
    _, directed = planner.snakemake(project.folder, "--directory", str(elsewhere), *more)

    assert status == 0, there
    assert counts(there) == counts(here) == counts(directed)
    assert "benchmark_engine" in counts(here)


def test_a_run_by_way_of_a_link_is_the_same(project: Project, planner: Planner) -> None:
    fabricate(planner, project.folder, "--", "report")
    link = project.folder.with_name("link")
    link.symlink_to(project.folder)

    by_link = ("--snakefile", str(link / "Snakefile"), "--directory", str(link), "--", "report")

    assert planner.jobs(project.folder.parent, *by_link) == set()


def test_braces_in_a_path_are_refused(project: Project, planner: Planner, tmp_path: Path) -> None:
    """Snakemake would look for a wildcard of that name, and put its value there."""
    project.overlay(
        {**RUN, "datasets": {"mine": {**RUN["datasets"]["mine"], "images": "a{dataset}"}}}
    )
    status, printed = planner.snakemake(project.folder, "--dry-run", *OVERLAY)
    assert status == 1
    assert "configuration: a{dataset}: Snakemake takes braces in a path for a wildcard" in printed

    moved = project.folder.rename(tmp_path / "a{b}")
    status, printed = planner.snakemake(moved, "--dry-run", "--", "report")
    assert status == 1
    assert "a{b}: Snakemake takes braces in a path for a wildcard; rename the folder" in printed


def test_a_configuration_in_the_working_directory_goes_over_the_workflow_s(
    project: Project, planner: Planner, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "config.yaml").write_text("variants: {int8: null}\n")
    snakefile = ("--dry-run", "--snakefile", str(project.folder / "Snakefile"), "--", "report")

    _, printed = planner.snakemake(elsewhere, *snakefile)
    assert counts(printed)["build_engine"] == "4"

    (elsewhere / "config.yaml").write_text("samples: other.tsv\n")
    status, printed = planner.snakemake(elsewhere, *snakefile)
    assert status == 1
    assert "configuration: samples: unknown key" in printed


# --- as a module ----------------------------------------------------------------------------------

MODULE = """
module {name}:
    snakefile: {snakefile!r}
    config: {config!r}

use rule * from {name} as {name}_*
"""


def outer(project: Project, folder: Path, **modules: dict[str, Any]) -> Path:
    folder.mkdir()
    text = "".join(
        MODULE.format(name=name, snakefile=str(project.folder / "Snakefile"), config=config)
        for name, config in modules.items()
    )
    (folder / "Snakefile").write_text(text)
    return folder


def test_a_module_has_the_workflow_s_configuration_as_its_base(
    project: Project, planner: Planner, tmp_path: Path
) -> None:
    folder = outer(project, tmp_path / "outer", pose={"shards": 2, "variants": {"int8": None}})

    jobs = planner.jobs(folder, "--", "results/fp32_accuracy.json")

    assert {job["shard"] for job in jobs if job.rule == "pose_predict_keypoints"} == {
        "1-of-2",
        "2-of-2",
    }
    assert "pose_export_onnx" in {job.rule for job in jobs}


def test_two_modules_with_other_models_and_shards_stand_side_by_side(
    project: Project, planner: Planner, tmp_path: Path
) -> None:
    w32 = {"config": "td-hm_hrnet-w32_8xb64-210e_coco-256x192", "weights": None}
    given = str(project.folder / "given")
    data = {"images": f"{given}/images", "annotations": f"{given}/annotations.json"}
    folder = outer(
        project,
        tmp_path / "outer",
        one={"run": "one", "shards": 2},
        two={
            "run": "two", "shards": 3, "model": "w32", "models": {"w32": w32}, "dataset": "mine",
            "datasets": {"mine": data}, "variants": {"int8": None},
        },
    )  # fmt: skip

    jobs = planner.jobs(
        folder, "--", "results/one/fp32_accuracy.json", "results/two/fp32_perf.json"
    )

    exported = {job["model"] for job in jobs if job.rule.endswith("export_onnx")}
    assert exported == {"sample", "w32"}
    assert len([job for job in jobs if job.rule == "one_predict_keypoints"]) == 4


def test_a_module_without_a_run_leaves_the_figures_of_another_one_alone(
    project: Project, planner: Planner, tmp_path: Path
) -> None:
    given = str(project.folder / "given")
    data = {"images": f"{given}/images", "annotations": f"{given}/annotations.json"}
    w32 = {"config": "td-hm_hrnet-w32_8xb64-210e_coco-256x192", "weights": None}
    two = {
        "run": "two", "model": "w32", "models": {"w32": w32}, "dataset": "mine",
        "datasets": {"mine": data}, "variants": {"int8": None},
    }  # fmt: skip
    folder = outer(project, tmp_path / "outer", one={"variants": {"int8": None}}, two=two)

    jobs = planner.jobs(folder, "--", "results/fp32_perf.json", "results/two/fp32_perf.json")

    assert {"one_benchmark_engine", "two_benchmark_engine"} <= {job.rule for job in jobs}
    status, printed = planner.snakemake(folder, "--dry-run", "--", "results/fp64_perf.json")
    assert status == 1
    assert "there is no variant 'fp64'" in printed


def test_a_module_with_a_prefix_is_refused(
    project: Project, planner: Planner, tmp_path: Path
) -> None:
    folder = outer(project, tmp_path / "outer", pose={})
    snakefile = folder / "Snakefile"
    snakefile.write_text(snakefile.read_text().replace("config:", "prefix: 'sub'\n    config:"))

    status, printed = planner.snakemake(folder, "--dry-run", "--", "pose_report")

    assert status == 1
    assert "prefix: the paths of this workflow are fixed" in printed


def test_single_files_from_an_address_are_refused_with_the_recipe(
    project: Project, planner: Planner, tmp_path: Path
) -> None:
    files = tmp_path / "fetched"
    shutil.copytree(project.folder / "rules", files / "rules")
    shutil.copy(project.folder / "Snakefile", files)

    status, printed = planner.snakemake(files, "--dry-run", "--", "report")

    assert status == 1
    assert "stages need the whole repository; clone it" in printed
