"""What a model's mmpose config says: normalisation, crops, decoding and evaluation.

Every function takes what `mmpose.read_config` returned.  That one calls all of them, so what they
raise comes when a config is read.
"""

import math
import re
from typing import Any, Literal

from pydantic import ValidationError

from hrnetpose import stage
from hrnetpose.artifacts.model import Codec, Crop, Evaluation, HeatmapCodec, SimCCCodec
from hrnetpose.models import bounds, keys, sections
from hrnetpose.stage import StageError, shown


def describe_error(error: BaseException) -> str:
    """Return in one line what an exception that a config raised says, without its class."""
    if isinstance(error, ImportError) and error.__cause__:  # mmengine adds a list of folders
        error = error.__cause__
    match error:
        case KeyError(args=[str(text)]) if " " in text:
            pass
        case KeyError():
            text = f"there is no {error}"
        case SystemExit():
            text = "it ends the program"
        case RuntimeError() if not str(error):
            text = "a config that imports modules cannot call what is in them (mmengine)"
        case _:
            text = str(error).strip() or "it stops without a message"
    text = "".join(c if c.isprintable() else "?" for c in text.split("\n")[0])
    text = text if len(text) <= 300 else f"{text[:300]} ..."
    return re.sub(r"<(?:class '([\w.]+)'|([\w.]+) object at 0x\w+)>", r"\1\2", text)


def require(config: Any, place: str, default: Any = None) -> Any:
    """Return the section at a place such as `model.head`.

    Raises:
        StageError: it is not a section, or missing without a default.
    """
    value = sections.get(config, *place.split("."))
    value = default if value is None else value
    if not isinstance(value, dict):
        raise StageError(
            f"{config.filename}: {place} is {shown(value)}; expected a section, dict(...)"
        )
    return value


def read_dataset(config: Any, loader: str) -> dict[str, Any]:
    """Return the section of a loader's dataset.

    Raises:
        StageError: it is not a section.
    """
    dataset = sections.find_dataset(config, loader)
    return dataset if isinstance(dataset, dict) else require(config, f"{loader}.dataset")


def check_numbers(config: Any) -> None:
    """Refuse a number that no network has."""
    bounds.check(config.filename, config.get("model"))


def check_keys(config: Any) -> list[str]:
    """Check every key that mmpose's test reads.

    Returns:
        What is ignored here though it has an effect in mmpose, one sentence each.

    Raises:
        StageError: a key or its value is not supported.
    """
    for section in keys.KINDS:
        kind = require(config, section.place, default={}).get("type")
        keys.check(config.filename, section, {"type": kind})
    loader, evaluator = sections.find_loader(config), sections.find_evaluator(config)
    metric, notes = _read_metric(config, evaluator)
    model = (keys.MODEL, keys.PREPROCESSOR, keys.TEST_CFG, keys.HEAD, keys.DECODER)
    given = [
        (keys.TOP, config, ""),
        (keys.BACKBONE, require(config, keys.BACKBONE.place), ""),
        *((section, require(config, section.place, default={}), "") for section in model),
        (keys.LOADER, require(config, loader, default={}), loader),
        (keys.DATASET, read_dataset(config, loader), f"{loader}.dataset"),
        (keys.EVALUATOR, metric, evaluator),
    ]
    for section, values, place in given:
        notes += keys.check(config.filename, section, values, place)
    return notes + _list_differences(config)


def _list_differences(config: Any) -> list[str]:
    """List where the `val` sections differ from the `test` sections, which count."""
    pairs: list[tuple[str, keys.Section, list[dict[str, Any]]]] = []
    if config.get("test_dataloader") and config.get("val_dataloader"):
        datasets = [read_dataset(config, f"{split}_dataloader") for split in ("test", "val")]
        pairs.append(("dataloader.dataset", keys.DATASET, datasets))
    if config.get("test_evaluator") and config.get("val_evaluator"):
        metrics = [_read_metric(config, f"{split}_evaluator")[0] for split in ("test", "val")]
        pairs.append(("evaluator", keys.EVALUATOR, metrics))
    return [
        f"val_{place}.{key} differs from test_{place}.{key}, which counts in mmpose's test"
        for place, section, (tested, validated) in pairs
        for key in section.list_applied()
        if tested.get(key) != validated.get(key)
    ]


def read_normalisation(config: Any) -> tuple[Literal["RGB", "BGR"], list[float], list[float]]:
    """Return the channel order, and the mean and standard deviation of the three channels.

    Raises:
        StageError: the preprocessor contradicts itself.
    """
    place = f"{config.filename}: {keys.PREPROCESSOR.place}"
    given = require(config, keys.PREPROCESSOR.place, default={})
    swaps = [key for key in ("bgr_to_rgb", "rgb_to_bgr") if given.get(key)]
    if len(swaps) == 2:
        raise StageError(f"{place}: bgr_to_rgb and rgb_to_bgr are both true; expected one")
    order: Literal["RGB", "BGR"] = "RGB" if swaps else "BGR"
    mean, std = given.get("mean"), given.get("std")
    if (mean is None) != (std is None):
        raise StageError(
            f"{place}: mean is {shown(mean)}, std is {shown(std)}; expected both or none"
        )
    if mean is None:
        return order, [0.0] * 3, [1.0] * 3
    for key, values in (("mean", mean), ("std", std)):
        numbers = isinstance(values, list | tuple) and all(
            isinstance(value, int | float) and math.isfinite(value) for value in values
        )
        if not numbers or len(values) not in (1, 3) or (key == "std" and min(values) <= 0):
            raise StageError(
                f"{place}.{key} is {shown(values)}; expected three numbers, std above 0"
            )
    means, stds = ([float(value) for value in (*values,) * 3][:3] for values in (mean, std))
    return order, means, stds


def read_crop(config: Any) -> Crop:
    """Return the crops that the config's own test pipeline makes.

    Raises:
        StageError: the pipeline has other steps than mmpose's for top-down models, or contradicts
            the decoder.
    """
    loader = sections.find_loader(config)
    place = f"{config.filename}: {loader}.dataset.pipeline"
    pipeline = read_dataset(config, loader).get("pipeline")
    steps = sections.name_steps(pipeline)
    names, supported = [name for name, _ in steps], list(keys.STEPS)
    if pipeline and names != supported:
        found = stage.name(", ".join(names)) if names else shown(pipeline)
        raise StageError(f"{place} is {found}; supported: {', '.join(supported)}")
    for name, step in steps:
        keys.check(config.filename, keys.STEPS[name], step, f"{loader}.dataset.pipeline: {name}")
    size = _read_size(config, "model.head.decoder.input_size")
    given = sections.get(dict(steps), "TopdownAffine", "input_size")
    where = f"{place}: TopdownAffine.input_size"
    if given is not None and sections.parse_size(given, where) != size:
        raise StageError(
            f"{where} is {shown(given)}, but model.head.decoder.input_size is {size}; expected "
            "the same"
        )
    divisor = sections.get(config, "model", "data_preprocessor", "pad_size_divisor") or 1
    if not isinstance(divisor, int) or any(side % divisor for side in size):
        raise StageError(
            f"{config.filename}: model.data_preprocessor.pad_size_divisor is {shown(divisor)}, "
            f"which does not divide the input {size}; padding is not supported"
        )
    return sections.make_crop(size, dict(steps), place)


def read_codec(config: Any) -> Codec:
    """Return how the config has a model's outputs decoded.

    Raises:
        StageError: mmpose's codec does not take a value, or the head or the flip test contradicts
            it.
    """
    given = require(config, keys.DECODER.place)
    place = f"{config.filename}: {keys.DECODER.place}"
    kind = keys.short(given.get("type"))
    keys.check_pair(config.filename, require(config, "model.head").get("type"), kind)
    codec_type = SimCCCodec if kind == "SimCCLabel" else HeatmapCodec
    known = {key: given[key] for key in codec_type.model_fields if given.get(key) is not None}
    if given.get("kernel_size") is not None:  # Megvii's name for it
        known["blur_kernel_size"] = given["kernel_size"]
    default = {} if codec_type is SimCCCodec else {"sigma": 2.0}
    try:
        codec = codec_type(**default | known | {"type": kind})
    except ValidationError as error:
        raise StageError(f"{place}: {sections.describe_invalid(error)}") from error
    if isinstance(codec, SimCCCodec):
        return codec
    _read_size(config, "model.head.decoder.heatmap_size")
    if codec.blur_kernel_size % 2 == 0 and codec.label in ("dark", "udp", "megvii"):
        key = "kernel_size" if "kernel_size" in given else "blur_kernel_size"
        raise StageError(
            f"{place}: {key} is {codec.blur_kernel_size}; expected an odd number: the blur has a "
            "middle"
        )
    mode = sections.get(config, "model", "test_cfg", "flip_mode") or codec.flip_mode
    if mode != codec.flip_mode:
        raise StageError(
            f"{config.filename}: model.test_cfg.flip_mode is {mode!r}; expected "
            f"{codec.flip_mode!r} with heatmap_type {codec.heatmap_type!r}"
        )
    return codec


def _read_size(config: Any, place: str) -> tuple[int, int]:
    return sections.parse_size(
        sections.get(config, *place.split(".")), f"{config.filename}: {place}"
    )


def read_evaluation(config: Any) -> Evaluation:
    """Return how the config has predictions scored.

    Raises:
        StageError: CocoMetric does not take a value.
    """
    evaluator = sections.find_evaluator(config)
    metric, _ = _read_metric(config, evaluator)
    known = {key: metric[key] for key in Evaluation.model_fields if metric.get(key) is not None}
    try:
        return Evaluation(**known)
    except ValidationError as error:
        raise StageError(
            f"{config.filename}: {evaluator}: {sections.describe_invalid(error)}"
        ) from error


def _read_metric(config: Any, evaluator: str) -> tuple[dict[str, Any], list[str]]:
    """Return the section of CocoMetric, and a note if the evaluator has others instead.

    Raises:
        StageError: there are several, or one whose AP is another figure.
    """
    metrics = sections.list_metrics(config, evaluator)
    place = f"{config.filename}: {evaluator}"
    if not isinstance(metrics, list | tuple) or not all(isinstance(m, dict) for m in metrics):
        raise StageError(f"{place} is {shown(metrics)}; expected metrics, dict(type=...)")
    for metric in metrics:
        keys.check_metric(config.filename, evaluator, metric.get("type"))
    names = [keys.short(metric.get("type")) for metric in metrics]
    coco = [metric for metric, name in zip(metrics, names, strict=True) if name == "CocoMetric"]
    if len(coco) > 1:
        raise StageError(f"{place} has {len(coco)} CocoMetrics; expected one")
    if coco or not metrics:
        return dict(coco[0]) if coco else {}, []
    return {}, [f"{evaluator} is {', '.join(names)}, ignored here: AP is taken, as by CocoMetric"]
