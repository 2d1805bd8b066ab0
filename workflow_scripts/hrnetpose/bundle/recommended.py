"""Print the bundles of the variants that a report recommends, as `make bundle` makes them.

python -m hrnetpose.bundle.recommended results
"""

import argparse
from pathlib import Path

from hrnetpose import stage
from hrnetpose.artifacts.verdicts import Verdicts
from hrnetpose.stage import StageError


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument("results", type=Path, help="the folder of the report")
    return command


def main(*, results: Path) -> None:
    """Print the paths.

    Raises:
        StageError: nothing is recommended.
    """
    found = Verdicts.read(results / "verdicts.json").recommendations
    if reasons := [one.text for one in found if one.variant is None]:
        raise StageError(
            f"{' '.join(reasons)} Bundle one by its name: snakemake --cores 4 "
            f"{results}/bundles/VARIANT.zip"
        )
    for one in found:
        print(results / "bundles" / f"{one.variant}.zip")


if __name__ == "__main__":
    stage.run(parser(), main)
