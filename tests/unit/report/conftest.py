"""Rows of a report that exist on paper only, and their files."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import write_report
from hrnetpose.artifacts.accuracy import (
    Accuracy,
    Delta,
    JointError,
    KeypointView,
    PersonOks,
    Protocol,
    ProtocolResult,
)
from hrnetpose.artifacts.engine import Device, EngineCard, EngineReference, ExecutedPrecision
from hrnetpose.artifacts.measured import Attempt, Check, Host, Latency, Roofline, WarmUp
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
from hrnetpose.data.annotations import Annotations
from hrnetpose.limits import Limits
from hrnetpose.recipes import Precision
from hrnetpose.report.failures import Variant
from hrnetpose.report.rows import Row

METRICS = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")


IDS = (11, 12, 13, 14, 15, 16)
"""Of annotated persons, two on each image."""


def view_of(change: float | None) -> KeypointView:
    """Return a view in which the later persons fell the most."""
    persons = [
        PersonOks(
            id=number,
            image_id=1 + place // 2,
            oks=0.9 - place / 10,
            reference=None if change is None else 0.95,
        )
        for place, number in reversed([*enumerate(IDS)])
    ]
    errors = [
        ("nose", 1.25), ("left_eye", 2.5), ("right_eye", None)
    ]  # fmt: skip
    return KeypointView(
        mean_oks=0.65,
        pck={"0.05": 0.5},
        by_joint={
            name: JointError(
                mean_px=pixels,
                median_px=pixels,
                mean_share=pixels and pixels / 100,
                labelled=6 if pixels else 0,
            )
            for name, pixels in errors
        },
        ap_by_visible_keypoints={"1-3": 0.5},
        oks_counts=[1, 2, 3],
        worst=persons[:4],
        typical=persons[2:4],
    )


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
                keypoints=view_of(change),
                precision={"mean": [1 - step / 100 for step in range(101)]},
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
        cosine: float = 0.999,
        cpu: str = "Abacus 3000",
        reasons: tuple[str, ...] = (),
        whole: bool = False,
        verdict: Verdict | None = None,
        backend: str = "openvino",
        precision: Precision = "fp16",
    ) -> Row:
        engine = EngineReference(variant=variant, sha256="3" * 64)
        shift = KeypointShift(mean=0.125, p99=0.75, max=2.5)
        parity = None
        if drift is not None:
            stages = {
                "original": Drift(max_abs=0, cosine=1, keypoint_shift_px=shift),
                "engine": Drift(max_abs=drift, cosine=cosine, keypoint_shift_px=shift),
            }
            parity = Parity(stages=stages, crops=8, keypoints=99, minimum_score=0.2, engine=engine)
        return Row(
            variant=Variant(
                name=variant, model=model_card.name, backend=backend, precision=precision
            ),
            engine=EngineCard(
                variant=variant,
                backend=backend,
                device=Device(kind="cpu"),
                requested=precision,
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
                validity=Validity(
                    verdict="INVALID" if reasons else "VALID",
                    reasons=list(reasons),
                    checks=[
                        Check.that("long enough", True, "3.0 s", "", ""),
                        Check.unknown("no heat", "this system does not count it"),
                        *(
                            Check.that("steady", False, "", reason, "measure again")
                            for reason in reasons
                        ),
                    ],
                ),
                attempts=[Attempt(of="latency", figure=11.5, unit="ms", disturbed=[])],
                energy=Energy(joules_per_image=None, source="not available: no RAPL"),
                precision=PrecisionPair(requested=precision, executed=executed),
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


def write_pictures(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """Write three images with two persons each, annotations and every variant's predictions."""
    (folder / "images").mkdir()
    generator = np.random.default_rng(0)
    files = [f"{number} 'a' <b>.png" for number in (1, 2, 3)]
    for file in files:
        cv2.imwrite(str(folder / "images" / file), generator.integers(0, 255, (96, 128, 3)))
    count = len(IDS)
    boxes = np.array([[10.0 + 50 * (place % 2), 10, 40, 80] for place in range(count)])
    points = boxes[:, None, :2] + np.array([[20.0, 10], [25, 5], [15, 5]])
    Annotations(
        image_ids=np.array([1, 2, 3]),
        file_names=np.array(files),
        sizes=np.array([[128, 96]] * 3),
        ids=np.array(IDS),
        images=np.arange(count) // 2,
        keypoints=np.concatenate([points, np.full((count, 3, 1), 2.0)], axis=2),
        boxes=boxes,
        areas=boxes[:, 2:].prod(axis=1),
        crowds=np.zeros(count, bool),
        ignored=np.zeros(count, bool),
        evaluated=np.ones(count, bool),
        names=np.array(["nose", "left_eye", "right_eye"]),
        category=1,
        category_name="person",
        source="paper.json",
    ).write(folder / "annotations.npz")
    predictions = []
    for name in names:
        path = folder / "predictions" / name / "gt_1-of-1.npz"
        path.parent.mkdir(parents=True)
        np.savez(
            path,
            flip=np.array([0, 1]),
            keypoints=np.stack([points, points]).astype(np.float32),
            scores=np.ones((2, count, 3), np.float32),
            id=np.array(IDS),
            image_id=1 + np.arange(count) // 2,
            boxes_from=np.array("gt"),
        )
        predictions.append(path)
    return {
        "annotations": folder / "annotations.npz",
        "images": folder / "images",
        "predictions": predictions,
    }


WriteReport = Callable[..., Path]


@pytest.fixture
def written(tmp_path: Path, model_card: ModelCard) -> WriteReport:
    """Write rows as artifacts and run the stage on them: `written(rows, limits=...) / "page.html"`.

    The artifacts are in `results/` of the folder that is returned.
    """

    def write(rows: Sequence[Row], *, pictures: bool = False, **more: Any) -> Path:
        results = tmp_path / "results"
        given: dict[str, Any] = {
            "engines": [], "perf": [], "samples": [], "accuracy": [], "parity": [],
        }  # fmt: skip
        for number, row in enumerate(rows):
            if row.engine:
                folder = tmp_path / "engines" / str(number)
                row.engine.write(folder / "engine.json")
                (folder / "engine.bin").write_bytes(b"engine")
                given["engines"].append(folder)
            for kind in ("perf", "accuracy", "parity"):
                figures = getattr(row, kind)
                if figures:
                    path = results / f"{number}_{kind}.json"
                    if kind == "perf":
                        figures = figures.model_copy(update={"raw": f"{number}_perf_samples.json"})
                        samples = results / figures.raw
                        samples.parent.mkdir(exist_ok=True)
                        samples.write_text(json.dumps({"latency_s": [0.01, 0.0115, 0.02]}))
                        given["samples"].append(samples)
                    figures.write(path)
                    given[kind].append(path)
        model_card.write(tmp_path / "model/model.json")
        names = [row.name for row in rows if row.engine]
        given |= write_pictures(tmp_path, names) if pictures else {}
        outputs = {
            "output": tmp_path / "page.html",
            "summary": tmp_path / "summary.txt",
            "markdown": tmp_path / "summary.md",
            "table": tmp_path / "results.csv",
            "verdicts": tmp_path / "verdicts.json",
        }
        defaults: dict[str, Any] = {
            "models": [tmp_path / "model"], "dataset": "paper people", "annotations": None,
            "audits": [], "persons": [], "images": None, "predictions": [], "published": {},
            "limits": Limits(), "own_limits": {}, "variants": None, "baseline": None,
            "logs": tmp_path / "logs", "run": None, "made": None,
        }  # fmt: skip
        variants = [row.variant for row in rows]
        write_report.main(**(defaults | {"variants": variants} | given | outputs | more))
        return tmp_path

    return write
