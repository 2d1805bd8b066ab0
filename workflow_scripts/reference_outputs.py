"""Run the original model in PyTorch at fp32 on some crops: what every later stage must equal.

    python workflow_scripts/reference_outputs.py \\
        --config td-hm_hrnet-w32_8xb64-210e_coco-256x192 --weights hrnet_w32.pth \\
        --card model.json --crops crops.npy --output outputs.npz
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hrnetpose import files, stage
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.data import crops as crop_files
from hrnetpose.graphs import onnx_graph
from hrnetpose.models import export, mmpose


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument("--config", required=True, help="an mmpose config: a name or a path")
    command.add_argument("--weights", type=Path, help="the checkpoint; without one: seeded weights")
    command.add_argument("--card", type=Path, required=True, help="the model card")
    command.add_argument("--crops", type=Path, required=True, help="uint8 crops (.npy)")
    command.add_argument("--count", type=int, default=32, help="how many of the crops")
    command.add_argument("--threads", type=int, default=1, help="CPU threads")
    command.add_argument("--output", type=Path, required=True, help="crops and outputs (.npz)")
    return command


def main(
    *,
    config: str,
    weights: Path | None,
    card: Path,
    crops: Path,
    count: int,
    threads: int,
    output: Path,
) -> None:
    """Run the stage."""
    torch.set_num_threads(threads)
    network = export.Network(mmpose.build_model(mmpose.read_config(config), weights))
    pixels = np.array(crop_files.read(crops)[:count])
    with torch.inference_mode():
        images = torch.from_numpy(onnx_graph.normalised(pixels, ModelCard.read(card)))
        parts = [network(batch) for batch in images.split(8)]
    outputs = [torch.cat(same).numpy() for same in zip(*parts, strict=True)]
    arrays: dict[str, Any] = {f"output_{number}": array for number, array in enumerate(outputs)}
    with files.atomic_path(output) as temporary:
        np.savez(temporary, crops=pixels, **arrays)


if __name__ == "__main__":
    stage.run(parser(), main)
