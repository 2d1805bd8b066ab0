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
    """Returns the command line."""
    command = stage.command(__doc__)
    command.add_argument("--annotations", type=Path, required=True, help="of audit_dataset")
    command.add_argument("--images", type=Path, required=True, help="a folder or a zip")
    command.add_argument("--evaluated-annotations", type=Path, required=True, help="likewise")
    command.add_argument("--evaluated-images", type=Path, required=True, help="a folder or a zip")
    command.add_argument("--output", type=Path, required=True, help="the calibration set (JSON)")
    return command


def main(args: argparse.Namespace) -> None:
    """Runs the stage."""
    images = ground_truth(Annotations.read(args.annotations))
    evaluated = ground_truth(Annotations.read(args.evaluated_annotations))
    digests = overlap.refuse(
        images, ImageStore(args.images), evaluated, ImageStore(args.evaluated_images)
    )
    CalibrationSet(
        images=[
            CalibrationImage(id=image.id, file_name=image.file_name, sha256=digest)
            for image, digest in zip(images, digests, strict=True)
        ],
        persons=sum(len(image.persons) for image in images),
        evaluated_images=len(evaluated),
    ).write(args.output)


if __name__ == "__main__":
    stage.run(parser(), main)
