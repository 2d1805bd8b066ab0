"""TensorRT and TensorRT-RTX: one Python API, and what differs between them."""

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Flavour:
    """One of the two.

    Attributes:
        package: the Python package, and the name of the backend.
        title: the product name.
        versions: the first supported version, and the first that is no longer supported.
        magic: the first bytes of a plan.
        portable: a plan is compiled for the GPU when it is loaded, so a build needs none.
        install: how to install the package and pycuda.
    """

    package: str
    title: str
    versions: tuple[tuple[int, int], tuple[int, int]]
    magic: bytes
    portable: bool
    install: str

    @property
    def module(self) -> Any:
        """The package, imported."""
        return importlib.import_module(self.package)


TENSORRT = Flavour(
    package="tensorrt",
    title="TensorRT",
    versions=((10, 13), (12, 0)),
    magic=b"ftrt",
    portable=False,
    install="`pip install -r envs/gpu-tensorrt.txt`",
)
TENSORRT_RTX = Flavour(
    package="tensorrt_rtx",
    title="TensorRT-RTX",
    versions=((1, 2), (2, 0)),
    magic=b"vtrt",
    portable=True,
    install="`pip install -r envs/gpu-tensorrt-rtx.txt`",
)
