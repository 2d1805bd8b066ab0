"""Timing of an engine: latency of one batch at a time, throughput of many in flight.

Samples are kept, statistics are derived from them (`numpy.percentile`, linear interpolation).
"""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from hrnetpose.artifacts.perf import Latency, WarmUp
from hrnetpose.batches import Outputs, count_images

Batch = TypeVar("Batch")

WINDOWS = 5
"""Into so many parts a measurement is cut to see whether it was steady."""
FEWEST = 4
"""Samples of a window: batches of several streams are done at the same time, in pairs or more."""
STEADY = 0.05
"""The last windows of a warm-up agree if they differ by no more than this share."""


@dataclass(frozen=True)
class Limits:
    """When a measurement may stop: after both."""

    min_seconds: float
    min_samples: int


@dataclass(frozen=True)
class Completions:
    """When batches were done.

    Attributes:
        done: seconds after the first was handed over, one for each batch.
        images: how many the outputs of all of them are of.
    """

    done: list[float]
    images: int

    @property
    def fps(self) -> float:
        """Images per second, from handing over the first to having the last."""
        return self.images / self.done[-1]


def in_turns(items: Iterable[Batch], limits: Limits) -> Iterator[Batch]:
    """Yields items in turns, from the first again after the last, until both limits are reached."""
    start = time.perf_counter()
    for number, item in enumerate(itertools.cycle(items)):
        if number >= limits.min_samples and time.perf_counter() - start >= limits.min_seconds:
            return
        yield item


def warm_up(
    infer: Callable[[Batch], object], batches: Sequence[Batch], at_least: float, at_most: float
) -> tuple[float, WarmUp]:
    """Runs until caches, clocks and lazily made kernels have settled.

    Windows of a tenth of `at_most` follow each other until three in a row have the same median.

    Args:
        infer: the blocking call.
        batches: what it is called with, in turns.
        at_least: seconds.
        at_most: seconds, after which it is given up.

    Returns:
        Milliseconds of the very first call, and how the warm-up went.
    """
    start = time.perf_counter()
    infer(batches[0])
    first = time.perf_counter() - start
    medians: list[float] = []
    number = 1
    while True:
        opened = time.perf_counter()
        samples: list[float] = []
        while len(samples) < 3 or time.perf_counter() - opened < at_most / 10:
            called = time.perf_counter()
            infer(batches[number % len(batches)])
            samples.append(time.perf_counter() - called)
            number += 1
        medians.append(float(np.median(samples)))
        seconds = time.perf_counter() - start
        stable = len(medians) >= 3 and relative_range(medians[-3:]) <= STEADY
        if (stable and seconds >= at_least) or seconds >= at_most:
            return first * 1e3, WarmUp(seconds=seconds, stable=stable)


def latency(
    infer: Callable[[Batch], object], batches: Sequence[Batch], limits: Limits
) -> list[float]:
    """Returns the seconds of blocking calls, one after the other."""
    samples: list[float] = []
    for batch in in_turns(batches, limits):
        called = time.perf_counter()
        infer(batch)
        samples.append(time.perf_counter() - called)
    return samples


def throughput(
    stream: Callable[[Iterable[Batch]], Iterator[Outputs]], batches: Sequence[Batch], limits: Limits
) -> Completions:
    """Measures when each of a stream of batches is done."""
    done: list[float] = []
    images = 0
    start = time.perf_counter()
    for outputs in stream(in_turns(batches, limits)):
        done.append(time.perf_counter() - start)
        images += count_images(outputs)
    return Completions(done, images)


def summarize(samples: Sequence[float]) -> Latency:
    """Returns the statistics of samples in seconds, in milliseconds."""
    milliseconds = np.array(samples) * 1e3
    p25, p50, p75, p90, p95, p99, p99_9 = np.percentile(
        milliseconds, [25, 50, 75, 90, 95, 99, 99.9]
    )
    return Latency(
        mean=float(milliseconds.mean()),
        p50=float(p50),
        p90=float(p90),
        p95=float(p95),
        p99=float(p99),
        p99_9=float(p99_9),
        iqr=float(p75 - p25),
        min=float(milliseconds.min()),
        max=float(milliseconds.max()),
    )


def latency_spread(samples: Sequence[float]) -> float:
    """Returns how much the medians of windows differ, each of as many samples."""
    edges = _windows(len(samples))
    return relative_range([float(np.median(samples[a:b])) for a, b in itertools.pairwise(edges)])


def throughput_spread(done: Sequence[float]) -> float:
    """Returns how much the rates of windows differ, each of as many batches.

    A window begins when a batch is done, so that none is counted in part.
    """
    times = [0.0, *done]
    edges = _windows(len(done))
    return relative_range(
        [(b - a) / max(times[b] - times[a], 1e-9) for a, b in itertools.pairwise(edges)]
    )


def _windows(samples: int) -> list[int]:
    """Returns where windows begin, and the end of the last."""
    count = max(1, min(WINDOWS, samples // FEWEST))
    return [samples * number // count for number in range(count + 1)]


def relative_range(values: Sequence[float]) -> float:
    """Returns (largest - smallest) / median; 0 for fewer than two values."""
    if len(values) < 2:
        return 0.0
    return (max(values) - min(values)) / float(np.median(values))
