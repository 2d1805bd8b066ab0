"""PyTorch: the original model of mmpose, the reference for all other engines.

With `optimize` an equivalent with fewer kernels runs instead (fusing.py), which is no reference.

The engine file holds the checkpoint's tensors and the model's description, nothing executable.  The
engine card names the modules that define the model's classes, with the hashes of their files.
"""

import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from hrnetpose import files
from hrnetpose.artifacts.engine import ExecutedPrecision
from hrnetpose.artifacts.model import MmposeOrigin
from hrnetpose.backend_rules import Options
from hrnetpose.batches import Crops
from hrnetpose.engines import cuda
from hrnetpose.engines.base import (
    BuildRequest,
    Engine,
    LayerTime,
    rebuild_command,
    summarize_layers,
)
from hrnetpose.engines.plugin import Backend
from hrnetpose.engines.slots import CudaSlot, Slot
from hrnetpose.stage import StageError

STREAMED_BATCH = 16
"""Up to this batch, branches in streams of their own are faster than torch.compile around the fused
calls: HRNet-W32 in fp16 on an H200 gave 761 and 558 images/s at batch 1, 4442 and 3831 at batch 8,
but 7499 and 8787 at batch 32."""
_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


class PyTorchOptions(Options):
    """Options of `backend: pytorch`."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Where the model runs."""
    compile: bool = False
    """Whether `torch.compile` fuses its kernels (GPU only)."""
    cuda_graphs: bool = False
    """Whether a batch is launched as one CUDA graph (GPU only)."""
    optimize: bool = False
    """Whether an equivalent with fewer kernels runs: batch norm is folded, a convolution and what
    follows it are one call, and in a CUDA graph of a small batch branches run in parallel."""
    tf32: bool = False
    """Whether fp32 layers may run in TF32 on a GPU, which has 10 bits of mantissa."""
    buffers: int = Field(2, ge=1, le=16)
    """Batches in flight on a GPU: while one is computed, others are copied."""

    @property
    def is_exact(self) -> bool:
        return not (self.optimize or self.tf32)

    @model_validator(mode="after")
    def _check_device(self) -> Self:
        if self.device == "cpu" and (self.compile or self.cuda_graphs):
            raise ValueError("compile and cuda_graphs need `device: cuda`")
        return self


class PyTorchEngine(Engine[PyTorchOptions]):
    """The modules of mmpose, channels last."""

    def _open(self) -> list[Slot]:
        import torch

        from hrnetpose.models import mmpose, modules

        torch.set_num_threads(self._threads)
        try:
            content = torch.load(self._file, map_location="cpu", weights_only=True)
        except Exception as error:
            raise StageError(f"{self._file}: PyTorch cannot load it: {error}") from error
        mmpose.import_mmpose()  # before the modules: they import mmpose
        modules.require(self._card.modules, self._file, rebuild_command(self._file.parent))
        estimator = mmpose.build(content["model"], str(self._file))
        estimator.load_state_dict(content["state_dict"], strict=True)
        options, model, device = self._options, self._card.model, self._options.device
        self._dtype = getattr(torch, _DTYPES[self._card.requested])
        estimator = estimator.to(device, self._dtype, memory_format=torch.channels_last)
        self._layers = _count_heavy(estimator)
        self._mean = torch.tensor(model.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(model.std, device=device).view(1, 3, 1, 1)
        self._reverse = model.channel_order == "BGR"
        network: Network = partial(mmpose.outputs, estimator)
        if device == "cuda":
            torch.backends.cudnn.benchmark = True
            torch.backends.cudnn.allow_tf32 = options.tf32
            torch.backends.cuda.matmul.allow_tf32 = options.tf32
        is_streamed = options.optimize and options.cuda_graphs and self.batch <= STREAMED_BATCH
        streamed = None
        if options.optimize:
            from hrnetpose.engines import fusing

            network = self._optimize(estimator, content["state_dict"])
            streamed = fusing.StreamedGraph(network).run if is_streamed else None
        self._run = captured = self._with_pixels(network)
        if device == "cpu":
            return [CpuSlot(self._run)]
        if streamed:
            captured = self._with_pixels(streamed)
        elif options.compile:
            self._run = captured = torch.compile(self._run)
        return [
            GpuSlot(
                self._run,
                self.crops_shape,
                self.output_shapes,
                device,
                captured if options.cuda_graphs else None,
            )
            for _ in range(options.buffers)
        ]

    def _close(self) -> None:
        del self._run

    def _optimize(self, estimator: Any, exact: Mapping[str, Any]) -> Any:
        """Return an equivalent of the model with fewer kernels, as a function of its input.

        Args:
            estimator: the model.
            exact: its parameters and buffers before they were rounded, by name.

        Raises:
            StageError: it cannot be traced.
        """
        import torch

        from hrnetpose.engines import fusing
        from hrnetpose.models import mmpose

        crop, device = self._card.model.crop, self._options.device
        example = torch.zeros(
            (self.batch, 3, crop.height, crop.width), device=device, dtype=self._dtype
        ).contiguous(memory_format=torch.channels_last)
        try:
            graph = fusing.trace(estimator, mmpose.outputs, example)
        except Exception as error:
            reason = str(error).strip().split("\n")[0]
            raise StageError(
                f"{self._file}: options.optimize: PyTorch cannot trace the model: {reason}; leave "
                "the option out"
            ) from error
        fusing.optimize(graph, exact, fusing.choose_calls(device, self._dtype))
        return graph

    def _with_pixels(self, network: "Network") -> "Run":
        """Return a network with normalisation, layout and conversions around it."""

        def run(crops: Any) -> dict[str, Any]:
            pixels = crops.flip(3) if self._reverse else crops
            # NHWC memory is channels-last already: the permutation moves no data.
            pixels = pixels.permute(0, 3, 1, 2)
            images = ((pixels.float() - self._mean) / self._std).to(self._dtype)
            outputs = zip(self._card.model.outputs, network(images), strict=True)
            return {output.name: value.float().contiguous() for output, value in outputs}

        return run

    def time_layers(self, crops: Crops, count: int) -> list[LayerTime]:
        from torch.profiler import ProfilerActivity, profile

        on_gpu = self._options.device == "cuda"
        activity = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
        slot, full = self._slots[0], self._pad(crops)
        slot.copy_in(full)
        with profile(activities=[activity], record_shapes=True) as profiled:
            for _ in range(count):
                slot.launch()
            slot.wait()
        return [
            LayerTime(
                name=f"{found.key} {' '.join(map(str, found.input_shapes or []))}".strip(),
                kind=found.key,
                precision="unknown",
                seconds=spent / 1e6 / count,
            )
            for found in profiled.key_averages(group_by_input_shape=True)
            if (spent := found.self_device_time_total if on_gpu else found.self_cpu_time_total)
        ]

    def executed(self) -> ExecutedPrecision:
        return summarize_layers(self._layers)


def _count_heavy(estimator: Any) -> Counter[str]:
    """Count the layers that do the work, by precision."""
    import torch

    heavy = (torch.nn.Conv2d, torch.nn.ConvTranspose2d, torch.nn.Linear)
    names = {f"torch.{dtype}": name for name, dtype in _DTYPES.items()}
    return Counter(
        names[str(module.weight.dtype)]
        for module in estimator.modules()
        if isinstance(module, heavy)
    )


Network = Callable[[Any], Sequence[Any]]
"""Run the model on normalised NCHW images on the device; return its outputs in the card's order."""
Run = Callable[[Any], dict[str, Any]]
"""Run the model on crops on the device; return the outputs there, by name."""


class CpuSlot(Slot):
    """A batch on the CPU; each call blocks."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def copy_in(self, crops: Crops) -> None:
        import torch

        # PyTorch accepts neither read-only arrays nor negative strides.
        self._crops = torch.from_numpy(np.require(crops, requirements=["C", "W"]))

    def launch(self) -> None:
        import torch

        with torch.inference_mode():
            results = self._run(self._crops)
        self.outputs = {name: values.numpy() for name, values in results.items()}


class GpuSlot(CudaSlot):
    """A batch on a GPU: its stream, its buffers and optionally its CUDA graph.

    Args:
        run: runs the model.
        crops: shape of a full batch, uint8.
        outputs: shapes of the outputs of a full batch, float32, by name.
        device: PyTorch's name of the device.
        captured: does the same, and is captured into a CUDA graph; None: there is no graph.
    """

    def __init__(
        self,
        run: Run,
        crops: tuple[int, ...],
        outputs: Mapping[str, tuple[int, ...]],
        device: str,
        captured: Run | None,
    ) -> None:
        import torch

        self._torch, self._run = torch, run
        pinned = device == "cuda"
        self.compute = torch.cuda.Stream()
        self._host_crops = torch.empty(crops, dtype=torch.uint8, pin_memory=pinned)
        self._host_outputs = {
            name: torch.empty(shape, pin_memory=pinned) for name, shape in outputs.items()
        }
        self.outputs = {name: values.numpy() for name, values in self._host_outputs.items()}
        self._crops = torch.zeros(crops, dtype=torch.uint8, device=device)
        self._results: dict[str, Any] = {}
        self._graph = None
        with self._in_stream():
            # The first runs choose and compile kernels, which cannot be captured.
            for _ in range(3):
                run(self._crops)
        self.compute.synchronize()
        if captured:
            self._graph = torch.cuda.CUDAGraph()
            with torch.inference_mode(), torch.cuda.graph(self._graph, stream=self.compute):
                self._results = captured(self._crops)

    @contextmanager
    def _in_stream(self) -> Iterator[None]:
        with self._torch.inference_mode(), self._torch.cuda.stream(self.compute):
            yield

    def copy_in(self, crops: Crops) -> None:
        np.copyto(self._host_crops.numpy(), crops)
        with self._in_stream():
            self._crops.copy_(self._host_crops, non_blocking=True)

    def launch(self) -> None:
        with self._in_stream():
            if self._graph is None:
                self._results = self._run(self._crops)
            else:
                self._graph.replay()

    def copy_out(self) -> None:
        with self._in_stream():
            for name, values in self._results.items():
                self._host_outputs[name].copy_(values, non_blocking=True)

    def wait(self) -> None:
        self.compute.synchronize()

    def create_event(self) -> Any:
        return self._torch.cuda.Event(enable_timing=True)

    def seconds_between(self, start: Any, end: Any) -> float:
        return start.elapsed_time(end) / 1e3


def build(request: BuildRequest[PyTorchOptions], output: Path) -> dict[str, str]:
    """Load the checkpoint strictly and write its tensors with the description of the model.

    Returns:
        The modules that define the model beside mmpose's, with the SHA-256 of their files.
    """
    import torch

    from hrnetpose.models import mmpose

    if not isinstance(origin := request.card.origin, MmposeOrigin):
        raise StageError(
            f"model {request.card.name}: it came as an ONNX file ({origin.file}), so there is no "
            "model to run in PyTorch; take another backend"
        )
    config = mmpose.read_config(origin.config)
    estimator = mmpose.build_model(config, request.weights)
    # Saved in memory: torch would write the name of a file into the file, so that it differs.
    content = io.BytesIO()
    description = mmpose.describe(config)
    torch.save({"model": description, "state_dict": estimator.state_dict()}, content)
    with files.atomic_path(output) as temporary:
        temporary.write_bytes(content.getbuffer())
    return mmpose.modules_of(config, estimator)


def unavailable_reason(options: PyTorchOptions) -> str | None:
    """Return why the device cannot be used here; None if it can."""
    if options.device == "cpu":
        return None
    if reason := cuda.missing_gpu_reason():
        return reason
    import torch

    if not torch.cuda.is_available():
        return (
            f"PyTorch {torch.__version__} cannot use {cuda.require_gpu().name}; install a build "
            "for CUDA that fits the driver"
        )
    return None


BACKEND = Backend(
    name="pytorch",
    graphs={"fp32": "fp32", "bf16": "fp32", "fp16": "fp32"},
    packages=("torch", "mmpose"),
    options=PyTorchOptions,
    build=build,
    open=PyTorchEngine,
    device=lambda options: cuda.describe_device(gpu=options.device == "cuda"),
    unavailable_reason=unavailable_reason,
    original=True,
    gpus=lambda options: int(options.device == "cuda"),
    any_batch=True,
)
