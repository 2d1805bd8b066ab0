"""ONNX Runtime and PyTorch on a GPU: refused in one line without one, and their calls to CUDA."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hrnetpose import engines
from hrnetpose.engines import cuda, onnxruntime, pytorch
from hrnetpose.engines.base import Engine
from hrnetpose.engines.pytorch import PyTorchOptions
from hrnetpose.stage import StageError
from stand_ins import torch_cuda

Build = Callable[..., Path]

GPU = cuda.Gpu("NVIDIA H200", "9.0", "580.95.05 (CUDA 13.0)")


@pytest.mark.skipif(isinstance(cuda.find_gpu(), cuda.Gpu), reason="there is a GPU")
@pytest.mark.parametrize(
    ("backend", "options", "reason"),
    [
        ("pytorch", {"device": "cuda"}, "there is no NVIDIA driver"),
        ("onnxruntime", {"provider": "cuda"}, "the installed onnxruntime has no CUDAExecution"),
    ],
)
def test_a_missing_gpu_is_reported_in_one_line(
    build: Build, backend: str, options: dict[str, str], reason: str
) -> None:
    with pytest.raises(StageError, match=f"backend {backend} cannot run here: {reason}"):
        build(backend, **options)


def test_a_pytorch_that_does_not_fit_the_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "find_gpu", lambda: GPU)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    reason = pytorch.unavailable_reason(PyTorchOptions(device="cuda"))

    assert str(reason).startswith(f"PyTorch {torch.__version__} cannot use NVIDIA H200; install")
    assert pytorch.unavailable_reason(PyTorchOptions()) is None
    assert onnxruntime.unavailable_reason(onnxruntime.OnnxRuntimeOptions()) is None


@pytest.mark.parametrize("option", ["compile", "cuda_graphs"])
def test_options_of_a_gpu_are_refused_on_the_cpu(option: str) -> None:
    with pytest.raises(ValueError, match="need `device: cuda`"):
        PyTorchOptions(**{option: True})


def test_onnx_runtime_has_no_int8_on_a_gpu(build: Build) -> None:
    with pytest.raises(StageError, match="no int8 with 'cuda'; use backend tensorrt"):
        build("onnxruntime", "int8", provider="cuda")


@pytest.mark.parametrize(("provider", "name"), [("cuda", "CUDA"), ("tensorrt", "Tensorrt")])
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_onnx_runtime_leaves_out_is_an_error(
    build: Build, monkeypatch: pytest.MonkeyPatch, provider: str, name: str
) -> None:
    """ONNX Runtime itself goes on with the CPU and only warns."""
    backend = replace(onnxruntime.BACKEND, unavailable_reason=lambda options: None)
    monkeypatch.setattr(onnxruntime, "BACKEND", backend)

    with pytest.raises(StageError, match=f"ONNX Runtime cannot use {name}ExecutionProvider"):
        build("onnxruntime", "fp16", provider=provider)


@pytest.mark.parametrize("tf32", [False, True])
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_tensorrt_in_onnx_runtime_takes_tf32_only_where_it_may(
    build: Build, monkeypatch: pytest.MonkeyPatch, tf32: bool
) -> None:
    """It has no option for it: its libraries look at the environment when a session is made."""
    found = []

    def create(*arguments: Any, **options: Any) -> None:
        found.append(os.environ.get("NVIDIA_TF32_OVERRIDE"))
        raise RuntimeError("no GPU")

    backend = replace(onnxruntime.BACKEND, unavailable_reason=lambda options: None)
    monkeypatch.setattr(onnxruntime, "BACKEND", backend)
    monkeypatch.setattr("onnxruntime.InferenceSession", create)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "")

    with pytest.raises(StageError, match="cannot load it: no GPU"):
        build("onnxruntime", provider="tensorrt", tf32=tf32)

    assert found == ["" if tf32 else "0"]


@pytest.fixture
def open_on_gpu(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., AbstractContextManager[tuple[Engine[Any], list[str]]]]:
    """Open a PyTorch engine with the slots of a GPU, on a stand-in for torch.cuda."""
    calls = torch_cuda.install(monkeypatch)

    @contextmanager
    def open_on_gpu(**options: Any) -> Any:
        with engines.read(build("pytorch")).open(threads=1) as engine:
            torch_cuda.use_gpu_slots(engine, **options)
            calls.clear()
            yield engine, calls

    return open_on_gpu


STEPS = ["step", "step", "step"]
"""Of one batch: copy in, launch, copy out."""


def test_pytorch_overlaps_batches_and_waits_for_phases(open_on_gpu: Any, crops: Any) -> None:
    with open_on_gpu() as (engine, calls):
        list(engine.stream([crops[:4], crops[4:8], crops[8:]]))
        assert calls == [*STEPS, *STEPS, "wait", *STEPS, "wait", "wait"]

        calls.clear()
        engine.infer_in_phases(crops[:4])
        assert calls == ["step", "wait"] * 3
        assert engine.device_times(crops[:4], 3) == [4e-3] * 3


def test_pytorch_launches_a_batch_as_one_cuda_graph(open_on_gpu: Any, crops: Any) -> None:
    with open_on_gpu(graph=True) as (engine, calls):
        list(engine.stream([crops[:4], crops[4:8]]))

    assert calls.count("replay") == 2
