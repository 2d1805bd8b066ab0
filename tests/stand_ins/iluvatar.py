"""Stand-ins for Iluvatar's SDK; they take the calls of its published examples and record them.

ONNX Runtime computes what a GPU would.
"""

import ctypes
import sys
import types
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from stand_ins.cuda import module

Calls = list[Any]


class Graph:
    """An ONNX graph that TVM imported, and what is compiled from it."""

    def __init__(self, content: bytes, calls: Calls) -> None:
        self.session = onnxruntime.InferenceSession(content)
        self.content, self.calls = content, calls

    def export_library(self, path: str) -> None:
        self.calls.append(("export_library", Path(path).name))
        Path(path).write_bytes(b"\x7fELF" + self.content)


class GraphModule:
    """TVM's graph executor; it is its own `module`."""

    def __init__(self, graph: Graph) -> None:
        self._graph, self.calls, self.module = graph, graph.calls, self

    def set_input(self, name: str, images: Any) -> None:
        self.calls.append(("set_input", name, images.shape, images.dtype.name))
        self._inputs = {name: images}

    def run(self) -> None:
        self.calls.append("run")
        self._outputs = self._graph.session.run(None, self._inputs)

    def get_output(self, number: int) -> Any:
        return SimpleNamespace(asnumpy=lambda: self._outputs[number])

    def time_evaluator(self, name: str, device: Any, number: int, repeat: int) -> Any:
        self.calls.append(("time_evaluator", name, device, number, repeat))
        return lambda: SimpleNamespace(results=[0.017] * repeat)


def install_igie(patch: pytest.MonkeyPatch) -> Calls:
    """Replace TVM; return the calls."""
    calls: Calls = []

    def target(model: str, options: str) -> Any:
        calls.append(("target", model, options))
        return SimpleNamespace(kind=SimpleNamespace(name="iluvatar"))

    def importer(path: str, inputs: dict[str, list[int]], backend: str) -> tuple[Graph, str]:
        calls.append(("import", inputs, backend))
        return Graph(Path(path).read_bytes(), calls), "parameters"

    def build(graph: Graph, target: Any, params: str, precision: str) -> Graph:
        calls.append(("build", target.kind.name, params, precision))
        return graph

    def load_module(path: str) -> dict[str, Callable[[Any], GraphModule]]:
        assert path.endswith(".so"), "TVM knows its own libraries by their suffix"
        content = Path(path).read_bytes()
        if not content.startswith(b"\x7fELF"):
            raise RuntimeError("invalid ELF header")
        return {"default": lambda device: GraphModule(Graph(content[4:], calls))}

    modules = [
        module(
            "tvm", __version__="0.12+corex", target=SimpleNamespace(iluvatar=target),
            device=lambda kind, number: f"{kind}:{number}",
            runtime=SimpleNamespace(load_module=load_module),
            nd=SimpleNamespace(array=lambda images, device: images),
        ),
        module("tvm.relay", build=build),
        module("tvm.relay.import_model", import_model_to_igie=importer),
        module("tvm.contrib"),
        module("tvm.contrib.graph_executor", GraphModule=lambda executor: executor),
    ]  # fmt: skip
    for made in modules:
        patch.setitem(sys.modules, made.__name__, made)
    return calls


class Ixrt:
    """The API of TensorRT 8 that IxRT's examples use, and the memory of the CUDA runtime."""

    def __init__(self) -> None:
        self.calls: Calls = []
        self.memory: dict[int, np.ndarray] = {}
        self.reject = False

    def modules(self) -> list[types.ModuleType]:
        logger = type("Logger", (), {"ERROR": 1, "WARNING": 2, "__init__": lambda s, level: None})
        trt = module(
            "tensorrt",
            __version__="8.5.2.2+corex",
            Logger=logger,
            Builder=lambda logger: self,
            OnnxParser=lambda network, logger: self,
            Runtime=lambda logger: self,
            NetworkDefinitionCreationFlag=SimpleNamespace(EXPLICIT_BATCH=0),
            BuilderFlag=SimpleNamespace(FP16="FP16"),
        )
        cudart = module(
            "cuda.cudart",
            cudaError_t=SimpleNamespace(cudaSuccess=0),
            cudaMemcpyKind=SimpleNamespace(
                cudaMemcpyHostToDevice="in", cudaMemcpyDeviceToHost="out"
            ),
            **{name: getattr(self, name) for name in ("cudaMalloc", "cudaFree", "cudaMemcpy")},
        )
        return [trt, module("cuda", cudart=cudart), cudart]

    # Builder, network, configuration and parser

    num_errors = 1

    def create_network(self, flags: int) -> str:
        self.calls.append(("network", flags))
        return "network"

    def create_builder_config(self) -> Any:
        return SimpleNamespace(set_flag=lambda flag: self.calls.append(("flag", flag)))

    def parse_from_file(self, path: str) -> bool:
        self._content = Path(path).read_bytes()
        return not self.reject

    def get_error(self, number: int) -> str:
        return "In node 3: UNSUPPORTED_NODE"

    def build_serialized_network(self, network: str, config: Any) -> bytes:
        return b"ixrt" + self._content

    # Runtime, engine and context

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        if not plan.startswith(b"ixrt"):
            return None
        self._session = onnxruntime.InferenceSession(plan[4:])
        self._bindings = [*self._session.get_inputs(), *self._session.get_outputs()]
        self.num_bindings = len(self._bindings)
        return self

    def create_execution_context(self) -> "Ixrt":
        return self

    def get_binding_shape(self, number: int) -> list[int]:
        return list(self._bindings[number].shape)

    def get_binding_name(self, number: int) -> str:
        return self._bindings[number].name

    def execute_v2(self, bindings: list[int]) -> bool:
        self.calls.append("execute_v2")
        images = self.memory[bindings[0]].view(np.float32).reshape(self.get_binding_shape(0))
        values = self._session.run(None, {self.get_binding_name(0): images})
        for address, output in zip(bindings[1:], values, strict=True):
            self.memory[address][:] = output.reshape(-1).view(np.uint8)
        return True

    # The CUDA runtime

    def cudaMalloc(self, size: int) -> tuple[int, int]:  # noqa: N802
        buffer = np.zeros(size, np.uint8)
        self.memory[buffer.ctypes.data] = buffer
        return 0, buffer.ctypes.data

    def cudaFree(self, address: int) -> tuple[int]:  # noqa: N802
        del self.memory[address]
        return (0,)

    def cudaMemcpy(self, target: int, source: int, size: int, kind: str) -> tuple[int]:  # noqa: N802
        self.calls.append(("copy", kind, size))
        ctypes.memmove(target, source, size)
        return (0,)


def install_ixrt(patch: pytest.MonkeyPatch) -> Ixrt:
    """Replace IxRT and the CUDA runtime."""
    sdk = Ixrt()
    for made in sdk.modules():
        patch.setitem(sys.modules, made.__name__, made)
    return sdk
