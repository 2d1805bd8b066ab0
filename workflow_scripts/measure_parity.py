"""Measure at every stage how far the heatmaps and keypoints are from the original model's.

    python workflow_scripts/measure_parity.py --reference heatmaps.npz --card model.json \\
        --onnx model.onnx --simplified simplified.onnx --precision fp16.onnx \\
        --engine build/engines/fp16 --output fp16_parity.json
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hrnetpose import batches, engines, files, stage
from hrnetpose.artifacts.engine import EngineReference
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.artifacts.parity import Drift, KeypointShift, Parity
from hrnetpose.batches import Array
from hrnetpose.graphs import onnx_graph
from hrnetpose.pose import decode, finite, predict
from hrnetpose.stage import StageError

MINIMUM_SCORE = 0.2
"""Below it a maximum is noise, and where it lies means nothing (mmpose's rescoring agrees)."""


def parser() -> argparse.ArgumentParser:
    """Returns the command line."""
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


def main(args: argparse.Namespace) -> None:
    """Runs the stage."""
    model = ModelCard.read(args.card)
    maps = len(model.keypoints.names) * model.codec.channels
    size = f"{model.crop.height} {model.crop.width}"
    reference = files.read_table(
        args.reference, {"crops": f"uint8 N {size} 3", "heatmaps": f"float32 N {maps} H W"}
    )
    crops, heatmaps = reference["crops"], reference["heatmaps"]
    if not heatmaps.size:
        raise StageError(f"{args.reference}: holds no crops; parity needs at least one")
    finite.require([heatmaps], args.reference, "fp32")
    images = onnx_graph.normalised(crops, model)
    positions, scores = decode.decode(heatmaps, model.codec)
    # An untrained model is sure of nothing; then all of its keypoints are compared.
    minimum = MINIMUM_SCORE if model.trained else 0.0
    sure = scores > minimum
    found: dict[str, Array] = {"pytorch": heatmaps}
    built = engines.read(args.engine)
    requested = built.card.requested
    for name in ("onnx", "simplified", "precision"):
        if (graph := getattr(args, name)) is not None:
            found[name] = onnx_graph.run(graph, images)
            finite.require([found[name]], graph, requested if name == "precision" else "fp32")
    with built.open(args.threads) as engine:
        outputs = engine.stream(batches.split(crops, engine.batch))
        found["engine"] = np.concatenate([predict.heatmaps(part, model) for part in outputs])
    finite.require([found["engine"]], args.engine, requested)
    stages: dict[Any, Drift] = {}
    for name, values in found.items():
        if values.shape[1:] != heatmaps.shape[1:]:
            raise StageError(
                f"{args.output.name}: stage {name} gives heatmaps {list(values.shape[1:])}, the "
                f"original {list(heatmaps.shape[1:])}"
            )
        moved, _ = decode.decode(values, model.codec)
        scale = np.array([model.crop.width, model.crop.height]) / heatmaps.shape[:1:-1]
        distance = np.linalg.norm((moved - positions) * scale, axis=-1)
        stages[name] = drift(values, heatmaps, distance[sure])
    Parity(
        stages=stages,
        crops=len(crops),
        keypoints=int(sure.sum()),
        minimum_score=minimum,
        engine=EngineReference(variant=built.card.variant, sha256=built.card.sha256),
    ).write(args.output)


def drift(values: Array, reference: Array, shifts: npt.NDArray[np.float64]) -> Drift:
    """Compares heatmaps.

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
