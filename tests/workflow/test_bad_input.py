"""A stage that meets bad input: one line on the terminal, the traceback in its log, no output."""

import json
import resource
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from support import Project, environment, stage_command

WEIGHTS = "resources/sample/hrnet_sample_128x96.pth"
CONFIG = "resources/sample/hrnet_sample_128x96.py"
ANNOTATIONS = "resources/datasets/sample/val.json"
IMAGES = "resources/datasets/sample/val.zip"
CROPS = "build/datasets/sample/128x96/gt/crops_1-of-1.npy"
PERSONS = "build/datasets/sample/persons_gt.npz"
EXPORT = "build/models/sample/model.onnx"
SCRIPTS = {EXPORT: "export_onnx", PERSONS: "audit_dataset"}


@pytest.fixture(scope="module")
def drawn(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose images are drawn."""
    project = Project.copied(repository, tmp_path_factory.mktemp("drawn"))
    project.succeed(IMAGES)
    return project


@pytest.fixture
def project(drawn: Project, tmp_path: Path) -> Project:
    shutil.copytree(drawn.folder, tmp_path / "project")
    return Project(tmp_path / "project")


def test_the_sample_is_drawn_once_and_its_crops_are_made(project: Project) -> None:
    project.succeed(CROPS)
    assert (project.folder / CROPS).is_file()


def truncate_weights(project: Project) -> None:
    content = (project.folder / WEIGHTS).read_bytes()
    (project.folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def take_other_weights(project: Project) -> None:
    torch.save({"state_dict": {"backbone.conv1.weight": torch.zeros(3)}}, project.folder / WEIGHTS)


def turn_into_regression(project: Project) -> None:
    config = project.folder / CONFIG
    config.write_text(config.read_text().replace('"HeatmapHead"', '"RegressionHead"'))


def write_no_python(project: Project) -> None:
    config = project.folder / CONFIG
    config.write_text(config.read_text() + "\nthis is no python\n")


def edit_annotations(
    change: Callable[[dict[str, list[dict[str, object]]]], None],
) -> Callable[[Project], None]:
    def edit(project: Project) -> None:
        path = project.folder / ANNOTATIONS
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return edit


def without_keypoints(content: dict[str, list[dict[str, object]]]) -> None:
    for entry in content["annotations"]:
        del entry["keypoints"]


def without_persons(content: dict[str, list[dict[str, object]]]) -> None:
    for entry in content["annotations"]:
        entry["num_keypoints"] = 0


def without_labels(content: dict[str, list[dict[str, object]]]) -> None:
    for entry in content["annotations"]:
        entry["keypoints"] = [10, 10, 0] * 17


def with_a_text_for_an_id(content: dict[str, list[dict[str, object]]]) -> None:
    content["categories"][0]["id"] = "1"


def truncate_annotations(project: Project) -> None:
    path = project.folder / ANNOTATIONS
    path.write_text(path.read_text()[:1000])


def edit_first_image(change: Callable[[bytes], bytes | None]) -> Callable[[Project], None]:
    def edit(project: Project) -> None:
        path = project.folder / IMAGES
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in sorted(archive.namelist())}
        name = next(iter(members))
        changed = change(members.pop(name))
        with zipfile.ZipFile(path, "w") as archive:
            if changed is not None:
                archive.writestr(name, changed)
            for other, content in members.items():
                archive.writestr(other, content)

    return edit


def truncate_archive(project: Project) -> None:
    content = (project.folder / IMAGES).read_bytes()
    (project.folder / IMAGES).write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("damage", "target", "message"),
    [
        (truncate_weights, EXPORT, "sample.pth: a damaged checkpoint"),
        (take_other_weights, EXPORT, f"sample.pth: does not belong to {CONFIG}: "),
        (edit_annotations(without_keypoints), PERSONS, "val.json: no annotation has `keypoints`"),
        (edit_annotations(without_persons), PERSONS, "val.json: no person with labelled keypoints"),
        (edit_annotations(without_labels), PERSONS, "val.json: no person with labelled keypoints"),
        (
            edit_annotations(with_a_text_for_an_id), PERSONS,
            "are of category 1, but `categories` lists '1'; give a category one id in both",
        ),
        (truncate_annotations, PERSONS, "val.json: not JSON"),
        (edit_first_image(lambda image: None), PERSONS, "val.zip: holds no image 0"),
        (edit_first_image(lambda image: image[:2000]), PERSONS, "is damaged: it cannot be decoded"),
        (
            edit_first_image(lambda image: b"no image"), PERSONS,
            f"is damaged: it cannot be decoded whole; {ANNOTATIONS} lists it",
        ),
        (truncate_archive, PERSONS, "val.zip: not a whole zip ("),
    ],
)  # fmt: skip
def test_bad_input_fails_with_one_line(
    project: Project, damage: Callable[[Project], None], target: str, message: str
) -> None:
    damage(project)
    done = project.snakemake(target)
    assert done.returncode != 0
    script = SCRIPTS[target]
    lines = [line for line in done.stderr.splitlines() if line.startswith(f"{script}: error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in done.stderr
    logs = (project.folder / "logs" / script).rglob("*.log")
    assert any("Traceback" in log.read_text() for log in logs)
    assert not (project.folder / target).exists()
    assert not project.leftovers()


def test_a_model_of_another_kind_is_refused_when_planning(project: Project) -> None:
    turn_into_regression(project)
    done = project.snakemake(EXPORT)
    assert done.returncode != 0
    said = f"configuration: models.sample.config: {CONFIG}: model.head.type is 'RegressionHead' "
    assert said in done.stderr


def test_a_config_that_is_no_python_is_refused_when_planning(project: Project) -> None:
    write_no_python(project)
    done = project.snakemake(EXPORT)
    assert done.returncode != 0
    assert (
        f"configuration: models.sample.config: {CONFIG}: not a Python config file: " in done.stderr
    )


def test_a_web_page_in_place_of_weights_is_named(project: Project) -> None:
    (project.folder / WEIGHTS).write_text("<html>404 not found</html>")
    done = project.snakemake(EXPORT)
    assert done.returncode != 0
    assert f"fetch_file: error: {WEIGHTS}: it is an HTML page in place of the file" in done.stderr
    assert not (project.folder / "resources/weights/sample.pth").exists()


def test_a_wrong_hash_is_named_and_nothing_is_kept(project: Project) -> None:
    overlay = project.overlay({"models": {"sample": {"sha256": "0123456789"}}})
    done = project.snakemake("resources/weights/sample.pth", "--configfile", overlay)
    assert done.returncode != 0
    assert "expected 0123456789" in done.stderr
    assert not (project.folder / "resources/weights/sample.pth").exists()


def test_a_full_disk_leaves_no_half_written_output(project: Project) -> None:
    project.succeed(PERSONS)
    command = stage_command(project.succeed("--dry-run", "--printshellcmds", CROPS))
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=project.folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert done.returncode == 1
    assert done.stderr.startswith("make_crops: error: ")
    assert "File too large" in done.stderr
    assert not (project.folder / CROPS).exists()
    assert not project.leftovers()


def test_a_printed_command_can_be_run_by_hand(project: Project) -> None:
    project.succeed(PERSONS)
    command = stage_command(project.succeed("--dry-run", "--printshellcmds", CROPS))
    subprocess.run(["bash", "-c", command], cwd=project.folder, env=environment(), check=True)
    assert (project.folder / CROPS).is_file()
