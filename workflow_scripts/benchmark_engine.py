"""Measure an engine's speed on real persons, hold it against the machine's limit and judge it.

Latency (batch 1, one request at a time), throughput (the best of a sweep over batch sizes and
streams), and the whole way from images on disk to keypoints.  Run it alone on the machine: other
processes make the figures INVALID.

    python workflow_scripts/benchmark_engine.py --engine build/engines/bf16 --crops crops.npy \\
        --persons persons.npz --images val.zip --threads 2 --output bf16_perf.json \\
        --samples bf16_perf_samples.json
"""

import argparse
import itertools
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hrnetpose import batches, engines, files, stage
from hrnetpose.artifacts.engine import Device, EngineReference, ExecutedPrecision
from hrnetpose.artifacts.perf import (
    EndToEnd,
    Energy,
    Latency,
    LatencyScenario,
    Perf,
    PrecisionPair,
    Roofline,
    SweepPoint,
    Throughput,
    Validity,
    WarmUp,
)
from hrnetpose.batches import Crops
from hrnetpose.data import crops as crop_files
from hrnetpose.data import cutting
from hrnetpose.data.annotations import Image
from hrnetpose.data.images import ImageStore
from hrnetpose.data.persons import Persons
from hrnetpose.engines.base import Engine
from hrnetpose.engines.folder import EngineFolder
from hrnetpose.pose import finite, predict
from hrnetpose.speed import host, limit, timing, validity
from hrnetpose.speed.monitor import Monitor
from hrnetpose.stage import StageError

BATCHES = 4
"""Different batches that take turns, so that no cache holds the whole input."""
PERSONS = 128
"""On so many persons the way from images to keypoints is measured, again and again."""


@dataclass(frozen=True)
class Benchmark:
    """What is measured, and how.

    Attributes:
        built: the engine.
        device: what it runs on here.
        crops: uint8 [N, H, W, 3].
        threads: CPU threads.
        limits: how long latency and throughput are measured.
        images: those that the whole way begins with; none if it is not measured.
        store: where they are.
    """

    built: EngineFolder[Any]
    device: Device
    crops: Crops
    threads: int
    limits: timing.Limits
    images: list[Image]
    store: ImageStore | None

    def open(self, batch: int, streams: int | None) -> Engine[Any]:
        """Prepares the engine at a batch size and a number of streams."""
        return self.built.open(self.threads, batch, streams)

    def batches(self, size: int) -> list[Crops]:
        """Returns full batches of crops."""
        return batches.fill(self.crops, size, BATCHES)


@dataclass(frozen=True)
class LatencyResult:
    """The latency scenario."""

    scenario: LatencyScenario
    samples: list[float]
    device_samples: list[float]
    load_seconds: float
    first_ms: float
    warm_up: WarmUp
    ms_per_person: dict[str, float]
    reasons: list[str]


@dataclass(frozen=True)
class ThroughputResult:
    """The throughput scenario at its best point."""

    figures: Throughput
    done: list[float]
    executed: ExecutedPrecision
    roofline: Roofline
    energy: Energy
    persons_per_s: float | None
    reasons: list[str]


def parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    command = stage.command(__doc__)
    command.add_argument("--engine", type=Path, required=True, help="the engine's folder")
    command.add_argument("--crops", type=Path, required=True, help="uint8 crops (.npy)")
    command.add_argument("--persons", type=Path, help="of list_persons (.npz), for the whole way")
    command.add_argument("--images", type=Path, help="their images, a folder or a zip")
    command.add_argument("--min-seconds", type=float, default=4.0, help="of each measurement")
    command.add_argument("--min-samples", type=int, default=50, help="of latency")
    command.add_argument(
        "--batches", type=int, nargs="*", default=[1, 8], help="tried, beside the engine's own"
    )
    command.add_argument(
        "--streams", type=int, nargs="*", default=[], help="tried; by default one, and one a thread"
    )
    command.add_argument("--threads", type=int, default=1, help="CPU threads, at most those there")
    command.add_argument("--output", type=Path, required=True, help="the figures (JSON)")
    command.add_argument("--samples", type=Path, required=True, help="the raw samples (JSON)")
    return command


def main(
    *,
    engine: Path,
    crops: Path,
    persons: Path | None,
    images: Path | None,
    min_seconds: float,
    min_samples: int,
    batches: list[int],
    streams: list[int],
    threads: int,
    output: Path,
    samples: Path,
) -> None:
    """Runs the stage."""
    built = engines.read(engine)
    card = built.card
    pixels = crop_files.read(crops)
    if not len(pixels):
        raise StageError(f"{crops}: holds no crops; a benchmark needs at least one")
    first = []
    if persons and images:
        first = Persons.read(persons).first(PERSONS)
    benchmark = Benchmark(
        built=built,
        device=built.backend.device(built.options),
        crops=np.asarray(pixels),
        threads=min(threads, host.cores()),
        limits=timing.Limits(min_seconds, min_samples),
        images=first,
        store=ImageStore(images) if images and first else None,
    )
    machine = host.describe(benchmark.device)
    alone = latency(benchmark)
    points = sweep(benchmark, batches, streams)
    best = throughput(benchmark, points, machine.cache_bytes)
    executed = best.executed.precision
    perf = Perf(
        throughput=best.figures,
        latency_ms=timing.summarize(alone.samples),
        latency=alone.scenario,
        device_ms=_or_none(alone.device_samples),
        end_to_end=None
        if best.persons_per_s is None
        else EndToEnd(
            persons_per_s=best.persons_per_s,
            images=len(first),
            persons=sum(len(image.persons) for image in first),
            ms_per_person=alone.ms_per_person,
            total_ms_per_person=sum(alone.ms_per_person.values()),
        ),
        samples=best.figures.samples,
        duration_s=best.figures.duration_s,
        batch=best.figures.batch,
        threads=benchmark.threads,
        build_seconds=card.build_seconds,
        load_seconds=alone.load_seconds,
        first_inference_ms=alone.first_ms,
        warm_up=alone.warm_up,
        precision=PrecisionPair(requested=card.requested, executed=executed),
        roofline=best.roofline,
        validity=Validity(verdict="VALID", reasons=[]),
        energy=best.energy,
        device=benchmark.device,
        engine=EngineReference(variant=card.variant, sha256=card.sha256),
        host=machine,
        versions=card.versions,
        raw=samples.name,
    )
    reasons = [
        *alone.reasons,
        *best.reasons,
        *validity.precision(card.requested, executed),
        *perf.contradictions(),
    ]
    perf.validity = Validity(verdict="INVALID" if reasons else "VALID", reasons=reasons)
    logging.info("%.1f images/s, %s", perf.throughput.fps, perf.validity)
    raw = {
        "latency_s": alone.samples,
        "device_s": alone.device_samples,
        "throughput_done_s": best.done,
    }
    files.write_text(samples, json.dumps(raw) + "\n")
    perf.write(output)


def latency(benchmark: Benchmark) -> LatencyResult:
    """Measures one request at a time, at batch 1 where the engine can."""
    card, backend = benchmark.built.card, benchmark.built.backend
    batch = 1 if backend.any_batch else card.batch
    streams = 1 if backend.has_streams else None
    inputs = benchmark.batches(batch)
    limits = benchmark.limits
    start = time.perf_counter()
    with benchmark.open(batch, streams) as engine:
        loaded = time.perf_counter() - start
        first, warm_up = timing.warm_up(
            engine.infer, inputs, limits.min_seconds / 10, limits.min_seconds / 2
        )
        first_outputs = engine.infer(inputs[0]).values()
        finite.require(first_outputs, benchmark.built.path, benchmark.built.card.requested)
        with Monitor(benchmark.device) as watched:
            samples = timing.latency(engine.infer, inputs, limits)
        on_device = engine.device_times(inputs[0], limits.min_samples)
        parts = part_by_part(benchmark, engine, limits.min_seconds / 4)
    scenario = LatencyScenario(
        batch=batch,
        streams=streams,
        samples=len(samples),
        duration_s=sum(samples),
        spread=timing.latency_spread(samples),
    )
    reasons = validity.measurement(
        "latency",
        scenario.samples,
        validity.MIN_REQUESTS,
        scenario.duration_s,
        scenario.spread,
        watched.report,
    )
    return LatencyResult(scenario, samples, on_device or [], loaded, first, warm_up, parts, reasons)


def sweep(benchmark: Benchmark, tried: list[int], streams: list[int]) -> list[SweepPoint]:
    """Measures throughput shortly at every batch size and number of streams that there is."""
    backend, own = benchmark.built.backend, benchmark.built.card.batch
    sizes = sorted({own, *tried}) if backend.any_batch else [own]
    counts: list[int | None] = [None]
    if backend.has_streams:
        chosen = benchmark.built.streams
        counts = [*([chosen] if chosen else sorted({1, benchmark.threads, *streams}))]
    limits = timing.Limits(benchmark.limits.min_seconds / 10, 3)
    points = []
    for size in sizes:
        inputs = benchmark.batches(size)
        for count in counts:
            start = time.perf_counter()
            with benchmark.open(size, count) as engine:
                loaded = time.perf_counter() - start
                engine.infer(inputs[0])
                found = timing.throughput(engine.stream, inputs, limits)
            point = SweepPoint(
                batch=size,
                streams=count,
                fps=found.fps,
                samples=len(found.done),
                duration_s=found.done[-1],
                load_seconds=loaded,
            )
            logging.info("%s", point)
            points.append(point)
    return points


def throughput(
    benchmark: Benchmark, points: list[SweepPoint], cache: int | None
) -> ThroughputResult:
    """Measures the best point of the sweep at full length, and the limit in the same minute."""
    card = benchmark.built.card
    best = max(points, key=lambda point: point.fps)
    inputs = benchmark.batches(best.batch)
    fewest = timing.Limits(benchmark.limits.min_seconds, validity.MIN_BATCHES)
    with benchmark.open(best.batch, best.streams) as engine:
        executed = engine.executed()
        timing.warm_up(engine.infer, inputs, 0.0, benchmark.limits.min_seconds / 2)
        with Monitor(benchmark.device) as watched:
            found = timing.throughput(engine.stream, inputs, fewest)
        alone = engine.infer(np.repeat(inputs[0][-1:], best.batch, axis=0))
        outputs = engine.infer(inputs[0])
        finite.require(outputs.values(), benchmark.built.path, card.requested)
        content = validity.batch_content(alone, outputs)
        persons_per_s = end_to_end(benchmark, engine, benchmark.limits.min_seconds / 4)
        requests = engine.requests
    precision = limit.precision_of(executed.layers, executed.precision)
    peaks = limit.measure(
        precision, benchmark.device, benchmark.threads, benchmark.limits.min_seconds / 4
    )
    joules, source = watched.report.joules
    figures = Throughput(
        fps=found.fps,
        batch=best.batch,
        streams=best.streams,
        requests=requests,
        samples=len(found.done),
        images=found.images,
        duration_s=found.done[-1],
        spread=timing.throughput_spread(found.done),
        sweep=points,
    )
    reasons = validity.measurement(
        "throughput",
        figures.samples,
        validity.MIN_BATCHES,
        figures.duration_s,
        figures.spread,
        watched.report,
    )
    return ThroughputResult(
        figures=figures,
        done=found.done,
        executed=executed,
        roofline=limit.roofline(card.model, precision, best.batch, cache, peaks, found.fps),
        energy=Energy(
            joules_per_image=None if joules is None else joules / found.images, source=source
        ),
        persons_per_s=persons_per_s,
        reasons=[*reasons, *content],
    )


def end_to_end(benchmark: Benchmark, engine: Engine[Any], seconds: float) -> float | None:
    """Returns persons per second from images on disk to keypoints, all parts at the same time."""
    if benchmark.store is None:
        return None
    images, model = benchmark.images, benchmark.built.card.model
    _, centers, scales = cutting.geometry(images, model.crop)
    start = time.perf_counter()

    def supply() -> Iterator[Image]:
        while time.perf_counter() - start < seconds:
            yield from images

    crops = cutting.cut_all(supply(), benchmark.store, model.crop, benchmark.threads)
    cut = cutting.in_batches(crops, engine.batch)
    persons = 0
    for plain, _ in predict.infer(engine.stream, cut, mirror=False):
        count = batches.count_images(plain)
        rows = np.arange(persons, persons + count) % len(centers)
        predict.keypoints(plain, None, [0], model, centers[rows], scales[rows])
        persons += count
    return persons / (time.perf_counter() - start)


def part_by_part(benchmark: Benchmark, engine: Engine[Any], seconds: float) -> dict[str, float]:
    """Returns where the milliseconds of a person go when one part follows the other."""
    if benchmark.store is None:
        return {}
    names = ("decode", "crop", "copy_in", "inference", "copy_out", "keypoints", "other")
    parts = dict.fromkeys(names, 0.0)
    model = benchmark.built.card.model
    _, centers, scales = cutting.geometry(benchmark.images, model.crop)
    waiting: list[Crops] = []
    persons = 0
    start = time.perf_counter()
    for image in itertools.cycle(benchmark.images):
        begun = time.perf_counter()
        pixels = benchmark.store.decode(image.file_name, image.width, image.height)
        decoded = time.perf_counter()
        waiting += cutting.cut_persons(pixels, image, model.crop)
        parts["decode"] += decoded - begun
        parts["crop"] += time.perf_counter() - decoded
        while len(waiting) >= engine.batch:
            outputs, phases = engine.infer_in_phases(np.stack(waiting[: engine.batch]))
            parts["copy_in"] += phases.copy_in
            parts["inference"] += phases.inference
            parts["copy_out"] += phases.copy_out
            begun = time.perf_counter()
            rows = np.arange(persons, persons + engine.batch) % len(centers)
            predict.keypoints(outputs, None, [0], model, centers[rows], scales[rows])
            parts["keypoints"] += time.perf_counter() - begun
            persons += engine.batch
            del waiting[: engine.batch]
        if persons and time.perf_counter() - start > seconds:
            break
    parts["other"] = time.perf_counter() - start - sum(parts.values())
    return {name: value / persons * 1e3 for name, value in parts.items()}


def _or_none(samples: list[float]) -> Latency | None:
    return timing.summarize(samples) if samples else None


if __name__ == "__main__":
    stage.run(parser(), main)
