"""The report's page: one HTML file that needs nothing else."""

from collections.abc import Sequence
from pathlib import Path

import jinja2

from hrnetpose.artifacts.model import ModelCard
from hrnetpose.report import numbers, table
from hrnetpose.report.pictures import Picture
from hrnetpose.report.rows import Row
from hrnetpose.report.stages import Stage


def render(
    rows: Sequence[Row],
    models: Sequence[ModelCard],
    stages: Sequence[Stage],
    pictures: Sequence[Picture],
    warnings: Sequence[str] = (),
) -> str:
    """Return the page; `warnings` say what was found in the data."""
    originals = " or ".join(sorted({model.origin.original for model in models}))
    measured = [row.perf for row in rows if row.perf]
    versions = {name: version for perf in measured for name, version in perf.versions.items()}
    fastest = table.fastest(rows)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["number"] = numbers.number
    environment.filters["interval"] = table.interval
    environment.filters["published"] = table.published
    environment.filters["share"] = numbers.share
    environment.filters["letter"] = table.letter
    return environment.get_template("report.html").render(
        rows=rows,
        failures=table.failures(rows),
        failures_heading=table.failures_heading(rows),
        failed=table.FAILED,
        disturbed=table.DISTURBED,
        letters=table.labels(rows),
        models=models,
        originals=originals,
        stages=stages,
        pictures=pictures,
        warnings=warnings,
        most_fps=fastest.perf.throughput.fps if fastest and fastest.perf else None,
        machine=measured[0] if measured else None,
        versions=dict(sorted(versions.items())),
        hosts={perf.host.cpu for perf in measured},
    )
