"""Train a small model of the embedded sample on drawn images.

The only input is the model's config: images are drawn during training.  The seed fixes the initial
weights, the images and their augmentation; `--init` continues from a checkpoint, or from that of a
model with another head, whose layers of the same name and shape are taken.  The commands that made
the weights of this repository are in the README.md beside them.

    python tools/train_sample.py --output resources/sample/hrnet_sample_128x96.pth

The loss of heatmaps is mmpose's squared error.  Alone it stays for thousands of steps at the
plateau where all heatmaps are zero, so for most of the steps the cross-entropy of the heatmaps'
spatial softmax, which has no such plateau, is added.  The loss of SimCC is that of the config.
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
from hrnetpose.artifacts.model import Crop, HeatmapCodec
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
    """The network in training: normalised input, targets, loss and evaluation."""

    def __init__(self, config: Any, seed: int) -> None:
        self.codec = settings.read_codec(config)
        self.crop = settings.read_crop(config)
        self.keypoints = keypoints.read_keypoints(config)
        self.network = mmpose.build_model(config, weights=None, seed=seed)
        if isinstance(self.codec, HeatmapCodec):
            # Heatmaps start near zero, where the loss is small.
            torch.nn.init.normal_(self.network.head.final_layer.weight, std=0.001)
            torch.nn.init.zeros_(self.network.head.final_layer.bias)
        self.network.to(memory_format=torch.channels_last)
        _, mean, std = settings.read_normalisation(config)
        self.mean, self.std = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std))

    def start_from(self, checkpoint: Path) -> None:
        """Take the weights of a checkpoint for all layers that have their name and shape there."""
        found = torch.load(checkpoint, weights_only=True)["state_dict"]
        own = self.network.state_dict()
        taken = {
            name: value
            for name, value in found.items()
            if name in own and own[name].shape == value.shape
        }
        self.network.load_state_dict(taken, strict=False)
        log.info("%d of %d tensors are those of %s", len(taken), len(own), checkpoint)

    def outputs(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Return the fp32 outputs for crops, uint8 [N, height, width, 3] RGB."""
        images = (pixels.permute(0, 3, 1, 2) - self.mean) / self.std
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.network.training):
            found = mmpose.outputs(self.network, images)
        return tuple(values.float() for values in found)

    def targets(self, positions: Tensor, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return what the outputs should be: Gaussians with peak 1.

        Args:
            positions: [N, 17, 2] in crop pixels.
            outputs: those of the network, for their sizes.
        """
        sigma = self.codec.sigma
        sigmas = sigma if isinstance(sigma, tuple) else (sigma, sigma)
        width, height = (
            outputs[0].shape[:1:-1]
            if isinstance(self.codec, HeatmapCodec)
            else [values.shape[2] for values in outputs]
        )
        scaled = positions * torch.tensor([width / self.crop.width, height / self.crop.height])
        columns, rows = (
            torch.exp(
                -((torch.arange(size) - scaled[..., axis, None]) ** 2) / (2 * sigmas[axis] ** 2)
            )
            for axis, size in enumerate((width, height))
        )
        if isinstance(self.codec, HeatmapCodec):
            return (rows.unsqueeze(-1) * columns.unsqueeze(-2),)
        return columns, rows

    def loss(
        self, outputs: tuple[Tensor, ...], positions: Tensor, weights: Tensor, early: bool
    ) -> Tensor:
        """Return the loss of a batch.

        Args:
            outputs: of the network.
            positions: [N, 17, 2] in crop pixels.
            weights: [N, 17], 1 for labelled keypoints, else 0.
            early: most of the training is still to come.
        """
        targets = self.targets(positions, outputs)
        if isinstance(self.codec, HeatmapCodec):
            return heatmap_loss(outputs[0], targets[0], weights, cross_entropy=early)
        value: Tensor = self.network.head.loss_module(outputs, targets, weights)
        return value

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
            straight = [values.numpy() for values in self.outputs(pixels)]
            mirrored = [values.numpy() for values in self.outputs(pixels.flip(2))]
        flipped = decode.flip_back(mirrored, self.codec, self.keypoints.flip_indices, shift=True)
        averaged = [0.5 * (one + other) for one, other in zip(straight, flipped, strict=True)]
        figures: dict[str, float] = {}
        with contextlib.redirect_stdout(open(os.devnull, "w")):
            dataset.createIndex()
            for name, outputs in (("AP", straight), ("AP_flip", averaged)):
                positions, scores = decode.decode(outputs, self.codec, self.crop)
                found = decode.to_image(positions, self.crop, centers, scales)
                figures.setdefault("score", float(scores.mean()))
                figures[name] = _average_precision(dataset, people, found, scores)
        return figures

    def save(self, path: Path, meta: dict[str, str | int | float], half: bool) -> None:
        """Write the weights, in fp32 or fp16, and `meta`: for torch.load with weights_only=True."""
        state = {
            name: (value.half() if half and value.is_floating_point() else value)
            .detach()
            .contiguous()
            for name, value in self.network.state_dict().items()
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


def heatmap_loss(heatmaps: Tensor, targets: Tensor, weights: Tensor, cross_entropy: bool) -> Tensor:
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
    trainee: Trainee,
    steps: int,
    last: int,
    seed: int,
    report_every: int,
    output: Path,
    half: bool,
) -> None:
    """Train, and write the weights at each report and at the end.

    Args:
        trainee: the network.
        steps: of the whole schedule.
        last: the step to stop at.
        seed: of the crops.
        report_every: steps between reports.
        output: the checkpoint to write.
        half: write it in fp16.
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
        outputs = trainee.outputs(pixels)
        value = trainee.loss(outputs, positions, weights, step <= CROSS_ENTROPY_SHARE * steps)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(trainee.network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        total += value.item()
        if step % report_every == 0 or step == last:
            figures = trainee.measure(VAL_IMAGES)
            trainee.save(output, {"steps": step, "seed": seed, **figures}, half)
            text = ", ".join(f"{name} {figure:.3f}" for name, figure in figures.items())
            mean, total = total / ((step - 1) % report_every + 1), 0.0
            log.info(f"step {step}, {time.monotonic() - start:.0f} s: loss {mean:.3f}, {text}")


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument("--config", type=Path, default=CONFIG, help="default: %(default)s")
    command.add_argument("--output", type=Path, required=True, help="the checkpoint to write")
    command.add_argument("--init", type=Path, help="a checkpoint to continue from")
    command.add_argument("--half", action="store_true", help="write the weights in fp16")
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
    half: bool,
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
        trainee.start_from(init)
    train(trainee, steps, stop_at or steps, seed, report_every, output, half)


if __name__ == "__main__":
    stage.run(parser(), main)
