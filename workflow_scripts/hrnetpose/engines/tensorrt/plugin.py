"""The backends of TensorRT and TensorRT-RTX."""

import importlib.util
import json
import re
from contextlib import suppress
from functools import partial

from hrnetpose.engines import cuda
from hrnetpose.engines.plugin import Backend, package_version
from hrnetpose.engines.tensorrt.build import build
from hrnetpose.engines.tensorrt.flavour import Flavour
from hrnetpose.engines.tensorrt.options import RUNTIME_OPTIONS, TensorRtOptions, profile
from hrnetpose.engines.tensorrt.runtime import TensorRtEngine


def create_backend(flavour: Flavour) -> Backend[TensorRtOptions]:
    """Return the backend of a flavour."""
    return Backend(
        name=flavour.package,
        graphs={"fp32": "fp32", "fp16": "fp16", "bf16": "bf16", "int8": "int8-fp16", "fp8": "fp8"},
        packages=(flavour.package,),
        options=TensorRtOptions,
        build=partial(build, flavour),
        open=partial(TensorRtEngine, flavour),
        device=lambda options: cuda.describe_device(),
        unavailable_reason=partial(unavailable_reason, flavour),
        environment=partial(build_environment, flavour),
        builds_anywhere=flavour.portable,
        gpus=lambda options: 1,
        install=flavour.install,
        bundled_with="hrnetpose.bundle.with_tensorrt",
    )


def unavailable_reason(flavour: Flavour, options: TensorRtOptions) -> str | None:
    """Return why no engine can run here; None if one can."""
    version = package_version(flavour.package)
    oldest, end = flavour.versions
    if not oldest <= _major_minor(version) < end:
        return (
            f"{flavour.title} {version} is installed, but >={oldest[0]}.{oldest[1]},<{end[0]} is "
            f"supported; install it with {flavour.install}"
        )
    if options.cuda_graphs and not flavour.portable and not _is_installed("cuda.bindings"):
        return f"`cuda_graphs` needs cuda-bindings; install it with {flavour.install}"
    if not _is_installed("pycuda"):
        return f"pycuda is not installed; install it with {flavour.install}"
    reason = cuda.missing_gpu_reason()
    return f"{reason}; `backend: auto` selects one that can run" if reason else None


def build_environment(flavour: Flavour, batch: int, options: TensorRtOptions) -> dict[str, str]:
    """Return what an engine built here is tied to."""
    build_options = options.model_dump(exclude=RUNTIME_OPTIONS, exclude_defaults=True)
    return {
        **machine_environment(flavour, options),
        "profile": "-".join(str(n) for n in profile(options, batch)),
        "options": json.dumps(build_options, sort_keys=True),
    }


def machine_environment(flavour: Flavour, options: TensorRtOptions) -> dict[str, str]:
    """Return what an engine is tied to on this machine; its GPU cannot be read from a plan."""
    version = package_version(flavour.package)
    if options.version_compatible:
        version = f"{_major_minor(version)[0]}.x"
    environment = {flavour.title: version}
    if not flavour.portable:
        gpu = cuda.require_gpu()
        match options.hardware_compatibility:
            case "none":
                environment |= gpu.build_environment()
            case "same_compute_capability":
                environment["compute capability"] = gpu.capability
            case "ampere_plus":
                is_ampere = _major_minor(gpu.capability) >= (8, 0)
                environment["compute capability"] = "8.0 or newer" if is_ampere else gpu.capability
    return environment


def _major_minor(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _is_installed(name: str) -> bool:
    with suppress(ModuleNotFoundError):  # of a parent package
        return importlib.util.find_spec(name) is not None
    return False
