"""mmpose's configs are read without executing them."""

from pathlib import Path

import pytest

from hrnetpose.artifacts.model import Crop
from hrnetpose.models import config_file
from hrnetpose.stage import StageError, shown

COCO_CONFIGS = "body_2d_keypoint/topdown_heatmap/coco"


def crop_of(tmp_path: Path, text: str) -> Crop:
    (tmp_path / "config.py").write_text(text)
    return config_file.crop(tmp_path / "config.py")


@pytest.mark.parametrize(
    ("name", "crop"),
    [
        ("td-hm_hrnet-w32_8xb64-210e_coco-256x192", "256x192"),
        ("td-hm_hrnet-w48_8xb32-210e_coco-384x288", "384x288"),
        ("td-hm_hrnet-w32_udp-8xb64-210e_coco-256x192", "256x192-udp"),
        # This one inherits everything.
        ("td-hm_hrnet-w32_coarsedropout-8xb64-210e_coco-256x192", "256x192"),
    ],
)
def test_a_config_of_mmpose_is_found_by_name_and_its_crop_read(name: str, crop: str) -> None:
    assert str(config_file.crop(config_file.find(name))) == crop


def test_all_hrnet_configs_of_mmpose_are_read_as_mmengine_reads_them() -> None:
    from mmengine.config import Config

    folder = config_file.find("td-hm_hrnet-w32_8xb64-210e_coco-256x192").parent
    assert str(folder).endswith(COCO_CONFIGS)
    configs = sorted(folder.glob("*hrnet*.py"))
    assert len(configs) > 20
    for path in configs:
        steps = {step["type"]: step for step in Config.fromfile(str(path)).val_pipeline}
        width, height = steps["TopdownAffine"]["input_size"]
        assert config_file.crop(path) == Crop(
            height=height,
            width=width,
            padding=steps["GetBBoxCenterScale"].get("padding", 1.25),
            udp=steps["TopdownAffine"].get("use_udp", False),
        )


def test_a_config_file_is_found_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.touch()

    assert config_file.find(str(path)) == path


@pytest.mark.parametrize("config", ["mine.py", "configs/mine", "/nowhere/mine.py"])
def test_a_path_that_is_not_there_is_named(config: str) -> None:
    with pytest.raises(StageError, match=f"{config}: there is no such mmpose config file"):
        config_file.find(config)


def test_an_unknown_name_is_answered_with_where_the_names_are() -> None:
    with pytest.raises(
        StageError, match=r"hrnet-w99: mmpose has no config of that name; .*/\.mim/"
    ):
        config_file.find("hrnet-w99")


@pytest.mark.parametrize("size", [(192, 4097), (10**30, 256)])
def test_a_crop_that_is_too_large_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    with pytest.raises(
        StageError, match=r"config\.py: input_size is \(.*; expected .* at most 4096"
    ):
        crop_of(tmp_path, f"codec = dict(input_size={size})\n")


def test_padding_and_udp_are_read_from_the_pipeline(tmp_path: Path) -> None:
    crop = crop_of(
        tmp_path,
        """
codec = {"type": "UDPHeatmap", "input_size": (192, 256)}
val_pipeline = [
    dict(type="GetBBoxCenterScale", padding=1.1),
    dict(type="TopdownAffine", input_size=codec["input_size"], use_udp=True),
]
""",
    )

    assert crop == Crop(height=256, width=192, padding=1.1, udp=True)


def test_the_last_assignment_counts(tmp_path: Path) -> None:
    text = "codec = dict(input_size=(1, 2))\ncodec = dict(input_size=(192, 256))\n"

    assert crop_of(tmp_path, text) == Crop(height=256, width=192)


def test_a_config_inherits_from_its_bases(tmp_path: Path) -> None:
    (tmp_path / "base.py").write_text("codec = dict(input_size=(192, 256))\n")

    assert crop_of(tmp_path, "_base_ = ['./base.py']\n") == Crop(height=256, width=192)


@pytest.mark.parametrize(
    "codec",
    [
        "[dict(sigma=2), dict(sigma=3, input_size=(192, 256))]",
        "[dict(input_size=(192, 256), kernel_size=k) for k in (15, 11)]",
    ],
)
def test_of_several_codecs_the_last_one_decodes(tmp_path: Path, codec: str) -> None:
    assert crop_of(tmp_path, f"codec = {codec}\n") == Crop(height=256, width=192)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "codec = dict(sigma=2)\n",
        "size = make_size()\ncodec = dict(input_size=size)\n",
        "codec = dict(input_size=256)\n",
        "codec = dict(input_size=(192,))\n",
        "codec = dict(input_size=('192', '256'))\n",
        "codec = make_codec()\n",
    ],
)
def test_a_crop_that_cannot_be_read_is_asked_for(tmp_path: Path, text: str) -> None:
    with pytest.raises(StageError, match=r"config\.py: .*give the model's input as `crop: HEIGHT"):
        crop_of(tmp_path, text)


@pytest.mark.parametrize(
    "pipeline", ["make_pipeline()", "[*common, make_step()]", "common + [dict()]", "[dict()]"]
)
def test_a_pipeline_that_is_computed_is_taken_for_the_plain_one(
    tmp_path: Path, pipeline: str
) -> None:
    text = f"codec = dict(input_size=(192, 256))\nval_pipeline = {pipeline}\n"

    assert crop_of(tmp_path, text) == Crop(height=256, width=192)


@pytest.mark.parametrize("content", [b"codec = (", b"\xff\xfe\x00", b"\0"])
def test_what_is_no_python_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.py").write_bytes(content)

    with pytest.raises(StageError, match=r"config\.py: not a Python config file"):
        config_file.crop(tmp_path / "config.py")


def test_nothing_in_a_config_is_executed(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    crop_of(tmp_path, f"open({str(marker)!r}, 'w')\ncodec = dict(input_size=(192, 256))\n")

    assert not marker.exists()


# --- what is followed -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "size = (192, 256)\ncodec = dict(input_size=size)\n",
        "width, height = 192, 256\ncodec = dict(input_size=(width, height))\n",
        "codec = dict(input_size=[96 * 2, 128 + 128])\n",
        "codec = dict(sigma=2)\ncodec['input_size'] = (192, 256)\n",
        "codec = dict(sigma=2)\ncodec.update(input_size=(192, 256))\n",
        "common = dict(input_size=(192, 256))\ncodec = dict(type='MSRAHeatmap', **common)\n",
        "sizes = {'small': (192, 256)}\ncodec = dict(input_size=sizes['small'])\n",
        "codec: dict = dict(input_size=(192, 256))\nprint(codec)\n",
        "model = dict(head=dict(decoder=dict(input_size=(192, 256))))\n",
        "_base_ = 'base.py'\ncodec = dict(sigma=3)\n",
        "_base_ = 'base.py'\ncodec = {{_base_.codec}}\n",
        "_base_ = 'base.py'\ncodec = dict(input_size=_base_.codec.input_size)\n",
        "_base_ = '{{ fileDirname }}/base.py'\n",
        "_base_ = '{{$NO_SUCH_VARIABLE:base.py}}'\n",
        "with read_base():\n    from .base import *\n",
        "with read_base():\n    from .base import codec\ncodec.update(dict(sigma=3))\n",
        "with read_base():\n    from .base import codec as other\ncodec = other\n",
    ],
)
def test_values_are_followed_as_mmengine_follows_them(tmp_path: Path, text: str) -> None:
    (tmp_path / "base.py").write_text("codec = dict(input_size=(192, 256), sigma=2)\n")

    assert crop_of(tmp_path, text) == Crop(height=256, width=192)


@pytest.mark.parametrize(
    "text",
    [
        "_base_ = 'base.py'\ncodec = dict(_delete_=True, sigma=3)\n",
        "codec = dict(input_size=(192, 256))\nfor n in (1, 2):\n    codec['input_size'] = n\n",
        "codec = dict(input_size=(192, 256))\ndel codec\n",
        "codec = dict(input_size=(192, 256))\ncodec.update(**make())\n",
        "codec = dict(input_size=(192, 256))\nchange(codec)\n",
        "codec = dict(input_size=(192, 256)) if big else dict(input_size=(96, 128))\n",
        "codec = dict(input_size=[10 ** 9 ** 9, 1])\n",
        "codec = dict(input_size=[1] * 10 ** 9)\n",
    ],
)
def test_what_is_computed_is_unknown(tmp_path: Path, text: str) -> None:
    (tmp_path / "base.py").write_text("codec = dict(input_size=(192, 256), sigma=2)\n")

    with pytest.raises(StageError, match="no `codec = "):
        crop_of(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("_base_ = 'gone.py'\n", "_base_ names 'gone.py'; there is no such file"),
        ("_base_ = 'config.py'\n", "it inherits from itself"),
        (
            "_base_ = 'nowhere::a.py'\n",
            "_base_ names 'nowhere::a.py', but nowhere is not installed",
        ),
        ("with read_base():\n    from .gone import *\n", "read_base() imports"),
        ("x = " + "(" * 5000 + ")" * 5000, "not a Python config file"),
        ("x = 1" + " + 1" * 5000, "not a Python config file: it is nested too deeply"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(StageError) as error:
        crop_of(tmp_path, text)

    assert "config.py: " in str(error.value)
    assert says in str(error.value)


# --- files ----------------------------------------------------------------------------------------

METAINFO = "val_dataloader = dict(dataset=dict(metainfo=dict(from_file='%s')))\n"
POINTS = "dataset_info = dict(keypoint_info={i: dict(name=f'point_{i}', id=i) for i in range(3)})\n"


def names_of(folder: Path, text: str) -> list[str]:
    (folder / "config.py").write_text(text)
    return [file.name for file in config_file.files(folder / "config.py")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what configs name, also on Python's path."""
    (tmp_path / "points.py").write_text(POINTS)
    (tmp_path / "base.py").write_text("_base_ = 'deeper.py'\n")
    (tmp_path / "deeper.py").write_text("sigma = 2\n")
    (tmp_path / "people/inner").mkdir(parents=True)
    for name in ("__init__.py", "net.py", "inner/__init__.py", "inner/block.py"):
        (tmp_path / "people" / name).write_text("raise SystemExit('a config was run')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("_base_ = ['base.py']\n", ["base.py", "deeper.py"]),
        ("with read_base():\n    from .base import *\n", ["base.py", "deeper.py"]),
        ("_base_ = 'mmpose::_base_/default_runtime.py'\n", []),
        ("custom_imports = dict(imports='people.net')\n", ["__init__.py", "net.py"]),
        ("custom_imports = dict(imports=['people.inner'])\n",
         ["__init__.py", "__init__.py", "block.py"]),
        ("from people.net import Net\n", ["__init__.py", "net.py"]),
        ("import people.net\n", ["__init__.py", "net.py"]),
        ("custom_imports = dict(imports=['torch', 'mmpose.models', 'gone', '..people'])\n", []),
        (METAINFO % "{{fileDirname}}/points.py", ["points.py"]),
        (METAINFO % "nowhere/coco.py", []),
    ],
)  # fmt: skip
def test_the_users_own_files_are_found(folder: Path, text: str, files: list[str]) -> None:
    assert names_of(folder, text) == ["config.py", *files]


@pytest.mark.parametrize("name", ["gone.py", "", "x" * 5000, "a\0b", "a\nb"], ids=repr)
@pytest.mark.parametrize(
    ("text", "says"),
    [
        (METAINFO, "from_file is {}; there is no such file"),
        ("_base_ = '%s'\n", "_base_ names {}; t"),
    ],
)
def test_a_file_that_is_not_there_is_named(folder: Path, text: str, name: str, says: str) -> None:
    with pytest.raises(StageError) as error:
        names_of(folder, text % repr(name)[1:-1])
    assert says.format(shown(name, 300)) in str(error.value)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1000


def test_a_module_with_a_name_too_long_for_a_path_is_none_of_the_users(folder: Path) -> None:
    assert names_of(folder, f"custom_imports = dict(imports='{'x' * 5000}')\n") == ["config.py"]


# --- keypoints ------------------------------------------------------------------------------------


def test_names_are_those_that_mmpose_finds() -> None:
    from hrnetpose.models import mmpose, settings

    folder = config_file.find("td-hm_hrnet-w32_8xb64-210e_coco-256x192").parents[2]
    configs = [*folder.rglob("td-hm_hrnet-w32_8xb64*.py"), *folder.rglob("*combine.py")]
    configs = [path for path in configs if path.parent.name != "crowdpose"]  # refused
    assert len(configs) > 8
    for path in configs:
        names = settings.keypoint_info(mmpose.read_config(str(path))).names
        assert config_file.keypoint_names(path) == names, path.name


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("metainfo=dict(from_file='{{fileDirname}}/points.py')", ["point_0", "point_1", "point_2"]),
        ("metainfo=dict(keypoint_info={0: dict(name='nose')})", ["nose"]),
        ("metainfo=dict(keypoint_info={1: dict(name='nose')})", None),
        ("metainfo=dict(keypoint_info={0: dict(name=make())})", None),
        ("metainfo=make()", None),
        ("metainfo=dict(from_file=make())", None),
        ("type='NoSuchDataset'", None),
        ("type='DeepFashionDataset', subset='upper'", None),
    ],
)
def test_names_of_a_set_of_the_users_own(folder: Path, text: str, names: list[str] | None) -> None:
    (folder / "config.py").write_text(f"test_dataloader = dict(dataset=dict({text}))\n")

    assert config_file.keypoint_names(folder / "config.py") == names


@pytest.mark.parametrize(
    ("indices", "names"),
    [("[2, 0]", ["point_2", "point_0"]), ("[3]", None), ("make()", None), ("None", [])],
)
def test_names_of_the_keypoints_that_a_model_gives(
    folder: Path, indices: str, names: list[str] | None
) -> None:
    metainfo = "dict(from_file='{{fileDirname}}/points.py')"
    (folder / "config.py").write_text(
        f"model = dict(test_cfg=dict(output_keypoint_indices={indices}))\n"
        f"val_dataloader = dict(dataset=dict(metainfo={metainfo}))\n"
    )

    everything = ["point_0", "point_1", "point_2"]
    assert config_file.keypoint_names(folder / "config.py") == (
        everything if names == [] else names
    )
