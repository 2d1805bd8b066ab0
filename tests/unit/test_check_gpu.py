"""The script for GPU machines, rehearsed on the CPU."""

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hrnetpose import engines
from hrnetpose.engines import cuda

check_gpu = importlib.import_module("check_gpu")


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """Graphs that are there already."""
    for name in ("model.json", "fp32.onnx"):
        shutil.copy(tiny / name, tmp_path / name)
    return tmp_path


def run(repository: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(repository / "workflow_scripts" / "check_gpu.py"),
         *map(str, arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_one_call_builds_checks_times_and_prints_a_table(
    repository: Path, folder: Path, tiny: Path
) -> None:
    done = run(
        repository, "--device", "cpu", "--only", "onnxruntime", "--batches", 3,
        "--seconds", 0.2, "--config", tiny / "config.py", "--folder", folder, "--limit", 1000,
        "--output", folder / "found.json",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    (row,) = json.loads((folder / "found.json").read_text())["rows"]
    assert row["error"] < 1e-5
    assert row["executed"] == "fp32"
    assert row["device"] is None, "the CPU has no clock of its own"
    assert row["end_to_end"] > 0
    assert done.stdout.splitlines()[-1] == (
        f"| onnxruntime fp32 | 3 | fp32 | {row['error']:.1e} | {row['build_s']:.1f} | - | "
        f"{row['end_to_end']:.0f} | - |"
    )


def test_a_case_that_fails_is_a_line_that_says_why(
    folder: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check_gpu, "cases", lambda device: [check_gpu.Case("tensorrt", "fp16", {})])
    options = ["--device", "cpu", "--config", str(tiny / "config.py"), "--folder", str(folder)]

    check_gpu.main(check_gpu.parser().parse_args(options))

    table = capsys.readouterr().out.splitlines()
    assert table[-1].startswith("| tensorrt fp16 | 1 | build_engine: error: backend tensorrt needs")
    assert sum("tensorrt fp16" in line for line in table) == 2, "other batches fail alike"


def test_when_the_time_is_up_the_rest_is_not_tried(
    folder: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [
        "--device", "cpu", "--config", str(tiny / "config.py"), "--folder", str(folder),
        "--budget", "0",
    ]  # fmt: skip

    check_gpu.main(check_gpu.parser().parse_args(options))

    assert "| pytorch fp32 | 128 | not tried: the time is up |" in capsys.readouterr().out


@pytest.mark.skipif(isinstance(cuda.find(), cuda.Gpu), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line(repository: Path) -> None:
    done = run(repository)

    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "check_gpu: error: there is no NVIDIA driver (libcuda.so.1 cannot be loaded)"
    ]


def test_every_case_is_one_that_its_backend_has() -> None:
    for device in ("cpu", "cuda"):
        for case in check_gpu.cases(device):
            backend = engines.backend(case.backend)
            assert case.precision in backend.graphs
            backend.options(**case.options)
