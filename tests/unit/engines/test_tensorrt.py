"""TensorRT: real builds by TensorRT-RTX, whose API is the same; runs on a stand-in for a GPU.

The builder and the parser are real here, as is all that is said of damaged plans.  What needs a
device goes through stand_in_cuda.py, where ONNX Runtime computes what a GPU would.
"""

import ast
import importlib.util
import json
import logging
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tensorrt_rtx
import torch

import stand_in_cuda
from hrnetpose import engines, files
from hrnetpose.artifacts.calibration import CalibrationSet
from hrnetpose.artifacts.engine import Device, EngineCard
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.engines import cuda, tensorrt
from hrnetpose.engines import tensorrt_rtx as rtx
from hrnetpose.engines.cuda_slots import PycudaSlot
from hrnetpose.engines.tensorrt import plugin, runtime
from hrnetpose.engines.tensorrt.build import compile_plan
from hrnetpose.engines.tensorrt.layers import count_heavy_layers
from hrnetpose.engines.tensorrt.logger import get_logger
from hrnetpose.engines.tensorrt.options import TensorRtOptions
from hrnetpose.graphs import onnx_graph
from hrnetpose.stage import StageError

RunStage = Callable[..., None]
Build = Callable[..., Path]

BATCH = 4
PRECISIONS = list(rtx.BACKEND.graphs)
LAYERS = {
    "Layers": [
        {
            "Name": "conv1", "LayerType": "CaskConvolution", "TacticName": "sm89_xmma",
            "Inputs": [{"Name": "a", "Format/Datatype": "Channel major FP16 format"}],
        },
        {
            "Name": "myelin1", "LayerType": "kgen", "Metadata": "[ONNX Layer: /stem/conv2/Conv]",
            "Inputs": [{"Name": "b", "Format/Datatype": "Row major linear FP32"}],
        },
        {
            "Name": "Reformatting CopyNode for /stem/conv1/Conv", "LayerType": "Reformat",
            "Inputs": [{"Name": "c", "Format/Datatype": "Row major linear FP32"}],
        },
        {
            "Name": "relu", "LayerType": "kgen", "Metadata": "[ONNX Layer: /stem/conv3/Relu]",
            "Inputs": [{"Name": "d", "Format/Datatype": "Row major linear FP32"}],
        },
        {"Name": "conv3", "LayerType": "CaskConvolution", "Inputs": [{"Datatype": "Half"}]},
    ],
    "Bindings": ["crops", "heatmaps"],
}  # fmt: skip


@pytest.fixture
def build(tiny: Path, tmp_path: Path, run_stage: RunStage) -> Build:
    """Builds an engine of the small HRNet as its rule does."""

    def build(
        precision: str = "fp32", backend: str = "tensorrt_rtx", batch: int = BATCH,
        graph: Path | None = None, card: Path | None = None, name: str = "mine", **options: object,
    ) -> Path:  # fmt: skip
        folder = tmp_path / name
        source = graph or tiny / f"{rtx.BACKEND.graphs[precision]}.onnx"  # type: ignore[index]
        run_stage(
            "build_engine", "--variant", "mine", "--backend", backend, "--precision", precision,
            "--graph", source, "--card", card or tiny / "model.json", "--batch", batch,
            "--options", json.dumps(options), "--cache", tmp_path / "cache", "--output", folder,
        )  # fmt: skip
        return folder

    return build


# Real builds


def weights(caplog: pytest.LogCaptureFixture) -> int:
    """How many bytes of weights the builder says the engine has."""
    return int(re.findall(r"Total Weights Memory: (\d+) bytes", caplog.text)[-1])


def test_engines_are_built_in_every_precision_without_a_gpu(
    build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    """That weights take a half or a quarter shows that the builder took the precision."""
    caplog.set_level(logging.INFO)
    get_logger.cache_clear()  # it says each message once
    sizes = {}
    for precision in PRECISIONS:
        folder = build(precision, name=precision)
        sizes[precision] = weights(caplog)

        card = EngineCard.read(folder / "engine.json")
        assert (folder / "engine.bin").read_bytes().startswith(b"vtrt")
        assert card.sha256 == files.sha256(folder / "engine.bin")
        assert card.executed.precision == "unknown"
        assert card.built_for == {
            "TensorRT-RTX": tensorrt_rtx.__version__, "profile": "4-4-4", "options": "{}",
        }  # fmt: skip
    assert sizes["fp16"] == sizes["bf16"] < 0.6 * sizes["fp32"]
    assert sizes["fp8"] < 0.6 * sizes["fp16"]
    assert sizes["int8"] < 0.6 * sizes["fp16"]
    assert "Building engine" in caplog.text, "no progress is shown"
    assert "not opened, so that the precision executed is not known" in caplog.text


def test_the_builder_takes_all_options(build: Build) -> None:
    folder = build(
        "fp16", batch=4, min_batch=1, max_batch=8, workspace_mib=512, optimization_level=0,
        tf32=True, timing_cache=False, buffers=3, cuda_graphs=True, threads=1,
    )  # fmt: skip

    built_for = EngineCard.read(folder / "engine.json").built_for
    assert built_for["profile"] == "1-4-8"
    # What matters only when it runs is not what it was built for.
    assert json.loads(built_for["options"]) == {
        "min_batch": 1, "max_batch": 8, "workspace_mib": 512, "optimization_level": 0,
        "tf32": True,
    }  # fmt: skip


@pytest.fixture(scope="module")
def w32(tmp_path_factory: pytest.TempPathFactory, run_stage: RunStage) -> Path:
    """HRNet-W32 256x192 with seeded weights."""
    # Where other work has the cores, threads that wait for each other cost most of the time.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("w32")
    run_stage(
        "export_onnx", "--name", "w32", "--config", "td-hm_hrnet-w32_8xb64-210e_coco-256x192",
        "--crop", "256x192", "--output", folder / "fp32.onnx", "--card", folder / "model.json",
    )  # fmt: skip
    torch.set_num_threads(threads)
    crops = np.random.default_rng(0).integers(0, 256, (1, 256, 192, 3), dtype=np.uint8)
    np.save(folder / "crops.npy", crops)
    CalibrationSet(images=[], persons=1, evaluated_images=0).write(folder / "calibration.json")
    run_stage(
        "quantize_int8", "--model", folder / "fp32.onnx", "--card", folder / "model.json",
        "--crops", folder / "crops.npy", "--calibration", folder / "calibration.json",
        "--symmetric", "--output", folder / "int8-symmetric.onnx",
        "--summary", folder / "int8-symmetric.json",
    )  # fmt: skip
    for graph, source in (("fp16", "fp32"), ("int8-fp16", "int8-symmetric")):
        run_stage(
            "convert_precision", "--precision", graph, "--model", folder / f"{source}.onnx",
            "--output", folder / f"{graph}.onnx",
        )  # fmt: skip
    return folder


def test_hrnet_w32_is_built_in_fp32_fp16_and_int8(
    w32: Path, tmp_path: Path, run_stage: RunStage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    get_logger.cache_clear()
    parameters = ModelCard.read(w32 / "model.json").parameters
    for precision, bytes_each in (("fp32", 4), ("fp16", 2), ("int8", 1)):
        run_stage(
            "build_engine", "--variant", "w32", "--backend", "tensorrt_rtx",
            "--precision", precision, "--card", w32 / "model.json", "--batch", 32,
            "--graph", w32 / f"{rtx.BACKEND.graphs[precision]}.onnx",  # type: ignore[index]
            "--options", '{"optimization_level": 0}', "--output", tmp_path / precision,
        )  # fmt: skip
        assert weights(caplog) == pytest.approx(bytes_each * parameters, rel=0.15)


# What the parser, the builder and the runtime refuse


def spoiled(tiny: Path, folder: Path, node: int = 10) -> Path:
    """A graph with an operator that nobody knows."""
    model = onnx_graph.read(tiny / "fp32.onnx")
    model.graph.node[node].op_type = "Blurp"
    model.graph.node[node].name = "/stage/blurp"
    onnx.save(model, folder / "blurp.onnx")
    return folder / "blurp.onnx"


def compiled(model: bytes, profile: dict[str, Any] | None = None) -> bytes:
    shapes = {"crops": [(n, 64, 32, 3) for n in (1, 2, 4)]}
    return compile_plan(
        rtx.FLAVOUR, model, profile or shapes, TensorRtOptions(), Path("graph.onnx")
    )


@pytest.fixture(scope="module")
def pixels(tiny: Path) -> bytes:
    model = onnx_graph.with_pixel_input(
        onnx_graph.read(tiny / "fp32.onnx"), ModelCard.read(tiny / "model.json")
    )
    return bytes(model.SerializeToString())


def test_an_unknown_operator_is_named_with_its_node(
    tiny: Path, tmp_path: Path, build: Build
) -> None:
    with pytest.raises(StageError) as error:
        build(graph=spoiled(tiny, tmp_path))

    assert "blurp.onnx: TensorRT-RTX cannot parse it: node '/stage/blurp' (Blurp): " in str(
        error.value
    )
    assert str(error.value).endswith("[INVALID_NODE]")
    assert not list((tmp_path / "mine").glob("*")), "half an engine is left"


def test_a_graph_with_zero_points_is_refused_at_its_first_one(tiny: Path, build: Build) -> None:
    """The int8 of the CPU backends is not the int8 of TensorRT."""
    with pytest.raises(StageError, match=r"node 'input_q' \(QuantizeLinear\): .*zero point"):
        build("int8", graph=tiny / "int8.onnx")


def test_rubbish_is_no_model() -> None:
    with pytest.raises(
        StageError, match=r"graph\.onnx: .* cannot parse it: .*\[MODEL_DESERIALIZE_FAILED\]"
    ):
        compiled(b"rubbish" * 100)


def test_an_empty_model_cannot_be_built() -> None:
    with pytest.raises(StageError, match=r"cannot build an engine of it: .*at least one output"):
        compiled(b"")


@pytest.mark.parametrize(
    ("profile", "reason"),
    [
        ({"crops": [(n, 64, 32, 3) for n in (4, 2, 1)]}, "MIN<=OPT<=MAX"),
        ({"images": [(n, 64, 32, 3) for n in (1, 2, 4)]}, "crops"),
        ({"crops": [(n, 65, 32, 3) for n in (1, 2, 4)]}, "crops"),
    ],
    ids=["reversed", "another input", "another size"],
)
def test_a_profile_that_does_not_fit_is_refused(
    pixels: bytes, profile: dict[str, Any], reason: str
) -> None:
    with pytest.raises(StageError, match=rf"cannot build an engine of it: .*{reason}"):
        compiled(pixels, profile)


def test_a_profile_without_the_batch_is_refused_with_the_keys(build: Build) -> None:
    with pytest.raises(StageError, match="min_batch <= opt_batch <= max_batch with batch 4"):
        build(max_batch=2)
    with pytest.raises(ValueError, match="min_batch <= opt_batch <= max_batch does not hold"):
        TensorRtOptions(min_batch=3, max_batch=2)


@pytest.fixture(scope="module")
def plan(pixels: bytes) -> bytes:
    return compiled(pixels)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda plan: b"rubbish" * 100, r"it begins with b'rubb', and its plans with b'vtrt'"),
        (lambda plan: b"", r"it begins with b''"),
        (lambda plan: b"ftrt" + plan[4:], r"it begins with b'ftrt', and its plans with b'vtrt'"),
        (lambda plan: plan[: len(plan) // 2], r"plan\.header\.size == blobSize failed"),
        (lambda plan: plan[:20], r"bufferSize >= minBufferSize failed"),
    ],
    ids=["rubbish", "empty", "TensorRT's", "half of it", "its beginning"],
)
def test_a_plan_that_is_none_is_refused_with_the_reason(
    plan: bytes, spoil: Callable[[bytes], bytes], reason: str
) -> None:
    with pytest.raises(StageError, match=rf"engine\.bin: TensorRT-RTX cannot load it: .*{reason}"):
        runtime.load(rtx.FLAVOUR, spoil(plan), Path("engine.bin"), TensorRtOptions())


@pytest.mark.skipif(isinstance(cuda.find(), cuda.Gpu), reason="there is a GPU")
def test_a_good_plan_gets_as_far_as_the_missing_driver(plan: bytes) -> None:
    with pytest.raises(StageError, match="CUDA driver version is insufficient"):
        runtime.load(rtx.FLAVOUR, plan, Path("engine.bin"), TensorRtOptions())


def test_without_a_gpu_an_engine_is_refused_before_it_is_touched(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = build()
    with pytest.raises(StageError, match=r"cannot run here: pycuda is not installed; install it"):
        engines.read(folder)

    stand_in_cuda.install(monkeypatch)
    monkeypatch.setattr(cuda, "find", lambda: "the NVIDIA driver knows no device")
    with pytest.raises(StageError, match=r"cannot run here: the NVIDIA driver knows no device"):
        engines.read(folder)


def test_tensorrt_that_is_not_installed_is_asked_for_in_one_line(build: Build) -> None:
    with pytest.raises(StageError) as error:
        build(backend="tensorrt")

    assert str(error.value) == (
        "backend tensorrt needs tensorrt, which is not installed; install it with "
        "`pip install -r envs/gpu-tensorrt.txt`, or use another backend"
    )


@pytest.mark.parametrize("version", ["8.6.1", "10.12.0.36", "12.0.0.1"])
def test_a_version_of_tensorrt_that_is_not_supported_is_named(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    stand_in_cuda.install(monkeypatch)
    monkeypatch.setattr(plugin, "package_version", lambda name: version)

    reason = tensorrt.BACKEND.unavailable_reason(TensorRtOptions())

    assert reason is not None
    assert reason.startswith(f"TensorRT {version} is installed, but >=10.13,<12 is supported")


@pytest.mark.parametrize("version", ["10.13.3.9", "10.16.1.11", "11.4.0.106"])
def test_tensorrt_10_and_11_are_supported(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    stand_in_cuda.install(monkeypatch)
    monkeypatch.setattr(plugin, "package_version", lambda name: version)

    assert tensorrt.BACKEND.unavailable_reason(TensorRtOptions()) is None


def test_cuda_graphs_need_cuda_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_cuda.install(monkeypatch)
    monkeypatch.setattr(plugin, "package_version", lambda name: "10.16.1.11")

    reason = tensorrt.BACKEND.unavailable_reason(TensorRtOptions(cuda_graphs=True))

    assert reason is not None
    assert reason.startswith("`cuda_graphs` needs cuda-bindings; install it with")


def names_used() -> set[str]:
    """The names in tensorrt/ that belong to TensorRT: those that TensorRT-RTX knows."""
    trees = [ast.parse(file.read_text()) for file in Path(plugin.__file__).parent.glob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    content = vars(tensorrt_rtx).items()
    classes = {name: value for name, value in content if isinstance(value, type)}
    known = set(classes).union(*map(dir, classes.values()))
    own = {name for kind in (dict, str, list, PycudaSlot) for name in dir(kind)}
    return used & known - own


def test_tensorrt_10_knows_the_names_that_are_used() -> None:
    """They are looked up in the file of its Python bindings, which cannot be loaded alone."""
    spec = importlib.util.find_spec("tensorrt_bindings")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    content = (Path(spec.submodule_search_locations[0]) / "tensorrt.so").read_bytes()
    names = names_used()
    assert len(names) > 50

    # Linkers let a string be the end of a longer one.  Three names are TensorRT-RTX's alone, and
    # used only where its package has them.
    missing = {name for name in names if name.encode() + b"\0" not in content}
    assert missing == {"CudaGraphStrategy", "cuda_graph_strategy", "WHOLE_GRAPH_CAPTURE"}


def test_the_stand_ins_have_no_name_that_the_real_classes_lack() -> None:
    pairs: list[tuple[type, Any, set[str]]] = [
        (stand_in_cuda.ExecutionContext, tensorrt_rtx.IExecutionContext, set()),
        (stand_in_cuda.CudaEngine, tensorrt_rtx.ICudaEngine, set()),
        (stand_in_cuda.EngineInspector, tensorrt_rtx.EngineInspector, set()),
    ]
    for stand_in, real, extra in pairs:
        names = {name for name in vars(stand_in) if not name.startswith("_")} - extra
        assert names <= set(dir(real))


# On the stand-in for a GPU


@pytest.fixture
def device(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[stand_in_cuda.Device]:
    """A stand-in for a GPU, on which plans run: ONNX Runtime computes their heatmaps."""
    import onnxruntime

    device = stand_in_cuda.install(monkeypatch)
    device.graph = tiny / "fp32.onnx"

    class Runtime:
        engine_host_code_allowed = False

        def __init__(self, logger: object) -> None: ...

        def deserialize_cuda_engine(self, plan: bytes) -> stand_in_cuda.CudaEngine:
            model = onnx_graph.with_pixel_input(
                onnx_graph.read(device.graph), ModelCard.read(tiny / "model.json")
            )
            session = onnxruntime.InferenceSession(model.SerializeToString())
            names = [output.name for output in session.get_outputs()]

            def compute(crops: Any) -> dict[str, Any]:
                return dict(zip(names, session.run(names, {"crops": crops}), strict=True))

            return stand_in_cuda.CudaEngine(
                device,
                names,
                compute,
                device.profile,
                LAYERS,
                tensorrt_rtx.TensorIOMode,
            )

    device.profile = [(BATCH, 64, 32, 3)] * 3
    monkeypatch.setattr(tensorrt_rtx, "Runtime", Runtime)
    yield device
    assert not device.memory, "device memory is not freed"


@pytest.fixture
def crops(tiny: Path) -> Any:
    return np.load(tiny / "crops.npy")


@pytest.fixture
def expected(tiny: Path, crops: Any) -> Any:
    card = ModelCard.read(tiny / "model.json")
    return onnx_graph.run(tiny / "fp32.onnx", onnx_graph.normalised(crops, card))


def heatmaps(stream: Any) -> list[Any]:
    return [outputs["heatmaps"] for outputs in stream]


def close(found: Any, wanted: Any) -> bool:
    return onnx_graph.relative_error(found, wanted) < 1e-5


def test_batches_come_back_whole_and_in_order(
    build: Build, device: stand_in_cuda.Device, crops: Any, expected: Any
) -> None:
    folder = build()
    batches = [crops[start : start + BATCH] for start in (0, 4, 8)]
    opened = engines.read(folder).open(threads=1)
    with opened:
        assert (opened.batch, opened.requests) == (BATCH, 2)
        first = opened.infer(batches[0])["heatmaps"]
        assert close(first, expected[:BATCH])
        kept = first.copy()
        streamed = heatmaps(opened.stream(iter(batches * 2)))
        assert close(np.concatenate(streamed), np.concatenate([expected, expected]))
        assert np.array_equal(first, kept), "a result does not belong to the caller"
        assert close(opened.infer(batches[2][:, :, ::-1][:, :, ::-1])["heatmaps"], expected[8:])


def test_the_next_batch_is_copied_while_the_last_is_computed(
    build: Build, device: stand_in_cuda.Device, crops: Any
) -> None:
    with engines.read(build()).open(threads=1) as opened:
        device.calls.clear()
        list(opened.stream([crops[:BATCH]] * 3))

        batch = ["copy in", "execute", "copy out"]
        assert device.calls == [
            *batch, *batch, "synchronize event",
            *batch, "synchronize event", "synchronize event",
        ]  # fmt: skip


def test_all_outputs_come_out_by_name_in_the_order_of_the_card(
    build: Build, device: stand_in_cuda.Device, two_outputs: Path, crops: Any, expected: Any
) -> None:
    device.graph = two_outputs / "fp32.onnx"
    folder = build(graph=device.graph, card=two_outputs / "model.json")
    with engines.read(folder).open(threads=1) as opened:
        found = list(opened.stream([crops[:4], crops[4:8], crops[8:]]))

    assert [list(outputs) for outputs in found] == [["columns", "rows"]] * 3
    assert close(np.concatenate([outputs["columns"] for outputs in found]), expected.max(axis=2))
    assert close(np.concatenate([outputs["rows"] for outputs in found]), expected.max(axis=3))


def test_a_plan_with_other_outputs_is_refused(
    build: Build, device: stand_in_cuda.Device, two_outputs: Path
) -> None:
    opened = engines.read(build()).open(threads=1)
    device.graph = two_outputs / "fp32.onnx"

    with pytest.raises(StageError, match="its outputs are columns, rows, but the card's are heatm"):
        opened.__enter__()


def test_copies_and_work_have_a_stream_each(
    build: Build, device: stand_in_cuda.Device, crops: Any
) -> None:
    folder = build(buffers=4)
    device.streams.clear()
    with engines.read(folder).open(threads=1) as opened:
        assert opened.requests == 4
        opened.infer(crops[:BATCH])
        assert len(device.streams) == 3


def test_device_time_has_no_copies_in_it(
    build: Build, device: stand_in_cuda.Device, crops: Any
) -> None:
    with engines.read(build()).open(threads=1) as opened:
        device.calls.clear()
        times = opened.device_times(crops[:BATCH], 5)

        assert times == [2.5e-3] * 5
        wait = "synchronize stream"
        assert device.calls == ["copy in", wait, *["execute"] * 5, wait]


def test_the_parts_of_an_inference_are_told_apart(
    build: Build, device: stand_in_cuda.Device, crops: Any
) -> None:
    with engines.read(build()).open(threads=1) as opened:
        expected = opened.infer(crops[:BATCH])["heatmaps"]
        device.calls.clear()
        found, phases = opened.infer_in_phases(crops[:BATCH])

        wait = "synchronize stream"
        assert device.calls == ["copy in", wait, "execute", wait, "copy out", "synchronize event"]
        assert np.array_equal(found["heatmaps"], expected)
        assert min(phases.copy_in, phases.inference, phases.copy_out) > 0


def test_a_batch_within_the_profile_need_not_be_full(
    build: Build, device: stand_in_cuda.Device, crops: Any, expected: Any
) -> None:
    device.profile = [(n, 64, 32, 3) for n in (1, 4, 8)]
    folder = build(min_batch=1, max_batch=8)
    with engines.read(folder).open(threads=1) as opened:
        found = heatmaps(opened.stream([crops[:4], crops[4:5], crops[5:8]]))

        assert [len(part) for part in found] == [4, 1, 3]
        assert close(np.concatenate(found), expected[:8])


def test_the_engine_inspector_says_what_is_executed(
    build: Build, device: stand_in_cuda.Device
) -> None:
    folder = build("fp16")

    card = EngineCard.read(folder / "engine.json")
    assert card.device == Device(kind="gpu", name=str(stand_in_cuda.GPU))
    assert card.executed.precision == "fp16"
    assert card.executed.layers == {"fp16": 2, "fp32": 1}
    assert json.loads((folder / "layers.json").read_text()) == LAYERS


def test_a_plan_with_another_profile_is_refused(build: Build, device: stand_in_cuda.Device) -> None:
    folder = build()
    device.profile = [(8, 64, 32, 3)] * 3
    opened = engines.read(folder).open(threads=1)

    with pytest.raises(StageError, match=r"engine\.bin: its profile is .*; build it again: "):
        opened.__enter__()


def test_a_run_that_fails_says_why(build: Build, device: stand_in_cuda.Device, crops: Any) -> None:
    with engines.read(build()).open(threads=1) as opened:
        opened._engine.broken = True
        get_logger("tensorrt_rtx").errors.append("Error Code 1: Cuda Runtime (out of memory)")

        with pytest.raises(StageError, match=r"engine\.bin: .* cannot run it: .*out of memory"):
            opened.infer(crops[:BATCH])


def test_tensorrt_rtx_captures_cuda_graphs_itself(
    build: Build, device: stand_in_cuda.Device
) -> None:
    with engines.read(build(cuda_graphs=True)).open(threads=1):
        assert "context CudaGraphStrategy.WHOLE_GRAPH_CAPTURE" in device.calls


# TensorRT's own way: tied to the GPU, with a timing cache.  The package behind it is TensorRT-RTX.


@pytest.fixture
def tied(device: stand_in_cuda.Device, monkeypatch: pytest.MonkeyPatch) -> stand_in_cuda.Device:
    flavour = replace(
        tensorrt.FLAVOUR, package="tensorrt_rtx", magic=b"vtrt", versions=((1, 0), (2, 0))
    )
    monkeypatch.setattr(tensorrt, "BACKEND", plugin.create_backend("tensorrt", flavour))
    return device


def refusal(folder: Path) -> str:
    with pytest.raises(StageError) as error:
        engines.read(folder)
    remedy = f"snakemake --cores 4 --forcerun build_engine -- {folder / 'engine.json'}"
    assert str(error.value).endswith(remedy)
    return str(error.value)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": "NVIDIA H200"}, "GPU NVIDIA GeForce RTX 4090, but here it is NVIDIA H200"),
        ({"capability": "9.0"}, "built for compute capability 8.9, but here it is 9.0"),
        ({"driver": "590.1"}, "built for driver 580.95.05 (CUDA 13.0), but here it is 590.1"),
    ],
    ids=["GPU", "capability", "driver"],
)  # fmt: skip
def test_an_engine_of_another_machine_is_refused(
    build: Build, tied: stand_in_cuda.Device, monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, str], said: str,
) -> None:  # fmt: skip
    folder = build(backend="tensorrt")
    engines.read(folder)

    monkeypatch.setattr(cuda, "find", lambda: replace(stand_in_cuda.GPU, **changed))

    assert said in refusal(folder)


def change(folder: Path, **values: object) -> None:
    path = folder / "engine.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"batch": 8}, "built for profile 4-4-4, but here it is 8-8-8"),
        ({"options": {"tf32": True}}, "built for options {}, but here it is {\"tf32\": true}"),
        ({"built_for": {}}, "built for TensorRT None, but here it is"),
        ({"graph_sha256": "0" * 64}, "built from another"),
    ],
    ids=["profile", "options", "nothing", "graph"],
)  # fmt: skip
def test_a_card_that_was_changed_is_refused(
    build: Build, tied: stand_in_cuda.Device, changed: dict[str, Any], said: str
) -> None:
    folder = build(backend="tensorrt")
    change(folder, **changed)

    assert said in refusal(folder)


def environment(**options: Any) -> dict[str, str]:
    """What an engine of TensorRT that is built here is tied to."""
    return tensorrt.BACKEND.build_environment(BATCH, TensorRtOptions(**options))


def test_another_version_is_refused_unless_the_engine_was_built_for_it(
    build: Build, tied: stand_in_cuda.Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = build(backend="tensorrt")
    lenient = environment(version_compatible=True)
    monkeypatch.setattr(plugin, "package_version", lambda name: "1.9.0")

    assert "built for TensorRT 1.7.1.116, but here it is 1.9.0" in refusal(folder)
    assert environment(version_compatible=True) == lenient


@pytest.mark.skipif(isinstance(cuda.find(), cuda.Gpu), reason="there is a GPU")
def test_tensorrt_rtx_has_no_version_compatibility(build: Build) -> None:
    with pytest.raises(StageError, match=r"fp32\.onnx: .*libnvinfer_lean"):
        build(version_compatible=True)


def test_an_engine_can_be_built_for_more_than_one_gpu(
    tied: stand_in_cuda.Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = environment
    here = facts(hardware_compatibility="ampere_plus")
    same = facts(hardware_compatibility="same_compute_capability")
    monkeypatch.setattr(cuda, "find", lambda: cuda.Gpu("NVIDIA H200", "9.0", "1"))
    assert facts(hardware_compatibility="ampere_plus") == here
    assert facts(hardware_compatibility="same_compute_capability") != same
    monkeypatch.setattr(cuda, "find", lambda: cuda.Gpu("NVIDIA GeForce RTX 4060", "8.9", "1"))
    assert facts(hardware_compatibility="same_compute_capability") == same
    monkeypatch.setattr(cuda, "find", lambda: cuda.Gpu("Tesla T4", "7.5", "1"))
    assert facts(hardware_compatibility="ampere_plus") != here


@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")
def test_a_timing_cache_is_kept_for_the_gpu_and_the_version(
    build: Build, tied: stand_in_cuda.Device, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build(backend="tensorrt", name="first")
    cache = tmp_path / "cache"
    (file,) = cache.iterdir()
    assert file.name == "tensorrt-rtx-1.7.1.116-NVIDIA-GeForce-RTX-4090-sm8.9.cache"

    build(backend="tensorrt", name="second")
    assert "does not fit" not in caplog.text
    file.write_bytes(b"rubbish")
    build(backend="tensorrt", name="third")
    assert file.read_bytes() != b"rubbish"

    shutil.rmtree(cache)
    build(backend="tensorrt", name="fourth", timing_cache=False)
    build(name="fifth")
    assert not cache.exists(), "TensorRT-RTX times nothing"


def test_a_batch_is_launched_as_one_cuda_graph(
    build: Build, tied: stand_in_cuda.Device, monkeypatch: pytest.MonkeyPatch,
    crops: Any, expected: Any,
) -> None:  # fmt: skip
    """Where the package captures none itself, CUDA's runtime captures pycuda's stream."""
    stand_in_cuda.install_cuda_bindings(monkeypatch, tied)
    monkeypatch.delattr(tensorrt_rtx, "CudaGraphStrategy")
    folder = build(backend="tensorrt", cuda_graphs=True)
    with engines.read(folder).open(threads=1) as opened:
        tied.calls.clear()
        found = heatmaps(opened.stream([crops[:4], crops[4:8], crops[8:]]))

        assert close(np.concatenate(found), expected)
        assert "execute" not in tied.calls
        assert tied.calls.count("cudaGraphLaunch") == 3
    assert tied.calls.count("cudaGraphExecDestroy") == 2


# The words of the inspector


@pytest.mark.parametrize(
    ("tensor", "precision"),
    [
        ({"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}, "int8"),
        ({"Format/Datatype": "Row major linear FP32"}, "fp32"),
        ({"Format/Datatype": "Two wide channel vectorized row major FP16 format"}, "fp16"),
        ({"Format": "Row major linear", "Datatype": "Half"}, "fp16"),
        ({"Format": "Row major linear", "Datatype": "BFloat16"}, "bf16"),
        ({"Format": "Row major linear", "Datatype": "Float"}, "fp32"),
        ({"Format": "Row major linear", "Datatype": "FP8"}, "fp8"),
        ({"Datatype": "Int64"}, "other"),
        ({}, "other"),
    ],
)
def test_types_are_read_as_tensorrt_10_and_11_write_them(
    tensor: dict[str, str], precision: str
) -> None:
    layers = [{"LayerType": "CaskConvolution", "Inputs": [tensor]}]

    assert count_heavy_layers({"Layers": layers}) == {precision: 1}


def test_names_alone_say_nothing() -> None:
    """What the inspector gives where an engine was built without details."""
    assert count_heavy_layers({"Layers": ["conv1", "conv2"], "Bindings": []}) == {}
