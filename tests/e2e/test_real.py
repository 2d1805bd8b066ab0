"""Real weights on real COCO images: the AP that mmpose itself measures.

mmpose 1.3.2's own dataset, pipeline, model, decoder and CocoMetric gave the expected figures.
"""

import zipfile
from pathlib import Path
from typing import Any

import pytest

from fresh import home, unpack
from support import Project

METRICS = ("AP", "AP50", "AP75", "APM", "APL", "AR")
MMPOSE = {
    ("person_keypoints_val2017", False): (0.65724, 0.90535, 0.74923, 0.62039, 0.72310, 0.69273),
    ("person_keypoints_val2017", True): (0.66527, 0.91130, 0.74137, 0.63381, 0.72639, 0.70476),
    ("person_keypoints_val2017_official", False): (
        *(0.71194, 0.92665, 0.82553, 0.70168, 0.74118, 0.74188),
    ),
    ("person_keypoints_val2017_official", True): (
        *(0.72207, 0.93593, 0.80133, 0.70632, 0.75485, 0.75299),
    ),
}
DETECTED = (0.69553, 0.88421, 0.77398, 0.64965, 0.78345, 0.73984)
PERSONS = {"person_keypoints_val2017": 399, "person_keypoints_val2017_official": 117}


@pytest.fixture(scope="module")
def project(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project.copied(repository, tmp_path_factory.mktemp("real"))


def overlay(real: Path, annotations: str, images: Path | None = None) -> dict[str, Any]:
    return {
        "model": "lite_hrnet",
        "dataset": annotations,
        "models": {
            "sample": None,
            "lite_hrnet": {
                "config": str(real / "configs/lite-hrnet-tinypose_coco-256x192.py"),
                "weights": str(real / "weights/lite-hrnet-tinypose_coco-256x192.pth"),
            },
        },
        "datasets": {
            "sample": None,
            annotations: {
                "images": str(images or real / "images/val2017"),
                "annotations": str(real / f"annotations/{annotations}.json"),
            },
        },
        "variants": {"int8": None, "ort": {"backend": "onnxruntime", "precision": "fp32"}},
    }


@pytest.mark.parametrize("annotations", sorted(PERSONS))
def test_ap_is_that_of_mmpose(project: Project, real: Path, annotations: str) -> None:
    content = overlay(real, annotations)
    tolerances = {"pytorch": 0.0005, "fp32": 0.001}
    if annotations.endswith("official"):  # a second backend on the smaller set
        tolerances["ort"] = 0.001
    for variant, tolerance in tolerances.items():
        target = f"results/{variant}_accuracy.json"
        project.succeed(target, "--configfile", project.overlay(content))
        figure = project.json(target)
        assert figure["instances"] == PERSONS[annotations]
        for result in figure["protocols"]:
            expected = MMPOSE[annotations, result["protocol"]["flip"]]
            found = [result["metrics"][name] for name in METRICS]
            assert found == pytest.approx(expected, abs=tolerance), (variant, result["protocol"])


# The original model in PyTorch needs minutes for 2880 crops: `pytest -m slow`.
@pytest.mark.parametrize("variant", ["fp32", pytest.param("pytorch", marks=pytest.mark.slow)])
def test_ap_on_detected_boxes_is_that_of_mmpose(project: Project, real: Path, variant: str) -> None:
    name = "person_keypoints_val2017_with_detections"
    content = overlay(real, name)
    boxes = real / "annotations/COCO_val2017_detections_AP_H_56_person.json"
    content["datasets"][name]["detections"] = str(boxes)
    content["protocols"] = {"boxes": ["det"], "flip": [True]}
    # Without a reference of the same name nothing is compared, and one variant is enough.
    content["variants"] |= dict.fromkeys(("pytorch", "fp32", "fp16", "bf16", "ort"))
    backend = "pytorch" if variant == "pytorch" else "openvino"
    content["variants"][variant] = {"backend": backend, "precision": "fp32"}
    target = f"results/{variant}_accuracy.json"
    project.succeed(target, "--configfile", project.overlay(content))
    figure = project.json(target)
    assert figure["instances"] == 1440
    found = [figure["metrics"][metric] for metric in METRICS]
    assert found == pytest.approx(DETECTED, abs=0.0005)


@pytest.mark.slow
def test_ap_on_the_boxes_of_a_detector(project: Project, real: Path) -> None:
    """RTMDet-nano's boxes; as a file of detections they give the same figures, but for the label.

    The AP of boxes is that of this project's own first run: nobody has published one on these.
    """
    name = "person_keypoints_val2017"
    content = overlay(real, name)
    known = real / "onnx/mmdeploy/rtmdet-nano_pipeline.json"
    detector = {"onnx": str(real / "onnx/rtmdet-nano.onnx"), "card": str(known)}
    content["datasets"][name]["detector"] = detector
    content["protocols"] = {"boxes": ["det"], "flip": [False]}
    content["variants"] |= dict.fromkeys(("pytorch", "fp16", "bf16", "ort"))
    target = "results/fp32_accuracy.json"

    project.succeed(target, "--configfile", project.overlay(content))

    found, run = project.json(target), project.json(f"build/datasets/{name}/detector.json")
    assert run["metrics"]["AP"] == pytest.approx(0.4804, abs=0.0005)
    assert run["annotated"] == 478
    assert ", boxes of rtmdet-nano.onnx: AP of boxes 0.480)" in found["protocol"]["label"]
    made = project.folder / f"build/datasets/{name}/detections.json"
    (project.folder / "boxes.json").write_bytes(made.read_bytes())
    content["datasets"][name] |= {"detector": None, "detections": "boxes.json"}
    project.succeed(target, "--configfile", project.overlay(content))
    assert project.json(target)["metrics"] == found["metrics"]


def test_a_zip_read_in_place_gives_what_the_folder_gives(
    project: Project, real: Path, tmp_path: Path
) -> None:
    name = "person_keypoints_val2017_official"
    crops = f"build/datasets/{name}/256x192/gt/crops_1-of-1.npy"
    project.succeed(crops, "--configfile", project.overlay(overlay(real, name)))
    before = (project.folder / crops).read_bytes()
    archive = tmp_path / "val2017.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for image in sorted((real / "images/val2017").iterdir()):
            file.write(image, f"val2017/{image.name}")
    zipped = project.overlay(overlay(real, name, archive))
    project.succeed("--force", crops, "--configfile", zipped)
    assert (project.folder / crops).read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["fp32", "ort"])
def test_a_bundle_gives_these_keypoints_where_nothing_else_is_installed(
    project: Project, real: Path, tmp_path: Path, variant: str
) -> None:
    name = "person_keypoints_val2017_official"
    content = overlay(real, name) | {"benchmark": {"min_seconds": 0.3, "min_samples": 5}}
    target = f"results/bundles/{variant}.zip"
    project.succeed(target, "--configfile", project.overlay(content))
    folder = unpack(project.folder / target, tmp_path)
    python = home(tmp_path / "home", (folder / "requirements.txt").read_text())

    found = python.compare(
        folder,
        real / "images/val2017",
        real / f"annotations/{name}.json",
        project.folder / f"build/predictions/{variant}/gt_1-of-1.npz",
    )

    assert found["persons"] == PERSONS[name]
    assert found["others"] == []
    assert max(found["px"].values()) < 1e-3
    # Nobody has said whose weights these are, and no image of COCO goes along.
    assert "nobody has stated their licence" in (folder / "README.md").read_text()
    assert {path.suffix for path in (folder / "check").iterdir()} == {".png", ".json"}
    done = python.run(folder / "pose.py", "--check", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
