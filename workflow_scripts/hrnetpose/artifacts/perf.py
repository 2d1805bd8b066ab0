"""`{variant}_perf.json`: written by benchmark_engine."""

import re
from typing import Literal

from pydantic import Field

from hrnetpose.artifacts.base import Artifact, Part
from hrnetpose.artifacts.engine import Device, EngineReference
from hrnetpose.artifacts.measured import (
    Attempt,
    Check,
    Host,
    Latency,
    Roofline,
    WarmUp,
    failures,
)
from hrnetpose.recipes import Precision


class LatencyScenario(Part):
    """One request at a time, from pixels to outputs on the host; its figures are `latency_ms`."""

    batch: int
    streams: int | None
    samples: int
    duration_s: float
    spread: float = Field(description="(largest - smallest) / middle of the windows' medians")
    interval: float | None = Field(description="half of the 95 % interval of p50, as a share of it")


class SweepPoint(Part):
    """Throughput at one batch size and number of streams, measured shortly."""

    batch: int
    streams: int | None = Field(description="None: the backend has no streams")
    fps: float
    samples: int
    duration_s: float
    load_seconds: float


class Throughput(Part):
    """The best point of the sweep, measured at full length: several requests in flight."""

    fps: float
    batch: int
    streams: int | None
    requests: int = Field(description="batches in flight")
    samples: int = Field(description="batches")
    images: int = Field(description="outputs that came back, counted")
    duration_s: float
    spread: float = Field(description="(largest - smallest) / middle of the windows' rates")
    interval: float | None = Field(description="half of the 95 % interval of fps, as a share of it")
    sweep: list[SweepPoint]


class EndToEnd(Part):
    """From images on disk to keypoints, one inference for each person, with ground-truth boxes."""

    persons_per_s: float = Field(
        description="at the batch and streams of the throughput, all parts at the same time"
    )
    persons: int
    images: int
    ms_per_person: dict[str, float] = Field(
        description="at the batch of the latency, one part after the other: decode, crop, copy_in, "
        "inference, copy_out, keypoints, other; they add up to the total"
    )
    total_ms_per_person: float
    disturbed: list[str] = Field(
        description="what disturbed these figures to the end; none if all's well"
    )


class Layer(Part):
    """A layer of one batch, by the backend's profiler, which slows the engine down."""

    name: str
    kind: str = Field(description="the backend's name of the operation")
    precision: str = Field(description="it runs in; unknown where the profiler does not say")
    ms: float
    share: float = Field(description="of the sum of all layers")


class Validity(Part):
    """Whether the figures can be believed, as MLPerf's LoadGen says it; not what was measured."""

    verdict: Literal["VALID", "INVALID"]
    reasons: list[str]
    checks: list[Check] = Field([], description="each rule, also those that were kept")


class Energy(Part):
    """Energy of the whole device while throughput was measured."""

    joules_per_image: float | None
    source: str = Field(description="RAPL or NVML, or why it is not available")


class PrecisionPair(Part):
    """What was asked for and what the backend ran."""

    requested: Precision
    executed: str


class Perf(Artifact):
    """`results/{variant}_perf.json`; the raw samples are in the file that `raw` names.

    `samples`, `duration_s` and `batch` are those of the throughput:
    fps = batch x samples / duration_s.  `device_ms` is a batch on the device alone, without copies,
    where the backend can tell.
    """

    throughput: Throughput
    latency_ms: Latency
    latency: LatencyScenario
    device_ms: Latency | None
    layers: list[Layer] | None = Field(
        None,
        description="the ten slowest, at the batch of the latency; null where no profiler tells",
    )
    end_to_end: EndToEnd | None
    samples: int
    duration_s: float
    batch: int
    threads: int
    build_seconds: float
    load_seconds: float
    first_inference_ms: float
    warm_up: WarmUp
    precision: PrecisionPair
    roofline: Roofline
    validity: Validity
    attempts: list[Attempt]
    energy: Energy
    device: Device
    engine: EngineReference
    host: Host
    versions: dict[str, str]
    raw: str

    @property
    def invalid(self) -> list[str]:
        """Why the figures cannot be believed: as found when they were measured, and read again."""
        return list(dict.fromkeys([*self.validity.reasons, *self.contradictions()]))

    @property
    def disturbed(self) -> str | None:
        """What was disturbed while it was measured, how often, and by what; None if nothing was."""
        counts: dict[str, list[bool]] = {}
        reasons: dict[str, str] = {}
        for attempt in self.attempts:
            counts.setdefault(attempt.of, []).append(bool(attempt.disturbed))
            for reason in attempt.disturbed:
                # One of each kind is enough: they differ in their figures.
                reasons.setdefault(re.sub(r"[0-9.]+", "", reason), reason)
        if not reasons:
            return None
        parts = [
            f"{what} ({sum(were)} of {len(were)})" for what, were in counts.items() if any(were)
        ]
        return f"{', '.join(parts)}: {'; '.join(reasons.values())}"

    @property
    def checks(self) -> list[Check]:
        """Each rule that the figures were held against, when they were measured and as read."""
        return [*self.validity.checks, *self.check_figures()]

    def contradictions(self) -> list[str]:
        """Return what does not add up within the figures themselves."""
        return failures(self.check_figures())

    def check_figures(self) -> list[Check]:
        """Check that the figures add up, and that no machine can do more."""
        declared, images = self.batch * self.samples, self.throughput.images
        rate, fps = images / self.duration_s, self.throughput.fps
        again = "delete the file and measure again"
        checks = [
            Check.that(
                "images add up",
                images == declared,
                f"{self.samples} batches of {self.batch} are {images} images",
                f"batch arithmetic: {self.samples} batches of {self.batch} are {declared} images, "
                f"but {images} came back",
                again,
            ),
            Check.that(
                "rate adds up",
                abs(rate / fps - 1) <= 0.01,
                f"{images} images in {self.duration_s:.2f} s",
                f"batch arithmetic: {images} images in {self.duration_s:.2f} s are "
                f"{rate:.1f} images/s, not {fps:.1f}",
                again,
            ),
        ]
        limit, rule = self.roofline.limit_fps, "within the limit of the machine"
        if limit is None:
            return [*checks, Check.unknown(rule, "its peaks cannot be measured")]
        return [
            *checks,
            Check.that(
                rule,
                fps <= limit,
                f"{fps:.1f} of {limit:.1f} images/s",
                f"above the limit: {fps:.1f} images/s, but the machine can do {limit:.1f} at most",
                "measure again when nothing disturbs the peaks of the machine",
            ),
        ]
