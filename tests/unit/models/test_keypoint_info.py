"""The keypoints of a model: the set that its config names, and those of it that come out."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hrnetpose.artifacts.model import ModelCard
from hrnetpose.models import mmpose, settings
from hrnetpose.pose import predict
from hrnetpose.stage import StageError

RunStage = Callable[..., None]
COMBINED = "metainfo=dict(from_file='configs/_base_/datasets/coco_aic.py')"
"""COCO's 17 keypoints, then the top of the head and the neck."""
CODECS = {
    "plain": ("MSRAHeatmap", "sigma=1"),
    "dark": ("MSRAHeatmap", "sigma=1, unbiased=True"),
    "udp": ("UDPHeatmap", "sigma=1"),
    "udp combined": ("UDPHeatmap", "sigma=1, heatmap_type='combined'"),
}


def written(
    tiny: Path, folder: Path, *lines: str, replace: tuple[tuple[str, str], ...] = ()
) -> str:
    text = (tiny / "config.py").read_text()
    for old, new in replace:
        assert old in text
        text = text.replace(old, new)
    (folder / "config.py").write_text(text + "\n".join(lines) + "\n")
    return str(folder / "config.py")


def picking(tiny: Path, folder: Path, indices: list[int], codec: str = "plain", *lines: str) -> str:
    """A model of 19 keypoints that gives out some of them."""
    kind, options = CODECS[codec]
    width, mode = (3, "udp_combined") if codec == "udp combined" else (1, "heatmap")
    changes = (
        ('"MSRAHeatmap"', f'"{kind}"'),
        ("sigma=1", options),
        ("out_channels=17", f"out_channels={19 * width}"),
        (
            'model = dict(\n    type="TopdownPoseEstimator",',
            f"""model = dict({COMBINED},
    type="TopdownPoseEstimator",""",
        ),
        ('flip_mode="heatmap"', f'flip_mode="{mode}", output_keypoint_indices={indices}'),
    )
    return written(tiny, folder, *lines, replace=changes)


def by_mmpose(estimator: Any, images: torch.Tensor, flip: bool) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints and scores as the estimator's own `predict` gives them."""
    from mmengine.structures import InstanceData
    from mmpose.structures import PoseDataSample

    samples = []
    for _ in images:
        boxes = InstanceData(bboxes=np.zeros((1, 4)), bbox_scores=np.ones(1))
        samples.append(PoseDataSample(gt_instances=boxes))
        samples[-1].set_metainfo(
            {
                "input_size": (32, 64),
                "input_center": np.array([100.0, 80.0]),
                "input_scale": np.array([60.0, 120.0]),
            }
        )
    estimator.test_cfg["flip_test"] = flip
    with torch.inference_mode():
        found = estimator(images, samples, mode="predict")
    instances = [sample.pred_instances for sample in found]
    return (
        np.concatenate([one.keypoints for one in instances]),
        np.concatenate([one.keypoint_scores for one in instances]),
    )


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "indices",
    [list(range(17)), [5, 6, 0, 18, 12, 11]],
    ids=["COCO of both", "some, in another order"],
)
def test_the_keypoints_that_come_out_are_mmposes(
    tiny: Path, tmp_path: Path, model_card: ModelCard, codec: str, indices: list[int]
) -> None:
    """mmpose picks after the flip test and decoding, this project in the graph."""
    lines = () if len(indices) == 17 else (f"val_dataloader['dataset'].update({COMBINED})",)
    config = mmpose.read_config(picking(tiny, tmp_path, indices, codec, *lines))
    estimator = mmpose.build_model(config, None)
    torch.nn.init.normal_(estimator.head.final_layer.weight, std=0.1)
    torch.nn.init.ones_(estimator.head.final_layer.bias)  # where all is below 0 no keypoint is
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 3, 64, 32))).float()
    with torch.inference_mode():
        plain = mmpose.heatmaps(estimator, images).numpy()
        mirrored = mmpose.heatmaps(estimator, images.flip(-1)).numpy()
    card = model_card.model_copy(
        update={"codec": settings.codec(config), "keypoints": settings.keypoint_info(config)}
    )
    centers = np.tile(np.float32([100, 80]), (3, 1))
    scales = np.tile(np.float32([60, 120]), (3, 1))

    positions, scores = predict.keypoints(
        {"heatmaps": plain}, {"heatmaps": mirrored}, [0, 1], card, centers, scales
    )

    for flip in (0, 1):
        expected, expected_scores = by_mmpose(estimator, images, bool(flip))
        assert positions[flip].shape == expected.shape == (3, len(indices), 2)
        np.testing.assert_allclose(positions[flip], expected, atol=2e-3)
        np.testing.assert_allclose(scores[flip], expected_scores, atol=1e-6)


def test_the_graph_and_the_card_have_the_picked_keypoints_only(
    tiny: Path, tmp_path: Path, run_stage: RunStage
) -> None:
    wanted = [18, 5, 6]  # the neck and the shoulders
    config = picking(
        tiny, tmp_path, wanted, "plain", f"val_dataloader['dataset'].update({COMBINED})"
    )
    run_stage(
        "export_onnx", "--name", "some", "--config", config, "--crop", "64x32",
        "--output", tmp_path / "model.onnx", "--card", tmp_path / "model.json",
    )  # fmt: skip

    card = ModelCard.read(tmp_path / "model.json")

    assert card.outputs[0].shape == ["batch", 3, 16, 8]
    assert card.keypoints.names == ["neck", "left_shoulder", "right_shoulder"]
    assert card.keypoints.flip_indices == [0, 2, 1]
    whole = settings.keypoint_info(mmpose.read_config(written(
        tiny, tmp_path, f"val_dataloader['dataset'].update({COMBINED})",
        replace=(("out_channels=17", "out_channels=19"),),
    )))  # fmt: skip
    assert card.keypoints.sigmas == [whole.sigmas[index] for index in wanted]
    linked = {frozenset((wanted[a], wanted[b])) for a, b in card.keypoints.skeleton}
    assert linked == {frozenset(link) for link in whole.skeleton if set(link) <= set(wanted)}


def test_a_model_of_two_sets_that_gives_out_one() -> None:
    config = mmpose.read_config("td-hm_hrnet-w32_8xb64-210e_coco-aic-256x192-combine")
    coco = mmpose.read_config("td-hm_hrnet-w32_8xb64-210e_coco-256x192")

    assert settings.keypoint_info(config) == settings.keypoint_info(coco)


def test_a_model_whose_own_set_is_nowhere_mirrors_as_what_comes_out_of_it() -> None:
    """mmpose cannot take its flip test; the 17 that come out have partners among them."""
    config = mmpose.read_config("cspnext-tiny_udp_8xb256-210e_aic-coco-256x192")
    coco = mmpose.read_config("td-hm_hrnet-w32_8xb64-210e_coco-256x192")

    estimator = mmpose.build_model(config, None)  # of mmdet's scope, without mmdet
    with torch.inference_mode():
        heatmaps = mmpose.heatmaps(estimator, torch.zeros(1, 3, 256, 192))

    assert heatmaps.shape == (1, 17, 64, 48)
    assert settings.keypoint_info(config) == settings.keypoint_info(coco)


@pytest.mark.parametrize(
    ("indices", "says"),
    [
        ([0, 1, 3], r"has 1 \(left_eye\), but not its mirror partner 2 \(right_eye\)"),
        ([0, 0], "expected different numbers from 0 to 18"),
        ([0, 19], "expected different numbers from 0 to 18"),
        ([-1], "expected different numbers"),
        ([], "expected different numbers"),
        ("'all'", "is 'all'; expected different"),
        ([[0]], "expected different numbers"),
        ([0, 1, 2], "give 3 keypoints, but val_dataloader.dataset has 17"),
    ],
)
def test_indices_that_do_not_fit_are_refused(
    tiny: Path, tmp_path: Path, indices: Any, says: str
) -> None:
    with pytest.raises(StageError, match=says) as error:
        mmpose.read_config(picking(tiny, tmp_path, indices))
    assert str(error.value).startswith(f"{tmp_path / 'config.py'}: model.")


# --- sets -----------------------------------------------------------------------------------------

SET = """
names = ["nose", "left_eye", "right_eye"]
partners = ["", "right_eye", "left_eye"]
metainfo = dict(
    dataset_name="three",
    keypoint_info={i: dict(name=names[i], id=i, swap=partners[i]) for i in range(3)},
    skeleton_info={0: dict(link=("nose", "left_eye"), id=0)},
    joint_weights=[1.0] * 3,
    sigmas=[0.026, 0.025, 0.025],
)
"""
USED = "val_dataloader['dataset']['metainfo'] = metainfo"


def set_of(tiny: Path, folder: Path, *lines: str) -> Any:
    text = written(
        tiny, folder, SET, *lines, USED, replace=(("out_channels=17", "out_channels=3"),)
    )
    return settings.keypoint_info(mmpose.read_config(text))


def test_a_set_of_ones_own(tiny: Path, tmp_path: Path) -> None:
    info = set_of(tiny, tmp_path)

    assert info.names == ["nose", "left_eye", "right_eye"]
    assert info.flip_indices == [0, 2, 1]
    assert info.sigmas == [float(np.float32(sigma)) for sigma in (0.026, 0.025, 0.025)]
    assert info.skeleton == [(0, 1)]


@pytest.mark.parametrize(
    "change",
    [
        "metainfo['keypoint_info'] = {str(i): v for i, v in metainfo['keypoint_info'].items()}",
        "metainfo['keypoint_info'] = dict(reversed(metainfo['keypoint_info'].items()))",
        "metainfo['keypoint_info'][0]['swap'] = 'nose'",
        "metainfo['keypoint_info'][0].update(swap=None, color=[1, 2, 3], type='upper')",
    ],
    ids=["keys as in JSON", "keys in another order", "its own partner", "more keys"],
)
def test_a_set_says_the_same_in_another_form(tiny: Path, tmp_path: Path, change: str) -> None:
    assert set_of(tiny, tmp_path, change) == set_of(tiny, tmp_path)


def test_a_set_without_oks_constants_has_no_ap(tiny: Path, tmp_path: Path) -> None:
    info = set_of(tiny, tmp_path, "metainfo['sigmas'] = []")

    with pytest.raises(StageError, match="has no OKS constants"):
        info.oks_sigmas()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("del metainfo['sigmas']", "`sigmas` is missing"),
        ("del metainfo['keypoint_info']", "`keypoint_info` is missing"),
        ("del metainfo['joint_weights']", "`joint_weights` is missing"),
        ("metainfo['sigmas'] = [0.1] * 2", "sigmas are 2 numbers; expected 3"),
        ("metainfo['sigmas'] = [0.1, 0, 0.1]", "sigmas are 3 numbers; expected 3 above 0"),
        ("metainfo['sigmas'] = ['a', 'b', 'c']", "not a keypoint set of mmpose"),
        ("metainfo['keypoint_info'][1]['swap'] = 'right_ear'", "'right_ear', which is no keypoint"),
        ("metainfo['keypoint_info'][2]['swap'] = ''", "which has another partner"),
        ("metainfo['keypoint_info'][2]['name'] = 'nose'", "has 'nose' twice"),
        ("del metainfo['keypoint_info'][0]", "not a keypoint set of mmpose"),
        ("metainfo['keypoint_info'] = ['nose', 'eye']", "not a keypoint set of mmpose"),
        ("metainfo['skeleton_info'][0]['link'] = ('nose', 'tail')", "skeleton_info links"),
        (
            "metainfo['skeleton_info'][0]['link'] = 'x' * 5000",
            "skeleton_info links ('x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x'",
        ),
        ("metainfo['keypoint_info'][1]['swap'] = 'x' * 5000", "... (5002 characters), which is no"),
        ("metainfo = dict(from_file='x' * 5000)", "... (5002 characters); there is no such file"),
        ("metainfo = 'three'", "metainfo is 'three'; expected a section"),
        (
            "metainfo = dict(from_file='nowhere.py')",
            "from_file is 'nowhere.py'; there is no such file",
        ),
        ("metainfo = dict(from_file='mine/coco.py')", "from_file is 'mine/coco.py'; there is no"),
    ],
)
def test_a_damaged_set_is_refused_by_key(
    tiny: Path, tmp_path: Path, change: str, says: str
) -> None:
    with pytest.raises(StageError, match=re.escape(says)) as error:
        set_of(tiny, tmp_path, change)
    text = str(error.value)
    assert text.startswith(f"{tmp_path / 'config.py'}: val_dataloader.dataset.metainfo")
    assert not re.search(r"[A-Z]\w+Error", text)
    assert len(text) < 1000


def test_a_damaged_file_of_a_set_is_named(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "set.py").write_text(SET.replace("metainfo =", "dataset_info =") + "1 / 0\n")
    change = f"metainfo = dict(from_file={str(tmp_path / 'set.py')!r})"

    with pytest.raises(StageError, match=r"set\.py: cannot be read as a keypoint set: .*zero"):
        set_of(tiny, tmp_path, change)


def test_a_set_from_a_file(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "set.py").write_text(SET.replace("metainfo =", "dataset_info ="))
    change = f"metainfo = dict(from_file={str(tmp_path / 'set.py')!r})"

    assert set_of(tiny, tmp_path, change) == set_of(tiny, tmp_path)
