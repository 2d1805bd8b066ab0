"""A copy of the project in which tests run Snakemake as a user does."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from hrnetpose.stage import StageError

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(
    path
    for path in [*ROOT.glob("workflow_scripts/*.py"), *ROOT.glob("tools/**/*.py")]
    if "stage.run(" in path.read_text(encoding="utf-8")
)
"""All stages and tools with a command line."""

TINY_CONFIG = """
codec = dict(type="MSRAHeatmap", input_size=(32, 64), heatmap_size=(8, 16), sigma=1)
model = dict(
    type="TopdownPoseEstimator",
    data_preprocessor=dict(
        type="PoseDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type="HRNet",
        in_channels=3,
        extra=dict(
            stage1=dict(
                num_modules=1, num_branches=1, block="BOTTLENECK", num_blocks=(1,),
                num_channels=(16,)),
            stage2=dict(
                num_modules=1, num_branches=2, block="BASIC", num_blocks=(1, 1),
                num_channels=(8, 16)),
            stage3=dict(
                num_modules=1, num_branches=3, block="BASIC", num_blocks=(1, 1, 1),
                num_channels=(8, 16, 32)),
            stage4=dict(
                num_modules=1, num_branches=4, block="BASIC", num_blocks=(1, 1, 1, 1),
                num_channels=(8, 16, 32, 64)),
        ),
    ),
    head=dict(
        type="HeatmapHead", in_channels=8, out_channels=17, deconv_out_channels=None,
        loss=dict(type="KeypointMSELoss", use_target_weight=True), decoder=codec),
    test_cfg=dict(flip_test=True, flip_mode="heatmap", shift_heatmap=True),
)
dataset_type = "CocoDataset"
val_pipeline = [
    dict(type="LoadImage"),
    dict(type="GetBBoxCenterScale"),
    dict(type="TopdownAffine", input_size=codec["input_size"]),
    dict(type="PackPoseInputs"),
]
val_dataloader = dict(dataset=dict(type=dataset_type, pipeline=val_pipeline))
"""
"""An HRNet of some thousand parameters; its input is 64x32 (height x width)."""


def replace_texts(text: str, replacements: Mapping[str, str]) -> str:
    """Replace parts of a text, all of which must be in it."""
    for old, new in replacements.items():
        assert old in text
        text = text.replace(old, new)
    return text


TINY_SIMCC_CONFIG = replace_texts(
    TINY_CONFIG,
    {
        'type="MSRAHeatmap", input_size=(32, 64), heatmap_size=(8, 16), sigma=1': (
            'type="SimCCLabel", input_size=(32, 64), sigma=(2.0, 2.8), simcc_split_ratio=2.0, '
            "normalize=False"
        ),
        'type="HeatmapHead", in_channels=8, out_channels=17, deconv_out_channels=None,': (
            'type="RTMCCHead", in_channels=8, out_channels=17, input_size=codec["input_size"], '
            "in_featuremap_size=(8, 16), simcc_split_ratio=2.0, final_layer_kernel_size=3, "
            "gau_cfg=dict(hidden_dims=32, s=16, expansion_factor=2, dropout_rate=0.0, "
            'drop_path=0.0, act_fn="SiLU", use_rel_bias=False, pos_enc=False),'
        ),
        "KeypointMSELoss": "KLDiscretLoss",
        ', flip_mode="heatmap", shift_heatmap=True': "",
    },
)
"""The same with the head and the codec of RTMPose."""


class Project:
    """A checkout in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def copied(cls, repository: Path, folder: Path) -> "Project":
        """Copy all but what git ignores: what was built.

        Git is asked with a repository of its own, since this one may be an unpacked archive, or
        belong to somebody else.
        """
        with tempfile.TemporaryDirectory() as empty:
            subprocess.run(["git", "init", "--quiet", "--bare", empty], check=True)
            listing = subprocess.run(
                ["git", f"--git-dir={empty}", f"--work-tree={repository}", "ls-files", "--others",
                 "--exclude-standard", "-z"],
                cwd=repository, check=True, capture_output=True, text=True,
            )  # fmt: skip
        for name in filter(None, listing.stdout.split("\0")):
            if (repository / name).is_file():
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(repository / name, target)
        return cls(folder)

    def overlay(self, content: Mapping[str, Any], name: str = "overlay.yaml") -> str:
        """Write a configuration overlay and return its name."""
        (self.folder / name).write_text(yaml.safe_dump(dict(content)))
        return name

    def snakemake(self, *arguments: str, cores: int = 2) -> subprocess.CompletedProcess[str]:
        """Run Snakemake and return what it printed."""
        return subprocess.run(
            [sys.executable, "-m", "snakemake", "--cores", str(cores), *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )

    def succeed(self, *arguments: str, cores: int = 2) -> str:
        """Run Snakemake, which must succeed, and return all that it printed."""
        done = self.snakemake(*arguments, cores=cores)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def jobs(self, *arguments: str) -> dict[str, int]:
        """Return how often each rule would run."""
        return job_counts(self.succeed("--dry-run", "--quiet=rules", *arguments))

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run make and return what it printed."""
        return subprocess.run(
            ["make", *arguments], cwd=self.folder, capture_output=True, text=True, check=False
        )

    def json(self, name: str) -> Any:
        """Read a JSON file."""
        return json.loads((self.folder / name).read_text())

    def leftovers(self) -> list[str]:
        """Return temporary files that a stage left behind."""
        return [str(path) for path in self.folder.rglob("*.partial*")]


def job_counts(printed: str) -> dict[str, int]:
    """Return how often each rule would run, from what a dry run has printed."""
    counts = {}
    for line in printed.splitlines():
        words = line.split()
        if len(words) == 2 and words[1].isdigit() and words[0] != "total":
            counts[words[0]] = int(words[1])
    return counts


def stage_command(printed: str) -> str:
    """Return the first stage command that Snakemake printed."""
    return next(
        line.partition("python ")[1] + line.partition("python ")[2]
        for line in printed.splitlines()
        if "python workflow_scripts/" in line
    )


def environment() -> dict[str, str]:
    """Return the environment in which `python` is the one that runs the tests."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path}


def peak_memory(project: Project, script: str, *arguments: object) -> int:
    """Run a stage, which must succeed, and return the most memory that it had, in bytes."""
    command = [sys.executable, script, *map(str, arguments)]
    child = os.fork()
    if child == 0:
        os.chdir(project.folder)
        os.execv(sys.executable, command)
    _, status, usage = os.wait4(child, 0)
    assert status == 0, command
    return usage.ru_maxrss * 1024


def refusal(function: Callable[..., object], *arguments: object, **options: Any) -> str:
    """Return the message of the StageError that a call raises: one line, without class names."""
    with pytest.raises(StageError) as error:
        function(*arguments, **options)
    text = str(error.value)
    assert text.isprintable()
    assert not re.search(r"[A-Z]\w+(Error|Exception|Exit)|weights_only", text)
    return text


def write_graph(path: Path, dtype: Any = np.float32, scale: float = 1) -> Path:
    """Write a graph of one convolution with 17 heatmaps; its input is 64x32."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.full((17, 3, 4, 4), scale, dtype), "w")
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [helper.make_node("Conv", ["input", "w"], ["heatmaps"], strides=[4, 4])],
        "conv",
        [helper.make_tensor_value_info("input", kind, ["batch", 3, 64, 32])],
        [helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, ["batch", 17, 16, 8])],
        [weights],
    )
    if kind != TensorProto.FLOAT:
        graph.output[0].type.tensor_type.elem_type = kind
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path
