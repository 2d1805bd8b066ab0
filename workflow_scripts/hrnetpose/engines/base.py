"""What an engine is, whatever runs it.

A backend is a module of this package.  It imports its packages only inside `build` and `open`,
so that planning a run, or a run of another backend, never needs them.
"""

import importlib
import importlib.util
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from hrnetpose import files
from hrnetpose.artifacts.engine import ENGINE_CARD, ENGINE_FILE, EngineCard, ExecutedPrecision
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.recipes import Graph, Precision
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
        cache: a folder in which a backend may keep what makes its next build faster; results do
            not depend on it.
    """

    graph: Path
    weights: Path | None
    card: ModelCard
    precision: Precision
    batch: int
    options: dict[str, Any]
    threads: int
    cache: Path | None = None


@dataclass(frozen=True)
class Phases:
    """Where the seconds of one blocking call went."""

    copy_in: float
    inference: float
    copy_out: float


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

    def device_times(self, crops: Crops, count: int) -> list[float] | None:
        """Returns what the device alone needs for a batch, measured `count` times.

        The batch lies on the device before the first run; nothing is copied to it or from it.  The
        host goes on while the device works, so that its part shows only where the device has to
        wait for it.  It is what trtexec calls GPU compute time.

        Args:
            crops: uint8 [batch, H, W, 3] RGB.
            count: how many runs are measured, one after the other.

        Returns:
            Seconds between two events of the device, for each run; None where the backend has no
            such clock.
        """
        return None

    def infer_in_phases(self, crops: Crops) -> tuple[Heatmaps, Phases]:
        """Runs one batch as `infer` does, and tells copies from inference where the backend can.

        Here everything is inference.
        """
        start = time.perf_counter()
        heatmaps = self.infer(crops)
        return heatmaps, Phases(0.0, time.perf_counter() - start, 0.0)

    @abstractmethod
    def executed(self) -> ExecutedPrecision:
        """What the backend says it runs the heavy layers in."""

    def __exit__(self, *exception: object) -> None:
        """Frees what the engine holds."""
        return None


def _nothing(options: Mapping[str, Any]) -> str | None:
    return None


@dataclass(frozen=True)
class Backend:
    """A plug-in.

    Attributes:
        name: as in the configuration.
        graphs: precision asked for -> the graph it is built from.  Where that has another
            precision, the precision is an option of the backend and not a property of the graph.
        packages: the Python packages that it needs.
        options: the model of its options.
        build: writes the engine file; returns the modules that its model is made of, with the
            SHA-256 of their files, where opening it has to import them.
        open: opens an engine folder with so many threads.
        device: names the device that it runs on with these options.
        lacking: says in words what this machine lacks to run it with these options; None: nothing.
            With default options it is cheap and imports none of the packages.
        built_for: what must be the same where an engine is loaded as where it was built, by name,
            for a batch and options; by default the versions of the packages.
        builds_anywhere: it needs no device to build.
        original: it runs the original model, from its checkpoint, instead of the ONNX graph.
        gpus: how many GPUs an engine with these options needs; a cluster gives its jobs so many.
        install: how to install its packages.
        any_batch: an engine can be opened at any batch, not only at its own.
    """

    name: str
    graphs: Mapping[Precision, Graph]
    packages: tuple[str, ...]
    options: type[Options]
    build: Callable[[BuildRequest, Path], Mapping[str, str] | None]
    open: Callable[[Path, EngineCard, int], Engine]
    device: Callable[[Mapping[str, Any]], str]
    lacking: Callable[[Mapping[str, Any]], str | None] = _nothing
    built_for: Callable[[int, Mapping[str, Any]], dict[str, str]] | None = None
    builds_anywhere: bool = False
    original: bool = False
    gpus: Callable[[Mapping[str, Any]], int] = lambda options: 0
    install: str = "`pip install -r envs/requirements.txt`"
    any_batch: bool = False

    @property
    def has_streams(self) -> bool:
        """Tells whether the number of requests that run at the same time is an option."""
        return "streams" in self.options.model_fields

    def missing(self) -> list[str]:
        """Returns the packages that are not installed."""
        return [name for name in self.packages if importlib.util.find_spec(name) is None]

    def runs(self) -> bool:
        """Tells whether it can run here with its default options."""
        return not self.missing() and self.lacking({}) is None

    def require(self, options: Mapping[str, Any], device: bool = True) -> None:
        """Refuses what cannot run here.

        Args:
            options: the variant's.
            device: the device is needed as well as the packages.

        Raises:
            StageError: it says what is missing and what to do.
        """
        if missing := self.missing():
            raise StageError(
                f"backend {self.name} needs {', '.join(missing)}, which is not installed; "
                f"install it with {self.install}, or use another backend"
            )
        if device and (reason := self.lacking(options)):
            raise StageError(f"backend {self.name} cannot run here: {reason}")

    def versions(self) -> dict[str, str]:
        """Returns the versions of its packages."""
        return {name: package_version(name) for name in self.packages}

    def surroundings(self, batch: int, options: Mapping[str, Any]) -> dict[str, str]:
        """Returns what an engine that is built here is built for."""
        return self.built_for(batch, options) if self.built_for else self.versions()


def rebuild(folder: Path) -> str:
    """Returns the command that builds an engine again."""
    return f"snakemake --cores 4 --forcerun build_engine -- {folder / ENGINE_CARD}"


def package_version(name: str) -> str:
    """Returns an installed package's version.

    Its distribution may have another name (`onnxruntime-gpu`); then the package itself is asked.
    """
    try:
        return version(name)
    except PackageNotFoundError:
        return str(getattr(importlib.import_module(name), "__version__", "unknown"))


def check_surroundings(card: EngineCard, backend: Backend, folder: Path) -> None:
    """Refuses an engine that was built for something else than what is here.

    Raises:
        StageError: with the remedy.
    """
    backend.require(card.options)
    found = backend.surroundings(card.batch, card.options)
    for name in {**found, **card.built_for}:
        if card.built_for.get(name) != found.get(name):
            raise StageError(
                f"{folder / ENGINE_FILE}: built for {name} {card.built_for.get(name)}, but here it "
                f"is {found.get(name)}; build it again: {rebuild(folder)}"
            )
    graph = Path(card.graph) if card.graph else None
    # An engine may be taken elsewhere without its graph; where that is there, it has to be the one.
    if graph and graph.is_file() and files.sha256(graph) != card.graph_sha256:
        raise StageError(
            f"{folder / ENGINE_FILE}: built from another {graph} than the one that is there; build "
            f"it again: {rebuild(folder)}"
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
