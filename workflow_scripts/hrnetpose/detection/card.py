"""What is known of a detector: its card, mmdeploy's pipeline, and the layouts that people use."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hrnetpose.data.values import read_json
from hrnetpose.detector import DetectorCard
from hrnetpose.stage import StageError, shown

LAYOUTS: dict[str, dict[str, Any]] = {
    "rtmdet": {
        "mean": [103.53, 116.28, 123.675],
        "std": [57.375, 57.12, 58.395],
        "channel_order": "BGR",
    },
    "yolox": {"mean": [0, 0, 0], "std": [1, 1, 1], "channel_order": "BGR"},
}
"""The preprocessing of mmdet's configs (rtmdet_*_coco.py, yolox_*_coco.py)."""
GREY = 114
"""What both pad with."""
_WITHOUT_EFFECT = (
    "LoadImageFromFile",
    "LoadImageFromNDArray",
    "DefaultFormatBundle",
    "ImageToTensor",
    "PackDetInputs",
    "Collect",
)


def complete(card: DetectorCard, pipeline: Path | None) -> DetectorCard:
    """Return a card with what mmdeploy's pipeline and the layout say where it says nothing.

    Args:
        card: as it is given.
        pipeline: the file that its `pipeline` names, once it is here.

    Raises:
        StageError: the pipeline is none, or has a step that is not supported; something is needed
            that nothing says.
    """
    known: dict[str, Any] = {"pad": GREY, **LAYOUTS.get(card.layout or "", {})}
    if pipeline:
        known |= read_pipeline(pipeline)
    found = card.model_copy(
        update={key: value for key, value in known.items() if getattr(card, key) is None}
    )
    for key in ("mean", "std", "channel_order"):
        if getattr(found, key) is None:
            raise StageError(
                f"detector.card.{key}: missing, and nothing else says it; give it, or `layout: "
                f"{'` or `layout: '.join(LAYOUTS)}`, or mmdeploy's `pipeline`"
            )
    return found


def read_pipeline(path: Path) -> dict[str, Any]:
    """Return what mmdeploy's `pipeline.json` says of the input of a detector.

    Raises:
        StageError: it is no such file, or has a step that is not supported.
    """
    found: dict[str, Any] = {}
    for step in _steps(path):
        kind = step.get("type")
        match kind:
            case "Resize":
                if step.get("keep_ratio") is not True:
                    raise StageError(
                        f"{path}: Resize has keep_ratio {shown(step.get('keep_ratio'))}; only "
                        "detectors whose images keep their ratio are supported"
                    )
                found["input"] = _input(step.get("size"), path)
            case "Pad":
                grey = step.get("pad_val", 0)
                grey = grey.get("img", 0) if isinstance(grey, Mapping) else grey
                values = set(grey) if isinstance(grey, list) else {grey}
                if len(values) != 1:
                    raise StageError(f"{path}: Pad has pad_val {shown(grey)}; expected one grey")
                if step.get("size_divisor") != 1:
                    found["pad"] = values.pop()
            case "Normalize":
                found |= {key: step.get(key) for key in ("mean", "std")}
                found["channel_order"] = "RGB" if step.get("to_rgb") else "BGR"
            case _ if kind not in _WITHOUT_EFFECT:
                raise StageError(
                    f"{path}: the step {shown(kind)} is not supported; supported: Resize, Pad, "
                    "Normalize"
                )
    try:
        DetectorCard.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise StageError(f"{path}: {key} is {shown(first['input'])}: {first['msg']}") from error
    return found


def _steps(path: Path) -> list[dict[str, Any]]:
    content = read_json(path, "pipeline.json of mmdeploy")
    try:
        tasks = content["pipeline"]["tasks"]
        steps = next(task["transforms"] for task in tasks if task.get("module") == "Transform")
        if any(task.get("module") == "mmpose" for task in tasks):
            raise StageError(f"{path}: is of a pose model; give the detector's")
        if steps and all(isinstance(step, dict) for step in steps):
            return list(steps)
    except (LookupError, TypeError, AttributeError, StopIteration):
        pass
    raise StageError(
        f"{path}: no pipeline of mmdeploy: expected pipeline.tasks, one of them with transforms"
    )


def _input(size: Any, path: Path) -> str | None:
    """Return the size as the card has it; of two different sides nobody says which is which."""
    sides = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or not all(isinstance(side, int) for side in sides):
        raise StageError(f"{path}: Resize has size {shown(size)}; expected two numbers")
    return f"{sides[0]}x{sides[1]}" if sides[0] == sides[1] else None
