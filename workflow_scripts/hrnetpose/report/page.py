"""The report's page: one HTML file that needs nothing else."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
from markupsafe import Markup

from hrnetpose.artifacts.metrics import Metrics
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.artifacts.verdicts import Baseline, Recommendation
from hrnetpose.limits import Limits
from hrnetpose.report import charts, numbers, pictures, plot, recommend, table
from hrnetpose.report.pictures import Gallery
from hrnetpose.report.rows import OwnLimits, Row
from hrnetpose.report.stages import Made, Stage, Timing

TEMPLATES = Path(__file__).parent / "templates"
PRECISIONS = ("fp32", "bf16", "fp16", "int8", "fp8")
"""That have a colour in the style sheet."""


@dataclass(frozen=True)
class Report:
    """All that is on the page.

    Attributes:
        rows: variants.
        models: cards of their models.
        recommendations: which to ship.
        limits: what the user allows.
        own_limits: of single variants.
        warnings: what is to be known, by what it is about.
        stages: files from the checkpoint to the engines.
        timings: how long stages took, by the column that they stand in.
        made: the command and the configuration; None if that is not known.
        samples: seconds of single requests, by variant.
        galleries: pictures of the worst persons.
        baseline: what has changed since an older run.
        dataset: what it is called.
    """

    rows: Sequence[Row]
    models: Sequence[ModelCard]
    recommendations: Sequence[Recommendation] = ()
    limits: Limits = field(default_factory=Limits)
    own_limits: OwnLimits = field(default_factory=dict)
    warnings: Mapping[str, Sequence[str]] = field(default_factory=dict)
    stages: Sequence[Stage] = ()
    timings: Mapping[str, Sequence[Timing]] = field(default_factory=dict)
    made: Made | None = None
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)
    galleries: Sequence[Gallery] = ()
    baseline: Baseline | None = None
    dataset: str = ""


def render(report: Report) -> str:
    """Return the page."""
    rows, models = report.rows, report.models
    originals = " or ".join(sorted({model.origin.original for model in models}))
    measured = [row.perf for row in rows if row.perf]
    versions = {name: version for perf in measured for name, version in perf.versions.items()}
    fastest = table.fastest(rows)
    specs = charts.draw_all(rows, report.limits, report.own_limits, report.samples)
    candidates = recommend.of_rows(rows, report.own_limits)
    values = specs["plot"]["data"]["values"] if "plot" in specs else []
    plotted = {value["variant"] for value in values}
    is_single = len({row.variant.model for row in rows}) < 2
    return (
        _environment()
        .get_template("report.html")
        .render(
            rows=rows,
            scored=[row for row in rows if row.accuracy],
            timed=[row for row in rows if row.perf],
            traced=[row for row in rows if row.parity],
            profiled=[row for row in rows if row.perf and row.perf.layers],
            whole=[row for row in rows if row.perf and row.perf.end_to_end],
            metrics=list(Metrics.model_fields),
            failures=table.failures(rows),
            failures_heading=table.failures_heading(rows),
            failed=table.FAILED,
            missing=numbers.MISSING,
            disturbed=table.DISTURBED,
            letters=table.labels(rows),
            headline=table.headline(rows),
            recommendations=report.recommendations,
            chosen={one.variant for one in report.recommendations},
            outside={
                one.variant: one.reasons
                for answer in report.recommendations
                for one in answer.outside
            },
            limits=report.limits,
            own_limits=report.own_limits,
            plot_title=f"{'Change of AP' if is_single else 'AP'} over images/s",
            front=plot.find_front([one for one in candidates if one.name in plotted]),
            not_plotted=[
                row.name for row in rows if row.accuracy and row.perf and row.name not in plotted
            ],
            charts={name: charts.draw_svg(spec) for name, spec in specs.items()},
            legend=charts.legend(rows),
            models=models,
            originals=originals,
            stages=report.stages,
            timings=report.timings,
            command=report.made.command if report.made else None,
            configuration=report.made.text() if report.made else None,
            galleries=report.galleries,
            first_gallery=_choose_gallery(report),
            warnings=report.warnings,
            warning_count=sum(map(len, report.warnings.values())),
            baseline=report.baseline,
            changes=table.say_baseline(report.baseline) if report.baseline else "",
            digits=table.DIGITS,
            least_fall=pictures.LEAST_FALL,
            dataset=report.dataset,
            most_fps=fastest.perf.throughput.fps if fastest and fastest.perf else None,
            has_energy=any(perf.energy.joules_per_image is not None for perf in measured),
            machine=measured[0] if measured else None,
            versions=dict(sorted(versions.items())),
            data={
                "limits": report.limits.model_dump(),
                "candidates": [one.model_dump() for one in candidates],
                "charts": specs,
            },
            style=_read("style.css"),
            libraries=charts.bundle_javascript(),
            script=_read("recommend.js") + _read("page.js"),
        )
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["number"] = numbers.number
    environment.filters["plain"] = numbers.plain
    environment.filters["share"] = numbers.share
    environment.filters["published"] = table.published
    environment.filters["letter"] = table.letter
    environment.filters["tint"] = _tint
    environment.filters["code"] = _mark_code
    return environment


def _mark_code(text: str) -> Markup:
    """Return text with what is in backticks as code."""
    parts = re.split(r"`([^`]+)`", text)
    code = Markup("<code>{}</code>")
    return Markup("").join(
        code.format(part) if index % 2 else part for index, part in enumerate(parts)
    )


def _tint(precision: str) -> str:
    return f"var(--{precision})" if precision in PRECISIONS else "var(--soft)"


def _read(name: str) -> str:
    """Return a file of this package that is put into the page as it is."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _choose_gallery(report: Report) -> str | None:
    """Return whose pictures are shown first: the recommended variant's, if it has any."""
    names = [gallery.variant for gallery in report.galleries]
    chosen = [one.variant for one in report.recommendations if one.variant in names]
    return next(iter([*chosen, *reversed(names)]), None)
