"""Engines of the small HRNet, built as their rule builds them."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hrnetpose import engines
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.stage import StageError


@pytest.fixture(scope="session")
def build(
    tiny: Path, tmp_path_factory: pytest.TempPathFactory, run_stage: Callable[..., None]
) -> Callable[..., Path]:
    """Build an engine for batches of four, unless the same one was built before; return its folder.

    `build("openvino", "fp16", card="bgr.json", streams=1)`: `graphs` is the folder of the graph and
    the card; another `copy` is built again; what remains are options.
    """

    @cache
    def build(
        backend: str, precision: str = "fp32", graphs: Path = tiny, card: str = "model.json",
        batch: int = 4, copy: object = None, **options: object,
    ) -> Path:  # fmt: skip
        folder = tmp_path_factory.mktemp(backend) / "engine"
        graph = engines.backend(backend).graphs[precision]
        run_stage(
            "build_engine", "--variant", "mine", "--backend", backend, "--precision", precision,
            "--graph", graphs / f"{graph}.onnx", "--weights", graphs / "weights.pth",
            "--card", graphs / card, "--batch", batch, "--options", json.dumps(options),
            "--threads", 2, "--cache", folder.parent.parent / "cache", "--output", folder,
        )  # fmt: skip
        return folder

    return build


@pytest.fixture(scope="session")
def crops(tiny: Path) -> Any:
    """Crops for three batches."""
    return np.load(tiny / "crops.npy")


@pytest.fixture(scope="session")
def run_network(load_network: Callable[[Path], Any]) -> Callable[[Path, Any], dict[str, Any]]:
    """Run the model of a folder in PyTorch, on crops normalised by hand; return what it gives."""

    def run(folder: Path, crops: Any) -> dict[str, Any]:
        card = ModelCard.read(folder / "model.json")
        images = ((crops - np.array(card.mean)) / np.array(card.std)).transpose(0, 3, 1, 2)
        with torch.inference_mode():
            found = load_network(folder)(torch.from_numpy(images.astype(np.float32)))
        names = [output.name for output in card.outputs]
        return {name: values.numpy() for name, values in zip(names, found, strict=True)}

    return run


@pytest.fixture(scope="session")
def expected(run_network: Callable[[Path, Any], dict[str, Any]], tiny: Path, crops: Any) -> Any:
    """The heatmaps of the crops."""
    return run_network(tiny, crops)["heatmaps"]


@pytest.fixture(scope="session")
def refusal() -> Callable[[Path], str]:
    """Return why an engine is refused, without the remedy that is expected after it."""

    def refusal(folder: Path) -> str:
        with pytest.raises(StageError) as error:
            engines.read(folder)
        reason, _, remedy = str(error.value).partition("; build it again: ")
        assert remedy == f"snakemake --cores 4 --forcerun build_engine -- {folder / 'engine.json'}"
        return reason

    return refusal


@pytest.fixture(scope="session")
def change() -> Callable[..., None]:
    """Change values of an engine's card."""

    def change(folder: Path, **values: object) -> None:
        path = folder / "engine.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change
