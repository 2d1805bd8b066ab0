"""Every backend gives what the model gives, in the order and the precision that its card says.

Backends whose hardware is not here run on stand-ins.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from hrnetpose import engines, files
from hrnetpose.artifacts.engine import EngineCard
from hrnetpose.artifacts.model import ModelCard, Tensor
from hrnetpose.engines.base import Engine
from hrnetpose.graphs import onnx_graph
from hrnetpose.stage import StageError
from stand_ins import cuda, iluvatar, torch_cuda

Build = Callable[..., Path]

TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2, "int8": 0.3}
"""Relative, by requested precision; bf16 has 8 bits."""
ALLOWED = {
    "fp32": {"fp32"},
    "fp16": {"fp16", "fp32"},
    "bf16": {"bf16", "fp32"},
    "int8": {"int8", "bf16", "fp32"},
}
"""Requested precision -> those that may be executed."""
REAL = ("openvino", "onnxruntime", "pytorch")
STAND_INS = ("pytorch gpu", "pytorch graph", "tensorrt", "tensorrt_rtx", "igie", "ixrt")
BACKENDS = (*REAL, *STAND_INS)


@dataclass(frozen=True)
class Model:
    """A folder with graphs and a card, and the outputs for all crops by name."""

    graphs: Path
    card: str
    outputs: dict[str, Any]


@pytest.fixture(scope="session")
def models(
    tiny: Path,
    tiny_simcc: Path,
    tmp_path_factory: pytest.TempPathFactory,
    crops: Any,
    expected: Any,
    run_network: Callable[[Path, Any], dict[str, Any]],
) -> dict[str, Model]:
    """A model with one output, one with two, in the card's order or not, and one that takes BGR."""
    ModelCard.read(tiny / "model.json").model_copy(update={"channel_order": "BGR"}).write(
        tiny / "bgr.json"
    )
    turned = tmp_path_factory.mktemp("turned")
    (turned / "model.json").write_bytes((tiny_simcc / "model.json").read_bytes())
    graph = onnx_graph.read(tiny_simcc / "fp32.onnx")
    outputs = list(reversed(graph.graph.output))
    outputs = [type(one).FromString(one.SerializeToString()) for one in outputs]
    del graph.graph.output[:]
    graph.graph.output.extend(outputs)
    onnx.save(graph, turned / "fp32.onnx")
    simcc = run_network(tiny_simcc, crops)
    return {
        "heatmaps": Model(tiny, "model.json", {"heatmaps": expected}),
        "simcc": Model(tiny_simcc, "model.json", simcc),
        "simcc, y first": Model(turned, "model.json", simcc),
        "bgr": Model(tiny, "bgr.json", run_network(tiny, crops[..., ::-1])),
    }


@contextmanager
def installed(backend: str, model: Model) -> Iterator[None]:
    """Put the stand-ins that a backend needs in place."""
    with pytest.MonkeyPatch.context() as patch:
        name, _, slots = backend.partition(" ")
        if slots:
            torch_cuda.install(patch)
        if name in ("tensorrt", "tensorrt_rtx"):
            device = cuda.install(patch, model.graphs / "fp32.onnx", model.graphs / model.card)
        if name == "tensorrt":
            cuda.install_tensorrt(patch)
            cuda.install_cuda_bindings(patch, device)
        if name == "igie":
            iluvatar.install_igie(patch)
        if name == "ixrt":
            iluvatar.install_ixrt(patch)
        yield


def build_for(build: Build, backend: str, precision: str, model: Model) -> Path:
    options = {"cuda_graphs": True} if backend == "tensorrt" else {}
    name = backend.partition(" ")[0]
    return build(name, precision, graphs=model.graphs, card=model.card, **options)


CASES = [
    *((name, "fp32", model) for name in BACKENDS for model in ("heatmaps", "simcc", "bgr")),
    *(
        (name, "fp32", "simcc, y first")
        for name in BACKENDS
        if not name.startswith("pytorch")  # takes no graph
    ),
    *(
        (name, precision, model)
        for name in REAL
        for precision in engines.backend(name).graphs
        for model in ("heatmaps", "simcc")
        if precision != "fp32"
    ),
]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(
    request: pytest.FixtureRequest, build: Build, models: dict[str, Model]
) -> Iterator[tuple[Engine[Any], EngineCard, Model]]:
    """Each backend, opened for the second time, with its card and its model."""
    backend, precision, name = request.param
    model = models[name]
    with installed(backend, model):
        built = engines.read(build_for(build, backend, precision, model))
        engine = built.open(threads=1)
        with engine:
            pass
        with engine:
            if slots := backend.partition(" ")[2]:
                torch_cuda.use_gpu_slots(engine, graph=slots == "graph")
            yield engine, built.card, model


Case = tuple[Engine[Any], EngineCard, Model]


def test_outputs_are_those_of_the_model(case: Case, crops: Any) -> None:
    engine, card, model = case
    for start in (0, 4):
        found = engine.infer(crops[start : start + 4])

        assert list(found) == list(model.outputs)
        for name, values in found.items():
            wanted = model.outputs[name][start : start + 4]
            assert (values.dtype, values.shape) == (np.float32, wanted.shape)
            assert onnx_graph.relative_error(values, wanted) < TOLERANCE[card.requested]


def is_equal(found: Any, wanted: Any, count: int = 4) -> bool:
    return list(found) == list(wanted) and all(
        np.array_equal(found[name], wanted[name][:count]) for name in wanted
    )


def test_a_stream_gives_the_same_in_the_same_order(case: Case, crops: Any) -> None:
    engine, *_ = case
    batches = [crops[:4], crops[4:8], crops[8:]]
    wanted = [engine.infer(batch) for batch in batches]

    found = engine.stream(iter(batches * 3))

    assert engine.requests >= 1
    assert all(is_equal(*pair) for pair in zip(found, wanted * 3, strict=True))


def test_a_small_batch_gives_what_its_crops_give_in_a_full_one(case: Case, crops: Any) -> None:
    engine, *_ = case
    wanted = engine.infer(crops[:4])

    assert is_equal(engine.infer(crops[:3]), wanted, 3)
    assert is_equal(engine.infer_in_phases(crops[:2])[0], wanted, 2)
    streamed = list(engine.stream([crops[:4], crops[:3], crops[:1]]))
    assert len(streamed) == 3
    assert all(is_equal(*args) for args in zip(streamed, [wanted] * 3, (4, 3, 1), strict=True))


def test_an_engine_goes_on_after_a_stream_that_broke_off(case: Case, crops: Any) -> None:
    engine, *_ = case
    wanted = engine.infer(crops[:4])

    def break_off() -> Iterator[Any]:
        for _ in range(engine.requests):
            yield crops[4:8]
        raise OSError("the disk is gone")

    for _ in range(3):
        with pytest.raises(OSError, match="the disk is gone"):
            list(engine.stream(break_off()))
        assert all(is_equal(found, wanted) for found in engine.stream([crops[:4]] * 5))
        left = engine.stream([crops[4:8]] * 5)
        next(left)
        del left
        assert is_equal(engine.infer(crops[:4]), wanted)


def test_outputs_belong_to_the_caller(case: Case, crops: Any) -> None:
    engine, *_ = case
    found = engine.infer(crops[:4])
    kept = {name: values.copy() for name, values in found.items()}

    engine.infer(crops[4:8])
    list(engine.stream([crops[4:8], crops[8:]]))

    assert is_equal(found, kept)


def test_mirrored_and_read_only_crops_are_accepted(case: Case, crops: Any) -> None:
    engine, *_ = case
    mirrored = crops[:4, :, ::-1]
    wanted = engine.infer(mirrored.copy())

    assert is_equal(engine.infer(mirrored), wanted)
    mirrored.setflags(write=False)
    assert is_equal(engine.infer(mirrored), wanted)


def test_phases_are_parts_of_the_whole(case: Case, crops: Any) -> None:
    engine, *_ = case
    wanted = engine.infer(crops[:4])
    start = time.perf_counter()
    found, phases = engine.infer_in_phases(crops[:4])
    elapsed = time.perf_counter() - start

    assert is_equal(found, wanted)
    assert min(phases.copy_in, phases.copy_out) >= 0 < phases.inference
    assert phases.copy_in + phases.inference + phases.copy_out <= elapsed


@pytest.mark.parametrize(
    ("backend", "precision"), [(name, p) for name in REAL for p in engines.backend(name).graphs]
)
def test_the_executed_precision_is_the_requested_one_or_a_wider_one(
    build: Build, backend: str, precision: str
) -> None:
    executed = EngineCard.read(build(backend, precision) / "engine.json").executed

    assert executed.precision in ALLOWED[precision]
    assert set(executed.layers) <= ALLOWED[precision]
    assert sum(executed.layers.values()) == 40, "a convolution is not counted"
    assert precision != "int8" or executed.layers["int8"] > 0


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_transposed_convolutions_are_counted(
    build: Build, tiny: Path, tmp_path: Path, backend: str
) -> None:
    """Those of mmpose's heads for plain backbones, which OpenVINO may leave in fp32 beside bf16."""
    model = onnx_graph.read(tiny / "fp32.onnx")
    last = next(node for node in model.graph.node if node.output[0] == "heatmaps")
    last.output[0] = "before"
    count = int(ModelCard.read(tiny / "model.json").outputs[0].shape[1])
    weights = np.zeros((count, count, 3, 3), np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "weights"))
    model.graph.node.append(
        onnx.helper.make_node("ConvTranspose", ["before", "weights"], ["heatmaps"], pads=[1] * 4)
    )
    onnx.save(model, tmp_path / "fp32.onnx")

    for precision in {"fp32", "bf16"} & set(engines.backend(backend).graphs):
        folder = build(backend, precision, graphs=tmp_path, card=str(tiny / "model.json"))

        assert sum(EngineCard.read(folder / "engine.json").executed.layers.values()) == 41


PROFILED = ("openvino", "pytorch", "tensorrt", "tensorrt_rtx")
"""Backends that tell what each layer takes."""


def test_layers_are_timed_where_the_backend_tells(case: Case, crops: Any) -> None:
    engine, card, _ = case
    wanted = engine.infer(crops[:4])

    layers = engine.time_layers(crops[:3], 2)

    if card.backend not in PROFILED:
        assert layers is None
        return
    assert layers
    assert all(layer.name and layer.seconds > 0 for layer in layers)
    if card.backend == "openvino":
        assert engine.executed().precision in {layer.precision for layer in layers}
    assert is_equal(engine.infer(crops[:4]), wanted)


@pytest.mark.parametrize("shape", [[5, 64, 32, 3], [4, 32, 64, 3], [4, 64, 32]])
def test_crops_that_do_not_fit_are_refused(build: Build, shape: list[int]) -> None:
    reason = re.escape(f"crops are {shape}; expected [4, 64, 32, 3], or fewer of them")
    with (
        engines.read(build("onnxruntime")).open(threads=1) as engine,
        pytest.raises(ValueError, match=reason),
    ):
        engine.infer(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("backend", REAL)
def test_an_engine_opens_at_another_batch(
    build: Build, crops: Any, expected: Any, backend: str
) -> None:
    built = engines.read(build(backend))
    streams = 1 if built.backend.has_streams else None

    with built.open(threads=1, batch=2, streams=streams) as engine:
        found = engine.infer(crops[:2])["heatmaps"]

        assert engine.batch == 2
        assert not streams or engine.requests == 2  # one runs, one waits
    assert onnx_graph.relative_error(found, expected[:2]) < TOLERANCE["fp32"]


@pytest.mark.parametrize("backend", REAL)
def test_a_second_build_gives_the_same_file(build: Build, backend: str) -> None:
    one, other = (files.sha256(build(backend, copy=n) / "engine.bin") for n in range(2))

    assert one == other


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "pytorch", "igie", "ixrt"])
def test_a_file_that_a_backend_cannot_load_is_named(
    build: Build, models: dict[str, Model], change: Callable[..., None], backend: str
) -> None:
    """The card fits the file, so only the backend can tell."""
    with installed(backend, models["heatmaps"]):
        folder = build(backend, copy="rubbish")
        (folder / "engine.bin").write_bytes(b"rubbish" * 100)
        change(folder, sha256=files.sha256(folder / "engine.bin"))

        with pytest.raises(StageError, match=r"engine\.bin: .* cannot load it"):
            engines.read(folder).open(threads=1).__enter__()


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "tensorrt", "tensorrt_rtx", "ixrt"])
def test_an_engine_with_other_outputs_than_its_card_is_refused(
    build: Build, models: dict[str, Model], backend: str
) -> None:
    model = models["heatmaps"]
    with installed(backend, model):
        built = engines.read(build_for(build, backend, "fp32", model))
        built.card.model.outputs.append(Tensor(name="offsets", shape=["batch", 2], dtype="float32"))

        with pytest.raises(
            StageError, match="outputs are heatmaps, but the card's are heatmaps, of"
        ):
            built.open(threads=1).__enter__()


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "tensorrt_rtx", "igie", "ixrt"])
def test_a_graph_with_other_outputs_than_the_card_is_not_built(
    build: Build, models: dict[str, Model], tiny: Path, backend: str
) -> None:
    with (
        installed(backend, models["heatmaps"]),
        pytest.raises(
            StageError, match=r"fp32\.onnx: its outputs are simcc_y, simcc_x, but the card's"
        ),
    ):
        build(backend, graphs=models["simcc, y first"].graphs, card=str(tiny / "model.json"))
