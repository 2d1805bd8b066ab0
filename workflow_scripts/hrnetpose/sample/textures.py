"""Noise and gradients."""

import functools

import cv2
import numpy as np

from hrnetpose.sample.colours import Colour
from hrnetpose.sample.geometry import Array


@functools.cache
def _grain() -> Array:
    """Return uint8 (768, 768, 3) noise, normal with mean 128 and deviation 32."""
    rng = np.random.Generator(np.random.PCG64(0))
    grain = 128 + 32 * rng.standard_normal((768, 768, 3))
    return np.asarray(grain.clip(0, 255), np.uint8)


def make_noise(rng: np.random.Generator, height: int, width: int, coarseness: int) -> Array:
    """Return uint8 (height, width, 3) noise like `_grain`, smooth over `coarseness` pixels."""
    rows, columns = -(-height // coarseness), -(-width // coarseness)
    grain = _grain()
    top = rng.integers(grain.shape[0] - rows)
    left = rng.integers(grain.shape[1] - columns)
    patch = grain[top : top + rows, left : left + columns]
    if coarseness == 1:
        return patch
    return cv2.resize(patch, (width, height), interpolation=cv2.INTER_CUBIC)


def add_noise(image: Array, noise: Array, deviation: float) -> None:
    """Add noise of `make_noise` with the given standard deviation in grey levels, in place."""
    weight = deviation / 32
    cv2.addWeighted(image, 1, noise, weight, -128 * weight, dst=image)


def paint_gradient(image: Array, top: Colour, bottom: Colour) -> None:
    """Fill an image, or a slice of its rows, from one colour to another."""
    share = np.linspace(0, 1, image.shape[0])[:, None, None]
    image[:] = (1 - share) * np.array(top) + share * np.array(bottom)
