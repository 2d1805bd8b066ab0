"""IGIE and IxRT on stand-ins: the calls that Iluvatar's SDK would get, in order.

Nothing of the SDK is here.  The stand-ins take the calls that its published examples make, and
compute with ONNX Runtime.
"""

import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from hrnetpose import engines
from hrnetpose.artifacts.engine import EngineCard
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.engines import ixrt
from hrnetpose.engines.base import Options
from hrnetpose.graphs import onnx_graph
from hrnetpose.stage import StageError
from stand_in_cuda import module

RunStage = Callable[..., None]
Calls = list[Any]

BATCH = 4


@pytest.fixture
def crops(tiny: Path) -> Any:
    return np.load(tiny / "crops.npy")


@pytest.fixture
def expected(tiny: Path, crops: Any) -> Any:
    card = ModelCard.read(tiny / "model.json")
    return onnx_graph.run(tiny / "fp32.onnx", onnx_graph.normalised(crops, card))


@pytest.fixture
def build(tiny: Path, tmp_path: Path, run_stage: RunStage) -> Callable[..., Path]:
    def build(backend: str, precision: str = "fp16", **options: object) -> Path:
        run_stage(
            "build_engine", "--variant", "mine", "--backend", backend, "--precision", precision,
            "--graph", tiny / "fp32.onnx", "--card", tiny / "model.json", "--batch", BATCH,
            "--options", json.dumps(options), "--output", tmp_path / "engine",
        )  # fmt: skip
        return tmp_path / "engine"

    return build


class Graph:
    """An ONNX graph that the compiler was given, and what is compiled from it."""

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
        return types.SimpleNamespace(asnumpy=lambda: self._outputs[number])

    def time_evaluator(self, name: str, device: Any, number: int, repeat: int) -> Any:
        self.calls.append(("time_evaluator", name, device, number, repeat))
        return lambda: types.SimpleNamespace(results=[0.017] * repeat)


@pytest.fixture
def igie(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls: Calls = []

    def target(model: str, options: str) -> Any:
        calls.append(("target", model, options))
        return types.SimpleNamespace(kind=types.SimpleNamespace(name="iluvatar"))

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

    def device(kind: str, number: int) -> str:
        return f"{kind}:{number}"

    modules = [
        module(
            "tvm", __version__="0.12+corex", target=types.SimpleNamespace(iluvatar=target),
            device=device, runtime=types.SimpleNamespace(load_module=load_module),
            nd=types.SimpleNamespace(array=lambda images, device: images),
        ),
        module("tvm.relay", build=build),
        module("tvm.relay.import_model", import_model_to_igie=importer),
        module("tvm.contrib"),
        module("tvm.contrib.graph_executor", GraphModule=lambda executor: executor),
    ]  # fmt: skip
    for made in modules:
        monkeypatch.setitem(sys.modules, made.__name__, made)
    return calls


def test_igie_is_built_as_its_examples_do(build: Callable[..., Path], igie: Calls) -> None:
    folder = build("igie")

    assert igie[:4] == [
        ("import", {"input": [BATCH, 3, 64, 32]}, "igie"),
        ("target", "MR", "-libs=cudnn,cublas,ixinfer"),
        ("build", "iluvatar", "parameters", "fp16"),
        ("export_library", "engine.so"),
    ]
    card = EngineCard.read(folder / "engine.json")
    assert (card.backend, card.requested, card.executed.precision) == ("igie", "fp16", "unknown")
    assert card.built_for == {"tvm": "0.12+corex"}
    assert str(card.device) == "Iluvatar MR"


def test_igie_pads_a_short_batch(
    build: Callable[..., Path], igie: Calls, crops: Any, expected: Any
) -> None:
    with engines.read(build("igie")).open(threads=1) as opened:
        igie.clear()
        full, short = (opened.infer(part)["heatmaps"] for part in (crops[:4], crops[4:6]))

    assert igie == [("set_input", "input", (BATCH, 3, 64, 32), "float32"), "run"] * 2
    assert onnx_graph.relative_error(full, expected[:4]) < 1e-5
    assert short.shape == expected[4:6].shape
    assert onnx_graph.relative_error(short, expected[4:6]) < 1e-5


def test_igie_has_a_clock_of_its_own(build: Callable[..., Path], igie: Calls, crops: Any) -> None:
    with engines.read(build("igie")).open(threads=1) as opened:
        assert opened.device_times(crops[:4], 3) == [0.017] * 3

    assert igie[-1] == ("time_evaluator", "run", "iluvatar:0", 1, 3)


def test_igie_takes_its_options(build: Callable[..., Path], igie: Calls) -> None:
    build("igie", target="BI", libraries="ixinfer")

    assert ("target", "BI", "-libs=ixinfer") in igie


def test_another_tvm_is_not_igie(
    build: Callable[..., Path], igie: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["tvm"], "target", types.SimpleNamespace())

    with pytest.raises(StageError, match="the tvm that is installed has no target for Iluvatar"):
        build("igie")


def test_what_igie_cannot_load_is_refused_by_name(
    build: Callable[..., Path], igie: Calls, tmp_path: Path
) -> None:
    folder = build("igie")
    built = engines.read(folder)
    (folder / "engine.bin").write_bytes(b"rubbish")

    with pytest.raises(StageError, match=r"engine\.bin: IGIE cannot load it: invalid ELF"):
        built.open(threads=1).__enter__()


class Ixrt:
    """The parts of TensorRT 8's API that IxRT's examples use, and the CUDA runtime's memory."""

    def __init__(self) -> None:
        self.calls: Calls = []
        self.memory: dict[int, np.ndarray] = {}
        self.refuse = False

    def modules(self) -> list[types.ModuleType]:
        flags = types.SimpleNamespace
        trt = module(
            "tensorrt",
            __version__="8.5.2.2+corex",
            Logger=type(
                "Logger", (), {"ERROR": 1, "WARNING": 2, "__init__": lambda s, level: None}
            ),
            Builder=lambda logger: self,
            OnnxParser=lambda network, logger: self,
            Runtime=lambda logger: self,
            NetworkDefinitionCreationFlag=flags(EXPLICIT_BATCH=0),
            BuilderFlag=flags(FP16="FP16"),
        )
        names = ("cudaMalloc", "cudaFree", "cudaMemcpy")
        cudart = module(
            "cuda.cudart",
            cudaError_t=flags(cudaSuccess=0),
            cudaMemcpyKind=flags(cudaMemcpyHostToDevice="in", cudaMemcpyDeviceToHost="out"),
            **{name: getattr(self, name) for name in names},
        )
        return [trt, module("cuda", cudart=cudart), cudart]

    # Builder, network, configuration and parser

    num_errors = 1

    def create_network(self, flags: int) -> str:
        self.calls.append(("network", flags))
        return "network"

    def create_builder_config(self) -> Any:
        return types.SimpleNamespace(set_flag=lambda flag: self.calls.append(("flag", flag)))

    def parse_from_file(self, path: str) -> bool:
        self._content = Path(path).read_bytes()
        return not self.refuse

    def get_error(self, number: int) -> str:
        return "In node 3: UNSUPPORTED_NODE"

    def build_serialized_network(self, network: str, config: Any) -> bytes:
        return b"ixrt" + self._content

    # Runtime, engine and context

    num_bindings = 2

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        if not plan.startswith(b"ixrt"):
            return None
        self._session = onnxruntime.InferenceSession(plan[4:])
        return self

    def create_execution_context(self) -> "Ixrt":
        return self

    def get_binding_shape(self, number: int) -> list[int]:
        tensors = (self._session.get_inputs()[0], self._session.get_outputs()[0])
        return list(tensors[number].shape)

    def get_binding_name(self, number: int) -> str:
        return ("input", "heatmaps")[number]

    def execute_v2(self, bindings: list[int]) -> bool:
        self.calls.append("execute_v2")
        images = self.memory[bindings[0]].view(np.float32).reshape(self.get_binding_shape(0))
        heatmaps = self._session.run(None, {"input": images})[0]
        self.memory[bindings[1]][:] = heatmaps.reshape(-1).view(np.uint8)
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
        import ctypes

        self.calls.append(("copy", kind, size))
        ctypes.memmove(target, source, size)
        return (0,)


@pytest.fixture
def ixrt_sdk(monkeypatch: pytest.MonkeyPatch) -> Ixrt:
    sdk = Ixrt()
    for made in sdk.modules():
        monkeypatch.setitem(sys.modules, made.__name__, made)
    return sdk


@pytest.mark.parametrize(("precision", "flags"), [("fp16", [("flag", "FP16")]), ("fp32", [])])
def test_ixrt_is_built_with_explicit_batch_and_a_precision_flag(
    build: Callable[..., Path], ixrt_sdk: Ixrt, precision: str, flags: Calls
) -> None:
    card = EngineCard.read(build("ixrt", precision) / "engine.json")

    assert ixrt_sdk.calls == [("network", 1), *flags]
    assert card.built_for == {"tensorrt": "8.5.2.2+corex"}


def test_ixrt_runs_on_bindings_by_number(
    build: Callable[..., Path], ixrt_sdk: Ixrt, crops: Any, expected: Any
) -> None:
    with engines.read(build("ixrt")).open(threads=1) as opened:
        ixrt_sdk.calls.clear()
        full, short = (opened.infer(part)["heatmaps"] for part in (crops[:4], crops[4:6]))
        assert opened.device_times(crops[:4], 3) is None
    images, heatmaps = BATCH * 3 * 64 * 32 * 4, BATCH * 17 * 16 * 8 * 4

    once = [("copy", "in", images), "execute_v2", ("copy", "out", heatmaps)]
    assert ixrt_sdk.calls == once * 2
    assert onnx_graph.relative_error(full, expected[:4]) < 1e-5
    assert onnx_graph.relative_error(short, expected[4:6]) < 1e-5
    assert not ixrt_sdk.memory, "memory is not freed"


def test_what_ixrt_refuses_is_shown(
    build: Callable[..., Path], ixrt_sdk: Ixrt, tmp_path: Path
) -> None:
    folder = build("ixrt")
    built = engines.read(folder)
    (folder / "engine.bin").write_bytes(b"rubbish")
    with pytest.raises(StageError, match=r"engine\.bin: IxRT cannot load it"):
        built.open(threads=1).__enter__()

    ixrt_sdk.refuse = True
    with pytest.raises(StageError, match="IxRT cannot parse it: In node 3: UNSUPPORTED_NODE"):
        build("ixrt")


def test_nvidias_tensorrt_is_not_ixrt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ixrt, "package_version", lambda name: "10.16.1.11")

    assert (ixrt.unavailable_reason(Options()) or "").startswith("tensorrt 10.16.1.11 is NVIDIA's")
