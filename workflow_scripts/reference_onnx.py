"""Run an ONNX file as it was given on some crops: what every later stage must equal.

    python workflow_scripts/reference_onnx.py --onnx end2end.onnx --card model.json \\
        --crops crops.npy --output outputs.npz
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from hrnetpose import files, stage
from hrnetpose.artifacts.model import ModelCard, OnnxOrigin
from hrnetpose.data import crops as crop_files
from hrnetpose.graphs import onnx_graph
from hrnetpose.models import onnx_source
from hrnetpose.models.onnx_file import OriginalGraph
from hrnetpose.stage import StageError


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument("--onnx", type=Path, required=True, help="the file, its folder or its zip")
    command.add_argument("--card", type=Path, required=True, help="the model card")
    command.add_argument("--crops", type=Path, required=True, help="uint8 crops (.npy)")
    command.add_argument("--count", type=int, default=32, help="how many of the crops")
    command.add_argument("--threads", type=int, default=1, help="CPU threads")
    command.add_argument("--output", type=Path, required=True, help="crops and outputs (.npz)")
    return command


def main(*, onnx: Path, card: Path, crops: Path, count: int, threads: int, output: Path) -> None:
    """Run the stage."""
    model = ModelCard.read(card)
    if not isinstance(model.origin, OnnxOrigin):
        raise StageError(f"{card}: its model is no ONNX file; run reference_outputs.py")
    pixels = np.array(crop_files.read(crops)[:count])
    images = onnx_graph.normalised(pixels, model)
    with onnx_source.opened(onnx) as source:
        if files.sha256(source.graph) != model.origin.sha256:
            raise StageError(
                f"{onnx}: is another file than the one that {card} is of; import it again"
            )
        outputs = OriginalGraph(source.graph, threads).run(model.origin, images)
    arrays: dict[str, Any] = {f"output_{number}": array for number, array in enumerate(outputs)}
    with files.atomic_path(output) as temporary:
        np.savez(temporary, crops=pixels, **arrays)


if __name__ == "__main__":
    stage.run(parser(), main)
