"""A precision that gains nothing says so, and why."""

from typing import Any

import pytest

from hrnetpose.artifacts.engine import EngineCard, ExecutedPrecision
from hrnetpose.artifacts.perf import Host, Perf, PrecisionPair, Roofline, Throughput
from hrnetpose.report import verdict


def known(kind: Any, **values: Any) -> Any:
    """An artifact of which only this is known."""
    return kind.model_construct(**values)


def make(
    fps: float,
    executed: str = "fp16",
    features: tuple[str, ...] = ("avx512_fp16",),
    layers: dict[str, int] | None = None,
) -> tuple[EngineCard, Perf]:
    """An engine that was asked for fp16 and its speed, as far as a verdict goes by them."""
    ran = ExecutedPrecision(precision=executed, layers=layers or {executed: 40})
    card = known(EngineCard, requested="fp16", executed=ran)
    perf = known(
        Perf,
        throughput=known(Throughput, fps=fps),
        precision=PrecisionPair(requested="fp16", executed=executed),
        roofline=known(Roofline, fraction=0.5),
        host=known(Host, features=list(features), gpu=None),
    )
    return card, perf


def test_a_precision_that_gains_is_worth_it() -> None:
    assert verdict.precision(*make(150.0), make(100.0)[1]) is None


def test_there_is_no_verdict_without_fp32() -> None:
    assert verdict.precision(*make(1.0), None) is None


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            {"features": ("avx2",), "executed": "fp32"},
            "fp16 on this CPU: no native units, runs fp32, 0.6 x fp32: not worth it",
        ),
        (
            {"features": ("avx2",)},
            "fp16 on this CPU: no native units, 0.6 x fp32: not worth it",
        ),
        ({"executed": "fp32"}, "fp16 on this CPU: runs fp32, 0.6 x fp32: not worth it"),
        (
            {"layers": {"fp16": 30, "fp32": 10}},
            "fp16 on this CPU: only 30 of 40 heavy layers run in it, 0.6 x fp32: not worth it",
        ),
        (
            {},
            "fp16 on this CPU: this model, which reaches 50% of its limit, 0.6 x fp32: "
            "not worth it",
        ),
    ],
)
def test_the_cause_is_named(values: dict[str, Any], text: str) -> None:
    assert verdict.precision(*make(60.0, **values), make(100.0)[1]) == text
