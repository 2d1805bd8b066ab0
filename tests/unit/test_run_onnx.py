"""A model of which only the ONNX file is there, as a plan sees it."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from hrnetpose.config import ConfigError
from hrnetpose.resolve import resolve
from hrnetpose.run import OnnxModel
from support import write_graph

Raw = dict[str, Any]
CARD = {
    "mean": [0, 0, 0],
    "std": [255, 255, 255],
    "channel_order": "RGB",
    "codec": {"type": "MSRAHeatmap"},
    "keypoints": "coco",
}


@pytest.fixture
def given(raw: Raw, tmp_path: Path) -> Raw:
    """The default configuration with an ONNX file in the sample's place."""
    raw["models"]["sample"] = {"onnx": str(write_graph(tmp_path / "given.onnx")), "card": {**CARD}}
    return raw


def refused(raw: Raw) -> str:
    with pytest.raises(ConfigError) as error:
        resolve(raw, "openvino")
    return str(error.value)


def test_the_row_in_pytorch_is_dropped_and_the_fp32_engine_is_the_reference(given: Raw) -> None:
    run = resolve(given, "openvino")

    assert list(run.variants) == ["fp32", "fp16", "bf16", "int8"]
    assert len(run.notes) == 1
    assert run.notes[0].startswith("variants.pytorch: dropped, since models.sample is an ONNX file")
    assert "the fp32 engine of that file is the reference" in run.notes[0]
    assert run["fp32"].reference is None
    assert {run[name].reference.name for name in ("fp16", "bf16", "int8")} == {"fp32"}
    assert run.scored == list(run.variants)
    assert list(run.limits) == list(run.variants)


def test_beside_a_model_of_mmpose_each_has_its_own_reference(raw: Raw, tmp_path: Path) -> None:
    onnx_model = {"onnx": str(write_graph(tmp_path / "given.onnx")), "card": CARD}
    raw["models"]["other"] = onnx_model
    raw["variants"]["ort"] = {"backend": "onnxruntime", "precision": "fp32", "model": "other"}
    raw["variants"]["ort16"] = {"backend": "onnxruntime", "precision": "fp16", "model": "other"}

    run = resolve(raw, "openvino")

    assert run["fp16"].reference.name == "pytorch"
    assert run["ort"].reference is None
    assert run["ort16"].reference.name == "ort"


def test_nothing_but_a_row_in_pytorch_is_refused(given: Raw) -> None:
    given["variants"] = {"only": {"backend": "pytorch", "precision": "fp32"}}

    assert refused(given).startswith("variants.only.backend: models.sample is an ONNX file")


def test_the_size_and_the_keypoints_are_read_from_the_file(given: Raw) -> None:
    model = resolve(given, "openvino").models["sample"]

    assert isinstance(model, OnnxModel)
    assert model.crop == "64x32"
    assert model.known.keypoints[:2] == ["nose", "left_eye"]
    assert model.files == given["models"]["sample"]["onnx"].split("\n")
    assert model.needed == model.files


def test_what_a_plan_has_read_is_remembered(given: Raw, run_python: Callable[..., Any]) -> None:
    program = f"""
        import sys
        from hrnetpose import config
        from hrnetpose.models import known
        section = config.OnnxModel.model_validate({given["models"]["sample"]!r})
        found = known.look_up_onnx("sample", section, section.onnx)
        print(found.crop, found.precision, "onnx" in sys.modules)
    """
    done: list[subprocess.CompletedProcess[str]] = [run_python(program) for _ in range(2)]

    assert [one.stdout.split() for one in done] == [
        ["64x32", "fp32", "True"], ["64x32", "fp32", "False"],
    ], done[0].stderr  # fmt: skip


def test_a_file_from_elsewhere_needs_its_size_said(given: Raw) -> None:
    given["models"]["sample"]["onnx"] = ["https://example.org/a.onnx"]

    assert refused(given).startswith("models.sample.card: crop: missing; the file is not here yet")

    given["models"]["sample"]["card"]["crop"] = "256x192-pad1.1"
    run = resolve(given, "openvino")
    assert run.models["sample"].crop == "256x192-pad1.1"
    assert run.models["sample"].files == ["resources/weights/sample.onnx"]
    assert run.keypoints["sample"][0] == "nose"


def test_a_file_with_a_hash_is_brought_and_checked(given: Raw) -> None:
    given["models"]["sample"] |= {"sha256": "01234567", "size": 12}

    run = resolve(given, "openvino")

    download = run.resources.downloads["resources/weights/sample.onnx"]
    assert (download.sha256, download.size) == ("01234567", 12)
    assert run.models["sample"].crop == "64x32"
    assert run.models["sample"].files == ["resources/weights/sample.onnx"]


def test_a_folder_is_used_in_place_and_its_files_are_listed(given: Raw, tmp_path: Path) -> None:
    (tmp_path / "pipeline.json").write_text("{}")
    (tmp_path / "readme.txt").write_text("not mmdeploy's")
    given["models"]["sample"]["onnx"] = str(tmp_path)

    model = resolve(given, "openvino").models["sample"]

    assert [Path(file).name for file in model.files] == ["given.onnx", "pipeline.json"]
    given["models"]["sample"]["sha256"] = "01234567"
    assert "a folder is used where it is" in refused(given)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("keypoints", None, "models.sample.onnx: {file}: nothing says keypoints; give it, for "
         "example `card: {{keypoints: coco}}`"),
        ("keypoints", "aic", "models.sample.onnx: {file}: not the pose model that its card"),
        ("crop", "256x192", "models.sample.onnx: {file}: card.crop (from card): height is 256,"),
        ("crop", "256", "models.sample.card.crop: '256' is not HEIGHTxWIDTH"),
        ("mean", [1, 2], "models.sample.card.mean: [1, 2]: list should have at least 3 items"),
        ("std", [0, 1, 1], "models.sample.card.std.0: 0: input should be greater than 0"),
        ("channel_order", "GBR", "models.sample.card.channel_order: 'GBR' is not allowed; 'RGB'"),
        ("codecs", 1, "models.sample.card.codecs: unknown key (did you mean codec?); allowed: "),
    ],
)  # fmt: skip
def test_a_wrong_card_is_refused_by_its_key(given: Raw, key: str, value: Any, said: str) -> None:
    file = given["models"]["sample"]["onnx"]
    given["models"]["sample"]["card"][key] = value

    assert refused(given).startswith(said.format(file=file))


def test_a_model_is_of_one_kind(given: Raw) -> None:
    given["models"]["sample"]["config"] = "model.py"

    said = refused(given)
    assert said.startswith("models.sample.config: unknown key; allowed: ")
    assert {"card", "onnx"} <= set(said.partition("allowed: ")[2].split(", "))


def test_a_graph_in_fp16_is_taken_as_it_is_and_as_nothing_else(given: Raw, tmp_path: Path) -> None:
    write_graph(tmp_path / "given.onnx", np.float16)

    said = refused(given)
    assert said.startswith("variants.fp32.precision: fp32, but the graph of models.sample holds")
    assert "ask for `precision: fp16`, or set variants.fp32 to null" in said

    given["variants"] = {"half": {"backend": "auto", "precision": "fp16"}}
    run = resolve(given, "openvino")
    assert run["half"].graph == "build/models/sample/simplified.onnx"
    assert run["half"].reference is None


def test_a_quantised_graph_needs_no_calibration(given: Raw, tmp_path: Path) -> None:
    model = onnx.load(write_graph(tmp_path / "given.onnx"))
    scale = numpy_helper.from_array(np.array(0.1, np.float32), "scale")
    zero = numpy_helper.from_array(np.array(0, np.int8), "zero")
    model.graph.initializer.extend([scale, zero])
    model.graph.node[0].input[0] = "dq"
    for number, (kind, source, target) in enumerate(
        [("QuantizeLinear", "input", "q"), ("DequantizeLinear", "q", "dq")]
    ):
        node = helper.make_node(kind, [source, "scale", "zero"], [target])
        model.graph.node.insert(number, node)
    onnx.save(model, tmp_path / "given.onnx")
    given["datasets"]["sample"]["calibration"] = None
    given["variants"] = {"eight": {"backend": "auto", "precision": "int8"}}

    run = resolve(given, "openvino")

    assert run["eight"].graph == "build/models/sample/simplified.onnx"
    assert (run.is_calibrated, run.quantizations) == (False, [])


def test_weights_that_are_not_beside_the_file_are_refused(given: Raw, tmp_path: Path) -> None:
    model = onnx.load(tmp_path / "given.onnx")
    onnx.save(model, tmp_path / "given.onnx", save_as_external_data=True, location="given.data",
              size_threshold=0)  # fmt: skip
    files = resolve(given, "openvino").models["sample"].files
    assert [Path(file).name for file in files] == ["given.onnx", "given.data"]

    (tmp_path / "given.onnx").touch()
    (tmp_path / "given.data").unlink()
    assert "its weights are in given.data, which is not beside it" in refused(given)
