"""The configuration: its keys, their defaults and documentation, and messages for what is wrong.

docs/configuration.md and config.schema.json are made from it by `python -m hrnetpose.reference`.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self, TypeVar, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from hrnetpose import stage
from hrnetpose.artifacts.model import Crop
from hrnetpose.backend_rules import BackendRules, Options
from hrnetpose.benchmark import Benchmark
from hrnetpose.detector import DetectorCard
from hrnetpose.limits import Limits
from hrnetpose.onnx_card import OnnxCard
from hrnetpose.recipes import Precision
from hrnetpose.section import Flag, Section, Text
from hrnetpose.stage import shown

# Names are parts of names of files.
Name = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100, strict=True)
]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8,64}$", strict=True)]
KeysT = TypeVar("KeysT", bound=BaseModel)


class ConfigError(Exception):
    """The configuration is wrong; the text names the key, its value and what is allowed."""


COCO_URL = "coco_url"
SCHEMES = ("http", "https", "file")


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Texts = Annotated[list[Text], BeforeValidator(_as_list, json_schema_input_type=Text | list[Text])]


class Source(Section):
    """A file: the `source` alone, or a section with it.

    A plain path alone is used in place. Everything else is brought to `resources/` and checked,
    unless the right file is there already (docs/fetching.md).
    """

    source: Texts
    """A path, a URL (http, https, file), or a list of them that is tried in order; an empty list
    for a file that can only be put into `resources/` by hand."""
    sha256: Digest | None = None
    """The file's SHA-256 or the first digits of it (at least 8, in quotes)."""
    size: Annotated[int, Field(ge=0, strict=True)] | None = None
    """Its length in bytes."""
    member: Text | None = None
    """For annotations: the file is a zip, and this the name of the file in it."""


def _as_source(value: Any) -> Any:
    return {"source": value} if isinstance(value, str | list) else value


File = Annotated[
    Source, BeforeValidator(_as_source, json_schema_input_type=Text | list[Text] | Source)
]


class Published(Section):
    """Figures that somebody else measured: at least one of AP, AP50 and fps."""

    AP: Annotated[float, Field(ge=0, le=1)] | None = None
    """The published COCO keypoint AP, 0 to 1."""
    AP50: Annotated[float, Field(ge=0, le=1)] | None = None
    """The published COCO keypoint AP at OKS 0.5, 0 to 1."""
    fps: Annotated[float, Field(gt=0)] | None = None
    """The published throughput, images/s; on which machine, `source` says."""
    protocol: Annotated[str, StringConstraints(pattern=r"^(gt|det)(\+flip)?$", strict=True)]
    """The protocol it was measured under: `gt` or `det` boxes, `+flip` with the flip test."""
    dataset: Text
    """The dataset it was measured on; shown only beside figures on the dataset of that name."""
    source: Text
    """Where it is published."""
    detections: Digest | None = None
    """For `det`: the SHA-256 of the detector's boxes, or the first digits of it; shown only beside
    figures on the boxes of `detections` with that hash."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.figures():
            raise ValueError("one of AP, AP50 and fps is needed")
        return self

    def figures(self) -> dict[str, float]:
        """Return what is published."""
        return self.model_dump(include={"AP", "AP50", "fps"}, exclude_none=True)


class Described(Section):
    """What is known of the weights of a model."""

    published: Published | None = None
    """What to expect, shown beside what is measured under its protocol and on its dataset."""
    license: Text | None = None
    """The licence of the weights as SPDX writes it, for example `Apache-2.0`: bundles say it."""
    attribution: Text | None = None
    """Who made the weights, in a sentence for bundles."""


class MmposeModel(Described):
    """A top-down model of mmpose, with heatmaps or SimCC."""

    config: Text
    """A config of the mmpose package by name, or the path of a config file.  It is a program that
    runs when the model is built: use none that you do not trust (docs/models.md)."""
    weights: Annotated[Texts, Field(min_length=1)] | None
    """The checkpoint: a path, a URL, or a list of them that is tried in order.  null: seeded
    initial weights, for speed only."""
    sha256: Digest | None = None
    """The checkpoint's SHA-256 or the first digits of it (at least 8, in quotes)."""
    crop: Text | None = None
    """The model's input, HEIGHTxWIDTH; by default read from its config."""


class OnnxModel(Described):
    """A top-down model of which only the ONNX file is there."""

    onnx: Annotated[Texts, Field(min_length=1)]
    """The file: a path, a URL, or a list of them that is tried in order; or an mmdeploy export, as
    a folder or its zip."""
    sha256: Digest | None = None
    """The file's SHA-256 or the first digits of it (at least 8, in quotes)."""
    size: Annotated[int, Field(ge=0, strict=True)] | None = None
    """Its length in bytes."""
    card: OnnxCard = OnnxCard()
    """What the file does not say of itself."""


MODELS: dict[str, type[Section]] = {"[mmpose]": MmposeModel, "[onnx]": OnnxModel}
"""The kinds of models; the tags are none of the user's words, and left out of messages."""


def _kind_of_model(given: Any) -> str:
    is_onnx = "onnx" in given if isinstance(given, Mapping) else isinstance(given, OnnxModel)
    return "[onnx]" if is_onnx else "[mmpose]"


Model = Annotated[
    Annotated[MmposeModel, Tag("[mmpose]")] | Annotated[OnnxModel, Tag("[onnx]")],
    Discriminator(_kind_of_model),
]


class Calibration(Section):
    """Images for int8 and fp8 calibration; none of them may be among the evaluated ones."""

    images: File
    """A folder or a zip of images; or `coco_url`: they are fetched one by one from the `coco_url`
    that the annotations give for each."""
    annotations: File
    """Their COCO keypoint annotations."""
    count: int = Field(200, ge=1, strict=True)
    """How many images are fetched with `images: coco_url`: always the same ones."""


def _as_card(value: Any) -> Any:
    return {"pipeline": value} if isinstance(value, str) else value


class Detector(Section):
    """A detector of persons, whose boxes are those of `boxes: det` (docs/detector.md)."""

    onnx: Annotated[Texts, Field(min_length=1)]
    """Its ONNX file, as mmdeploy exports RTMDet and YOLOX, or as YOLOX itself does: a path, a URL,
    or a list of them that is tried in order."""
    sha256: Digest | None = None
    """The file's SHA-256 or the first digits of it (at least 8, in quotes)."""
    card: Annotated[
        DetectorCard, BeforeValidator(_as_card, json_schema_input_type=Text | DetectorCard)
    ]
    """What the graph does not say of itself."""


class Dataset(Section):
    """A dataset in COCO's keypoint format."""

    images: File
    """A folder of images, or a zip that is read in place."""
    annotations: File
    """COCO keypoint annotations."""
    detections: File | None = None
    """Boxes of a person detector in COCO's result format, for `boxes: det`."""
    detector: Detector | None = None
    """A detector that makes them, in place of `detections`."""
    detection_score: float = Field(0.0, ge=0, le=1)
    """Detected boxes with a lower score are left out, as mmpose's `bbox_score_thr` does."""
    category: Text | None = None
    """The category to evaluate, by name; by default the one with the model's keypoints."""
    calibration: Calibration | None = None
    """What int8 and fp8 are calibrated on."""


class Variant(Section):
    """One row of the report: model x backend x precision x options."""

    backend: Text
    """The engine: `auto`, or one of the backends in docs/backends.md."""
    precision: Precision
    """The precision asked for; the report shows the one executed beside it."""
    batch: int | None = Field(None, ge=1, le=4096, strict=True)
    """Images per inference; by default 8 on a CPU, whose caches hold no more, and 32 on a GPU."""
    model: Text | None = None
    """A key of `models`; by default the top-level `model`, or each of them."""
    options: dict[str, Any] = Field({})
    """Options of the backend."""
    limits: Limits | None = None
    """Limits of this variant; those that it does not give are the top-level ones."""


class Protocols(Section):
    """Accuracy is measured under every combination; the first of each list is the headline."""

    boxes: list[Literal["gt", "det"]] = Field(["gt"], min_length=1)
    """Where the person boxes come from: `gt`, the annotations; `det`, the detector."""
    nms: Literal["hard", "soft"] | None = None
    """OKS NMS: drop predictions that overlap a better one (hard), or lower their scores (soft).
    null: as the model's config says, which without a word is hard."""
    flip: list[Flag] = Field([False, True], min_length=1)
    """With and without averaging over the mirrored image."""


class Quantization(Section):
    """How int8 graphs are made."""

    ap_drop: Annotated[float, Field(ge=0, le=1)] | None = 0.005
    """The loss of AP on the calibration persons up to which layers are put into int8; those that
    harm most stay in floating point.  null: all layers are in int8, whatever it costs."""


class Config(Section):
    """The configuration of one run."""

    run: Name | None = None
    """What this run is called; its engines, predictions, results and logs lie under that name, so
    that runs do not overwrite each other. Without it they lie at the top."""
    model: Annotated[Texts, Field(min_length=1)]
    """The model that variants use unless they name another: a key of `models`.  A list makes each
    of these variants once for each model, called MODEL_VARIANT."""
    dataset: Text
    """The dataset that is evaluated: a key of `datasets`."""
    models: dict[Name, Model]
    """The models that variants can name."""
    datasets: dict[Name, Dataset]
    """The datasets that `dataset` can name."""
    variants: dict[Name, Variant] = Field(min_length=1)
    """The rows of the report.  null removes one that the default config defines."""
    protocols: Protocols = Protocols()
    """What accuracy is measured under."""
    limits: Limits = Limits()
    """What `snakemake gate` demands, and a recommended variant keeps."""
    baseline: Text | None = None
    """An older run to compare with: its `results/` folder, or a zip of it.  `snakemake gate` fails
    where a figure is worse."""
    quantization: Quantization = Quantization()
    """How int8 graphs are made."""
    benchmark: Benchmark = Benchmark()
    """How speed is measured."""
    shards: int = Field(1, ge=1, le=10000, strict=True)
    """Into how many jobs crops and predictions are split; results do not depend on it."""
    crops: Literal["keep", "temporary"] = "keep"
    """`keep`: the crops that are evaluated stay in build/, for all runs. `temporary`: each shard is
    dropped after its last reader, and no more than 8 shards are there at a time."""


def load(raw: Mapping[str, Any], backends: Mapping[str, BackendRules]) -> Config:
    """Check a configuration.

    Args:
        raw: the configuration as YAML gives it; entries of `models`, `datasets` and `variants`
            that are null are left out.
        backends: the backends that variants can name, besides `auto`.

    Raises:
        ConfigError: with one line for the first problem.
    """
    raw = dict(raw)
    for section in ("models", "datasets", "variants"):
        if isinstance(raw.get(section), Mapping):
            raw[section] = {k: v for k, v in raw[section].items() if v is not None}
    config = _validated(Config, raw, "")
    for chosen in config.model:
        _one_of("model", chosen, config.models)
    _one_of("dataset", config.dataset, config.datasets)
    evaluated = config.datasets[config.dataset]
    if "det" in config.protocols.boxes and not (evaluated.detections or evaluated.detector):
        raise ConfigError(
            f"protocols.boxes: det needs a detector's boxes, but datasets.{config.dataset} has no "
            "`detections`; give their file or a `detector`, or evaluate with `boxes: [gt]`"
        )
    for name, model in config.models.items():
        _check_model(f"models.{name}", model)
    for name, dataset in config.datasets.items():
        _check_dataset(f"datasets.{name}", dataset)
    for name, variant in config.variants.items():
        check_variant(f"variants.{name}", variant, config, backends)
    config = _with_all_models(config)
    if config.run in config.variants or config.run == "bundles":
        raise ConfigError(f"run: {config.run!r} is the name of a variant or a folder; take another")
    return config


def _with_all_models(config: Config) -> Config:
    """Return the configuration with each variant that names no model once for each model."""
    if len(config.model) == 1:
        return config
    rows = [
        (f"{model}_{name}", variant.model_copy(update={"model": model}))
        for model in config.model
        for name, variant in config.variants.items()
        if variant.model is None
    ]
    rows += [(name, variant) for name, variant in config.variants.items() if variant.model]
    names = [name for name, _ in rows]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(
            f"model: variant {twice[0]!r} would be made twice; name each model once, and no "
            "variant MODEL_VARIANT"
        )
    return config.model_copy(update={"variants": dict(rows)})


def _check_model(key: str, model: MmposeModel | OnnxModel) -> None:
    if isinstance(model, OnnxModel):
        crop, place = model.card.crop, f"{key}.card.crop"
        _check_sources(f"{key}.onnx", model.onnx)
    else:
        crop, place = model.crop, f"{key}.crop"
        _check_sources(f"{key}.weights", model.weights or [])
    if crop is not None:
        try:
            Crop.parse(crop)
        except ValueError as error:
            raise ConfigError(f"{place}: {error}") from error


def _check_dataset(key: str, dataset: Dataset) -> None:
    files = {
        f"{key}.images": dataset.images,
        f"{key}.annotations": dataset.annotations,
        f"{key}.detections": dataset.detections,
    }
    if dataset.calibration:
        files[f"{key}.calibration.images"] = dataset.calibration.images
        files[f"{key}.calibration.annotations"] = dataset.calibration.annotations
    if detector := dataset.detector:
        if dataset.detections:
            raise ConfigError(
                f"{key}.detector: there are `detections`, too; set one of them to null"
            )
        _check_sources(f"{key}.detector.onnx", detector.onnx)
        _check_sources(f"{key}.detector.card.pipeline", filter(None, [detector.card.pipeline]))
    for name, file in files.items():
        if file is None:
            continue
        _check_sources(f"{name}.source", file.source)
        if file.member is not None and not name.endswith("annotations"):
            raise ConfigError(f"{name}.member: only annotations are taken out of a zip")


def _check_sources(key: str, sources: Iterable[str]) -> None:
    for source in sources:
        try:
            known = "://" not in source or urlsplit(source).scheme in SCHEMES
        except ValueError as error:
            raise ConfigError(f"{key}: {shown(source)}: {error}") from error
        if not known:
            raise ConfigError(
                f"{key}: {shown(source)}: files are fetched from {', '.join(SCHEMES)} URLs and "
                "paths"
            )


def check_variant(
    key: str, variant: Variant, config: Config, backends: Mapping[str, BackendRules]
) -> Options:
    """Check what a variant names against what there is, and return the options of its backend.

    Raises:
        ConfigError: with the key.
    """
    options = Options()
    if variant.model is not None:
        _one_of(f"{key}.model", variant.model, config.models)
    _one_of(f"{key}.backend", variant.backend, ["auto", *backends])
    if variant.backend != "auto":
        rules = backends[variant.backend]
        if variant.precision not in rules.graphs:
            raise ConfigError(
                f"{key}.precision: backend {variant.backend} has no {variant.precision}; "
                f"allowed: {', '.join(rules.graphs)}"
            )
        options = _validated(rules.options, variant.options, f"{key}.options")
    elif variant.options:
        raise ConfigError(f"{key}.options: `backend: auto` takes none; name the backend for them")
    return options


def _validated(kind: type[KeysT], raw: Mapping[str, Any], key: str) -> KeysT:
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(
            stage.name(part)
            for part in (*filter(None, [key]), *map(str, first["loc"]))
            if not part.startswith("[")
        )
        raise ConfigError(f"{where or 'config'}: {_explain(first, kind)}") from error


def _explain(error: ErrorDetails, kind: type[BaseModel]) -> str:
    """Say what is wrong with the value at a key and what is allowed there."""
    match error["type"]:
        case "extra_forbidden":
            section = _section_at(kind, error["loc"][:-1])
            return f"unknown key{_allowed(str(error['loc'][-1]), section.model_fields)}"
        case "missing":
            return "missing; this key is required"
        case "literal_error":
            return f"{shown(error['input'])} is not allowed; {error['ctx']['expected']} is"
        case _:
            hint = ""
            if isinstance(error["input"], str) and error["type"].endswith(("_type", "_parsing")):
                hint = " (inside --config every value is a string; use --configfile for others)"
            return f"{shown(error['input'])}: {error['msg'][0].lower()}{error['msg'][1:]}{hint}"


def _section_at(kind: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    """Follow an error's location down to the section that holds the key."""
    section: Any = kind
    for part in location:
        if part in MODELS:
            section = MODELS[str(part)]
        elif get_origin(section) is dict:
            section = get_args(section)[1]
        else:
            section = section.model_fields[part].annotation
            # `X | None` is a section or nothing, `Annotated[X, ...]` is X; `dict[Name, X]` waits
            # for its key.
            while get_origin(section) is not dict and get_args(section):
                section = next(a for a in get_args(section) if a is not type(None))
    return section


def _one_of(key: str, value: str, allowed: Iterable[str]) -> None:
    allowed = list(allowed)
    if value not in allowed:
        raise ConfigError(f"{key}: {shown(value)} is not defined{_allowed(value, allowed)}")


def no_such(kind: str, name: str, names: Iterable[str]) -> str:
    """Say that a name is not known, and which are."""
    return f"there is no {kind} {name!r}{_allowed(name, list(names))}"


def _allowed(value: str, allowed: Iterable[str]) -> str:
    close = difflib.get_close_matches(value, list(allowed), n=1)
    guess = f" (did you mean {close[0]}?)" if close else ""
    return f"{guess}; allowed: {', '.join(sorted(allowed))}"
