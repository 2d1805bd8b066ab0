"""Hostile input: damaged and malicious files of every kind that is read.

Whatever is in a file, the stage that reads it either takes it or says in one line, with the file's
name, what is wrong; it never shows a traceback, hangs, crashes or leaves half an output.

Cases come from fixed seeds.  They run in forks of this process, so that a crash inside a compiled
library is a finding too, and under an alarm, so that a hang is one.
"""

import copy
import importlib
import json
import math
import os
import pickle
import random
import re
import resource
import shutil
import signal
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from hrnetpose import stage
from hrnetpose.artifacts.model import Crop, HeatmapCodec, Keypoints, MmposeOrigin, ModelCard, Tensor
from hrnetpose.config import ConfigError
from hrnetpose.graphs import metadata, onnx_graph
from hrnetpose.models import config_file
from hrnetpose.resolve import resolve
from hrnetpose.sample.keypoints import KEYPOINTS
from hrnetpose.sample.split import write_split
from hrnetpose.stage import StageError
from support import TINY_CONFIG

SECONDS = 120
"""What a case may take; all are much faster."""
MEMORY = 8 << 30
"""Address space of a fork: who believes a header that promises terabytes is found out."""
CHUNK = 25

HOSTILE: list[Any] = [
    None, True, False, 0, -1, 1, 0.5, -1e308, 1e308, math.nan, math.inf, 2**31, 2**63, -(2**70),
    10**400, "", " ", "x", "x" * 5000, "\x00", "../../etc/passwd", "/etc/passwd", "${HOME}",
    "a\nb", "\ud7ff", [], [[]], [None], [0] * 3, [1e400], [10**400], {}, {"": None}, {"id": 1},
]  # fmt: skip


# --- damage ---------------------------------------------------------------------------------------


def damaged_bytes(content: bytes, chance: random.Random) -> bytes:
    """Cut, flips, repeats or replaces a part of a file."""
    data = bytearray(content)
    place = chance.randrange(max(len(data), 1))
    match chance.randrange(8):
        case 0:
            return bytes(data[:place])
        case 1:
            for _ in range(chance.choice([1, 3, 30])):
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        case 2:
            data[place : place + chance.choice([1, 4, 100])] = b""
        case 3:
            data[place:place] = bytes(chance.randrange(256) for _ in range(chance.choice([1, 8])))
        case 4:
            data[place : place + 16] = b"\xff" * 16
        case 5:
            data[place : place + 64] = b"\x00" * 64
        case 6:
            return chance.choice(
                [b"", b"\x00", b"\xef\xbb\xbf" + content, b"<html>404</html>", b"\x80\x04N.",
                 pickle.dumps(Malice()), b"PK\x05\x06" + b"\x00" * 18, b"[" * 100_000, b"{}"]
            )  # fmt: skip
        case _:
            data += data[place:]
    return bytes(data)


class Malice:
    """Unpickled, it writes a file: nothing may ever do that."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("unpickled",)


def damaged_tree(tree: Any, chance: random.Random) -> Any:
    """Replaces, deletes or repeats some values of a JSON or YAML document."""
    tree = copy.deepcopy(tree)
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        places = list(_places(tree))
        if not places:
            break
        # Every depth gets its share, however many leaves there are.
        depth = chance.choice(sorted({depth for _, _, depth in places}))
        parent, key, _ = chance.choice([place for place in places if place[2] == depth])
        action = chance.randrange(4)
        if action == 0:
            del parent[key]
        elif action == 1 and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[key]))
        elif action == 2 and isinstance(parent, dict):
            parent[chance.choice(["", "x", "id", "0"])] = parent.pop(key)
        else:
            parent[key] = copy.deepcopy(chance.choice(HOSTILE))
    return tree


def _places(tree: Any, depth: int = 0) -> Iterator[tuple[Any, Any, int]]:
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if _is_list(tree) else []
    for key in keys:
        yield tree, key, depth
        yield from _places(tree[key], depth + 1)


def _is_list(tree: Any) -> bool:
    return isinstance(tree, list)


def damaged_json(content: bytes, chance: random.Random) -> bytes:
    if chance.random() < 0.25:
        return damaged_bytes(content, chance)
    return json.dumps(damaged_tree(json.loads(content), chance)).encode()


def damaged_arrays(content: bytes, chance: random.Random) -> bytes:
    """Change an .npz: its bytes, or its arrays' types, shapes and values."""
    if chance.random() < 0.5:
        return damaged_bytes(content, chance)
    import io

    with np.load(io.BytesIO(content)) as arrays:
        table = dict(arrays)
    name = chance.choice(sorted(table))
    array = table[name]
    match chance.randrange(7):
        case 0:
            del table[name]
        case 1:
            table[name] = array[: len(array) // 2] if array.ndim else np.zeros(3)
        case 2:
            table[name] = array.astype(str)
        case 3:
            table[name] = np.full(array.shape, np.nan)
        case 4:
            table[name] = array[None]
        case 5:
            table[name] = np.full(array.shape, 2**40)
        case _:
            table[name] = np.zeros(0)
    output = io.BytesIO()
    np.savez(output, **table)
    return output.getvalue()


def damaged_onnx(content: bytes, chance: random.Random) -> bytes:
    """Change a graph: its bytes, or its nodes, names, shapes and attributes."""
    if chance.random() < 0.4:
        return damaged_bytes(content, chance)
    model = onnx.load_from_string(content)
    graph = model.graph
    node = chance.choice(graph.node)
    match chance.randrange(10):
        case 0:
            node.op_type = chance.choice(["", "Loop", "If", "Nonsense", "Reshape"])
        case 1:
            node.input[0] = chance.choice(["", "nobody", node.output[0]])
        case 2:
            del graph.node[:]
        case 3:
            del graph.output[:]
        case 4:
            del graph.input[:]
        case 5:
            graph.initializer[0].dims[0] = chance.choice([0, -1, 2**40, 7])
        case 6:
            graph.input[0].type.tensor_type.elem_type = chance.choice([0, 7, 99])
        case 7:
            for attribute in node.attribute:
                if attribute.ints:
                    attribute.ints[0] = chance.choice([-1, 0, 2**40])
        case 8:
            tensor = graph.initializer[0]
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="../../../etc/passwd")
            tensor.ClearField("raw_data")
        case _:
            model.opset_import[0].version = chance.choice([0, 1, 999])
    return model.SerializeToString()


def damaged_zip(content: bytes, chance: random.Random) -> bytes:
    """Change a zip of images: its bytes, or a member's."""
    if chance.random() < 0.5:
        return damaged_bytes(content, chance)
    import io

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = chance.choice(sorted(members))
    members[name] = damaged_bytes(members[name], chance)
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    return output.getvalue()


def damaged_checkpoint(content: bytes, chance: random.Random) -> bytes:
    """Change a checkpoint: its bytes, or the program in it, which no checksum guards then."""
    import io

    if chance.random() < 0.3:
        return damaged_bytes(content, chance)
    output = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as whole, zipfile.ZipFile(output, "w") as damaged:
        for name in whole.namelist():
            data = whole.read(name)
            damaged.writestr(
                name, damaged_bytes(data, chance) if name.endswith("data.pkl") else data
            )
    return output.getvalue()


def damaged_old_checkpoint(content: bytes, chance: random.Random) -> bytes:
    """Change a checkpoint in the format without a zip, mostly at its front, the program."""
    if chance.random() < 0.3:
        return damaged_bytes(content, chance)
    return damaged_bytes(content[:20_000], chance) + content[20_000:]


# --- the files and who reads them -----------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """A kind of file.

    Attributes:
        file: what is damaged, in the folder of whole files.
        damage: how.
        cases: how many.
        read: reads the damaged folder; what it writes goes below `out`.
        names: what an error may name instead of the file itself.
    """

    file: str
    damage: Callable[[bytes, random.Random], bytes]
    cases: int
    read: Callable[[Path], object]
    names: tuple[str, ...] = ()


def run(script: str, *arguments: object) -> None:
    module = importlib.import_module(script)
    module.main(**vars(module.parser().parse_args([str(argument) for argument in arguments])))


def audit(folder: Path) -> None:
    run("audit_dataset", "--annotations", folder / "val.json", "--images", folder / "val.zip",
        "--output", folder / "out/audit.npz", "--audit", folder / "out/audit.json")  # fmt: skip


def list_persons(folder: Path, *more: object) -> None:
    run("list_persons", "--annotations", folder / "audit.npz", *more, "--output",
        folder / "out/persons.npz", "--summary", folder / "out/persons.json")  # fmt: skip


def list_detections(folder: Path) -> None:
    list_persons(folder, "--detections", folder / "boxes.json", "--minimum-score", 0.1)


def make_crops(folder: Path) -> None:
    run("make_crops", "--persons", folder / "persons.npz", "--images", folder / "val.zip",
        "--crop", "64x32", "--output", folder / "out/crops.npy", "--instances",
        folder / "out/instances.npz")  # fmt: skip


def simplify(folder: Path) -> None:
    run("simplify_onnx", "--model", folder / "model.onnx", "--card", folder / "model.json",
        "--output", folder / "out/simplified.onnx",
        "--summary", folder / "out/simplified.json")  # fmt: skip


def import_onnx(source: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        card = {"mean": [0, 0, 0], "std": [255, 255, 255], "channel_order": "RGB",
                "codec": {"type": "MSRAHeatmap"}, "keypoints": "coco"}  # fmt: skip
        run("import_onnx", "--name", "mine", "--onnx", folder / source, "--crop", "64x32",
            "--given", json.dumps({} if source == "described.onnx" else card),
            "--output", folder / "out/imported.onnx",
            "--card", folder / "out/imported.json")  # fmt: skip

    return read


def damaged_metadata(content: bytes, chance: random.Random) -> bytes:
    """Damage the card that an ONNX file has in its metadata."""
    model = onnx.ModelProto.FromString(content)
    for entry in model.metadata_props:
        if entry.key == "model_card":
            entry.value = damaged_json(entry.value.encode(), chance).decode("utf-8", "replace")
    return model.SerializeToString()


def build_engine(folder: Path) -> None:
    run("build_engine", "--variant", "ort", "--backend", "onnxruntime", "--precision", "fp32",
        "--graph", folder / "model.onnx", "--card", folder / "model.json", "--batch", 4,
        "--output", folder / "out/engine")  # fmt: skip


def predict(folder: Path) -> None:
    run("predict_keypoints", "--engine", folder / "engine", "--audit", folder / "audit.json",
        "--crops", folder / "crops.npy",
        "--instances", folder / "instances.npz", "--output", folder / "out/p.npz")  # fmt: skip


def score(folder: Path) -> None:
    run("score_accuracy", "--annotations", folder / "audit.npz", "--audit", folder / "audit.json",
        "--persons", folder / "persons.json", "--engine", folder / "engine",
        "--dataset", "few", "--predictions", folder / "predictions.npz", "--output",
        folder / "out/accuracy.json")  # fmt: skip


def gate(folder: Path) -> None:
    run("check_gate", "--limits", '{"ort": {"ap_drop": 0.01}}', "--accuracy",
        folder / "accuracy.json", "--perf", folder / "perf.json", "--parity",
        folder / "parity.json", "--output", folder / "out/gate.txt")  # fmt: skip


def parity(folder: Path) -> None:
    run("measure_parity", "--reference", folder / "reference.npz", "--card", folder / "model.json",
        "--onnx", folder / "model.onnx", "--engine", folder / "engine", "--output",
        folder / "out/parity.json")  # fmt: skip


def checkpoint(name: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        from hrnetpose.models import mmpose

        mmpose.build_model(mmpose.read_config(str(folder / "model.py")), folder / name)

    return read


def crop_of_config(folder: Path) -> None:
    config_file.read_crop(folder / "model.py")


def planned(folder: Path) -> None:
    raw = yaml.safe_load((folder / "config.json").read_text())
    resolve(raw, "openvino")


def damaged_config(content: bytes, chance: random.Random) -> bytes:
    tree = damaged_tree(json.loads(content), chance)
    return json.dumps(tree if isinstance(tree, dict) else {}).encode()


TARGETS = {
    "config": Target("config.json", damaged_config, 600, planned, ("mmpose", ".py")),
    "mmpose config": Target("model.py", damaged_bytes, 200, crop_of_config),
    "annotations": Target("val.json", damaged_json, 400, audit, ("val.zip",)),
    "audited images": Target("val.zip", damaged_zip, 60, audit),
    "audit": Target("audit.json", damaged_json, 60, score),
    "audited persons": Target("audit.npz", damaged_arrays, 100, list_persons),
    "list of persons": Target("persons.json", damaged_json, 40, score),
    "detections": Target("boxes.json", damaged_json, 300, list_detections),
    "persons": Target("persons.npz", damaged_arrays, 150, make_crops, ("val.zip",)),
    "images": Target("val.zip", damaged_zip, 150, make_crops),
    "onnx": Target("model.onnx", damaged_onnx, 200, simplify, ("simplified",)),
    "onnx of an engine": Target("model.onnx", damaged_onnx, 100, build_engine, ("engine",)),
    "onnx given": Target("model.onnx", damaged_onnx, 150, import_onnx("model.onnx")),
    "onnx's metadata": Target(
        "described.onnx", damaged_metadata, 100, import_onnx("described.onnx")
    ),
    "mmdeploy's json": Target(
        "export/pipeline.json", damaged_json, 100, import_onnx("export"), ("export",)
    ),
    "mmdeploy's zip": Target("export.zip", damaged_zip, 60, import_onnx("export.zip")),
    "checkpoint": Target("model.pth", damaged_checkpoint, 100, checkpoint("model.pth")),
    "old checkpoint": Target("old.pth", damaged_old_checkpoint, 100, checkpoint("old.pth")),
    "safetensors": Target("model.st", damaged_bytes, 30, checkpoint("model.st")),
    "model card": Target("model.json", damaged_json, 100, simplify, ("model.onnx", "simplified")),
    "engine card": Target("engine/engine.json", damaged_json, 150, predict, ("engine", "crops")),
    "engine": Target("engine/engine.bin", damaged_bytes, 20, predict),
    "crops": Target("crops.npy", damaged_bytes, 60, predict, ("instances",)),
    "instances": Target("instances.npz", damaged_arrays, 60, predict),
    "predictions": Target("predictions.npz", damaged_arrays, 60, score),
    "reference": Target("reference.npz", damaged_arrays, 60, parity, ("parity",)),
    "accuracy": Target("accuracy.json", damaged_json, 60, gate),
    "perf": Target("perf.json", damaged_json, 60, gate),
    "parity": Target("parity.json", damaged_json, 60, gate),
}


def test_there_are_enough_cases() -> None:
    assert sum(target.cases for target in TARGETS.values()) >= 2000


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """A folder with one whole file of each kind, made by the stages themselves."""
    folder = tmp_path_factory.mktemp("whole")
    write_split("val", 4, folder / "val.zip", folder / "val.json")
    annotations = json.loads((folder / "val.json").read_text())
    boxes = [
        {"image_id": a["image_id"], "category_id": 1, "bbox": a["bbox"], "score": 0.9}
        for a in annotations["annotations"]
    ]
    (folder / "boxes.json").write_text(json.dumps(boxes))
    tiny_model(folder)
    out = folder / "out"
    audit(folder)
    for name in ("audit.npz", "audit.json"):
        (out / name).rename(folder / name)
    list_persons(folder)
    for name in ("persons.npz", "persons.json"):
        (out / name).rename(folder / name)
    make_crops(folder)
    for name in ("crops.npy", "instances.npz"):
        (out / name).rename(folder / name)
    build_engine(folder)
    (out / "engine").rename(folder / "engine")
    predict(folder)
    (out / "p.npz").rename(folder / "predictions.npz")
    score(folder)
    card = ModelCard.read(folder / "model.json")
    crops = np.load(folder / "crops.npy")
    (heatmaps,) = onnx_graph.run(folder / "model.onnx", onnx_graph.normalised(crops, card))
    np.savez(folder / "reference.npz", crops=crops, output_0=heatmaps)
    parity(folder)
    run("benchmark_engine", "--engine", folder / "engine", "--crops", folder / "crops.npy",
        "--min-seconds", 0.01, "--min-samples", 2, "--output", out / "perf.json", "--samples",
        out / "samples.json")  # fmt: skip
    for name in ("accuracy.json", "parity.json", "perf.json"):
        (out / name).rename(folder / name)
    gate(folder)
    shutil.rmtree(out)
    config = yaml.safe_load((repository / "config.yaml").read_text())
    config["models"]["sample"] = {
        "config": str(folder / "model.py"), "weights": "w.pth", "sha256": "01234567",
        "published": {"AP": 0.7, "protocol": "gt", "dataset": "sample", "source": "a paper"},
    }  # fmt: skip
    config["limits"] = {"ap_drop": 0.1}
    config["variants"]["ort"] = {
        "backend": "onnxruntime", "precision": "fp32", "batch": 2, "options": {"threads": 1},
        "model": "sample", "limits": {"fps": 1.0},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def tiny_model(folder: Path) -> None:
    """One convolution, its card, and a checkpoint of a small HRNet."""
    import torch
    from safetensors.torch import save_file

    from hrnetpose.models import mmpose

    weights = np.random.default_rng(0).normal(size=(17, 3, 4, 4)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["input", "w"], ["heatmaps"], strides=[4, 4])],
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 64, 32])],
        [helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, ["batch", 17, 16, 8])],
        [numpy_helper.from_array(weights, "w")],
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), folder / "model.onnx")
    ModelCard(
        name="tiny", origin=MmposeOrigin(config="model.py", weights_sha256="1" * 64),
        architecture="Conv", onnx_sha256="2" * 64, opset=17,
        input=Tensor(name="input", shape=["batch", 3, 64, 32], dtype="float32"),
        outputs=[Tensor(name="heatmaps", shape=["batch", 17, 16, 8], dtype="float32")],
        channel_order="RGB", mean=[0.0] * 3, std=[255.0] * 3, crop=Crop(height=64, width=32),
        codec=HeatmapCodec(type="MSRAHeatmap", sigma=1.0), flip_shift=True,
        keypoints=Keypoints(names=list(KEYPOINTS), flip_indices=list(range(17)),
                            sigmas=[0.05] * 17, skeleton=[(0, 1)]),
        parameters=816, macs=10**6, versions={},
    ).write(folder / "model.json")  # fmt: skip
    card = ModelCard.read(folder / "model.json")
    metadata.write(onnx.load(folder / "model.onnx"), card, folder / "described.onnx")
    (folder / "export").mkdir()
    onnx.save(onnx.load(folder / "model.onnx"), folder / "export/end2end.onnx")
    transforms = [
        {"type": "TopDownGetBboxCenterScale", "padding": 1.25, "image_size": [32, 64]},
        {"type": "Normalize", "mean": [0, 0, 0], "std": [255, 255, 255], "to_rgb": True},
    ]
    decoding = {"component": "TopdownHeatmapSimpleHeadDecode", "params": {"shift_heatmap": True}}
    tasks = [{"module": "Transform", "transforms": transforms}, {"module": "mmpose", **decoding}]
    (folder / "export/pipeline.json").write_text(json.dumps({"pipeline": {"tasks": tasks}}))
    with zipfile.ZipFile(folder / "export.zip", "w") as archive:
        for path in sorted((folder / "export").iterdir()):
            archive.write(path, f"export/{path.name}")
    (folder / "model.py").write_text(TINY_CONFIG)
    network = mmpose.build_model(mmpose.read_config(str(folder / "model.py")), None)
    content = {
        "meta": {"sigmas": np.ones(3), "path": Path("x")},
        "state_dict": network.state_dict(),
    }
    torch.save(content, folder / "model.pth")
    torch.save(content, folder / "old.pth", _use_new_zipfile_serialization=False)
    save_file(network.state_dict(), folder / "model.st")


# --- running them ---------------------------------------------------------------------------------


def outcome(target: Target, folder: Path) -> str:
    """Read a damaged folder; return what is wrong with how that went, nothing if all is well."""
    try:
        target.read(folder)
    except (StageError, ConfigError) as error:
        text = stage.describe(error) if isinstance(error, StageError) else str(error)
        if "\n" in text or not text:
            return f"not one line: {text!r}"
        named = (Path(target.file).name, *target.names)
        if isinstance(error, StageError) and not any(name in text for name in named):
            return f"names no file: {text}"
        if isinstance(error, ConfigError) and not re.match(r"[\w.<>='-]+: ", text):
            return f"names no key: {text}"
        if (folder / "out").exists() and any(p.is_file() for p in (folder / "out").rglob("*")):
            left = [p.name for p in (folder / "out").rglob("*") if p.is_file()]
            # A stage with two outputs may have written the first one whole.
            if any("partial" in name for name in left):
                return f"left {left}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    if Path("unpickled").exists():
        return "code in the file was run"
    return ""


def run_chunk(target: Target, name: str, numbers: list[int], whole: Path, scratch: Path) -> None:
    """Run cases one after the other, and write down what became of each."""
    os.chdir(scratch)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    content = (whole / target.file).read_bytes()
    folder = scratch / "case"
    shutil.copytree(whole, folder)
    with (scratch / "outcomes").open("w") as log:
        for number in numbers:
            chance = random.Random(f"{name} {number}")
            (folder / target.file).write_bytes(target.damage(content, chance))
            log.write(f"{number}\t")
            log.flush()
            signal.alarm(SECONDS)
            found = outcome(target, folder)
            signal.alarm(0)
            log.write(" ".join(found.split())[:300] + "\n")
            log.flush()
            shutil.rmtree(folder / "out", ignore_errors=True)


@pytest.mark.parametrize("name", TARGETS)
def test_a_hostile_file_is_taken_or_named(whole: Path, tmp_path: Path, name: str) -> None:
    target = TARGETS[name]
    findings = []
    for first in range(0, target.cases, CHUNK):
        numbers = list(range(first, min(first + CHUNK, target.cases)))
        while numbers:
            scratch = tmp_path / f"from{numbers[0]}"
            scratch.mkdir()
            child = os.fork()
            if child == 0:
                try:
                    run_chunk(target, name, numbers, whole, scratch)
                finally:
                    os._exit(0)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            lines = (scratch / "outcomes").read_text().split("\n")
            for line in filter(None, lines):
                number, _, found = line.partition("\t")
                if found:
                    findings.append(f"case {number}: {found}")
            ran = len([line for line in lines if line])
            if status < 0:
                last = lines[-1].partition("\t")[0]
                findings.append(f"case {last}: ended by {signal.Signals(-status).name}")
            elif ran < len(numbers):
                findings.append(f"case {numbers[ran]}: the process ended")
                break
            numbers = numbers[ran:]
            shutil.rmtree(scratch)
    assert not findings, "\n".join(findings[:40])
