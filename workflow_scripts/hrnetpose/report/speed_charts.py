"""Charts of speed: latency, throughput, where the time goes, and the machine's limit."""

from collections.abc import Mapping, Sequence

import numpy as np

from hrnetpose.report.rows import Row
from hrnetpose.report.vega import (
    COLOUR,
    FAINT,
    FILL,
    SHAPE,
    VARIANT,
    Looks,
    Spec,
    Values,
    chart,
    draw_lines,
    figure,
    logarithmic,
    nominal,
    quantity,
    shorten,
)

POINTS = 80
"""Of a cumulative distribution."""
PARTS = ("decode", "crop", "copy_in", "inference", "copy_out", "keypoints", "other")
"""Of the time of a person, in the order of their colours in the style sheet."""


def draw_latency(
    rows: Sequence[Row], samples: Mapping[str, Sequence[float]], looks: Looks
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
    domain = max(low, 1e-6) / 1.1, max(mark["ms"] for mark in marks) * 1.5
    x = logarithmic("ms", "latency, ms (logarithmic)", domain, "~g", clamp=True, grid=False)
    y = quantity("share", "requests done", format="%")
    circles = {"domain": ["p50", "p99"], "range": ["circle", "diamond"]}
    return draw_lines(
        values,
        x,
        y,
        tooltip=[figure("ms", "ms", ".3f"), figure("share", "requests", ".1%")],
        more=[
            {
                "data": {"values": marks},
                "mark": {"type": "point", "size": 70, "strokeWidth": 2, "fill": "var(--paper)"},
                "encoding": {
                    "x": x,
                    "y": y,
                    "stroke": COLOUR,
                    "shape": nominal("what", scale=circles, legend=None),
                    "opacity": FAINT,
                    "tooltip": [VARIANT, nominal("what"), figure("ms", "ms", ".3f")],
                },
            }
        ],
    )


def draw_sweep(rows: Sequence[Row], looks: Looks) -> Spec | None:
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
    domain = min(v["fps"] for v in values) / 1.2, max(v["fps"] for v in values) * 1.2
    return draw_lines(
        values,
        quantity(
            "batch",
            "batch (logarithmic)",
            {"type": "log", "base": 2},
            values=sizes,
            grid=False,
            format="d",
        ),
        logarithmic("fps", "images/s (logarithmic)", domain, "~s"),
        detail=["streams"],
        tooltip=[
            figure("batch", "batch", "d"),
            nominal("streams"),
            figure("fps", "images/s", ".1f"),
        ],
        dots=True,
    )


def draw_parts(rows: Sequence[Row]) -> Spec | None:
    """Return where the time of a person goes, stacked."""
    values: Values = []
    whole = [(row.name, row.perf.end_to_end) for row in rows if row.perf and row.perf.end_to_end]
    for variant, found in whole:
        values += [
            {
                "variant": variant,
                "label": shorten(variant),
                "part": name.replace("_", " "),
                "order": PARTS.index(name) if name in PARTS else len(PARTS),
                "ms": value,
            }
            for name, value in found.ms_per_person.items()
        ]
    if not values:
        return None
    colours = {
        "domain": [name.replace("_", " ") for name in PARTS],
        "range": [f"var(--part{index})" for index in range(len(PARTS))],
    }
    encoding = {
        "y": nominal("label", sort=None, axis={"title": "", "labelLimit": 200}),
        "x": {**quantity("ms", "ms of a person, one part after the other"), "stack": "zero"},
        "color": nominal(
            "part", scale=colours, legend={"title": None, "orient": "bottom", "columns": 4}
        ),
        "order": {"field": "order", "type": "quantitative"},
        "opacity": FAINT,
        "tooltip": [VARIANT, nominal("part"), figure("ms", "ms", ".3f")],
    }
    mark = {"type": "bar", "stroke": "var(--paper)", "strokeWidth": 1}
    return chart(values, [{"mark": mark, "encoding": encoding}], height=24 * len(whole) + 20)


def draw_roofline(rows: Sequence[Row], looks: Looks) -> Spec | None:
    """Return each variant under what the machine can do at most in its precision."""
    held = [
        (row, row.perf, row.perf.roofline)
        for row in rows
        if row.perf and row.perf.roofline.peak_flops and row.perf.roofline.bandwidth_bytes_s
    ]
    if not held:
        return None
    values: Values = [
        {
            **looks[row.name],
            "intensity": roofline.flops_per_image / roofline.bytes_per_image,
            "rate": perf.throughput.fps * roofline.flops_per_image / 1e9,
            "fraction": roofline.fraction,
            "valid": not perf.invalid,
        }
        for row, perf, roofline in held
    ]
    intensities = [value["intensity"] for value in values]
    # Each variant was measured beside its own peak: the highest is the machine's.
    best: dict[tuple[str, str], tuple[float, float]] = {}
    for _, perf, roofline in held:
        key = (roofline.precision, perf.host.gpu or perf.host.cpu)
        peak, bandwidth = best.get(key, (0.0, 0.0))
        best[key] = (
            max(peak, roofline.peak_flops or 0.0),
            max(bandwidth, roofline.bandwidth_bytes_s or 0.0),
        )
    roofs: Values = []
    for (precision, machine), (peak, bandwidth) in best.items():
        ridge = peak / bandwidth
        ends = sorted({min(*intensities, ridge) / 3, ridge, max(*intensities, ridge) * 3})
        roofs += [
            {
                "roof": f"{precision} on {machine}",
                "colour": f"var(--{precision})",
                "precision": precision,
                "intensity": end,
                "rate": min(peak, bandwidth * end) / 1e9,
            }
            for end in ends
        ]
    xs = [value["intensity"] for value in [*values, *roofs]]
    ys = [value["rate"] for value in [*values, *roofs]]
    x = logarithmic("intensity", "operations per byte", (min(xs), max(xs)), "~s", grid=False)
    y = logarithmic("rate", "GFLOP/s (logarithmic)", (min(ys) / 2, max(ys) * 1.5), "~s")
    layers: list[Spec] = [
        {
            "data": {"values": roofs},
            "mark": {"type": "line", "strokeWidth": 1.5},
            "encoding": {"x": x, "y": y, "color": COLOUR, "detail": {"field": "roof"}},
        },
        {
            "mark": {"type": "point", "size": 90, "strokeWidth": 2},
            "encoding": {
                "x": x,
                "y": y,
                "stroke": COLOUR,
                "fill": FILL,
                "shape": SHAPE,
                "opacity": FAINT,
                "tooltip": [
                    VARIANT,
                    figure("intensity", "operations/byte", ".1f"),
                    figure("rate", "GFLOP/s", ".1f"),
                    figure("fraction", "of its roofline", ".0%"),
                ],
            },
        },
    ]
    return chart(values, layers)
