"""Predictions become COCO results, and these figures, as in mmpose's CocoMetric."""

import copy
import importlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hrnetpose.artifacts.model import Evaluation
from hrnetpose.models.mmpose import import_mmpose
from hrnetpose.pose import score
from hrnetpose.pose.evaluation import Detections
from hrnetpose.pose.score import Evaluator, Predictions
from unit.pose.datasets import FIGURES, SIGMAS, detections_of, drawn, stats, truths_of


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


def assert_same(ours: Detections, theirs: Detections) -> None:
    for name, values in vars(theirs).items():
        np.testing.assert_array_equal(getattr(ours, name), values, err_msg=name)


def test_results_are_mmpose_s(tmp_path: Any, monkeypatch: Any) -> None:
    for seed in range(5):
        found = squared(predictions(seed))
        theirs = detections_of(mmpose_results(found, tmp_path, monkeypatch))
        assert_same(score.detections(found, SIGMAS), theirs)


def squared(found: Predictions) -> Predictions:
    """Predictions whose areas are products of sides in single precision."""
    sides = np.sqrt(found.areas)
    return replace(found, areas=sides * sides)


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
def test_results_and_figures_are_mmpose_s_with_every_option(
    tmp_path: Any, monkeypatch: Any, options: dict[str, Any]
) -> None:
    settings = Evaluation(**options)
    for seed in range(3):
        found = squared(predictions(seed))
        results = mmpose_results(found, tmp_path, monkeypatch, **options)

        ours = score.detections(found, SIGMAS, settings)

        assert_same(ours, detections_of(results))
        usual = score.detections(found, SIGMAS)
        assert not np.array_equal(ours.scores, usual.scores)
        dataset = persons_near(found, seed)
        evaluator = Evaluator(truths_of(dataset), SIGMAS, settings)
        evaluator.process(found)
        metrics = evaluator.evaluate().metrics
        assert [getattr(metrics, name) for name in FIGURES] == stats(dataset, results)


def persons_near(found: Predictions, seed: int) -> dict[str, Any]:
    """Annotated persons near every third prediction."""
    generator = np.random.default_rng(seed)
    annotations = []
    for row in range(0, len(found.ids), 3):
        keypoints = found.keypoints[row] + generator.normal(0, 2, (len(SIGMAS), 2))
        annotations.append(
            {
                "id": row,
                "image_id": int(found.image_ids[row]),
                "category_id": 1,
                "iscrowd": 0,
                "num_keypoints": len(SIGMAS),
                "keypoints": np.column_stack([keypoints, [2] * len(SIGMAS)]).ravel().tolist(),
                "bbox": [*keypoints.min(axis=0).tolist(), 100.0, 100.0],
                "area": float(generator.uniform(40, 200)) ** 2,
            }
        )
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 640, "height": 480} for n in range(4)]
    categories = [{"id": 1, "name": "person"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def test_without_areas_every_object_has_053_of_its_box() -> None:
    dataset = persons_near(predictions(), 0)
    without = copy.deepcopy(dataset)
    for entry in without["annotations"]:
        del entry["area"]

    found = Evaluator(truths_of(dataset), SIGMAS, Evaluation(use_area=False)).truths

    np.testing.assert_array_equal(found.areas, truths_of(without).areas)
    assert not np.array_equal(found.areas, truths_of(dataset).areas)


def test_a_person_without_a_confident_keypoint_scores_zero() -> None:
    found = predictions()
    found.scores[0] = 0.2
    found.scores[1] = np.nan
    assert score.rescore(found)[:2].tolist() == [0, 0]


def part(found: Predictions, rows: Any) -> Predictions:
    return Predictions(**{name: values[rows] for name, values in vars(found).items()})


def test_parts_may_come_in_any_order_and_size() -> None:
    found = predictions()
    evaluator = Evaluator(truths_of(persons_near(found, 0)), SIGMAS)
    evaluator.process(found)
    whole = evaluator.evaluate()
    evaluator.reset()
    for rows in np.array_split(np.random.default_rng(1).permutation(len(found.ids)), 7):
        evaluator.process(part(found, rows))
    parts = evaluator.evaluate()

    assert parts.metrics == whole.metrics
    assert whole.metrics.AP > 0.1  # type: ignore[operator]
    assert_same(parts.detections, whole.detections)


@pytest.mark.parametrize("processed", [False, True])
def test_nobody_predicted(processed: bool) -> None:
    found = predictions()
    evaluator = Evaluator(truths_of(persons_near(found, 0)), SIGMAS)
    evaluator.process(found)
    evaluator.reset()
    if processed:
        evaluator.process(part(found, slice(0)))
    scored = evaluator.evaluate()
    assert scored.metrics.AP == scored.metrics.AR == 0
    assert len(scored.predictions.ids) == len(scored.detections.scores) == 0


def test_truths_are_in_the_order_of_the_file() -> None:
    dataset, _ = drawn(seed=2, images=8)
    assert truths_of(dataset).ids.tolist() == [entry["id"] for entry in dataset["annotations"]]
