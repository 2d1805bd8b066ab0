"""What the stage says of figures beside pycocotools' own."""

from typing import Any

import numpy as np
import pytest

import score_accuracy
from hrnetpose.artifacts.model import Evaluation, ModelCard
from hrnetpose.pose.score import Evaluator, Predictions
from unit.pose.datasets import SIGMAS, drawn, truths_of


def label(model: ModelCard, nms: score_accuracy.Nms | None) -> str:
    settings = score_accuracy.choose_settings(model, nms)
    told = ["3 images", "7 persons"]
    return score_accuracy.protocol("gt", False, model, settings, "people", told).label


@pytest.mark.parametrize(
    ("evaluation", "nms", "told"),
    [
        ({}, None, ""),
        ({}, "hard", ""),
        ({}, "soft", ", soft NMS"),
        ({"nms_mode": "soft_oks_nms"}, None, ", soft NMS"),
        ({"nms_mode": "soft_oks_nms"}, "hard", ""),
        ({"nms_mode": "none", "use_area": False}, None, ", no NMS, areas of the boxes"),
        ({"nms_thr": 0.7}, "soft", ", soft NMS, NMS at 0.7"),
        ({"score_mode": "bbox"}, None, ", scores of the boxes"),
    ],
)
def test_the_label_tells_what_departs_from_mmposes_defaults(
    model_card: ModelCard, evaluation: dict[str, Any], nms: score_accuracy.Nms | None, told: str
) -> None:
    model = model_card.model_copy(update={"evaluation": Evaluation(**evaluation)})

    found = label(model, nms)

    assert found == f"gt boxes, no flip, plain decoding{told}, people (3 images, 7 persons)"


def test_keypoints_that_nobody_labelled_are_not_looked_at(model_card: ModelCard) -> None:
    dataset, _ = drawn(seed=1, images=3)
    for entry in dataset["annotations"]:
        entry["keypoints"][2::3] = [0] * len(SIGMAS)
        entry["num_keypoints"] = 1
    truths = truths_of(dataset)
    boxes = truths.boxes.astype(np.float32)
    boxes[:, 2:] += boxes[:, :2]
    evaluator = Evaluator(truths, SIGMAS)
    evaluator.process(
        Predictions(
            ids=truths.ids,
            image_ids=truths.image_ids[truths.images],
            keypoints=truths.keypoints[..., :2].astype(np.float32),
            scores=np.ones(truths.keypoints.shape[:2], np.float32),
            box_scores=np.ones(len(boxes), np.float32),
            boxes=boxes,
            areas=truths.areas.astype(np.float32),
        )
    )

    scored = evaluator.evaluate()

    assert scored.metrics.AP == 1
    assert score_accuracy.view_keypoints(scored, None, evaluator, model_card) is None
