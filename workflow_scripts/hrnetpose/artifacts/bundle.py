"""What a bundle says of itself, as JSON: `check/check.json` and `models/keypoints/keypoints.json`.

Written by make_bundle; the first is read by the bundle's own pose.py.
"""

from pydantic import Field

from hrnetpose.artifacts.base import Artifact, Part
from hrnetpose.artifacts.parity import KeypointShift


class Case(Part):
    """What the pipeline gives for the crops, in pixels of a crop."""

    flip: bool
    keypoints: list[list[tuple[float, float]]] = Field(description="[N, K, 2]")
    scores: list[list[float]] = Field(description="[N, K]")


class OneAtATime(Part):
    """The latency that was measured."""

    batch: int
    streams: int | None
    ms: float


class ManyAtATime(Part):
    """The throughput that was measured."""

    batch: int
    streams: int | None
    fps: float


class Speed(Part):
    """What was measured, and on what."""

    device: str
    threads: int
    latency: OneAtATime
    throughput: ManyAtATime
    invalid: str | None = Field(description="why the figures cannot be believed")


class SelfTest(Artifact):
    """`check/check.json`: what the bundle's engine gives for the crops beside it."""

    crops: list[str] = Field(min_length=1, description="files in check/: people that were drawn")
    cases: list[Case] = Field(min_length=1)
    minimum_score: float = Field(description="keypoints that are less sure are not compared")
    allowed_px: float = Field(description="so far may a keypoint be from what is expected")
    portable: list[Case] = Field(description="what the portable graph gives, in fp32")
    portable_px: float = Field(description="so far its keypoints are from the engine's at most")
    opencv: str
    speed: Speed


class KeypointGraph(Artifact):
    """`models/keypoints/keypoints.json`: how the graph's keypoints differ from the pipeline's."""

    decoder: str = Field(description="of the graph")
    pipeline: str = Field(description="decoder of the pipeline")
    shift_px: KeypointShift = Field(description="in pixels of the crop, without flip test")
    score: float = Field(description="largest difference of a score")
    keypoints: int = Field(description="that were compared")
    compared_with: str
