"""The driver is asked in a process of its own, and its answer is taken as it is."""

import importlib.util
import os
import shutil
import subprocess
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
def driver(tmp_path: Path) -> "Compile":
    if not shutil.which("cc"):
        pytest.skip("there is no C compiler to make a driver with")
    return Compile(tmp_path)


class Compile:
    """Makes a library that answers like a driver."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, init: int = 0, count: int = 1, crash: int = 0) -> str:
        source = self._folder / "driver.c"
        library = self._folder / f"libcuda-{init}-{count}-{crash}.so"
        source.write_text(DRIVER)
        subprocess.run(
            ["cc", "-shared", "-fPIC", f"-DINIT={init}", f"-DCOUNT={count}", f"-DCRASH={crash}",
             "-o", library, source],
            check=True,
        )  # fmt: skip
        return str(library)


def test_a_device_is_described(
    driver: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = tmp_path / "version"
    monkeypatch.setattr(cuda, "_MODULE_VERSION", kernel)
    found = cuda.find(driver())
    assert found == cuda.Gpu("NVIDIA H200", "9.0", "CUDA 13.1")
    assert str(found) == "NVIDIA H200 (compute capability 9.0), CUDA 13.1"

    kernel.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n"
        "GCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)\n"
    )
    cuda.find.cache_clear()
    assert cuda.find(driver()) == cuda.Gpu("NVIDIA H200", "9.0", "580.95.05 (CUDA 13.1)")


def test_a_driver_without_a_device_is_said_to_have_none(driver: Compile) -> None:
    assert cuda.find(driver(count=0)) == "the NVIDIA driver knows no device"
    assert (
        cuda.find(driver(init=100))
        == "the NVIDIA driver answers cuInit with 'no CUDA-capable device'"
    )


def test_a_driver_that_crashes_takes_nothing_with_it(driver: Compile) -> None:
    assert cuda.find(driver(crash=1)) == "the NVIDIA driver cannot be asked (it exits with -6)"


def test_what_is_no_driver_is_said_to_be_none(tmp_path: Path) -> None:
    expected = "there is no NVIDIA driver (libcuda.so.0 cannot be loaded)"
    assert cuda.find("libcuda.so.0") == expected
    assert "cuInit" in str(cuda.find("libc.so.6"))


def test_a_stage_that_needs_a_device_says_that_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cuda, "find", lambda: "there is no NVIDIA driver")

    with pytest.raises(StageError, match="there is no NVIDIA driver"):
        cuda.require_gpu()


def test_pycuda_is_asked_for_before_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that is missing costs a process, a package that is missing nothing."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(cuda, "find", lambda: pytest.fail("the driver was asked"))

    assert cuda.unavailable_reason("`this`") == "pycuda is not installed; install it with `this`"


def test_the_driver_is_asked_once(driver: Compile, monkeypatch: pytest.MonkeyPatch) -> None:
    library = driver(count=2)
    first = cuda.find(library)
    os.remove(library)

    assert cuda.find(library) is first
