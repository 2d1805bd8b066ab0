"""What an engine is, whatever runs it.

A backend is a module of this package.  It imports its packages only inside `build` and `open`,
so that planning a run, or a run of another backend, never needs them.
"""

import importlib.util
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from hrnetpose.artifacts import (
    ENGINE_CARD,
    ENGINE_FILE,
    EngineCard,
    ExecutedPrecision,
    ModelCard,
    Precision,
)
from hrnetpose.stage import StageError

Crops = npt.NDArray[np.uint8]
Heatmaps = npt.NDArray[np.float32]


class Options(BaseModel):
    """Options of a backend; those every backend has are here."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    threads: int | None = Field(None, ge=1)
    """CPU threads; by default as many as the job has."""


@dataclass(frozen=True)
class BuildRequest:
    """What an engine is built from.

    Attributes:
        graph: the ONNX graph in the precision that the backend asked for (`Backend.graphs`);
            takes normalised NCHW floats.
        weights: the checkpoint, for a backend that runs the original model; None if untrained.
        card: the model card.
        precision: what the user asked for.
        batch: images per inference; the engine may be fixed to it.
        options: options of the backend, checked.
        threads: how many the job has.
    """

    graph: Path
    weights: Path | None
    card: ModelCard
    precision: Precision
    batch: int
    options: dict[str, Any]
    threads: int


class Engine(AbstractContextManager["Engine"], ABC):
    """An opened engine.  It keeps the device from `__enter__` to `__exit__`."""

    batch: int
    requests: int = 1
    """How many batches it keeps in flight."""

    @abstractmethod
    def infer(self, crops: Crops) -> Heatmaps:
        """Runs one batch and waits for it: uint8 [batch, H, W, 3] RGB -> float32 [batch, K, h, w].

        The array returned belongs to the caller.
        """

    def stream(self, batches: Iterable[Crops]) -> Iterator[Heatmaps]:
        """Runs batches, several at a time where the backend can; results come in order."""
        return map(self.infer, batches)

    @abstractmethod
    def executed(self) -> ExecutedPrecision:
        """What the backend says it runs the heavy layers in."""

    def __exit__(self, *exception: object) -> None:
        """Frees what the engine holds."""
        return None


@dataclass(frozen=True)
class Backend:
    """A plug-in.

    Attributes:
        name: as in the configuration.
        graphs: precision asked for -> precision of the graph it is built from.  Where the two
            differ, the precision is an option of the backend and not a property of the graph.
        packages: the Python packages whose versions make a difference.
        options: the model of its options.
        build: writes the engine file.
        open: opens an engine folder with so many threads.
        device: names the device that it runs on.
        original: it runs the original model, from its checkpoint, instead of the ONNX graph.
        gpus: how many GPUs an engine with these options needs; a cluster gives its jobs so many.
    """

    name: str
    graphs: Mapping[Precision, Precision]
    packages: tuple[str, ...]
    options: type[Options]
    build: Callable[[BuildRequest, Path], None]
    open: Callable[[Path, EngineCard, int], Engine]
    device: Callable[[], str]
    original: bool = False
    gpus: Callable[[Mapping[str, Any]], int] = lambda options: 0

    def missing(self) -> list[str]:
        """Returns the packages that are not installed."""
        return [name for name in self.packages if importlib.util.find_spec(name) is None]

    def require(self) -> None:
        """Raises a StageError that says what to install, if a package is missing."""
        if missing := self.missing():
            raise StageError(
                f"backend {self.name} needs {', '.join(missing)}, which is not installed; "
                f"install it with `pip install -r envs/requirements.txt`, or use another backend"
            )

    def versions(self) -> dict[str, str]:
        """Returns the versions of its packages."""
        return {name: version(name) for name in self.packages}


def rebuild(folder: Path) -> str:
    """Returns the command that builds an engine again."""
    return f"snakemake --cores 4 --forcerun build_engine -- {folder / ENGINE_CARD}"


def check_versions(card: EngineCard, backend: Backend, folder: Path) -> None:
    """Refuses an engine that was built with other versions of the backend's packages.

    Raises:
        StageError: with the remedy.
    """
    backend.require()
    for name, found in backend.versions().items():
        built = card.versions.get(name)
        if built != found:
            raise StageError(
                f"{folder / ENGINE_FILE}: built with {name} {built}, but {found} is installed; "
                f"build it again: {rebuild(folder)}"
            )


def in_order(
    submit: Callable[[int, Crops], None],
    collect: Callable[[int], Heatmaps],
    slots: int,
    batches: Iterable[Crops],
) -> Iterator[Heatmaps]:
    """Keeps `slots` batches in flight and yields their results in order.

    Args:
        submit: starts a batch in a slot.
        collect: waits for a slot and returns its result.
        slots: how many there are.
        batches: what to run.
    """
    busy: deque[int] = deque()
    for number, batch in enumerate(batches):
        slot = number % slots
        if len(busy) == slots:
            yield collect(busy.popleft())
        submit(slot, batch)
        busy.append(slot)
    while busy:
        yield collect(busy.popleft())


def majority(layers: Mapping[str, int]) -> ExecutedPrecision:
    """Returns the precision that most of the heavy layers run in."""
    if not layers:
        return ExecutedPrecision(precision="unknown", layers={})
    most = max(layers, key=lambda name: layers[name])
    return ExecutedPrecision(precision=most, layers=dict(layers))
