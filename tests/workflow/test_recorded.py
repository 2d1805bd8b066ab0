"""Files that only running a config shows: the export records them, the next plan looks at them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from planner import Planner
from support import TINY_CONFIG, Project

TARGET = "build/models/tiny/model.json"
COMPUTED = """
_base_ = ["tiny.py"]
import json
import os
custom_imports = dict(imports=["helpers"])
points = json.load(open(os.path.join("given", "".join(["po", "ints.json"]))))
"""


@pytest.fixture
def planner(tmp_path: Path) -> Iterator[Planner]:
    with Planner(tmp_path) as started:
        yield started


def test_a_computed_file_is_followed(
    repository: Path, planner: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project.copied(repository, tmp_path / "project")
    given = project.folder / "given"
    given.mkdir()
    (given / "tiny.py").write_text(TINY_CONFIG)
    (given / "model.py").write_text(COMPUTED)
    (given / "points.json").write_text("[1]")
    (given / "helpers.py").write_text("import inner\n")
    (given / "inner.py").write_text("x = 1\n")
    model = {"config": "given/model.py", "weights": None}
    overlay = project.overlay({"model": "tiny", "models": {"tiny": model}})
    monkeypatch.setenv("PYTHONPATH", str(given))
    arguments = ("--configfile", overlay, "--", TARGET)

    def planned() -> set[str]:
        return {job.rule for job in planner.jobs(project.folder, *arguments, path=[given])}

    project.succeed(*arguments)
    recorded = project.json(TARGET)["origin"]["files"]
    assert {"given/points.json", "given/helpers.py", "given/inner.py"} <= set(recorded)
    assert planned() == set()
    (given / "points.json").write_text("[2]")
    assert planned() == {"export_onnx"}
    project.succeed(*arguments)
    assert planned() == set()
    (given / "inner.py").write_text("x = 2\n")
    assert planned() == {"export_onnx"}
    (given / "inner.py").write_text("x = 1\n")
    for path in given.glob("*.*"):
        path.touch()
    assert planned() == set()
