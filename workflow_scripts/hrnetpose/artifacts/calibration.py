"""`calibration.json`: written by check_calibration."""

from pydantic import Field

from hrnetpose.artifacts.base import Artifact, Part, Sha256


class CalibrationImage(Part):
    """An image that int8 is calibrated on."""

    id: int
    file_name: str
    sha256: Sha256 = Field(description="of the encoded image")


class CalibrationSet(Artifact):
    """`build/datasets/{dataset}/calibration.json`: what int8 is calibrated on.

    None of the images is among those that are evaluated.
    """

    images: list[CalibrationImage]
    persons: int
    evaluated_images: int
