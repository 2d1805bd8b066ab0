"""How a model's config has predictions scored shows in the label of its figures."""

from typing import Any

import pytest

import score_accuracy
from hrnetpose.artifacts.model import Evaluation, ModelCard


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
