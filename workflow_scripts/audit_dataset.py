"""Audit a dataset: read its annotations once, check its images, and say what was found.

What it does not refuse and could change a figure is in `audit.json`, and so in the report.  Later
stages read the table of persons (.npz) instead of the annotations.

    python workflow_scripts/audit_dataset.py --annotations person_keypoints_val2017.json \\
        --images val2017.zip --output audit.npz --audit audit.json
"""

import argparse
from pathlib import Path

from hrnetpose import stage
from hrnetpose.data import audit as audits


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
    table, found = audits.run(annotations, images, keypoints, category, threads)
    table.write(output)
    found.write(audit)


if __name__ == "__main__":
    stage.run(parser(), main)
