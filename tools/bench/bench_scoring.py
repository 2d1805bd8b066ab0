"""Time the scoring of many predicted persons: NMS, COCO's evaluation and the bootstrap interval.

The persons are drawn: as many images and annotated persons as COCO val2017 has, and as many
predictions as asked for.  Each size is scored twice by the stage itself, in a process of its own,
once with a reference to compare with.

    python tools/bench/bench_scoring.py --boxes 1000 10000 104125
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from hrnetpose import files, stage
from hrnetpose.artifacts.engine import ENGINE_CARD, Device, EngineCard, ExecutedPrecision
from hrnetpose.artifacts.model import Crop, HeatmapCodec, Keypoints, MmposeOrigin, ModelCard, Tensor
from hrnetpose.artifacts.persons import PersonList
from hrnetpose.data import coco
from hrnetpose.data.audit import describe
from hrnetpose.stage import StageError

IMAGES = 5000
PERSONS = 6352
"""Those of val2017 with labelled keypoints."""
KEYPOINTS = 17
SIZE = (640, 480)
NONE = "0" * 64
STAGES = Path(__file__).resolve().parents[2] / "workflow_scripts"


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument(
        "--boxes", type=int, nargs="+", default=[1000, 10_000, 104_125], help="how many predictions"
    )
    command.add_argument("--nms", choices=["hard", "soft"], default="hard", help="OKS NMS")
    return command


def main(*, boxes: list[int], nms: str) -> None:
    """Run the benchmark."""
    print("predictions  scored s  per 1000 s  with interval s  peak MB")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        annotations = write_annotations(folder)
        for name in ("reference", "variant"):
            card(name).write(folder / name / ENGINE_CARD)
        for count in boxes:
            for seed, name in enumerate(("reference", "variant")):
                write_predictions(folder / f"{name}.npz", annotations, count, seed)
            alone, peak = scored(folder, nms, [])
            both, peak_of_both = scored(
                folder, nms, ["--reference", "reference", folder / "reference.npz"]
            )
            print(
                f"{count:11d}  {alone:8.1f}  {1000 * alone / count:10.3f}  {both:15.1f}"
                f"  {max(peak, peak_of_both) / 1e6:7.0f}",
                flush=True,
            )


def scored(folder: Path, nms: str, reference: list[object]) -> tuple[float, float]:
    """Run the stage; return its seconds and the most memory that it held, in bytes."""
    command: list[object] = [
        sys.executable, STAGES / "score_accuracy.py",
        "--annotations", folder / "audit.npz", "--audit", folder / "audit.json",
        "--persons", folder / "persons.json", "--engine", folder / "variant",
        "--dataset", "drawn", "--nms", nms, "--predictions", folder / "variant.npz", *reference,
        "--output", folder / "accuracy.json", "--log", folder / "log",
    ]  # fmt: skip
    start = time.perf_counter()
    with subprocess.Popen([str(part) for part in command]) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise StageError(f"score_accuracy.py: exit code {process.returncode}; see above")
    return time.perf_counter() - start, usage.ru_maxrss * 1024.0


def write_annotations(folder: Path) -> list[dict[str, Any]]:
    """Write annotated persons as the audit does, and return them as COCO has them."""
    generator = np.random.default_rng(0)
    persons = []
    for number in range(PERSONS):
        height = generator.uniform(60, 400)
        corner = generator.uniform(0, 200, 2)
        box = [*corner.tolist(), height / 2, height]
        points = corner + generator.uniform(0, 1, (KEYPOINTS, 2)) * [height / 2, height]
        visible = generator.choice([0, 2], KEYPOINTS, p=[0.3, 0.7])
        visible[0] = 2
        persons.append(
            {
                "id": number + 1,
                "image_id": int(generator.integers(IMAGES)),
                "category_id": 1,
                "iscrowd": 0,
                "num_keypoints": int((visible > 0).sum()),
                "keypoints": np.column_stack([points, visible]).ravel().tolist(),
                "bbox": box,
                "area": 0.53 * box[2] * box[3],
            }
        )
    images = [
        {"id": number, "file_name": f"{number}.jpg", "width": SIZE[0], "height": SIZE[1]}
        for number in range(IMAGES)
    ]
    categories = [{"id": 1, "name": "person"}]
    content = {"images": images, "annotations": persons, "categories": categories}
    found = coco.parse(content, folder / "annotations.json")
    found.write(folder / "audit.npz")
    describe(found, NONE, []).write(folder / "audit.json")
    PersonList(boxes="det", images=IMAGES, persons=PERSONS, findings=[]).write(
        folder / "persons.json"
    )
    return persons


def write_predictions(path: Path, persons: list[dict[str, Any]], count: int, seed: int) -> None:
    """Write predictions near annotated persons, many for each, as a detector's boxes are.

    Another seed gives other keypoints for the same boxes.
    """
    rows = np.random.default_rng(count).integers(len(persons), size=count)
    generator = np.random.default_rng(seed)
    points = np.array([person["keypoints"] for person in persons]).reshape(-1, KEYPOINTS, 3)
    boxes = np.array([person["bbox"] for person in persons])[rows]
    noise = generator.exponential(0.05, (count, 1, 1)) * boxes[:, None, 3:]
    keypoints = points[rows, :, :2] + noise * generator.normal(size=(count, KEYPOINTS, 2))
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    columns: dict[str, Any] = {
        "id": np.arange(count),
        "image_id": np.array([person["image_id"] for person in persons])[rows],
        "box": corners.astype(np.float32),
        "box_score": generator.random(count).astype(np.float32),
        "scale": (1.25 * boxes[:, 2:]).astype(np.float32),
        "keypoints": keypoints[None].astype(np.float32),
        "scores": generator.random((1, count, KEYPOINTS)).astype(np.float32),
        "flip": np.array([0]),
        "boxes_from": np.array("det"),
    }
    with files.atomic_path(path) as temporary:
        np.savez(temporary, **columns)


def card(variant: str) -> EngineCard:
    """Return the card of an engine that exists on paper only."""
    model = ModelCard(
        name="drawn", origin=MmposeOrigin(config="drawn", weights_sha256=NONE), architecture="none",
        onnx_sha256=NONE,
        opset=17, input=Tensor(name="input", shape=[1, 3, 256, 192], dtype="float32"),
        outputs=[Tensor(name="heatmaps", shape=[1, KEYPOINTS, 64, 48], dtype="float32")],
        channel_order="RGB", mean=[0.0] * 3, std=[1.0] * 3, crop=Crop(height=256, width=192),
        codec=HeatmapCodec(type="MSRAHeatmap", sigma=2.0), flip_shift=True,
        keypoints=Keypoints(
            names=[str(number) for number in range(KEYPOINTS)],
            flip_indices=list(range(KEYPOINTS)), sigmas=[0.07] * KEYPOINTS, skeleton=[],
        ),
        parameters=0, macs=0, versions={},
    )  # fmt: skip
    return EngineCard(
        variant=variant, backend="drawn", device=Device(kind="cpu"), requested="fp32",
        executed=ExecutedPrecision(precision="fp32", layers={}), batch=1, options={}, sha256=NONE,
        bytes=0, graph_sha256=None, build_seconds=0.0, versions={}, model=model,
    )  # fmt: skip


if __name__ == "__main__":
    stage.run(parser(), main)
