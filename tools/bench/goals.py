"""What `make bench` measured, and the goals that it is held against."""

import statistics
from dataclasses import dataclass, field
from typing import Any

from tabulate import tabulate

from hrnetpose.artifacts.measured import Host
from hrnetpose.report import numbers

PRECISIONS = ("fp32", "bf16", "int8")
GPU_BATCHES = (1, 8, 32, 128)
MOST_BYTES = 2_000_000_000
REPORT_SECONDS, AGAIN_SECONDS = 180, 4


@dataclass(frozen=True)
class Row:
    """A ratio and what it should be at least.

    Attributes:
        name: what is compared.
        ratio: how many times better; None if it was not measured.
        goal: what it should be at least.
        applies: the goal is meant for such a machine and such data.
    """

    name: str
    ratio: float | None
    goal: float
    applies: bool

    @property
    def met(self) -> bool | None:
        """Return True if the goal is reached; None if it does not apply or was not measured."""
        if not self.applies or self.ratio is None:
            return None
        return self.ratio >= self.goal


@dataclass
class Figures:
    """What was measured: all values of each figure, and what disturbed them.

    Attributes:
        values: name -> its values, one for each round; more is better.
        disturbances: name -> what else went on.
        details: name -> everything else that the last measurement found.
    """

    values: dict[str, list[float]] = field(default_factory=dict)
    disturbances: dict[str, list[str]] = field(default_factory=dict)
    details: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, name: str, value: float, found: dict[str, Any]) -> None:
        """Keep a value and what was found beside it."""
        self.values.setdefault(name, []).append(value)
        for reason in found.get("disturbances", []):
            self.disturbances.setdefault(name, []).append(reason)
        self.details[name] = found
        print(f"  {name}: {value:.2f}", flush=True)

    def median(self, name: str) -> float | None:
        """Return the median of a figure's values; None if it was not measured."""
        values = self.values.get(name)
        return statistics.median(values) if values else None

    def ratio(self, ours: str, theirs: str) -> float | None:
        """Return the ratio of two figures."""
        one, other = self.median(ours), self.median(theirs)
        return one / other if one and other else None


def has_amx(machine: Host) -> bool:
    """Return True if the CPU multiplies matrices of low precision in tiles."""
    return {"amx_bf16", "amx_int8"} <= set(machine.features)


def judge(figures: Figures, machine: Host, real: bool) -> list[Row]:
    """Hold the figures against the goals, which are for 2 cores with AMX.

    Args:
        figures: what was measured.
        machine: where.
        real: on COCO's images.
    """
    amx = has_amx(machine)
    rows = [
        Row(
            f"W32 {precision} throughput / benchmark_app's",
            figures.ratio(f"w32 {precision} images/s", f"benchmark_app {precision} images/s"),
            1.0,
            True,
        )
        for precision in PRECISIONS
    ]
    ort = "onnxruntime fp32 images/s"
    for precision, goal in (("bf16", 7.0), ("int8", 10.0)):
        ratio = figures.ratio(f"w32 {precision} images/s", ort)
        rows.append(Row(f"W32 {precision} throughput / ONNX Runtime fp32's", ratio, goal, amx))
    for precision, goal in (("fp32", 0.95), ("bf16", 0.9), ("int8", 0.8)):
        share = figures.median(f"w32 {precision} of limit")
        rows.append(
            Row(
                f"W32 {precision} of the matrix-product peak",
                share,
                goal,
                machine.is_native(precision),
            )
        )
    ratio = figures.ratio("w32 bf16 batch-1 requests/s", ort)
    rows.append(Row("ONNX Runtime fp32 latency / W32 bf16 latency, batch 1", ratio, 5.0, amx))
    for batch in GPU_BATCHES:
        ours = f"w32 fp16 ours batch {batch} images/s"
        for peer in ("eager", "compiled"):
            ratio = figures.ratio(ours, f"w32 fp16 {peer} batch {batch} images/s")
            name = f"W32 fp16 on the GPU, batch {batch} / PyTorch {peer}"
            rows += [Row(name, ratio, 1.0, True)] if ratio else []
    ratio = figures.ratio("crops ours persons/s", "crops mmpose persons/s")
    rows.append(Row("JPEG to crops / mmpose's data loader", ratio, 1.0, True))
    peer = "w32 mmpose evaluation persons/s"
    for precision, goal in (("fp32", 2.0), ("bf16", 11.0), ("int8", 16.0)):
        ratio = figures.ratio(f"w32 {precision} evaluation persons/s", peer)
        applies = real and (amx or precision == "fp32")
        rows.append(Row(f"W32 {precision} evaluation / mmpose's", ratio, goal, applies))
    peer = "small mmpose evaluation persons/s"
    small = [figures.ratio(f"small {p} evaluation persons/s", peer) for p in ("fp32", "bf16")]
    name = "Lite-HRNet" if real else "sample model"
    rows.append(Row(f"{name} fp32 evaluation / mmpose's", small[0], 4.0, real))
    best = max((ratio for ratio in small if ratio), default=None)
    rows.append(Row(f"{name} best evaluation / mmpose's", best, 6.0, real and amx))
    for precision in PRECISIONS:
        persons = figures.median(f"w32 {precision} evaluation persons/s")
        images = figures.median(f"w32 {precision} images/s")
        ratio = 2 * persons / images if persons and images else None
        rows.append(Row(f"W32 {precision} evaluation / its engine throughput", ratio, 0.85, True))
    for name in (
        "100,000 crops: 2 GB / peak",
        f"make report: {REPORT_SECONDS} s / seconds",
        f"make report again: {AGAIN_SECONDS} s / seconds",
    ):
        rows.append(Row(name, figures.median(name), 1.0, True))
    return rows


def as_text(rows: list[Row]) -> str:
    """Return the rows for a terminal."""
    judged = {True: "met", False: "NOT MET", None: "not judged here"}
    lines = [
        (row.name, numbers.number(row.ratio, 2), f"at least {row.goal}", judged[row.met])
        for row in rows
    ]
    return tabulate(
        lines, tablefmt="plain", disable_numparse=True, colalign=("left", "right", "left", "left")
    )
