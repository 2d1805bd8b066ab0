"""What the JSON files of an mmdeploy export say of its model: pre- and post-processing.

`pipeline.json` has the steps of mmdeploy's SDK, `detail.json` what was exported and how, and
`deploy.json` names the file.  Files of 0.x and 1.x are read.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hrnetpose import stage
from hrnetpose.stage import StageError, shown

FILES = ("pipeline.json", "detail.json", "deploy.json")
LARGEST = 16 << 20
"""Bytes of such a file; those of real exports have some thousand."""
_CROP = ("TopDownGetBboxCenterScale", "GetBBoxCenterScale", "TopDownAffine", "TopdownAffine")
_WITHOUT_EFFECT = (
    "LoadImageFromFile", "LoadImage", "ImageToTensor", "ToTensor", "Collect", "PackPoseInputs",
    "DefaultFormatBundle",
)  # fmt: skip
_CODEC = (
    "sigma", "unbiased", "blur_kernel_size", "heatmap_type", "simcc_split_ratio", "normalize",
    "smoothing_type", "use_dark",
)  # fmt: skip
"""Keys of mmpose's codecs, which mmdeploy 1.x writes among the parameters of the last step."""


def read_files(folder: Path) -> dict[str, Any]:
    """Read those of the files that are in a folder, by name.

    Raises:
        StageError: one is not JSON, or has no sections.
    """
    found: dict[str, Any] = {}
    for name in FILES:
        path = folder / name
        if not path.is_file():
            continue
        if path.stat().st_size > LARGEST:
            raise StageError(f"{path}: has {path.stat().st_size} bytes; it is none of mmdeploy's")
        try:
            found[name] = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise StageError(f"{path}: not JSON: {error}; export the model again") from error
        if not isinstance(found[name], dict):
            raise StageError(f"{path}: {shown(found[name])}; expected a section, as mmdeploy's")
    return found


def find_graph(folder: Path, given: Mapping[str, Any]) -> Path:
    """Return the ONNX file of an export: what `deploy.json` names, or the only one.

    Raises:
        StageError: it is not there, or there are several.
    """
    for model in _list(_get(given.get("deploy.json"), "models")):
        net = _get(model, "net")
        if isinstance(net, str) and Path(net).name == net and os.path.isfile(folder / net):
            return folder / net
    graphs = sorted(folder.glob("*.onnx"))
    if len(graphs) != 1:
        found = ", ".join(path.name for path in graphs) or "none"
        raise StageError(
            f"{folder}: expected one ONNX file in it, or a `deploy.json` that names one; it has "
            f"{found}; give the path of the file"
        )
    return graphs[0]


def read_card(given: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """Return what the files say: key of the card -> value, and the file that has it.

    Args:
        given: what `read_files` returned.

    Raises:
        StageError: they are of no top-down pose model, or have a step that is not supported.
    """
    found: dict[str, tuple[Any, str]] = {}
    detail = given.get("detail.json")
    task = _get(detail, "codebase", "task")
    if task not in (None, "PoseDetection"):
        raise StageError(
            f"detail.json: codebase.task is {shown(task)}; expected PoseDetection, a top-down pose "
            "model"
        )
    if outputs := _get(detail, "onnx_config", "output_names"):
        found["outputs"] = (outputs, "detail.json")
    for step in _list(_get(given.get("pipeline.json"), "pipeline", "tasks")):
        module = _get(step, "module")
        if module == "Transform":
            said = dict(_read_transforms(_list(_get(step, "transforms"))))
        elif module == "Net":
            said = {}
        elif module == "mmpose":
            params = _get(step, "params")
            said = _read_decoding(
                _get(step, "component"), params if isinstance(params, dict) else {}
            )
        else:
            raise StageError(
                f"pipeline.json: a step is of {shown(module)}; expected mmpose: it is no export of "
                "a pose model"
            )
        if "crop" in said and "crop" in found:
            said["crop"] = found["crop"][0] | said["crop"]
        found |= {key: (value, "pipeline.json") for key, value in said.items()}
    return found


def hint(given: Mapping[str, Any]) -> str:
    """Return what `detail.json` says of where the model comes from; empty if it does not."""
    config = _get(given.get("detail.json"), "codebase", "config")
    if not isinstance(config, str):
        return ""
    return f" (detail.json: exported from {stage.name(Path(config).name)})"


def _read_transforms(steps: list[Any]) -> Iterator[tuple[str, Any]]:
    crop: dict[str, Any] = {}
    for step in steps:
        kind = _get(step, "type")
        if kind in _CROP:
            crop |= _read_crop(step)
        elif kind == "Normalize":
            yield "mean", step.get("mean")
            yield "std", step.get("std")
            yield "channel_order", "RGB" if step.get("to_rgb", True) else "BGR"
        elif kind not in _WITHOUT_EFFECT:
            raise StageError(
                f"pipeline.json: has the step {shown(kind)}; supported: "
                f"{', '.join([*_CROP, 'Normalize', *_WITHOUT_EFFECT])}"
            )
    if crop:
        yield "crop", crop


def _read_crop(step: Mapping[str, Any]) -> dict[str, Any]:
    crop: dict[str, Any] = {}
    size = step.get("image_size") or step.get("input_size")
    if isinstance(size, list) and len(size) == 2:
        crop |= {"width": size[0], "height": size[1]}
    if step.get("padding") is not None:
        crop["padding"] = step["padding"]
    if step.get("use_udp") is not None:
        crop["udp"] = step["use_udp"]
    return crop


def _read_decoding(component: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the codec, and what else is said at the step that decodes."""
    said: dict[str, Any] = {}
    if params.get("shift_heatmap") is not None:
        said["flip_shift"] = params["shift_heatmap"]
    if component not in ("SimCCLabelDecode", "TopdownHeatmapSimpleHeadDecode"):
        raise StageError(
            f"pipeline.json: the last step is {shown(component)}; supported: "
            "TopdownHeatmapSimpleHeadDecode, SimCCLabelDecode"
        )
    kind = "SimCCLabel" if component == "SimCCLabelDecode" else params.get("type")
    if kind is None:
        return said | _read_old_decoding(params)
    codec = {key: params[key] for key in _CODEC if params.get(key) is not None}
    if params.get("kernel_size") is not None:  # Megvii's name for it
        codec["blur_kernel_size"] = params["kernel_size"]
    return said | {"codec": {"type": kind, **codec}}


def _read_old_decoding(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the codec that mmpose 0.x's `test_cfg` stands for."""
    kernel = params.get("modulate_kernel", 11)
    if params.get("use_udp"):
        combined = str(params.get("target_type", "")).lower().startswith("combined")
        codec = {
            "type": "UDPHeatmap",
            "heatmap_type": "combined" if combined else "gaussian",
            "blur_kernel_size": kernel,
        }
        return {"codec": codec, "crop": {"udp": True}}
    unbiased = {"type": "MSRAHeatmap", "unbiased": True, "blur_kernel_size": kernel}
    codecs = {
        "default": unbiased if params.get("unbiased_decoding") else {"type": "MSRAHeatmap"},
        "unbiased": unbiased,
        "megvii": {"type": "MegviiHeatmap", "blur_kernel_size": kernel},
    }
    process = params.get("post_process", "default")
    if process not in [*codecs]:
        raise StageError(
            f"pipeline.json: post_process is {shown(process)}; supported: {', '.join(codecs)}"
        )
    return {"codec": codecs[process]}


def _get(section: Any, *path: str) -> Any:
    for key in path:
        section = section.get(key) if isinstance(section, dict) else None
    return section


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
