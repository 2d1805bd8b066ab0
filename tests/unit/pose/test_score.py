"""Predictions become COCO results as in mmpose's CocoMetric."""

import copy
import importlib
from typing import Any

import numpy as np
import pytest

from hrnetpose.artifacts.model import Evaluation
from hrnetpose.models.mmpose import import_mmpose
from hrnetpose.pose import evaluation, score
from hrnetpose.pose.score import Predictions
from unit.pose.datasets import SIGMAS, drawn, truths_of


def predictions(seed: int = 0, count: int = 60) -> Predictions:
    generator = np.random.default_rng(seed)
    spots = generator.uniform(0, 300, (count // 3, len(SIGMAS), 2))
    keypoints = spots[generator.integers(len(spots), size=count)]
    keypoints += generator.normal(0, 2, keypoints.shape)
    corners = generator.uniform(0, 200, (count, 2))
    sizes = generator.uniform(20, 200, (count, 2))
    return Predictions(
        ids=generator.permutation(count),
        image_ids=generator.integers(0, 4, count),
        keypoints=keypoints.astype(np.float32),
        scores=generator.uniform(0, 1, (count, len(SIGMAS))).astype(np.float32),
        box_scores=generator.random(count).astype(np.float32),
        boxes=np.concatenate([corners, corners + sizes], axis=1).astype(np.float32),
        areas=(sizes.prod(axis=1) * 1.25**2).astype(np.float32),
    )


def mmpose_results(
    found: Predictions, tmp_path: Any, monkeypatch: Any, **options: Any
) -> list[dict[str, Any]]:
    """What mmpose's CocoMetric with some options would give to COCOeval."""
    import_mmpose()
    metrics = importlib.import_module("mmpose.evaluation.metrics.coco_metric")
    metric = metrics.CocoMetric(
        format_only=True, outfile_prefix=str(tmp_path / "results"), **options
    )
    monkeypatch.setattr(metric, "_dataset_meta", None, raising=False)
    metric._dataset_meta = {"num_keypoints": len(SIGMAS), "sigmas": np.array(SIGMAS)}
    metric.coco = object()
    results: list[dict[str, Any]] = []
    monkeypatch.setattr(metrics, "dump", lambda content, *_, **__: results.extend(content))
    samples = [
        {
            "id": int(found.ids[i]),
            "img_id": int(found.image_ids[i]),
            "pred_instances": {
                "keypoints": found.keypoints[i][None],
                "keypoint_scores": found.scores[i][None],
                "bboxes": found.boxes[i][None],
                "bbox_scores": found.box_scores[i][None],
            },
            "gt_instances": {"bbox_scales": np.sqrt(found.areas[i]).repeat(2)[None]},
        }
        for i in range(len(found.ids))
    ]
    metric.process([], samples)
    metric.compute_metrics(metric.results)
    return sorted(results, key=lambda result: result["image_id"])


def test_results_are_mmpose_s(tmp_path: Any, monkeypatch: Any) -> None:
    for seed in range(5):
        found = predictions(seed)
        sides = np.sqrt(found.areas)
        found = Predictions(**{**vars(found), "areas": sides * sides})
        assert score.to_coco(found, SIGMAS, 1) == mmpose_results(found, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "options",
    [
        {"score_mode": "bbox"},
        {"keypoint_score_thr": 0.6},
        {"keypoint_score_thr": 0.0},
        {"nms_thr": 0.3},
        {"nms_mode": "soft_oks_nms"},
        {"nms_mode": "soft_oks_nms", "nms_thr": 0.2},
        {"nms_mode": "none"},
        {"nms_mode": "none", "score_mode": "bbox"},
        {"score_mode": "bbox", "nms_thr": 0.5},
    ],
    ids=str,
)
def test_results_are_mmpose_s_with_every_option(
    tmp_path: Any, monkeypatch: Any, options: dict[str, Any]
) -> None:
    evaluation = Evaluation(**options)
    for seed in range(3):
        found = predictions(seed)
        sides = np.sqrt(found.areas)
        found = Predictions(**{**vars(found), "areas": sides * sides})

        ours = score.to_coco(found, SIGMAS, 1, evaluation)

        assert ours == mmpose_results(found, tmp_path, monkeypatch, **options)
        assert ours != score.to_coco(found, SIGMAS, 1)
        taken = score.detections(found, SIGMAS, evaluation)
        np.testing.assert_array_equal(taken.keypoints, score.from_coco(ours).keypoints)
        np.testing.assert_array_equal(taken.scores, score.from_coco(ours).scores)


def test_without_areas_every_object_has_053_of_its_box() -> None:
    dataset, _ = drawn(seed=1, images=8)
    without = copy.deepcopy(dataset)
    for entry in without["annotations"]:
        del entry["area"]

    found = truths_of(dataset).with_areas_of_boxes()

    np.testing.assert_array_equal(found.areas, truths_of(without).areas)
    assert not np.array_equal(found.areas, truths_of(dataset).areas)


def test_a_person_without_a_confident_keypoint_scores_zero() -> None:
    found = predictions()
    found.scores[0] = 0.2
    found.scores[1] = np.nan
    assert score.rescored(found)[:2].tolist() == [0, 0]


def test_detections_are_the_results() -> None:
    found = predictions()
    ours = score.detections(found, SIGMAS)
    expected = score.from_coco(score.to_coco(found, SIGMAS, 1))
    for name, values in vars(ours).items():
        np.testing.assert_array_equal(values, getattr(expected, name), err_msg=name)


def test_no_predictions() -> None:
    none = Predictions(**{name: values[:0] for name, values in vars(predictions()).items()})
    assert score.to_coco(none, SIGMAS, 1) == []
    assert len(score.detections(none, SIGMAS).scores) == 0


def test_the_order_of_shards_does_not_matter() -> None:
    found = predictions()
    order = np.random.default_rng(1).permutation(len(found.ids))
    shuffled = Predictions(**{name: values[order] for name, values in vars(found).items()})
    assert score.to_coco(shuffled, SIGMAS, 1) == score.to_coco(found, SIGMAS, 1)


def test_truths_are_in_the_order_of_the_file() -> None:
    dataset, results = drawn(seed=2, images=8)
    truths = truths_of(dataset)
    assert truths.ids.tolist() == [entry["id"] for entry in dataset["annotations"]]
    found = score.from_coco(results)
    matches = evaluation.match(truths, found, SIGMAS)
    np.testing.assert_array_equal(matches.image_ids, truths.image_ids)
