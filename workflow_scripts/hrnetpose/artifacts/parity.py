"""`{variant}_parity.json`: written by measure_parity."""

from typing import Literal

from hrnetpose.artifacts.base import Artifact, Part
from hrnetpose.artifacts.engine import EngineReference

Stage = Literal["original", "onnx", "simplified", "precision", "engine"]


class KeypointShift(Part):
    """How far keypoints move, in pixels of the model's input."""

    mean: float
    p99: float
    max: float


class Drift(Part):
    """How a stage's outputs differ from the original model's."""

    max_abs: float
    cosine: float
    keypoint_shift_px: KeypointShift


class Parity(Artifact):
    """`results/{variant}_parity.json`: where in the pipeline an error comes in.

    Every stage is compared with the original on the same crops: the model in PyTorch at fp32, or
    the ONNX file that was given, in ONNX Runtime.  `original` itself is therefore zero.  Shifts are
    of the keypoints that the original is sure of.
    """

    stages: dict[Stage, Drift]
    crops: int
    keypoints: int
    minimum_score: float
    engine: EngineReference
