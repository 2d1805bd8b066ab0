"""The page's charts: Vega-Lite specifications, drawn here for print and again by the page.

Colours are the page's CSS variables, so that one drawing serves light and dark.  The colour says
the precision, the shape or dash says the backend, and a variant that is chosen on the page stands
out: its name is the value of the parameter `selected`.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import cycle
from typing import Any, get_args

import jinja2
import numpy as np
import vl_convert

from hrnetpose.artifacts.parity import Stage
from hrnetpose.limits import Limits
from hrnetpose.report import recommend
from hrnetpose.report.recommend import Candidate
from hrnetpose.report.rows import OwnLimits, Row

VERSION = "6.4"
"""Of Vega-Lite, of those that vl-convert has."""
WIDTH, HEIGHT = 560, 300
PLOT_HEIGHT = 360
POINTS = 80
"""Of a cumulative distribution."""
LONGEST_LABEL = 28
LETTER = 6.5
"""About the width of a label's letter, in pixels."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
PATHS = (
    "M8,0A8,8 0 1 1 -8,0A8,8 0 1 1 8,0",
    "M-7,-7H7V7H-7Z",
    "M0,-8L8,7H-8Z",
    "M0,-9L8,0L0,9L-8,0Z",
    "M-3,-8H3V-3H8V3H3V8H-3V3H-8V-3H-3Z",
    "M0,8L8,-7H-8Z",
)
"""Of the same shapes, for the legend."""
LOOKS = ("variant", "label", "colour", "shape", "dash")
"""How a variant is drawn."""
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 1], [1, 4])
PARTS = ("decode", "crop", "copy_in", "inference", "copy_out", "keypoints", "other")
"""Of the time of a person, in the order of their colours in the style sheet."""

_LEGEND = """<ul class="legend">
{% for name in precisions %}
<li><i style="--tint: var(--{{ name }})"></i>{{ name }}</li>
{% endfor %}
{% for name, path, dash in shapes %}
<li><svg viewBox="-10 -10 20 20" aria-hidden="true"><path d="{{ path }}"/></svg>\
<svg class="dash" viewBox="0 0 34 10" aria-hidden="true">\
<path d="M0,5H34" stroke-dasharray="{{ dash | join(" ") }}"/></svg>{{ name }}</li>
{% endfor %}
</ul>
"""

Spec = dict[str, Any]
Values = list[dict[str, Any]]

_CONFIG: Spec = {
    "font": "system-ui, -apple-system, 'Segoe UI', sans-serif",
    "background": "transparent",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--soft)",
        "titleColor": "var(--soft)",
        "titleFontWeight": "normal",
        "labelFontSize": 11,
        "titleFontSize": 12,
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "titlePadding": 8,
    },
    "text": {"color": "var(--ink)", "fontSize": 11},
    "legend": {"labelColor": "var(--soft)", "titleColor": "var(--soft)", "labelFontSize": 11},
}


def draw_all(
    rows: Sequence[Row],
    limits: Limits,
    own_limits: OwnLimits,
    samples: Mapping[str, Sequence[float]],
) -> dict[str, Spec]:
    """Return all charts that there are figures for, by the id of their place on the page.

    Args:
        rows: of the report.
        limits: what the user allows.
        own_limits: of single variants.
        samples: seconds of single requests, by variant.
    """
    looks = _looks(rows)
    charts = {
        "plot": draw_plot(rows, recommend.of_rows(rows, own_limits), limits, looks),
        "joints": _joints(rows, looks),
        "oks": _oks(rows, looks),
        "precision": _precision(rows, looks),
        "drift": _drift(rows, looks),
        "latency": _latency(rows, samples, looks),
        "sweep": _sweep(rows, looks),
        "parts": _parts(rows),
        "roofline": _roofline(rows, looks),
    }
    return {name: spec for name, spec in charts.items() if spec}


def draw_svg(spec: Spec) -> str:
    """Return a chart as SVG, escaped, to be put into the page."""
    # Nobody points at a picture.
    layers = [layer for layer in spec["layer"] if layer["mark"].get("opacity") != 0]
    return vl_convert.vegalite_to_svg(json.dumps({**spec, "layer": layers}), vl_version=VERSION)


def legend(rows: Sequence[Row]) -> str:
    """Return what colours and shapes mean, as HTML."""
    precisions = dict.fromkeys(row.variant.precision for row in rows)
    backends = dict.fromkeys(row.variant.backend for row in rows)
    template = jinja2.Template(_LEGEND, autoescape=True)
    shapes = list(zip(backends, cycle(PATHS), cycle(DASHES), strict=False))
    return template.render(precisions=precisions, shapes=shapes)


@cache
def bundle_javascript() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script."""
    script: str = vl_convert.javascript_bundle(vl_version=VERSION)  # type: ignore[call-arg]
    return script.replace("</script", "<\\/script")


def _looks(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Return how each variant is drawn: colour by precision, shape and dash by backend."""
    backends = list(dict.fromkeys(row.variant.backend for row in rows))
    return {
        row.name: {
            "variant": row.name,
            "label": shorten(row.name),
            "colour": f"var(--{row.variant.precision})",
            "shape": SHAPES[backends.index(row.variant.backend) % len(SHAPES)],
            "dash": DASHES[backends.index(row.variant.backend) % len(DASHES)],
        }
        for row in rows
    }


def shorten(name: str) -> str:
    """Return a name that fits into a chart."""
    if len(name) <= LONGEST_LABEL:
        return name
    return f"{name[: LONGEST_LABEL - 1]}\N{HORIZONTAL ELLIPSIS}"


def _chart(values: Values, layers: list[Spec], height: int = HEIGHT, **rest: Any) -> Spec:
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": WIDTH,
        "height": height,
        "data": {"name": "rows", "values": values},
        "params": [{"name": "selected", "value": None}],
        "layer": layers,
        "config": _CONFIG,
        **rest,
    }


def _axis(title: str, **rest: Any) -> Spec:
    return {"title": title, **rest}


_FAINT: Spec = {
    "condition": {"test": "selected === null || datum.variant === selected", "value": 1},
    "value": 0.15,
}


def draw_plot(
    rows: Sequence[Row],
    candidates: Sequence[Candidate],
    limits: Limits,
    looks: Mapping[str, dict[str, Any]],
) -> Spec | None:
    """Return images/s over the change of AP, or over AP where there are several models.

    Rows of another headline protocol than most are left out, since their AP does not compare.
    """
    measured = [one for one in candidates if one.fps is not None and one.ap is not None]
    labels = [one.label for one in measured]
    shown = [one for one in measured if one.label == max(labels, key=labels.count)]
    if not shown:
        return None
    over_ap = len({one.model for one in shown}) > 1
    values: Values = []
    for one in shown:
        change = one.change
        if change is None and not over_ap:
            continue
        height = one.ap if over_ap else change
        interval = one.interval or (change or 0.0, change or 0.0)
        spread = one.spread or 0.0
        assert one.fps is not None
        assert height is not None
        values.append(
            {
                **looks[one.name],
                "fps": one.fps,
                "fps_low": one.fps * (1 - spread),
                "fps_high": one.fps * (1 + spread),
                "height": height,
                "low": height + interval[0] - (change or 0.0),
                "high": height + interval[1] - (change or 0.0),
                "ap": one.ap,
                "p99": one.p99,
                "valid": one.invalid is None,
                "state": "VALID" if one.invalid is None else "INVALID",
                "outside": False,
            }
        )
    if not values:
        return None
    front = [value for value in values if value["variant"] in find_front(shown)]
    lows, highs = [value["low"] for value in values], [value["high"] for value in values]
    allowed = limits.ap_drop
    bands: Values = []
    tops = {one.model: one.ap for one in shown if one.change == 0.0} if over_ap else {"": 0.0}
    if allowed is not None:
        bands = [{"top": top, "bottom": top - allowed} for top in tops.values() if top is not None]
    ends = [*lows, *highs, *(end for band in bands for end in band.values())]
    margin = 0.08 * (max(ends) - min(ends) or 0.01)
    y_scale: Spec = {
        "domain": [min(ends) - margin, max(ends) + margin],
        "nice": False,
        "zero": False,
    }
    # A logarithmic axis has a label for each power of ten alone, and here there is often one.
    speeds = [value[end] for value in values for end in ("fps_low", "fps_high")]
    x_domain = [max(min(speeds), 1e-9) / 1.25, max(speeds) * 1.6]
    x = {
        "field": "fps",
        "type": "quantitative",
        "scale": {"type": "log", "domain": x_domain, "nice": False},
        "axis": _axis("images/s (logarithmic)", values=_ticks(*x_domain), format="~s", grid=False),
    }
    title = "AP" if over_ap else "change of AP"
    y = {
        "field": "height",
        "type": "quantitative",
        "scale": y_scale,
        "axis": _axis(title, format=".3f" if over_ap else "+.3f", tickCount=6),
    }
    shade = {"opacity": {"condition": {"test": "datum.outside", "value": 0.25}, "value": 1}}
    colour = {"field": "colour", "type": "nominal", "scale": None}
    layers: list[Spec] = [
        {
            "data": {"name": "bands", "values": bands},
            "mark": {"type": "rect", "color": "var(--band)", "clip": True},
            "encoding": {
                "y": {"field": "bottom", "type": "quantitative", "scale": y_scale},
                "y2": {"field": "top"},
            },
        },
        *(
            []
            if over_ap
            else [
                {
                    "data": {"values": [{"zero": 0}]},
                    "mark": {"type": "rule", "color": "var(--soft)", "strokeDash": [3, 3]},
                    "encoding": {"y": {"field": "zero", "type": "quantitative", "scale": y_scale}},
                }
            ]
        ),
        {
            "data": {"name": "front", "values": front},
            "mark": {"type": "line", "color": "var(--soft)", "strokeWidth": 1.5, "opacity": 0.7},
            "encoding": {"x": x, "y": y},
        },
        {
            "mark": {"type": "rule", "strokeWidth": 1.5},
            "encoding": {
                "x": x,
                "y": {**y, "field": "low"},
                "y2": {"field": "high"},
                "color": colour,
                **shade,
            },
        },
        {
            "mark": {"type": "rule", "strokeWidth": 1.5},
            "encoding": {
                "x": {**x, "field": "fps_low"},
                "x2": {"field": "fps_high"},
                "y": y,
                "color": colour,
                **shade,
            },
        },
        {
            "name": "marks",
            "mark": {"type": "point", "cursor": "pointer", "strokeWidth": 2},
            "encoding": {
                "x": x,
                "y": y,
                "stroke": colour,
                "fill": {
                    "condition": {"test": "!datum.valid", "value": "var(--paper)"},
                    **colour,
                },
                "shape": {"field": "shape", "type": "nominal", "scale": None},
                "size": {
                    "condition": {"test": "datum.variant === selected", "value": 260},
                    "value": 110,
                },
                **shade,
                "tooltip": [
                    {"field": "variant", "type": "nominal"},
                    {"field": "ap", "type": "quantitative", "title": "AP", "format": ".4f"},
                    *(
                        []
                        if over_ap
                        else [
                            {
                                "field": "height",
                                "type": "quantitative",
                                "title": "change",
                                "format": "+.4f",
                            }
                        ]
                    ),
                    {
                        "field": "fps",
                        "type": "quantitative",
                        "title": "images/s",
                        "format": ".1f",
                    },
                    {"field": "p99", "type": "quantitative", "title": "p99 ms", "format": ".2f"},
                    {"field": "state", "type": "nominal", "title": "speed"},
                ],
            },
        },
        {
            "mark": {
                "type": "text",
                "align": {"expr": "datum.align"},
                "dx": {"expr": "datum.dx"},
                "dy": {"expr": "datum.dy"},
            },
            "encoding": {"x": x, "y": y, "text": {"field": "text"}, "color": colour, **shade},
        },
    ]
    _place_labels(values, x_domain, y_scale["domain"])
    return _chart(values, layers, height=PLOT_HEIGHT)


def _place_labels(values: Values, x_domain: Sequence[float], y_domain: Sequence[float]) -> None:
    """Put each label beside its mark where no other label or mark is; else leave it out."""
    low, high = np.log(x_domain[0]), np.log(x_domain[1])
    places = [
        (
            WIDTH * (np.log(value["fps"]) - low) / (high - low),
            PLOT_HEIGHT * (y_domain[1] - value["height"]) / (y_domain[1] - y_domain[0]),
        )
        for value in values
    ]
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    offsets = [("left", 10, dy) for dy in (-9, 11, -22, 24, -35, 37)]
    offsets += [("right", -10, dy) for dy in (-9, 11, -22, 24, -35, 37)]
    for value, (x, y) in zip(values, places, strict=True):
        length = LETTER * len(value["label"])
        value |= {"text": "", "align": "left", "dx": 0, "dy": 0}
        for align, dx, dy in offsets:
            left = x + dx - (length if align == "right" else 0)
            box = (left, y + dy - 7, left + length, y + dy + 7)
            inside = box[0] >= 0 and box[1] >= 0 and box[2] <= WIDTH and box[3] <= PLOT_HEIGHT
            if inside and not any(_overlap(box, other) for other in taken):
                value |= {"text": value["label"], "align": align, "dx": dx, "dy": dy}
                taken.append(box)
                break


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers between two ends, more of them if the ends are close."""
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    steps: tuple[float, ...] = (1, 2, 5) if high / low < 300 else (1,)
    if high / low < 6:
        steps = (1, 1.5, 2, 3, 4, 5, 6, 8)
    numbers = [float(step * power) for power in powers for step in steps]
    return [number for number in numbers if low <= number <= high]


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


def _lines(
    values: Values,
    x: Spec,
    y: Spec,
    *,
    detail: Sequence[str] = (),
    tooltip: Sequence[Spec] = (),
    height: int = HEIGHT,
    more: Sequence[Spec] = (),
    dots: bool = False,
) -> Spec | None:
    """Return a line for each variant; None if there is nothing to draw."""
    if not values:
        return None
    encoding = {
        "x": x,
        "y": y,
        "color": {"field": "colour", "type": "nominal", "scale": None},
        "detail": [{"field": "variant"}, *({"field": name} for name in detail)],
        "opacity": _FAINT,
        "tooltip": [{"field": "variant", "type": "nominal"}, *tooltip],
    }
    mark: Spec = {"type": "line", "strokeWidth": 2, "strokeJoin": "round"}
    dash = {"strokeDash": {"field": "dash", "type": "nominal", "scale": None}}
    layers: list[Spec] = [{"mark": mark, "encoding": encoding | dash}]
    # What is pointed at, since a line itself has no single figure.
    point: Spec = {"mark": {"type": "point", "filled": True, "size": 40}, "encoding": encoding}
    if not dots:
        shown = {name: channel for name, channel in encoding.items() if name != "opacity"}
        point = {
            "mark": {"type": "point", "filled": True, "size": 80, "opacity": 0},
            "encoding": shown,
        }
    layers += [point, *more]
    # How a variant looks is said once, and not with each of its points.
    looks = {value["variant"]: {name: value[name] for name in LOOKS} for value in values}
    points: Values = [
        {
            name: float(f"{figure:.5g}") if isinstance(figure, float) else figure
            for name, figure in value.items()
            if name == "variant" or name not in LOOKS
        }
        for value in values
    ]
    return _chart(
        points,
        layers,
        height,
        transform=[
            {
                "lookup": "variant",
                "from": {
                    "data": {"values": list(looks.values())},
                    "key": "variant",
                    "fields": [name for name in LOOKS if name != "variant"],
                },
            }
        ],
    )


def _figure(field: str, title: str, form: str) -> Spec:
    return {"field": field, "type": "quantitative", "title": title, "format": form}


def _joints(rows: Sequence[Row], looks: Mapping[str, dict[str, Any]]) -> Spec | None:
    """Return the error by joint, a mark for each variant."""
    values: Values = []
    order: list[str] = []
    for row in rows:
        view = row.view
        if view is None:
            continue
        order = order or list(view.by_joint)
        values += [
            {**looks[row.name], "joint": name, "share": error.mean_share, "pixels": error.mean_px}
            for name, error in view.by_joint.items()
            if error.mean_share is not None
        ]
    if not values:
        return None
    encoding = {
        "y": {"field": "joint", "type": "nominal", "sort": order, "axis": _axis("", grid=True)},
        "x": {
            "field": "share",
            "type": "quantitative",
            "axis": _axis("mean error, share of the person's box", format=".1%", grid=False),
        },
        "stroke": {"field": "colour", "type": "nominal", "scale": None},
        "shape": {"field": "shape", "type": "nominal", "scale": None},
        "opacity": _FAINT,
        "tooltip": [
            {"field": "variant", "type": "nominal"},
            {"field": "joint", "type": "nominal"},
            _figure("share", "of the box", ".2%"),
            _figure("pixels", "pixels", ".2f"),
        ],
    }
    mark = {"type": "point", "size": 60, "strokeWidth": 2, "filled": False}
    return _chart(values, [{"mark": mark, "encoding": encoding}], height=20 * len(order) + 20)


def _oks(rows: Sequence[Row], looks: Mapping[str, dict[str, Any]]) -> Spec | None:
    """Return the cumulative distribution of OKS."""
    values: Values = []
    for row in rows:
        counts = row.view.oks_counts if row.view else []
        total = sum(counts)
        if not total:
            continue
        shares = [0.0, *np.cumsum(counts) / total]
        values += [
            {**looks[row.name], "oks": index / len(counts), "share": float(share)}
            for index, share in enumerate(shares)
        ]
    return _lines(
        values,
        {"field": "oks", "type": "quantitative", "axis": _axis("OKS", grid=False)},
        {"field": "share", "type": "quantitative", "axis": _axis("persons below", format="%")},
        tooltip=[_figure("oks", "OKS below", ".2f"), _figure("share", "persons", ".1%")],
    )


def _precision(rows: Sequence[Row], looks: Mapping[str, dict[str, Any]]) -> Spec | None:
    """Return precision over recall, the mean of AP's ten thresholds."""
    values: Values = []
    for row in rows:
        line = row.accuracy.precision.get("mean", []) if row.accuracy else []
        values += [
            {**looks[row.name], "recall": index / (len(line) - 1), "precision": value}
            for index, value in enumerate(line)
            if index % 2 == 0
        ]
    return _lines(
        values,
        {"field": "recall", "type": "quantitative", "axis": _axis("recall", grid=False)},
        {
            "field": "precision",
            "type": "quantitative",
            "axis": _axis("precision, mean over OKS 0.50 to 0.95"),
        },
        tooltip=[_figure("recall", "recall", ".2f"), _figure("precision", "precision", ".3f")],
    )


def _drift(rows: Sequence[Row], looks: Mapping[str, dict[str, Any]]) -> Spec | None:
    """Return how far keypoints are from the original's, stage by stage."""
    seen = {name for row in rows if row.parity for name in row.parity.stages}
    order = [name for name in get_args(Stage) if name in seen]
    values: Values = [
        {
            **looks[row.name],
            "stage": name,
            "shift": drift.keypoint_shift_px.mean,
            "p99": drift.keypoint_shift_px.p99,
            "largest": drift.max_abs,
        }
        for row in rows
        if row.parity
        for name, drift in row.parity.stages.items()
    ]
    return _lines(
        values,
        {"field": "stage", "type": "nominal", "sort": order, "axis": _axis("", labelAngle=0)},
        {
            "field": "shift",
            "type": "quantitative",
            "scale": {"type": "symlog", "constant": 0.001},
            "axis": _axis(
                "mean shift of keypoints, px", values=[0, 0.001, 0.01, 0.1, 1, 10], format="~g"
            ),
        },
        tooltip=[
            {"field": "stage", "type": "nominal"},
            _figure("shift", "mean px", ".4f"),
            _figure("p99", "p99 px", ".3f"),
            _figure("largest", "largest difference", ".1e"),
        ],
        dots=True,
    )


def _latency(
    rows: Sequence[Row],
    samples: Mapping[str, Sequence[float]],
    looks: Mapping[str, dict[str, Any]],
) -> Spec | None:
    """Return the cumulative distribution of latency, with p50 and p99 marked."""
    values: Values = []
    marks: Values = []
    tail = 1 - np.geomspace(1e-3, 0.01, 20)
    shares = np.unique([*np.linspace(0, 1, POINTS - len(tail)), *tail])
    for row in rows:
        if not row.perf or not len(samples.get(row.name, ())):
            continue
        times = np.quantile(samples[row.name], shares) * 1e3
        values += [
            {**looks[row.name], "ms": float(time), "share": float(share)}
            for time, share in zip(times, shares, strict=True)
        ]
        latency = row.perf.latency_ms
        marks += [
            {**looks[row.name], "ms": latency.p50, "share": 0.5, "what": "p50"},
            {**looks[row.name], "ms": latency.p99, "share": 0.99, "what": "p99"},
        ]
    if not values:
        return None
    # The slowest of all would squeeze everything else.
    low = min(value["ms"] for value in values)
    high = max(mark["ms"] for mark in marks) * 1.5
    domain = [max(low, 1e-6) / 1.1, high]
    x = {
        "field": "ms",
        "type": "quantitative",
        "scale": {"type": "log", "domain": domain, "nice": False, "clamp": True},
        "axis": _axis("latency, ms (logarithmic)", values=_ticks(*domain), format="~g", grid=False),
    }
    y = {"field": "share", "type": "quantitative", "axis": _axis("requests done", format="%")}
    return _lines(
        values,
        x,
        y,
        tooltip=[_figure("ms", "ms", ".3f"), _figure("share", "requests", ".1%")],
        more=[
            {
                "data": {"values": marks},
                "mark": {"type": "point", "size": 70, "strokeWidth": 2, "fill": "var(--paper)"},
                "encoding": {
                    "x": x,
                    "y": y,
                    "stroke": {"field": "colour", "type": "nominal", "scale": None},
                    "shape": {
                        "field": "what",
                        "type": "nominal",
                        "scale": {"domain": ["p50", "p99"], "range": ["circle", "diamond"]},
                        "legend": None,
                    },
                    "opacity": _FAINT,
                    "tooltip": [
                        {"field": "variant", "type": "nominal"},
                        {"field": "what", "type": "nominal"},
                        _figure("ms", "ms", ".3f"),
                    ],
                },
            }
        ],
    )


def _sweep(rows: Sequence[Row], looks: Mapping[str, dict[str, Any]]) -> Spec | None:
    """Return throughput over the batch size, a line for each number of streams."""
    values: Values = [
        {
            **looks[row.name],
            "batch": point.batch,
            "streams": "none" if point.streams is None else str(point.streams),
            "fps": point.fps,
        }
        for row in rows
        if row.perf
        for point in row.perf.throughput.sweep
    ]
    if not values:
        return None
    sizes = sorted({value["batch"] for value in values})
    domain = [min(v["fps"] for v in values) / 1.2, max(v["fps"] for v in values) * 1.2]
    return _lines(
        values,
        {
            "field": "batch",
            "type": "quantitative",
            "scale": {"type": "log", "base": 2},
            "axis": _axis("batch (logarithmic)", values=sizes, grid=False, format="d"),
        },
        {
            "field": "fps",
            "type": "quantitative",
            "scale": {"type": "log", "domain": domain, "nice": False},
            "axis": _axis("images/s (logarithmic)", values=_ticks(*domain), format="~s"),
        },
        detail=["streams"],
        tooltip=[
            _figure("batch", "batch", "d"),
            {"field": "streams", "type": "nominal"},
            _figure("fps", "images/s", ".1f"),
        ],
        dots=True,
    )


def _parts(rows: Sequence[Row]) -> Spec | None:
    """Return where the time of a person goes, stacked."""
    whole = [row for row in rows if row.perf and row.perf.end_to_end]
    values: Values = [
        {
            "variant": row.name,
            "label": shorten(row.name),
            "part": name.replace("_", " "),
            "order": PARTS.index(name) if name in PARTS else len(PARTS),
            "ms": value,
        }
        for row in whole
        if row.perf and row.perf.end_to_end
        for name, value in row.perf.end_to_end.ms_per_person.items()
    ]
    if not values:
        return None
    names = [name.replace("_", " ") for name in PARTS]
    encoding = {
        "y": {"field": "label", "type": "nominal", "sort": None, "axis": _axis("", labelLimit=200)},
        "x": {
            "field": "ms",
            "type": "quantitative",
            "stack": "zero",
            "axis": _axis("ms of a person, one part after the other"),
        },
        "color": {
            "field": "part",
            "type": "nominal",
            "scale": {
                "domain": names,
                "range": [f"var(--part{index})" for index in range(len(names))],
            },
            "legend": {"title": None, "orient": "bottom", "columns": 4},
        },
        "order": {"field": "order", "type": "quantitative"},
        "opacity": _FAINT,
        "tooltip": [
            {"field": "variant", "type": "nominal"},
            {"field": "part", "type": "nominal"},
            _figure("ms", "ms", ".3f"),
        ],
    }
    mark = {"type": "bar", "stroke": "var(--paper)", "strokeWidth": 1}
    return _chart(values, [{"mark": mark, "encoding": encoding}], height=24 * len(whole) + 20)


def _roofline(rows: Sequence[Row], looks: Mapping[str, dict[str, Any]]) -> Spec | None:
    """Return each variant under what the machine can do at most in its precision."""
    values: Values = []
    roofs: Values = []
    for row in rows:
        held = row.perf.roofline if row.perf else None
        if not row.perf or not held or not held.peak_flops or not held.bandwidth_bytes_s:
            continue
        values.append(
            {
                **looks[row.name],
                "intensity": held.flops_per_image / held.bytes_per_image,
                "rate": row.perf.throughput.fps * held.flops_per_image / 1e9,
                "fraction": held.fraction,
            }
        )
    if not values:
        return None
    intensities = [value["intensity"] for value in values]
    seen = set()
    for row in rows:
        held = row.perf.roofline if row.perf else None
        if not held or not held.peak_flops or not held.bandwidth_bytes_s:
            continue
        key = held.precision, held.peak_flops, held.bandwidth_bytes_s
        if key in seen:
            continue
        seen.add(key)
        ridge = held.peak_flops / held.bandwidth_bytes_s
        ends = sorted({min(*intensities, ridge) / 3, ridge, max(*intensities, ridge) * 3})
        roofs += [
            {
                "roof": f"{held.precision} {held.peak_flops:.3g}",
                "colour": f"var(--{held.precision})",
                "precision": held.precision,
                "intensity": end,
                "rate": min(held.peak_flops, held.bandwidth_bytes_s * end) / 1e9,
            }
            for end in ends
        ]
    xs = [value["intensity"] for value in [*values, *roofs]]
    ys = [value["rate"] for value in [*values, *roofs]]
    x_domain, y_domain = [min(xs), max(xs)], [min(ys) / 2, max(ys) * 1.5]
    x = {
        "field": "intensity",
        "type": "quantitative",
        "scale": {"type": "log", "domain": x_domain, "nice": False},
        "axis": _axis("operations per byte", values=_ticks(*x_domain), format="~s", grid=False),
    }
    y = {
        "field": "rate",
        "type": "quantitative",
        "scale": {"type": "log", "domain": y_domain, "nice": False},
        "axis": _axis("GFLOP/s (logarithmic)", values=_ticks(*y_domain), format="~s"),
    }
    colour = {"field": "colour", "type": "nominal", "scale": None}
    layers: list[Spec] = [
        {
            "data": {"values": roofs},
            "mark": {"type": "line", "strokeWidth": 1.5},
            "encoding": {"x": x, "y": y, "color": colour, "detail": {"field": "roof"}},
        },
        {
            "mark": {"type": "point", "size": 90, "strokeWidth": 2},
            "encoding": {
                "x": x,
                "y": y,
                "stroke": colour,
                "fill": colour,
                "shape": {"field": "shape", "type": "nominal", "scale": None},
                "opacity": _FAINT,
                "tooltip": [
                    {"field": "variant", "type": "nominal"},
                    _figure("intensity", "operations/byte", ".1f"),
                    _figure("rate", "GFLOP/s", ".1f"),
                    _figure("fraction", "of the limit", ".0%"),
                ],
            },
        },
    ]
    return _chart(values, layers)
