"""The keys of a model's mmpose config: which of them this project applies, and how.

One table holds what mmpose's top-down test reads (mmpose 1.3.2, mmengine 0.10.7).
`python -m hrnetpose.models.keys` prints docs/model_keys.md from it; tests compare the table with
the page and with the signatures of mmpose's classes.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hrnetpose import stage
from hrnetpose.stage import StageError, shown


@dataclass(frozen=True)
class Key:
    """How a key is treated.

    Attributes:
        use: `applied`; `limited` to some values, others are refused; `no effect` on the figures;
            `ignored`, though it has an effect in mmpose: the log, the card and the report say so.
        note: for the documents, and for the message that refuses or ignores it.
        values: those that a limited key may have; a value of None is like no key.
    """

    use: Literal["applied", "limited", "no effect", "ignored"]
    note: str
    values: tuple[object, ...] = ()


@dataclass(frozen=True)
class Section:
    """The keys of one section of a config.

    Attributes:
        place: of the section, as users write it.
        classes: mmpose's classes that take the keys.
        keys: the table.
        others: what becomes of other keys: `refused`, `ignored`, `built` by mmpose, or `variables`.
    """

    place: str
    classes: tuple[str, ...]
    keys: Mapping[str, Key]
    others: Literal["refused", "ignored", "built", "variables"] = "refused"

    def list_applied(self) -> list[str]:
        """Return the keys that have an effect."""
        return [name for name, key in self.keys.items() if key.use in ("applied", "limited")]


def _applied(note: str) -> Key:
    return Key("applied", note)


def _limited(note: str, *values: object) -> Key:
    return Key("limited", note, values)


def _unused(note: str) -> Key:
    return Key("no effect", note)


def _ignored(note: str) -> Key:
    return Key("ignored", note)


_BUILT = _applied("built by mmpose")
_TRAINING = _unused("for training")
_RUNTIME = _unused("for mmpose's runner, which is not used")
_DATA = _unused("the configuration's `datasets` say which data are evaluated")
_LOADING = _unused("for PyTorch's loader; every person is evaluated once")
_CHECKPOINT = _unused("the checkpoint has all weights")
_EVERYONE = _ignored("all persons of the dataset are evaluated")
_CONVERTER = "converted keypoints are not supported; `test_cfg.output_keypoint_indices` is"
_HEADS = ("HeatmapHead", "ViPNASHead", "CPMHead", "MSPNHead")
_SIMCC_HEADS = ("SimCCHead", "RTMCCHead")
_CODECS = ("MSRAHeatmap", "UDPHeatmap", "MegviiHeatmap")
_SIMCC_CODECS = ("SimCCLabel",)
_KIND = "top-down models with heatmaps or SimCC"
_OTHER_KINDS = {
    "BottomupPoseEstimator": "bottom-up, as DEKR, RTMO and YOLOX-Pose",
    "PoseLifter": "3D",
    "InternetHead": "3D",
    "DWPoseDistiller": "distillation; take the student's config",
    "RTMWHead": "RTMW",
    "VisPredictHead": "predicts visibility",
    **dict.fromkeys(
        ("RegressionHead", "RLEHead", "DSNTHead", "IntegralRegressionHead", "RegressionLabel"),
        "regression",
    ),
}
"""mmpose's types of models that are not supported, and what they are."""
_OTHER_AP = ("CocoWholeBodyMetric", "PoseTrack18Metric")
"""Metrics whose AP goes by the same name as COCO's and is another figure."""

TOP = Section(
    "top level",
    ("mmengine.runner.Runner",),
    {
        "model": _applied("the model"),
        "data_preprocessor": _applied("if `model` has none, as in mmengine's runner"),
        "test_dataloader": _applied("pipeline and keypoint set, as in mmpose's `tools/test.py`"),
        "val_dataloader": _applied("if there is no `test_dataloader`"),
        "test_evaluator": _applied("how AP is computed, as in mmpose's `tools/test.py`"),
        "val_evaluator": _applied("if there is no `test_evaluator`"),
        "custom_imports": _applied("modules that are imported when the config is read"),
        "default_scope": _limited("types without a scope are mmpose's", "mmpose"),
        "train_dataloader": _TRAINING,
        "train_cfg": _TRAINING,
        "optim_wrapper": _TRAINING,
        "param_scheduler": _TRAINING,
        "auto_scale_lr": _TRAINING,
        "val_cfg": _RUNTIME,
        "test_cfg": _unused("a variant's `precision` sets the precision"),
        "work_dir": _RUNTIME,
        "default_hooks": _RUNTIME,
        "custom_hooks": _RUNTIME,
        "load_from": _unused("the configuration's `weights` name the checkpoint"),
        "resume": _RUNTIME,
        "launcher": _RUNTIME,
        "env_cfg": _RUNTIME,
        "log_processor": _RUNTIME,
        "log_level": _RUNTIME,
        "visualizer": _RUNTIME,
        "randomness": _RUNTIME,
        "experiment_name": _RUNTIME,
        "cfg": _RUNTIME,
    },
    others="variables",
)
MODEL = Section(
    "model",
    ("mmpose.models.TopdownPoseEstimator",),
    {
        "type": _limited(_KIND, "TopdownPoseEstimator"),
        "data_preprocessor": _applied("how pixels are normalised"),
        "backbone": _BUILT,
        "neck": _BUILT,
        "head": _BUILT,
        "test_cfg": _applied("below"),
        "metainfo": _applied("its mirror pairs, which override those of the dataset in mmpose"),
        "train_cfg": _TRAINING,
        "init_cfg": _CHECKPOINT,
    },
)
BACKBONE = Section(
    "model.backbone",
    (),
    {"type": _applied("any backbone of mmpose or mmpretrain"), "init_cfg": _CHECKPOINT},
    others="built",
)
PREPROCESSOR = Section(
    "model.data_preprocessor",
    ("mmpose.models.PoseDataPreprocessor",),
    {
        "type": _limited("mmpose's preprocessor", "PoseDataPreprocessor"),
        "mean": _applied("one number or three; without it pixels are not normalised"),
        "std": _applied("as many numbers as `mean`"),
        "bgr_to_rgb": _applied("swaps the channels; images are read as BGR"),
        "rgb_to_bgr": _applied("swaps the channels, too: mmengine ignores their order"),
        "pad_size_divisor": _applied("the input must be divisible by it: nothing is padded"),
        "pad_value": _unused("nothing is padded"),
        "non_blocking": _RUNTIME,
        "batch_augments": _TRAINING,
    },
)
TEST_CFG = Section(
    "model.test_cfg",
    (),
    {
        "flip_test": _unused("the configuration's `protocols.flip` says it; both are measured"),
        "flip_mode": _limited(
            "how heatmaps are mirrored: `udp_combined` with UDP's combined form, else `heatmap`; "
            "SimCC's vectors have one way",
            "heatmap",
            "udp_combined",
        ),
        "shift_heatmap": _applied(
            "whether mirrored heatmaps are shifted by a pixel; SimCC has no shift"
        ),
        "output_keypoint_indices": _applied(
            "the keypoints of the output; the mirror partner of each must be among them"
        ),
        "output_heatmaps": _unused("heatmaps are not saved"),
        "shift_coords": _unused("for heads of regression"),
    },
)
HEAD = Section(
    "model.head",
    tuple(f"mmpose.models.{name}" for name in (*_HEADS, *_SIMCC_HEADS)),
    {
        "type": _limited(_KIND, *_HEADS, *_SIMCC_HEADS),
        "decoder": _applied("below"),
        **dict.fromkeys((
            "in_channels", "out_channels", "deconv_out_channels", "deconv_kernel_sizes",
            "deconv_num_groups", "conv_out_channels", "conv_kernel_sizes", "final_layer",
            "num_stages", "num_units", "out_shape", "unit_channels", "use_prm", "norm_cfg",
            "level_indices",
            # Of SimCC; the model's outputs have to be as large as the decoder says.
            "input_size", "in_featuremap_size", "simcc_split_ratio", "deconv_type",
            "final_layer_kernel_size", "gau_cfg",
            # Of heads before mmpose 1.0, which makes a neck of them.
            "input_transform", "input_index", "align_corners", "extra", "has_final_layer",
        ), _BUILT),
        "loss": _TRAINING,
        "init_cfg": _CHECKPOINT,
    },
)  # fmt: skip
DECODER = Section(
    "model.head.decoder",
    tuple(f"mmpose.codecs.{name}" for name in (*_CODECS, *_SIMCC_CODECS)),
    {
        "type": _limited(_KIND, *_CODECS, *_SIMCC_CODECS),
        "input_size": _applied("width and height; TopdownAffine's must be the same"),
        "heatmap_size": _applied("width and height; must be those of the model's output"),
        "sigma": _applied("of the Gaussians; SimCC's may be two numbers, for x and y"),
        "unbiased": _applied("DARK's decoding"),
        "blur_kernel_size": _applied("of DARK's decoding"),
        "kernel_size": _applied("of Megvii's decoding"),
        "heatmap_type": _limited("UDP's forms", "gaussian", "combined"),
        "radius_factor": _applied("of UDP's combined form"),
        "simcc_split_ratio": _applied("elements of SimCC's vectors for each pixel"),
        "use_dark": _applied("DARK's decoding of SimCC's vectors"),
        "normalize": _applied("what SimCC was trained for; decoding is the same"),
        "smoothing_type": _applied("what SimCC was trained for; decoding is the same"),
        "label_smooth_weight": _TRAINING,
        "decode_visibility": _unused("the figures depend on keypoints and their scores alone"),
        "decode_beta": _unused("of `decode_visibility`"),
    },
)
LOADER = Section(
    "test_dataloader",
    ("torch.utils.data.DataLoader",),
    {
        "dataset": _applied("below"),
        **dict.fromkeys((
            "batch_size", "num_workers", "persistent_workers", "drop_last", "sampler",
            "batch_sampler", "shuffle", "collate_fn", "pin_memory", "pin_memory_device",
            "prefetch_factor", "timeout", "worker_init_fn", "multiprocessing_context", "generator",
            "in_order", "num_batch_per_epoch",
        ), _LOADING),
    },
    others="ignored",
)  # fmt: skip
DATASET = Section(
    "test_dataloader.dataset",
    (
        "mmpose.datasets.datasets.base.BaseCocoStyleDataset",
        "mmpose.datasets.MpiiDataset",
        "mmpose.datasets.DeepFashionDataset",
    ),
    {
        "type": _applied("the keypoint set of that dataset, unless `metainfo` is given"),
        "metainfo": _applied("the keypoint set: names, mirror pairs, skeleton, OKS constants"),
        "subset": _applied("of DeepFashion: which keypoints"),
        "pipeline": _applied("below"),
        "data_mode": _limited("one person per crop", "topdown"),
        "datasets": _limited("several datasets in one; name one of them"),
        "dataset": _limited("a wrapped dataset; name the dataset itself"),
        "filter_cfg": _ignored("the configuration has `datasets.NAME.detection_score` for it"),
        "indices": _EVERYONE,
        "sample_interval": _EVERYONE,
        "ann_file": _DATA,
        "bbox_file": _DATA,
        "data_root": _DATA,
        "data_prefix": _DATA,
        "headbox_file": _DATA,
        "test_mode": _LOADING,
        "serialize_data": _LOADING,
        "lazy_init": _LOADING,
        "max_refetch": _LOADING,
    },
    others="ignored",
)


def _step(name: str, keys: Mapping[str, Key]) -> Section:
    return Section(name, (f"mmpose.datasets.transforms.{name}",), keys)


_STEPS = (
    _step("LoadImage", {
        "type": _applied("the first step"),
        "to_float32": _limited("crops are made from 8 bits", False),
        "color_type": _limited("images are read in colour and rotated as EXIF says", "color"),
        "imdecode_backend": _limited("OpenCV decodes the images", "cv2"),
        "ignore_empty": _unused("a missing image stops the stage"),
        "file_client_args": _DATA,
        "backend_args": _DATA,
    }),
    _step("GetBBoxCenterScale", {
        "type": _applied("the second step"),
        "padding": _applied("the factor by which a person's box is enlarged"),
    }),
    _step("TopdownAffine", {
        "type": _applied("the third step"),
        "input_size": _applied("width and height; the decoder's must be the same"),
        "use_udp": _applied("UDP's geometry"),
    }),
    _step("PackPoseInputs", {
        "type": _applied("the last step"),
        "meta_keys": _RUNTIME,
        "pack_transformed": _RUNTIME,
    }),
)  # fmt: skip
STEPS = {step.place: step for step in _STEPS}
"""The steps of the test pipeline, in order."""
CROP = {"padding": ("GetBBoxCenterScale", "padding"), "udp": ("TopdownAffine", "use_udp")}
"""Field of a crop -> the step and its key that give it."""
EVALUATOR = Section(
    "test_evaluator",
    ("mmpose.evaluation.metrics.coco_metric.CocoMetric",),
    {
        "type": _applied(
            "`CocoMetric`; CocoWholeBodyMetric and PoseTrack18Metric are refused, metrics without "
            "an AP are ignored, which is reported"
        ),
        "score_mode": _limited("what a person's score is", "bbox_keypoint", "bbox"),
        "keypoint_score_thr": _applied("the score above which keypoints count for the person's"),
        "nms_mode": _limited("how duplicates are removed", "oks_nms", "soft_oks_nms", "none"),
        "nms_thr": _applied("the OKS above which persons are duplicates"),
        "use_area": _applied("false: an object's area is 0.53 of its box"),
        "iou_type": _limited("the figures are COCO's", "keypoints"),
        "pred_converter": _limited(_CONVERTER),
        "gt_converter": _limited(_CONVERTER),
        "ann_file": _DATA,
        "format_only": _RUNTIME,
        "outfile_prefix": _RUNTIME,
        "collect_device": _RUNTIME,
        "prefix": _unused("of the figures' names"),
    },
)
KINDS = (MODEL, HEAD, DECODER)
"""The sections whose types decide whether a model is supported."""
SECTIONS = (
    TOP, MODEL, BACKBONE, PREPROCESSOR, TEST_CFG, HEAD, DECODER, LOADER, DATASET, *_STEPS, EVALUATOR
)  # fmt: skip


def short(kind: Any) -> str:
    """Return a type's own name, as a message can show it.

    Args:
        kind: a class, its name, `scope.Name`, or its full path, as configs give it.
    """
    return kind.__name__ if isinstance(kind, type) else stage.name(str(kind).rpartition(".")[2])


def check(source: object, section: Section, given: Mapping[str, Any], place: str = "") -> list[str]:
    """Check the keys of one section.

    Args:
        source: the config's file, for messages.
        section: its table.
        given: what the config has there.
        place: where that is, if it is not the section's own place.

    Returns:
        What is ignored, one sentence for each key.

    Raises:
        StageError: a key or its value is not supported.
    """
    prefix = "" if section is TOP else f"{place or section.place}."
    notes = []
    for name, value in given.items():
        key, where = section.keys.get(name), f"{prefix}{stage.name(name)}"
        if name == "_scope_":  # mmengine adds it to bases of a package
            continue
        if key is None and section.others == "refused":
            close = difflib.get_close_matches(name, list(section.keys), n=1)
            meant = f" (did you mean {close[0]}?)" if close else ""
            raise StageError(
                f"{source}: {where} is not known{meant}; mmpose's top-down test reads: "
                f"{', '.join(section.keys)}; remove it"
            )
        if key is None and section.others == "ignored":
            notes.append(f"{where} is ignored here")
        if key is None or (value is None and name != "type"):
            continue
        found = short(value) if name == "type" else value
        if key.use == "limited" and not any(found == known for known in key.values):
            expected = " or ".join(map(str, key.values)) or "none"
            known = _OTHER_KINDS.get(found) if name == "type" else None
            kind = f" ({known})" if known else ""
            raise StageError(
                f"{source}: {where} is {shown(value)}{kind}, which is not supported; expected "
                f"{expected}: {key.note}"
            )
        if key.use == "ignored":
            notes.append(f"{where} is {shown(value)}, ignored here: {key.note}")
    return notes


def check_pair(source: object, head: Any, decoder: Any) -> None:
    """Refuse a head whose outputs are not what the decoder takes.

    Args:
        source: the config's file, for messages.
        head: the type of `model.head`; types that are not known fit all.
        decoder: that of its decoder.

    Raises:
        StageError: one is of heatmaps, the other of SimCC.
    """
    for heads, codecs in ((_HEADS, _CODECS), (_SIMCC_HEADS, _SIMCC_CODECS)):
        if short(head) in heads and short(decoder) in {*_CODECS, *_SIMCC_CODECS} - {*codecs}:
            raise StageError(
                f"{source}: model.head is a {short(head)}, but its decoder is {short(decoder)}; "
                f"expected {' or '.join(codecs)}"
            )


def check_metric(source: object, place: str, kind: Any) -> None:
    """Refuse a metric whose AP could be taken for COCO's.

    Args:
        source: the config's file, for messages.
        place: of the evaluator.
        kind: the metric's type.

    Raises:
        StageError: it is one.
    """
    if short(kind) in _OTHER_AP:
        raise StageError(
            f"{source}: {place}.type is {shown(kind)}, which is not supported; expected "
            "CocoMetric: its AP is another figure than COCO's"
        )


INTRODUCTION = """\
# Keys of a model's config

<!-- Made by `make docs` from workflow_scripts/hrnetpose/models/keys.py; edits here are lost. -->

What this project reads of a model's [mmpose config](models.md), section by section: all keys that
mmpose's top-down test takes. **applied**: as in mmpose. **limited**: to the values given; others
are refused when the config is read. **no effect**: the figures do not depend on it. **ignored**: it
has an effect in mmpose's test, but none here; the log, the model card and the report say so.

`test_dataloader` and `test_evaluator` are read, as in mmpose's `tools/test.py`, and those of `val`
if there are none. If `val` differs from `test`, the log, the model card and the report say so.
"""
_OTHERS = {
    "refused": "Other keys are refused.",
    "ignored": "Other keys are ignored.",
    "built": "Other keys are applied: mmpose builds it, and refuses those it does not know.",
    "variables": "Other names are the config's own variables.",
}


def make_page() -> str:
    """Return docs/model_keys.md."""
    parts = [INTRODUCTION]
    for section in SECTIONS:
        step = "A step of `test_dataloader.dataset.pipeline`. " if section in _STEPS else ""
        rows = ["| key | | what it is |", "| --- | --- | --- |"]
        for name, key in section.keys.items():
            values = f": {', '.join(f'`{value}`' for value in key.values)}" if key.values else ""
            use = "refused" if key.use == "limited" and not key.values else key.use
            rows.append(f"| `{name}` | {use} | {key.note}{values} |")
        parts.append(f"## `{section.place}`\n\n{step}{_OTHERS[section.others]}\n")
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(make_page(), end="")
