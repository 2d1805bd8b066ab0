"""The files that a configuration is written in: what YAML itself would pass over in silence."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from hrnetpose.config import ConfigError


def check(path: Path) -> None:
    """Refuses a file of the configuration that is no YAML or JSON, or in which a key stands twice.

    YAML would take the last one, without a word.

    Raises:
        ConfigError: with one line for the first problem.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: byte {error.start} is not UTF-8; save the file in that encoding"
        ) from error
    try:
        content = json.loads(text, object_pairs_hook=lambda pairs: _once(path, pairs))
    except (ValueError, RecursionError):
        content = _yaml(path, text)
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path}: expected keys with values, such as `model: sample`")


def _once(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ConfigError(f"{path}: {key!r} stands twice in one section; leave one of them")
        found[key] = value
    return found


def _yaml(path: Path, text: str) -> Any:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ConfigError(f"{path}: {line}no YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: no YAML, or nested too deeply") from error
    waiting: list[tuple[yaml.Node | None, str]] = [(root, "")]
    seen: set[int] = set()  # anchors
    while waiting:
        node, key = waiting.pop()
        if id(node) in seen or not isinstance(node, yaml.CollectionNode):
            continue
        seen.add(id(node))
        lines: dict[str, int] = {}
        for item in node.value:
            if isinstance(node, yaml.SequenceNode):
                waiting.append((item, key))
                continue
            name, line = str(item[0].value), item[0].start_mark.line + 1
            inner = f"{key}.{name}" if key else name
            if name in lines and name != "<<":
                raise ConfigError(
                    f"{path}: {inner} stands in line {lines[name]} and in line {line}; leave one"
                )
            lines[name] = line
            waiting.append((item[1], inner))
    return {} if isinstance(root, yaml.MappingNode) else None
