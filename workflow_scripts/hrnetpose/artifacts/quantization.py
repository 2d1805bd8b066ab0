"""`int8.json`: written by quantize_int8."""

from pydantic import Field

from hrnetpose.artifacts.base import Artifact, Part, Sha256


class SensitiveLayer(Part):
    """A layer, and the relative error of the outputs when it alone is in int8."""

    name: str
    error: float


class Trial(Part):
    """The AP on the calibration persons with so many layers left in floating point."""

    left: int
    AP: float


class Sensitivity(Part):
    """What the accuracy-aware quantisation did; every AP is of the calibration persons."""

    ap_drop: float = Field(description="the loss of AP that was allowed")
    ap_fp32: float
    ap_int8: float
    left: list[SensitiveLayer] = Field(description="in floating point, the worst one first")
    trials: list[Trial]


class Quantization(Artifact):
    """`build/models/{model}/{dataset}/int8.json`: which layers are in int8, and why."""

    graph_sha256: Sha256
    calibration_sha256: Sha256 = Field(description="of the calibration set's file")
    persons: int
    symmetric: bool = Field(description="activations have the zero point 0")
    layers: int = Field(description="convolutions, but for depthwise and grouped ones")
    int8_layers: int
    sensitivity: Sensitivity | None
