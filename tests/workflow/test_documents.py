"""Every example of a docstring and every command of the documents is one that works.

`python` commands are parsed by their script's own parser, or run where that takes a second or two;
`snakemake` is planned with `--dry-run`, `make` with `--dry-run`, and of the rest it is checked that
the files they name are there.  `pytest -v` prints which command is treated how.
"""

import ast
import importlib
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hrnetpose import config, engines
from hrnetpose.bundle import runtime
from hrnetpose.report import table
from planner import Planner
from support import ROOT, SCRIPTS, Project

DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "Snakefile",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("config/*.md")),
    *sorted(ROOT.glob("resources/*/README.md")),
    *sorted(ROOT.glob("configs/*.yaml")),
    *sorted(ROOT.glob("profiles/*/profile.yaml")),
]
PROGRAMS = ("python", "snakemake", "make", "pip", "pytest", "source", "cp", "git", "export")
COMMAND = re.compile(rf"(?:[A-Z_]+=\S+ +)*(?:time )?(?:{'|'.join(PROGRAMS)}) +\S.*")
INLINE = re.compile(r"`((?:python|snakemake|make|pip|pytest) [^`]+)`")
QUICK = {"draw_sample"}
"""Scripts whose example needs no file and takes seconds."""
ABOUT_ITS_OWN_CONFIGURATION = {"docs/gpu.md": "engines/trt"}
"""Document -> a command that says this is about the configuration that the document opens with."""


def commands_in(text: str) -> Iterator[str]:
    """Yield the commands of a text: lines of code, continued by a backslash, and `inline code`.

    A comment behind two spaces is left out.
    """
    joined = re.sub(r"\\\n[ #]*", "", text)
    for line in joined.splitlines():
        code = re.sub(r"^# ", "", line)
        if match := re.fullmatch(rf"(?: {{4,}})?({COMMAND.pattern})", code):
            yield re.split(r" {2,}", match[1])[0].split(" && ")[0].strip()
        elif not line.startswith("    "):
            yield from INLINE.findall(line)


def all_commands() -> dict[str, str]:
    """Return command -> the first file that has it."""
    found: dict[str, str] = {}
    for path in [*SCRIPTS, *DOCUMENTS]:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".py" or path.name == "Snakefile":
            docstring = re.match(r'"""(.*?)"""', text, re.DOTALL)
            text = ast.literal_eval(f'"""{docstring[1]}"""') if docstring else ""
        for command in commands_in(text):
            found.setdefault(command, str(path.relative_to(ROOT)))
    return found


def of(*programs: str) -> list[Any]:
    """Return the commands of some programs, as parameters."""
    return [
        pytest.param(command, id=f"{file}: {command}")
        for command, file in all_commands().items()
        if program_of(command) in programs
    ]


def program_of(command: str) -> str:
    """Return the program that a command line runs."""
    return next(word for word in shlex.split(command) if word in PROGRAMS)


def script_of(command: str) -> str | None:
    """Return the script that a `python` command runs."""
    match = re.match(r"python (?:workflow_scripts|tools)/(?:\w+/)*(\w+)\.py", command)
    return match[1] if match else None


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_has_an_example(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    example = f"python {path.relative_to(ROOT)} "

    assert any(command.startswith(example) for command in commands_in(docstring))


@pytest.mark.parametrize("command", of("python"))
def test_parsed(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every flag is known, and all that are required are there; what is quick runs."""
    if command.startswith("python pose.py "):  # in a bundle
        runtime.parser().parse_args(shlex.split(command)[2:])
        return
    script = script_of(command)
    if script is None:
        module = re.match(r"python -m ([\w.]+)", command)
        assert module, f"{command}: not a script of this repository"
        assert importlib.util.find_spec(module[1])
        return
    assert (ROOT / command.split()[1]).is_file()
    monkeypatch.chdir(tmp_path)
    parser = importlib.import_module(script).parser()
    if command.endswith("--help"):
        with pytest.raises(SystemExit, match=r"^0$"):
            parser.parse_args(["--help"])
        return
    parser.error = pytest.fail
    arguments = parser.parse_args(shlex.split(command)[2:])
    if script in QUICK:
        importlib.import_module(script).main(**vars(arguments))
        assert list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A checkout with the files that the documents tell their reader to write."""
    made = Project.copied(ROOT, tmp_path_factory.mktemp("documents") / "project")
    for name in ("my.yaml", "mine.yaml"):
        made.overlay({"benchmark": {"min_samples": 60}}, name)
    return made


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planner]:
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNAKEMAKE_OUTPUT_CACHE", str(cache))
        with Planner(tmp_path_factory.mktemp("planner")) as started:
            yield started


@pytest.mark.parametrize("command", of("snakemake"))
def test_planned(command: str, project: Project, planner: Planner) -> None:
    # Planning a thousand shards takes the seconds that docs/cluster.md speaks of.
    words = shlex.split(command.replace("shards=1000", "shards=10"))
    arguments = words[words.index("snakemake") + 1 :]
    if "--workflow-profile" in arguments:  # its plugins are not among what the tests need
        place = arguments.index("--workflow-profile")
        profile = arguments[place + 1].replace("profiles/mine", "profiles/slurm")
        assert (ROOT / profile / "profile.yaml").is_file()
        del arguments[place : place + 2]
    for document, said in ABOUT_ITS_OWN_CONFIGURATION.items():
        if said in command:
            (project.folder / "own.yaml").write_text(blocks_in(ROOT / document)[0])
            arguments = ["--configfile", "own.yaml", *arguments]

    status, printed = planner.snakemake(project.folder, "--dry-run", "--quiet=rules", *arguments)

    assert status == 0, printed


@pytest.mark.parametrize("command", of("make"))
def test_make_targets(command: str) -> None:
    words = [word for word in shlex.split(command) if word not in {"time"}]
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", "VENV=nowhere", *words[1:]],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", of("pip", "pytest", "source", "cp", "git", "export"))
def test_files_are_there(command: str) -> None:
    match shlex.split(command):
        case ["pip", "install", "-r", "requirements.txt"]:
            pass  # of a bundle
        case ["pip", "install", "-r", file]:
            assert (ROOT / file).is_file()
        case ["pip", "install", *pins]:
            assert all("==" in pin for pin in pins)
        case ["cp", "-r", folder, _]:
            assert (ROOT / folder).is_dir()
        case ["source", ".venv/bin/activate"] | ["git", "clone", *_] | ["export", _]:
            pass
        case ["pytest", "-m", marker, *places]:
            assert all((ROOT / place).is_dir() for place in places)
            assert f"{marker}:" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        case _:
            pytest.fail(f"{command}: nothing checks this; add a case")


def blocks_in(path: Path) -> list[str]:
    """Return the configurations that a document shows."""
    return re.findall(r"```yaml\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("path", [p for p in DOCUMENTS if p.suffix == ".md"], ids=lambda p: p.name)
def test_configurations_are_accepted(path: Path) -> None:
    default = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    for block in blocks_in(path):
        shown = yaml.safe_load(block)
        if shown.keys() <= config.Config.model_fields.keys():
            merged = {**default, **shown}
            for key in ("models", "datasets", "variants"):
                merged[key] = {**default[key], **shown.get(key, {})}
            config.load(merged, engines.rules())


@pytest.mark.parametrize("overlay", sorted(ROOT.glob("configs/*.yaml")), ids=lambda path: path.name)
def test_overlays_are_planned(overlay: Path, project: Project, planner: Planner) -> None:
    jobs = planner.jobs(project.folder, "--configfile", f"configs/{overlay.name}", "--", "report")

    assert {"build_engine", "benchmark_engine", "write_report"} <= {job.rule for job in jobs}


def test_the_gpu_overlay_has_every_precision_that_a_gpu_can_run() -> None:
    content = yaml.safe_load((ROOT / "configs/gpu.yaml").read_text(encoding="utf-8"))
    shown = {(v["backend"], v["precision"]) for v in content["variants"].values() if v}

    for backend in ("tensorrt", "pytorch"):
        assert shown >= {(backend, precision) for precision in engines.backend(backend).graphs}
    assert shown >= {("onnxruntime", "fp32"), ("onnxruntime", "fp16")}


def test_the_table_of_the_readme_has_the_columns_of_the_summary() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"^    (variant  +backend .*)$", readme, re.MULTILINE)
    assert shown
    columns = re.split(r"  +", table.as_text([]).splitlines()[0])

    left_out = [name for name in columns if name not in re.split(r"  +", shown[1])]
    said = re.search(r"the columns (.*?) are\s+left out here", readme)
    assert left_out == (re.findall(r"`(.*?)`", said[1]) if said else [])
