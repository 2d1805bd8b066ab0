"""Fetch a file from the first mirror that works, and check its SHA-256.

    python workflow_scripts/fetch_file.py --source https://.../weights.pth --sha256 c78dce93 \\
        --output resources/weights/hrnet_w32.pth
"""

import argparse
from pathlib import Path

from hrnetpose import stage
from hrnetpose.fetching import fetch
from hrnetpose.fetching.transfer import RetryPolicy


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument(
        "--source", nargs="*", default=[], help="URLs (http, https, file) or paths, tried in order"
    )
    command.add_argument("--sha256", default="", help="the whole hash or its first digits")
    command.add_argument("--size", type=int, help="the length in bytes")
    command.add_argument("--output", type=Path, required=True, help="where the file goes")
    command.add_argument("--otherwise", default="", help="what to do without it, for the message")
    RetryPolicy.add_options(command)
    return command


def main(
    *,
    source: list[str],
    sha256: str,
    size: int | None,
    output: Path,
    otherwise: str,
    attempts: int,
    timeout: float,
    backoff: float,
) -> None:
    """Run the stage."""
    policy = RetryPolicy(attempts, timeout, backoff)
    fetch.fetch(source, output, sha256, size, policy, otherwise=otherwise)


if __name__ == "__main__":
    stage.run(parser(), main)
