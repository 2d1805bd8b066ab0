"""Rows of a report that exist on paper only."""

from collections.abc import Callable

import pytest

from hrnetpose.artifacts.accuracy import Accuracy, Delta, Protocol, ProtocolResult
from hrnetpose.artifacts.engine import Device, EngineCard, EngineReference, ExecutedPrecision
from hrnetpose.artifacts.measured import Attempt, Host, Latency, Roofline, WarmUp
from hrnetpose.artifacts.metrics import Metrics
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.artifacts.parity import Drift, KeypointShift, Parity
from hrnetpose.artifacts.perf import (
    EndToEnd,
    Energy,
    LatencyScenario,
    Perf,
    PrecisionPair,
    SweepPoint,
    Throughput,
    Validity,
)
from hrnetpose.artifacts.verdicts import Verdict
from hrnetpose.report.failures import Variant
from hrnetpose.report.rows import Row

METRICS = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")


def accuracy_of(engine: EngineReference, ap: float, change: float | None) -> Accuracy:
    results = []
    for flip in (False, True):
        values = [ap + flip / 100 + index / 1000 for index in range(len(METRICS))]
        delta = None
        if change is not None:
            delta = Delta(
                reference="pytorch",
                AP=change,
                ci95=(change - 0.01, change + 0.01),
                verdict="not distinguishable",
                resamples=1000,
            )
        label = f"gt boxes, {'flip test' if flip else 'no flip'}, plain decoding, sample"
        protocol = Protocol(boxes="gt", flip=flip, decode="plain", subset="sample", label=label)
        results.append(
            ProtocolResult(
                metrics=Metrics(**dict(zip(METRICS, values, strict=True))),
                protocol=protocol,
                delta=delta,
                instances=30,
                images=10,
                keypoints=None,
            )
        )
    return Accuracy(**dict(results[0]), engine=engine, protocols=results)


@pytest.fixture
def make_row(model_card: ModelCard) -> Callable[..., Row]:
    """Make a row: `make_row("fp16", fps=120.5, ap=0.5)`."""

    def make(
        variant: str,
        fps: float = 100.0,
        ap: float | None = None,
        change: float | None = None,
        executed: str = "fp16",
        drift: float | None = None,
        cpu: str = "Abacus 3000",
        reasons: tuple[str, ...] = (),
        whole: bool = False,
        verdict: Verdict | None = None,
    ) -> Row:
        engine = EngineReference(variant=variant, sha256="3" * 64)
        shift = KeypointShift(mean=0.125, p99=0.75, max=2.5)
        parity = None
        if drift is not None:
            stages = {
                "original": Drift(max_abs=0, cosine=1, keypoint_shift_px=shift),
                "engine": Drift(max_abs=drift, cosine=0.999, keypoint_shift_px=shift),
            }
            parity = Parity(stages=stages, crops=8, keypoints=99, minimum_score=0.2, engine=engine)
        return Row(
            variant=Variant(
                name=variant, model=model_card.name, backend="openvino", precision="fp16"
            ),
            engine=EngineCard(
                variant=variant,
                backend="openvino",
                device=Device(kind="cpu"),
                requested="fp16",
                executed=ExecutedPrecision(precision=executed, layers={executed: 40}),
                batch=32,
                options={},
                sha256="3" * 64,
                bytes=3_456_789,
                graph_sha256="4" * 64,
                build_seconds=1.5,
                versions={"openvino": "2026.4.0"},
                model=model_card,
            ),
            perf=Perf(
                throughput=Throughput(
                    fps=fps,
                    batch=32,
                    streams=2,
                    requests=4,
                    samples=50,
                    images=1600,
                    duration_s=1600 / fps,
                    spread=0.02,
                    interval=0.015,
                    sweep=[
                        SweepPoint(
                            batch=size,
                            streams=2,
                            fps=fps * size / 32,
                            samples=9,
                            duration_s=0.5,
                            load_seconds=0.25,
                        )
                        for size in (8, 32)
                    ],
                ),
                latency_ms=Latency(
                    mean=12.0,
                    p50=11.5,
                    p90=13.0,
                    p95=14.0,
                    p99=17.25,
                    p99_9=19.5,
                    iqr=0.75,
                    min=10.0,
                    max=20.0,
                ),
                latency=LatencyScenario(
                    batch=1, streams=1, samples=400, duration_s=4.8, spread=0.03, interval=0.01
                ),
                device_ms=None,
                layers=None,
                end_to_end=EndToEnd(
                    persons_per_s=77.7,
                    persons=128,
                    images=50,
                    ms_per_person={"decode": 1.5, "crop": 0.5, "inference": 12.0},
                    total_ms_per_person=14.0,
                    disturbed=[],
                )
                if whole
                else None,
                samples=50,
                duration_s=1600 / fps,
                batch=32,
                threads=2,
                build_seconds=1.5,
                load_seconds=0.5,
                first_inference_ms=30.0,
                warm_up=WarmUp(seconds=1.0, stable=True),
                roofline=Roofline(
                    flops_per_image=5e8,
                    bytes_per_image=1e5,
                    precision=executed,
                    peak_flops=fps * 1e9,
                    bandwidth_bytes_s=1e10,
                    measured_with="a matrix product",
                    bound="compute",
                    limit_fps=2 * fps,
                    fraction=0.5,
                ),
                validity=Validity(verdict="INVALID" if reasons else "VALID", reasons=list(reasons)),
                attempts=[Attempt(of="latency", figure=11.5, unit="ms", disturbed=[])],
                energy=Energy(joules_per_image=None, source="not available: no RAPL"),
                precision=PrecisionPair(requested="fp16", executed=executed),
                device=Device(kind="cpu"),
                engine=engine,
                host=Host(
                    cpu=cpu,
                    features=["avx2"],
                    cores=2,
                    cache_bytes=2**25,
                    clock_mhz=2500.0,
                    virtual=True,
                    gpu=None,
                    memory_bytes=8_000_000_000,
                    os="Linux",
                    python="3.11",
                    load_average=0.1,
                ),
                versions={"openvino": "2026.4.0"},
                raw=f"{variant}_perf_samples.json",
            ),
            accuracy=None if ap is None else accuracy_of(engine, ap, change),
            parity=parity,
            verdict=verdict,
        )

    return make
