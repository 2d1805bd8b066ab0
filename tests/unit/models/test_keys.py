"""The table of config keys is what mmpose's classes take, and every key in it is looked at."""

import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hrnetpose.artifacts.model import Evaluation
from hrnetpose.models import keys, mmpose, settings
from support import refusal

Read = Callable[..., Any]


# --- the table ------------------------------------------------------------------------------------


def found(path: str) -> Any:
    mmpose.import_mmpose()
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def parameters(kind: type) -> set[str]:
    """What a class takes, with what it hands on to its bases."""
    taken: set[str] = set()
    for one in kind.__mro__:
        if "__init__" not in vars(one):
            continue
        signature = inspect.signature(vars(one)["__init__"]).parameters.values()
        taken |= {p.name for p in signature if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        if not any(p.kind == p.VAR_KEYWORD for p in signature):
            break
    return taken - {"self"}


@pytest.mark.parametrize("section", keys.SECTIONS, ids=lambda section: section.place)
def test_the_table_has_the_keys_that_mmposes_classes_take(section: keys.Section) -> None:
    taken = {name for path in section.classes for name in parameters(found(path))}
    # What mmpose or mmengine takes out of a section before a class sees it, or other datasets have.
    elsewhere = {
        "top level": {"custom_imports"},
        "model.backbone": {"init_cfg"},
        "model.test_cfg": set(section.keys),
        "model.head": {
            "input_transform", "input_index", "align_corners", "extra", "has_final_layer",
        },
        "test_dataloader": {"num_batch_per_epoch"},
        "test_dataloader.dataset": {"datasets", "dataset"},
    }  # fmt: skip

    assert taken <= set(section.keys)
    assert set(section.keys) - taken <= {"type"} | elsewhere.get(section.place, set())


def test_the_table_has_every_key_of_test_cfg_that_mmpose_looks_at() -> None:
    sources = [inspect.getsource(inspect.getmodule(found(path))) for path in keys.HEAD.classes]  # type: ignore[arg-type]
    sources.append(inspect.getsource(found("mmpose.models.TopdownPoseEstimator")))
    looked_at = set(re.findall(r"test_cfg\.get\(\s*'(\w+)'", "".join(sources)))

    assert {"flip_test", "output_keypoint_indices"} <= looked_at
    assert looked_at == set(keys.TEST_CFG.keys) - {"shift_coords"}  # heads of regression do


def test_no_other_dataset_of_mmpose_takes_keys_that_pick_persons() -> None:
    base = found("mmpose.datasets.datasets.base.BaseCocoStyleDataset")
    more = {
        name: parameters(kind) - set(keys.DATASET.keys)
        for name, kind in vars(importlib.import_module("mmpose.datasets")).items()
        if isinstance(kind, type) and issubclass(kind, base)
    }

    # Video and two hands at once: no top-down heatmap model of single persons is tested on them.
    assert {name for name, rest in more.items() if rest} <= {
        "PoseTrack18VideoDataset", "InterHand2DDoubleDataset", "InterHand3DDataset",
    }  # fmt: skip


def test_the_evaluation_has_cocometrics_defaults() -> None:
    signature = inspect.signature(found(keys.EVALUATOR.classes[0])).parameters

    for name, value in Evaluation().model_dump().items():
        assert signature[name].default == value


def test_the_page_is_in_step_with_the_table(repository: Path) -> None:
    page = (repository / "docs" / "model_keys.md").read_text(encoding="utf-8")

    if page.rstrip() != keys.make_page().rstrip():
        pytest.fail("docs/model_keys.md is out of sync with the code. Run `make docs`.")


# --- applied ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "model['data_preprocessor'].update(bgr_to_rgb=False, rgb_to_bgr=True)",
        "model['data_preprocessor'].update(bgr_to_rgb=False, rgb_to_bgr=False)",
        "model['data_preprocessor'].update(bgr_to_rgb=True, rgb_to_bgr=False)",
        "model['data_preprocessor'].update(mean=[127.5], std=[64])",
        "model['data_preprocessor'].update(mean=None, std=None)",
        "data_preprocessor = model.pop('data_preprocessor')",
    ],
)
def test_the_pixels_are_those_of_mmposes_preprocessor(read: Read, change: str) -> None:
    config = read(change)
    pixels = torch.arange(24, dtype=torch.uint8).reshape(3, 4, 2)  # BGR, as mmpose reads images
    theirs = found("mmpose.registry.MODELS").build(config.model.data_preprocessor.to_dict())
    sample = found("mmpose.structures.PoseDataSample")()
    expected = theirs({"inputs": [pixels], "data_samples": [sample]}, training=False)["inputs"]

    order, mean, std = settings.read_normalisation(config)

    channels = pixels.flip(0) if order == "RGB" else pixels
    ours = (channels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(ours, expected[0].float())


def test_the_test_dataloader_counts_and_a_difference_is_noted(read: Read) -> None:
    other = "dict(type='GetBBoxCenterScale', padding=1.1)"
    config = read(
        f"test_pipeline = [val_pipeline[0], {other}, *val_pipeline[2:]]",
        "test_dataloader = dict(dataset=dict(type=dataset_type, pipeline=test_pipeline))",
    )

    assert settings.read_crop(config).padding == 1.1
    assert settings.check_keys(config) == [
        "val_dataloader.dataset.pipeline differs from test_dataloader.dataset.pipeline, "
        "which counts in mmpose's test"
    ]


def test_the_evaluator_is_the_cards(read: Read) -> None:
    config = read(
        "val_evaluator = dict(type='CocoMetric')",
        "test_evaluator = dict(type='CocoMetric', use_area=False, score_mode='bbox', "
        "nms_mode='none', nms_thr=0.7, keypoint_score_thr=0.3, prefix='x', ann_file='y.json')",
    )

    found = settings.read_evaluation(config)

    assert found == Evaluation(
        use_area=False, score_mode="bbox", nms_mode="none", nms_thr=0.7, keypoint_score_thr=0.3
    )
    assert found.label == "scores of the boxes, no NMS, areas of the boxes"
    assert [note.split()[0] for note in settings.check_keys(config)] == [
        f"val_evaluator.{key}"
        for key in ("score_mode", "keypoint_score_thr", "nms_mode", "nms_thr", "use_area")
    ]


@pytest.mark.parametrize(
    ("evaluation", "label"),
    [
        (Evaluation(), ""),
        (Evaluation(nms_mode="soft_oks_nms"), "soft NMS"),
        (Evaluation(nms_thr=0.65), "NMS at 0.65"),
        (Evaluation(keypoint_score_thr=0), "keypoints above 0"),
        (Evaluation(use_area=False), "areas of the boxes"),
    ],
)
def test_a_label_tells_what_departs_from_mmposes_defaults(
    evaluation: Evaluation, label: str
) -> None:
    assert evaluation.label == label


def test_of_several_metrics_cocometric_counts(read: Read) -> None:
    pck, coco = "dict(type='PCKAccuracy', thr=0.2)", "dict(type='CocoMetric', nms_mode='none')"

    config = read(f"val_evaluator = [{pck}, {coco}]")

    assert settings.read_evaluation(config).nms_mode == "none"
    assert settings.check_keys(config) == []
    text = refusal(read, f"val_evaluator = [{coco}, {coco}]")
    assert "has 2 CocoMetrics; expected one" in text


# --- ignored --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ("val_dataloader['dataset']['filter_cfg'] = dict(bbox_score_thr=0.3)", "detection_score"),
        ("val_dataloader['dataset']['indices'] = 100", "all persons"),
        ("val_dataloader['dataset']['frames'] = 3", "val_dataloader.dataset.frames is ignored"),
        ("val_evaluator = [dict(type='PCKAccuracy'), dict(type='AUC')]", "PCKAccuracy, AUC"),
    ],
)
def test_what_is_ignored_here_but_not_in_mmpose_is_noted(
    read: Read, change: str, note: str
) -> None:
    (found,) = settings.check_keys(read(change))

    assert note in found
    assert "ignored here" in found


@pytest.mark.parametrize(
    "change",
    [
        "val_dataloader.update(batch_size=7, drop_last=True, num_workers=4)",
        "val_dataloader['dataset'].update(ann_file='a.json', data_root='d', bbox_file='b.json')",
        "model['test_cfg']['output_heatmaps'] = True",
        "model['train_cfg'] = dict(compute_acc=False)",
        "custom_hooks = [dict(type='SyncBuffersHook')]",
        "load_from = 'https://127.0.0.1:9/none.pth'",
        "my_own_variable = 3",
    ],
)
def test_what_has_no_effect_is_not_noted(read: Read, tiny: Path, change: str) -> None:
    plain = mmpose.read_config(str(tiny / "config.py"))

    config = read(change)

    assert settings.check_keys(config) == []
    assert settings.read_crop(config) == settings.read_crop(plain)
    assert settings.read_evaluation(config) == settings.read_evaluation(plain)


# --- refused --------------------------------------------------------------------------------------

STEP = "val_pipeline[{}].update({})"
COMBINED = """
codec.update(type="UDPHeatmap", heatmap_type="combined")
model["test_cfg"]["flip_mode"] = "udp_combined"
"""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("model['data_preprocessor']['rgb_to_bgr'] = True", "bgr_to_rgb and rgb_to_bgr are both"),
        ("model['data_preprocessor']['to_rgb'] = True", "to_rgb is not known (did you mean bgr_to"),
        ("model['data_preprocessor']['std'] = [0, 1, 1]", "data_preprocessor.std is [0, 1, 1]"),
        ("model['data_preprocessor']['std'] = None", "std is None; expected both or none"),
        ("model['data_preprocessor']['mean'] = 'zero'", "data_preprocessor.mean is 'zero'"),
        ("model['data_preprocessor']['pad_size_divisor'] = 48", "pad_size_divisor is 48, which"),
        ("model['data_preprocessor']['type'] = 'ImgDataPreprocessor'", "expected PoseDataPrepro"),
        ("model['test_cfg']['flip_mode'] = 'offset'", "flip_mode is 'offset'"),
        ("model['test_cfg']['flip_mode'] = 'udp_combined'", "expected 'heatmap'"),
        ("model['test_cfg']['modulate_kernel'] = 11", "model.test_cfg.modulate_kernel is not kn"),
        ("model['test_cfg'] = ['flip_test']", "model.test_cfg is ['flip_test']; expected a sec"),
        ("model['keypoint_head'] = dict()", "model.keypoint_head is not known"),
        ("codec['unbiased'] = 'perhaps'", "model.head.decoder: unbiased is 'perhaps'"),
        ("codec['kernel'] = 11", "model.head.decoder.kernel is not known"),
        ("codec['input_size'] = (32, 0)", "model.head.decoder.input_size is (32, 0); expected"),
        (
            "codec['input_size'] = (32, 4097)",
            "(32, 4097); expected (width, height) in pixels, from",
        ),
        ("codec['heatmap_size'] = (8, 5000)", "(8, 5000); expected (width, height) in pixels, fr"),
        ("codec['blur_kernel_size'] = 1001", "model.head.decoder: blur_kernel_size is 1001"),
        ("codec.update(unbiased=True, blur_kernel_size=10)", "kernel_size is 10; expected an odd"),
        ("model['head']['a\\nb'] = 1", r"model.head.'a\nb' is not known"),
        ("val_pipeline[0]['type'] = 'a\\nb'", r"pipeline is 'a\nb', GetBBox"),
        ("model['head']['out_channels'] = 'a\\nb'", r"the head has 'a\nb' channels"),
        ("codec['heatmap_size'] = 64", "model.head.decoder.heatmap_size is 64; expected"),
        ("val_dataloader['dataset']['data_mode'] = 'bottomup'", "expected topdown"),
        ("val_dataloader['dataset']['datasets'] = [1]", "several datasets in one"),
        ("val_dataloader['dataset'] = 'coco'", "val_dataloader.dataset is 'coco'; expected"),
        ("val_pipeline.insert(2, dict(type='RandomHalfBody'))", "RandomHalfBody, TopdownAffine, P"),
        ("val_pipeline.insert(1, val_pipeline[1])", "GetBBoxCenterScale, GetBBoxCenterScale"),
        ("val_pipeline[2]['type'] = 'BottomupResize'", "BottomupResize"),
        ("del val_pipeline[1]", "pipeline is LoadImage, TopdownAffine, PackPoseInputs; supported"),
        (STEP.format(0, "to_float32=True"), "LoadImage.to_float32 is True"),
        (STEP.format(0, "color_type='grayscale'"), "LoadImage.color_type is 'grayscale'"),
        (STEP.format(0, "imdecode_backend='pillow'"), "imdecode_backend is 'pillow'"),
        (STEP.format(1, "padding=-1"), "padding is -1"),
        (STEP.format(1, "padding=1e30"), "padding is 1e+30"),
        (STEP.format(1, "scale=2"), "GetBBoxCenterScale.scale is not known"),
        (STEP.format(2, "input_size=(192, 256)"), "TopdownAffine.input_size is (192, 256), but"),
        ("val_evaluator = dict(type='CocoMetric', iou_type='keypoints_crowd')", "keypoints_crowd"),
        (
            "val_evaluator = dict(type='CocoMetric', score_mode='bbox_rle')",
            "expected bbox_keypoint",
        ),
        ("val_evaluator = dict(type='CocoMetric', nms_mode='nms')", "nms_mode is 'nms'"),
        ("val_evaluator = dict(type='CocoMetric', nms_thr='high')", "nms_thr is 'high'"),
        ("val_evaluator = dict(type='CocoMetric', pred_converter=dict(a=1))", "pred_converter is"),
        ("val_evaluator = dict(type='CocoMetric', gt_converter=dict(a=1))", "output_keypoint_ind"),
        ("val_evaluator = dict(type='CocoMetric', oks=0.5)", "val_evaluator.oks is not known"),
        ("val_evaluator = 'CocoMetric'", "val_evaluator is 'CocoMetric'; expected metrics"),
        ("default_scope = 'mmdet'", "default_scope is 'mmdet', which is not supported; expected m"),
        ("model['head'] = None", "model.head.type is None"),
        ("model['backbone'] = 'HRNet'", "model.backbone is 'HRNet'; expected a section"),
        ("model['head']['out_channels'] = 21", "the head has 21 channels, but its dataset has 17"),
        ("val_dataloader = [val_dataloader]", "expected a section, dict(...)"),
        ("val_dataloader['dataset']['pipeline'] = 7", "pipeline is 7; supported: LoadImage"),
        ("val_dataloader['dataset']['pipeline'] = 'x' * 5000", "(5002 characters); supported: "),
        ("model['head']['type'] = 3", "model.head.type is 3"),
        (STEP.format(2, "input_size=64"), "TopdownAffine.input_size is 64; expected (width, hei"),
        (COMBINED, "the head has 17 channels, but its dataset has 17 keypoints with 3"),
        ("val_dataloader['dataset']['type'] = 'CrowdPoseDataset'", "its dataset has 14 keypoints"),
    ],
)
def test_what_would_change_a_figure_is_refused_by_name(read: Read, change: str, says: str) -> None:
    text = refusal(read, change)

    assert "config.py: " in text
    assert says in text
    assert len(text) < 1000
