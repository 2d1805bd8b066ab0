"""The driver is queried in a subprocess, and its answer is reported as it is."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hrnetpose.engines import cuda
from hrnetpose.stage import StageError

DRIVER = """
#include <stdlib.h>
#include <string.h>
int cuInit(unsigned flags) { if (CRASH) abort(); return INIT; }
int cuGetErrorString(int status, const char **text) { *text = "no CUDA-capable device"; return 0; }
int cuDeviceGetCount(int *count) { *count = COUNT; return 0; }
int cuDeviceGet(int *device, int number) { *device = number + 40; return 0; }
int cuDeviceGetName(char *name, int size, int device) {
    strcpy(name, "NVIDIA H200");
    return device != 40;
}
int cuDeviceGetAttribute(int *value, int which, int device) {
    *value = which == 75 ? 9 : 0;
    return 0;
}
int cuDriverGetVersion(int *version) { *version = 13010; return 0; }
"""


@pytest.fixture
def driver(tmp_path: Path) -> Callable[..., str]:
    """Compile a library that answers as a driver does; return its path."""
    if not shutil.which("cc"):
        pytest.skip("there is no C compiler")

    def driver(init: int = 0, count: int = 1, crash: int = 0) -> str:
        source, library = tmp_path / "driver.c", tmp_path / "libcuda.so"
        source.write_text(DRIVER)
        subprocess.run(
            ["cc", "-shared", "-fPIC", f"-DINIT={init}", f"-DCOUNT={count}", f"-DCRASH={crash}",
             "-o", library, source],
            check=True,
        )  # fmt: skip
        return str(library)

    return driver


def test_the_gpu_is_described_once(
    driver: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel_module = tmp_path / "version"
    monkeypatch.setattr(cuda, "_KERNEL_MODULE", kernel_module)
    library = driver()
    found = cuda.find_gpu(library)
    assert found == cuda.Gpu("NVIDIA H200", "9.0", "CUDA 13.1")
    assert str(found) == "NVIDIA H200 (compute capability 9.0), CUDA 13.1"

    kernel_module.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n"
        "GCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)\n"
    )
    assert cuda.find_gpu(library) is found
    cuda.find_gpu.cache_clear()
    assert cuda.find_gpu(library) == cuda.Gpu("NVIDIA H200", "9.0", "580.95.05 (CUDA 13.1)")


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"count": 0}, "the NVIDIA driver finds no GPU"),
        ({"init": 100}, "cuInit of the NVIDIA driver fails: no CUDA-capable device"),
        ({"crash": 1}, "the query of the NVIDIA driver failed (exit status -6)"),
    ],
    ids=["no GPU", "error", "crash"],
)
def test_a_driver_that_fails_gives_the_reason(
    driver: Callable[..., str], flags: dict[str, int], reason: str
) -> None:
    assert cuda.find_gpu(driver(**flags)) == reason


def test_a_library_that_is_not_a_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = cuda.find_gpu("libcuda.so.0")
    assert missing == "there is no NVIDIA driver (libcuda.so.0 cannot be loaded)"
    assert "cuInit" in str(cuda.find_gpu("libc.so.6"))

    monkeypatch.setattr(cuda, "find_gpu", lambda: missing)
    with pytest.raises(StageError, match="there is no NVIDIA driver"):
        cuda.require_gpu()
