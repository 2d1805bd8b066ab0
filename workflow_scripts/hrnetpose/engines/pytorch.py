"""PyTorch: the original model of mmpose, the reference that other engines are held against.

The engine file holds the checkpoint's tensors and the model's description, nothing executable.
"""

import io
from collections import Counter
from pathlib import Path
from typing import Self

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

_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


class PyTorchEngine(Engine):
    """mmpose's own modules, channels last, on the CPU."""

    def __init__(self, folder: Path, card: EngineCard, threads: int) -> None:
        self.batch = card.batch
        self._file = folder / ENGINE_FILE
        self._card = card
        self._threads = Options(**card.options).threads or threads

    def __enter__(self) -> Self:
        import torch

        from hrnetpose.model import mmpose

        torch.set_num_threads(self._threads)
        try:
            content = torch.load(self._file, map_location="cpu", weights_only=True)
        except Exception as error:
            raise StageError(f"{self._file}: PyTorch cannot load it: {error}") from error
        estimator = mmpose.import_mmpose().registry.MODELS.build(content["model"])
        estimator.load_state_dict(content["state_dict"], strict=True)
        self._dtype = getattr(torch, _DTYPES[self._card.requested])
        self._estimator = estimator.eval().to(self._dtype, memory_format=torch.channels_last)
        model = self._card.model
        self._mean = torch.tensor(model.mean).view(1, 3, 1, 1)
        self._std = torch.tensor(model.std).view(1, 3, 1, 1)
        self._flip_channels = model.channel_order == "BGR"
        return self

    def __exit__(self, *exception: object) -> None:
        del self._estimator

    def infer(self, crops: Crops) -> Heatmaps:
        import torch

        if self._flip_channels:
            crops = crops[..., ::-1]
        with torch.inference_mode():
            # Channels come last already: the permutation moves no data.
            pixels = torch.from_numpy(np.array(crops)).permute(0, 3, 1, 2)
            images = ((pixels.float() - self._mean) / self._std).to(self._dtype)
            return self._estimator(images, None, mode="tensor").float().contiguous().numpy()

    def executed(self) -> ExecutedPrecision:
        import torch

        heavy = (torch.nn.Conv2d, torch.nn.ConvTranspose2d, torch.nn.Linear)
        names = {f"torch.{dtype}": name for name, dtype in _DTYPES.items()}
        layers = Counter(
            names[str(module.weight.dtype)]
            for module in self._estimator.modules()
            if isinstance(module, heavy)
        )
        return majority(layers)


def build(request: BuildRequest, output: Path) -> None:
    """Loads the checkpoint strictly and writes it with the description of its model."""
    import torch

    from hrnetpose.model import mmpose

    config = mmpose.read_config(request.card.config)
    estimator = mmpose.build_model(config, request.weights)
    description = config.model.to_dict()
    description["backbone"].pop("init_cfg", None)
    # Into memory first: in a file, torch writes the file's own name into it.
    content = io.BytesIO()
    torch.save({"model": description, "state_dict": estimator.state_dict()}, content)
    with files.atomic_path(output) as temporary:
        temporary.write_bytes(content.getbuffer())


def _device() -> str:
    return "CPU"


BACKEND = Backend(
    name="pytorch",
    graphs={"fp32": "fp32", "bf16": "fp32", "fp16": "fp32"},
    packages=("torch", "mmpose"),
    options=Options,
    build=build,
    open=PyTorchEngine,
    device=_device,
    original=True,
    any_batch=True,
)
