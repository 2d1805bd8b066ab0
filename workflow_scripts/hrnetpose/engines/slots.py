"""Slots: one batch in flight, with its buffers and its steps."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from hrnetpose.batches import Array, Crops


class Slot(ABC):
    """One batch in flight.

    The steps of a batch are `copy_in`, `launch`, `copy_out` and `wait`, in this order.  On an
    asynchronous device a step returns when its work is enqueued, and `wait` may follow any of them.
    A backend whose calls block needs no `wait`; one whose outputs are on the host after `launch`
    needs no `copy_out`.

    Attributes:
        outputs: host arrays of a full batch by name, float32; valid after `copy_out` and `wait`,
            until the next batch.
    """

    outputs: Mapping[str, Array]

    @abstractmethod
    def copy_in(self, crops: Crops) -> None:
        """Copy a full batch to the device.

        Args:
            crops: uint8 [batch, H, W, 3] RGB, with any strides, perhaps read-only.  The caller may
                change them after `launch`.
        """

    @abstractmethod
    def launch(self) -> None:
        """Run the batch that was copied in; it can be run repeatedly."""

    def copy_out(self) -> None:
        """Copy the outputs to the host."""
        return None

    def wait(self) -> None:
        """Wait for all steps started so far."""
        return None

    def time_launches(self, crops: Crops, count: int) -> list[float] | None:
        """Return the seconds of each of `count` launches on the device's clock, None without one.

        Args:
            crops: a full batch, copied in once.
            count: number of launches.
        """
        return None

    def free(self) -> None:
        """Free the buffers that are not garbage-collected."""
        return None


class CudaSlot(Slot):
    """A slot that launches in a CUDA stream, which events time.

    Attributes:
        compute: the stream, of the library that the backend uses.
    """

    compute: Any

    @abstractmethod
    def create_event(self) -> Any:
        """Create an event with timing enabled."""

    @abstractmethod
    def seconds_between(self, start: Any, end: Any) -> float:
        """Return the seconds between two completed events."""

    def time_launches(self, crops: Crops, count: int) -> list[float]:
        self.copy_in(crops)
        self.wait()
        # Created up front, so that the device never waits for the creation of an event.
        marks = [(self.create_event(), self.create_event()) for _ in range(count)]
        for start, end in marks:
            start.record(self.compute)
            self.launch()
            end.record(self.compute)
        self.wait()
        return [self.seconds_between(start, end) for start, end in marks]
