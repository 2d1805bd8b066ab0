"""Which variant to ship: the one rule, whose result is written into `verdicts.json`.

Of the variants within the limits the fastest is taken.  Where another one is as fast, as far as the
intervals tell, and is more accurate, as far as they tell, that one is taken.  Speed that is INVALID
is not believed.  Models are recommended each for itself, unless the limits have a lowest AP under
one protocol: then that decides between them.

The page has the same rule in templates/recommend.js, for limits that are changed there; the cases
in tests/unit/report/recommendations.json are run through both.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from hrnetpose.artifacts.verdicts import Outside, Recommendation
from hrnetpose.limits import Limits
from hrnetpose.report.numbers import enough_digits, number, plain
from hrnetpose.report.rows import OwnLimits, Row

MOST_NAMES = 3
"""Names that a sentence lists before it counts the others, if those are several."""


class Candidate(BaseModel):
    """What the rule looks at of a variant; None where it was not measured.

    Attributes:
        label: the conditions that its AP compares under.
        change: of AP against its model's reference, which has 0.
        interval: of that, 95 %.
        spread: half of the 95 % interval of images/s, as a share of them.
        shift: 99th percentile of how far its keypoints move, in pixels of the input.
        invalid: the first reason why its speed cannot be believed.
        missing: the parts that a stage failed to make.
        limits: its own, which count instead of the common ones.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    model: str
    trained: bool = True
    label: str | None = None
    ap: float | None = None
    change: float | None = None
    interval: tuple[float, float] | None = None
    fps: float | None = None
    spread: float | None = None
    p99: float | None = None
    shift: float | None = None
    invalid: str | None = None
    missing: list[str] = []
    limits: dict[str, float | None] = {}


class Violation(NamedTuple):
    """Why a variant is not within the limits.

    Attributes:
        text: it, with how much is missing.
        excess: how much is missing, as a share of the limit; None if it cannot be counted.
    """

    text: str
    excess: float | None


def of_rows(rows: Sequence[Row], own_limits: OwnLimits) -> list[Candidate]:
    """Return what the rule looks at.

    Args:
        rows: of the report.
        own_limits: of single variants.
    """
    references = {row.delta.reference for row in rows if row.delta}
    return [_of_row(row, row.name in references, own_limits.get(row.name, {})) for row in rows]


def _of_row(row: Row, is_named: bool, own: Mapping[str, float | None]) -> Candidate:
    accuracy, perf, delta = row.accuracy, row.perf, row.delta
    is_reference = accuracy and not delta and (is_named or row.variant.precision == "fp32")
    trained = row.engine.model.trained if row.engine else True
    return Candidate(
        name=row.name,
        model=row.variant.model,
        trained=trained,
        label=accuracy.protocol.conditions if accuracy else None,
        ap=row.ap,
        change=delta.AP if delta else 0.0 if is_reference else None,
        interval=delta.ci95 if delta else (0.0, 0.0) if is_reference else None,
        fps=perf.throughput.fps if perf else None,
        spread=perf.throughput.interval if perf else None,
        p99=perf.latency_ms.p99 if perf else None,
        shift=row.parity.stages["engine"].keypoint_shift_px.p99 if row.parity else None,
        invalid=perf.invalid[0] if perf and perf.invalid else None,
        missing=[failure.part for failure in row.variant.failures],
        limits=dict(own),
    )


def recommend(candidates: Sequence[Candidate], limits: Limits) -> list[Recommendation]:
    """Recommend a variant of each model, or one of all where the limits decide between them.

    Args:
        candidates: all variants, in the order of the report.
        limits: the common ones.
    """
    models = list(dict.fromkeys(one.model for one in candidates))
    labels = {one.label for one in candidates if one.label is not None}
    if limits.ap is not None and len(labels) == 1:
        return [_choose(models, candidates, limits)] if models else []
    return [
        _choose([model], [one for one in candidates if one.model == model], limits)
        for model in models
    ]


def _choose(models: list[str], candidates: Sequence[Candidate], limits: Limits) -> Recommendation:
    some_trained = any(one.trained for one in candidates)
    found = {one.name: find_violations(one, limits, some_trained) for one in candidates}
    within = [one for one in candidates if not found[one.name]]
    outside = [
        Outside(variant=name, reasons=[violation.text for violation in violations])
        for name, violations in found.items()
        if violations
    ]
    if not within:
        nearest = min(candidates, key=lambda one: _distance(found[one.name]))
        why = "; ".join(violation.text for violation in found[nearest.name])
        text = f"No variant is within the limits. The nearest is {nearest.name}: {why}."
        return Recommendation(
            models=models, variant=None, text=text, nearest=nearest.name, alike=[], outside=outside
        )
    chosen = _take(within)
    alike = [one.name for one in within if one is not chosen and are_alike(one, chosen)]
    return Recommendation(
        models=models,
        variant=chosen.name,
        text=_say(chosen, within, alike, limits),
        nearest=None,
        alike=alike,
        outside=outside,
    )


def find_violations(one: Candidate, common: Limits, some_trained: bool) -> list[Violation]:
    """Return why a variant is not within the limits.

    Args:
        one: the variant.
        common: limits that count where it has none of its own.
        some_trained: others have an accuracy, so that one without is not taken.
    """
    limits = common.model_copy(update=one.limits)
    found = []

    def require(
        value: float | None, limit: float | None, sign: int, unknown: str, text: str, digits: int
    ) -> None:
        if limit is None:
            return
        if value is None:
            found.append(Violation(unknown, None))
        elif (excess := sign * (value - limit)) > 0:
            digits = enough_digits(excess, digits)
            numbers = number(value, digits), number(excess, digits), plain(limit)
            found.append(Violation(text.format(*numbers), excess / (limit or 1.0)))

    if one.missing:
        found.append(Violation(f"its {list_names(one.missing)} could not be made", None))
    if one.fps is not None and one.invalid is not None:
        found.append(Violation(f"its speed is INVALID ({one.invalid})", None))
    if not one.trained:
        if some_trained:
            found.append(Violation("its model is untrained and has no accuracy", None))
    elif "accuracy" not in one.missing:
        loss = None if one.change is None else -one.change
        require(one.ap, limits.ap, -1, "its AP is not known", "AP {}, {} below {}", 4)
        require(
            loss, limits.ap_drop, 1, "its change of AP is not known, for want of a reference",
            "loses {} AP, {} more than {}", 4,
        )  # fmt: skip
    if "parity" not in one.missing:
        require(
            one.shift, limits.keypoint_shift_px, 1, "its shift of keypoints is not known",
            "keypoints move by {} px (p99), {} more than {}", 2,
        )  # fmt: skip
    if one.fps is not None:
        require(one.fps, limits.fps, -1, "", "{} images/s, {} fewer than {}", 1)
        require(one.p99, limits.latency_p99_ms, 1, "", "p99 {} ms, {} ms more than {}", 2)
    return found


def are_alike(one: Candidate, other: Candidate) -> bool:
    """Return True if two variants cannot be told apart by accuracy: their intervals overlap."""
    if one.model != other.model or one.interval is None or other.interval is None:
        return False
    return one.interval[0] <= other.interval[1] and other.interval[0] <= one.interval[1]


def are_equally_fast(one: Candidate, other: Candidate) -> bool:
    """Return True if two variants cannot be told apart by images/s: their intervals overlap."""
    (low, high), (other_low, other_high) = _range(one), _range(other)
    return low <= other_high and other_low <= high


def _range(one: Candidate) -> tuple[float, float]:
    fps, spread = one.fps or 0.0, one.spread or 0.0
    return fps * (1 - spread), fps * (1 + spread)


def _take(within: Sequence[Candidate]) -> Candidate:
    """Return the fastest, or one that is as fast and more accurate."""
    fastest = max(within, key=lambda one: one.fps or 0.0)
    rivals = [
        one
        for one in within
        if one.interval is not None
        and fastest.interval is not None
        and one.model == fastest.model
        and are_equally_fast(one, fastest)
        and one.interval[0] > fastest.interval[1]
    ]
    return max(rivals, key=lambda one: one.change or 0.0, default=fastest)


def _distance(violations: Sequence[Violation]) -> tuple[int, int, float]:
    """Return how far from the limits: what cannot be counted is the farthest."""
    counted = [violation.excess for violation in violations if violation.excess is not None]
    return len(violations) - len(counted), len(violations), sum(counted)


def _say(
    chosen: Candidate, within: Sequence[Candidate], alike: Sequence[str], limits: Limits
) -> str:
    """Return the recommendation in a sentence."""
    fastest = max(within, key=lambda one: one.fps or 0.0)
    if chosen is fastest:
        rank = "the only one within the limits"
        if len(within) > 1:
            rank = f"the fastest of {len(within)} within the limits"
    else:
        rank = f"as fast as {fastest.name} and more accurate"
    text = (
        f"Ship {chosen.name}: {rank}, with {number(chosen.fps, 1)} images/s and a p99 of "
        f"{number(chosen.p99, 2)} ms"
    )
    if chosen.ap is None:
        return f"{text}; its accuracy was not measured."
    text += f"; AP {number(chosen.ap)}"
    if chosen.interval and chosen.interval != (0.0, 0.0):
        ends = " to ".join(number(end, sign=True) for end in chosen.interval)
        text += f", a change of {number(chosen.change, sign=True)} (95 %: {ends})"
    if alike:
        as_fast = [one.name for one in within if are_equally_fast(one, chosen)]
        same = [name for name in alike if name in as_fast]
        if same == alike:
            text += (
                f"; neither by accuracy nor by speed can it be told apart from {list_names(same)}"
            )
        else:
            text += f"; by accuracy it cannot be told apart from {list_names(alike)}"
            if same:
                text += f", nor by speed from {list_names(same)}"
            elif chosen is fastest:
                text += " and is the faster"
    allowed = chosen.limits.get("ap_drop", limits.ap_drop)
    if allowed is not None and chosen.interval and -chosen.interval[0] > allowed:
        text += f"; the interval reaches beyond the loss of {plain(allowed)} that is allowed"
    return f"{text}."


def list_names(names: Sequence[str]) -> str:
    """Return names as a list in words, of which a long one is counted."""
    shown = list(names)
    if len(names) > MOST_NAMES + 1:
        shown = [*names[:MOST_NAMES], f"{len(names) - MOST_NAMES} others"]
    if len(shown) < 2:
        return "".join(shown)
    return f"{', '.join(shown[:-1])} and {shown[-1]}"
