"""Measure this project beside its peers, on the same images and weights, and print the ratios.

Peers: OpenVINO's benchmark_app on the same model file, ONNX Runtime as mmdeploy runs it (batch 1,
fp32), and mmpose's own evaluation in PyTorch.  Everything runs in this process group, one
measurement at a time, ours and theirs in turns.

    python tools/bench/bench.py --output results/bench.json
    python tools/bench/compare_bench.py old.json results/bench.json

With POSE_REAL_DATA (CONTRIBUTING.md) accuracy is evaluated on COCO's images; without it, on the
drawn sample, whose ratios have no goals.
"""

import argparse
import datetime
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import goals
import numpy as np
import psutil
from goals import (
    AGAIN_SECONDS,
    GPU_BATCHES,
    MOST_BYTES,
    PRECISIONS,
    REPORT_SECONDS,
    Figures,
    has_amx,
)

from hrnetpose import files, stage
from hrnetpose.artifacts.engine import ENGINE_FILE
from hrnetpose.data import crops as crop_files
from hrnetpose.speed import host
from hrnetpose.stage import StageError

ROOT = Path(__file__).resolve().parents[2]
REAL_DATA = "POSE_REAL_DATA"
W32 = "td-hm_hrnet-w32_8xb64-210e_coco-256x192"
HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "bf16"}
"""Precision of an engine -> what benchmark_app is told (int8 is in the graph)."""
SAMPLE = {
    "config": str(ROOT / "resources/sample/hrnet_sample_128x96.py"),
    "weights": str(ROOT / "resources/sample/hrnet_sample_128x96.pth"),
}
BATCHES = (1, 4, 16)
GPU_OPTIONS: dict[str, dict[str, bool]] = {
    "eager": {},
    "compiled": {"compile": True},
    "ours": {"optimize": True, "compile": True, "cuda_graphs": True},
}
"""What PyTorch does on a GPU."""
MANY = 100_000
WORKER = Path(__file__).with_name("bench_worker.py")
STAGES = ROOT / "workflow_scripts"


@dataclass(frozen=True)
class Data:
    """What is evaluated, and the small model: real where they are there, else the sample's.

    Paths that are not absolute are those of the workflow, in the folder that it runs in.
    """

    real: bool
    images: Path
    annotations: Path
    calibration: dict[str, str]
    config: str
    weights: Path


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument(
        "--real",
        type=Path,
        default=os.environ.get(REAL_DATA),
        help=f"COCO images, annotations and a trained Lite-HRNet; default: {REAL_DATA}",
    )
    command.add_argument("--rounds", type=int, default=3, help="of each timing, ours and theirs")
    command.add_argument("--seconds", type=float, default=4.0, help="of each timing")
    command.add_argument(
        "--batch", type=int, default=8, help="images per inference when engines are evaluated"
    )
    command.add_argument(
        "--without-evaluation", action="store_true", help="timings of engines only"
    )
    command.add_argument(
        "--memory", action="store_true", help="also evaluate 100,000 crops and watch the memory"
    )
    command.add_argument("--report", action="store_true", help="also time `make report`, twice")
    command.add_argument("--work", type=Path, default=ROOT / "build/bench", help="scratch")
    command.add_argument("--output", type=Path, default=ROOT / "results/bench.json")
    return command


def main(
    *,
    real: Path | None,
    rounds: int,
    seconds: float,
    batch: int,
    without_evaluation: bool,
    memory: bool,
    report: bool,
    work: Path,
    output: Path,
) -> None:
    """Run everything."""
    begun = time.perf_counter()
    bench = Bench(find_data(real), work.resolve(), rounds, seconds, batch)
    print(bench.machine_line(), flush=True)
    bench.build()
    parts: list[Callable[[], None]] = [
        *(partial(bench.throughput, precision) for precision in PRECISIONS),
        bench.latency,
        *([bench.on_gpu] if bench.machine.gpu else []),
        *([] if without_evaluation else [bench.cutting, bench.evaluations]),
        *([bench.memory] if memory else []),
        *([bench.report] if report else []),
    ]
    failures = []
    for part in parts:
        try:
            part()
        except StageError as error:  # what the others found is not lost
            print(f"  FAILED: {error}", flush=True)
            failures.append(str(error))
    figures = bench.figures
    rows = goals.judge(figures, bench.machine, bench.data.real)
    minutes = round((time.perf_counter() - begun) / 60, 1)
    result = {
        "schema": 1,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "minutes": minutes,
        "host": bench.machine.model_dump(),
        "versions": {
            n: version(n) for n in ("openvino", "onnxruntime", "torch", "mmpose", "numpy")
        },
        "data": "real" if bench.data.real else "sample",
        "verdict": "INVALID" if figures.disturbances or failures else "VALID",
        "rows": [{**asdict(row), "met": row.met} for row in rows],
        "figures": figures.values,
        "disturbances": figures.disturbances,
        "failures": failures,
        "details": figures.details,
    }
    files.write_text(output, json.dumps(result, indent=2) + "\n")
    print()
    print(goals.as_text(rows))
    if figures.disturbances:
        print("INVALID: disturbed while these were measured:")
        for name, reasons in figures.disturbances.items():
            print(f"  {name}: {'; '.join(dict.fromkeys(reasons))}")
    print(f"{output}: {minutes} minutes")
    if failures:
        raise StageError(f"{output}: incomplete: {failures[0]}", failures[1:])


class Bench:
    """All measurements of one run.

    Args:
        data: what is evaluated.
        work: the folder for what is made.
        rounds: how often each timing is repeated.
        seconds: of each timing.
        batch: images per inference when engines are evaluated.
    """

    def __init__(self, data: Data, work: Path, rounds: int, seconds: float, batch: int) -> None:
        self.data, self.work = data, work
        self.rounds, self.seconds, self.batch = rounds, seconds, batch
        self.machine = host.describe()
        self.work.mkdir(parents=True, exist_ok=True)
        self.figures = Figures()
        self.best: dict[str, tuple[int, int]] = {}

    def machine_line(self) -> str:
        """Describe the machine in a line."""
        amx = "with" if has_amx(self.machine) else "without"
        return (
            f"{self.machine.cpu}, {self.machine.cores} cores "
            f"({', '.join(self.machine.features)}), {amx} AMX; "
            f"load {self.machine.load_average:.2f}; "
            + (
                "real images"
                if self.data.real
                else f"the drawn sample (real images are left out: {REAL_DATA} is not set)"
            )
        )

    def build(self) -> None:
        """Build the engines, with the workflow itself."""
        print("building the engines ...", flush=True)
        small: dict[str, Any] = {"config": self.data.config, "weights": str(self.data.weights)}
        variants: dict[str, Any] = dict.fromkeys(("pytorch", "fp16"))
        for model, prefix in (("w32", "w32"), ("small", "small")):
            for precision in PRECISIONS:
                variants[f"{prefix}_{precision}"] = {
                    "model": model,
                    "backend": "openvino",
                    "precision": precision,
                    "batch": self.batch,
                }
        del variants["small_int8"]
        variants["sample_bf16"] = {**variants["small_bf16"], "model": "sample"}
        if self.machine.gpu:
            for name, options in GPU_OPTIONS.items():
                variants[f"gpu_{name}"] = {
                    "model": "w32",
                    "backend": "pytorch",
                    "precision": "fp16",
                    "options": {"device": "cuda", **options},
                }
        overlay = {
            "model": "w32",
            "dataset": "bench",
            "models": {"sample": SAMPLE, "w32": {"config": W32, "weights": None}, "small": small},
            "datasets": {
                "bench": {
                    "images": str(self.data.images),
                    "annotations": str(self.data.annotations),
                    "calibration": self.data.calibration,
                }
            },
            "variants": {**dict.fromkeys(("fp32", "bf16", "int8")), **variants},
        }
        config = self.work / "bench.yaml"
        config.write_text(json.dumps(overlay))  # JSON is YAML
        targets = [
            *(f"build/engines/{name}/engine.json" for name, variant in variants.items() if variant),
            *(str(self.crops_file(crop).relative_to(self.work)) for crop in self.crops()),
        ]
        log = self.work / "build.log"
        with log.open("w") as file:
            done = subprocess.run(
                [
                    *(sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")),
                    *("--configfile", str(ROOT / "config.yaml"), str(config)),
                    *("--directory", str(self.work), "--cores", str(self.machine.cores), "--"),
                    *targets,
                ],
                stdout=file,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode:
            raise StageError(f"{log}: the engines cannot be built; see there")

    def crops(self) -> list[str]:
        """Return the crop geometries: W32's and that of the small model."""
        return ["256x192"] if self.data.real else ["256x192", "128x96"]

    def crops_file(self, crop: str) -> Path:
        """Return the crops that engines are timed on."""
        return self.work / f"build/datasets/bench/{crop}/benchmark/crops_1-of-1.npy"

    def engine(self, variant: str) -> Path:
        """Return an engine's folder."""
        return self.work / "build/engines" / variant

    def worker(self, what: str, *arguments: object) -> dict[str, Any]:
        """Run one measurement in a process of its own."""
        output = self.work / "found.json"
        command = [sys.executable, WORKER, what, *arguments, "--output", output]
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, check=False
        )
        if done.returncode:
            reason = (done.stderr or done.stdout).strip().splitlines()
            raise StageError(f"bench_worker {what}: {reason[-1] if reason else 'failed'}")
        return json.loads(output.read_bytes())

    def throughput(self, precision: str) -> None:
        """Our engine and benchmark_app on the same file, each at its best."""
        folder = self.engine(f"w32_{precision}")
        crops = self.crops_file("256x192")
        print(f"HRNet-W32 {precision}:", flush=True)
        short = self.seconds / 4
        streams = sorted({1, self.machine.cores})
        found = self.worker(
            *("sweep", "--engine", folder, "--crops", crops, "--seconds", short),
            *("--batches", *BATCHES, "--streams", *streams),
        )
        ours = max(found["points"], key=lambda point: point["fps"])
        self.best[precision] = (ours["batch"], ours["streams"])
        self.figures.details[f"sweep {precision}"] = found
        # It chooses the number of streams itself; told ours, it may be better still.
        told: list[tuple[int, int | None]] = [(batch, None) for batch in BATCHES]
        told.append(self.best[precision])
        tried = {point: self.benchmark_app(folder, precision, *point, short) for point in told}
        theirs = max(tried, key=lambda point: tried[point])
        for _ in range(self.rounds):
            found = self.worker(
                *("throughput", "--engine", folder, "--crops", crops),
                *("--batches", ours["batch"], "--streams", ours["streams"]),
                *("--seconds", self.seconds),
            )
            self.figures.add(f"w32 {precision} images/s", found["fps"], found)
            if found["fraction"]:
                self.figures.add(f"w32 {precision} of limit", found["fraction"], {})
            fps = self.benchmark_app(folder, precision, *theirs, self.seconds)
            self.figures.add(
                f"benchmark_app {precision} images/s",
                fps,
                {"batch": theirs[0], "streams": theirs[1]},
            )

    def benchmark_app(
        self, folder: Path, precision: str, batch: int, streams: int | None, seconds: float
    ) -> float:
        """Return the images/s that OpenVINO's benchmark_app reports."""
        model = self.work / f"{folder.name}.onnx"
        model.unlink(missing_ok=True)
        os.link(folder / ENGINE_FILE, model)
        hint = ["-hint", "throughput"]
        if streams:
            cores = str(self.machine.cores)
            hint = ["-hint", "none", "-nstreams", str(streams), "-nthreads", cores]
        command = [
            *(str(Path(sys.executable).with_name("benchmark_app")), "-m", str(model)),
            *("-d", "CPU", "-shape", f"crops[{batch},256,192,3]", "-layout", "crops[NHWC]"),
            *("-infer_precision", HINTS[precision], "-t", f"{max(1, round(seconds))}", *hint),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        match = re.search(r"Throughput:\s+([0-9.]+) FPS", done.stdout)
        if not match:
            last = (done.stdout + done.stderr).strip().splitlines()[-1:]
            raise StageError(f"benchmark_app: no throughput in what it prints: {last}")
        return float(match[1])

    def latency(self) -> None:
        """Batch 1, one at a time: ours, and ONNX Runtime in fp32."""
        print("HRNet-W32, batch 1, one at a time:", flush=True)
        models = self.work / "build/models/w32"
        crops = self.crops_file("256x192")
        common = ("--crops", crops, "--seconds", self.seconds)
        for _ in range(self.rounds):
            peer = ("--graph", models / "simplified.onnx", "--card", models / "model.json")
            found = self.worker("onnxruntime", *peer, *common)
            self.figures.add("onnxruntime fp32 images/s", found["fps"], found)
            for precision in ("fp32", "bf16"):
                engine = self.engine(f"w32_{precision}")
                found = self.worker("latency", "--engine", engine, *common)
                self.figures.add(f"w32 {precision} batch-1 requests/s", found["fps"], found)

    def on_gpu(self) -> None:
        """PyTorch on the GPU in fp16: as it is, compiled by torch.compile, and optimised."""
        print("HRNet-W32 fp16 on the GPU:", flush=True)
        crops = self.crops_file("256x192")
        for batch in GPU_BATCHES:
            for _ in range(self.rounds):
                for name in GPU_OPTIONS:
                    found = self.worker(
                        *("throughput", "--engine", self.engine(f"gpu_{name}"), "--crops", crops),
                        *("--batches", batch, "--seconds", self.seconds),
                    )
                    self.figures.add(f"w32 fp16 {name} batch {batch} images/s", found["fps"], found)

    def dataset(self) -> tuple[object, ...]:
        """Return the arguments that name the images, in a folder: mmpose reads no zip."""
        images = self.work / self.data.images
        if images.suffix == ".zip":
            with zipfile.ZipFile(images) as archive:
                archive.extractall(self.work / "images")
            images = self.work / "images"
        return "--annotations", self.work / self.data.annotations, "--images", images

    def cutting(self) -> None:
        """From JPEG files to crops: ours, and mmpose's own data loader."""
        print("JPEG to crops of 256x192:", flush=True)
        dataset = self.dataset()
        for _ in range(self.rounds):
            card = self.work / "build/models/w32/model.json"
            found = self.worker("cut", "--card", card, *dataset)
            self.figures.add("crops ours persons/s", found["persons_per_s"], found)
            found = self.worker("mmpose_loader", "--config", W32, *dataset)
            self.figures.add("crops mmpose persons/s", found["persons_per_s"], found)

    def evaluations(self) -> None:
        """From JPEG files to AP with the flip test: ours, and mmpose's own."""
        dataset = self.dataset()
        weights = ("--weights", self.data.weights)
        plan: list[tuple[str, tuple[object, ...]]] = []
        for name, config, given, precisions in (
            ("small", self.data.config, weights, ("fp32", "bf16")),
            ("w32", W32, (), tuple(PRECISIONS)),
        ):
            for precision in precisions[:2]:
                plan.append(
                    (f"{name} {precision}", ("--engine", self.engine(f"{name}_{precision}")))
                )
            plan.append((f"{name} mmpose", ("--config", config, *given)))
            for precision in precisions[2:] or precisions[:1]:
                plan.append(
                    (f"{name} {precision}", ("--engine", self.engine(f"{name}_{precision}")))
                )
        print("evaluation, JPEG to AP, flip test:", flush=True)
        for name, arguments in plan:
            what = "mmpose" if name.endswith("mmpose") else "evaluation"
            crop = "256x192" if name.startswith("w32") else self.crops()[-1]
            crops = self.crops_file(crop)
            found = self.worker(what, *arguments, *dataset, "--crops", crops)
            self.figures.add(f"{name} evaluation persons/s", found["persons_per_s"], found)

    def memory(self) -> None:
        """Predict 100,000 crops with the sample's model; keep the largest resident memory."""
        print("memory of 100,000 crops:", flush=True)
        variant = "sample_bf16"
        card = json.loads((self.engine(variant) / "engine.json").read_bytes())
        height, width = card["model"]["crop"]["height"], card["model"]["crop"]["width"]
        crops, instances = self.work / "many.npy", self.work / "many.npz"
        with crops.open("wb") as file:
            shape = (MANY, height, width, 3)
            header: dict[str, Any] = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + MANY * height * width * 3)  # a hole: no disk is taken
        ones = np.ones((MANY, 4))
        crop_files.write_instances(
            instances,
            {
                **{"id": np.arange(MANY), "image_id": np.arange(MANY), "boxes_from": "gt"},
                **{"box": ones, "box_score": ones[:, 0], "center": ones[:, :2]},
                "scale": ones[:, :2],
            },
        )
        command = [
            *(sys.executable, STAGES / "predict_keypoints.py", "--flip", 0),
            *("--engine", self.engine(variant), "--crops", crops, "--instances", instances),
            *("--audit", self.work / "build/datasets/bench/audit.json"),
            *("--threads", self.machine.cores, "--output", self.work / "many_predicted.npz"),
        ]
        process = subprocess.Popen([str(part) for part in command])
        samples = []
        while process.poll() is None:
            with suppress(psutil.Error):  # it has ended
                samples.append(psutil.Process(process.pid).memory_info().rss)
            time.sleep(0.5)
        if process.returncode:
            raise StageError("predict_keypoints failed on 100,000 crops")
        for file_ in (crops, instances, self.work / "many_predicted.npz"):
            file_.unlink()
        # The first tenth is loading; behind it the memory must not grow.
        later = samples[len(samples) // 10 : -1]
        half = len(later) // 2
        growth = statistics.fmean(later[half:]) - statistics.fmean(later[:half])
        found = {"peak_bytes": max(samples), "growth_bytes": growth, "samples": samples}
        self.figures.add("100,000 crops: 2 GB / peak", MOST_BYTES / max(samples), found)

    def report(self) -> None:
        """Times `make report` in a fresh copy, and again when there is nothing to do."""
        print("make report:", flush=True)
        copy = self.work / "report"
        shutil.rmtree(copy, ignore_errors=True)
        subprocess.run(["git", "clone", "-q", str(ROOT), str(copy)], check=True)
        for limit, name in ((REPORT_SECONDS, "make report"), (AGAIN_SECONDS, "make report again")):
            start = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "snakemake", "--cores", str(self.machine.cores), "report"],
                cwd=copy, check=False, capture_output=True, text=True,
            )  # fmt: skip
            seconds = time.perf_counter() - start
            if done.returncode:
                raise StageError(f"{name}: failed in {copy}: {done.stderr.strip()[-500:]}")
            self.figures.add(f"{name}: {limit} s / seconds", limit / seconds, {"seconds": seconds})


def find_data(real: Path | None) -> Data:
    """Return what is evaluated: the real images if their folder is given, else the sample.

    Raises:
        StageError: the folder has no images.
    """
    if real:
        real = real.resolve()
        if not (real / "images/val2017").is_dir():
            raise StageError(
                f"{real}: there is no images/val2017 in it; --real and {REAL_DATA} name the folder "
                "that CONTRIBUTING.md describes"
            )
        annotations = real / "annotations"
        return Data(
            real=True,
            images=real / "images/val2017",
            annotations=annotations / "person_keypoints_val2017.json",
            calibration={
                "images": str(real / "images/train2017"),
                "annotations": str(annotations / "person_keypoints_train2017.json"),
            },
            config=str(real / "configs/lite-hrnet-tinypose_coco-256x192.py"),
            weights=real / "weights/lite-hrnet-tinypose_coco-256x192.pth",
        )
    drawn = Path("resources/datasets/sample")  # what draw_sample makes
    return Data(
        real=False,
        images=drawn / "val.zip",
        annotations=drawn / "val.json",
        calibration={
            "images": str(drawn / "train.zip"),
            "annotations": str(drawn / "train.json"),
        },
        config=SAMPLE["config"],
        weights=Path(SAMPLE["weights"]),
    )


if __name__ == "__main__":
    stage.run(parser(), main)
