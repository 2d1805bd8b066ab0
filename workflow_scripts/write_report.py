"""Write the report: one HTML file, the summary for a terminal, and the verdicts.

    python workflow_scripts/write_report.py --engines build/engines/fp32 \\
        --perf results/fp32_perf.json --accuracy results/fp32_accuracy.json \\
        --models build/models/sample --dataset sample \\
        --annotations audit.npz --audits audit.json --persons persons_gt.json \\
        --images val.zip --predictions build/predictions/fp32/*.npz \\
        --output report.html --summary summary.txt --verdicts verdicts.json

After a run in which stages failed, `--variants` names all rows and what failed, and the other flags
only what is there.
"""

import argparse
from pathlib import Path

from hrnetpose import files, stage
from hrnetpose.artifacts.audit import Audit
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.artifacts.persons import PersonList
from hrnetpose.artifacts.verdicts import Verdicts
from hrnetpose.limits import Limits
from hrnetpose.report import page, pictures, recommend, rows, stages, table
from hrnetpose.report.failures import Variant
from hrnetpose.report.rows import Published, Row


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument("--engines", type=Path, nargs="*", default=[], help="engine folders")
    command.add_argument("--perf", type=Path, nargs="*", default=[], help="their speed (JSON)")
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
    command.add_argument("--output", type=Path, required=True, help="the page (HTML)")
    command.add_argument("--summary", type=Path, required=True, help="the table (text)")
    command.add_argument("--verdicts", type=Path, required=True, help="what pays (JSON)")
    return command


def main(
    *,
    engines: list[Path],
    perf: list[Path],
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
    output: Path,
    summary: Path,
    verdicts: Path,
) -> None:
    """Run the stage."""
    found = rows.join(variants, engines, perf, accuracy, parity, published, limits, own_limits)
    cards = [ModelCard.read(folder / "model.json") for folder in models]
    made = [
        *(
            stage
            for folder, card in zip(models, cards, strict=True)
            for stage in stages.of_model(folder, card, dataset)
        ),
        *(stages.of_engine(folder) for folder in engines),
    ]
    drawn = []
    if predictions and annotations and images:
        drawn = pictures.draw(found, predictions, annotations, images)
    warnings = found_in_data(audits, persons, found)
    judged = [row.verdict for row in found if row.verdict]
    recommendations = recommend.recommend(recommend.of_rows(found, own_limits), limits)
    Verdicts(verdicts=judged, recommendations=recommendations).write(verdicts)
    files.write_text(output, page.render(found, cards, made, drawn, warnings))
    files.write_text(summary, table.as_text(found, recommendations, warnings))


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
