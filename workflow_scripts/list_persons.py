"""List the persons of a dataset: the annotated boxes, or a detector's.

    python workflow_scripts/list_persons.py --annotations audit.npz --output persons.npz \\
        --summary persons.json
"""

import argparse
import logging
from pathlib import Path
from typing import Literal

from hrnetpose import stage
from hrnetpose.artifacts.detector import DetectorRun
from hrnetpose.artifacts.findings import Finding
from hrnetpose.artifacts.persons import PersonList
from hrnetpose.data import detections as detection_files
from hrnetpose.data.annotations import Annotations, ground_truth
from hrnetpose.data.persons import Persons


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument("--annotations", type=Path, required=True, help="of audit_dataset (.npz)")
    command.add_argument("--detections", type=Path, help="a detector's boxes instead of the true")
    command.add_argument("--detector", type=Path, help="of detect_persons: what it is (JSON)")
    command.add_argument("--minimum-score", type=float, default=0.0, help="of detected boxes")
    command.add_argument("--output", type=Path, required=True, help="the table (.npz)")
    command.add_argument("--summary", type=Path, required=True, help="what was found (JSON)")
    return command


def main(
    *,
    annotations: Path,
    detections: Path | None,
    detector: Path | None,
    minimum_score: float,
    output: Path,
    summary: Path,
) -> None:
    """Run the stage."""
    audited = Annotations.read(annotations)
    boxes: Literal["gt", "det"] = "det" if detections else "gt"
    findings: list[Finding] = []
    if detections:
        images, findings = detection_files.read(detections, audited, minimum_score)
        if detector:
            findings = [*describe(DetectorRun.read(detector)), *findings]
    else:
        images = ground_truth(audited)
    persons = Persons.of(images, boxes)
    logging.info("%d images, %d persons", len(persons.image_id), len(persons.id))
    for finding in findings:
        logging.warning("%s", finding.text)
    persons.write(output)
    PersonList(
        boxes=boxes, images=len(persons.image_id), persons=len(persons.id), findings=findings
    ).write(summary)


def describe(run: DetectorRun) -> list[Finding]:
    """Return what the label of a figure says of the detector whose boxes it was measured on."""
    if run.metrics and run.metrics.AP is not None:
        quality = f"AP of boxes {run.metrics.AP:.3f}"
        measured = f"{quality}, measured on the {run.annotated} annotated boxes"
    else:
        quality, measured = "AP of boxes unknown", "their AP is unknown: no box is annotated"
    size = f"{run.preprocessing.height}x{run.preprocessing.width}"
    found = [
        Finding(
            kind="detector",
            count=run.boxes,
            text=f"the {run.boxes} detected boxes are those of {run.detector} "
            f"({run.onnx_sha256[:8]}, {size}): {measured}",
            label=f"boxes of {run.detector}: {quality}",
            boxes="det",
        )
    ]
    if run.missing_images:
        text = f"{run.missing_images} images without annotated persons are missing"
        found.append(
            Finding(
                kind="not_detected_on",
                count=run.missing_images,
                text=f"{text}: the detector could find nobody there, and no false box",
                label=text,
                boxes="det",
            )
        )
    return found


if __name__ == "__main__":
    stage.run(parser(), main)
