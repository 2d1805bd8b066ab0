"""Whether a lower precision pays: the one rule, whose verdicts are written into `verdicts.json`.

A precision is to be faster by 2 % than the fastest variant of a higher one, of the same model and
backend, and to lose no more AP than `limits.ap_drop` allows; without that limit any gain is worth
its loss.  A precision that did not run does not pay.  INVALID speed is not compared.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from hrnetpose.artifacts.accuracy import Accuracy
from hrnetpose.artifacts.engine import EngineCard
from hrnetpose.artifacts.measured import say_executed
from hrnetpose.artifacts.perf import Perf
from hrnetpose.artifacts.verdicts import Verdict
from hrnetpose.recipes import Precision

MARGIN = 1.02
"""From so many times the images/s of a higher precision on a lower one pays."""
LEVELS: dict[Precision, int] = {"fp32": 0, "bf16": 1, "fp16": 1, "int8": 2, "fp8": 2}
"""The higher a precision, the lower its number."""


class Found(NamedTuple):
    """What was measured of a variant; the accuracy is missing if the model is untrained."""

    engine: EngineCard
    perf: Perf
    accuracy: Accuracy | None

    @property
    def fps(self) -> float:
        """Images/s."""
        return self.perf.throughput.fps


def judge(variants: Sequence[Found], ap_drop: Mapping[str, float | None]) -> list[Verdict]:
    """Return a verdict on each variant.

    Args:
        variants: all that were measured.
        ap_drop: the loss of AP that is allowed, by variant.
    """
    return [_judge(one, variants, ap_drop.get(one.engine.variant)) for one in variants]


def _judge(one: Found, variants: Sequence[Found], allowed: float | None) -> Verdict:
    card, perf, accuracy = one
    rivals = [
        other
        for other in variants
        if other.engine.model.name == card.model.name
        and other.engine.backend == card.backend
        and LEVELS[other.engine.requested] < LEVELS[card.requested]
    ]
    rival = max(rivals, key=lambda other: other.fps, default=None)
    ratio = None
    if rival and not perf.invalid and not rival.perf.invalid:
        ratio = one.fps / rival.fps
    is_slow = ratio is not None and ratio < MARGIN
    loss = -accuracy.delta.AP if accuracy and accuracy.delta else 0.0
    is_worse = allowed is not None and loss > allowed
    is_absent = bool(card.executed.layers) and card.requested not in card.executed.layers

    reasons = [*_shortages(card, perf)]
    if is_slow and not reasons:
        reasons.append(_cause(card, perf))
    if rival and ratio:
        reasons.append(f"{ratio:.2f} x {rival.engine.variant}")
    if is_worse:
        reasons.append(f"loses {loss:.4f} AP, where {allowed:g} is allowed")
    fails = is_slow or is_worse or is_absent
    text = None
    if fails or any(_shortages(card, perf)):
        where = f"{card.requested} on this {'GPU' if perf.host.gpu else 'CPU'}"
        text = f"{where}: {', '.join(reasons)}{': not worth it' if fails else ''}"
    return Verdict(
        variant=card.variant,
        precision=card.requested,
        pays=False if fails else None if ratio is None else True,
        compared_with=rival.engine.variant if rival else None,
        speedup=ratio,
        text=text,
    )


def _shortages(card: EngineCard, perf: Perf) -> Iterator[str]:
    """Yield what the machine lacks for a precision; no other engine would mend it."""
    if not perf.host.gpu and not perf.host.is_native(card.requested):
        yield "no native units"
    if ran := say_executed(perf.precision.requested, perf.precision.executed):
        yield ran


def _cause(card: EngineCard, perf: Perf) -> str:
    """Return what is known of why it is slow; a share of the limit is no guess."""
    in_it, layers = card.executed.layers.get(card.requested, 0), sum(card.executed.layers.values())
    if in_it < layers:
        return f"only {in_it} of {layers} heavy layers run in it"
    fraction = perf.roofline.fraction
    return "this model" + (f" reaches {fraction:.0%} of its limit" if fraction else "")
