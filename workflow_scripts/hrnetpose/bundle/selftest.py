"""What the self-test of a bundle expects: drawn people, and what the pipeline gives for them."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hrnetpose.artifacts.bundle import Case, KeypointGraph
from hrnetpose.artifacts.model import Crop, ModelCard
from hrnetpose.artifacts.parity import KeypointShift
from hrnetpose.batches import Array, Crops, split
from hrnetpose.data import cutting
from hrnetpose.engines.folder import EngineFolder
from hrnetpose.graphs import keypoints
from hrnetpose.pose import finite, predict
from hrnetpose.sample.images import draw_image

PEOPLE = 6
FLIPS = (0, 1)


def draw_crops(crop: Crop, count: int = PEOPLE) -> Crops:
    """Return people of the embedded sample, cut out as a model takes them.

    No image of a dataset leaves with a bundle: they are somebody's.

    Returns:
        uint8 [count, height, width, 3] RGB.
    """

    def people() -> Iterator[Crops]:
        for index in itertools.count():
            image, annotations = draw_image("val", index)
            boxes = np.array([person["bbox"] for person in annotations], np.float32).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            for place in zip(*cutting.center_and_scale(boxes, crop), strict=True):
                yield cutting.cut(image, *place, crop)

    return np.stack(list(itertools.islice(people(), count)))


def write_crops(crops: Crops, folder: Path) -> list[str]:
    """Write crops as images, and return their names."""
    folder.mkdir()
    names = [f"crop_{number}.png" for number in range(len(crops))]
    for name, crop in zip(names, crops, strict=True):
        cv2.imwrite(str(folder / name), cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))
    return names


def run_pipeline(built: EngineFolder[Any], crops: Crops, threads: int) -> list[Case]:
    """Return what predict_keypoints would write of crops, without and with flip test."""
    card = built.card.model
    height, width = crops.shape[1:3]
    centers = np.full((len(crops), 2), [width / 2, height / 2], np.float32)
    scales = np.full((len(crops), 2), [width, height], np.float32)
    found = []
    with built.open(threads) as engine:
        start = 0
        for plain, mirrored in predict.infer(engine.stream, split(crops, engine.batch), True):
            assert mirrored is not None
            finite.require([*plain.values(), *mirrored.values()], built.path, built.card.requested)
            rows = slice(start, start + engine.batch)
            found.append(
                predict.keypoints(plain, mirrored, FLIPS, card, centers[rows], scales[rows])
            )
            start = rows.stop
    positions, scores = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
    return [
        Case(flip=bool(flip), keypoints=positions[flip].tolist(), scores=scores[flip].tolist())
        for flip in FLIPS
    ]


def compare(
    card: ModelCard, found: tuple[Array, Array], expected: Case, minimum: float
) -> KeypointGraph:
    """Say how the keypoints of `models/keypoints` differ from the pipeline's.

    Args:
        card: of the model.
        found: the graph's keypoints [N, K, 2] and scores [N, K].
        expected: the pipeline's.
        minimum: keypoints that are less sure are not compared.
    """
    scores = np.array(expected.scores, np.float32)
    sure = scores > minimum
    shifts = np.linalg.norm(found[0] - np.array(expected.keypoints, np.float32), axis=-1)[sure]
    shifts = shifts if len(shifts) else np.zeros(1)
    return KeypointGraph(
        decoder=keypoints.decoder(card),
        pipeline=card.codec.label,
        shift_px=KeypointShift(
            mean=float(shifts.mean()),
            p99=float(np.percentile(shifts, 99)),
            max=float(shifts.max()),
        ),
        score=float(np.abs(found[1] - scores).max()),
        keypoints=int(sure.sum()),
        compared_with="the fp32 graph with the pipeline's decoder, both in ONNX Runtime, on people "
        "that were drawn",
    )
