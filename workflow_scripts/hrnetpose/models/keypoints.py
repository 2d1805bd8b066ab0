"""The keypoints that a model gives out: the set of its dataset, or some of it."""

import difflib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import ValidationError

from hrnetpose import stage
from hrnetpose.artifacts.model import Keypoints
from hrnetpose.models import keys, sections, settings
from hrnetpose.models.static import Reader, find_package
from hrnetpose.stage import StageError, shown

_REQUIRED = ("dataset_name", "keypoint_info", "skeleton_info", "joint_weights", "sigmas")
"""Keys without which mmpose does not take a keypoint set."""


def read_keypoints(config: Any) -> Keypoints:
    """Return the keypoints that a model gives out.

    They are those of the dataset that the config tests on.  `model.metainfo` is of the channels: it
    says how they mirror, and `test_cfg.output_keypoint_indices` picks from them.  mmpose picks
    after the flip test and decoding, which is the same as before if mirror partners stay together.

    Args:
        config: what `mmpose.read_config` returned.

    Raises:
        StageError: the config names no dataset of mmpose, or its keypoint set or the indices are
            invalid.
    """
    tested = _load(*_find_tested(config))
    given = sections.get(config, "model", "metainfo")
    mirrored = _load(given, f"{config.filename}: model.metainfo") if given else tested
    picked = sections.get(config, "model", "test_cfg", "output_keypoint_indices")
    channels = settings.require(config, "model.head").get("out_channels", len(mirrored.names))
    width = settings.read_codec(config).channels
    if picked is not None:
        _check_indices(config, picked, channels // width)
        if not given and len(picked) == len(tested.names):
            # The set of all channels is nowhere: mirror partners are those of what comes out.
            return tested
    if channels != len(mirrored.names) * width:
        raise StageError(
            f"{config.filename}: the head has {shown(channels)} channels, but its dataset has "
            f"{len(mirrored.names)} keypoints with {width} each"
        )
    everything = range(len(mirrored.names))
    return _pick(config, everything if picked is None else picked, tested, mirrored)


def parse(metainfo: Any, place: str) -> Keypoints:
    """Parse a keypoint set of mmpose, as its `parse_pose_metainfo` does.

    Keypoints are numbered by their keys, which are texts and in any order in a dumped config.

    Raises:
        StageError: a key is missing or invalid; the message begins with `place`.
    """
    if not isinstance(metainfo, dict):
        raise StageError(f"{place} is {shown(metainfo)}; expected a section, dict(...)")
    for key in _REQUIRED:
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
            raise StageError(
                f"{place}.keypoint_info has {shown(name)} twice; expected different names"
            )
        if partner not in names or partners[names.index(partner)] != name:
            reason = "is no keypoint" if partner not in names else "has another partner"
            raise StageError(
                f"{place}.keypoint_info: the `swap` of {shown(name)} is {shown(partner)}, which "
                f"{reason}; expected mirror partners to name each other"
            )
    for link in links:
        if len(link) != 2 or not set(link) <= set(names):
            raise StageError(
                f"{place}.skeleton_info links {shown(link)}; expected two keypoints by name"
            )
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


def read_set(value: Any, place: str) -> Keypoints:
    """Return a keypoint set of mmpose by its name, or one that is given in full.

    Args:
        value: a name; mmpose's `dataset_info`; or the names, flip_indices, sigmas and skeleton of a
            model card.
        place: for messages.

    Raises:
        StageError: it is no such set.
    """
    if isinstance(value, str):
        return _read_named(value, place)
    if isinstance(value, dict) and "keypoint_info" in value:
        return parse(value, place)
    try:
        return Keypoints.model_validate(value)
    except ValidationError as error:
        raise StageError(f"{place}: {sections.describe_invalid(error)}") from error


def _read_named(name: str, place: str) -> Keypoints:
    """Return a keypoint set of mmpose by its name, that of a file in configs/_base_/datasets/.

    Raises:
        StageError: mmpose has none of that name, or is not installed; the message begins with
            `place`.
    """
    folder = find_package("mmpose") / ".mim" / "configs" / "_base_" / "datasets"
    names = [path.stem for path in sorted(folder.glob("*.py"))]
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        guess = f" (did you mean {close[0]}?)" if close else ""
        raise StageError(
            f"{place} is {shown(name)}; mmpose has no keypoint set of that name{guess}; expected "
            f"one of {', '.join(names)}, or the set in full"
        )
    path = folder / f"{name}.py"
    return parse(Reader().read(path).get("dataset_info"), f"{path}: dataset_info")


def select_rows(picked: Sequence[int], count: int) -> Sequence[int]:
    """Return which keypoints of the dataset's set the model gives out.

    Args:
        picked: which keypoints of the channels it gives out.
        count: of the dataset's set, which is that of the heatmaps, or already that of the output.
    """
    return range(count) if len(picked) == count else picked


def _find_tested(config: Any) -> tuple[Any, str]:
    """Return the metainfo of the dataset that the config tests on, and its place for messages."""
    from mmpose.registry import DATASETS

    loader = sections.find_loader(config)
    place = f"{config.filename}: {loader}.dataset"
    dataset = settings.read_dataset(config, loader)
    name = keys.short(dataset.get("type"))
    kind = DATASETS.get(name) or DATASETS.get(str(dataset.get("type")))
    if hasattr(kind, "_check_subset_and_metainfo") and not dataset.get("metainfo"):
        # DeepFashion's keypoints are those of the upper, the lower or the full body.
        try:
            kind._check_subset_and_metainfo(dataset.get("subset", ""))
        except Exception as error:
            raise StageError(
                f"{place}.subset is {shown(dataset.get('subset'))}, which {name} does not know"
            ) from error
    metainfo = dataset.get("metainfo") or getattr(kind, "METAINFO", None)
    if not metainfo:
        raise StageError(
            f"{place}.type is {shown(dataset.get('type'))}; expected a dataset of mmpose, for its "
            "keypoint names, flip pairs and sigmas"
        )
    return metainfo, f"{place}.metainfo"


def _load(metainfo: Any, place: str) -> Keypoints:
    """Parse a keypoint set that is a section, in a file, or an attribute of a class."""
    from mmengine.config import Config
    from mmengine.utils import get_object_from_string

    if isinstance(metainfo, str):  # in pure Python style, `CocoDataset.METAINFO`
        metainfo = get_object_from_string(metainfo) or metainfo
    if isinstance(metainfo, dict) and "from_file" in metainfo:
        path = sections.find_metainfo(metainfo["from_file"], place)
        try:
            metainfo = Config.fromfile(str(path)).to_dict().get("dataset_info")
        except (Exception, SystemExit) as error:
            raise StageError(
                f"{path}: cannot be read as a keypoint set: {settings.describe_error(error)}"
            ) from error
        place = f"{path}: dataset_info"
    return parse(metainfo, place)


def _check_indices(config: Any, picked: Any, count: int) -> None:
    """Refuse indices that are not different numbers below a count."""
    numbers = isinstance(picked, list | tuple) and all(index in range(count) for index in picked)
    if not numbers or not picked or len(set(picked)) != len(picked):
        raise StageError(
            f"{config.filename}: model.test_cfg.output_keypoint_indices is {shown(picked)}; "
            f"expected different numbers from 0 to {count - 1}, the last keypoint of the model"
        )


def _pick(config: Any, picked: Sequence[int], tested: Keypoints, mirrored: Keypoints) -> Keypoints:
    """Return the keypoints that come out.

    Args:
        config: for messages.
        picked: which keypoints of the channels come out.
        tested: the set of the dataset: of those that come out, or of all.
        mirrored: the set of the channels.
    """
    for index in picked:
        partner = mirrored.flip_indices[index]
        if partner not in picked:
            raise StageError(
                f"{config.filename}: model.test_cfg.output_keypoint_indices has {index} "
                f"({stage.name(mirrored.names[index])}), but not its mirror partner {partner} "
                f"({stage.name(mirrored.names[partner])}), which the flip test needs; give both"
            )
    if len(tested.names) not in (len(picked), len(mirrored.names)):
        raise StageError(
            f"{config.filename}: model.metainfo and output_keypoint_indices give {len(picked)} "
            f"keypoints, but {sections.find_loader(config)}.dataset has {len(tested.names)}; "
            "expected as many"
        )
    rows = select_rows(picked, len(tested.names))
    numbers = {row: number for number, row in enumerate(rows)}
    return Keypoints(
        names=[tested.names[row] for row in rows],
        flip_indices=[picked.index(mirrored.flip_indices[index]) for index in picked],
        sigmas=[tested.sigmas[row] for row in rows] if tested.sigmas else [],
        skeleton=[(numbers[a], numbers[b]) for a, b in tested.skeleton if {a, b} <= numbers.keys()],
    )
