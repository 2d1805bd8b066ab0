"""A PyTorch engine opens in a process that does not have the config of its model."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hrnetpose import engines
from hrnetpose.artifacts.model import MmposeOrigin, ModelCard
from hrnetpose.stage import StageError
from support import TINY_CONFIG

HEAD = TINY_CONFIG.index("    head=dict(")
BODY = TINY_CONFIG.index("    backbone=dict(")
VIT = """\
backbone=dict(
    type="mmpretrain.VisionTransformer", img_size=(64, 32), patch_size=4, out_type="featmap",
    with_cls_token=False, arch=dict(
        embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=32)),
"""
OWN = "backbone=dict(type='OwnBackbone', channels=32),\n"
BACKBONE = """\
from mmpose.registry import MODELS
from torch import nn

from own_parts.layers import shrink


@MODELS.register_module(force=True)
class OwnBackbone(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.layer = nn.Conv2d(3, channels, 3, padding=1)

    def forward(self, images):
        return (shrink(self.layer(images)),)
"""
LAYERS = """\
from torch.nn import functional


def shrink(features):
    return functional.avg_pool2d(features, 4)
"""
FAMILIES = {"HRNet": "", "ViT": VIT, "own": OWN}


def config_of(family: str) -> str:
    """Return the config of the small model with the backbone of a family."""
    if family == "HRNet":
        return TINY_CONFIG
    imports = 'custom_imports = dict(imports=["own_parts.backbone"])\n' if family == "own" else ""
    head = TINY_CONFIG[HEAD:].replace("in_channels=8", "in_channels=32")
    return imports + TINY_CONFIG[:BODY] + FAMILIES[family] + head


@pytest.fixture(scope="module")
def built(
    tmp_path_factory: pytest.TempPathFactory, run_stage: Callable[..., None], model_card: ModelCard
) -> Path:
    """A folder with an engine of each family, and the user's own modules in `code`."""
    folder = tmp_path_factory.mktemp("built")
    package = folder / "code/own_parts"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "backbone.py").write_text(BACKBONE)
    (package / "layers.py").write_text(LAYERS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(folder / "code"), *sys.path])
        for family in FAMILIES:
            config, card = folder / f"{family}.py", folder / f"{family}.json"
            config.write_text(config_of(family))
            origin = MmposeOrigin(config=str(config), weights_sha256=None)
            model_card.model_copy(update={"origin": origin}).write(card)
            run_stage(
                "build_engine", "--variant", family, "--backend", "pytorch", "--precision", "fp32",
                "--card", card, "--batch", 2, "--output", folder / family,
            )  # fmt: skip
    forget()
    return folder


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "own_parts"]:
        del sys.modules[name]


OPEN = """
    import sys
    from pathlib import Path

    import numpy as np

    from hrnetpose import engines

    sys.path.insert(0, sys.argv[2])
    for family in sys.argv[3:]:
        with engines.read(Path(sys.argv[1]) / family).open(threads=1) as engine:
            outputs = engine.infer(np.zeros((2, 64, 32, 3), np.uint8))
            print(family, *outputs["heatmaps"].shape)
"""


def test_a_fresh_process_opens_the_engine_of_every_family(
    built: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    # Families without modules of their own come first: they must not depend on those of others.
    done = run_python(OPEN, built, built / "code", *FAMILIES)

    assert done.returncode == 0, done.stderr
    shapes = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert shapes == dict.fromkeys(FAMILIES, "2 17 16 8")


@pytest.fixture
def code(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the user's own modules, which a fresh import finds."""
    shutil.copytree(built / "code", tmp_path / "code")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "code"), *sys.path])
    forget()
    return tmp_path / "code/own_parts"


def open_own(built: Path) -> str:
    """Open the engine; return the error."""
    engine = engines.read(built / "own").open(threads=1)
    try:
        with engine:
            return ""
    except StageError as error:
        return str(error)


def test_modules_may_be_moved(built: Path, code: Path) -> None:
    assert open_own(built) == ""


@pytest.mark.parametrize("name", ["backbone", "layers"])
def test_an_edited_module_is_refused(built: Path, code: Path, name: str) -> None:
    file = code / f"{name}.py"
    file.write_text(file.read_text() + "# edited\n")

    error = open_own(built)

    assert f"own_parts.{name} ({file}) is not the one with which it was built" in error
    assert "--forcerun build_engine" in error


@pytest.mark.parametrize("name", ["backbone.py", "layers.py", "."])
def test_a_missing_module_is_refused(built: Path, code: Path, name: str) -> None:
    shutil.rmtree(code) if name == "." else (code / name).unlink()

    error = open_own(built)

    assert f"{built / 'own/engine.bin'}: module own_parts" in error
    assert "is not found; install it, or put its folder on PYTHONPATH" in error
