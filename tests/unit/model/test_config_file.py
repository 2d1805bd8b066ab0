"""mmpose's configs are read without executing them."""

from pathlib import Path

import pytest

from hrnetpose.artifacts import Crop
from hrnetpose.model import config_file
from hrnetpose.stage import StageError

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
