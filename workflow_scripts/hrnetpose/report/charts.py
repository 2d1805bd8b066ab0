"""The page's charts, drawn here for print and again by the page."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import cycle

import jinja2
import vl_convert

from hrnetpose.limits import Limits
from hrnetpose.report import accuracy_charts, plot, recommend, speed_charts
from hrnetpose.report.rows import OwnLimits, Row
from hrnetpose.report.vega import Looks, Spec, shorten

VERSION = "6.4"
"""Of Vega-Lite, of those that vl-convert has."""
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
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 1], [1, 4])
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
    looks = find_looks(rows)
    candidates = recommend.of_rows(rows, own_limits)
    charts = {
        "plot": plot.draw_plot(candidates, limits, looks),
        "joints": accuracy_charts.draw_joints(rows, looks),
        "oks": accuracy_charts.draw_oks(rows, looks),
        "precision": accuracy_charts.draw_precision(rows, looks),
        "drift": accuracy_charts.draw_drift(rows, looks),
        "latency": speed_charts.draw_latency(rows, samples, looks),
        "sweep": speed_charts.draw_sweep(rows, looks),
        "parts": speed_charts.draw_parts(rows),
        "roofline": speed_charts.draw_roofline(rows, looks),
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


def find_looks(rows: Sequence[Row]) -> Looks:
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
