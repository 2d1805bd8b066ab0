"""Audit a dataset: read its annotations once, check its images, and say what was found.

What it does not refuse and could change a figure is in `audit.json`, and so in the report.  Later
stages read the table of persons (.npz) instead of the annotations.

    python workflow_scripts/audit_dataset.py --annotations person_keypoints_val2017.json \\
        --images val2017.zip --output audit.npz --audit audit.json
"""

import argparse
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from hrnetpose import files, stage
from hrnetpose.artifacts.audit import Audit
from hrnetpose.artifacts.findings import Finding
from hrnetpose.data import coco
from hrnetpose.data.annotations import Annotations
from hrnetpose.data.images import ImageStore
from hrnetpose.stage import StageError


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument(
        "--annotations", type=Path, required=True, help="COCO keypoint annotations"
    )
    command.add_argument("--images", type=Path, required=True, help="a folder or a zip")
    command.add_argument("--keypoints", nargs="*", default=[], help="the model's, if known")
    command.add_argument("--category", help="the category to evaluate, by name")
    command.add_argument("--threads", type=int, default=1, help="images checked at a time")
    command.add_argument("--output", type=Path, required=True, help="the table of persons (.npz)")
    command.add_argument("--audit", type=Path, required=True, help="what was found (JSON)")
    return command


def main(
    *,
    annotations: Path,
    images: Path,
    keypoints: list[str],
    category: str | None,
    threads: int,
    output: Path,
    audit: Path,
) -> None:
    """Run the stage."""
    found = coco.read(annotations, keypoints, category)
    if found.ignored.all():
        raise StageError(f"{annotations}: no person with labelled keypoints to evaluate")
    findings = [*found.findings, *check_images(found, ImageStore(images), threads)]
    for finding in findings:
        logging.warning("%s", finding.text)
    found.write(output)
    describe(found, files.sha256(annotations), findings).write(audit)


def describe(annotations: Annotations, sha256: str, findings: list[Finding]) -> Audit:
    """Return what was found in a dataset.

    Args:
        annotations: its persons.
        sha256: hash of their file.
        findings: what the user should know.
    """
    return Audit(
        annotations_sha256=sha256,
        category=annotations.category_name,
        keypoints=annotations.names.tolist(),
        number_of_keypoints=annotations.keypoints.shape[1],
        images=len(annotations.image_ids),
        images_with_persons=len(np.unique(annotations.images)),
        persons=len(annotations.ids),
        evaluated=int(annotations.evaluated.sum()),
        findings=findings,
    )


def check_images(annotations: Annotations, store: ImageStore, threads: int) -> list[Finding]:
    """Check that images are there and, if they hold persons, whole and of the annotated size.

    Args:
        annotations: name the images.
        store: holds them.
        threads: images checked at a time.

    Returns:
        A finding, if there are missing images without persons.

    Raises:
        StageError: with the images with persons that are not as they should be.
    """
    with_persons = np.zeros(len(annotations.image_ids), bool)
    with_persons[annotations.images[annotations.evaluated]] = True

    def problem(index: int) -> str | None:
        name = str(annotations.file_names[index])
        try:
            if with_persons[index]:
                store.check(name, *annotations.sizes[index].tolist())
            else:
                store.find(name)
        except StageError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(threads) as pool:
        problems = list(pool.map(problem, range(len(with_persons))))
    broken = [p for p, needed in zip(problems, with_persons, strict=True) if p and needed]
    if broken:
        more = f"; {len(broken)} images in all are missing, damaged or of another size"
        raise StageError(
            f"{broken[0]}; {annotations.source} lists it{more if len(broken) > 1 else ''}",
            broken[1:],
        )
    missing = [p for p in problems if p]
    text = f"{len(missing)} images without annotated persons are missing (first: {missing[:1]})"
    return [Finding(kind="images", count=len(missing), text=text)] if missing else []


if __name__ == "__main__":
    stage.run(parser(), main)
