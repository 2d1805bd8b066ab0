"""Measure at every stage how far the outputs and keypoints are from the original model's.

    python workflow_scripts/measure_parity.py --reference outputs.npz --card model.json \\
        --onnx model.onnx --simplified simplified.onnx --precision fp16.onnx \\
        --engine build/engines/fp16 --output fp16_parity.json
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hrnetpose import batches, engines, files, stage
from hrnetpose.artifacts.engine import EngineReference
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.artifacts.parity import Drift, KeypointShift, Parity, Stage
from hrnetpose.batches import Array, Crops
from hrnetpose.graphs import onnx_graph
from hrnetpose.pose import decode, finite
from hrnetpose.stage import StageError

MINIMUM_SCORE = 0.2
"""Below it a maximum is noise, and where it lies means nothing (mmpose's rescoring agrees)."""


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument("--reference", type=Path, required=True, help="crops and outputs (.npz)")
    command.add_argument("--card", type=Path, required=True, help="the model card")
    command.add_argument("--onnx", type=Path, help="the exported graph")
    command.add_argument("--simplified", type=Path, help="the simplified graph")
    command.add_argument("--precision", type=Path, help="the graph the engine is built from")
    command.add_argument("--engine", type=Path, required=True, help="the engine's folder")
    command.add_argument("--threads", type=int, default=1, help="CPU threads")
    command.add_argument("--output", type=Path, required=True, help="the drift (JSON)")
    return command


def main(
    *,
    reference: Path,
    card: Path,
    onnx: Path | None,
    simplified: Path | None,
    precision: Path | None,
    engine: Path,
    threads: int,
    output: Path,
) -> None:
    """Run the stage."""
    model = ModelCard.read(card)
    crops, expected = read_reference(reference, model)
    images = onnx_graph.normalised(crops, model)
    built = engines.read(engine)
    found: dict[Stage, list[Array]] = {"original": expected}
    graphs: dict[Stage, Path | None] = {
        "onnx": onnx,
        "simplified": simplified,
        "precision": precision,
    }
    names = [one.name for one in model.decoded]
    for name, graph in graphs.items():
        if graph is not None:
            found[name] = onnx_graph.run(graph, images, names, threads)
            requested = built.card.requested if name == "precision" else "fp32"
            finite.require(found[name], graph, requested)
    with built.open(threads) as opened:
        outputs = list(opened.stream(batches.split(crops, opened.batch)))
    found["engine"] = [np.concatenate([part[name] for part in outputs]) for name in names]
    finite.require(found["engine"], engine, built.card.requested)
    for stage_name, arrays in found.items():
        for output_name, values, wanted in zip(names, arrays, expected, strict=True):
            if values.shape[1:] != wanted.shape[1:]:
                raise StageError(
                    f"{output.name}: stage {stage_name} gives {output_name} of "
                    f"{list(values.shape[1:])}, the original of {list(wanted.shape[1:])}"
                )
    measured_on = EngineReference(variant=built.card.variant, sha256=built.card.sha256)
    compare(found, model, measured_on).write(output)


def read_reference(path: Path, model: ModelCard) -> tuple[Crops, list[Array]]:
    """Read the crops and the original model's outputs, float32 [N, ...] each.

    Raises:
        StageError: they are not of this model, none at all, or not finite.
    """
    size = f"{model.crop.height} {model.crop.width}"
    shapes = [" ".join(map(str, output.shape[1:])) for output in model.decoded]
    names = [f"output_{number}" for number in range(len(shapes))]
    arrays = {name: f"float32 N {shape}" for name, shape in zip(names, shapes, strict=True)}
    table = files.read_table(path, {"crops": f"uint8 N {size} 3", **arrays})
    if not len(table["crops"]):
        raise StageError(f"{path}: holds no crops; parity needs at least one")
    outputs = [table[name] for name in names]
    finite.require(outputs, path, "fp32")
    return table["crops"], outputs


def compare(
    found: Mapping[Stage, Sequence[Array]], model: ModelCard, engine: EngineReference
) -> Parity:
    """Compare what each stage gives with what the original model does.

    Args:
        found: outputs by stage, float32 [N, ...] each; `original` is the original's.
        model: its card.
        engine: the one that was run.
    """
    original = found["original"]
    positions, scores = decode.decode(original, model.codec, model.crop)
    # An untrained model is sure of nothing; then all of its keypoints are compared.
    # So are those of one whose scores are all low, as SimCC's may be.
    minimum = MINIMUM_SCORE if model.trained and (scores > MINIMUM_SCORE).any() else 0.0
    sure = scores > minimum
    stages: dict[Stage, Drift] = {}
    for name, values in found.items():
        moved, _ = decode.decode(values, model.codec, model.crop)
        distance = np.linalg.norm(moved.astype(np.float64) - positions, axis=-1)
        stages[name] = drift(values, original, distance[sure])
    return Parity(
        stages=stages,
        crops=len(scores),
        keypoints=int(sure.sum()),
        minimum_score=minimum,
        engine=engine,
    )


def drift(
    values: Sequence[Array], reference: Sequence[Array], shifts: npt.NDArray[np.float64]
) -> Drift:
    """Compare outputs.

    Args:
        values: float32 [N, ...] each.
        reference: the same of the original model.
        shifts: distances of keypoints in pixels of the input.
    """
    a, b = (
        np.concatenate([part.ravel().astype(np.float64) for part in parts])
        for parts in (values, reference)
    )
    product = np.linalg.norm(a) * np.linalg.norm(b)
    shifts = shifts if len(shifts) else np.zeros(1)
    return Drift(
        max_abs=float(np.abs(a - b).max()),
        cosine=float(a @ b / product) if product else 1.0,
        keypoint_shift_px=KeypointShift(
            mean=float(shifts.mean()),
            p99=float(np.percentile(shifts, 99)),
            max=float(shifts.max()),
        ),
    )


if __name__ == "__main__":
    stage.run(parser(), main)
