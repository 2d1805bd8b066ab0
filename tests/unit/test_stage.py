"""A stage that fails says why in one line; all the rest is in its log."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hrnetpose import stage
from hrnetpose.stage import FINISHED, StageError

UNEXPECTED = "unexpected error: list index out of range; its traceback is in the log (--log)"

RunPython = Callable[..., subprocess.CompletedProcess[str]]

PROGRAM = """
    '''Does what it is told.'''
    import ctypes
    from hrnetpose import stage
    from hrnetpose.stage import StageError

    def main(*, do):
        print("printed")
        ctypes.CDLL(None).puts(b"printed by C")
        match do:
            case "refuse":
                raise StageError("weights.pth: there is no such file;\\nfetch it")
            case "list":
                raise StageError("2 outside the limits", ["fp16: AP", "int8: AP"])
            case "break":
                [][0]
            case "miss":
                open("missing.txt")

    command = stage.command(__doc__)
    command.add_argument("--do")
    stage.run(command, main)
"""


def test_a_stage_that_succeeds_is_silent_and_exits_with_0(
    run_python: RunPython, tmp_path: Path
) -> None:
    done = run_python(PROGRAM, "--log", "logs/new/stage.log")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    *printed, last = (tmp_path / "logs/new/stage.log").read_text().splitlines()
    assert set(printed) == {"printed", "printed by C"}
    assert FINISHED.fullmatch(last)


@pytest.mark.parametrize(
    ("do", "line"),
    [
        ("refuse", "program: error: weights.pth: there is no such file; fetch it\n"),
        ("list", "program: error: 2 outside the limits\n  fp16: AP\n  int8: AP\n"),
        ("break", f"program: error: {UNEXPECTED}\n"),
        ("miss", "program: error: missing.txt: No such file or directory\n"),
    ],
)
def test_a_stage_that_fails_says_so_in_one_line_and_keeps_the_traceback_in_its_log(
    run_python: RunPython, tmp_path: Path, do: str, line: str
) -> None:
    done = run_python(PROGRAM, "--do", do, "--log", "stage.log")

    assert (done.returncode, done.stdout, done.stderr) == (1, "", line)
    log = (tmp_path / "stage.log").read_text()
    assert "Traceback (most recent call last)" in log
    assert "printed by C" in log
    assert log.endswith(f"\n{line}")


def test_without_a_log_the_terminal_gets_what_is_printed_but_no_traceback(
    run_python: RunPython,
) -> None:
    done = run_python(PROGRAM, "--do", "break")

    assert done.returncode == 1
    assert set(done.stdout.splitlines()) == {"printed", "printed by C"}
    assert done.stderr == f"program: error: {UNEXPECTED}\n"


def test_an_abbreviated_flag_is_refused(run_python: RunPython) -> None:
    assert run_python(PROGRAM, "--lo", "stage.log").returncode == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "argument --limits: '{': Invalid JSON: "),
        ('{"a": [1, "b"]}', """argument --limits: '{"a": [1, "b"]}': a: 1: Input should be a """),
    ],
)
def test_a_flag_of_json_is_checked(
    text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = stage.command("")
    command.add_argument("--limits", type=stage.Json(dict[str, list[float]]))

    assert command.parse_args(["--limits", '{"a": [1, 2.5]}']).limits == {"a": [1.0, 2.5]}
    with pytest.raises(SystemExit):
        command.parse_args(["--limits", text])
    assert said in capsys.readouterr().err


def test_the_help_is_the_docstring(run_python: RunPython) -> None:
    assert "Does what it is told." in run_python(PROGRAM, "--help").stdout


def test_a_terminated_stage_leaves_no_part_of_a_file(repository: Path, tmp_path: Path) -> None:
    program = """
import signal
from pathlib import Path
from hrnetpose import files, stage

def main():
    with files.atomic_path(Path("result.npz")) as temporary:
        temporary.write_text("half")
        print("writing", flush=True)
        signal.pause()

stage.run(stage.command(""), main)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(repository / "workflow_scripts")},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(signal.SIGTERM)

    assert process.returncode == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (StageError("one\n  two"), "one two"),
        (FileNotFoundError(2, "No such file or directory", "a.txt"), "a.txt: No such file or dir"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (MemoryError(), "out of memory"),
        (ValueError("three\nlines\nlong"), "unexpected error: three lines long; its "),
    ],
)
def test_errors_are_described_in_one_line(error: Exception, line: str) -> None:
    assert stage.describe(error).startswith(line)
    assert "\n" not in stage.describe(error)
