"""TensorRT-RTX on an RTX GPU, through pycuda; it builds without.  The engine file is the plan."""

from hrnetpose.engines.tensorrt.flavour import Flavour
from hrnetpose.engines.tensorrt.plugin import create_backend

FLAVOUR = Flavour(
    package="tensorrt_rtx",
    title="TensorRT-RTX",
    versions=((1, 2), (2, 0)),
    magic=b"vtrt",
    portable=True,
    install="`pip install -r envs/gpu-tensorrt-rtx.txt`",
)

BACKEND = create_backend("tensorrt_rtx", FLAVOUR)
