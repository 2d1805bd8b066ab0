"""Find the persons on a dataset's images with a detector's ONNX, for `boxes: det`.

Writes their boxes in COCO's result format, and what the detector is; where the annotations have
boxes of persons, with COCO's figures of boxes.

    python workflow_scripts/detect_persons.py --onnx rtmdet-nano.onnx \\
        --card '{"layout": "rtmdet", "input": "320x320"}' --annotations audit.npz \\
        --truths person_keypoints_val2017.json --images val2017.zip \\
        --output detections.json --summary detector.json
"""

import argparse
import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from hrnetpose import files, stage
from hrnetpose.artifacts.detector import DetectorRun
from hrnetpose.data.annotations import Annotations
from hrnetpose.data.images import ImageStore
from hrnetpose.detection import card as cards
from hrnetpose.detection import evaluation
from hrnetpose.detection.boxes import Pixels
from hrnetpose.detection.model import Detector
from hrnetpose.detector import DetectorCard
from hrnetpose.environment import installed_versions
from hrnetpose.stage import StageError


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument("--onnx", type=Path, required=True, help="the detector")
    command.add_argument(
        "--card",
        type=stage.Json(DetectorCard),
        default=DetectorCard(),
        help="JSON: what the graph does not say",
    )
    command.add_argument("--pipeline", type=Path, help="mmdeploy's pipeline.json of the export")
    command.add_argument("--annotations", type=Path, required=True, help="of audit_dataset (.npz)")
    command.add_argument("--truths", type=Path, required=True, help="the annotations (JSON)")
    command.add_argument("--images", type=Path, required=True, help="a folder or a zip")
    command.add_argument("--threads", type=int, default=1, help="of the CPU")
    command.add_argument("--output", type=Path, required=True, help="the boxes (JSON)")
    command.add_argument("--summary", type=Path, required=True, help="what they are (JSON)")
    return command


def main(
    *,
    onnx: Path,
    card: DetectorCard,
    pipeline: Path | None,
    annotations: Path,
    truths: Path,
    images: Path,
    threads: int,
    output: Path,
    summary: Path,
) -> None:
    """Run the stage."""
    detector = Detector(onnx, cards.complete(card, pipeline), threads)
    audited, store = Annotations.read(annotations), ImageStore(images)
    is_there = find_images(audited, store)
    found = list(detect(detector, audited, np.flatnonzero(is_there), store))
    logging.info("%d images, %d boxes of persons", is_there.sum(), len(found))
    if not found:
        raise StageError(
            f"{onnx}: found nobody on {is_there.sum()} images; compare `detector.card` (mean, std, "
            "channel_order, person, decoded) with what the detector was trained with"
        )
    annotated = evaluation.read_truths(truths, audited)
    metrics = None
    if annotated.count:
        metrics, printed = evaluation.evaluate(annotated, found)
        logging.info("%s", printed)
    files.write_text(output, json.dumps(found) + "\n")
    DetectorRun(
        detector=onnx.name,
        onnx_sha256=files.sha256(onnx),
        preprocessing=detector.how,
        output=detector.output,
        person=card.person,
        score=detector.score,
        nms=detector.nms,
        images=int(is_there.sum()),
        missing_images=int((~is_there).sum()),
        boxes=len(found),
        annotated=annotated.count,
        metrics=metrics,
        versions={
            name: version or "" for name, version in installed_versions("onnxruntime").items()
        },
    ).write(summary)


def find_images(audited: Annotations, store: ImageStore) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which images are there: the audit lets those without persons be missing."""
    found = np.ones(len(audited.image_ids), bool)
    for index, name in enumerate(audited.file_names):
        try:
            store.find(str(name))
        except StageError as error:
            logging.warning("%s", error)
            found[index] = False
    return found


def detect(
    detector: Detector, audited: Annotations, chosen: Any, store: ImageStore
) -> Iterator[dict[str, Any]]:
    """Yield the boxes on images, by number, in COCO's result format.

    The next image is decoded while the detector is at work.
    """

    def decode(index: int) -> Pixels:
        size = audited.sizes[index].tolist()
        return store.decode(str(audited.file_names[index]), *size)

    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(decode, index) for index in chosen[:1]]
        for place, index in enumerate(chosen):
            image = waiting.pop().result()
            waiting = [pool.submit(decode, after) for after in chosen[place + 1 : place + 2]]
            boxes = detector.detect(image)
            for (left, top, right, bottom), score in zip(
                boxes.corners.tolist(), boxes.scores.tolist(), strict=True
            ):
                yield {
                    "image_id": int(audited.image_ids[index]),
                    "category_id": int(audited.category),
                    "bbox": [round(value, 3) for value in (left, top, right - left, bottom - top)],
                    "score": round(score, 6),
                }


if __name__ == "__main__":
    stage.run(parser(), main)
