"""What a model's mmpose config says: normalisation, crops, decoding, keypoints, evaluation.

Every function takes what `mmpose.read_config` returned.  That one calls all of them: what they
raise comes when a config is read.
"""

import math
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from hrnetpose.artifacts.model import Codec, Crop, Evaluation, Keypoints
from hrnetpose.models import keys
from hrnetpose.stage import StageError


def said(error: BaseException) -> str:
    """Returns in one line what an exception that a config raised says, without its name."""
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
    return textwrap.shorten(text.split("\n")[0], 300, placeholder=" ...")


def _part(config: Any, place: str, default: Any = None) -> Any:
    """Returns the section that a config has at a place such as `model.head`.

    Raises:
        StageError: it is no section, or missing without a default.
    """
    value = config
    for name in place.split("."):
        value = value.get(name) if isinstance(value, dict) or value is config else None
    if value is None:
        value = default
    if not isinstance(value, dict):
        raise StageError(
            f"{config.filename}: {place} is {keys.shown(value)}; expected a section, dict(...)"
        )
    return value


def _loader(config: Any) -> str:
    """Returns which of `test_dataloader` and `val_dataloader` counts: as mmpose's test.py, test."""
    return "test_dataloader" if config.get("test_dataloader") else "val_dataloader"


def _dataset(config: Any, loader: str) -> Any:
    """Returns a loader's dataset; configs without loaders may name its type and pipeline alone."""
    if config.get(loader) and not config[loader].get("dataset"):
        return _part(config, f"{loader}.dataset")
    dataset = dict(_part(config, f"{loader}.dataset", default={}))
    if config.get("dataset_type"):
        dataset.setdefault("type", config.dataset_type)
    if config.get("val_pipeline"):
        dataset.setdefault("pipeline", config.val_pipeline)
    return dataset


def check(config: Any) -> None:
    """Raises a StageError for the first thing in a config that is not supported or damaged."""
    for part in (notes, normalisation, crop, codec, keypoint_info, evaluation):
        part(config)


def notes(config: Any) -> list[str]:
    """Looks every key up that mmpose's test reads.

    Returns:
        What has no effect here though it has one in mmpose, one sentence each.

    Raises:
        StageError: a key or its value is not supported.
    """
    for section in (keys.MODEL, keys.HEAD, keys.DECODER):
        kind = _part(config, section.place, default={}).get("type")
        supported = section.keys["type"].values
        if keys.short(kind) not in supported:
            known = ", ".join(map(str, supported))
            raise StageError(
                f"{config.filename}: {section.place}.type is {keys.shown(kind)}, which is not "
                f"supported; supported: top-down heatmap models, that is {known}"
            )
    loader = _loader(config)
    places = [
        (keys.TOP, config, ""),
        (keys.MODEL, _part(config, "model"), ""),
        (keys.BACKBONE, _part(config, "model.backbone"), ""),
        (keys.PREPROCESSOR, _part(config, "model.data_preprocessor", default={}), ""),
        (keys.TEST_CFG, _part(config, "model.test_cfg", default={}), ""),
        (keys.HEAD, _part(config, "model.head"), ""),
        (keys.DECODER, _part(config, "model.head.decoder"), ""),
        (keys.LOADER, _part(config, loader, default={}), loader),
        (keys.DATASET, _dataset(config, loader), f"{loader}.dataset"),
    ]
    metric, told = _metric(config, _evaluator(config))
    places.append((keys.EVALUATOR, metric, _evaluator(config)))
    try:
        for section, given, place in places:
            told += keys.check(section, given, place)
    except StageError as error:
        raise StageError(f"{config.filename}: {error}") from error
    return told + _differences(config)


def _differences(config: Any) -> list[str]:
    """Says where `val_dataloader` and `val_evaluator` differ from what counts."""
    differing = []
    if config.get("test_dataloader") and config.get("val_dataloader"):
        tested, validated = (_dataset(config, f"{name}_dataloader") for name in ("test", "val"))
        differing = [
            f"val_dataloader.dataset.{key}"
            for key in keys.DATASET.honoured()
            if tested.get(key) != validated.get(key)
        ]
    if config.get("test_evaluator") and config.get("val_evaluator"):
        tested, validated = (_metric(config, f"{name}_evaluator")[0] for name in ("test", "val"))
        differing += [
            f"val_evaluator.{key}"
            for key in keys.EVALUATOR.honoured()
            if tested.get(key) != validated.get(key)
        ]
    return [
        f"{key} differs from {key.replace('val_', 'test_', 1)}, which counts in mmpose's test"
        for key in differing
    ]


def normalisation(config: Any) -> tuple[str, list[float], list[float]]:
    """Returns the channel order, RGB or BGR, and mean and deviation of the three channels.

    Raises:
        StageError: the preprocessor contradicts itself.
    """
    place = f"{config.filename}: model.data_preprocessor"
    given = _part(config, "model.data_preprocessor", default={})
    swaps = [key for key in ("bgr_to_rgb", "rgb_to_bgr") if given.get(key)]
    if len(swaps) == 2:
        raise StageError(f"{place}: bgr_to_rgb and rgb_to_bgr are both true; expected one")
    mean, std = given.get("mean"), given.get("std")
    if (mean is None) != (std is None):
        raise StageError(
            f"{place}: mean is {keys.shown(mean)}, std is {keys.shown(std)}; expected both or none"
        )
    if mean is None:
        return "RGB" if swaps else "BGR", [0.0] * 3, [1.0] * 3
    for key, values in (("mean", mean), ("std", std)):
        numbers = isinstance(values, list | tuple) and all(
            isinstance(value, int | float) and math.isfinite(value) for value in values
        )
        if not numbers or len(values) not in (1, 3) or (key == "std" and min(values) <= 0):
            raise StageError(
                f"{place}.{key} is {keys.shown(values)}; expected three numbers, std above 0"
            )
    means, stds = ([float(v) for v in (list(values) * 3)[:3]] for values in (mean, std))
    return "RGB" if swaps else "BGR", means, stds


def crop(config: Any) -> Crop:
    """Returns the crops that the config's own test pipeline makes.

    Raises:
        StageError: the pipeline has other steps than mmpose's for top-down models, or contradicts
            the decoder.
    """
    loader = _loader(config)
    place = f"{loader}.dataset.pipeline"
    pipeline = _dataset(config, loader).get("pipeline") or []
    names = [keys.short(step.get("type")) if isinstance(step, dict) else "?" for step in pipeline]
    if names and names != list(keys.STEPS):
        raise StageError(
            f"{config.filename}: {place} is {', '.join(names)}; supported: {', '.join(keys.STEPS)}"
        )
    steps = dict(zip(names, pipeline, strict=True))
    try:
        for name, step in steps.items():
            keys.check(keys.STEPS[name], step, f"{place}: {name}")
    except StageError as error:
        raise StageError(f"{config.filename}: {error}") from error
    size = _size(config, "model.head.decoder.input_size")
    affine = steps.get("TopdownAffine", {})
    where = f"{config.filename}: {place}: TopdownAffine.input_size"
    cut = _pair(affine["input_size"], where) if "input_size" in affine else size
    if cut != size:
        raise StageError(
            f"{where} is {cut}, but model.head.decoder.input_size is {size}; expected the same"
        )
    divisor = _part(config, "model.data_preprocessor", default={}).get("pad_size_divisor") or 1
    if not isinstance(divisor, int) or any(side % divisor for side in size):
        raise StageError(
            f"{config.filename}: model.data_preprocessor.pad_size_divisor is {divisor!r}, which "
            f"does not divide the input {size}; padding is not supported"
        )
    try:
        return Crop(height=size[1], width=size[0], **keys.crop_fields(steps))
    except ValidationError as error:
        raise StageError(f"{config.filename}: {place}: {_first(error)}") from error


def codec(config: Any) -> Codec:
    """Returns how the config has heatmaps decoded.

    Raises:
        StageError: a value is none that mmpose's codec takes, or the flip test contradicts it.
    """
    given = dict(_part(config, "model.head.decoder"))
    place = f"{config.filename}: model.head.decoder"
    _size(config, "model.head.decoder.heatmap_size")
    # Megvii's name for it.
    if "kernel_size" in given:
        given["blur_kernel_size"] = given["kernel_size"]
    known = {k: v for k, v in given.items() if k in Codec.model_fields and v is not None}
    try:
        made = Codec(**{"sigma": 2.0} | known | {"type": keys.short(given.get("type"))})
    except ValidationError as error:
        raise StageError(f"{place}: {_first(error)}") from error
    mode = _part(config, "model.test_cfg", default={}).get("flip_mode") or made.flip_mode
    if mode != made.flip_mode:
        raise StageError(
            f"{config.filename}: model.test_cfg.flip_mode is {mode!r}; expected "
            f"{made.flip_mode!r} with heatmap_type {made.heatmap_type!r}"
        )
    return made


def _size(config: Any, place: str) -> tuple[int, int]:
    parent, _, key = place.rpartition(".")
    return _pair(_part(config, parent).get(key), f"{config.filename}: {place}")


def _pair(value: Any, place: str) -> tuple[int, int]:
    """Returns a width and a height; raises a StageError that begins with the place."""
    whole = isinstance(value, list | tuple) and all(isinstance(side, int) for side in value)
    if not whole or len(value) != 2 or min(value) < 1:
        raise StageError(f"{place} is {keys.shown(value)}; expected (width, height) in pixels")
    return value[0], value[1]


def _first(error: ValidationError) -> str:
    """Returns the key, the value and the reason of the first thing that is wrong with a part."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))} is {keys.shown(first['input'])}: {first['msg']}"


def _evaluator(config: Any) -> str:
    return "test_evaluator" if config.get("test_evaluator") else "val_evaluator"


def _metric(config: Any, place: str) -> tuple[dict[str, Any], list[str]]:
    """Returns the section of CocoMetric, and what is told when it is another or none.

    Raises:
        StageError: there are several.
    """
    given = config.get(place) or []
    if isinstance(given, dict) and "metrics" in given:
        given = given["metrics"]
    metrics = [given] if isinstance(given, dict) else given
    names = [keys.short(metric.get("type")) for metric in metrics if isinstance(metric, dict)]
    if not isinstance(metrics, list | tuple) or len(names) != len(metrics):
        raise StageError(
            f"{config.filename}: {place} is {keys.shown(given)}; expected metrics, dict(type=...)"
        )
    found = [m for m, name in zip(metrics, names, strict=True) if name == "CocoMetric"]
    if len(found) > 1:
        raise StageError(f"{config.filename}: {place} has {len(found)} CocoMetrics; expected one")
    others = [name for name in names if name != "CocoMetric"]
    told = []
    if others and not found:
        told = [f"{place} is {', '.join(others)}, without effect here: AP is taken, as CocoMetric"]
    return dict(found[0]) if found else {}, told


def evaluation(config: Any) -> Evaluation:
    """Returns how the config has predictions scored.

    Raises:
        StageError: a value is none that CocoMetric takes.
    """
    metric, _ = _metric(config, _evaluator(config))
    given = {k: v for k, v in metric.items() if k in Evaluation.model_fields and v is not None}
    try:
        return Evaluation(**given)
    except ValidationError as error:
        place = f"{config.filename}: {_evaluator(config)}"
        raise StageError(f"{place}: {_first(error)}") from error


def keypoint_info(config: Any) -> Keypoints:
    """Returns the keypoints that the model gives out.

    They are those of the dataset that the config tests on.  `model.metainfo` is of the heatmaps: it
    says how they mirror, and `test_cfg.output_keypoint_indices` picks from them, after the flip
    test and decoding in mmpose, which is the same as before them if mirror partners stay together.

    Raises:
        StageError: the config names no dataset that mmpose knows, or its keypoint set or the
            indices are damaged.
    """
    from mmpose.registry import DATASETS

    loader = _loader(config)
    dataset = _dataset(config, loader)
    name = keys.short(dataset.get("type"))
    kind = DATASETS.get(name) or DATASETS.get(str(dataset.get("type")))
    if hasattr(kind, "_check_subset_and_metainfo") and not dataset.get("metainfo"):
        # DeepFashion's keypoints are those of the upper, the lower or the full body.
        try:
            kind._check_subset_and_metainfo(dataset.get("subset", ""))
        except Exception as error:
            raise StageError(
                f"{config.filename}: {loader}.dataset.subset is {dataset.get('subset')!r}, which "
                f"{name} does not know"
            ) from error
    metainfo = dataset.get("metainfo") or getattr(kind, "METAINFO", None)
    if not metainfo:
        raise StageError(
            f"{config.filename}: {loader}.dataset.type is {dataset.get('type')!r}; expected "
            "a dataset of mmpose, for its keypoint names, flip pairs and sigmas"
        )
    tested = _keypoint_set(metainfo, f"{config.filename}: {loader}.dataset.metainfo")
    given = _part(config, "model").get("metainfo")
    mirrored = _keypoint_set(given, f"{config.filename}: model.metainfo") if given else tested
    picked = _part(config, "model.test_cfg", default={}).get("output_keypoint_indices")
    channels = _part(config, "model.head").get("out_channels", len(mirrored.names))
    width = codec(config).channels
    if picked is None:
        picked = list(range(len(mirrored.names)))
    elif not given and len(tested.names) == len(picked):
        # The set of all heatmaps is nowhere: mirror partners are those of what comes out.
        _check_picked(config, picked, channels // width)
        return tested
    if channels != len(mirrored.names) * width:
        raise StageError(
            f"{config.filename}: the head has {channels} heatmaps, but its dataset has "
            f"{len(mirrored.names)} keypoints with {width} each"
        )
    _check_picked(config, picked, len(mirrored.names))
    return _pick(config, picked, tested, mirrored)


def _check_picked(config: Any, picked: Any, count: int) -> None:
    """Refuses indices that are not different numbers below a count."""
    known = isinstance(picked, list | tuple) and all(index in range(count) for index in picked)
    if not known or not picked or len(set(picked)) != len(picked):
        raise StageError(
            f"{config.filename}: model.test_cfg.output_keypoint_indices is {keys.shown(picked)}; "
            f"expected different numbers from 0 to {count - 1}, the last keypoint of the heatmaps"
        )


def _pick(config: Any, picked: list[int], tested: Keypoints, mirrored: Keypoints) -> Keypoints:
    """Returns the picked keypoints.

    Args:
        config: is named in messages.
        picked: which of the heatmaps' keypoints come out.
        tested: the set of the dataset: of those that come out, or of all.
        mirrored: the set of the heatmaps.
    """
    for index in picked:
        partner = mirrored.flip_indices[index]
        if partner not in picked:
            raise StageError(
                f"{config.filename}: model.test_cfg.output_keypoint_indices has {index} "
                f"({mirrored.names[index]}), but not its mirror partner {partner} "
                f"({mirrored.names[partner]}), which the flip test needs; give both"
            )
    if len(tested.names) not in (len(picked), len(mirrored.names)):
        raise StageError(
            f"{config.filename}: model.metainfo and output_keypoint_indices give {len(picked)} "
            f"keypoints, but {_loader(config)}.dataset has {len(tested.names)}; expected as many"
        )
    rows = range(len(picked)) if len(tested.names) == len(picked) else picked
    new = {row: number for number, row in enumerate(rows)}
    return Keypoints(
        names=[tested.names[row] for row in rows],
        flip_indices=[picked.index(mirrored.flip_indices[index]) for index in picked],
        sigmas=[tested.sigmas[row] for row in rows] if tested.sigmas else [],
        skeleton=[(new[a], new[b]) for a, b in tested.skeleton if a in new and b in new],
    )


def _keypoint_set(metainfo: Any, place: str) -> Keypoints:
    """Reads a keypoint set of mmpose, as its `parse_pose_metainfo` does.

    Keypoints are numbered by their keys, whatever order and type these have, as in dumped configs.

    Raises:
        StageError: something is missing in it or does not fit; the text begins with `place`.
    """
    if isinstance(metainfo, str):  # in pure Python style, `CocoDataset.METAINFO`
        from mmengine.utils import get_object_from_string

        metainfo = get_object_from_string(metainfo) or metainfo
    if isinstance(metainfo, dict) and "from_file" in metainfo:
        metainfo, place = _metainfo_of(metainfo["from_file"], place)
    if not isinstance(metainfo, dict):
        raise StageError(f"{place} is {keys.shown(metainfo)}; expected a section, dict(...)")
    # mmpose asks for all of these.
    for key in ("dataset_name", "keypoint_info", "skeleton_info", "joint_weights", "sigmas"):
        if metainfo.get(key) is None:
            raise StageError(f"{place}: `{key}` is missing; a keypoint set of mmpose has it")
    try:
        entries = {int(key): entry for key, entry in metainfo["keypoint_info"].items()}
        names = [str(entries[index]["name"]) for index in range(len(entries))]
        partners = [str(entries[index].get("swap") or names[index]) for index in range(len(names))]
        links = [tuple(map(str, entry["link"])) for entry in metainfo["skeleton_info"].values()]
        sigmas = [float(np.float32(sigma)) for sigma in metainfo["sigmas"]]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StageError(
            f"{place}: not a keypoint set of mmpose; expected keypoint_info={{0: dict(name=..., "
            "swap=...), 1: ...}, skeleton_info={0: dict(link=(name, name)), ...}, sigmas=[...]"
        ) from error
    for name, partner in zip(names, partners, strict=True):
        if names.count(name) > 1:
            raise StageError(f"{place}.keypoint_info has {name!r} twice; expected different names")
        if partner not in names or partners[names.index(partner)] != name:
            found = "is no keypoint" if partner not in names else "has another partner"
            raise StageError(
                f"{place}.keypoint_info: the `swap` of {name!r} is {partner!r}, which {found}; "
                "expected mirror partners to name each other"
            )
    for link in links:
        if len(link) != 2 or not set(link) <= set(names):
            raise StageError(f"{place}.skeleton_info links {link}; expected two keypoints by name")
    if len(sigmas) not in (0, len(names)) or not all(0 < sigma < math.inf for sigma in sigmas):
        raise StageError(
            f"{place}.sigmas are {len(sigmas)} numbers; expected {len(names)} above 0, one for "
            "each keypoint, or none"
        )
    return Keypoints(
        names=names,
        flip_indices=[names.index(partner) for partner in partners],
        sigmas=sigmas,
        skeleton=[(names.index(a), names.index(b)) for a, b in links],
    )


def _metainfo_of(file: Any, place: str) -> tuple[Any, str]:
    """Reads the file that a metainfo names; those of mmpose's own datasets are in its package."""
    import mmpose
    from mmengine.config import Config

    path = Path(str(file))
    if not path.is_file() and path.parts[-3:-1] == ("_base_", "datasets"):
        package = Path(str(mmpose.__file__)).parent
        path = package / ".mim" / "configs" / "_base_" / "datasets" / path.name
    if not path.is_file():
        raise StageError(f"{place}.from_file: {file}: there is no such file")
    try:
        return Config.fromfile(str(path)).to_dict().get("dataset_info"), f"{path}: dataset_info"
    except (Exception, SystemExit) as error:
        raise StageError(f"{path}: cannot be read as a keypoint set: {said(error)}") from error
