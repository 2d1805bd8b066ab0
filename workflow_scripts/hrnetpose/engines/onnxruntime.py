"""ONNX Runtime, on the CPU or an NVIDIA GPU.  The engine file is the graph with pixels as input."""

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hrnetpose import files
from hrnetpose.artifacts.engine import Device, ExecutedPrecision
from hrnetpose.batches import Crops, Outputs
from hrnetpose.engines import cuda
from hrnetpose.engines.base import BuildRequest, Engine, Options, summarize_layers
from hrnetpose.engines.plugin import Backend
from hrnetpose.engines.slots import Slot
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

    def check(self, batch: int, precision: Precision) -> None:
        if precision == "int8" and self.provider != "cpu":
            raise StageError(
                f"options.provider: backend onnxruntime has no int8 with {self.provider!r}; use "
                "backend tensorrt, or `provider: cpu`"
            )


class CpuSlot(Slot):
    """A session on the CPU: each run returns arrays of its own."""

    def __init__(self, session: Any, outputs: list[str]) -> None:
        self._session, self._names = session, outputs
        self._input = session.get_inputs()[0].name

    def copy_in(self, crops: Crops) -> None:
        self._crops = np.ascontiguousarray(crops)

    def launch(self) -> None:
        self._values = self._session.run(self._names, {self._input: self._crops})

    def take(self) -> Outputs:
        return dict(zip(self._names, self._values, strict=True))


class BoundSlot(Slot):
    """A session with its input and its outputs in buffers on the device; each call blocks.

    Args:
        session: takes crops.
        crops: the shape of its input, uint8.
        outputs: the shapes of its outputs, float32, by name.
        device: ONNX Runtime's name of the device, `cuda` or `cpu`.
    """

    def __init__(
        self,
        session: Any,
        crops: tuple[int, ...],
        outputs: Mapping[str, tuple[int, ...]],
        device: str,
    ) -> None:
        import onnxruntime

        self._session, self._binding = session, session.io_binding()
        value = onnxruntime.OrtValue
        self._input = value.ortvalue_from_shape_and_type(crops, np.uint8, device, 0)
        self._binding.bind_ortvalue_input(session.get_inputs()[0].name, self._input)
        self._outputs = {
            name: value.ortvalue_from_shape_and_type(shape, np.float32, device, 0)
            for name, shape in outputs.items()
        }
        for name, buffer in self._outputs.items():
            self._binding.bind_ortvalue_output(name, buffer)

    def copy_in(self, crops: Crops) -> None:
        self._input.update_inplace(np.ascontiguousarray(crops))

    def launch(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def take(self) -> Outputs:
        return {name: buffer.numpy().copy() for name, buffer in self._outputs.items()}


class OnnxRuntimeEngine(Engine[OnnxRuntimeOptions]):
    """An inference session."""

    def _open(self) -> list[Slot]:
        self._session = self._load()
        self.check_outputs(output.name for output in self._session.get_outputs())
        if self._options.provider == "cpu":
            return [CpuSlot(self._session, list(self.output_shapes))]
        return [BoundSlot(self._session, self.crops_shape, self.output_shapes, "cuda")]

    def _close(self) -> None:
        del self._session

    def executed(self) -> ExecutedPrecision:
        """Reads the graph that ONNX Runtime made of the engine for this device."""
        import onnx

        if self._options.provider == "tensorrt":
            # It is one node, and TensorRT chooses in it.
            return summarize_layers({})
        with tempfile.TemporaryDirectory() as scratch:
            optimized = Path(scratch) / "optimized.onnx"
            self._load(optimized)
            graph = onnx.load(optimized).graph
        types = {tensor.name: tensor.data_type for tensor in graph.initializer}
        layers: Counter[str] = Counter()
        for node in graph.node:
            if node.op_type in _INT8:
                layers["int8"] += 1
            elif node.op_type in _FLOAT:
                layers[_TYPES.get(types.get(node.input[1], 1), "other")] += 1
        return summarize_layers(layers)

    def _load(self, optimized: Path | None = None) -> Any:
        return _session(self._file, self._threads, self._options, self._card.requested, optimized)


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


def build(request: BuildRequest[OnnxRuntimeOptions], output: Path) -> None:
    """Writes the graph with normalisation and layout inside, and makes sure that it loads."""
    from hrnetpose.graphs import onnx_graph

    chosen = request.options
    pixels = onnx_graph.with_pixel_input(onnx_graph.read(request.graph), request.card)
    with files.atomic_path(output) as temporary:
        temporary.write_bytes(pixels.SerializeToString())
        _session(temporary, request.threads, chosen, request.precision)


def unavailable_reason(options: OnnxRuntimeOptions) -> str | None:
    """Says why the provider cannot run here."""
    if options.provider == "cpu":
        return None
    import onnxruntime

    wanted = _PROVIDERS[options.provider]
    if wanted not in onnxruntime.get_available_providers():
        return (
            f"the onnxruntime that is installed has no {wanted}; change it for the one for GPUs: "
            f"{_GPU_INSTALL}"
        )
    found = cuda.find()
    return found if isinstance(found, str) else None


def _device(options: OnnxRuntimeOptions) -> Device:
    return Device(kind="cpu") if options.provider == "cpu" else cuda.device()


BACKEND = Backend(
    name="onnxruntime",
    graphs={"fp32": "fp32", "fp16": "fp16", "int8": "int8"},
    packages=("onnxruntime", "onnx"),
    options=OnnxRuntimeOptions,
    build=build,
    open=OnnxRuntimeEngine,
    device=_device,
    unavailable_reason=unavailable_reason,
    gpus=lambda options: int(options.provider != "cpu"),
    any_batch=True,
)
