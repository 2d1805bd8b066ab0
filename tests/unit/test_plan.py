"""What follows from a configuration, and which files a stage is made from."""

import copy
import hashlib
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from hrnetpose import engines, plan
from hrnetpose.artifacts import FetchedImages
from hrnetpose.config import ConfigError
from hrnetpose.plan import Plan
from hrnetpose.stage import StageError

RunPython = Callable[..., subprocess.CompletedProcess[str]]
Raw = dict[str, Any]

W32 = "td-hm_hrnet-w32_8xb64-210e_coco-256x192"


@pytest.fixture
def raw(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Raw:
    """The default configuration, whose paths start at the repository's root."""
    monkeypatch.chdir(repository)
    return copy.deepcopy(yaml.safe_load(Path("config.yaml").read_text(encoding="utf-8")))


def made(raw: Raw, auto: str = "openvino") -> Plan:
    """Plans a run on a machine where `auto` stands for a given backend."""
    return plan.make(raw, engines.rules(), lambda name: auto if name == "auto" else name)


def test_auto_stands_for_the_backend_of_this_machine(raw: Raw) -> None:
    planned = made(raw)

    assert planned.backends["fp16"] == "openvino"
    assert planned.backends["pytorch"] == "pytorch"


def test_a_precision_that_the_backend_of_this_machine_lacks_is_refused(raw: Raw) -> None:
    with pytest.raises(
        ConfigError, match=r"variants\.int8\.precision: backend pytorch has no int8"
    ):
        made(raw, auto="pytorch")


def test_each_engine_has_a_graph_in_the_precision_that_its_backend_takes(raw: Raw) -> None:
    rules = engines.rules()
    planned = made(raw)

    assert set(planned.graphs) == set(raw["variants"])
    for name, graph in planned.graphs.items():
        assert graph == rules[planned.backends[name]].graphs[planned.variant(name).precision]


def test_the_reference_is_the_first_pytorch_variant_in_fp32_of_the_same_model(raw: Raw) -> None:
    raw["models"]["other"] = {"config": W32, "weights": None}
    raw["variants"] = {
        "half": {"backend": "pytorch", "precision": "bf16"},
        "first": {"backend": "pytorch", "precision": "fp32"},
        "second": {"backend": "pytorch", "precision": "fp32"},
        "fast": {"backend": "auto", "precision": "fp32"},
        "alone": {"backend": "auto", "precision": "fp32", "model": "other"},
    }

    planned = made(raw)

    found = {name: planned.reference(name) for name in raw["variants"]}
    assert found == {
        "half": "first", "first": None, "second": "first", "fast": "first", "alone": None,
    }  # fmt: skip


def test_a_model_without_weights_is_untrained_and_needs_no_checkpoint(raw: Raw) -> None:
    raw["models"]["bare"] = {"config": W32, "weights": None}
    raw["variants"]["bare"] = {"backend": "auto", "precision": "fp32", "model": "bare"}

    planned = made(raw)

    assert planned.weights("bare") is None
    assert not planned.trained("bare")
    assert planned.weights("sample") == "resources/weights/sample.pth"
    assert planned.trained("fp32")


def test_only_models_that_a_variant_uses_are_looked_up(raw: Raw) -> None:
    raw["models"]["unused"] = {"config": "missing.py", "weights": None}

    assert set(made(raw).crops) == {"sample"}


def test_a_config_that_is_not_there_is_refused(raw: Raw) -> None:
    raw["models"]["sample"]["config"] = "missing.py"

    with pytest.raises(StageError, match=r"missing\.py: there is no such mmpose config file"):
        made(raw)


def test_the_crop_comes_from_the_config_unless_it_is_given(raw: Raw) -> None:
    assert made(raw).crop("fp16") == "128x96"

    raw["models"]["sample"]["crop"] = "256x192-udp"
    assert made(raw).crop("fp16") == "256x192-udp"


def test_what_a_url_names_lies_among_the_resources(raw: Raw) -> None:
    sample = raw["datasets"]["sample"]
    planned = made(raw)
    assert planned.images("sample") == sample["images"]
    assert planned.annotations("sample") == sample["annotations"]
    assert planned.detections("sample") is None

    for key in ("images", "annotations", "detections"):
        sample[key] = f"https://host/{key}"
    planned = made(raw)
    assert planned.images("sample") == "resources/datasets/sample/images.zip"
    assert planned.annotations("sample") == "resources/datasets/sample/annotations.json"
    assert planned.detections("sample") == "resources/datasets/sample/detections.json"
    assert set(planned.downloads) == {
        "resources/weights/sample.pth",
        *(f"resources/datasets/sample/{name}" for name in LYING),
    }


LYING = ("images.zip", "annotations.json", "detections.json")


def test_a_path_with_a_hash_is_copied_and_checked(raw: Raw) -> None:
    raw["datasets"]["sample"]["images"] = {"source": "val.zip", "sha256": "0123456789"}

    planned = made(raw)

    assert planned.images("sample") == "resources/datasets/sample/images.zip"
    download = planned.downloads["resources/datasets/sample/images.zip"]
    assert download.input == ["val.zip"]
    assert download.flags == ["--source", "val.zip", "--sha256", "0123456789"]


def test_mirrors_are_kept_in_their_order(raw: Raw) -> None:
    raw["models"]["sample"]["weights"] = ["https://b/w.pth", "w.pth", "https://a/w.pth"]

    download = made(raw).downloads["resources/weights/sample.pth"]

    assert download.flags == ["--source", "https://b/w.pth", "w.pth", "https://a/w.pth"]
    assert download.input == []


def coco(raw: Raw) -> Raw:
    """Makes the sample a dataset such as COCO: annotations in one zip, images by coco_url."""
    source = {"source": "https://host/annotations.zip", "sha256": "0123456789"}
    raw["datasets"]["sample"] |= {
        "annotations": {**source, "member": "val.json"},
        "calibration": {
            "images": "coco_url",
            "annotations": {**source, "member": "train.json"},
            "count": 20,
        },
    }
    return raw


def test_one_zip_holds_the_annotations_of_both_splits(raw: Raw) -> None:
    planned = made(coco(raw))

    folder = "resources/datasets/sample"
    assert planned.archives == {
        f"{folder}/annotations.json": (f"{folder}/annotations.zip", "val.json"),
        f"{folder}/calibration/all_annotations.json": (f"{folder}/annotations.zip", "train.json"),
    }
    assert set(planned.downloads) == {
        "resources/weights/sample.pth", f"{folder}/annotations.zip",
    }  # fmt: skip
    assert planned.calibration("sample").images == f"{folder}/calibration/images.zip"
    assert planned.calibration("sample").annotations == f"{folder}/calibration/annotations.json"
    assert planned.calibration_to_fetch() == ["sample"]


def test_a_run_takes_from_elsewhere_what_its_variants_need(raw: Raw) -> None:
    raw["datasets"]["sample"]["detections"] = "https://host/boxes.json"
    needed = made(coco(raw)).resources()
    assert needed == [
        "resources/weights/sample.pth",
        "resources/datasets/sample/val.zip",
        "resources/datasets/sample/annotations.json",
        "resources/datasets/sample/calibration/images.zip",
        "resources/datasets/sample/calibration/annotations.json",
    ]

    raw["variants"]["int8"] = None
    raw["protocols"]["boxes"] = ["det"]
    assert made(raw).resources() == [*needed[:3], "resources/datasets/sample/detections.json"]


def test_another_zip_for_calibration_lies_elsewhere(raw: Raw) -> None:
    coco(raw)["datasets"]["sample"]["calibration"]["annotations"]["source"] = "https://other/a.zip"

    place = made(raw).archives["resources/datasets/sample/calibration/all_annotations.json"][0]

    assert place == "resources/datasets/sample/calibration/annotations.zip"


def test_annotations_are_taken_out_of_a_zip_in_place(raw: Raw) -> None:
    raw["datasets"]["sample"]["annotations"] = {"source": "my.zip", "member": "val.json"}

    planned = made(raw)

    assert planned.archives == {planned.annotations("sample"): ("my.zip", "val.json")}
    assert set(planned.downloads) == {"resources/weights/sample.pth"}


CONTENT = b"weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def filled(raw: Raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose `resources/` somebody has filled by hand."""
    raw["models"]["sample"] |= {"crop": "128x96", "sha256": SHA256[:8]}
    config = Path(raw["models"]["sample"]["config"]).resolve()
    raw["models"]["sample"]["config"] = str(config)
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "resources/weights/sample.pth"
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    return place


def test_a_file_that_is_there_and_right_is_not_fetched(raw: Raw, filled: Path) -> None:
    assert made(raw).to_fetch() == []

    filled.unlink()
    assert made(raw).to_fetch() == ["resources/weights/sample.pth"]


def test_a_file_of_unknown_hash_keeps_its_rule(raw: Raw, filled: Path) -> None:
    raw["models"]["sample"]["sha256"] = None

    assert made(raw).to_fetch() == ["resources/weights/sample.pth"]


def test_a_wrong_file_that_is_there_is_refused_and_left(raw: Raw, filled: Path) -> None:
    planned = made(raw)
    assert planned.to_fetch() == []
    filled.write_bytes(b"other")

    with pytest.raises(ConfigError) as error:
        planned.to_fetch()

    assert str(error.value) == (
        f"resources/weights/sample.pth: sha256 is {hashlib.sha256(b'other').hexdigest()}, but the "
        f"configuration says {SHA256[:8]}: it is another file, or damaged; delete it, or correct "
        "the configuration"
    )
    assert filled.read_bytes() == b"other"


def test_calibration_images_that_are_there_are_not_fetched(raw: Raw, filled: Path) -> None:
    planned = made(coco(raw))
    folder = filled.parents[1] / "datasets/sample/calibration"
    folder.mkdir(parents=True)
    (folder / "images.zip").write_bytes(b"images")
    (folder / "annotations.json").write_bytes(b"annotations")
    FetchedImages(
        source="0123456789:train.json",
        count=20,
        images=[],
        archive_sha256=hashlib.sha256(b"images").hexdigest(),
        annotations_sha256=hashlib.sha256(b"annotations").hexdigest(),
    ).write(folder / "manifest.json")
    assert planned.calibration_to_fetch() == []

    raw["datasets"]["sample"]["calibration"]["count"] = 21
    assert made(raw).calibration_to_fetch() == ["sample"]
    (folder / "images.zip").write_bytes(b"others")
    assert planned.calibration_to_fetch() == ["sample"]


def test_boxes_that_cannot_be_had_are_left_out_with_a_note(raw: Raw, filled: Path) -> None:
    raw["datasets"]["sample"]["detections"] = {"source": [], "sha256": SHA256}
    raw["protocols"]["boxes"] = ["det", "gt"]
    planned = made(raw)

    assert planned.config.protocols.boxes == ["gt"]
    (note,) = planned.notes
    assert note.startswith("resources/datasets/sample/detections.json: the detector's boxes are ")
    assert f"put the file there (sha256 {SHA256}) by hand" in note
    raw["protocols"]["boxes"] = ["det"]
    with pytest.raises(ConfigError, match=r"or evaluate with ground-truth boxes: `protocols: \{bo"):
        made(raw)

    place = filled.parents[1] / "datasets/sample/detections.json"
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    assert made(raw).config.protocols.boxes == ["det"]
    assert made(raw).notes == ()


def test_boxes_with_an_address_are_fetched(raw: Raw, filled: Path) -> None:
    raw["datasets"]["sample"]["detections"] = "https://host/boxes.json"
    raw["protocols"]["boxes"] = ["gt", "det"]

    planned = made(raw)

    assert planned.config.protocols.boxes == ["gt", "det"]
    download = planned.downloads["resources/datasets/sample/detections.json"]
    assert download.flags[-2:] == [
        "--otherwise", "evaluate with ground-truth boxes: `protocols: {boxes: [gt]}`",
    ]  # fmt: skip


def test_a_variant_has_its_own_limits_or_the_common_ones(raw: Raw) -> None:
    raw["limits"] = {"ap_drop": 0.02, "fps": 5}
    raw["variants"]["int8"]["limits"] = {"ap_drop": 0.1}

    limits = json.loads(made(raw).limits())

    assert (limits["fp16"]["ap_drop"], limits["fp16"]["fps"]) == (0.02, 5)
    assert (limits["int8"]["ap_drop"], limits["int8"]["fps"]) == (0.1, None)


def test_a_published_figure_applies_to_its_own_dataset_only(raw: Raw) -> None:
    figure = {"AP": 0.7, "protocol": "det+flip", "dataset": "sample", "source": "a table"}
    raw["models"]["sample"]["published"] = figure
    assert json.loads(made(raw).published()) == {"sample": {"det+flip": 0.7}}

    figure["dataset"] = "coco_val2017"
    assert json.loads(made(raw).published()) == {}


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({}, True),
        ({"detections": {"source": "b.json", "sha256": "89" * 32}}, True),
        ({"detections": {"source": "b.json", "sha256": "98" * 32}}, False),
        ({"detections": "b.json"}, False),
        ({"detection_score": 0.2}, False),
        ({"nms": "soft"}, False),
    ],
)
def test_a_published_figure_applies_to_its_own_boxes_and_nms_only(
    raw: Raw, change: Raw, shown: bool
) -> None:
    raw["models"]["sample"]["published"] = {
        "AP": 0.7, "protocol": "det+flip", "dataset": "sample", "source": "a table",
        "detections": "89898989",
    }  # fmt: skip
    raw["datasets"]["sample"]["detections"] = {"source": "b.json", "sha256": "8989898989"}
    section = raw["protocols"] if "nms" in change else raw["datasets"]["sample"]
    section |= change

    assert bool(json.loads(made(raw).published())) == shown


def test_options_are_written_in_an_order_that_does_not_vary(raw: Raw) -> None:
    for number, options in enumerate([{"streams": 2, "threads": 1}, {"threads": 1, "streams": 2}]):
        raw["variants"][f"v{number}"] = {
            "backend": "openvino", "precision": "fp32", "options": options,
        }  # fmt: skip

    planned = made(raw)

    assert planned.options("v0") == planned.options("v1") == '{"streams": 2, "threads": 1}'
    assert planned.options("fp32") == "{}"


def test_planning_imports_nothing_heavy_and_executes_no_config(
    run_python: RunPython, repository: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.py"
    config.write_text("open('executed', 'w')\ncodec = dict(input_size=(32, 64))\n")
    done = run_python(
        f"""
        import sys
        from hrnetpose import engines, plan

        raw = {{
            "model": "m", "dataset": "d",
            "models": {{"m": {{"config": {str(config)!r}, "weights": None}}}},
            "datasets": {{"d": {{"images": "i", "annotations": "a"}}}},
            "variants": {{
                "auto": {{"backend": "auto", "precision": "fp32"}},
                "w32": {{"backend": "pytorch", "precision": "fp32", "model": "m"}},
            }},
        }}
        print(plan.make(raw, engines.rules(), engines.resolve).crops)
        heavy = {{"torch", "openvino", "onnxruntime", "onnx", "mmpose", "mmengine", "cv2"}}
        print(heavy & set(sys.modules))
        """
    )

    assert done.stderr == ""
    assert done.stdout == "{'m': '64x32'}\nset()\n"
    assert not (tmp_path / "executed").exists()


def test_names_in_a_pattern_match_themselves_only() -> None:
    pattern = re.compile(plan.any_of(["fp16", "fp16.b", "a+b"]))

    assert [name for name in ("fp16", "fp16.b", "a+b") if pattern.fullmatch(name)] == [
        "fp16", "fp16.b", "a+b",
    ]  # fmt: skip
    assert not pattern.fullmatch("fp16xb")
    assert not pattern.fullmatch("aab")


@pytest.fixture
def made_from(repository: Path) -> Callable[..., set[str]]:
    """Returns what a script is made from, relative to the folder of the scripts."""
    scripts = repository / "workflow_scripts"

    def files(script: str, *modules: str) -> set[str]:
        return {
            Path(path).relative_to(scripts).as_posix()
            for path in plan.imported_files(scripts, script, modules)
        }

    return files


def rooms(files: set[str]) -> set[str]:
    return {Path(file).parent.name for file in files}


def test_scoring_does_not_depend_on_engines_or_models(
    made_from: Callable[..., set[str]],
) -> None:
    assert rooms(made_from("score_accuracy")).isdisjoint({"engines", "model", "speed", "report"})


def test_each_stage_depends_on_its_rooms_only(made_from: Callable[..., set[str]]) -> None:
    ground = {".", "hrnetpose", ""}
    assert rooms(made_from("export_onnx")) - ground == {"model"}
    assert rooms(made_from("make_crops")) - ground == {"data"}
    assert rooms(made_from("fetch_file")) - ground == {"data"}
    assert rooms(made_from("score_accuracy")) - ground == {"data", "pose"}
    assert rooms(made_from("predict_keypoints")) - ground == {"data", "engines", "pose"}
    assert rooms(made_from("benchmark_engine")) - ground == {"data", "engines", "speed"}


def test_the_decoder_concerns_predictions_and_not_the_export(
    made_from: Callable[..., set[str]],
) -> None:
    assert "hrnetpose/pose/decode.py" in made_from("predict_keypoints")
    assert "hrnetpose/pose/decode.py" not in made_from("export_onnx")


def test_a_backend_concerns_its_own_engines_only(made_from: Callable[..., set[str]]) -> None:
    files = made_from("predict_keypoints", "hrnetpose.engines.openvino")

    assert "hrnetpose/engines/openvino.py" in files
    assert "hrnetpose/engines/onnxruntime.py" not in files
    assert "hrnetpose/engines/pytorch.py" not in files


@pytest.mark.parametrize(
    "script",
    ["make_crops", "build_engine", "predict_keypoints", "benchmark_engine", "score_accuracy"],
)
def test_all_that_python_imports_is_among_the_files(
    made_from: Callable[..., set[str]], repository: Path, run_python: RunPython, script: str
) -> None:
    done = run_python(
        f"""
        import sys
        import {script}
        for name, module in sorted(sys.modules.items()):
            if name.split(".")[0] in ("hrnetpose", {script!r}):
                print(module.__file__)
        """
    )
    scripts = repository / "workflow_scripts"
    imported = {Path(line).relative_to(scripts).as_posix() for line in done.stdout.splitlines()}

    assert f"{script}.py" in imported
    assert imported <= made_from(script)


def test_the_script_comes_first_and_the_rest_in_order(tmp_path: Path) -> None:
    library = tmp_path / "hrnetpose"
    library.mkdir()
    (tmp_path / "zip_it.py").write_text("from hrnetpose import b\nimport json\n")
    (library / "__init__.py").touch()
    (library / "a.py").write_text("import hrnetpose.b\n")
    (library / "b.py").write_text("def f():\n    from hrnetpose.a import x\n")
    (library / "c.py").touch()

    found = plan.imported_files(tmp_path, "zip_it")

    assert found == [
        str(tmp_path / "zip_it.py"),
        *(str(library / name) for name in ("__init__.py", "a.py", "b.py")),
    ]
