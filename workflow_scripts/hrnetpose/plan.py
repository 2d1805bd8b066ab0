"""What the Snakefile must know before any job runs: the resolved configuration and its files.

It imports nothing heavy: planning is on the way of every command, also of one that finds nothing
to do.
"""

import ast
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from hrnetpose import config
from hrnetpose.artifacts import Precision
from hrnetpose.config import BackendRules, Calibration, Config, Variant
from hrnetpose.model import config_file


@dataclass(frozen=True)
class Plan:
    """The configuration, with everything looked up that follows from it.

    Attributes:
        config: as given.
        backends: variant -> backend, `auto` resolved.
        graphs: variant -> precision of the ONNX graph that its engine is built from.
        crops: model -> name of the crop geometry, for example `256x192`.
        configs: model -> its config file and those it inherits from, if they are the user's.
        gpus: variant -> how many GPUs its engine needs.
    """

    config: Config
    backends: dict[str, str]
    graphs: dict[str, Precision]
    crops: dict[str, str]
    configs: dict[str, list[str]]
    gpus: dict[str, int]

    def variant(self, name: str) -> Variant:
        """Returns a variant's section."""
        return self.config.variants[name]

    def model(self, variant: str) -> str:
        """Returns the name of a variant's model."""
        return self.variant(variant).model or self.config.model

    def crop(self, variant: str) -> str:
        """Returns the crop geometry that a variant's model takes."""
        return self.crops[self.model(variant)]

    def options(self, variant: str) -> str:
        """Returns the backend's options as JSON in a fixed order."""
        return json.dumps(self.variant(variant).options, sort_keys=True)

    def trained(self, variant: str) -> bool:
        """Tells whether the variant's model has weights, and so an accuracy."""
        return self.config.models[self.model(variant)].weights is not None

    def reference(self, variant: str) -> str | None:
        """Returns the variant that this one's accuracy is compared with.

        It is the first one of the same model that runs in PyTorch at fp32: the original.
        """
        for name, other in self.config.variants.items():
            if (
                self.backends[name] == "pytorch"
                and other.precision == "fp32"
                and self.model(name) == self.model(variant)
            ):
                return None if name == variant else name
        return None

    def weights(self, model: str) -> str | None:
        """Returns where a model's checkpoint lies once it is there; None if it is untrained."""
        return f"resources/weights/{model}.pth" if self.config.models[model].weights else None

    def published(self) -> str:
        """Returns the published APs that apply to this dataset, by model and protocol, as JSON."""
        figures = {
            name: {model.published.protocol: model.published.AP}
            for name, model in self.config.models.items()
            if model.published and model.published.dataset == self.config.dataset
        }
        return json.dumps(figures, sort_keys=True)

    def limits(self) -> str:
        """Returns the limits of each variant as JSON."""
        limits = {
            name: (variant.limits or self.config.limits).model_dump()
            for name, variant in self.config.variants.items()
        }
        return json.dumps(limits, sort_keys=True)

    def images(self, dataset: str) -> str:
        """Returns where a dataset's images lie."""
        fetched = f"resources/datasets/{dataset}/images.zip"
        return _local(self.config.datasets[dataset].images, fetched)

    def annotations(self, dataset: str) -> str:
        """Returns where a dataset's annotations lie."""
        fetched = f"resources/datasets/{dataset}/annotations.json"
        return _local(self.config.datasets[dataset].annotations, fetched)

    def detections(self, dataset: str) -> str | None:
        """Returns where a dataset's detected boxes lie; None if it has none."""
        source = self.config.datasets[dataset].detections
        return _local(source, f"resources/datasets/{dataset}/detections.json") if source else None

    def calibration(self, dataset: str) -> Calibration:
        """Returns a dataset's calibration section; `config.load` makes sure that int8 has one."""
        section = self.config.datasets[dataset].calibration
        assert section is not None
        return section


def is_url(source: str) -> bool:
    """Tells a URL from a path."""
    return "://" in source


def _local(source: str, fetched: str) -> str:
    return fetched if is_url(source) else source


def make(
    raw: Mapping[str, Any], backends: Mapping[str, BackendRules], resolve: Callable[[str], str]
) -> Plan:
    """Checks a configuration and looks up what follows from it.

    Args:
        raw: as YAML gives it.
        backends: what each backend accepts.
        resolve: returns the backend that `auto` stands for on this machine.

    Raises:
        ConfigError: the configuration is wrong.
        StageError: a model's config cannot be found or read.
    """
    checked = config.load(raw, backends)
    resolved = {name: resolve(variant.backend) for name, variant in checked.variants.items()}
    # A backend that `auto` stands for must have the precision, too.
    explicit = {
        name: variant.model_copy(update={"backend": resolved[name]})
        for name, variant in checked.variants.items()
    }
    for name, variant in explicit.items():
        config.check_variant(f"variants.{name}", variant, checked, backends)
    used = {variant.model or checked.model for variant in checked.variants.values()}
    return Plan(
        config=checked,
        backends=resolved,
        graphs={n: backends[resolved[n]].graphs[v.precision] for n, v in explicit.items()},
        crops={
            name: model.crop or str(config_file.crop(config_file.find(model.config)))
            for name, model in checked.models.items()
            if name in used
        },
        configs={
            name: _files_of(model.config) for name, model in checked.models.items() if name in used
        },
        gpus={n: backends[resolved[n]].gpus(v.options) for n, v in explicit.items()},
    )


def _files_of(config_name: str) -> list[str]:
    path = Path(config_name)
    return [str(file) for file in config_file.with_bases(path)] if path.is_file() else []


def prefer_own_python() -> None:
    """Makes `python` in stage commands the one that runs Snakemake.

    A conda environment that a rule asks for comes before it, since it is activated later.
    """
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


def decided_once(resolve: Callable[[str], str]) -> Callable[[str], str]:
    """Makes `auto` mean the same in all processes of a run, also on nodes with other devices.

    The first process decides, or who has set POSE_BACKEND_AUTO; those that it starts inherit it.
    """
    auto = os.environ.setdefault("POSE_BACKEND_AUTO", resolve("auto"))
    return lambda name: auto if name == "auto" else name


def version(package: str) -> str | None:
    """Returns the version of an installed package, None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def any_of(names: Iterable[str]) -> str:
    """Returns a regular expression that matches these names and nothing else."""
    return "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))


def imported_files(scripts: Path, script: str, modules: Iterable[str] = ()) -> list[str]:
    """Returns a script, then all files of the library that it imports, directly or not.

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
