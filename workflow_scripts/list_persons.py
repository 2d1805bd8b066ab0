"""List the persons of a dataset: the annotated boxes, or a detector's.

Annotations are read and checked once; the jobs that cut the persons out read only this table.

    python workflow_scripts/list_persons.py --annotations person_keypoints_val2017.json \\
        --output persons.npz
"""

import argparse
import logging
from pathlib import Path

from hrnetpose import stage
from hrnetpose.data import coco
from hrnetpose.data.persons import Persons


def parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    command = stage.command(__doc__)
    command.add_argument(
        "--annotations", type=Path, required=True, help="COCO keypoint annotations"
    )
    command.add_argument("--detections", type=Path, help="a detector's boxes instead of the true")
    command.add_argument("--minimum-score", type=float, default=0.0, help="of detected boxes")
    command.add_argument("--output", type=Path, required=True, help="the table (.npz)")
    return command


def main(args: argparse.Namespace) -> None:
    """Runs the stage."""
    annotations = coco.read(args.annotations)
    if args.detections:
        images = coco.detections(args.detections, annotations, args.minimum_score)
    else:
        images = coco.ground_truth(annotations, args.annotations)
    persons = Persons.of(images, "det" if args.detections else "gt")
    logging.info("%d images, %d persons", len(persons.image_id), len(persons.id))
    persons.write(args.output)


if __name__ == "__main__":
    stage.run(parser(), main)
