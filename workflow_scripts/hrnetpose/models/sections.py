"""Where an mmpose config keeps what this project reads.

The functions take a config that mmengine has run, or the values that static.Reader has read from
one.  The latter may be UNKNOWN, which is false and which `get` passes on.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hrnetpose.artifacts.model import LARGEST_SIDE, Crop
from hrnetpose.models import keys
from hrnetpose.models.expressions import UNKNOWN
from hrnetpose.models.static import find_package
from hrnetpose.stage import StageError, shown


def get(section: Any, *path: str) -> Any:
    """Follow keys through sections; return None where one is missing."""
    for key in path:
        if section is UNKNOWN:
            return UNKNOWN
        section = section.get(key) if hasattr(section, "get") else None
    return section


def find_loader(config: Any) -> str:
    """Return the key of the loader that mmpose's test uses: `test`, or `val` if there is none."""
    return "test_dataloader" if get(config, "test_dataloader") else "val_dataloader"


def find_evaluator(config: Any) -> str:
    """Return the key of the evaluator that mmpose's test uses."""
    return "test_evaluator" if get(config, "test_evaluator") else "val_evaluator"


def find_dataset(config: Any, loader: str) -> Any:
    """Return a loader's dataset; a config without loaders may name its type and pipeline alone."""
    dataset = get(config, loader, "dataset")
    if dataset is None and not get(config, loader):
        dataset = {}
    if not isinstance(dataset, dict):
        return dataset
    alone = {"type": get(config, "dataset_type"), "pipeline": get(config, "val_pipeline")}
    return {**{key: value for key, value in alone.items() if value}, **dataset}


def list_metrics(config: Any, evaluator: str) -> Any:
    """Return the metrics of an evaluator as a list, or what else stands there."""
    given = get(config, evaluator) or []
    if isinstance(given, dict) and "metrics" in given:
        given = given["metrics"]
    return [given] if isinstance(given, dict) else given


def name_steps(pipeline: Any) -> list[tuple[str, Any]]:
    """Return the steps of a pipeline, each with its type; none if it is not a list."""
    steps = pipeline if isinstance(pipeline, list | tuple) else []
    return [(keys.short(get(step, "type")), step) for step in steps]


def parse_size(value: Any, place: str) -> tuple[int, int]:
    """Return a width and a height in pixels.

    Raises:
        StageError: the value is something else; the message begins with `place`.
    """
    match value:
        case [int(width), int(height)] if width > 0 and height > 0:
            if max(width, height) <= LARGEST_SIDE:
                return width, height
    raise StageError(
        f"{place} is {shown(value)}; expected (width, height) in pixels, from 1 to {LARGEST_SIDE}"
    )


def make_crop(size: tuple[int, int], steps: Mapping[str, Any], place: str) -> Crop:
    """Return the crop that a pipeline's steps cut for an input of a width and a height.

    Raises:
        StageError: a value is out of range; the message begins with `place`.
    """
    width, height = size
    given = {field: get(steps, *path) for field, path in keys.CROP.items()}
    known = {field: value for field, value in given.items() if value not in (None, UNKNOWN)}
    try:
        return Crop(width=width, height=height, **known)
    except ValidationError as error:
        raise StageError(f"{place}: {describe_invalid(error)}") from error


def describe_invalid(error: ValidationError) -> str:
    """Return the key, the value and the reason of the first problem."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))} is {shown(first['input'])}: {first['msg']}"


def find_metainfo(file: Any, place: str) -> Path:
    """Return the file of a keypoint set: as it is named, or mmpose's own.

    Raises:
        StageError: there is none; the message begins with `place`.
    """
    path = Path(str(file))
    if os.path.isfile(path):  # Path.is_file raises an error for a name that is too long
        return path
    if path.parts[-3:-1] == ("_base_", "datasets"):
        packaged = find_package("mmpose") / ".mim" / "configs" / "_base_" / "datasets" / path.name
        if os.path.isfile(packaged):
            return packaged
    raise StageError(
        f"{place}.from_file is {shown(file, 300)}; there is no such file, neither from the working "
        "directory nor among mmpose's configs/_base_/datasets/"
    )
