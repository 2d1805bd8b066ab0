"""Write the report: the page, summaries for a terminal, a pull request and a spreadsheet, verdicts.

    python workflow_scripts/write_report.py --engines build/engines/fp32 \\
        --perf results/fp32_perf.json --samples results/fp32_perf_samples.json \\
        --accuracy results/fp32_accuracy.json --models build/models/sample --dataset sample \\
        --annotations audit.npz --audits audit.json --persons persons_gt.json \\
        --images val.zip --predictions build/predictions/fp32/*.npz --output report.html \\
        --summary summary.txt --markdown summary.md --table results.csv --verdicts verdicts.json

After a run in which stages failed, `--variants` names all rows and what failed, and the other flags
only what is there.
"""

import argparse
import json
from pathlib import Path

from hrnetpose import files, stage
from hrnetpose.artifacts.audit import Audit
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.artifacts.persons import PersonList
from hrnetpose.artifacts.verdicts import Verdicts
from hrnetpose.limits import Limits
from hrnetpose.report import page, pictures, recommend, rows, stages
from hrnetpose.report import table as tables
from hrnetpose.report.baseline import compare
from hrnetpose.report.failures import Variant
from hrnetpose.report.rows import Published, Row
from hrnetpose.stage import StageError


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument("--engines", type=Path, nargs="*", default=[], help="engine folders")
    command.add_argument("--perf", type=Path, nargs="*", default=[], help="their speed (JSON)")
    command.add_argument("--samples", type=Path, nargs="*", default=[], help="its samples (JSON)")
    command.add_argument("--accuracy", type=Path, nargs="*", default=[], help="accuracies (JSON)")
    command.add_argument("--parity", type=Path, nargs="*", default=[], help="drifts (JSON)")
    command.add_argument("--models", type=Path, nargs="*", default=[], help="model folders")
    command.add_argument("--dataset", required=True, help="what the dataset is called")
    command.add_argument("--annotations", type=Path, help="of audit_dataset (.npz)")
    command.add_argument("--audits", type=Path, nargs="*", default=[], help="of datasets (JSON)")
    command.add_argument("--persons", type=Path, nargs="*", default=[], help="lists (JSON)")
    command.add_argument("--images", type=Path, help="a folder or a zip")
    command.add_argument("--predictions", type=Path, nargs="*", default=[], help="in VARIANT/*.npz")
    command.add_argument(
        "--published",
        type=stage.Json(Published),
        default={},
        help='JSON: {"MODEL": {"det+flip": {"AP": 0.749}}}',
    )
    command.add_argument(
        "--limits", type=stage.Json(Limits), default=Limits(), help='JSON: {"ap_drop": 0.01}'
    )
    command.add_argument(
        "--own-limits",
        type=stage.Json(dict[str, dict[str, float | None]]),
        default={},
        help='JSON: of single variants: {"int8": {"ap_drop": 0.02}}',
    )
    command.add_argument(
        "--variants",
        type=stage.Json(list[Variant]),
        help="JSON: all rows, and what failed; by default the engines",
    )
    command.add_argument("--baseline", type=Path, help="older results, a folder or a zip")
    command.add_argument("--logs", type=Path, default=Path("logs"), help="folder of stages' logs")
    command.add_argument("--run", help="the run's name, whose logs are in folders of that name")
    command.add_argument("--made", type=Path, help="command and configuration, if known (JSON)")
    command.add_argument("--output", type=Path, required=True, help="the page (HTML)")
    command.add_argument("--summary", type=Path, required=True, help="the table (text)")
    command.add_argument("--markdown", type=Path, required=True, help="the table (Markdown)")
    command.add_argument("--table", type=Path, required=True, help="all rows (CSV)")
    command.add_argument("--verdicts", type=Path, required=True, help="what pays (JSON)")
    return command


def main(
    *,
    engines: list[Path],
    perf: list[Path],
    samples: list[Path],
    accuracy: list[Path],
    parity: list[Path],
    models: list[Path],
    dataset: str,
    annotations: Path | None,
    audits: list[Path],
    persons: list[Path],
    images: Path | None,
    predictions: list[Path],
    published: Published,
    limits: Limits,
    own_limits: dict[str, dict[str, float | None]],
    variants: list[Variant] | None,
    baseline: Path | None,
    logs: Path,
    run: str | None,
    made: Path | None,
    output: Path,
    summary: Path,
    markdown: Path,
    table: Path,
    verdicts: Path,
) -> None:
    """Run the stage."""
    found = rows.join(variants, engines, perf, accuracy, parity, published, limits, own_limits)
    cards = [ModelCard.read(folder / "model.json") for folder in models]
    files_made = [
        *(
            stage
            for folder, card in zip(models, cards, strict=True)
            for stage in stages.of_model(folder, card, dataset)
        ),
        *(stages.of_engine(folder) for folder in engines),
    ]
    galleries = []
    if predictions and annotations and images:
        galleries = pictures.draw(found, predictions, annotations, images)
    in_data = found_in_data(audits, persons, found)
    recommendations = recommend.recommend(recommend.of_rows(found, own_limits), limits)
    compared = compare(baseline, found) if baseline else None
    Verdicts(
        verdicts=[row.verdict for row in found if row.verdict],
        recommendations=recommendations,
        baseline=compared,
    ).write(verdicts)
    warnings = gather_warnings(in_data, found, cards, files_made)
    names = [*(row.name for row in found), *(card.name for card in cards), dataset]
    report = page.Report(
        rows=found,
        models=cards,
        recommendations=recommendations,
        limits=limits,
        own_limits=own_limits,
        warnings=warnings,
        stages=files_made,
        timings=stages.read_timings(logs, run, names),
        made=read_made(made),
        samples=read_samples(samples, found),
        galleries=galleries,
        baseline=compared,
        dataset=dataset,
    )
    files.write_text(output, page.render(report))
    files.write_text(summary, tables.as_text(found, recommendations, in_data))
    files.write_text(markdown, tables.as_markdown(found, recommendations, compared, warnings))
    files.write_text(table, tables.as_csv(found))


def read_made(path: Path | None) -> stages.Made | None:
    """Read what Snakemake was started with; None if it left nothing of that."""
    if path is None or not path.is_file():
        return None
    return stages.Made.model_validate_json(path.read_bytes())


def read_samples(paths: list[Path], found: list[Row]) -> dict[str, list[float]]:
    """Return the seconds of single requests, by variant.

    Raises:
        StageError: a file is not what the benchmark writes.
    """
    names = {row.perf.raw: row.name for row in found if row.perf}
    samples = {}
    for path in paths:
        try:
            seconds = json.loads(path.read_text())["latency_s"]
            samples[names[path.name]] = [float(value) for value in seconds]
        except (KeyError, TypeError, ValueError) as error:
            raise StageError(
                f"{path}: holds no samples of latency; delete the file and run again"
            ) from error
    return samples


def gather_warnings(
    in_data: list[str], found: list[Row], cards: list[ModelCard], made: list[stages.Stage]
) -> dict[str, list[str]]:
    """Return what must be known of figures, by what it is about."""
    hosts = list(dict.fromkeys(row.perf.host.cpu for row in found if row.perf))
    others = f"the benchmarks ran on different machines: {', '.join(hosts)}"
    speed = [
        f"{row.name} is INVALID: {row.perf.invalid[0]}"
        for row in found
        if row.perf and row.perf.invalid
    ]
    unlike = [
        f"{row.name}: asked for {row.precision}"
        for row in found
        if row.precision != row.variant.precision
    ]
    groups = {
        "Data": in_data,
        "Models": [
            *(f"{card.name}: {note}" for card in cards for note in card.notes),
            *(f"{stage.name}: {stage.note}" for stage in made if stage.warning),
            *(
                f"{card.name} is untrained: it has no accuracy"
                for card in cards
                if not card.trained
            ),
        ],
        "Precision": unlike,
        "Engines": [
            f"{row.name}: {row.parity.departure}"
            for row in found
            if row.parity and row.parity.departure
        ],
        "Speed": [*([others] if len(hosts) > 1 else []), *speed],
    }
    return {heading: texts for heading, texts in groups.items() if texts}


def found_in_data(audits: list[Path], persons: list[Path], found: list[Row]) -> list[str]:
    """Return what was found in the datasets, each sentence once."""
    texts = []
    for path in audits:
        prefix = "calibration: " if path.name.startswith("calibration") else ""
        texts += [f"{prefix}{finding.text}" for finding in Audit.read(path).findings]
    texts += [finding.text for path in persons for finding in PersonList.read(path).findings]
    texts += [finding.text for row in found if row.accuracy for finding in row.accuracy.findings]
    return list(dict.fromkeys(texts))


if __name__ == "__main__":
    stage.run(parser(), main)
