"""What is fetched, what is left as it is, and the COCO configuration against a mirror of it."""

import hashlib
import io
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from server import Answer, Server
from support import Project, job_counts

COCO = "configs/coco_val2017.yaml"
WEIGHTS = "resources/sample/hrnet_sample_128x96.pth"
PLACE = "resources/weights/sample.pth"


@pytest.fixture
def project(repository: Path, tmp_path: Path) -> Project:
    return Project.copied(repository, tmp_path / "project")


@pytest.fixture
def weights(repository: Path) -> bytes:
    return (repository / WEIGHTS).read_bytes()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def model(url: str | list[str], digest: str | None = None) -> dict[str, Any]:
    return {"models": {"sample": {"weights": url, "sha256": digest}}}


def test_the_coco_configuration_is_planned_from_nothing(project: Project) -> None:
    printed = project.succeed("--dry-run", "--quiet=rules", "report", "--configfile", COCO)
    assert job_counts(printed) == {
        "fetch_file": 3,
        "extract_annotations": 2,
        "fetch_calibration": 1,
        "audit_dataset": 2,
        "list_persons": 2,
        "check_calibration": 1,
        "make_crops": 3,
        "export_onnx": 1,
        "simplify_onnx": 1,
        "convert_precision": 2,
        "quantize_int8": 1,
        "build_engine": 5,
        "predict_keypoints": 5,
        "score_accuracy": 5,
        "measure_machine": 1,
        "benchmark_engine": 5,
        "reference_outputs": 1,
        "measure_parity": 5,
        "write_report": 1,
        "report": 1,
    }
    assert (
        "resources/datasets/coco_val2017/detections.json: the detector's boxes are not there; put "
        "the file there (sha256 53ba0ad8"
    ) in printed
    assert "until then only ground-truth boxes are evaluated (docs/fetching.md)" in printed


def test_resources_filled_by_hand_are_used_as_they_are(
    project: Project, server: Server, weights: bytes
) -> None:
    """Older than all code, and with all jobs forced."""
    place = project.folder / PLACE
    place.parent.mkdir(parents=True)
    place.write_bytes(weights)
    os.utime(place, (1.0, 1.0))
    overlay = project.overlay(model(server.serve("/gone"), sha256(weights)))

    assert "fetch_file" not in project.jobs("--forceall", "--configfile", overlay)


def test_annotations_unpacked_by_hand_need_no_zip(project: Project) -> None:
    place = project.folder / "resources/datasets/coco_val2017/annotations.json"
    place.parent.mkdir(parents=True)
    place.write_text("{}")
    os.utime(place, (1.0, 1.0))
    crops = "build/datasets/coco_val2017/256x192/gt/crops_1-of-1.npy"

    jobs = project.jobs(crops, "--configfile", COCO)
    assert jobs == {"fetch_file": 1, "audit_dataset": 1, "list_persons": 1, "make_crops": 1}


def test_a_failed_download_says_where_to_put_the_file(
    project: Project, server: Server, weights: bytes
) -> None:
    url = server.serve("/missing.pth")
    overlay = project.overlay(model(url, sha256(weights)))

    done = project.snakemake(PLACE, "--configfile", overlay)

    assert done.returncode != 0
    assert (
        f"fetch_file: error: {url}: 404 Not Found; on a machine without internet, put the file at "
        f"{PLACE} (sha256 {sha256(weights)}) by hand\n"
    ) in done.stderr
    assert not (project.folder / PLACE).exists()
    assert not project.leftovers()


def test_a_transfer_that_failed_is_gone_on_with_by_the_next_run(
    project: Project, server: Server
) -> None:
    content = bytes(range(256)) * 8000
    url = server.serve("/big.pth", Answer(content, cut=1_500_000), Answer(b"", status=404))
    overlay = project.overlay(model(url, sha256(content)))
    assert project.snakemake(PLACE, "--configfile", overlay).returncode != 0
    assert project.leftovers()
    server.serve("/big.pth", Answer(content))

    project.succeed(PLACE, "--configfile", overlay)

    assert (project.folder / PLACE).read_bytes() == content
    assert server.ranges("/big.pth")[-1] is not None
    assert not project.leftovers()


def test_a_file_of_unknown_hash_is_fetched_again_only_from_another_address(
    project: Project, server: Server, weights: bytes
) -> None:
    overlay = project.overlay(model(server.serve("/one.pth", Answer(weights))))
    project.succeed(PLACE, "--configfile", overlay)
    script = project.folder / "workflow_scripts/fetch_file.py"
    script.write_text(script.read_text() + "\n")
    assert project.jobs(PLACE, "--configfile", overlay) == {}

    moved = project.overlay(model(server.serve("/two.pth", Answer(weights))))
    assert project.jobs(PLACE, "--configfile", moved) == {"fetch_file": 1}


def test_two_projects_share_downloads_and_exports(
    repository: Path,
    tmp_path: Path,
    server: Server,
    weights: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    monkeypatch.setenv("SNAKEMAKE_OUTPUT_CACHE", str(shared))
    url = server.serve("/shared.pth", Answer(weights))
    projects = [Project.copied(repository, tmp_path / name) for name in ("one", "two")]
    printed = [
        project.succeed(
            "build/models/sample/simplified.onnx",
            "--configfile",
            project.overlay(model(url, sha256(weights))),
            "--cache",
        )
        for project in projects
    ]

    assert server.asked("/shared.pth") == 1
    assert sorted(path.suffix for path in shared.iterdir()) == [".json", ".onnx", ".pth"]
    for name in ("resources/weights/sample.pth", "build/models/sample/model.onnx"):
        assert f"Moving output file {name} to cache." in printed[0]
        assert f"Symlinking output file {name} from cache." in printed[1]
    assert "Moving output file" not in printed[1]
    # What follows is each project's own.
    assert not (projects[1].folder / "build/models/sample/simplified.onnx").is_symlink()


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


class Mirror:
    """COCO's addresses, with the images that are beside the repository in its zips."""

    def __init__(self, server: Server, real: Path) -> None:
        images = {f"val2017/{p.name}": p.read_bytes() for p in (real / "images/val2017").iterdir()}
        annotations = {
            "annotations/person_keypoints_val2017.json": "person_keypoints_val2017_official.json",
            "annotations/person_keypoints_train2017.json": "person_keypoints_train2017.json",
        }
        contents = {
            name: (real / "annotations" / file).read_bytes() for name, file in annotations.items()
        }
        self.files = {
            "/zips/val2017.zip": zipped(images),
            "/annotations/annotations_trainval2017.zip": zipped(contents),
        }
        for path, content in self.files.items():
            server.serve(path, Answer(content, cut=len(content) // 2), Answer(content))
        for image in (real / "images/train2017").iterdir():
            server.serve(f"/train2017/{image.name}", Answer(image.read_bytes()))
        weights = (real / "weights/lite-hrnet-tinypose_coco-256x192.pth").read_bytes()
        url = server.serve("/weights/lite.pth", Answer(b"", status=503), Answer(weights))
        zips = [{"sha256": sha256(c), "size": len(c)} for c in self.files.values()]
        self.overlay = {
            "model": "lite_hrnet",
            "models": {
                "lite_hrnet": {
                    "config": str(real / "configs/lite-hrnet-tinypose_coco-256x192.py"),
                    "weights": url,
                    "sha256": sha256(weights)[:8],
                    "published": {
                        "AP": 0.683, "protocol": "gt", "dataset": "coco_val2017",
                        "source": "a table",
                    },
                },
            },
            "datasets": {
                "coco_val2017": {
                    "images": zips[0],
                    "annotations": zips[1],
                    "calibration": {"annotations": zips[1], "count": 10},
                },
            },
            "variants": {"pytorch": None, "fp16": None, "bf16": None, "int8": None},
            "protocols": {"flip": [False]},
            "benchmark": {"min_seconds": 0.2, "min_samples": 3},
        }  # fmt: skip


@pytest.fixture
def mirror(real: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> Mirror:
    """COCO's own addresses, answered by a proxy on this machine."""
    monkeypatch.setenv("http_proxy", server.url)
    return Mirror(server, real)


@pytest.mark.slow
def test_coco_from_nothing_to_the_report(
    project: Project, mirror: Mirror, server: Server, repository: Path, real: Path
) -> None:
    """COCO's own URLs.  Each zip breaks off once, and the weights' server is busy at first."""
    overlays = (COCO, project.overlay(mirror.overlay))
    targets = ("report", "build/models/lite_hrnet/coco_val2017/int8.onnx")

    project.succeed(*targets, "--configfile", *overlays)

    page = (project.folder / "results/coco/report.html").read_text()
    assert "0.683" in page
    figure = project.json("results/coco/fp32_accuracy.json")
    assert figure["instances"] == 117
    assert figure["metrics"]["AP"] == pytest.approx(0.71194, abs=0.001)  # mmpose's own
    folder = project.folder / "resources/datasets/coco_val2017"
    assert (folder / "images.zip").read_bytes() == mirror.files["/zips/val2017.zip"]
    assert server.ranges("/zips/val2017.zip")[-1] is not None
    assert server.asked("/annotations/annotations_trainval2017.zip") == 2
    manifest = project.json("resources/datasets/coco_val2017/calibration/manifest.json")
    assert len(manifest["images"]) == 10
    with zipfile.ZipFile(folder / "calibration/images.zip") as archive:
        for image in manifest["images"]:
            original = (real / "images/train2017" / image["file_name"]).read_bytes()
            assert image["sha256"] == sha256(original)
            assert image["url"] == (
                f"http://images.cocodataset.org/train2017/{image['file_name']}"
            )  # fmt: skip
            assert archive.read(image["file_name"]) == original
    assert not project.leftovers()
    # Nothing more to do, also on a machine without internet to which resources/ was copied.
    assert project.jobs(*targets, "--configfile", *overlays) == {}
    copy = Project.copied(repository, project.folder.parent / "copy")
    copy.overlay(mirror.overlay)
    shutil.copytree(
        folder.parents[1],
        copy.folder / "resources",
        dirs_exist_ok=True,
        copy_function=shutil.copyfile,
    )
    jobs = copy.jobs(*targets, "--configfile", *overlays)
    assert "make_crops" in jobs
    assert {"fetch_file", "extract_annotations", "fetch_calibration"} & set(jobs) == set()
