"""Timing of an engine: latency of one batch at a time, throughput of many in flight.

Samples are kept, statistics are derived from them (`numpy.percentile`, linear interpolation).
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from hrnetpose.artifacts import Latency

Batch = TypeVar("Batch")
Output = TypeVar("Output")


@dataclass(frozen=True)
class Limits:
    """When a measurement may stop: after both."""

    min_seconds: float
    min_samples: int


def warm_up(infer: Callable[[Batch], object], batches: list[Batch], seconds: float) -> float:
    """Runs until caches, clocks and lazily made kernels have settled.

    Returns:
        Milliseconds of the very first call.
    """
    start = time.perf_counter()
    infer(batches[0])
    first = time.perf_counter() - start
    for number in range(1, 1_000_000):
        if number >= 3 and time.perf_counter() - start > seconds:
            break
        infer(batches[number % len(batches)])
    return first * 1e3


def latency(infer: Callable[[Batch], object], batches: list[Batch], limits: Limits) -> list[float]:
    """Returns the seconds of blocking calls, one after the other."""
    samples: list[float] = []
    start = time.perf_counter()
    while len(samples) < limits.min_samples or time.perf_counter() - start < limits.min_seconds:
        batch = batches[len(samples) % len(batches)]
        called = time.perf_counter()
        infer(batch)
        samples.append(time.perf_counter() - called)
    return samples


def throughput(
    stream: Callable[[Iterable[Batch]], Iterator[Output]], batches: list[Batch], limits: Limits
) -> list[float]:
    """Returns when each batch was done, in seconds after the first was handed over."""
    done: list[float] = []
    start = time.perf_counter()

    def supply() -> Iterator[Batch]:
        number = 0
        while number < limits.min_samples or time.perf_counter() - start < limits.min_seconds:
            yield batches[number % len(batches)]
            number += 1

    for _ in stream(supply()):
        done.append(time.perf_counter() - start)
    return done


def summarize(samples: list[float]) -> Latency:
    """Returns the statistics of samples in seconds, in milliseconds."""
    milliseconds = np.array(samples) * 1e3
    p50, p90, p95, p99 = np.percentile(milliseconds, [50, 90, 95, 99])
    return Latency(
        mean=float(milliseconds.mean()),
        p50=float(p50),
        p90=float(p90),
        p95=float(p95),
        p99=float(p99),
        min=float(milliseconds.min()),
        max=float(milliseconds.max()),
    )
