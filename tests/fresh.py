"""Bundles at home: unpacked, in an environment that has what they ask for and nothing else."""

import json
import os
import subprocess
import sys
import time
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import json, sys
from pathlib import Path
import cv2
import numpy as np

folder, images, names, predictions, *flags = sys.argv[1:]
sys.path.insert(0, folder)
from pose import Pose

table = np.load(predictions, allow_pickle=False)
names = json.loads(names)
worst, surely, persons = {}, {}, len(table["id"])
for number, flip in enumerate(table["flip"].tolist()):
    apart, scored = [], []
    with Pose(folder, flip=bool(flip), portable="portable" in flags) as pose:
        for image_id in np.unique(table["image_id"]).tolist():
            rows = table["image_id"] == image_id
            image = cv2.imread(str(Path(images) / names[str(image_id)]))
            keypoints, scores = pose(image, table["box"][rows])
            apart.append(np.abs(keypoints - table["keypoints"][number, rows]).max())
            scored.append(np.abs(scores - table["scores"][number, rows]).max())
    worst[str(flip)], surely[str(flip)] = float(max(apart)), float(max(scored))
others = sorted({name.partition(".")[0] for name in sys.modules} & {"hrnetpose", "torch", "mmpose"})
print(json.dumps({"px": worst, "score": surely, "persons": persons, "others": others}))
"""


class Home:
    """An environment for bundles.

    Attributes:
        python: its interpreter.
        seconds: what making it took.
    """

    def __init__(self, folder: Path, requirements: Path) -> None:
        start = time.perf_counter()
        made = subprocess.run(
            [sys.executable, "-m", "venv", folder], capture_output=True, text=True, check=False
        )
        self.python = folder / "bin" / "python"
        if made.returncode:
            pytest.skip(f"no environment can be made here: {made.stdout}{made.stderr}")
        install = ["-m", "pip", "install", "--quiet", "--only-binary=:all:", "-r", requirements]
        done = self.run(*install)
        if done.returncode:
            pytest.skip(f"pip cannot install what the bundle asks for: {done.stderr[-300:]}")
        self.seconds = time.perf_counter() - start

    def run(self, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run its Python, which sees nothing of this project."""
        hidden = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")
        surroundings = {name: value for name, value in os.environ.items() if name not in hidden}
        return subprocess.run(
            [self.python, *map(str, arguments)],
            cwd=cwd, capture_output=True, text=True, check=False, env=surroundings,
        )  # fmt: skip

    def compare(
        self, bundle: Path, images: Path, annotations: Path, predictions: Path, *flags: str
    ) -> Any:
        """Return how far the keypoints of all persons are from the pipeline's predictions."""
        listed = json.loads(annotations.read_text(encoding="utf-8"))["images"]
        names = json.dumps({image["id"]: image["file_name"] for image in listed})
        done = self.run("-c", PROGRAM, bundle, images, names, predictions, *flags)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])


@cache
def home(folder: Path, requirements: str) -> Home:
    """Return the environment of a requirements.txt, made once."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "requirements.txt"
    file.write_text(requirements, encoding="utf-8")
    return Home(folder / "venv", file)


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a zip and return the folder that is in it."""
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    return folder / archive.stem
