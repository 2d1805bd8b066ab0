"""The modules that a model's classes come from: what must be imported to build it.

A config imports modules of the user's own (`custom_imports`, or plain `import`), and mmpretrain's
are imported for it.  An engine that holds only tensors and a description names them with the hashes
of their files, so that another process can build the same model or say why it cannot.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from hrnetpose import files
from hrnetpose.models.reading import is_own
from hrnetpose.stage import StageError

_ALWAYS_THERE = ("torch", "mmpose", "mmcv", "mmengine")
"""The backend's own packages; an engine is checked against their versions."""


def find_used(estimator: Any, imported: Iterable[str]) -> dict[str, str]:
    """Return the modules that a model needs, with the SHA-256 of their files.

    Args:
        estimator: the model, built.
        imported: the modules that its config imports; those that are missing are left out.
    """
    names = {*imported, *(type(part).__module__ for part in estimator.modules())}
    hashes: dict[str, str] = {}
    queue = [name for name in names if name.partition(".")[0] not in _ALWAYS_THERE]
    while queue:
        name = queue.pop()
        file = _find_file(name)
        if name in hashes or not file:
            continue
        hashes[name] = files.sha256(file)
        if is_own(file):
            parts = _list_parts(sys.modules[name])
            queue += [part for part in parts if (found := _find_file(part)) and is_own(found)]
    return dict(sorted(hashes.items()))


def require(modules: Mapping[str, str], engine: Path, remedy: str) -> None:
    """Import the modules that an engine was built with.

    Args:
        modules: what `find_used` returned.
        engine: its file, for messages.
        remedy: how to build it again.

    Raises:
        StageError: one is missing, or its file has changed.
    """
    for name, digest in modules.items():
        try:
            spec = importlib.util.find_spec(name)
        except ImportError:  # of its package
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
    # None is run before all are checked.
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # the user's own code
            raise StageError(f"{engine}: module {name} cannot be imported: {error}") from error


def _list_parts(module: ModuleType) -> set[str]:
    """Return the package that a module is in, and the modules that its names come from."""
    names = {module.__name__.rpartition(".")[0]}
    for value in vars(module).values():
        key = "__name__" if isinstance(value, ModuleType) else "__module__"
        names.add(str(getattr(value, key, "")))
    return names


def _find_file(name: str) -> Path | None:
    file = getattr(sys.modules.get(name), "__file__", None)
    return Path(file) if file else None
