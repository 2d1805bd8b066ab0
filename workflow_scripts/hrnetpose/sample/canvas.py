"""The canvas: an image, and the owner of each of its pixels."""

from dataclasses import dataclass

import cv2

from hrnetpose.sample.colours import Colour, shade
from hrnetpose.sample.geometry import Array, convex_hull, to_fixed_point

NOT_A_PERSON = 0
PARTS_PER_PERSON = 42  # owner numbers kept for each person


@dataclass
class Canvas:
    """An image and, for every pixel, the number of the part that painted it.

    Attributes:
        image: uint8 (H, W, 3), BGR.
        owner: uint8 (H, W); `PARTS_PER_PERSON` times the person's number (from 1) plus the part's
            number, or `NOT_A_PERSON`.
        light: (2,), the direction in the image in which surfaces are lit.
    """

    image: Array
    owner: Array
    light: Array

    @property
    def height(self) -> int:
        return int(self.image.shape[0])

    @property
    def width(self) -> int:
        return int(self.image.shape[1])

    def paint(self, outline: Array, colour: Colour) -> None:
        """Fill a polygon (N, 2) in pixels, in the image only."""
        cv2.fillPoly(self.image, [to_fixed_point(outline)], colour, cv2.LINE_AA, 4)

    def stroke(self, points: Array, colour: Colour, width: float) -> None:
        """Draw an open line through `points` (N, 2), in the image only."""
        thickness = max(1, round(width))
        cv2.polylines(
            self.image, [to_fixed_point(points)], False, colour, thickness, cv2.LINE_AA, 4
        )

    def paint_solid(self, outline: Array, colour: Colour, owner: int = NOT_A_PERSON) -> None:
        """Fill a polygon (N, 2) in the image and in the owner map."""
        self.paint(outline, colour)
        cv2.fillPoly(self.owner, [to_fixed_point(outline)], [owner], cv2.LINE_8, 4)

    def paint_body(self, centres: Array, radii: Array, colour: Colour, owner: int) -> None:
        """Draw the hull of spheres (S, 2), (S,): a dark outline, lit from one side."""
        self.paint_solid(convex_hull(centres, radii), shade(colour, 0.62), owner)
        lit = centres + 0.16 * radii[:, None] * self.light
        self.paint(convex_hull(lit, 0.84 * radii), colour)
