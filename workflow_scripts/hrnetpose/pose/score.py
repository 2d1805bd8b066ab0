"""From keypoints to COCO's figures, as mmpose's CocoMetric takes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hrnetpose.artifacts.model import Evaluation
from hrnetpose.data.annotations import Annotations
from hrnetpose.pose import evaluation
from hrnetpose.pose.evaluation import Detections, Evaluated
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

    @classmethod
    def of(
        cls,
        persons: Mapping[str, npt.NDArray[Any]],
        keypoints: npt.NDArray[np.float32],
        scores: npt.NDArray[np.float32],
    ) -> Self:
        """Return predictions on the persons of a table.

        Args:
            persons: `id`, `image_id`, `box`, `box_score` and `scale`, as beside crops.
            keypoints: float32 [N, K, 2] in image pixels.
            scores: float32 [N, K].
        """
        return cls(
            ids=persons["id"],
            image_ids=persons["image_id"],
            keypoints=keypoints,
            scores=scores,
            box_scores=persons["box_score"],
            boxes=persons["box"],
            areas=persons["scale"].prod(axis=1),
        )

    @classmethod
    def nobody(cls, keypoints: int) -> Self:
        """Return the predictions of nobody, with K keypoints."""
        ids, box = np.empty(0, np.int64), np.empty((0, 4), np.float32)
        scores = np.empty((0, keypoints), np.float32)
        return cls(
            ids, ids, np.empty((0, keypoints, 2), np.float32), scores, box[:, 0], box, box[:, 0]
        )

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Return the predictions of several parts, at least one, in that order."""
        return cls(
            *(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls))
        )


def rescore(
    predictions: Predictions, settings: Evaluation = COCO_METRIC
) -> npt.NDArray[np.float32]:
    """Return the score of each person: [N].

    With `score_mode: bbox` it is the box's; else that times the mean score of the keypoints above
    the threshold (0 where there is none).  In single precision and summed from the first keypoint
    to the last, as in mmpose: whether two scores are equal decides which person NMS keeps.
    """
    if settings.score_mode == "bbox":
        return predictions.box_scores
    confident = predictions.scores > settings.keypoint_score_thr
    total = np.where(confident, predictions.scores, np.float32(0)).cumsum(axis=1)[:, -1]
    count = np.maximum(confident.sum(axis=1), 1).astype(np.float32)
    return predictions.box_scores * (total / count)


def keep(
    predictions: Predictions,
    scores: npt.NDArray[np.float32],
    sigmas: npt.ArrayLike,
    settings: Evaluation = COCO_METRIC,
) -> Indices:
    """Return the predictions that NMS leaves, by image, then by falling score.

    Args:
        predictions: the predicted persons.
        scores: float32 [N], what `rescore` returned.
        sigmas: the OKS constants [K].
        settings: which NMS; with none all are kept, by image, then by id.
    """
    if not len(scores):
        return np.empty(0, np.intp)
    sigmas = np.asarray(sigmas, np.float64)
    order = np.lexsort((predictions.ids, predictions.image_ids))
    if settings.nms_mode == "none":
        return order
    suppress = _SUPPRESS[settings.nms_mode]
    images = np.split(order, np.flatnonzero(np.diff(predictions.image_ids[order])) + 1)
    left = [
        suppress(
            predictions.keypoints[rows],
            scores[rows],
            predictions.areas[rows],
            sigmas,
            settings.nms_thr,
        )
        for rows in images
    ]
    return np.concatenate([rows[best] for rows, best in zip(images, left, strict=True)])


def detections(
    predictions: Predictions, sigmas: npt.ArrayLike, settings: Evaluation = COCO_METRIC
) -> Detections:
    """Return predictions as the evaluation takes them, after rescoring and NMS per image.

    Args:
        predictions: the predicted persons.
        sigmas: the OKS constants [K].
        settings: how they are scored, and which NMS.
    """
    scores = rescore(predictions, settings)
    rows = keep(predictions, scores, sigmas, settings)
    # Subtracted in single precision, multiplied in double, as in mmpose.
    boxes = predictions.boxes[rows]
    width, height = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64).T
    return Detections(
        image_ids=predictions.image_ids[rows],
        keypoints=predictions.keypoints[rows].astype(np.float64),
        scores=scores[rows].astype(np.float64),
        # COCOeval takes a prediction's size (for APM, APL) from its box if it has one.
        areas=width * height,
    )


@dataclass(frozen=True)
class Scored(Evaluated):
    """Predictions and what COCO's evaluation says of them.

    Attributes:
        predictions: all of them.
        detections: those that NMS left, as they were evaluated.
    """

    predictions: Predictions
    detections: Detections


class Evaluator:
    """Takes COCO's figures of predicted persons, as mmpose's CocoMetric does; it knows no model.

    `process` takes predictions part by part, `evaluate` takes the figures of all of them, and
    `reset` forgets them.

    Attributes:
        truths: the annotated persons, as they are evaluated on.
        sigmas: the OKS constants, float64 [K].
        settings: how predictions are scored, which NMS, whose areas.
    """

    def __init__(
        self, truths: Annotations, sigmas: npt.ArrayLike, settings: Evaluation = COCO_METRIC
    ) -> None:
        """Begin without predictions.

        Args:
            truths: the annotated persons, with the model's keypoints in its order.
            sigmas: the OKS constants [K].
            settings: `use_area` decides whose areas the truths have.
        """
        self.truths = truths if settings.use_area else truths.with_areas_of_boxes()
        self.sigmas = np.asarray(sigmas, np.float64)
        self.settings = settings
        self.reset()

    def reset(self) -> None:
        """Forget all predictions."""
        self._parts = [Predictions.nobody(len(self.sigmas))]

    def process(self, predictions: Predictions) -> None:
        """Take some of the predictions; the order of parts changes nothing."""
        self._parts.append(predictions)

    def evaluate(self) -> Scored:
        """Evaluate all predictions since `reset`.

        Raises:
            ValueError: a prediction is on an image that is not evaluated on.
        """
        predictions = Predictions.join(self._parts)
        found = detections(predictions, self.sigmas, self.settings)
        evaluated = evaluation.evaluate(self.truths, found, self.sigmas)
        return Scored(**vars(evaluated), predictions=predictions, detections=found)
