"""The backends.  Adding one is a module here and its name in `BACKENDS`."""

import importlib
from pathlib import Path

from hrnetpose import files
from hrnetpose.artifacts import ENGINE_CARD, ENGINE_FILE, EngineCard
from hrnetpose.config import BackendRules
from hrnetpose.engines.base import Backend, Engine, check_versions, rebuild
from hrnetpose.stage import StageError

BACKENDS = ("openvino", "onnxruntime", "pytorch")
"""In the order in which `backend: auto` tries them."""


def backend(name: str) -> Backend:
    """Returns a backend by name; this imports none of its packages."""
    module = importlib.import_module(f"hrnetpose.engines.{name}")
    return module.BACKEND


def resolve(name: str) -> str:
    """Returns the backend that `auto` stands for here, and any other name as it is."""
    if name != "auto":
        return name
    return next((known for known in BACKENDS if not backend(known).missing()), BACKENDS[0])


def rules() -> dict[str, BackendRules]:
    """Returns what the configuration must know of each backend."""
    return {
        name: BackendRules(
            graphs=dict(backend(name).graphs),
            options=backend(name).options,
            gpus=backend(name).gpus,
        )
        for name in BACKENDS
    }


def open_engine(folder: Path, threads: int) -> tuple[Engine, EngineCard]:
    """Reads an engine's card, checks that it fits this machine, and prepares to open it.

    Args:
        folder: holds engine.bin and engine.json.
        threads: CPU threads to use.

    Returns:
        The engine, to be used in a `with` statement, and its card.

    Raises:
        StageError: the engine is missing, damaged or was built for something else.
    """
    try:
        card = EngineCard.read(folder / ENGINE_CARD)
    except StageError as error:
        raise StageError(f"{error}; build it again: {rebuild(folder)}") from error
    if card.backend not in BACKENDS:
        raise StageError(
            f"{folder / ENGINE_CARD}: backend {card.backend!r} is unknown; "
            f"known: {', '.join(BACKENDS)}; build it again: {rebuild(folder)}"
        )
    used = backend(card.backend)
    check_versions(card, used, folder)
    file = folder / ENGINE_FILE
    if not file.is_file() or files.sha256(file) != card.sha256:
        raise StageError(
            f"{file}: missing, or not the engine that {ENGINE_CARD} describes; build it again: "
            f"{rebuild(folder)}"
        )
    return used.open(folder, card, threads), card
