"""TensorRT-RTX on an RTX GPU, through pycuda; it builds without.  The engine file is the plan."""

from functools import partial

from hrnetpose.engines import nvidia
from hrnetpose.engines.base import Backend

FLAVOUR = nvidia.Flavour(
    package="tensorrt_rtx",
    title="TensorRT-RTX",
    versions=((1, 2), (2, 0)),
    magic=b"vtrt",
    portable=True,
    install="`pip install -r envs/gpu-tensorrt-rtx.txt`",
)

BACKEND = Backend(
    name="tensorrt_rtx",
    graphs={"fp32": "fp32", "fp16": "fp16", "bf16": "bf16", "int8": "int8-fp16", "fp8": "fp8"},
    packages=("tensorrt_rtx",),
    options=nvidia.TensorRtOptions,
    build=partial(nvidia.build, FLAVOUR),
    open=partial(nvidia.TensorRtEngine, FLAVOUR),
    device=nvidia.device,
    lacking=partial(nvidia.lacking, FLAVOUR),
    built_for=partial(nvidia.built_for, FLAVOUR),
    builds_anywhere=True,
    environment="tensorrt-rtx",
    install=FLAVOUR.install,
)
