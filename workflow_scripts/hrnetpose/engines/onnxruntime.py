"""ONNX Runtime, on the CPU or an NVIDIA GPU.  The engine file is the graph with pixels as input."""

import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

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
    majority,
)
from hrnetpose.recipes import Precision
from hrnetpose.stage import StageError

_INT8 = {"QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger"}
_FLOAT = {"Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"}
_TYPES = {1: "fp32", 10: "fp16", 16: "bf16"}  # of onnx.TensorProto
_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_GPU_INSTALL = "`pip uninstall onnxruntime` and `pip install -r envs/gpu-onnxruntime.txt`"


class OnnxRuntimeOptions(Options):
    """Options of `backend: onnxruntime`."""

    provider: Literal["cpu", "cuda", "tensorrt"] = "cpu"
    """What runs the graph: the CPU, CUDA, or TensorRT with CUDA for what it leaves."""
    tf32: bool = False
    """Whether fp32 layers may run in TF32 on a GPU, which has 10 bits of mantissa."""


class OnnxRuntimeEngine(Engine):
    """An inference session."""

    def __init__(self, folder: Path, card: EngineCard, threads: int) -> None:
        self.batch = card.batch
        self._file = folder / ENGINE_FILE
        self._card = card
        self._options = OnnxRuntimeOptions(**card.options)
        self._threads = self._options.threads or threads

    def __enter__(self) -> Self:
        self._session = self._open()
        self._bound = None
        if self._options.provider != "cpu":
            crop = self._card.model.crop
            heatmaps = tuple(int(size) for size in self._card.model.output.shape[1:])
            self._bound = Bound(
                self._session,
                (self.batch, crop.height, crop.width, 3),
                (self.batch, *heatmaps),
                "cuda",
            )
        return self

    def __exit__(self, *exception: object) -> None:
        # The binding keeps the session alive.
        del self._bound, self._session

    def infer(self, crops: Crops) -> Heatmaps:
        pixels = np.ascontiguousarray(crops)
        if self._bound:
            return self._bound(pixels)
        return self._session.run(None, {"crops": pixels})[0]

    def infer_in_phases(self, crops: Crops) -> tuple[Heatmaps, Phases]:
        if self._bound:
            return self._bound.run_in_phases(np.ascontiguousarray(crops))
        return super().infer_in_phases(crops)

    def executed(self) -> ExecutedPrecision:
        """Reads the graph that ONNX Runtime made of the engine for this device."""
        import onnx

        if self._options.provider == "tensorrt":
            # It is one node, and TensorRT chooses in it.
            return majority({})
        with tempfile.TemporaryDirectory() as scratch:
            optimized = Path(scratch) / "optimized.onnx"
            self._open(optimized)
            graph = onnx.load(optimized).graph
        types = {tensor.name: tensor.data_type for tensor in graph.initializer}
        layers: Counter[str] = Counter()
        for node in graph.node:
            if node.op_type in _INT8:
                layers["int8"] += 1
            elif node.op_type in _FLOAT:
                layers[_TYPES.get(types.get(node.input[1], 1), "other")] += 1
        return majority(layers)

    def _open(self, optimized: Path | None = None) -> Any:
        return _session(self._file, self._threads, self._options, self._card.requested, optimized)


class Bound:
    """A session with its input and its output in buffers on the device.

    Args:
        session: takes `crops`.
        crops: the shape of its input, uint8.
        heatmaps: the shape of its output, float32.
        device: ONNX Runtime's name of the device, `cuda` or `cpu`.
    """

    def __init__(
        self, session: Any, crops: tuple[int, ...], heatmaps: tuple[int, ...], device: str
    ) -> None:
        import onnxruntime

        self._session = session
        value = onnxruntime.OrtValue
        self._input = value.ortvalue_from_shape_and_type(crops, np.uint8, device, 0)
        self._output = value.ortvalue_from_shape_and_type(heatmaps, np.float32, device, 0)
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input("crops", self._input)
        self._binding.bind_ortvalue_output(session.get_outputs()[0].name, self._output)

    def __call__(self, crops: Crops) -> Heatmaps:
        """Runs one full batch; the array returned belongs to the caller."""
        return self.run_in_phases(crops)[0]

    def run_in_phases(self, crops: Crops) -> tuple[Heatmaps, Phases]:
        """Runs one full batch, and tells copies from inference: each call waits for its end."""
        start = time.perf_counter()
        self._input.update_inplace(crops)
        copied = time.perf_counter()
        self._session.run_with_iobinding(self._binding)
        done = time.perf_counter()
        heatmaps = self._output.numpy().copy()
        return heatmaps, Phases(copied - start, done - copied, time.perf_counter() - done)


def _session(
    file: Path,
    threads: int,
    chosen: OnnxRuntimeOptions,
    precision: Precision,
    optimized: Path | None = None,
) -> Any:
    import onnxruntime

    if chosen.provider != "cpu":
        # CUDA and cuDNN as PyTorch's packages bring them; without those, the system's are found.
        onnxruntime.preload_dlls()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if optimized:
        options.optimized_model_filepath = str(optimized)
    try:
        session = onnxruntime.InferenceSession(
            str(file), options, providers=_providers(chosen, precision)
        )
    except Exception as error:  # its exceptions have no common base
        raise StageError(f"{file}: ONNX Runtime cannot load it: {error}") from error
    wanted = _PROVIDERS[chosen.provider]
    # A provider whose libraries are not found is left out without an error.
    if session.get_providers()[0] != wanted:
        raise StageError(
            f"ONNX Runtime cannot use {wanted}: its libraries are not found or do not fit the "
            "driver (with `provider: tensorrt` they include TensorRT's); the log says which"
        )
    return session


def _providers(chosen: OnnxRuntimeOptions, precision: Precision) -> list[Any]:
    gpu: list[Any] = [(_PROVIDERS["cuda"], {"use_tf32": str(int(chosen.tf32))})]
    match chosen.provider:
        case "cpu":
            return [_PROVIDERS["cpu"]]
        case "cuda":
            return gpu
        case "tensorrt":
            return [
                (_PROVIDERS["tensorrt"], {"trt_fp16_enable": str(precision == "fp16")}),
                *gpu,
            ]


def build(request: BuildRequest, output: Path) -> None:
    """Writes the graph with normalisation and layout inside, and makes sure that it loads."""
    from hrnetpose.model import graphs

    chosen = OnnxRuntimeOptions(**request.options)
    if request.precision == "int8" and chosen.provider != "cpu":
        raise StageError(
            f"backend onnxruntime has no int8 with `provider: {chosen.provider}`; use backend "
            "tensorrt, or `provider: cpu`"
        )
    pixels = graphs.with_pixel_input(graphs.read(request.graph), request.card)
    with files.atomic_path(output) as temporary:
        temporary.write_bytes(pixels.SerializeToString())
        _session(temporary, request.threads, chosen, request.precision)


def lacking(options: Mapping[str, Any]) -> str | None:
    """Says what this machine lacks for the provider."""
    provider = OnnxRuntimeOptions(**options).provider
    if provider == "cpu":
        return None
    import onnxruntime

    wanted = _PROVIDERS[provider]
    if wanted not in onnxruntime.get_available_providers():
        return (
            f"the onnxruntime that is installed has no {wanted}; change it for the one for GPUs: "
            f"{_GPU_INSTALL}"
        )
    found = cuda.find()
    return found if isinstance(found, str) else None


def _device(options: Mapping[str, Any]) -> str:
    return "CPU" if OnnxRuntimeOptions(**options).provider == "cpu" else str(cuda.find())


BACKEND = Backend(
    name="onnxruntime",
    graphs={"fp32": "fp32", "fp16": "fp16", "int8": "int8"},
    packages=("onnxruntime", "onnx"),
    options=OnnxRuntimeOptions,
    build=build,
    open=OnnxRuntimeEngine,
    device=_device,
    lacking=lacking,
    gpus=lambda options: int(OnnxRuntimeOptions(**options).provider != "cpu"),
    any_batch=True,
)
