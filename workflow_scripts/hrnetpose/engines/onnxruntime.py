"""ONNX Runtime on the CPU or an NVIDIA GPU.  The engine file is the graph with pixels as input."""

import os
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hrnetpose.artifacts.engine import ExecutedPrecision
from hrnetpose.backend_rules import Options
from hrnetpose.batches import Crops
from hrnetpose.engines import cuda, onnx_input
from hrnetpose.engines.base import Engine, summarize_layers
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
    """What runs the graph: the CPU, CUDA, or TensorRT with CUDA for the nodes that it leaves."""
    tf32: bool = False
    """Whether fp32 layers may run in TF32 on a GPU, which has 10 bits of mantissa."""

    def check(self, batch: int, precision: Precision) -> None:
        if precision == "int8" and self.provider != "cpu":
            raise StageError(
                f"options.provider: backend onnxruntime has no int8 with {self.provider!r}; use "
                "backend tensorrt, or `provider: cpu`"
            )


class OnnxRuntimeSlot(Slot):
    """A session with its input and outputs bound to buffers on the device; each call blocks.

    Args:
        session: takes crops.
        crops: shape of a full batch, uint8.
        outputs: shapes of the outputs of a full batch, float32, by name.
        device: ONNX Runtime's name of the device, `cuda` or `cpu`.
        file: the engine file, for errors.
    """

    def __init__(
        self,
        session: Any,
        crops: tuple[int, ...],
        outputs: Mapping[str, tuple[int, ...]],
        device: str,
        file: Path,
    ) -> None:
        import onnxruntime

        self._session, self._binding, self._file = session, session.io_binding(), file
        create = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        self._input = create(crops, np.uint8, device, 0)
        self._buffers = {
            name: create(shape, np.float32, device, 0) for name, shape in outputs.items()
        }
        self._binding.bind_ortvalue_input(session.get_inputs()[0].name, self._input)
        for name, buffer in self._buffers.items():
            self._binding.bind_ortvalue_output(name, buffer)

    def copy_in(self, crops: Crops) -> None:
        self._input.update_inplace(np.ascontiguousarray(crops))

    def launch(self) -> None:
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # for example outputs of another shape than the card's
            raise StageError(f"{self._file}: ONNX Runtime cannot run it: {error}") from error

    def copy_out(self) -> None:
        self.outputs = {name: buffer.numpy() for name, buffer in self._buffers.items()}


class OnnxRuntimeEngine(Engine[OnnxRuntimeOptions]):
    """An inference session."""

    def _open(self) -> list[Slot]:
        self._session = self._load()
        self.check_outputs(output.name for output in self._session.get_outputs())
        device = "cpu" if self._options.provider == "cpu" else "cuda"
        shapes = self.crops_shape, self.output_shapes
        return [OnnxRuntimeSlot(self._session, *shapes, device, self._file)]

    def _close(self) -> None:
        del self._session

    def executed(self) -> ExecutedPrecision:
        import onnx

        if self._options.provider == "tensorrt":
            return super().executed()
        # The session does not tell; its optimised graph does.
        with tempfile.TemporaryDirectory() as folder:
            optimized = Path(folder) / "optimized.onnx"
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
        """Return a session; write its optimised graph, if a file is given."""
        import onnxruntime

        if self._options.provider != "cpu":
            # Prefer CUDA and cuDNN of PyTorch's packages, where there are any.
            onnxruntime.preload_dlls()
        if self._options.provider == "tensorrt" and not self._options.tf32:
            # This provider has no option for it (microsoft/onnxruntime, issue 26029).
            os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3
        if optimized:
            options.optimized_model_filepath = str(optimized)
        try:
            session = onnxruntime.InferenceSession(
                str(self._file), options, providers=self._providers()
            )
        except Exception as error:  # its exceptions have no common base
            raise StageError(f"{self._file}: ONNX Runtime cannot load it: {error}") from error
        provider = _PROVIDERS[self._options.provider]
        # ONNX Runtime only warns about a provider whose libraries are missing, and uses the next.
        if session.get_providers()[0] != provider:
            raise StageError(
                f"ONNX Runtime cannot use {provider}: its libraries are not found or do not fit "
                "the driver (with `provider: tensorrt` they include TensorRT's); the log says which"
            )
        return session

    def _providers(self) -> list[Any]:
        fp16 = str(self._card.requested == "fp16")
        cuda = (_PROVIDERS["cuda"], {"use_tf32": str(int(self._options.tf32))})
        match self._options.provider:
            case "cpu":
                return [_PROVIDERS["cpu"]]
            case "cuda":
                return [cuda]
            case "tensorrt":
                return [(_PROVIDERS["tensorrt"], {"trt_fp16_enable": fp16}), cuda]


def unavailable_reason(options: OnnxRuntimeOptions) -> str | None:
    """Return why the provider cannot run here; None if it can."""
    if options.provider == "cpu":
        return None
    import onnxruntime

    provider = _PROVIDERS[options.provider]
    if provider not in onnxruntime.get_available_providers():
        return (
            f"the installed onnxruntime has no {provider}; replace it by the one for GPUs: "
            f"{_GPU_INSTALL}"
        )
    return cuda.missing_gpu_reason()


BACKEND = Backend(
    name="onnxruntime",
    graphs={"fp32": "fp32", "fp16": "fp16", "int8": "int8"},
    packages=("onnxruntime", "onnx"),
    options=OnnxRuntimeOptions,
    build=onnx_input.write_with_pixels,
    open=OnnxRuntimeEngine,
    device=lambda options: cuda.describe_device(gpu=options.provider != "cpu"),
    unavailable_reason=unavailable_reason,
    gpus=lambda options: int(options.provider != "cpu"),
    any_batch=True,
)
