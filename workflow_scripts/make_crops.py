"""Cut the persons of a dataset out of its images, once for all models of an input size.

    python workflow_scripts/make_crops.py --persons persons.npz --images val2017.zip \\
        --crop 256x192 --shard 1-of-4 --output crops.npy --instances instances.npz
"""

import argparse
import logging
import re
from pathlib import Path

from hrnetpose import stage
from hrnetpose.artifacts.model import Crop
from hrnetpose.data import cutting
from hrnetpose.data.images import ImageStore
from hrnetpose.data.persons import Persons


def parse_shard(text: str) -> tuple[int, int]:
    """Read `2-of-4` as (2, 4)."""
    match = re.fullmatch(r"([0-9]+)-of-([0-9]+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(text)
    return int(match[1]), int(match[2])


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument("--persons", type=Path, required=True, help="of list_persons (.npz)")
    command.add_argument("--images", type=Path, required=True, help="a folder or a zip")
    command.add_argument("--crop", type=Crop.parse, required=True, help="for example 256x192")
    command.add_argument("--shard", type=parse_shard, default=(1, 1), help="which part, as 2-of-4")
    command.add_argument("--first", type=int, help="stop after about so many persons")
    command.add_argument("--threads", type=int, default=1, help="images decoded at a time")
    command.add_argument("--output", type=Path, required=True, help="uint8 crops (.npy)")
    command.add_argument("--instances", type=Path, required=True, help="which crop is whose (.npz)")
    return command


def main(
    *,
    persons: Path,
    images: Path,
    crop: Crop,
    shard: tuple[int, int],
    first: int | None,
    threads: int,
    output: Path,
    instances: Path,
) -> None:
    """Run the stage."""
    table = Persons.read(persons)
    cut = table.first(first) if first else table.shard(*shard)
    logging.info("%d images, %d persons", len(cut), sum(len(image.persons) for image in cut))
    store = ImageStore(images)
    cutting.write(cut, table.boxes_from, store, crop, output, instances, threads)


if __name__ == "__main__":
    stage.run(parser(), main)
