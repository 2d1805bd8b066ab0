"""Every backend computes what the model computes, in the precision that it says."""

import importlib.util
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hrnetpose import engines, files
from hrnetpose.artifacts.engine import EngineCard
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.engines import base, cuda, onnxruntime, plugin, slots
from hrnetpose.engines.base import Engine
from hrnetpose.graphs import onnx_graph
from hrnetpose.models import mmpose
from hrnetpose.stage import StageError

RunPython = Callable[..., subprocess.CompletedProcess[str]]
RunStage = Callable[..., None]
Crops = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

BATCH = 3
TOLERANCE = {"fp32": 1e-4, "fp16": 5e-3, "bf16": 5e-2, "int8": 0.3}
"""Relative, by the precision asked for; bf16 has no more than 8 bits."""
BACKENDS = ("openvino", "onnxruntime", "pytorch")
"""Those that run on the CPU."""
ENGINES = [(name, precision) for name in BACKENDS for precision in engines.backend(name).graphs]


@pytest.fixture(scope="module")
def build(
    tiny: Path, tmp_path_factory: pytest.TempPathFactory, run_stage: RunStage
) -> Callable[..., Path]:
    """Builds an engine of the small HRNet as its rule does, unless it is there already."""

    @cache
    def build(
        backend: str, precision: str = "fp32", card: str = "model.json", options: str = "{}",
        copy: int = 0,
    ) -> Path:  # fmt: skip
        folder = tmp_path_factory.mktemp(f"{backend}_{precision}")
        graph = engines.backend(backend).graphs[precision]
        weights = ["--weights", tiny / "weights.pth"] if backend == "pytorch" else []
        run_stage(
            "build_engine", "--variant", "mine", "--backend", backend, "--precision", precision,
            "--graph", tiny / f"{graph}.onnx", *weights, "--card", tiny / card,
            "--batch", BATCH, "--options", options, "--threads", 2, "--output", folder,
        )  # fmt: skip
        return folder

    return build


@pytest.fixture(scope="module")
def plain(build: Callable[..., Path]) -> Path:
    """The engine that is built and opened fastest."""
    return build("onnxruntime")


@pytest.fixture
def copy(plain: Path, tmp_path: Path) -> Path:
    """An engine to spoil."""
    return shutil.copytree(plain, tmp_path / "engine")


@pytest.fixture(scope="module", params=ENGINES, ids="-".join)
def engine(
    request: pytest.FixtureRequest, build: Callable[..., Path]
) -> Iterator[tuple[Engine[Any], EngineCard]]:
    """Each backend in each of its precisions, opened."""
    built = engines.read(build(*request.param))
    with built.open(threads=2) as opened:
        yield opened, built.card


@pytest.fixture(scope="module")
def batches(tiny: Path) -> list[Crops]:
    crops = np.load(tiny / "crops.npy")
    return [crops[:BATCH], crops[BATCH : 2 * BATCH]]


def heatmaps(network: Any, crops: Crops, card: ModelCard) -> Floats:
    """What the model gives in PyTorch, normalised by hand."""
    images = ((crops - np.array(card.mean)) / np.array(card.std)).transpose(0, 3, 1, 2)
    with torch.inference_mode():
        return network(torch.from_numpy(images.astype(np.float32))).numpy()


@pytest.fixture(scope="module")
def expected(network: Any, batches: list[Crops], tiny: Path) -> list[Floats]:
    card = ModelCard.read(tiny / "model.json")
    return [heatmaps(network, crops, card) for crops in batches]


def test_the_heatmaps_are_those_of_the_model(
    engine: tuple[Engine[Any], EngineCard], batches: list[Crops], expected: list[Floats]
) -> None:
    opened, card = engine
    for crops, wanted in zip(batches, expected, strict=True):
        outputs = opened.infer(crops)

        assert list(outputs) == ["heatmaps"]
        found = outputs["heatmaps"]
        assert found.shape == wanted.shape
        assert found.dtype == np.float32
        assert onnx_graph.relative_error(found, wanted) < TOLERANCE[card.requested]


def test_a_stream_gives_the_same_in_the_same_order(
    engine: tuple[Engine[Any], EngineCard], batches: list[Crops]
) -> None:
    opened, _ = engine
    one_by_one = [opened.infer(crops) for crops in batches]

    streamed = list(opened.stream(iter(batches * 3)))

    assert len(streamed) == 3 * len(batches)
    for found, expected in zip(streamed, one_by_one * 3, strict=True):
        assert np.array_equal(found["heatmaps"], expected["heatmaps"])


def test_a_batch_that_is_not_full_gives_what_its_crops_give_in_a_full_one(
    engine: tuple[Engine[Any], EngineCard], batches: list[Crops]
) -> None:
    opened, _ = engine
    full, short = opened.infer(batches[0])["heatmaps"], batches[0][: BATCH - 1]

    streamed = [outputs["heatmaps"] for outputs in opened.stream([batches[1], short, short[:1]])]
    phased, _ = opened.infer_in_phases(short)

    assert [len(found) for found in streamed] == [BATCH, BATCH - 1, 1]
    for found in (opened.infer(short)["heatmaps"], phased["heatmaps"], *streamed[1:]):
        assert np.array_equal(found, full[: len(found)])


def test_a_result_belongs_to_the_caller(
    engine: tuple[Engine[Any], EngineCard], batches: list[Crops]
) -> None:
    opened, _ = engine
    first = opened.infer(batches[0])["heatmaps"]
    kept = first.copy()

    opened.infer(batches[1])
    list(opened.stream(batches))

    assert np.array_equal(first, kept)


def test_mirrored_and_read_only_crops_are_taken_too(
    engine: tuple[Engine[Any], EngineCard], batches: list[Crops]
) -> None:
    opened, _ = engine
    mirrored = batches[0][:, :, ::-1]
    mirrored.setflags(write=False)

    found, copied = (opened.infer(crops)["heatmaps"] for crops in (mirrored, mirrored.copy()))
    assert np.array_equal(found, copied)


def test_the_precision_executed_is_that_asked_for_or_a_wider_one(
    engine: tuple[Engine[Any], EngineCard],
) -> None:
    opened, card = engine
    allowed = {
        "fp32": {"fp32"},
        "fp16": {"fp16", "fp32"},
        "bf16": {"bf16", "fp32"},
        "int8": {"int8", "bf16", "fp32"},
    }

    assert opened.executed() == card.executed
    assert card.executed.precision in allowed[card.requested]
    assert set(card.executed.layers) <= allowed[card.requested]
    if card.requested == "int8":
        assert card.executed.layers["int8"] > 0


def test_all_heavy_layers_are_counted(engine: tuple[Engine[Any], EngineCard]) -> None:
    _, card = engine

    assert sum(card.executed.layers.values()) == 40


def test_an_engine_keeps_batches_in_flight(engine: tuple[Engine[Any], EngineCard]) -> None:
    opened, card = engine

    assert opened.batch == card.batch == BATCH
    assert opened.requests >= 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_engine_can_be_opened_again(
    build: Callable[..., Path], batches: list[Crops], backend: str
) -> None:
    opened = engines.read(build(backend)).open(threads=1)

    with opened:
        first = opened.infer(batches[0])["heatmaps"]
    with opened:
        second = opened.infer(batches[0])["heatmaps"]

    assert np.array_equal(first, second)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_engine_is_built_twice(build: Callable[..., Path], backend: str) -> None:
    one, other = (EngineCard.read(build(backend, copy=n) / "engine.json") for n in range(2))

    assert one.sha256 == other.sha256


@pytest.fixture(scope="module")
def swapped(network: Any, batches: list[Crops], tiny: Path) -> Floats:
    """What the same network gives for a card that swaps the channels, which is written here."""
    card = ModelCard.read(tiny / "model.json").model_copy(update={"channel_order": "BGR"})
    card.write(tiny / "bgr.json")
    return heatmaps(network, np.ascontiguousarray(batches[0][..., ::-1]), card)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_model_that_takes_bgr_gets_bgr(
    build: Callable[..., Path], batches: list[Crops], swapped: Floats, backend: str
) -> None:
    with engines.read(build(backend, card="bgr.json")).open(threads=2) as opened:
        found = opened.infer(batches[0])["heatmaps"]

    assert onnx_graph.relative_error(found, swapped) < TOLERANCE["fp32"]


def test_openvino_takes_the_number_of_streams(build: Callable[..., Path]) -> None:
    folder = build("openvino", options='{"streams": 1}')

    with engines.read(folder).open(threads=2) as opened:
        assert opened.requests == 2  # one runs, one waits


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_engine_opens_at_another_batch(
    build: Callable[..., Path], batches: list[Crops], expected: list[Floats], backend: str
) -> None:
    built = engines.read(build(backend))
    streams = 1 if built.backend.has_streams else None

    with built.open(threads=2, batch=2, streams=streams) as opened:
        found = opened.infer(batches[0][:2])["heatmaps"]

    assert opened.batch == 2
    assert onnx_graph.relative_error(found, expected[0][:2]) < TOLERANCE["fp32"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_parts_of_an_inference_are_all_of_it(
    build: Callable[..., Path], batches: list[Crops], backend: str
) -> None:
    with engines.read(build(backend)).open(threads=2) as opened:
        start = time.perf_counter()
        found, phases = opened.infer_in_phases(batches[0])
        elapsed = time.perf_counter() - start

        assert np.array_equal(found["heatmaps"], opened.infer(batches[0])["heatmaps"])
    assert min(phases.copy_in, phases.copy_out) >= 0 < phases.inference
    assert phases.copy_in + phases.inference + phases.copy_out <= elapsed


@pytest.fixture(params=["onnxruntime", "bound", "openvino", "pytorch"])
def two_output_engine(
    request: pytest.FixtureRequest, two_outputs: Path, tiny: Path, tmp_path: Path,
    run_stage: RunStage, monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Engine[Any]]:  # fmt: skip
    """Engines of a model with two outputs; `bound` is ONNX Runtime's way on a GPU."""
    if request.param == "pytorch":

        def outputs(estimator: Any, images: Any) -> tuple[Any, ...]:
            found = mmpose.heatmaps(estimator, images)
            return found.amax(2), found.amax(3)

        monkeypatch.setattr(mmpose, "outputs", outputs)
    run_stage(
        "build_engine", "--variant", "two", "--precision", "fp32", "--batch", BATCH,
        "--backend", "onnxruntime" if request.param == "bound" else request.param,
        "--graph", two_outputs / "fp32.onnx", "--card", two_outputs / "model.json",
        "--weights", tiny / "weights.pth", "--output", tmp_path,
    )  # fmt: skip
    with engines.read(tmp_path).open(threads=1) as opened:
        if request.param == "bound":
            opened._slots = [
                onnxruntime.BoundSlot(
                    opened._session, opened.crops_shape, opened.output_shapes, "cpu"
                )
            ]
        yield opened


def test_all_outputs_come_out_by_name_in_the_order_of_the_card(
    two_output_engine: Engine[Any], batches: list[Crops], expected: list[Floats]
) -> None:
    short = batches[1][:2]
    streamed = list(two_output_engine.stream([batches[0], short]))
    alone = two_output_engine.infer(batches[0])
    phased, _ = two_output_engine.infer_in_phases(batches[0])

    for outputs, heatmaps in (
        (streamed[0], expected[0]), (alone, expected[0]), (phased, expected[0]),
        (streamed[1], expected[1][:2]),
    ):  # fmt: skip
        assert list(outputs) == ["columns", "rows"]
        assert onnx_graph.relative_error(outputs["columns"], heatmaps.max(axis=2)) < 1e-5
        assert onnx_graph.relative_error(outputs["rows"], heatmaps.max(axis=3)) < 1e-5


def test_an_option_that_is_wrong_is_one_line_with_the_key(tiny: Path, run_stage: RunStage) -> None:
    def refused(options: str) -> str:
        with pytest.raises(StageError) as error:
            run_stage(
                "build_engine", "--variant", "x", "--backend", "openvino", "--precision", "fp32",
                "--graph", tiny / "fp32.onnx", "--card", tiny / "model.json", "--batch", 1,
                "--options", options, "--output", tiny / "never",
            )  # fmt: skip
        assert not (tiny / "never").exists()
        return str(error.value)

    known = "backend openvino has the options threads, streams"
    assert refused('{"streems": 1}').startswith("--options: options.streems: 1: ")
    assert refused('{"streams": 0}').startswith("--options: options.streams: 0: ")
    assert refused('{"streams": 0}').endswith(known)


def test_an_option_in_the_card_that_is_wrong_is_refused(copy: Path) -> None:
    change(copy, options={"provider": "tpu"})

    assert "engine.json: options.provider: 'tpu': " in refusal(copy)


def test_an_engine_states_the_options_that_were_given_and_no_others(
    build: Callable[..., Path],
) -> None:
    card = EngineCard.read(build("openvino", options='{"streams": 1}') / "engine.json")

    assert card.options == {"streams": 1}


@pytest.mark.parametrize("shape", [[4, 64, 32, 3], [3, 32, 64, 3], [3, 64, 32]])
def test_crops_that_do_not_fit_are_refused(plain: Path, shape: list[int]) -> None:
    said = re.escape(f"crops are {shape}; expected [3, 64, 32, 3], or fewer of them")
    with (
        engines.read(plain).open(threads=2) as opened,
        pytest.raises(ValueError, match=said),
    ):
        opened.infer(np.zeros(shape, np.uint8))


def test_the_card_says_what_the_engine_is(plain: Path, tiny: Path) -> None:
    card = EngineCard.read(plain / "engine.json")

    assert (card.variant, card.backend, card.requested) == ("mine", "onnxruntime", "fp32")
    assert card.sha256 == files.sha256(plain / "engine.bin")
    assert card.bytes == (plain / "engine.bin").stat().st_size
    assert card.graph_sha256 == files.sha256(tiny / "fp32.onnx")
    assert card.versions == {name: version(name) for name in ("onnx", "onnxruntime")}
    assert card.model == ModelCard.read(tiny / "model.json")


def refusal(folder: Path) -> str:
    with pytest.raises(StageError) as error:
        engines.read(folder)
    remedy = f"snakemake --cores 4 --forcerun build_engine -- {folder / 'engine.json'}"
    assert str(error.value).endswith(remedy)
    return str(error.value)


def change(folder: Path, **values: object) -> None:
    path = folder / "engine.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_an_engine_of_another_version_is_refused(copy: Path) -> None:
    built_for = EngineCard.read(copy / "engine.json").built_for
    change(copy, built_for=built_for | {"onnxruntime": "1.0.0"})

    assert "built for onnxruntime 1.0.0, but here it is" in refusal(copy)


def test_an_engine_of_another_graph_than_the_one_that_is_there_is_refused(
    copy: Path, tmp_path: Path
) -> None:
    """What makes an old engine run on behind a new model; it may be taken elsewhere, though."""
    graph = tmp_path / "moved.onnx"
    change(copy, graph=str(graph))
    engines.read(copy)

    graph.write_bytes(b"another")
    assert f"built from another {graph} than" in refusal(copy)


def test_another_engine_than_the_card_describes_is_refused(copy: Path) -> None:
    with (copy / "engine.bin").open("ab") as file:
        file.write(b"!")

    assert "missing, or not the engine that engine.json describes" in refusal(copy)


def test_an_engine_without_its_file_is_refused(copy: Path) -> None:
    (copy / "engine.bin").unlink()

    assert "missing, or not the engine" in refusal(copy)


def test_an_engine_of_an_unknown_backend_is_refused(copy: Path) -> None:
    change(copy, backend="tvm")

    said = refusal(copy)

    assert "backend 'tvm' is unknown; known: tensorrt, openvino, " in said


def test_an_engine_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "No such file or directory" in refusal(tmp_path / "engine")


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_a_backend_cannot_load_is_refused_by_name(
    build: Callable[..., Path], tmp_path: Path, backend: str
) -> None:
    """A card that fits a file of rubbish: the backend itself must say so."""
    folder = shutil.copytree(build(backend), tmp_path / "engine")
    (folder / "engine.bin").write_bytes(b"rubbish" * 100)
    change(folder, sha256=files.sha256(folder / "engine.bin"))
    opened = engines.read(folder).open(threads=1)

    with pytest.raises(StageError, match=r"engine\.bin: .* cannot load it"):
        opened.__enter__()


def test_a_graph_that_is_none_is_refused_and_leaves_no_engine(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "fp32.onnx").write_bytes(b"rubbish")
    for backend in ("onnxruntime", "openvino"):
        used = engines.backend(backend)
        request = base.BuildRequest(
            graph=tmp_path / "fp32.onnx",
            weights=None,
            card=ModelCard.read(tiny / "model.json"),
            precision="fp32",
            batch=BATCH,
            options=used.options(),
            threads=1,
        )
        with pytest.raises(StageError, match=r"fp32\.onnx: not an ONNX model"):
            used.build(request, tmp_path / "engine.bin")
        assert [path.name for path in tmp_path.iterdir()] == ["fp32.onnx"]


def test_auto_is_the_first_backend_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engines.resolve("auto") == "openvino"
    assert engines.resolve("pytorch") == "pytorch"
    assert engines.resolve("igie") == "igie"

    monkeypatch.setattr(
        plugin.Backend, "missing_packages", lambda self: [] if self.name == "pytorch" else ["x"]
    )
    assert engines.resolve("auto") == "pytorch"


def test_auto_is_tensorrt_where_its_package_and_a_device_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu: Any = cuda.Gpu("NVIDIA H200", "9.0", "580.95.05 (CUDA 13.0)")
    installed = {"tensorrt", "pycuda", "openvino"}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: object() if name in installed else None
    )
    monkeypatch.setattr(plugin, "version", {"tensorrt": "10.16.1.11"}.__getitem__)
    monkeypatch.setattr(cuda, "find", lambda: gpu)
    assert engines.resolve("auto") == "tensorrt"

    gpu = "there is no NVIDIA driver"
    assert engines.resolve("auto") == "openvino"
    installed.remove("pycuda")
    assert engines.resolve("auto") == "openvino"


def test_a_missing_package_is_named_with_what_to_install() -> None:
    backend = replace(engines.backend("openvino"), packages=("numpy", "openvino_of_2040"))

    assert backend.missing_packages() == ["openvino_of_2040"]
    with pytest.raises(StageError, match=r"openvino needs openvino_of_2040.*pip install -r"):
        backend.require(backend.options())


def test_the_rules_of_all_backends_import_none_of_their_packages(run_python: RunPython) -> None:
    done = run_python(
        """
        import sys
        import hrnetpose.engines as engines

        rules = engines.rules()
        print(sorted(rules))
        print(engines.resolve("auto"))
        print({"torch", "openvino", "onnxruntime", "onnx", "mmpose", "tensorrt", "tensorrt_rtx",
               "pycuda", "tvm"} & set(sys.modules))
        """
    )

    assert done.stdout.splitlines() == [str(sorted(engines.BACKENDS)), "openvino", "set()"]


class Counting(slots.Slot):
    """Gives back the number that it was given; counts the slots that are busy."""

    busy: ClassVar[set["Counting"]] = set()
    most: ClassVar[int] = 0

    def copy_in(self, crops: Any) -> None:
        assert self not in self.busy, "the slot is busy"
        self.busy.add(self)
        Counting.most = max(self.most, len(self.busy))
        self._number = crops

    def launch(self) -> None: ...

    def take(self) -> Any:
        self.busy.remove(self)
        return self._number


@given(count=st.integers(1, 6), batches=st.integers(0, 30))
def test_batches_in_flight_come_back_in_order(count: int, batches: int) -> None:
    Counting.most = 0

    found = list(slots.run_in_order([Counting() for _ in range(count)], range(batches)))  # type: ignore[arg-type]

    assert found == list(range(batches))
    assert Counting.most == min(count, batches)


def test_the_precision_of_an_engine_is_that_of_most_layers() -> None:
    assert base.summarize_layers({"fp32": 3, "int8": 37}).precision == "int8"
    assert base.summarize_layers({}).precision == "unknown"
