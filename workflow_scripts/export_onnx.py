"""Export an mmpose top-down model to ONNX and write its model card.

The checkpoint is loaded strictly and without unpickling code.  The graph has a dynamic batch,
takes normalised NCHW floats in `input` and gives `heatmaps`, or `simcc_x` and `simcc_y`.

    python workflow_scripts/export_onnx.py --name hrnet_w32 \\
        --config td-hm_hrnet-w32_8xb64-210e_coco-256x192 --weights hrnet_w32.pth \\
        --crop 256x192 --output model.onnx --card model.json
"""

import argparse
import logging
from pathlib import Path

from hrnetpose import stage
from hrnetpose.artifacts.model import Crop, MmposeOrigin
from hrnetpose.files import sha256
from hrnetpose.graphs import metadata, onnx_graph
from hrnetpose.models import export, mmpose, reading


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument("--name", required=True, help="what the model is called in the report")
    command.add_argument("--config", required=True, help="an mmpose config: a name or a path")
    command.add_argument("--weights", type=Path, help="the checkpoint; without one: seeded weights")
    command.add_argument("--crop", type=Crop.parse, required=True, help="for example 256x192")
    command.add_argument("--changes", help="what a plan saw changed in files of the last card")
    command.add_argument("--output", type=Path, required=True, help="the ONNX file")
    command.add_argument("--card", type=Path, required=True, help="the model card (JSON)")
    return command


def main(
    *,
    name: str,
    config: str,
    weights: Path | None,
    crop: Crop,
    changes: str | None,
    output: Path,
    card: Path,
) -> None:
    """Run the stage."""
    with reading.record(weights) as files:
        content = mmpose.read_config(config)
        notes: list[str] = []
        network = export.Network(mmpose.build_model(content, weights, notes=notes))
    export.write_graph(content, network, output)
    origin = MmposeOrigin(
        config=config,
        weights_sha256=sha256(weights) if weights else None,
        files=files,
        changes=changes,
    )
    made = export.make_card(name, origin, content, crop, network, output)
    made.notes = [*made.notes, *notes]
    metadata.write(onnx_graph.read(output), made, output)
    for note in made.notes:
        logging.warning("%s: %s", config, note)
    made.write(card)


if __name__ == "__main__":
    stage.run(parser(), main)
