"""The files of the pipeline and what made them; how long stages took, and the command."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from hrnetpose import files
from hrnetpose.artifacts.engine import ENGINE_CARD, ENGINE_FILE, EngineCard
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.artifacts.quantization import Quantization
from hrnetpose.artifacts.simplification import Simplification
from hrnetpose.layout import Layout
from hrnetpose.recipes import RECIPES
from hrnetpose.report.numbers import number
from hrnetpose.stage import FINISHED

COLUMNS = {
    "data": (
        "draw_sample", "fetch_file", "extract_annotations", "fetch_calibration", "audit_dataset",
        "detect_persons", "list_persons", "make_crops", "check_calibration",
    ),
    "graphs": (
        "export_onnx", "import_onnx", "simplify_onnx", "convert_precision", "quantize_int8",
        "quantize_fp8",
    ),
    "engines": ("build_engine",),
    "measurements": (
        "predict_keypoints", "score_accuracy", "reference_outputs", "measure_parity",
        "measure_machine", "benchmark_engine",
    ),
}  # fmt: skip
"""Where a stage stands in the picture of them, which goes from left to right."""


class Made(BaseModel):
    """What Snakemake was started with; written into a file beside the logs.

    Attributes:
        command: the command line.
        configuration: with all defaults.
    """

    model_config = ConfigDict(extra="forbid")

    command: str
    configuration: dict[str, Any]

    def text(self) -> str:
        """Return the configuration as a person reads it."""
        return json.dumps(self.configuration, indent=2, ensure_ascii=False)


@dataclass(frozen=True)
class Timing:
    """The jobs of a stage: how many, their seconds together, and when the last one ended."""

    rule: str
    jobs: int
    seconds: float
    last: str


def read_timings(logs: Path, run: str | None, names: Iterable[str]) -> dict[str, list[Timing]]:
    """Return how long stages took, as their logs say, by column.

    Args:
        logs: the folder with a folder for each stage.
        run: the name of the run, whose own logs are in folders of that name.
        names: of what it is made of: variants, models, datasets; logs of others are left out.
    """
    own = {*names, "cpu", "gpu"}

    def is_own(log: Path) -> bool:
        stem = log.stem
        return stem in own or any(stem.startswith((f"{name}_", f"{name}-")) for name in own)

    found: dict[str, list[tuple[str, float]]] = {}
    for folder in sorted(logs.iterdir()) if logs.is_dir() else []:
        places = [folder, *([folder / run] if run else [])]
        for log in (log for place in places for log in sorted(place.glob("*.log")) if is_own(log)):
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            if lines and (match := FINISHED.fullmatch(lines[-1])):
                found.setdefault(folder.name, []).append((match[1], float(match[2])))
    timings = {
        rule: Timing(
            rule, len(jobs), sum(seconds for _, seconds in jobs), max(date for date, _ in jobs)
        )
        for rule, jobs in found.items()
    }
    columns = {
        column: [timings.pop(rule) for rule in rules if rule in timings]
        for column, rules in COLUMNS.items()
    }
    columns["others"] = list(timings.values())
    return {column: stages for column, stages in columns.items() if stages}


@dataclass(frozen=True)
class Stage:
    """A file of the pipeline and what made it."""

    name: str
    file: Path
    sha256: str
    note: str
    warning: bool = False

    @property
    def size(self) -> str:
        """The file's size in megabytes."""
        return number(self.file.stat().st_size / 1e6, 2)


def of_model(folder: Path, card: ModelCard, dataset: str) -> list[Stage]:
    """Describe the graphs of a model, calibrated ones as far as they are of the dataset."""
    steps = {
        "model.onnx": (
            "export",
            f"opset {card.opset}, `{card.input.name}` of {' x '.join(map(str, card.input.shape))}",
        ),
        "simplified.onnx": ("simplify", ""),
    }
    layout = Layout(None, dataset)
    for graph, recipe in RECIPES.items():
        steps[f"{layout.name(graph)}.onnx"] = ("precision", recipe.note)
        summary = folder / f"{layout.name(graph)}.json"
        if summary.is_file():
            note = _int8_note(Quantization.read(summary))
            steps[f"{layout.name(graph)}.onnx"] = ("precision", note)
    used = True
    if (folder / "simplified.json").is_file():
        made = Simplification.read(folder / "simplified.json")
        used = made.used
        steps["simplified.onnx"] = ("simplify", _simplified_note(made))
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


def of_engine(folder: Path) -> Stage:
    """Describe an engine."""
    card = EngineCard.read(folder / ENGINE_CARD)
    layers = ", ".join(f"{count} {precision}" for precision, count in card.executed.layers.items())
    built = f"{card.backend} on {card.device}, {card.build_seconds:.1f} s"
    note = f"{card.variant}: {built}; layers: {layers}"
    return Stage("engine", folder / ENGINE_FILE, card.sha256, note)


def _simplified_note(made: Simplification) -> str:
    """Say whether onnxsim's graph is the one that is used, and why not."""
    tool = f"onnxsim {made.onnxsim}"
    if not made.used:
        return f"the exported graph, {made.nodes_before} nodes; that of {tool} is not used: " + (
            made.reason or ""
        )
    error = f"relative error {made.relative_error:.1g} on fixed inputs"
    return f"{tool}: {made.nodes_before} -> {made.nodes_after} nodes, {error}"


def _int8_note(made: Quantization) -> str:
    """Say which layers are in int8, and what that costs on the calibration persons."""
    note = (
        f"int8 Q/DQ in {made.int8_layers} of {made.layers} convolutions, calibrated on "
        f"{made.persons} persons that are not evaluated"
    )
    if made.sensitivity is None:
        return note
    loss = number(made.sensitivity.ap_int8 - made.sensitivity.ap_fp32, sign=True)
    note = f"{note}; AP there {loss}, allowed {number(-made.sensitivity.ap_drop, sign=True)}"
    left = [layer.name for layer in made.sensitivity.left]
    return f"{note}; left in floating point: {', '.join(left)}" if left else note
