"""Folders as bundles have them, of the small HRNet and of what is made from it."""

import importlib.util
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import make_bundle
from hrnetpose import engines
from hrnetpose.artifacts.model import Crop, HeatmapCodec, ModelCard, SimCCCodec, Tensor
from hrnetpose.bundle import archive, assemble, runtime
from hrnetpose.graphs import onnx_graph

CODECS: dict[str, Any] = {
    "plain": HeatmapCodec(type="MSRAHeatmap", sigma=1),
    "dark": HeatmapCodec(type="MSRAHeatmap", sigma=1, unbiased=True, blur_kernel_size=5),
    "udp": HeatmapCodec(type="UDPHeatmap", sigma=1, blur_kernel_size=5),
    "combined": HeatmapCodec(type="UDPHeatmap", sigma=1, heatmap_type="combined"),
    "megvii": HeatmapCodec(type="MegviiHeatmap", sigma=1, blur_kernel_size=5),
    "simcc": SimCCCodec(type="SimCCLabel", simcc_split_ratio=0.25, sigma=1.0),
    "simcc dark": SimCCCodec(
        type="SimCCLabel", simcc_split_ratio=0.25, sigma=(1.0, 2.0), use_dark=True
    ),
}
_numbers = itertools.count()


@pytest.fixture(scope="session")
def models(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each codec a folder with a graph, `fp32.onnx`, and a card: the small HRNet's heatmaps."""
    found = {}
    card = ModelCard.read(tiny / "model.json")
    for name, codec in CODECS.items():
        folder = tmp_path_factory.mktemp(name.replace(" ", "_"))
        model = onnx.load(tiny / "fp32.onnx")
        (heatmaps,) = model.graph.output
        outputs: dict[str, list[int]] = {heatmaps.name: [17, 16, 8]}
        if name == "combined":
            outputs = {"combined": [51, 16, 8]}
            add_node(model, "Concat", [heatmaps.name] * 3, "combined", axis=1)
        elif name.startswith("simcc"):
            outputs = {"simcc_x": [17, 8], "simcc_y": [17, 16]}
            add_node(model, "ReduceMax", [heatmaps.name], "simcc_x", axes=[2], keepdims=0)
            add_node(model, "ReduceMax", [heatmaps.name], "simcc_y", axes=[3], keepdims=0)
        del model.graph.output[:]
        model.graph.output.extend(
            helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", *shape])
            for output, shape in outputs.items()
        )
        onnx.save(model, folder / "fp32.onnx")
        tensors = [
            Tensor(name=output, shape=["batch", *shape], dtype="float32")
            for output, shape in outputs.items()
        ]
        udp = codec.type == "UDPHeatmap"
        changes: dict[str, Any] = {
            "codec": codec,
            "outputs": tensors,
            "crop": Crop(height=64, width=32, udp=udp),
        }
        card.model_copy(update=changes).write(folder / "model.json")
        found[name] = folder
    return found


def add_node(
    model: onnx.ModelProto, kind: str, inputs: list[str], output: str, **options: Any
) -> None:
    """Add a node to a graph."""
    model.graph.node.append(helper.make_node(kind, inputs, [output], name=output, **options))


@pytest.fixture(scope="session")
def bundle(
    models: dict[str, Path],
    run_stage: Callable[..., None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Path]:
    """Pack an engine without its figures: `bundle("dark", "openvino")` returns the folder."""

    def pack(codec: str, backend: str, precision: str = "fp32", batch: int = 4) -> Path:
        work = tmp_path_factory.mktemp("bundle")
        graph = models[codec] / "fp32.onnx"
        run_stage(
            "build_engine", "--variant", "mine", "--backend", backend, "--precision", precision,
            "--graph", graph, "--card", models[codec] / "model.json", "--batch", batch,
            "--threads", 1, "--output", work / "engine",
        )  # fmt: skip
        folder = work / "packed"
        folder.mkdir()
        built = engines.read(work / "engine")
        make_bundle.pack_engine(folder, built, graph)
        plain = onnx_graph.with_pixel_input(onnx_graph.read(graph), built.card.model)
        portable = folder / runtime.PORTABLE_FILE
        portable.parent.mkdir(parents=True)
        onnx.save(plain, portable)
        added = built.backend.bundled_with
        text = assemble.assemble(runtime.__name__, *([added] if added else []))
        (folder / "pose.py").write_text(text, encoding="utf-8")
        (folder / "check").mkdir()
        (folder / runtime.CHECK_FILE).write_text(json.dumps({"opencv": cv2.__version__}))
        archive.write_sums(folder)
        return folder

    return pack


@pytest.fixture(scope="session")
def load() -> Callable[[Path], Any]:
    """Import the pose.py of a folder."""

    def load(folder: Path) -> ModuleType:
        name = f"pose_{next(_numbers)}"
        spec = importlib.util.spec_from_file_location(name, folder / "pose.py")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look there
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def image() -> Any:
    """An image of noise, smooth enough to have heatmaps with peaks."""
    noise = np.random.default_rng(5).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    return cv2.resize(noise, (320, 240), interpolation=cv2.INTER_CUBIC)


BOXES = [[10.5, 20.25, 100, 220], [150, 5, 330.5, 239], [-20, -30, 60, 90], [200, 100, 203, 105],
         [0, 0, 320, 240], [33, 44, 77, 99]]  # fmt: skip
"""Among them one that reaches out of the image, and one of a few pixels; more than a batch."""


@pytest.fixture(scope="session")
def boxes() -> Any:
    return np.array(BOXES, np.float32)
