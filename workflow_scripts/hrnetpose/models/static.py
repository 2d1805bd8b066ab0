"""mmengine configs read without running them.

Assignments, updates, imports and inheritance are followed as mmengine would follow them.  A value
that only running the config could give is UNKNOWN.
"""

import ast
import importlib.util
import os
import re
from pathlib import Path
from typing import Any

from hrnetpose import stage
from hrnetpose.models.expressions import (
    UNKNOWN,
    Names,
    bind,
    compute,
    evaluate,
    has_item,
    is_key,
)
from hrnetpose.stage import StageError, shown


class _Inherited(dict[str, Any]):
    """A dictionary of a base: mmengine's, whose `update` merges nested dictionaries."""


def find_package(name: str) -> Path:
    """Return the folder of an installed package without importing it.

    Raises:
        StageError: it is not installed.
    """
    try:
        # The parents of a dotted name would be imported.
        package = importlib.util.find_spec(name) if name.isidentifier() else None
    except ValueError:  # __main__, for example
        package = None
    if package is None or not package.submodule_search_locations:
        raise StageError(f"{stage.name(name)} is not installed, so its configs cannot be looked up")
    return Path(package.submodule_search_locations[0])


def parse(text: str, path: Path) -> ast.Module:
    """Parse Python.

    Raises:
        StageError: it is none; the message names `path`.
    """
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _not_a_config(path, error) from error


def _not_a_config(path: Path, error: BaseException) -> StageError:
    reason = "it is nested too deeply" if isinstance(error, RecursionError | MemoryError) else error
    return StageError(f"{path}: not a Python config file: {reason}")


def merge(new: Any, old: Any) -> Any:
    """Merge as mmengine does: dictionaries deeply, unless the new one has `_delete_`."""
    if not isinstance(new, dict):
        return new
    new = dict(new)
    if new.pop("_delete_", False) is not False or not isinstance(old, dict):
        return new
    return {**old, **{key: merge(value, old.get(key)) for key, value in new.items()}}


class Reader:
    """Reads a config and its bases.

    Attributes:
        files: the files read, in reading order.
        imports: the modules that they import.
    """

    def __init__(self) -> None:
        self.files: list[Path] = []
        self.imports: list[str] = []
        self._open: list[Path] = []

    def read(self, path: Path) -> dict[str, Any]:
        """Return the values of a config's names, inherited ones included.

        Raises:
            StageError: it is not Python, inherits from itself or from a missing file.
        """
        if path in self._open:
            raise StageError(f"{path}: it inherits from itself")
        if path not in self.files:
            self.files.append(path)
        self._open.append(path)
        try:
            text = _substitute(path.read_text(encoding="utf-8"), path)
            return self.run(parse(text, path).body, path)
        except (OSError, ValueError, RecursionError) as error:
            raise _not_a_config(path, error) from error
        finally:
            self._open.pop()

    def run(self, body: list[ast.stmt], path: Path) -> dict[str, Any]:
        """Interpret statements; return the values of their names, merged into the bases'."""
        base: dict[str, Any] = {}
        for node in body:
            if isinstance(node, ast.Assign) and _is_name(node.targets[0], "_base_"):
                base = self._read_bases(evaluate(node.value, {}), path)
        names: Names = {"__file__": str(path.absolute()), "_base_": _copy_inherited(base)}
        for node in body:
            self._interpret(node, names, path)
        own = {k: v for k, v in names.items() if not k.startswith("__") and k != "_base_"}
        return merge(own, base) if base else own

    def _read_bases(self, bases: Any, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for base in bases if isinstance(bases, list) else [bases]:
            if isinstance(base, str):
                values |= self.read(_find_base(base, path))
        return values

    def _interpret(self, node: ast.stmt, names: Names, path: Path) -> None:
        """Interpret one statement; `names` are changed."""
        match node:
            case ast.Assign(targets=[ast.Name(id="_base_")]):
                pass  # in the rest of the file the name stands for what is inherited
            case ast.Assign(targets=targets, value=value):
                result = evaluate(value, names)
                for target in targets:
                    _assign(target, result, names)
            case ast.AnnAssign(target=target, value=value) if value is not None:
                _assign(target, evaluate(value, names), names)
            case ast.AugAssign(target=ast.Name(id=name), op=op, value=value):
                names[name] = compute(op, names.get(name), evaluate(value, names))
            case ast.With(items=[ast.withitem(context_expr=ast.Call(func=called))], body=body) if (
                _is_name(called, "read_base")
            ):
                for line in body:
                    if isinstance(line, ast.ImportFrom):
                        names |= self._inherit(line, path)
            case ast.Import(names=aliases):
                for alias in aliases:
                    self.imports.append(alias.name)
                    first = alias.name.partition(".")[0]
                    names[alias.asname or first] = alias.name if alias.asname else first
            case ast.ImportFrom(module=str(module), names=aliases, level=0):
                self.imports.append(module)
                for alias in aliases:
                    names[alias.asname or alias.name] = f"{module}.{alias.name}"
            case ast.Expr(
                value=ast.Call(
                    func=ast.Attribute(value=target, attr=("update" | "merge") as method)
                ) as call
            ):
                _update(evaluate(target, names), call, method, names)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names[name] = UNKNOWN
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                pass
            case ast.Expr(value=ast.Call(func=called)) if _is_name(called, "print"):
                pass
            case _:  # it may change every name in it
                names |= {n.id: UNKNOWN for n in ast.walk(node) if isinstance(n, ast.Name)}

    def _inherit(self, node: ast.ImportFrom, path: Path) -> Names:
        """Return the names that an import under `read_base()` brings."""
        module = (node.module or "").split(".")
        if node.level:
            folder = path.parent / "/".join([".", *[".."] * (node.level - 1)])
        else:
            folder, module = find_package(module[0]), module[1:]
        file = Path(os.path.normpath(folder.joinpath(*module))).with_suffix(".py")
        if not os.path.isfile(file):
            raise StageError(
                f"{path}: read_base() imports {stage.name(str(file))}; there is no such file"
            )
        values = _copy_inherited(self.read(file))
        if node.names[0].name == "*":
            return values
        return {alias.asname or alias.name: values.get(alias.name, UNKNOWN) for alias in node.names}


def _find_base(base: str, path: Path) -> Path:
    package, scoped, name = base.rpartition("::")
    try:
        folder = find_package(package) / ".mim" / "configs" if scoped else path.parent
    except StageError as error:
        raise StageError(f"{path}: _base_ names {shown(base, 300)}, but {error}") from error
    file = Path(os.path.normpath(folder / name))
    if scoped and not os.path.isfile(file):
        file = file.with_name(f"{file.name}.py")
    if not os.path.isfile(file):  # Path.is_file raises an error for a name that is too long
        raise StageError(
            f"{path}: _base_ names {shown(base, 300)}; there is no such file "
            f"({stage.name(str(file))})"
        )
    return file


def _assign(target: ast.expr, value: Any, names: Names) -> None:
    match target:
        case ast.Subscript(value=inner, slice=key):
            _set_item(evaluate(inner, names), evaluate(key, names), value)
        case ast.Attribute(value=inner, attr=name):
            _set_item(evaluate(inner, names), name, value)
        case _:
            names |= bind(target, value)


def _set_item(section: Any, key: Any, value: Any) -> None:
    if has_item(section, key) or (isinstance(section, dict) and is_key(key)):
        section[key] = value


def _update(target: Any, call: ast.Call, method: str, names: Names) -> None:
    """Interpret `target.update(...)` or `target.merge(...)`."""
    if not isinstance(target, dict):
        return
    new = evaluate(ast.Call(ast.Name("dict"), call.args, call.keywords), names)
    if not isinstance(new, dict):
        new = dict.fromkeys(target, UNKNOWN)
    deep = method == "merge" or isinstance(target, _Inherited)
    target |= _copy_inherited(merge(new, target)) if deep else new


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _copy_inherited(values: Any) -> Any:
    """Copy the values of a base, so that changes do not reach it."""
    if isinstance(values, dict):
        return _Inherited({key: _copy_inherited(value) for key, value in values.items()})
    return [_copy_inherited(value) for value in values] if isinstance(values, list) else values


def _substitute(text: str, path: Path) -> str:
    """Substitute what mmengine does in a config's text: parts of its path, the environment."""
    file = path.absolute()
    variables = {
        "fileDirname": str(file.parent), "fileBasename": file.name,
        "fileBasenameNoExtension": file.stem, "fileExtname": file.suffix,
    }  # fmt: skip
    for name, value in variables.items():
        text = re.sub(r"\{\{\s*" + name + r"\s*\}\}", value.replace("\\", r"\\"), text)
    return re.sub(
        r"\{\{\s*\$(\w+)\s*:\s*(.*?)\s*\}\}",
        lambda match: os.environ.get(match[1], match[2]),
        text,
    )
