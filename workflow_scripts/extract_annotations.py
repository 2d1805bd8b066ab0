"""Take one file out of a zip.

    python workflow_scripts/extract_annotations.py --archive annotations_trainval2017.zip \\
        --member annotations/person_keypoints_val2017.json --output person_keypoints_val2017.json
"""

import argparse
from pathlib import Path

from hrnetpose import archives, stage


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument("--archive", type=Path, required=True, help="the zip")
    command.add_argument("--member", required=True, help="the file's name in it")
    command.add_argument("--output", type=Path, required=True, help="where the file goes")
    return command


def main(*, archive: Path, member: str, output: Path) -> None:
    """Run the stage."""
    archives.extract(archive, member, output)


if __name__ == "__main__":
    stage.run(parser(), main)
