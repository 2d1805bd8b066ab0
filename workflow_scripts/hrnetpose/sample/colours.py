"""Colours, and random choices."""

import colorsys
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
Colour = tuple[float, float, float]  # blue, green, red; 0 to 255
SKINS: tuple[Colour, ...] = (
    (196, 222, 252), (164, 197, 241), (128, 172, 226), (92, 136, 198), (58, 92, 146), (44, 62, 100),
)  # fmt: skip


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """Return one of the options, each as likely as the others."""
    return options[int(rng.integers(len(options)))]


def shade(colour: Colour, factor: float) -> Colour:
    """Return a colour, lighter or darker by a factor, at most white."""
    blue, green, red = (min(channel * factor, 255.0) for channel in colour)
    return blue, green, red


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Return `share` of `first` and the rest of `second`."""
    blue, green, red = (share * a + (1 - share) * b for a, b in zip(first, second, strict=True))
    return blue, green, red


def choose_colour(
    rng: np.random.Generator,
    saturation: tuple[float, float] = (0.1, 0.8),
    value: tuple[float, float] = (0.25, 0.95),
    hue: tuple[float, float] = (0.0, 1.0),
) -> Colour:
    """Return a colour whose saturation, value and hue (0 to 1) lie between the limits given."""
    red, green, blue = colorsys.hsv_to_rgb(
        rng.uniform(*hue), rng.uniform(*saturation), rng.uniform(*value)
    )
    return 255 * blue, 255 * green, 255 * red
