"""Some images with the true and the predicted persons drawn over them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hrnetpose import files
from hrnetpose.data.annotations import Annotations, Image, ground_truth
from hrnetpose.data.images import ImageStore
from hrnetpose.report import drawing, table
from hrnetpose.report.rows import Row

PICTURES = 6


@dataclass(frozen=True)
class Picture:
    """An image with true and with predicted skeletons, as `data:` URLs."""

    name: str
    panels: list[tuple[str, str]]


def draw(
    rows: list[Row], predictions: list[Path], annotations: Path, images: Path
) -> list[Picture]:
    """Draw some images: true persons, those of the first variant, those of the fastest."""
    truths = Annotations.read(annotations)
    scored = [row for row in rows if row.accuracy]
    shown = {
        row.name: row.engine.model.keypoints
        for row in (*scored[:1], table.fastest(scored))
        if row and row.engine
    }
    if not shown:
        return []
    persons = {name: _predicted(predictions, name) for name in shown}
    info = next(iter(shown.values()))
    store = ImageStore(images)
    pictures = []
    for image in _spread(ground_truth(truths), PICTURES):
        pixels = store.decode(image.file_name, image.width, image.height)
        here = truths.reorder(info.names)
        true = here.keypoints[here.image_ids[here.images] == image.id]
        panels = [("annotated", drawing.data_url(drawing.skeletons(pixels, true, info)))]
        for name, keypoints in shown.items():
            found = persons[name].get(image.id, np.zeros((0, len(info.names), 3)))
            drawn_image = drawing.skeletons(pixels, found, keypoints)
            panels.append((name, drawing.data_url(drawn_image)))
        pictures.append(Picture(image.file_name, panels))
    return pictures


def _predicted(predictions: list[Path], variant: str) -> dict[int, npt.NDArray[np.float32]]:
    """Return a variant's persons by image, [N, K, 3], in the first boxes and protocol."""
    shards = [
        files.read_table(
            path,
            {
                "keypoints": "float32 F N K 2",
                "scores": "float32 F N K",
                "image_id": "int64 N",
                "boxes_from": "str",
            },
        )
        for path in predictions
        if path.parent.name == variant
    ]
    shards = [shard for shard in shards if shard["boxes_from"] == shards[0]["boxes_from"]]
    found: dict[int, list[npt.NDArray[np.float32]]] = {}
    for shard in shards:
        persons = np.concatenate([shard["keypoints"][0], shard["scores"][0][..., None]], axis=2)
        for image, person in zip(shard["image_id"], persons, strict=True):
            found.setdefault(int(image), []).append(person)
    return {image: np.array(persons) for image, persons in found.items()}


def _spread(images: list[Image], count: int) -> list[Image]:
    """Pick images from all over the dataset."""
    return [
        images[index] for index in np.unique(np.linspace(0, len(images) - 1, count).astype(int))
    ]
