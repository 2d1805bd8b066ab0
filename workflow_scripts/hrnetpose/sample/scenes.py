"""Backgrounds: a room, a street, a park, clutter; and what resembles people."""

import numpy as np

from hrnetpose.sample.canvas import NOT_A_PERSON, Canvas
from hrnetpose.sample.colours import SKINS, Colour, choose_colour, mix, pick, shade
from hrnetpose.sample.geometry import box, ellipse, rotation, unit_circle
from hrnetpose.sample.objects import paint_crate, paint_lamp, paint_plant, paint_tree
from hrnetpose.sample.textures import paint_gradient


def _choose_sky(rng: np.random.Generator) -> Colour:
    evening = rng.random() < 0.25
    hue = (0.85, 1.1) if evening else (0.5, 0.63)
    return choose_colour(rng, (0.15, 0.55), (0.65, 1.0), hue)


def _paint_room(rng: np.random.Generator, canvas: Canvas) -> None:
    height, width = canvas.height, canvas.width
    wall, floor = choose_colour(rng, (0.03, 0.3), (0.5, 0.95)), choose_colour(rng, (0.1, 0.5))
    edge = int(height * rng.uniform(0.55, 0.8))
    paint_gradient(canvas.image[:edge], wall, shade(wall, rng.uniform(0.75, 1.05)))
    paint_gradient(canvas.image[edge:], shade(floor, 0.8), floor)
    if rng.random() < 0.5:
        step = rng.uniform(14, 40)
        for x in np.arange(0, width, step):
            canvas.paint(box(x, 0, x + step / 2, edge), shade(wall, 0.92))
    for x in np.linspace(-width, 2 * width, rng.integers(8, 22)):
        ends = np.array([(width / 2 + 0.5 * (x - width / 2), edge), (x, height)])
        canvas.stroke(ends, shade(floor, 0.7), 1)
    canvas.paint(box(0, edge - 5, width, edge), shade(wall, 0.6))
    for _ in range(rng.integers(1, 5)):
        x, y = rng.uniform(0, width), rng.uniform(0, 0.6 * edge)
        w, h = rng.uniform(30, 90), rng.uniform(30, 80)
        pick(rng, (_paint_picture, _paint_window, _paint_shelf))(rng, canvas, x, y, w, h)
    for _ in range(rng.integers(0, 4)):
        pick(rng, (paint_plant, paint_crate, paint_lamp))(
            rng, canvas, rng.uniform(0, width), edge + rng.uniform(5, 40), rng.uniform(40, 110)
        )


def _paint_picture(
    rng: np.random.Generator, canvas: Canvas, x: float, y: float, w: float, h: float
) -> None:
    canvas.paint(box(x, y, x + w, y + h), choose_colour(rng, (0.2, 0.6), (0.2, 0.6)))
    canvas.paint(box(x + 4, y + 4, x + w - 4, y + h - 4), choose_colour(rng))
    for _ in range(rng.integers(1, 4)):
        u, v = rng.uniform(0.25, 0.75, size=2)
        r = rng.uniform(0.08, 0.22) * min(w, h)
        canvas.paint(ellipse((x + u * w, y + v * h), r, r), choose_colour(rng))


def _paint_window(
    rng: np.random.Generator, canvas: Canvas, x: float, y: float, w: float, h: float
) -> None:
    canvas.paint(box(x, y, x + w, y + h), (235, 240, 242))
    sky = _choose_sky(rng)
    for u in (0.06, 0.53):
        for v in (0.06, 0.53):
            pane = box(x + u * w, y + v * h, x + (u + 0.41) * w, y + (v + 0.41) * h)
            canvas.paint(pane, shade(sky, 1 - 0.2 * v))


def _paint_shelf(
    rng: np.random.Generator, canvas: Canvas, x: float, y: float, w: float, h: float
) -> None:
    at = x
    while at < x + w:
        thick, tall = rng.uniform(4, 11), rng.uniform(0.4, 0.75) * h
        canvas.paint(box(at, y + h - tall, at + thick - 1, y + h), choose_colour(rng))
        at += thick
    canvas.paint(box(x - 5, y + h, x + w + 8, y + h + 5), (60, 88, 120))


def _paint_street(rng: np.random.Generator, canvas: Canvas) -> None:
    height, width = canvas.height, canvas.width
    edge = int(height * rng.uniform(0.55, 0.75))
    sky = _choose_sky(rng)
    paint_gradient(canvas.image[:edge], sky, mix(sky, (255, 255, 255), 0.5))
    grey = rng.uniform(90, 190)
    paint_gradient(canvas.image[edge:], (grey, grey, grey), (0.8 * grey, 0.8 * grey, 0.82 * grey))
    x = -rng.uniform(0, 40)
    while x < width:
        w, top = rng.uniform(40, 120), rng.uniform(0.02, 0.5) * edge
        house = choose_colour(rng, (0.05, 0.5), (0.35, 0.9))
        canvas.paint(box(x, top, x + w, edge), house)
        glass, pitch = shade(house, rng.uniform(0.45, 0.7)), rng.uniform(13, 26)
        for row in np.arange(top + 8, edge - pitch, 1.3 * pitch):
            for column in np.arange(x + 6, x + w - 0.6 * pitch, pitch):
                canvas.paint(box(column, row, column + 0.55 * pitch, row + 0.75 * pitch), glass)
        x += w + rng.uniform(-2, 14)
    canvas.paint(box(0, edge, width, edge + 6), (grey + 40, grey + 40, grey + 40))
    for _ in range(rng.integers(0, 4)):
        pick(rng, (paint_tree, paint_lamp, paint_crate))(
            rng, canvas, rng.uniform(0, width), edge + rng.uniform(4, 30), rng.uniform(60, 170)
        )


def _paint_park(rng: np.random.Generator, canvas: Canvas) -> None:
    height, width = canvas.height, canvas.width
    edge = int(height * rng.uniform(0.4, 0.7))
    sky = _choose_sky(rng)
    paint_gradient(canvas.image[:edge], sky, mix(sky, (255, 255, 255), 0.4))
    green = (rng.uniform(40, 110), rng.uniform(130, 200), rng.uniform(80, 170))
    paint_gradient(canvas.image[edge:], shade(green, 0.8), green)
    for _ in range(rng.integers(1, 4)):
        x, r = rng.uniform(0, width), rng.uniform(60, 200)
        hill = ellipse((x, edge + 0.5 * r), 1.6 * r, r)[12:]
        canvas.paint(np.minimum(hill, (np.inf, edge)), shade(green, rng.uniform(0.55, 0.9)))
    for _ in range(rng.integers(0, 4)):
        x, y, r = rng.uniform(0, width), rng.uniform(0, 0.5 * edge), rng.uniform(10, 26)
        for shift in (-1, 0, 1):
            canvas.paint(ellipse((x + shift * r, y), r, 0.6 * r), (250, 248, 245))
    for _ in range(rng.integers(1, 6)):
        pick(rng, (paint_tree, paint_tree, paint_plant))(
            rng, canvas, rng.uniform(0, width), edge + rng.uniform(0, 40), rng.uniform(50, 190)
        )
    if rng.random() < 0.5:
        x, spread = rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.6) * width
        path = [(x, edge), (x + 12, edge), (x + spread, height), (x - 0.6 * spread, height)]
        canvas.paint(np.array(path), (150, 190, 210))


def _paint_clutter(rng: np.random.Generator, canvas: Canvas) -> None:
    height, width = canvas.height, canvas.width
    paint_gradient(canvas.image, choose_colour(rng), choose_colour(rng))
    for _ in range(rng.integers(8, 26)):
        x, y = rng.uniform(0, (width, height))
        w, h = rng.uniform(8, 90, size=2)
        shape = pick(rng, (ellipse((0, 0), w, h), box(-w, -h, w, h), w * unit_circle(3)))
        turn = rotation("z", rng.uniform(0, 360))[:2, :2]
        canvas.paint(shape @ turn + (x, y), choose_colour(rng))


SCENES = (_paint_room, _paint_room, _paint_street, _paint_park, _paint_clutter)


def paint_distractors(rng: np.random.Generator, canvas: Canvas) -> None:
    """Add what resembles limbs and heads, without being any."""
    for _ in range(rng.integers(0, 4)):
        start = rng.uniform(0, (canvas.width, canvas.height))
        end = start + rng.normal(0, 45, size=2)
        colour = pick(rng, SKINS) if rng.random() < 0.4 else choose_colour(rng)
        radii = rng.uniform(3, 12, size=2)
        canvas.paint_body(np.stack([start, end]), radii, colour, NOT_A_PERSON)
