"""Declare what int8 is calibrated on, and refuse images that are also evaluated.

    python workflow_scripts/check_calibration.py --annotations calibration_audit.npz \\
        --images train2017 --evaluated-annotations audit.npz --evaluated-images val2017.zip \\
        --output calibration.json
"""

import argparse
from pathlib import Path

from hrnetpose import stage
from hrnetpose.artifacts.calibration import CalibrationImage, CalibrationSet
from hrnetpose.data import overlap
from hrnetpose.data.annotations import Annotations, ground_truth
from hrnetpose.data.images import ImageStore


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument("--annotations", type=Path, required=True, help="of audit_dataset")
    command.add_argument("--images", type=Path, required=True, help="a folder or a zip")
    command.add_argument("--evaluated-annotations", type=Path, required=True, help="likewise")
    command.add_argument("--evaluated-images", type=Path, required=True, help="a folder or a zip")
    command.add_argument("--output", type=Path, required=True, help="the calibration set (JSON)")
    return command


def main(
    *,
    annotations: Path,
    images: Path,
    evaluated_annotations: Path,
    evaluated_images: Path,
    output: Path,
) -> None:
    """Run the stage."""
    calibration = ground_truth(Annotations.read(annotations))
    evaluated = ground_truth(Annotations.read(evaluated_annotations))
    digests = overlap.refuse(
        calibration, ImageStore(images), evaluated, ImageStore(evaluated_images)
    )
    CalibrationSet(
        images=[
            CalibrationImage(id=image.id, file_name=image.file_name, sha256=digest)
            for image, digest in zip(calibration, digests, strict=True)
        ],
        persons=sum(len(image.persons) for image in calibration),
        evaluated_images=len(evaluated),
    ).write(output)


if __name__ == "__main__":
    stage.run(parser(), main)
