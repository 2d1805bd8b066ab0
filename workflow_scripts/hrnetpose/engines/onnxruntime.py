"""ONNX Runtime on the CPU.  The engine file is the ONNX graph with pixels as input."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Self

import numpy as np

from hrnetpose import files
from hrnetpose.artifacts import ENGINE_FILE, EngineCard, ExecutedPrecision
from hrnetpose.engines.base import (
    Backend,
    BuildRequest,
    Crops,
    Engine,
    Heatmaps,
    Options,
    majority,
)
from hrnetpose.stage import StageError

_INT8 = {"QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger"}
_FLOAT = {"Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"}
_TYPES = {1: "fp32", 10: "fp16", 16: "bf16"}  # of onnx.TensorProto


class OnnxRuntimeEngine(Engine):
    """An inference session on the CPU execution provider."""

    def __init__(self, folder: Path, card: EngineCard, threads: int) -> None:
        self.batch = card.batch
        self._file = folder / ENGINE_FILE
        self._threads = Options(**card.options).threads or threads

    def __enter__(self) -> Self:
        self._session = _session(self._file, self._threads)
        return self

    def __exit__(self, *exception: object) -> None:
        del self._session

    def infer(self, crops: Crops) -> Heatmaps:
        return self._session.run(None, {"crops": np.ascontiguousarray(crops)})[0]

    def executed(self) -> ExecutedPrecision:
        """Reads the graph that ONNX Runtime made of the engine for this CPU."""
        import onnx

        with tempfile.TemporaryDirectory() as scratch:
            optimized = Path(scratch) / "optimized.onnx"
            _session(self._file, self._threads, optimized)
            graph = onnx.load(optimized).graph
        types = {tensor.name: tensor.data_type for tensor in graph.initializer}
        layers: Counter[str] = Counter()
        for node in graph.node:
            if node.op_type in _INT8:
                layers["int8"] += 1
            elif node.op_type in _FLOAT:
                layers[_TYPES.get(types.get(node.input[1], 1), "other")] += 1
        return majority(layers)


def _session(file: Path, threads: int, optimized: Path | None = None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if optimized:
        options.optimized_model_filepath = str(optimized)
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common base
        raise StageError(f"{file}: ONNX Runtime cannot load it: {error}") from error


def build(request: BuildRequest, output: Path) -> None:
    """Writes the graph with normalisation and layout inside, and makes sure that it loads."""
    from hrnetpose.model import graphs

    pixels = graphs.with_pixel_input(graphs.read(request.graph), request.card)
    with files.atomic_path(output) as temporary:
        temporary.write_bytes(pixels.SerializeToString())
        _session(temporary, request.threads)


def _device() -> str:
    return "CPU"


BACKEND = Backend(
    name="onnxruntime",
    graphs={"fp32": "fp32", "fp16": "fp16", "int8": "int8"},
    packages=("onnxruntime", "onnx"),
    options=Options,
    build=build,
    open=OnnxRuntimeEngine,
    device=_device,
    any_batch=True,
)
