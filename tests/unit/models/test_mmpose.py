"""Models are built from configs and checkpoints that fit; everything else is named."""

from pathlib import Path
from typing import Any

import pytest
import torch

from hrnetpose.models import config_file, mmpose, settings
from hrnetpose.stage import StageError


@pytest.fixture(scope="module")
def config(tiny: Path) -> Any:
    return mmpose.read_config(str(tiny / "config.py"))


@pytest.fixture
def state(tiny: Path) -> dict[str, torch.Tensor]:
    return torch.load(tiny / "weights.pth", weights_only=True)["state_dict"]


def refusal(config: Any, weights: Path) -> str:
    with pytest.raises(StageError) as error:
        mmpose.build_model(config, weights)
    assert str(error.value).startswith(f"{weights}: ")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_checkpoint_gives_the_model_its_weights(
    config: Any, tiny: Path, state: dict[str, torch.Tensor]
) -> None:
    model = mmpose.build_model(config, tiny / "weights.pth")

    assert not model.training
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(model.state_dict()[name], state[name]) for name in state)


def test_a_bare_state_dict_is_a_checkpoint_too(
    config: Any, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    torch.save(dict(state), tmp_path / "bare.pth")

    model = mmpose.build_model(config, tmp_path / "bare.pth")

    assert all(torch.equal(model.state_dict()[name], state[name]) for name in state)


def named_as_in_2020(state: dict[str, torch.Tensor], prefix: str = "") -> dict[str, torch.Tensor]:
    return {prefix + n.replace("head.", "keypoint_head.", 1): v for n, v in state.items()}


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_names_of_2020_are_understood(
    config: Any, state: dict[str, torch.Tensor], tmp_path: Path, prefix: str
) -> None:
    old = named_as_in_2020(state, prefix)
    assert f"{prefix}keypoint_head.final_layer.weight" in old
    torch.save({"state_dict": old}, tmp_path / "old.pth")

    model = mmpose.build_model(config, tmp_path / "old.pth")

    assert all(torch.equal(model.state_dict()[name], state[name]) for name in state)


def test_under_the_names_of_2020_another_number_of_keypoints_is_refused(
    config: Any, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    old = named_as_in_2020(state)
    old["keypoint_head.final_layer.bias"] = torch.zeros(16)
    torch.save({"state_dict": old}, tmp_path / "old.pth")

    said = refusal(config, tmp_path / "old.pth")

    assert (
        f"does not belong to {config.filename}: head.final_layer.bias is [16], expected [17]"
        in said
    )


def test_without_a_checkpoint_the_weights_follow_from_the_seed(config: Any) -> None:
    def weights(seed: int) -> torch.Tensor:
        return mmpose.build_model(config, None, seed).state_dict()["backbone.conv1.weight"]

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_a_missing_checkpoint_is_named(config: Any, tmp_path: Path) -> None:
    assert "there is no such checkpoint" in refusal(config, tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("name", "crop"),
    [
        ("td-hm_hrnet-w32_8xb64-210e_coco-256x192", "256x192"),
        ("td-hm_hrnet-w48_dark-8xb32-210e_coco-384x288", "384x288"),
        ("td-hm_hrnet-w32_udp-8xb64-210e_coco-256x192", "256x192-udp"),
        ("td-hm_hrnet-w32_udp-regress-8xb64-210e_coco-256x192", "256x192-udp"),
    ],
)
def test_the_crops_are_those_of_the_configs_own_pipeline(name: str, crop: str) -> None:
    assert str(settings.crop(mmpose.read_config(name))) == crop


@pytest.mark.parametrize(
    ("name", "crop", "keypoints"),
    [
        ("td-hm_litehrnet-18_8xb64-210e_coco-256x192", "256x192", 17),
        ("td-hm_res50_8xb64-210e_coco-256x192", "256x192", 17),
        ("td-hm_ViTPose-small_8xb64-210e_coco-256x192", "256x192-udp", 17),  # of mmpretrain
        ("td-hm_rsn18_8xb32-210e_coco-256x192", "256x192", 17),  # several stages, Megvii's codec
        ("td-hm_vipnas-mbv3_8xb64-210e_coco-256x192", "256x192", 17),
        ("td-hm_hrnetv2-w18_8xb64-60e_300w-256x256", "256x256", 68),
        ("td-hm_res50_8xb64-210e_deepfashion_upper-256x192", "256x192", 6),
    ],
)
def test_models_of_the_zoo_give_a_heatmap_for_each_of_their_keypoints(
    name: str, crop: str, keypoints: int
) -> None:
    config = mmpose.read_config(name)
    model = mmpose.build_model(config, None)
    width, height = config.model.head.decoder.input_size

    with torch.inference_mode():
        heatmaps = mmpose.heatmaps(model, torch.zeros(1, 3, height, width))

    assert str(settings.crop(config)) == crop == str(config_file.crop(config_file.find(name)))
    assert len(settings.keypoint_info(config).names) == keypoints
    assert heatmaps.shape == (1, keypoints, height // 4, width // 4)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("simcc_res50_8xb64-210e_coco-256x192", "model.head.type is 'SimCCHead'"),
        ("td-reg_res50_8xb64-210e_coco-256x192", "model.head.type is 'RegressionHead'"),
        ("dekr_hrnet-w32_8xb10-140e_coco-512x512", "model.type is 'BottomupPoseEstimator'"),
    ],
)
def test_models_of_other_kinds_are_refused_by_name(name: str, says: str) -> None:
    with pytest.raises(StageError, match="supported: top-down heatmap models") as error:
        mmpose.read_config(name)
    assert says in str(error.value)
    assert f"{name}.py" in str(error.value)


@pytest.mark.parametrize("text", ["1 / 0", "model = dict(", "_base_ = ['./missing.py']", "x = 1"])
def test_what_is_no_config_of_a_model_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.py"
    path.write_text(text + "\n")

    with pytest.raises(StageError, match=r"config\.py: "):
        mmpose.read_config(str(path))


def test_a_model_that_cannot_be_built_is_refused(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    path.write_text((tiny / "config.py").read_text().replace('"HRNet"', '"HRNeXt"'))

    with pytest.raises(StageError, match=r"config\.py: mmpose cannot build the model: .*HRNeXt"):
        mmpose.build_model(mmpose.read_config(str(path)), None)


def test_a_pretrained_backbone_is_not_fetched(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    text = (tiny / "config.py").read_text()
    pretrained = 'init_cfg=dict(type="Pretrained", checkpoint="https://127.0.0.1:9/none.pth"),'
    path.write_text(text.replace('type="HRNet",', f'type="HRNet", {pretrained}'))

    assert mmpose.build_model(mmpose.read_config(str(path)), tiny / "weights.pth")


def test_the_keypoints_are_those_of_coco(config: Any) -> None:
    info = settings.keypoint_info(config)

    assert info.names[:3] == ["nose", "left_eye", "right_eye"]
    assert len(info.names) == len(info.sigmas) == len(info.flip_indices) == 17
    partners = [info.names[index] for index in info.flip_indices]
    swapped = {"left": "right", "right": "left"}
    assert partners == [
        "_".join([swapped.get(word, word) for word in name.split("_")]) for name in info.names
    ]
    assert info.sigmas[0] == pytest.approx(0.026)
    assert len(info.skeleton) == 19
    assert all(0 <= end < 17 for link in info.skeleton for end in link)


def test_a_dataset_that_is_unknown_is_refused(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    text = (tiny / "config.py").read_text()
    path.write_text(text.replace('"CocoDataset"', '"CacaoDataset"'))

    with pytest.raises(StageError, match=r"val_dataloader\.dataset\.type is 'CacaoDataset'"):
        settings.keypoint_info(mmpose.read_config(str(path)))


def test_a_placeholder_says_what_is_missing_when_it_is_used() -> None:
    mmpose.import_mmpose()
    mmpose.import_mmpose()  # a second time changes nothing
    from mmcv.ops import RoIAlign  # one of the compiled operators, which mmcv-lite lacks

    with pytest.raises(ImportError, match=r"^mmcv\.ops\.RoIAlign is needed here, but mmcv\.ops is"):
        RoIAlign(7)
    with pytest.raises(ImportError, match=r"^mmcv\.ops\.RoIAlign\.apply is not installed"):
        RoIAlign.apply()
