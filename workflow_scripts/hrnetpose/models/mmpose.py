"""Models of mmpose: read their configs, build them, run them.

mmpose is imported with placeholders for the compiled packages that its import chain asks for
(placeholders.py).
"""

import importlib
import re
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hrnetpose.models import (
    bounds,
    checkpoint,
    config_file,
    keypoints,
    keys,
    modules,
    placeholders,
    settings,
)
from hrnetpose.stage import StageError

_INSTALL = "install envs/requirements-mmpose.txt with pip install --no-deps"
_TOO_LARGE = re.compile("can't allocate memory|overflow", re.IGNORECASE)
"""What PyTorch says of a tensor that is too large."""
_READERS = (
    settings.check_numbers,
    settings.check_keys,
    settings.read_normalisation,
    settings.read_crop,
    settings.read_codec,
    keypoints.read_keypoints,
    settings.read_evaluation,
)


def import_mmpose() -> types.ModuleType:
    """Import mmpose's models and registry, with placeholders for missing packages.

    Raises:
        StageError: mmpose, mmcv-lite or mmengine is missing.
    """
    placeholders.install()
    try:
        with _without_warnings(), placeholders.without_training():
            import mmpose
            import mmpose.datasets.datasets
            import mmpose.models
            import mmpose.registry
    except ImportError as error:
        raise StageError(f"mmpose cannot be imported ({error}); {_INSTALL}") from error
    from mmengine.registry import DefaultScope

    if not DefaultScope.check_instance_created("mmpose"):
        DefaultScope.get_instance("mmpose", scope_name="mmpose")
    return mmpose


@contextmanager
def _without_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_config(config: str) -> Any:
    """Read an mmpose config, and check that this project can evaluate its model.

    A config is a program: reading it runs it.  All forms that mmengine reads are understood; types
    come out as names, whether the config has names, classes or paths.

    Args:
        config: a path, or the name of a config in the mmpose package.

    Returns:
        mmengine's Config.

    Raises:
        StageError: the file cannot be read, describes a model of another kind, contradicts itself
            or has a key that is not supported; the message names the file and the key.
    """
    path = config_file.find(config)
    import_mmpose()
    from mmengine.config import Config

    try:
        with _without_warnings():
            content = Config.fromfile(str(path)).to_dict()
    except (Exception, SystemExit) as error:  # a config is Python: anything can come out of it
        raise StageError(
            f"{path}: cannot be read as an mmpose config: {settings.describe_error(error)}"
        ) from error
    parsed = Config(content, filename=str(path))
    model = parsed.get("model")
    if isinstance(model, dict) and parsed.get("data_preprocessor"):
        model.setdefault("data_preprocessor", parsed.data_preprocessor)
    try:
        for read in _READERS:
            read(parsed)
    except StageError:
        raise
    except Exception as error:
        raise StageError(
            f"{path}: a key of it has a value of another kind than mmpose takes: "
            f"{settings.describe_error(error)}"
        ) from error
    return parsed


def build_model(
    config: Any, weights: Path | None, seed: int = 0, notes: list[str] | None = None
) -> Any:
    """Build a pose estimator in evaluation mode.

    Args:
        config: what `read_config` returned.
        weights: the checkpoint, or None for initial weights.
        seed: what initial weights are drawn from.
        notes: a list to which what a user should know of the checkpoint is added.

    Returns:
        mmpose's TopdownPoseEstimator, a torch module on the CPU in fp32.

    Raises:
        StageError: the model cannot be built, or the checkpoint is not for it.
    """
    model = build(describe(config), config.filename, seed)
    if weights is not None:
        found = checkpoint.load(model, weights, config.filename)
        if notes is not None:
            notes += found
    return model


def describe(config: Any) -> dict[str, Any]:
    """Return the description of a config's model that `build` takes."""
    return config.model.to_dict()


def build(description: dict[str, Any], source: str, seed: int = 0) -> Any:
    """Build a pose estimator with initial weights, in evaluation mode.

    Args:
        description: what `describe` returned.
        source: the file it comes from, for messages.
        seed: what the weights are drawn from.

    Raises:
        StageError: mmpose cannot build it, or it is larger than any model.
    """
    import torch

    mmpose = import_mmpose()
    description = _without_mmdet(description)
    if str(description["backbone"].get("type")).startswith("mmpretrain."):
        try:
            with _without_warnings():
                importlib.import_module("mmpretrain.models")
        except ImportError as error:
            raise StageError(
                f"{source}: its backbone is one of mmpretrain, which cannot be imported ({error}); "
                f"{_INSTALL}"
            ) from error
    torch.manual_seed(seed)
    try:
        with bounds.watch(description):
            return mmpose.registry.MODELS.build(description).eval()
    except StageError as error:
        raise StageError(f"{source}: {error}") from error
    except Exception as error:
        reason = settings.describe_error(error)
        if isinstance(error, MemoryError) or _TOO_LARGE.search(reason):
            reason = f"it does not fit into the memory; {bounds.blame(description)}"
        raise StageError(f"{source}: mmpose cannot build the model: {reason}") from error


def _without_mmdet(description: dict[str, Any]) -> dict[str, Any]:
    """Return a description whose CSPNeXt is mmpose's: mmdet's is equal (docs/models.md)."""
    backbone = dict(description["backbone"])
    kind = str(backbone.get("type"))
    if keys.short(kind) == "CSPNeXt" and "mmdet" in (
        backbone.pop("_scope_", None),
        kind.partition(".")[0],
    ):
        backbone["type"] = "CSPNeXt"
        return {**description, "backbone": backbone}
    return description


def modules_of(config: Any, estimator: Any) -> dict[str, str]:
    """Return the modules that a model needs beside mmpose, with the SHA-256 of their files."""
    named = (config.get("custom_imports") or {}).get("imports") or []
    return modules.find_used(estimator, [named] if isinstance(named, str) else named)


def outputs(estimator: Any, images: Any) -> tuple[Any, ...]:
    """Run backbone, neck and head.

    Args:
        estimator: what `build_model` returned.
        images: float tensor [N, 3, H, W], normalised.

    Returns:
        What its card names as `outputs`, in order: heatmaps, tensor [N, C, h, w], those of the last
        stage, which mmpose evaluates; or SimCC's vectors, [N, C, Wx] and [N, C, Wy].  They are for
        the keypoints that `output_keypoint_indices` picks.
    """
    found = estimator(images, None, mode="tensor")
    if isinstance(found, list):  # of stages; a tuple is of outputs
        found = found[-1]
    tensors = found if isinstance(found, tuple) else (found,)
    indices = estimator.test_cfg.get("output_keypoint_indices")
    if indices is None:
        return tensors
    width = 3 if getattr(estimator.head.decoder, "heatmap_type", "") == "combined" else 1
    channels = [index * width + offset for index in indices for offset in range(width)]
    rows = tensors[0].new_tensor(channels).long()
    return tuple(tensor.index_select(1, rows) for tensor in tensors)
