"""Small damages of what people write: each is taken, or refused in one line that they can act on.

A line names the file or the key.  It shows no exception of Python's or of a library's, no escape
code and no traceback.  Damages come from fixed seeds.
"""

import copy
import json
import math
import random
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from hrnetpose import config_text, plan, stage
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.config import ConfigError
from hrnetpose.models import config_file
from hrnetpose.resolve import resolve
from hrnetpose.sample.keypoints import KEYPOINTS
from hrnetpose.sample.split import write_split
from hrnetpose.stage import StageError
from planner import Planner
from support import TINY_CONFIG, Project

FEW, MANY = (0, 100), (100, 1000)
"""Numbers of damages: the first, and one behind the last."""
THROUGH_SNAKEMAKE = 30
FOREIGN = re.compile(
    r"Traceback|\b(?!Workflow|Config|Stage)[A-Z]\w*(Error|Exception|Interrupt)\b|\x1b|pydantic"
    r"|Cyclic|<class|object at 0x"
)
"""What no message shows."""
VALUES: list[Any] = [
    None, True, 0, -1, 1.5, math.nan, math.inf, -math.inf, 10**30, 2**63, "", " ", "x", "~/x",
    "$X/x", "C:\\data\\x", "a\nb", "näme ☃", "\u202ereversed", "x" * 5000, "\x1b[31mred", [],
    {}, [[]], [None], {"x": {}}, [1, "a"], "nan", "1",
]  # fmt: skip
NAMES = ["", " ", "x", "0", "näme", "x" * 300, "a/b", "a b", "../x", "{x}", "a\nb", "_delete_"]


# --- damages --------------------------------------------------------------------------------------


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each value of a document as its parent and its key there."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from places(tree[key])


def damage_tree(tree: Any, chance: random.Random) -> Any:
    """Delete, replaces, renames, swaps or move one value, seldom two."""
    tree = copy.deepcopy(tree)
    for _ in range(chance.choice([1, 1, 1, 2])):
        parent, key = chance.choice(list(places(tree)) or [(None, None)])
        match chance.randrange(6):
            case _ if parent is None:
                return tree
            case 0:
                del parent[key]
            case 1 if isinstance(parent, dict):
                parent[chance.choice(NAMES)] = parent.pop(key)
            case 2:
                other = chance.choice(
                    list(parent) if isinstance(parent, dict) else range(len(parent))
                )
                parent[key], parent[other] = parent[other], parent[key]
            case 3:
                parent[key] = chance.choice([[parent[key]], {"x": parent[key]}, str(parent[key])])
            case _:
                parent[key] = copy.deepcopy(chance.choice(VALUES))
    return tree


def damage_text(text: bytes, chance: random.Random) -> bytes:
    """Cut a file off, or change characters as an editor, a copy or a server does."""
    place = chance.randrange(max(len(text), 1))
    return chance.choice([
        text[:place],
        text[:place] + text[place + 1 :],
        text[:place] + b"\t" + text[place:],
        text[:place] + "“".encode() + text[place:],
        text.decode().encode("utf-16"),
        text[:place] + b"\xff" + text[place:],
        text[:place] + b"\x00" + text[place:],
        b"",
        b"<!DOCTYPE html><html>404</html>",
        text.replace(b"\n", b"\r"),
        text + text[:place],
    ])  # fmt: skip


def as_yaml(tree: Any) -> bytes:
    return yaml.safe_dump(tree, allow_unicode=True, sort_keys=False).encode("utf-8", "replace")


def as_json(tree: Any) -> bytes:
    return json.dumps(tree).encode()


def as_python(tree: Any) -> bytes:
    """Write a dictionary as a config of mmengine's: one assignment for each key."""
    lines = [f"{key} = {value!r}" for key, value in tree.items()] if isinstance(tree, dict) else []
    numbers = "from math import inf, nan\n" if any("nan" in x or "inf" in x for x in lines) else ""
    return (numbers + "\n".join(lines) + "\n").encode("utf-8", "replace")


def python_values(text: str) -> Any:
    names = _python(text)
    # Nothing is shared: what is damaged once is wrong in one place.
    return copy.deepcopy(json.loads(json.dumps(names)))


# --- what is damaged, and who reads it ------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        file: what is damaged, in the folder of whole files.
        write: makes the file from a document.
        read: reads the folder.
        share: how many of a hundred damages are of this kind.
        names: what a message may name in place of the file: expressions.
    """

    file: str
    write: Callable[[Any], bytes]
    read: Callable[[Path], object]
    share: int
    names: tuple[str, ...] = ()


def plan_it(folder: Path) -> None:
    """What the Snakefile does before it knows its rules, and what it does then."""
    config_text.check(folder / "config.yaml")
    raw = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    run = resolve(config_text.locate(raw, folder), "openvino")
    run.resources.to_fetch()
    run.resources.calibration_to_fetch()
    plan.notes(run)
    plan.check_given(run, lambda path: path.startswith("resources/datasets/sample/"))
    for variant in run.variants.values():
        assert variant.options_json
        assert variant.benchmark_crops
    assert json.dumps([run.limits, run.published, run.needed])


def look_at_config(folder: Path) -> None:
    path = folder / "model.py"
    config_file.check(path)
    config_file.read_crop(path)
    config_file.list_files(path)
    config_file.read_keypoint_names(path)


def run(script: str, *arguments: object) -> None:
    import importlib

    module = importlib.import_module(script)
    module.main(**vars(module.parser().parse_args([str(argument) for argument in arguments])))


def export(folder: Path) -> None:
    run("export_onnx", "--name", "damaged", "--config", folder / "model.py",
        "--weights", folder / "model.pth", "--crop", "64x32", "--output", folder / "model.onnx",
        "--card", folder / "model.json")  # fmt: skip
    ModelCard.read(folder / "model.json")


def audit(folder: Path) -> None:
    run("audit_dataset", "--annotations", folder / "val.json", "--images", folder / "val.zip",
        "--keypoints", *KEYPOINTS, "--output", folder / "audit.npz",
        "--audit", folder / "audit.json")  # fmt: skip


def list_detections(folder: Path) -> None:
    run("list_persons", "--annotations", folder / "audit.npz", "--detections",
        folder / "boxes.json", "--minimum-score", 0.1, "--output", folder / "persons.npz",
        "--summary", folder / "persons.json")  # fmt: skip


KINDS = {
    "configuration": Kind("config.yaml", as_yaml, plan_it, 50, (r"^\S.*: ",)),
    "model's config, planned": Kind("model.py", as_python, look_at_config, 25),
    "metainfo, planned": Kind("points.py", as_python, look_at_config, 25, (r"model\.py",)),
    "model's config, exported": Kind("model.py", as_python, export, 25),
    "metainfo, exported": Kind("points.py", as_python, export, 25, (r"model\.py",)),
    "checkpoint": Kind("model.pth", lambda tree: b"", export, 25),
    "annotations": Kind("val.json", as_json, audit, 25),
    "detections": Kind("boxes.json", as_json, list_detections, 25),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """A folder with one whole file of each kind."""
    import torch

    from hrnetpose.models import mmpose

    folder = tmp_path_factory.mktemp("whole")
    points = config_file.find("td-hm_hrnet-w32_8xb64-210e_coco-256x192").parents[3]
    text = (points / "_base_/datasets/coco.py").read_text()
    (folder / "points.py").write_bytes(as_python(_metainfo(text)))
    values = python_values(TINY_CONFIG)
    values["val_dataloader"]["dataset"]["metainfo"] = {"from_file": str(folder / "points.py")}
    (folder / "model.py").write_bytes(as_python(values))
    network = mmpose.build_model(mmpose.read_config(str(folder / "model.py")), None)
    torch.save({"meta": {"epoch": 1}, "state_dict": network.state_dict()}, folder / "model.pth")
    write_split("val", 3, folder / "val.zip", folder / "val.json")
    boxes = [
        {"image_id": entry["image_id"], "category_id": 1, "bbox": entry["bbox"], "score": 0.9}
        for entry in json.loads((folder / "val.json").read_text())["annotations"]
    ]
    (folder / "boxes.json").write_text(json.dumps(boxes))
    audit(folder)
    raw = yaml.safe_load((repository / "config.yaml").read_text(encoding="utf-8"))
    raw["models"]["sample"] = {
        "config": str(folder / "model.py"), "weights": [str(folder / "model.pth")], "sha256": None,
        "published": {"AP": 0.7, "protocol": "gt", "dataset": "sample", "source": "a paper"},
    }  # fmt: skip
    raw["datasets"]["sample"]["detections"] = {"source": str(folder / "boxes.json"), "size": 5}
    raw["protocols"] = {"boxes": ["gt", "det"], "flip": [True], "nms": "hard"}
    raw["variants"]["ort"] = {
        "backend": "onnxruntime", "precision": "fp32", "options": {"threads": 1}, "batch": 2,
        "model": "sample", "limits": {"fps": 1.0},
    }  # fmt: skip
    (folder / "config.yaml").write_bytes(as_yaml(raw))
    return folder


def _metainfo(text: str) -> dict[str, Any]:
    """The metainfo as Python has it: JSON would turn numbers that are keys into text."""
    return {"dataset_info": _python(text)["dataset_info"]}


def damage(kind: Kind, whole: Path, folder: Path, chance: random.Random) -> None:
    """Write a damaged file."""
    content = (whole / kind.file).read_bytes()
    if kind.file.endswith(".pth"):
        (folder / kind.file).write_bytes(damage_checkpoint(content, chance))
    elif chance.random() < 0.2:
        (folder / kind.file).write_bytes(damage_text(content, chance))
    else:
        read = {".json": json.loads, ".yaml": yaml.safe_load}.get(Path(kind.file).suffix)
        tree = read(content) if read else _python(content.decode())
        (folder / kind.file).write_bytes(kind.write(damage_tree(tree, chance)))


def _python(text: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(text, names)
    del names["__builtins__"]
    return names


def damage_checkpoint(content: bytes, chance: random.Random) -> bytes:
    """Change the names, shapes, types and wrapping of tensors, or the file."""
    import io

    import torch

    if chance.random() < 0.3:
        place = chance.randrange(len(content))
        changed = content[:place] + b"\xff" + content[place + 1 :]
        return chance.choice([b"", content[:place], changed, b"<html></html>", content[place:]])
    whole = torch.load(io.BytesIO(content), weights_only=True)
    state = dict(whole["state_dict"])
    name, other = chance.sample(sorted(state), 2)
    match chance.randrange(8):
        case 0:
            del state[name]
        case 1:
            state[chance.choice(NAMES)] = state.pop(name)
        case 2:
            state[name], state[other] = state[other], state[name]
        case 3:
            state[name] = chance.choice([None, 3, "x", [], {}])
        case 4:
            state[name] = torch.full(state[name].shape, math.nan)
        case 5:
            state[name] = state[name].reshape(-1)[:1]
        case 6:
            state[name] = state[name].to(torch.complex64)
        case _:
            odd: list[Any] = [{}, None, [], 3, "x"]
            state = chance.choice(odd)
    output = io.BytesIO()
    torch.save({**whole, "state_dict": state}, output)
    return output.getvalue()


def finding(kind: Kind, folder: Path, whole: Path) -> str:
    """Read a damaged folder; return what is wrong with the message, nothing if all is well."""
    try:
        kind.read(folder)
    except (StageError, ConfigError) as error:
        text = str(error)
        names = [re.escape(kind.file), *kind.names]
        if "\n" in text or not text.isprintable():
            return f"not one line that can be printed: {text!r}"
        if found := FOREIGN.search(text):
            return f"shows {found[0]!r}: {text}"
        if not any(re.search(name, text) for name in names):
            return f"names neither file nor key: {text}"
        if len(text) > 1000:
            return f"{len(text)} characters: {text[:200]}"
    except Exception as error:
        return f"is shown as: {stage.describe(error)}"
    return ""


@pytest.mark.parametrize(
    "numbers", [pytest.param(FEW, id="few"), pytest.param(MANY, id="many", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", KINDS)
def test_a_damage_is_taken_or_told_in_one_line(
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    numbers: tuple[int, int],
) -> None:
    monkeypatch.chdir(tmp_path)
    kind = KINDS[name]
    folder = tmp_path / "damaged"
    shutil.copytree(whole, folder)
    for file in ("model.py", "config.yaml"):
        text = (folder / file).read_text().replace(str(whole), str(folder))
        (folder / file).write_text(text)
    source = tmp_path / "source"
    shutil.copytree(folder, source)
    findings = []
    for number in range(*(edge * kind.share // 100 for edge in numbers)):
        damage(kind, source, folder, random.Random(f"{name} {number}"))
        if found := finding(kind, folder, whole):
            findings.append(f"damage {number} {found}"[:500])
    assert not findings, f"{len(findings)} of them:\n" + "\n".join(findings)


def test_through_snakemake_itself(repository: Path, tmp_path: Path) -> None:
    project = Project.copied(repository, tmp_path / "project")
    kinds = {"config.yaml": as_yaml, "resources/sample/hrnet_sample_128x96.py": as_python}
    whole = {file: (project.folder / file).read_bytes() for file in kinds}
    findings = []
    with Planner(tmp_path) as planner:
        for number in range(THROUGH_SNAKEMAKE):
            chance = random.Random(number)
            file = chance.choice(list(kinds))
            kind = Kind(file, kinds[file], lambda _: None, 0)
            (project.folder / file).write_bytes(whole[file])
            damage(kind, project.folder, project.folder, chance)
            status, printed = planner.snakemake(
                project.folder, "--dry-run", "--quiet", "--", "report"
            )
            (project.folder / file).write_bytes(whole[file])
            said = [line for line in printed.splitlines() if line.startswith("configuration: ")]
            if FOREIGN.search(printed) or len(said) != (1 if status else 0):
                findings.append(f"damage {number} of {file}: {status}: {printed[-600:]}")
    assert not findings, "\n".join(findings)
