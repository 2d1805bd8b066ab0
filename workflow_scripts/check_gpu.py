"""Build, check and time engines on this machine's GPU in one call, and print a table.

    python workflow_scripts/check_gpu.py --output results/gpu.json

It needs no data: HRNet-W32 256x192 with seeded weights, on drawn pixels.  Every backend that can
run here does, in each of its precisions: its heatmaps are compared with ONNX Runtime's on the CPU
at fp32, and it is timed at each batch.  A case that fails is a line of the table that says why.

Two figures are given and never mixed: `device`, images/s between events of the device, without
copies (what trtexec calls GPU compute time); and `end to end`, images/s from crops on the host to
heatmaps on the host, with batches in flight.
"""

import argparse
import datetime
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hrnetpose import engines, files, stage
from hrnetpose.artifacts.calibration import CalibrationSet
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.batches import Crops, count_images
from hrnetpose.engines import cuda
from hrnetpose.engines.base import Engine
from hrnetpose.pose import predict
from hrnetpose.speed import host

SCRIPTS = Path(__file__).resolve().parent
CONFIG = "td-hm_hrnet-w32_8xb64-210e_coco-256x192"
CHECKED = 8
"""Crops whose heatmaps are compared."""


@dataclass(frozen=True)
class Case:
    """An engine to build: a backend in a precision, with options."""

    backend: str
    precision: str
    options: dict[str, Any]

    def __str__(self) -> str:
        chosen = [key if value is True else str(value) for key, value in self.options.items()]
        return " ".join([self.backend, self.precision, *chosen])


def cases(device: str) -> Iterator[Case]:
    """Yields what there is to try on a device, the fastest of each backend first."""
    if device == "cpu":
        for precision in ("bf16", "fp32"):
            yield Case("openvino", precision, {})
        yield Case("onnxruntime", "fp32", {})
        yield Case("pytorch", "fp32", {})
        return
    for precision in ("fp16", "int8", "fp8", "bf16", "fp32"):
        for backend in ("tensorrt", "tensorrt_rtx"):
            yield Case(backend, precision, {})
    yield Case("tensorrt", "fp16", {"cuda_graphs": True})
    yield Case("pytorch", "fp16", {"device": "cuda", "compile": True, "cuda_graphs": True})
    yield Case("pytorch", "fp16", {"device": "cuda", "cuda_graphs": True})
    yield Case("pytorch", "fp16", {"device": "cuda"})
    yield Case("pytorch", "fp32", {"device": "cuda"})
    yield Case("onnxruntime", "fp16", {"provider": "tensorrt"})
    yield Case("onnxruntime", "fp16", {"provider": "cuda"})
    yield Case("onnxruntime", "fp32", {"provider": "cuda"})


def parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    command = stage.command(__doc__)
    command.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32, 128])
    command.add_argument(
        "--only", nargs="+", default=[""], help="cases with one of these in their name"
    )
    command.add_argument(
        "--device", choices=["cuda", "cpu"], default="cuda", help="cpu: a rehearsal"
    )
    command.add_argument("--config", default=CONFIG, help="of the mmpose package, or a path")
    command.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    command.add_argument(
        "--budget", type=float, default=3600, help="seconds for all; then it stops"
    )
    command.add_argument(
        "--limit",
        type=float,
        help="images/s that the GPU can reach at most, for the fraction of `device`",
    )
    command.add_argument("--folder", type=Path, help="where graphs and engines stay")
    command.add_argument("--output", type=Path, help="the figures (JSON)")
    command.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    return command


def main(args: argparse.Namespace) -> None:
    """Runs the stage."""
    if args.measure:
        print(json.dumps(measured(args.measure, args.folder, args.seconds)))
        return
    started = time.monotonic()
    if args.device == "cuda":
        print(f"GPU: {cuda.require_gpu()}")
    print(f"host: {host.describe().cpu}, {host.cores()} cores; {datetime.date.today()}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch)
        prepare(folder, args.config)
        rows = []
        for case in cases(args.device):
            if any(part in str(case) for part in args.only):
                for batch in args.batches:
                    row = {"case": str(case), "batch": batch}
                    rows.append(row)
                    if time.monotonic() - started > args.budget:
                        row["failed"] = "not tried: the time is up"
                        continue
                    failure = tried(case, batch, folder, args.seconds, row)
                    if failure:
                        row["failed"] = failure
                    print(line(row, args.limit), flush=True)
                    if failure and "build_engine" in failure:
                        break  # it is not the batch
    print()
    print("\n".join(table(rows, args.limit)))
    if args.output:
        gpu = cuda.find()
        found = {
            "date": str(datetime.date.today()),
            "gpu": asdict(gpu) if isinstance(gpu, cuda.Gpu) else None,
            "host": host.describe().model_dump(),
            "limit": args.limit,
            "rows": rows,
        }
        files.write_text(args.output, json.dumps(found, indent=2) + "\n")


def run(script: str, *arguments: object) -> str | None:
    """Runs a stage in a process of its own; returns its one-line error, None if it has none."""
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / f"{script}.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return None
    said = [text for text in done.stderr.splitlines() if text.startswith(f"{script}: error: ")]
    return said[-1] if said else f"{script}: error: it exits with {done.returncode}"


def prepare(folder: Path, config: str) -> None:
    """Exports the model, unless it is there, and computes what heatmaps should be."""
    from hrnetpose.model import config_file, graphs

    folder.mkdir(parents=True, exist_ok=True)
    crop = config_file.crop(config_file.find(config))
    card = folder / "model.json"
    if not (folder / "fp32.onnx").is_file():
        steps: list[tuple[object, ...]] = [
            ("export_onnx", "--name", "gpu", "--config", config, "--crop", crop,
             "--output", folder / "model.onnx", "--card", card),
            ("simplify_onnx", "--model", folder / "model.onnx", "--card", card,
             "--output", folder / "fp32.onnx"),
        ]  # fmt: skip
        for script, *arguments in steps:
            if failure := run(str(script), *arguments):
                raise stage.StageError(failure)
    model = ModelCard.read(card)
    np.save(folder / "crops.npy", drawn(model, CHECKED))
    images = graphs.normalised(np.load(folder / "crops.npy"), model)
    np.save(folder / "heatmaps.npy", graphs.run(folder / "fp32.onnx", images))


def drawn(card: ModelCard, count: int) -> Crops:
    """Returns crops of smooth random colours, always the same: noise is harder than images."""
    import cv2

    height, width = card.crop.height, card.crop.width
    coarse = np.random.default_rng(0).integers(0, 256, (count, 8, 6, 3), dtype=np.uint8)
    return np.stack([cv2.resize(c, (width, height), interpolation=cv2.INTER_CUBIC) for c in coarse])


def convert(graph: str, folder: Path) -> str | None:
    """Makes a graph from the fp32 one; returns why it failed."""
    card, crops = folder / "model.json", folder / "crops.npy"
    calibration = folder / "calibration.json"
    CalibrationSet(images=[], persons=CHECKED, evaluated_images=0).write(calibration)
    source = folder / "fp32.onnx"
    common = ("--model", source, "--card", card, "--crops", crops)
    if graph == "fp8":
        return run("quantize_fp8", *common, "--output", folder / "fp8.onnx")
    if graph.startswith("int8"):
        symmetric = graph != "int8"
        quantized = folder / ("int8-symmetric.onnx" if symmetric else "int8.onnx")
        failure = run(
            "quantize_int8", *common, *(["--symmetric"] if symmetric else []),
            "--calibration", calibration, "--output", quantized,
            "--summary", quantized.with_suffix(".json"),
        )  # fmt: skip
        if failure or not symmetric:
            return failure
        source = quantized
    return run(
        "convert_precision", "--precision", graph, "--model", source,
        "--output", folder / f"{graph}.onnx",
    )  # fmt: skip


def tried(case: Case, batch: int, folder: Path, seconds: float, row: dict[str, Any]) -> str | None:
    """Builds and measures a case into `row`; returns why it failed."""
    graph = engines.backend(case.backend).graphs[case.precision]  # type: ignore[index]
    source = folder / f"{graph}.onnx"
    if not source.is_file() and (failure := convert(graph, folder)):
        return failure
    output = folder / "engine"
    if failure := run(
        "build_engine", "--variant", "gpu", "--backend", case.backend,
        "--precision", case.precision, "--graph", source, "--card", folder / "model.json",
        "--batch", batch, "--options", json.dumps(case.options), "--threads", host.cores(),
        "--cache", folder / "cache", "--output", output,
    ):  # fmt: skip
        return failure
    done = subprocess.run(
        [sys.executable, str(Path(__file__)), "--measure", str(output), "--folder", str(folder),
         "--seconds", str(seconds)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"it exits with {done.returncode}"]
        return f"measured: {said[-1]}"
    row |= json.loads(done.stdout.splitlines()[-1])
    return None


def measured(path: Path, folder: Path, seconds: float) -> dict[str, Any]:
    """Compares an engine's heatmaps and times it."""
    from hrnetpose.model import graphs

    crops, wanted = np.load(folder / "crops.npy"), np.load(folder / "heatmaps.npy")
    built = engines.read(path)
    card, engine = built.card, built.open(host.cores())
    rows = np.arange(max(engine.batch, CHECKED)) % CHECKED
    batches = [
        np.ascontiguousarray(crops[part])
        for part in rows[: len(rows) // engine.batch * engine.batch].reshape(-1, engine.batch)
    ]
    with engine:
        found = np.concatenate(
            [predict.heatmaps(engine.infer(batch), card.model) for batch in batches]
        )
        for _ in engine.stream(batches * 3):
            pass
        device = engine.device_times(batches[0], device_runs(engine, batches[0], seconds))
        fps = throughput(engine, batches, seconds)
    return {
        "error": graphs.relative_error(found, wanted[rows[: len(found)]]),
        "executed": card.executed.precision,
        "build_s": card.build_seconds,
        "end_to_end": fps,
        "device": engine.batch / statistics.median(device) if device else None,
        "versions": card.versions,
    }


def device_runs(engine: Engine[Any], batch: Crops, seconds: float) -> int:
    """Returns how many runs fill the time."""
    warm = engine.device_times(batch, 10)
    return min(5000, max(10, int(seconds / statistics.median(warm)))) if warm else 0


def throughput(engine: Engine[Any], batches: list[npt.NDArray[np.uint8]], seconds: float) -> float:
    """Returns images/s from the host and back to it, with batches in flight."""
    start = time.perf_counter()

    def supply() -> Iterator[Crops]:
        number = 0
        while time.perf_counter() - start < seconds:
            yield batches[number % len(batches)]
            number += 1

    count = sum(count_images(outputs) for outputs in engine.stream(supply()))
    return count / (time.perf_counter() - start)


HEADER = ("case", "batch", "executed", "error", "build s", "device", "end to end", "of limit")


def cells(row: dict[str, Any], limit: float | None) -> tuple[str, ...]:
    """Returns a row as text; figures are images/s."""
    if "failed" in row:
        return (row["case"], str(row["batch"]), row["failed"])
    return (
        row["case"],
        str(row["batch"]),
        row["executed"],
        f"{row['error']:.1e}",
        f"{row['build_s']:.1f}",
        f"{row['device']:.0f}" if row["device"] else "-",
        f"{row['end_to_end']:.0f}",
        f"{row['device'] / limit:.2f}" if limit and row["device"] else "-",
    )


def line(row: dict[str, Any], limit: float | None) -> str:
    """Returns a row while it is measured."""
    return "  ".join(cells(row, limit))


def table(rows: list[dict[str, Any]], limit: float | None) -> list[str]:
    """Returns all rows as a Markdown table."""
    lines = [HEADER, tuple("---" for _ in HEADER)]
    lines += [cells(row, limit) for row in rows]
    return [f"| {' | '.join([*cell, *[''] * (len(HEADER) - len(cell))])} |" for cell in lines]


if __name__ == "__main__":
    stage.run(parser(), main)
