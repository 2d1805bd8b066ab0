"""From keypoints to COCO's figures, as mmpose's CocoMetric takes them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hrnetpose.artifacts.model import Evaluation
from hrnetpose.pose.evaluation import Detections
from hrnetpose.pose.nms import Indices, nms, soft_nms

COCO_METRIC = Evaluation()
"""CocoMetric's defaults."""
_SUPPRESS = {"oks_nms": nms, "soft_oks_nms": soft_nms}


@dataclass(frozen=True)
class Predictions:
    """Predicted persons of a dataset, N in all.

    Attributes:
        ids: int64 [N], of the boxes; within an image they set the order.
        image_ids: int64 [N].
        keypoints: float32 [N, K, 2] in image pixels.
        scores: float32 [N, K], heatmap maxima.
        box_scores: float32 [N].
        boxes: float32 [N, 4], x1, y1, x2, y2, that the persons were cut out by.
        areas: float32 [N], of the padded boxes, in square pixels; the extent that NMS goes by.
    """

    ids: npt.NDArray[np.int64]
    image_ids: npt.NDArray[np.int64]
    keypoints: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    box_scores: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.float32]
    areas: npt.NDArray[np.float32]


def rescored(
    predictions: Predictions, evaluation: Evaluation = COCO_METRIC
) -> npt.NDArray[np.float32]:
    """Returns the score of each person: [N].

    With `score_mode: bbox` it is the box's; else that times the mean score of the keypoints above
    the threshold (0 where there is none).  In single precision and summed from the first keypoint
    to the last, as in mmpose: whether two scores are equal decides which person NMS keeps.
    """
    if evaluation.score_mode == "bbox":
        return predictions.box_scores
    confident = predictions.scores > evaluation.keypoint_score_thr
    total = np.where(confident, predictions.scores, np.float32(0)).cumsum(axis=1)[:, -1]
    count = np.maximum(confident.sum(axis=1), 1).astype(np.float32)
    return predictions.box_scores * (total / count)


def kept(
    predictions: Predictions,
    scores: npt.NDArray[np.float32],
    sigmas: npt.ArrayLike,
    evaluation: Evaluation = COCO_METRIC,
) -> Indices:
    """Returns the predictions that NMS leaves, by image, then by falling score.

    Args:
        predictions: the predicted persons.
        scores: float32 [N], what `rescored` returned.
        sigmas: the OKS constants [K].
        evaluation: which NMS; with none all are kept, by image, then by id.
    """
    if not len(scores):
        return np.empty(0, np.intp)
    sigmas = np.asarray(sigmas, np.float64)
    order = np.lexsort((predictions.ids, predictions.image_ids))
    if evaluation.nms_mode == "none":
        return order
    suppress = _SUPPRESS[evaluation.nms_mode]
    images = np.split(order, np.flatnonzero(np.diff(predictions.image_ids[order])) + 1)
    left = [
        suppress(
            predictions.keypoints[rows],
            scores[rows],
            predictions.areas[rows],
            sigmas,
            evaluation.nms_thr,
        )
        for rows in images
    ]
    return np.concatenate([rows[best] for rows, best in zip(images, left, strict=True)])


def detections(
    predictions: Predictions, sigmas: npt.ArrayLike, evaluation: Evaluation = COCO_METRIC
) -> Detections:
    """Returns predictions as the evaluation takes them, after rescoring and NMS per image.

    Args:
        predictions: the predicted persons.
        sigmas: the OKS constants [K].
        evaluation: how they are scored, and which NMS.
    """
    scores = rescored(predictions, evaluation)
    rows = kept(predictions, scores, sigmas, evaluation)
    sizes = _sizes(predictions.boxes[rows])
    return Detections(
        image_ids=predictions.image_ids[rows],
        keypoints=predictions.keypoints[rows].astype(np.float64),
        scores=scores[rows].astype(np.float64),
        # COCOeval takes a prediction's size (for APM, APL) from its box if it has one.
        areas=sizes[:, 0] * sizes[:, 1],
    )


def to_coco(
    predictions: Predictions,
    sigmas: npt.ArrayLike,
    category: int,
    evaluation: Evaluation = COCO_METRIC,
) -> list[dict[str, Any]]:
    """Returns predictions in COCO's result format, after rescoring and NMS per image."""
    scores = rescored(predictions, evaluation)
    rows = kept(predictions, scores, sigmas, evaluation)
    triples = np.concatenate([predictions.keypoints, predictions.scores[..., None]], axis=2)[rows]
    triples = triples.reshape(len(rows), triples.shape[1] * 3)
    boxes = predictions.boxes[rows]
    xywh = np.concatenate([boxes[:, :2].astype(np.float64), _sizes(boxes)], axis=1)
    columns = (predictions.image_ids[rows], triples, scores[rows], xywh)
    return [
        {
            "image_id": image,
            "category_id": category,
            "keypoints": keypoints,
            "score": score,
            "bbox": box,
        }
        for image, keypoints, score, box in zip(*(c.tolist() for c in columns), strict=True)
    ]


def _sizes(boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Widths and heights [N, 2], subtracted in single precision as in mmpose."""
    return (boxes[:, 2:] - boxes[:, :2]).astype(np.float64)


def from_coco(results: list[dict[str, Any]]) -> Detections:
    """Returns COCO results as the evaluation takes them.

    Args:
        results: all of the category that is evaluated; a result's size is that of its `bbox`, or
            else that of the rectangle around its keypoints.
    """
    flat = np.array([entry["keypoints"] for entry in results], np.float64)
    keypoints = flat.reshape(len(results), flat.shape[-1] // 3, 3)[..., :2]
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
