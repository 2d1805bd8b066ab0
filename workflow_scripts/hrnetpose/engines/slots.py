"""Batches in flight: the steps of one batch, and the order in which several are run."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hrnetpose.batches import Crops, Outputs


@dataclass(frozen=True)
class Phases:
    """The seconds of each part of one blocking call."""

    copy_in: float
    inference: float
    copy_out: float


class Slot(ABC):
    """One batch in flight: its buffers and its steps.

    The steps of a batch are `copy_in`, `launch`, `copy_out`, `wait` and `take`, in this order.  On
    a device that works in the background a step returns when its work is enqueued, and `wait` may
    come after each of them.  Where calls block, `copy_out` and `wait` have nothing to do.
    """

    @abstractmethod
    def copy_in(self, crops: Crops) -> None:
        """Brings a full batch to the device: uint8 [batch, H, W, 3] RGB, any strides, read only.

        The caller may change the crops once `launch` has returned.
        """

    @abstractmethod
    def launch(self) -> None:
        """Runs the batch that was copied in; it may be run more than once."""

    def copy_out(self) -> None:
        """Brings the outputs to the host."""
        return None

    def wait(self) -> None:
        """Waits until the steps of this slot are done."""
        return None

    @abstractmethod
    def take(self) -> Outputs:
        """Returns the outputs.  They belong to the caller: the next batch does not change them."""

    def time_launches(self, crops: Crops, count: int) -> list[float] | None:
        """Returns the device's seconds for each of several launches of a full batch.

        None where the backend has no clock on the device.
        """
        return None

    def free(self) -> None:
        """Frees the buffers, where that does not happen by itself."""
        return None

    def submit(self, crops: Crops) -> None:
        """Starts a full batch."""
        self.copy_in(crops)
        self.launch()
        self.copy_out()

    def collect(self) -> Outputs:
        """Waits for the batch and returns its outputs."""
        self.wait()
        return self.take()


class CudaSlot(Slot):
    """A slot whose launches are enqueued in a CUDA stream, where events tell the time.

    Attributes:
        compute: the stream; its library's own.
    """

    compute: Any

    @abstractmethod
    def create_event(self) -> Any:
        """Creates an event that has a time."""

    @abstractmethod
    def seconds_between(self, start: Any, end: Any) -> float:
        """Returns the seconds between two events that have happened."""

    def time_launches(self, crops: Crops, count: int) -> list[float]:
        self.copy_in(crops)
        self.wait()
        # Events are created first, so that the device does not wait for it.
        marks = [(self.create_event(), self.create_event()) for _ in range(count)]
        for start, end in marks:
            start.record(self.compute)
            self.launch()
            end.record(self.compute)
        self.wait()
        return [self.seconds_between(start, end) for start, end in marks]


def run_in_order(slots: Sequence[Slot], batches: Iterable[Crops]) -> Iterator[Outputs]:
    """Runs full batches, as many at a time as there are slots; yields their outputs in order."""
    busy: deque[Slot] = deque()
    for number, crops in enumerate(batches):
        if len(busy) == len(slots):
            yield busy.popleft().collect()
        slot = slots[number % len(slots)]
        slot.submit(crops)
        busy.append(slot)
    while busy:
        yield busy.popleft().collect()
