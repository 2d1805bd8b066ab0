"""Train the small HRNet of the embedded sample on drawn images.

The only input is the model's config: images are drawn during training.  The seed fixes the initial
weights, the images and their augmentation; `--init` continues from a checkpoint.  The commands that
made the weights of this repository are in resources/sample/README.md.

    python tools/train_sample.py --output resources/sample/hrnet_sample_128x96.pth

The loss is mmpose's squared error of the heatmaps.  Alone it stays for thousands of steps at the
plateau where all heatmaps are zero, so for most of the steps the cross-entropy of the heatmaps'
spatial softmax, which has no such plateau, is added.
"""

import argparse
import contextlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from hrnetpose import stage
from hrnetpose.artifacts.model import Crop
from hrnetpose.data import cutting
from hrnetpose.files import atomic_path
from hrnetpose.models import keypoints, mmpose, settings
from hrnetpose.pose import decode
from hrnetpose.sample.images import draw_image

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[Any]  # uint8

CONFIG = Path("resources/sample/hrnet_sample_128x96.py")
BATCH = 64
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.01
VAL_IMAGES = 100
CROSS_ENTROPY_SHARE = 0.8  # of the steps
CROPS_PER_PERSON = 2  # augmented differently: drawing takes longer than cropping
# From a heatmap, whose target peak is 1, to the logits of a softmax over its pixels.
SHARPNESS = 12.0

log = logging.getLogger(__name__)


class AugmentedCrops(IterableDataset[tuple[Pixels, Floats, Floats]]):
    """An endless stream of crops with their keypoints.

    Yields a crop, uint8 (height, width, 3) RGB; its keypoints in crop pixels, float32 (17, 2); and
    their weights, float32 (17,): 1 where a keypoint is labelled and inside the crop, else 0.
    """

    def __init__(self, crop: Crop, flip_indices: list[int], seed: int) -> None:
        self.crop = crop
        self.flip_indices = flip_indices
        self.seed = seed

    def __iter__(self) -> Iterator[tuple[Pixels, Floats, Floats]]:
        cv2.setNumThreads(1)
        rng = np.random.default_rng(self.seed)
        index = self.seed * 10_000_000  # each seed draws its own images
        while True:
            image, people = draw_image("train", index)
            index += 1
            for person in people * CROPS_PER_PERSON:
                if person["num_keypoints"]:
                    yield self._augment(rng, image, person)

    def _augment(
        self, rng: np.random.Generator, image: Pixels, person: dict[str, Any]
    ) -> tuple[Pixels, Floats, Floats]:
        width, height = self.crop.width, self.crop.height
        centers, scales = cutting.center_and_scale(_corners([person]), self.crop)
        zoom = np.clip(rng.normal(1, 0.1), 0.75, 1.25)
        shift = np.clip(rng.normal(0, 0.03, size=2), -0.1, 0.1) * scales[0]
        center = (centers[0] + shift).astype(np.float32)
        matrix = cutting.warp_matrix(center, (scales[0] * zoom).astype(np.float32), self.crop)
        angle = np.clip(rng.normal(0, 9), -30, 30)
        turn = cv2.getRotationMatrix2D((0.5 * width, 0.5 * height), angle, 1)
        matrix = turn @ np.vstack([matrix, (0, 0, 1)])
        keypoints = np.reshape(person["keypoints"], (-1, 3))
        if rng.random() < 0.5:
            matrix = np.array([(-1, 0, width - 1), (0, 1, 0)]) @ np.vstack([matrix, (0, 0, 1)])
            keypoints = keypoints[self.flip_indices]
        pixels = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR)
        positions = keypoints[:, :2] @ matrix[:, :2].T + matrix[:, 2]
        inside = ((positions >= 0) & (positions <= (width - 1, height - 1))).all(axis=1)
        weights = (keypoints[:, 2] > 0) & inside
        return (
            cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB),
            positions.astype(np.float32),
            weights.astype(np.float32),
        )


class Trainee:
    """The network in training: normalised input, target heatmaps and evaluation."""

    def __init__(self, config: Any, seed: int) -> None:
        self.codec = settings.read_codec(config)
        self.crop = settings.read_crop(config)
        self.keypoints = keypoints.read_keypoints(config)
        self.heatmap_size: tuple[int, int] = tuple(config.codec.heatmap_size)
        self.network = mmpose.build_model(config, weights=None, seed=seed)
        # Heatmaps start near zero, where the loss is small.
        torch.nn.init.normal_(self.network.head.final_layer.weight, std=0.001)
        torch.nn.init.zeros_(self.network.head.final_layer.bias)
        self.network.to(memory_format=torch.channels_last)
        _, mean, std = settings.read_normalisation(config)
        self.mean, self.std = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std))

    def heatmaps(self, pixels: Tensor) -> Tensor:
        """Return fp32 heatmaps [N, 17, h, w] of crops, uint8 [N, height, width, 3] RGB."""
        images = (pixels.permute(0, 3, 1, 2) - self.mean) / self.std
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.network.training):
            heatmaps: Tensor = self.network.head(self.network.backbone(images))
        return heatmaps.float()

    def targets(self, positions: Tensor) -> Tensor:
        """Return Gaussians with peak 1, [N, 17, h, w], at positions [N, 17, 2] in crop pixels."""
        width, height = self.heatmap_size
        x, y = (positions * width / self.crop.width).unsqueeze(-1).unbind(-2)
        rows = torch.exp(-((torch.arange(height) - y) ** 2) / (2 * self.codec.sigma**2))
        columns = torch.exp(-((torch.arange(width) - x) ** 2) / (2 * self.codec.sigma**2))
        return rows.unsqueeze(-1) * columns.unsqueeze(-2)

    def measure(self, images: int) -> dict[str, float]:
        """Return COCO's AP on the first val images, true boxes, without and with a flip test."""
        drawn = [draw_image("val", index) for index in range(images)]
        people = [person for _, annotated in drawn for person in annotated]
        dataset = COCO()
        dataset.dataset = {
            "images": [{"id": number} for number in {person["image_id"] for person in people}],
            "categories": [{"id": 1, "name": "person"}],
            "annotations": people,
        }
        centers, scales = cutting.center_and_scale(_corners(people), self.crop)
        sources = [image for image, annotated in drawn for _ in annotated]
        crops = [
            cutting.cut(image, center, scale, self.crop)
            for image, center, scale in zip(sources, centers, scales, strict=True)
        ]
        pixels = torch.from_numpy(np.stack(crops))
        self.network.eval()
        with torch.inference_mode():
            straight = self.heatmaps(pixels).numpy()
            mirrored = self.heatmaps(pixels.flip(2)).numpy()
        mirrored = decode.flip_back(mirrored, self.keypoints.flip_indices, shift=True)
        figures = {"peak": float(straight.max(axis=(2, 3)).mean())}
        with contextlib.redirect_stdout(open(os.devnull, "w")):
            dataset.createIndex()
            for name, heatmaps in (("AP", straight), ("AP_flip", 0.5 * (straight + mirrored))):
                positions, scores = decode.decode(heatmaps, self.codec)
                found = decode.to_image(positions, self.heatmap_size, centers, scales)
                figures[name] = _average_precision(dataset, people, found, scores)
        return figures

    def save(self, path: Path, meta: dict[str, str | int | float]) -> None:
        """Write the fp32 weights and `meta`; torch.load reads them with weights_only=True."""
        state = {
            name: value.detach().contiguous() for name, value in self.network.state_dict().items()
        }
        with atomic_path(path) as temporary:
            torch.save({"state_dict": state, "meta": meta}, temporary)


def _corners(people: list[dict[str, Any]]) -> Floats:
    """Return (x1, y1, x2, y2) of the boxes (x, y, width, height) of annotations."""
    corners = np.array([person["bbox"] for person in people], np.float32)
    corners[:, 2:] += corners[:, :2]
    return corners


def _average_precision(
    dataset: COCO, people: list[dict[str, Any]], keypoints: Floats, scores: Floats
) -> float:
    results = [
        {
            "image_id": person["image_id"],
            "category_id": 1,
            "keypoints": np.concatenate([points, marks[:, None]], axis=1).ravel().tolist(),
            "score": float(marks.mean()),
        }
        for person, points, marks in zip(people, keypoints, scores, strict=True)
    ]
    evaluation = COCOeval(dataset, dataset.loadRes(results), "keypoints")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return float(evaluation.stats[0])


def loss(heatmaps: Tensor, targets: Tensor, weights: Tensor, cross_entropy: bool) -> Tensor:
    """Return the mean over labelled keypoints of the squared error of their heatmaps.

    Args:
        heatmaps: [N, 17, h, w].
        targets: [N, 17, h, w], Gaussians with peak 1.
        weights: [N, 17], 1 for labelled keypoints, else 0.
        cross_entropy: add that of the spatial softmax, which has the same minimum.
    """
    errors = ((heatmaps - targets) ** 2).sum(dim=(2, 3))
    if cross_entropy:
        shares = (SHARPNESS * targets).flatten(2).softmax(dim=2)
        logarithms = (SHARPNESS * heatmaps).flatten(2).log_softmax(dim=2)
        errors = errors - (shares * logarithms).sum(dim=2)
    return (errors * weights).sum() / weights.sum().clamp(min=1)


def train(
    trainee: Trainee, steps: int, last: int, seed: int, report_every: int, output: Path
) -> None:
    """Train, and write the weights at each report and at the end.

    Args:
        trainee: the network.
        steps: of the whole schedule.
        last: the step to stop at.
        seed: of the crops.
        report_every: steps between reports.
        output: the checkpoint to write.
    """
    stream = AugmentedCrops(trainee.crop, trainee.keypoints.flip_indices, seed)
    # One worker: several would change the order of the crops.
    batches = iter(DataLoader(stream, BATCH, num_workers=1, prefetch_factor=8))
    optimizer = torch.optim.AdamW(
        trainee.network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.05
    )
    start, total = time.monotonic(), 0.0
    for step in range(1, last + 1):
        pixels, positions, weights = next(batches)
        trainee.network.train()
        heatmaps = trainee.heatmaps(pixels)
        targets = trainee.targets(positions)
        value = loss(heatmaps, targets, weights, step <= CROSS_ENTROPY_SHARE * steps)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(trainee.network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        total += value.item()
        if step % report_every == 0 or step == last:
            figures = trainee.measure(VAL_IMAGES)
            trainee.save(output, {"steps": step, "seed": seed, **figures})
            text = ", ".join(f"{name} {figure:.3f}" for name, figure in figures.items())
            mean, total = total / ((step - 1) % report_every + 1), 0.0
            log.info(f"step {step}, {time.monotonic() - start:.0f} s: loss {mean:.3f}, {text}")


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument("--config", type=Path, default=CONFIG, help="default: %(default)s")
    command.add_argument("--output", type=Path, required=True, help="the checkpoint to write")
    command.add_argument("--init", type=Path, help="a checkpoint to continue from")
    command.add_argument("--steps", type=int, default=10000, help="default: %(default)s")
    command.add_argument("--stop-at", type=int, help="stop at this step of the schedule")
    command.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    command.add_argument("--report-every", type=int, default=500, help="default: %(default)s")
    command.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    return command


def main(
    *,
    config: Path,
    output: Path,
    init: Path | None,
    steps: int,
    stop_at: int | None,
    seed: int,
    report_every: int,
    threads: int,
) -> None:
    """Train from the command line."""
    torch.set_num_threads(threads)
    trainee = Trainee(mmpose.read_config(str(config)), seed)
    if init:
        state = torch.load(init, weights_only=True)["state_dict"]
        trainee.network.load_state_dict(state, strict=True)
    train(trainee, steps, stop_at or steps, seed, report_every, output)


if __name__ == "__main__":
    stage.run(parser(), main)
