"""What was disturbed is measured again, within the seconds that there are, and nothing else is."""

from collections.abc import Sequence

import pytest

from hrnetpose.artifacts.engine import Device
from hrnetpose.speed import validity
from hrnetpose.speed.patience import GLANCE, MAX_ATTEMPTS, Measured, Patience
from unit.speed.conftest import Clock

CPU = Device(kind="cpu")


class Attempts:
    """Measurements that were disturbed as told, the last of them for ever."""

    def __init__(self, *disturbed: Sequence[str], flaws: Sequence[str] = ()) -> None:
        self.disturbed, self.flaws = list(disturbed), flaws
        self.count = 0

    def __call__(self) -> Measured[int]:
        told = self.disturbed[min(self.count, len(self.disturbed) - 1)]
        self.count += 1
        samples = [0.1] * self.count
        return Measured(self.count, float(self.count), "ms", told, self.flaws, samples)


def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validity, "disturbances", lambda report: [])


def test_what_nothing_disturbed_is_measured_once() -> None:
    one, measure = Patience(60.0, CPU), Attempts([])

    assert one.settle("latency", measure).value == 1
    assert one.left == 60.0
    assert [attempt.of for attempt in one.attempts] == ["latency"]
    assert one.discarded == []


def test_the_first_undisturbed_attempt_counts_and_all_are_kept(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    quiet(monkeypatch)
    one = Patience(60.0, CPU)

    found = one.settle("latency", Attempts(["unstable"], ["steal", "swap"], []))

    assert found.value == 3
    assert found.reasons == []
    assert [(a.figure, a.unit, a.disturbed) for a in one.attempts] == [
        (1.0, "ms", ["unstable"]),
        (2.0, "ms", ["steal", "swap"]),
        (3.0, "ms", []),
    ]
    assert one.discarded == [
        {"of": "latency", "samples_s": [0.1]},
        {"of": "latency", "samples_s": [0.1, 0.1]},
    ]
    assert one.left == 60.0 - GLANCE - 2 * GLANCE


def test_without_patience_there_is_one_attempt() -> None:
    one = Patience(0.0, CPU)

    found = one.settle("latency", Attempts(["unstable"]))

    assert (found.value, found.reasons) == (1, ["unstable"])
    assert (len(one.attempts), one.discarded) == (1, [])


def test_what_another_attempt_would_not_mend_is_not_waited_for() -> None:
    one = Patience(1e6, CPU)

    found = one.settle("latency", Attempts(["unstable"], flaws=["too short"]))

    assert found.reasons == ["too short", "unstable"]
    assert (found.value, one.left) == (1, 1e6)


def test_measurements_that_are_too_short_to_be_valid_have_no_patience() -> None:
    assert Patience.of(60.0, validity.MIN_SECONDS, CPU).left == 60.0
    assert Patience.of(60.0, validity.MIN_SECONDS - 0.1, CPU).left == 0.0


def test_one_thing_is_measured_a_stated_number_of_times(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    quiet(monkeypatch)
    one, measure = Patience(1e6, CPU), Attempts(["unstable"])

    found = one.settle("latency", measure)

    assert measure.count == MAX_ATTEMPTS
    assert (found.value, found.reasons) == (MAX_ATTEMPTS, ["unstable"])
    assert len(one.discarded) == MAX_ATTEMPTS - 1


def test_a_machine_that_is_never_quiet_costs_no_more_than_the_patience(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(validity, "disturbances", lambda report: ["busy"])
    one = Patience(8 * GLANCE, CPU)

    found = one.settle("latency", Attempts(["busy"]))
    again = one.settle("throughput", Attempts(["busy"]))

    assert (found.value, again.value) == (1, 1)
    assert 0 <= one.left < GLANCE
    assert [attempt.of for attempt in one.attempts] == ["latency", "throughput"]


def test_no_attempt_begins_for_which_there_is_no_time(clock: Clock) -> None:
    def slow() -> Measured[None]:
        clock.sleep(0.3)
        return Measured(None, 0.0, "ms", ["busy"])

    one = Patience(0.6, CPU)

    one.settle("latency", slow)

    assert len(one.attempts) == 1
    assert one.left == 0.6


def test_a_measurement_that_goes_on_uses_patience() -> None:
    one = Patience(5.0, CPU)
    assert one.extend(3.0) == 6.0

    one.settle("latency", lambda: Measured(None, 0.0, "ms", overtime=3.0))

    assert one.extend(3.0) == 5.0
    one.settle("latency", lambda: Measured(None, 0.0, "ms", overtime=2.5))
    assert one.extend(3.0) == 3.0
