"""Download calibration images one by one, from the `coco_url` that their annotations give.

    python workflow_scripts/fetch_calibration.py --pool person_keypoints_train2017.json \\
        --count 200 --archive images.zip --annotations annotations.json --manifest manifest.json
"""

import argparse
from pathlib import Path

from hrnetpose import stage
from hrnetpose.fetching import calibration
from hrnetpose.fetching.transfer import RetryPolicy


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument("--pool", type=Path, required=True, help="annotations to choose from")
    command.add_argument("--count", type=int, required=True, help="how many images")
    command.add_argument("--identity", default="", help="what the manifest calls the pool")
    command.add_argument("--archive", type=Path, required=True, help="the zip for the images")
    command.add_argument(
        "--annotations", type=Path, required=True, help="the annotations of the images"
    )
    command.add_argument("--manifest", type=Path, required=True, help="their list, with hashes")
    RetryPolicy.add_options(command)
    return command


def main(
    *,
    pool: Path,
    count: int,
    identity: str,
    archive: Path,
    annotations: Path,
    manifest: Path,
    attempts: int,
    timeout: float,
    backoff: float,
) -> None:
    """Run the stage."""
    policy = RetryPolicy(attempts, timeout, backoff)
    calibration.fetch_images(pool, count, identity, archive, annotations, manifest, policy)


if __name__ == "__main__":
    stage.run(parser(), main)
