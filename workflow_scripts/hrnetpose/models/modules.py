"""The modules that a model's classes come from: what has to be imported before it can be built.

A config imports modules of the user's own (`custom_imports`, or plain `import`), and mmpretrain's
are imported for it.  An engine that holds only tensors and a description names them, each with the
hash of its file, so that another process can build the same model or say why it cannot.
"""

import importlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from hrnetpose import files
from hrnetpose.stage import StageError

_ALWAYS_THERE = ("torch", "mmpose", "mmcv", "mmengine")
"""The backend's own packages; its engines are checked against their versions."""
_INSTALLED = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")]


def used_by(estimator: Any, imported: Iterable[str]) -> dict[str, str]:
    """Returns the modules that a model needs, with the SHA-256 of their files.

    Args:
        estimator: the model, built.
        imported: what its config says is to be imported; what could not be is left out.
    """
    names = {*imported, *(type(part).__module__ for part in estimator.modules())}
    found: dict[str, str] = {}
    waiting = [n for n in names if n.partition(".")[0] not in _ALWAYS_THERE]
    while waiting:
        name = waiting.pop()
        file = getattr(sys.modules.get(name), "__file__", None)
        if name in found or not file:
            continue
        found[name] = files.sha256(Path(file))
        if not _is_installed(Path(file)):
            waiting += [n for n in _parts(sys.modules[name]) if _is_own(n)]
    return dict(sorted(found.items()))


def require(modules: Mapping[str, str], engine: Path, remedy: str) -> None:
    """Imports the modules that an engine was built with.

    Args:
        modules: what `used_by` returned.
        engine: its file, for messages.
        remedy: how to build it again.

    Raises:
        StageError: one is missing, or its file is another one.
    """
    for name, digest in modules.items():
        try:
            spec = importlib.util.find_spec(name)
        except ImportError:  # of the package it is in
            spec = None
        if spec is None or not spec.origin:
            raise StageError(
                f"{engine}: module {name}, with which it was built, is not found; install it, or "
                "put its folder on PYTHONPATH"
            )
        if files.sha256(Path(spec.origin)) != digest:
            raise StageError(
                f"{engine}: module {name} ({spec.origin}) is not the one with which it was built; "
                f"build it again: {remedy}"
            )
    # Only now is any of them run.
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # it is code of the user's own
            raise StageError(f"{engine}: module {name} cannot be imported: {error}") from error


def _parts(module: ModuleType) -> set[str]:
    """Returns the package that a module is in, and the modules that its names come from."""
    names = {module.__name__.rpartition(".")[0]}
    for value in vars(module).values():
        names.add(
            str(getattr(value, "__name__" if isinstance(value, ModuleType) else "__module__", ""))
        )
    return names


def _is_own(name: str) -> bool:
    file = getattr(sys.modules.get(name), "__file__", None)
    return file is not None and not _is_installed(Path(file))


def _is_installed(file: Path) -> bool:
    return any(file.is_relative_to(folder) for folder in _INSTALLED)
