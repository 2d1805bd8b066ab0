"""What is known of a model when a run is planned; its config is not run."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from hrnetpose import config, files, paths
from hrnetpose.artifacts.base import Part
from hrnetpose.artifacts.model import Crop
from hrnetpose.config import ConfigError
from hrnetpose.models import config_file, keypoints, reading
from hrnetpose.onnx_card import OnnxCard
from hrnetpose.recipes import Precision
from hrnetpose.stage import StageError


class KnownModel(Part):
    """What is known of a model.

    Attributes:
        crop: the crops that it takes, for example `256x192`.
        files: the user's own files that it is made of, as far as they are known.
        keypoints: names of its keypoints; None if they are not known.
        precision: what its graph holds before anything is converted; None if that is not known.
    """

    crop: str
    files: list[str]
    keypoints: list[str] | None = None
    precision: Precision | None = None


def look_up(name: str, model: config.MmposeModel) -> KnownModel:
    """Look up a model's config.

    Raises:
        ConfigError: it cannot be found or read, or its model is not supported.
    """
    key = f"models.{name}.config"
    is_name = Path(model.config).suffix != ".py" and "/" not in model.config
    if is_name and model.crop:
        # mmpose need not be installed where the run is planned
        return KnownModel(crop=model.crop, files=[], precision="fp32")
    if not is_name and (fault := paths.fault(model.config)):
        raise ConfigError(f"{key}: {fault}")
    try:
        path = config_file.find(model.config)
        config_file.check(path)
        return KnownModel(
            crop=model.crop or str(config_file.read_crop(path)),
            files=[str(file) for file in config_file.list_files(path)],
            keypoints=config_file.read_keypoint_names(path),
            precision="fp32",
        )
    except StageError as error:
        raise ConfigError(f"{key}: {error}") from error


def look_up_onnx(name: str, model: config.OnnxModel, places: Sequence[str]) -> KnownModel:
    """Look up an ONNX file; what is known of it is remembered until it changes.

    Args:
        name: of the model.
        model: its section.
        places: where the file may lie, the first one first.

    Raises:
        ConfigError: it is no pose model, contradicts its card, or too little is known of it.
    """
    key = f"models.{name}"
    place = next((place for place in places if os.path.exists(place)), None)
    try:
        if place is not None:
            return _read_onnx(Path(place), model.card)
        if model.card.crop is None:
            raise StageError(
                "crop: missing; the file is not here yet, so the size of its input is not known; "
                "give it as HEIGHTxWIDTH"
            )
        points = model.card.keypoints
        return KnownModel(
            crop=str(Crop.parse(model.card.crop)),
            files=[],
            keypoints=keypoints.read_set(points, "keypoints").names if points else None,
        )
    except StageError as error:
        raise ConfigError(f"{key}.{'onnx' if place else 'card'}: {error}") from error


def _read_onnx(place: Path, card: OnnxCard) -> KnownModel:
    from hrnetpose.models import onnx_source

    stamped, exported = onnx_source.glance(place)
    given = card.model_dump(mode="json", exclude_none=True)
    asked = json.dumps(["onnx", given, exported], sort_keys=True)
    if known := files.recall(stamped, asked):
        return KnownModel.model_validate_json(known)
    from hrnetpose.models import onnx_card, onnx_file  # with onnx, which takes half a second

    with onnx_source.opened(place) as source:
        facts = onnx_file.read_facts(source.graph)
        crop, points = onnx_card.look_ahead(card, facts, source.exported, str(place))
        read = source.list_files(facts)
    found = KnownModel(
        crop=str(crop),
        files=[str(path) for path in (read if stamped == source.graph else [place])],
        keypoints=points.names if points.sigmas else None,
        precision=facts.precision,
    )
    # One word: what is not ASCII, and blanks, are escaped.
    word = json.dumps(found.model_dump(mode="json"), separators=(",", ":"))
    files.remember(stamped, asked, word.replace(" ", "\\u0020"))
    return found


def find_changes(card: Path) -> str | None:
    """Return a digest of the changes since an export in the files that its config read.

    The card keeps the digest, so the export is made once for each; None if nothing has changed.
    """
    try:
        exported = json.loads(card.read_bytes())["origin"]
        return reading.digest_changes(exported["files"]) or exported["changes"]
    except (OSError, ValueError, LookupError, TypeError):
        return None  # it is made anew, or the stage that reads it says what is wrong with it
