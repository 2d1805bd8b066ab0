"""Declare what int8 is calibrated on, and refuse images that are also evaluated.

Images are the same if they have the same id or the same encoded bytes.

    python workflow_scripts/check_calibration.py --annotations person_keypoints_train2017.json \\
        --images train2017 --evaluated-annotations person_keypoints_val2017.json \\
        --evaluated-images val2017.zip --output calibration.json
"""

import argparse
from pathlib import Path

from hrnetpose import stage
from hrnetpose.artifacts import CalibrationImage, CalibrationSet
from hrnetpose.data import coco, overlap
from hrnetpose.data.images import ImageStore


def parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    command = stage.command(__doc__)
    command.add_argument("--annotations", type=Path, required=True, help="those of the calibration")
    command.add_argument("--images", type=Path, required=True, help="a folder or a zip")
    command.add_argument("--evaluated-annotations", type=Path, required=True, help="of the dataset")
    command.add_argument("--evaluated-images", type=Path, required=True, help="a folder or a zip")
    command.add_argument("--output", type=Path, required=True, help="the calibration set (JSON)")
    return command


def main(args: argparse.Namespace) -> None:
    """Runs the stage."""
    images = coco.ground_truth(coco.read(args.annotations), args.annotations)
    evaluated = coco.ground_truth(coco.read(args.evaluated_annotations), args.evaluated_annotations)
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
