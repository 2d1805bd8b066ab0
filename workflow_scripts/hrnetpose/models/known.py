"""What is known of a model when a run is planned; its config is not run."""

import json
from dataclasses import dataclass
from pathlib import Path

from hrnetpose import config, paths
from hrnetpose.config import ConfigError
from hrnetpose.models import config_file, reading
from hrnetpose.stage import StageError


@dataclass(frozen=True)
class KnownModel:
    """What is known of a model.

    Attributes:
        crop: the crops that it takes, for example `256x192`.
        files: the user's own files that its config is made of, as far as they are known.
        keypoints: names of its keypoints; None if they are not known.
    """

    crop: str
    files: list[str]
    keypoints: list[str] | None = None


def look_up(name: str, model: config.Model) -> KnownModel:
    """Look up a model's config.

    Raises:
        ConfigError: it cannot be found or read, or its model is not supported.
    """
    key = f"models.{name}.config"
    is_name = Path(model.config).suffix != ".py" and "/" not in model.config
    if is_name and model.crop:
        return KnownModel(model.crop, [])  # mmpose need not be installed where the run is planned
    if not is_name and (fault := paths.fault(model.config)):
        raise ConfigError(f"{key}: {fault}")
    try:
        path = config_file.find(model.config)
        config_file.check(path)
        return KnownModel(
            crop=model.crop or str(config_file.read_crop(path)),
            files=[str(file) for file in config_file.list_files(path)],
            keypoints=config_file.read_keypoint_names(path),
        )
    except StageError as error:
        raise ConfigError(f"{key}: {error}") from error


def find_changes(card: Path) -> str | None:
    """Return a digest of the changes since an export in the files that its config read.

    The card keeps the digest, so the export is made once for each; None if nothing has changed.
    """
    try:
        exported = json.loads(card.read_bytes())["origin"]
        return reading.digest_changes(exported["files"]) or exported["changes"]
    except (OSError, ValueError, LookupError, TypeError):
        return None  # it is made anew, or the stage that reads it says what is wrong with it
