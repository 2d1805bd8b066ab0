"""The registry of backends, engine folders and their cards, and batches in flight."""

import importlib.util
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrnetpose import engines, files
from hrnetpose.artifacts.engine import EngineCard
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.engines import base, cuda, plugin
from hrnetpose.engines.slots import Slot
from hrnetpose.stage import StageError
from stand_ins.engine import SlotsEngine

Build = Callable[..., Path]


@pytest.fixture
def folder(build: Build, tmp_path: Path) -> Path:
    """An engine to damage."""
    return shutil.copytree(build("onnxruntime"), tmp_path / "engine")


def test_the_card_describes_the_engine(folder: Path, tiny: Path) -> None:
    card = EngineCard.read(folder / "engine.json")

    assert (card.variant, card.backend, card.requested) == ("mine", "onnxruntime", "fp32")
    assert card.sha256 == files.sha256(folder / "engine.bin")
    assert card.bytes == (folder / "engine.bin").stat().st_size
    assert card.graph_sha256 == files.sha256(tiny / "fp32.onnx")
    assert card.versions == {name: version(name) for name in ("onnx", "onnxruntime")}
    assert card.model == ModelCard.read(tiny / "model.json")


def test_the_card_has_the_options_that_were_given_and_no_others(build: Build) -> None:
    card = EngineCard.read(build("openvino", streams=1) / "engine.json")

    assert card.options == {"streams": 1}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"options": {"provider": "tpu"}}, "engine.json: options.provider: 'tpu': "),
        ({"built_for": {"onnxruntime": "1.0"}}, "engine.bin: built for onnxruntime 1.0, but here"),
        ({"graph_sha256": "0" * 64}, "fp32.onnx has changed since it was built"),
        ({"sha256": "0" * 64}, "missing, or not the engine that engine.json describes"),
        ({"backend": "tvm"}, "backend 'tvm' is unknown; known: tensorrt, openvino, "),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_engine_that_its_card_does_not_describe_is_refused(
    folder: Path, change: Callable[..., None], refusal: Callable[[Path], str],
    changed: dict[str, Any], reason: str,
) -> None:  # fmt: skip
    change(folder, **changed)

    assert reason in refusal(folder)


def test_an_engine_may_be_moved_without_its_graph(
    folder: Path, change: Callable[..., None]
) -> None:
    change(folder, graph="elsewhere.onnx", graph_sha256="0" * 64)

    engines.read(folder)


def test_an_engine_that_is_missing_is_refused(folder: Path, refusal: Callable[[Path], str]) -> None:
    (folder / "engine.bin").unlink()
    assert "missing, or not the engine" in refusal(folder)

    shutil.rmtree(folder)
    assert "No such file or directory" in refusal(folder)


@pytest.mark.parametrize(("option", "value"), [("streems", 1), ("streams", 0), ("threads", "many")])
def test_an_invalid_option_is_named_with_its_value(build: Build, option: str, value: Any) -> None:
    with pytest.raises(StageError) as error:
        build("openvino", **{option: value})

    assert str(error.value).startswith(f"--options: options.{option}: {value!r}: ")
    assert str(error.value).endswith("; backend openvino has the options threads, streams")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_graph_that_is_not_onnx_leaves_no_engine(
    tiny: Path, tmp_path: Path, backend: str
) -> None:
    (tmp_path / "fp32.onnx").write_bytes(b"rubbish")
    used = engines.backend(backend)
    request = base.BuildRequest(
        graph=tmp_path / "fp32.onnx",
        weights=None,
        card=ModelCard.read(tiny / "model.json"),
        precision="fp32",
        batch=4,
        options=used.options(),
        threads=1,
    )

    with pytest.raises(StageError, match=r"fp32\.onnx: not an ONNX model"):
        used.build(request, tmp_path / "engine.bin")
    assert [path.name for path in tmp_path.iterdir()] == ["fp32.onnx"]


def test_auto_is_the_first_backend_that_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engines.resolve("igie") == "igie"
    gpu: Any = cuda.Gpu("NVIDIA H200", "9.0", "580.95.05 (CUDA 13.0)")
    installed = {"tensorrt", "pycuda", "openvino", "torch", "mmpose"}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: object() if name in installed else None
    )
    monkeypatch.setattr(plugin, "version", {"tensorrt": "10.16.1.11"}.__getitem__)
    monkeypatch.setattr(cuda, "find_gpu", lambda: gpu)
    assert engines.resolve("auto") == "tensorrt"

    gpu = "there is no NVIDIA driver"
    assert engines.resolve("auto") == "openvino"
    installed.remove("pycuda")
    assert engines.resolve("auto") == "openvino"
    installed.remove("openvino")
    assert engines.resolve("auto") == "pytorch"


def test_a_missing_package_is_named_with_what_to_install() -> None:
    backend = replace(engines.backend("openvino"), packages=("numpy", "openvino_of_2040"))

    with pytest.raises(StageError, match=r"openvino needs openvino_of_2040,.*pip install -r"):
        backend.require(backend.options())


@pytest.mark.parametrize(
    ("backend", "options", "gpus"),
    [
        ("pytorch", {}, 0), ("pytorch", {"device": "cuda"}, 1), ("onnxruntime", {}, 0),
        ("onnxruntime", {"provider": "tensorrt"}, 1), ("tensorrt", {}, 1), ("igie", {}, 1),
    ],
)  # fmt: skip
def test_options_decide_how_many_gpus_a_job_needs(
    backend: str, options: dict[str, str], gpus: int
) -> None:
    found = engines.backend(backend)

    assert found.gpus(found.options(**options)) == gpus


def test_the_rules_of_all_backends_import_none_of_their_packages(
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
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


class CountingSlot(Slot):
    """Returns the number in its crops; counts the slots that are busy."""

    def __init__(self, busy: set["CountingSlot"], counts: list[int]) -> None:
        self._busy, self._counts = busy, counts

    def copy_in(self, crops: Any) -> None:
        assert self not in self._busy
        self._busy.add(self)
        self._counts.append(len(self._busy))
        self._number = crops.flat[0]

    def launch(self) -> None: ...

    def copy_out(self) -> None:
        self.outputs = {"heatmaps": np.full((1, 3, 16, 8), self._number, np.float32)}

    def wait(self) -> None:
        self._busy.discard(self)


@given(slots=st.integers(1, 6), batches=st.integers(0, 30))
def test_batches_in_flight_come_back_in_order(
    model_card: ModelCard, slots: int, batches: int
) -> None:
    busy, counts = set[CountingSlot](), [0]
    crops = (np.full((1, 64, 32, 3), number, np.uint8) for number in range(batches))

    with SlotsEngine(
        model_card, 1, lambda engine: [CountingSlot(busy, counts) for _ in range(slots)]
    ) as engine:
        found = [outputs["heatmaps"].flat[0] for outputs in engine.stream(crops)]

    assert found == list(range(batches))
    assert max(counts) == min(slots, batches)


def test_the_precision_of_an_engine_is_that_of_most_layers() -> None:
    assert base.summarize_layers({"fp32": 3, "int8": 37}).precision == "int8"
    assert base.summarize_layers({}).precision == "unknown"
