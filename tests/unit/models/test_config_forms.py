"""A config says the same in every form that mmengine reads."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from hrnetpose.models import keypoints, keys, mmpose, settings
from support import TINY_CONFIG, refusal

MODULES = {
    "TopdownPoseEstimator": "mmpose.models.pose_estimators.topdown",
    "PoseDataPreprocessor": "mmpose.models.data_preprocessors.data_preprocessor",
    "HRNet": "mmpose.models.backbones.hrnet",
    "HeatmapHead": "mmpose.models.heads.heatmap_heads.heatmap_head",
    "KeypointMSELoss": "mmpose.models.losses.heatmap_loss",
    "MSRAHeatmap": "mmpose.codecs.msra_heatmap",
    "LoadImage": "mmpose.datasets.transforms.loading",
    "GetBBoxCenterScale": "mmpose.datasets.transforms.common_transforms",
    "TopdownAffine": "mmpose.datasets.transforms.topdown_transforms",
    "PackPoseInputs": "mmpose.datasets.transforms.formatting",
    "CocoDataset": "mmpose.datasets.datasets.body.coco_dataset",
}


def replace_types(spell: Callable[[str], str]) -> str:
    """Return the small model's config with its types written in another way."""
    text = TINY_CONFIG
    for name in MODULES:
        text = text.replace(f'"{name}"', spell(name))
    return text


def classes() -> str:
    imports = "".join(f"from {module} import {name}\n" for name, module in MODULES.items())
    return imports + replace_types(lambda name: name)


def attributes() -> str:
    depths = {name: 3 if ".transforms." in module else 2 for name, module in MODULES.items()}
    packages = {n: ".".join(module.split(".")[: depths[n]]) for n, module in MODULES.items()}
    imports = "".join(f"import {package}\n" for package in sorted(set(packages.values())))
    return imports + replace_types(lambda name: f"{packages[name]}.{name}")


def parse(folder: Path, text: str) -> Any:
    mmpose.import_mmpose()
    from mmengine.config import Config

    (folder / "source.py").write_text(text)
    return Config.fromfile(str(folder / "source.py"))


def read_base(folder: Path) -> str:
    (folder / "__init__.py").touch()
    (folder / "base.py").write_text(classes())
    return """
from mmengine.config import read_base
with read_base():
    from .base import *
model.update(test_cfg=dict(shift_heatmap=True))
"""


def inherited(folder: Path) -> str:
    (folder / "bases").mkdir()
    (folder / "bases" / "base.py").write_text(TINY_CONFIG.replace("sigma=1", "sigma=1, unbiased=1"))
    codec = '"MSRAHeatmap", input_size=(32, 64), heatmap_size=(8, 16), sigma=1'
    return f"""
_base_ = ['./bases/base.py']
model = dict(head=dict(decoder=dict(_delete_=True, type={codec})))
"""


FORMS: dict[str, Callable[[Path], str]] = {
    "classes.py": lambda folder: classes(),
    "attributes.py": lambda folder: attributes(),
    "read_base.py": read_base,
    "dumped.py": lambda folder: parse(folder, classes()).pretty_text,
    "scoped.py": lambda folder: replace_types(lambda name: f'"mmpose.{name}"'),
    "paths.py": lambda folder: replace_types(lambda name: f'"{MODULES[name]}.{name}"'),
    "scope_beside.py": lambda folder: TINY_CONFIG.replace(
        'type="HRNet"', '_scope_="mmpose", type="HRNet"'
    ),
    "inherited.py": inherited,
    "environment.py": lambda folder: TINY_CONFIG.replace(
        "std=[58.395,", "std=[float('{{$DEVIATION_OF_RED:58.395}}'),"
    ),
    "config.json": lambda folder: json.dumps(parse(folder, TINY_CONFIG).to_dict()),
    "config.yaml": lambda folder: yaml.safe_dump(
        json.loads(json.dumps(parse(folder, TINY_CONFIG).to_dict()))
    ),
}


def read_everything(config: Any) -> list[Any]:
    """Return all that this project takes from a config."""
    names = [keys.short(config.model[part].type) for part in ("backbone", "head")]
    functions = (
        settings.read_normalisation,
        settings.read_crop,
        settings.read_codec,
        keypoints.read_keypoints,
        settings.read_evaluation,
        settings.check_keys,
    )
    return [names, *(function(config) for function in functions)]


@pytest.mark.parametrize("name", FORMS)
def test_a_config_says_the_same_in_every_form(tiny: Path, tmp_path: Path, name: str) -> None:
    plain = mmpose.read_config(str(tiny / "config.py"))
    (tmp_path / name).write_text(FORMS[name](tmp_path))

    config = mmpose.read_config(str(tmp_path / name))

    assert read_everything(config) == read_everything(plain)
    state = mmpose.build_model(config, tiny / "weights.pth").state_dict()
    expected = mmpose.build_model(plain, tiny / "weights.pth").state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_a_base_of_mmposes_package(tmp_path: Path) -> None:
    name = "body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192"
    path = tmp_path / "config.py"
    path.write_text(f'_base_ = "mmpose::{name}.py"\nrandomness = dict(seed=1)\n')

    config = mmpose.read_config(str(path))

    assert read_everything(config) == read_everything(mmpose.read_config(Path(name).name))


def test_mmengine_finds_packages_without_pkg_resources() -> None:
    mmpose.import_mmpose()
    from mmengine.utils import get_installed_path, is_installed

    assert Path(get_installed_path("mmpose")) == Path(sys.modules["mmpose"].__file__ or "").parent
    assert is_installed("mmengine")
    assert not is_installed("a_package_that_nobody_has")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("from mmpose.models.backbones.hrnet import HRNet", "from nowhere import HRNet", "nowhere"),
        ("import HRNet", "import HRNeXt as HRNet", "HRNeXt"),
        ("import CocoDataset", "import CacaoDataset as CocoDataset", "CacaoDataset"),
    ],
)
def test_a_class_that_is_not_there_is_named(tmp_path: Path, old: str, new: str, named: str) -> None:
    path = tmp_path / "config.py"
    path.write_text(classes().replace(old, new))

    text = refusal(lambda: mmpose.build_model(mmpose.read_config(str(path)), None))

    assert text.startswith(str(path))
    assert named in text


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("1 / 0", "division by zero"),
        ("import sys; sys.exit(0)", "it ends the program"),
        ("assert False", "it stops without a message"),
        ("model['nope']['x'] = 1", "there is no 'nope'"),
        ("model.update(nope)", "name 'nope' is not defined"),
        ("import numpy as np\nnp.zeros(3)", "cannot call what is in them"),
        ("custom_imports = dict(imports=['no_such'])", "Failed to import no_such"),
        ("model = dict(", "never closed"),
        ("_base_ = 'mmpose::nowhere/x.py'", "nowhere/x.py"),
        ("_base_ = 'mmdet::x/x.py'", "mmdet is not installed"),
        ("_base_ = './nowhere.py'", "nowhere.py"),
    ],
)
def test_the_error_of_a_config_is_put_into_words(
    write: Callable[..., Path], line: str, says: str
) -> None:
    path = write(line)

    text = refusal(mmpose.read_config, str(path))

    assert text.startswith(f"{path}: cannot be read as an mmpose config")
    assert says in text


def test_a_keypoint_set_named_by_its_class(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    change = "val_dataloader['dataset'].update(type='Mine', metainfo=CocoDataset.METAINFO)\n"
    path.write_text(classes() + change)

    expected, found = (
        keypoints.read_keypoints(mmpose.read_config(str(config)))
        for config in (tiny / "config.py", path)
    )
    assert found == expected
