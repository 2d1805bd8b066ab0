"""What stands in a config of mmengine literally: read without running it.

Names, dictionaries, inheritance and simple arithmetic are followed as mmengine would follow them;
whatever is computed otherwise is unknown, and so is what depends on it.
"""

import ast
import importlib.util
import os
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

from hrnetpose import stage
from hrnetpose.stage import StageError, shown

LONGEST = 10_000
"""Entries of a list that is repeated or comes from a loop; no config needs more."""


class _Unknown:
    """The value of what cannot be known without running the config."""

    def __repr__(self) -> str:
        return "unknown"

    def __bool__(self) -> bool:
        return False


UNKNOWN: Final = _Unknown()


class _Inherited(dict[str, Any]):
    """A dictionary from another config: mmengine's, whose `update` merges what is inside, too."""


def package_folder(name: str) -> Path:
    """Returns the folder of an installed package, which is not imported.

    Raises:
        StageError: it is not installed.
    """
    try:
        # Of a dotted name the parents would be imported.
        package = importlib.util.find_spec(name) if name.isidentifier() else None
    except ValueError:  # __main__, for example
        package = None
    if package is None or not package.submodule_search_locations:
        raise StageError(f"{stage.name(name)} is not installed, so its configs cannot be looked up")
    return Path(package.submodule_search_locations[0])


def parse(text: str, path: Path) -> ast.Module:
    """Parses Python.

    Raises:
        StageError: it is none; the message names `path`.
    """
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _no_config(path, error) from error


def _no_config(path: Path, error: BaseException) -> StageError:
    reason = "it is nested too deeply" if isinstance(error, RecursionError | MemoryError) else error
    return StageError(f"{path}: not a Python config file: {reason}")


def merged(new: Any, old: Any) -> Any:
    """Merges as mmengine does: dictionaries deeply, unless `_delete_` stands in the new one."""
    if not isinstance(new, dict):
        return new
    new = dict(new)
    if new.pop("_delete_", False) is not False or not isinstance(old, dict):
        return new
    return {**old, **{key: merged(value, old.get(key)) for key, value in new.items()}}


class Reader:
    """Follows a config and what it inherits from.

    Attributes:
        found: the files read, in the order in which they are met.
        imported: the modules that they import.
    """

    def __init__(self) -> None:
        self.found: list[Path] = []
        self.imported: list[str] = []
        self._open: list[Path] = []

    def read(self, path: Path) -> dict[str, Any]:
        """Returns the values of a config's names, those it inherits included.

        Raises:
            StageError: it is no Python, inherits from itself or from what is not there.
        """
        if path in self._open:
            raise StageError(f"{path}: it inherits from itself")
        if path not in self.found:
            self.found.append(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise _no_config(path, error) from error
        self._open.append(path)
        try:
            return self.run(parse(_substituted(text, path), path).body, path)
        except RecursionError as error:
            raise _no_config(path, error) from error
        finally:
            self._open.pop()

    def run(self, body: list[ast.stmt], path: Path) -> dict[str, Any]:
        """Follows statements; returns the values of their names, merged over the bases'."""
        names: dict[str, Any] = {"__file__": str(path.absolute())}
        base: dict[str, Any] = {}
        for node in body:
            if isinstance(node, ast.Assign) and _is_name(node.targets[0], "_base_"):
                base = self._bases(self.value(node.value, {}), path)
        _Statements(self, {**names, "_base_": _inherited(base)}, path).run(body, names)
        own = {k: v for k, v in names.items() if not k.startswith("__") and k != "_base_"}
        return merged(own, base) if base else own

    def _bases(self, bases: Any, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for base in bases if isinstance(bases, list) else [bases]:
            if isinstance(base, str):
                found |= self.read(self._base_file(base, path))
        return found

    def _base_file(self, base: str, path: Path) -> Path:
        package, scoped, name = base.rpartition("::")
        try:
            folder = package_folder(package) / ".mim" / "configs" if scoped else path.parent
        except StageError as error:
            raise StageError(f"{path}: _base_ names {shown(base, 300)}, but {error}") from error
        file = Path(os.path.normpath(folder / name))
        if scoped and not os.path.isfile(file):
            file = file.with_name(f"{file.name}.py")
        # Unlike Path.is_file, it is false of what is too long for a path.
        if not os.path.isfile(file):
            raise StageError(
                f"{path}: _base_ names {shown(base, 300)}; there is no such file "
                f"({stage.name(str(file))})"
            )
        return file

    def inherit(self, node: ast.ImportFrom, path: Path) -> dict[str, Any]:
        """Returns the names that an import under `read_base()` brings."""
        module = (node.module or "").split(".")
        if node.level:
            folder = Path(
                os.path.normpath(path.parent / "/".join([".", *[".."] * (node.level - 1)]))
            )
        else:
            folder, module = package_folder(module[0]), module[1:]
        file = folder.joinpath(*module).with_suffix(".py")
        if not os.path.isfile(file):
            raise StageError(
                f"{path}: read_base() imports {stage.name(str(file))}; there is no such file"
            )
        values = _inherited(self.read(file))
        if node.names[0].name == "*":
            return values
        return {alias.asname or alias.name: values.get(alias.name, UNKNOWN) for alias in node.names}

    def value(self, node: ast.expr, names: dict[str, Any]) -> Any:
        """Evaluates an expression; what depends on anything but literals and names is unknown."""
        match node:
            case ast.Constant(value=value):
                return UNKNOWN if isinstance(value, str) and "{{" in value else value
            case ast.Name(id=name):
                return names.get(name, UNKNOWN)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return self._list(items, names)
            case ast.Set(elts=[ast.Set(elts=[inner])]):  # mmengine's {{_base_.name}}
                return deepcopy(self.value(inner, names))
            case ast.Dict(keys=keys, values=values):
                pairs = zip(keys, values, strict=True)
                return self._dict([(k and self.value(k, names), v) for k, v in pairs], names)
            case ast.Subscript(value=inner, slice=key):
                return _item(self.value(inner, names), self.value(key, names))
            case ast.Attribute(value=inner, attr=name):
                value = self.value(inner, names)
                # Of an imported name it is the rest of the path.
                return f"{value}.{name}" if isinstance(value, str) else _item(value, name)
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                value = self.value(inner, names)
                return -value if isinstance(value, int | float) else UNKNOWN
            case ast.BinOp(left=left, op=op, right=right):
                return _computed(op, self.value(left, names), self.value(right, names))
            case ast.JoinedStr(values=parts):
                return self._text(parts, names)
            case ast.ListComp(elt=item, generators=[loop]):
                return _every(self.value(item, inner) for inner in self._loop(loop, names))
            case ast.DictComp(key=key, value=value, generators=[loop]):
                turns = list(self._loop(loop, names))
                found = {self._key(key, turn): self.value(value, turn) for turn in turns}
                return found if found and UNKNOWN not in found else UNKNOWN
            case ast.Call(func=function, args=arguments, keywords=keywords):
                return self._call(function, arguments, keywords, names)
            case _:
                return UNKNOWN

    def _key(self, node: ast.expr, names: dict[str, Any]) -> Any:
        key = self.value(node, names)
        return key if _is_key(key) else UNKNOWN

    def _list(self, items: list[ast.expr], names: dict[str, Any]) -> Any:
        found: list[Any] = []
        for item in items:
            if isinstance(item, ast.Starred):
                inner = self.value(item.value, names)
                if not isinstance(inner, list):
                    return UNKNOWN
                found += inner
            else:
                found.append(self.value(item, names))
        return found

    def _dict(self, pairs: list[tuple[Any, ast.expr]], names: dict[str, Any]) -> Any:
        found: dict[Any, Any] = {}
        for key, node in pairs:
            value = self.value(node, names)
            if key is None:  # **value
                if not isinstance(value, dict):
                    return UNKNOWN
                found |= value
            elif _is_key(key):
                found[key] = value
            else:
                return UNKNOWN
        return found

    def _text(self, parts: list[ast.expr], names: dict[str, Any]) -> Any:
        found = []
        for part in parts:
            plain = isinstance(part, ast.FormattedValue) and part.format_spec is None
            node = part.value if isinstance(part, ast.FormattedValue) and plain else part
            value = self.value(node, names)
            if not isinstance(value, str | int | float):
                return UNKNOWN
            found.append(str(value))
        return "".join(found)

    def _loop(self, loop: ast.comprehension, names: dict[str, Any]) -> Iterator[dict[str, Any]]:
        over = self.value(loop.iter, names)
        if not loop.ifs and isinstance(over, list):
            for value in over:
                yield {**names, **_unpacked(loop.target, value)}

    def _call(
        self,
        function: ast.expr,
        arguments: list[ast.expr],
        keywords: list[ast.keyword],
        names: dict[str, Any],
    ) -> Any:
        name = function.id if isinstance(function, ast.Name) else ""
        values = [self.value(argument, names) for argument in arguments]
        if name == "dict" and name not in names:
            given = self._dict([(item.arg, item.value) for item in keywords], names)
            first = values[0] if values else {}
            known = isinstance(first, dict) and isinstance(given, dict)
            return {**first, **given} if known else UNKNOWN
        if name in ("list", "tuple") and len(values) == 1 and isinstance(values[0], list):
            return list(values[0])
        if name == "range" and values and all(type(value) is int for value in values):
            counted = range(*values) if len(values) <= 3 and 0 not in values[2:] else range(0)
            return list(counted) if len(counted) <= LONGEST else UNKNOWN
        path = _PATHS.get(self.value(function, names) if not name else names.get(name))
        if path and values and all(isinstance(value, str) for value in values):
            return path(*values)
        return UNKNOWN


_PATHS: dict[Any, Any] = {
    "os.path.join": os.path.join,
    "os.path.dirname": lambda path, *_: os.path.dirname(path),
    "os.path.abspath": lambda path, *_: os.path.abspath(path),
}


class _Statements:
    """Follows the statements of one file."""

    def __init__(self, reader: Reader, given: dict[str, Any], path: Path) -> None:
        self._reader = reader
        self._given = given
        self._path = path

    def run(self, body: list[ast.stmt], names: dict[str, Any]) -> None:
        """Follows statements; `names` is what they assign."""
        for node in body:
            self._follow(node, names)

    def _value(self, node: ast.expr, names: dict[str, Any]) -> Any:
        return self._reader.value(node, {**self._given, **names})

    def _follow(self, node: ast.stmt, names: dict[str, Any]) -> None:
        match node:
            case ast.Assign(targets=[ast.Name(id="_base_")]):
                pass  # elsewhere in the file it stands for what is inherited
            case ast.Assign(targets=targets, value=value):
                found = self._value(value, names)
                for target in targets:
                    self._assign(target, found, names)
            case ast.AnnAssign(target=target, value=value) if value is not None:
                self._assign(target, self._value(value, names), names)
            case ast.AugAssign(target=ast.Name(id=name), op=op, value=value):
                names[name] = _computed(op, names.get(name), self._value(value, names))
            case ast.With(items=[ast.withitem(context_expr=ast.Call(func=called))], body=body) if (
                _is_name(called, "read_base")
            ):
                for line in body:
                    if isinstance(line, ast.ImportFrom):
                        names |= self._reader.inherit(line, self._path)
            case ast.Import(names=aliases):
                for alias in aliases:
                    self._reader.imported.append(alias.name)
                    first = alias.name.partition(".")[0]
                    names[alias.asname or first] = alias.name if alias.asname else first
            case ast.ImportFrom(module=str(module), names=aliases, level=0):
                self._reader.imported.append(module)
                for alias in aliases:
                    names[alias.asname or alias.name] = f"{module}.{alias.name}"
            case ast.Expr(
                value=ast.Call(func=ast.Attribute(value=target, attr=("update" | "merge") as how))
            ):
                self._update(node.value, self._value(target, names), how, names)  # type: ignore[arg-type]
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names[name] = UNKNOWN
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                pass
            case ast.Expr(value=ast.Call(func=called)) if _is_name(called, "print"):
                pass
            case _:
                # Whatever it does, it does it to names that stand in it.
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Name):
                        names[inner.id] = UNKNOWN

    def _assign(self, target: ast.expr, value: Any, names: dict[str, Any]) -> None:
        match target:
            case ast.Name() | ast.Tuple() | ast.List():
                names |= _unpacked(target, value)
            case ast.Subscript(value=inner, slice=key):
                _put(self._value(inner, names), self._value(key, names), value)
            case ast.Attribute(value=inner, attr=key):
                _put(self._value(inner, names), key, value)

    def _update(self, call: ast.Call, target: Any, how: str, names: dict[str, Any]) -> None:
        if not isinstance(target, dict):
            return
        new = self._value(ast.Call(ast.Name("dict"), call.args, call.keywords), names)
        if not isinstance(new, dict):
            new = dict.fromkeys(target, UNKNOWN)
        deep = how == "merge" or isinstance(target, _Inherited)
        target |= _inherited(merged(new, target)) if deep else new


def _unpacked(target: ast.expr, value: Any) -> dict[str, Any]:
    """Returns what an assignment to a name, or to names in brackets, gives them."""
    match target:
        case ast.Name(id=name):
            return {name: value}
        case ast.Tuple(elts=targets) | ast.List(elts=targets):
            fits = isinstance(value, list) and len(value) == len(targets)
            parts = value if fits else [UNKNOWN] * len(targets)
            return {
                name: part
                for inner, given in zip(targets, parts, strict=True)
                for name, part in _unpacked(inner, given).items()
            }
        case _:
            return {}


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _inherited(values: Any) -> Any:
    """Copies values of another config, so that changes here stay here."""
    if isinstance(values, dict):
        return _Inherited({key: _inherited(value) for key, value in values.items()})
    return [_inherited(value) for value in values] if isinstance(values, list) else values


def _is_key(value: Any) -> bool:
    return isinstance(value, str | int | float | bool | None)


def _item(value: Any, key: Any) -> Any:
    if isinstance(value, dict) and _is_key(key):
        return value.get(key, UNKNOWN)
    fits = isinstance(value, list) and type(key) is int and -len(value) <= key < len(value)
    return value[key] if fits else UNKNOWN


def _put(section: Any, key: Any, value: Any) -> None:
    fits = isinstance(section, list) and type(key) is int and -len(section) <= key < len(section)
    if fits or (isinstance(section, dict) and _is_key(key)):
        section[key] = value


def _every(values: Iterator[Any]) -> Any:
    found = list(values)
    return found or UNKNOWN


def _computed(operator: ast.operator, left: Any, right: Any) -> Any:
    """Adds, or repeats a list; numbers of a config are computed with `+ - * / //`."""
    numbers = isinstance(left, int | float) and isinstance(right, int | float)
    match operator:
        case ast.Add() if numbers or (type(left) is type(right) and isinstance(left, str | list)):
            return left + right
        case ast.Sub() if numbers:
            return left - right
        case ast.Mult() if numbers:
            return left * right if max(abs(left), abs(right)) < 1e9 else UNKNOWN
        case ast.Mult() if isinstance(left, list) and type(right) is int:
            return left * right if len(left) * right <= LONGEST else UNKNOWN
        case ast.Div() if numbers and right:
            return left / right
        case ast.FloorDiv() if numbers and right:
            return left // right
        case _:
            return UNKNOWN


def _substituted(text: str, path: Path) -> str:
    """Puts in what mmengine puts into a config's text: names of its file, and the environment."""
    file = path.absolute()
    known = {
        "fileDirname": str(file.parent), "fileBasename": file.name,
        "fileBasenameNoExtension": file.stem, "fileExtname": file.suffix,
    }  # fmt: skip
    for name, value in known.items():
        text = re.sub(r"\{\{\s*" + name + r"\s*\}\}", value.replace("\\", r"\\"), text)
    return re.sub(
        r"\{\{\s*\$(\w+)\s*:\s*(.*?)\s*\}\}",
        lambda match: os.environ.get(match[1], match[2]),
        text,
    )
