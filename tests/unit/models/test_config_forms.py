"""A config says the same in every form that mmengine reads."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from hrnetpose.models import keys, mmpose, settings
from hrnetpose.stage import StageError
from support import TINY_CONFIG

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


def typed(replacement: Callable[[str], str]) -> str:
    """Returns the small model's config with its types written in another way."""
    text = TINY_CONFIG
    for name in MODULES:
        text = text.replace(f'"{name}"', replacement(name))
    return text


def classes(folder: Path) -> Path:
    imports = "".join(f"from {module} import {name}\n" for name, module in MODULES.items())
    return written(folder, imports + typed(lambda name: name))


def attributes(folder: Path) -> Path:
    packages = {name: ".".join(module.split(".")[:2]) for name, module in MODULES.items()}
    packages["LoadImage"] = packages["PackPoseInputs"] = "mmpose.datasets.transforms"
    packages["GetBBoxCenterScale"] = packages["TopdownAffine"] = "mmpose.datasets.transforms"
    imports = "".join(f"import {package}\n" for package in sorted(set(packages.values())))
    return written(folder, imports + typed(lambda name: f"{packages[name]}.{name}"))


def read_base(folder: Path) -> Path:
    (folder / "__init__.py").touch()
    classes(folder).rename(folder / "base.py")
    text = "from mmengine.config import read_base\nwith read_base():\n    from .base import *\n"
    return written(folder, text + "model.update(test_cfg=dict(shift_heatmap=True))\n")


def dumped(folder: Path) -> Path:
    mmpose.import_mmpose()
    from mmengine.config import Config

    Config.fromfile(str(classes(folder))).dump(str(folder / "dumped.py"))
    return folder / "dumped.py"


def scoped(folder: Path) -> Path:
    return written(folder, typed(lambda name: f'"mmpose.{name}"'))


def paths(folder: Path) -> Path:
    return written(folder, typed(lambda name: f'"{MODULES[name]}.{name}"'))


def scope_beside(folder: Path) -> Path:
    return written(folder, TINY_CONFIG.replace('type="HRNet"', '_scope_="mmpose", type="HRNet"'))


def inherited(folder: Path) -> Path:
    (folder / "bases").mkdir()
    (folder / "bases" / "base.py").write_text(TINY_CONFIG.replace("sigma=1", "sigma=1, unbiased=1"))
    codec = '"MSRAHeatmap", input_size=(32, 64), heatmap_size=(8, 16), sigma=1'
    return written(
        folder,
        "_base_ = ['./bases/base.py']\n"
        f"model = dict(head=dict(decoder=dict(_delete_=True, type={codec})))\n",
    )


def variables(folder: Path) -> Path:
    text = TINY_CONFIG.replace("std=[58.395,", "std=[float('{{$DEVIATION_OF_RED:58.395}}'),")
    return written(folder, text)


def as_json(folder: Path) -> Path:
    mmpose.import_mmpose()
    from mmengine.config import Config

    content = Config.fromfile(str(written(folder, TINY_CONFIG))).to_dict()
    (folder / "config.json").write_text(json.dumps(content))
    return folder / "config.json"


def as_yaml(folder: Path) -> Path:
    content = json.loads(as_json(folder).read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    return folder / "config.yaml"


def written(folder: Path, text: str) -> Path:
    (folder / "config.py").write_text(text)
    return folder / "config.py"


def said(config: Any) -> list[Any]:
    """All that this project takes from a config."""
    names = [keys.short(config.model[part].type) for part in ("backbone", "head")]
    functions = (
        settings.normalisation,
        settings.crop,
        settings.codec,
        settings.keypoint_info,
        settings.evaluation,
        settings.notes,
    )
    return [names, *(function(config) for function in functions)]


@pytest.mark.parametrize(
    "form",
    [
        classes, attributes, read_base, dumped, scoped, paths, scope_beside, inherited, variables,
        as_json, as_yaml,
    ],
)  # fmt: skip
def test_a_config_says_the_same_in_every_form(
    tiny: Path, tmp_path: Path, form: Callable[[Path], Path]
) -> None:
    plain = mmpose.read_config(str(tiny / "config.py"))

    config = mmpose.read_config(str(form(tmp_path)))

    assert said(config) == said(plain)
    state = mmpose.build_model(config, tiny / "weights.pth").state_dict()
    expected = mmpose.build_model(plain, tiny / "weights.pth").state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_a_base_of_mmposes_package(tmp_path: Path) -> None:
    name = "body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192"
    path = written(tmp_path, f'_base_ = "mmpose::{name}.py"\nrandomness = dict(seed=1)\n')

    assert said(mmpose.read_config(str(path))) == said(mmpose.read_config(Path(name).name))


def test_what_mmengine_asks_of_packages_is_answered() -> None:
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
    path = classes(tmp_path)
    path.write_text(path.read_text().replace(old, new))

    with pytest.raises(StageError, match=named) as error:
        mmpose.build_model(mmpose.read_config(str(path)), None)

    assert str(error.value).startswith(str(path))
    assert not re.search(r"[A-Z]\w+Error", str(error.value))


@pytest.mark.parametrize(
    ("lines", "says"),
    [
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
def test_what_a_config_stops_with_is_told_in_words(tmp_path: Path, lines: str, says: str) -> None:
    path = written(tmp_path, f"{TINY_CONFIG}\n{lines}\n")

    with pytest.raises(StageError, match="cannot be read as an mmpose config") as error:
        mmpose.read_config(str(path))

    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert says in text
    assert "\n" not in text
    assert not re.search(r"[A-Z]\w+(Error|Exit)", text)


def test_a_keypoint_set_named_by_its_class(tiny: Path, tmp_path: Path) -> None:
    text = classes(tmp_path).read_text()
    path = written(
        tmp_path,
        text + "val_dataloader['dataset'].update(type='Mine', metainfo=CocoDataset.METAINFO)\n",
    )

    plain = mmpose.read_config(str(tiny / "config.py"))
    expected = settings.keypoint_info(plain)
    assert settings.keypoint_info(mmpose.read_config(str(path))) == expected


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("HRNet", "HRNet"),
        ("mmpose.HRNet", "HRNet"),
        ("mmpose.models.backbones.hrnet.HRNet", "HRNet"),
        (torch.nn.Conv2d, "Conv2d"),
        (None, "None"),
    ],
)
def test_the_short_name_of_a_type(kind: Any, name: str) -> None:
    assert keys.short(kind) == name
