"""What the user allows: the `limits` of the configuration."""

from typing import Annotated

from pydantic import Field

from hrnetpose.section import Section


class Limits(Section):
    """What `snakemake gate` demands of every variant, and a recommended one has; null: nothing."""

    ap: Annotated[float, Field(ge=0, le=1)] | None = None
    """The lowest AP under the headline protocol."""
    ap_drop: Annotated[float, Field(ge=0, le=1)] | None = 0.01
    """The largest loss of AP against the reference under the headline protocol."""
    keypoint_shift_px: Annotated[float, Field(ge=0)] | None = None
    """The largest 99th percentile of keypoint shift of the engine, in pixels of the input."""
    fps: Annotated[float, Field(ge=0)] | None = None
    """The lowest throughput, images/s; a figure that is INVALID does not pass."""
    latency_p99_ms: Annotated[float, Field(gt=0)] | None = None
    """The highest 99th percentile of latency in milliseconds; it must be VALID, too."""
