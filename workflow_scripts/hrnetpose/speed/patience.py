"""A measurement that was disturbed is repeated once the machine has recovered.

What disturbs a short measurement - a busy process, a hypervisor, heat - often passes in seconds.
All measurements of one row share its patience, so that a machine that is never quiet costs no more
than that.  The rules of validity are the same for every attempt: the first that nothing disturbed
counts.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

from hrnetpose import stage
from hrnetpose.artifacts.engine import Device
from hrnetpose.artifacts.measured import Attempt, Check
from hrnetpose.speed import validity
from hrnetpose.speed.monitor import Monitor

T = TypeVar("T")

MAX_ATTEMPTS = 6
"""So often one thing is measured at most."""
GLANCE = 0.5
"""Seconds in which the machine must be quiet before an attempt is repeated."""


@dataclass(frozen=True)
class Measured(Generic[T]):
    """What one attempt found.

    Attributes:
        value: the result.
        figure: its headline, for the record.
        unit: of the headline.
        disturbed: what another attempt may not have: why this one is repeated.
        flaws: what any attempt would have: why it is not repeated, though it cannot be believed.
        samples: raw seconds.
        overtime: seconds beyond the least that it takes.
        checks: all that it was held against, for the record.
    """

    value: T
    figure: float
    unit: str
    disturbed: Sequence[str] = ()
    flaws: Sequence[str] = ()
    samples: Sequence[float] = ()
    overtime: float = 0.0
    checks: Sequence[Check] = ()

    @property
    def reasons(self) -> list[str]:
        """Why it cannot be believed; none if it can."""
        return [*self.flaws, *self.disturbed]


class Patience:
    """The seconds that the measurements of one row may take beyond their first attempts.

    Attributes:
        left: seconds.
        attempts: all attempts so far.
        discarded: the raw samples of those that do not count.

    Args:
        seconds: in all; 0: everything is measured once.
        device: what the engine runs on.
    """

    def __init__(self, seconds: float, device: Device) -> None:
        self.left = seconds
        self.attempts: list[Attempt] = []
        self.discarded: list[dict[str, Any]] = []
        self._device = device

    @classmethod
    def of(cls, seconds: float, min_seconds: float, device: Device) -> Self:
        """Return the patience with measurements of `min_seconds`; none if those are too short."""
        return cls(seconds if min_seconds >= validity.MIN_SECONDS else 0.0, device)

    def extend(self, seconds: float) -> float:
        """Return how long a measurement may last, twice as long at most, if its figure is wide."""
        return seconds + min(seconds, max(0.0, self.left))

    def settle(self, what: str, measure: Callable[[], Measured[T]]) -> Measured[T]:
        """Measure until nothing disturbs it, or patience is at its end.

        Args:
            what: for the record, for example `latency`.
            measure: one attempt.

        Returns:
            The attempt that counts: the first undisturbed one, else the last.
        """
        for number in range(1, MAX_ATTEMPTS + 1):
            start = time.perf_counter()
            found = measure()
            seconds = time.perf_counter() - start
            self.left -= found.overtime if number == 1 else seconds
            disturbed = list(found.disturbed)
            self.attempts.append(
                Attempt(of=what, figure=found.figure, unit=found.unit, disturbed=disturbed)
            )
            logging.info("%s: %.4g %s %s", what, found.figure, found.unit, disturbed or "")
            # A line between two measurements; a bar would be drawn while they run.
            if terminal := stage.terminal():
                told = f"  {what}: {found.figure:.4g} {found.unit}"
                print(told, "(disturbed)" if disturbed else "", file=terminal, flush=True)
            if not disturbed or found.flaws or number == MAX_ATTEMPTS:
                break
            if not self._wait(GLANCE * 2 ** (number - 1), seconds):
                break
            self.discarded.append({"of": what, "samples_s": list(found.samples)})
        return found

    def _wait(self, least: float, needed: float) -> bool:
        """Wait until the machine is quiet; returns False if no attempt is to follow.

        Args:
            least: seconds of a pause, in which a hot machine cools.
            needed: seconds that must be left for the attempt.
        """
        start = time.perf_counter()
        is_quiet = False
        while not is_quiet or time.perf_counter() - start < least:
            if self.left - (time.perf_counter() - start) < needed + GLANCE:
                break
            with Monitor(self._device) as watched:
                time.sleep(GLANCE)
            is_quiet = not validity.disturbances(watched.report)
        else:
            self.left -= time.perf_counter() - start
            return True
        self.left -= time.perf_counter() - start
        return False
