"""The reference page and the JSON schema of the configuration, from the models that check it.

    python -m hrnetpose.reference

writes docs/configuration.md and config.schema.json; a test holds them together with the code.
"""

import inspect
import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from hrnetpose import engines
from hrnetpose.config import Config, Source

INTRODUCTION = """\
# Configuration

<!-- Made by `make docs` from workflow_scripts/hrnetpose/config.py; edits here are lost. -->

`config.yaml` is the default: the embedded sample. An overlay, given with `--configfile`, is merged
into it key by key, so it needs to give only what differs; a model, dataset or variant that is not
wanted is set to `null`. Weights in the place of those of `config.yaml` inherit neither hash nor
licence nor published figures. Everything is checked before any job starts.

The workflow's own `config.yaml` is always the base, also from another folder (`--snakefile`,
`--directory`) and as a module; a `config.yaml` in the working directory goes over it, overlays
over both. A relative path is looked up in the working directory, then in the workflow's folder;
outputs go to the working directory.

With `run: NAME` a run's results are at `results/NAME/`, its engines and predictions at
`build/engines/NAME/` and `build/predictions/NAME/`. Models, datasets and crops are shared by all
runs, so that switching between two configurations makes nothing again. `make clean RUN=NAME`
removes one.

As a module of another workflow, from a checkout:

    module pose:
        snakefile: "/path/to/checkout/Snakefile"
        config: config["pose"]

    use rule * from pose as pose_*

Two such modules stand side by side if they differ in `run`, model and dataset. `prefix` is not
taken: `run` keeps results apart.
"""


def page() -> str:
    """Return the page as Markdown."""
    parts = [INTRODUCTION, *_section(Config, "", {})]
    parts.append("## Options of the backends\n")
    for name in engines.BACKENDS:
        backend = engines.backend(name)
        precisions = ", ".join(f"`{precision}`" for precision in backend.graphs)
        parts.append(f"### `backend: {name}`\n\nPrecisions: {precisions}.\n")
        parts.append(_table(backend.options, "options"))
    return "\n".join(parts)


def _section(
    kind: type[BaseModel], key: str, shown: dict[type, str], which: str = ""
) -> Iterator[str]:
    """Yield a section's table, then the sections within it; that of each kind only once."""
    title = f"`{key}`{which}" if key else "Top level"
    if shown.get(kind) == key:
        return
    if kind is Source and kind in shown:
        yield f"## {title}\n\nAs `{shown[kind]}`.\n"
        return
    shown[kind] = key
    yield f"## {title}\n\n{inspect.cleandoc(kind.__doc__ or '')}\n"
    yield _table(kind, key)
    for name, field in kind.model_fields.items():
        found, mapping = _inner_sections(field.annotation)
        path = f"{key}.{name}" if key else name
        for inner in found:
            # Of several kinds each is known by the first key that it requires.
            first = next((key for key, f in inner.model_fields.items() if f.is_required()), None)
            which = f" with `{first}`" if len(found) > 1 else ""
            yield from _section(inner, f"{path}.NAME" if mapping else path, shown, which)


def _inner_sections(annotation: Any) -> tuple[list[type[BaseModel]], bool]:
    """Return the sections that a value can be, and whether they are named by the user."""
    if get_origin(annotation) is dict:
        return _inner_sections(get_args(annotation)[1])[0], True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation], False
    parts = () if get_origin(annotation) is Literal else get_args(annotation)
    return [inner for part in parts for inner in _inner_sections(part)[0]], False


def _table(kind: type[BaseModel], key: str) -> str:
    rows = ["| key | type | default | what it is |", "| --- | --- | --- | --- |"]
    for name, field in kind.model_fields.items():
        path = f"{key}.{name}" if key and key != "options" else name
        text = " ".join((field.description or "").split())
        rows.append(f"| `{path}` | {_type(field.annotation)} | {_default(field)} | {text} |")
    return "\n".join(rows) + "\n"


def _type(annotation: Any) -> str:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " \\| ".join(f"`{value}`" for value in args)
    if origin is dict:
        return "named sections" if _inner_sections(annotation)[0] else "section"
    if origin is list:
        return f"list of {_type(args[0])}"
    if origin is types.UnionType or (len(args) > 1 and type(None) in args):
        return " \\| ".join(_type(part) for part in args)
    if args:  # Annotated
        return _type(args[0])
    if annotation is Source:
        return "file"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    names = {str: "text", int: "integer", float: "number", bool: "true/false", type(None): "null"}
    return names.get(annotation, str(annotation))


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required"
    if isinstance(field.default, BaseModel):
        return "below"
    if field.default is None:
        return "none"
    text = field.default if isinstance(field.default, str) else json.dumps(field.default)
    return f"`{text}`"  # as YAML has it


def schema() -> dict[str, Any]:
    """Return the JSON schema of a configuration file, for completion and checks in an editor.

    It is the schema of an overlay: no key is required, and null removes a named entry.
    """
    found = _tidy(Config.model_json_schema())
    definitions = found["$defs"]
    for section in ("models", "datasets", "variants"):
        entries = found["properties"][section]
        entries["additionalProperties"] = False
        for pattern, entry in entries["patternProperties"].items():
            entries["patternProperties"][pattern] = {"anyOf": [entry, {"type": "null"}]}
    variant = definitions["Variant"]
    variant["properties"]["backend"]["enum"] = ["auto", *engines.BACKENDS]
    variant["allOf"] = []
    for name in engines.BACKENDS:
        backend = engines.backend(name)
        options = _tidy(backend.options.model_json_schema())
        definitions |= options.pop("$defs", {})
        definitions[f"options of {name}"] = options
        chosen = {"properties": {"backend": {"const": name}}, "required": ["backend"]}
        allowed = {
            "precision": {"enum": list(backend.graphs)},
            "options": {"$ref": f"#/$defs/options of {name}"},
        }
        variant["allOf"].append({"if": chosen, "then": {"properties": allowed}})
    return {"$schema": "http://json-schema.org/draft-07/schema#", **found}


def _tidy(part: Any) -> Any:
    """Return a schema without titles and required keys, its descriptions in one line each."""
    if isinstance(part, list):
        return [_tidy(item) for item in part]
    if not isinstance(part, dict):
        return part
    tidy: dict[str, Any] = {}
    for key, value in part.items():
        if key == "properties":
            tidy[key] = {name: _tidy(entry) for name, entry in value.items()}
        elif key == "description":
            tidy[key] = " ".join(value.split())
        elif key == "oneOf":  # without required keys a section may be of several kinds
            tidy["anyOf"] = _tidy(value)
        elif key not in ("title", "required"):
            tidy[key] = _tidy(value)
    return tidy


def write() -> None:
    """Write the page and the schema into a checkout, in whose root this runs."""
    Path("docs/configuration.md").write_text(page(), encoding="utf-8")
    Path("config.schema.json").write_text(json.dumps(schema(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
