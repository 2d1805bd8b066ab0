"""`audit.json`: written by audit_dataset."""

from pydantic import Field

from hrnetpose.artifacts.base import Artifact, Sha256
from hrnetpose.artifacts.findings import Finding


class Audit(Artifact):
    """`build/datasets/{dataset}/audit.json`: what was found in a dataset.

    `calibration_audit.json` is the same for the images that int8 is calibrated on.
    """

    annotations_sha256: Sha256
    category: str
    keypoints: list[str] = Field(description="as the annotations name them; empty if they do not")
    number_of_keypoints: int
    images: int = Field(description="listed")
    images_with_persons: int
    persons: int = Field(description="annotations of the category that have keypoints")
    evaluated: int = Field(description="of them, those that are cut out by their annotated boxes")
    findings: list[Finding]
