"""What a run will write to the disk, held against what is free there, before any job runs."""

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hrnetpose import files
from hrnetpose.artifacts.model import Crop
from hrnetpose.artifacts.persons import PersonList
from hrnetpose.config import ConfigError
from hrnetpose.files import bytes_text
from hrnetpose.layout import resource
from hrnetpose.run import SHARDS_AT_WORK, Run
from hrnetpose.stage import StageError

LARGEST_FILE = 64 << 20
"""Bytes; of a JSON file that is read while planning, which takes 15 times its size in memory."""
WORTH_A_NOTE = 10**9
"""Bytes."""
SHARD_BYTES = 3 * 10**8
"""About what a shard should take."""


@dataclass(frozen=True)
class Cut:
    """The crops of one size and box set.

    Attributes:
        crop: the size, for example `256x192`.
        boxes: `gt` or `det`.
        persons: how many are cut; None if that is not known yet.
        missing: how many shards are still to be cut.
    """

    crop: str
    boxes: str
    persons: int | None
    missing: int

    @property
    def crop_bytes(self) -> int:
        """Bytes of one crop."""
        size = Crop.parse(self.crop)
        return 3 * size.height * size.width


@dataclass(frozen=True)
class Need:
    """Bytes that are still to be written, and what they are."""

    folder: Path
    size: int
    text: str


def check(run: Run) -> list[str]:
    """Return what the user should know of the disk that this run needs.

    Raises:
        ConfigError: it needs more than there is.
    """
    cuts = [cut for cut in _find_cuts(run) if cut.missing]
    downloads = _count_downloads(run)
    needs = [Need(Path(resource("")), downloads, "downloads")] if downloads else []
    needs += [
        Need(
            Path(run.evaluated_crops.folder) / cut.crop,
            _count_bytes(run, cut),
            f"crops ({cut.boxes}, {cut.crop}, {cut.persons:,} persons)",
        )
        for cut in cuts
        if cut.persons
    ]
    advice = _advice(run, [cut for cut in cuts if cut.persons])
    notes = []
    for disk in {_disk(need.folder) for need in needs}:
        here = [need for need in needs if _disk(need.folder) == disk]
        size = sum(need.size for need in here)
        free = shutil.disk_usage(_existing(here[0].folder)).free
        parts = ", ".join(f"{bytes_text(need.size)} of {need.text}" for need in here)
        text = f"disk: this run needs {parts}"
        if size > free:
            raise ConfigError(f"{text}; only {bytes_text(free)} are free{advice}")
        if size > WORTH_A_NOTE:
            notes.append(f"{text}; {bytes_text(free)} are free{advice}")
    unknown = {(cut.crop, cut.crop_bytes) for cut in cuts if cut.persons is None}
    if notes and unknown:
        sizes = ", ".join(f"{bytes_text(10**5 * size)} at {crop}" for crop, size in sorted(unknown))
        notes.append(
            "disk: how many crops there will be is known once annotations and boxes are here; "
            f"those of 100,000 persons take {sizes}"
        )
    return notes


def _find_cuts(run: Run) -> Iterator[Cut]:
    """Yield all crops that the run evaluates."""
    for crop in dict.fromkeys(variant.model.crop for variant in run.variants.values()):
        scored = [run[name] for name in run.scored if run[name].model.crop == crop]
        for boxes in run.config.protocols.boxes:
            missing = sum(
                not Path(run.evaluated_crops.crops(crop, boxes, shard)).exists()
                and not all(Path(v.paths.predictions(boxes, shard)).exists() for v in scored)
                for shard in run.shards
            )
            yield Cut(crop, boxes, _count_persons(run, boxes) if missing else None, missing)


def _count_bytes(run: Run, cut: Cut) -> int:
    """Return the bytes that crops take at most, of those that are still to be cut."""
    shards = cut.missing if run.config.crops == "keep" else min(cut.missing, SHARDS_AT_WORK)
    return math.ceil((cut.persons or 0) / run.config.shards) * shards * cut.crop_bytes


def _count_downloads(run: Run) -> int:
    """Return the bytes that are still to be fetched, as far as the configuration gives them."""
    zips = {
        run.resources.archives[place][0] for place in run.needed if place in run.resources.archives
    }
    return sum(
        download.size or 0
        for place, download in run.resources.downloads.items()
        if place in zips.union(run.needed) and not Path(place).exists()
    )


def _count_persons(run: Run, boxes: str) -> int | None:
    """Return how many persons are evaluated.

    Files are read as the stages read them, and the answer is remembered until they change.  None
    if they are not here, too large to be read now, or wrong: a stage will say that.
    """
    dataset = run.dataset
    annotations = Path(dataset.evaluated.annotations)
    detections = Path(dataset.detected) if dataset.detected else None
    used = [annotations] if boxes == "gt" or detections is None else [annotations, detections]
    if not all(path.is_file() and path.stat().st_size < LARGEST_FILE for path in used):
        return _read_count(Path(dataset.paths.person_summary(boxes)))
    names, section = run.evaluated_keypoints, dataset.section
    asked = json.dumps([boxes, names, section.category, section.detection_score, *map(str, used)])
    stamps = [files.recall(path, asked) for path in used]
    if stamps[0] and len(set(stamps)) == 1:
        return int(stamps[0])
    from hrnetpose.data import coco  # with NumPy
    from hrnetpose.data import detections as detection_files
    from hrnetpose.data.annotations import ground_truth

    try:
        truths = coco.read(annotations, names, section.category)
        images = (
            ground_truth(truths)
            if boxes == "gt"
            else detection_files.read(used[-1], truths, section.detection_score)[0]
        )
    except StageError:
        return None
    count = sum(len(image.persons) for image in images)
    for path in used:
        files.remember(path, asked, str(count))
    return count


def _read_count(summary: Path) -> int | None:
    try:
        return PersonList.read(summary).persons
    except StageError:
        return None


def _advice(run: Run, cuts: list[Cut]) -> str:
    """Return what makes crops take less, if anything does."""
    crops = sum((cut.persons or 0) * cut.crop_bytes for cut in cuts)
    shards = max(run.config.shards, math.ceil(crops / SHARD_BYTES))
    least = sum(
        math.ceil((cut.persons or 0) / shards) * SHARDS_AT_WORK * cut.crop_bytes for cut in cuts
    )
    if shards <= SHARDS_AT_WORK or sum(_count_bytes(run, cut) for cut in cuts) <= least:
        return ""
    return (
        f"; with `crops: temporary` and `shards: {shards}` crops take {bytes_text(least)} at most"
    )


def _existing(path: Path) -> Path:
    """Return the folder itself, or the nearest above it that is there."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _disk(path: Path) -> int:
    """Return the number of the file system that a folder is on, or will be."""
    return _existing(path).stat().st_dev
