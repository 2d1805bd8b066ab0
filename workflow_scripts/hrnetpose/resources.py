"""What a run takes from elsewhere: where it lies once it is there, and where it comes from."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError

from hrnetpose import config, files, paths
from hrnetpose.artifacts.fetched import FetchedImages
from hrnetpose.config import COCO_URL, ConfigError, Source
from hrnetpose.flags import option
from hrnetpose.layout import DatasetPaths, FetchedPaths

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
        return [
            *option("--source", self.sources),
            *option("--sha256", self.sha256),
            *option("--size", self.size),
            *option("--otherwise", self.otherwise),
        ]

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
        """Return True if a source is the place itself: a file put there needs no copy."""
        found = [path for source in self.sources if (path := paths.local(source))]
        return any(paths.is_same(path, place) for path in found)


@dataclass(frozen=True)
class Given:
    """A file that the configuration names.

    Attributes:
        key: its key in the configuration.
        source: what is said of it.
        copy: where it lies if it is not used in place.
        archive: where the zip lies that it is taken out of, likewise.
        images: it is a folder of images, or a zip.
        is_folder: it may be a folder.
        always_copied: also a plain path alone is not used in place.
        otherwise: what the user can do without it.
    """

    key: str
    source: Source
    copy: str
    archive: str = ""
    images: bool = False
    is_folder: bool = False
    always_copied: bool = False
    otherwise: str = ""

    @property
    def is_in_place(self) -> bool:
        """Whether it is used where it is: a plain path, of which nothing else is known."""
        alone = len(self.source.source) == 1 and not files.is_url(self.source.source[0])
        checked = self.source.sha256 is not None or self.source.size is not None
        return alone and not checked and not self.always_copied

    @property
    def place(self) -> str:
        """Where it lies once it is there."""
        is_itself = self.is_in_place and not self.source.member
        return self.source.source[0] if is_itself else self.copy

    @property
    def brought(self) -> str:
        """Where what is brought here lies: the file, or the zip that it is in."""
        if not self.source.member:
            return self.place
        return self.source.source[0] if self.is_in_place else self.archive

    @property
    def download(self) -> Download | None:
        """Where that comes from; None if it is used in place."""
        if self.is_in_place:
            return None
        source = self.source
        return Download(tuple(source.source), source.sha256, source.size, self.otherwise)


@dataclass(frozen=True)
class Subset:
    """Images of a dataset, and their annotations."""

    images: str
    annotations: str


@dataclass(frozen=True)
class Calibration:
    """What int8 and fp8 are calibrated on.

    Attributes:
        images: the images; None if they are fetched one by one.
        pool: the annotations that images are chosen from, or belong to.
        count: how many are fetched one by one; None for other images.
        fetched: where those lie.
    """

    images: Given | None
    pool: Given
    count: int | None
    fetched: FetchedPaths

    @property
    def files(self) -> Subset:
        """Where images and annotations lie once they are there."""
        if self.images is None:
            return Subset(self.fetched.images, self.fetched.annotations)
        return Subset(self.images.place, self.pool.place)

    @property
    def identity(self) -> str:
        """What the choice of images depends on, besides their number; empty if not known."""
        source = self.pool.source
        return f"{source.sha256}:{source.member or ''}" if source.sha256 else ""

    def is_fetched(self) -> bool:
        """Return True if the images are there that this configuration chooses."""
        images, annotations = Path(self.fetched.images), Path(self.fetched.annotations)
        if not self.identity or not (images.is_file() and annotations.is_file()):
            return False
        try:
            content = FetchedImages.model_validate_json(Path(self.fetched.manifest).read_bytes())
        except (OSError, ValidationError):
            return False
        return (
            (content.source, content.count) == (self.identity, self.count)
            and files.known_sha256(images) == content.archive_sha256
            and files.known_sha256(annotations) == content.annotations_sha256
        )


@dataclass(frozen=True)
class Dataset:
    """A dataset of the configuration.

    Attributes:
        section: its section there.
        paths: its files.
        images: what is evaluated.
        annotations: of those images.
        detections: a detector's boxes, where they are given.
        detector: the graph of the detector that finds them, and what mmdeploy says of it.
        calibration: what int8 and fp8 are calibrated on.
    """

    section: config.Dataset
    paths: DatasetPaths
    images: Given
    annotations: Given
    detections: Given | None
    detector: tuple[Given, ...]
    calibration: Calibration | None

    @property
    def evaluated(self) -> Subset:
        """Where what is evaluated lies once it is there."""
        return Subset(self.images.place, self.annotations.place)

    @property
    def detected(self) -> str | None:
        """Where the boxes of a detector lie once they are there; None if there are none."""
        if self.detector:
            return self.paths.detections
        return self.detections.place if self.detections else None

    def subset(self, name: str) -> Subset:
        """Return the images that a list of persons, crops or an audit are made from.

        Args:
            name: `calibration` and `calibration_audit` have images of their own.
        """
        if not name.startswith("calibration"):
            return self.evaluated
        assert self.calibration is not None  # `config.load` makes sure that int8 has some
        return self.calibration.files

    @property
    def given(self) -> list[Given]:
        """What the configuration names."""
        found = [self.images, self.annotations, self.detections, *self.detector]
        if self.calibration:
            found += [self.calibration.pool, self.calibration.images]
        return [given for given in found if given]


def describe_dataset(section: config.Dataset, paths: DatasetPaths) -> Dataset:
    """Return a dataset with its files."""
    key, fetched = f"datasets.{paths.name}", paths.evaluated
    detections = calibration = None
    if section.detections:
        detections = Given(
            f"{key}.detections", section.detections, fetched.detections, otherwise=WITHOUT_BOXES
        )
    if section.calibration:
        # COCO's annotations of both splits are in one zip, which is fetched once.
        other = section.calibration.annotations
        is_same = _without_member(other) == _without_member(section.annotations)
        archive = (paths.evaluated if is_same else paths.calibrated_on).archive
        calibration = _describe_calibration(
            f"{key}.calibration", section.calibration, paths.calibrated_on, archive
        )
    images = Given(f"{key}.images", section.images, fetched.images, images=True)
    annotations = Given(
        f"{key}.annotations", section.annotations, fetched.annotations, archive=fetched.archive
    )
    detector = _describe_detector(f"{key}.detector", section.detector, fetched)
    return Dataset(section, paths, images, annotations, detections, detector, calibration)


def _describe_detector(
    key: str, section: config.Detector | None, fetched: FetchedPaths
) -> tuple[Given, ...]:
    if section is None:
        return ()
    onnx = Source(source=section.onnx, sha256=section.sha256)
    graph = Given(f"{key}.onnx", onnx, fetched.detector, otherwise=WITHOUT_BOXES)
    if section.card.pipeline is None:
        return (graph,)
    pipeline = Source(source=[section.card.pipeline])
    return graph, Given(f"{key}.card.pipeline", pipeline, fetched.pipeline)


def _describe_calibration(
    key: str, section: config.Calibration, fetched: FetchedPaths, archive: str
) -> Calibration:
    pool = Given(f"{key}.annotations", section.annotations, fetched.pool, archive=archive)
    if section.images.source == [COCO_URL]:
        return Calibration(None, pool, section.count, fetched)
    images = Given(f"{key}.images", section.images, fetched.images, images=True)
    return Calibration(images, pool, None, fetched)


def _without_member(source: Source) -> Source:
    return source.model_copy(update={"member": None})


@dataclass(frozen=True)
class Resources:
    """All files that a configuration names.

    Attributes:
        models: checkpoints and ONNX files.
        datasets: the datasets.
    """

    models: tuple[Given, ...]
    datasets: Mapping[str, Dataset]

    @property
    def given(self) -> Iterator[Given]:
        """The files."""
        yield from self.models
        for dataset in self.datasets.values():
            yield from dataset.given

    @cached_property
    def archives(self) -> dict[str, tuple[str, str]]:
        """Extracted file -> the zip it is in, and its name there."""
        return {
            given.place: (given.brought, given.source.member)
            for given in self.given
            if given.source.member
        }

    @cached_property
    def downloads(self) -> dict[str, Download]:
        """File of `resources/` -> where it comes from; files that are used in place are not here.

        A checkpoint is always brought to its place, even from a path.
        """
        return {given.brought: found for given in self.given if (found := given.download)}

    def to_fetch(self) -> list[str]:
        """Return the files that a rule brings; those that are there and right need none.

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

    def calibration_to_fetch(self) -> list[str]:
        """Return the datasets whose calibration images a rule fetches one by one.

        Images that are there already and belong to this configuration are used as they are.
        """
        return [name for name, chosen in self._chosen.items() if not chosen.is_fetched()]

    def brings(self, path: str) -> bool:
        """Return True if a file comes from elsewhere, also when it is there and has no rule."""
        chosen = [chosen.files for chosen in self._chosen.values()]
        return (
            path in self.downloads
            or path in self.archives
            or any(path in (files.images, files.annotations) for files in chosen)
        )

    @property
    def _chosen(self) -> dict[str, Calibration]:
        """Calibration images that are fetched one by one, by dataset."""
        return {
            name: calibration
            for name, dataset in self.datasets.items()
            if (calibration := dataset.calibration) and calibration.count
        }
