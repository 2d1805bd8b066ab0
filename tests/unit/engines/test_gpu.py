"""On a GPU: pycuda's buffers and events, PyTorch, ONNX Runtime, measured peaks and NVML."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hrnetpose import engines
from hrnetpose.artifacts.model import Crop, ModelCard, Tensor
from hrnetpose.engines import cuda
from hrnetpose.engines.base import Engine
from hrnetpose.engines.cuda_slots import PycudaSlot, Streams
from hrnetpose.graphs import onnx_graph
from hrnetpose.speed import limit
from hrnetpose.speed.monitor import Monitor
from stand_ins.engine import SlotsEngine

BATCH = 4
SIDE = 256
GPU = cuda.find_gpu()
TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 1e-1}

pytestmark = pytest.mark.skipif(isinstance(GPU, str), reason=str(GPU))


def needs(package: str) -> Any:
    found = importlib.util.find_spec(package) is not None
    return pytest.mark.skipif(not found, reason=f"{package} is not installed")


@contextmanager
def copying_engine(card: ModelCard, buffers: int) -> Iterator[Engine[Any]]:
    """Open an engine that copies on the device: its output is the bytes of the crops."""
    import pycuda.driver

    model = card.model_copy(
        update={
            "crop": Crop(height=SIDE, width=SIDE),
            "outputs": [
                Tensor(name="bytes", shape=["batch", SIDE, SIDE * 3 // 4], dtype="float32")
            ],
        }
    )

    def create_slots(engine: Engine[Any]) -> list[PycudaSlot]:
        streams = Streams()

        def enqueue(slot: PycudaSlot) -> None:
            pycuda.driver.memcpy_dtod_async(
                slot.device_outputs["bytes"], slot.device_input, BATCH * SIDE * SIDE * 3,
                stream=streams.compute,
            )  # fmt: skip

        return [
            PycudaSlot(streams, engine.crops_shape, engine.output_shapes, enqueue)
            for _ in range(buffers)
        ]

    with SlotsEngine(model, BATCH, create_slots) as engine:
        yield engine


def is_copy(outputs: Any, crops: Any) -> bool:
    return np.array_equal(outputs["bytes"].view(np.uint8).reshape(crops.shape), crops)


def draw_batches(count: int) -> list[Any]:
    """Return batches of uint8 whose bytes are finite when they are read as floats."""
    drawn = np.random.default_rng(0).standard_normal((count, BATCH, SIDE * SIDE * 3 // 4))
    return list(drawn.astype(np.float32).view(np.uint8).reshape(count, BATCH, SIDE, SIDE, 3))


@needs("pycuda")
@pytest.mark.parametrize("buffers", [1, 2, 3])
def test_batches_travel_through_the_device_in_order(model_card: ModelCard, buffers: int) -> None:
    batches = draw_batches(25)

    with copying_engine(model_card, buffers) as engine:
        found = list(engine.stream(batches))

    assert len(found) == len(batches)
    assert all(map(is_copy, found, batches))


@needs("pycuda")
def test_events_time_the_device(model_card: ModelCard) -> None:
    with copying_engine(model_card, 1) as engine:
        times = engine.device_times(draw_batches(1)[0], 20)

    assert times
    assert all(0 < seconds < 1 for seconds in times)


@needs("pycuda")
@needs("cuda")
def test_a_graph_repeats_what_it_captured(model_card: ModelCard) -> None:
    batches = draw_batches(2)
    with copying_engine(model_card, 1) as engine:
        engine.infer(batches[0])
        engine._slots[0].capture()

        assert is_copy(engine.infer(batches[1]), batches[1])


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
    build: Callable[..., Path], crops: Any, expected: Any,
    backend: str, precision: str, options: dict[str, Any],
) -> None:  # fmt: skip
    plugin = engines.backend(backend)
    if reason := plugin.missing_packages() or plugin.unavailable_reason(plugin.options(**options)):
        pytest.skip(str(reason))
    batches = [crops[:4], crops[4:8], crops[8:]] * 4

    with engines.read(build(backend, precision, **options)).open(threads=1) as engine:
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


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16", "int8", "fp8"])
def test_the_device_multiplies_and_copies(precision: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("the PyTorch that is installed has no CUDA")
    found = limit.measure(precision, cuda.describe_device(), threads=1)

    print(f"{precision}: {found}", file=sys.stderr)
    assert found.flops is not None
    assert 1e12 < found.flops < 1e17
    assert found.bandwidth is not None
    assert 1e10 < found.bandwidth < 1e14


@needs("pynvml")
def test_the_device_says_its_clock_and_its_energy() -> None:
    with Monitor(cuda.describe_device()) as watched:
        limit.measure("fp16", cuda.describe_device(), threads=1)

    gpu, (joules, source) = watched.report.gpu, watched.report.joules
    print(gpu, joules, source, file=sys.stderr)
    assert gpu is not None
    assert gpu.clocks_mhz[1] > 0
    assert joules is None or joules > 0
