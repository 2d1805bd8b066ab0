"""What a run takes from elsewhere: where it lies once it is there, and where it comes from."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError

from hrnetpose import files, paths
from hrnetpose.artifacts.fetched import FetchedImages
from hrnetpose.config import CALIBRATED, COCO_URL, Config, ConfigError, Source

FOLDER = "resources"
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
        return (
            list(self.sources)
            if len(self.sources) == 1 and not files.is_url(self.sources[0])
            else []
        )

    @property
    def own(self) -> list[str]:
        """The file of this machine that is copied, if one is; its content is compared."""
        for source in self.sources:
            path = paths.local(source)
            if path is None:
                break
            if os.path.isfile(path):
                return [path]
        return []

    def is_at(self, place: str) -> bool:
        """Tells whether a source is the place itself: a file that was put there needs no copy."""
        found = [path for source in self.sources if (path := paths.local(source))]
        return any(paths.is_same(path, place) for path in found)


@dataclass(frozen=True)
class Given:
    """A file that the configuration names.

    Attributes:
        key: its key in the configuration.
        source: what is said of it.
        place: where it lies once it is there.
        images: it may be a folder.
    """

    key: str
    source: Source
    place: str
    images: bool = False


@dataclass(frozen=True)
class CalibrationFiles:
    """Where the images that int8 is calibrated on lie, and their annotations."""

    images: str
    annotations: str


@dataclass(frozen=True)
class Resources:
    """The files that a configuration names.

    Attributes:
        config: the configuration.
    """

    config: Config

    def weights(self, model: str) -> str | None:
        """Returns where a model's checkpoint lies once it is there; None if it is untrained."""
        return f"{FOLDER}/weights/{model}.pth" if self.config.models[model].weights else None

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
        found = {}
        for given in [*self._weights(), *self._files()]:
            source = given.source
            if not _in_place(source) or not given.key.startswith("datasets."):
                boxes = given.key.endswith(".detections")
                found[self._copy(given)] = Download(
                    tuple(source.source),
                    source.sha256,
                    source.size,
                    otherwise=WITHOUT_BOXES if boxes else "",
                )
        return found

    def _weights(self) -> Iterator[Given]:
        for name, model in self.config.models.items():
            if model.weights:
                source = Source(source=model.weights, sha256=model.sha256)
                yield Given(f"models.{name}.weights", source, f"{FOLDER}/weights/{name}.pth")

    def _files(self) -> Iterator[Given]:
        for name, dataset in self.config.datasets.items():
            key = f"datasets.{name}"
            yield Given(f"{key}.images", dataset.images, self.images(name), images=True)
            yield Given(f"{key}.annotations", dataset.annotations, self.annotations(name))
            if dataset.detections and (place := self.detections(name)):
                yield Given(f"{key}.detections", dataset.detections, place)
            if section := dataset.calibration:
                key, pool = f"{key}.calibration", self.calibration_pool(name)
                yield Given(f"{key}.annotations", section.annotations, pool)
                if not self.calibration_count(name):
                    place = self.calibration(name).images
                    yield Given(f"{key}.images", section.images, place, images=True)

    def _copy(self, given: Given) -> str:
        """Returns where a file is brought to."""
        return self.archives[given.place][0] if given.place in self.archives else given.place

    def check_given(self, models: Iterable[str], is_made: Callable[[str], bool]) -> None:
        """Looks whether files that the configuration names are there, those that the run uses.

        What comes from elsewhere cannot be known; nor is a source needed for a copy that has the
        hash that is given.

        Args:
            models: the models that variants use.
            is_made: tells whether a rule makes a file.

        Raises:
            ConfigError: a file is not there, or cannot be read.
        """
        used = {f"models.{name}.weights" for name in models} | self._used_keys()
        for given in [*self._weights(), *self._files()]:
            source = given.source
            known = source.sha256 and Path(self._copy(given)).is_file()
            if given.key not in used or known:
                continue
            faults = [_fault(path, given, is_made) for path in source.source]
            if faults and all(faults):
                none = "none of its sources can be read: " if len(faults) > 1 else ""
                raise ConfigError(f"{given.key}: {none}{'; '.join(map(str, faults))}")

    def _used_keys(self) -> set[str]:
        """The keys of what the run takes from its dataset."""
        used = {"images", "annotations"}
        if "det" in self.config.protocols.boxes:
            used.add("detections")
        if any(v.precision in CALIBRATED for v in self.config.variants.values()):
            used |= {"calibration.images", "calibration.annotations"}
        return {f"datasets.{self.config.dataset}.{key}" for key in used}

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
                if not download.is_at(path):
                    wanted.append(path)
                continue
            found = files.known_sha256(Path(path))
            if not found.startswith(download.sha256):
                raise ConfigError(
                    f"{path}: sha256 is {found}, but the configuration says {download.sha256}: it "
                    "is another file, or damaged; delete it, or correct the configuration"
                )
        return wanted

    def brings(self, path: str) -> bool:
        """Tells whether a file comes from elsewhere, also when it is there and has no rule."""
        fetched = [self.calibration(n) for n in self.config.datasets if self.calibration_count(n)]
        chosen = {name for files in fetched for name in (files.images, files.annotations)}
        return path in self.downloads or path in self.archives or path in chosen

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


def _fault(path: str, given: Given, is_made: Callable[[str], bool]) -> str | None:
    """Says what is wrong with a source; None if nothing is, or it cannot be known."""
    file = paths.local(path)
    if file is None:
        return None
    if is_made(path):
        kept = os.path.normpath(path).startswith(f"{FOLDER}/")
        return None if kept else f"{path}: the workflow writes this file itself; give another"
    copied = f"; the copy at {given.place} is used if its `sha256` is given" if (
        given.place != path and Path(given.place).is_file()
    ) else ""  # fmt: skip
    fault = paths.fault(file, images=given.images)
    return fault and f"{fault}{copied}"


def _folder(dataset: str) -> str:
    return f"{FOLDER}/datasets/{dataset}"


def _in_place(source: Source) -> bool:
    """Tells whether a file is used where it is: a plain path, of which nothing else is known."""
    alone = len(source.source) == 1 and not files.is_url(source.source[0])
    return alone and source.sha256 is None and source.size is None


def _place(source: Source, fetched: str) -> str:
    """Returns where a file lies once it is there."""
    return source.source[0] if _in_place(source) and not source.member else fetched


def _archive(source: Source, fetched: str) -> str:
    return source.source[0] if _in_place(source) else fetched


def _without_member(source: Source) -> Source:
    return source.model_copy(update={"member": None})


def without_missing_boxes(config: Config) -> tuple[Config, list[str]]:
    """Leaves out boxes that can only be put there by hand, if annotated ones are asked for.

    Raises:
        ConfigError: nothing would be left.
    """
    name = config.dataset
    source = config.datasets[name].detections
    place = f"{_folder(name)}/detections.json"
    if (
        "det" not in config.protocols.boxes
        or source is None
        or source.source
        or Path(place).is_file()
    ):
        return config, []
    hashed = f" (sha256 {source.sha256})" if source.sha256 else ""
    missing = f"{place}: the detector's boxes are not there; put the file there{hashed} by hand"
    others = [boxes for boxes in config.protocols.boxes if boxes != "det"]
    if not others:
        raise ConfigError(f"{missing}, or {WITHOUT_BOXES}")
    protocols = config.protocols.model_copy(update={"boxes": others})
    note = f"{missing}; until then only ground-truth boxes are evaluated (docs/fetching.md)"
    return config.model_copy(update={"protocols": protocols}), [note]
