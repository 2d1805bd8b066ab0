"""`calibration/manifest.json`: written by fetch_calibration."""

from pydantic import Field

from hrnetpose.artifacts.base import Artifact, Part, Sha256


class FetchedImage(Part):
    """One image that was fetched by itself."""

    id: int
    file_name: str
    url: str
    sha256: Sha256
    bytes: int


class FetchedImages(Artifact):
    """`calibration/manifest.json`: which images were fetched, from where, and what they are."""

    source: str = Field(description="hash and member of the annotations that they were chosen from")
    count: int = Field(description="how many were asked for; there may be fewer")
    images: list[FetchedImage]
    archive_sha256: Sha256
    annotations_sha256: Sha256
