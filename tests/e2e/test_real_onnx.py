"""Models of which only the ONNX file is there, on real COCO images.

mmpose 1.3.2's own dataset, pipeline, codec and CocoMetric around ONNX Runtime gave the expected
figures.
"""

from pathlib import Path
from typing import Any

import onnx
import pytest

from support import Project

METRICS = ("AP", "AP50", "AP75", "APM", "APL", "AR")
PLAIN = (0.49502, 0.83384, 0.51120, 0.48656, 0.51858, 0.54687)
MMPOSE = {
    ("simcc", False): (0.62460, 0.90376, 0.68872, 0.60057, 0.66693, 0.66892),
    ("simcc", True): (0.64686, 0.90513, 0.72386, 0.62018, 0.69490, 0.68697),
    ("shifted", False): PLAIN,
    ("shifted", True): (0.51432, 0.84698, 0.53564, 0.50651, 0.53696, 0.56541),
    ("unshifted", False): PLAIN,
    ("unshifted", True): (0.50139, 0.84807, 0.52142, 0.48769, 0.52753, 0.55338),
}
LITE_HRNET = {
    False: (0.71194, 0.92665, 0.82553, 0.70168, 0.74118, 0.74188),
    True: (0.72207, 0.93593, 0.80133, 0.70632, 0.75485, 0.75299),
}
IMAGENET = {
    "mean": [123.675, 116.28, 103.53],
    "std": [58.395, 57.12, 57.375],
    "channel_order": "RGB",
    "keypoints": "coco",
}
NONE = dict.fromkeys(("pytorch", "fp32", "fp16", "bf16", "int8"))


@pytest.fixture(scope="module")
def project(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project.copied(repository, tmp_path_factory.mktemp("real_onnx"))


def overlay(real: Path, annotations: str, models: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration that evaluates models in fp32, each in a row of its name."""
    return {
        "model": next(iter(models)),
        "dataset": annotations,
        "models": {"sample": None, **models},
        "datasets": {
            "sample": None,
            annotations: {
                "images": str(real / "images/val2017"),
                "annotations": str(real / f"annotations/{annotations}.json"),
            },
        },
        "variants": {
            **NONE,
            **{name: {"backend": "auto", "precision": "fp32", "model": name} for name in models},
        },
    }


def figures(project: Project, variant: str) -> dict[bool, Any]:
    return {
        result["protocol"]["flip"]: pytest.approx(
            [result["metrics"][name] for name in METRICS], abs=0.0005
        )
        for result in project.json(f"results/{variant}_accuracy.json")["protocols"]
    }


def test_ap_is_that_of_mmpose(project: Project, real: Path) -> None:
    simple = str(real / "onnx/ultralight-simplepose_coco-256x192.onnx")
    heatmaps = IMAGENET | {"codec": {"type": "MSRAHeatmap"}}
    codec = {"type": "SimCCLabel", "simcc_split_ratio": 1.0, "normalize": False}
    models = {
        "simcc": {
            "onnx": str(real / "onnx/simcc-small_coco-256x192.onnx"),
            "card": IMAGENET | {"codec": codec},
        },
        "shifted": {"onnx": simple, "card": heatmaps | {"flip_shift": True}},
        "unshifted": {"onnx": simple, "card": heatmaps},
    }
    content = overlay(real, "person_keypoints_val2017", models)
    targets = [f"results/{name}_accuracy.json" for name in models]
    project.succeed(*targets, "--configfile", project.overlay(content))
    for name in models:
        found = figures(project, name)
        assert {flip: found[flip] for flip in (False, True)} == {
            flip: list(MMPOSE[name, flip]) for flip in (False, True)
        }, name
    card = project.json("build/models/shifted/model.json")
    assert (card["origin"]["opset"], card["opset"], card["notes"]) == (8, 17, [])
    assert card["input"]["shape"] == ["batch", 3, 256, 192]


def test_a_model_exported_and_stripped_of_what_it_says_of_itself(
    project: Project, real: Path
) -> None:
    name = "person_keypoints_val2017_official"
    lite = {
        "config": str(real / "configs/lite-hrnet-tinypose_coco-256x192.py"),
        "weights": str(real / "weights/lite-hrnet-tinypose_coco-256x192.pth"),
    }
    content = overlay(real, name, {"lite": lite})
    made = "build/models/lite/model.onnx"
    project.succeed(made, "--configfile", project.overlay(content))
    model = onnx.load(project.folder / made)
    onnx.save(model, project.folder / "own.onnx")
    del model.metadata_props[:]
    onnx.save(model, project.folder / "stripped.onnx")
    codec = project.json("build/models/lite/model.json")["codec"]
    models = {
        "own": {"onnx": "own.onnx"},
        "stripped": {
            "onnx": "stripped.onnx",
            "card": IMAGENET | {"codec": codec, "flip_shift": True},
        },
    }

    content = overlay(real, name, models)
    targets = [f"results/{name}_accuracy.json" for name in models]
    project.succeed(*targets, "--configfile", project.overlay(content))

    for name in models:
        assert figures(project, name) == {flip: list(LITE_HRNET[flip]) for flip in LITE_HRNET}
