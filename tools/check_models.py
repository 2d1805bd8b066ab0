"""Classify mmpose's configs, and compare one exported model of each kind with mmpose.

First every config of the mmpose package is read and either taken or refused, without building its
model.  Then one config for each backbone, head, codec and decoder that is taken is exported with
seeded weights, and ONNX Runtime's outputs are compared with PyTorch's.  What has been done is in
`--output`, and the same command goes on from there.

    python tools/check_models.py --output build/mmpose_models.json
"""

import argparse
import json
import logging
import re
import subprocess
import sys
import tempfile
import textwrap
from collections import Counter
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from hrnetpose import files, stage
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.graphs import onnx_graph
from hrnetpose.models import config_file, keys, mmpose, settings
from hrnetpose.models.export import Network
from hrnetpose.models.static import find_package
from hrnetpose.stage import StageError

TOLERANCE = 1e-5
"""Largest relative error of an output: additions in another order round differently."""
EXPORT = Path(__file__).parent.parent / "workflow_scripts" / "export_onnx.py"

log = logging.getLogger(__name__)


def list_configs() -> list[Path]:
    """Return the configs of the mmpose package, without those that are parts of others."""
    root = find_package("mmpose") / ".mim" / "configs"
    return sorted(path for path in root.rglob("*.py") if "_base_" not in path.parts)


def classify(path: Path) -> dict[str, str]:
    """Return what becomes of a config: its kind if it is taken, else the reason.

    `planned` is what a plan says, which runs nothing of the config.
    """
    found = {"planned": "taken"}
    try:
        config_file.check(path)
    except StageError as error:
        found["planned"] = _shorten(error)
    try:
        config = mmpose.read_config(str(path))
    except StageError as error:
        return {**found, "refused": _shorten(error)}
    codec = settings.read_codec(config)
    parts = [keys.short(config.model[part].type) for part in ("backbone", "head")]
    return {**found, "kind": " + ".join([*parts, codec.type, codec.label])}


def _shorten(error: StageError) -> str:
    """Return the reason without the path of the config, and not the whole of a trace."""
    reason = re.sub(r"^(export_onnx: error: )?\S+\.py: ", "", str(error))
    return textwrap.shorten(reason, 300, placeholder=" ...")


def choose(classes: dict[str, dict[str, str]]) -> dict[str, str]:
    """Return one config for each kind, the first in the order of the numbers in their names."""
    chosen: dict[str, str] = {}
    for name in sorted(classes, key=_natural):
        if kind := classes[name].get("kind"):
            chosen.setdefault(kind, name)
    return dict(sorted(chosen.items()))


def _natural(name: str) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", Path(name).stem)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def compare(config: Path) -> float:
    """Export a config's model with seeded weights; return the largest relative error of its ONNX.

    Raises:
        StageError: it cannot be exported.
    """
    with tempfile.TemporaryDirectory() as folder:
        graph, card = Path(folder, "model.onnx"), Path(folder, "model.json")
        command = [
            sys.executable, EXPORT, "--name", "seeded", "--config", config,
            "--crop", str(config_file.read_crop(config)), "--output", graph, "--card", card,
        ]  # fmt: skip
        ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        if ended.returncode:
            lines = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
            raise StageError(lines[-1])
        images = onnx_graph.fixed_inputs(ModelCard.read(card))
        network = Network(mmpose.build_model(mmpose.read_config(str(config)), None))
        with torch.inference_mode():
            expected = [values.numpy() for values in network(torch.from_numpy(images))]
        return onnx_graph.largest_error(onnx_graph.run(graph, images), expected)


def read(path: Path) -> dict[str, Any]:
    """Return what was done before with the same packages."""
    versions = {name: version(name) for name in ("mmpose", "torch", "onnx", "onnxruntime")}
    done: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    if done.get("versions") != versions:
        done = {"versions": versions, "configs": {}, "errors": {}}
    return done


def write(path: Path, done: dict[str, Any]) -> None:
    """Write what has been done so far."""
    files.write_text(path, json.dumps(done, indent=1) + "\n")


def print_tables(done: dict[str, Any], chosen: dict[str, str]) -> None:
    """Print how many configs are refused for which reason, and the comparison of the others."""
    reasons = Counter(
        re.sub(r"(?<=is )('[^']*'(?= \()|\[.*)", "...", found["refused"])
        for found in done["configs"].values()
        if "refused" in found
    )
    taken = sum("kind" in found for found in done["configs"].values())
    rows: Iterable[Any] = [(taken, "taken"), *((n, text) for text, n in reasons.most_common())]
    print(tabulate(rows, ["configs", "what becomes of them"], tablefmt="github"), end="\n\n")
    rows = [
        (kind, Path(name).stem, _describe(done["errors"].get(name, "to be done")))
        for kind, name in chosen.items()
    ]
    header = ["kind", "config", "relative error"]
    print(tabulate(rows, header, tablefmt="github", disable_numparse=True))


def _describe(error: float | str) -> str:
    return error if isinstance(error, str) else f"{error:.0e}"


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument("--output", type=Path, required=True, help="what is done so far (JSON)")
    command.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    return command


def main(*, output: Path, threads: int) -> None:
    """Classify, export and compare from the command line."""
    torch.set_num_threads(threads)
    done = read(output)
    root = find_package("mmpose") / ".mim" / "configs"
    for path in list_configs():
        name = str(path.relative_to(root))
        if name not in done["configs"]:
            done["configs"][name] = classify(path)
    write(output, done)
    chosen = choose(done["configs"])
    for kind, name in chosen.items():
        if name in done["errors"]:
            continue
        try:
            done["errors"][name] = compare(root / name)
        except StageError as error:
            done["errors"][name] = _shorten(error)
        log.info("%s: %s: %s", kind, name, done["errors"][name])
        write(output, done)
    print_tables(done, chosen)
    wrong = [name for name, error in done["errors"].items() if not _is_close(error)]
    if wrong:
        raise StageError(f"{len(wrong)} of {len(chosen)} models differ: {', '.join(wrong)}")


def _is_close(error: float | str) -> bool:
    return isinstance(error, float) and error <= TOLERANCE


if __name__ == "__main__":
    stage.run(parser(), main)
