"""One measurement of `make bench`, in a process of its own; prints a JSON object.

    python tools/bench/bench_worker.py sweep --engine build/bench/build/engines/bf16 \\
        --batches 1 8 --threads 2 --output sweep.json
    python tools/bench/bench_worker.py mmpose --config CONFIG --weights WEIGHTS \\
        --annotations person_keypoints_val2017.json --images val2017 --output mmpose.json

`engine` and `evaluation` are this project's, `mmpose` and `onnxruntime` are its peers.
"""

import argparse
import importlib.machinery
import inspect
import json
import sys
import time
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hrnetpose import engines, files, stage
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.batches import Crops, count_images, fill
from hrnetpose.data import coco, cutting
from hrnetpose.data import crops as crop_files
from hrnetpose.data.annotations import ground_truth
from hrnetpose.data.images import ImageStore
from hrnetpose.pose import predict
from hrnetpose.pose.score import Evaluator, Predictions
from hrnetpose.speed import host, limit, timing, validity
from hrnetpose.speed.monitor import Monitor

Found = dict[str, Any]
BATCHES = 4
"""Different batches that take turns."""


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument("what", choices=sorted(MEASUREMENTS), help="what is measured")
    command.add_argument("--engine", type=Path, help="the engine's folder")
    command.add_argument("--batches", type=int, nargs="+", default=[1], help="images per inference")
    command.add_argument("--streams", type=int, nargs="+", default=[1], help="requests at a time")
    command.add_argument("--graph", type=Path, help="the ONNX graph, with float input")
    command.add_argument("--card", type=Path, help="its model card")
    command.add_argument("--config", help="mmpose's config: a path, or a name of the package")
    command.add_argument("--weights", type=Path, help="the checkpoint; without it, seeded weights")
    command.add_argument("--annotations", type=Path, help="COCO keypoint annotations")
    command.add_argument("--images", type=Path, help="their images")
    command.add_argument("--flip", type=int, choices=[0, 1], default=1, help="flip test (mmpose)")
    command.add_argument("--crops", type=Path, help="uint8 crops (.npy)")
    command.add_argument("--seconds", type=float, default=4.0, help="of a timing")
    command.add_argument("--threads", type=int, default=host.cores(), help="CPU threads")
    command.add_argument("--output", type=Path, required=True, help="what was found (JSON)")
    return command


def main(*, what: str, output: Path, **given: Any) -> None:
    """Run the measurement with the flags that it has a keyword for."""
    measure = MEASUREMENTS[what]
    found = measure(**{name: given[name] for name in inspect.signature(measure).parameters})
    files.write_text(output, json.dumps(found) + "\n")


def full_batches(crops: Path, size: int) -> list[Crops]:
    """Read crops as batches that take turns."""
    return fill(np.asarray(crop_files.read(crops)), size, BATCHES)


def sweep(
    *,
    engine: Path,
    crops: Path,
    batches: list[int],
    streams: list[int],
    seconds: float,
    threads: int,
) -> Found:
    """Time an engine shortly at each batch and number of streams."""
    built = engines.read(engine)
    points = []
    for batch in batches:
        inputs = full_batches(crops, batch)
        for requests in streams:
            with built.open(threads, batch, requests) as opened:
                opened.infer(inputs[0])
                done = timing.throughput(
                    opened.stream, inputs, timing.Limits(seconds, 3), opened.requests
                )
            points.append({"batch": batch, "streams": requests, "fps": done.fps})
    return {"points": points}


def engine_throughput(
    *,
    engine: Path,
    crops: Path,
    batches: list[int],
    streams: list[int],
    seconds: float,
    threads: int,
) -> Found:
    """Time an engine at one batch and number of streams, and measure the limit."""
    built = engines.read(engine)
    card = built.card
    batch = batches[0]
    inputs = full_batches(crops, batch)
    with built.open(threads, batch, streams[0]) as opened:
        executed = opened.executed()
        timing.warm_up(opened.infer, inputs, seconds / 2)
        with Monitor(card.device) as watched:
            done = timing.throughput(
                opened.stream, inputs, timing.Limits(seconds, 8), opened.requests
            )
    precision = limit.precision_of(executed.layers, executed.precision)
    peaks = limit.measure(precision, card.device, threads)
    cache = host.describe().cache_bytes
    roofline = limit.roofline(card.model, precision, batch, cache, peaks, done.fps)
    return {
        "fps": done.fps,
        "spread": timing.throughput_spread(done.done),
        "executed": executed.precision,
        "limit_fps": roofline.limit_fps,
        "fraction": roofline.fraction,
        "peak_flops": roofline.peak_flops,
        "disturbances": validity.disturbances(watched.report),
    }


def engine_latency(*, engine: Path, crops: Path, seconds: float, threads: int) -> Found:
    """Time an engine at batch 1, one request at a time."""
    inputs = full_batches(crops, 1)
    with engines.read(engine).open(threads, 1, 1) as opened:
        return _latency(opened.infer, inputs, seconds)


def onnxruntime_latency(*, graph: Path, card: Path, crops: Path, seconds: float) -> Found:
    """Times ONNX Runtime as mmdeploy runs it: fp32, batch 1, float input, default options."""
    import onnxruntime

    from hrnetpose.graphs import onnx_graph

    model = ModelCard.read(card)
    inputs = [onnx_graph.normalised(batch, model) for batch in full_batches(crops, 1)]
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])

    def infer(images: Any) -> object:
        return session.run(None, {model.input.name: images})

    return _latency(infer, inputs, seconds)


def evaluate(*, engine: Path, crops: Path, annotations: Path, images: Path, threads: int) -> Found:
    """Evaluate an engine from JPEG files to AP with the flip test, as the workflow's stages do."""
    built = engines.read(engine)
    model = built.card.model
    with built.open(threads) as opened:
        warm = full_batches(crops, opened.batch)
        list(opened.stream(warm))
        with Monitor(built.card.device) as watched:
            start = time.perf_counter()
            truths = coco.read(annotations).reorder(model.keypoints.names)
            annotated = ground_truth(truths)
            boxes, centers, scales = cutting.geometry(annotated, model.crop)
            every = cutting.cut_all(annotated, ImageStore(images), model.crop, threads)
            persons = [person for image in annotated for person in image.persons]
            table = {
                "id": np.array([person.id for person in persons]),
                "image_id": np.array([person.image_id for person in persons]),
                "box": boxes,
                "box_score": np.ones(len(persons), np.float32),
                "scale": scales,
            }
            evaluator = Evaluator(truths, model.keypoints.oks_sigmas(), model.evaluation)
            first = 0
            cut = cutting.stack_batches(every, opened.batch)
            for plain, mirrored in predict.infer(opened.stream, cut, mirror=True):
                rows = slice(first, first + count_images(plain))
                positions, scores = predict.keypoints(
                    plain, mirrored, [1], model, centers[rows], scales[rows]
                )
                part = {name: column[rows] for name, column in table.items()}
                evaluator.process(Predictions.of(part, positions[0], scores[0]))
                first = rows.stop
            ap = evaluator.evaluate().metrics.AP
            seconds = time.perf_counter() - start
    return {
        "persons": len(persons),
        "seconds": seconds,
        "persons_per_s": len(persons) / seconds,
        "AP": ap,
        "disturbances": validity.disturbances(watched.report),
    }


def cut(*, card: Path, annotations: Path, images: Path, threads: int) -> Found:
    """Cut every annotated person out of the images, as the workflow's stages do."""
    crop = ModelCard.read(card).crop
    with Monitor() as watched:
        start = time.perf_counter()
        annotated = ground_truth(coco.read(annotations))
        persons = sum(1 for _ in cutting.cut_all(annotated, ImageStore(images), crop, threads))
        seconds = time.perf_counter() - start
    return {
        "persons": persons,
        "persons_per_s": persons / seconds,
        "disturbances": validity.disturbances(watched.report),
    }


def load_mmpose(*, config: str, annotations: Path, images: Path, threads: int) -> Found:
    """Go through mmpose's own data loader, whose pipeline reads images and cuts persons out.

    It has as many workers as there are threads.
    """
    _pycocotools_for_xtcocotools()
    from hrnetpose.models import mmpose as models

    read = models.read_config(config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        persons = 0
        for batch in _mmpose_loader(read, annotations, images, threads):
            persons += len(batch["inputs"])
        seconds = time.perf_counter() - start
    return {"persons": persons, "persons_per_s": persons / seconds}


def _mmpose_loader(config: Any, annotations: Path, images: Path, workers: int) -> Any:
    """Return mmpose's data loader of the images, with its own batches and pipeline."""
    import torch
    from mmengine.dataset import DefaultSampler, pseudo_collate
    from mmpose.registry import DATASETS

    description = {
        **config.val_dataloader.dataset,
        "data_root": "",
        "ann_file": str(annotations),
        "data_prefix": {"img": f"{images}/"},
        "bbox_file": None,
        "test_mode": True,
    }
    dataset = DATASETS.build(description)
    return torch.utils.data.DataLoader(
        dataset,
        batch_size=config.val_dataloader.batch_size,
        num_workers=workers,
        sampler=DefaultSampler(dataset, shuffle=False),
        collate_fn=pseudo_collate,
    )


def evaluate_mmpose(
    *, config: str, weights: Path | None, annotations: Path, images: Path, flip: int, threads: int
) -> Found:
    """Evaluate with mmpose's own dataset, pipeline, model, decoder and CocoMetric.

    Batch, workers and pipeline are the config's own.
    """
    _pycocotools_for_xtcocotools()
    from hrnetpose.models import mmpose as models

    read = models.read_config(config)
    import mmpose.evaluation  # noqa: F401  (registers CocoMetric)
    import torch
    from mmpose.registry import METRICS

    torch.set_num_threads(threads)
    read.model.test_cfg.flip_test = bool(flip)
    model = models.build_model(read, weights)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        loaded = _mmpose_loader(read, annotations, images, read.val_dataloader.num_workers)
        dataset = loaded.dataset
        metric = METRICS.build({"type": "CocoMetric", "ann_file": str(annotations)})
        metric.dataset_meta = dataset.metainfo
        for batch in loaded:
            found = model.test_step(batch)
            metric.process(batch, [sample.to_dict() for sample in found])
        metrics = metric.evaluate(len(dataset))
        seconds = time.perf_counter() - start
    return {
        "persons": len(dataset),
        "seconds": seconds,
        "persons_per_s": len(dataset) / seconds,
        "AP": metrics["coco/AP"],
        "metrics": metrics,
    }


def _pycocotools_for_xtcocotools() -> None:
    """Let mmpose find pycocotools under the name of its fork, whose wheels need an old numpy.

    The fork's COCOeval takes two more arguments, the OKS constants and whether areas count.
    """
    from pycocotools import mask
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    class Evaluation(COCOeval):
        def __init__(
            self, truth: Any, found: Any, kind: str, sigmas: Any = None, use_area: bool = True
        ) -> None:
            super().__init__(truth, found, kind)
            assert use_area
            if sigmas is not None:
                self.params.kpt_oks_sigmas = np.asarray(sigmas)

    contents = {
        "xtcocotools": {"mask": mask},
        "xtcocotools.mask": vars(mask),
        "xtcocotools.coco": {"COCO": COCO},
        "xtcocotools.cocoeval": {"COCOeval": Evaluation},
    }
    for name, content in contents.items():
        module = types.ModuleType(name)
        vars(module).update({k: v for k, v in content.items() if not k.startswith("__")})
        module.__path__ = []
        # mmpose's placeholders ask whether the package is installed.
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        sys.modules[name] = module


def _latency(infer: Callable[[Any], object], inputs: list[Any], seconds: float) -> Found:
    timing.warm_up(infer, inputs, seconds / 2)
    with Monitor() as watched:
        samples = timing.latency(infer, inputs, timing.Limits(seconds, 10))
    figures = timing.summarize(samples)
    return {
        "fps": len(samples) / sum(samples),
        "p50_ms": figures.p50,
        "p99_ms": figures.p99,
        "spread": timing.latency_spread(samples),
        "disturbances": validity.disturbances(watched.report),
    }


MEASUREMENTS: dict[str, Callable[..., Found]] = {
    "sweep": sweep,
    "throughput": engine_throughput,
    "latency": engine_latency,
    "onnxruntime": onnxruntime_latency,
    "evaluation": evaluate,
    "mmpose": evaluate_mmpose,
    "cut": cut,
    "mmpose_loader": load_mmpose,
}


if __name__ == "__main__":
    stage.run(parser(), main)
