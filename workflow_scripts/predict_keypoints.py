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
from hrnetpose.progress import Progress
from hrnetpose.stage import StageError


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
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


def main(
    *,
    engine: Path,
    audit: Path,
    crops: Path,
    instances: Path,
    flip: list[int],
    threads: int,
    output: Path,
) -> None:
    """Run the stage."""
    shape = crop_files.read(crops).shape
    table = crop_files.read_instances(instances, shape[0])
    built = engines.read(engine)
    card = built.card
    audited = Audit.read(audit)
    names = card.model.keypoints.names
    reason = match_names(audited.keypoints, audited.number_of_keypoints, names)
    if isinstance(reason, str):
        raise StageError(f"{audit}: category {audited.category!r} {reason}")
    size = (card.model.crop.height, card.model.crop.width)
    if shape[1:3] != size:
        raise StageError(
            f"{crops}: crops are {shape[1]}x{shape[2]}, but {engine} takes {size[0]}x{size[1]}"
        )
    joints = len(names)
    positions = np.zeros((len(flip), shape[0], joints, 2), np.float32)
    scores = np.zeros((len(flip), shape[0], joints), np.float32)
    with (
        built.open(threads) as opened,
        Progress(f"{card.variant}: persons", shape[0], in_bytes=False) as progress,
    ):
        batches = crop_files.read_batches(crops, opened.batch)
        start = 0
        for plain, mirrored in predict.infer(opened.stream, batches, mirror=1 in flip):
            try:
                count = len(predict.decoded(plain, card.model)[0])
            except StageError as error:
                raise StageError(f"{engine}: {error}; build it again") from error
            for outputs in (plain, mirrored):
                if outputs is not None:
                    finite.require(outputs.values(), engine, card.requested)
            rows = slice(start, start + count)
            positions[:, rows], scores[:, rows] = predict.keypoints(
                plain, mirrored, flip, card.model, table["center"][rows], table["scale"][rows]
            )
            start = rows.stop
            progress.advance(count)
    predictions: dict[str, Any] = {
        "flip": np.array(flip),
        "keypoints": positions,
        "scores": scores,
        **table,
    }
    with files.atomic_path(output) as temporary:
        np.savez(temporary, **predictions)


if __name__ == "__main__":
    stage.run(parser(), main)
