"""TensorRT on an NVIDIA GPU, through pycuda.  The engine file is the plan."""

from functools import partial

from hrnetpose.engines import nvidia
from hrnetpose.engines.base import Backend

FLAVOUR = nvidia.Flavour(
    package="tensorrt",
    title="TensorRT",
    versions=((10, 13), (12, 0)),
    magic=b"ftrt",
    portable=False,
    install="`pip install -r envs/gpu-tensorrt.txt`",
)

BACKEND = Backend(
    name="tensorrt",
    graphs={"fp32": "fp32", "fp16": "fp16", "bf16": "bf16", "int8": "int8-fp16", "fp8": "fp8"},
    packages=("tensorrt",),
    options=nvidia.TensorRtOptions,
    build=partial(nvidia.build, FLAVOUR),
    open=partial(nvidia.TensorRtEngine, FLAVOUR),
    device=nvidia.device,
    lacking=partial(nvidia.lacking, FLAVOUR),
    built_for=partial(nvidia.built_for, FLAVOUR),
    environment="tensorrt",
    install=FLAVOUR.install,
)
