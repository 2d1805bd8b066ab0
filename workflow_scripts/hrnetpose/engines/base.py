"""What an engine is, whatever runs it."""

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from hrnetpose import batches
from hrnetpose.artifacts.engine import EngineCard, ExecutedPrecision
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.batches import Crops, Outputs
from hrnetpose.engines.slots import Phases, Slot, run_in_order
from hrnetpose.recipes import Precision
from hrnetpose.stage import StageError


class Options(BaseModel):
    """Options of a backend; those every backend has are here."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    threads: int | None = Field(None, ge=1)
    """CPU threads; by default as many as the job has."""

    def check(self, batch: int, precision: Precision) -> None:
        """Refuses options that do not go with a batch and a precision.

        Raises:
            StageError: with the option.
        """


class StreamOptions(Options):
    """Options of a backend that runs several requests at the same time."""

    streams: int | None = Field(None, ge=1)
    """Requests that run at the same time; by default what the backend finds best for throughput."""


OptionsT = TypeVar("OptionsT", bound=Options)


@dataclass(frozen=True)
class BuildRequest(Generic[OptionsT]):
    """What an engine is built from.

    Attributes:
        graph: the ONNX graph in the precision that the backend asked for (`Backend.graphs`);
            takes normalised NCHW floats.
        weights: the checkpoint, for a backend that runs the original model; None if untrained.
        card: the model card.
        precision: what the user asked for.
        batch: images per inference; the engine may be fixed to it.
        options: the backend's.
        threads: for the build.
        cache: a folder in which a backend may keep what makes its next build faster; results do
            not depend on it.
    """

    graph: Path
    weights: Path | None
    card: ModelCard
    precision: Precision
    batch: int
    options: OptionsT
    threads: int
    cache: Path | None = None


@dataclass(frozen=True)
class OpenRequest(Generic[OptionsT]):
    """What is opened, and how.

    Attributes:
        file: the engine file.
        card: the engine's.
        batch: images per inference; the card's, unless `Backend.any_batch`.
        options: the backend's.
        threads: CPU threads.
    """

    file: Path
    card: EngineCard
    batch: int
    options: OptionsT
    threads: int


class Engine(ABC, Generic[OptionsT]):
    """An engine; it holds the device from `__enter__` to `__exit__`.

    A backend implements `_open`, `_close` and `executed`, and its `Slot`.

    Attributes:
        batch: images per inference.
    """

    def __init__(self, request: OpenRequest[OptionsT]) -> None:
        self.batch = request.batch
        self._file, self._card = request.file, request.card
        self._options, self._threads = request.options, request.threads
        self._slots: list[Slot] = []

    @property
    def crops_shape(self) -> tuple[int, int, int, int]:
        """The shape of a full batch of crops."""
        crop = self._card.model.crop
        return (self.batch, crop.height, crop.width, 3)

    @property
    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of a full batch's outputs, by name and in the order of the card."""
        return {
            output.name: (self.batch, *map(int, output.shape[1:]))
            for output in self._card.model.outputs
        }

    def check_outputs(self, found: Iterable[str]) -> None:
        """Refuses an engine that gives other outputs than its card says.

        Raises:
            StageError: with both.
        """
        names = sorted(found)
        if names != sorted(self.output_shapes):
            raise StageError(
                f"{self._file}: its outputs are {', '.join(names)}, but the card's are "
                f"{', '.join(self.output_shapes)}; delete the folder and run again"
            )

    @property
    def requests(self) -> int:
        """How many batches are kept in flight."""
        return len(self._slots)

    def infer(self, crops: Crops) -> Outputs:
        """Runs one batch and waits for it.

        Args:
            crops: uint8 [N, H, W, 3] RGB with N <= batch; a batch that is not full is padded, so
                that its outputs do not depend on how crops were cut into batches.

        Returns:
            Float32 arrays [N, ...] by name, as the model card says.  They belong to the caller.

        Raises:
            ValueError: the crops are more, or of another size.
        """
        self._slots[0].submit(self._full(crops))
        return batches.first_images(self._slots[0].collect(), len(crops))

    def stream(self, crops: Iterable[Crops]) -> Iterator[Outputs]:
        """Runs batches as `infer` does, several at a time; outputs come in order."""
        counts: deque[int] = deque()

        def supply() -> Iterator[Crops]:
            for batch in crops:
                counts.append(len(batch))
                yield self._full(batch)

        for outputs in run_in_order(self._slots, supply()):
            yield batches.first_images(outputs, counts.popleft())

    def infer_in_phases(self, crops: Crops) -> tuple[Outputs, Phases]:
        """Runs one batch as `infer` does, and waits for each of its parts."""
        slot, full = self._slots[0], self._full(crops)
        start = time.perf_counter()
        slot.copy_in(full)
        slot.wait()
        copied = time.perf_counter()
        slot.launch()
        slot.wait()
        done = time.perf_counter()
        slot.copy_out()
        outputs = slot.collect()
        phases = Phases(copied - start, done - copied, time.perf_counter() - done)
        return batches.first_images(outputs, len(crops)), phases

    def device_times(self, crops: Crops, count: int) -> list[float] | None:
        """Returns what the device alone needs for a batch, measured `count` times.

        The batch lies on the device before the first run; nothing is copied to it or from it.  The
        host goes on while the device works, so that its part shows only where the device has to
        wait for it.  It is what trtexec calls GPU compute time.

        Args:
            crops: uint8 [batch, H, W, 3] RGB.
            count: how many runs are measured, one after the other.

        Returns:
            Seconds on the device's clock, for each run; None where the backend has none.
        """
        return self._slots[0].time_launches(self._full(crops), count)

    @abstractmethod
    def executed(self) -> ExecutedPrecision:
        """Returns what the backend says it runs the heavy layers in."""

    @abstractmethod
    def _open(self) -> list[Slot]:
        """Loads the engine and returns its slots; nothing touches a device before."""

    @abstractmethod
    def _close(self) -> None:
        """Frees what `_open` loaded; the slots are gone by then."""

    def __enter__(self) -> Self:
        self._slots = self._open()
        return self

    def __exit__(self, *exception: object) -> None:
        for slot in self._slots:
            slot.free()
        self._slots.clear()
        self._close()

    def _full(self, crops: Crops) -> Crops:
        wanted = self.crops_shape
        if crops.shape[1:] != wanted[1:] or len(crops) > self.batch:
            raise ValueError(
                f"crops are {list(crops.shape)}; expected {list(wanted)}, or fewer of them"
            )
        return batches.pad(crops, self.batch)


def summarize_layers(layers: Mapping[str, int]) -> ExecutedPrecision:
    """Returns the precision that most of the heavy layers run in; `unknown` if there are none."""
    if not layers:
        return ExecutedPrecision(precision="unknown", layers={})
    most = max(layers, key=lambda name: layers[name])
    return ExecutedPrecision(precision=most, layers=dict(layers))
