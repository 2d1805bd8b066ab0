"""`verdicts.json`: which precisions pay and which variant to ship, by write_report."""

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


class Verdicts(Artifact):
    """`results/verdicts.json`: a verdict on each variant that was measured."""

    verdicts: list[Verdict]
    recommendations: list[Recommendation] = Field(
        description="one for each model; one alone if the limits decide between models"
    )
