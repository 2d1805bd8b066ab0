"""`detector.json`: written by detect_persons."""

from typing import Literal

from pydantic import Field

from hrnetpose.artifacts.base import Artifact, Part, Sha256


class Preprocessing(Part):
    """How an image becomes a detector's input; it is scaled with its ratio, then padded."""

    height: int
    width: int
    mean: list[float]
    std: list[float]
    channel_order: Literal["RGB", "BGR"]
    pad: int


class BoxMetrics(Part):
    """The figures of COCO's evaluation of boxes, in pycocotools' order; None where nothing is."""

    AP: float | None
    AP50: float | None
    AP75: float | None
    APS: float | None
    APM: float | None
    APL: float | None
    AR1: float | None
    AR10: float | None
    AR100: float | None
    ARS: float | None
    ARM: float | None
    ARL: float | None


class DetectorRun(Artifact):
    """`build/datasets/{dataset}/detector.json`: what the boxes of a detector are, and how good."""

    detector: str = Field(description="the name of its file")
    onnx_sha256: Sha256
    preprocessing: Preprocessing
    output: Literal["boxes after NMS", "YOLOX's grid, decoded", "YOLOX's grid"]
    person: int = Field(description="the class of persons")
    score: float | None = Field(description="boxes below were dropped; None if the graph does that")
    nms: float | None = Field(description="the overlap that drops a box; None likewise")
    images: int
    missing_images: int = Field(description="images without persons, which there are not")
    boxes: int
    annotated: int = Field(description="boxes of persons that AP is measured against, no crowds")
    metrics: BoxMetrics | None = Field(description="None if no annotation has a box")
    versions: dict[str, str]
