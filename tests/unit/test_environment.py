"""The environment: all of it pinned, in agreement wherever it is written down; and `auto` in it."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version
from importlib.metadata import distributions as distributions_installed
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from hrnetpose import engines
from hrnetpose.environment import decide_auto
from hrnetpose.version import VERSION

Pins = dict[str, str]

PIN = re.compile(r"^([A-Za-z0-9._-]+)==([A-Za-z0-9.+!]+)$")
ENVIRONMENTS = ("engines", "mmpose")


def normal(name: str) -> str:
    """The one spelling of a package's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins_in(lines: Iterable[str]) -> Pins:
    """Read `name==version` lines; anything else but comments and flags is a mistake."""
    pins: Pins = {}
    for line in (line.split("#")[0].strip() for line in lines):
        if line and not line.startswith("--"):
            match = PIN.match(line)
            assert match, f"{line!r} is no pin"
            assert normal(match[1]) not in pins, f"{match[1]} is pinned twice"
            pins[normal(match[1])] = match[2]
    return pins


@pytest.fixture(scope="module")
def requirements(repository: Path) -> dict[str, Pins]:
    """What the requirements files pin, by file."""
    files = sorted((repository / "envs").glob("requirements*.txt"))
    assert len(files) == 4
    return {file.name: pins_in(file.read_text().splitlines()) for file in files}


@pytest.fixture(scope="module")
def pinned(requirements: dict[str, Pins]) -> Pins:
    """What they pin together."""
    return {name: pin for pins in requirements.values() for name, pin in pins.items()}


@pytest.fixture(scope="module")
def for_gpus(repository: Path) -> dict[str, Pins]:
    """What the files for users with a GPU pin, by file; only they can install all of it."""
    files = sorted((repository / "envs").glob("gpu-*.txt"))
    assert len(files) == 3
    return {file.name: pins_in(file.read_text().splitlines()) for file in files}


def test_files_for_gpus_agree_with_each_other_and_with_the_rest(
    for_gpus: dict[str, Pins], pinned: Pins
) -> None:
    together = dict(pinned)
    for pins in for_gpus.values():
        assert {name: together.get(name, pin) for name, pin in pins.items()} == pins
        together |= pins


@pytest.fixture(scope="module")
def environments(repository: Path) -> dict[str, Pins]:
    """What each rule environment pins, in its YAML file and in the script run after it."""
    found = {}
    for name in ENVIRONMENTS:
        content = yaml.safe_load((repository / "envs" / f"{name}.yaml").read_text())
        pip = next(part["pip"] for part in content["dependencies"] if isinstance(part, dict))
        script = repository / "envs" / f"{name}.post-deploy.sh"
        later = re.findall(r"\S+==\S+", script.read_text()) if script.is_file() else []
        found[name] = pins_in([*pip, *later])
    assert set(ENVIRONMENTS) == {path.stem for path in (repository / "envs").glob("*.yaml")}
    return found


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_environments_of_rules_agree_with_the_requirements(
    environments: dict[str, Pins], pinned: Pins, name: str
) -> None:
    assert environments[name].items() <= pinned.items()


def test_no_package_is_pinned_in_two_requirements_files(requirements: dict[str, Pins]) -> None:
    names = [name for pins in requirements.values() for name in pins]

    assert len(names) == len(set(names))


def is_installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def test_what_is_installed_is_what_is_pinned(requirements: dict[str, Pins], pinned: Pins) -> None:
    optional = requirements["requirements-cluster.txt"]
    different = {
        name: f"pinned {pin}, installed {found}"
        for name, pin in pinned.items()
        if name not in optional or is_installed(name)
        # A build for the CPU says so behind a plus.
        if (found := version(name)).split("+")[0] != pin
    }

    assert different == {}


def needed_by(name: str) -> set[str]:
    """What a package asks for here, without extras."""
    try:
        wanted = [Requirement(text) for text in requires(name) or []]
    except PackageNotFoundError:
        return set()
    return {normal(w.name) for w in wanted if not w.marker or w.marker.evaluate({"extra": ""})}


def test_all_that_a_pinned_package_needs_is_pinned_too(requirements: dict[str, Pins]) -> None:
    """But for what mmpose asks for and never calls: its file is installed without dependencies.

    Torch itself pins the CUDA packages that its builds for GPUs need.
    """
    files = ("requirements.txt", "requirements-dev.txt", "requirements-cluster.txt")
    pins = {name: pin for file in files for name, pin in requirements[file].items()}

    missing = {
        f"{name} needs {needed}"
        for name in pins
        for needed in needed_by(name) - pins.keys()
        if not (name == "torch" and needed.startswith(("nvidia-", "cuda-", "triton")))
    }

    assert missing == set()


def imported(files: Iterable[Path], everywhere: bool) -> dict[str, Path]:
    """The packages that files import and that are neither Python's nor this project's.

    Args:
        files: Python files.
        everywhere: inside functions, too; otherwise what loading the file imports.
    """
    found = {}
    for file in files:
        for node in _nodes(ast.parse(file.read_text(encoding="utf-8")), everywhere):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for name in names:
                found[name.split(".")[0]] = file
    root = Path(__file__).parents[2]
    scripts = [p for room in ("workflow_scripts", "tools") for p in (root / room).glob("*.py")]
    own = {"hrnetpose", *(n for path in (*files, *scripts) for n in (path.stem, path.parent.name))}
    return {k: v for k, v in found.items() if k not in sys.stdlib_module_names and k not in own}


def _nodes(tree: ast.AST, everywhere: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        yield node
        if everywhere or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _nodes(node, everywhere)


INSTALLED = packages_distributions()


def distributions(module: str) -> set[str]:
    """The packages that a module may come from."""
    return {normal(name) for name in INSTALLED.get(module, [module])}


@pytest.mark.parametrize("folder", ["workflow_scripts", "tools", "tests"])
def test_every_package_that_is_imported_is_pinned(
    repository: Path, pinned: Pins, for_gpus: dict[str, Pins], folder: str
) -> None:
    modules = imported(sorted((repository / folder).rglob("*.py")), everywhere=True)
    pinned = {name: pin for pins in (*for_gpus.values(), pinned) for name, pin in pins.items()}

    unpinned = {
        module: str(file)
        for module, file in modules.items()
        if not distributions(module) & pinned.keys()
    }
    assert "numpy" in modules
    assert unpinned == {}


def test_the_project_refers_to_the_pins_and_has_one_version(repository: Path) -> None:
    content = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    dynamic = content["tool"]["setuptools"]["dynamic"]
    citation = yaml.safe_load((repository / "CITATION.cff").read_text(encoding="utf-8"))

    for named in (dynamic["dependencies"], *dynamic["optional-dependencies"].values()):
        assert pins_in((repository / named["file"]).read_text(encoding="utf-8").splitlines())
    assert set(content["project"]["dynamic"]) == set(dynamic)
    assert citation["version"] == VERSION


def test_hooks_before_a_commit_are_programs_of_the_environment(
    repository: Path, requirements: dict[str, Pins]
) -> None:
    hooks = yaml.safe_load((repository / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    programs = {
        script.name: normal(installed.name)
        for installed in distributions_installed()
        for script in installed.entry_points.select(group="console_scripts")
    }

    for repo in hooks["repos"]:
        assert repo["repo"] == "local"
        for hook in repo["hooks"]:
            program = hook["entry"].split()[0]
            assert hook["language"] == "system"
            assert programs.get(program, program) in requirements["requirements-dev.txt"]


def provided(pins: Pins, alone: Pins) -> set[str]:
    """Pinned packages and what comes with them, but for those installed without dependencies."""
    found: set[str] = set()
    waiting = list(pins)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += needed_by(name) if name not in alone else []
    return found


def rule_environments(repository: Path) -> dict[str, set[str]]:
    """The environments that each script's rule can run in."""
    found: dict[str, set[str]] = {}
    for file in (repository / "rules").glob("*.smk"):
        for rule in re.split(r"^rule ", file.read_text(), flags=re.MULTILINE)[1:]:
            script = re.search(r'(?:code|library)\("(\w+)(?:\.py)?"\)', rule)
            conda = re.search(r"conda:\s+(\S+)", rule)
            if script and conda:
                by_backend = conda[1] == "engine_environment"
                names = ENVIRONMENTS if by_backend else re.findall(r"envs/(\w+)\.yaml", conda[1])
                found.setdefault(script[1], set()).update(names)
    return found


def test_each_stage_finds_what_it_imports_in_the_environment_of_its_rule(
    repository: Path, environments: dict[str, Pins], requirements: dict[str, Pins]
) -> None:
    alone = requirements["requirements-mmpose.txt"]
    there = {name: provided(pins, alone) for name, pins in environments.items()}
    scripts = repository / "workflow_scripts"
    stages = rule_environments(repository)
    assert len(stages) > 8

    missing = {
        f"{script} in {name}.yaml: {module}, from {file.relative_to(repository)}"
        for script, names in stages.items()
        for name in names
        for module, file in loaded(scripts, script).items()
        if not distributions(module) & there[name]
    }

    assert missing == set()


def loaded(scripts: Path, script: str) -> dict[str, Path]:
    """What loading a script imports: its own file and, one after another, those it loads."""
    found: dict[str, Path] = {}
    waiting, seen = [scripts / f"{script}.py"], set()
    while waiting:
        file = waiting.pop()
        if file.is_file() and file not in seen:
            seen.add(file)
            found |= imported([file], everywhere=False)
            for node in _nodes(ast.parse(file.read_text(encoding="utf-8")), everywhere=False):
                if isinstance(node, ast.ImportFrom) and node.module:
                    room = scripts / node.module.replace(".", "/")
                    names = [f"{room}.py", room / "__init__.py"]
                    names += [room / f"{alias.name}.py" for alias in node.names]
                    names += [room / alias.name / "__init__.py" for alias in node.names]
                    waiting += map(Path, names)
    return found


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "pytorch"])
def test_each_backend_is_in_the_environment_of_its_rules(
    environments: dict[str, Pins], backend: str
) -> None:
    used = engines.backend(backend)
    name = "mmpose" if used.original else "engines"

    assert {normal(package) for package in used.packages} <= environments[name].keys()


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt_rtx"])
def test_the_file_that_a_backend_asks_to_install_has_what_it_needs(
    for_gpus: dict[str, Pins], backend: str
) -> None:
    used = engines.backend(backend)
    file = re.search(r"envs/(gpu-\S+\.txt)", used.install)
    assert file

    assert {*map(normal, used.packages), "pycuda"} <= for_gpus[file[1]].keys()


def test_auto_is_decided_once_for_all_processes_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSE_BACKEND_AUTO", "")  # put back at the end
    monkeypatch.delenv("POSE_BACKEND_AUTO")

    assert decide_auto(lambda name: "tensorrt") == "tensorrt"
    assert decide_auto(lambda name: "openvino") == "tensorrt"
