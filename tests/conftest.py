"""Fixtures for all tests."""

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of this repository."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real(repository: Path) -> Path:
    """COCO images with annotations and a trained model, where they lie beside the repository."""
    folder = repository.parent / "shared" / "real"
    if not folder.is_dir():
        pytest.skip("there are no real images in ../shared/real")
    return folder
