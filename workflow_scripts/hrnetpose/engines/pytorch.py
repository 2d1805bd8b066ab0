"""PyTorch: the original model of mmpose, the reference that other engines are held against.

The engine file holds the checkpoint's tensors and the model's description, nothing executable; the
engine card names the modules that its classes come from, with the hashes of their files.
"""

import io
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from hrnetpose import files
from hrnetpose.artifacts.engine import Device, ExecutedPrecision
from hrnetpose.batches import Crops, Outputs
from hrnetpose.engines import cuda
from hrnetpose.engines.base import BuildRequest, Engine, Options, summarize_layers
from hrnetpose.engines.folder import rebuild_command
from hrnetpose.engines.plugin import Backend
from hrnetpose.engines.slots import CudaSlot, Slot
from hrnetpose.stage import StageError

_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


class PyTorchOptions(Options):
    """Options of `backend: pytorch`."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Where the model runs."""
    compile: bool = False
    """Whether `torch.compile` fuses its kernels (GPU only)."""
    cuda_graphs: bool = False
    """Whether a batch is launched as one CUDA graph (GPU only)."""
    tf32: bool = False
    """Whether fp32 layers may run in TF32 on a GPU, which has 10 bits of mantissa."""
    buffers: int = Field(2, ge=1, le=16)
    """Batches in flight on a GPU: while one is computed, others are copied."""

    @model_validator(mode="after")
    def _on_gpu(self) -> Self:
        if self.device == "cpu" and (self.compile or self.cuda_graphs):
            raise ValueError("compile and cuda_graphs need `device: cuda`")
        return self


class PyTorchEngine(Engine[PyTorchOptions]):
    """mmpose's own modules, channels last."""

    def _open(self) -> list[Slot]:
        import torch

        from hrnetpose.models import mmpose, modules

        torch.set_num_threads(self._threads)
        try:
            content = torch.load(self._file, map_location="cpu", weights_only=True)
        except Exception as error:
            raise StageError(f"{self._file}: PyTorch cannot load it: {error}") from error
        mmpose.import_mmpose()  # its placeholders first
        modules.require(self._card.modules, self._file, rebuild_command(self._file.parent))
        estimator = mmpose.build(content["model"], str(self._file))
        estimator.load_state_dict(content["state_dict"], strict=True)
        options, model, device = self._options, self._card.model, self._options.device
        self._dtype = getattr(torch, _DTYPES[self._card.requested])
        self._estimator = estimator.to(device, self._dtype, memory_format=torch.channels_last)
        self._outputs = mmpose.outputs
        self._mean = torch.tensor(model.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(model.std, device=device).view(1, 3, 1, 1)
        reverse = model.channel_order == "BGR"
        if device == "cpu":
            return [CpuSlot(self._run, reverse)]
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = options.tf32
        torch.backends.cuda.matmul.allow_tf32 = options.tf32
        run = torch.compile(self._run) if options.compile else self._run
        return [
            GpuSlot(run, reverse, self.crops_shape, self.output_shapes, device, options.cuda_graphs)
            for _ in range(options.buffers)
        ]

    def _close(self) -> None:
        del self._estimator

    def _run(self, crops: Any) -> dict[str, Any]:
        """Takes uint8 [N, H, W, 3] in the model's channel order on the device; returns float32."""
        # Channels come last already: the permutation moves no data.
        pixels = crops.permute(0, 3, 1, 2)
        images = ((pixels.float() - self._mean) / self._std).to(self._dtype)
        values = self._outputs(self._estimator, images)
        outputs = zip(self._card.model.outputs, values, strict=True)
        return {output.name: value.float().contiguous() for output, value in outputs}

    def executed(self) -> ExecutedPrecision:
        import torch

        heavy = (torch.nn.Conv2d, torch.nn.ConvTranspose2d, torch.nn.Linear)
        names = {f"torch.{dtype}": name for name, dtype in _DTYPES.items()}
        layers = Counter(
            names[str(module.weight.dtype)]
            for module in self._estimator.modules()
            if isinstance(module, heavy)
        )
        return summarize_layers(layers)


Run = Callable[[Any], dict[str, Any]]
"""Takes crops on the device, in the model's channel order; returns the outputs there."""


class CpuSlot(Slot):
    """A batch on the CPU: each run returns tensors of its own."""

    def __init__(self, run: Run, reverse: bool) -> None:
        self._run, self._reverse = run, reverse

    def copy_in(self, crops: Crops) -> None:
        import torch

        ordered = crops[..., ::-1] if self._reverse else crops
        # PyTorch takes neither read-only arrays nor all strides.
        self._pixels = torch.from_numpy(np.require(ordered, requirements=["C", "W"]))

    def launch(self) -> None:
        import torch

        with torch.inference_mode():
            self._result = self._run(self._pixels)

    def take(self) -> Outputs:
        return {name: values.numpy() for name, values in self._result.items()}


class GpuSlot(CudaSlot):
    """A batch on a GPU: its stream, its buffers and, if asked for, its CUDA graph.

    Args:
        run: the model.
        reverse: the model takes BGR.
        crops: shape of a full batch.
        outputs: shapes of what comes out, by name.
        device: PyTorch's name of the device.
        graph: capture the work into a CUDA graph.
    """

    def __init__(
        self,
        run: Run,
        reverse: bool,
        crops: tuple[int, ...],
        outputs: Mapping[str, tuple[int, ...]],
        device: str,
        graph: bool,
    ) -> None:
        import torch

        self._torch, self._run, self._reverse = torch, run, reverse
        pinned = device == "cuda"
        self.compute = torch.cuda.Stream()
        self._input = torch.empty(crops, dtype=torch.uint8, pin_memory=pinned)
        self._outputs = {
            name: torch.empty(shape, pin_memory=pinned) for name, shape in outputs.items()
        }
        self._pixels = torch.zeros(crops, dtype=torch.uint8, device=device)
        self._result: dict[str, Any] = {}
        self._graph = None
        with torch.inference_mode(), torch.cuda.stream(self.compute):
            # Kernels are chosen and compiled in the first runs, which must not be captured.
            for _ in range(3):
                run(self._pixels)
        self.compute.synchronize()
        if graph:
            self._graph = torch.cuda.CUDAGraph()
            with torch.inference_mode(), torch.cuda.graph(self._graph, stream=self.compute):
                self._result = run(self._pixels)

    def copy_in(self, crops: Crops) -> None:
        np.copyto(self._input.numpy(), crops[..., ::-1] if self._reverse else crops)
        with self._torch.inference_mode(), self._torch.cuda.stream(self.compute):
            self._pixels.copy_(self._input, non_blocking=True)

    def launch(self) -> None:
        with self._torch.inference_mode(), self._torch.cuda.stream(self.compute):
            if self._graph is None:
                self._result = self._run(self._pixels)
            else:
                self._graph.replay()

    def copy_out(self) -> None:
        with self._torch.inference_mode(), self._torch.cuda.stream(self.compute):
            for name, values in self._result.items():
                self._outputs[name].copy_(values, non_blocking=True)

    def wait(self) -> None:
        self.compute.synchronize()

    def take(self) -> Outputs:
        return {name: values.numpy().copy() for name, values in self._outputs.items()}

    def create_event(self) -> Any:
        return self._torch.cuda.Event(enable_timing=True)

    def seconds_between(self, start: Any, end: Any) -> float:
        return start.elapsed_time(end) / 1e3


def build(request: BuildRequest[PyTorchOptions], output: Path) -> dict[str, str]:
    """Loads the checkpoint strictly and writes it with the description of its model.

    Returns:
        The modules that the model is made of beside mmpose's, with the SHA-256 of their files.
    """
    import torch

    from hrnetpose.models import mmpose

    config = mmpose.read_config(request.card.config)
    estimator = mmpose.build_model(config, request.weights)
    # Into memory first: in a file, torch writes the file's own name into it.
    content = io.BytesIO()
    description = mmpose.describe(config)
    torch.save({"model": description, "state_dict": estimator.state_dict()}, content)
    with files.atomic_path(output) as temporary:
        temporary.write_bytes(content.getbuffer())
    return mmpose.modules_of(config, estimator)


def unavailable_reason(options: PyTorchOptions) -> str | None:
    """Says why the device cannot be used here."""
    if options.device == "cpu":
        return None
    found = cuda.find()
    if isinstance(found, str):
        return found
    import torch

    if not torch.cuda.is_available():
        return (
            f"PyTorch {torch.__version__} cannot use {found.name}; install a build of it for CUDA "
            "that fits the driver"
        )
    return None


def _device(options: PyTorchOptions) -> Device:
    return Device(kind="cpu") if options.device == "cpu" else cuda.device()


BACKEND = Backend(
    name="pytorch",
    graphs={"fp32": "fp32", "bf16": "fp32", "fp16": "fp32"},
    packages=("torch", "mmpose"),
    options=PyTorchOptions,
    build=build,
    open=PyTorchEngine,
    device=_device,
    unavailable_reason=unavailable_reason,
    original=True,
    gpus=lambda options: int(options.device == "cuda"),
    any_batch=True,
)
