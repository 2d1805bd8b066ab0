"""Make a bundle: an engine with all that running it takes, for a machine without this project.

    python workflow_scripts/make_bundle.py --engine build/engines/fp16 \\
        --simplified build/models/sample/simplified.onnx --graph build/models/sample/fp16.onnx \\
        --perf results/fp16_perf.json --accuracy results/fp16_accuracy.json \\
        --parity results/fp16_parity.json --license-text LICENSE --output results/bundles/fp16.zip
"""

import argparse
import importlib
import logging
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx

from hrnetpose import engines, files, stage
from hrnetpose.artifacts.accuracy import Accuracy
from hrnetpose.artifacts.bundle import (
    Case,
    KeypointGraph,
    ManyAtATime,
    OneAtATime,
    SelfTest,
    Speed,
)
from hrnetpose.artifacts.engine import ENGINE_CARD, ENGINE_FILE
from hrnetpose.artifacts.parity import Parity
from hrnetpose.artifacts.perf import Perf
from hrnetpose.bundle import archive, assemble, documents, runtime, selftest
from hrnetpose.bundle.documents import Subject
from hrnetpose.engines.folder import EngineFolder
from hrnetpose.graphs import keypoints, metadata, onnx_graph
from hrnetpose.pose import predict
from hrnetpose.stage import StageError

NEAR = 1e-3
"""Pixels: so near are pose.py's keypoints to the pipeline's, or there is no bundle."""

LARGEST_BATCH = 64
"""That Triton makes of requests, where the graph takes any."""
COMPARED = 24
"""People whose keypoints say how keypoints.onnx differs."""


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument("--engine", type=Path, required=True, help="the engine's folder")
    command.add_argument("--simplified", type=Path, required=True, help="the fp32 graph (ONNX)")
    command.add_argument("--graph", type=Path, required=True, help="what the engine is built from")
    command.add_argument("--perf", type=Path, required=True, help="its speed (JSON)")
    command.add_argument("--accuracy", type=Path, help="its accuracy (JSON); none if untrained")
    command.add_argument("--parity", type=Path, required=True, help="its drift (JSON)")
    command.add_argument("--license", help="of the weights, for example Apache-2.0")
    command.add_argument("--attribution", help="who made the weights")
    command.add_argument("--license-text", type=Path, required=True, help="of pose.py")
    command.add_argument("--threads", type=int, default=1, help="CPU threads")
    command.add_argument("--output", type=Path, required=True, help="the bundle (zip)")
    return command


def main(
    *,
    engine: Path,
    simplified: Path,
    graph: Path,
    perf: Path,
    accuracy: Path | None,
    parity: Path,
    license: str | None,
    attribution: str | None,
    license_text: Path,
    threads: int,
    output: Path,
) -> None:
    """Run the stage."""
    built = engines.read(engine)
    if built.backend.original:
        raise StageError(
            f"{engine}: a bundle of `pytorch` would need PyTorch and mmpose; bundle `fp32`, which "
            "is the same network as a graph"
        )
    if built.backend.bundled_with:
        importlib.import_module(built.backend.bundled_with)
    with tempfile.TemporaryDirectory(prefix="bundle") as temporary:
        folder = Path(temporary)
        measured = copy_figures(folder / "figures", perf, accuracy, parity)
        pack_engine(folder, built, graph)
        crops = selftest.draw_crops(built.card.model.crop, COMPARED)
        found = pack_graphs(folder / "models", simplified, built, crops, measured[2].minimum_score)
        subject = Subject(
            built.card, *measured, license, attribution, found,
            has_graph=(folder / runtime.GRAPH_FILE).exists(),
        )  # fmt: skip
        shutil.copyfile(license_text, folder / "LICENSE")
        write_texts(folder, subject, built.backend.bundled_with)
        expect(folder, built, crops[: selftest.PEOPLE], subject, threads)
        digest = archive.write_zip(folder, output)
    logging.info("%s: %s, sha256 %s", output, files.bytes_text(output.stat().st_size), digest)


def copy_figures(
    folder: Path, perf: Path, accuracy: Path | None, parity: Path
) -> tuple[Perf, Accuracy | None, Parity]:
    """Put what was measured into a folder, and return it."""
    found = Perf.read(perf), Accuracy.read(accuracy) if accuracy else None, Parity.read(parity)
    folder.mkdir()
    for name, one in zip(("perf", "accuracy", "parity"), found, strict=True):
        if one:
            one.write(folder / f"{name}.json")
    return found


def pack_engine(folder: Path, built: EngineFolder[Any], graph: Path) -> None:
    """Put the engine, its card and, where it is built on arrival, its graph into a folder."""
    card = built.card
    shutil.copyfile(built.file, folder / ENGINE_FILE)
    # With the defaults of options: nothing there knows them.
    options = built.options.model_dump(mode="json")
    card.model_copy(update={"options": options, "graph": None}).write(folder / ENGINE_CARD)
    card.model.write(folder / "model.json")
    if card.backend in ("tensorrt", "tensorrt_rtx"):
        model = onnx_graph.with_pixel_input(onnx_graph.read(graph), card.model)
        onnx.save(model, folder / runtime.GRAPH_FILE)


def pack_graphs(
    folder: Path, simplified: Path, built: EngineFolder[Any], crops: Any, minimum: float
) -> KeypointGraph | str:
    """Put the ONNX graphs into a folder, as a model repository of Triton.

    Args:
        folder: of the graphs.
        simplified: the fp32 graph.
        built: the engine.
        crops: uint8 [N, height, width, 3] RGB, to compare keypoints on.
        minimum: keypoints that are less sure are not compared.

    Returns:
        How the keypoints of `keypoints.onnx` differ, or why there is none.
    """
    card = built.card.model
    size = [card.crop.height, card.crop.width, 3]
    plain = onnx_graph.with_pixel_input(onnx_graph.read(simplified), card)
    outputs = {output.name: [int(n) for n in output.shape[1:]] for output in card.outputs}
    portable = save(folder / "portable", metadata.with_metadata(plain, card), size, outputs)
    if reason := keypoints.missing_reason(card):
        return reason
    decoded = keypoints.with_keypoint_outputs(plain, card)
    decoded = metadata.with_metadata(decoded, card, decoder=keypoints.decoder(card))
    count = len(card.keypoints.names)
    names = {keypoints.KEYPOINTS: [count, 2], keypoints.SCORES: [count]}
    graph = save(folder / "keypoints", decoded, size, names)
    centers = np.full((len(crops), 2), [size[1] / 2, size[0] / 2], np.float32)
    scales = np.full((len(crops), 2), [size[1], size[0]], np.float32)
    given = dict(zip(outputs, onnx_graph.run(portable, crops, list(outputs)), strict=True))
    positions, scores = predict.keypoints(given, None, [0], card, centers, scales)
    expected = Case(flip=False, keypoints=positions[0].tolist(), scores=scores[0].tolist())
    found, surely = onnx_graph.run(graph, crops, list(names))
    compared = selftest.compare(card, (found, surely), expected, minimum)
    compared.write(folder / "keypoints" / "keypoints.json")
    return compared


def save(
    folder: Path, model: onnx.ModelProto, size: list[int], outputs: dict[str, list[int]]
) -> Path:
    """Write a model of the repository, and return its graph's file."""
    name = folder.name
    file = folder / "1" / f"{name}.onnx"
    file.parent.mkdir(parents=True)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, file)
    batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or LARGEST_BATCH
    config = documents.triton(name, file.name, size, dict(outputs), batch)
    (folder / "config.pbtxt").write_text(config, encoding="utf-8")
    return file


def write_texts(folder: Path, subject: Subject, added: str | None) -> None:
    """Write pose.py, with the module that its backend adds, README.md and requirements.txt."""
    versions = {name: version(name) for name in ("numpy", "opencv-python-headless")}
    texts = {
        "pose.py": assemble.assemble(runtime.__name__, *([added] if added else [])),
        "README.md": documents.readme(subject),
        "requirements.txt": documents.requirements(versions, subject.card),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def expect(
    folder: Path, built: EngineFolder[Any], crops: Any, subject: Subject, threads: int
) -> None:
    """Write what the self-test expects, and hold the bundle to it.

    Raises:
        StageError: the bundle does not give what the pipeline gives.
    """
    cases = selftest.run_pipeline(built, crops, threads)
    perf, shift = subject.perf, subject.parity.stages["engine"].keypoint_shift_px
    names = selftest.write_crops(crops, folder / "check")
    expected = SelfTest(
        crops=names,
        cases=cases,
        minimum_score=subject.parity.minimum_score,
        allowed_px=round(max(runtime.ELSEWHERE, shift.p99), 3),
        portable=[],
        portable_px=0.0,
        opencv=cv2.__version__,
        speed=Speed(
            device=perf.host.gpu or perf.host.cpu,
            threads=perf.threads,
            latency=OneAtATime(
                batch=perf.latency.batch, streams=perf.latency.streams, ms=perf.latency_ms.p50
            ),
            throughput=ManyAtATime(
                batch=perf.throughput.batch,
                streams=perf.throughput.streams,
                fps=perf.throughput.fps,
            ),
            invalid="; ".join(perf.invalid) or None,
        ),
    )
    expected.write(folder / runtime.CHECK_FILE)
    archive.write_sums(folder)

    apart = distance(folder, expected)
    if apart > NEAR:
        raise StageError(
            f"{built.path}: pose.py's keypoints are {apart:.4f} px from the pipeline's, more than "
            f"{NEAR:g}: there is no bundle; please report this"
        )
    expected.portable = run_portable(folder, crops)
    sure = np.array(cases[0].scores) > expected.minimum_score
    far = max(
        float(
            np.linalg.norm(np.subtract(one.keypoints, other.keypoints), axis=-1)[sure].max(
                initial=0
            )
        )
        for one, other in zip(cases, expected.portable, strict=True)
    )
    expected.portable_px = round(far, 4)
    expected.write(folder / runtime.CHECK_FILE)
    archive.write_sums(folder)
    logging.info("pose.py: %.2g px from the pipeline; its fp32 graph: %.2g px", apart, far)


def distance(folder: Path, expected: SelfTest) -> float:
    """Return how far pose.py's keypoints are from what is expected at most, in crop pixels."""
    found = [shifts for _, shifts in runtime.run_cases(folder, expected.model_dump(), False)]
    return float(np.concatenate(found).max(initial=0))


def run_portable(folder: Path, crops: Any) -> list[Case]:
    """Return what pose.py gives for crops with the portable graph."""
    height, width = crops.shape[1:3]
    centers = np.full((len(crops), 2), [width / 2, height / 2], np.float32)
    scales = np.full((len(crops), 2), [width, height], np.float32)
    found = []
    for flip in selftest.FLIPS:
        with runtime.Pose(folder, flip=bool(flip), portable=True) as pose:
            keypoints, scores = pose.run(crops, centers, scales)
        found.append(Case(flip=bool(flip), keypoints=keypoints.tolist(), scores=scores.tolist()))
    return found


if __name__ == "__main__":
    stage.run(parser(), main)
