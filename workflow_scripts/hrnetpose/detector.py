"""What a person detector's graph does not say of itself: the `detector.card` of a dataset."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from hrnetpose.section import Section

Triple = Annotated[list[float], Field(min_length=3, max_length=3)]
Divisors = Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=3, max_length=3)]


class DetectorCard(Section):
    """How images are given to a detector, and what comes out. A path alone is its `pipeline`.

    What is given here goes over what `pipeline` says, that over what `layout` stands for.
    """

    pipeline: Annotated[str, StringConstraints(min_length=1, strict=True)] | None = None
    """The `pipeline.json` that mmdeploy writes beside an export: a path or a URL."""
    layout: Literal["rtmdet", "yolox"] | None = None
    """`rtmdet` and `yolox` stand for the mean, std and channel order of mmdet's configs."""
    input: Annotated[str, StringConstraints(pattern=r"^[1-9]\d{0,3}x[1-9]\d{0,3}$")] | None = None
    """HEIGHTxWIDTH that images are scaled and padded to, where the graph takes any size."""
    mean: Triple | None = None
    """Subtracted from pixels of 0 to 255, in the channel order."""
    std: Divisors | None = None
    """What pixels are divided by then."""
    channel_order: Literal["RGB", "BGR"] | None = None
    """The order of the channels."""
    pad: Annotated[int, Field(ge=0, le=255, strict=True)] | None = None
    """The grey that fills the right and the bottom; 114 unless `pipeline` says another."""
    person: Annotated[int, Field(ge=0, strict=True)] = 0
    """The number of the class of persons among the detector's."""
    decoded: Annotated[bool, Field(strict=True)] | None = None
    """For YOLOX's own export, which has one output: whether that holds boxes in pixels
    (`decode_in_inference`) or cells of the grid."""
    score: Annotated[float, Field(ge=0, le=1)] | None = None
    """For the same: boxes below are dropped; by default 0.01, as YOLOX is evaluated."""
    nms: Annotated[float, Field(gt=0, le=1)] | None = None
    """For the same: the overlap (IoU) above which the lesser box is dropped; by default 0.65."""
