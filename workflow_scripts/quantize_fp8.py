"""Write an ONNX graph in fp8 for TensorRT, calibrated on persons that are not evaluated.

    python workflow_scripts/quantize_fp8.py --model simplified.onnx --card model.json \\
        --crops crops.npy --output fp8.onnx
"""

import argparse
from pathlib import Path

import onnx

from hrnetpose import files, stage
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.data import crops as crop_files
from hrnetpose.graphs import fp8, onnx_graph


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument("--model", type=Path, required=True, help="the simplified ONNX file")
    command.add_argument("--card", type=Path, required=True, help="its model card")
    command.add_argument("--crops", type=Path, required=True, help="to calibrate on (.npy)")
    command.add_argument("--output", type=Path, required=True, help="the fp8 ONNX file")
    return command


def main(*, model: Path, card: Path, crops: Path, output: Path) -> None:
    """Run the stage."""
    graph = onnx_graph.read(model)
    converted = fp8.to_fp8(graph, crop_files.read(crops), ModelCard.read(card))
    with files.atomic_path(output) as temporary:
        onnx.save(converted, temporary)
        onnx_graph.check(temporary)


if __name__ == "__main__":
    stage.run(parser(), main)
