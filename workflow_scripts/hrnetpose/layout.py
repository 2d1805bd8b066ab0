"""Where the files of a run lie: each path is written here, and nowhere else.

Models, datasets and crops are shared by all runs; engines, predictions, results and logs are a
run's own.  What depends on a model and a dataset has both in its path.  A name may be a wildcard,
such as `{model}`: so a rule says where the files of any model lie.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from hrnetpose.artifacts.engine import ENGINE_CARD, ENGINE_FILE
from hrnetpose.recipes import RECIPES, Graph

WHOLE = "1-of-1"
"""The shard of what is not split."""
TIMING_CACHE = "build/timing_cache"
"""Kernels that were measured for one engine, for the next one."""


def resource(file: str) -> str:
    """Return where a file from elsewhere lies."""
    return f"resources/{file}"


WRITTEN = (resource("datasets/"), resource("weights/"), "build/", "results/")
"""Where this workflow writes: such a path is of the working directory."""


def any_of(names: Iterable[str]) -> str:
    """Return a regular expression that matches these names and nothing else."""
    escaped = [re.escape(name) for name in sorted(names, key=len, reverse=True)]
    return "|".join(escaped) or "(?!)"


def _in_model(graph: str, dataset: str | None) -> str:
    return f"{dataset}/{graph}" if dataset else graph


@dataclass(frozen=True)
class ModelPaths:
    """The files of a model."""

    name: str

    @property
    def weights(self) -> str:
        return resource(f"weights/{self.name}.pth")

    def given_onnx(self, suffix: str) -> str:
        """Return where an ONNX file from elsewhere lies, or the zip with it."""
        return resource(f"weights/{self.name}{suffix}")

    @property
    def onnx(self) -> str:
        """The exported graph, or the imported one."""
        return self.graph("model")

    @property
    def card(self) -> str:
        return self.summary("model")

    @property
    def simplified(self) -> str:
        return self.graph("simplified")

    def graph(self, graph: str, dataset: str | None = None) -> str:
        """Return a graph, by its name in the model's folder or with the dataset it depends on."""
        return f"build/models/{self.name}/{_in_model(graph, dataset)}.onnx"

    def summary(self, graph: str, dataset: str | None = None) -> str:
        """Return what is written about that graph."""
        return f"build/models/{self.name}/{_in_model(graph, dataset)}.json"

    def reference_outputs(self, dataset: str) -> str:
        """Return the outputs of the original: of the model, or of the ONNX file."""
        return f"build/models/{self.name}/{dataset}/reference_outputs.npz"


@dataclass(frozen=True)
class FetchedPaths:
    """Images and their annotations from elsewhere."""

    folder: str

    @property
    def images(self) -> str:
        return f"{self.folder}/images.zip"

    @property
    def annotations(self) -> str:
        return f"{self.folder}/annotations.json"

    @property
    def archive(self) -> str:
        """The zip that annotations are taken out of."""
        return f"{self.folder}/annotations.zip"

    @property
    def detections(self) -> str:
        return f"{self.folder}/detections.json"

    @property
    def detector(self) -> str:
        """A detector's graph."""
        return f"{self.folder}/detector.onnx"

    @property
    def pipeline(self) -> str:
        """What mmdeploy says of its input."""
        return f"{self.folder}/pipeline.json"

    @property
    def pool(self) -> str:
        """Annotations of more images than are fetched."""
        return f"{self.folder}/all_annotations.json"

    @property
    def manifest(self) -> str:
        """Which images were fetched."""
        return f"{self.folder}/manifest.json"


@dataclass(frozen=True)
class CropPaths:
    """Persons cut out of images.

    Subsets are the evaluated `gt` and `det`, `calibration`, and `benchmark`.
    """

    folder: str

    def crops(self, crop: str, subset: str, shard: str = WHOLE) -> str:
        """Return the crops of a subset."""
        return f"{self.folder}/{crop}/{subset}/crops_{shard}.npy"

    def instances(self, crop: str, subset: str, shard: str = WHOLE) -> str:
        """Return the table beside those crops."""
        return f"{self.folder}/{crop}/{subset}/instances_{shard}.npz"


@dataclass(frozen=True)
class DatasetPaths:
    """The files of a dataset, and what is derived from it."""

    name: str

    @property
    def evaluated(self) -> FetchedPaths:
        return FetchedPaths(resource(f"datasets/{self.name}"))

    @property
    def calibrated_on(self) -> FetchedPaths:
        return FetchedPaths(f"{self.evaluated.folder}/calibration")

    @property
    def calibration(self) -> str:
        """What int8 and fp8 are calibrated on: none of it is evaluated."""
        return self._derived("calibration.json")

    def audit(self, audited: str = "audit") -> str:
        """Return what was found in images and annotations: `audit` or `calibration_audit`."""
        return self._derived(f"{audited}.json")

    def annotations(self, audited: str = "audit") -> str:
        """Return the annotations as an audit has read them."""
        return self._derived(f"{audited}.npz")

    @property
    def detections(self) -> str:
        """The boxes that a detector has found."""
        return self._derived("detections.json")

    @property
    def detector(self) -> str:
        """What is written about that detector."""
        return self._derived("detector.json")

    def persons(self, listed: str) -> str:
        """Return a list of persons: those of `gt` or `det` boxes, or for `calibration`."""
        return self._derived(f"persons_{listed}.npz")

    def person_summary(self, listed: str) -> str:
        """Return what is written about that list."""
        return self._derived(f"persons_{listed}.json")

    @property
    def cut(self) -> CropPaths:
        """The persons that are cut out of its images."""
        return CropPaths(f"build/datasets/{self.name}")

    def _derived(self, file: str) -> str:
        return f"build/datasets/{self.name}/{file}"


@dataclass(frozen=True)
class VariantPaths:
    """The files of a variant, which are its run's own."""

    name: str
    layout: "Layout"

    @property
    def engine(self) -> str:
        return f"{self.layout.own('build/engines')}/{self.name}/{ENGINE_FILE}"

    @property
    def card(self) -> str:
        return f"{self.layout.own('build/engines')}/{self.name}/{ENGINE_CARD}"

    @property
    def accuracy(self) -> str:
        return self.figures("accuracy")

    @property
    def perf(self) -> str:
        return self.figures("perf")

    @property
    def perf_samples(self) -> str:
        return self.figures("perf_samples")

    @property
    def parity(self) -> str:
        return self.figures("parity")

    @property
    def bundle(self) -> str:
        """What a person takes home."""
        return f"{self.layout.results}/bundles/{self.name}.zip"

    def figures(self, kind: str) -> str:
        """Return one of these by name."""
        return f"{self.layout.results}/{self.name}_{kind}.json"

    def predictions(self, boxes: str, shard: str) -> str:
        """Return the predictions on one shard of a box set."""
        return f"{self.layout.own('build/predictions')}/{self.name}/{boxes}_{shard}.npz"


@dataclass(frozen=True)
class Layout:
    """The paths of a run.

    Attributes:
        run: its name; None for the one that has none.
        evaluated: the dataset that is evaluated and calibrated on.
    """

    run: str | None
    evaluated: str

    def model(self, name: str) -> ModelPaths:
        """Return the files of a model."""
        return ModelPaths(name)

    def dataset(self, name: str) -> DatasetPaths:
        """Return the files of a dataset."""
        return DatasetPaths(name)

    def variant(self, name: str) -> VariantPaths:
        """Return the files of a variant."""
        return VariantPaths(name, self)

    def temporary_crops(self, dataset: str) -> CropPaths:
        """Return the crops of a dataset that are dropped after this run has read them."""
        return CropPaths(f"{self.own('build/crops')}/{dataset}")

    @property
    def results(self) -> str:
        """The folder of what a person asked for."""
        return self.own("results")

    @property
    def report(self) -> str:
        return f"{self.results}/report.html"

    @property
    def summary(self) -> str:
        """The report for a terminal."""
        return f"{self.results}/summary.txt"

    @property
    def markdown(self) -> str:
        """The report for a pull request."""
        return f"{self.results}/summary.md"

    @property
    def table(self) -> str:
        """The report's rows for a spreadsheet."""
        return f"{self.results}/results.csv"

    @property
    def verdicts(self) -> str:
        """Which variant to ship, and which precisions pay."""
        return f"{self.results}/verdicts.json"

    @property
    def gate(self) -> str:
        return f"{self.results}/gate.txt"

    def machine(self, device: str, crop: str) -> str:
        """Return what variants on a machine share, on `cpu` or `gpu` and with these crops."""
        return f"{self.own('build/machine')}/{device}_{crop}.json"

    @property
    def made(self) -> str:
        """What Snakemake was started with, for the report."""
        return f"{self.own('logs/run')}/run.json"

    def log(self, rule: str, name: str) -> str:
        """Return the log of a job whose outputs are the run's own."""
        return f"{self.own(f'logs/{rule}')}/{name}.log"

    def shared_log(self, rule: str, name: str) -> str:
        """Return the log of a job whose outputs all runs share."""
        return f"logs/{rule}/{name}.log"

    def name(self, graph: Graph) -> str:
        """Return a graph's name in its model's folder, with the dataset if it depends on one."""
        return _in_model(graph, self.evaluated if RECIPES[graph].calibrated else None)

    def source(self, graph: Graph) -> str:
        """Return the name of the graph that another one is made from."""
        source = RECIPES[graph].source
        return self.name(source) if source else "simplified"

    def own(self, folder: str) -> str:
        """Return the run's own folder in one that runs share."""
        return f"{folder}/{self.run}" if self.run else folder
