"""What needs a GPU: pycuda's buffers and events, PyTorch, ONNX Runtime, the limit and NVML."""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hrnetpose import engines
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.engines import cuda
from hrnetpose.engines.cuda_slots import PycudaSlot, Streams
from hrnetpose.engines.slots import run_in_order
from hrnetpose.graphs import onnx_graph
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


def slots(count: int) -> list[PycudaSlot]:
    """Slots whose work is a copy on the device: the outputs are the bytes of the crops."""
    import pycuda.driver

    streams = Streams()

    def enqueue(slot: PycudaSlot) -> None:
        pycuda.driver.memcpy_dtod_async(
            slot.device_outputs["bytes"], slot.device_input, BATCH * SIDE * SIDE * 4,
            stream=streams.compute,
        )  # fmt: skip

    shape = (BATCH, SIDE, SIDE)
    return [PycudaSlot(streams, (*shape, 4), {"bytes": shape}, enqueue) for _ in range(count)]


def is_copy(outputs: Any, crops: Any) -> bool:
    return np.array_equal(outputs["bytes"].view(np.uint8).reshape(crops.shape), crops)


def numbers(count: int) -> list[Any]:
    """Returns batches of uint8 that are finite floats when their bytes are read so."""
    random = np.random.default_rng(0)
    drawn = random.standard_normal((count, BATCH, SIDE, SIDE), np.float32)
    return list(drawn.view(np.uint8).reshape(count, BATCH, SIDE, SIDE, 4))


@needs("pycuda")
@pytest.mark.parametrize("count", [1, 2, 3])
def test_batches_travel_through_the_device_in_order(count: int) -> None:
    used, batches = slots(count), numbers(25)

    found = list(run_in_order(used, batches))
    for slot in used:
        slot.free()

    assert len(found) == len(batches)
    assert all(map(is_copy, found, batches))


@needs("pycuda")
def test_events_time_the_device() -> None:
    (slot,), (crops,) = slots(1), numbers(1)

    times = slot.time_launches(crops, 20)
    slot.copy_out()
    outputs = slot.collect()
    slot.free()

    assert all(0 < seconds < 1 for seconds in times)
    assert is_copy(outputs, crops)


@needs("pycuda")
@needs("cuda")
def test_a_graph_does_again_what_it_captured() -> None:
    (slot,), batches = slots(1), numbers(2)
    slot.submit(batches[0])
    slot.wait()

    slot.capture()
    slot.submit(batches[1])
    outputs = slot.collect()
    slot.free()

    assert is_copy(outputs, batches[1])


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
    if reason := plugin.missing_packages() or plugin.unavailable_reason(plugin.options(**options)):
        pytest.skip(str(reason))
    run_stage(
        "build_engine", "--variant", "mine", "--backend", backend, "--precision", precision,
        "--graph", tiny / f"{plugin.graphs[precision]}.onnx",  # type: ignore[index]
        "--weights", tiny / "weights.pth", "--card", tiny / "model.json", "--batch", BATCH,
        "--options", json.dumps(options), "--output", tmp_path / "engine",
    )  # fmt: skip
    crops = np.load(tiny / "crops.npy")
    card = ModelCard.read(tiny / "model.json")
    expected = onnx_graph.run(tiny / "fp32.onnx", onnx_graph.normalised(crops, card))
    batches = list(crops.reshape(3, BATCH, *crops.shape[1:])) * 4

    with engines.read(tmp_path / "engine").open(threads=1) as engine:
        found = np.concatenate([outputs["heatmaps"] for outputs in engine.stream(batches)])
        alone, phases = engine.infer_in_phases(batches[0])
        executed = engine.executed()
        times = engine.device_times(batches[0], 5)

    close = TOLERANCE[precision]
    assert onnx_graph.relative_error(found, np.concatenate([expected] * 4)) < close
    assert onnx_graph.relative_error(alone["heatmaps"], expected[:BATCH]) < close
    assert min(phases.copy_in, phases.inference, phases.copy_out) > 0
    assert executed.precision == precision
    assert times is None or all(0 < seconds < 1 for seconds in times)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8", "fp8"])
def test_the_device_multiplies_and_copies(precision: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("the PyTorch that is installed has no CUDA")
    found = limit.measure(precision, cuda.device(), threads=1)

    print(f"{precision}: {found}", file=sys.stderr)
    assert found.flops is not None
    assert 1e12 < found.flops < 1e17
    assert found.bandwidth is not None
    assert 1e10 < found.bandwidth < 1e14


@needs("pynvml")
def test_the_device_says_its_clock_and_its_energy() -> None:
    with Monitor(cuda.device()) as watched:
        limit.measure("fp16", cuda.device(), threads=1)

    gpu, (joules, source) = watched.report.gpu, watched.report.joules
    print(gpu, joules, source, file=sys.stderr)
    assert gpu is not None
    assert gpu.clocks_mhz[1] > 0
    assert joules is None or joules > 0
