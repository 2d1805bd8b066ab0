"""TensorRT-RTX on an RTX GPU, through pycuda; it builds without.  The engine file is the plan."""

from hrnetpose.engines import nvidia

FLAVOUR = nvidia.Flavour(
    package="tensorrt_rtx",
    title="TensorRT-RTX",
    versions=((1, 2), (2, 0)),
    magic=b"vtrt",
    portable=True,
    install="`pip install -r envs/gpu-tensorrt-rtx.txt`",
)

BACKEND = nvidia.backend("tensorrt_rtx", FLAVOUR)
