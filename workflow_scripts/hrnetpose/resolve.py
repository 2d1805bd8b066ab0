"""From a configuration as it is written to a run."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hrnetpose import config, engines, environment
from hrnetpose.backend_rules import BackendRules, Options
from hrnetpose.config import Config, ConfigError
from hrnetpose.layout import DatasetPaths, Layout
from hrnetpose.recipes import CALIBRATED, Graph, Precision
from hrnetpose.resources import WITHOUT_BOXES, describe_dataset
from hrnetpose.run import Model, Run, Variant, describe_model
from hrnetpose.stage import StageError


def resolve(raw: Mapping[str, Any], auto: str | None = None, is_module: bool = False) -> Run:
    """Check a configuration and look up what follows from it.

    Args:
        raw: as YAML gives it.
        auto: the backend that `auto` stands for; by default it is looked up on this machine.
        is_module: other runs may be planned beside this one, as modules of one workflow: each has
            rules for what it uses and for nothing else.

    Raises:
        ConfigError: the configuration is wrong, or a model's config cannot be found or read.
    """
    backends = engines.rules()
    checked, notes = _without_missing_boxes(config.load(raw, backends))
    checked, dropped = _without_lost_originals(checked, backends)
    auto = auto or environment.decide_auto(engines.resolve)
    # A backend that `auto` stands for must have the precision, too.
    sections = {
        name: section.model_copy(update={"backend": auto}) if section.backend == "auto" else section
        for name, section in checked.variants.items()
    }
    options = {
        name: config.check_variant(f"variants.{name}", section, checked, backends)
        for name, section in sections.items()
    }
    if is_module:
        used = {section.model or checked.model[0] for section in sections.values()}
        models = {name: model for name, model in checked.models.items() if name in used}
        datasets = {checked.dataset: checked.datasets[checked.dataset]}
        checked = checked.model_copy(update={"models": models, "datasets": datasets})
    layout = Layout(checked.run, checked.dataset)
    run = Run(
        checked,
        layout,
        {
            name: describe_model(section, layout.model(name))
            for name, section in checked.models.items()
        },
        {
            name: describe_dataset(section, layout.dataset(name))
            for name, section in checked.datasets.items()
        },
        {},
        notes + dropped,
    )
    for name in dict.fromkeys(section.model or checked.model[0] for section in sections.values()):
        _ = run.models[name].known  # or else an error would only come with the first job
    return replace(run, variants=_describe_variants(run, sections, options, backends))


def _describe_variants(
    run: Run,
    sections: Mapping[str, config.Variant],
    options: Mapping[str, Options],
    backends: Mapping[str, BackendRules],
) -> dict[str, Variant]:
    found = {}
    originals: dict[str, Variant] = {}
    for name, section in sections.items():
        rules, paths = backends[section.backend], run.layout.variant(name)
        model = run.models[section.model or run.config.model[0]]
        kind = _find_graph(f"variants.{name}", section.precision, rules, model)
        if section.precision in CALIBRATED and kind and run.dataset.calibration is None:
            raise ConfigError(
                f"variants.{name}.precision: {section.precision} needs calibration images, but "
                f"datasets.{run.config.dataset} has no `calibration`; give its images and "
                f"annotations, or set variants.{name} to null"
            )
        variant = found[name] = Variant(
            section,
            rules,
            options[name],
            paths,
            model,
            run.dataset,
            run.evaluated_crops,
            graph=model.paths.graph(run.layout.name(kind)) if kind else model.paths.simplified,
            graph_kind=kind,
            predictions=[
                paths.predictions(boxes, shard)
                for boxes in run.config.protocols.boxes
                for shard in run.shards
            ],
        )
        try:
            variant.options.check(variant.batch, section.precision)
        except StageError as error:
            raise ConfigError(f"variants.{name}: {error}") from error
        if model.is_reference(rules) and section.precision == "fp32" and variant.options.is_exact:
            originals.setdefault(model.name, variant)
    return {
        name: replace(variant, reference=original)
        if (original := originals.get(variant.model.name)) is not variant
        else variant
        for name, variant in found.items()
    }


def _find_graph(key: str, precision: Precision, rules: BackendRules, model: Model) -> Graph | None:
    """Return the graph that an engine is built from; None for the model's own, simplified.

    Raises:
        ConfigError: the model's own is in another precision than the one that is asked for.
    """
    held = model.known.precision or "fp32"
    if held == "fp32":
        return rules.graphs[precision]
    if held == precision:
        return None
    raise ConfigError(
        f"{key}.precision: {precision}, but the graph of models.{model.name} holds {held} already, "
        f"and nothing else can be made of it; ask for `precision: {held}`, or set {key} to null"
    )


def _without_lost_originals(
    checked: Config, backends: Mapping[str, BackendRules]
) -> tuple[Config, tuple[str, ...]]:
    """Leave out rows that would run the original of a model of which only the ONNX file is there.

    Returns:
        The configuration, and what the user should know.

    Raises:
        ConfigError: nothing would be left.
    """
    lost = {
        name: variant.model or checked.model[0]
        for name, variant in checked.variants.items()
        if variant.backend in backends
        and backends[variant.backend].original
        and isinstance(checked.models[variant.model or checked.model[0]], config.OnnxModel)
    }
    kept = {name: one for name, one in checked.variants.items() if name not in lost}
    if not kept:
        name, model = next(iter(lost.items()))
        raise ConfigError(
            f"variants.{name}.backend: models.{model} is an ONNX file, and "
            f"{checked.variants[name].backend} runs the original model, which is not there; take "
            "another backend"
        )
    notes = tuple(
        f"variants.{name}: dropped, since models.{model} is an ONNX file and its original is not "
        "there to run in PyTorch; the fp32 engine of that file is the reference"
        for name, model in lost.items()
    )
    return checked.model_copy(update={"variants": kept}), notes


def _without_missing_boxes(checked: Config) -> tuple[Config, tuple[str, ...]]:
    """Leave out boxes that can only be put there by hand, if annotated ones are asked for.

    Returns:
        The configuration, and what the user should know.

    Raises:
        ConfigError: nothing would be left.
    """
    source = checked.datasets[checked.dataset].detections
    place = DatasetPaths(checked.dataset).evaluated.detections
    if (
        "det" not in checked.protocols.boxes
        or source is None
        or source.source
        or Path(place).is_file()
    ):
        return checked, ()
    hashed = f" (sha256 {source.sha256})" if source.sha256 else ""
    missing = f"{place}: the detector's boxes are not there; put the file there{hashed} by hand"
    others = [boxes for boxes in checked.protocols.boxes if boxes != "det"]
    if not others:
        raise ConfigError(f"{missing}, or {WITHOUT_BOXES}")
    protocols = checked.protocols.model_copy(update={"boxes": others})
    note = f"{missing}; until then only ground-truth boxes are evaluated (docs/fetching.md)"
    return checked.model_copy(update={"protocols": protocols}), (note,)
