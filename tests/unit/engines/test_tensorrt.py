"""TensorRT: real builds by TensorRT-RTX, whose API is the same; runs on a stand-in for a GPU.

The builder and the parser are real, as are all refusals of damaged plans.
"""

import ast
import importlib.util
import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import tensorrt_rtx

from hrnetpose import engines, files
from hrnetpose.artifacts.engine import Device, EngineCard
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.engines import cuda, tensorrt
from hrnetpose.engines.base import Engine
from hrnetpose.engines.cuda_slots import PycudaSlot
from hrnetpose.engines.tensorrt import plugin, runtime
from hrnetpose.engines.tensorrt.build import compile_plan
from hrnetpose.engines.tensorrt.flavour import TENSORRT_RTX as RTX
from hrnetpose.engines.tensorrt.layers import count_heavy_layers
from hrnetpose.engines.tensorrt.logger import get_logger
from hrnetpose.engines.tensorrt.options import TensorRtOptions
from hrnetpose.graphs import onnx_graph
from hrnetpose.stage import StageError
from stand_ins import cuda as stand_in

RunStage = Callable[..., None]
Build = Callable[..., Path]

GRAPHS = engines.backend("tensorrt_rtx").graphs
no_gpu = pytest.mark.skipif(isinstance(cuda.find_gpu(), cuda.Gpu), reason="there is a GPU")


# Real builds


def weights(caplog: pytest.LogCaptureFixture) -> int:
    """Return the bytes of weights that the builder logged last."""
    return int(re.findall(r"Total Weights Memory: (\d+) bytes", caplog.text)[-1])


def test_engines_are_built_in_every_precision_without_a_gpu(
    build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    """The size of the weights shows that the builder took the precision."""
    caplog.set_level(logging.INFO)
    get_logger.cache_clear()  # it logs each message once
    sizes = {}
    for precision in GRAPHS:
        folder = build("tensorrt_rtx", precision, copy="without a GPU")
        sizes[precision] = weights(caplog)

        card = EngineCard.read(folder / "engine.json")
        assert (folder / "engine.bin").read_bytes().startswith(b"vtrt")
        assert card.sha256 == files.sha256(folder / "engine.bin")
        assert (card.device.name, card.executed.precision) == (None, "unknown")
        assert card.built_for == {
            "TensorRT-RTX": tensorrt_rtx.__version__, "profile": "4-4-4", "options": "{}",
        }  # fmt: skip
    assert sizes["fp16"] == sizes["bf16"] < 0.6 * sizes["fp32"]
    assert sizes["fp8"] < 0.6 * sizes["fp16"]
    assert sizes["int8"] < 0.6 * sizes["fp16"]
    assert "Building engine" in caplog.text, "no progress is shown"
    assert "not opened, so that the precision executed is not known" in caplog.text


def test_the_builder_accepts_all_options(build: Build) -> None:
    folder = build(
        "tensorrt_rtx", "fp16", min_batch=1, max_batch=8, workspace_mib=512, optimization_level=0,
        tf32=True, timing_cache=False, buffers=3, cuda_graphs=True, threads=1,
    )  # fmt: skip

    built_for = EngineCard.read(folder / "engine.json").built_for
    assert built_for["profile"] == "1-4-8"
    # Without the options that matter only at run time.
    assert json.loads(built_for["options"]) == {
        "min_batch": 1, "max_batch": 8, "workspace_mib": 512, "optimization_level": 0,
        "tf32": True,
    }  # fmt: skip


@no_gpu
def test_tensorrt_rtx_has_no_version_compatibility(build: Build) -> None:
    with pytest.raises(StageError, match=r"fp32\.onnx: .*libnvinfer_lean"):
        build("tensorrt_rtx", version_compatible=True)


def test_hrnet_w32_is_built(
    tmp_path: Path, run_stage: RunStage, build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    get_logger.cache_clear()
    run_stage(
        "export_onnx", "--name", "w32", "--config", "td-hm_hrnet-w32_8xb64-210e_coco-256x192",
        "--crop", "256x192", "--output", tmp_path / "fp32.onnx", "--card", tmp_path / "model.json",
    )  # fmt: skip
    run_stage(
        "convert_precision", "--precision", "fp16", "--model", tmp_path / "fp32.onnx",
        "--output", tmp_path / "fp16.onnx",
    )  # fmt: skip

    build("tensorrt_rtx", "fp16", graphs=tmp_path, batch=32, optimization_level=0)

    parameters = ModelCard.read(tmp_path / "model.json").parameters
    assert weights(caplog) == pytest.approx(2 * parameters, rel=0.15)


# What the parser, the builder and the runtime refuse


def compiled(model: bytes, profile: dict[str, Any] | None = None) -> bytes:
    shapes = {"crops": [(n, 64, 32, 3) for n in (1, 2, 4)]}
    return compile_plan(RTX, model, profile or shapes, TensorRtOptions(), Path("graph.onnx"))


@pytest.fixture(scope="module")
def pixels(tiny: Path) -> bytes:
    model = onnx_graph.with_pixel_input(
        onnx_graph.read(tiny / "fp32.onnx"), ModelCard.read(tiny / "model.json")
    )
    return bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def plan(pixels: bytes) -> bytes:
    return compiled(pixels)


def test_an_unknown_operator_is_named_with_its_node(
    tiny: Path, tmp_path: Path, build: Build
) -> None:
    model = onnx_graph.read(tiny / "fp32.onnx")
    model.graph.node[10].op_type = "Blurp"
    model.graph.node[10].name = "/stage/blurp"
    onnx.save(model, tmp_path / "fp32.onnx")

    with pytest.raises(StageError) as error:
        build("tensorrt_rtx", graphs=tmp_path, card=str(tiny / "model.json"))

    reason = "fp32.onnx: TensorRT-RTX cannot parse it: node '/stage/blurp' (Blurp): "
    assert reason in str(error.value)
    assert str(error.value).endswith("[INVALID_NODE]")


def test_a_graph_with_zero_points_is_refused_at_its_first_one(tiny: Path, tmp_path: Path,
    build: Build,
) -> None:  # fmt: skip
    """The int8 graph of the CPU backends is not that of TensorRT."""
    (tmp_path / "int8-fp16.onnx").symlink_to(tiny / "int8.onnx")

    with pytest.raises(StageError, match=r"node 'input_q' \(QuantizeLinear\): .*zero point"):
        build("tensorrt_rtx", "int8", graphs=tmp_path, card=str(tiny / "model.json"))


@pytest.mark.parametrize(
    ("model", "profile", "reason"),
    [
        (b"rubbish" * 100, None, r"parse it: .*\[MODEL_DESERIALIZE_FAILED\]"),
        (b"", None, "build an engine from it: .*at least one output"),
        (None, {"crops": [(n, 64, 32, 3) for n in (4, 2, 1)]}, "build .*MIN<=OPT<=MAX"),
        (None, {"images": [(n, 64, 32, 3) for n in (1, 2, 4)]}, "build .*crops"),
        (None, {"crops": [(n, 65, 32, 3) for n in (1, 2, 4)]}, "build .*crops"),
    ],
    ids=["rubbish", "empty", "reversed profile", "another input", "another size"],
)
def test_a_model_or_profile_that_does_not_fit_is_refused(
    pixels: bytes, model: bytes | None, profile: dict[str, Any] | None, reason: str
) -> None:
    with pytest.raises(StageError, match=rf"graph\.onnx: TensorRT-RTX cannot {reason}"):
        compiled(pixels if model is None else model, profile)


def test_a_profile_without_the_batch_is_refused_with_the_keys(build: Build) -> None:
    with pytest.raises(StageError, match="min_batch <= opt_batch <= max_batch with batch 4"):
        build("tensorrt_rtx", max_batch=2)
    with pytest.raises(ValueError, match="min_batch <= opt_batch <= max_batch does not hold"):
        TensorRtOptions(min_batch=3, max_batch=2)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda plan: b"rubbish" * 100, r"it starts with b'rubb', but a plan with b'vtrt'"),
        (lambda plan: b"", r"it starts with b''"),
        (lambda plan: b"ftrt" + plan[4:], r"it starts with b'ftrt', but a plan with b'vtrt'"),
        (lambda plan: plan[: len(plan) // 2], r"plan\.header\.size == blobSize failed"),
        (lambda plan: plan[:20], r"bufferSize >= minBufferSize failed"),
        pytest.param(lambda plan: plan, "CUDA driver version is insufficient", marks=no_gpu),
    ],
    ids=["rubbish", "empty", "TensorRT's", "half of it", "its start", "no driver"],
)
def test_a_plan_that_cannot_be_loaded_is_refused_with_the_reason(
    plan: bytes, damage: Callable[[bytes], bytes], reason: str
) -> None:
    with pytest.raises(StageError, match=rf"engine\.bin: TensorRT-RTX cannot load it: .*{reason}"):
        runtime.load(RTX, damage(plan), Path("engine.bin"), TensorRtOptions())


def test_without_a_gpu_an_engine_is_refused_before_it_is_read(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = build("tensorrt_rtx", copy="without a GPU")
    monkeypatch.setattr(cuda, "find_gpu", lambda: pytest.fail("a query of the driver is slow"))
    with pytest.raises(StageError, match=r"cannot run here: pycuda is not installed; install it"):
        engines.read(folder)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(cuda, "find_gpu", lambda: "the NVIDIA driver finds no GPU")
    with pytest.raises(StageError, match=r"cannot run here: the NVIDIA driver finds no GPU"):
        engines.read(folder)


def test_a_missing_tensorrt_is_reported_in_one_line(build: Build) -> None:
    with pytest.raises(StageError) as error:
        build("tensorrt", copy="without it")

    assert str(error.value) == (
        "backend tensorrt needs tensorrt, which is not installed; install it with "
        "`pip install -r envs/gpu-tensorrt.txt`, or use another backend"
    )


@pytest.mark.parametrize(
    ("version", "options", "reason"),
    [
        *((version, {}, f"TensorRT {version} is installed, but >=10.13,<12 is supported")
          for version in ("8.6.1", "10.12.0.36", "12.0.0.1")),
        *((version, {}, "None") for version in ("10.13.3.9", "10.16.1.11", "11.4.0.106")),
        ("10.16.1.11", {"cuda_graphs": True}, "`cuda_graphs` needs cuda-bindings; install it with"),
    ],
)  # fmt: skip
def test_supported_versions_are_tensorrt_10_13_to_11(
    device: stand_in.Device, monkeypatch: pytest.MonkeyPatch,
    version: str, options: dict[str, bool], reason: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(plugin, "package_version", lambda name: version)

    found = tensorrt.BACKEND.unavailable_reason(TensorRtOptions(**options))

    assert str(found).startswith(reason)


def names_used() -> set[str]:
    """Return the names in tensorrt/ that belong to TensorRT: those that TensorRT-RTX has."""
    trees = [ast.parse(file.read_text()) for file in Path(plugin.__file__).parent.glob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    content = vars(tensorrt_rtx).items()
    classes = {name: value for name, value in content if isinstance(value, type)}
    known = set(classes).union(*map(dir, classes.values()))
    own = {name for kind in (dict, str, list, PycudaSlot) for name in dir(kind)}
    return used & known - own


def test_tensorrt_10_has_the_names_that_are_used() -> None:
    """They are looked up in the binary of its Python bindings, which cannot be loaded alone."""
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


@pytest.mark.parametrize(
    ("fake", "real"),
    [
        (stand_in.ExecutionContext, tensorrt_rtx.IExecutionContext),
        (stand_in.CudaEngine, tensorrt_rtx.ICudaEngine),
        (stand_in.EngineInspector, tensorrt_rtx.EngineInspector),
    ],
)
def test_the_stand_ins_have_only_names_of_the_real_classes(fake: type, real: type) -> None:
    names = {name for name in vars(fake) if not name.startswith("_")}

    assert names - {"compute"} <= set(dir(real))


# On the stand-in for a GPU


@pytest.fixture
def device(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[stand_in.Device]:
    """A stand-in for a GPU, on which plans compute what ONNX Runtime computes."""
    device = stand_in.install(monkeypatch, tiny / "fp32.onnx", tiny / "model.json")
    yield device
    assert not device.memory, "device memory is not freed"


BATCH_CALLS = ["copy in", "execute", "copy out"]
WAIT, EVENT = "synchronize stream", "synchronize event"


@pytest.mark.parametrize(
    ("run", "calls"),
    [
        (
            lambda engine, crops: list(engine.stream([crops] * 3)),
            [*BATCH_CALLS, *BATCH_CALLS, EVENT, *BATCH_CALLS, EVENT, EVENT],
        ),
        (
            lambda engine, crops: engine.infer_in_phases(crops),
            ["copy in", WAIT, "execute", WAIT, "copy out", EVENT],
        ),
        (
            lambda engine, crops: engine.device_times(crops, 5),
            ["copy in", WAIT, *["execute"] * 5, WAIT],
        ),
    ],
    ids=["batches overlap", "phases are waited for", "device time excludes copies"],
)
def test_the_device_gets_only_the_calls_that_it_needs(
    build: Build, device: stand_in.Device, crops: Any,
    run: Callable[[Engine[Any], Any], Any], calls: list[str],
) -> None:  # fmt: skip
    with engines.read(build("tensorrt_rtx")).open(threads=1) as engine:
        device.calls.clear()
        run(engine, crops[:4])

        assert device.calls == calls
        assert engine.requests == 2
        assert engine.device_times(crops[:4], 3) == [2.5e-3] * 3


def test_a_batch_within_a_wider_profile_runs(
    build: Build, device: stand_in.Device, crops: Any, expected: Any
) -> None:
    device.profile = [(n, 64, 32, 3) for n in (1, 4, 8)]
    folder = build("tensorrt_rtx", min_batch=1, max_batch=8, buffers=3)
    with engines.read(folder).open(threads=1) as engine:
        assert engine.requests == 3
        found = engine.infer(crops[:4])["heatmaps"]

    assert onnx_graph.relative_error(found, expected[:4]) < 1e-5


def test_the_engine_inspector_reports_the_executed_precision(
    build: Build, device: stand_in.Device
) -> None:
    folder = build("tensorrt_rtx", "fp16", copy="with a GPU")

    card = EngineCard.read(folder / "engine.json")
    assert card.device == Device(kind="gpu", name=str(stand_in.GPU))
    assert card.executed.precision == "fp16"
    assert card.executed.layers == {"fp16": 2, "fp32": 1}
    assert json.loads((folder / "layers.json").read_text()) == stand_in.LAYERS


def test_a_plan_with_another_profile_is_refused(build: Build, device: stand_in.Device) -> None:
    engine = engines.read(build("tensorrt_rtx")).open(threads=1)
    device.profile = [(8, 64, 32, 3)] * 3

    with pytest.raises(StageError, match=r"engine\.bin: its profile is .*; build it again: "):
        engine.__enter__()


def test_a_run_that_fails_gives_the_reason(
    build: Build, device: stand_in.Device, crops: Any
) -> None:
    with engines.read(build("tensorrt_rtx")).open(threads=1) as engine:
        engine._engine.broken = True
        get_logger("tensorrt_rtx").errors.append("Error Code 1: Cuda Runtime (out of memory)")

        with pytest.raises(StageError, match=r"engine\.bin: .* cannot run it: .*out of memory"):
            engine.infer(crops[:4])


def test_tensorrt_rtx_captures_cuda_graphs_itself_once_for_each_slot(
    build: Build, device: stand_in.Device, crops: Any
) -> None:
    with engines.read(build("tensorrt_rtx", cuda_graphs=True)).open(threads=1) as engine:
        assert "context CudaGraphStrategy.WHOLE_GRAPH_CAPTURE" in device.calls
        list(engine.stream([crops[:4]] * 6))

    assert device.calls.count("execute") == 6
    assert device.calls.count("capture") == engine._options.buffers == 2


def test_the_gpu_is_the_one_that_the_card_describes_whatever_pycuda_prefers(
    build: Build, device: stand_in.Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = build("tensorrt_rtx")
    monkeypatch.setenv("CUDA_DEVICE", "1")

    with engines.read(folder).open(threads=1):
        assert "context of GPU 0" in device.calls


# What only TensorRT does: an engine is tied to its GPU, and there is a timing cache


@pytest.fixture
def trt(device: stand_in.Device, monkeypatch: pytest.MonkeyPatch) -> stand_in.Device:
    stand_in.install_tensorrt(monkeypatch)
    return device


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"name": "NVIDIA H200"}, "GPU NVIDIA GeForce RTX 4090, but here it is NVIDIA H200"),
        ({"capability": "9.0"}, "built for compute capability 8.9, but here it is 9.0"),
        ({"driver": "590.1"}, "built for driver 580.95.05 (CUDA 13.0), but here it is 590.1"),
    ],
    ids=["GPU", "capability", "driver"],
)
def test_an_engine_of_another_machine_is_refused(
    build: Build, trt: stand_in.Device, monkeypatch: pytest.MonkeyPatch,
    refusal: Callable[[Path], str], changed: dict[str, str], reason: str,
) -> None:  # fmt: skip
    folder = build("tensorrt")
    engines.read(folder)

    monkeypatch.setattr(cuda, "find_gpu", lambda: replace(stand_in.GPU, **changed))

    assert reason in refusal(folder)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"batch": 8}, "built for profile 4-4-4, but here it is 8-8-8"),
        ({"options": {"tf32": True}}, "built for options {}, but here it is {\"tf32\": true}"),
        ({"built_for": {}}, "built for TensorRT None, but here it is"),
    ],
    ids=["profile", "options", "nothing"],
)  # fmt: skip
def test_a_card_that_was_changed_is_refused(
    build: Build, trt: stand_in.Device, refusal: Callable[[Path], str],
    change: Callable[..., None], changed: dict[str, Any], reason: str,
) -> None:  # fmt: skip
    folder = build("tensorrt", copy=str(changed))
    change(folder, **changed)

    assert reason in refusal(folder)


def environment(**options: Any) -> dict[str, str]:
    """Return what an engine of TensorRT that is built here is tied to."""
    return tensorrt.BACKEND.build_environment(4, TensorRtOptions(**options))


def test_another_version_is_refused_unless_the_engine_was_built_for_it(
    build: Build, trt: stand_in.Device, monkeypatch: pytest.MonkeyPatch,
    refusal: Callable[[Path], str],
) -> None:  # fmt: skip
    folder = build("tensorrt")
    compatible = environment(version_compatible=True)
    monkeypatch.setattr(plugin, "package_version", lambda name: "1.9.0")

    assert "built for TensorRT 1.7.1.116, but here it is 1.9.0" in refusal(folder)
    assert environment(version_compatible=True) == compatible


@pytest.mark.parametrize(
    ("level", "gpu", "fits"),
    [
        ("ampere_plus", cuda.Gpu("NVIDIA H200", "9.0", "1"), True),
        ("ampere_plus", cuda.Gpu("Tesla T4", "7.5", "1"), False),
        ("same_compute_capability", cuda.Gpu("NVIDIA GeForce RTX 4060", "8.9", "1"), True),
        ("same_compute_capability", cuda.Gpu("NVIDIA H200", "9.0", "1"), False),
    ],
)
def test_an_engine_can_be_built_for_more_than_one_gpu(
    trt: stand_in.Device, monkeypatch: pytest.MonkeyPatch, level: str, gpu: cuda.Gpu, fits: bool
) -> None:
    built_for = environment(hardware_compatibility=level)

    monkeypatch.setattr(cuda, "find_gpu", lambda: gpu)

    assert (environment(hardware_compatibility=level) == built_for) == fits


@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")
def test_a_timing_cache_is_kept_for_the_gpu_and_the_version(
    build: Build, trt: stand_in.Device, caplog: pytest.LogCaptureFixture
) -> None:
    cache = build("tensorrt", copy="first").parents[1] / "cache"
    (file,) = cache.iterdir()
    assert file.name == "tensorrt-rtx-1.7.1.116-NVIDIA-GeForce-RTX-4090-sm8.9.cache"

    build("tensorrt", copy="second")
    assert "does not fit" not in caplog.text
    file.write_bytes(b"rubbish")
    build("tensorrt", copy="third")
    assert file.read_bytes() != b"rubbish"

    file.unlink()
    build("tensorrt", copy="fourth", timing_cache=False)
    build("tensorrt_rtx", copy="fifth")
    assert not list(cache.iterdir()), "TensorRT-RTX measures nothing"


def test_a_batch_is_launched_as_one_cuda_graph(
    build: Build, trt: stand_in.Device, monkeypatch: pytest.MonkeyPatch, crops: Any
) -> None:
    """Where the package captures none itself, the CUDA runtime captures the stream of pycuda."""
    stand_in.install_cuda_bindings(monkeypatch, trt)
    with engines.read(build("tensorrt", cuda_graphs=True)).open(threads=1) as engine:
        trt.calls.clear()
        list(engine.stream([crops[:4], crops[4:8], crops[8:]]))

        assert "execute" not in trt.calls
        assert trt.calls.count("cudaGraphLaunch") == 3
    assert trt.calls.count("cudaGraphExecDestroy") == 2


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


def test_layers_without_details_are_not_counted() -> None:
    assert count_heavy_layers({"Layers": ["conv1", "conv2"], "Bindings": []}) == {}
