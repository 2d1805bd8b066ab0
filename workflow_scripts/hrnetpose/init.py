"""Start on your own model and data: look at both, and write an overlay for them.

    python -m hrnetpose.init --model my_hrnet.pth --images val_images --annotations val.json

What every run's audit says of the data is printed; what is wrong with it ends here.  What could not
be told is a question in the file, a value of "?", which is refused until it is answered.
"""

import argparse
import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hrnetpose import files, paths, stage
from hrnetpose.artifacts.audit import Audit
from hrnetpose.config_text import QUESTION
from hrnetpose.data import audit as audits
from hrnetpose.models import config_file
from hrnetpose.onnx_card import OnnxCard
from hrnetpose.stage import StageError

DEFAULT = Path(__file__).resolve().parents[2] / "config.yaml"
"""What an overlay goes over."""
PUBLISHED = re.compile(r"(?P<config>.+)-(?P<sha256>[0-9a-f]{8})_\d{8}")
"""How mmpose names its checkpoints: the config, the first digits of the hash, the date."""


@dataclass(frozen=True)
class Entry:
    """A key of the overlay, its value and what is said above it."""

    key: str
    value: Any
    comments: Sequence[str] = ()

    def lines(self, indent: int) -> list[str]:
        """Return it as YAML: JSON is what both read alike."""
        margin = " " * indent
        comments = [f"{margin}# {line}" for line in self.comments]
        if isinstance(self.value, dict):
            inner = [line for item in self.value.items() for line in Entry(*item).lines(indent + 2)]
            return [*comments, f"{margin}{self.key}:", *inner]
        return [*comments, f"{margin}{self.key}: {json.dumps(self.value, ensure_ascii=False)}"]


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.prog = "init"
    command.add_argument("--model", required=True, help="a checkpoint or an ONNX file")
    command.add_argument("--config", help="its mmpose config: a path, or a name of the package")
    command.add_argument("--images", type=Path, required=True, help="a folder or a zip")
    command.add_argument("--annotations", type=Path, required=True, help="COCO keypoints (JSON)")
    command.add_argument("--category", help="the category to evaluate, by name")
    command.add_argument("--detector", type=Path, help="a detector of persons (ONNX)")
    command.add_argument("--output", type=Path, default=Path("mine.yaml"), help="the overlay")
    return command


def main(
    *,
    model: str,
    config: str | None,
    images: Path,
    annotations: Path,
    category: str | None,
    detector: Path | None,
    output: Path,
) -> None:
    """Run the command."""
    if output.exists():
        raise StageError(f"{output}: is there already; name another with --output, or remove it")
    for path, kind in ((images, True), (annotations, False), (detector, False)):
        if path and (fault := paths.fault(str(path), images=kind)):
            raise StageError(fault)
    is_kept = saved_config(output).exists()
    try:
        if is_onnx(model):
            entries, names = look_at_onnx(model)
        else:
            entries = look_at_model(model, config, output)
            names = find_keypoints(entries[0].value)
        _, audit = audits.run(annotations, images, names, category, os.cpu_count() or 1)
    except BaseException:  # nothing is left of what is refused
        if not is_kept:
            saved_config(output).unlink(missing_ok=True)
        raise
    described = describe(audit)
    print("\n".join(described))
    data = look_at_data(images, annotations, category, described)
    if detector:
        data += look_at_detector(detector)
    text = render(
        name_of(output.stem),
        {"model": name_of(Path(model).stem), "dataset": name_of(annotations.stem)},
        {"models": entries, "datasets": data},
        ["gt", "det"] if detector else ["gt"],
        output,
    )
    files.write_text(output, text)
    print(f"\nwrote {output}")
    if questions := text.count("# QUESTION"):
        print(f"questions in it for you to answer: {questions}; then:")
    print(command_for(output))


def look_at_model(model: str, config: str | None, output: Path) -> list[Entry]:
    """Return the keys of a model, the first of which is its config.

    Raises:
        StageError: the checkpoint or config cannot be used.
    """
    local = paths.local(model)
    digest, origin = None, "as it was given"
    published = PUBLISHED.fullmatch(Path(model).stem)
    if local is None:
        digest = published["sha256"] if published else None
    else:
        if fault := paths.fault(local):
            raise StageError(fault)
        digest = files.sha256(Path(local))
    held = read_config(Path(local)) if local else None
    if config is None:
        config, origin = find_config(model, published, local, held, output)
    if config != QUESTION:
        config_file.check(config_file.find(config))
        config_file.read_crop(config_file.find(config))
    comments = [f"{origin}; it is a program that runs when the model is built"]
    if config == QUESTION:
        comments = [
            "QUESTION: which mmpose config was this checkpoint trained with?  A path, or a name of",
            "the mmpose package such as td-hm_hrnet-w32_8xb64-210e_coco-256x192.  Looked at: the",
            "checkpoint's name, what is saved in it, and *.py beside it.",
        ]
    entries = [Entry("config", config, comments), Entry("weights", model)]
    if digest:
        entries.append(Entry("sha256", digest))
    return entries


def is_onnx(model: str) -> bool:
    """Return True for an ONNX file, and for a folder or zip, as mmdeploy exports one."""
    path = Path(paths.local(model) or model)
    return path.suffix in (".onnx", ".zip") or path.is_dir()


def look_at_onnx(model: str) -> tuple[list[Entry], list[str]]:
    """Return the keys of a model of which only the ONNX is there, and its keypoints if known.

    Raises:
        StageError: it is not here, or no pose model.
    """
    from hrnetpose.models import onnx_card, onnx_file, onnx_source

    local = paths.local(model)
    if local is None:
        raise StageError(f"{model}: what is in it must be seen; fetch it, and give its path")
    path = Path(local)
    if not path.exists():
        raise StageError(f"{path}: there is no such file or folder; correct the path")
    with onnx_source.opened(path) as source:
        facts = onnx_file.read_facts(source.graph)
        missing = onnx_card.list_missing(facts, source.exported, str(path))
        known = None if missing else onnx_card.look_ahead(
            OnnxCard(), facts, source.exported, str(path)
        )  # fmt: skip
    ends = [
        f"takes {', '.join(map(str, facts.inputs))}",
        f"gives {', '.join(map(str, facts.outputs))}",
    ]
    entries = [Entry("onnx", str(path), ends)]
    if path.is_file():
        entries.append(Entry("sha256", files.sha256(path)))
    if missing:
        asked = [
            "QUESTION: what nothing in the file says: how it was trained.  For example",
            *(f"  {key}: {onnx_card.EXAMPLES[key]}" for key in missing),
        ]
        entries.append(Entry("card", dict.fromkeys(missing, QUESTION), asked))
    return entries, known[1].names if known else []


def find_keypoints(config: str) -> list[str]:
    """Return the names of a model's keypoints; none if they are not known."""
    if config == QUESTION:
        return []
    return config_file.read_keypoint_names(config_file.find(config)) or []


def find_config(
    model: str, published: re.Match[str] | None, local: str | None, held: str | None, output: Path
) -> tuple[str, str]:
    """Return the config that a checkpoint was trained with and where that is from; or a question.

    Args:
        model: the checkpoint.
        published: its name taken apart, if it is one of mmpose's.
        local: its path, if it is here.
        held: the config that is saved in it.
        output: the overlay, beside which that is written.
    """
    if published:
        try:
            config_file.find(published["config"])
        except StageError:
            pass
        else:
            return published["config"], "from the name of the checkpoint"
    if held:
        path = saved_config(output)
        if path.exists():
            raise StageError(f"{path}: is there already; name another --output, or give --config")
        files.write_text(path, held)
        return str(path), f"saved in the checkpoint, and written to {path}"
    beside = sorted(Path(local).parent.glob("*.py")) if local else []
    same = [path for path in beside if path.stem == Path(model).stem]
    if same:
        return str(same[0]), "beside the checkpoint, of the same name"
    return QUESTION, ""


def saved_config(output: Path) -> Path:
    """Return where the config that is saved in a checkpoint is written: beside the overlay."""
    return output.with_name(f"{output.stem}_config.py")


def read_config(path: Path) -> str | None:
    """Return the config that mmengine saved in a checkpoint; nothing of it is run.

    Raises:
        StageError: it is no checkpoint.
    """
    from hrnetpose.models.checkpoint_file import open_checkpoint

    with open_checkpoint(path) as checkpoint:
        content = checkpoint.content
        meta = content.get("meta") if isinstance(content, dict) else None
        held = meta.get("cfg") or meta.get("config") if isinstance(meta, dict) else None
    return held if isinstance(held, str) and "model" in held else None


def describe(audit: Audit) -> list[str]:
    """Return what the audit says, in lines."""
    named = "" if audit.keypoints else ", which are not named"
    return [
        f"{audit.images} images, {audit.images_with_persons} of them with persons",
        f"{audit.persons} {stage.name(audit.category)} with {audit.number_of_keypoints} keypoints"
        f"{named}, {audit.evaluated} of them evaluated",
        *(f"found: {finding.text}" for finding in audit.findings),
    ]


def look_at_data(
    images: Path, annotations: Path, category: str | None, described: list[str]
) -> list[Entry]:
    """Return the keys of the dataset."""
    return [
        Entry("images", str(images), described),
        Entry("annotations", str(annotations)),
        *([Entry("category", category)] if category else []),
    ]


def look_at_detector(detector: Path) -> list[Entry]:
    """Return the keys of a detector: its card is mmdeploy's pipeline, if that lies beside it."""
    beside = detector.with_name("pipeline.json")
    card: dict[str, Any] = {"pipeline": str(beside)}
    comments = ["found beside the detector: mmdeploy's pipeline.json"]
    if not beside.is_file():
        card = {"layout": QUESTION, "input": QUESTION}
        comments = [
            "QUESTION: is it `rtmdet` or `yolox`, and what is its input, such as 640x640?  Or give",
            "mmdeploy's file of it: card: {pipeline: pipeline.json}.  See docs/detector.md.",
        ]
    return [Entry("detector", {"onnx": str(detector), "card": card}, comments)]


def render(
    run: str,
    names: Mapping[str, str],
    sections: Mapping[str, list[Entry]],
    boxes: list[str],
    output: Path,
) -> str:
    """Return the overlay."""
    lines = [
        "# Written by `python -m hrnetpose.init`; docs/configuration.md explains every key.",
        f"#     {command_for(output)}",
        f'# A value of "{QUESTION}" is a question that only you can answer.',
        "",
        f"# Results are at results/{run}/.",
        *Entry("run", run).lines(0),
        *(line for key, name in names.items() for line in Entry(key, name).lines(0)),
    ]
    for (section, entries), name in zip(sections.items(), names.values(), strict=True):
        lines += ["", f"{section}:", f"  {json.dumps(name)}:"]
        lines += [line for entry in entries for line in entry.lines(4)]
    lines += [
        "    # For int8 and fp8: images that are not evaluated; then remove `int8: null` below.",
        "    # calibration:",
        "    #   images: train_images",
        "    #   annotations: person_keypoints_train.json",
        "",
        "variants:",
        "  int8: null  # needs `calibration`",
        "",
        "protocols:",
        *Entry("boxes", boxes).lines(2),
    ]
    return "\n".join(lines) + "\n"


def command_for(overlay: Path) -> str:
    """Return the command that makes the report of an overlay."""
    snakefile = DEFAULT.with_name("Snakefile")
    elsewhere = [] if Path("Snakefile").exists() else ["--snakefile", str(snakefile)]
    command = ["snakemake", "--cores", "4", "report", *elsewhere, "--configfile", str(overlay)]
    return shlex.join(command)


def name_of(text: str) -> str:
    """Return a text as the name of a run, model or dataset, and of nothing that there is."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("_.-")[:80] or "mine"
    default = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    taken = {"bundles"}.union(*(default[section] for section in ("models", "datasets", "variants")))
    return f"my_{name}" if name in taken else name


if __name__ == "__main__":
    stage.run(parser(), main)
