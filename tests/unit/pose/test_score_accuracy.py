"""How a model's config has predictions scored shows in the label of its figures."""

from typing import Any

import pytest

import score_accuracy
from hrnetpose.artifacts.model import Evaluation, ModelCard


def label(model: ModelCard, *flags: str) -> str:
    required = ["--annotations", "a", "--engine", "e", "--predictions", "p", "--output", "o"]
    required += ["--audit", "a", "--persons", "p"]
    args = score_accuracy.parser().parse_args([*required, "--dataset", "people", *flags])
    return score_accuracy.protocol("gt", False, model, args, ["3 images", "7 persons"]).label


@pytest.mark.parametrize(
    ("evaluation", "flags", "told"),
    [
        ({}, (), ""),
        ({}, ("--nms", "hard"), ""),
        ({}, ("--nms", "soft"), ", soft NMS"),
        ({"nms_mode": "soft_oks_nms"}, (), ", soft NMS"),
        ({"nms_mode": "soft_oks_nms"}, ("--nms", "hard"), ""),
        ({"nms_mode": "none", "use_area": False}, (), ", no NMS, areas of the boxes"),
        ({"nms_thr": 0.7}, ("--nms", "soft"), ", soft NMS, NMS at 0.7"),
        ({"score_mode": "bbox"}, (), ", scores of the boxes"),
    ],
)
def test_the_label_tells_what_departs_from_mmposes_defaults(
    model_card: ModelCard, evaluation: dict[str, Any], flags: tuple[str, ...], told: str
) -> None:
    model = model_card.model_copy(update={"evaluation": Evaluation(**evaluation)})

    found = label(model, *flags)

    assert found == f"gt boxes, no flip, plain decoding{told}, people (3 images, 7 persons)"
