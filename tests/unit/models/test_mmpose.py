"""Models are built from configs and checkpoints that fit; everything else is named."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hrnetpose.models import config_file, keypoints, mmpose, settings
from support import refusal

PRETRAINED = 'init_cfg=dict(type="Pretrained", checkpoint="https://127.0.0.1:9/none.pth")'


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("head", ["head.", "keypoint_head."], ids=["now", "2020"])
def test_a_checkpoint_gives_the_model_its_weights(
    read: Callable[..., Any], tiny: Path, tmp_path: Path, head: str, prefix: str
) -> None:
    state = torch.load(tiny / "weights.pth", weights_only=True)["state_dict"]
    renamed = {prefix + name.replace("head.", head, 1): value for name, value in state.items()}
    torch.save({"state_dict": renamed}, tmp_path / "w.pth")
    config = read(replace={'type="HRNet",': f'type="HRNet", {PRETRAINED},'})  # not fetched

    model = mmpose.build_model(config, tmp_path / "w.pth")

    assert not model.training
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(model.state_dict()[name], state[name]) for name in state)


def test_under_the_names_of_2020_another_number_of_keypoints_is_refused(
    read: Callable[..., Any], tiny: Path, tmp_path: Path
) -> None:
    state = torch.load(tiny / "weights.pth", weights_only=True)["state_dict"]
    old = {name.replace("head.", "keypoint_head.", 1): value for name, value in state.items()}
    old["keypoint_head.final_layer.bias"] = torch.zeros(16)
    torch.save({"state_dict": old}, tmp_path / "old.pth")

    text = refusal(mmpose.build_model, read(), tmp_path / "old.pth")

    config = tmp_path / "config.py"
    assert f"does not belong to {config}: head.final_layer.bias is [16], expected [17]" in text


def test_without_a_checkpoint_the_weights_follow_from_the_seed(read: Callable[..., Any]) -> None:
    first, again, other = (
        mmpose.build_model(read(), None, seed).state_dict()["backbone.conv1.weight"]
        for seed in (0, 0, 1)
    )

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("name", "crop", "count"),
    [
        ("td-hm_litehrnet-18_8xb64-210e_coco-256x192", "256x192", 17),
        ("td-hm_res50_8xb64-210e_coco-256x192", "256x192", 17),
        ("td-hm_hrnet-w32_udp-regress-8xb64-210e_coco-256x192", "256x192-udp", 17),
        ("td-hm_ViTPose-small_8xb64-210e_coco-256x192", "256x192-udp", 17),  # of mmpretrain
        ("td-hm_rsn18_8xb32-210e_coco-256x192", "256x192", 17),  # several stages, Megvii's codec
        ("td-hm_vipnas-mbv3_8xb64-210e_coco-256x192", "256x192", 17),
        ("td-hm_hrnetv2-w18_8xb64-60e_300w-256x256", "256x256", 68),
        ("td-hm_res50_8xb64-210e_deepfashion_upper-256x192", "256x192", 6),
    ],
)
def test_models_of_the_zoo_give_the_heatmaps_that_mmpose_evaluates(
    name: str, crop: str, count: int
) -> None:
    config = mmpose.read_config(name)
    model = mmpose.build_model(config, None)
    width, height = config.model.head.decoder.input_size
    images = torch.rand(1, 3, height, width)
    from mmengine.structures import InstanceData
    from mmpose.structures import PoseDataSample

    boxes = InstanceData(bboxes=np.zeros((1, 4)), bbox_scores=np.ones(1))
    box = {"input_size": (width, height), "input_center": np.ones(2), "input_scale": np.ones(2)}
    sample = PoseDataSample(gt_instances=boxes, metainfo=box)

    with torch.inference_mode():
        (heatmaps,) = mmpose.outputs(model, images)
        model.test_cfg.update(flip_test=False, output_heatmaps=True)
        (expected,) = model(images, [sample], mode="predict")

    assert str(settings.read_crop(config)) == crop
    assert str(config_file.read_crop(config_file.find(name))) == crop
    assert len(keypoints.read_keypoints(config).names) == count
    channels = count * settings.read_codec(config).channels
    assert heatmaps.shape == (1, channels, height // 4, width // 4)
    torch.testing.assert_close(heatmaps[0], expected.pred_fields.heatmaps)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "td-reg_res50_8xb64-210e_coco-256x192",
            "model.head.type is 'RegressionHead' (regression)",
        ),
        ("ipr_res50_8xb64-210e_coco-256x256", "model.head.type is 'DSNTHead' (regression)"),
        (
            "dekr_hrnet-w32_8xb10-140e_coco-512x512",
            "model.type is 'BottomupPoseEstimator' (bottom-u",
        ),
        ("rtmo-s_8xb32-600e_coco-640x640", "(bottom-up, as DEKR, RTMO and YOLOX-Pose)"),
        ("yoloxpose_s_8xb32-300e_coco-640", "(bottom-up, as DEKR, RTMO and YOLOX-Pose)"),
        ("image-pose-lift_tcn_8xb64-200e_h36m", "model.type is 'PoseLifter' (3D)"),
        ("td-hm_hrnet-w32_8xb64-210e_crowdpose-256x192", "iou_type is 'keypoints_crowd'"),
        (
            "td-hm_hrnet-w32_8xb64-210e_coco-wholebody-256x192",
            "test_evaluator.type is 'CocoWholeBodyMetric'",
        ),
        ("td-hm_hrnet-w32_8xb64-20e_posetrack18-256x192", "is 'PoseTrack18Metric'"),
    ],
)
def test_models_and_metrics_of_other_kinds_are_refused_by_name(name: str, says: str) -> None:
    read, planned = (
        refusal(mmpose.read_config, name),
        refusal(config_file.check, config_file.find(name)),
    )

    assert f"{name}.py: " in read
    assert says in read
    assert ", which is not supported; expected " in read
    assert planned == read


def test_a_config_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text("x = 1\n")

    text = refusal(mmpose.read_config, str(tmp_path / "config.py"))

    assert "config.py: model.type is None, which is not supported; expected Topdown" in text


def test_a_model_that_cannot_be_built_is_refused(read: Callable[..., Any]) -> None:
    text = refusal(mmpose.build_model, read(replace={'"HRNet"': '"HRNeXt"'}), None)

    assert "config.py: mmpose cannot build the model: " in text
    assert "HRNeXt" in text


def test_a_placeholder_says_what_is_missing_when_it_is_used() -> None:
    mmpose.import_mmpose()
    mmpose.import_mmpose()  # a second time changes nothing
    from mmcv.ops import RoIAlign  # one of the compiled operators, which mmcv-lite lacks

    with pytest.raises(ImportError, match=r"^mmcv\.ops\.RoIAlign is needed here, but mmcv\.ops is"):
        RoIAlign(7)
    with pytest.raises(ImportError, match=r"^mmcv\.ops\.RoIAlign\.apply is not installed"):
        RoIAlign.apply()


def test_what_mmpose_is_imported_without_can_be_imported_afterwards() -> None:
    used = (
        "from hrnetpose.models import mmpose; mmpose.import_mmpose()",
        "import scipy, scipy.stats, torch.distributed.optim",
        "assert scipy.stats.norm.cdf(0) == 0.5",
        "torch.distributed.optim.ZeroRedundancyOptimizer.step",
    )
    subprocess.run(
        [sys.executable, "-c", "\n".join(used)], check=True
    )  # where nothing was imported


@pytest.mark.parametrize(
    ("name", "crop", "outputs"),
    [
        ("rtmpose-t_8xb256-420e_coco-256x192", "256x192", [(1, 17, 384), (1, 17, 512)]),
        (
            "simcc_mobilenetv2_wo-deconv-8xb64-210e_coco-256x192",
            "256x192",
            [(1, 17, 384), (1, 17, 512)],
        ),
        (
            "simcc_vipnas-mbv3_8xb64-210e_coco-256x192",
            "256x192",
            [(1, 17, 384), (1, 17, 512)],
        ),
        ("rtmpose-m_8xb256-420e_coco-256x192", "256x192", None),
        ("simcc_res50_8xb32-140e_coco-384x288", "384x288", None),
    ],
)
def test_simcc_models_of_the_zoo_are_taken_by_name(
    name: str, crop: str, outputs: list[tuple[int, ...]] | None
) -> None:
    config = mmpose.read_config(name)
    codec = settings.read_codec(config)

    assert codec.label == "simcc"
    assert str(settings.read_crop(config)) == crop
    config_file.check(config_file.find(name))
    if outputs:
        height, width = map(int, crop.split("x"))
        with torch.inference_mode():
            found = mmpose.outputs(
                mmpose.build_model(config, None), torch.rand(1, 3, height, width)
            )
        assert [tuple(values.shape) for values in found] == outputs
        shapes = codec.shapes(17, settings.read_crop(config))
        assert [list(values.shape[1:]) for values in found] == shapes


@pytest.mark.parametrize(
    "backbone", [{"_scope_": "mmdet", "type": "CSPNeXt"}, {"type": "mmdet.CSPNeXt"}]
)
def test_cspnext_of_mmdet_is_mmposes_own(
    backbone: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    description = mmpose.describe(mmpose.read_config("rtmpose-t_8xb256-420e_coco-256x192"))
    for key in ("_scope_", "type"):
        description["backbone"].pop(key)
    description["backbone"] |= backbone

    model = mmpose.build(description, "config.py")

    assert type(model.backbone).__module__ == "mmpose.models.backbones.cspnext"
    assert "Failed to search registry" not in "".join(capfd.readouterr())
