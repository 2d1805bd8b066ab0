"""The backends.  Adding one is a module here and its name in `BACKENDS`."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hrnetpose.artifacts.engine import ENGINE_CARD, EngineCard
from hrnetpose.backend_rules import BackendRules
from hrnetpose.engines.folder import EngineFolder, rebuild_command
from hrnetpose.engines.plugin import Backend
from hrnetpose.recipes import Precision
from hrnetpose.stage import StageError

AUTO = ("tensorrt", "openvino", "onnxruntime", "pytorch")
"""In the order in which `backend: auto` tries them."""
BACKENDS = (*AUTO, "tensorrt_rtx", "igie", "ixrt")


def backend(name: str) -> Backend[Any]:
    """Returns a backend by name; this imports none of its packages."""
    module = importlib.import_module(f"hrnetpose.engines.{name}")
    return module.BACKEND


def resolve(name: str) -> str:
    """Returns the backend that `auto` stands for here, and any other name as it is."""
    if name != "auto":
        return name
    return next((known for known in AUTO if backend(known).can_run()), "openvino")


def rules() -> dict[str, BackendRules]:
    """Returns what the configuration must know of each backend."""
    return {name: _rules_of(backend(name)) for name in BACKENDS}


def _rules_of(used: Backend[Any]) -> BackendRules:
    def gpus(options: Mapping[str, Any]) -> int:
        return used.gpus(used.options.model_validate(options))

    def check(options: Mapping[str, Any], batch: int, precision: Precision) -> None:
        used.options.model_validate(options).check(batch, precision)

    return BackendRules(used.graphs, used.options, gpus, check, used.packages, used.original)


def read(folder: Path) -> EngineFolder[Any]:
    """Reads an engine's card, and checks that it describes the engine, which fits this machine.

    Args:
        folder: holds engine.bin and engine.json.

    Raises:
        StageError: the engine is missing, damaged or was built for something else.
    """
    remedy = f"build it again: {rebuild_command(folder)}"
    try:
        card = EngineCard.read(folder / ENGINE_CARD)
    except StageError as error:
        raise StageError(f"{error}; {remedy}") from error
    if card.backend not in BACKENDS:
        raise StageError(
            f"{folder / ENGINE_CARD}: backend {card.backend!r} is unknown; "
            f"known: {', '.join(BACKENDS)}; {remedy}"
        )
    used = backend(card.backend)
    try:
        options = used.parse_options(card.options, folder / ENGINE_CARD)
    except StageError as error:
        raise StageError(f"{error}; {remedy}") from error
    found = EngineFolder(folder, card, used, options)
    found.check()
    return found
