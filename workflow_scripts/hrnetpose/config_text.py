"""The files that a configuration is written in, and the paths that are written in them.

    python -m hrnetpose.config_text config.yaml configs/coco_val2017.yaml

prints the folder of its results.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from hrnetpose import files, paths, stage
from hrnetpose.config import ConfigError, Described
from hrnetpose.layout import WRITTEN, Layout

QUESTION = "?"
"""A value that `python -m hrnetpose.init` could not tell."""
LOCATED = {
    "models": ("config", "weights", "onnx"),
    "datasets": ("images", "annotations", "detections", "detector", "calibration"),
}
"""The keys of a section under which there are paths."""
OF_WEIGHTS = ("sha256", "size", *Described.model_fields)
"""The keys of a model that tell of its file of weights."""


def base_files(root: Path, is_module: bool) -> list[Path]:
    """Return the files that what a user gives goes over, the first one first.

    It is the workflow's own, and the working directory's over it; to a module of another workflow
    that one's configuration is none.

    Args:
        root: the folder of the Snakefile.
        is_module: the workflow is a module of another one.
    """
    own, here = root / "config.yaml", Path("config.yaml")
    is_given = not is_module and here.is_file() and not own.samefile(here)
    return [own, here] if is_given else [own]


def forget_replaced(known: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Remove what a configuration says of weights that another one replaces.

    Args:
        known: is changed; as YAML gives it, as the other.
        given: goes over it.
    """
    old, new = known.get("models"), given.get("models")
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return
    for name in old.keys() & new.keys():
        before, after = old[name], new[name]
        if not (isinstance(before, dict) and isinstance(after, Mapping)):
            continue
        if any(key in after and after[key] != before.get(key) for key in ("weights", "onnx")):
            for key in OF_WEIGHTS:
                before.pop(key, None)


def locate(raw: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Return a configuration whose relative paths lead from the working directory.

    A path that is not there is looked up in the workflow's own folder; where files are written, it
    is not.

    Args:
        raw: as YAML gives it.
        root: the folder of the Snakefile.

    Raises:
        ConfigError: a path has braces in it.
    """

    def find(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: find(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [find(inner) for inner in value]
        if not isinstance(value, str) or files.is_url(value) or value.startswith(WRITTEN):
            return value
        if paths.has_wildcard(value):
            raise ConfigError(
                f"{stage.name(value)}: Snakemake takes braces in a path for a wildcard; rename "
                "what has them, or make a link to it"
            )
        is_here = paths.exists(value) or not paths.exists(root / value)
        return value if is_here else str(root / value)

    found = dict(raw)
    if "baseline" in found:
        found["baseline"] = find(found["baseline"])
    for section, keys in LOCATED.items():
        entries = raw.get(section)
        if isinstance(entries, Mapping):
            found[section] = {
                name: {key: find(value) if key in keys else value for key, value in entry.items()}
                if isinstance(entry, Mapping)
                else entry
                for name, entry in entries.items()
            }
    return found


def check(*given: str | Path) -> None:
    """Refuse files that are no YAML or JSON, or in which a key stands twice.

    YAML would take the last one, without a word.

    Raises:
        ConfigError: with one line for the first problem.
    """
    for file in given:
        _check(Path(file))


def _check(path: Path) -> None:
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
        if isinstance(node, yaml.ScalarNode) and node.value == QUESTION and key:
            raise ConfigError(
                f"{path}: line {node.start_mark.line + 1}: {key}: a question that is not answered "
                "yet; the comment there says what is asked"
            )
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


def _load(text: str) -> Any:
    """Read JSON, or else YAML, as Snakemake does: tabs are white space in JSON, and not in YAML."""
    try:
        return json.loads(text)
    except ValueError:
        return yaml.safe_load(text)


def find_results(*given: str | Path) -> str:
    """Return the folder of the results of a run: the last file that has `run` names it."""
    contents = [_load(Path(file).read_text(encoding="utf-8")) for file in given]
    runs = [content["run"] for content in contents if "run" in (content or {})]
    return Layout(runs[-1] if runs else None, "").results


if __name__ == "__main__":
    print(find_results(*sys.argv[1:]))
