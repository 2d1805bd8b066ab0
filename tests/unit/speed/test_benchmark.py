"""The stage itself: what it measures, and that it says INVALID when it should, with the reason."""

import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from hrnetpose import files
from hrnetpose.artifacts.engine import Device, EngineCard
from hrnetpose.artifacts.machine import Cutting, Machine, Peaks
from hrnetpose.artifacts.perf import Perf
from hrnetpose.data.annotations import Image, Person
from hrnetpose.data.persons import Persons
from hrnetpose.speed import host, limit, scenarios
from stand_ins import cuda

RunStage = Callable[..., None]
BATCH = 4


@pytest.fixture(scope="module")
def engine(tiny: Path, tmp_path_factory: pytest.TempPathFactory, run_stage: RunStage) -> Path:
    """An engine of the small HRNet; ONNX Runtime's opens fastest."""
    folder = tmp_path_factory.mktemp("engine")
    run_stage(
        "build_engine", "--variant", "mine", "--backend", "onnxruntime", "--precision", "fp32",
        "--graph", tiny / "fp32.onnx", "--card", tiny / "model.json", "--batch", BATCH,
        "--threads", 2, "--output", folder,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two images of noise with two persons each: their table and folder."""
    folder = tmp_path_factory.mktemp("people")
    random = np.random.default_rng(0)
    for name in ("a.jpg", "b.jpg"):
        cv2.imwrite(str(folder / name), random.integers(0, 256, (80, 60, 3), dtype=np.uint8))
    box = np.array([5, 5, 35, 65], np.float32)
    images = [
        Image(n, name, 60, 80, tuple(Person(2 * n + i, n, box, 1.0) for i in range(2)))
        for n, name in enumerate(("a.jpg", "b.jpg"))
    ]
    Persons.of(images, "gt").write(folder / "persons.npz")
    return folder / "persons.npz", folder


@pytest.fixture
def benchmark(tiny: Path, tmp_path: Path, run_stage: RunStage) -> Callable[..., Perf]:
    """Run the stage and read what it wrote."""

    def run(engine: Path, *arguments: object, seconds: float = 0.3) -> Perf:
        run_stage(
            "benchmark_engine", "--engine", engine, "--crops", tiny / "crops.npy",
            "--min-seconds", seconds, "--min-samples", 5, "--batches", 2, "--threads", 2,
            "--output", tmp_path / "perf.json", "--samples", tmp_path / "samples.json", *arguments,
        )  # fmt: skip
        return Perf.read(tmp_path / "perf.json")

    return run


def change(engine: Path, folder: Path, card: dict[str, Any], graph: Any = None) -> Path:
    """Return a copy of an engine with another card and, if asked, another graph."""
    model = onnx.load(engine / "engine.bin")
    if graph:
        graph(model.graph)
    folder.mkdir()
    onnx.save(model, folder / "engine.bin")
    known = EngineCard.read(engine / "engine.json")
    card = {"sha256": files.sha256(folder / "engine.bin"), **card}
    known.model_copy(update=card).write(folder / "engine.json")
    return folder


def test_all_scenarios_are_measured_and_add_up(
    engine: Path, people: tuple[Path, Path], benchmark: Callable[..., Perf], tmp_path: Path
) -> None:
    perf = benchmark(engine, "--persons", people[0], "--images", people[1])

    raw = json.loads((tmp_path / "samples.json").read_text())
    assert perf.latency.batch == 1
    assert perf.latency.samples == len(raw["latency_s"]) >= 5
    assert perf.latency_ms.p50 == pytest.approx(np.median(raw["latency_s"]) * 1e3)
    assert [point.batch for point in perf.throughput.sweep] == [2, BATCH]
    assert perf.batch == perf.throughput.batch in (2, BATCH)
    assert perf.samples == len(raw["throughput_done_s"])
    assert perf.throughput.fps == pytest.approx(perf.batch * perf.samples / perf.duration_s)
    assert perf.contradictions() == []
    assert perf.roofline.limit_fps is not None
    assert perf.roofline.fraction == pytest.approx(perf.throughput.fps / perf.roofline.limit_fps)
    if perf.layers is not None:
        slowest = [layer.ms for layer in perf.layers]
        assert slowest == sorted(slowest, reverse=True)
        assert 0 < sum(layer.share for layer in perf.layers) <= 1 + 1e-9
    whole = perf.end_to_end
    assert whole is not None
    assert (whole.persons, whole.images) == (4, 2)
    assert set(whole.ms_per_person) == {
        "decode", "crop", "copy_in", "inference", "copy_out", "keypoints", "other",
    }  # fmt: skip
    assert min(whole.ms_per_person.values()) >= 0
    assert sum(whole.ms_per_person.values()) == pytest.approx(whole.total_ms_per_person)
    assert perf.energy.joules_per_image or perf.energy.source.startswith("not available")


def test_threads_and_streams_are_those_that_run(
    tiny: Path, benchmark: Callable[..., Perf], tmp_path: Path, run_stage: RunStage
) -> None:
    """OpenVINO runs no more streams than threads, whatever it is asked for."""
    run_stage(
        "build_engine", "--variant", "mine", "--backend", "openvino", "--precision", "fp32",
        "--graph", tiny / "fp32.onnx", "--card", tiny / "model.json", "--batch", BATCH,
        "--options", '{"threads": 1}', "--output", tmp_path / "engine",
    )  # fmt: skip

    perf = benchmark(tmp_path / "engine", "--streams", 8)

    assert perf.threads == 1
    assert perf.throughput.streams == 1
    assert [(point.batch, point.streams) for point in perf.throughput.sweep] == [(2, 1), (BATCH, 1)]


def test_throughput_takes_no_more_batches_than_it_needs(
    engine: Path, benchmark: Callable[..., Perf]
) -> None:
    """`min_samples` is of latency: batches of slow models would take minutes."""
    perf = benchmark(engine, "--min-samples", 200, seconds=0.01)

    assert perf.samples < 200 <= perf.latency.samples


@pytest.fixture
def build_on_gpu(
    tiny: Path, tmp_path: Path, run_stage: RunStage, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Path]:
    """Build an engine on a stand-in for a GPU, with options as JSON; it stays in place."""
    cuda.install(monkeypatch, tiny / "fp32.onnx", tiny / "model.json")

    def build_on_gpu(options: str) -> Path:
        run_stage(
            "build_engine", "--variant", "mine", "--backend", "tensorrt_rtx", "--precision", "fp32",
            "--graph", tiny / "fp32.onnx", "--card", tiny / "model.json", "--batch", BATCH,
            "--options", options, "--output", tmp_path / "engine",
        )  # fmt: skip
        return tmp_path / "engine"

    return build_on_gpu


def test_the_cache_of_the_cpu_keeps_no_weights_of_a_gpu(
    build_on_gpu: Callable[[str], Path], benchmark: Callable[..., Perf],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(host, "_last_level_cache", lambda: 0)
    engine = build_on_gpu("{}")

    perf = benchmark(engine, seconds=0.01)

    model = EngineCard.read(engine / "engine.json").model
    assert perf.roofline.bytes_per_image == limit.fewest_bytes(model, "fp16", BATCH, None)


@pytest.mark.parametrize("option", ["false", "true"])
def test_an_engine_in_tf32_is_held_against_the_peak_of_tf32(
    build_on_gpu: Callable[[str], Path], benchmark: Callable[..., Perf], machine: Path,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str,
) -> None:  # fmt: skip
    layer = {"LayerType": "CaskConvolution", "Inputs": [{"Datatype": "Float"}]}
    monkeypatch.setattr(cuda, "LAYERS", {"Layers": [{"Name": "conv", **layer}]})
    peaks = {
        name: Peaks(flops=flops, bandwidth=1e15, measured_with="paper")
        for name, flops in (("fp32", 1e14), ("tf32", 1e15))
    }
    given = shared(machine, tmp_path / "gpu.json", device=Device(kind="gpu"), peaks=peaks)
    engine = build_on_gpu(f'{{"tf32": {option}}}')

    perf = benchmark(engine, "--machine", given, seconds=0.01)

    assert perf.precision.executed == "fp32"
    assert perf.roofline.precision == ("tf32" if option == "true" else "fp32")
    assert perf.roofline.peak_flops == peaks[perf.roofline.precision].flops


def test_a_duration_of_one_second_is_too_short(
    engine: Path, benchmark: Callable[..., Perf]
) -> None:
    perf = benchmark(engine, seconds=1.0)

    assert perf.validity.verdict == "INVALID"
    for what in ("latency", "throughput"):
        reason = re.compile(rf"{what}: too short: [12]\.\d s, at least 3 s are needed")
        assert any(map(reason.fullmatch, perf.validity.reasons))


@contextmanager
def busy() -> Iterator[Callable[[], None]]:
    """Keep as many processes busy as are noticed on any machine; yields what ends them."""
    command = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(command) for _ in range(2 + host.cores() // 8)]

    def end() -> None:
        for process in processes:
            process.kill()
            process.wait()

    try:
        yield end
    finally:
        end()


def test_a_busy_second_process_is_noticed(
    engine: Path, people: tuple[Path, Path], benchmark: Callable[..., Perf]
) -> None:
    with busy():
        perf = benchmark(engine, "--persons", people[0], "--images", people[1], "--patience", 0)

    assert perf.validity.verdict == "INVALID"
    for what in ("latency", "throughput"):
        assert any(
            reason.startswith(f"{what}: other processes took") for reason in perf.validity.reasons
        )
    # All that was measured, and each of it once.
    assert [attempt.of for attempt in perf.attempts] == [
        "latency", "crop to keypoints", "batch 2", f"batch {BATCH}", "throughput",
        "image to keypoints", "image to crop", "peak of fp32",
    ]  # fmt: skip
    assert perf.end_to_end is not None
    assert perf.end_to_end.disturbed
    assert perf.disturbed is not None
    assert perf.disturbed.startswith("latency (1 of 1), ")


def test_what_a_neighbour_disturbed_is_measured_again(
    engine: Path, benchmark: Callable[..., Perf], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = scenarios.measure_latency

    def measure_beside(*arguments: Any) -> Any:
        found = measure(*arguments)
        end()
        return found

    monkeypatch.setattr(scenarios, "measure_latency", measure_beside)
    with busy() as end:
        perf = benchmark(engine, "--min-samples", 50, "--patience", 20, seconds=3.0)

    raw = json.loads((tmp_path / "samples.json").read_text())
    first, *others = [attempt for attempt in perf.attempts if attempt.of == "latency"]
    assert first.disturbed
    # On a machine that others keep busy patience ends, and the last attempt stays.
    last = others[-1] if others else first
    assert last.figure == pytest.approx(perf.latency_ms.p50)
    assert [f"latency: {text}" for text in last.disturbed] == [
        reason for reason in perf.validity.reasons if reason.startswith("latency: ")
    ]
    assert others or perf.validity.verdict == "INVALID"
    discarded = [kept for kept in raw["discarded"] if kept["of"] == "latency"]
    assert len(discarded) == len(others)
    if others:
        assert np.median(discarded[0]["samples_s"]) * 1e3 == pytest.approx(first.figure)


@pytest.fixture(scope="module")
def machine(
    people: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory, run_stage: RunStage
) -> Path:
    """What benchmarks on this machine share."""
    output = tmp_path_factory.mktemp("machine") / "cpu_64x32.json"
    run_stage(
        "measure_machine", "--device", "cpu", "--persons", people[0], "--images", people[1],
        "--crop", "64x32", "--min-seconds", 0.3, "--threads", 2, "--output", output,
    )  # fmt: skip
    found = Machine.read(output)
    assert {"peak of fp32", "image to crop"} <= {attempt.of for attempt in found.attempts}
    for attempt in found.attempts:
        # What was disturbed is not passed on; and it is not needed for the tests.
        kept = attempt.of.removeprefix("peak of ") in found.peaks or (
            attempt.of == "image to crop" and found.cutting is not None
        )
        assert kept == (not attempt.disturbed)
    return output


def shared(machine: Path, output: Path, **changes: Any) -> Path:
    """Write a machine of which all is known."""
    known = {
        "peaks": {"fp32": Peaks(flops=1e15, bandwidth=1e12, measured_with="paper")},
        "cutting": Cutting(decode_ms=3.0, crop_ms=0.5),
    }
    Machine.read(machine).model_copy(update=known | changes).write(output)
    return output


def test_what_variants_share_is_not_measured_again(
    engine: Path,
    people: tuple[Path, Path],
    machine: Path,
    benchmark: Callable[..., Perf],
    tmp_path: Path,
) -> None:
    given = shared(machine, tmp_path / "machine.json")

    perf = benchmark(engine, "--persons", people[0], "--images", people[1], "--machine", given)

    assert not {"peak of fp32", "image to crop"} & {attempt.of for attempt in perf.attempts}
    assert (perf.roofline.peak_flops, perf.roofline.bandwidth_bytes_s) == (1e15, 1e12)
    assert perf.end_to_end is not None
    parts = perf.end_to_end.ms_per_person
    assert (parts["decode"], parts["crop"]) == (3.0, 0.5)
    assert sum(parts.values()) == pytest.approx(perf.end_to_end.total_ms_per_person)


def test_on_another_machine_all_is_measured_there(
    engine: Path,
    people: tuple[Path, Path],
    machine: Path,
    benchmark: Callable[..., Perf],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    given = shared(machine, tmp_path / "machine.json", name="elsewhere")

    perf = benchmark(engine, "--persons", people[0], "--images", people[1], "--machine", given)

    assert {"peak of fp32", "image to crop"} <= {attempt.of for attempt in perf.attempts}
    assert perf.roofline.peak_flops != 1e15
    assert "machine.json: the host was elsewhere, and is " in caplog.text


def test_a_peak_of_a_slow_minute_is_no_reason(
    engine: Path, machine: Path, benchmark: Callable[..., Perf], tmp_path: Path
) -> None:
    slow = {"fp32": Peaks(flops=1.0, bandwidth=1e12, measured_with="paper")}
    given = shared(machine, tmp_path / "machine.json", peaks=slow)

    perf = benchmark(engine, "--machine", given)

    assert perf.attempts[-1].of == "peak of fp32"
    assert perf.roofline.peak_flops is not None
    assert perf.roofline.peak_flops > 1e8
    assert not any(reason.startswith("above the limit") for reason in perf.validity.reasons)


def first_only(graph: Any) -> None:
    """Keep the first image's heatmaps."""
    inner = f"{graph.output[0].name}_all"
    for node in graph.node:
        node.output[:] = [inner if n == graph.output[0].name else n for n in node.output]
    for name, value in (("from", 0), ("to", 1)):
        graph.initializer.append(numpy_helper.from_array(np.array([value]), f"first_{name}"))
    graph.node.append(
        helper.make_node("Slice", [inner, "first_from", "first_to"], [graph.output[0].name])
    )


def first_everywhere(graph: Any) -> None:
    """Compute the first image and fills the batch with its heatmaps."""
    first_only(graph)
    name = graph.output[0].name
    graph.node[-1].output[0] = f"{name}_first"
    graph.node.append(helper.make_node("Shape", [f"{name}_all"], [f"{name}_shape"]))
    graph.node.append(helper.make_node("Expand", [f"{name}_first", f"{name}_shape"], [name]))


def test_a_batch_that_is_declared_but_not_computed_is_caught(
    engine: Path, benchmark: Callable[..., Perf], tmp_path: Path
) -> None:
    """It returns one image for a batch: its figure would be four times too high.

    ONNX Runtime itself refuses such outputs.
    """
    built_for = {"openvino": importlib.metadata.version("openvino")}
    card = {"backend": "openvino", "options": {}, "built_for": built_for}

    perf = benchmark(change(engine, tmp_path / "first", card, first_only), "--batches", BATCH)

    images = perf.samples * BATCH
    assert perf.validity.verdict == "INVALID"
    assert perf.throughput.images == perf.samples
    assert (
        f"batch arithmetic: {perf.samples} batches of {BATCH} are {images} images, but "
        f"{perf.samples} came back"
    ) in perf.validity.reasons


def test_a_batch_that_is_filled_up_is_caught(
    engine: Path, benchmark: Callable[..., Perf], tmp_path: Path
) -> None:
    perf = benchmark(change(engine, tmp_path / "filled", {}, first_everywhere))

    assert perf.throughput.images == perf.samples * perf.batch
    assert any(
        reason.startswith("batch: the last image of a batch has other heatmaps than alone")
        for reason in perf.validity.reasons
    )


def test_a_figure_above_the_limit_is_caught(
    engine: Path, benchmark: Callable[..., Perf], tmp_path: Path
) -> None:
    """The model is said to have a million times the operations that it has."""
    model = EngineCard.read(engine / "engine.json").model
    heavy = model.model_copy(update={"macs": model.macs * 1_000_000})

    perf = benchmark(change(engine, tmp_path / "heavy", {"model": heavy}))

    assert any(reason.startswith("above the limit: ") for reason in perf.validity.reasons)
    assert perf.roofline.fraction is not None
    assert perf.roofline.fraction > 1


def test_another_precision_than_asked_for_is_told_apart_from_validity(
    engine: Path,
    benchmark: Callable[..., Perf],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")

    perf = benchmark(change(engine, tmp_path / "named", {"requested": "int8"}))

    assert (perf.precision.requested, perf.precision.executed) == ("int8", "fp32")
    assert not any("precision" in reason or "int8" in reason for reason in perf.validity.reasons)
    said = [record.getMessage() for record in caplog.records]
    assert "int8 was asked for, fp32 is what runs" in said[0]
