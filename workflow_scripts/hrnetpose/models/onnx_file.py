"""What an ONNX file declares, and the file in ONNX Runtime as it was given."""

import re
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from hrnetpose import batches
from hrnetpose.artifacts.base import Part
from hrnetpose.artifacts.model import OnnxEnd, OnnxOrigin
from hrnetpose.recipes import Precision
from hrnetpose.stage import StageError, name, shown

Array = npt.NDArray[np.float32]
LARGEST_TEXT = 1 << 20
"""Characters of a value in `metadata_props`; a model card has some thousand."""


class OnnxTensor(Part):
    """An input or output as the file declares it.

    A dimension is None where it is not fixed or not known.
    """

    name: str
    dtype: str
    shape: list[int | None] | None

    def __str__(self) -> str:
        sizes = ["?" if size is None else str(size) for size in self.shape or []]
        return f"{name(self.name)} {self.dtype} [{', '.join(sizes) if self.shape else '?'}]"


class OnnxFacts(Part):
    """What an ONNX file declares."""

    inputs: list[OnnxTensor]
    outputs: list[OnnxTensor]
    opset: int
    ir_version: int
    producer: str
    precision: Precision
    metadata: dict[str, str]
    external: list[str]


def read_facts(path: Path) -> OnnxFacts:
    """Read what a file declares; weights in files beside it are not looked at.

    Raises:
        StageError: it is no ONNX file, its weights lie where they may not, or it was written for
            training or for one CPU.
    """
    import onnx

    from hrnetpose.graphs import onnx_graph

    model = onnx_graph.read(path, weights=False)
    stored = {tensor.name for tensor in model.graph.initializer}
    external = sorted(
        {
            entry.value
            for tensor in model.graph.initializer
            if tensor.data_location == onnx.TensorProto.EXTERNAL
            for entry in tensor.external_data
            if entry.key == "location"
        }
    )
    for file in external:
        if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts or "\\" in file:
            raise StageError(
                f"{path}: its weights are in {shown(file)}; expected a file beside it, by a "
                "relative path"
            )
    _refuse_other_purposes(model, path)
    with suppress(Exception):  # the stage measures shapes
        model = onnx.shape_inference.infer_shapes(model)
    return OnnxFacts(
        inputs=[_describe(value) for value in model.graph.input if value.name not in stored],
        outputs=[_describe(value) for value in model.graph.output],
        opset=onnx_graph.opset_of(model),
        ir_version=model.ir_version,
        producer=" ".join([model.producer_name, model.producer_version]).strip(),
        precision=onnx_graph.held_precision(model),
        metadata={
            entry.key: entry.value
            for entry in model.metadata_props
            if len(entry.value) <= LARGEST_TEXT
        },
        external=external,
    )


def _refuse_other_purposes(model: Any, path: Path) -> None:
    """Refuse a graph whose outputs for an image depend on chance, on other images or on the CPU."""
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in model.graph.initializer} | {
        node.output[0]: attribute.t
        for node in model.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    for node in model.graph.node:
        if node.domain == "com.microsoft.nchwc":
            raise StageError(
                f"{path}: ONNX Runtime has optimised it for one CPU ({node.domain}); give the file "
                "that it was made from"
            )
        trains = any(one.name == "training_mode" and one.i for one in node.attribute)
        if node.op_type == "BatchNormalization":
            trains = trains or len(node.output) == 5  # before opset 14
        elif node.op_type == "Dropout" and len(node.input) == 3 and node.input[2] in stored:
            trains = bool(numpy_helper.to_array(stored[node.input[2]]))
        if trains:
            raise StageError(
                f"{path}: its {node.op_type} is in training mode, where an image's output depends "
                "on chance or on the images beside it; export it after `model.eval()`"
            )


def _describe(value: Any) -> OnnxTensor:
    import onnx

    if not value.type.HasField("tensor_type"):
        other = str(value.type.WhichOneof("value")).removesuffix("_type")  # a sequence
        return OnnxTensor(name=value.name, dtype=other, shape=None)
    kind = value.type.tensor_type
    names = {number: name.lower() for name, number in onnx.TensorProto.DataType.items()}
    names |= {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.DOUBLE: "float64"}
    dtype = names.get(kind.elem_type, f"type {kind.elem_type}")
    if not kind.HasField("shape"):
        return OnnxTensor(name=value.name, dtype=dtype, shape=None)
    # Old exporters write a dynamic dimension as 0 or -1.
    sizes = [dim.dim_value if dim.dim_value > 0 else None for dim in kind.shape.dim]
    return OnnxTensor(name=value.name, dtype=dtype, shape=sizes)


class OriginalGraph:
    """An ONNX file in ONNX Runtime, as it was given.

    Args:
        path: the file; what it keeps outside lies beside it.
        threads: CPU threads; 0: as many as there are cores.

    Raises:
        StageError: ONNX Runtime cannot load it.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        self.path, self._threads = path, threads
        self._given = _with_open_dimensions(path) or str(path)
        self._session = self._load(optimised=False)

    def _load(self, optimised: bool) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = self._threads
        self._optimised = optimised
        if not optimised:  # it would blur what is compared
            level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.graph_optimization_level = level
        try:
            return onnxruntime.InferenceSession(
                self._given, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions have no common base
            raise StageError(
                f"{self.path}: ONNX Runtime {onnxruntime.__version__} cannot load it: "
                f"{_first_line(error)}; export it in fp32 with operators and versions that it has"
            ) from error

    def measure(self, source: OnnxEnd, images: Array) -> dict[str, tuple[int, ...]]:
        """Run it once and return the shapes of all outputs that are tensors, by name."""
        outputs = self._session.get_outputs()
        names = [output.name for output in outputs if output.type.startswith("tensor")]
        found = self._call(names, source, images) if names else []
        return {key: values.shape for key, values in zip(names, found, strict=True)}

    def run(self, origin: OnnxOrigin, images: Array) -> list[Array]:
        """Run it on images of the form that the card describes.

        Args:
            origin: how its ends become the card's.
            images: float32 [N, 3, H, W], normalised; they go through it in batches of the size that
                it is made for, or one by one.

        Returns:
            Float32 outputs in the order and with the axes of the card.
        """
        batch = origin.input.shape[0]
        size = batch if isinstance(batch, int) else 1
        names = [end.name for end in origin.outputs]

        def call(full: Array) -> list[Array]:
            outputs = self._call(names, origin.input, full)
            return [_of_card(*pair) for pair in zip(outputs, origin.outputs, strict=True)]

        return batches.run_in_full(call, images, size)

    def _call(self, names: list[str], source: OnnxEnd, images: Array) -> list[Any]:
        inverse = np.argsort(source.axes)
        given = np.ascontiguousarray(images.transpose(*inverse)).astype(source.dtype)
        try:
            return self._session.run(names, {source.name: given})
        except Exception as error:
            if not self._optimised:  # MXNet's BatchNormalization runs only when it is fused away
                self._session = self._load(optimised=True)
                return self._call(names, source, images)
            raise StageError(
                f"{self.path}: ONNX Runtime cannot run it: {_first_line(error)}"
            ) from error


def _with_open_dimensions(path: Path) -> bytes | None:
    """Return a graph with dimensions of 0, which ONNX Runtime takes at their word, left open.

    Returns:
        None if it has none.
    """
    from hrnetpose.graphs import onnx_graph

    def list_zeros(model: Any) -> list[Any]:
        values = (*model.graph.input, *model.graph.output, *model.graph.value_info)
        return [
            dim
            for value in values
            for dim in value.type.tensor_type.shape.dim
            if dim.HasField("dim_value") and dim.dim_value == 0
        ]

    if not list_zeros(onnx_graph.read(path, weights=False)):
        return None
    model = onnx_graph.read(path)
    for dim in list_zeros(model):
        dim.Clear()
    return bytes(model.SerializeToString())


def _of_card(values: Any, end: OnnxEnd) -> Array:
    whole = values if end.batched else values[np.newaxis]
    return whole.transpose(*end.axes).astype(np.float32)


def _first_line(error: Exception) -> str:
    text = str(error).strip().split("\n")[0]
    text = re.sub(r"^\[\w+\] : \d+ : \w+ : |Load model from .*? failed: ?", "", text)
    # The place in ONNX Runtime's own source, and the function's signature, if they are there.
    return re.sub(r"^\S+\.(cc|h):\d+ .*\) (?=[A-Z])", "", text)[:300]
