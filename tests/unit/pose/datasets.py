"""Drawn COCO datasets with predictions, and pycocotools' verdict on them."""

import contextlib
import copy
import io
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hrnetpose.data import coco
from hrnetpose.data.annotations import Annotations
from hrnetpose.pose import evaluation
from hrnetpose.pose.evaluation import Detections, Evaluated

SIGMAS = [0.026, 0.05, 0.079, 0.107]
FIGURES = ["AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL"]


def drawn(
    seed: int,
    images: int,
    persons: float = 2.0,
    detections: float = 3.0,
    tied: bool = False,
    boxes: bool = True,
    extras: bool = True,
    noise: float = 1.0,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Annotations and results.

    Args:
        seed: of the draw.
        images: how many.
        persons: in each image, on average.
        detections: in each image, on average.
        tied: scores and positions repeat.
        boxes: results have boxes.
        extras: there are crowds and persons without keypoints, and ids from 0.
        noise: how far predictions are off.
    """
    generator = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    ids = generator.permutation(max(images, 1) * 3)[:images].tolist()
    for image in ids:
        here: list[Any] = []
        for _ in range(generator.poisson(persons)):
            size = float(generator.choice([20, 32, 60, 96, 200]))
            if not tied:
                size *= generator.uniform(0.9, 1.1)
            x, y = generator.uniform(0, 200, 2)
            keypoints = generator.uniform(0, size, (len(SIGMAS), 2)) + np.array([x, y])
            visible = generator.integers(0, 3, len(SIGMAS))
            if not extras and not visible.any():
                visible[0] = 2
            if extras and generator.random() < 0.15:
                visible[:] = 0
            if tied and here and generator.random() < 0.3:
                keypoints = here[-1]
            here.append(keypoints)
            annotations.append(
                {
                    "id": len(annotations) + (0 if extras else 1),
                    "image_id": image,
                    "category_id": 1,
                    "iscrowd": int(extras and generator.random() < 0.1),
                    "num_keypoints": int((visible > 0).sum()),
                    "keypoints": np.column_stack([keypoints, visible]).ravel().tolist(),
                    "bbox": [float(x), float(y), size, size],
                    "area": size * size,
                }
            )
        for _ in range(generator.poisson(detections)):
            keypoints = generator.uniform(0, 200, (len(SIGMAS), 2))
            if here and generator.random() < 0.8:
                keypoints = here[generator.integers(len(here))].copy()
                if not (tied and generator.random() < 0.5):
                    spread = noise * generator.choice([0.5, 2, 8])
                    keypoints += generator.normal(0, spread, keypoints.shape)
            score = generator.random()
            result = {
                "image_id": image,
                "category_id": 1,
                "keypoints": np.column_stack([keypoints, np.ones(len(SIGMAS))]).ravel().tolist(),
                "score": float(np.round(score, 1) if tied else score),
            }
            if boxes:
                width, height = generator.choice([32, 40, 96, 120], 2).tolist()
                result["bbox"] = [0.0, 0.0, float(width), float(height)]
            results.append(result)
    dataset = {
        "images": [{"id": image, "file_name": "", "width": 1, "height": 1} for image in ids],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }
    return dataset, results


def judged(dataset: dict[str, Any], results: list[dict[str, Any]]) -> COCOeval:
    """pycocotools' evaluation, done."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(dataset)
        for entry in truth.dataset["annotations"]:
            entry["id"] += 1  # COCOeval takes a match with annotation 0 for none
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(SIGMAS)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def stats(dataset: dict[str, Any], results: list[dict[str, Any]]) -> list[float]:
    """pycocotools' ten figures, -1 where there is no person."""
    return judged(dataset, results).stats.tolist()


def truths_of(dataset: dict[str, Any]) -> Annotations:
    """The annotated persons, as the evaluation takes them."""
    return coco.parse(dataset, Path("drawn.json"))


def detections_of(results: list[dict[str, Any]]) -> Detections:
    """Results in COCO's format as the evaluation takes them."""
    flat = np.array([entry["keypoints"] for entry in results], np.float64)
    keypoints = flat.reshape(len(results), -1 if results else len(SIGMAS), 3)[..., :2]
    # A result's size is that of its box, or else of the rectangle around its keypoints.
    sizes = [
        entry["bbox"][2:] if "bbox" in entry else np.ptp(points, axis=0).tolist()
        for entry, points in zip(results, keypoints, strict=True)
    ]
    return Detections(
        image_ids=np.array([entry["image_id"] for entry in results], np.int64),
        keypoints=keypoints,
        scores=np.array([entry["score"] for entry in results], np.float64),
        areas=np.array([width * height for width, height in sizes], np.float64),
    )


def evaluate(dataset: dict[str, Any], results: list[dict[str, Any]]) -> Evaluated:
    """This project's evaluation."""
    return evaluation.evaluate(truths_of(dataset), detections_of(results), SIGMAS)
