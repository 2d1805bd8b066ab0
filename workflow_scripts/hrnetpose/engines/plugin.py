"""What a backend declares: its plug-in.

A backend is a module of this package.  It imports its packages only inside `build` and `open`,
so that planning a run, or a run of another backend, never needs them.
"""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Generic

from pydantic import ValidationError

from hrnetpose.artifacts.engine import Device
from hrnetpose.engines.base import BuildRequest, Engine, OpenRequest, OptionsT, StreamOptions
from hrnetpose.recipes import Graph, Precision
from hrnetpose.stage import StageError


@dataclass(frozen=True)
class Backend(Generic[OptionsT]):
    """A plug-in.

    Attributes:
        name: as in the configuration.
        graphs: precision asked for -> the graph it is built from.  Where that has another
            precision, the precision is an option of the backend and not a property of the graph.
        packages: the Python packages that it needs.
        options: the model of its options.
        build: writes the engine file; returns the modules that its model is made of, with the
            SHA-256 of their files, where opening it has to import them.
        open: prepares to open an engine.
        device: returns the device that it runs on with these options.
        unavailable_reason: says why it cannot run here with these options; None if it can.  With
            default options it is cheap and imports none of the packages.
        environment: what must be the same where an engine is loaded as where it was built, by name,
            for a batch and options; by default the versions of the packages.
        builds_anywhere: it needs no device to build.
        original: it runs the original model, from its checkpoint, instead of the ONNX graph.
        gpus: how many GPUs an engine with these options needs; a cluster gives its jobs so many.
        install: how to install its packages.
        any_batch: an engine can be opened at any batch, not only at its own.
    """

    name: str
    graphs: Mapping[Precision, Graph]
    packages: tuple[str, ...]
    options: type[OptionsT]
    build: Callable[[BuildRequest[OptionsT], Path], Mapping[str, str] | None]
    open: Callable[[OpenRequest[OptionsT]], Engine[OptionsT]]
    device: Callable[[OptionsT], Device]
    unavailable_reason: Callable[[OptionsT], str | None] = lambda options: None
    environment: Callable[[int, OptionsT], dict[str, str]] | None = None
    builds_anywhere: bool = False
    original: bool = False
    gpus: Callable[[OptionsT], int] = lambda options: 0
    install: str = "`pip install -r envs/requirements.txt`"
    any_batch: bool = False

    @property
    def has_streams(self) -> bool:
        """Whether the number of requests that run at the same time is an option."""
        return issubclass(self.options, StreamOptions)

    def parse_options(self, raw: Mapping[str, Any], source: object) -> OptionsT:
        """Returns checked options.

        Args:
            raw: as JSON or YAML gives them.
            source: where they are from; errors name it.

        Raises:
            StageError: an option is unknown or has a value that is not allowed.
        """
        try:
            return self.options.model_validate(raw)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(["options", *map(str, first["loc"])])
            raise StageError(
                f"{source}: {key}: {first['input']!r}: {first['msg']}; backend {self.name} has the "
                f"options {', '.join(self.options.model_fields)}"
            ) from error

    def missing_packages(self) -> list[str]:
        """Returns the packages that are not installed."""
        return [name for name in self.packages if importlib.util.find_spec(name) is None]

    def can_run(self) -> bool:
        """Returns True if it can run here with its default options."""
        return not self.missing_packages() and self.unavailable_reason(self.options()) is None

    def require(self, options: OptionsT, device: bool = True) -> None:
        """Refuses what cannot run here.

        Args:
            options: the variant's.
            device: the device is needed as well as the packages.

        Raises:
            StageError: it says what is missing and what to do.
        """
        if missing := self.missing_packages():
            raise StageError(
                f"backend {self.name} needs {', '.join(missing)}, which is not installed; "
                f"install it with {self.install}, or use another backend"
            )
        if device and (reason := self.unavailable_reason(options)):
            raise StageError(f"backend {self.name} cannot run here: {reason}")

    def versions(self) -> dict[str, str]:
        """Returns the versions of its packages."""
        return {name: package_version(name) for name in self.packages}

    def build_environment(self, batch: int, options: OptionsT) -> dict[str, str]:
        """Returns what an engine that is built here is tied to, by name."""
        return self.environment(batch, options) if self.environment else self.versions()


def package_version(name: str) -> str:
    """Returns an installed package's version.

    Its distribution may have another name (`onnxruntime-gpu`); then the package itself is asked.
    """
    try:
        return version(name)
    except PackageNotFoundError:
        return str(getattr(importlib.import_module(name), "__version__", "unknown"))
