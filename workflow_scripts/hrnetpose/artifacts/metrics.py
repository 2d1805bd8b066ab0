"""COCO's ten figures."""

from hrnetpose.artifacts.base import Part


class Metrics(Part):
    """COCO's ten keypoint figures; None where no person is of that size."""

    AP: float | None
    AP50: float | None
    AP75: float | None
    APM: float | None
    APL: float | None
    AR: float | None
    AR50: float | None
    AR75: float | None
    ARM: float | None
    ARL: float | None
