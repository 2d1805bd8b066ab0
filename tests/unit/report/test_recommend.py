"""The rule of recommendation; test_browser.py runs the same cases through the page's."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hrnetpose.limits import Limits
from hrnetpose.report import recommend
from hrnetpose.report.recommend import Candidate
from hrnetpose.report.rows import Row

CASES = json.loads((Path(__file__).parent / "recommendations.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_the_case_has_the_recommendation_that_is_expected(case: dict[str, Any]) -> None:
    candidates = [Candidate(**one) for one in case["candidates"]]

    found = recommend.recommend(candidates, Limits(**case["limits"]))

    assert [one.model_dump(exclude={"models"}) for one in found] == case["expected"]


def test_a_row_is_looked_at_as_it_was_measured(make_row: Callable[..., Row]) -> None:
    rows = [
        make_row("pytorch", ap=0.7),
        make_row("int8", ap=0.69, change=-0.01, fps=200, drift=0.1, reasons=("latency: short",)),
    ]

    reference, int8 = recommend.of_rows(rows, {"int8": {"ap_drop": 0.02}})

    assert (reference.change, reference.interval, reference.invalid) == (0, (0, 0), None)
    assert int8.model_dump(exclude={"name", "model", "label"}) == {
        "trained": True, "ap": 0.69, "change": -0.01, "interval": (-0.02, 0.0), "fps": 200,
        "spread": 0.015, "p99": 17.25, "shift": 0.75, "invalid": "latency: short", "missing": [],
        "limits": {"ap_drop": 0.02},
    }  # fmt: skip
