"""Measure what all variants on a machine share: its peaks, and decoding and cutting out.

Run it alone on the machine, as the benchmarks: what is disturbed is measured again, and left out if
it stays so.

    python workflow_scripts/measure_machine.py --device cpu --persons persons.npz \\
        --images val.zip --crop 128x96 --threads 2 --output build/machine/cpu_128x96.json
"""

import argparse
from pathlib import Path
from typing import Literal

from hrnetpose import stage
from hrnetpose.artifacts.engine import Device
from hrnetpose.artifacts.model import Crop
from hrnetpose.benchmark import MIDDLE, PERSONS, Benchmark
from hrnetpose.data.images import ImageStore
from hrnetpose.data.persons import Persons
from hrnetpose.speed import host, machine
from hrnetpose.speed.patience import Patience
from hrnetpose.stage import StageError


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    defaults = Benchmark()
    command = stage.command(__doc__)
    command.add_argument("--device", choices=["cpu", "gpu"], default="cpu", help="of the engines")
    command.add_argument("--persons", type=Path, required=True, help="of list_persons (.npz)")
    command.add_argument("--images", type=Path, required=True, help="a folder or a zip")
    command.add_argument("--crop", type=Crop.parse, required=True, help="for example 256x192")
    command.add_argument(
        "--min-seconds", type=float, default=defaults.min_seconds, help="of a benchmark"
    )
    command.add_argument(
        "--patience", type=float, default=defaults.patience, help="seconds for repetitions in all"
    )
    command.add_argument("--threads", type=int, default=1, help="CPU threads, at most those there")
    command.add_argument("--output", type=Path, required=True, help="the figures (JSON)")
    return command


def main(
    *,
    device: Literal["cpu", "gpu"],
    persons: Path,
    images: Path,
    crop: Crop,
    min_seconds: float,
    patience: float,
    threads: int,
    output: Path,
) -> None:
    """Run the stage."""
    first = Persons.read(persons).first(PERSONS)
    if not any(image.persons for image in first):
        raise StageError(f"{persons}: holds no persons; a benchmark needs at least one")
    runs_on = Device(kind=device)
    machine.measure(
        runs_on,
        min(threads, host.cores()),
        first,
        ImageStore(images),
        crop,
        min_seconds * MIDDLE,
        Patience.of(patience, min_seconds, runs_on),
    ).write(output)


if __name__ == "__main__":
    stage.run(parser(), main)
