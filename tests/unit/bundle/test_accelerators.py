"""pose.py on TensorRT and on Iluvatar's GPUs: stand-ins run it, as they run the pipeline."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrnetpose.bundle import runtime
from stand_ins import cuda as nvidia
from stand_ins import iluvatar
from unit.bundle.test_pose import change_card, pipeline

Bundle = Callable[..., Path]
Load = Callable[[Path], Any]


@pytest.fixture
def device(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> nvidia.Device:
    """A GPU that computes the graph of the plain codec."""
    folder = models["plain"]
    return nvidia.install(monkeypatch, folder / "fp32.onnx", folder / "model.json")


def same(pose: Any, folder: Path, image: Any, boxes: Any) -> bool:
    """Return True if keypoints are the pipeline's, without and with flip test."""
    near = []
    for flip in (False, True):
        expected, _ = pipeline(folder, image, boxes, flip)
        with pose.Pose(folder, flip=flip) as model:
            near.append(np.abs(model(image, boxes)[0] - expected).max() < 1e-3)
    return all(near)


def test_tensorrt_runs_and_builds_on_arrival(
    bundle: Bundle, load: Load, device: nvidia.Device, image: Any, boxes: Any,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = bundle("plain", "tensorrt_rtx", "fp16")
    pose = load(folder)
    monkeypatch.setattr(pose, "find_gpu", lambda: pose.Gpu("RTX 4090", "8.9", "580"))
    assert same(pose, folder, image, boxes)

    change_card(folder, built_for={"TensorRT-RTX": "0.1"})
    with pytest.raises(pose.StageError, match=r"build the engine here with --build"):
        pose.Pose(folder)
    (folder / "engine.bin").unlink()
    assert pose.main(["--build"], folder) == 0
    assert "run --check" in capsys.readouterr().out
    card = json.loads((folder / "engine.json").read_text())
    assert card["built_for"]["TensorRT-RTX"] != "0.1"
    assert card["requested"] == "fp16"
    assert same(pose, folder, image, boxes)


def test_without_tensorrt_nothing_is_built(
    bundle: Bundle, load: Load, device: nvidia.Device, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = bundle("plain", "tensorrt_rtx", "fp16")
    pose = load(folder)
    runner = pose.RUNNERS["tensorrt_rtx"]
    missing = pose.Runner(runner.open, ("no_tensorrt",), runner.environment, runner.build)
    monkeypatch.setitem(pose.RUNNERS, "tensorrt_rtx", missing)

    assert pose.main(["--build"], folder) == 1
    assert "no_tensorrt is not installed; `pip install -r" in capsys.readouterr().err


def test_an_engine_for_another_gpu_is_refused(
    bundle: Bundle, load: Load, device: nvidia.Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia.install_tensorrt(monkeypatch)
    folder = bundle("plain", "tensorrt")
    pose = load(folder)
    card = json.loads((folder / "engine.json").read_text())
    assert card["built_for"]["GPU"] == nvidia.GPU.name
    runner = pose.RUNNERS["tensorrt"]
    here = {**card["built_for"], "GPU": "NVIDIA A100"}
    monkeypatch.setitem(
        pose.RUNNERS, "tensorrt", pose.Runner(runner.open, ("tensorrt_rtx",), lambda options: here)
    )
    with pytest.raises(pose.StageError, match=r"built for GPU NVIDIA GeForce RTX 4090, but here"):
        pose.Pose(folder)
    with pose.Pose(folder, portable=True) as model:
        assert model.backend == "openvino"


@pytest.mark.parametrize("backend", ["igie", "ixrt"])
def test_iluvatars_engines_run(
    bundle: Bundle, load: Load, image: Any, boxes: Any, monkeypatch: pytest.MonkeyPatch,
    backend: str,
) -> None:  # fmt: skip
    getattr(iluvatar, f"install_{backend}")(monkeypatch)
    folder = bundle("plain", backend)
    pose = load(folder)
    assert same(pose, folder, image, boxes)
    assert pose.main(["--build"], folder) == 1
    assert runtime.RUNNERS.keys() >= {"openvino", "onnxruntime"}
