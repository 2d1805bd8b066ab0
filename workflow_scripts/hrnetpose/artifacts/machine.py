"""`build/machine/{kind}_{crop}.json`: what variants on one machine share, by measure_machine."""

from pydantic import Field

from hrnetpose.artifacts.base import Artifact, Part
from hrnetpose.artifacts.engine import Device
from hrnetpose.artifacts.measured import Attempt, Host


class Peaks(Part):
    """The most that a machine was seen to do."""

    flops: float | None = Field(
        description="operations per second of the best matrix product; None: it cannot be measured"
    )
    bandwidth: float | None = Field(
        description="bytes per second of the best copy, those read and those written"
    )
    measured_with: str = Field(description="the library that computed, or why there is none")


class Cutting(Part):
    """From an image on disk to a person's crop, by one thread; milliseconds of a person."""

    decode_ms: float
    crop_ms: float


class Machine(Artifact):
    """What does not depend on the engine, measured once for all of them.

    What was disturbed is left out.  A benchmark that does not find here what it needs, or that runs
    on another machine, measures it itself.
    """

    name: str = Field(description="the host's")
    host: Host
    device: Device
    threads: int
    peaks: dict[str, Peaks] = Field(description="by precision, of those that it has units for")
    cutting: Cutting | None
    attempts: list[Attempt]
