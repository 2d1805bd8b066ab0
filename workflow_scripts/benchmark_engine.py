"""Measure an engine's latency and throughput on real crops; run it alone on the machine.

    python workflow_scripts/benchmark_engine.py --engine build/engines/bf16 --crops crops.npy \\
        --threads 2 --output bf16_perf.json --samples bf16_perf_samples.json
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from hrnetpose import engines, files, stage
from hrnetpose.artifacts import EngineReference, Perf, PrecisionPair, Throughput
from hrnetpose.data import crops as crop_files
from hrnetpose.engines.base import Crops
from hrnetpose.speed import host, timing
from hrnetpose.stage import StageError

BATCHES = 4
"""Different batches that take turns, so that no cache holds the whole input."""


def parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    command = stage.command(__doc__)
    command.add_argument("--engine", type=Path, required=True, help="the engine's folder")
    command.add_argument("--crops", type=Path, required=True, help="uint8 crops (.npy)")
    command.add_argument("--min-seconds", type=float, default=5.0, help="of each measurement")
    command.add_argument("--min-samples", type=int, default=50, help="batches of each measurement")
    command.add_argument("--threads", type=int, default=1, help="CPU threads, at most those there")
    command.add_argument("--output", type=Path, required=True, help="the figures (JSON)")
    command.add_argument("--samples", type=Path, required=True, help="the raw samples (JSON)")
    return command


def main(args: argparse.Namespace) -> None:
    """Runs the stage."""
    threads = min(args.threads, host.cores())
    limits = timing.Limits(args.min_seconds, args.min_samples)
    machine = host.describe()
    start = time.perf_counter()
    engine, card = engines.open_engine(args.engine, threads)
    with engine:
        loaded = time.perf_counter() - start
        inputs = batches(crop_files.read(args.crops), card.batch, args.crops)
        first = timing.warm_up(engine.infer, inputs, seconds=args.min_seconds / 5)
        latencies = timing.latency(engine.infer, inputs, limits)
        done = timing.throughput(engine.stream, inputs, limits)
        executed = engine.executed()
    raw = {"latency_s": latencies, "throughput_done_s": done}
    files.write_text(args.samples, json.dumps(raw) + "\n")
    Perf(
        throughput=Throughput(
            fps=len(done) * card.batch / done[-1],
            samples=len(done),
            duration_s=done[-1],
            requests=engine.requests,
        ),
        latency_ms=timing.summarize(latencies),
        samples=len(latencies),
        duration_s=sum(latencies),
        batch=card.batch,
        threads=threads,
        load_seconds=loaded,
        first_inference_ms=first,
        precision=PrecisionPair(requested=card.requested, executed=executed.precision),
        device=card.device,
        engine=EngineReference(variant=card.variant, sha256=card.sha256),
        host=machine,
        versions=card.versions,
        raw=args.samples.name,
    ).write(args.output)


def batches(crops: Crops, size: int, path: Path) -> list[Crops]:
    """Returns full batches of real crops, repeated where there are too few."""
    if not len(crops):
        raise StageError(f"{path}: holds no crops; a benchmark needs at least one")
    rows = np.arange(size * BATCHES) % len(crops)
    return [np.ascontiguousarray(crops[part]) for part in rows.reshape(BATCHES, size)]


if __name__ == "__main__":
    stage.run(parser(), main)
