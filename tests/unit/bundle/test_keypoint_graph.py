"""A graph that gives keypoints: the same ones, in three runtimes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest

from hrnetpose.artifacts.model import ModelCard
from hrnetpose.engines.tensorrt.build import compile_plan
from hrnetpose.engines.tensorrt.flavour import TENSORRT_RTX
from hrnetpose.engines.tensorrt.options import TensorRtOptions
from hrnetpose.graphs import keypoints, metadata, onnx_graph
from hrnetpose.pose import decode

CODECS = ["plain", "dark", "simcc", "simcc dark"]


@pytest.fixture(scope="module")
def graphs(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for name in CODECS:
        card = ModelCard.read(models[name] / "model.json")
        plain = onnx_graph.with_pixel_input(onnx_graph.read(models[name] / "fp32.onnx"), card)
        model = metadata.with_metadata(keypoints.with_keypoint_outputs(plain, card), card)
        onnx.checker.check_model(model, full_check=True)
        found[name] = tmp_path_factory.mktemp("graph") / "keypoints.onnx"
        onnx.save(model, found[name])
    return found


@pytest.fixture(scope="module")
def many() -> Any:
    """Crops, among them a black one and one of a single colour."""
    crops = np.random.default_rng(3).integers(0, 256, (40, 64, 32, 3), dtype=np.uint8)
    crops[0], crops[1] = 0, 77
    return crops


def expect(folder: Path, crops: Any, plainly: bool) -> tuple[Any, Any]:
    """Return the pipeline's keypoints in pixels of the crop, and scores."""
    card = ModelCard.read(folder / "model.json")
    codec = card.codec
    if plainly:
        dark = "use_dark" if codec.type == "SimCCLabel" else "unbiased"
        codec = codec.model_copy(update={dark: False})
    images = onnx_graph.normalised(crops, card)
    names = [output.name for output in card.outputs]
    return decode.decode(onnx_graph.run(folder / "fp32.onnx", images, names), codec, card.crop)


@pytest.mark.parametrize("codec", CODECS)
def test_keypoints_are_those_of_the_plain_decoder(
    graphs: dict[str, Path], models: dict[str, Path], many: Any, codec: str
) -> None:
    positions, scores = expect(models[codec], many, plainly=True)
    session = onnxruntime.InferenceSession(graphs[codec])
    compiled = openvino.Core().compile_model(
        graphs[codec], "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    run = compiled(many)
    found = {
        "onnxruntime": session.run(["keypoints", "scores"], {"crops": many}),
        "openvino": [run["keypoints"], run["scores"]],
    }
    for name, (points, surely) in found.items():
        assert points.shape == (40, 17, 2), name
        assert points.dtype == surely.dtype == np.float32
        assert np.abs(surely - scores).max() < 1e-5 * np.abs(scores).max(), name
        # Where two values are as good as equal, rounding decides which is the maximum.
        assert np.mean(np.abs(points - positions).max(axis=-1) < 1e-3) > 0.99, name


@pytest.mark.parametrize("codec", CODECS)
def test_tensorrt_parses_and_builds_it(graphs: dict[str, Path], codec: str) -> None:
    options = TensorRtOptions(min_batch=1, opt_batch=4, max_batch=8)
    shapes = [(n, 64, 32, 3) for n in (1, 4, 8)]
    plan = compile_plan(
        TENSORRT_RTX, graphs[codec].read_bytes(), {"crops": shapes}, options, graphs[codec]
    )
    assert plan.startswith(TENSORRT_RTX.magic)


def test_openvino_keeps_the_metadata_in_its_own_format(
    graphs: dict[str, Path], tmp_path: Path
) -> None:
    """With the one call that docs/bundle.md gives."""
    model = openvino.Core().read_model(graphs["plain"])
    openvino.save_model(model, tmp_path / "model.xml", compress_to_fp16=False)
    info = openvino.Core().read_model(tmp_path / "model.xml")
    assert json.loads(info.get_rt_info(["framework", "imgsz"]).value) == [64, 32]
    assert json.loads(info.get_rt_info(["framework", "model_card"]).value)["name"] == "tiny"


@pytest.mark.parametrize("codec", ["udp", "combined", "megvii"])
def test_other_decoders_have_no_such_graph_and_say_why(models: dict[str, Path], codec: str) -> None:
    card = ModelCard.read(models[codec] / "model.json")
    assert "is not decoded by a maximum" in str(keypoints.missing_reason(card))
