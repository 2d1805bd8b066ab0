"""What the charts have in common, as parts of Vega-Lite specifications.

Colours are the page's CSS variables, so that one drawing serves light and dark.  The colour says
the precision, the shape or dash says the backend, and a variant that is chosen on the page stands
out: its name is the value of the parameter `selected`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Spec = dict[str, Any]
Values = list[dict[str, Any]]
Looks = Mapping[str, dict[str, Any]]
"""How each variant is drawn, by its name: what `LOOKS` names."""

WIDTH, HEIGHT = 560, 300
LONGEST_LABEL = 28
LOOKS = ("variant", "label", "colour", "shape", "dash")
CONFIG: Spec = {
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


def nominal(field: str, **rest: Any) -> Spec:
    """Return a channel of names."""
    return {"field": field, "type": "nominal", **rest}


def quantity(field: str, title: str, scale: Spec | None = None, **axis: Any) -> Spec:
    """Return a channel of numbers with an axis.

    Args:
        field: of the values.
        title: of the axis.
        scale: where it is not Vega-Lite's own.
        axis: more of the axis.
    """
    channel = {"field": field, "type": "quantitative", "axis": {"title": title, **axis}}
    return channel | ({"scale": scale} if scale else {})


def figure(field: str, title: str, form: str) -> Spec:
    """Return a number of a tooltip, in d3's form."""
    return {"field": field, "type": "quantitative", "title": title, "format": form}


VARIANT = nominal("variant")
COLOUR, SHAPE, DASH = (nominal(look, scale=None) for look in ("colour", "shape", "dash"))
FILL: Spec = {"condition": {"test": "!datum.valid", "value": "var(--paper)"}, **COLOUR}
"""Of a mark: hollow if the speed is INVALID."""
FAINT: Spec = {
    "condition": {"test": "selected === null || datum.variant === selected", "value": 1},
    "value": 0.15,
}
"""The opacity of a mark: others than the chosen variant are faint."""


def shorten(name: str) -> str:
    """Return a name that fits into a chart."""
    if len(name) <= LONGEST_LABEL:
        return name
    return f"{name[: LONGEST_LABEL - 1]}\N{HORIZONTAL ELLIPSIS}"


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers between two ends, more of them if the ends are close.

    A logarithmic axis has a label for each power of ten alone, and often there is only one.
    """
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    steps: tuple[float, ...] = (1, 2, 5) if high / low < 300 else (1,)
    if high / low < 6:
        steps = (1, 1.5, 2, 3, 4, 5, 6, 8)
    numbers = [float(step * power) for power in powers for step in steps]
    return [number for number in numbers if low <= number <= high]


def logarithmic(
    field: str, title: str, domain: tuple[float, float], form: str, clamp: bool = False, **axis: Any
) -> Spec:
    """Return a channel of numbers whose logarithmic axis ends where its domain does.

    Args:
        field: of the values.
        title: of the axis.
        domain: the ends.
        form: of the numbers at the axis, as d3 writes it.
        clamp: what is outside is drawn at the ends.
        axis: more of the axis.
    """
    scale = {"type": "log", "domain": list(domain), "nice": False} | (
        {"clamp": True} if clamp else {}
    )
    return quantity(field, title, scale, values=_ticks(*domain), format=form, **axis)


def chart(values: Values, layers: list[Spec], height: int = HEIGHT, **rest: Any) -> Spec:
    """Return a specification.

    Args:
        values: what is drawn, by the name `rows`.
        layers: one over the other.
        height: in pixels.
        rest: more of the specification.
    """
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": WIDTH,
        "height": height,
        "data": {"name": "rows", "values": values},
        "params": [{"name": "selected", "value": None}],
        "layer": layers,
        "config": CONFIG,
        **rest,
    }


def draw_lines(
    values: Values,
    x: Spec,
    y: Spec,
    *,
    detail: Sequence[str] = (),
    tooltip: Sequence[Spec] = (),
    more: Sequence[Spec] = (),
    dots: bool = False,
) -> Spec | None:
    """Return a line for each variant; None if there is nothing to draw.

    Args:
        values: points, in the order of their lines, each with the looks of its variant.
        x: channel.
        y: channel.
        detail: fields that make lines of their own.
        tooltip: channels, beside the variant.
        more: layers on top.
        dots: whether the points are seen.
    """
    if not values:
        return None
    encoding: Spec = {
        "x": x,
        "y": y,
        "color": COLOUR,
        "detail": [{"field": "variant"}, *({"field": name} for name in detail)],
        "opacity": FAINT,
        "tooltip": [VARIANT, *tooltip],
    }
    line = {"type": "line", "strokeWidth": 2, "strokeJoin": "round"}
    # What is pointed at, since a line itself has no single figure.
    point: Spec = {"mark": {"type": "point", "filled": True, "size": 40}, "encoding": encoding}
    if not dots:
        shown = {name: channel for name, channel in encoding.items() if name != "opacity"}
        point = {
            "mark": {"type": "point", "filled": True, "size": 80, "opacity": 0},
            "encoding": shown,
        }
    # How a variant looks is said once, and not with each of its points.
    looks = {value["variant"]: {name: value[name] for name in LOOKS} for value in values}
    points: Values = [
        {
            name: float(f"{number:.5g}") if isinstance(number, float) else number
            for name, number in value.items()
            if name == "variant" or name not in LOOKS
        }
        for value in values
    ]
    said = {
        "data": {"values": list(looks.values())},
        "key": "variant",
        "fields": [name for name in LOOKS if name != "variant"],
    }
    return chart(
        points,
        [{"mark": line, "encoding": {**encoding, "strokeDash": DASH}}, point, *more],
        transform=[{"lookup": "variant", "from": said}],
    )
