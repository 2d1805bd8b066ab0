"""The keypoints of a model: the set that its config names, and those of it that come out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hrnetpose.artifacts.model import Keypoints, ModelCard
from hrnetpose.models import keypoints, mmpose, settings
from hrnetpose.pose import predict
from hrnetpose.stage import StageError
from support import refusal

Write = Callable[..., Path]
COMBINED = "metainfo=dict(from_file='configs/_base_/datasets/coco_aic.py')"
"""COCO's 17 keypoints, then the top of the head and the neck."""
ON_COMBINED = f"val_dataloader['dataset'].update({COMBINED})"
CODECS = {
    "plain": ("MSRAHeatmap", "sigma=1"),
    "dark": ("MSRAHeatmap", "sigma=1, unbiased=True"),
    "udp": ("UDPHeatmap", "sigma=1"),
    "udp combined": ("UDPHeatmap", "sigma=1, heatmap_type='combined'"),
}


@pytest.fixture
def write_picking(write: Write) -> Write:
    """Write the config of a model of 19 keypoints that gives out some of them."""

    def write_picking(indices: Any, *lines: str, codec: str = "plain") -> Path:
        kind, options = CODECS[codec]
        width, mode = (3, "udp_combined") if codec == "udp combined" else (1, "heatmap")
        picked = f'flip_mode="{mode}", output_keypoint_indices={indices}'
        replace = {
            '"MSRAHeatmap"': f'"{kind}"',
            "sigma=1": options,
            "out_channels=17": f"out_channels={19 * width}",
            'type="TopdownPoseEstimator"': f'{COMBINED}, type="TopdownPoseEstimator"',
            'flip_mode="heatmap"': picked,
        }
        return write(*lines, replace=replace)

    return write_picking


def predict_by_mmpose(
    estimator: Any, images: torch.Tensor, flip: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints and scores as the estimator's own `predict` gives them."""
    from mmengine.structures import InstanceData
    from mmpose.structures import PoseDataSample

    boxes = InstanceData(bboxes=np.zeros((1, 4)), bbox_scores=np.ones(1))
    samples = [PoseDataSample(gt_instances=boxes.clone()) for _ in images]
    for sample in samples:
        center, scale = np.array([100.0, 80.0]), np.array([60.0, 120.0])
        sample.set_metainfo({"input_size": (32, 64), "input_center": center, "input_scale": scale})
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
    ("indices", "lines"),
    [(list(range(17)), ()), ([5, 6, 0, 18, 12, 11], (ON_COMBINED,))],
    ids=["COCO of both", "some, in another order"],
)
def test_the_keypoints_that_come_out_are_mmposes(
    write_picking: Write, model_card: ModelCard, codec: str, indices: list[int], lines: Any
) -> None:
    """mmpose picks after the flip test and decoding, this project in the graph."""
    config = mmpose.read_config(str(write_picking(indices, *lines, codec=codec)))
    estimator = mmpose.build_model(config, None)
    torch.nn.init.normal_(estimator.head.final_layer.weight, std=0.1)
    torch.nn.init.ones_(estimator.head.final_layer.bias)  # below 0 there is no keypoint
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 3, 64, 32))).float()
    with torch.inference_mode():
        plain, mirrored = (
            {"heatmaps": mmpose.outputs(estimator, batch)[0].numpy()}
            for batch in (images, images.flip(-1))
        )
    card = model_card.model_copy(
        update={
            "codec": settings.read_codec(config),
            "keypoints": keypoints.read_keypoints(config),
        }
    )
    centers, scales = (np.tile(np.float32(pair), (3, 1)) for pair in ([100, 80], [60, 120]))

    positions, scores = predict.keypoints(plain, mirrored, [0, 1], card, centers, scales)

    for flip in (0, 1):
        expected, expected_scores = predict_by_mmpose(estimator, images, bool(flip))
        assert positions[flip].shape == expected.shape == (3, len(indices), 2)
        np.testing.assert_allclose(positions[flip], expected, atol=2e-3)
        np.testing.assert_allclose(scores[flip], expected_scores, atol=1e-6)


def test_the_graph_and_the_card_have_the_picked_keypoints_only(
    write: Write, write_picking: Write, tmp_path: Path, run_stage: Callable[..., None]
) -> None:
    picked = [18, 5, 6]  # the neck and the shoulders
    run_stage(
        "export_onnx", "--name", "some", "--config", write_picking(picked, ON_COMBINED),
        "--crop", "64x32", "--output", tmp_path / "model.onnx", "--card", tmp_path / "model.json",
    )  # fmt: skip
    path = write(ON_COMBINED, replace={"out_channels=17": "out_channels=19"})
    whole = keypoints.read_keypoints(mmpose.read_config(str(path)))

    card = ModelCard.read(tmp_path / "model.json")

    assert card.outputs[0].shape == ["batch", 3, 16, 8]
    assert card.keypoints.names == ["neck", "left_shoulder", "right_shoulder"]
    assert card.keypoints.flip_indices == [0, 2, 1]
    assert card.keypoints.sigmas == [whole.sigmas[index] for index in picked]
    linked = {frozenset((picked[a], picked[b])) for a, b in card.keypoints.skeleton}
    assert linked == {frozenset(link) for link in whole.skeleton if set(link) <= set(picked)}


@pytest.mark.parametrize(
    "name",
    [
        "td-hm_hrnet-w32_8xb64-210e_coco-aic-256x192-combine",
        # Its own set of 19 is nowhere, and mmpose cannot take its flip test.
        "cspnext-tiny_udp_8xb256-210e_aic-coco-256x192",
    ],
)
def test_a_model_of_two_sets_that_gives_out_cocos(name: str) -> None:
    config = mmpose.read_config(name)
    coco = mmpose.read_config("td-hm_hrnet-w32_8xb64-210e_coco-256x192")

    estimator = mmpose.build_model(config, None)  # CSPNeXt is of mmdet's scope, without mmdet
    with torch.inference_mode():
        (heatmaps,) = mmpose.outputs(estimator, torch.zeros(1, 3, 256, 192))

    assert heatmaps.shape == (1, 17, 64, 48)
    found = keypoints.read_keypoints(config)
    assert found == keypoints.read_keypoints(coco)
    swapped = {"left": "right", "right": "left"}
    assert [found.names[index] for index in found.flip_indices] == [
        "_".join(swapped.get(word, word) for word in name.split("_")) for name in found.names
    ]
    assert len(found.skeleton) == 19


@pytest.mark.parametrize(
    ("indices", "says"),
    [
        ([0, 1, 3], "has 1 (left_eye), but not its mirror partner 2 (right_eye)"),
        ([0, 0], "expected different numbers from 0 to 18"),
        ([0, 19], "expected different numbers from 0 to 18"),
        ([-1], "expected different numbers"),
        ([], "expected different numbers"),
        ("'all'", "is 'all'; expected different"),
        ([[0]], "expected different numbers"),
        ([0, 1, 2], "give 3 keypoints, but val_dataloader.dataset has 17"),
    ],
)
def test_indices_that_do_not_fit_are_refused(write_picking: Write, indices: Any, says: str) -> None:
    path = write_picking(indices)

    assert says in (text := refusal(mmpose.read_config, str(path)))
    assert text.startswith(f"{path}: model.")


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
FROM_FILE = "metainfo = dict(from_file=str('{{fileDirname}}/set.py'))"


@pytest.fixture
def read_set(read: Callable[..., Any], tmp_path: Path) -> Callable[..., Keypoints]:
    """Read a set of three keypoints, with lines behind it."""
    (tmp_path / "set.py").write_text(SET.replace("metainfo =", "dataset_info ="))

    def read_set(*lines: str) -> Keypoints:
        use = "val_dataloader['dataset']['metainfo'] = metainfo"
        config = read(SET, *lines, use, replace={"out_channels=17": "out_channels=3"})
        return keypoints.read_keypoints(config)

    return read_set


@pytest.mark.parametrize(
    "change",
    [
        "",
        "metainfo['keypoint_info'] = {str(i): v for i, v in metainfo['keypoint_info'].items()}",
        "metainfo['keypoint_info'] = dict(reversed(metainfo['keypoint_info'].items()))",
        "metainfo['keypoint_info'][0]['swap'] = 'nose'",
        "metainfo['keypoint_info'][0].update(swap=None, color=[1, 2, 3], type='upper')",
        FROM_FILE,
    ],
    ids=["plain", "keys as in JSON", "other order", "its own partner", "more keys", "from a file"],
)
def test_a_set_says_the_same_in_every_form(read_set: Callable[..., Keypoints], change: str) -> None:
    assert read_set(change) == Keypoints(
        names=["nose", "left_eye", "right_eye"],
        flip_indices=[0, 2, 1],
        sigmas=[float(np.float32(sigma)) for sigma in (0.026, 0.025, 0.025)],
        skeleton=[(0, 1)],
    )


def test_a_set_without_oks_constants_has_no_ap(read_set: Callable[..., Keypoints]) -> None:
    with pytest.raises(StageError, match="has no OKS constants"):
        read_set("metainfo['sigmas'] = []").oks_sigmas()


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
        ("metainfo['skeleton_info'][0]['link'] = 'x' * 5000", "skeleton_info links ('x', 'x', 'x'"),
        ("metainfo['keypoint_info'][1]['swap'] = 'x' * 5000", "... (5002 characters), which is no"),
        ("metainfo = dict(from_file='x' * 5000)", "... (5002 characters); there is no such file"),
        ("metainfo = 'three'", "metainfo is 'three'; expected a section"),
        ("metainfo = dict(from_file='no.py')", "from_file is 'no.py'; there is no such file"),
        ("metainfo = dict(from_file='mine/coco.py')", "is 'mine/coco.py'; there is no such"),
    ],
)
def test_a_damaged_set_is_refused_by_key(
    read_set: Callable[..., Keypoints], tmp_path: Path, change: str, says: str
) -> None:
    assert says in (text := refusal(read_set, change))
    assert text.startswith(f"{tmp_path / 'config.py'}: val_dataloader.dataset.metainfo")
    assert len(text) < 1000


def test_a_damaged_file_of_a_set_is_named(
    read_set: Callable[..., Keypoints], tmp_path: Path
) -> None:
    (tmp_path / "set.py").write_text("1 / 0\n")

    text = refusal(read_set, FROM_FILE)

    assert text.startswith(f"{tmp_path / 'set.py'}: cannot be read as a keypoint set: division")


def test_a_dataset_that_is_unknown_is_refused(read: Callable[..., Any]) -> None:
    text = refusal(read, replace={'"CocoDataset"': '"CacaoDataset"'})

    assert "val_dataloader.dataset.type is 'CacaoDataset'" in text
