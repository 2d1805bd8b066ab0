"""The keys of a model's mmpose config: which of them this project honours, and how.

One table holds what mmpose's top-down test reads (mmpose 1.3.2, mmengine 0.10.7).
`python -m hrnetpose.models.keys` prints docs/model_keys.md from it; tests hold the table together
with the page and with the signatures of mmpose's classes.
"""

import difflib
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hrnetpose.stage import StageError


@dataclass(frozen=True)
class Key:
    """What becomes of a key.

    Attributes:
        use: `honoured`; `limited` to some values, others are refused; `none`: no effect on the
            figures; `told`: no effect here, which the log, the model card and the report say.
        note: for the documents, and for a refusal or what is told.
        values: those that a limited key may have; None, as a value, always is like no key.
    """

    use: Literal["honoured", "limited", "none", "told"]
    note: str
    values: tuple[object, ...] = ()


@dataclass(frozen=True)
class Section:
    """The keys of one place in a config.

    Attributes:
        place: where, as users write it.
        classes: mmpose's classes that take the keys.
        keys: the table.
        others: what becomes of other keys: `refused`, `told`, `built` by mmpose, or `variables`.
    """

    place: str
    classes: tuple[str, ...]
    keys: Mapping[str, Key]
    others: Literal["refused", "told", "built", "variables"] = "refused"

    def honoured(self) -> list[str]:
        """Returns the keys that have an effect."""
        return [name for name, key in self.keys.items() if key.use in ("honoured", "limited")]


def _honoured(note: str) -> Key:
    return Key("honoured", note)


def _limited(note: str, *values: object) -> Key:
    return Key("limited", note, values)


def _none(note: str) -> Key:
    return Key("none", note)


def _told(note: str) -> Key:
    return Key("told", note)


_BUILT = _honoured("built by mmpose itself")
_TRAINING = _none("for training")
_RUNTIME = _none("of mmpose's runner, which does not run here")
_DATA = _none("the configuration's `datasets` say which data are evaluated")
_LOADING = _none("of PyTorch's loader; every person is evaluated, once")
_CONVERTER = "converted keypoints are not supported; `test_cfg.output_keypoint_indices` is"

TOP = Section(
    "top level",
    ("mmengine.runner.Runner",),
    {
        "model": _honoured("the model"),
        "data_preprocessor": _honoured("where `model` has none of its own, as mmengine's runner"),
        "test_dataloader": _honoured("pipeline and keypoint set, as mmpose's `tools/test.py`"),
        "val_dataloader": _honoured("where there is no `test_dataloader`"),
        "test_evaluator": _honoured("how AP is taken, as mmpose's `tools/test.py`"),
        "val_evaluator": _honoured("where there is no `test_evaluator`"),
        "custom_imports": _honoured("modules that are imported when the config is read"),
        "default_scope": _limited("types without a scope are mmpose's", "mmpose"),
        "train_dataloader": _TRAINING,
        "train_cfg": _TRAINING,
        "optim_wrapper": _TRAINING,
        "param_scheduler": _TRAINING,
        "auto_scale_lr": _TRAINING,
        "val_cfg": _RUNTIME,
        "test_cfg": _none("a variant's `precision` says in which precision it runs"),
        "work_dir": _RUNTIME,
        "default_hooks": _RUNTIME,
        "custom_hooks": _RUNTIME,
        "load_from": _none("the configuration's `weights` name the checkpoint"),
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
        "type": _limited("top-down models", "TopdownPoseEstimator"),
        "data_preprocessor": _honoured("how pixels are normalised"),
        "backbone": _BUILT,
        "neck": _BUILT,
        "head": _BUILT,
        "test_cfg": _honoured("below"),
        "metainfo": _honoured("its mirror pairs, which mmpose puts over those of the dataset"),
        "train_cfg": _TRAINING,
        "init_cfg": _none("the checkpoint has all weights"),
    },
)
BACKBONE = Section(
    "model.backbone",
    (),
    {
        "type": _honoured("any of mmpose, or of mmpretrain"),
        "init_cfg": _none("the checkpoint has all weights"),
    },
    others="built",
)
PREPROCESSOR = Section(
    "model.data_preprocessor",
    ("mmpose.models.PoseDataPreprocessor",),
    {
        "type": _limited("mmpose's preprocessor", "PoseDataPreprocessor"),
        "mean": _honoured("one number or three; none: pixels are not normalised"),
        "std": _honoured("as many as `mean`"),
        "bgr_to_rgb": _honoured("swaps the channels; images are read as BGR"),
        "rgb_to_bgr": _honoured("swaps the channels, too: mmengine does not look at the order"),
        "pad_size_divisor": _honoured("the input must be divisible by it: nothing is padded"),
        "pad_value": _none("nothing is padded"),
        "non_blocking": _RUNTIME,
        "batch_augments": _TRAINING,
    },
)
TEST_CFG = Section(
    "model.test_cfg",
    (),
    {
        "flip_test": _none("the configuration's `protocols.flip` says it; both are measured"),
        "flip_mode": _limited(
            "how heatmaps are mirrored: `udp_combined` with UDP's combined form, else `heatmap`",
            "heatmap",
            "udp_combined",
        ),
        "shift_heatmap": _honoured("whether mirrored heatmaps are moved by a pixel"),
        "output_keypoint_indices": _honoured(
            "the keypoints that remain; the mirror partner of each must be among them"
        ),
        "output_heatmaps": _none("heatmaps are not kept beside the keypoints"),
    },
)
HEAD = Section(
    "model.head",
    tuple(f"mmpose.models.{name}" for name in ("HeatmapHead", "ViPNASHead", "CPMHead", "MSPNHead")),
    {
        "type": _limited(
            "top-down heatmap models", "HeatmapHead", "ViPNASHead", "CPMHead", "MSPNHead"
        ),
        "decoder": _honoured("below"),
        **dict.fromkeys(
            (
                "in_channels",
                "out_channels",
                "deconv_out_channels",
                "deconv_kernel_sizes",
                "deconv_num_groups",
                "conv_out_channels",
                "conv_kernel_sizes",
                "final_layer",
                "num_stages",
                "num_units",
                "out_shape",
                "unit_channels",
                "use_prm",
                "norm_cfg",
                "level_indices",
                # Of heads before mmpose 1.0, which makes a neck of them.
                "input_transform",
                "input_index",
                "align_corners",
                "extra",
                "has_final_layer",
            ),
            _BUILT,
        ),
        "loss": _TRAINING,
        "init_cfg": _none("the checkpoint has all weights"),
    },
)
DECODER = Section(
    "model.head.decoder",
    tuple(f"mmpose.codecs.{name}" for name in ("MSRAHeatmap", "UDPHeatmap", "MegviiHeatmap")),
    {
        "type": _limited("codecs of heatmaps", "MSRAHeatmap", "UDPHeatmap", "MegviiHeatmap"),
        "input_size": _honoured("width and height; TopdownAffine's must be the same"),
        "heatmap_size": _honoured("width and height; must be what the model gives"),
        "sigma": _honoured("of the heatmaps' Gaussians"),
        "unbiased": _honoured("DARK's decoding"),
        "blur_kernel_size": _honoured("of DARK's decoding"),
        "kernel_size": _honoured("of Megvii's decoding"),
        "heatmap_type": _limited("UDP's forms", "gaussian", "combined"),
        "radius_factor": _honoured("of UDP's combined form"),
    },
)
LOADER = Section(
    "test_dataloader",
    ("torch.utils.data.DataLoader",),
    {
        "dataset": _honoured("below"),
        **dict.fromkeys(
            (
                "batch_size",
                "num_workers",
                "persistent_workers",
                "drop_last",
                "sampler",
                "batch_sampler",
                "shuffle",
                "collate_fn",
                "pin_memory",
                "pin_memory_device",
                "prefetch_factor",
                "timeout",
                "worker_init_fn",
                "multiprocessing_context",
                "generator",
                "in_order",
                "num_batch_per_epoch",
            ),
            _LOADING,
        ),
    },
    others="told",
)
DATASET = Section(
    "test_dataloader.dataset",
    (
        "mmpose.datasets.datasets.base.BaseCocoStyleDataset",
        "mmpose.datasets.MpiiDataset",
        "mmpose.datasets.DeepFashionDataset",
    ),
    {
        "type": _honoured("the keypoint set of that dataset, unless `metainfo` is given"),
        "metainfo": _honoured("the keypoint set: names, mirror pairs, skeleton, OKS constants"),
        "subset": _honoured("of DeepFashion: which keypoints"),
        "pipeline": _honoured("below"),
        "data_mode": _limited("one person for each crop", "topdown"),
        "datasets": _limited("several datasets in one; name one of them"),
        "dataset": _limited("a wrapped dataset; name it itself"),
        "filter_cfg": _told("`datasets.NAME.detection_score` is the configuration's key for it"),
        "indices": _told("all persons of the dataset are evaluated"),
        "sample_interval": _told("all persons of the dataset are evaluated"),
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
    others="told",
)
STEPS = {
    "LoadImage": Section(
        "LoadImage",
        ("mmpose.datasets.transforms.LoadImage",),
        {
            "type": _honoured("the first step"),
            "to_float32": _limited("crops are made from 8 bits", False),
            "color_type": _limited("images are read in colour, turned as EXIF says", "color"),
            "imdecode_backend": _limited("OpenCV decodes the images", "cv2"),
            "ignore_empty": _none("an image that is missing stops the stage"),
            "file_client_args": _DATA,
            "backend_args": _DATA,
        },
    ),
    "GetBBoxCenterScale": Section(
        "GetBBoxCenterScale",
        ("mmpose.datasets.transforms.GetBBoxCenterScale",),
        {
            "type": _honoured("the second step"),
            "padding": _honoured("how much larger than its box a person is cut out"),
        },
    ),
    "TopdownAffine": Section(
        "TopdownAffine",
        ("mmpose.datasets.transforms.TopdownAffine",),
        {
            "type": _honoured("the third step"),
            "input_size": _honoured("width and height; the decoder's must be the same"),
            "use_udp": _honoured("UDP's geometry"),
        },
    ),
    "PackPoseInputs": Section(
        "PackPoseInputs",
        ("mmpose.datasets.transforms.PackPoseInputs",),
        {
            "type": _honoured("the last step"),
            "meta_keys": _RUNTIME,
            "pack_transformed": _RUNTIME,
        },
    ),
}
CROP = {"padding": ("GetBBoxCenterScale", "padding"), "udp": ("TopdownAffine", "use_udp")}
"""Field of a crop -> the step and its key that give it."""
EVALUATOR = Section(
    "test_evaluator",
    ("mmpose.evaluation.metrics.coco_metric.CocoMetric",),
    {
        "type": _honoured("of another metric than CocoMetric it is told that AP is taken instead"),
        "score_mode": _limited("what a person's score is", "bbox_keypoint", "bbox"),
        "keypoint_score_thr": _honoured("the score above which keypoints count for the person's"),
        "nms_mode": _limited("what is done about duplicates", "oks_nms", "soft_oks_nms", "none"),
        "nms_thr": _honoured("the OKS above which persons are duplicates"),
        "use_area": _honoured("false: an object's area is 0.53 of its box"),
        "iou_type": _limited("figures are COCO's own", "keypoints"),
        "pred_converter": _limited(_CONVERTER),
        "gt_converter": _limited(_CONVERTER),
        "ann_file": _DATA,
        "format_only": _RUNTIME,
        "outfile_prefix": _RUNTIME,
        "collect_device": _RUNTIME,
        "prefix": _none("of the figures' names"),
    },
)
SECTIONS = (
    TOP,
    MODEL,
    BACKBONE,
    PREPROCESSOR,
    TEST_CFG,
    HEAD,
    DECODER,
    LOADER,
    DATASET,
    *STEPS.values(),
    EVALUATOR,
)


def short(kind: Any) -> str:
    """Returns a type's own name.

    Args:
        kind: a class, its name, `scope.Name`, or its full path, as configs give it.
    """
    return kind.__name__ if isinstance(kind, type) else str(kind).rpartition(".")[2]


def crop_fields(steps: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Returns what the steps of a pipeline say of the crops, by field.

    Args:
        steps: by their own names.
    """
    return {
        field: steps[step][key] for field, (step, key) in CROP.items() if key in steps.get(step, {})
    }


def shown(value: object) -> str:
    """Returns a value as a message shows it."""
    return textwrap.shorten(repr(value), 100, placeholder=" ...")


def check(section: Section, given: Mapping[str, Any], place: str = "") -> list[str]:
    """Looks the keys of one place up.

    Args:
        section: its table.
        given: what the config has there.
        place: where that is, if it is not the section's own place.

    Returns:
        What must be told of keys without effect, one sentence each.

    Raises:
        StageError: a key or its value is not supported; the text does not name the file.
    """
    place = place or section.place
    prefix = "" if section is TOP else f"{place}."
    told = []
    for name, value in given.items():
        key = section.keys.get(name)
        if name == "_scope_":  # whose types these are; mmengine adds it to bases of a package
            continue
        if key is None and section.others == "refused":
            close = difflib.get_close_matches(name, list(section.keys), n=1)
            raise StageError(
                f"{prefix}{name} is not known{f' (did you mean {close[0]}?)' if close else ''}; "
                f"mmpose's top-down test reads: {', '.join(section.keys)}; remove it"
            )
        if key is None and section.others == "told":
            told.append(f"{prefix}{name} has no effect here")
        if key is None or value is None:
            continue
        found = short(value) if name == "type" else value
        if key.use == "limited" and not any(found == known for known in key.values):
            expected = " or ".join(map(str, key.values)) or "none"
            raise StageError(
                f"{prefix}{name} is {shown(value)}, which is not supported; expected {expected}: "
                f"{key.note}"
            )
        if key.use == "told":
            told.append(f"{prefix}{name} is {shown(value)}, without effect here: {key.note}")
    return told


INTRODUCTION = """\
# Keys of a model's config

<!-- Made by `make docs` from workflow_scripts/hrnetpose/models/keys.py; edits here are lost. -->

What this project reads of a model's [mmpose config](models.md), place by place: all keys that
mmpose's top-down test takes. **honoured**: as in mmpose. **limited**: to the values given; others
are refused when the config is read. **no effect**: the figures do not depend on it here. **told**:
no effect here though it has one in mmpose's test; the log, the model card and the report say so.

`test_dataloader` and `test_evaluator` are read, as mmpose's `tools/test.py` does, and those of
`val` where there are none. Where `val` would have given something else, that is told.
"""
_USES = {"honoured": "honoured", "limited": "limited", "none": "no effect", "told": "told"}
_OTHERS = {
    "refused": "Other keys are refused.",
    "told": "Other keys are told to have no effect.",
    "built": "Other keys are honoured: mmpose builds it, and refuses those it does not know.",
    "variables": "Other names are the config's own variables.",
}


def page() -> str:
    """Returns the page as Markdown."""
    parts = [INTRODUCTION]
    for section in SECTIONS:
        pipeline = "A step of `test_dataloader.dataset.pipeline`. " if _is_step(section) else ""
        parts.append(f"## `{section.place}`\n\n{pipeline}{_OTHERS[section.others]}\n")
        rows = ["| key | | what it is |", "| --- | --- | --- |"]
        for name, key in section.keys.items():
            values = f": {', '.join(f'`{value}`' for value in key.values)}" if key.values else ""
            use = "refused" if key.use == "limited" and not key.values else _USES[key.use]
            rows.append(f"| `{name}` | {use} | {key.note}{values} |")
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def _is_step(section: Section) -> bool:
    return section.place in STEPS


if __name__ == "__main__":
    print(page(), end="")
