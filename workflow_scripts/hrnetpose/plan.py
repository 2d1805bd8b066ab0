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
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from hrnetpose import config, files, paths, resources
from hrnetpose.backend_rules import BackendRules
from hrnetpose.config import ConfigError, Model, Variant
from hrnetpose.layout import Layout
from hrnetpose.models import config_file, reading
from hrnetpose.recipes import CALIBRATED, RECIPES, Graph, lineage
from hrnetpose.resources import Resources
from hrnetpose.stage import StageError

LOCATED = {
    "models": ("config", "weights"),
    "datasets": ("images", "annotations", "detections", "calibration"),
}
"""The keys of a section under which there are paths."""
WRITTEN = ("resources/datasets/", "resources/weights/", "build/", "results/")
"""Where this workflow writes: such a path is of the working directory."""
LARGEST_ANNOTATIONS = 64 << 20
"""Bytes; of a file that is read while planning, which takes 15 times its size in memory."""
CPU_BATCH, GPU_BATCH = 8, 32
"""Images per inference unless the variant says it."""


@dataclass(frozen=True)
class Plan(Resources):
    """The configuration, with everything looked up that follows from it.

    Attributes:
        config: as given.
        backends: variant -> backend, `auto` resolved.
        graphs: variant -> the ONNX graph that its engine is built from.
        crops: model -> name of the crop geometry, for example `256x192`.
        configs: model -> the user's own files that its config is made of, as far as they are known.
        gpus: variant -> how many GPUs its engine needs.
        changes: model -> which changes of files its config reads the export is made after; None if
            there were none.  The card says for which it was made, so that it is made once for each.
        keypoints: model -> names of its keypoints, if they can be known without running its config.
        notes: what the user should know before anything runs.
    """

    backends: dict[str, str]
    graphs: dict[str, Graph]
    crops: dict[str, str]
    configs: dict[str, list[str]]
    gpus: dict[str, int]
    changes: dict[str, str | None]
    keypoints: dict[str, list[str]]
    notes: tuple[str, ...] = ()

    def variant(self, name: str) -> Variant:
        """Returns a variant's section."""
        return self.config.variants[name]

    def batch(self, variant: str) -> int:
        """Returns the images per inference of a variant."""
        return _batch(self.variant(variant), self.gpus[variant])

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

    @property
    def layout(self) -> Layout:
        """Where the files of this run lie."""
        return Layout(self.config.run, self.config.dataset)

    def graph(self, variant: str) -> str:
        """Returns the file of the ONNX graph that a variant's engine is built from."""
        return self.layout.graph(self.model(variant), self.graphs[variant])

    def quantizations(self) -> list[str]:
        """Returns what is written about the int8 graphs of this run."""
        return sorted(
            {
                self.layout.quantization(self.model(variant), graph)
                for variant in self.config.variants
                for graph in lineage(self.graphs[variant])
                if RECIPES[graph].stage == "quantize_int8"
            }
        )

    def published(self) -> str:
        """Returns the published figures that compare with these, by model and protocol, as JSON.

        They are of the same dataset, of mmpose's NMS and, with detected boxes, of the same ones.
        """
        dataset = self.config.datasets[self.config.dataset]
        boxes = dataset.detections if dataset.detection_score == 0 else None
        figures = {}
        for name, model in self.config.models.items():
            figure = model.published
            if not figure or figure.dataset != self.config.dataset:
                continue
            other_boxes = figure.detections and not (
                boxes and boxes.sha256 and _same_digest(figure.detections, boxes.sha256)
            )
            if self.config.protocols.nms != "soft" and not other_boxes:
                figures[name] = {figure.protocol: figure.figures()}
        return json.dumps(figures, sort_keys=True)

    def needed(self) -> list[str]:
        """Returns the files that this run takes from elsewhere."""
        dataset = self.config.dataset
        found = [weights for model in self.crops if (weights := self.weights(model))]
        found += [self.images(dataset), self.annotations(dataset)]
        boxes = self.detections(dataset)
        if boxes and "det" in self.config.protocols.boxes:
            found.append(boxes)
        if self.calibrates():
            calibration = self.calibration(dataset)
            found += [calibration.images, calibration.annotations]
        return found

    def evaluated_keypoints(self) -> list[str]:
        """Returns the names of the keypoints that are evaluated; none if they are not known."""
        return next(iter(self.keypoints.values()), [])

    def check_annotations(self, is_made: Callable[[str], bool]) -> None:
        """Reads annotations that are there, and compares their keypoints with the models'.

        What is in order is remembered until the file changes.  Large files, such as COCO's of its
        training images, are left to the stage that audits them.

        Raises:
            ConfigError: they are malformed, or of other keypoints.
        """
        dataset = self.config.dataset
        named = {"annotations": self.annotations(dataset)}
        if self.calibrates() and not self.calibration_count(dataset):
            named["calibration.annotations"] = self.calibration(dataset).annotations
        category = self.config.datasets[dataset].category
        for key, place in named.items():
            path = Path(place)
            if is_made(place) or not path.is_file() or path.stat().st_size > LARGEST_ANNOTATIONS:
                continue
            asked = json.dumps([list(self.keypoints.values()), category])
            if files.is_checked(path, asked):
                continue
            from hrnetpose.data import coco  # with NumPy, which takes a tenth of a second

            try:
                for names in self.keypoints.values() or [[]]:
                    coco.read(path, names, category)
            except StageError as error:
                raise ConfigError(f"datasets.{dataset}.{key}: {error}") from error
            files.remember_checked(path, asked)

    def calibrates(self) -> bool:
        """Tells whether a variant needs calibration images."""
        return any(v.precision in CALIBRATED for v in self.config.variants.values())

    def audits(self) -> list[str]:
        """Returns the audits of this run's images."""
        return ["audit", *(["calibration_audit"] if self.calibrates() else [])]

    def limits(self) -> str:
        """Returns the limits of each variant as JSON."""
        common = self.config.limits.model_dump()
        limits = {
            name: common | (variant.limits.model_dump(exclude_unset=True) if variant.limits else {})
            for name, variant in self.config.variants.items()
        }
        return json.dumps(limits, sort_keys=True)


def _same_digest(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def make(
    raw: Mapping[str, Any],
    backends: Mapping[str, BackendRules],
    resolve: Callable[[str], str],
    alone: bool = True,
) -> Plan:
    """Checks a configuration and looks up what follows from it.

    Args:
        raw: as YAML gives it.
        backends: what each backend accepts.
        resolve: returns the backend that `auto` stands for on this machine.
        alone: no other run is planned beside this one; if there are some, as modules of one
            workflow, each has rules for what it uses and for nothing else.

    Raises:
        ConfigError: the configuration is wrong, or a model's config cannot be found or read.
    """
    checked, notes = resources.without_missing_boxes(config.load(raw, backends))
    resolved = {name: resolve(variant.backend) for name, variant in checked.variants.items()}
    # A backend that `auto` stands for must have the precision, too.
    explicit = {
        name: variant.model_copy(update={"backend": resolved[name]})
        for name, variant in checked.variants.items()
    }
    for name, variant in explicit.items():
        config.check_variant(f"variants.{name}", variant, checked, backends)
    gpus = {n: backends[resolved[n]].gpus(v.options) for n, v in explicit.items()}
    for name, variant in explicit.items():
        try:
            batch = _batch(variant, gpus[name])
            backends[resolved[name]].check(variant.options, batch, variant.precision)
        except StageError as error:
            raise ConfigError(f"variants.{name}: {error}") from error
    used = {variant.model or checked.model for variant in checked.variants.values()}
    if not alone:
        checked = checked.model_copy(
            update={
                "models": {name: checked.models[name] for name in checked.models if name in used},
                "datasets": {checked.dataset: checked.datasets[checked.dataset]},
            }
        )
    models = {name: _look_at(name, checked.models[name]) for name in checked.models if name in used}
    keypoints = {name: found.keypoints for name, found in models.items() if found.keypoints}
    planned = Plan(
        config=checked,
        backends=resolved,
        graphs={n: backends[resolved[n]].graphs[v.precision] for n, v in explicit.items()},
        crops={name: found.crop for name, found in models.items()},
        configs={name: found.files for name, found in models.items()},
        gpus=gpus,
        changes={name: _changes(Path(f"build/models/{name}/model.json")) for name in models},
        keypoints=keypoints,
    )
    notes = [*notes, *_overwritten(planned), *_left_over(planned)]
    return replace(planned, notes=tuple(notes))


def _overwritten(plan: "Plan") -> list[str]:
    """Says if results of another model or dataset lie where this run writes its own."""
    if plan.config.run:
        return []
    found = []
    for variant in plan.config.variants:
        model = _value(f"{plan.layout.engines}/{variant}/engine.json", "model", "name")
        figure = f"{plan.layout.results}/{variant}_accuracy.json"
        subset = _value(figure, "protocol", "subset")
        dataset = subset.partition(" (")[0] if subset else None
        for kind, old, new in (
            ("model", model, plan.model(variant)),
            ("dataset", dataset, plan.config.dataset),
        ):
            if old not in (None, new) and Path(figure).is_file():
                found.append(
                    f"{figure} is of {kind} {old!r} and will be overwritten by one of {new!r}; to "
                    "keep both, give this configuration a name with `run:`"
                )
    return found[:1]


def _left_over(plan: "Plan") -> list[str]:
    """Says if graphs lie where an earlier version of the workflow had them."""
    old = [
        path
        for model in plan.crops
        for graph in RECIPES
        if RECIPES[graph].calibrated
        and Path(path := f"build/models/{model}/{graph}.onnx").is_file()
    ]
    if not old:
        return []
    return [
        f"{', '.join(old)}: of an earlier version; calibrated graphs are now in a folder of their "
        "dataset: delete these"
    ]


def _value(file: str, *keys: str) -> str | None:
    try:
        found = json.loads(Path(file).read_bytes())
        for key in keys:
            found = found[key]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return found if isinstance(found, str) else None


def _batch(variant: Variant, gpus: int) -> int:
    return variant.batch or (GPU_BATCH if gpus else CPU_BATCH)


def located(raw: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Returns a configuration whose relative paths lead from the working directory.

    A path that is not there is looked up in the workflow's own folder, `root`; where files are
    written, it is not.

    Args:
        raw: as YAML gives it.
        root: the folder of the Snakefile.
    """

    def find(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: find(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [find(inner) for inner in value]
        if not isinstance(value, str) or files.is_url(value) or value.startswith(WRITTEN):
            return value
        there = paths.exists(value) or not paths.exists(root / value)
        return value if there else str(root / value)

    found = dict(raw)
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


@dataclass(frozen=True)
class _Known:
    """What is known of a model without running its config.

    Attributes:
        crop: the crops that it takes.
        files: the user's own files that its config is made of.
        keypoints: their names, if they are known.
    """

    crop: str
    files: list[str]
    keypoints: list[str] | None = None


def _look_at(name: str, model: Model) -> _Known:
    key = f"models.{name}.config"
    named = Path(model.config).suffix != ".py" and "/" not in model.config
    if named and model.crop:
        return _Known(model.crop, [])  # mmpose need not be installed where the run is planned
    if not named and (fault := paths.fault(model.config)):
        raise ConfigError(f"{key}: {fault}")
    try:
        path = config_file.find(model.config)
        config_file.check_kinds(path)
        return _Known(
            crop=model.crop or str(config_file.read_crop(path)),
            files=[str(file) for file in config_file.list_files(path)],
            keypoints=config_file.read_keypoint_names(path),
        )
    except StageError as error:
        raise ConfigError(f"{key}: {error}") from error


def _changes(card: Path) -> str | None:
    try:
        made = json.loads(card.read_bytes())
        return reading.changes(made["files"]) or made["changes"]
    except (OSError, ValueError, LookupError, TypeError):
        return None  # it is made anew, or the stage that reads it says what is wrong with it


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
    escaped = [re.escape(name) for name in sorted(names, key=len, reverse=True)]
    return "|".join(escaped) or "(?!)"


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
    # Importing a module imports the packages that it is in.
    modules += [module.rpartition(".")[0] for module in modules]
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
