"""Painting a projected figure."""

import numpy as np

from hrnetpose.sample.canvas import PARTS_PER_PERSON, Canvas
from hrnetpose.sample.colours import mix, shade
from hrnetpose.sample.figures import Figure
from hrnetpose.sample.geometry import ellipse
from hrnetpose.sample.keypoints import SIDES

# A seam farther behind the middle of its part (in body heights) is on the far side.
_SEAM_DEPTH = 0.012


def paint_person(canvas: Canvas, figure: Figure, number: int) -> None:
    """Paint a projected figure from far to near; `number` counts people from 1."""
    depths = [figure.depth(*part.spheres) for part in figure.parts]
    for index in sorted(
        range(len(depths)), key=lambda index: depths[index] + figure.parts[index].nearer
    ):
        part = figure.parts[index]
        centres, radii = figure.xy(*part.spheres), np.array([figure.radii[n] for n in part.spheres])
        canvas.paint_body(centres, radii, part.colour, number * PARTS_PER_PERSON + index)
        if part.seam and figure.depth(*part.seam) > depths[index] - _SEAM_DEPTH:
            width = 2 * figure.radii[part.seam[0]]
            canvas.stroke(figure.xy(*part.seam), figure.looks.accent, width)
        if part.name == "torso":
            _paint_shirt(canvas, figure)
        elif part.name == "head":
            _paint_face(canvas, figure)


def _paint_shirt(canvas: Canvas, figure: Figure) -> None:
    looks = figure.looks
    if looks.shirt == "stripes":
        _paint_stripes(canvas, figure)
    if figure.facing("chest_front", "chest") < 0.25:
        return
    unit = 0.01 * figure.scale
    collar, logo, belly = figure.xy("collar", "chest_front", "belly_front")
    if looks.backpack:
        for side, _ in SIDES:
            shoulder, waist = figure.xy(f"{side}_shoulder", f"{side}_waist")
            strap = np.stack([0.7 * shoulder + 0.3 * collar, waist])
            canvas.stroke(strap, looks.accent, 2.2 * unit)
    canvas.paint(ellipse(collar, 3.2 * unit, 2.8 * unit), shade(looks.skin, 0.88))
    if looks.shirt == "logo":
        canvas.paint(ellipse(logo, 3.6 * unit, 3.2 * unit), looks.accent)
    elif looks.shirt == "buttons":
        canvas.stroke(np.stack([collar, logo, belly]), shade(looks.top, 0.6), 0.5 * unit)
        for share in (0.2, 0.45, 0.7):
            x, y = share * belly + (1 - share) * collar
            canvas.paint(ellipse((x, y), 0.8 * unit, 0.8 * unit), looks.accent)


def _paint_stripes(canvas: Canvas, figure: Figure) -> None:
    shoulders = figure.xy("left_shoulder", "right_shoulder")
    hips = figure.xy("left_hip", "right_hip")
    spine = hips.mean(axis=0) - shoulders.mean(axis=0)
    length = max(float(np.hypot(*spine)), 1.0)
    across = np.array((-spine[1], spine[0])) / length
    for share in (0.15, 0.4, 0.65):
        ends = (1 - share) * shoulders + share * hips
        middle = ends.mean(axis=0)
        flesh = (1 - share) * figure.radii["left_shoulder"] + share * figure.radii["left_hip"]
        reach = np.abs((ends - middle) @ across).max() + 0.85 * flesh
        stripe = np.stack([middle - reach * across, middle + reach * across])
        canvas.stroke(stripe, figure.looks.accent, 0.09 * length)


def _paint_face(canvas: Canvas, figure: Figure) -> None:
    looks, unit = figure.looks, figure.radii["head"]
    for side, _ in SIDES:
        facing = figure.facing(f"{side}_eye", "head")
        if facing < 0.05:
            continue
        eye, brow, cheek = figure.xy(f"{side}_eye", f"{side}_brow", f"{side}_cheek")
        width = 0.25 + 0.75 * facing  # foreshortened
        blush = mix(looks.skin, (110, 90, 225), 0.72)
        canvas.paint(ellipse(cheek, 0.19 * unit * width, 0.15 * unit), blush)
        canvas.paint(ellipse(eye, 0.2 * unit * width, 0.19 * unit), (245, 248, 250))
        canvas.paint(ellipse(eye, 0.11 * unit * width, 0.13 * unit), (34, 24, 22))
        half = np.array((0.2 * unit * width, 0))
        brows = np.stack([brow - half, brow - (0, 0.06 * unit), brow + half])
        canvas.stroke(brows, shade(looks.hair, 0.7), 0.09 * unit)
        if looks.glasses:
            rim = ellipse(eye, 0.29 * unit * width, 0.27 * unit)
            canvas.stroke(np.concatenate([rim, rim[:1]]), (52, 44, 40), 0.07 * unit)
    if figure.facing("mouth", "head") > 0.1:
        lips = figure.xy("left_mouth", "mouth", "right_mouth")
        lips[1, 1] += looks.smile * unit
        canvas.stroke(lips, (58, 48, 150), 0.11 * unit)
