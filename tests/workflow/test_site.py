"""The site of the documents is built without a warning, and leads to every page of docs/."""

import subprocess
import sys
from pathlib import Path

import pytest

from support import Project

pytestmark = pytest.mark.slow


def test_the_site_is_built_without_a_warning(repository: Path, tmp_path: Path) -> None:
    project = Project.copied(repository, tmp_path / "project")

    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet",
         "docs", "build/site"],
        cwd=project.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    site = project.folder / "build/site"
    front = (site / "index.html").read_text(encoding="utf-8")
    for page in (project.folder / "docs").glob("*.md"):
        assert (site / f"{page.stem}.html").is_file()
        assert f'href="{page.stem}.html"' in front or page.stem == "index"
    for part in ("How to", "Reference", "Explanation"):
        assert part in front
    library = site / "api/hrnetpose.data.crops.html"
    assert "uint8" in library.read_text(encoding="utf-8")
    assert (site / "_images/stages.svg").is_file()
