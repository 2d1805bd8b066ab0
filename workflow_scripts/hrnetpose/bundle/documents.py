"""What a bundle says: README.md, a model card of Hugging Face, and Triton's configurations."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hrnetpose import files
from hrnetpose.artifacts.accuracy import Accuracy
from hrnetpose.artifacts.bundle import KeypointGraph
from hrnetpose.artifacts.engine import EngineCard
from hrnetpose.artifacts.parity import Parity
from hrnetpose.artifacts.perf import Perf
from hrnetpose.bundle import runtime
from hrnetpose.graphs.keypoints import KEYPOINTS, SCORES
from hrnetpose.graphs.onnx_graph import CROPS

PROJECT = "hrnetpose"
UNTRIED = ("tensorrt", "tensorrt_rtx", "igie", "ixrt")
"""Backends whose part of pose.py has run on stand-ins of the hardware only."""


@dataclass(frozen=True)
class Subject:
    """What a README is about.

    Attributes:
        card: the engine card.
        perf: its speed.
        accuracy: of it; None if the model is untrained.
        parity: how it differs from the original.
        license: of the weights; None if nobody has said.
        attribution: who made them.
        graph: of the keypoint graph; or the reason why there is none.
        has_graph: it has the graph that `--build` takes.
    """

    card: EngineCard
    perf: Perf
    accuracy: Accuracy | None
    parity: Parity
    license: str | None
    attribution: str | None
    graph: KeypointGraph | str
    has_graph: bool

    @property
    def is_untried(self) -> bool:
        """Whether nobody has run pose.py on such a device."""
        on_gpu = self.card.device.kind == "gpu"
        return self.card.backend in UNTRIED or (self.card.backend == "onnxruntime" and on_gpu)


def requirements(versions: dict[str, str], card: EngineCard) -> str:
    """Return requirements.txt.

    Args:
        versions: of numpy and OpenCV here.
        card: of the engine, which has those of its runtime.
    """
    found = {**versions}
    for package in runtime.RUNNERS[card.backend].packages:
        found[package.replace("_", "-")] = card.versions[package]
    if card.backend == "onnxruntime" and card.device.kind == "gpu":
        found["onnxruntime-gpu"] = found.pop("onnxruntime")
    if card.backend in ("tensorrt", "tensorrt_rtx"):
        found["pycuda"] = "2026.1"
    lines = [f"{name}=={version}" for name, version in found.items()]
    if card.backend in ("igie", "ixrt"):  # pip has none of it
        lines[-1] = f"# Iluvatar's SDK, with {lines[-1]}"
    return "".join(f"{line}\n" for line in lines)


def front_matter(subject: Subject) -> str:
    """Return the YAML header that Hugging Face reads; JSON is YAML."""
    card = subject.card
    header: dict[str, Any] = {
        "license": "other" if subject.license is None else subject.license.lower(),
        "pipeline_tag": "keypoint-detection",
        "tags": ["pose-estimation", "top-down", "onnx", card.backend, card.requested],
    }
    if subject.license is None:
        header["license_name"] = "not-stated"
    if subject.accuracy:
        results = [
            {
                "task": {"type": "keypoint-detection", "name": "top-down pose estimation"},
                "dataset": {"type": _slug(one.protocol.label), "name": one.protocol.label},
                "metrics": [{"type": "AP", "name": "AP (OKS)", "value": round(one.metrics.AP, 5)}],
            }
            for one in subject.accuracy.protocols
            if one.metrics.AP is not None
        ]
        if results:
            header["model-index"] = [
                {"name": f"{card.model.name} {card.variant}", "results": results}
            ]
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in header.items()]
    return "\n".join(["---", *lines, "---", ""])


def _slug(text: str) -> str:
    words = "".join(c if c.isalnum() else " " for c in text.lower()).split()
    return "-".join(words)


def readme(subject: Subject) -> str:
    """Return README.md: one page."""
    card = subject.card
    model, perf = card.model, subject.perf
    crop, names = model.crop, model.keypoints.names
    executed = card.executed.precision
    title = f"{model.name}, {card.variant}: {card.requested} on {card.backend}"
    ran = "" if executed == card.requested else f" (its heavy layers execute {executed})"
    untried = (
        f"**Not run:** pose.py's part for {card.backend} has run on stand-ins of such a device in "
        f"the project's tests, and on no real one.\n\n"
        if subject.is_untried
        else ""
    )
    notes = [
        *([f"Its speed is INVALID: {'; '.join(perf.invalid)}."] if perf.invalid else []),
        *(finding.text for finding in (subject.accuracy.findings if subject.accuracy else [])),
    ]
    return f"""{front_matter(subject)}
# {title}

A top-down pose model: {len(names)} keypoints of a person in a box, from a crop of
{crop.height}x{crop.width} pixels (height x width). {model.parameters / 1e6:.2f} M parameters,
{model.macs / 1e9:.2f} GMACs, {files.bytes_text(card.bytes)}; {model.architecture}.
Requested precision {card.requested}{ran}.

{untried}## Run it

    pip install -r requirements.txt
    python pose.py --check
    python pose.py image.jpg --boxes boxes.json

Python 3.11 or newer. `boxes.json` is `[[x, y, width, height], ...]`, or COCO's objects with `bbox`;
without boxes: `--whole-image`. The keypoints are written as COCO's results, and drawn. A video is
followed from its first box: `python pose.py video.mp4 --output drawn.mp4`. `python pose.py --help`
says the rest.

    from pose import Pose, draw
    keypoints, scores = Pose()(image, boxes)    # BGR; boxes are x1, y1, x2, y2 in pixels

`keypoints` is float32 [persons, {len(names)}, 2], x and y in pixels of the image; `scores` is
float32 [persons, {len(names)}]. {_score_text(subject)}

## What was measured

{_table(subject)}

{_how(subject)}
{"".join(f"{chr(10)}{note}{chr(10)}" for note in notes)}
`python pose.py --check` runs drawn people, whose keypoints are known, says how far this machine is
from what was measured, and exits with 1 if that is too far. {_place(subject)}

## Files

| file | what |
| --- | --- |
{_files(subject)}

## Licence

Weights: {subject.license or "**nobody has stated their licence; ask who made them**"}.
{subject.attribution or "Who made them is not stated."}
pose.py is Apache-2.0 (LICENSE), as are the drawn people in check/.
"""


def _score_text(subject: Subject) -> str:
    peaks = "A score is the height of the peak that the keypoint was found at"
    return f"{peaks} (decoder: {subject.card.model.codec.label})."


def _table(subject: Subject) -> str:
    rows: list[tuple[str, str]] = []
    if subject.accuracy:
        for one in subject.accuracy.protocols:
            interval = ""
            if one.delta:
                low, high = one.delta.ci95
                change = f"{one.delta.AP:+.4f} [{low:+.4f}, {high:+.4f}]"
                interval = f" ({change} against {one.delta.reference})"
            value = "-" if one.metrics.AP is None else f"{one.metrics.AP:.4f}"
            rows.append((f"AP: {one.protocol.label}", f"{value}{interval}"))
    else:
        rows.append(("AP", "none: the model is untrained"))
    perf, shift = subject.perf, subject.parity.stages["engine"].keypoint_shift_px
    best = perf.throughput
    streams = f", {best.streams} streams" if best.streams else ""
    rows += [
        ("throughput", f"{best.fps:.1f} persons/s, batches of {best.batch}{streams}"),
        ("latency", f"{perf.latency_ms.p50:.2f} ms (p50), {perf.latency_ms.p99:.2f} ms (p99), "
         f"batch of {perf.latency.batch}"),
        ("keypoints against the original in PyTorch, fp32",
         f"{shift.mean:.3f} px mean, {shift.p99:.3f} px p99, of the crop"),
    ]  # fmt: skip
    if isinstance(subject.graph, KeypointGraph):
        found = subject.graph
        rows.append(
            (f"keypoints.onnx ({found.decoder} decoder) against the pipeline's ({found.pipeline})",
             f"{found.shift_px.mean:.4f} px mean, {found.shift_px.max:.4f} px at most")
        )  # fmt: skip
    lines = ["| figure | value |", "| --- | --- |", *(f"| {a} | {b} |" for a, b in rows)]
    return "\n".join(lines)


def _how(subject: Subject) -> str:
    host, card = subject.perf.host, subject.card
    machine = host.gpu or f"{host.cpu}, {host.cores} cores{', virtual' if host.virtual else ''}"
    versions = ", ".join(f"{name} {version}" for name, version in card.versions.items())
    return (
        f"Measured on {machine}, {subject.perf.threads} threads, {versions}. Speed is from uint8 "
        "crops on the host to the model's outputs on the host: cutting, decoding and boxes are not "
        "in it. AP is COCO's; a label says boxes, flip test, decoder and images, and figures "
        "compare under the same label only. All of it: figures/."
    )


def _place(subject: Subject) -> str:
    if subject.has_graph:
        return (
            "The engine runs on the device and version that it was built for; `--build` builds it "
            "on another from graph.onnx, with the options of engine.json."
        )
    return (
        "The engine runs with the version that it was measured with; `--portable` takes the fp32 "
        "graph and any version."
    )


def _files(subject: Subject) -> str:
    return "\n".join(f"| {name} | {text} |" for name, text in _listed(subject))


def _listed(subject: Subject) -> Iterator[tuple[str, str]]:
    yield "pose.py", "the runtime: one file, made of the project's own modules"
    yield "engine.bin, engine.json", "the engine, and what it is"
    if subject.has_graph:
        yield "graph.onnx", "what `--build` builds from"
    yield "model.json", "before and after the network, as data: crop, mean, std, codec, keypoints"
    yield "models/portable/", "crops (uint8 [N, height, width, 3] RGB) to the model's outputs, fp32"
    if isinstance(subject.graph, KeypointGraph):
        yield (
            "models/keypoints/",
            f"crops to `{KEYPOINTS}` [N, K, 2] in pixels of the crop and `{SCORES}`, fp32; how "
            "these differ from the pipeline's is in keypoints.json",
        )
    else:
        yield "models/", f"there is no keypoints.onnx: {subject.graph}"
    yield "models/", "a model repository of Triton (`tritonserver --model-repository=models`)"
    yield "figures/", "what was measured, with protocols and raw verdicts"
    yield "check/", "drawn people for `--check`, and what is expected"
    yield "SHA256SUMS", "`sha256sum -c SHA256SUMS`; pose.py checks what it opens"


def triton(
    name: str, file: str, size: Sequence[int], outputs: dict[str, Sequence[int]], batch: int
) -> str:
    """Return a `config.pbtxt`.

    Args:
        name: of the model in the repository.
        file: the ONNX file in its version folder.
        size: of a crop, without the batch.
        outputs: shapes by name, without the batch.
        batch: the largest one.
    """

    def tensor(name: str, kind: str, dims: Sequence[int]) -> str:
        shape = ", ".join(map(str, dims))
        lines = [f"name: {json.dumps(name)}", f"data_type: {kind}", f"dims: [ {shape} ]"]
        return "\n".join(["  {", *(f"    {line}" for line in lines), "  }"])

    listed = ",\n".join(tensor(name, "TYPE_FP32", dims) for name, dims in outputs.items())
    return (
        f"name: {json.dumps(name)}\n"
        'backend: "onnxruntime"\n'
        f"default_model_filename: {json.dumps(file)}\n"
        f"max_batch_size: {batch}\n"
        f"input [\n{tensor(CROPS, 'TYPE_UINT8', size)}\n]\n"
        f"output [\n{listed}\n]\n"
        "dynamic_batching { }\n"
    )
