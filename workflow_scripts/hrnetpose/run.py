"""A run: the configuration with all that follows from it, resolved once.  It is what rules ask.

It imports nothing heavy: planning is on the way of every command, also of one that finds nothing
to do.
"""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from hrnetpose import config, paths
from hrnetpose.backend_rules import BackendRules, Options
from hrnetpose.config import Config, ConfigError
from hrnetpose.layout import CropPaths, Layout, ModelPaths, VariantPaths
from hrnetpose.models import known
from hrnetpose.models.known import KnownModel
from hrnetpose.recipes import CALIBRATED, RECIPES, Graph, lineage
from hrnetpose.resources import Dataset, Given, Resources

SHARDS_AT_WORK = 8
"""Of temporary crops, so many shards are there at a time."""
CPU_BATCH, GPU_BATCH = 8, 32
"""Images per inference unless the variant says it."""


@dataclass(frozen=True)
class Model(ABC):
    """A model of the configuration: what rules ask, wherever it comes from.

    Attributes:
        section: its section there.
        paths: its files.
    """

    paths: ModelPaths

    stage: ClassVar[str]
    """The rule that makes its graph and its card."""

    @property
    def name(self) -> str:
        return self.paths.name

    @property
    @abstractmethod
    def published(self) -> config.Published | None:
        """What to expect."""

    @property
    @abstractmethod
    def is_trained(self) -> bool:
        """Whether it has weights, and so an accuracy."""

    @property
    @abstractmethod
    def given(self) -> list[Given]:
        """The files that the configuration names and that are brought here."""

    @property
    def needed(self) -> list[str]:
        """Where these lie once they are there."""
        return [given.place for given in self.given]

    @cached_property
    @abstractmethod
    def known(self) -> KnownModel:
        """What is known of it when a run is planned.

        Raises:
            ConfigError: it cannot be found or read, or is not supported.
        """

    @property
    def crop(self) -> str:
        """The crops that it takes, for example `256x192`."""
        return self.known.crop

    @property
    def files(self) -> list[str]:
        """The user's own files that it is made of, as far as they are known."""
        return self.known.files

    @abstractmethod
    def is_reference(self, rules: BackendRules) -> bool:
        """Return True if a backend at fp32 gives what the others are compared with."""


@dataclass(frozen=True)
class MmposeModel(Model):
    """A config of mmpose and a checkpoint."""

    section: config.MmposeModel

    stage = "export_onnx"

    @property
    def published(self) -> config.Published | None:
        return self.section.published

    @property
    def is_trained(self) -> bool:
        return self.section.weights is not None

    @property
    def given(self) -> list[Given]:
        if self.section.weights is None:
            return []
        source = config.Source(source=self.section.weights, sha256=self.section.sha256)
        key = f"models.{self.name}.weights"
        return [Given(key, source, self.paths.weights, always_copied=True)]

    @property
    def weights(self) -> str | None:
        """Where its checkpoint lies once it is there; None if it is untrained."""
        return self.paths.weights if self.is_trained else None

    @cached_property
    def known(self) -> KnownModel:
        return known.look_up(self.name, self.section)

    @cached_property
    def changes(self) -> str | None:
        """After which changes of files that its config reads it is exported."""
        return known.find_changes(Path(self.paths.card))

    def is_reference(self, rules: BackendRules) -> bool:
        return rules.original


@dataclass(frozen=True)
class OnnxModel(Model):
    """A model of which only the ONNX file is there."""

    section: config.OnnxModel

    stage = "import_onnx"

    @property
    def published(self) -> config.Published | None:
        return self.section.published

    @property
    def is_trained(self) -> bool:
        return True

    @property
    def given(self) -> list[Given]:
        section = self.section
        source = config.Source(source=section.onnx, sha256=section.sha256, size=section.size)
        suffix = ".zip" if section.onnx[0].endswith(".zip") else ".onnx"
        copy = self.paths.given_onnx(suffix)
        return [Given(f"models.{self.name}.onnx", source, copy, is_folder=True)]

    @property
    def file(self) -> str:
        """Where its file, folder or zip lies once it is there."""
        return self.given[0].place

    @cached_property
    def known(self) -> KnownModel:
        given = self.given[0]
        if not given.is_in_place and any(map(os.path.isdir, given.source.source)):
            raise ConfigError(
                f"{given.key}: a folder is used where it is, so it stands alone and has no sha256 "
                "and no size; give its zip for that"
            )
        local = [path for one in self.section.onnx if (path := paths.local(one))]
        return known.look_up_onnx(self.name, self.section, [*local, self.file])

    @property
    def files(self) -> list[str]:
        return (self.given[0].is_in_place and self.known.files) or [self.file]

    @property
    def card_json(self) -> str:
        """What the configuration says of it, as JSON in a fixed order."""
        return json.dumps(
            self.section.card.model_dump(mode="json", exclude_none=True), sort_keys=True
        )

    def is_reference(self, rules: BackendRules) -> bool:
        return not rules.original


def describe_model(section: config.MmposeModel | config.OnnxModel, paths: ModelPaths) -> Model:
    """Return a model with its files."""
    if isinstance(section, config.OnnxModel):
        return OnnxModel(paths, section)
    return MmposeModel(paths, section)


@dataclass(frozen=True)
class Variant:
    """One row of the report.

    Attributes:
        section: its section of the configuration, `auto` resolved.
        rules: what its backend accepts.
        options: of its backend.
        paths: its files.
        model: its model.
        dataset: the dataset that it is evaluated on.
        evaluated: the crops that it is evaluated on.
        graph: the file of the ONNX graph that its engine is built from.
        graph_kind: what that is; None for the simplified graph, where the model's own is in the
            precision already.
        predictions: all its predictions: every box set, all shards in order.
        reference: what its accuracy is compared with: the first variant of the same model that runs
            the original at fp32, in PyTorch or, of an ONNX file, in any engine; None for that one.
    """

    section: config.Variant
    rules: BackendRules
    options: Options
    paths: VariantPaths
    model: Model
    dataset: Dataset
    evaluated: CropPaths
    graph: str
    graph_kind: Graph | None
    predictions: list[str]
    reference: "Variant | None" = None

    @property
    def name(self) -> str:
        return self.paths.name

    @property
    def backend(self) -> str:
        return self.section.backend

    @property
    def precision(self) -> str:
        return self.section.precision

    @property
    def is_original(self) -> bool:
        """Whether it runs the original model, and no graph."""
        return self.rules.original

    @property
    def weights(self) -> str | None:
        """The checkpoint, where its engine is made from that."""
        model = self.model
        return model.weights if self.is_original and isinstance(model, MmposeModel) else None

    @property
    def module(self) -> str:
        """The module of its backend."""
        return f"hrnetpose.engines.{self.backend}"

    @property
    def bundled(self) -> list[str]:
        """The modules that a bundle's pose.py has beside."""
        return [self.rules.bundled_with] if self.rules.bundled_with else []

    @property
    def environment(self) -> str:
        """The conda environment of its backend, in envs/."""
        return "mmpose" if self.is_original else "engines"

    @cached_property
    def gpus(self) -> int:
        """How many GPUs its engine needs."""
        return self.rules.gpus(self.options)

    @property
    def batch(self) -> int:
        """Images per inference."""
        return self.section.batch or (GPU_BATCH if self.gpus else CPU_BATCH)

    @property
    def options_json(self) -> str:
        """The options that are given, as JSON in a fixed order."""
        return json.dumps(self.options.model_dump(mode="json", exclude_unset=True), sort_keys=True)

    @property
    def machine(self) -> str:
        """What it shares with the other variants of its kind of device and input size."""
        return self.paths.layout.machine("gpu" if self.gpus else "cpu", self.model.crop)

    @property
    def benchmark_crops(self) -> str:
        """The crops that its speed is measured on."""
        return self.dataset.paths.cut.crops(self.model.crop, "benchmark")

    def crops(self, boxes: str, shard: str) -> str:
        """Return one shard of the crops that it is evaluated on."""
        return self.evaluated.crops(self.model.crop, boxes, shard)

    def instances(self, boxes: str, shard: str) -> str:
        """Return the table beside a shard of these crops."""
        return self.evaluated.instances(self.model.crop, boxes, shard)


@dataclass(frozen=True)
class Run:
    """What rules ask.

    Attributes:
        config: the configuration.
        layout: where its files lie.
        models: models by name, also those that no variant uses.
        datasets: datasets by name, also those that are not evaluated.
        variants: variants by name; `RUN[name]` is the short form.
        notes: what the user should know before anything runs.
    """

    config: Config
    layout: Layout
    models: Mapping[str, Model]
    datasets: Mapping[str, Dataset]
    variants: Mapping[str, Variant]
    notes: tuple[str, ...]

    def __getitem__(self, variant: str) -> Variant:
        return self.variants[variant]

    @property
    def dataset(self) -> Dataset:
        """The dataset that is evaluated."""
        return self.datasets[self.config.dataset]

    @property
    def evaluated_crops(self) -> CropPaths:
        """The crops that are evaluated."""
        if self.config.crops == "temporary":
            return self.layout.temporary_crops(self.config.dataset)
        return self.dataset.paths.cut

    @cached_property
    def shards(self) -> list[str]:
        """The names of the shards."""
        count = self.config.shards
        return [f"{index}-of-{count}" for index in range(1, count + 1)]

    def earlier_predictions(self, crop: str, boxes: str, shard: str) -> list[str]:
        """Return what must be there before temporary crops are cut: they read an earlier shard.

        So at most `SHARDS_AT_WORK` shards of a crop and box set are on the disk, whatever the
        scheduler prefers.
        """
        place = int(shard.partition("-")[0]) - 1 - SHARDS_AT_WORK
        if place < 0:
            return []
        return [
            variant.paths.predictions(boxes, self.shards[place])
            for variant in self.variants.values()
            if variant.model.crop == crop
        ]

    @cached_property
    def resources(self) -> Resources:
        """What comes from elsewhere."""
        models = [given for model in self.models.values() for given in model.given]
        return Resources(tuple(models), self.datasets)

    @property
    def scored(self) -> list[str]:
        """The variants that have an accuracy."""
        return [name for name, variant in self.variants.items() if variant.model.is_trained]

    @property
    def used_models(self) -> list[str]:
        """The models that variants use."""
        used = {variant.model.name for variant in self.variants.values()}
        return [name for name in self.models if name in used]

    def models_of(self, kind: type[Model]) -> list[str]:
        """Return the models that come from one kind of source."""
        return [name for name, model in self.models.items() if isinstance(model, kind)]

    @property
    def converted_models(self) -> list[str]:
        """The models that have a variant which is made from a graph."""
        used = {v.model.name for v in self.variants.values() if not v.is_original}
        return [name for name in self.models if name in used]

    @property
    def keypoints(self) -> dict[str, list[str]]:
        """Model -> names of its keypoints, if they are known."""
        found = {name: self.models[name].known.keypoints for name in self.used_models}
        return {name: names for name, names in found.items() if names}

    @property
    def evaluated_keypoints(self) -> list[str]:
        """Name of the keypoints that are evaluated; none if they are not known."""
        return next(iter(self.keypoints.values()), [])

    @property
    def is_calibrated(self) -> bool:
        """Whether a variant needs calibration images."""
        return any(
            variant.precision in CALIBRATED and variant.graph_kind
            for variant in self.variants.values()
        )

    @property
    def audits(self) -> list[str]:
        """The audits of this run's images."""
        audited = ["audit", *(["calibration_audit"] if self.is_calibrated else [])]
        return [self.dataset.paths.audit(name) for name in audited]

    @property
    def person_summaries(self) -> list[str]:
        """What is written about the persons that are evaluated."""
        return [self.dataset.paths.person_summary(boxes) for boxes in self.config.protocols.boxes]

    @property
    def quantizations(self) -> list[str]:
        """What is written about the int8 graphs of this run."""
        return sorted(
            {
                variant.model.paths.summary(self.layout.name(graph))
                for variant in self.variants.values()
                if variant.graph_kind
                for graph in lineage(variant.graph_kind)
                if RECIPES[graph].stage == "quantize_int8"
            }
        )

    @property
    def bundled(self) -> list[str]:
        """The variants that can be bundled: those that run a graph."""
        return [name for name, variant in self.variants.items() if not variant.is_original]

    def refuse_bundle(self, name: str) -> str:
        """Return why there is no bundle of a variant, and the remedy."""
        path = self.layout.variant(name).bundle
        if name not in self.variants:
            return f"{path}: {config.no_such('variant', name, self.variants)}"
        own = self.variants[name]
        same = next(
            (
                other
                for other in self.bundled
                if self.variants[other].model == own.model
                and self.variants[other].precision == own.precision
            ),
            "one with `precision: fp32` and `backend: auto`",
        )
        return (
            f"{path}: variant {name!r} runs the original model and would need PyTorch and mmpose "
            f"wherever it goes; bundle {same}, which runs it as a graph"
        )

    @property
    def needed(self) -> list[str]:
        """The files that this run takes from elsewhere."""
        found = [file for name in self.used_models for file in self.models[name].needed]
        found += [self.dataset.evaluated.images, self.dataset.evaluated.annotations]
        if "det" in self.config.protocols.boxes:
            boxes = self.dataset.detector or filter(None, [self.dataset.detections])
            found += [given.place for given in boxes]
        if self.is_calibrated:
            calibration = self.dataset.subset("calibration")
            found += [calibration.images, calibration.annotations]
        return found

    @property
    def limits(self) -> dict[str, dict[str, float | None]]:
        """Variant -> what `snakemake gate` demands of it."""
        common = self.config.limits.model_dump()
        return {name: common | self.own_limits.get(name, {}) for name in self.config.variants}

    @property
    def own_limits(self) -> dict[str, dict[str, float | None]]:
        """Variant -> those of its limits that it gives itself."""
        return {
            name: own.limits.model_dump(exclude_unset=True)
            for name, own in self.config.variants.items()
            if own.limits
        }

    @property
    def published(self) -> dict[str, dict[str, dict[str, float]]]:
        """Model -> protocol -> published figures that compare with these.

        They are of the same dataset, of mmpose's NMS and, with detected boxes, of the same ones.
        """
        dataset = self.dataset.section
        boxes = dataset.detections if dataset.detection_score == 0 else None
        figures = {}
        for name, model in self.models.items():
            figure = model.published
            if not figure or figure.dataset != self.config.dataset:
                continue
            other_boxes = figure.detections and not (
                boxes and boxes.sha256 and _is_same_digest(figure.detections, boxes.sha256)
            )
            if self.config.protocols.nms != "soft" and not other_boxes:
                figures[name] = {figure.protocol: figure.figures()}
        return figures


def _is_same_digest(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)
