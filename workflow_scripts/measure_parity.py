"""Measure at every stage how far the heatmaps and keypoints are from the original model's.

    python workflow_scripts/measure_parity.py --reference heatmaps.npz --card model.json \\
        --onnx model.onnx --simplified simplified.onnx --precision fp16.onnx \\
        --engine build/engines/fp16 --output fp16_parity.json
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hrnetpose import batches, engines, files, stage
from hrnetpose.artifacts.engine import EngineReference
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.artifacts.parity import Drift, KeypointShift, Parity, Stage
from hrnetpose.batches import Array, Crops
from hrnetpose.graphs import onnx_graph
from hrnetpose.pose import decode, finite, predict
from hrnetpose.stage import StageError

MINIMUM_SCORE = 0.2
"""Below it a maximum is noise, and where it lies means nothing (mmpose's rescoring agrees)."""


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument("--reference", type=Path, required=True, help="crops and heatmaps (.npz)")
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
    found: dict[Stage, Array] = {"original": expected}
    graphs: dict[Stage, Path | None] = {
        "onnx": onnx,
        "simplified": simplified,
        "precision": precision,
    }
    for name, graph in graphs.items():
        if graph is not None:
            found[name] = onnx_graph.run(graph, images, threads)
            requested = built.card.requested if name == "precision" else "fp32"
            finite.require([found[name]], graph, requested)
    with built.open(threads) as opened:
        outputs = opened.stream(batches.split(crops, opened.batch))
        found["engine"] = np.concatenate([predict.heatmaps(part, model) for part in outputs])
    finite.require([found["engine"]], engine, built.card.requested)
    for name, values in found.items():
        if values.shape[1:] != expected.shape[1:]:
            raise StageError(
                f"{output.name}: stage {name} gives heatmaps {list(values.shape[1:])}, the "
                f"original {list(expected.shape[1:])}"
            )
    measured_on = EngineReference(variant=built.card.variant, sha256=built.card.sha256)
    compare(found, model, measured_on).write(output)


def read_reference(path: Path, model: ModelCard) -> tuple[Crops, Array]:
    """Read the crops and the original model's heatmaps.

    Raises:
        StageError: they are not of this model, none at all, or not finite.
    """
    maps = len(model.keypoints.names) * model.codec.channels
    size = f"{model.crop.height} {model.crop.width}"
    table = files.read_table(
        path, {"crops": f"uint8 N {size} 3", "heatmaps": f"float32 N {maps} H W"}
    )
    if not table["heatmaps"].size:
        raise StageError(f"{path}: holds no crops; parity needs at least one")
    finite.require([table["heatmaps"]], path, "fp32")
    return table["crops"], table["heatmaps"]


def compare(found: Mapping[Stage, Array], model: ModelCard, engine: EngineReference) -> Parity:
    """Compare what each stage gives with what the original model does.

    Args:
        found: heatmaps by stage, float32 [N, C, h, w]; `original` is the original's.
        model: its card.
        engine: the one that was run.
    """
    heatmaps = found["original"]
    positions, scores = decode.decode(heatmaps, model.codec)
    # An untrained model is sure of nothing; then all of its keypoints are compared.
    minimum = MINIMUM_SCORE if model.trained else 0.0
    sure = scores > minimum
    scale = np.array([model.crop.width, model.crop.height]) / heatmaps.shape[:1:-1]
    stages: dict[Stage, Drift] = {}
    for name, values in found.items():
        moved, _ = decode.decode(values, model.codec)
        distance = np.linalg.norm((moved - positions) * scale, axis=-1)
        stages[name] = drift(values, heatmaps, distance[sure])
    return Parity(
        stages=stages,
        crops=len(heatmaps),
        keypoints=int(sure.sum()),
        minimum_score=minimum,
        engine=engine,
    )


def drift(values: Array, reference: Array, shifts: npt.NDArray[np.float64]) -> Drift:
    """Compare heatmaps.

    Args:
        values: float32 [N, K, H, W].
        reference: float32 [N, K, H, W].
        shifts: distances of keypoints in pixels of the input.
    """
    a, b = values.ravel().astype(np.float64), reference.ravel().astype(np.float64)
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
