"""What IGIE and IxRT have in common.

Both compile the fp32 graph at a fixed batch size and take normalised NCHW floats, so the host
normalises crops.  Written after Iluvatar's published examples for SDK 4.2; neither has run on the
hardware.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hrnetpose.engines import onnx_input
from hrnetpose.engines.base import BuildRequest
from hrnetpose.recipes import Graph, Precision

GRAPHS: dict[Precision, Graph] = {"fp32": "fp32", "fp16": "fp32"}
BUNDLED_WITH = "hrnetpose.bundle.with_iluvatar"
SDK = "Iluvatar's IXUCA SDK, whose Python has its own tvm and tensorrt"


@contextmanager
def fixed_graph(request: BuildRequest[Any]) -> Iterator[Path]:
    """Write the graph of a build request at its batch size, in a temporary folder of its own.

    Raises:
        StageError: as `onnx_input.read`.
    """
    from hrnetpose.graphs import onnx_graph

    fixed = onnx_graph.with_batch(onnx_input.read(request), request.batch)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        file.write_bytes(fixed.SerializeToString())
        yield file
