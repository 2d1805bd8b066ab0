"""The ONNX graph of a build request, in the forms that backends build from."""

from pathlib import Path
from typing import Any

from hrnetpose import files
from hrnetpose.engines.base import BuildRequest
from hrnetpose.stage import StageError


def read(request: BuildRequest[Any]) -> Any:
    """Return the graph with its outputs in the order of the card, an onnx.ModelProto.

    Raises:
        StageError: the graph is missing, is not an ONNX graph, or has other outputs than the card.
    """
    from hrnetpose.graphs import onnx_graph

    if request.graph is None:
        raise StageError("--graph: missing; this backend builds from an ONNX graph")
    model = onnx_graph.read(request.graph)
    outputs = {output.name: output for output in model.graph.output}
    names = [output.name for output in request.card.outputs]
    if sorted(outputs) != sorted(names):
        raise StageError(
            f"{request.graph}: its outputs are {', '.join(outputs)}, but the card's are "
            f"{', '.join(names)}; export it again"
        )
    del model.graph.output[:]
    model.graph.output.extend(outputs[name] for name in names)
    return model


def with_pixels(request: BuildRequest[Any]) -> bytes:
    """Return the serialised graph with normalisation and layout inside.

    Its input is `onnx_graph.CROPS`, uint8 [N, H, W, 3] RGB.

    Raises:
        StageError: as `read`.
    """
    from hrnetpose.graphs import onnx_graph

    return onnx_graph.with_pixel_input(read(request), request.card).SerializeToString()


def write_with_pixels(request: BuildRequest[Any], output: Path) -> None:
    """Write that graph as the engine file, for a backend that compiles it when it is opened.

    Raises:
        StageError: as `read`.
    """
    content = with_pixels(request)
    with files.atomic_path(output) as temporary:
        temporary.write_bytes(content)
