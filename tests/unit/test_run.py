"""What follows from a configuration."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from hrnetpose import engines
from hrnetpose.config import ConfigError
from hrnetpose.resolve import resolve

RunPython = Callable[..., subprocess.CompletedProcess[str]]
Raw = dict[str, Any]

W32 = "td-hm_hrnet-w32_8xb64-210e_coco-256x192"


def test_auto_stands_for_the_backend_of_this_machine(raw: Raw) -> None:
    run = resolve(raw, "openvino")

    assert run["fp16"].backend == "openvino"
    assert run["pytorch"].backend == "pytorch"


def test_a_precision_that_the_backend_of_this_machine_lacks_is_refused(raw: Raw) -> None:
    with pytest.raises(
        ConfigError, match=r"variants\.int8\.precision: backend pytorch has no int8"
    ):
        resolve(raw, "pytorch")


def test_int8_without_calibration_images_is_refused(raw: Raw) -> None:
    raw["datasets"]["sample"]["calibration"] = None

    with pytest.raises(ConfigError) as error:
        resolve(raw, "openvino")

    said = str(error.value)
    assert said.startswith("variants.int8.precision: int8 needs calibration images")
    assert "set variants.int8 to null" in said


def test_each_engine_has_a_graph_in_the_precision_that_its_backend_takes(raw: Raw) -> None:
    rules = engines.rules()
    run = resolve(raw, "openvino")

    assert set(run.variants) == set(raw["variants"])
    for name, variant in run.variants.items():
        graph = rules[variant.backend].graphs[run.config.variants[name].precision]
        folder = "sample/" if graph.startswith("int8") else ""
        assert variant.graph == f"build/models/sample/{folder}{graph}.onnx"


def test_the_reference_is_the_first_pytorch_variant_in_fp32_of_the_same_model(raw: Raw) -> None:
    raw["models"]["other"] = {"config": W32, "weights": None}
    raw["variants"] = {
        "half": {"backend": "pytorch", "precision": "bf16"},
        "fused": {"backend": "pytorch", "precision": "fp32", "options": {"optimize": True}},
        "first": {"backend": "pytorch", "precision": "fp32"},
        "second": {"backend": "pytorch", "precision": "fp32"},
        "fast": {"backend": "auto", "precision": "fp32"},
        "alone": {"backend": "auto", "precision": "fp32", "model": "other"},
    }

    run = resolve(raw, "openvino")

    found = {
        name: variant.reference and variant.reference.name for name, variant in run.variants.items()
    }
    assert found == {
        "half": "first", "fused": "first", "first": None, "second": "first", "fast": "first",
        "alone": None,
    }  # fmt: skip


def test_a_list_of_models_makes_each_variant_for_each_model_with_its_own_reference(
    raw: Raw,
) -> None:
    raw["models"]["other"] = dict(raw["models"]["sample"])
    raw["model"] = ["sample", "other"]
    raw["variants"] = {
        "pytorch": {"backend": "pytorch", "precision": "fp32"},
        "int8": {"backend": "auto", "precision": "int8", "limits": {"ap_drop": 0.1}},
        "mine": {"backend": "auto", "precision": "fp16", "model": "other"},
    }

    run = resolve(raw, "openvino")

    found = {
        name: (v.model.name, v.reference and v.reference.name) for name, v in run.variants.items()
    }
    assert found == {
        "sample_pytorch": ("sample", None),
        "sample_int8": ("sample", "sample_pytorch"),
        "other_pytorch": ("other", None),
        "other_int8": ("other", "other_pytorch"),
        "mine": ("other", "other_pytorch"),
    }  # fmt: skip
    assert run["other_int8"].graph == "build/models/other/sample/int8.onnx"
    assert run.limits["other_int8"]["ap_drop"] == 0.1


@pytest.mark.parametrize(
    ("models", "variants", "message"),
    [
        (["sample", "sample"], {}, "variant 'sample_pytorch' would be made twice"),
        (["sample", "other"], {"other_fp32": {"model": "sample"}}, "'other_fp32' would be made"),
        (["sample", "nobody"], {}, "model: 'nobody' is not defined"),
        ([], {}, "at least 1 item"),
    ],
)
def test_a_list_of_models_that_names_a_row_twice_is_refused(
    raw: Raw, models: list[str], variants: Raw, message: str
) -> None:
    raw["models"]["other"] = dict(raw["models"]["sample"])
    raw["model"] = models
    for name, variant in variants.items():
        raw["variants"][name] = {"backend": "auto", "precision": "fp32", **variant}

    with pytest.raises(ConfigError, match=message):
        resolve(raw, "openvino")


def test_a_model_without_weights_is_untrained_and_needs_no_checkpoint(raw: Raw) -> None:
    raw["models"]["bare"] = {"config": W32, "weights": None}
    raw["variants"]["bare"] = {"backend": "auto", "precision": "fp32", "model": "bare"}

    run = resolve(raw, "openvino")

    assert run.models["bare"].needed == []
    assert "bare" not in run.scored
    assert run.models["sample"].needed == ["resources/weights/sample.pth"]
    assert "fp32" in run.scored


def test_only_models_that_a_variant_uses_are_looked_up(raw: Raw) -> None:
    raw["models"]["unused"] = {"config": "missing.py", "weights": None}

    assert resolve(raw, "openvino").used_models == ["sample"]


def test_a_config_that_is_not_there_is_refused(raw: Raw) -> None:
    raw["models"]["sample"]["config"] = "missing.py"

    with pytest.raises(
        ConfigError, match=r"^models\.sample\.config: missing\.py: there is no such file; correct"
    ):
        resolve(raw, "openvino")


def test_the_crop_comes_from_the_config_unless_it_is_given(raw: Raw) -> None:
    assert resolve(raw, "openvino")["fp16"].model.crop == "128x96"

    raw["models"]["sample"]["crop"] = "256x192-udp"
    assert resolve(raw, "openvino")["fp16"].model.crop == "256x192-udp"


def test_limits_of_a_variant_go_over_the_common_ones(raw: Raw) -> None:
    raw["limits"] = {"ap_drop": 0.02, "fps": 5}
    raw["variants"]["int8"]["limits"] = {"ap_drop": 0.1}

    limits = resolve(raw, "openvino").limits

    assert (limits["fp16"]["ap_drop"], limits["fp16"]["fps"]) == (0.02, 5)
    assert (limits["int8"]["ap_drop"], limits["int8"]["fps"]) == (0.1, 5)


def test_a_published_figure_applies_to_its_own_dataset_only(raw: Raw) -> None:
    figure = {"AP": 0.7, "protocol": "det+flip", "dataset": "sample", "source": "a table"}
    raw["models"]["sample"]["published"] = figure
    assert resolve(raw, "openvino").published == {"sample": {"det+flip": {"AP": 0.7}}}

    figure["dataset"] = "coco_val2017"
    assert resolve(raw, "openvino").published == {}


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

    assert bool(resolve(raw, "openvino").published) == shown


def test_options_are_written_in_an_order_that_does_not_vary(raw: Raw) -> None:
    for number, options in enumerate([{"streams": 2, "threads": 1}, {"threads": 1, "streams": 2}]):
        raw["variants"][f"v{number}"] = {
            "backend": "openvino", "precision": "fp32", "options": options,
        }  # fmt: skip

    run = resolve(raw, "openvino")

    assert run["v0"].options_json == run["v1"].options_json == '{"streams": 2, "threads": 1}'
    assert run["fp32"].options_json == "{}"


def test_planning_imports_nothing_heavy_and_executes_no_config(
    run_python: RunPython, repository: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.py"
    config.write_text("open('executed', 'w')\ncodec = dict(input_size=(32, 64))\n")
    done = run_python(
        f"""
        import sys
        from hrnetpose.resolve import resolve

        raw = {{
            "model": "m", "dataset": "d",
            "models": {{"m": {{"config": {str(config)!r}, "weights": None}}}},
            "datasets": {{"d": {{"images": "i", "annotations": "a"}}}},
            "variants": {{
                "auto": {{"backend": "auto", "precision": "fp32"}},
                "w32": {{"backend": "pytorch", "precision": "fp32", "model": "m"}},
            }},
        }}
        print(resolve(raw)["w32"].model.crop)
        heavy = {{"torch", "openvino", "onnxruntime", "onnx", "mmpose", "mmengine", "cv2"}}
        print(heavy & set(sys.modules))
        """
    )

    assert done.stderr == ""
    assert done.stdout == "64x32\nset()\n"
    assert not (tmp_path / "executed").exists()


def test_the_protocol_of_the_seed_is_its_own(raw: Raw) -> None:
    """Batch 32, FP16, ground-truth boxes, no flip test; its row is shown beside what is found."""
    overlay = yaml.safe_load(Path("configs/seed_hrnetpose.yaml").read_text(encoding="utf-8"))
    for key, value in overlay.items():
        raw[key] = raw[key] | value if isinstance(value, dict) else value

    run = resolve(raw, "tensorrt")

    assert set(run.config.variants) == {"pytorch", "fp16"}
    assert (run["fp16"].precision, run["fp16"].batch) == ("fp16", 32)
    assert (run.config.protocols.boxes, run.config.protocols.flip) == (["gt"], [False])
    assert run["fp16"].model.crop == "256x192"
    assert run.published == {"hrnet_w32_c78dce93": {"gt": {"AP50": 0.926, "fps": 1831.2}}}


def test_a_published_row_has_a_figure(raw: Raw) -> None:
    raw["models"]["sample"]["published"] = {"protocol": "gt", "dataset": "x", "source": "y"}

    with pytest.raises(ConfigError, match="one of AP, AP50 and fps is needed"):
        resolve(raw, "openvino")


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt_rtx"])
def test_tensorrt_has_every_precision_of_the_default_configuration(raw: Raw, backend: str) -> None:
    """Or else `auto` would refuse it where there is a GPU."""
    run = resolve(raw, backend)

    assert run["int8"].graph == "build/models/sample/sample/int8-fp16.onnx"
    assert run["bf16"].graph == "build/models/sample/bf16.onnx"


def test_a_batch_follows_from_the_device_unless_it_is_given(raw: Raw) -> None:
    raw["variants"] = {
        "pytorch": {"backend": "pytorch", "precision": "fp32"},
        "gpu": {"backend": "pytorch", "precision": "fp16", "options": {"device": "cuda"}},
        "mine": {"backend": "pytorch", "precision": "fp32", "batch": 5},
    }

    run = resolve(raw, "openvino")

    assert [variant.batch for variant in run.variants.values()] == [8, 32, 5]
