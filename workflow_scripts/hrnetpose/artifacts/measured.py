"""What measurements of speed have in common: figures, the machine, and the attempts it took."""

from collections.abc import Iterable
from typing import Literal, Self

from pydantic import Field

from hrnetpose.artifacts.base import Part

NATIVE: dict[str, tuple[str, ...]] = {
    "fp16": ("avx512_fp16", "amx_fp16", "asimdhp"),
    "bf16": ("avx512_bf16", "amx_bf16", "bf16"),
    "int8": ("avx512_vnni", "avx_vnni", "amx_int8", "i8mm"),
}
"""CPU features that compute in a precision; fp32 needs none."""


def say_executed(requested: str, executed: str) -> str | None:
    """Return what ran, if it was not what was asked for: figures are of that, and no less valid."""
    if executed == "unknown":
        return "what ran is not known"
    return None if requested == executed else f"ran {executed}"


class Host(Part):
    """The machine that a figure was measured on."""

    cpu: str
    features: list[str]
    cores: int
    cache_bytes: int | None = Field(description="the last-level cache")
    clock_mhz: float | None
    virtual: bool = Field(description="a virtual machine")
    gpu: str | None
    memory_bytes: int
    os: str
    python: str
    load_average: float

    def is_native(self, precision: str) -> bool:
        """Return True if the CPU has units for a precision."""
        return precision == "fp32" or not {*NATIVE.get(precision, ())}.isdisjoint(self.features)


class Check(Part):
    """A rule that a measurement is held against, so that its figures can be believed."""

    rule: str
    passed: bool | None = Field(description="None: it cannot be measured here")
    evidence: str
    remedy: str | None = Field(description="if it did not pass")
    of: str | None = Field(None, description="the scenario, for example latency")

    @classmethod
    def that(cls, rule: str, passed: bool, evidence: str, failure: str, remedy: str) -> Self:
        """Return a check of something that was measured."""
        return cls(
            rule=rule,
            passed=passed,
            evidence=evidence if passed else failure,
            remedy=None if passed else remedy,
        )

    @classmethod
    def unknown(cls, rule: str, evidence: str) -> Self:
        """Return a check of something that cannot be measured here."""
        return cls(rule=rule, passed=None, evidence=evidence, remedy=None)


def failures(checks: Iterable[Check]) -> list[str]:
    """Return the reasons why a figure cannot be believed."""
    return [check.evidence for check in checks if check.passed is False]


class Attempt(Part):
    """One attempt at a measurement; one that was disturbed is followed by another."""

    of: str = Field(description="what was measured, for example latency")
    figure: float
    unit: str
    disturbed: list[str] = Field(description="why it does not count; none for the one that does")


class Latency(Part):
    """Statistics in milliseconds; percentiles by linear interpolation."""

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    p99_9: float
    iqr: float = Field(description="inter-quartile range, p75 - p25")
    min: float
    max: float


class WarmUp(Part):
    """What ran before anything was measured."""

    seconds: float
    stable: bool = Field(description="the last windows agreed; otherwise the time was up")


class Roofline(Part):
    """What the machine could do at most, from the best that was measured on it."""

    flops_per_image: float
    bytes_per_image: float = Field(description="that must cross memory at least")
    precision: str = Field(description="of the matrix product that was measured")
    peak_flops: float | None
    bandwidth_bytes_s: float | None
    measured_with: str
    bound: Literal["compute", "memory"] | None
    limit_fps: float | None
    fraction: float | None
