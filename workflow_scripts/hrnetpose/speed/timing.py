"""Timing of an engine: latency of one batch at a time, throughput of many in flight.

Samples are kept, statistics are derived from them (`numpy.percentile`, linear interpolation).
"""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from hrnetpose.artifacts.measured import Latency, WarmUp
from hrnetpose.batches import Outputs, count_images

Batch = TypeVar("Batch")

WINDOWS = 5
"""Into so many parts a measurement is cut to see whether it was steady."""
FEWEST = 4
"""Samples of a window: batches of several streams are done at the same time, in pairs or more."""
STEADY = 0.05
"""The last windows of a warm-up agree if they differ by no more than this share."""
NARROW = 0.02
"""A measurement may stop when half of its figure's 95 % interval is no more than this share."""
_STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""Number of windows -> 97.5 % quantile of Student's t; one degree of freedom less than windows."""


@dataclass(frozen=True)
class Limits:
    """When a measurement may stop: after both, and once its figure is narrow.

    Attributes:
        min_seconds: after so long.
        min_samples: after so many.
        max_seconds: it stops after so long, however wide its figure is; by default at once.
    """

    min_seconds: float
    min_samples: int
    max_seconds: float = 0.0


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


def in_turns(
    items: Iterable[Batch],
    limits: Limits,
    is_narrow: Callable[[], bool] = lambda: True,
    multiple: int = 1,
) -> Iterator[Batch]:
    """Yield items in turns, from the first again after the last, until a measurement may stop.

    Args:
        items: what is measured with.
        limits: how long.
        is_narrow: returns True if the figure is known well enough; asked ten times in `min_seconds`
            at most, since the answer takes time.
        multiple: a multiple of so many items is yielded.
    """
    start = time.perf_counter()
    look = limits.min_seconds
    for number, item in enumerate(itertools.cycle(items)):
        seconds = time.perf_counter() - start
        if number >= limits.min_samples and number % multiple == 0 and seconds >= look:
            if seconds >= limits.max_seconds or is_narrow():
                return
            look = seconds + limits.min_seconds / 10
        yield item


def warm_up(infer: Callable[[Batch], object], batches: Sequence[Batch], at_most: float) -> WarmUp:
    """Run until caches, clocks and lazily made kernels have settled.

    Windows of a fifteenth of `at_most` follow each other until three in a row have the same median.

    Args:
        infer: the blocking call.
        batches: what it is called with, in turns.
        at_most: seconds, after which it is given up.
    """
    start = time.perf_counter()
    turns = itertools.cycle(batches)
    medians: list[float] = []
    while True:
        opened = time.perf_counter()
        samples: list[float] = []
        while len(samples) < 3 or time.perf_counter() - opened < at_most / 15:
            called = time.perf_counter()
            infer(next(turns))
            samples.append(time.perf_counter() - called)
        medians.append(float(np.median(samples)))
        seconds = time.perf_counter() - start
        stable = len(medians) >= 3 and relative_range(medians[-3:]) <= STEADY
        if stable or seconds >= at_most:
            return WarmUp(seconds=seconds, stable=stable)


def latency(
    infer: Callable[[Batch], object], batches: Sequence[Batch], limits: Limits
) -> list[float]:
    """Return the seconds of blocking calls, one after the other."""
    samples: list[float] = []
    for batch in in_turns(batches, limits, lambda: _is_narrow(latency_interval(samples))):
        called = time.perf_counter()
        infer(batch)
        samples.append(time.perf_counter() - called)
    return samples


def throughput(
    stream: Callable[[Iterable[Batch]], Iterator[Outputs]],
    batches: Sequence[Batch],
    limits: Limits,
    requests: int,
) -> Completions:
    """Measure when each of a stream of batches is done.

    Args:
        stream: keeps several of them in flight; outputs come in order.
        batches: what is streamed, in turns.
        limits: how long.
        requests: how many are in flight.  A multiple of it is measured, as benchmark_app does: no
            request has a batch more than another, for which the others would wait at the end.
    """
    done: list[float] = []
    images = 0
    start = time.perf_counter()
    turns = in_turns(batches, limits, lambda: _is_narrow(throughput_interval(done)), requests)
    for outputs in stream(turns):
        done.append(time.perf_counter() - start)
        images += count_images(outputs)
    return Completions(done, images)


def summarize(samples: Sequence[float]) -> Latency:
    """Return the statistics of samples in seconds, in milliseconds."""
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
    """Return how much the medians of windows differ, each of as many samples."""
    return relative_range(_medians(samples))


def latency_interval(samples: Sequence[float]) -> float | None:
    """Return half of the 95 % interval of the median, as a share of it, from windows."""
    return _half_interval(_medians(samples))


def throughput_spread(done: Sequence[float]) -> float:
    """Return how much the rates of windows differ, each of as many batches."""
    return relative_range(_rates(done))


def throughput_interval(done: Sequence[float]) -> float | None:
    """Return half of the 95 % interval of the rate, as a share of it, from windows."""
    return _half_interval(_rates(done))


def _medians(samples: Sequence[float]) -> list[float]:
    edges = _windows(len(samples))
    return [float(np.median(samples[a:b])) for a, b in itertools.pairwise(edges)]


def _rates(done: Sequence[float]) -> list[float]:
    """Return the rates of windows; one begins when a batch is done, so none is counted in part."""
    times = [0.0, *done]
    edges = _windows(len(done))
    return [(b - a) / max(times[b] - times[a], 1e-9) for a, b in itertools.pairwise(edges)]


def _half_interval(values: Sequence[float]) -> float | None:
    """Return half of the 95 % interval of the mean as a share of it; None for a single value.

    Samples that follow each other are not independent, windows nearly are (batch means).
    """
    if len(values) < 2:
        return None
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    return _STUDENT[len(values)] * error / float(np.mean(values))


def _is_narrow(interval: float | None) -> bool:
    return interval is not None and interval <= NARROW


def _windows(samples: int) -> list[int]:
    """Return where windows begin, and the end of the last."""
    count = max(1, min(WINDOWS, samples // FEWEST))
    return [samples * number // count for number in range(count + 1)]


def relative_range(values: Sequence[float]) -> float:
    """Return (largest - smallest) / median; 0 for fewer than two values."""
    if len(values) < 2:
        return 0.0
    return (max(values) - min(values)) / float(np.median(values))
