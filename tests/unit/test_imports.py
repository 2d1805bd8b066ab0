"""Which files of the project a stage is made from."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hrnetpose.imports import imported_files

RunPython = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def made_from(repository: Path) -> Callable[..., set[str]]:
    """Return what a script is made from, relative to the folder of the scripts."""
    scripts = repository / "workflow_scripts"

    def files(script: str, *modules: str) -> set[str]:
        return {
            Path(path).relative_to(scripts).as_posix()
            for path in imported_files(scripts, script, *modules)
        }

    return files


def rooms(files: set[str]) -> set[str]:
    return {Path(file).parent.name for file in files}


def test_scoring_does_not_depend_on_engines_or_models(
    made_from: Callable[..., set[str]],
) -> None:
    assert rooms(made_from("score_accuracy")).isdisjoint({"engines", "model", "speed", "report"})


def test_the_decoder_concerns_predictions_and_not_the_export(
    made_from: Callable[..., set[str]],
) -> None:
    assert "hrnetpose/pose/decode.py" in made_from("predict_keypoints")
    assert "hrnetpose/pose/decode.py" not in made_from("export_onnx")


def test_a_backend_concerns_its_own_engines_only(made_from: Callable[..., set[str]]) -> None:
    files = made_from("predict_keypoints", "hrnetpose.engines.openvino")

    assert "hrnetpose/engines/openvino.py" in files
    assert "hrnetpose/engines/onnxruntime.py" not in files
    assert "hrnetpose/engines/pytorch.py" not in files


@pytest.mark.parametrize(
    "script",
    ["make_crops", "build_engine", "predict_keypoints", "benchmark_engine", "score_accuracy"],
)
def test_all_that_python_imports_is_among_the_files(
    made_from: Callable[..., set[str]], repository: Path, run_python: RunPython, script: str
) -> None:
    done = run_python(
        f"""
        import sys
        import {script}
        for name, module in sorted(sys.modules.items()):
            if name.split(".")[0] in ("hrnetpose", {script!r}):
                print(module.__file__)
        """
    )
    scripts = repository / "workflow_scripts"
    imported = {Path(line).relative_to(scripts).as_posix() for line in done.stdout.splitlines()}

    assert f"{script}.py" in imported
    assert imported <= made_from(script)


def test_the_script_comes_first_and_the_rest_in_order(tmp_path: Path) -> None:
    library = tmp_path / "hrnetpose"
    library.mkdir()
    (tmp_path / "zip_it.py").write_text("from hrnetpose import b\nimport json\n")
    (library / "__init__.py").touch()
    (library / "a.py").write_text("import hrnetpose.b\n")
    (library / "b.py").write_text("def f():\n    from hrnetpose.a import x\n")
    (library / "c.py").touch()

    found = imported_files(tmp_path, "zip_it")

    assert found == [
        str(tmp_path / "zip_it.py"),
        *(str(library / name) for name in ("__init__.py", "a.py", "b.py")),
    ]
