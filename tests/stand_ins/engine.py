"""An engine of slots that a test gives it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hrnetpose.artifacts.model import ModelCard
from hrnetpose.backend_rules import Options
from hrnetpose.engines.base import Engine, OpenRequest
from hrnetpose.engines.slots import Slot


class SlotsEngine(Engine[Options]):
    """Runs what its slots run.

    Args:
        card: of the model; the shapes are its.
        batch: images per inference.
        create_slots: takes the engine.
    """

    def __init__(
        self, card: ModelCard, batch: int, create_slots: Callable[[Engine], Sequence[Slot]]
    ) -> None:
        engine_card: Any = SimpleNamespace(model=card)
        super().__init__(OpenRequest(Path("engine.bin"), engine_card, batch, Options(), threads=1))
        self._create_slots = create_slots

    def _open(self) -> list[Slot]:
        return [*self._create_slots(self)]
