"""Statistics are numpy's, and a measurement lasts as long as both limits say."""

import time
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrnetpose.speed import timing
from hrnetpose.speed.timing import Limits

BATCHES = ["a", "b", "c"]


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=200))
def test_the_statistics_are_those_of_numpy_in_milliseconds(samples: list[float]) -> None:
    found = timing.summarize(samples)

    for name, share in (("p50", 50), ("p90", 90), ("p95", 95), ("p99", 99)):
        assert getattr(found, name) == pytest.approx(np.percentile(samples, share) * 1e3)
    assert found.mean == pytest.approx(np.mean(samples) * 1e3)
    assert found.min == pytest.approx(min(samples) * 1e3)
    assert found.max == pytest.approx(max(samples) * 1e3)
    assert found.min <= found.p50 <= found.p90 <= found.p95 <= found.p99 <= found.max


def test_one_sample_is_all_of_its_statistics() -> None:
    assert set(timing.summarize([0.25]).model_dump().values()) == {250.0}


class Engine:
    """Does nothing, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def infer(self, batch: str) -> str:
        self.asked.append(batch)
        return batch.upper()

    def stream(self, batches: Iterable[str]) -> Iterator[str]:
        """Keeps two batches in flight."""
        waiting: list[str] = []
        for batch in batches:
            waiting.append(self.infer(batch))
            if len(waiting) > 2:
                yield waiting.pop(0)
        yield from waiting


def test_latency_takes_as_many_samples_as_asked() -> None:
    engine = Engine()

    samples = timing.latency(engine.infer, BATCHES, Limits(min_seconds=0.0, min_samples=7))

    assert len(samples) == 7
    assert engine.asked == ["a", "b", "c", "a", "b", "c", "a"]
    assert all(sample >= 0 for sample in samples)


def test_latency_lasts_as_long_as_asked() -> None:
    start = time.perf_counter()

    samples = timing.latency(Engine().infer, BATCHES, Limits(min_seconds=0.05, min_samples=1))

    assert time.perf_counter() - start >= 0.05
    assert len(samples) > 1
    assert sum(samples) <= time.perf_counter() - start


def test_latency_is_that_of_the_call() -> None:
    def busy(batch: str) -> None:
        end = time.perf_counter() + 0.01
        while time.perf_counter() < end:
            pass

    start = time.perf_counter()

    samples = timing.latency(busy, BATCHES, Limits(min_seconds=0.0, min_samples=5))

    assert all(sample >= 0.01 for sample in samples)
    assert sum(samples) <= time.perf_counter() - start


def test_throughput_runs_as_many_batches_as_asked() -> None:
    engine = Engine()

    done = timing.throughput(engine.stream, BATCHES, Limits(min_seconds=0.0, min_samples=8))

    assert len(done) == 8
    assert engine.asked == ["a", "b", "c", "a", "b", "c", "a", "b"]
    assert done == sorted(done)
    assert done[0] > 0


def test_throughput_lasts_as_long_as_asked() -> None:
    done = timing.throughput(Engine().stream, BATCHES, Limits(min_seconds=0.05, min_samples=1))

    assert done[-1] >= 0.05
    assert len(done) > 3


def test_the_warm_up_takes_its_time_and_tells_of_the_first_call() -> None:
    engine = Engine()
    start = time.perf_counter()

    first = timing.warm_up(engine.infer, BATCHES, seconds=0.02)

    assert time.perf_counter() - start > 0.02
    assert 0 <= first < 1e3 * (time.perf_counter() - start)
    assert engine.asked[:4] == ["a", "b", "c", "a"]


def test_the_warm_up_calls_at_least_three_times() -> None:
    engine = Engine()

    timing.warm_up(engine.infer, BATCHES, seconds=0.0)

    assert engine.asked == ["a", "b", "c"]
