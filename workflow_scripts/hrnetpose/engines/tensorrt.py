"""TensorRT on an NVIDIA GPU, through pycuda.  The engine file is the plan."""

from hrnetpose.engines import nvidia

FLAVOUR = nvidia.Flavour(
    package="tensorrt",
    title="TensorRT",
    versions=((10, 13), (12, 0)),
    magic=b"ftrt",
    portable=False,
    install="`pip install -r envs/gpu-tensorrt.txt`",
)

BACKEND = nvidia.backend("tensorrt", FLAVOUR)
