"""PyTorch: the original model of mmpose, the reference that other engines are held against.

The engine file holds the checkpoint's tensors and the model's description, nothing executable; the
engine card names the modules that its classes come from, with the hashes of their files.
"""

import io
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from hrnetpose import files
from hrnetpose.artifacts.engine import ENGINE_FILE, EngineCard, ExecutedPrecision
from hrnetpose.engines import cuda
from hrnetpose.engines.base import (
    Backend,
    BuildRequest,
    Crops,
    Engine,
    Heatmaps,
    Options,
    Phases,
    in_order,
    majority,
    rebuild,
)
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


class PyTorchEngine(Engine):
    """mmpose's own modules, channels last."""

    def __init__(self, folder: Path, card: EngineCard, threads: int) -> None:
        self.batch = card.batch
        self._file = folder / ENGINE_FILE
        self._card = card
        self._options = PyTorchOptions(**card.options)
        self._threads = self._options.threads or threads
        self._device = self._options.device

    def __enter__(self) -> Self:
        import torch

        from hrnetpose.model import mmpose, modules

        torch.set_num_threads(self._threads)
        try:
            content = torch.load(self._file, map_location="cpu", weights_only=True)
        except Exception as error:
            raise StageError(f"{self._file}: PyTorch cannot load it: {error}") from error
        mmpose.import_mmpose()  # its placeholders first
        modules.require(self._card.modules, self._file, rebuild(self._file.parent))
        estimator = mmpose.build(content["model"], str(self._file))
        estimator.load_state_dict(content["state_dict"], strict=True)
        self._dtype = getattr(torch, _DTYPES[self._card.requested])
        self._estimator = estimator.to(self._device, self._dtype, memory_format=torch.channels_last)
        self._heatmaps = mmpose.heatmaps
        model = self._card.model
        self._mean = torch.tensor(model.mean, device=self._device).view(1, 3, 1, 1)
        self._std = torch.tensor(model.std, device=self._device).view(1, 3, 1, 1)
        self._flip_channels = model.channel_order == "BGR"
        self._slots: list[_Slot] = []
        if self._options.device == "cuda":
            torch.backends.cudnn.benchmark = True
            torch.backends.cudnn.allow_tf32 = self._options.tf32
            torch.backends.cuda.matmul.allow_tf32 = self._options.tf32
            run = torch.compile(self._run) if self._options.compile else self._run
            crop, graph = model.crop, self._options.cuda_graphs
            shape = (self.batch, crop.height, crop.width, 3)
            heatmaps = tuple(int(size) for size in model.output.shape[1:])
            self._slots = [
                _Slot(run, shape, (self.batch, *heatmaps), self._device, graph)
                for _ in range(self._options.buffers)
            ]
        self.requests = max(1, len(self._slots))
        return self

    def __exit__(self, *exception: object) -> None:
        self._slots.clear()
        del self._estimator

    def infer(self, crops: Crops) -> Heatmaps:
        import torch

        if self._flip_channels:
            crops = crops[..., ::-1]
        if self._slots:
            self._slots[0].submit(crops)
            return self._slots[0].collect()
        with torch.inference_mode():
            return self._run(torch.from_numpy(np.array(crops))).numpy()

    def infer_in_phases(self, crops: Crops) -> tuple[Heatmaps, Phases]:
        if not self._slots:
            return super().infer_in_phases(crops)
        return self._slots[0].run_in_phases(crops[..., ::-1] if self._flip_channels else crops)

    def stream(self, batches: Iterable[Crops]) -> Iterator[Heatmaps]:
        if not self._slots:
            return super().stream(batches)

        def submit(number: int, crops: Crops) -> None:
            self._slots[number].submit(crops[..., ::-1] if self._flip_channels else crops)

        def collect(number: int) -> Heatmaps:
            return self._slots[number].collect()

        return in_order(submit, collect, len(self._slots), batches)

    def device_times(self, crops: Crops, count: int) -> list[float] | None:
        return self._slots[0].times(crops, count) if self._slots else None

    def _run(self, crops: Any) -> Any:
        """Takes uint8 [N, H, W, 3] in the model's channel order on the device; returns float32."""
        # Channels come last already: the permutation moves no data.
        pixels = crops.permute(0, 3, 1, 2)
        images = ((pixels.float() - self._mean) / self._std).to(self._dtype)
        return self._heatmaps(self._estimator, images).float().contiguous()

    def executed(self) -> ExecutedPrecision:
        import torch

        heavy = (torch.nn.Conv2d, torch.nn.ConvTranspose2d, torch.nn.Linear)
        names = {f"torch.{dtype}": name for name, dtype in _DTYPES.items()}
        layers = Counter(
            names[str(module.weight.dtype)]
            for module in self._estimator.modules()
            if isinstance(module, heavy)
        )
        return majority(layers)


class _Slot:
    """One batch in flight on a GPU: its stream, its buffers and, if asked for, its CUDA graph.

    Args:
        run: takes crops on the device, returns heatmaps there.
        crops: shape of a full batch.
        heatmaps: shape of what comes out.
        device: PyTorch's name of the device.
        graph: capture the work into a CUDA graph.
    """

    def __init__(
        self,
        run: Callable[[Any], Any],
        crops: tuple[int, ...],
        heatmaps: tuple[int, ...],
        device: str,
        graph: bool,
    ) -> None:
        import torch

        self._torch, self._run = torch, run
        pinned = device == "cuda"
        self._stream, self._done = torch.cuda.Stream(), torch.cuda.Event()
        self._input = torch.empty(crops, dtype=torch.uint8, pin_memory=pinned)
        self._output = torch.empty(heatmaps, pin_memory=pinned)
        self._pixels = torch.zeros(crops, dtype=torch.uint8, device=device)
        self._graph, self._result = None, None
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            # Kernels are chosen and compiled in the first runs, which must not be captured.
            for _ in range(3):
                run(self._pixels)
        self._stream.synchronize()
        if graph:
            self._graph = torch.cuda.CUDAGraph()
            with torch.inference_mode(), torch.cuda.graph(self._graph, stream=self._stream):
                self._result = run(self._pixels)

    def submit(self, crops: Crops) -> None:
        """Starts a full batch."""
        with self._torch.inference_mode(), self._torch.cuda.stream(self._stream):
            self._copy_in(crops)
            self._copy_out(self._compute())

    def collect(self) -> Heatmaps:
        """Waits for it; the array returned belongs to the caller."""
        self._done.synchronize()
        return self._output.numpy().copy()

    def run_in_phases(self, crops: Crops) -> tuple[Heatmaps, Phases]:
        """Runs a full batch and waits for each of its parts."""
        start = time.perf_counter()
        with self._torch.inference_mode(), self._torch.cuda.stream(self._stream):
            self._copy_in(crops)
            self._stream.synchronize()
            copied = time.perf_counter()
            result = self._compute()
            self._stream.synchronize()
            done = time.perf_counter()
            self._copy_out(result)
        heatmaps = self.collect()
        return heatmaps, Phases(copied - start, done - copied, time.perf_counter() - done)

    def times(self, crops: Crops, count: int) -> list[float]:
        """Returns the device's seconds for a batch that lies there already, `count` times."""
        self.submit(crops)
        self.collect()
        event = self._torch.cuda.Event
        marks = [(event(enable_timing=True), event(enable_timing=True)) for _ in range(count)]
        with self._torch.inference_mode(), self._torch.cuda.stream(self._stream):
            for start, end in marks:
                start.record(self._stream)
                self._compute()
                end.record(self._stream)
        self._stream.synchronize()
        return [start.elapsed_time(end) / 1e3 for start, end in marks]

    def _copy_in(self, crops: Crops) -> None:
        np.copyto(self._input.numpy(), crops)
        self._pixels.copy_(self._input, non_blocking=True)

    def _copy_out(self, result: Any) -> None:
        self._output.copy_(result, non_blocking=True)
        self._done.record(self._stream)

    def _compute(self) -> Any:
        if self._graph is None:
            return self._run(self._pixels)
        self._graph.replay()
        return self._result


def build(request: BuildRequest, output: Path) -> dict[str, str]:
    """Loads the checkpoint strictly and writes it with the description of its model.

    Returns:
        The modules that the model is made of beside mmpose's, with the SHA-256 of their files.
    """
    import torch

    from hrnetpose.model import mmpose

    config = mmpose.read_config(request.card.config)
    estimator = mmpose.build_model(config, request.weights)
    # Into memory first: in a file, torch writes the file's own name into it.
    content = io.BytesIO()
    description = mmpose.describe(config)
    torch.save({"model": description, "state_dict": estimator.state_dict()}, content)
    with files.atomic_path(output) as temporary:
        temporary.write_bytes(content.getbuffer())
    return mmpose.modules_of(config, estimator)


def lacking(options: Mapping[str, Any]) -> str | None:
    """Says what this machine lacks for the device."""
    if PyTorchOptions(**options).device == "cpu":
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


def _device(options: Mapping[str, Any]) -> str:
    return "CPU" if PyTorchOptions(**options).device == "cpu" else str(cuda.find())


BACKEND = Backend(
    name="pytorch",
    graphs={"fp32": "fp32", "bf16": "fp32", "fp16": "fp32"},
    packages=("torch", "mmpose"),
    options=PyTorchOptions,
    build=build,
    open=PyTorchEngine,
    device=_device,
    lacking=lacking,
    original=True,
    gpus=lambda options: int(PyTorchOptions(**options).device == "cuda"),
    any_batch=True,
)
