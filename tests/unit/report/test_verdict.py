"""A precision pays or not by one rule, and the cause is named."""

from typing import Any

import pytest

from hrnetpose.artifacts.accuracy import Accuracy, Delta
from hrnetpose.artifacts.engine import EngineCard, ExecutedPrecision
from hrnetpose.artifacts.measured import Host, Roofline
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.artifacts.perf import Perf, PrecisionPair, Throughput, Validity
from hrnetpose.artifacts.verdicts import Verdict
from hrnetpose.report import verdict
from hrnetpose.report.verdict import Found

UNITS = ("avx512_fp16", "avx512_bf16", "avx512_vnni")


def known(kind: Any, **values: Any) -> Any:
    """An artifact of which only this is known."""
    return kind.model_construct(**values)


def make(
    variant: str,
    fps: float,
    executed: str | None = None,
    features: tuple[str, ...] = UNITS,
    layers: dict[str, int] | None = None,
    loss: float | None = None,
    reasons: tuple[str, ...] = (),
    backend: str = "openvino",
) -> Found:
    """A variant, named by its precision, as far as a verdict goes by it."""
    precision: Any = variant.partition("_")[0]
    executed = executed or precision
    ran = ExecutedPrecision(precision=executed, layers={executed: 40} if layers is None else layers)
    card = known(
        EngineCard,
        variant=variant,
        backend=backend,
        requested=precision,
        executed=ran,
        model=known(ModelCard, name="sample"),
    )
    perf = known(
        Perf,
        throughput=known(Throughput, fps=fps, images=800),
        batch=8,
        samples=100,
        duration_s=800 / fps,
        validity=Validity(verdict="INVALID" if reasons else "VALID", reasons=list(reasons)),
        precision=PrecisionPair(requested=precision, executed=executed),
        roofline=known(Roofline, fraction=0.5, limit_fps=2 * fps),
        host=known(Host, features=list(features), gpu=None),
    )
    accuracy = None
    if loss is not None:
        delta = Delta(reference="r", AP=-loss, ci95=(-1, 1), verdict="worse", resamples=9)
        accuracy = known(Accuracy, delta=delta)
    return Found(card, perf, accuracy)


def judge(*variants: Found, ap_drop: float | None = None) -> Verdict:
    """The verdict on the last one."""
    return verdict.judge(variants, {found.engine.variant: ap_drop for found in variants})[-1]


FP32 = make("fp32", 100.0)


@pytest.mark.parametrize(("fps", "pays"), [(101.9, False), (102.1, True), (60.0, False)])
def test_a_precision_pays_from_two_percent_on(fps: float, pays: bool) -> None:
    found = judge(FP32, make("bf16", fps))

    assert (found.pays, found.compared_with) == (pays, "fp32")
    assert found.speedup == pytest.approx(fps / 100)
    assert (found.text is None) == pays


def test_it_is_compared_with_the_fastest_of_the_higher_precisions() -> None:
    """A lower one that is slower than the middle one does not pay, though it beats fp32."""
    found = judge(FP32, make("bf16", 200.0), make("fp16", 90.0), make("int8", 180.0))

    assert (found.pays, found.compared_with) == (False, "bf16")
    assert found.text == (
        "int8 on this CPU: this model reaches 50% of its limit, 0.90 x bf16: not worth it"
    )


def test_fp16_and_bf16_are_no_rivals_of_each_other() -> None:
    assert judge(FP32, make("bf16", 200.0), make("fp16", 150.0)).compared_with == "fp32"


def test_other_backends_are_not_compared() -> None:
    found = judge(make("fp32_pt", 500.0, backend="pytorch"), FP32, make("bf16", 150.0))

    assert (found.pays, found.compared_with) == (True, "fp32")


def test_there_is_no_verdict_without_a_higher_precision() -> None:
    found = judge(make("int8", 1.0))

    assert (found.pays, found.compared_with, found.speedup, found.text) == (None,) * 4


@pytest.mark.parametrize("invalid", ["fp32", "bf16"])
def test_an_invalid_speed_is_not_compared(invalid: str) -> None:
    reasons = {invalid: ("latency: unstable",)}

    found = judge(
        make("fp32", 100.0, reasons=reasons.get("fp32", ())),
        make("bf16", 50.0, reasons=reasons.get("bf16", ())),
    )

    assert (found.pays, found.speedup, found.text) == (None, None, None)


def test_a_loss_above_the_limit_is_not_worth_it() -> None:
    found = judge(FP32, make("int8", 300.0, loss=0.015), ap_drop=0.01)

    assert found.pays is False
    assert found.text == (
        "int8 on this CPU: 3.00 x fp32, loses 0.0150 AP, where 0.01 is allowed: not worth it"
    )
    assert judge(FP32, make("int8", 300.0, loss=0.01), ap_drop=0.01).pays is True
    assert judge(FP32, make("int8", 300.0, loss=0.9)).pays is True


def test_what_did_not_run_does_not_pay_however_fast_it_was() -> None:
    found = judge(FP32, make("fp16", 110.0, executed="fp32", features=("avx2",)))

    assert found.pays is False
    assert found.text == ("fp16 on this CPU: no native units, ran fp32, 1.10 x fp32: not worth it")


def test_what_a_backend_hides_is_compared_by_its_speed() -> None:
    found = judge(FP32, make("fp16", 200.0, executed="unknown", layers={}))

    assert found.pays is True
    assert found.text == "fp16 on this CPU: what ran is not known, 2.00 x fp32"


def test_a_precision_without_units_is_one_line_whatever_it_is_compared_with() -> None:
    assert judge(make("fp16", 1.0, features=("avx2",))).text == "fp16 on this CPU: no native units"


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        ({"executed": "fp32", "features": ("avx2",)}, "no native units, ran fp32"),
        ({"features": ("avx2",)}, "no native units"),
        ({"executed": "fp32"}, "ran fp32"),
        ({"layers": {"fp16": 30, "fp32": 10}}, "only 30 of 40 heavy layers run in it"),
        ({}, "this model reaches 50% of its limit"),
    ],
)
def test_the_cause_is_named(values: dict[str, Any], cause: str) -> None:
    found = judge(FP32, make("fp16", 60.0, **values))

    assert found.text == f"fp16 on this CPU: {cause}, 0.60 x fp32: not worth it"
