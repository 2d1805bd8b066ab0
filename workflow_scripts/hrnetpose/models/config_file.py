"""What planning must know of a model's config, read without running it or importing mmpose.

These are the crops that the model takes, the names of its keypoints, and the files that the config
is made of.  What static.Reader cannot know is left to the stage that runs the config.
"""

import ast
import os
import sys
from pathlib import Path
from typing import Any

from hrnetpose.artifacts.model import Crop
from hrnetpose.models import bounds, keypoints, keys, sections
from hrnetpose.models.expressions import UNKNOWN, is_known
from hrnetpose.models.reading import is_own
from hrnetpose.models.static import Reader, find_package, parse
from hrnetpose.stage import StageError, name


def find(config: str) -> Path:
    """Return the path of a config: a file, or a config of the mmpose package by name.

    Raises:
        StageError: there is no such file and mmpose has no config of that name.
    """
    path = Path(config)
    if os.path.isfile(path):  # Path.is_file raises an error for a name that is too long
        return path
    if path.suffix == ".py" or "/" in config:
        raise StageError(f"{name(config)}: there is no such mmpose config file")
    configs = find_package("mmpose") / ".mim" / "configs"
    named = sorted(path for path in configs.rglob("*.py") if path.name == f"{config}.py")
    if not named:
        raise StageError(
            f"{name(config)}: mmpose has no config of that name; see the names under {configs}, "
            "or give a path"
        )
    return named[0]


def check(config: Path) -> None:
    """Refuse what is not supported and too large numbers, as far as they can be known.

    Raises:
        StageError: the type of the model, head, decoder or metric is not supported, head and
            decoder do not fit, a key of the dataset or the metric has a value that is not
            supported, no network has such a number, or the file is not Python.
    """
    values = Reader().read(config)
    for section in keys.KINDS:
        kind = sections.get(values, *section.place.split("."), "type")
        if isinstance(kind, str):
            keys.check(config, section, {"type": kind})
    head = sections.get(values, "model", "head")
    keys.check_pair(config, sections.get(head, "type"), sections.get(head, "decoder", "type"))
    bounds.check(config, values.get("model"))
    loader, evaluator = sections.find_loader(values), sections.find_evaluator(values)
    _check_limited(config, keys.DATASET, sections.find_dataset(values, loader), f"{loader}.dataset")
    metrics = sections.list_metrics(values, evaluator)
    for metric in metrics if isinstance(metrics, list) else []:
        kind = sections.get(metric, "type")
        keys.check_metric(config, evaluator, kind)
        if keys.short(kind) == "CocoMetric":
            _check_limited(config, keys.EVALUATOR, metric, evaluator)


def _check_limited(config: Path, section: keys.Section, given: Any, place: str) -> None:
    """Check the keys that are limited to some values, as far as they are known."""
    known = {
        key: value
        for key, value in (given.items() if isinstance(given, dict) else ())
        if key in section.keys and section.keys[key].use == "limited" and value is not UNKNOWN
    }
    keys.check(config, section, known, place)


def read_crop(config: Path) -> Crop:
    """Read the crop geometry that a top-down config declares.

    A test pipeline that cannot be known counts as mmpose's plain one.

    Raises:
        StageError: the file is not Python, its `input_size` is invalid or cannot be known, or the
            pipeline has an invalid value.
    """
    values = Reader().read(config)
    loader = sections.find_loader(values)
    pipeline = sections.get(sections.find_dataset(values, loader), "pipeline")
    codec = values.get("codec")
    codec = codec[-1] if isinstance(codec, list) and codec else codec
    decoder = sections.get(values, "model", "head", "decoder")
    for place, section in (("model.head.decoder", decoder), ("codec", codec)):
        size = sections.get(section, "input_size")
        if size is not None and is_known(size):
            return sections.make_crop(
                sections.parse_size(size, f"{config}: {place}.input_size"),
                dict(sections.name_steps(pipeline)),
                f"{config}: {loader}.dataset.pipeline",
            )
    raise StageError(
        f"{config}: no `codec = dict(input_size=(width, height), ...)` was found in it; "
        "give the model's input as `crop: HEIGHTxWIDTH` in the configuration"
    )


def list_files(config: Path) -> list[Path]:
    """List the user's own files that the config is made of, itself first.

    They are those it inherits from, that of its metainfo, and the modules that it names.  Files of
    installed packages are left out: their versions identify them.

    Raises:
        StageError: one of them is not Python, or missing.
    """
    reader = Reader()
    values = reader.read(config)
    _read_metainfo(config, values, reader)  # adds its file to the reader's
    modules = [file for module in _list_modules(values, reader) for file in _find_module(module)]
    return [path for path in dict.fromkeys([*reader.files, *modules]) if is_own(path)]


def read_keypoint_names(config: Path) -> list[str] | None:
    """Return the names of the model's keypoints, in its order.

    Returns:
        None if they cannot be known without running the config, or the keypoint set is invalid or
        has no OKS constants: that is for the stage that runs the config to say.

    Raises:
        StageError: a file is not Python, or missing.
    """
    reader = Reader()
    values = reader.read(config)
    metainfo = _read_metainfo(config, values, reader)
    picked = sections.get(values, "model", "test_cfg", "output_keypoint_indices")
    if not is_known(metainfo):
        return None
    try:
        tested = keypoints.parse(metainfo, "")
    except StageError:
        return None
    if not tested.sigmas:
        return None
    if picked is None:
        return tested.names
    if not isinstance(picked, list):
        return None
    rows = keypoints.select_rows(picked, len(tested.names))
    known = all(isinstance(row, int) and 0 <= row < len(tested.names) for row in rows)
    return [tested.names[row] for row in rows] if known else None


def _read_metainfo(config: Path, values: dict[str, Any], reader: Reader) -> Any:
    """Return the keypoint set of the dataset that a config tests on, or of the dataset's class.

    Raises:
        StageError: it is in a file that is not Python, or missing.
    """
    loader = sections.find_loader(values)
    dataset = sections.find_dataset(values, loader)
    metainfo, kind = (sections.get(dataset, key) for key in ("metainfo", "type"))
    if not metainfo and metainfo is not UNKNOWN and isinstance(kind, str):
        metainfo = _read_class(kind, _list_modules(values, reader))
    file = sections.get(metainfo, "from_file")
    if isinstance(file, str):
        path = sections.find_metainfo(file, f"{config}: {loader}.dataset.metainfo")
        metainfo = sections.get(reader.read(path), "dataset_info")
    return metainfo


def _list_modules(values: dict[str, Any], reader: Reader) -> list[str]:
    """List the modules that a config imports, or has mmengine import."""
    named = sections.get(values, "custom_imports", "imports")
    named = named if isinstance(named, list) else [named]
    return [module for module in [*named, *reader.imports] if isinstance(module, str)]


def _read_class(kind: str, modules: list[str]) -> Any:
    """Return the METAINFO of a dataset class, read from its source."""
    short = keys.short(kind)
    own = [file for module in modules for file in _find_module(module)]
    for file in [*own, *(find_package("mmpose") / "datasets" / "datasets").rglob("*.py")]:
        if f"class {short}(" not in (text := file.read_text(encoding="utf-8", errors="replace")):
            continue
        for node in parse(text, file).body:
            if isinstance(node, ast.ClassDef) and node.name == short:
                methods = [inner.name for inner in node.body if isinstance(inner, ast.FunctionDef)]
                if any("metainfo" in method for method in methods):
                    return UNKNOWN  # DeepFashion's, for example, depends on its subset, too
                values = Reader().run(node.body, file)
                if "METAINFO" in values:
                    return values["METAINFO"]
                bases = [ast.unparse(base) for base in node.bases]
                return _read_class(bases[0], modules) if bases and bases[0] != kind else UNKNOWN
    return UNKNOWN


def _find_module(module: str) -> list[Path]:
    """Return the user's own files of a module and of the packages that it is in.

    They are looked for where a stage does.  Nothing is imported, not even a package.
    """
    parts = module.split(".")
    if not all(part.isidentifier() for part in parts):
        return []
    for folder in [*os.environ.get("PYTHONPATH", "").split(os.pathsep), *sys.path]:
        path = Path(folder, *parts)
        is_package, is_module = os.path.isdir(path), os.path.isfile(path.with_suffix(".py"))
        if not folder or not (is_package or is_module) or not is_own(path):
            continue
        inner = sorted(path.rglob("*.py")) if is_package else [path.with_suffix(".py")]
        outer = [Path(folder, *parts[:n], "__init__.py") for n in range(1, len(parts))]
        return [*(file for file in outer if file.is_file()), *inner]
    return []
