"""Objects in a scene: trees, plants, crates, tables, lamps, balls, seats and shadows.

Objects are painted with `canvas.paint_solid`, so they hide what is behind them.  (x, y) is the
position of their foot.
"""

import cv2
import numpy as np

from hrnetpose.sample.canvas import NOT_A_PERSON, Canvas
from hrnetpose.sample.colours import Colour, choose_colour, shade
from hrnetpose.sample.figures import Figure
from hrnetpose.sample.geometry import box, ellipse, rotation, to_fixed_point


def paint_tree(rng: np.random.Generator, canvas: Canvas, x: float, y: float, size: float) -> None:
    """Paint a tree; `size` is roughly its height, as for all objects here."""
    canvas.paint_solid(box(x - 0.05 * size, y - 0.5 * size, x + 0.05 * size, y), (50, 72, 98))
    leaf = (rng.uniform(30, 90), rng.uniform(90, 170), rng.uniform(40, 130))
    for _ in range(5):
        u, v = rng.uniform(-0.2, 0.2, size=2) * size
        r = rng.uniform(0.14, 0.24) * size
        crown = ellipse((x + u, y - 0.68 * size + v), r, r)
        canvas.paint_solid(crown, shade(leaf, rng.uniform(0.75, 1.2)))


def paint_plant(rng: np.random.Generator, canvas: Canvas, x: float, y: float, size: float) -> None:
    """Paint a plant in a pot."""
    leaf = (rng.uniform(30, 90), rng.uniform(110, 180), rng.uniform(40, 110))
    for angle in rng.uniform(-70, 70, size=7):
        turn = rotation("z", angle)[:2, :2]
        blade = ellipse((0, -0.36 * size), 0.06 * size, 0.3 * size) @ turn.T
        colour = shade(leaf, rng.uniform(0.7, 1.25))
        canvas.paint_solid(blade + np.array((x, y - 0.25 * size)), colour)
    pot = [(-0.16, -0.3), (0.16, -0.3), (0.11, 0), (-0.11, 0)]
    canvas.paint_solid(size * np.array(pot) + (x, y), choose_colour(rng, (0.3, 0.8), (0.4, 0.9)))


def paint_crate(rng: np.random.Generator, canvas: Canvas, x: float, y: float, size: float) -> None:
    """Paint a crate."""
    colour = choose_colour(rng, (0.2, 0.7), (0.35, 0.85))
    half, tall = rng.uniform(0.3, 0.6) * size, rng.uniform(0.5, 0.8) * size
    canvas.paint_solid(box(x - half, y - tall, x + half, y), shade(colour, 0.6))
    for share in (0.05, 0.37, 0.69):
        top = y - tall + share * tall
        canvas.paint_solid(box(x - half + 2, top, x + half - 2, top + 0.27 * tall), colour)


def _paint_table(rng: np.random.Generator, canvas: Canvas, x: float, y: float, size: float) -> None:
    colour = choose_colour(rng, (0.3, 0.7), (0.3, 0.8))
    half, tall = rng.uniform(0.5, 0.9) * size, 0.6 * size
    for leg in (-0.9, 0.8):
        canvas.paint_solid(
            box(x + leg * half, y - tall, x + (leg + 0.1) * half, y), shade(colour, 0.7)
        )
    canvas.paint_solid(box(x - half, y - tall, x + half, y - 0.86 * tall), colour)


def paint_lamp(rng: np.random.Generator, canvas: Canvas, x: float, y: float, size: float) -> None:
    """Paint a lamp."""
    metal = choose_colour(rng, (0.0, 0.3), (0.15, 0.5))
    canvas.paint_solid(box(x - 0.025 * size, y - 1.5 * size, x + 0.025 * size, y), metal)
    canvas.paint_solid(ellipse((x, y), 0.13 * size, 0.035 * size), metal)
    lampshade = [(-0.09, -1.6), (0.09, -1.6), (0.18, -1.35), (-0.18, -1.35)]
    canvas.paint_solid(size * np.array(lampshade) + (x, y), (170, 232, 250))


def _paint_ball(rng: np.random.Generator, canvas: Canvas, x: float, y: float, size: float) -> None:
    radius = 0.22 * size
    centre = np.array([(x, y - radius)])
    canvas.paint_body(centre, np.array([radius]), choose_colour(rng, (0.4, 0.9)), NOT_A_PERSON)


OBSTACLES = (paint_plant, paint_crate, _paint_table, paint_lamp, _paint_ball, paint_tree)


def paint_seat(canvas: Canvas, figure: Figure, colour: Colour) -> None:
    """Paint a seat behind a seated figure."""
    hips, feet = figure.xy("left_hip", "right_hip"), figure.xy("left_ankle", "right_ankle")
    half, drop = 0.17 * figure.scale, 0.045 * figure.scale
    x, top = hips.mean(axis=0) + np.array((0, drop))
    bottom = max(feet[:, 1].max(), top + 0.1 * figure.scale)
    canvas.paint_solid(box(x - 0.9 * half, top, x + 0.9 * half, bottom), shade(colour, 0.65))
    canvas.paint_solid(box(x - half, top, x + half, top + drop), colour)


def paint_shadow(canvas: Canvas, figure: Figure) -> None:
    """Darken the ground under a figure."""
    feet = figure.xy("left_heel", "right_heel", "left_toe", "right_toe")
    x, y = feet[:, 0].mean(), feet[:, 1].max()
    half = 0.5 * np.ptp(feet[:, 0]) + 0.08 * figure.scale
    left, right = (int(np.clip(edge, 0, canvas.width)) for edge in (x - half, x + half))
    top, bottom = (int(np.clip(y + edge, 0, canvas.height)) for edge in (-half, half))
    if left < right and top < bottom:
        region = canvas.image[top:bottom, left:right]
        shaded = region.copy()
        outline = to_fixed_point(ellipse((x - left, y - top), half, 0.2 * half))
        cv2.fillPoly(shaded, [outline], (30, 26, 26), cv2.LINE_AA, 4)
        cv2.addWeighted(region, 0.65, shaded, 0.35, 0, dst=region)
