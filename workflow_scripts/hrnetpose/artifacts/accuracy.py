"""`{variant}_accuracy.json`: written by score_accuracy."""

from typing import Literal

from pydantic import Field

from hrnetpose.artifacts.base import Artifact, Part
from hrnetpose.artifacts.engine import EngineReference
from hrnetpose.artifacts.findings import Finding
from hrnetpose.artifacts.metrics import Metrics


class Protocol(Part):
    """What an AP was measured under.

    Two figures of one model compare only under the same label, those of two models under the same
    conditions.
    """

    boxes: Literal["gt", "det"]
    flip: bool
    decode: str
    subset: str
    label: str

    @property
    def conditions(self) -> str:
        """The label without the decoder, which is a part of the model."""
        return self.label.replace(f", {self.decode} decoding", "", 1)

    @property
    def short(self) -> str:
        """Boxes and flip test alone, as `published` gives them: `gt`, `det+flip`, ..."""
        return f"{self.boxes}{'+flip' if self.flip else ''}"


class Delta(Part):
    """Change of AP against the reference variant, under the same protocol."""

    reference: str
    AP: float
    ci95: tuple[float, float]
    verdict: Literal["better", "worse", "not distinguishable"]
    resamples: int


class JointError(Part):
    """Distance from the true position, over the persons on whom the joint is labelled."""

    mean_px: float | None
    median_px: float | None
    mean_share: float | None = Field(description="of the longer side of the annotated box")
    labelled: int


class PersonOks(Part):
    """How well one annotated person was met, by the variant and by its reference."""

    id: int = Field(description="of the annotation")
    image_id: int
    oks: float
    reference: float | None = Field(description="the reference's OKS; None for the reference")


class KeypointView(Part):
    """What AP does not show; with ground-truth boxes only, where each prediction has its truth."""

    mean_oks: float
    pck: dict[str, float] = Field(description="share of joints within 0.05, 0.1, 0.2 of the box")
    by_joint: dict[str, JointError]
    ap_by_visible_keypoints: dict[str, float | None]
    oks_counts: list[int] = Field([], description="persons by OKS, in equal steps from 0 to 1")
    worst: list[PersonOks] = Field(
        [], description="whose OKS falls most against the reference's, or is the lowest"
    )
    typical: list[PersonOks] = Field([], description="those in the middle of that order")


class ProtocolResult(Part):
    """The accuracy under one protocol."""

    metrics: Metrics
    protocol: Protocol
    delta: Delta | None
    instances: int
    images: int
    keypoints: KeypointView | None
    precision: dict[str, list[float]] = Field(
        {}, description="over recall 0, 0.01, ..., 1: at OKS 0.5, at 0.75, and the mean of AP's ten"
    )


class Accuracy(ProtocolResult, Artifact):
    """`results/{variant}_accuracy.json`: the headline protocol at the top, all in `protocols`."""

    engine: EngineReference
    protocols: list[ProtocolResult]
    findings: list[Finding] = Field([], description="what was found in the dataset")
