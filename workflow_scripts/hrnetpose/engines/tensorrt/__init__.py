"""TensorRT on an NVIDIA GPU, through pycuda.  The engine file is the plan."""

from hrnetpose.engines.tensorrt.flavour import Flavour
from hrnetpose.engines.tensorrt.plugin import create_backend

FLAVOUR = Flavour(
    package="tensorrt",
    title="TensorRT",
    versions=((10, 13), (12, 0)),
    magic=b"ftrt",
    portable=False,
    install="`pip install -r envs/gpu-tensorrt.txt`",
)

BACKEND = create_backend("tensorrt", FLAVOUR)
