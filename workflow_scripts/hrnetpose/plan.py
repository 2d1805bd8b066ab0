"""What is checked when a run is planned, and what the user should know before any job runs."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from hrnetpose import files, paths
from hrnetpose.config import ConfigError
from hrnetpose.layout import resource
from hrnetpose.recipes import RECIPES
from hrnetpose.resources import Given
from hrnetpose.run import Run
from hrnetpose.stage import StageError

LARGEST_ANNOTATIONS = 64 << 20
"""Bytes; of a file that is read while planning, which takes 15 times its size in memory."""
IsMade = Callable[[str], bool]
"""Returns True if a rule makes a file."""


def check(run: Run, is_made: IsMade) -> None:
    """Refuse what cannot come to anything.

    Raises:
        ConfigError: with one line for the first problem.
    """
    check_given(run, is_made)
    check_baseline(run)
    check_annotations(run, is_made)


def notes(run: Run) -> list[str]:
    """Return what the user should know before anything runs."""
    return [*run.notes, *_unused(run), *_overwritten(run), *_left_over(run)]


def check_given(run: Run, is_made: IsMade) -> None:
    """Look whether files that the configuration names are there, those that the run uses.

    What comes from elsewhere cannot be known; nor is a source needed for a copy that has the hash
    that is given.

    Raises:
        ConfigError: a file is not there, or cannot be read.
    """
    used = {given.key for name in run.used_models for given in run.models[name].given}
    used |= {f"datasets.{run.config.dataset}.{key}" for key in ("images", "annotations")}
    if "det" in run.config.protocols.boxes:
        used.add(f"datasets.{run.config.dataset}.detections")
        used |= {given.key for given in run.dataset.detector}
    if run.is_calibrated:
        key = f"datasets.{run.config.dataset}.calibration"
        used |= {f"{key}.images", f"{key}.annotations"}
    for given in run.resources.given:
        is_known = given.source.sha256 and Path(given.brought).is_file()
        if given.key not in used or is_known:
            continue
        faults = [_fault(path, given, is_made) for path in given.source.source]
        if faults and all(faults):
            none = "none of its sources can be read: " if len(faults) > 1 else ""
            raise ConfigError(f"{given.key}: {none}{'; '.join(map(str, faults))}")


def check_baseline(run: Run) -> None:
    """Look whether the older run is there, and is not this one.

    Raises:
        ConfigError: it is not.
    """
    if run.config.baseline is None:
        return
    path = Path(run.config.baseline)
    if not path.exists():
        raise ConfigError(
            f"baseline: {run.config.baseline}: there is no such folder or zip of results"
        )
    own = Path(run.layout.results)
    if own.exists() and path.samefile(own):
        raise ConfigError(
            f"baseline: {run.config.baseline}: this run writes its own results there; copy the "
            "older ones elsewhere, or name this run with `run:`"
        )


def _fault(path: str, given: Given, is_made: IsMade) -> str | None:
    """Return what is wrong with a source; None if nothing is, or it cannot be known."""
    file = paths.local(path)
    if file is None:
        return None
    if is_made(path):
        is_kept = os.path.normpath(path).startswith(resource(""))
        return None if is_kept else f"{path}: the workflow writes this file itself; give another"
    has_copy = given.place != path and Path(given.place).is_file()
    copied = f"; the copy at {given.place} is used if its `sha256` is given" if has_copy else ""
    fault = paths.fault(file, images=given.images, is_folder=given.is_folder)
    return fault and f"{fault}{copied}"


def check_annotations(run: Run, is_made: IsMade) -> None:
    """Read annotations that are there, and compare their keypoints with the models'.

    What is in order is remembered until the file changes.  Large files, such as COCO's of its
    training images, are left to the stage that audits them.

    Raises:
        ConfigError: they are malformed, or of other keypoints.
    """
    dataset, keypoints = run.dataset, list(run.keypoints.values())
    category = dataset.section.category
    named = {"annotations": dataset.evaluated.annotations}
    if run.is_calibrated and dataset.calibration and not dataset.calibration.count:
        named["calibration.annotations"] = dataset.calibration.pool.place
    for key, place in named.items():
        path = Path(place)
        if is_made(place) or not path.is_file() or path.stat().st_size > LARGEST_ANNOTATIONS:
            continue
        asked = json.dumps([keypoints, category])
        if files.recall(path, asked):
            continue
        from hrnetpose.data import coco  # with NumPy, which takes a tenth of a second

        try:
            for names in keypoints or [[]]:
                coco.read(path, names, category)
        except StageError as error:
            raise ConfigError(f"datasets.{run.config.dataset}.{key}: {error}") from error
        files.remember(path, asked, "correct")


def _unused(run: Run) -> list[str]:
    """Return a note if there is a detector that nobody asks for boxes."""
    if not run.dataset.detector or "det" in run.config.protocols.boxes:
        return []
    return [
        f"datasets.{run.config.dataset}.detector: not used, since protocols.boxes is "
        f"{run.config.protocols.boxes}; add `det`"
    ]


def _overwritten(run: Run) -> list[str]:
    """Return a note if results of another model or dataset lie where this run writes its own."""
    if run.config.run:
        return []
    for variant in run.variants.values():
        figure = variant.paths.accuracy
        subset = _read_text(figure, "protocol", "subset")
        for kind, old, new in (
            ("model", _read_text(variant.paths.card, "model", "name"), variant.model.name),
            ("dataset", subset.partition(" (")[0] if subset else None, run.config.dataset),
        ):
            if old not in (None, new) and Path(figure).is_file():
                return [
                    f"{figure} is of {kind} {old!r} and will be overwritten by one of {new!r}; to "
                    "keep both, give this configuration a name with `run:`"
                ]
    return []


def _left_over(run: Run) -> list[str]:
    """Return a note if graphs lie where an earlier version of the workflow had them."""
    old = [
        path
        for model in run.used_models
        for graph, recipe in RECIPES.items()
        if recipe.calibrated and Path(path := run.models[model].paths.graph(graph)).is_file()
    ]
    if not old:
        return []
    return [
        f"{', '.join(old)}: of an earlier version; calibrated graphs are now in a folder of their "
        "dataset: delete these"
    ]


def _read_text(file: str, *keys: str) -> str | None:
    try:
        found = json.loads(Path(file).read_bytes())
        for key in keys:
            found = found[key]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return found if isinstance(found, str) else None
