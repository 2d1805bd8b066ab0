"""Python expressions of a config, evaluated without running anything.

Literals, names, subscripts, simple arithmetic, comprehensions, `dict(...)` and path functions are
understood.  Everything else is UNKNOWN, and so is what depends on it.
"""

import ast
import os
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any, Final

LONGEST = 10_000
"""Entries of a list or a text that is computed; no config needs more."""

Names = dict[str, Any]


class _Unknown:
    """The value of an expression that only running the config could give."""

    def __repr__(self) -> str:
        return "unknown"

    def __bool__(self) -> bool:
        return False

    def __deepcopy__(self, memo: object) -> "_Unknown":
        return self


UNKNOWN: Final = _Unknown()

_PATH_FUNCTIONS: dict[Any, Callable[..., str]] = {
    "os.path.join": os.path.join,
    "os.path.dirname": lambda path, *_: os.path.dirname(path),
    "os.path.abspath": lambda path, *_: os.path.abspath(path),
}


def is_known(value: Any) -> bool:
    """Return True if a value and all that is inside it are known."""
    if isinstance(value, dict):
        return all(is_known(key) and is_known(item) for key, item in value.items())
    return all(map(is_known, value)) if isinstance(value, list) else value is not UNKNOWN


def evaluate(node: ast.expr, names: Names) -> Any:
    """Return the value of an expression, UNKNOWN if it cannot be known; tuples become lists."""
    match node:
        case ast.Constant(value=value):
            return UNKNOWN if isinstance(value, str) and "{{" in value else value
        case ast.Name(id=name):
            return names.get(name, UNKNOWN)
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return _evaluate_list(items, names)
        case ast.Set(elts=[ast.Set(elts=[inner])]):  # mmengine's {{_base_.name}}
            return deepcopy(evaluate(inner, names))
        case ast.Dict(keys=keys, values=values):
            nodes = zip(keys, values, strict=True)
            return _evaluate_dict([(k and evaluate(k, names), v) for k, v in nodes], names)
        case ast.Subscript(value=inner, slice=key):
            return _get_item(evaluate(inner, names), evaluate(key, names))
        case ast.Attribute(value=inner, attr=name):
            value = evaluate(inner, names)
            # An imported name is the text of its path.
            return f"{value}.{name}" if isinstance(value, str) else _get_item(value, name)
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            value = evaluate(inner, names)
            return -value if isinstance(value, int | float) else UNKNOWN
        case ast.BinOp(left=left, op=op, right=right):
            return compute(op, evaluate(left, names), evaluate(right, names))
        case ast.JoinedStr(values=parts):
            return _join(parts, names)
        case ast.ListComp(elt=item, generators=[loop]):
            return [evaluate(item, scope) for scope in _iterate(loop, names)] or UNKNOWN
        case ast.DictComp(key=key, value=value, generators=[loop]):
            pairs = [(evaluate(key, s), evaluate(value, s)) for s in _iterate(loop, names)]
            return dict(pairs) if pairs and all(is_key(k) for k, _ in pairs) else UNKNOWN
        case ast.Call(func=function, args=arguments, keywords=keywords):
            return _call(function, arguments, keywords, names)
        case _:
            return UNKNOWN


def compute(operator: ast.operator, left: Any, right: Any) -> Any:
    """Add texts and lists, repeat a list, or compute numbers with `+ - * / //`."""
    try:
        match operator, left, right:
            case (ast.Add(), str(), str()) | (ast.Add(), list(), list()):
                return left + right if len(left) + len(right) <= LONGEST else UNKNOWN
            case ast.Mult(), list(), int():
                return left * right if len(left) * right <= LONGEST else UNKNOWN
            case ast.Add(), int() | float(), int() | float():
                return left + right
            case ast.Sub(), int() | float(), int() | float():
                return left - right
            case ast.Mult(), int() | float(), int() | float():
                return left * right if max(abs(left), abs(right)) < 1e9 else UNKNOWN
            case ast.Div(), int() | float(), int() | float():
                return left / right
            case ast.FloorDiv(), int() | float(), int() | float():
                return left // right
    except ArithmeticError:
        pass
    return UNKNOWN


def bind(target: ast.expr, value: Any) -> Names:
    """Return what an assignment gives to a name, or to the names of a tuple."""
    match target:
        case ast.Name(id=name):
            return {name: value}
        case ast.Tuple(elts=targets) | ast.List(elts=targets):
            fits = isinstance(value, list) and len(value) == len(targets)
            parts = value if fits else [UNKNOWN] * len(targets)
            bound: Names = {}
            for inner, part in zip(targets, parts, strict=True):
                bound |= bind(inner, part)
            return bound
        case _:
            return {}


def is_key(value: Any) -> bool:
    """Return True for a value that may be a key of a dictionary."""
    return isinstance(value, str | int | float | bool | None)


def has_item(section: Any, key: Any) -> bool:
    """Return True if a list has an index."""
    return isinstance(section, list) and type(key) is int and -len(section) <= key < len(section)


def _get_item(value: Any, key: Any) -> Any:
    if isinstance(value, dict) and is_key(key):
        return value.get(key, UNKNOWN)
    return value[key] if has_item(value, key) else UNKNOWN


def _evaluate_list(items: list[ast.expr], names: Names) -> Any:
    values: list[Any] = []
    for item in items:
        if isinstance(item, ast.Starred):
            inner = evaluate(item.value, names)
            if not isinstance(inner, list):
                return UNKNOWN
            values += inner
        else:
            values.append(evaluate(item, names))
    return values


def _evaluate_dict(pairs: list[tuple[Any, ast.expr]], names: Names) -> Any:
    values: dict[Any, Any] = {}
    for key, node in pairs:
        value = evaluate(node, names)
        if key is None:  # **value
            if not isinstance(value, dict):
                return UNKNOWN
            values |= value
        elif is_key(key):
            values[key] = value
        else:
            return UNKNOWN
    return values


def _join(parts: list[ast.expr], names: Names) -> Any:
    """Evaluate an f-string without format specifications."""
    texts = []
    for part in parts:
        plain = isinstance(part, ast.FormattedValue) and part.format_spec is None
        node = part.value if isinstance(part, ast.FormattedValue) and plain else part
        value = evaluate(node, names)
        if not isinstance(value, str | int | float):
            return UNKNOWN
        texts.append(str(value))
    return "".join(texts)


def _iterate(loop: ast.comprehension, names: Names) -> Iterator[Names]:
    """Yield the names of each turn of a comprehension; none if they cannot be known."""
    values = evaluate(loop.iter, names)
    if not loop.ifs and isinstance(values, list):
        for value in values:
            yield {**names, **bind(loop.target, value)}


def _call(
    function: ast.expr, arguments: list[ast.expr], keywords: list[ast.keyword], names: Names
) -> Any:
    name = function.id if isinstance(function, ast.Name) else ""
    values = [evaluate(argument, names) for argument in arguments]
    if name == "dict" and name not in names:
        given = _evaluate_dict([(item.arg, item.value) for item in keywords], names)
        first = values[0] if values else {}
        known = isinstance(first, dict) and isinstance(given, dict)
        return {**first, **given} if known else UNKNOWN
    if name in ("list", "tuple") and len(values) == 1 and isinstance(values[0], list):
        return list(values[0])
    if name == "range" and values and all(type(value) is int for value in values):
        counted = range(*values) if len(values) <= 3 and 0 not in values[2:] else range(0)
        return list(counted) if len(counted) <= LONGEST else UNKNOWN
    path = _PATH_FUNCTIONS.get(names.get(name) if name else evaluate(function, names))
    if path and values and all(isinstance(value, str) for value in values):
        return path(*values)
    return UNKNOWN
