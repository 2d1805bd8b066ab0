"""IGIE, Iluvatar's build of TVM, on Iluvatar's GPUs.  The engine file is a shared library.

Shapes are static: a short batch is padded.  The engine takes normalised NCHW floats; crops are
normalised on the host.  Precision is an option of the compiler, on the fp32 graph.  Written after
Iluvatar's published examples for SDK 4.2; it has not run on the hardware.
"""

import importlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import Field

from hrnetpose import files
from hrnetpose.artifacts.engine import ENGINE_FILE, EngineCard, ExecutedPrecision
from hrnetpose.engines.base import Backend, BuildRequest, Crops, Engine, Heatmaps, Options
from hrnetpose.stage import StageError

_SDK = "Iluvatar's IXUCA SDK, whose Python has its own tvm"


class IgieOptions(Options):
    """Options of `backend: igie`."""

    target: str = "MR"
    """The GPU: `MR` for the MR series."""
    libraries: str = Field("cudnn,cublas,ixinfer", pattern=r"^[a-z,]*$")
    """Libraries that kernels may come from."""


class IgieEngine(Engine):
    """A compiled graph on the first device."""

    def __init__(self, folder: Path, card: EngineCard, threads: int) -> None:
        self.batch = card.batch
        self._file = folder / ENGINE_FILE
        self._card = card

    def __enter__(self) -> Self:
        self._tvm = _tvm()
        executor = importlib.import_module("tvm.contrib.graph_executor")
        self._device = self._tvm.device(_target(self._tvm, self._card.options).kind.name, 0)
        with tempfile.TemporaryDirectory() as scratch:
            # TVM chooses the loader by the suffix.
            library = Path(scratch) / "engine.so"
            library.symlink_to(self._file.resolve())
            try:
                module = self._tvm.runtime.load_module(str(library))
            except Exception as error:
                raise StageError(f"{self._file}: IGIE cannot load it: {error}") from error
        self._module = executor.GraphModule(module["default"](self._device))
        return self

    def __exit__(self, *exception: object) -> None:
        del self._module

    def infer(self, crops: Crops) -> Heatmaps:
        self._set(crops)
        self._module.run()
        return np.array(self._module.get_output(0).asnumpy()[: len(crops)])

    def device_times(self, crops: Crops, count: int) -> list[float]:
        """Runs TVM's time evaluator, which leaves copies out."""
        self._set(crops)
        timer = self._module.module.time_evaluator("run", self._device, number=1, repeat=count)
        return [float(seconds) for seconds in timer().results]

    def executed(self) -> ExecutedPrecision:
        """IGIE does not say what it runs."""
        return ExecutedPrecision(precision="unknown", layers={})

    def _set(self, crops: Crops) -> None:
        from hrnetpose.model import graphs

        images = graphs.normalised(graphs.padded(crops, self.batch), self._card.model)
        self._module.set_input(
            self._card.model.input.name, self._tvm.nd.array(images, self._device)
        )


def build(request: BuildRequest, output: Path) -> None:
    """Compiles the graph at a fixed batch."""
    tvm = _tvm()
    relay = importlib.import_module("tvm.relay")
    importer = importlib.import_module("tvm.relay.import_model")

    from hrnetpose.model import graphs

    card = request.card
    shape = [request.batch, 3, card.crop.height, card.crop.width]
    fixed = graphs.with_batch(graphs.read(request.graph), request.batch)
    with tempfile.TemporaryDirectory() as scratch:
        graph, library = Path(scratch) / "model.onnx", Path(scratch) / "engine.so"
        graph.write_bytes(fixed.SerializeToString())
        try:
            module, parameters = importer.import_model_to_igie(
                str(graph), {card.input.name: shape}, backend="igie"
            )
            compiled = relay.build(
                module,
                target=_target(tvm, request.options),
                params=parameters,
                precision=request.precision,
            )
            compiled.export_library(str(library))
        except Exception as error:
            raise StageError(f"{request.graph}: IGIE cannot compile it: {error}") from error
        with files.atomic_path(output) as temporary:
            shutil.copyfile(library, temporary)


def _tvm() -> Any:
    """Imports TVM and makes sure that it is Iluvatar's."""
    tvm = importlib.import_module("tvm")
    if not hasattr(tvm.target, "iluvatar"):
        raise StageError(
            f"backend igie: the tvm that is installed has no target for Iluvatar; it needs {_SDK}"
        )
    return tvm


def _target(tvm: Any, options: Mapping[str, Any]) -> Any:
    chosen = IgieOptions(**options)
    return tvm.target.iluvatar(model=chosen.target, options=f"-libs={chosen.libraries}")


def _device(options: Mapping[str, Any]) -> str:
    return f"Iluvatar {IgieOptions(**options).target}"


BACKEND = Backend(
    name="igie",
    graphs={"fp32": "fp32", "fp16": "fp32"},
    packages=("tvm",),
    options=IgieOptions,
    build=build,
    open=IgieEngine,
    device=_device,
    gpus=lambda options: 1,
    install=_SDK,
)
