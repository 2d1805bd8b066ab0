"""Charts of accuracy: by joint, by person, by recall and by stage."""

from collections.abc import Sequence

import numpy as np

from hrnetpose.artifacts import parity
from hrnetpose.report.rows import Row
from hrnetpose.report.vega import (
    COLOUR,
    FAINT,
    SHAPE,
    VARIANT,
    Looks,
    Spec,
    Values,
    chart,
    draw_lines,
    figure,
    nominal,
    quantity,
)


def draw_joints(rows: Sequence[Row], looks: Looks) -> Spec | None:
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
        "y": nominal("joint", sort=order, axis={"title": "", "grid": True}),
        "x": quantity("share", "mean error, share of the person's box", format=".1%", grid=False),
        "stroke": COLOUR,
        "shape": SHAPE,
        "opacity": FAINT,
        "tooltip": [
            VARIANT,
            nominal("joint"),
            figure("share", "of the box", ".2%"),
            figure("pixels", "pixels", ".2f"),
        ],
    }
    mark = {"type": "point", "size": 60, "strokeWidth": 2, "filled": False}
    return chart(values, [{"mark": mark, "encoding": encoding}], height=20 * len(order) + 20)


def draw_oks(rows: Sequence[Row], looks: Looks) -> Spec | None:
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
    return draw_lines(
        values,
        quantity("oks", "OKS", grid=False),
        quantity("share", "persons below", format="%"),
        tooltip=[figure("oks", "OKS below", ".2f"), figure("share", "persons", ".1%")],
    )


def draw_precision(rows: Sequence[Row], looks: Looks) -> Spec | None:
    """Return precision over recall, the mean of AP's ten thresholds."""
    values: Values = []
    for row in rows:
        line = row.accuracy.precision.get("mean", []) if row.accuracy else []
        values += [
            {**looks[row.name], "recall": index / (len(line) - 1), "precision": value}
            for index, value in enumerate(line)
            if index % 2 == 0
        ]
    return draw_lines(
        values,
        quantity("recall", "recall", grid=False),
        quantity("precision", "precision, mean over OKS 0.50 to 0.95"),
        tooltip=[figure("recall", "recall", ".2f"), figure("precision", "precision", ".3f")],
    )


def draw_drift(rows: Sequence[Row], looks: Looks) -> Spec | None:
    """Return how far keypoints are from the original's, stage by stage."""
    seen = {name for row in rows if row.parity for name in row.parity.stages}
    order = [name for name in parity.ORDER if name in seen]
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
    return draw_lines(
        values,
        nominal("stage", sort=order, axis={"title": "", "labelAngle": 0}),
        quantity(
            "shift",
            "mean shift of keypoints, px",
            {"type": "symlog", "constant": 0.001},
            values=[0, 0.001, 0.01, 0.1, 1, 10],
            format="~g",
        ),
        tooltip=[
            nominal("stage"),
            figure("shift", "mean px", ".4f"),
            figure("p99", "p99 px", ".3f"),
            figure("largest", "largest difference", ".1e"),
        ],
        dots=True,
    )
