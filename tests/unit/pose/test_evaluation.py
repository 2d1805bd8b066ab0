"""The figures are those of pycocotools' COCOeval, also on data that it takes wrongly or not at all.

The reports named are of people who gave such data to pycocotools.
"""

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnetpose.artifacts.metrics import Metrics
from hrnetpose.pose import evaluation
from unit.pose.datasets import (
    FIGURES,
    SIGMAS,
    detections_of,
    drawn,
    evaluate,
    judged,
    stats,
    truths_of,
)

datasets = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "images": st.integers(1, 12),
        "persons": st.sampled_from([0.3, 2.0, 5.0]),
        "detections": st.sampled_from([0.5, 3.0, 25.0]),
        "tied": st.booleans(),
        "boxes": st.booleans(),
        "noise": st.sampled_from([0.3, 1.0, 3.0]),
    }
)
Dataset = dict[str, Any]
Results = list[dict[str, Any]]


def figures(metrics: Metrics) -> list[float]:
    return [-1 if value is None else value for value in (getattr(metrics, n) for n in FIGURES)]


@given(options=datasets, extras=st.booleans())
@settings(max_examples=100, deadline=None)
def test_the_ten_figures_are_cocoeval_s(options: dict[str, Any], extras: bool) -> None:
    dataset, results = drawn(**options, extras=extras)
    if not (results and dataset["annotations"]):
        return
    untouched = copy.deepcopy((dataset, results))

    ours = evaluate(dataset, results).metrics

    assert figures(ours) == stats(dataset, results)
    assert (dataset, results) == untouched


@given(options=datasets, order=st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_ids_of_annotations_change_no_figure(options: dict[str, Any], order: Any) -> None:
    dataset, results = drawn(**options)
    if not (results and dataset["annotations"]):
        return
    before = evaluate(dataset, results).metrics
    ids = list(range(len(dataset["annotations"])))
    order.shuffle(ids)

    for entry, number in zip(dataset["annotations"], ids, strict=True):
        entry["id"] = number

    assert evaluate(dataset, results).metrics == before


def perfect(count: int = 6) -> tuple[Dataset, Results]:
    """Persons that are found exactly, two on each image."""
    generator = np.random.default_rng(0)
    annotations, results = [], []
    for number in range(count):
        corner = generator.uniform(0, 300, 2)
        keypoints = corner + generator.uniform(0, 100, (len(SIGMAS), 2))
        triples = np.column_stack([keypoints, np.full(len(SIGMAS), 2)]).ravel().tolist()
        common = {"image_id": number // 2, "category_id": 1}
        box = [*corner.tolist(), 100.0, 100.0]
        annotations.append(
            {
                **common,
                "id": number + 1,
                "keypoints": triples,
                "num_keypoints": len(SIGMAS),
                "bbox": box,
                "area": 5300.0,
                "iscrowd": 0,
            }
        )
        results.append(
            {**common, "keypoints": list(triples), "bbox": box, "score": 0.9 - number / 100}
        )
    images = [
        {"id": number, "file_name": f"{number}.jpg", "width": 640, "height": 480}
        for number in range(count // 2)
    ]
    categories = [{"id": 1, "name": "person"}]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def of_every_person(key: str, value: Any) -> Any:
    def change(dataset: Dataset, results: Results) -> None:
        for entry in dataset["annotations"]:
            if value is None:
                del entry[key]
            else:
                entry[key] = value

    return change


def with_ids_from_zero(dataset: Dataset, results: Results) -> None:
    for entry in dataset["annotations"]:
        entry["id"] -= 1


def with_large_ids(dataset: Dataset, results: Results) -> None:
    for entry in dataset["annotations"]:
        entry["id"] += 900_100_000_000_000
    for entry in [*dataset["annotations"], *results]:
        entry["image_id"] += 2**53 + 1
    for entry in dataset["images"]:
        entry["id"] += 2**53 + 1


def with_category(number: int) -> Any:
    def change(dataset: Dataset, results: Results) -> None:
        for entry in [*dataset["annotations"], *results]:
            entry["category_id"] = number
        dataset["categories"][0]["id"] = number

    return change


def with_images_of_nobody(dataset: Dataset, results: Results) -> None:
    dataset["images"] += [{**dataset["images"][0], "id": 100 + number} for number in range(5)]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(with_ids_from_zero, id="cocoapi 507, 332, vision 1530: ids from 0"),
        pytest.param(of_every_person("area", 0), id="mmpose 1795, 2248: areas are 0"),
        pytest.param(of_every_person("area", None), id="cocoapi 318: no areas"),
        pytest.param(of_every_person("num_keypoints", None), id="no num_keypoints"),
        pytest.param(of_every_person("iscrowd", None), id="cocoapi 374: no iscrowd"),
        pytest.param(with_category(0), id="cocoapi 600: category 0"),
        pytest.param(with_category(7), id="another category"),
        pytest.param(with_large_ids, id="ids beyond a double's integers"),
        pytest.param(with_images_of_nobody, id="images of nobody"),
    ],
)
def test_what_is_found_exactly_has_ap_1(change: Any) -> None:
    dataset, results = perfect()
    change(dataset, results)

    metrics = evaluate(dataset, results).metrics

    assert metrics.AP == metrics.AP75 == metrics.APM == metrics.AR == pytest.approx(1, abs=1e-12)
    assert metrics.APL is None  # mmpose 715, 1524: -1, which is no figure


def test_a_person_without_keypoints_is_not_to_be_found_and_costs_nothing() -> None:
    # COCO-WholeBody 15 and cocoapi 655: on its box doubled in size whatever is predicted matches.
    dataset, results = perfect()
    blank = {**dataset["annotations"][0], "id": 99, "num_keypoints": 0}
    blank |= {"keypoints": [0] * 3 * len(SIGMAS), "bbox": [400.0, 300.0, 50.0, 50.0]}
    dataset["annotations"].append(blank)
    near = {**results[0], "keypoints": [420.0, 310.0, 1] * len(SIGMAS), "score": 1.0}

    assert pytest.approx(1, abs=1e-12) == evaluate(dataset, [near, *results]).metrics.AP
    far = {**near, "keypoints": [4000.0, 3100.0, 1] * len(SIGMAS)}
    assert evaluate(dataset, [far, *results]).metrics.AP < 0.9  # type: ignore[operator]


def test_nobody_predicted() -> None:
    # cocoapi 450, mmpose 753: pycocotools cannot load results without an entry.
    dataset, _ = perfect()
    evaluated = evaluate(dataset, [])
    assert (evaluated.metrics.AP, evaluated.metrics.AR, evaluated.metrics.APL) == (0, 0, None)
    assert evaluated.matches.fates.shape == (10, 0)


def test_another_number_of_keypoints_takes_its_own_constants() -> None:
    # detectron2 445, cocoapi 264: COCOeval has 17 constants unless it is given others.
    dataset, results = perfect()
    truths, found = truths_of(dataset), detections_of(results)
    found.keypoints[:] += 3
    strict, lenient = (
        evaluation.evaluate(truths, found, np.array(SIGMAS) * factor).metrics.AP
        for factor in (0.3, 3)
    )
    assert strict < lenient  # type: ignore[operator]


def test_equal_scores_stay_in_the_order_of_the_results() -> None:
    # cocoapi 650, 678: so the order decides; NMS gives it by image, then by falling score.
    dataset, results = perfect(2)
    wrong = {**results[0], "keypoints": [0.0, 0, 1] * len(SIGMAS)}
    for entry in (*results, wrong):
        entry["score"] = 1.0
    first, last = [wrong, *results], [*results, wrong]
    assert figures(evaluate(dataset, first).metrics) == stats(dataset, first)
    assert evaluate(dataset, first).metrics.AP < evaluate(dataset, last).metrics.AP  # type: ignore[operator]


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_keypoints_that_are_nowhere_match_nobody(broken: float) -> None:
    dataset, results = perfect()
    for result in results:
        result["keypoints"] = [broken] * len(result["keypoints"])
    assert evaluate(dataset, results).metrics.AP == 0


def test_one_keypoint_that_is_nowhere_is_one_that_is_wrong() -> None:
    dataset, results = perfect()
    for result in results:
        result["keypoints"][0] = float("nan")
    metrics = evaluate(dataset, results).metrics
    # Three of four keypoints are right: an OKS of 0.75.
    assert metrics.AP50 == metrics.AP75 == pytest.approx(1, abs=1e-12)
    assert pytest.approx(0.6, abs=1e-12) == metrics.AP


def test_scores_that_are_no_numbers_come_last() -> None:
    dataset, results = perfect(2)
    wrong = {**results[0], "keypoints": [0.0, 0, 1] * len(SIGMAS), "score": float("nan")}
    assert pytest.approx(1, abs=1e-12) == evaluate(dataset, [wrong, *results]).metrics.AP


def test_only_the_best_twenty_of_an_image_count() -> None:
    # mmpose 1433
    dataset, results = drawn(seed=3, images=2, persons=6, detections=60)
    assert max(sum(r["image_id"] == i["id"] for r in results) for i in dataset["images"]) > 40

    matches = evaluate(dataset, results).matches

    assert np.bincount(matches.images).tolist() == [20, 20]


def test_matches_are_cocoeval_s() -> None:
    dataset, results = drawn(seed=4, images=6)
    matches = evaluate(dataset, results).matches
    theirs = [one for one in judged(dataset, results).evalImgs[:6] if one is not None]

    assert matches.fates.shape == (10, sum(len(one["dtIds"]) for one in theirs))
    assert matches.fates.dtype == np.int8
    assert matches.truths.sum() == sum((one["gtIgnore"] == 0).sum() for one in theirs)
    for one in theirs:
        place = np.searchsorted(matches.image_ids, one["image_id"])
        true = (one["dtMatches"] > 0) & ~one["dtIgnore"]
        ours = matches.fates[:, matches.images == place]
        np.testing.assert_array_equal(ours == evaluation.TRUE, true)
        np.testing.assert_array_equal(ours == evaluation.IGNORED, one["dtIgnore"])


def test_the_summary_is_that_which_people_know(capsys: pytest.CaptureFixture[str]) -> None:
    dataset, results = perfect()
    summary = evaluate(dataset, results).summary.splitlines()
    assert capsys.readouterr() == ("", "")
    assert len(summary) == 10
    first = "Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets= 20 ] = 1.000"
    assert summary[0].strip() == first


def test_an_unknown_image_is_named() -> None:
    # lightweight-human-pose-estimation 313
    dataset, results = drawn(seed=7, images=3)
    results.append({**results[0], "image_id": 777})
    with pytest.raises(ValueError, match="777"):
        evaluate(dataset, results)
