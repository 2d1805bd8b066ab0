"""mmpose config files, read without executing them and without importing mmpose.

Planning the workflow needs one fact of a model before any job runs: what crops it takes.
"""

import ast
import importlib.util
import os.path
from pathlib import Path
from typing import Any

from hrnetpose.artifacts import Crop
from hrnetpose.stage import StageError


def find(config: str) -> Path:
    """Returns the path of a config: a file, or a config of the mmpose package by name.

    Raises:
        StageError: there is no such file and mmpose has no config of that name.
    """
    path = Path(config)
    if path.is_file():
        return path
    if path.suffix == ".py" or "/" in config:
        raise StageError(f"{config}: there is no such mmpose config file")
    package = importlib.util.find_spec("mmpose")
    if package is None or not package.submodule_search_locations:
        raise StageError(f"{config}: mmpose is not installed, so its configs cannot be looked up")
    configs = Path(package.submodule_search_locations[0]) / ".mim" / "configs"
    found = sorted(configs.rglob(f"{config}.py"))
    if not found:
        raise StageError(
            f"{config}: mmpose has no config of that name; see the names under {configs}, "
            "or give a path"
        )
    return found[0]


def crop(config: Path) -> Crop:
    """Reads the crop geometry that a top-down config declares.

    Raises:
        StageError: the file is no Python or its `codec` names no literal `input_size`.
    """
    for path in with_bases(config):
        tree = _parse(path)
        match _assigned(tree, "codec"):
            case {"input_size": [int(width), int(height)]} | [
                *_,
                {"input_size": [int(width), int(height)]},
            ]:
                pass
            case _:
                continue
        pipeline = _assigned(tree, "val_pipeline") or []
        steps = {step["type"]: step for step in pipeline if step and "type" in step}
        return Crop(
            height=height,
            width=width,
            padding=steps.get("GetBBoxCenterScale", {}).get("padding", 1.25),
            udp=steps.get("TopdownAffine", {}).get("use_udp", False),
        )
    raise StageError(
        f"{config}: no `codec = dict(input_size=(width, height), ...)` was found in it; "
        "give the model's input as `crop: HEIGHTxWIDTH` in the configuration"
    )


def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as error:
        raise StageError(f"{path}: not a Python config file: {error}") from error


def with_bases(config: Path) -> list[Path]:
    """Returns the config, then the files it inherits from, as far as they are there.

    Raises:
        StageError: one of them is no Python.
    """
    found = [config]
    for path in found:  # grows on the way
        bases = _assigned(_parse(path), "_base_")
        for base in bases if isinstance(bases, list) else [bases]:
            if isinstance(base, str):
                file = Path(os.path.normpath(path.parent / base))
                if file.is_file() and file not in found:
                    found.append(file)
    return found


def _assigned(tree: ast.Module, name: str) -> Any:
    """Returns the value of the last top-level assignment to `name`, or None."""
    value = None
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == name for target in node.targets
        ):
            value = _literal(node.value)
    return value


def _literal(node: ast.expr) -> Any:
    """Evaluates literals and `dict(...)` calls; whatever else there is becomes None."""
    match node:
        case ast.Call(func=ast.Name(id="dict"), keywords=keywords):
            return {item.arg: _literal(item.value) for item in keywords if item.arg}
        case ast.Dict(keys=keys, values=values):
            return {_literal(k): _literal(v) for k, v in zip(keys, values, strict=True) if k}
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_literal(item) for item in items]
        case ast.ListComp(elt=item):
            return [_literal(item)]
        case _:
            try:
                return ast.literal_eval(node)
            except ValueError:
                return None
