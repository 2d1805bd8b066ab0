"""What needs a GPU: pycuda's buffers and events, PyTorch, ONNX Runtime, the limit and NVML."""

import importlib.util
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hrnetpose import engines
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.engines import cuda
from hrnetpose.model import graphs
from hrnetpose.speed import limit
from hrnetpose.speed.monitor import Monitor

RunStage = Callable[..., None]

BATCH = 4
SIDE = 256
DEVICE = cuda.find()
TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 1e-1}

pytestmark = pytest.mark.skipif(isinstance(DEVICE, str), reason=str(DEVICE))


def needs(package: str) -> Any:
    found = importlib.util.find_spec(package) is not None
    return pytest.mark.skipif(not found, reason=f"{package} is not installed")


class Copies:
    """Batches whose work is a copy on the device: heatmaps are the bytes of the crops."""

    def __init__(self, slots: int) -> None:
        import pycuda.driver

        self.batches = cuda.Batches((BATCH, SIDE, SIDE, 4), (BATCH, SIDE, SIDE), slots)
        self._copy = pycuda.driver.memcpy_dtod_async

    def launch(self, slot: int, images: int) -> None:
        buffers = self.batches.slots[slot]
        size = images * SIDE * SIDE * 4
        self._copy(buffers.device_output, buffers.device_input, size, stream=self.batches.compute)


def numbers(count: int) -> list[Any]:
    """Returns batches of uint8 that are finite floats when their bytes are read so."""
    random = np.random.default_rng(0)
    drawn = random.standard_normal((count, BATCH, SIDE, SIDE), np.float32)
    return list(drawn.view(np.uint8).reshape(count, BATCH, SIDE, SIDE, 4))


@needs("pycuda")
@pytest.mark.parametrize("slots", [1, 2, 3])
def test_batches_travel_through_the_device_in_order(slots: int) -> None:
    copies, batches = Copies(slots), [*numbers(25), numbers(1)[0][:2]]

    found = list(copies.batches.stream(copies.launch, batches))
    copies.batches.close()

    assert len(found) == len(batches)
    for heatmaps, crops in zip(found, batches, strict=True):
        assert np.array_equal(heatmaps.view(np.uint8).reshape(crops.shape), crops)


@needs("pycuda")
def test_events_time_the_device_and_parts_sum_to_the_call() -> None:
    copies, (crops,) = Copies(2), numbers(1)

    times = copies.batches.times(copies.launch, crops, 20)
    heatmaps, phases = copies.batches.infer_in_phases(copies.launch, crops)
    copies.batches.close()

    assert all(0 < seconds < 1 for seconds in times)
    assert np.array_equal(heatmaps.view(np.uint8).reshape(crops.shape), crops)
    assert min(phases.copy_in, phases.inference, phases.copy_out) > 0


@needs("pycuda")
@needs("cuda")
def test_a_graph_does_again_what_it_captured() -> None:
    copies, batches = Copies(1), numbers(2)
    copies.batches.infer(copies.launch, batches[0])

    graph = cuda.Graph(copies.batches.compute, partial(copies.launch, 0, BATCH))
    found = copies.batches.infer(lambda slot, images: graph.launch(), batches[1])
    graph.close()
    copies.batches.close()

    assert np.array_equal(found.view(np.uint8).reshape(batches[1].shape), batches[1])


def cases() -> list[tuple[str, str, dict[str, Any]]]:
    found: list[tuple[str, str, dict[str, Any]]] = [
        ("pytorch", precision, {"device": "cuda", "cuda_graphs": graph})
        for precision in ("fp32", "fp16", "bf16")
        for graph in (False, True)
    ]
    found += [("onnxruntime", name, {"provider": "cuda"}) for name in ("fp32", "fp16")]
    return found


@pytest.mark.parametrize(("backend", "precision", "options"), cases())
def test_the_heatmaps_are_those_of_the_cpu(
    backend: str, precision: str, options: dict[str, Any], tiny: Path, tmp_path: Path,
    run_stage: RunStage,
) -> None:  # fmt: skip
    plugin = engines.backend(backend)  # type: ignore[arg-type]
    if reason := plugin.missing() or plugin.lacking(options):
        pytest.skip(str(reason))
    run_stage(
        "build_engine", "--variant", "mine", "--backend", backend, "--precision", precision,
        "--graph", tiny / f"{plugin.graphs[precision]}.onnx",  # type: ignore[index]
        "--weights", tiny / "weights.pth", "--card", tiny / "model.json", "--batch", BATCH,
        "--options", json.dumps(options), "--output", tmp_path / "engine",
    )  # fmt: skip
    crops = np.load(tiny / "crops.npy")
    card = ModelCard.read(tiny / "model.json")
    expected = graphs.run(tiny / "fp32.onnx", graphs.normalised(crops, card))
    batches = list(crops.reshape(3, BATCH, *crops.shape[1:])) * 4

    with engines.open_engine(tmp_path / "engine", threads=1)[0] as engine:
        found = np.concatenate(list(engine.stream(batches)))
        alone, phases = engine.infer_in_phases(batches[0])
        executed = engine.executed()
        times = engine.device_times(batches[0], 5)

    close = TOLERANCE[precision]
    assert graphs.relative_error(found, np.concatenate([expected] * 4)) < close
    assert graphs.relative_error(alone, expected[:BATCH]) < close
    assert min(phases.copy_in, phases.inference, phases.copy_out) > 0
    assert executed.precision == precision
    assert times is None or all(0 < seconds < 1 for seconds in times)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8", "fp8"])
def test_the_device_multiplies_and_copies(precision: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("the PyTorch that is installed has no CUDA")
    found = limit.measure(precision, str(DEVICE), threads=1)

    print(f"{precision}: {found}", file=sys.stderr)
    assert found.flops is not None
    assert 1e12 < found.flops < 1e17
    assert found.bandwidth is not None
    assert 1e10 < found.bandwidth < 1e14


@needs("pynvml")
def test_the_device_says_its_clock_and_its_energy() -> None:
    with Monitor(str(DEVICE)) as watched:
        limit.measure("fp16", str(DEVICE), threads=1)

    gpu, (joules, source) = watched.report.gpu, watched.report.joules
    print(gpu, joules, source, file=sys.stderr)
    assert gpu is not None
    assert gpu.clocks_mhz[1] > 0
    assert joules is None or joules > 0
