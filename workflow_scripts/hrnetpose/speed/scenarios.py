"""Latency and throughput of an engine that is open, with what disturbed the measurement."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hrnetpose.artifacts.engine import Device
from hrnetpose.artifacts.measured import WarmUp, failures
from hrnetpose.artifacts.perf import Energy, LatencyScenario, SweepPoint, Throughput
from hrnetpose.batches import Crops, Outputs
from hrnetpose.speed import timing, validity
from hrnetpose.speed.monitor import Monitor
from hrnetpose.speed.patience import Measured
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

    @property
    def streams(self) -> int | None:
        """How many of them run at a time; None if the backend has no streams."""

    def infer(self, crops: Crops) -> Outputs:
        """Run one batch and waits for it."""

    def stream(self, crops: Iterable[Crops]) -> Iterator[Outputs]:
        """Run batches, several at a time; outputs come in order."""


@dataclass(frozen=True)
class LatencyResult:
    """One request at a time.

    Attributes:
        scenario: what was measured.
        samples: seconds of each request.
        warm_up: what ran before.
    """

    scenario: LatencyScenario
    samples: list[float]
    warm_up: WarmUp


@dataclass(frozen=True)
class ThroughputResult:
    """Several requests in flight.

    Attributes:
        figures: what was measured.
        done: when each batch was done, in seconds.
        energy: of the device meanwhile.
    """

    figures: Throughput
    done: list[float]
    energy: Energy


def measure_latency(
    engine: Engine, inputs: Sequence[Crops], limits: Limits, device: Device
) -> Measured[LatencyResult]:
    """Measure one request at a time, at the batch of the engine.

    Args:
        engine: opened at it.
        inputs: full batches that take turns.
        limits: how long.
        device: what it runs on.
    """
    warm_up = timing.warm_up(engine.infer, inputs, limits.min_seconds / 2)
    with Monitor(device) as watched:
        samples = timing.latency(engine.infer, inputs, limits)
    scenario = LatencyScenario(
        batch=engine.batch,
        streams=engine.streams,
        samples=len(samples),
        duration_s=watched.report.seconds,
        spread=timing.latency_spread(samples),
        interval=timing.latency_interval(samples),
    )
    size = validity.audit_size(scenario.samples, validity.MIN_REQUESTS, scenario.duration_s)
    conditions = [*validity.audit_spread(scenario.spread), *validity.audit_machine(watched.report)]
    return Measured(
        LatencyResult(scenario, samples, warm_up),
        figure=float(np.median(samples)) * 1e3,
        unit="ms",
        disturbed=failures(conditions),
        flaws=failures(size),
        checks=[*size, *conditions],
        samples=samples,
        overtime=max(0.0, scenario.duration_s - limits.min_seconds),
    )


def try_point(
    engine: Engine,
    inputs: Sequence[Crops],
    load_seconds: float,
    seconds: float,
    device: Device,
) -> Measured[SweepPoint]:
    """Measure throughput shortly.

    Args:
        engine: that is open.
        inputs: full batches that take turns.
        load_seconds: what opening it took.
        seconds: how long.
        device: what it runs on.
    """
    engine.infer(inputs[0])
    with Monitor(device) as watched:
        found = timing.throughput(engine.stream, inputs, Limits(seconds, 3), engine.requests)
    point = SweepPoint(
        batch=engine.batch,
        streams=engine.streams,
        fps=found.fps,
        samples=len(found.done),
        duration_s=found.done[-1],
        load_seconds=load_seconds,
    )
    disturbed = validity.disturbances(watched.report)
    return Measured(point, found.fps, "images/s", disturbed, samples=found.done)


def measure_throughput(
    engine: Engine,
    inputs: Sequence[Crops],
    limits: Limits,
    device: Device,
    sweep: list[SweepPoint],
) -> Measured[ThroughputResult]:
    """Measure throughput at full length.

    Args:
        engine: opened at the best point of the sweep.
        inputs: full batches that take turns.
        limits: how long.
        device: what it runs on.
        sweep: what was tried before.
    """
    timing.warm_up(engine.infer, inputs, limits.min_seconds / 2)
    with Monitor(device) as watched:
        found = timing.throughput(engine.stream, inputs, limits, engine.requests)
    joules, source = watched.report.joules
    figures = Throughput(
        fps=found.fps,
        batch=engine.batch,
        streams=engine.streams,
        requests=engine.requests,
        samples=len(found.done),
        images=found.images,
        duration_s=found.done[-1],
        spread=timing.throughput_spread(found.done),
        interval=timing.throughput_interval(found.done),
        sweep=sweep,
    )
    per_image = None if joules is None else joules / found.images
    size = validity.audit_size(figures.samples, validity.MIN_BATCHES, figures.duration_s)
    conditions = [*validity.audit_spread(figures.spread), *validity.audit_machine(watched.report)]
    return Measured(
        ThroughputResult(figures, found.done, Energy(joules_per_image=per_image, source=source)),
        figure=found.fps,
        unit="images/s",
        disturbed=failures(conditions),
        flaws=failures(size),
        checks=[*size, *conditions],
        samples=found.done,
        overtime=max(0.0, figures.duration_s - limits.min_seconds),
    )
