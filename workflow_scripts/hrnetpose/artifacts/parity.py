"""`{variant}_parity.json`: written by measure_parity."""

from typing import Literal, get_args

from hrnetpose.artifacts.base import Artifact, Part
from hrnetpose.artifacts.engine import EngineReference

Stage = Literal["original", "onnx", "simplified", "precision", "engine"]
ORDER: tuple[Stage, ...] = get_args(Stage)
ENGINE_ERROR = 0.02
"""An engine may be off by so much more than three times what its graph is, as 1 - cosine: bf16 and
int8 are off by a hundredth of it, a graph that a runtime computes wrongly by far more."""


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

    @property
    def departure(self) -> str | None:
        """What is said of an engine that computes something else than it was built from."""
        built_from = next(name for name in ORDER[-2::-1] if name in self.stages)
        engine, graph = self.stages["engine"].cosine, self.stages[built_from].cosine
        if 1 - engine <= 3 * (1 - graph) + ENGINE_ERROR:
            return None
        return (
            "its engine does not compute what it was built from: the cosine of its outputs with "
            f"the original's is {engine:.3f}, that of the stage before ({built_from}) {graph:.3f}"
        )
