"""ONNX Runtime and PyTorch on a GPU: refused in one line without, and their parts on the CPU."""

import contextlib
import json
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hrnetpose import engines
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.engines import cuda, onnxruntime, plugin, pytorch
from hrnetpose.engines.pytorch import GpuSlot, PyTorchOptions
from hrnetpose.graphs import onnx_graph
from hrnetpose.stage import StageError

RunStage = Callable[..., None]

BATCH = 4
GPU = cuda.Gpu("NVIDIA H200", "9.0", "580.95.05 (CUDA 13.0)")


@pytest.fixture
def build(tiny: Path, tmp_path: Path, run_stage: RunStage) -> Callable[..., Path]:
    def build(backend: str, precision: str = "fp32", **options: object) -> Path:
        graph = engines.backend(backend).graphs[precision]  # type: ignore[index]
        run_stage(
            "build_engine", "--variant", "mine", "--backend", backend, "--precision", precision,
            "--graph", tiny / f"{graph}.onnx", "--weights", tiny / "weights.pth",
            "--card", tiny / "model.json", "--batch", BATCH, "--options", json.dumps(options),
            "--output", tmp_path / "engine",
        )  # fmt: skip
        return tmp_path / "engine"

    return build


@pytest.fixture
def crops(tiny: Path) -> Any:
    return np.load(tiny / "crops.npy")


@pytest.fixture
def expected(tiny: Path, crops: Any) -> Any:
    card = ModelCard.read(tiny / "model.json")
    return onnx_graph.run(tiny / "fp32.onnx", onnx_graph.normalised(crops, card))


@pytest.mark.skipif(isinstance(cuda.find(), cuda.Gpu), reason="there is a GPU")
def test_a_device_that_is_missing_is_one_line(build: Callable[..., Path]) -> None:
    with pytest.raises(StageError, match="backend pytorch cannot run here: there is no NVIDIA"):
        build("pytorch", device="cuda")
    with pytest.raises(
        StageError,
        match="backend onnxruntime cannot run here: the onnxruntime that is installed has no "
        "CUDAExecutionProvider; change it for",
    ):
        build("onnxruntime", provider="cuda")


def test_packages_that_do_not_fit_the_gpu_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "find", lambda: GPU)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    reason = pytorch.unavailable_reason(PyTorchOptions(device="cuda"))

    assert reason is not None
    assert reason.startswith(f"PyTorch {torch.__version__} cannot use NVIDIA H200")
    assert onnxruntime.unavailable_reason(onnxruntime.OnnxRuntimeOptions()) is None
    assert pytorch.unavailable_reason(PyTorchOptions()) is None


@pytest.mark.parametrize("options", [{"compile": True}, {"cuda_graphs": True}])
def test_what_only_a_gpu_can_do_is_refused_on_the_cpu(options: dict[str, bool]) -> None:
    with pytest.raises(ValueError, match="need `device: cuda`"):
        PyTorchOptions(**options)  # type: ignore[arg-type]


def test_int8_goes_to_tensorrt(build: Callable[..., Path]) -> None:
    with pytest.raises(StageError, match="no int8 with 'cuda'; use backend tensorrt"):
        build("onnxruntime", "int8", provider="cuda")


@pytest.mark.parametrize(("provider", "name"), [("cuda", "CUDA"), ("tensorrt", "Tensorrt")])
def test_a_provider_that_onnx_runtime_leaves_out_is_an_error(
    build: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, provider: str, name: str
) -> None:
    """ONNX Runtime itself goes on with the CPU and says so in a warning."""
    monkeypatch.setattr(plugin.Backend, "require", lambda *arguments, **options: None)

    with pytest.raises(StageError, match=f"ONNX Runtime cannot use {name}ExecutionProvider"):
        build("onnxruntime", "fp16", provider=provider)


def test_a_gpu_is_asked_for_by_option() -> None:
    for backend, options, wanted in [
        ("pytorch", {}, 0), ("pytorch", {"device": "cuda"}, 1), ("onnxruntime", {}, 0),
        ("onnxruntime", {"provider": "tensorrt"}, 1), ("tensorrt", {}, 1), ("igie", {}, 1),
    ]:  # fmt: skip
        assert engines.rules()[backend].gpus(options) == wanted  # type: ignore[arg-type]


def test_a_session_runs_on_bound_buffers(
    build: Callable[..., Path], crops: Any, expected: Any
) -> None:
    """With ONNX Runtime's own CPU device in the place of the GPU."""
    with engines.read(build("onnxruntime")).open(threads=1) as opened:
        slot = onnxruntime.BoundSlot(
            opened._session, (BATCH, 64, 32, 3), {"heatmaps": (BATCH, *expected.shape[1:])}, "cpu"
        )
        opened._slots = [slot]
        first = opened.infer(crops[:4])["heatmaps"]
        kept = first.copy()
        second = opened.infer(crops[4:8])["heatmaps"]

        again, phases = opened.infer_in_phases(crops[4:8])

    assert np.array_equal(again["heatmaps"], second)
    assert min(phases.copy_in, phases.inference, phases.copy_out) > 0
    assert onnx_graph.relative_error(second, expected[4:8]) < 1e-5
    assert onnx_graph.relative_error(first, expected[:4]) < 1e-5
    assert np.array_equal(first, kept), "a result does not belong to the caller"


class TorchCuda:
    """Takes the calls to torch.cuda; the work is done at once, on the CPU."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        outer = self

        class Event:
            def __init__(self, enable_timing: bool = False) -> None: ...

            def record(self, stream: object) -> None: ...

            def elapsed_time(self, end: object) -> float:
                return 4.0

        class CUDAGraph:
            def replay(self) -> None:
                outer.calls.append("replay")
                outer.captured()

        def stream() -> Any:
            return types.SimpleNamespace(synchronize=lambda: outer.calls.append("wait"))

        def enter(stream: object) -> Any:
            outer.calls.append("step")
            return contextlib.nullcontext()

        @contextlib.contextmanager
        def graph(graph: object, stream: object) -> Any:
            yield

        patch.setattr(torch.cuda, "Event", Event)
        patch.setattr(torch.cuda, "Stream", stream)
        patch.setattr(torch.cuda, "stream", enter)
        patch.setattr(torch.cuda, "CUDAGraph", CUDAGraph)
        patch.setattr(torch.cuda, "graph", graph)
        self.captured: Callable[[], object] = lambda: None


@pytest.fixture
def on_stand_in(
    build: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> tuple[Callable[..., Any], TorchCuda]:
    """Opens a PyTorch engine that believes to be on a GPU."""
    stand_in = TorchCuda(monkeypatch)
    engine = engines.read(build("pytorch")).open(threads=1)

    @contextlib.contextmanager
    def open_it(buffers: int = 1, graph: bool = False) -> Any:
        with engine as opened:
            opened._slots = [
                GpuSlot(opened._run, False, opened.crops_shape, opened.output_shapes, "cpu", graph)
                for _ in range(buffers)
            ]
            stand_in.calls.clear()
            yield opened

    return open_it, stand_in


STEPS = ["step", "step", "step"]
"""Of one batch: copy in, launch, copy out."""


def test_pytorch_keeps_batches_in_flight(
    on_stand_in: tuple[Callable[..., Any], TorchCuda], crops: Any, expected: Any
) -> None:
    open_it, stand_in = on_stand_in
    with open_it(buffers=2) as opened:
        assert opened.requests == 2
        found = [o["heatmaps"] for o in opened.stream([crops[:4], crops[4:8], crops[8:]])]
        assert stand_in.calls == [*STEPS, *STEPS, "wait", *STEPS, "wait", "wait"]
        assert onnx_graph.relative_error(np.concatenate(found), expected) < 1e-5
        assert onnx_graph.relative_error(opened.infer(crops[:4])["heatmaps"], expected[:4]) < 1e-5
        assert opened.device_times(crops[:4], 3) == [4e-3] * 3


def test_pytorch_tells_the_parts_of_an_inference_apart(
    on_stand_in: tuple[Callable[..., Any], TorchCuda], crops: Any, expected: Any
) -> None:
    open_it, stand_in = on_stand_in
    with open_it() as opened:
        found, phases = opened.infer_in_phases(crops[:4])

    assert stand_in.calls == ["step", "wait"] * 3
    assert onnx_graph.relative_error(found["heatmaps"], expected[:4]) < 1e-5
    assert min(phases.copy_in, phases.inference, phases.copy_out) > 0


def test_pytorch_launches_a_batch_as_one_cuda_graph(
    on_stand_in: tuple[Callable[..., Any], TorchCuda], crops: Any, expected: Any
) -> None:
    open_it, stand_in = on_stand_in
    with open_it(graph=True) as opened:
        (slot,) = opened._slots

        def replay() -> None:
            slot._result["heatmaps"].copy_(opened._run(slot._pixels)["heatmaps"])

        stand_in.captured = replay
        found = [opened.infer(part)["heatmaps"] for part in (crops[:4], crops[4:8])]

    assert stand_in.calls.count("replay") == 2
    assert onnx_graph.relative_error(np.concatenate(found), expected[:8]) < 1e-5
