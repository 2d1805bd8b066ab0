"""IGIE, Iluvatar's build of TVM, on Iluvatar's GPUs.  The engine file is a shared library."""

import importlib
import tempfile
from pathlib import Path
from typing import Any

from pydantic import Field

from hrnetpose import files
from hrnetpose.artifacts.engine import Device
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.backend_rules import Options
from hrnetpose.batches import Crops
from hrnetpose.engines import iluvatar
from hrnetpose.engines.base import BuildRequest, Engine
from hrnetpose.engines.plugin import Backend
from hrnetpose.engines.slots import Slot
from hrnetpose.stage import StageError


class IgieOptions(Options):
    """Options of `backend: igie`."""

    target: str = "MR"
    """The GPU: `MR` for the MR series."""
    libraries: str = Field("cudnn,cublas,ixinfer", pattern=r"^[a-z,]*$")
    """Libraries that kernels may come from."""


class IgieSlot(Slot):
    """TVM's graph executor; each call blocks.

    Args:
        module: the executor.
        device: TVM's.
        tvm: the package.
        card: the model card.
    """

    def __init__(self, module: Any, device: Any, tvm: Any, card: ModelCard) -> None:
        self._module, self._device, self._tvm, self._card = module, device, tvm, card

    def copy_in(self, crops: Crops) -> None:
        from hrnetpose.graphs import onnx_graph

        images = onnx_graph.normalised(crops, self._card)
        self._module.set_input(self._card.input.name, self._tvm.nd.array(images, self._device))

    def launch(self) -> None:
        self._module.run()

    def copy_out(self) -> None:
        # Numbered in the order of the graph, which `onnx_input` makes that of the card.
        self.outputs = {
            output.name: self._module.get_output(number).asnumpy()
            for number, output in enumerate(self._card.outputs)
        }

    def time_launches(self, crops: Crops, count: int) -> list[float]:
        self.copy_in(crops)
        timer = self._module.module.time_evaluator("run", self._device, number=1, repeat=count)
        return [float(seconds) for seconds in timer().results]


class IgieEngine(Engine[IgieOptions]):
    """A compiled graph on the first device."""

    def _open(self) -> list[Slot]:
        tvm = _import_tvm()
        executor = importlib.import_module("tvm.contrib.graph_executor")
        device = tvm.device(_create_target(tvm, self._options).kind.name, 0)
        with tempfile.TemporaryDirectory() as folder:
            # TVM chooses the loader by the suffix.
            library = Path(folder) / "engine.so"
            library.symlink_to(self._file.resolve())
            try:
                module = tvm.runtime.load_module(str(library))
            except Exception as error:
                raise StageError(f"{self._file}: IGIE cannot load it: {error}") from error
        module = executor.GraphModule(module["default"](device))
        return [IgieSlot(module, device, tvm, self._card.model)]


def build(request: BuildRequest[IgieOptions], output: Path) -> None:
    """Compile the graph at a fixed batch size."""
    tvm = _import_tvm()
    relay = importlib.import_module("tvm.relay")
    importer = importlib.import_module("tvm.relay.import_model")
    card = request.card
    shape = [request.batch, 3, card.crop.height, card.crop.width]
    with iluvatar.fixed_graph(request) as graph:
        library = graph.with_name("engine.so")
        try:
            module, parameters = importer.import_model_to_igie(
                str(graph), {card.input.name: shape}, backend="igie"
            )
            compiled = relay.build(
                module,
                target=_create_target(tvm, request.options),
                params=parameters,
                precision=request.precision,
            )
            compiled.export_library(str(library))
        except Exception as error:
            raise StageError(f"{request.graph}: IGIE cannot compile it: {error}") from error
        with files.atomic_path(output) as temporary:
            temporary.write_bytes(library.read_bytes())


def _import_tvm() -> Any:
    """Import TVM.

    Raises:
        StageError: it is not Iluvatar's.
    """
    tvm = importlib.import_module("tvm")
    if not hasattr(tvm.target, "iluvatar"):
        raise StageError(
            "backend igie: the installed tvm has no target for Iluvatar's GPUs; it needs "
            f"{iluvatar.SDK}"
        )
    return tvm


def _create_target(tvm: Any, options: IgieOptions) -> Any:
    return tvm.target.iluvatar(model=options.target, options=f"-libs={options.libraries}")


BACKEND = Backend(
    name="igie",
    graphs=iluvatar.GRAPHS,
    packages=("tvm",),
    options=IgieOptions,
    build=build,
    open=IgieEngine,
    device=lambda options: Device(kind="gpu", name=f"Iluvatar {options.target}"),
    gpus=lambda options: 1,
    install=iluvatar.SDK,
    bundled_with=iluvatar.BUNDLED_WITH,
)
