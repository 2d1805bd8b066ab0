"""Run an engine over crops, plain and mirrored, and decode keypoints for both protocols.

    python workflow_scripts/predict_keypoints.py --engine build/engines/bf16 --crops crops.npy \\
        --instances instances.npz --output predictions.npz
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hrnetpose import engines, files, stage
from hrnetpose.data import crops as crop_files
from hrnetpose.engines.base import Crops, Engine, Heatmaps
from hrnetpose.pose import decode
from hrnetpose.stage import StageError


def parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    command = stage.command(__doc__)
    command.add_argument("--engine", type=Path, required=True, help="the engine's folder")
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
    engine, card = engines.open_engine(args.engine, args.threads)
    size = (card.model.crop.height, card.model.crop.width)
    if crops.shape[1:3] != size:
        raise StageError(
            f"{args.crops}: crops are {crops.shape[1]}x{crops.shape[2]}, but {args.engine} takes "
            f"{size[0]}x{size[1]}"
        )
    keypoints = len(card.model.keypoints.names)
    positions = np.zeros((len(args.flip), len(crops), keypoints, 2), np.float32)
    scores = np.zeros((len(args.flip), len(crops), keypoints), np.float32)
    with engine:
        for start, plain, mirrored in heatmaps(engine, crops, 1 in args.flip):
            if plain.shape[1] != keypoints * card.model.codec.channels:
                raise StageError(
                    f"{args.engine}: gives {plain.shape[1]} heatmaps, but its card has {keypoints} "
                    f"keypoints with {card.model.codec.channels} each; build it again"
                )
            rows = slice(start, start + len(plain))
            for number, flip in enumerate(args.flip):
                averaged = plain
                if flip:
                    assert mirrored is not None
                    indices = card.model.keypoints.flip_indices
                    flipped = decode.flip_back(
                        mirrored, indices, card.model.flip_shift, card.model.codec.flip_mode
                    )
                    averaged = (plain + flipped) * np.float32(0.5)
                found, scores[number, rows] = decode.decode(averaged, card.model.codec)
                positions[number, rows] = decode.to_image(
                    found,
                    averaged.shape[:1:-1],
                    instances["center"][rows],
                    instances["scale"][rows],
                    card.model.codec,
                )
    predictions: dict[str, Any] = {
        "flip": np.array(args.flip),
        "keypoints": positions,
        "scores": scores,
        **instances,
    }
    with files.atomic_path(args.output) as temporary:
        np.savez(temporary, **predictions)


def heatmaps(
    engine: Engine, crops: Crops, mirror: bool
) -> Iterator[tuple[int, Heatmaps, Heatmaps | None]]:
    """Yields for each batch its first row and its heatmaps, plain and, if asked, mirrored.

    The last batch is padded: an engine may be fixed to its batch, and results must not depend on
    how a dataset is cut into shards.
    """
    starts = range(0, len(crops), engine.batch)

    def batches() -> Iterator[Crops]:
        for start in starts:
            batch = np.asarray(crops[start : start + engine.batch])
            if len(batch) < engine.batch:
                batch = np.concatenate(
                    [batch, np.zeros((engine.batch - len(batch), *batch.shape[1:]), np.uint8)]
                )
            yield batch
            if mirror:
                yield batch[:, :, ::-1]

    results = engine.stream(batches())
    for start in starts:
        count = min(engine.batch, len(crops) - start)
        plain = next(results)[:count]
        yield start, plain, next(results)[:count] if mirror else None


if __name__ == "__main__":
    stage.run(parser(), main)
