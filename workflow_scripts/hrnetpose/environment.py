"""The Python that stages run in, and what is the same in all processes of a run."""

import os
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path


def prefer_own_python() -> None:
    """Make `python` in stage commands the one that runs Snakemake.

    A conda environment that a rule asks for comes before it, since it is activated later.
    """
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


def decide_auto(resolve: Callable[[str], str]) -> str:
    """Return the backend that `auto` stands for, also on nodes with other devices.

    The first process decides, or who has set POSE_BACKEND_AUTO; those that it starts inherit it.
    """
    if "POSE_BACKEND_AUTO" not in os.environ:
        os.environ["POSE_BACKEND_AUTO"] = resolve("auto")
    return os.environ["POSE_BACKEND_AUTO"]


def installed_versions(*packages: str) -> dict[str, str | None]:
    """Return the versions of packages, None for one that is not installed."""
    return {package: _version(package) for package in packages}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
