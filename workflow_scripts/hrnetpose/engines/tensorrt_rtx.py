"""TensorRT-RTX on an RTX GPU, through pycuda.  The engine file is the plan."""

from hrnetpose.engines.tensorrt.flavour import TENSORRT_RTX
from hrnetpose.engines.tensorrt.plugin import create_backend

BACKEND = create_backend(TENSORRT_RTX)
