"""Draw a split of the embedded sample: people with COCO keypoints, the same ones every time.

    python workflow_scripts/draw_sample.py --split val --images 100 --archive val.zip \\
        --annotations val.json
"""

import argparse
from pathlib import Path

from hrnetpose import stage
from hrnetpose.sample.images import SPLITS
from hrnetpose.sample.split import write_split


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument("--split", choices=SPLITS, required=True)
    command.add_argument("--images", type=int, required=True, help="how many to draw")
    command.add_argument("--archive", type=Path, required=True, help="a zip of JPEG files")
    command.add_argument("--annotations", type=Path, required=True, help="COCO annotations")
    return command


def main(*, split: str, images: int, archive: Path, annotations: Path) -> None:
    """Run the stage."""
    write_split(split, images, archive, annotations)


if __name__ == "__main__":
    stage.run(parser(), main)
