"""Which files of the project a stage is made from: its script, and all that it imports."""

import ast
from functools import cache
from pathlib import Path


def imported_files(scripts: Path, script: str, *modules: str) -> list[str]:
    """Return a script, then all files of the library that it imports, directly or not.

    As inputs of its rule they make a stage stale when its code changes, and no other.

    Args:
        scripts: the folder of the scripts and the library.
        script: name of the script.
        modules: modules that it imports by name at run time, such as a backend.
    """
    first = scripts / f"{script}.py"
    found = _closure(first, scripts)
    for module in modules:
        found = found | _closure(_module(scripts, module), scripts)
    return [str(first), *sorted(str(file) for file in found - {first})]


@cache
def _closure(start: Path | None, scripts: Path) -> frozenset[Path]:
    """A file and all that it imports, imports inside functions included."""
    found: set[Path] = set()
    waiting = [start] if start else []
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += _imported_by(file, scripts)
    return frozenset(found)


@cache
def _imported_by(file: Path, scripts: Path) -> list[Path]:
    modules: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    # Importing a module imports the packages that it is in.
    modules += [module.rpartition(".")[0] for module in modules]
    return [path for module in modules if (path := _module(scripts, module))]


@cache
def _module(scripts: Path, module: str) -> Path | None:
    if module.partition(".")[0] != "hrnetpose":
        return None
    path = scripts.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None
