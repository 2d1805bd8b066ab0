"""mmpose's configs are read without executing them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hrnetpose.artifacts.model import Crop
from hrnetpose.models import config_file
from hrnetpose.stage import StageError, shown
from support import refusal

HRNET = "td-hm_hrnet-w32_8xb64-210e_coco-256x192"
CODEC = "codec = dict(input_size=(192, 256), sigma=2)\n"


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], Path]:
    """Write a config beside a base."""

    def write(text: str) -> Path:
        (tmp_path / "base.py").write_text(f"{CODEC}nested = dict(codec=codec)\n")
        (tmp_path / "config.py").write_text(text)
        return tmp_path / "config.py"

    return write


# --- crops ----------------------------------------------------------------------------------------


def test_all_hrnet_configs_of_mmpose_are_read_as_mmengine_reads_them() -> None:
    from mmengine.config import Config

    folder = config_file.find(HRNET).parent
    assert str(folder).endswith("body_2d_keypoint/topdown_heatmap/coco")
    paths = sorted(folder.glob("*hrnet*.py"))
    assert len(paths) > 20
    crops = {path: config_file.read_crop(path) for path in paths}
    for path, crop in crops.items():
        steps = {step["type"]: step for step in Config.fromfile(str(path)).val_pipeline}
        width, height = steps["TopdownAffine"]["input_size"]
        assert crop == Crop(
            height=height,
            width=width,
            padding=steps["GetBBoxCenterScale"].get("padding", 1.25),
            udp=steps["TopdownAffine"].get("use_udp", False),
        )
    assert {"256x192", "384x288", "256x192-udp"} <= set(map(str, crops.values()))


@pytest.mark.parametrize("given", ["mine.py", "configs/mine", "/nowhere/mine.py", "x" * 5000 + "/"])
def test_a_path_that_is_not_there_is_named(tmp_path: Path, given: str) -> None:
    (tmp_path / "mine.py").touch()

    assert config_file.find(str(tmp_path / "mine.py")) == tmp_path / "mine.py"
    with pytest.raises(StageError, match=f"{given[:90]}.*: there is no such mmpose config file"):
        config_file.find(given)


def test_an_unknown_name_is_answered_with_where_the_names_are() -> None:
    with pytest.raises(
        StageError, match=r"hrnet-w99: mmpose has no config of that name; .*/\.mim/"
    ):
        config_file.find("hrnet-w99")


@pytest.mark.parametrize(
    "text",
    [
        "size = (192, 256)\ncodec = dict(input_size=size)\n",
        "width, height = 192, 256\ncodec = dict(input_size=(width, height))\n",
        "codec = dict(input_size=[96 * 2, 128 + 128])\n",
        "codec = dict(input_size=(1, 2))\ncodec = dict(input_size=(192, 256))\n",
        "codec = dict(sigma=2)\ncodec['input_size'] = (192, 256)\n",
        "codec = dict(sigma=2)\ncodec.update(input_size=(192, 256))\n",
        "common = dict(input_size=(192, 256))\ncodec = dict(type='MSRAHeatmap', **common)\n",
        "sizes = {'small': (192, 256)}\ncodec = dict(input_size=sizes['small'])\n",
        "codec: dict = dict(input_size=(192, 256))\nprint(codec)\n",
        "model = dict(head=dict(decoder=dict(input_size=(192, 256))))\n",
        "_base_ = ['./base.py']\ncodec = dict(sigma=3)\n",
        "_base_ = 'base.py'\ncodec = {{_base_.codec}}\n",
        "_base_ = 'base.py'\ncodec = dict(input_size=_base_.codec.input_size)\n",
        "_base_ = '{{ fileDirname }}/base.py'\n",
        "_base_ = '{{$NO_SUCH_VARIABLE:base.py}}'\n",
        "with read_base():\n    from .base import *\n",
        "with read_base():\n    from .base import codec\ncodec.update(dict(sigma=3))\n",
        "with read_base():\n    from .base import codec as other\ncodec = other\n",
        "with read_base():\n    from .base import nested\n"
        "nested.update(codec=dict(sigma=3))\ncodec = nested['codec']\n",
        # Of several codecs the last one decodes.
        "codec = [dict(sigma=2), dict(sigma=3, input_size=(192, 256))]\n",
        "codec = [dict(input_size=(192, 256), kernel_size=k) for k in (15, 11)]\n",
        # A pipeline that is computed counts as the plain one.
        CODEC + "val_pipeline = make_pipeline()\n",
        CODEC + "val_pipeline = [*common, make_step()]\n",
        CODEC + "val_pipeline = common + [dict()]\n",
        CODEC + "val_pipeline = [dict(type='GetBBoxCenterScale', padding=make())]\n",
    ],
)
def test_values_are_followed_as_mmengine_follows_them(
    config: Callable[[str], Path], text: str
) -> None:
    assert config_file.read_crop(config(text)) == Crop(height=256, width=192)


@pytest.mark.parametrize(
    "loaders",
    [
        "",
        "val_dataloader = dict(dataset=dict(pipeline=val_pipeline))\n",
        "val_dataloader = dict(dataset=dict())\n"
        "test_dataloader = dict(dataset=dict(pipeline=val_pipeline))\n",
    ],
)
def test_padding_and_udp_are_read_from_the_pipeline(
    config: Callable[[str], Path], loaders: str
) -> None:
    text = f"""{CODEC}
val_pipeline = [
    dict(type="GetBBoxCenterScale", padding=1.1),
    dict(type="mmpose.TopdownAffine", input_size=codec["input_size"], use_udp=True),
]
{loaders}"""

    assert str(config_file.read_crop(config(text))) == "256x192-pad1.1-udp"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "codec = dict(sigma=2)\n",
        "codec = make_codec()\n",
        "size = make_size()\ncodec = dict(input_size=size)\n",
        "_base_ = 'base.py'\ncodec = dict(_delete_=True, sigma=3)\n",
        CODEC + "for n in (1, 2):\n    codec['input_size'] = n\n",
        CODEC + "nested = dict(codec=codec)\n"
        "nested.update(codec=dict(sigma=3))\ncodec = nested['codec']\n",
        CODEC + "del codec\n",
        CODEC + "codec.update(**make())\n",
        CODEC + "change(codec)\n",
        "codec = dict(input_size=(192, 256)) if big else dict(input_size=(96, 128))\n",
        "codec = dict(input_size=[10 ** 9 ** 9, 1])\n",
        "codec = dict(input_size=[1] * 10 ** 9)\n",
        "codec = dict(input_size=[1 / 0, 1])\n",
        "x = [1]\n" + "x += x\n" * 40 + "codec = dict(input_size=x)\n",
        f"codec = dict(input_size=[1, {'9' * 400} / 2])\n",
    ],
)
def test_a_size_that_cannot_be_known_is_asked_for(config: Callable[[str], Path], text: str) -> None:
    with pytest.raises(StageError, match=r"no `codec = .*give the model's input as `crop: HEIGHT"):
        config_file.read_crop(config(text))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("codec = (", "not a Python config file"),
        (b"\xff\xfe\x00", "not a Python config file"),
        (b"\0", "not a Python config file"),
        ("_base_ = 'gone.py'\n", "_base_ names 'gone.py'; there is no such file"),
        ("_base_ = 'config.py'\n", "it inherits from itself"),
        ("_base_ = 'nowhere::a.py'\n", "names 'nowhere::a.py', but nowhere is not installed"),
        ("with read_base():\n    from .gone import *\n", "read_base() imports"),
        ("x = " + "(" * 5000 + ")" * 5000, "not a Python config file"),
        ("x = 1" + " + 1" * 5000, "not a Python config file: it is nested too deeply"),
        ("codec = dict(input_size=256)\n", "codec.input_size is 256; expected (width, height)"),
        (
            "codec = dict(input_size=(192,))\n",
            "codec.input_size is [192]; expected (width, height)",
        ),
        ("codec = dict(input_size=('192', '256'))\n", "codec.input_size is ['192', '256']; exp"),
        ("codec = dict(input_size=(192, 4097))\n", "[192, 4097]; expected (width, height) in pix"),
        (
            f"codec = dict(input_size=({10**30}, 1))\n",
            "1]; expected (width, height) in pixels, from 1",
        ),
        (
            CODEC + "val_pipeline = [dict(type='GetBBoxCenterScale', padding=-1)]\n",
            "val_dataloader.dataset.pipeline: padding is -1: ",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_read_is_named(
    config: Callable[[str], Path], text: str | bytes, says: str
) -> None:
    path = config("")
    path.write_bytes(text if isinstance(text, bytes) else text.encode())

    assert says in (said := refusal(config_file.read_crop, path))
    assert said.startswith(f"{path}: ")


def test_nothing_in_a_config_is_executed(config: Callable[[str], Path], tmp_path: Path) -> None:
    config_file.read_crop(config(f"open({str(tmp_path / 'executed')!r}, 'w')\n{CODEC}"))

    assert not (tmp_path / "executed").exists()


# --- kinds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model = dict(type='BottomupPoseEstimator')\n", "model.type is 'BottomupPoseEstimator'"),
        ("model = dict(head=dict(type='RLEHead'))\n", "model.head.type is 'RLEHead' (regression)"),
        (
            "model = dict(head=dict(type='SimCCHead', decoder=dict(type='MSRAHeatmap')))\n",
            "model.head is a SimCCHead, but its decoder is MSRAHeatmap; expected SimCCLabel",
        ),
        (
            "val_evaluator = [dict(type='CocoWholeBodyMetric')]\n",
            "val_evaluator.type is 'CocoWholeBodyMetric', which is not supported; expected CocoMet",
        ),
        (
            "test_evaluator = dict(type='CocoMetric', iou_type='keypoints_crowd')\n",
            "test_evaluator.iou_type is 'keypoints_crowd', which is not supported; expected keypoi",
        ),
        (
            "val_dataloader = dict(dataset=dict(datasets=[dict(a=f()), 1]))\n",
            "val_dataloader.dataset.datasets",
        ),
        ("model = dict(head=dict(decoder=dict(type='X')))\n", "model.head.decoder.type is 'X'"),
    ],
)
def test_a_kind_that_is_not_supported_is_refused_before_it_is_run(
    config: Callable[[str], Path], text: str, says: str
) -> None:
    assert f"config.py: {says}" in refusal(config_file.check, config(text))


@pytest.mark.parametrize(
    "text", ["", "model = make()\n", "model = dict(head=dict(type='mmpose.HeatmapHead'))\n"]
)
def test_a_kind_that_is_supported_or_unknown_is_not_refused(
    config: Callable[[str], Path], text: str
) -> None:
    config_file.check(config(text))


# --- files ----------------------------------------------------------------------------------------

METAINFO = "val_dataloader = dict(dataset=dict(metainfo=dict(from_file='%s')))\n"
POINTS = """
dataset_info = dict(
    dataset_name="points", skeleton_info={}, joint_weights=[1.0] * 3, sigmas=[0.1] * 3,
    keypoint_info={i: dict(name=f'point_{i}', id=i) for i in range(3)},
)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what configs name, also on Python's path."""
    (tmp_path / "points.py").write_text(POINTS)
    (tmp_path / "outer.py").write_text("_base_ = 'deeper.py'\n")
    (tmp_path / "deeper.py").write_text("sigma = 2\n")
    (tmp_path / "people/inner").mkdir(parents=True)
    for name in ("__init__.py", "net.py", "inner/__init__.py", "inner/block.py"):
        (tmp_path / "people" / name).write_text("raise SystemExit('a config was run')\n")
    (tmp_path / "sets.py").write_text(
        "class Mine(Base):\n    METAINFO = dict(from_file='points.py')\n\nclass Ours(Mine): pass\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("_base_ = ['outer.py']\n", ["outer.py", "deeper.py"]),
        ("with read_base():\n    from .outer import *\n", ["outer.py", "deeper.py"]),
        ("_base_ = 'mmpose::_base_/default_runtime.py'\n", []),
        ("custom_imports = dict(imports='people.net')\n", ["__init__.py", "net.py"]),
        ("custom_imports = dict(imports=['people.inner'])\n",
         ["__init__.py", "__init__.py", "block.py"]),
        ("from people.net import Net\n", ["__init__.py", "net.py"]),
        ("import people.net\n", ["__init__.py", "net.py"]),
        ("custom_imports = dict(imports=['torch', 'mmpose.models', 'gone', '..people'])\n", []),
        (METAINFO % "{{fileDirname}}/points.py", ["points.py"]),
        (METAINFO % "configs/_base_/datasets/coco.py", []),
        ("import sets\ndataset_type = 'Ours'\n", ["points.py", "sets.py"]),
    ],
)  # fmt: skip
def test_the_users_own_files_are_found(
    folder: Path, config: Callable[[str], Path], text: str, files: list[str]
) -> None:
    found = config_file.list_files(config(text))

    assert [file.name for file in found] == ["config.py", *files]


@pytest.mark.parametrize("name", ["gone.py", "", "x" * 5000, "a\0b", "a\nb"], ids=repr)
@pytest.mark.parametrize(
    ("text", "says"),
    [
        (METAINFO, "from_file is {}; there is no such file"),
        ("_base_ = '%s'\n", "_base_ names {}; t"),
    ],
)
def test_a_file_that_is_not_there_is_named(
    folder: Path, config: Callable[[str], Path], text: str, name: str, says: str
) -> None:
    said = refusal(config_file.list_files, config(text % repr(name)[1:-1]))

    assert says.format(shown(name, 300)) in said
    assert len(said) < 1000


def test_a_module_with_a_name_too_long_for_a_path_is_left_out(
    config: Callable[[str], Path],
) -> None:
    path = config(f"custom_imports = dict(imports='{'x' * 5000}')\n")

    assert config_file.list_files(path) == [path]


# --- keypoints ------------------------------------------------------------------------------------


def test_names_are_those_that_mmpose_finds() -> None:
    from hrnetpose.models import keypoints, mmpose

    folder = config_file.find(HRNET).parents[2]
    paths = [*folder.rglob("td-hm_hrnet-w32_8xb64*.py"), *folder.rglob("*combine.py")]
    refused = ("crowdpose", "posetrack18", "coco-wholebody")
    paths = [path for path in paths if path.parent.name not in refused]
    assert len(paths) > 8
    for path in paths:
        names = keypoints.read_keypoints(mmpose.read_config(str(path))).names
        assert config_file.read_keypoint_names(path) == names, path.name


ALL = ["point_0", "point_1", "point_2"]
FILE = "metainfo=dict(from_file='points.py')"


@pytest.mark.parametrize(
    ("dataset", "indices", "names"),
    [
        (FILE, "None", ALL),
        ("type='Ours'", "None", ALL),
        (FILE, "[2, 0]", ["point_2", "point_0"]),
        (FILE, "[7, 5, 6]", ALL),  # the set of the output
        (FILE, "[2, 3]", None),
        (FILE, "[1.0]", None),
        (FILE, "make()", None),
        ("metainfo=make()", "None", None),
        ("metainfo=dict(from_file=make())", "None", None),
        ("metainfo={**INFO, 'sigmas': []}", "None", None),
        ("metainfo={**INFO, 'keypoint_info': {1: dict(name='nose')}}", "None", None),
        ("metainfo={**INFO, 'keypoint_info': UNNAMED}", "None", None),
        ("type='NoSuchDataset'", "None", None),
        ("type='DeepFashionDataset', subset='upper'", "None", None),
    ],
)
def test_names_of_a_set_of_the_users_own(
    folder: Path,
    config: Callable[[str], Path],
    dataset: str,
    indices: str,
    names: list[str] | None,
) -> None:
    path = config(
        f"import sets\n{POINTS.replace('dataset_info', 'INFO')}"
        "UNNAMED = {0: dict(name=make()), 1: dict(name='a'), 2: dict(name='b')}\n"
        f"model = dict(test_cfg=dict(output_keypoint_indices={indices}))\n"
        f"test_dataloader = dict(dataset=dict({dataset}))\n"
    )

    assert config_file.read_keypoint_names(path) == names
