"""What differs between TensorRT and TensorRT-RTX, which have one Python API."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Flavour:
    """One of the two.

    Attributes:
        package: the Python package.
        title: its name.
        versions: the first one supported, and the first one that no longer is.
        magic: the first bytes of a plan.
        portable: a plan is compiled for the GPU when it is loaded, and can be built without one.
        install: how to install it, and pycuda.
    """

    package: str
    title: str
    versions: tuple[tuple[int, int], tuple[int, int]]
    magic: bytes
    portable: bool
    install: str
