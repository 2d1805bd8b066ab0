"""The audit of a dataset: its annotations, its images, and what a user of figures should know."""

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from hrnetpose import files
from hrnetpose.artifacts.audit import Audit
from hrnetpose.artifacts.findings import Finding
from hrnetpose.data import coco
from hrnetpose.data.annotations import Annotations
from hrnetpose.data.images import ImageStore
from hrnetpose.stage import StageError


def run(
    annotations: Path, images: Path, keypoints: list[str], category: str | None, threads: int = 1
) -> tuple[Annotations, Audit]:
    """Read annotations, check their images, and log what was found.

    Args:
        annotations: COCO keypoint annotations.
        images: a folder or a zip.
        keypoints: the model's, none if they are not known.
        category: the one to evaluate, by name; None for the one with the model's keypoints.
        threads: images checked at a time.

    Raises:
        StageError: no right figure could be measured with them.
    """
    found = coco.read(annotations, keypoints, category)
    labelled = (found.keypoints[..., 2] > 0).any(axis=1)
    if not (labelled & ~found.ignored).any():
        raise StageError(f"{annotations}: no person with labelled keypoints to evaluate")
    findings = [*found.findings, *check_images(found, ImageStore(images), threads)]
    for finding in findings:
        logging.warning("%s", finding.text)
    return found, describe(found, files.sha256(annotations), findings)


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
