"""What a backend accepts, as far as a run must know it when it is planned."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from hrnetpose.recipes import Graph, Precision


@dataclass(frozen=True)
class BackendRules:
    """The rules of a backend.

    Attributes:
        graphs: precision asked for -> the ONNX graph that the engine is built from.
        options: the model of its options.
        gpus: returns how many GPUs an engine with these options needs.
        check: refuses options that do not go with a batch and a precision; raises a StageError.
        packages: the Python packages that it needs.
        original: it runs the original model, from its checkpoint, instead of an ONNX graph.
    """

    graphs: Mapping[Precision, Graph]
    options: type[BaseModel]
    gpus: Callable[[Mapping[str, Any]], int]
    check: Callable[[Mapping[str, Any], int, Precision], None]
    packages: tuple[str, ...]
    original: bool
