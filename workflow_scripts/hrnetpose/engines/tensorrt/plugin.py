"""The plug-in of TensorRT and of TensorRT-RTX: one code for both."""

import importlib.util
import json
import re
from contextlib import suppress
from functools import partial

from hrnetpose.engines import cuda
from hrnetpose.engines.plugin import Backend, package_version
from hrnetpose.engines.tensorrt.build import build
from hrnetpose.engines.tensorrt.flavour import Flavour
from hrnetpose.engines.tensorrt.options import RUNTIME_OPTIONS, TensorRtOptions
from hrnetpose.engines.tensorrt.runtime import TensorRtEngine


def create_backend(name: str, flavour: Flavour) -> Backend[TensorRtOptions]:
    """Returns the plug-in of a flavour."""
    return Backend(
        name=name,
        graphs={"fp32": "fp32", "fp16": "fp16", "bf16": "bf16", "int8": "int8-fp16", "fp8": "fp8"},
        packages=(flavour.package,),
        options=TensorRtOptions,
        build=partial(build, flavour),
        open=partial(TensorRtEngine, flavour),
        device=lambda options: cuda.device(),
        unavailable_reason=partial(unavailable_reason, flavour),
        environment=partial(build_environment, flavour),
        builds_anywhere=flavour.portable,
        gpus=lambda options: 1,
        install=flavour.install,
    )


def unavailable_reason(flavour: Flavour, options: TensorRtOptions) -> str | None:
    """Says why no engine can run here; None if one can."""
    found = package_version(flavour.package)
    (oldest, newest), number = flavour.versions, _major_minor(found)
    if not oldest <= number < newest:
        return (
            f"{flavour.title} {found} is installed, but >={oldest[0]}.{oldest[1]},<{newest[0]} is "
            f"supported; install it with {flavour.install}"
        )
    if options.cuda_graphs and not flavour.portable and not _has_cuda_bindings():
        return f"`cuda_graphs` needs cuda-bindings; install it with {flavour.install}"
    return cuda.unavailable_reason(flavour.install)


def build_environment(flavour: Flavour, batch: int, options: TensorRtOptions) -> dict[str, str]:
    """Returns what an engine that is built here is tied to.

    The GPU that a plan was built for cannot be read from it.
    """
    version = package_version(flavour.package)
    if options.version_compatible:
        version = f"{_major_minor(version)[0]}.x"
    facts = {flavour.title: version}
    if not flavour.portable:
        gpu = cuda.require_gpu()
        match options.hardware_compatibility:
            case "none":
                facts |= gpu.build_environment()
            case "same_compute_capability":
                facts["compute capability"] = gpu.capability
            case "ampere_plus":
                new = _major_minor(gpu.capability) >= (8, 0)
                facts["compute capability"] = "8.0 or newer" if new else gpu.capability
    facts["profile"] = "-".join(str(n) for n in options.profile(batch))
    built = options.model_dump(exclude=RUNTIME_OPTIONS, exclude_defaults=True)
    facts["options"] = json.dumps(built, sort_keys=True)
    return facts


def _major_minor(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _has_cuda_bindings() -> bool:
    with suppress(ModuleNotFoundError):
        return importlib.util.find_spec("cuda.bindings") is not None
    return False
