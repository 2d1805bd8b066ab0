"""The interface of all engines."""

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Self, TypeVar

from pydantic import Field

from hrnetpose import batches
from hrnetpose.artifacts.engine import ENGINE_CARD, EngineCard, ExecutedPrecision
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.backend_rules import Options
from hrnetpose.batches import Crops, Outputs
from hrnetpose.engines.slots import Slot
from hrnetpose.recipes import Precision
from hrnetpose.stage import StageError


class StreamOptions(Options):
    """Options of a backend that runs several requests concurrently."""

    streams: int | None = Field(None, ge=1)
    """Concurrent requests; by default the backend's choice for throughput."""


OptionsT = TypeVar("OptionsT", bound=Options)


@dataclass(frozen=True)
class BuildRequest(Generic[OptionsT]):
    """What to build an engine from.

    Attributes:
        graph: the ONNX graph that `Backend.graphs` names for the precision; it takes normalised
            NCHW floats; None for a backend that runs the original model.
        weights: the checkpoint, for a backend that runs the original model; None if untrained.
        card: the model card.
        precision: the requested precision.
        batch: images per inference; the engine may be fixed to it.
        options: of the backend.
        threads: CPU threads of the build.
        cache: a folder that the backend may use to speed up later builds; it does not affect
            results.
    """

    graph: Path | None
    weights: Path | None
    card: ModelCard
    precision: Precision
    batch: int
    options: OptionsT
    threads: int
    cache: Path | None = None


@dataclass(frozen=True)
class OpenRequest(Generic[OptionsT]):
    """Which engine to open, and how.

    Attributes:
        file: the engine file.
        card: the engine card.
        batch: images per inference; that of the card, unless `Backend.any_batch`.
        options: of the backend.
        threads: CPU threads.
        remedy: what to do about an engine that does not fit its card.
    """

    file: Path
    card: EngineCard
    batch: int
    options: OptionsT
    threads: int
    remedy: str = "build it again"


@dataclass(frozen=True)
class Phases:
    """The parts of one blocking inference, in seconds."""

    copy_in: float
    inference: float
    copy_out: float


@dataclass(frozen=True)
class LayerTime:
    """What a layer of one batch takes, in seconds, by the backend's own profiler.

    Attributes:
        name: the backend's.
        kind: the backend's name of the operation.
        precision: that it runs in; `unknown` where the profiler does not say.
        seconds: the mean.
    """

    name: str
    kind: str
    precision: str
    seconds: float


class Engine(ABC, Generic[OptionsT]):
    """An engine, loaded between `__enter__` and `__exit__`.

    A backend implements `_open` and, where they apply, `_close` and `executed`.

    Attributes:
        batch: images per inference.
    """

    def __init__(self, request: OpenRequest[OptionsT]) -> None:
        self.batch = request.batch
        self._file, self._card = request.file, request.card
        self._options, self._threads = request.options, request.threads
        self._remedy = request.remedy
        self._slots: list[Slot] = []

    @property
    def crops_shape(self) -> tuple[int, int, int, int]:
        """Shape of a full batch of crops."""
        crop = self._card.model.crop
        return (self.batch, crop.height, crop.width, 3)

    @property
    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the outputs of a full batch, by name, in the order of the model card."""
        return {
            output.name: (self.batch, *map(int, output.shape[1:]))
            for output in self._card.model.outputs
        }

    @property
    def requests(self) -> int:
        """Number of batches in flight."""
        return len(self._slots)

    @property
    def streams(self) -> int | None:
        """Number of batches that run at a time; None where that is no option of the backend."""
        return None

    def infer(self, crops: Crops) -> Outputs:
        """Run one batch and wait for it.

        Args:
            crops: uint8 [N, H, W, 3] RGB with N <= batch.  A smaller batch is padded to full size,
                so that outputs do not depend on how crops are grouped.

        Returns:
            Float32 arrays [N, ...] by name, in the order of the model card, owned by the caller.

        Raises:
            ValueError: too many crops, or crops of another size.
        """
        self._submit(self._slots[0], crops)
        return self._collect(self._slots[0], len(crops))

    def stream(self, crops: Iterable[Crops]) -> Iterator[Outputs]:
        """Run batches as `infer` does, one in each slot at a time; yield outputs in order."""
        busy: deque[tuple[Slot, int]] = deque()
        try:
            for number, batch in enumerate(crops):
                if len(busy) == len(self._slots):
                    yield self._collect(*busy.popleft())
                slot = self._slots[number % len(self._slots)]
                self._submit(slot, batch)
                busy.append((slot, len(batch)))
            while busy:
                yield self._collect(*busy.popleft())
        finally:
            for slot, _ in busy:  # of a stream that broke off: the engine may be used again
                slot.wait()

    def infer_in_phases(self, crops: Crops) -> tuple[Outputs, Phases]:
        """Run one batch as `infer` does, and time its parts; each is waited for."""
        slot, full = self._slots[0], self._pad(crops)
        start = time.perf_counter()
        slot.copy_in(full)
        slot.wait()
        copied = time.perf_counter()
        slot.launch()
        slot.wait()
        done = time.perf_counter()
        slot.copy_out()
        outputs = self._collect(slot, len(crops))
        return outputs, Phases(copied - start, done - copied, time.perf_counter() - done)

    def device_times(self, crops: Crops, count: int) -> list[float] | None:
        """Time launches on the device alone: what trtexec reports as GPU compute time.

        The batch is on the device before the first launch, and nothing is copied.  Launches are
        enqueued ahead, so host time shows only where the device waits for it.

        Args:
            crops: uint8 [N, H, W, 3] RGB with N <= batch.
            count: number of launches.

        Returns:
            Seconds on the device's clock for each launch; None where the backend has no such clock.
        """
        return self._slots[0].time_launches(self._pad(crops), count)

    def time_layers(self, crops: Crops, count: int) -> list[LayerTime] | None:
        """Time each layer with the backend's profiler, which slows the engine down.

        Args:
            crops: uint8 [N, H, W, 3] RGB with N <= batch.
            count: batches that are run.

        Returns:
            The layers in no order; None where the backend has no such profiler.
        """
        return None

    def executed(self) -> ExecutedPrecision:
        """Return the precision that the heavy layers run in; unknown where the backend hides it."""
        return summarize_layers({})

    def check_outputs(self, names: Iterable[str]) -> None:
        """Check that the engine has the outputs of its card, in any order.

        Raises:
            StageError: with the names of both.
        """
        found = sorted(names)
        if found != sorted(self.output_shapes):
            raise StageError(
                f"{self._file}: its outputs are {', '.join(found)}, but the card's are "
                f"{', '.join(self.output_shapes)}; {self._remedy}"
            )

    @abstractmethod
    def _open(self) -> list[Slot]:
        """Load the engine and return its slots; nothing uses the device before."""

    def _close(self) -> None:
        """Free what `_open` loaded; the slots are freed before."""
        return None

    def __enter__(self) -> Self:
        self._slots = self._open()
        return self

    def __exit__(self, *exception: object) -> None:
        while self._slots:
            self._slots.pop().free()  # the last reference: what a slot holds ends before the engine
        self._close()

    def _submit(self, slot: Slot, crops: Crops) -> None:
        slot.copy_in(self._pad(crops))
        slot.launch()
        slot.copy_out()

    def _collect(self, slot: Slot, count: int) -> Outputs:
        slot.wait()
        return {name: slot.outputs[name][:count].copy() for name in self.output_shapes}

    def _pad(self, crops: Crops) -> Crops:
        expected = self.crops_shape
        if crops.shape[1:] != expected[1:] or len(crops) > self.batch:
            raise ValueError(
                f"crops are {list(crops.shape)}; expected {list(expected)}, or fewer of them"
            )
        return batches.pad(crops, self.batch)


def summarize_layers(layers: Mapping[str, int]) -> ExecutedPrecision:
    """Return the precision that most of the heavy layers run in.

    Args:
        layers: number of heavy layers by precision; empty if unknown.
    """
    most = max(layers, key=lambda name: layers[name], default="unknown")
    return ExecutedPrecision(precision=most, layers=dict(layers))


def rebuild_command(folder: Path) -> str:
    """Return the command that builds the engine in a folder again."""
    return f"snakemake --cores 4 --forcerun build_engine -- {folder / ENGINE_CARD}"
