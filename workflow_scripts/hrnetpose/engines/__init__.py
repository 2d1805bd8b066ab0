"""The backends.  Adding one is a module here and its name in `BACKENDS`."""

import importlib
from pathlib import Path

from hrnetpose import files
from hrnetpose.artifacts.engine import ENGINE_CARD, ENGINE_FILE, EngineCard
from hrnetpose.config import BackendRules
from hrnetpose.engines.base import Backend, Engine, check_surroundings, rebuild
from hrnetpose.stage import StageError

AUTO = ("tensorrt", "openvino", "onnxruntime", "pytorch")
"""In the order in which `backend: auto` tries them."""
BACKENDS = (*AUTO, "tensorrt_rtx", "igie", "ixrt")


def backend(name: str) -> Backend:
    """Returns a backend by name; this imports none of its packages."""
    module = importlib.import_module(f"hrnetpose.engines.{name}")
    return module.BACKEND


def resolve(name: str) -> str:
    """Returns the backend that `auto` stands for here, and any other name as it is."""
    if name != "auto":
        return name
    return next((known for known in AUTO if backend(known).runs()), "openvino")


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
    card = read_card(folder)
    return backend(card.backend).open(folder, card, threads), card


def open_engine_at(
    folder: Path, card: EngineCard, threads: int, batch: int, streams: int | None
) -> Engine:
    """Prepares to open a checked engine (`read_card`) at another batch and number of streams.

    Args:
        folder: holds engine.bin.
        card: what `read_card` returned.
        threads: CPU threads to use.
        batch: images per inference; the engine's own, unless `Backend.any_batch`.
        streams: requests that run at the same time; None for a backend without `has_streams`.
    """
    used = backend(card.backend)
    options = {**card.options, **({"streams": streams} if streams else {})}
    return used.open(folder, card.model_copy(update={"batch": batch, "options": options}), threads)


def read_card(folder: Path) -> EngineCard:
    """Reads an engine's card and checks that it describes the engine, which fits this machine.

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
    check_surroundings(card, used, folder)
    file = folder / ENGINE_FILE
    if not file.is_file() or files.sha256(file) != card.sha256:
        raise StageError(
            f"{file}: missing, or not the engine that {ENGINE_CARD} describes; build it again: "
            f"{rebuild(folder)}"
        )
    return card
