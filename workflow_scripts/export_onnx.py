"""Export an mmpose top-down heatmap model to ONNX and write its model card.

The checkpoint is loaded strictly and without unpickling code.  The graph has a dynamic batch,
takes normalised NCHW floats in `input` and gives `heatmaps`.

    python workflow_scripts/export_onnx.py --name hrnet_w32 \\
        --config td-hm_hrnet-w32_8xb64-210e_coco-256x192 --weights hrnet_w32.pth \\
        --crop 256x192 --output model.onnx --card model.json
"""

import argparse
import logging
from pathlib import Path

from hrnetpose import stage
from hrnetpose.artifacts.model import Crop
from hrnetpose.models import export, mmpose, reading


def parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    command = stage.command(__doc__)
    command.add_argument("--name", required=True, help="what the model is called in the report")
    command.add_argument("--config", required=True, help="an mmpose config: a name or a path")
    command.add_argument("--weights", type=Path, help="the checkpoint; without one: seeded weights")
    command.add_argument("--crop", type=Crop.parse, required=True, help="for example 256x192")
    command.add_argument("--changes", help="what a plan saw changed in files of the last card")
    command.add_argument("--output", type=Path, required=True, help="the ONNX file")
    command.add_argument("--card", type=Path, required=True, help="the model card (JSON)")
    return command


def main(args: argparse.Namespace) -> None:
    """Runs the stage."""
    with reading.recorded(args.weights) as files:
        config = mmpose.read_config(args.config)
        notes: list[str] = []
        network = export.HeatmapNetwork(mmpose.build_model(config, args.weights, notes=notes))
    export.export(config, network, args.output)
    card = export.card(
        args.name, args.config, config, args.crop, network, args.weights, args.output
    )
    card.files, card.changes, card.notes = files, args.changes, [*card.notes, *notes]
    for note in card.notes:
        logging.warning("%s: %s", args.config, note)
    card.write(args.card)


if __name__ == "__main__":
    stage.run(parser(), main)
