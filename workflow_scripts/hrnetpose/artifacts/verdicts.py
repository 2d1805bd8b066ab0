"""`verdicts.json`: which precisions pay, by write_report; page, summary and others read it here."""

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


class Verdicts(Artifact):
    """`results/verdicts.json`: a verdict on each variant that was measured."""

    verdicts: list[Verdict]
