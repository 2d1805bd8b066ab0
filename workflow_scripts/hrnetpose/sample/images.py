"""One image of a split: a scene, its people, and their annotations."""

from typing import Any

import cv2
import numpy as np

from hrnetpose.sample.annotations import annotate
from hrnetpose.sample.canvas import Canvas
from hrnetpose.sample.colours import choose_colour, pick
from hrnetpose.sample.figures import Figure, build_figure
from hrnetpose.sample.geometry import Array, rotation
from hrnetpose.sample.keypoints import KEYPOINTS
from hrnetpose.sample.looks import choose_looks
from hrnetpose.sample.objects import OBSTACLES, paint_seat, paint_shadow
from hrnetpose.sample.people import paint_person
from hrnetpose.sample.poses import POSES, mirror
from hrnetpose.sample.scenes import SCENES, paint_distractors
from hrnetpose.sample.textures import add_noise, make_noise

SPLITS = ("train", "val")
# Split -> (its part of each seed, the id of its first image).
SEED_AND_FIRST_ID = {"val": (1, 1), "train": (2, 100_000_001)}
_MAX_PEOPLE = 5


def _place_people(rng: np.random.Generator, height: int, width: int) -> list[Figure]:
    """Return one to five people, placed in an image of this size, the farthest first."""
    number = pick(rng, (1, 1, 2, 2, 2, 2, 3, 3, 4, _MAX_PEOPLE))
    slots = rng.permutation(number)
    figures = []
    for slot in slots:
        pose = pick(rng, POSES)(rng)
        if rng.random() < 0.5:
            pose = mirror(pose)
        figure = build_figure(rng, choose_looks(rng), pose)
        view = _choose_view(rng, figure.seated)
        close_up = rng.random() < 0.08
        if close_up:
            stature = rng.uniform(1.0, 1.6) * height
        else:
            stature = rng.uniform(0.55, 0.98) * height * (1.06 - 0.08 * number)
        figure.project(view, stature)
        _place_figure(rng, figure, (slot + rng.uniform(0.1, 0.9)) / number, close_up, height, width)
        figures.append(figure)
    return sorted(figures, key=lambda figure: figure.scale)


def _choose_view(rng: np.random.Generator, seated: bool) -> Array:
    """Return how a body is turned, (3, 3): most face the viewer, a fifth shows the back."""
    chance = rng.random()
    if chance < 0.6:
        yaw = rng.normal(0, 32)
    elif chance < 0.8:
        yaw = rng.normal(180, 30)
    else:
        yaw = rng.uniform(-180, 180)
    upright = seated or rng.random() < 0.9
    roll = rng.normal(0, 4) if upright else rng.normal(0, 25)
    return rotation("z", roll) @ rotation("x", rng.normal(6, 6)) @ rotation("y", yaw)


def _place_figure(
    rng: np.random.Generator,
    figure: Figure,
    column: float,
    close_up: bool,
    height: int,
    width: int,
) -> None:
    """Move a figure to a column (a share of the width) and to where its size belongs."""
    centres = np.stack([point[:2] for point in figure.points.values()])
    left, top = centres.min(axis=0)
    right, bottom = centres.max(axis=0)
    x = column * width
    if rng.random() > 0.15:  # most people are not cut off at the sides
        margin = min(0.5 * (right - left) + 4, 0.5 * width)
        x = float(np.clip(x, margin, width - margin))
    if close_up:
        y = rng.uniform(0.04, 0.2) * height - top
    else:
        near = figure.scale / height
        y = (0.74 + 0.24 * min(near, 1.0) + rng.normal(0, 0.03)) * height - bottom
        if rng.random() < 0.9:  # most heads are in the image
            y = max(y, 6 - top)
    figure.move(x - 0.5 * (left + right), y)


def _degrade(rng: np.random.Generator, image: Array) -> Array:
    """Return the image as a camera may have taken it: blurred, tinted, too dark, noisy."""
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.1))
    if rng.random() < 0.08:
        length = int(rng.integers(3, 7))
        kernel = (1, length) if rng.random() < 0.5 else (length, 1)
        image = cv2.blur(image, kernel)
    level = np.linspace(0, 1, 256)[:, None] ** rng.uniform(0.8, 1.25)
    tint = rng.uniform(0.75, 1.15) * rng.normal(1, 0.06, size=3)
    table = 255 * level * tint + rng.uniform(-12, 18)
    image = cv2.LUT(image, table.clip(0, 255).astype(np.uint8)[:, None])
    noise = make_noise(rng, image.shape[0], image.shape[1], coarseness=1)
    add_noise(image, noise, deviation=rng.uniform(1, 6))
    return image


def draw_image(split: str, index: int) -> tuple[Array, list[dict[str, Any]]]:
    """Draw one image of a split.

    The seed is (split, index) alone: an image is the same whatever was drawn before it, and no
    two splits share one.

    Args:
        split: "train" or "val".
        index: the image's number in the split, from 0.

    Returns:
        The image, uint8 (H, W, 3) in BGR order, its sides 240 to 480 pixels; and the COCO
        annotations of its people, from far to near.  A keypoint has v=2 where it can be seen,
        v=1 where something hides it but its limb shows beside it, and v=0 (and x=y=0) where it
        can only be guessed: outside the image, outside the visible box, deep behind something or
        on the far side of the head.

    Raises:
        ValueError: the split is unknown or the index negative.
    """
    if split not in SPLITS or index < 0:
        raise ValueError(f"no image {index} in split {split!r}; splits are {', '.join(SPLITS)}")
    seed, first_id = SEED_AND_FIRST_ID[split]
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, index))))
    height, width = pick(rng, ((240, 320), (288, 384), (360, 480), (320, 256), (400, 304)))
    light = np.array((rng.uniform(-1, 1), -0.7))
    canvas = Canvas(
        np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8), light
    )
    pick(rng, SCENES)(rng, canvas)
    add_noise(canvas.image, make_noise(rng, height, width, coarseness=6), rng.uniform(0, 6))
    paint_distractors(rng, canvas)
    figures = _place_people(rng, height, width)
    for number, figure in enumerate(figures, start=1):
        paint_shadow(canvas, figure)
        if figure.seated:
            paint_seat(canvas, figure, choose_colour(rng))
        paint_person(canvas, figure, number)
        if rng.random() < 0.12:
            x, y = figure.xy(pick(rng, KEYPOINTS[5:]))[0] + rng.normal(0, 12, size=2)
            size = rng.uniform(0.25, 0.5) * figure.scale
            pick(rng, OBSTACLES)(rng, canvas, x, y + 0.4 * size, size)
    annotations = []
    for number, figure in enumerate(figures, start=1):
        annotation = annotate(canvas.owner, figure, number)
        if annotation:
            identity = {"id": 10 * (first_id + index) + number, "image_id": first_id + index}
            annotations.append(identity | annotation)
    return _degrade(rng, canvas.image), annotations
