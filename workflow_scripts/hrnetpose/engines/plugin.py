"""What a backend declares.

A backend is a module of this package.  It imports its packages inside the functions that use them,
so that a machine without them can plan runs and run other backends.
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
    """A backend.

    Attributes:
        name: as in the configuration.
        graphs: requested precision -> graph to build from.  Where the graph has another precision,
            the backend itself converts.
        packages: the Python packages that it needs.
        options: the model of its options.
        build: writes the engine file.  A backend whose engine needs modules to be imported when it
            is opened returns them by name, with the SHA-256 of their files.
        open: returns an engine that is not loaded yet.
        device: returns the device that the options select.
        unavailable_reason: returns why it cannot run here with the options; None if it can.  With
            default options it is fast and imports none of the packages.
        environment: returns what an engine of this batch and these options is tied to, by name; the
            same has to hold where it is loaded.  By default the versions of the packages.
        builds_anywhere: a build needs no device.
        original: it runs the original model from its checkpoint instead of an ONNX graph.
        gpus: returns the number of GPUs that a job with these options needs.
        install: how to install the packages.
        any_batch: an engine can be opened at any batch size.
        bundled_with: the module that the pose.py of a bundle has beside, if it needs one.
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
    bundled_with: str | None = None

    @property
    def has_streams(self) -> bool:
        """Whether the number of concurrent requests is an option."""
        return issubclass(self.options, StreamOptions)

    def parse_options(self, raw: Mapping[str, Any], source: object) -> OptionsT:
        """Validate options.

        Args:
            raw: as parsed from JSON or YAML.
            source: where they come from, for errors.

        Raises:
            StageError: an option is unknown or has an invalid value.
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
        """Return the packages that are not installed."""
        return [name for name in self.packages if importlib.util.find_spec(name) is None]

    def can_run(self) -> bool:
        """Return True if it can run here with its default options."""
        return not self.missing_packages() and self.unavailable_reason(self.options()) is None

    def require(self, options: OptionsT, device: bool = True) -> None:
        """Check that the backend can run here.

        Args:
            options: of the variant.
            device: check the device, not only the packages.

        Raises:
            StageError: with what is missing and the remedy.
        """
        if missing := self.missing_packages():
            raise StageError(
                f"backend {self.name} needs {', '.join(missing)}, which is not installed; "
                f"install it with {self.install}, or use another backend"
            )
        if device and (reason := self.unavailable_reason(options)):
            raise StageError(f"backend {self.name} cannot run here: {reason}")

    def versions(self) -> dict[str, str]:
        """Return the versions of its packages."""
        return {name: package_version(name) for name in self.packages}

    def build_environment(self, batch: int, options: OptionsT) -> dict[str, str]:
        """Return what an engine built here is tied to, by name."""
        return self.environment(batch, options) if self.environment else self.versions()


def package_version(name: str) -> str:
    """Return the version of an installed package.

    Where its distribution has another name, such as `onnxruntime-gpu`, the package is imported.
    """
    try:
        return version(name)
    except PackageNotFoundError:
        return str(getattr(importlib.import_module(name), "__version__", "unknown"))
