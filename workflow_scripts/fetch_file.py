"""Fetch a file from a URL, or copy it from a path, and check its SHA-256.

    python workflow_scripts/fetch_file.py --source https://.../weights.pth --sha256 c78dce93 \\
        --output resources/weights/hrnet_w32.pth
"""

import argparse
from pathlib import Path

from hrnetpose import stage
from hrnetpose.data import fetch


def parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    command = stage.command(__doc__)
    command.add_argument("--source", required=True, help="a URL or a path")
    command.add_argument("--sha256", default="", help="the whole hash or its first digits")
    command.add_argument("--output", type=Path, required=True, help="where the file goes")
    return command


def main(args: argparse.Namespace) -> None:
    """Runs the stage."""
    fetch.fetch(args.source, args.output, args.sha256)


if __name__ == "__main__":
    stage.run(parser(), main)
