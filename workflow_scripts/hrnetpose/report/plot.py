"""The plot of the first screen: speed over accuracy."""

from collections.abc import Sequence
from itertools import product

import numpy as np

from hrnetpose.limits import Limits
from hrnetpose.report import recommend
from hrnetpose.report.recommend import Candidate
from hrnetpose.report.vega import (
    COLOUR,
    FILL,
    SHAPE,
    VARIANT,
    WIDTH,
    Looks,
    Spec,
    Values,
    chart,
    figure,
    logarithmic,
    nominal,
    quantity,
)

HEIGHT, NARROW = 360, 260
"""Of the plot, and its width on a phone, in pixels."""
OFFSETS = tuple(
    (align, dx, dy)
    for align, dx in (("left", 10), ("right", -10))
    for dy in (-9, 11, -22, 24, -35, 37)
)
"""Of a label from its mark, the best first."""
LETTER = 6.5
"""About the width of a label's letter, in pixels."""


def draw_plot(candidates: Sequence[Candidate], limits: Limits, looks: Looks) -> Spec | None:
    """Return the change of AP over images/s, or AP where there are several models.

    Rows of another headline protocol than most are left out, since their AP does not compare.
    """
    measured = [one for one in candidates if one.fps is not None and one.ap is not None]
    labels = [one.label for one in measured]
    shown = [one for one in measured if one.label == max(labels, key=labels.count)]
    over_ap = len({one.model for one in shown}) > 1
    values = [
        {**looks[one.name], **_place(one, over_ap)}
        for one in shown
        if over_ap or one.change is not None
    ]
    if not values:
        return None
    bands: Values = []
    if limits.ap_drop is not None:
        tops = {one.model: one.ap for one in shown if one.change == 0.0} if over_ap else {"": 0.0}
        bands = [
            {"top": top, "bottom": top - limits.ap_drop} for top in tops.values() if top is not None
        ]
    ends = [value[end] for value in values for end in ("low", "high")]
    ends += [end for band in bands for end in band.values()]
    margin = 0.08 * (max(ends) - min(ends) or 0.01)
    y_domain = [min(ends) - margin, max(ends) + margin]
    speeds = [value[end] for value in values for end in ("fps_low", "fps_high")]
    x_domain = max(min(speeds), 1e-9) / 1.25, max(speeds) * 1.6
    _place_labels(values, x_domain, y_domain)
    front = find_front(shown)
    layers = _layers(
        [value for value in values if value["variant"] in front],
        bands,
        logarithmic("fps", "images/s (logarithmic)", x_domain, "~s", grid=False),
        quantity(
            "height",
            "AP" if over_ap else "change of AP",
            {"domain": y_domain, "nice": False, "zero": False},
            format=".3f" if over_ap else "+.3f",
            tickCount=6,
        ),
        over_ap,
    )
    return chart(values, layers, height=HEIGHT)


def _place(one: Candidate, over_ap: bool) -> dict[str, object]:
    """Return where a candidate is in the plot, with its intervals and what is told of it."""
    change = one.change or 0.0
    low, high = one.interval or (change, change)
    spread = one.spread or 0.0
    assert one.fps is not None
    assert one.ap is not None
    height = one.ap if over_ap else change
    return {
        "fps": one.fps,
        "fps_low": one.fps * (1 - spread),
        "fps_high": one.fps * (1 + spread),
        "height": height,
        "low": height + low - change,
        "high": height + high - change,
        "ap": one.ap,
        "p99": one.p99,
        "valid": one.invalid is None,
        "state": "VALID" if one.invalid is None else "INVALID",
        "outside": False,
    }


def _layers(front: Values, bands: Values, x: Spec, y: Spec, over_ap: bool) -> list[Spec]:
    """Return what is drawn: the band allowed, the front, intervals, marks and their labels.

    Args:
        front: the values on the Pareto front.
        bands: from `top` to `bottom`.
        x: channel of images/s.
        y: channel of the height.
        over_ap: the height is AP, not its change.
    """
    y_scale = y["scale"]
    shade = {"opacity": {"condition": {"test": "datum.outside", "value": 0.35}, "value": 1}}
    place = f"datum.labels[width < {(WIDTH + NARROW) // 2} ? 1 : 0]"
    interval = {"mark": {"type": "rule", "strokeWidth": 1.5}}
    change = [] if over_ap else [figure("height", "change", "+.4f")]
    layers: list[Spec] = [
        {
            "data": {"name": "bands", "values": bands},
            "mark": {"type": "rect", "color": "var(--band)", "clip": True},
            "encoding": {
                "y": {"field": "bottom", "type": "quantitative", "scale": y_scale},
                "y2": {"field": "top"},
            },
        },
        {
            "data": {"name": "front", "values": front},
            "mark": {"type": "line", "color": "var(--soft)", "strokeWidth": 1.5, "opacity": 0.7},
            "encoding": {"x": x, "y": y},
        },
        {
            **interval,
            "encoding": {
                "x": x,
                "y": {**y, "field": "low"},
                "y2": {"field": "high"},
                "color": COLOUR,
                **shade,
            },
        },
        {
            **interval,
            "encoding": {
                "x": {**x, "field": "fps_low"},
                "x2": {"field": "fps_high"},
                "y": y,
                "color": COLOUR,
                **shade,
            },
        },
        {
            "name": "marks",
            "mark": {"type": "point", "cursor": "pointer", "strokeWidth": 2},
            "encoding": {
                "x": x,
                "y": y,
                "stroke": COLOUR,
                "fill": FILL,
                "shape": SHAPE,
                "size": {
                    "condition": {"test": "datum.variant === selected", "value": 260},
                    "value": 110,
                },
                **shade,
                "tooltip": [
                    VARIANT,
                    figure("ap", "AP", ".4f"),
                    *change,
                    figure("fps", "images/s", ".1f"),
                    figure("p99", "p99 ms", ".2f"),
                    nominal("state", title="speed"),
                ],
            },
        },
        {
            "mark": {
                "type": "text",
                **{look: {"expr": f"{place}.{look}"} for look in ("text", "align", "dx", "dy")},
            },
            "encoding": {
                "x": x,
                "y": y,
                "color": {
                    "condition": {"test": "datum.outside", "value": "var(--soft)"},
                    "value": "var(--ink)",
                },
            },
        },
    ]
    if not over_ap:
        no_change: Spec = {
            "data": {"values": [{"zero": 0}]},
            "mark": {"type": "rule", "color": "var(--soft)", "strokeDash": [3, 3]},
            "encoding": {"y": {"field": "zero", "type": "quantitative", "scale": y_scale}},
        }
        layers.insert(1, no_change)
    return layers


def _place_labels(values: Values, x_domain: Sequence[float], y_domain: Sequence[float]) -> None:
    """Give each value its label's place on a desk and on a phone, by the name `labels`.

    It is beside its mark where no other label or mark is, and if possible no interval; where there
    is no room it is left out, of the slowest first.
    """
    low, high = np.log(x_domain[0]), np.log(x_domain[1])

    def rise(height: float) -> float:
        return HEIGHT * (y_domain[1] - height) / (y_domain[1] - y_domain[0])

    for value in values:
        value["labels"] = []
    for width in (WIDTH, NARROW):
        places = [
            (width * (np.log(v["fps"]) - low) / (high - low), rise(v["height"])) for v in values
        ]
        taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
        bars = [
            (x - 1, rise(value["high"]), x + 1, rise(value["low"]))
            for (x, _), value in zip(places, values, strict=True)
        ]
        fastest_first = sorted(zip(values, places, strict=True), key=lambda one: -one[0]["fps"])
        for value, (x, y) in fastest_first:
            found = {"text": "", "align": "left", "dx": 0, "dy": 0}
            for obstacles, (align, dx, dy) in product((taken + bars, taken), OFFSETS):
                length = LETTER * len(value["label"])
                left = x + dx - (length if align == "right" else 0)
                box = (left, y + dy - 7, left + length, y + dy + 7)
                inside = box[0] >= 0 and box[1] >= 0 and box[2] <= width and box[3] <= HEIGHT
                if inside and not any(_overlap(box, other) for other in obstacles):
                    found = {"text": value["label"], "align": align, "dx": dx, "dy": dy}
                    taken.append(box)
                    break
            value["labels"].append(found)


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def find_front(candidates: Sequence[Candidate]) -> list[str]:
    """Return the Pareto front of images/s and accuracy, from the fastest on.

    Each is more accurate than the faster ones before it, as far as the intervals tell; of those
    that cannot be told apart by accuracy only the fastest is on it, and of those that are equally
    fast the most accurate.  Speed that is INVALID is not on it.  Between models, whose difference
    has no interval, the AP decides.
    """
    front: list[Candidate] = []
    known = [one for one in candidates if one.fps is not None and one.ap is not None]
    for one in sorted(known, key=lambda one: -(one.fps or 0.0)):
        if one.invalid is not None or (front and not _is_better(one, front[-1])):
            continue
        while front and recommend.are_equally_fast(one, front[-1]):
            front.pop()
        front.append(one)
    return [one.name for one in front]


def _is_better(one: Candidate, other: Candidate) -> bool:
    assert one.ap is not None
    assert other.ap is not None
    if one.model != other.model:
        return one.ap > other.ap
    return one.ap > other.ap and not recommend.are_alike(one, other)
