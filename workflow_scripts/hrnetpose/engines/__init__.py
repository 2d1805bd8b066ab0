"""The backends.  A new one is a module here and its name in `BACKENDS`."""

import importlib
from pathlib import Path
from typing import Any

from hrnetpose.artifacts.engine import ENGINE_CARD, EngineCard
from hrnetpose.backend_rules import BackendRules
from hrnetpose.engines.folder import EngineFolder, suggest_rebuild
from hrnetpose.engines.plugin import Backend
from hrnetpose.stage import StageError

AUTO = ("tensorrt", "openvino", "onnxruntime", "pytorch")
"""Order in which `backend: auto` tries them."""
BACKENDS = (*AUTO, "tensorrt_rtx", "igie", "ixrt")


def backend(name: str) -> Backend[Any]:
    """Return a backend by name; imports none of its packages."""
    return importlib.import_module(f"hrnetpose.engines.{name}").BACKEND


def resolve(name: str) -> str:
    """Return the backend that `auto` means on this machine; other names are returned unchanged."""
    if name != "auto":
        return name
    return next((name for name in AUTO if backend(name).can_run()), "openvino")


def rules() -> dict[str, BackendRules]:
    """Return what the configuration has to know of each backend."""
    return {name: backend(name) for name in BACKENDS}


def read(folder: Path) -> EngineFolder[Any]:
    """Read an engine's card and check the engine file and this machine against it.

    Args:
        folder: holds engine.bin and engine.json.

    Raises:
        StageError: the engine is missing, damaged or built for something else, or its backend
            cannot run here.
    """
    card_file = folder / ENGINE_CARD
    with suggest_rebuild(folder):
        card = EngineCard.read(card_file)
        if card.backend not in BACKENDS:
            raise StageError(
                f"{card_file}: backend {card.backend!r} is unknown; known: {', '.join(BACKENDS)}"
            )
        plugin = backend(card.backend)
        built = EngineFolder(folder, card, plugin, plugin.parse_options(card.options, card_file))
    plugin.require(built.options)
    with suggest_rebuild(folder):
        built.check()
    return built
