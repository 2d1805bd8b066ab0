"""Placeholders for packages that mmpose imports but top-down models never call.

`import mmpose.models` wants mmdet, torchvision, mmcv's compiled operators, xtcocotools and chumpy;
mmpretrain, which has the backbones of ViTPose, wants some more.  A placeholder can be imported, and
says what is missing when something uses it.
"""

import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

_PACKAGES = (
    "mmdet", "torchvision", "mmcv.ops", "xtcocotools", "chumpy", "einops", "mat4py", "modelindex",
    # mmengine looks up the package of `_base_ = "mmpose::..."` with it; setuptools 82 removed it.
    "pkg_resources",
)  # fmt: skip
_PROBES = {"mmcv.ops": "mmcv._ext"}
"""Package -> the part that may be missing: mmcv-lite has the Python half of mmcv.ops."""
_TRAINING = ("scipy.stats", "torch.distributed.optim")
"""What only training uses, though it is imported: half of the seconds of `import mmpose`."""


class _Placeholder(type):
    """A class of a missing package: it has no attributes and no instances."""

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
    """A module of a missing package: each of its attributes is a placeholder class."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = []
        self.__version__ = "0"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Placeholder(name, (), {"__module__": self.__name__})


class _Distribution:
    """What mmengine asks pkg_resources about an installed package."""

    def __init__(self, name: str) -> None:
        self._found = importlib.metadata.distribution(name)
        self.location = str(self._found.locate_file(""))

    def has_metadata(self, name: str) -> bool:
        return self._found.read_text(name) is not None

    def get_metadata(self, name: str) -> str:
        return self._found.read_text(name) or ""


class _PlaceholderFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds and loads placeholders for missing packages."""

    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = packages

    def replaces(self, module: str) -> bool:
        """Return whether a module is one of the packages or in one."""
        return any(module == name or module.startswith(f"{name}.") for name in self.packages)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if self.replaces(fullname):
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _PlaceholderModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        if module.__name__ == "pkg_resources":
            vars(module)["get_distribution"] = _Distribution
            vars(module)["DistributionNotFound"] = importlib.metadata.PackageNotFoundError


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


def install() -> None:
    """Put placeholders in the place of missing packages; a second call does nothing."""
    if any(isinstance(finder, _PlaceholderFinder) for finder in sys.meta_path):
        return
    missing = [name for name in _PACKAGES if not _is_installed(_PROBES.get(name, name))]
    sys.meta_path.insert(0, _PlaceholderFinder(missing))
    # mmpretrain asks for this backport of what Python has had since 3.8.
    sys.modules.setdefault("importlib_metadata", importlib.metadata)


@contextmanager
def without_training() -> Iterator[None]:
    """Import modules without what only their training uses; it can be imported afterwards."""
    finder = _PlaceholderFinder([name for name in _TRAINING if name not in sys.modules])
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in filter(finder.replaces, list(sys.modules)):
            del sys.modules[name]
            package, _, attribute = name.rpartition(".")
            if package in sys.modules:
                vars(sys.modules[package]).pop(attribute, None)
