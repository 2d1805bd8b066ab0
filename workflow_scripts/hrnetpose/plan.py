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
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hrnetpose import config, files
from hrnetpose.artifacts import FetchedImages, Precision
from hrnetpose.config import COCO_URL, BackendRules, Config, ConfigError, Source, Variant
from hrnetpose.model import config_file

RESOURCES = "resources"
WITHOUT_BOXES = "evaluate with ground-truth boxes: `protocols: {boxes: [gt]}`"


@dataclass(frozen=True)
class Download:
    """A file of `resources/` and where it comes from.

    Attributes:
        sources: URLs and paths, tried in this order.
        sha256: its hash or the first digits of it.
        size: its length in bytes.
        otherwise: what the user can do without it.
    """

    sources: tuple[str, ...]
    sha256: str | None = None
    size: int | None = None
    otherwise: str = ""

    @property
    def flags(self) -> list[str]:
        """What `fetch_file.py` is told."""
        flags = ["--source", *self.sources]
        flags += ["--sha256", self.sha256] if self.sha256 else []
        flags += ["--size", str(self.size)] if self.size is not None else []
        return flags + (["--otherwise", self.otherwise] if self.otherwise else [])

    @property
    def input(self) -> list[str]:
        """The file that a copy is made of; a URL is none, nor are alternatives."""
        return list(self.sources) if len(self.sources) == 1 and not is_url(self.sources[0]) else []


@dataclass(frozen=True)
class CalibrationFiles:
    """Where the images that int8 is calibrated on lie, and their annotations."""

    images: str
    annotations: str


@dataclass(frozen=True)
class Plan:
    """The configuration, with everything looked up that follows from it.

    Attributes:
        config: as given.
        backends: variant -> backend, `auto` resolved.
        graphs: variant -> precision of the ONNX graph that its engine is built from.
        crops: model -> name of the crop geometry, for example `256x192`.
        notes: what the user should know before anything runs.
    """

    config: Config
    backends: dict[str, str]
    graphs: dict[str, Precision]
    crops: dict[str, str]
    notes: tuple[str, ...] = ()

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
        """Returns the published APs that compare with this run's, by model and protocol, as JSON.

        They are of the same dataset, of mmpose's NMS and, with detected boxes, of the same ones.
        """
        dataset = self.config.datasets[self.config.dataset]
        boxes = dataset.detections and dataset.detection_score == 0 and dataset.detections.sha256
        figures = {}
        for name, model in self.config.models.items():
            figure = model.published
            if not figure or figure.dataset != self.config.dataset:
                continue
            other_boxes = figure.detections and not (
                boxes and _same_digest(figure.detections, boxes)
            )
            if self.config.protocols.nms == "hard" and not other_boxes:
                figures[name] = {figure.protocol: figure.AP}
        return json.dumps(figures, sort_keys=True)

    def limits(self) -> str:
        """Returns the limits of each variant as JSON."""
        limits = {
            name: (variant.limits or self.config.limits).model_dump()
            for name, variant in self.config.variants.items()
        }
        return json.dumps(limits, sort_keys=True)

    def config_file(self, model: str) -> list[str]:
        """Returns a model's config file, if it is one of the user's."""
        name = self.config.models[model].config
        return [name] if Path(name).is_file() else []

    def images(self, dataset: str) -> str:
        """Returns where a dataset's images lie."""
        return _place(self.config.datasets[dataset].images, f"{_folder(dataset)}/images.zip")

    def annotations(self, dataset: str) -> str:
        """Returns where a dataset's annotations lie."""
        folder = _folder(dataset)
        return _place(self.config.datasets[dataset].annotations, f"{folder}/annotations.json")

    def detections(self, dataset: str) -> str | None:
        """Returns where a dataset's detected boxes lie; None if it has none."""
        source = self.config.datasets[dataset].detections
        return _place(source, f"{_folder(dataset)}/detections.json") if source else None

    def calibration(self, dataset: str) -> CalibrationFiles:
        """Returns where a dataset's calibration images and their annotations lie.

        `config.load` makes sure that int8 has some.
        """
        section = self.config.datasets[dataset].calibration
        assert section is not None
        folder = f"{_folder(dataset)}/calibration"
        if self.calibration_count(dataset):
            return CalibrationFiles(f"{folder}/images.zip", f"{folder}/annotations.json")
        return CalibrationFiles(
            _place(section.images, f"{folder}/images.zip"), self.calibration_pool(dataset)
        )

    def calibration_count(self, dataset: str) -> int | None:
        """Returns how many calibration images are fetched one by one; None for other images."""
        section = self.config.datasets[dataset].calibration
        return section.count if section and section.images.source == [COCO_URL] else None

    def calibration_pool(self, dataset: str) -> str:
        """Returns the annotations that calibration images are chosen from, or belong to."""
        section = self.config.datasets[dataset].calibration
        assert section is not None
        return _place(section.annotations, f"{_folder(dataset)}/calibration/all_annotations.json")

    def resources(self) -> list[str]:
        """Returns the files that this run takes from elsewhere."""
        dataset = self.config.dataset
        found = [weights for model in self.crops if (weights := self.weights(model))]
        found += [self.images(dataset), self.annotations(dataset)]
        boxes = self.detections(dataset)
        if boxes and "det" in self.config.protocols.boxes:
            found.append(boxes)
        if "int8" in self.graphs.values():
            calibration = self.calibration(dataset)
            found += [calibration.images, calibration.annotations]
        return found

    @cached_property
    def archives(self) -> dict[str, tuple[str, str]]:
        """Extracted file -> the zip it is in, and its name there."""
        found = {}
        for name, dataset in self.config.datasets.items():
            folder = _folder(name)
            archive = f"{folder}/annotations.zip"
            if dataset.annotations.member:
                found[self.annotations(name)] = (
                    _archive(dataset.annotations, archive), dataset.annotations.member,
                )  # fmt: skip
            section = dataset.calibration
            if section and section.annotations.member:
                # COCO's annotations of both splits are in one zip, which is fetched once.
                if _without_member(section.annotations) != _without_member(dataset.annotations):
                    archive = f"{folder}/calibration/annotations.zip"
                found[self.calibration_pool(name)] = (
                    _archive(section.annotations, archive), section.annotations.member,
                )  # fmt: skip
        return found

    @cached_property
    def downloads(self) -> dict[str, Download]:
        """File of `resources/` -> where it comes from; files that are used in place are not here.

        A checkpoint is always brought to its place, even from a path.
        """
        found = {
            f"{RESOURCES}/weights/{name}.pth": Download(tuple(model.weights), model.sha256)
            for name, model in self.config.models.items()
            if model.weights is not None
        }
        for name, dataset in self.config.datasets.items():
            named = [
                (dataset.images, self.images(name)),
                (dataset.annotations, self.annotations(name)),
            ]
            if dataset.detections:
                named.append((dataset.detections, f"{_folder(name)}/detections.json"))
            section = dataset.calibration
            if section:
                named.append((section.annotations, self.calibration_pool(name)))
                if not self.calibration_count(name):
                    named.append((section.images, self.calibration(name).images))
            for source, place in named:
                if not _in_place(source):
                    path = self.archives[place][0] if place in self.archives else place
                    found[path] = Download(
                        tuple(source.source),
                        source.sha256,
                        source.size,
                        otherwise=WITHOUT_BOXES if source is dataset.detections else "",
                    )
        return found

    def to_fetch(self) -> list[str]:
        """Returns the files that a rule brings; those that are there and right need none.

        A file whose hash is known is used as it is wherever it comes from: no newer script, other
        mirror or forced run deletes it to fetch it again.

        Raises:
            ConfigError: a file is there with another hash than the configuration says.
        """
        wanted = []
        for path, download in self.downloads.items():
            if download.sha256 is None or not Path(path).is_file():
                wanted.append(path)
                continue
            found = files.known_sha256(Path(path))
            if not found.startswith(download.sha256):
                raise ConfigError(
                    f"{path}: sha256 is {found}, but the configuration says {download.sha256}: it "
                    "is another file, or damaged; delete it, or correct the configuration"
                )
        return wanted

    def calibration_to_fetch(self) -> list[str]:
        """Returns the datasets whose calibration images a rule fetches one by one.

        Images that are there already and belong to this configuration are used as they are.
        """
        return [
            name
            for name in self.config.datasets
            if self.calibration_count(name) and not self._has_calibration(name)
        ]

    def calibration_identity(self, dataset: str) -> str:
        """Returns what the choice of calibration images depends on, besides their number."""
        section = self.config.datasets[dataset].calibration
        assert section is not None
        source = section.annotations
        return f"{source.sha256}:{source.member or ''}" if source.sha256 else ""

    def _has_calibration(self, dataset: str) -> bool:
        identity = self.calibration_identity(dataset)
        lying = self.calibration(dataset)
        images, annotations = Path(lying.images), Path(lying.annotations)
        manifest = images.with_name("manifest.json")
        if not identity or not (images.is_file() and annotations.is_file()):
            return False
        try:
            content = FetchedImages.model_validate_json(manifest.read_bytes())
        except (OSError, ValidationError):
            return False
        return (
            (content.source, content.count) == (identity, self.calibration_count(dataset))
            and files.known_sha256(images) == content.archive_sha256
            and files.known_sha256(annotations) == content.annotations_sha256
        )


def is_url(source: str) -> bool:
    """Tells a URL from a path."""
    return "://" in source


def _folder(dataset: str) -> str:
    return f"{RESOURCES}/datasets/{dataset}"


def _in_place(source: Source) -> bool:
    """Tells whether a file is used where it is: a plain path, of which nothing else is known."""
    alone = len(source.source) == 1 and not is_url(source.source[0])
    return alone and source.sha256 is None and source.size is None


def _place(source: Source, fetched: str) -> str:
    """Returns where a file lies once it is there."""
    return source.source[0] if _in_place(source) and not source.member else fetched


def _archive(source: Source, fetched: str) -> str:
    return source.source[0] if _in_place(source) else fetched


def _without_member(source: Source) -> Source:
    return source.model_copy(update={"member": None})


def _same_digest(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _without_missing_boxes(checked: Config) -> tuple[Config, list[str]]:
    """Leaves out detected boxes that cannot be had, if annotated ones were asked for, too.

    Raises:
        ConfigError: nothing would be left.
    """
    name = checked.dataset
    source = checked.datasets[name].detections
    if "det" not in checked.protocols.boxes or source is None:
        return checked, []
    place = _place(source, f"{_folder(name)}/detections.json")
    fetched = source.source and not _in_place(source)
    if fetched or Path(place).is_file():
        return checked, []
    hashed = f" (sha256 {source.sha256})" if source.sha256 else ""
    missing = f"{place}: the detector's boxes are not there; put the file there{hashed} by hand"
    others = [boxes for boxes in checked.protocols.boxes if boxes != "det"]
    if not others:
        raise ConfigError(f"{missing}, or {WITHOUT_BOXES}")
    protocols = checked.protocols.model_copy(update={"boxes": others})
    note = f"{missing}; until then only ground-truth boxes are evaluated (docs/fetching.md)"
    return checked.model_copy(update={"protocols": protocols}), [note]


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
    checked, notes = _without_missing_boxes(config.load(raw, backends))
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
        notes=tuple(notes),
    )


def prefer_own_python() -> None:
    """Makes `python` in stage commands the one that runs Snakemake.

    A conda environment that a rule asks for comes before it, since it is activated later.
    """
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


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
