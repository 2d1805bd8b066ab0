"""A small HRNet with random weights, and what else the rooms share."""

import copy
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import yaml

from hrnetpose.artifacts.calibration import CalibrationSet
from hrnetpose.artifacts.model import Crop, HeatmapCodec, Keypoints, MmposeOrigin, ModelCard, Tensor
from support import TINY_CONFIG, TINY_SIMCC_CONFIG

RunPython = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def run_stage() -> Callable[..., None]:
    """Run a stage script in this process: `run_stage("export_onnx", "--name", "tiny", ...)`."""

    def run(script: str, *arguments: object) -> None:
        module = importlib.import_module(script)
        module.main(**vars(module.parser().parse_args([str(argument) for argument in arguments])))

    return run


@pytest.fixture(scope="session")
def make_tiny(
    tmp_path_factory: pytest.TempPathFactory, run_stage: Callable[..., None]
) -> Callable[[str, str], Path]:
    """Make a folder with a small model's config, checkpoint, crops and all graphs made of them.

    Its input is 64x32 (height x width), its weights are random and always the same.
    """
    import torch

    from hrnetpose.models import mmpose

    def make(name: str, text: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        config, weights, card = folder / "config.py", folder / "weights.pth", folder / "model.json"
        config.write_text(text)
        crops = np.random.default_rng(2).integers(0, 256, (12, 64, 32, 3), dtype=np.uint8)
        np.save(folder / "crops.npy", crops)
        model = mmpose.build_model(mmpose.read_config(str(config)), None).train()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        # Once in training mode, so that the statistics fit and the outputs depend on the image.
        images = torch.from_numpy(crops / np.float32(64) - 2).permute(0, 3, 1, 2)
        with torch.no_grad():
            model(images, None, mode="tensor")
        torch.save({"meta": {"epoch": 1}, "state_dict": model.state_dict()}, weights)
        run_stage(
            "export_onnx", "--name", name, "--config", config, "--weights", weights,
            "--crop", "64x32", "--output", folder / "model.onnx", "--card", card,
        )  # fmt: skip
        run_stage(
            "simplify_onnx", "--model", folder / "model.onnx", "--card", card,
            "--output", folder / "fp32.onnx", "--summary", folder / "simplified.json",
        )  # fmt: skip
        CalibrationSet(images=[], persons=len(crops), evaluated_images=0).write(
            folder / "calibration.json"
        )
        for graph, options in (("int8", ()), ("int8-symmetric", ("--symmetric",))):
            run_stage(
                "quantize_int8", "--model", folder / "fp32.onnx", "--card", card, *options,
                "--crops", folder / "crops.npy", "--instances", folder / "instances.npz",
                "--calibration", folder / "calibration.json",
                "--output", folder / f"{graph}.onnx", "--summary", folder / f"{graph}.json",
            )  # fmt: skip
        run_stage(
            "quantize_fp8", "--model", folder / "fp32.onnx", "--card", card,
            "--crops", folder / "crops.npy", "--output", folder / "fp8.onnx",
        )  # fmt: skip
        for graph, source in (("fp16", "fp32"), ("bf16", "fp32"), ("int8-fp16", "int8-symmetric")):
            run_stage(
                "convert_precision", "--precision", graph, "--model", folder / f"{source}.onnx",
                "--output", folder / f"{graph}.onnx",
            )  # fmt: skip
        return folder

    return make


@pytest.fixture(scope="session")
def tiny(make_tiny: Callable[[str, str], Path]) -> Path:
    """A folder with a small HRNet."""
    return make_tiny("tiny", TINY_CONFIG)


@pytest.fixture(scope="session")
def tiny_simcc(make_tiny: Callable[[str, str], Path]) -> Path:
    """A folder with a small SimCC model, which gives two arrays."""
    return make_tiny("tiny_simcc", TINY_SIMCC_CONFIG)


@pytest.fixture(scope="session")
def load_network() -> Callable[[Path], Any]:
    """Load the model of a folder that `make_tiny` made in PyTorch, as it was exported."""
    from hrnetpose.models import export, mmpose

    def load(folder: Path) -> Any:
        config = mmpose.read_config(str(folder / "config.py"))
        return export.Network(mmpose.build_model(config, folder / "weights.pth"))

    return load


@pytest.fixture(scope="session")
def network(tiny: Path, load_network: Callable[[Path], Any]) -> Any:
    """The small HRNet in PyTorch."""
    return load_network(tiny)


@pytest.fixture(scope="session")
def model_card() -> ModelCard:
    """The card of a model with three keypoints that exists on paper only."""
    return ModelCard(
        name="paper",
        origin=MmposeOrigin(config="paper.py", weights_sha256="1" * 64),
        architecture="HRNet + HeatmapHead",
        onnx_sha256="2" * 64,
        opset=17,
        input=Tensor(name="input", shape=["batch", 3, 64, 32], dtype="float32"),
        outputs=[Tensor(name="heatmaps", shape=["batch", 3, 16, 8], dtype="float32")],
        channel_order="RGB",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        crop=Crop(height=64, width=32),
        codec=HeatmapCodec(type="MSRAHeatmap", sigma=2.0),
        flip_shift=True,
        keypoints=Keypoints(
            names=["nose", "left_eye", "right_eye"],
            flip_indices=[0, 2, 1],
            sigmas=[0.026, 0.025, 0.025],
            skeleton=[(0, 1), (0, 2)],
        ),
        parameters=1_500_000,
        macs=250_000_000,
        versions={"onnx": "1.0"},
    )


@pytest.fixture
def run_python(repository: Path, tmp_path: Path) -> RunPython:
    """Run a program in a process of its own, with the library at hand."""

    def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        script = tmp_path / "program.py"
        script.write_text(dedent(program))
        return subprocess.run(
            [sys.executable, str(script), *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": str(repository / "workflow_scripts")},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return run


@pytest.fixture
def raw(repository: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The default configuration, whose paths start at the repository's root."""
    monkeypatch.chdir(repository)
    return copy.deepcopy(yaml.safe_load(Path("config.yaml").read_text(encoding="utf-8")))
