"""Models of mmpose, without the compiled packages that its import chain asks for.

`import mmpose.models` wants mmdet, torchvision, mmcv's compiled operators, xtcocotools and
chumpy; mmpretrain, which has the backbones of ViTPose, wants some more.  No top-down heatmap model
calls any of them, so placeholders stand in for those that are not installed: they import, and say
what is missing when something tries to use them.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import re
import sys
import types
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hrnetpose.models import bounds, checkpoint, config_file, modules, settings
from hrnetpose.stage import StageError

# What mmpose and mmpretrain import -> the module that tells whether it is really there.  mmcv-lite
# has the Python half of mmcv.ops, but not the compiled one.
_NEVER_CALLED = {
    "mmdet": "mmdet",
    "torchvision": "torchvision",
    "mmcv.ops": "mmcv._ext",
    "xtcocotools": "xtcocotools",
    "chumpy": "chumpy",
    "einops": "einops",
    "mat4py": "mat4py",
    "modelindex": "modelindex",
}
_OF_SIZE = re.compile("can't allocate memory|overflow", re.IGNORECASE)
"""What PyTorch says of a tensor that is too large."""
_PKG_RESOURCES = "pkg_resources"
"""mmengine asks it where the package of `_base_ = "mmpose::..."` lies; setuptools 82 dropped it."""


class _Placeholder(type):
    """A class of a package that is not there: it has no attributes and no instances."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        # As if the import had failed: mmpretrain then does without the class.
        raise ImportError(f"{cls.__module__}.{cls.__name__}.{name} is not installed")

    def __call__(cls, *args: object, **kwargs: object) -> Any:
        raise ImportError(
            f"{cls.__module__}.{cls.__name__} is needed here, but {cls.__module__} is not installed"
        )


class _PlaceholderModule(types.ModuleType):
    """A module any attribute of which is a class that cannot be used."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = []
        self.__version__ = "0"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Placeholder(name, (), {"__module__": self.__name__})


class _Distribution:
    """The little that mmengine asks pkg_resources of an installed package."""

    def __init__(self, name: str) -> None:
        self._found = importlib.metadata.distribution(name)
        self.location = str(self._found.locate_file(""))

    def has_metadata(self, name: str) -> bool:
        return self._found.read_text(name) is not None

    def get_metadata(self, name: str) -> str:
        return self._found.read_text(name) or ""


class _PlaceholderFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Answers for the packages that are named by mmpose, but not installed."""

    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = packages

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if any(fullname == name or fullname.startswith(f"{name}.") for name in self.packages):
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _PlaceholderModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        if module.__name__ == _PKG_RESOURCES:
            vars(module)["get_distribution"] = _Distribution
            vars(module)["DistributionNotFound"] = importlib.metadata.PackageNotFoundError


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


def import_mmpose() -> types.ModuleType:
    """Imports mmpose's models and registry, with placeholders where packages are missing.

    Raises:
        StageError: mmpose, mmcv-lite or mmengine is missing.
    """
    if not any(isinstance(finder, _PlaceholderFinder) for finder in sys.meta_path):
        missing = [name for name, probe in _NEVER_CALLED.items() if not _installed(probe)]
        if not _installed(_PKG_RESOURCES):
            missing.append(_PKG_RESOURCES)
        sys.meta_path.insert(0, _PlaceholderFinder(missing))
        # The backport that mmpretrain asks for has been part of Python since 3.8.
        sys.modules.setdefault("importlib_metadata", importlib.metadata)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import mmpose
            import mmpose.datasets.datasets
            import mmpose.models
            import mmpose.registry
    except ImportError as error:
        raise StageError(
            f"mmpose cannot be imported ({error}); install envs/requirements-mmpose.txt with "
            "pip install --no-deps"
        ) from error
    from mmengine.registry import DefaultScope

    if not DefaultScope.check_instance_created("mmpose"):
        DefaultScope.get_instance("mmpose", scope_name="mmpose")
    return mmpose


def _import_mmpretrain(config: str) -> None:
    """Imports mmpretrain, whose backbones a config may name.

    Raises:
        StageError: it is missing.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module("mmpretrain.models")
    except ImportError as error:
        raise StageError(
            f"{config}: its backbone is one of mmpretrain, which cannot be imported ({error}); "
            "install envs/requirements-mmpose.txt with pip install --no-deps"
        ) from error


def read_config(config: str) -> Any:
    """Reads an mmpose config, and makes sure that it is a model this project can evaluate.

    A config is a program: reading it runs it.  All forms that mmengine reads are understood; types
    come out as names, whether the config has names, classes or paths.

    Args:
        config: a path, or the name of a config in the mmpose package.

    Returns:
        mmengine's Config.

    Raises:
        StageError: the file cannot be read, describes a model of another kind, contradicts itself
            or has a key that is not supported; the text names the file and the key.
    """
    path = config_file.find(config)
    import_mmpose()
    from mmengine.config import Config

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = Config.fromfile(str(path)).to_dict()
    except (Exception, SystemExit) as error:  # a config is Python: anything can come out of it
        raise StageError(
            f"{path}: cannot be read as an mmpose config: {settings.said(error)}"
        ) from error
    parsed = Config(content, filename=str(path))
    model = parsed.get("model")
    if isinstance(model, dict) and parsed.get("data_preprocessor"):
        model.setdefault("data_preprocessor", parsed.data_preprocessor)
    try:
        settings.check(parsed)
    except StageError:
        raise
    except Exception as error:
        raise StageError(
            f"{path}: a key of it has a value of another kind than mmpose takes: "
            f"{settings.said(error)}"
        ) from error
    return parsed


def build_model(
    config: Any, weights: Path | None, seed: int = 0, notes: list[str] | None = None
) -> Any:
    """Builds a pose estimator in evaluation mode.

    Args:
        config: what `read_config` returned.
        weights: the checkpoint, or None for initial weights.
        seed: what initial weights are drawn from.
        notes: what a user should know of the checkpoint is added to it.

    Returns:
        mmpose's TopdownPoseEstimator, a torch module on the CPU in fp32.

    Raises:
        StageError: the model cannot be built, or the checkpoint is not for it.
    """
    model = build(describe(config), config.filename, seed)
    if weights is not None:
        told = checkpoint.load(model, weights, config.filename)
        if notes is not None:
            notes += told
    return model


def describe(config: Any) -> dict[str, Any]:
    """Returns the description of a config's model that `build` takes."""
    description = config.model.to_dict()
    # The pretrained backbone would be fetched, only to be overwritten by the checkpoint.
    description["backbone"].pop("init_cfg", None)
    return description


def build(description: dict[str, Any], source: str, seed: int = 0) -> Any:
    """Builds a pose estimator with initial weights, in evaluation mode.

    Args:
        description: what `describe` returned.
        source: the file it comes from, for messages.
        seed: what the weights are drawn from.

    Raises:
        StageError: mmpose cannot build it, or it is larger than any model.
    """
    import torch

    mmpose = import_mmpose()
    if str(description["backbone"].get("type")).startswith("mmpretrain."):
        _import_mmpretrain(source)
    torch.manual_seed(seed)
    try:
        with bounds.watch(description):
            return mmpose.registry.MODELS.build(description).eval()
    except StageError as error:
        raise StageError(f"{source}: {error}") from error
    except Exception as error:
        reason = settings.said(error)
        if isinstance(error, MemoryError) or _OF_SIZE.search(reason):
            reason = f"it does not fit into the memory; {bounds.blame(description)}"
        raise StageError(f"{source}: mmpose cannot build the model: {reason}") from error


def modules_of(config: Any, estimator: Any) -> dict[str, str]:
    """Returns the modules that a model needs beside mmpose, with the SHA-256 of their files."""
    named = (config.get("custom_imports") or {}).get("imports") or []
    return modules.used_by(estimator, [named] if isinstance(named, str) else named)


def outputs(estimator: Any, images: Any) -> tuple[Any, ...]:
    """Runs a model as `heatmaps` does; returns what its card names as `outputs`, in order."""
    return (heatmaps(estimator, images),)


def heatmaps(estimator: Any, images: Any) -> Any:
    """Runs backbone, neck and head.

    Args:
        estimator: what `build_model` returned.
        images: float tensor [N, 3, H, W], normalised.

    Returns:
        Tensor [N, C, h, w]; of heads with several stages, the heatmaps of the last one, which are
        those that mmpose evaluates; of the keypoints that `output_keypoint_indices` picks.
    """
    output = estimator(images, None, mode="tensor")
    output = output[-1] if isinstance(output, list | tuple) else output
    indices = estimator.test_cfg.get("output_keypoint_indices")
    if indices is None:
        return output
    width = 3 if getattr(estimator.head.decoder, "heatmap_type", "") == "combined" else 1
    channels = [index * width + offset for index in indices for offset in range(width)]
    return output.index_select(1, output.new_tensor(channels).long())
