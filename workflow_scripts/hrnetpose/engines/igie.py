"""IGIE, Iluvatar's build of TVM, on Iluvatar's GPUs.  The engine file is a shared library.

Shapes are static.  The engine takes normalised NCHW floats; crops are
normalised on the host.  Precision is an option of the compiler, on the fp32 graph.  Written after
Iluvatar's published examples for SDK 4.2; it has not run on the hardware.
"""

import importlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from hrnetpose import files
from hrnetpose.artifacts.engine import Device, ExecutedPrecision
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.batches import Crops, Outputs
from hrnetpose.engines.base import BuildRequest, Engine, Options, summarize_layers
from hrnetpose.engines.plugin import Backend
from hrnetpose.engines.slots import Slot
from hrnetpose.stage import StageError

_SDK = "Iluvatar's IXUCA SDK, whose Python has its own tvm"


class IgieOptions(Options):
    """Options of `backend: igie`."""

    target: str = "MR"
    """The GPU: `MR` for the MR series."""
    libraries: str = Field("cudnn,cublas,ixinfer", pattern=r"^[a-z,]*$")
    """Libraries that kernels may come from."""


class IgieSlot(Slot):
    """The graph executor; each call blocks."""

    def __init__(self, module: Any, device: Any, tvm: Any, card: ModelCard) -> None:
        self._module, self._device, self._tvm, self._card = module, device, tvm, card

    def copy_in(self, crops: Crops) -> None:
        from hrnetpose.graphs import onnx_graph

        images = onnx_graph.normalised(crops, self._card)
        self._module.set_input(self._card.input.name, self._tvm.nd.array(images, self._device))

    def launch(self) -> None:
        self._module.run()

    def take(self) -> Outputs:
        return {
            output.name: np.array(self._module.get_output(number).asnumpy())
            for number, output in enumerate(self._card.outputs)
        }

    def time_launches(self, crops: Crops, count: int) -> list[float]:
        """Runs TVM's time evaluator, which leaves copies out."""
        self.copy_in(crops)
        timer = self._module.module.time_evaluator("run", self._device, number=1, repeat=count)
        return [float(seconds) for seconds in timer().results]


class IgieEngine(Engine[IgieOptions]):
    """A compiled graph on the first device."""

    def _open(self) -> list[Slot]:
        tvm = _import_tvm()
        executor = importlib.import_module("tvm.contrib.graph_executor")
        device = tvm.device(_target(tvm, self._options).kind.name, 0)
        with tempfile.TemporaryDirectory() as scratch:
            # TVM chooses the loader by the suffix.
            library = Path(scratch) / "engine.so"
            library.symlink_to(self._file.resolve())
            try:
                module = tvm.runtime.load_module(str(library))
            except Exception as error:
                raise StageError(f"{self._file}: IGIE cannot load it: {error}") from error
        module = executor.GraphModule(module["default"](device))
        return [IgieSlot(module, device, tvm, self._card.model)]

    def _close(self) -> None:
        """The slot held all of it."""

    def executed(self) -> ExecutedPrecision:
        """IGIE does not say what it runs."""
        return summarize_layers({})


def build(request: BuildRequest[IgieOptions], output: Path) -> None:
    """Compiles the graph at a fixed batch."""
    tvm = _import_tvm()
    relay = importlib.import_module("tvm.relay")
    importer = importlib.import_module("tvm.relay.import_model")

    from hrnetpose.graphs import onnx_graph

    card = request.card
    shape = [request.batch, 3, card.crop.height, card.crop.width]
    fixed = onnx_graph.with_batch(onnx_graph.read(request.graph), request.batch)
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


def _import_tvm() -> Any:
    """Imports TVM and makes sure that it is Iluvatar's."""
    tvm = importlib.import_module("tvm")
    if not hasattr(tvm.target, "iluvatar"):
        raise StageError(
            f"backend igie: the tvm that is installed has no target for Iluvatar; it needs {_SDK}"
        )
    return tvm


def _target(tvm: Any, options: IgieOptions) -> Any:
    return tvm.target.iluvatar(model=options.target, options=f"-libs={options.libraries}")


def _device(options: IgieOptions) -> Device:
    return Device(kind="gpu", name=f"Iluvatar {options.target}")


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
