"""Statistics are numpy's, and a measurement lasts as long as both limits say."""

import itertools
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrnetpose.batches import Outputs
from hrnetpose.speed import timing
from hrnetpose.speed.timing import Limits
from unit.speed.conftest import Clock

BATCHES = ["a", "b", "c"]
CALL = 1 / 64
"""Seconds; sums of it are exact."""


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=200))
def test_the_statistics_are_those_of_numpy_in_milliseconds(samples: list[float]) -> None:
    found = timing.summarize(samples)

    shares = {"p50": 50, "p90": 90, "p95": 95, "p99": 99, "p99_9": 99.9}
    for name, share in shares.items():
        assert getattr(found, name) == pytest.approx(np.percentile(samples, share) * 1e3)
    assert found.mean == pytest.approx(np.mean(samples) * 1e3)
    assert found.min == pytest.approx(min(samples) * 1e3)
    assert found.max == pytest.approx(max(samples) * 1e3)
    assert found.min <= found.p50 <= found.p90 <= found.p95 <= found.p99 <= found.p99_9 <= found.max
    quarters = np.percentile(samples, [25, 75]) * 1e3
    assert found.iqr == pytest.approx(quarters[1] - quarters[0], abs=1e-6)


def test_one_sample_is_all_of_its_statistics() -> None:
    assert set(timing.summarize([0.25]).model_dump().values()) == {250.0, 0.0}


class Engine:
    """Does nothing, which takes its time, and remembers what it was asked."""

    def __init__(self, clock: Clock) -> None:
        self.asked: list[str] = []
        self._clock = clock

    def infer(self, batch: str) -> Outputs:
        self.asked.append(batch)
        self._clock.sleep(CALL)
        return {"x": np.zeros((len(batch), 2), np.float32)}

    def stream(self, batches: Iterable[str]) -> Iterator[Outputs]:
        """Keep two batches in flight."""
        waiting: list[Outputs] = []
        for batch in batches:
            waiting.append(self.infer(batch))
            if len(waiting) > 2:
                yield waiting.pop(0)
        yield from waiting


def test_latency_takes_as_many_samples_as_asked(clock: Clock) -> None:
    engine = Engine(clock)

    samples = timing.latency(engine.infer, BATCHES, Limits(min_seconds=0.0, min_samples=7))

    assert samples == [CALL] * 7
    assert engine.asked == ["a", "b", "c", "a", "b", "c", "a"]


def test_latency_lasts_as_long_as_asked(clock: Clock) -> None:
    samples = timing.latency(Engine(clock).infer, BATCHES, Limits(min_seconds=1.0, min_samples=1))

    assert samples == [CALL] * 64


def test_throughput_runs_as_many_batches_as_asked(clock: Clock) -> None:
    engine = Engine(clock)

    done = timing.throughput(engine.stream, BATCHES, Limits(min_seconds=0.0, min_samples=8), 1)

    assert len(done.done) == 8
    assert engine.asked == ["a", "b", "c", "a", "b", "c", "a", "b"]
    assert done.done == sorted(done.done)
    assert done.done[0] > 0
    assert done.images == 8
    assert done.fps == pytest.approx(8 / done.done[-1])


def test_throughput_lasts_as_long_as_asked(clock: Clock) -> None:
    limits = Limits(min_seconds=1.0, min_samples=1)

    done = timing.throughput(Engine(clock).stream, BATCHES, limits, 1)

    assert done.done[-1] == 1.0
    assert len(done.done) == 64


def test_every_request_in_flight_has_as_many_batches(clock: Clock) -> None:
    """Else the others would wait for the last: three batches on two cores take as long as four."""
    limits = Limits(min_seconds=0.0, min_samples=5)

    assert len(timing.throughput(Engine(clock).stream, BATCHES, limits, 4).done) == 8


def test_images_are_those_that_come_back_not_those_that_were_sent() -> None:
    def halves(batches: Iterable[str]) -> Iterator[Outputs]:
        """One of the outputs lacks half of the images."""
        for batch in batches:
            whole = np.zeros((len(batch), 2), np.float32)
            yield {"x": whole, "y": whole[::2]}

    limits = Limits(min_seconds=0.0, min_samples=5)

    assert timing.throughput(halves, ["abcdefgh"], limits, 1).images == 20


def steady(clock: Clock) -> Callable[[str], None]:
    """A call that takes as long every time."""
    return lambda batch: clock.sleep(CALL)


def ever_slower(clock: Clock) -> Callable[[str], None]:
    """A call that takes longer every time."""
    calls = itertools.count(1)
    return lambda batch: clock.sleep(CALL * next(calls))


def test_the_warm_up_ends_when_three_windows_agree(clock: Clock) -> None:
    found = timing.warm_up(steady(clock), BATCHES, at_most=60.0)

    assert found.stable
    assert found.seconds == 12


def test_a_warm_up_that_never_settles_is_given_up(clock: Clock) -> None:
    found = timing.warm_up(ever_slower(clock), BATCHES, at_most=60.0)

    assert not found.stable
    assert found.seconds >= 60


def test_a_steady_measurement_has_no_spread() -> None:
    assert timing.latency_spread([0.1] * 40) == 0
    assert timing.throughput_spread([0.1 * n for n in range(1, 41)]) == pytest.approx(0, abs=1e-9)


def test_a_measurement_that_slows_down_has_spread() -> None:
    # The last fifth takes half as long again.
    latencies = [0.1] * 32 + [0.15] * 8
    assert timing.latency_spread(latencies) == pytest.approx(0.5)
    done = list(np.cumsum(latencies))
    assert timing.throughput_spread(done) == pytest.approx(1 / 3)


def test_batches_that_are_done_in_pairs_are_steady() -> None:
    done = [float(pair) for pair in range(1, 21) for _ in range(2)]

    assert timing.throughput_spread(done) == pytest.approx(0, abs=1e-9)


@given(st.lists(st.floats(1e-3, 10), min_size=1, max_size=60))
def test_no_number_of_samples_is_too_few_for_the_spread(samples: list[float]) -> None:
    assert timing.latency_spread(samples) >= 0
    assert timing.throughput_spread(list(np.cumsum(samples))) >= 0


@given(st.lists(st.floats(1e-3, 10), min_size=1, max_size=60))
def test_the_interval_is_that_of_the_mean_of_windows(samples: list[float]) -> None:
    found = timing.latency_interval(samples)

    count = max(1, min(timing.WINDOWS, len(samples) // timing.FEWEST))
    if count == 1:
        assert found is None
        return
    edges = [len(samples) * n // count for n in range(count + 1)]
    medians = [np.median(samples[a:b]) for a, b in itertools.pairwise(edges)]
    quantile = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}[count]
    expected = quantile * np.std(medians, ddof=1) / count**0.5 / np.mean(medians)
    assert found == pytest.approx(expected)


def test_the_interval_of_a_steady_measurement_is_narrow() -> None:
    assert timing.latency_interval([0.1] * 40) == 0
    assert timing.throughput_interval([0.1 * n for n in range(1, 41)]) == pytest.approx(0, abs=1e-9)


def test_a_measurement_whose_figure_is_wide_goes_on(clock: Clock) -> None:
    """Ever slower, it has no steady figure: it stops at `max_seconds`, and no sooner."""
    samples = timing.latency(ever_slower(clock), BATCHES, Limits(1.0, 1, max_seconds=60.0))

    assert sum(samples[:-1]) < 60 <= sum(samples)


def test_a_measurement_whose_figure_is_narrow_stops(clock: Clock) -> None:
    """However long it may go on."""
    samples = timing.latency(steady(clock), BATCHES, Limits(1.0, 1, 1e6))

    assert len(samples) == 64
