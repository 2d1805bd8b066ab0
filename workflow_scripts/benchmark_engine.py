"""Measure an engine's speed on real persons, hold it against the machine's limit and judge it.

Latency (batch 1, one request at a time), throughput (the best of a sweep over batch sizes and
streams), and the whole way from images on disk to keypoints.  Run it alone on the machine: other
processes make the figures INVALID.

    python workflow_scripts/benchmark_engine.py --engine build/engines/bf16 --crops crops.npy \\
        --persons persons.npz --images val.zip --threads 2 --output bf16_perf.json \\
        --samples bf16_perf_samples.json
"""

import argparse
import json
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hrnetpose import engines, files, stage
from hrnetpose.artifacts.engine import Device, EngineReference, ExecutedPrecision
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.artifacts.perf import (
    EndToEnd,
    Host,
    Perf,
    PrecisionPair,
    Roofline,
    SweepPoint,
    Validity,
)
from hrnetpose.batches import Crops, count_images, fill
from hrnetpose.benchmark import Benchmark
from hrnetpose.data import crops as crop_files
from hrnetpose.data import cutting
from hrnetpose.data.annotations import Image
from hrnetpose.data.images import ImageStore
from hrnetpose.data.persons import Persons
from hrnetpose.engines.base import Engine
from hrnetpose.engines.folder import EngineFolder
from hrnetpose.pose import finite, predict
from hrnetpose.speed import host, limit, scenarios, timing, validity
from hrnetpose.speed.scenarios import LatencyResult, ThroughputResult
from hrnetpose.speed.timing import Limits
from hrnetpose.stage import StageError

BATCHES = 4
"""Different batches that take turns, so that no cache holds the whole input."""


@dataclass(frozen=True)
class WholeWay:
    """The way from images on disk to keypoints, with ground-truth boxes and without flip test.

    Attributes:
        images: with their persons; they are measured again and again.
        store: where they are.
        model: the model's card.
        threads: CPU threads.
    """

    images: list[Image]
    store: ImageStore
    model: ModelCard
    threads: int

    @property
    def persons(self) -> int:
        """How many persons are in the images."""
        return sum(len(image.persons) for image in self.images)

    def persons_per_s(self, engine: Engine[Any], seconds: float) -> float:
        """Returns persons per second, all parts at the same time."""
        _, centers, scales = cutting.geometry(self.images, self.model.crop)
        start = time.perf_counter()
        images = timing.in_turns(self.images, Limits(seconds, 1))
        crops = cutting.cut_all(images, self.store, self.model.crop, self.threads)
        persons = 0
        for plain, _ in predict.infer(
            engine.stream, cutting.stack_batches(crops, engine.batch), mirror=False
        ):
            count = count_images(plain)
            rows = np.arange(persons, persons + count) % len(centers)
            predict.keypoints(plain, None, [0], self.model, centers[rows], scales[rows])
            persons += count
        return persons / (time.perf_counter() - start)

    def part_by_part(self, engine: Engine[Any], seconds: float) -> dict[str, float]:
        """Returns where the milliseconds of a person go when one part follows the other."""
        names = ("decode", "crop", "copy_in", "inference", "copy_out", "keypoints", "other")
        parts = dict.fromkeys(names, 0.0)
        _, centers, scales = cutting.geometry(self.images, self.model.crop)
        # One full batch at least.
        passes = math.ceil(engine.batch / self.persons)
        waiting: list[Crops] = []
        persons = 0
        start = time.perf_counter()
        for image in timing.in_turns(self.images, Limits(seconds, passes * len(self.images))):
            begun = time.perf_counter()
            pixels = self.store.decode(image.file_name, image.width, image.height)
            decoded = time.perf_counter()
            waiting += cutting.cut_persons(pixels, image, self.model.crop)
            parts["decode"] += decoded - begun
            parts["crop"] += time.perf_counter() - decoded
            while len(waiting) >= engine.batch:
                outputs, phases = engine.infer_in_phases(np.stack(waiting[: engine.batch]))
                parts["copy_in"] += phases.copy_in
                parts["inference"] += phases.inference
                parts["copy_out"] += phases.copy_out
                begun = time.perf_counter()
                rows = np.arange(persons, persons + engine.batch) % len(centers)
                predict.keypoints(outputs, None, [0], self.model, centers[rows], scales[rows])
                parts["keypoints"] += time.perf_counter() - begun
                persons += engine.batch
                del waiting[: engine.batch]
        parts["other"] = time.perf_counter() - start - sum(parts.values())
        return {name: value / persons * 1e3 for name, value in parts.items()}


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Attributes:
        built: the engine.
        device: what it runs on here.
        crops: uint8 [N, H, W, 3].
        threads: CPU threads.
        limits: how long latency and throughput are measured.
        whole: from images to keypoints; None if that is not measured.
    """

    built: EngineFolder[Any]
    device: Device
    crops: Crops
    threads: int
    limits: Limits
    whole: WholeWay | None

    def open(self, batch: int, streams: int | None) -> Engine[Any]:
        """Prepares the engine at a batch size and a number of streams."""
        return self.built.open(self.threads, batch, streams)

    def batches(self, size: int) -> list[Crops]:
        """Returns full batches of crops."""
        return fill(self.crops, size, BATCHES)

    def check(self, engine: Engine[Any], inputs: list[Crops]) -> None:
        """Refuses an engine whose outputs are not finite."""
        outputs = engine.infer(inputs[0]).values()
        finite.require(outputs, self.built.path, self.built.card.requested)


def parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    defaults = Benchmark()
    command = stage.command(__doc__)
    command.add_argument("--engine", type=Path, required=True, help="the engine's folder")
    command.add_argument("--crops", type=Path, required=True, help="uint8 crops (.npy)")
    command.add_argument(
        "--persons", type=Path, help="of list_persons (.npz), the crops' first, for the whole way"
    )
    command.add_argument("--images", type=Path, help="their images, a folder or a zip")
    command.add_argument(
        "--min-seconds", type=float, default=defaults.min_seconds, help="of each measurement"
    )
    command.add_argument("--min-samples", type=int, default=defaults.min_samples, help="of latency")
    command.add_argument(
        "--batches", type=int, nargs="*", default=defaults.batches,
        help="tried, beside the engine's own",
    )  # fmt: skip
    command.add_argument(
        "--streams", type=int, nargs="*", default=defaults.streams,
        help="tried; by default one, and one a thread",
    )  # fmt: skip
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
    pixels = np.asarray(crop_files.read(crops))
    if not len(pixels):
        raise StageError(f"{crops}: holds no crops; a benchmark needs at least one")
    threads = min(threads, host.cores())
    whole = None
    if persons and images:
        # The persons whose crops these are.
        first = Persons.read(persons).first(len(pixels))
        whole = WholeWay(first, ImageStore(images), built.card.model, threads)
    device = built.backend.device(built.options)
    limits = Limits(min_seconds, min_samples)
    subject = Subject(built, device, pixels, threads, limits, whole)
    perf, raw = measure(subject, batches, streams, samples.name)
    logging.info("%.1f images/s, %s", perf.throughput.fps, perf.validity)
    files.write_text(samples, json.dumps(raw) + "\n")
    perf.write(output)


def measure(
    subject: Subject, batches: list[int], streams: list[int], raw: str
) -> tuple[Perf, dict[str, list[float]]]:
    """Measures all scenarios; returns the figures and the raw samples.

    Args:
        subject: the engine.
        batches: tried for throughput, beside the engine's own.
        streams: tried likewise.
        raw: the name of the file for the samples.
    """
    card = subject.built.card
    machine = host.describe(subject.device)
    alone, load_seconds, parts = measure_latency(subject)
    best, executed, persons_per_s = measure_throughput(subject, sweep(subject, batches, streams))
    whole = None
    if subject.whole and persons_per_s is not None:
        whole = EndToEnd(
            persons_per_s=persons_per_s,
            images=len(subject.whole.images),
            persons=subject.whole.persons,
            ms_per_person=parts,
            total_ms_per_person=sum(parts.values()),
        )
    perf = Perf(
        throughput=best.figures,
        latency_ms=timing.summarize(alone.samples),
        latency=alone.scenario,
        device_ms=timing.summarize(alone.device_samples) if alone.device_samples else None,
        end_to_end=whole,
        samples=best.figures.samples,
        duration_s=best.figures.duration_s,
        batch=best.figures.batch,
        threads=subject.threads,
        build_seconds=card.build_seconds,
        load_seconds=load_seconds,
        first_inference_ms=alone.first_ms,
        warm_up=alone.warm_up,
        precision=PrecisionPair(requested=card.requested, executed=executed.precision),
        roofline=roofline(subject, executed, best, machine),
        validity=Validity(verdict="VALID", reasons=[]),
        energy=best.energy,
        device=subject.device,
        engine=EngineReference(variant=card.variant, sha256=card.sha256),
        host=machine,
        versions=card.versions,
        raw=raw,
    )
    reasons = [
        *alone.reasons,
        *best.reasons,
        *validity.precision(card.requested, executed.precision),
        *perf.contradictions(),
    ]
    perf.validity = Validity(verdict="INVALID" if reasons else "VALID", reasons=reasons)
    return perf, {
        "latency_s": alone.samples,
        "device_s": alone.device_samples,
        "throughput_done_s": best.done,
    }


def measure_latency(subject: Subject) -> tuple[LatencyResult, float, dict[str, float]]:
    """Measures one request at a time, at batch 1 where the engine can.

    Returns:
        The scenario, the seconds that opening took, and the milliseconds of each part of a person.
    """
    card, backend, seconds = subject.built.card, subject.built.backend, subject.limits.min_seconds
    batch = 1 if backend.any_batch else card.batch
    streams = 1 if backend.has_streams else None
    inputs = subject.batches(batch)
    start = time.perf_counter()
    with subject.open(batch, streams) as engine:
        loaded = time.perf_counter() - start
        found = scenarios.measure_latency(engine, inputs, streams, subject.limits, subject.device)
        subject.check(engine, inputs)
        parts = subject.whole.part_by_part(engine, seconds / 4) if subject.whole else {}
    return found, loaded, parts


def sweep(subject: Subject, tried: list[int], streams: list[int]) -> list[SweepPoint]:
    """Measures throughput shortly at every batch size and number of streams that there is."""
    backend, own = subject.built.backend, subject.built.card.batch
    sizes = sorted({own, *tried}) if backend.any_batch else [own]
    counts: list[int | None] = [None]
    if backend.has_streams:
        chosen = subject.built.streams
        counts = [*([chosen] if chosen else sorted({1, subject.threads, *streams}))]
    seconds = subject.limits.min_seconds / 10
    points = []
    for size in sizes:
        inputs = subject.batches(size)
        for count in counts:
            start = time.perf_counter()
            with subject.open(size, count) as engine:
                loaded = time.perf_counter() - start
                points.append(scenarios.try_point(engine, inputs, count, loaded, seconds))
    return points


def measure_throughput(
    subject: Subject, points: list[SweepPoint]
) -> tuple[ThroughputResult, ExecutedPrecision, float | None]:
    """Measures the best point of the sweep at full length.

    Returns:
        The scenario, what the engine executes, and persons per second of the whole way.
    """
    best = max(points, key=lambda point: point.fps)
    inputs, seconds = subject.batches(best.batch), subject.limits.min_seconds
    with subject.open(best.batch, best.streams) as engine:
        executed = engine.executed()
        found = scenarios.measure_throughput(
            engine, inputs, best.streams, seconds, subject.device, points
        )
        subject.check(engine, inputs)
        alone = engine.infer(np.repeat(inputs[0][-1:], best.batch, axis=0))
        found.reasons.extend(validity.batch_content(alone, engine.infer(inputs[0])))
        persons_per_s = subject.whole.persons_per_s(engine, seconds / 4) if subject.whole else None
    return found, executed, persons_per_s


def roofline(
    subject: Subject, executed: ExecutedPrecision, best: ThroughputResult, machine: Host
) -> Roofline:
    """Measures the limit, in the same minute as the throughput, and holds that against it."""
    precision = limit.precision_of(executed.layers, executed.precision)
    seconds = subject.limits.min_seconds / 4
    peaks = limit.measure(precision, subject.device, subject.threads, seconds)
    figures, card = best.figures, subject.built.card
    return limit.roofline(
        card.model, precision, figures.batch, machine.cache_bytes, peaks, figures.fps
    )


if __name__ == "__main__":
    stage.run(parser(), main)
