"""Write an ONNX graph in int8, calibrated on persons that are not evaluated, and say what is int8.

With `--ap-drop`, layers that cost too much AP on the calibration persons stay in floating point.

    python workflow_scripts/quantize_int8.py --model simplified.onnx --card model.json \\
        --crops crops.npy --instances instances.npz --calibration calibration.json \\
        --annotations calibration_audit.npz --ap-drop 0.005 \\
        --output int8.onnx --summary int8.json
"""

import argparse
import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from hrnetpose import files, stage
from hrnetpose.artifacts.calibration import CalibrationSet
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.artifacts.quantization import Quantization
from hrnetpose.data import crops as crop_files
from hrnetpose.data.annotations import Annotations
from hrnetpose.graphs import onnx_graph, quantize, sensitivity
from hrnetpose.pose import decode
from hrnetpose.pose.score import Evaluator, Predictions
from hrnetpose.stage import StageError


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument("--model", type=Path, required=True, help="the simplified ONNX file")
    command.add_argument("--card", type=Path, required=True, help="its model card")
    command.add_argument("--crops", type=Path, required=True, help="to calibrate on (.npy)")
    command.add_argument("--calibration", type=Path, required=True, help="the set (JSON)")
    command.add_argument("--ap-drop", type=float, help="the loss of AP allowed on the set")
    command.add_argument("--instances", type=Path, help="for --ap-drop: which crop is whose (.npz)")
    command.add_argument("--annotations", type=Path, help="for --ap-drop: of audit_dataset (.npz)")
    command.add_argument(
        "--symmetric", action="store_true", help="activations have the zero point 0 (TensorRT)"
    )
    command.add_argument("--output", type=Path, required=True, help="the int8 ONNX file")
    command.add_argument("--summary", type=Path, required=True, help="which layers (JSON)")
    return command


def main(
    *,
    model: Path,
    card: Path,
    crops: Path,
    calibration: Path,
    ap_drop: float | None,
    instances: Path | None,
    annotations: Path | None,
    symmetric: bool,
    output: Path,
    summary: Path,
) -> None:
    """Run the stage."""
    known = ModelCard.read(card)
    persons = CalibrationSet.read(calibration).persons
    pixels = crop_files.read(crops)
    graph = onnx_graph.read(model)
    layers = list(quantize.layers(graph))
    ranges = quantize.calibrate(graph, pixels, known)
    chosen, found = layers, None
    if ap_drop is not None:
        if annotations is None or instances is None:
            raise StageError("--ap-drop needs --annotations and --instances, to take the AP with")
        truths = Annotations.read(annotations).reorder(known.keypoints.names)
        evaluator = Evaluator(truths, known.keypoints.oks_sigmas(), known.evaluation)
        table = crop_files.read_instances(instances, len(pixels))
        chosen, found = sensitivity.select(
            graph,
            ranges,
            pixels,
            known,
            lambda candidate: average_precision(candidate, pixels, table, evaluator, known),
            ap_drop,
            symmetric,
        )
    logging.info("%d of %d layers in int8", len(chosen), len(layers))
    with files.atomic_path(output) as temporary:
        onnx.save(quantize.insert(graph, ranges, chosen, symmetric), temporary)
        onnx_graph.check(temporary)
    Quantization(
        graph_sha256=files.sha256(output),
        calibration_sha256=files.sha256(calibration),
        persons=persons,
        symmetric=symmetric,
        layers=len(layers),
        int8_layers=len(chosen),
        sensitivity=found,
    ).write(summary)


def average_precision(
    graph: onnx.ModelProto,
    crops: npt.NDArray[np.uint8],
    instances: dict[str, npt.NDArray[Any]],
    evaluator: Evaluator,
    card: ModelCard,
) -> float:
    """Return the AP of a graph with ground-truth boxes and without flip test.

    Args:
        graph: in any precision.
        crops: uint8 [N, H, W, 3] RGB.
        instances: the table beside them.
        evaluator: knows the annotated persons.
        card: says how crops are normalised and keypoints are decoded.

    Raises:
        StageError: nobody is annotated, so AP is not defined.
    """
    names = [output.name for output in card.decoded]
    decoded = [
        decode.decode(outputs, card.codec, card.crop)
        for outputs in quantize.run(graph, crops, card, names)
    ]
    positions, scores = (np.concatenate(part) for part in zip(*decoded, strict=True))
    keypoints = decode.to_image(positions, card.crop, instances["center"], instances["scale"])
    evaluator.reset()
    evaluator.process(Predictions.of(instances, keypoints, scores))
    figure = evaluator.evaluate().metrics.AP
    if figure is None:
        raise StageError("the calibration persons have no AP: none of them has a labelled keypoint")
    return figure


if __name__ == "__main__":
    stage.run(parser(), main)
