"""What a backend accepts, as far as a run must know it when it is planned."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from hrnetpose.recipes import Graph, Precision


class Options(BaseModel):
    """Options of a backend; these exist for all of them."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    threads: int | None = Field(None, ge=1)
    """CPU threads; by default as many as the job has."""

    @property
    def is_exact(self) -> bool:
        """Whether a backend that runs the original model runs it unchanged, as a reference must."""
        return True

    def check(self, batch: int, precision: Precision) -> None:
        """Check the options against a batch size and a precision.

        Raises:
            StageError: with the option at fault.
        """


class BackendRules(Protocol):
    """The rules of a backend; its plug-in has them."""

    @property
    def graphs(self) -> Mapping[Precision, Graph]:
        """Precision asked for -> the ONNX graph that the engine is built from."""

    @property
    def options(self) -> type[Options]:
        """The model of its options."""

    @property
    def gpus(self) -> Callable[[Any], int]:
        """Return how many GPUs an engine with these options needs."""

    @property
    def packages(self) -> tuple[str, ...]:
        """The Python packages that it needs."""

    @property
    def original(self) -> bool:
        """It runs the original model, from its checkpoint, instead of an ONNX graph."""

    @property
    def bundled_with(self) -> str | None:
        """The module that the pose.py of a bundle has beside, if it needs one."""
