"""Write the report: one HTML file, and the summary for a terminal.

    python workflow_scripts/write_report.py --engines build/engines/fp32 \\
        --perf results/fp32_perf.json --accuracy results/fp32_accuracy.json \\
        --models build/models/sample --dataset sample \\
        --annotations audit.npz --audits audit.json --persons persons_gt.json \\
        --images val.zip --predictions build/predictions/fp32/*.npz \\
        --output report.html --summary summary.txt

After a run in which stages failed, `--variants` names all rows and what failed, and the other flags
only what is there.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hrnetpose import files, stage
from hrnetpose.artifacts.accuracy import Accuracy
from hrnetpose.artifacts.audit import Audit
from hrnetpose.artifacts.engine import ENGINE_CARD, ENGINE_FILE, EngineCard
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.artifacts.parity import Parity
from hrnetpose.artifacts.perf import Perf
from hrnetpose.artifacts.persons import PersonList
from hrnetpose.artifacts.quantization import Quantization
from hrnetpose.artifacts.simplification import Simplification
from hrnetpose.data.annotations import Annotations, Image, ground_truth
from hrnetpose.data.images import ImageStore
from hrnetpose.layout import Layout
from hrnetpose.recipes import RECIPES
from hrnetpose.report import drawing, page, table
from hrnetpose.report.failures import Variant
from hrnetpose.report.page import Picture, Stage
from hrnetpose.report.table import Row
from hrnetpose.speed import verdict
from hrnetpose.stage import StageError

PICTURES = 6


def parser() -> argparse.ArgumentParser:
    """Returns the command line."""
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
        type=stage.Json(dict[str, dict[str, dict[str, float]]]),
        default={},
        help='JSON: {"MODEL": {"det+flip": {"AP": 0.749}}}',
    )
    command.add_argument(
        "--variants",
        type=stage.Json(list[Variant]),
        help="JSON: all rows, and what failed; by default the engines",
    )
    command.add_argument("--output", type=Path, required=True, help="the page (HTML)")
    command.add_argument("--summary", type=Path, required=True, help="the table (text)")
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
    published: dict[str, dict[str, dict[str, float]]],
    variants: list[Variant] | None,
    output: Path,
    summary: Path,
) -> None:
    """Runs the stage."""
    rows = joined(variants, engines, perf, accuracy, parity, published)
    cards = [ModelCard.read(folder / "model.json") for folder in models]
    stages = [
        *(found for folder, card in zip(models, cards, strict=True)
          for found in model_stages(folder, card, dataset)),
        *(engine_stage(folder) for folder in engines),
    ]  # fmt: skip
    pictures = []
    if predictions and annotations and images:
        pictures = drawn(rows, predictions, annotations, images)
    warnings = found_in_data(audits, persons, rows)
    files.write_text(output, page.render(rows, cards, stages, pictures, warnings))
    files.write_text(summary, table.as_text(rows, warnings))


def found_in_data(audits: list[Path], persons: list[Path], rows: list[Row]) -> list[str]:
    """Returns what was found in the datasets, each sentence once."""
    found = []
    for path in audits:
        prefix = "calibration: " if path.name.startswith("calibration") else ""
        found += [f"{prefix}{finding.text}" for finding in Audit.read(path).findings]
    found += [finding.text for path in persons for finding in PersonList.read(path).findings]
    found += [finding.text for row in rows if row.accuracy for finding in row.accuracy.findings]
    return list(dict.fromkeys(found))


def joined(
    asked: list[Variant] | None,
    engines: list[Path],
    perfs: list[Path],
    accuracies: list[Path],
    parities: list[Path],
    published: dict[str, dict[str, dict[str, float]]],
) -> list[Row]:
    """Puts together what belongs to one variant; without `asked`, the variants are the engines'.

    Raises:
        StageError: a figure was measured on another engine than the one that is there, or is
            missing though no stage failed.
    """
    cards = {
        card.variant: card for card in (EngineCard.read(folder / ENGINE_CARD) for folder in engines)
    }
    variants = asked or [
        Variant(
            name=card.variant,
            model=card.model.name,
            backend=card.backend,
            precision=card.requested,
        )
        for card in cards.values()
    ]
    speed: dict[str, Perf] = {}
    accuracy: dict[str, Accuracy] = {}
    parity: dict[str, Parity] = {}
    figures: Any = (
        (perfs, Perf, speed),
        (accuracies, Accuracy, accuracy),
        (parities, Parity, parity),
    )
    for paths, kind, found in figures:
        for path in paths:
            figure = kind.read(path)
            found[figure.engine.variant] = figure
            card = cards.get(figure.engine.variant)
            if card is None or card.sha256 != figure.engine.sha256:
                raise StageError(
                    f"{path}: was measured on another engine of {figure.engine.variant!r} than the "
                    "one that is there; delete the file and run again"
                )
    for variant in variants:
        if variant.name not in speed and not variant.lacks("speed"):
            raise StageError(f"--perf: none of the files is of variant {variant.name!r}")
    plain = {
        (variant.model, variant.backend): speed[variant.name]
        for variant in variants
        if variant.precision == "fp32" and variant.name in speed
    }
    return [
        Row(
            variant=variant,
            engine=(card := cards.get(variant.name)),
            perf=(perf := speed.get(variant.name)),
            accuracy=accuracy.get(variant.name),
            parity=parity.get(variant.name),
            published=published.get(variant.model, {}),
            verdict=verdict.precision(card, perf, plain.get((variant.model, variant.backend)))
            if card and perf
            else None,
        )
        for variant in variants
    ]


def model_stages(folder: Path, card: ModelCard, dataset: str) -> list[Stage]:
    """Describes the graphs of a model, calibrated ones as far as they are of the dataset."""
    steps = {
        "model.onnx": ("export", f"opset {card.opset}, input {card.input.name} {card.input.shape}"),
        "simplified.onnx": ("simplify", ""),
    }
    layout = Layout(None, dataset)
    for graph, recipe in RECIPES.items():
        steps[f"{layout.name(graph)}.onnx"] = ("precision", recipe.note)
        summary = folder / f"{layout.name(graph)}.json"
        if summary.is_file():
            note = int8_note(Quantization.read(summary))
            steps[f"{layout.name(graph)}.onnx"] = ("precision", note)
    used = True
    if (folder / "simplified.json").is_file():
        made = Simplification.read(folder / "simplified.json")
        used = made.used
        steps["simplified.onnx"] = ("simplify", simplified_note(made))
    return [
        Stage(
            name,
            folder / file,
            files.sha256(folder / file),
            f"{card.name}: {note}",
            warning=name == "simplify" and not used,
        )
        for file, (name, note) in steps.items()
        if (folder / file).is_file()
    ]


def simplified_note(made: Simplification) -> str:
    """Says whether onnxsim's graph is the one that is used, and why not."""
    tool = f"onnxsim {made.onnxsim}"
    if not made.used:
        return f"the exported graph, {made.nodes_before} nodes; that of {tool} is not used: " + (
            made.reason or ""
        )
    error = f"relative error {made.relative_error:.0e} on fixed inputs"
    return f"{tool}: {made.nodes_before} -> {made.nodes_after} nodes, {error}"


def int8_note(made: Quantization) -> str:
    """Says which layers are in int8, and what that costs on the calibration persons."""
    note = (
        f"int8 Q/DQ in {made.int8_layers} of {made.layers} convolutions, calibrated on "
        f"{made.persons} persons that are not evaluated"
    )
    if made.sensitivity is None:
        return note
    loss = table.number(made.sensitivity.ap_int8 - made.sensitivity.ap_fp32, sign=True)
    note = f"{note}; AP there {loss}, allowed {table.number(-made.sensitivity.ap_drop, sign=True)}"
    left = [layer.name for layer in made.sensitivity.left]
    return f"{note}; left in floating point: {', '.join(left)}" if left else note


def engine_stage(folder: Path) -> Stage:
    """Describes an engine."""
    card = EngineCard.read(folder / ENGINE_CARD)
    layers = ", ".join(f"{count} {precision}" for precision, count in card.executed.layers.items())
    built = f"{card.backend} on {card.device}, {card.build_seconds:.1f} s"
    note = f"{card.variant}: {built}; layers: {layers}"
    return Stage("engine", folder / ENGINE_FILE, card.sha256, note)


def drawn(
    rows: list[Row], predictions: list[Path], annotations: Path, images: Path
) -> list[Picture]:
    """Draws some images: true persons, those of the first variant, those of the fastest."""
    truths = Annotations.read(annotations)
    scored = [row for row in rows if row.accuracy]
    shown = {
        row.name: row.engine.model.keypoints
        for row in (*scored[:1], table.fastest(scored))
        if row and row.engine
    }
    if not shown:
        return []
    persons = {name: _predicted(predictions, name) for name in shown}
    info = next(iter(shown.values()))
    store = ImageStore(images)
    pictures = []
    for image in _spread(ground_truth(truths), PICTURES):
        pixels = store.decode(image.file_name, image.width, image.height)
        here = truths.ordered(info.names)
        true = here.keypoints[here.image_ids[here.images] == image.id]
        panels = [("annotated", drawing.data_url(drawing.skeletons(pixels, true, info)))]
        for name, keypoints in shown.items():
            found = persons[name].get(image.id, np.zeros((0, len(info.names), 3)))
            drawn_image = drawing.skeletons(pixels, found, keypoints)
            panels.append((name, drawing.data_url(drawn_image)))
        pictures.append(Picture(image.file_name, panels))
    return pictures


def _predicted(predictions: list[Path], variant: str) -> dict[int, npt.NDArray[np.float32]]:
    """Returns a variant's persons by image, [N, K, 3], in the first boxes and protocol."""
    shards = [
        files.read_table(
            path,
            {
                "keypoints": "float32 F N K 2",
                "scores": "float32 F N K",
                "image_id": "int64 N",
                "boxes_from": "str",
            },
        )
        for path in predictions
        if path.parent.name == variant
    ]
    shards = [shard for shard in shards if shard["boxes_from"] == shards[0]["boxes_from"]]
    found: dict[int, list[npt.NDArray[np.float32]]] = {}
    for shard in shards:
        persons = np.concatenate([shard["keypoints"][0], shard["scores"][0][..., None]], axis=2)
        for image, person in zip(shard["image_id"], persons, strict=True):
            found.setdefault(int(image), []).append(person)
    return {image: np.array(persons) for image, persons in found.items()}


def _spread(images: list[Image], count: int) -> list[Image]:
    """Picks images from all over the dataset."""
    return [
        images[index] for index in np.unique(np.linspace(0, len(images) - 1, count).astype(int))
    ]


if __name__ == "__main__":
    stage.run(parser(), main)
