"""What a run needs on the disk, and crops that are dropped after they were read."""

import json
import shutil
import threading
import time
from pathlib import Path

import pytest

from hrnetpose import disk
from hrnetpose.run import SHARDS_AT_WORK
from planner import Planner
from support import TINY_CONFIG, Project

SHARDS = SHARDS_AT_WORK + 3
RUN = {
    "run": "once",
    "crops": "temporary",
    "shards": SHARDS,
    "variants": {
        "pytorch": None, "fp16": None, "bf16": None, "int8": None,
        "ort": {"backend": "onnxruntime", "precision": "fp32", "batch": 4},
    },
}  # fmt: skip
FIGURES = ["results/once/fp32_accuracy.json", "results/once/ort_accuracy.json"]


@pytest.fixture
def project(repository: Path, tmp_path: Path) -> Project:
    return Project.copied(repository, tmp_path / "project")


def write_detections(project: Project, boxes: int) -> None:
    """Annotate one image, on which a detector has found many persons."""
    keypoints = [10.0, 10.0, 2] * 17
    person = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 50, 50],
              "keypoints": keypoints, "num_keypoints": 17, "area": 900, "iscrowd": 0}  # fmt: skip
    image = {"id": 1, "file_name": "1.jpg", "width": 100, "height": 100}
    (project.folder / "a.json").write_text(json.dumps({"images": [image], "annotations": [person]}))
    found = {"image_id": 1, "category_id": 1, "bbox": [5, 5, 50, 50], "score": 0.9}
    (project.folder / "boxes.json").write_text(json.dumps([found] * boxes))
    (project.folder / "images").mkdir()
    (project.folder / "images/1.jpg").write_bytes(b"not read when planning")
    (project.folder / "not_read_when_planning.pth").write_bytes(b"tensors")
    (project.folder / "large.py").write_text(
        TINY_CONFIG.replace("input_size=(32, 64)", "input_size=(768, 1024)")
    )
    project.overlay(
        {
            "run": "many",
            "model": "large",
            "dataset": "many",
            "models": {"large": {"config": "large.py", "weights": "not_read_when_planning.pth"}},
            "datasets": {"many": {"images": "images", "annotations": "a.json",
                                  "detections": {"source": "boxes.json"}}},
            "protocols": {"boxes": ["gt", "det"]},
            "variants": {"int8": None},
        }
    )  # fmt: skip


CROP = 3 * 768 * 1024
"""Bytes."""


def planned(project: Project, tmp_path: Path, *config: str) -> tuple[int, list[str]]:
    """Plan the report; return the exit status and what it says of the disk."""
    with Planner(tmp_path) as planner:
        status, printed = planner.snakemake(
            project.folder, "-n", "--quiet", "all", "--configfile", "overlay.yaml",
            *(["--config", *config] if config else []), "--", "report",
        )  # fmt: skip
    return status, [line for line in printed.splitlines() if "disk: " in line]


def test_the_plan_says_what_crops_take_and_how_to_take_less(
    project: Project, tmp_path: Path
) -> None:
    write_detections(project, 2000)
    status, (line,) = planned(project, tmp_path)
    assert status == 0
    assert "4.7 GB of crops (det, 1024x768, 2,000 persons)" in line
    assert "2.4 MB of crops (gt, 1024x768, 1 persons)" in line
    assert f"`crops: temporary` and `shards: {(2001 * CROP) // disk.SHARD_BYTES + 1}`" in line
    # About half of it; below a gigabyte nothing is said.
    _, (line,) = planned(project, tmp_path, "crops=temporary", f"shards={2 * SHARDS_AT_WORK - 1}")
    assert "2.5 GB of crops (det" in line
    assert planned(project, tmp_path, "crops=temporary", "shards=1000") == (0, [])


def test_a_run_that_needs_more_than_there_is_is_refused_when_it_is_planned(
    project: Project, tmp_path: Path
) -> None:
    # Twice as much: others may make room meanwhile.
    boxes = 2 * shutil.disk_usage(project.folder).free // CROP + 1000
    if boxes * 90 > disk.LARGEST_FILE:
        pytest.skip("the disk here is too large to be filled by boxes that a plan reads")
    write_detections(project, boxes)
    status, (line,) = planned(project, tmp_path)
    assert status != 0
    assert line.startswith("configuration: disk: this run needs ")
    assert f"{boxes:,} persons), " in line or f"{boxes:,} persons); only " in line
    assert "are free; with `crops: temporary`" in line


def test_temporary_crops_are_bounded_and_give_the_same_figures(project: Project) -> None:
    """Other runs find nothing of them, and a second plan has nothing to do."""
    most, done = [], threading.Event()

    def watch() -> None:
        while not done.is_set():
            found = project.folder.glob("build/crops/once/sample/128x96/gt/crops_*.npy")
            most.append(len(list(found)))
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        project.succeed(*FIGURES, "--configfile", project.overlay(RUN))
    finally:
        done.set()
        watcher.join()
    assert 0 < max(most) <= SHARDS_AT_WORK < SHARDS
    assert not list(project.folder.glob("build/**/gt/crops_*.npy"))
    assert project.jobs(*FIGURES, "--configfile", "overlay.yaml") == {}

    kept = project.overlay({**RUN, "run": "kept", "crops": "keep", "shards": 1}, "kept.yaml")
    project.succeed("results/kept/ort_accuracy.json", "--configfile", kept)
    figures = [project.json(f"results/{run}/ort_accuracy.json") for run in ("once", "kept")]
    assert figures[0]["metrics"] == figures[1]["metrics"]
    assert project.jobs(*FIGURES, "--configfile", "overlay.yaml") == {}

    # What crops are cut by is still what predictions depend on.
    code = project.folder / "workflow_scripts/hrnetpose/data/cutting.py"
    code.write_text(code.read_text() + "# edited\n")
    jobs = project.jobs(*FIGURES, "--configfile", "overlay.yaml")
    assert jobs["make_temporary_crops"] == SHARDS
    assert jobs["predict_keypoints"] == 2 * SHARDS
