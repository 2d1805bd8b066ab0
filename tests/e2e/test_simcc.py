"""The sample with a SimCC model: what heatmap models have, and the figures of mmpose itself."""

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from support import Project

METRICS = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
NAMES = dict(zip(METRICS, (
    "AP", "AP .5", "AP .75", "AP (M)", "AP (L)", "AR", "AR .5", "AR .75", "AR (M)", "AR (L)",
), strict=True))  # fmt: skip
"""Ours -> mmpose's."""
VARIANTS = {"pytorch": 0.0, "fp32": 0.001, "fp16": 0.005, "bf16": 0.01, "int8": 0.1}
"""How much AP each may lose or gain against the original."""


@pytest.fixture(scope="module")
def finished(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which the SimCC model's accuracies and parities are made."""
    project = Project.copied(repository, tmp_path_factory.mktemp("simcc"))
    results = [f"results/simcc/{name}_{kind}.json" for name in VARIANTS for kind in KINDS]
    project.succeed(*results, "--configfile", "configs/sample_simcc.yaml")
    return project


KINDS = ("accuracy", "parity")


def check_figures(project: Project, results: str, annotations: Path, images: Path) -> None:
    """Compare the figures of the original model with those of mmpose's own evaluation."""
    model = project.folder / "resources/sample_simcc/rtmcc_sample_128x96"
    figure = project.json(results)
    for result in figure["protocols"]:
        subprocess.run(
            [
                sys.executable, project.folder / "tools/bench/bench_worker.py", "mmpose",
                "--config", f"{model}.py", "--weights", f"{model}.pth",
                "--annotations", annotations, "--images", images, "--threads", "1",
                "--flip", str(int(result["protocol"]["flip"])), "--output", "found.json",
            ],
            cwd=project.folder, check=True, capture_output=True,
        )  # fmt: skip
        theirs = project.json("found.json")

        assert theirs["persons"] == figure["instances"]
        found = [result["metrics"][name] for name in METRICS]
        wanted = [theirs["metrics"][f"coco/{NAMES[name]}"] for name in METRICS]
        assert found == pytest.approx(wanted, abs=0.0005), result["protocol"]


def test_the_ten_figures_are_mmposes_own(finished: Project, tmp_path: Path) -> None:
    results = "results/simcc/pytorch_accuracy.json"
    sample = finished.folder / "resources/datasets/sample"
    with zipfile.ZipFile(sample / "val.zip") as archive:
        archive.extractall(tmp_path)
    (images,) = {path.parent for path in tmp_path.rglob("*.jpg")}

    check_figures(finished, results, sample / "val.json", images)

    assert all(one["metrics"]["AP"] > 0.8 for one in finished.json(results)["protocols"])


def test_the_ten_figures_on_photographs_are_mmposes_own(finished: Project, real: Path) -> None:
    """The model has seen nothing but drawn people: its figures are low, and as low as mmpose's."""
    annotations = real / "annotations/person_keypoints_val2017.json"
    dataset = {"images": str(real / "images/val2017"), "annotations": str(annotations)}
    content = {
        "run": "photographs",
        "dataset": "real",
        "datasets": {"sample": None, "real": dataset},
        "variants": {"int8": None},
    }
    overlay = finished.overlay(content)
    results = "results/photographs/pytorch_accuracy.json"
    finished.succeed(results, "--configfile", "configs/sample_simcc.yaml", overlay)

    check_figures(finished, results, annotations, real / "images/val2017")

    assert 0 < finished.json(results)["metrics"]["AP"] < 0.5


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_precision_stays_near_the_reference(finished: Project, variant: str) -> None:
    figure = finished.json(f"results/simcc/{variant}_accuracy.json")
    for result in figure["protocols"]:
        assert "simcc decoding" in result["protocol"]["label"]
        change: dict[str, Any] = result["delta"] or {"AP": 0.0}
        assert abs(change["AP"]) <= VARIANTS[variant]
    engine = finished.json(f"build/engines/simcc/{variant}/engine.json")
    assert [(one["name"], one["shape"][1:]) for one in engine["model"]["outputs"]] == [
        ("simcc_x", [17, 192]),
        ("simcc_y", [17, 256]),
    ]


def test_parity_is_traced_through_both_outputs(finished: Project) -> None:
    exact = finished.json("results/simcc/fp32_parity.json")["stages"]
    assert list(exact) == ["original", "onnx", "simplified", "precision", "engine"]
    assert all(drift["max_abs"] < 1e-3 for drift in exact.values())
    assert all(drift["keypoint_shift_px"]["max"] < 1 for drift in exact.values())
    int8 = finished.json("results/simcc/int8_parity.json")["stages"]
    assert int8["simplified"]["max_abs"] < 1e-3 < int8["precision"]["max_abs"]
