"""The files of the pipeline and what made them."""

from dataclasses import dataclass
from pathlib import Path

from hrnetpose import files
from hrnetpose.artifacts.engine import ENGINE_CARD, ENGINE_FILE, EngineCard
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.artifacts.quantization import Quantization
from hrnetpose.artifacts.simplification import Simplification
from hrnetpose.layout import Layout
from hrnetpose.recipes import RECIPES
from hrnetpose.report.numbers import number


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
        "model.onnx": ("export", f"opset {card.opset}, input {card.input.name} {card.input.shape}"),
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
    error = f"relative error {made.relative_error:.0e} on fixed inputs"
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
