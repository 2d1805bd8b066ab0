"""mmpose config files, read without executing them and without importing mmpose.

Planning must know three things of a model before any job runs: what crops it takes, what its
keypoints are called, and which files its config is made of.  They are read by following what stands
in the file literally, as mmengine would; whatever is computed otherwise is unknown.
"""

import ast
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hrnetpose.artifacts.model import Crop
from hrnetpose.models import keys
from hrnetpose.models.reading import is_own
from hrnetpose.models.static import UNKNOWN, Reader, package_folder, parse
from hrnetpose.stage import StageError, name


def find(config: str) -> Path:
    """Returns the path of a config: a file, or a config of the mmpose package by name.

    Raises:
        StageError: there is no such file and mmpose has no config of that name.
    """
    path = Path(config)
    with suppress(OSError, ValueError):  # too long for a file's name, or with a null character
        if path.is_file():
            return path
    if path.suffix == ".py" or "/" in config:
        raise StageError(f"{name(config)}: there is no such mmpose config file")
    configs = package_folder("mmpose") / ".mim" / "configs"
    found = sorted(path for path in configs.rglob("*.py") if path.name == f"{config}.py")
    if not found:
        raise StageError(
            f"{name(config)}: mmpose has no config of that name; see the names under {configs}, "
            "or give a path"
        )
    return found[0]


def check_kinds(config: Path) -> None:
    """Refuses a model, head or decoder of a kind that is not supported, where that can be known.

    Raises:
        StageError: with what is supported; or the file is no Python.
    """
    values = Reader().read(config)
    for section in (keys.MODEL, keys.HEAD, keys.DECODER):
        kind = _at(values, *section.place.split("."), "type")
        if isinstance(kind, str):
            try:
                keys.check(section, {"type": kind})
            except StageError as error:
                raise StageError(f"{config}: {error}") from error


def crop(config: Path) -> Crop:
    """Reads the crop geometry that a top-down config declares.

    Raises:
        StageError: the file is no Python, or its codec has no `input_size` that can be known.
    """
    values = Reader().read(config)
    codec = values.get("codec")
    codec = codec[-1] if isinstance(codec, list) and codec else codec
    pipelines = [_at(_dataset(values), "pipeline"), values.get("val_pipeline")]
    pipeline = next((found for found in pipelines if isinstance(found, list)), [])
    steps = {
        keys.short(step["type"]): step
        for step in pipeline
        if isinstance(step, dict) and "type" in step
    }
    known = {k: v for k, v in keys.crop_fields(steps).items() if v is not UNKNOWN}
    for found in (_at(values, *keys.DECODER.place.split(".")), codec):
        match _at(found, "input_size"):
            case [int(width), int(height)] if width > 0 and height > 0:
                try:
                    return Crop(height=height, width=width, **known)
                except ValidationError:  # the stage that runs the config says what is wrong
                    return Crop(height=height, width=width)
    raise StageError(
        f"{config}: no `codec = dict(input_size=(width, height), ...)` was found in it; "
        "give the model's input as `crop: HEIGHTxWIDTH` in the configuration"
    )


def files(config: Path) -> list[Path]:
    """Returns the user's own files that the config is made of, itself first.

    They are those it inherits from, that of its metainfo, and the modules that it names; files of
    installed packages are left out, since their versions tell them apart.

    Raises:
        StageError: one of them is no Python, or is not there.
    """
    reader = Reader()
    values = reader.read(config)
    path = _at(_dataset(values), "metainfo", "from_file")
    if isinstance(path, str):
        found = _metainfo_file(path)
        if found is None:
            raise StageError(
                f"{config}: metainfo.from_file is {path!r}; there is no such file, neither from "
                "the working directory nor in mmpose"
            )
        reader.read(found)
    modules = [file for module in _modules(values, reader) for file in _module_files(module)]
    return [path for path in dict.fromkeys([*reader.found, *modules]) if is_own(path)]


def keypoint_names(config: Path) -> list[str] | None:
    """Returns the names of the model's keypoints, in its order.

    They are those of the metainfo, or of mmpose's dataset class that the config names; of them
    those that `model.test_cfg.output_keypoint_indices` selects.

    Returns:
        None if they cannot be known without running the config.

    Raises:
        StageError: a file is no Python.
    """
    reader = Reader()
    values = reader.read(config)
    points = _at(_metainfo(values, reader), "keypoint_info")
    if not isinstance(points, dict) or not points:
        return None
    names = [_at(points.get(number), "name") for number in range(len(points))]
    indices = _at(values, "model", "test_cfg", "output_keypoint_indices")
    if isinstance(indices, list):
        names = [_at_index(names, index) for index in indices]
    elif indices is not None:
        return None
    return names if all(isinstance(name, str) for name in names) else None


def is_whole_set(config: Path) -> bool:
    """Tells whether the keypoint set has OKS constants and mirror partners that exist.

    If not, it is for the stage that runs the config to say so, before any comparison with data.

    Raises:
        StageError: a file is no Python.
    """
    reader = Reader()
    metainfo = _metainfo(reader.read(config), reader)
    points = _at(metainfo, "keypoint_info")
    entries = list(points.values()) if isinstance(points, dict) else []
    names = {_at(entry, "name") for entry in entries}
    return bool(_at(metainfo, "sigmas")) and {_at(e, "swap") for e in entries} <= names | {"", None}


def _metainfo(values: dict[str, Any], reader: Reader) -> Any:
    dataset = _dataset(values)
    metainfo = _at(dataset, "metainfo")
    if not metainfo and not _is_unknown_in(dataset, "metainfo"):
        kind = _at(dataset, "type") or values.get("dataset_type")
        metainfo = _declared(kind, _modules(values, reader)) if isinstance(kind, str) else UNKNOWN
    path = _at(metainfo, "from_file")
    if isinstance(path, str):
        found = _metainfo_file(path)
        return _at(Reader().read(found), "dataset_info") if found else UNKNOWN
    return metainfo


def _modules(values: dict[str, Any], reader: Reader) -> list[str]:
    """Returns the modules that a config imports, or has mmengine import."""
    named = _at(values, "custom_imports", "imports")
    named = named if isinstance(named, list) else [named]
    return [module for module in [*named, *reader.imported] if isinstance(module, str)]


def _dataset(values: dict[str, Any]) -> Any:
    return _at(values, "test_dataloader", "dataset") or _at(values, "val_dataloader", "dataset")


def _is_unknown_in(section: Any, key: str) -> bool:
    return section is UNKNOWN or (isinstance(section, dict) and section.get(key) is UNKNOWN)


def _at(value: Any, *keys: str) -> Any:
    """Follows keys through dictionaries; None where one is missing."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else UNKNOWN if value is UNKNOWN else None
    return value


def _at_index(values: list[Any], index: Any) -> Any:
    return values[index] if type(index) is int and 0 <= index < len(values) else UNKNOWN


def _metainfo_file(path: str) -> Path | None:
    """Returns a metainfo file where mmpose finds it: as given, or by name in the package."""
    packaged = package_folder("mmpose") / ".mim/configs/_base_/datasets" / Path(path).name
    return next((file for file in (Path(path), packaged) if file.is_file()), None)


def _declared(kind: str, modules: list[str]) -> Any:
    """Returns the METAINFO of a dataset class, read from its source."""
    short = kind.rpartition(".")[2]
    own = [file for module in modules for file in _module_files(module)]
    for file in [*own, *(package_folder("mmpose") / "datasets" / "datasets").rglob("*.py")]:
        if f"class {short}(" not in (text := file.read_text(encoding="utf-8", errors="replace")):
            continue
        for node in parse(text, file).body:
            if isinstance(node, ast.ClassDef) and node.name == short:
                # DeepFashion's depends on more than the class.
                chosen = any(isinstance(n, ast.FunctionDef) and "metainfo" in n.name
                             and n.name != "_load_metainfo" for n in node.body)  # fmt: skip
                values = Reader().run(node.body, file)
                if "METAINFO" in values or chosen:
                    return UNKNOWN if chosen else values["METAINFO"]
                bases = [ast.unparse(base) for base in node.bases]
                return _declared(bases[0], modules) if bases and bases[0] != kind else UNKNOWN
    return UNKNOWN


def _search_path() -> Iterator[Path]:
    """Where a stage looks for modules."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    yield from (Path(folder) for folder in [*given, *sys.path] if folder)


def _module_files(module: str) -> list[Path]:
    """Returns the user's own files of a module and of the packages that it is in.

    Nothing is imported, not even a package.
    """
    parts = module.split(".")
    if not all(part.isidentifier() for part in parts):
        return []
    for folder in _search_path():
        path = folder.joinpath(*parts)
        package = path.is_dir()
        if not (package or path.with_suffix(".py").is_file()) or not is_own(path):
            continue
        inner = sorted(path.rglob("*.py")) if package else [path.with_suffix(".py")]
        outer = [folder.joinpath(*parts[:n], "__init__.py") for n in range(1, len(parts))]
        return [*(file for file in outer if file.is_file()), *inner]
    return []
