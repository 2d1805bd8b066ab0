"""What follows from a configuration, and which files a stage is made from."""

import copy
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from hrnetpose import engines, plan
from hrnetpose.config import ConfigError
from hrnetpose.plan import Plan

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

    with pytest.raises(
        ConfigError, match=r"^models\.sample\.config: missing\.py: there is no such file; correct"
    ):
        made(raw)


def test_the_crop_comes_from_the_config_unless_it_is_given(raw: Raw) -> None:
    assert made(raw).crop("fp16") == "128x96"

    raw["models"]["sample"]["crop"] = "256x192-udp"
    assert made(raw).crop("fp16") == "256x192-udp"


def test_limits_of_a_variant_go_over_the_common_ones(raw: Raw) -> None:
    raw["limits"] = {"ap_drop": 0.02, "fps": 5}
    raw["variants"]["int8"]["limits"] = {"ap_drop": 0.1}

    limits = json.loads(made(raw).limits())

    assert (limits["fp16"]["ap_drop"], limits["fp16"]["fps"]) == (0.02, 5)
    assert (limits["int8"]["ap_drop"], limits["int8"]["fps"]) == (0.1, 5)


def test_a_published_figure_applies_to_its_own_dataset_only(raw: Raw) -> None:
    figure = {"AP": 0.7, "protocol": "det+flip", "dataset": "sample", "source": "a table"}
    raw["models"]["sample"]["published"] = figure
    assert json.loads(made(raw).published()) == {"sample": {"det+flip": {"AP": 0.7}}}

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
        ({"nms": "hard"}, True),
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


def test_the_protocol_of_the_seed_is_its_own(raw: Raw) -> None:
    """Batch 32, FP16, ground-truth boxes, no flip test; its row is shown beside what is found."""
    overlay = yaml.safe_load(Path("configs/seed_hrnetpose.yaml").read_text(encoding="utf-8"))
    for key, value in overlay.items():
        raw[key] = raw[key] | value if isinstance(value, dict) else value

    planned = made(raw, auto="tensorrt")

    assert set(planned.config.variants) == {"pytorch", "fp16"}
    assert (planned.variant("fp16").precision, planned.batch("fp16")) == ("fp16", 32)
    assert (planned.config.protocols.boxes, planned.config.protocols.flip) == (["gt"], [False])
    assert planned.crop("fp16") == "256x192"
    assert json.loads(planned.published()) == {
        "hrnet_w32_c78dce93": {"gt": {"AP50": 0.926, "fps": 1831.2}}
    }


def test_a_published_row_has_a_figure(raw: Raw) -> None:
    raw["models"]["sample"]["published"] = {"protocol": "gt", "dataset": "x", "source": "y"}

    with pytest.raises(ConfigError, match="one of AP, AP50 and fps is needed"):
        made(raw)


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt_rtx"])
def test_tensorrt_has_every_precision_of_the_default_configuration(raw: Raw, backend: str) -> None:
    """Or else `auto` would refuse it where there is a GPU."""
    graphs = made(raw, auto=backend).graphs

    assert graphs["int8"] == "int8-fp16"
    assert graphs["bf16"] == "bf16"


def test_auto_is_decided_once_for_all_processes_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSE_BACKEND_AUTO", "")  # put back at the end
    monkeypatch.delenv("POSE_BACKEND_AUTO")
    here = plan.decided_once(lambda name: "tensorrt")
    elsewhere = plan.decided_once(lambda name: "openvino")

    assert here("auto") == elsewhere("auto") == "tensorrt"
    assert elsewhere("onnxruntime") == "onnxruntime"


def test_a_batch_follows_from_the_device_unless_it_is_given(raw: Raw) -> None:
    raw["variants"] = {
        "pytorch": {"backend": "pytorch", "precision": "fp32"},
        "gpu": {"backend": "pytorch", "precision": "fp16", "options": {"device": "cuda"}},
        "mine": {"backend": "pytorch", "precision": "fp32", "batch": 5},
    }

    planned = made(raw)

    assert [planned.batch(name) for name in planned.config.variants] == [8, 32, 5]
