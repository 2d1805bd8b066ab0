"""`verdicts.json`: which precisions pay and which variant to ship, by write_report."""

from typing import Literal

from pydantic import Field

from hrnetpose.artifacts.base import Artifact, Part
from hrnetpose.recipes import Precision


class Verdict(Part):
    """Whether a variant's precision is worth its errors; the rule is in report/verdict.py."""

    variant: str
    precision: Precision
    pays: bool | None = Field(
        description="None: there is nothing to compare with, or a speed is INVALID"
    )
    compared_with: str | None = Field(description="the fastest variant of a higher precision")
    speedup: float | None = Field(description="of images/s; None: they cannot be compared")
    text: str | None = Field(description="what is to be said, with the cause; None: nothing is")


class Outside(Part):
    """A variant that is not within the limits, and why."""

    variant: str
    reasons: list[str]


class Recommendation(Part):
    """Which variant to ship under the limits; the rule is in report/recommend.py."""

    models: list[str] = Field(description="it is one of their variants")
    variant: str | None = Field(description="None: none is within the limits")
    text: str = Field(description="it in a sentence")
    nearest: str | None = Field(description="if there is none: the one that misses least")
    alike: list[str] = Field(
        description="others within the limits that cannot be told apart from it by accuracy"
    )
    outside: list[Outside]


class Change(Part):
    """A figure beside the same of an older run."""

    variant: str
    figure: Literal["AP", "images/s", "p50 ms"]
    before: float | None
    now: float | None
    verdict: Literal["improved", "worse", "within noise", "refused"]
    reason: str | None = Field(description="why it is not compared")


class Baseline(Part):
    """An older run, and what has changed since; the rule is in report/baseline.py."""

    source: str
    changes: list[Change]
    new: list[str] = Field(description="variants that only this run has")
    gone: list[str] = Field(description="variants that only the older run has")


class Verdicts(Artifact):
    """`results/verdicts.json`: a verdict on each variant that was measured."""

    verdicts: list[Verdict]
    recommendations: list[Recommendation] = Field(
        description="one for each model; one alone if the limits decide between models"
    )
    baseline: Baseline | None = None
