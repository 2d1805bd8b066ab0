"""Run an engine over crops, plain and mirrored, and decode keypoints for both protocols.

    python workflow_scripts/predict_keypoints.py --engine build/engines/bf16 --audit audit.json \\
        --crops crops.npy --instances instances.npz --output predictions.npz
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from hrnetpose import engines, files, stage
from hrnetpose.artifacts.audit import Audit
from hrnetpose.data import crops as crop_files
from hrnetpose.data.keypoint_names import match_names
from hrnetpose.pose import finite, predict
from hrnetpose.stage import StageError


def parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    command = stage.command(__doc__)
    command.add_argument("--engine", type=Path, required=True, help="the engine's folder")
    command.add_argument("--audit", type=Path, required=True, help="of the dataset (JSON)")
    command.add_argument("--crops", type=Path, required=True, help="uint8 crops (.npy)")
    command.add_argument("--instances", type=Path, required=True, help="which crop is whose (.npz)")
    command.add_argument(
        "--flip", type=int, choices=[0, 1], nargs="+", default=[0, 1],
        help="0: plain, 1: averaged with the mirrored image",
    )  # fmt: skip
    command.add_argument("--threads", type=int, default=1, help="CPU threads")
    command.add_argument(
        "--output", type=Path, required=True, help="keypoints, scores and whose they are (.npz)"
    )
    return command


def main(args: argparse.Namespace) -> None:
    """Runs the stage."""
    crops = crop_files.read(args.crops)
    instances = crop_files.read_instances(args.instances, len(crops))
    built = engines.read(args.engine)
    card = built.card
    audit = Audit.read(args.audit)
    names = card.model.keypoints.names
    if isinstance(reason := match_names(audit.keypoints, audit.number_of_keypoints, names), str):
        raise StageError(f"{args.audit}: category {audit.category!r} {reason}")
    size = (card.model.crop.height, card.model.crop.width)
    if crops.shape[1:3] != size:
        raise StageError(
            f"{args.crops}: crops are {crops.shape[1]}x{crops.shape[2]}, but {args.engine} takes "
            f"{size[0]}x{size[1]}"
        )
    joints = len(names)
    positions = np.zeros((len(args.flip), len(crops), joints, 2), np.float32)
    scores = np.zeros((len(args.flip), len(crops), joints), np.float32)
    with built.open(args.threads) as engine:
        batches = crop_files.read_batches(args.crops, engine.batch)
        start = 0
        for plain, mirrored in predict.infer(engine.stream, batches, mirror=1 in args.flip):
            heatmaps = predict.heatmaps(plain, card.model)
            if heatmaps.shape[1] != joints * card.model.codec.channels:
                raise StageError(
                    f"{args.engine}: gives {heatmaps.shape[1]} heatmaps, but its card has {joints} "
                    f"keypoints with {card.model.codec.channels} each; build it again"
                )
            for outputs in (plain, mirrored):
                if outputs is not None:
                    finite.require(outputs.values(), args.engine, card.requested)
            rows = slice(start, start + len(heatmaps))
            positions[:, rows], scores[:, rows] = predict.keypoints(
                plain,
                mirrored,
                args.flip,
                card.model,
                instances["center"][rows],
                instances["scale"][rows],
            )
            start = rows.stop
    predictions: dict[str, Any] = {
        "flip": np.array(args.flip),
        "keypoints": positions,
        "scores": scores,
        **instances,
    }
    with files.atomic_path(args.output) as temporary:
        np.savez(temporary, **predictions)


if __name__ == "__main__":
    stage.run(parser(), main)
