"""Latency and throughput of an engine that is open, with what disturbed the measurement."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from hrnetpose.artifacts.engine import Device
from hrnetpose.artifacts.perf import Energy, LatencyScenario, SweepPoint, Throughput, WarmUp
from hrnetpose.batches import Crops, Outputs
from hrnetpose.speed import timing, validity
from hrnetpose.speed.monitor import Monitor
from hrnetpose.speed.timing import Limits


class Engine(Protocol):
    """What is measured of an engine.

    Attributes:
        batch: images per inference.
    """

    batch: int

    @property
    def requests(self) -> int:
        """How many batches are kept in flight."""

    def infer(self, crops: Crops) -> Outputs:
        """Runs one batch and waits for it."""

    def stream(self, crops: Iterable[Crops]) -> Iterator[Outputs]:
        """Runs batches, several at a time; outputs come in order."""

    def device_times(self, crops: Crops, count: int) -> list[float] | None:
        """Returns the device's seconds for a batch, `count` times; None if it has no clock."""


@dataclass(frozen=True)
class LatencyResult:
    """One request at a time.

    Attributes:
        scenario: what was measured.
        samples: seconds of each request.
        device_samples: those on the device alone; none where the backend has no clock there.
        first_ms: the very first request.
        warm_up: what ran before.
        reasons: why the figures cannot be believed; none if they can.
    """

    scenario: LatencyScenario
    samples: list[float]
    device_samples: list[float]
    first_ms: float
    warm_up: WarmUp
    reasons: list[str]


@dataclass(frozen=True)
class ThroughputResult:
    """Several requests in flight.

    Attributes:
        figures: what was measured.
        done: when each batch was done, in seconds.
        energy: of the device meanwhile.
        reasons: why the figures cannot be believed; none if they can.
    """

    figures: Throughput
    done: list[float]
    energy: Energy
    reasons: list[str]


def measure_latency(
    engine: Engine, inputs: Sequence[Crops], streams: int | None, limits: Limits, device: Device
) -> LatencyResult:
    """Measures one request at a time, at the batch of the engine.

    Args:
        engine: that was just opened.
        inputs: full batches that take turns.
        streams: it was opened with; None if the backend has none.
        limits: how long.
        device: what it runs on.
    """
    first, warm_up = timing.warm_up(
        engine.infer, inputs, limits.min_seconds / 10, limits.min_seconds / 2
    )
    with Monitor(device) as watched:
        samples = timing.latency(engine.infer, inputs, limits)
    on_device = engine.device_times(inputs[0], limits.min_samples)
    scenario = LatencyScenario(
        batch=engine.batch,
        streams=streams,
        samples=len(samples),
        duration_s=sum(samples),
        spread=timing.latency_spread(samples),
    )
    reasons = validity.measurement(
        "latency",
        scenario.samples,
        validity.MIN_REQUESTS,
        scenario.duration_s,
        scenario.spread,
        watched.report,
    )
    return LatencyResult(scenario, samples, on_device or [], first, warm_up, reasons)


def try_point(
    engine: Engine,
    inputs: Sequence[Crops],
    streams: int | None,
    load_seconds: float,
    seconds: float,
) -> SweepPoint:
    """Measures throughput shortly.

    Args:
        engine: that was just opened.
        inputs: full batches that take turns.
        streams: it was opened with; None if the backend has none.
        load_seconds: what opening it took.
        seconds: how long.
    """
    engine.infer(inputs[0])
    found = timing.throughput(engine.stream, inputs, Limits(seconds, 3))
    point = SweepPoint(
        batch=engine.batch,
        streams=streams,
        fps=found.fps,
        samples=len(found.done),
        duration_s=found.done[-1],
        load_seconds=load_seconds,
    )
    logging.info("%s", point)
    return point


def measure_throughput(
    engine: Engine,
    inputs: Sequence[Crops],
    streams: int | None,
    seconds: float,
    device: Device,
    sweep: list[SweepPoint],
) -> ThroughputResult:
    """Measures throughput at full length.

    Args:
        engine: opened at the best point of the sweep.
        inputs: full batches that take turns.
        streams: it was opened with; None if the backend has none.
        seconds: how long.
        device: what it runs on.
        sweep: what was tried before.
    """
    timing.warm_up(engine.infer, inputs, 0.0, seconds / 2)
    with Monitor(device) as watched:
        found = timing.throughput(engine.stream, inputs, Limits(seconds, validity.MIN_BATCHES))
    joules, source = watched.report.joules
    figures = Throughput(
        fps=found.fps,
        batch=engine.batch,
        streams=streams,
        requests=engine.requests,
        samples=len(found.done),
        images=found.images,
        duration_s=found.done[-1],
        spread=timing.throughput_spread(found.done),
        sweep=sweep,
    )
    reasons = validity.measurement(
        "throughput",
        figures.samples,
        validity.MIN_BATCHES,
        figures.duration_s,
        figures.spread,
        watched.report,
    )
    per_image = None if joules is None else joules / found.images
    return ThroughputResult(
        figures, found.done, Energy(joules_per_image=per_image, source=source), reasons
    )
