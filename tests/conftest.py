"""Fixtures for all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from server import Server

settings.register_profile(
    "repeatable",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")

# Before PyTorch is imported: beside other workers its threads wait for each other most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Others may read what tests write for them, whatever the umask of who runs them.
os.umask(0o022)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of this repository."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real() -> Path:
    """COCO images with annotations and a trained model, in the folder that POSE_REAL_DATA names."""
    name = os.environ.get("POSE_REAL_DATA")
    if not name:
        pytest.skip("POSE_REAL_DATA is not set (CONTRIBUTING.md)")
    folder = Path(name).resolve()
    assert folder.is_dir(), f"POSE_REAL_DATA: {name!r} is no folder"
    return folder


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """An HTTP server on this machine, which no proxy of the environment stands before."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with Server() as server:
        yield server
