"""The embedded sample: drawn people with COCO keypoints, the same ones every time.

An image is a cluttered scene with one to five people.  A person is a three-dimensional skeleton,
posed, seen from any side and projected; its flesh and clothes are convex hulls of spheres (a
forearm is the hull of an elbow and a wrist sphere), painted from far to near.  Beside the image
an owner map records which part of which person painted each pixel last: boxes, areas and the
visibility of the keypoints are read from it, so occlusion is labelled as it is drawn.

Nothing in the drawing prefers a side of the body.  Left and right follow from what a viewer can
see (a face, knees, feet or a back), so a mirrored image shows a person as likely as the original
and a flip test is fair.

Axes of the body: x to the person's left, y up, z forward.  Lengths are in body heights, angles in
degrees.  Axes of the view: x to the right, y up, z towards the viewer.
"""

import colorsys
import functools
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrnetpose.files import atomic_path, write_text

T = TypeVar("T")
Array = NDArray[Any]
Colour = tuple[float, float, float]  # blue, green, red; 0 to 255

KEYPOINTS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
# Pairs of keypoint numbers that count from 1, as COCO has them.
SKELETON = (
    (16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9),
    (8, 10), (9, 11), (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7),
)  # fmt: skip

SPLITS = ("train", "val")
# Split -> (its word in every seed, the id of its first image).
_SEED_AND_ID = {"val": (1, 1), "train": (2, 100_000_001)}
_MAX_PEOPLE = 5
_SIDES = (("left", 1.0), ("right", -1.0))
_JPEG_QUALITY = 92
_NOT_A_PERSON = 0
_PARTS = 42  # owner numbers kept for each person

# People who show fewer keypoints than this keep their box, but no keypoints: COCO's annotators
# did not label them either.
_MIN_VISIBLE_KEYPOINTS = 4
_MIN_VISIBLE_PIXELS = 60  # people who show less are not annotated

_SKINS: tuple[Colour, ...] = (
    (196, 222, 252), (164, 197, 241), (128, 172, 226), (92, 136, 198), (58, 92, 146), (44, 62, 100),
)  # fmt: skip
_HAIRS: tuple[Colour, ...] = (
    (28, 26, 30), (30, 44, 66), (38, 68, 112), (84, 158, 214), (40, 82, 170), (176, 178, 180),
)  # fmt: skip


# --- Geometry -------------------------------------------------------------------------------------


def _rotation(axis: str, degrees: float) -> Array:
    """Returns the float64 (3, 3) right-handed rotation about "x", "y" or "z"."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = cos
    matrix[first, second], matrix[second, first] = -sin, sin
    return matrix


def _unit_circle(corners: int) -> Array:
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


_CIRCLE = _unit_circle(24)


def _hull(centres: Array, radii: Array) -> Array:
    """Returns the convex hull, float32 (N, 2), of circles with centres (S, 2) and radii (S,)."""
    outline = centres[:, None] + radii[:, None, None] * _CIRCLE
    hull: Array = cv2.convexHull(outline.reshape(-1, 2).astype(np.float32))[:, 0]
    return hull


def _ellipse(centre: ArrayLike, half_width: float, half_height: float) -> Array:
    outline: Array = _CIRCLE * (half_width, half_height) + np.asarray(centre)
    return outline


def _box(left: float, top: float, right: float, bottom: float) -> Array:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


# --- Colours and chance ---------------------------------------------------------------------------


def _pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def _shade(colour: Colour, factor: float) -> Colour:
    blue, green, red = (min(channel * factor, 255.0) for channel in colour)
    return blue, green, red


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    """Returns `share` of `first` and the rest of `second`."""
    blue, green, red = (share * a + (1 - share) * b for a, b in zip(first, second, strict=True))
    return blue, green, red


def _any_colour(
    rng: np.random.Generator,
    saturation: tuple[float, float] = (0.1, 0.8),
    value: tuple[float, float] = (0.25, 0.95),
    hue: tuple[float, float] = (0.0, 1.0),
) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(
        rng.uniform(*hue), rng.uniform(*saturation), rng.uniform(*value)
    )
    return 255 * blue, 255 * green, 255 * red


# --- Canvas ---------------------------------------------------------------------------------------


@dataclass
class _Canvas:
    """An image and, for every pixel, the number of the part that painted it.

    Attributes:
        image: uint8 (H, W, 3), BGR.
        owner: uint8 (H, W); `_PARTS` times the person's number (from 1) plus the part's number,
            or `_NOT_A_PERSON`.
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
        """Fills a polygon (N, 2) in pixels, in the image only."""
        cv2.fillPoly(self.image, [_fixed_point(outline)], colour, cv2.LINE_AA, 4)

    def stroke(self, points: Array, colour: Colour, width: float) -> None:
        """Draws an open line through `points` (N, 2), in the image only."""
        thickness = max(1, round(width))
        cv2.polylines(self.image, [_fixed_point(points)], False, colour, thickness, cv2.LINE_AA, 4)

    def solid(self, outline: Array, colour: Colour, owner: int = _NOT_A_PERSON) -> None:
        """Fills a polygon (N, 2) in the image and in the owner map."""
        self.paint(outline, colour)
        cv2.fillPoly(self.owner, [_fixed_point(outline)], [owner], cv2.LINE_8, 4)

    def body(self, centres: Array, radii: Array, colour: Colour, owner: int) -> None:
        """Draws the hull of spheres (S, 2), (S,): a dark outline, lit from one side."""
        self.solid(_hull(centres, radii), _shade(colour, 0.62), owner)
        lit = centres + 0.16 * radii[:, None] * self.light
        self.paint(_hull(lit, 0.84 * radii), colour)


def _fixed_point(points: Array) -> Array:
    """Returns points as int32 sixteenths of a pixel, as OpenCV's `shift=4` wants them."""
    fixed: Array = np.rint(16 * points).astype(np.int32)
    return fixed


# --- Poses ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Arm:
    """Angles of an arm: hanging at zero; `twist` turns the bent elbow outwards."""

    forward: float
    out: float
    twist: float
    elbow: float


@dataclass(frozen=True)
class _Leg:
    """Angles of a leg: straight down at zero; `knee` bends the shin backwards."""

    forward: float
    out: float
    knee: float


@dataclass(frozen=True)
class _Pose:
    """A posture; arms and legs are ordered left, right."""

    arms: tuple[_Arm, _Arm]
    legs: tuple[_Leg, _Leg]
    lean: float = 0.0
    tilt: float = 0.0
    seated: bool = False


_ARM_GESTURES = {
    "hanging": _Arm(forward=0, out=12, twist=-20, elbow=18),
    "on the hip": _Arm(forward=-10, out=45, twist=-80, elbow=95),
    "waving": _Arm(forward=20, out=100, twist=70, elbow=85),
    "raised": _Arm(forward=0, out=155, twist=0, elbow=20),
    "reaching": _Arm(forward=85, out=15, twist=0, elbow=15),
    "spread": _Arm(forward=0, out=85, twist=0, elbow=12),
    "holding": _Arm(forward=25, out=10, twist=-30, elbow=85),
    "on the phone": _Arm(forward=35, out=35, twist=-25, elbow=140),
}


def _gesture(rng: np.random.Generator, *names: str) -> _Arm:
    """Returns one of the named gestures, or of all if none is named, a little varied."""
    arm = _ARM_GESTURES[_pick(rng, names or tuple(_ARM_GESTURES))]
    forward, out, twist, elbow = rng.normal((arm.forward, arm.out, arm.twist, arm.elbow), 11)
    return _Arm(forward, out, twist, float(np.clip(elbow, 3, 150)))


def _stand(rng: np.random.Generator) -> _Pose:
    legs = [_Leg(rng.normal(2, 7), rng.uniform(1, 12), rng.uniform(0, 14)) for _ in _SIDES]
    if rng.random() < 0.5:
        arms = _gesture(rng, "hanging"), _gesture(rng, "hanging", "on the hip", "holding")
    else:
        arms = _gesture(rng), _gesture(rng)
    return _Pose(arms, (legs[0], legs[1]), lean=rng.normal(2, 4), tilt=rng.normal(0, 4))


def _walk(rng: np.random.Generator) -> _Pose:
    stride = rng.uniform(14, 42)
    ahead = _Leg(stride, rng.uniform(0, 5), rng.uniform(3, 25))
    behind = _Leg(-0.7 * stride, rng.uniform(0, 5), rng.uniform(10, 65))
    elbow = rng.uniform(12, 90)
    swing = rng.uniform(0.7, 1.2) * stride
    arms = _Arm(-swing, 10, -10, elbow), _Arm(swing, 10, -10, elbow)
    return _Pose(arms, (ahead, behind), lean=rng.uniform(0, 14))


def _sit(rng: np.random.Generator) -> _Pose:
    thigh, out = rng.uniform(70, 92), rng.uniform(2, 16)
    knees = thigh + rng.normal(0, 12, size=2)
    arms = _gesture(rng, "holding", "reaching"), _gesture(rng, "holding", "hanging", "waving")
    legs = _Leg(thigh, out, knees[0]), _Leg(thigh, out, knees[1])
    return _Pose(arms, legs, lean=rng.normal(0, 8), seated=True)


def _bend(rng: np.random.Generator) -> _Pose:
    lean = rng.uniform(25, 65)
    legs = [_Leg(rng.uniform(0, 30), rng.uniform(2, 12), rng.uniform(5, 40)) for _ in _SIDES]
    arms = [_Arm(rng.uniform(0.5, 1.1) * lean, 8, 0, rng.uniform(5, 50)) for _ in _SIDES]
    return _Pose((arms[0], arms[1]), (legs[0], legs[1]), lean=lean)


def _squat(rng: np.random.Generator) -> _Pose:
    legs = [_Leg(rng.uniform(75, 115), rng.uniform(8, 35), rng.uniform(95, 135)) for _ in _SIDES]
    arms = _gesture(rng, "holding", "reaching", "spread"), _gesture(rng, "holding", "reaching")
    return _Pose(arms, (legs[0], legs[1]), lean=rng.uniform(10, 40))


def _dance(rng: np.random.Generator) -> _Pose:
    legs = [_Leg(rng.normal(15, 25), rng.uniform(5, 42), rng.uniform(0, 80)) for _ in _SIDES]
    arms = _gesture(rng, "raised", "waving", "spread", "reaching"), _gesture(rng)
    return _Pose(arms, (legs[0], legs[1]), lean=rng.normal(0, 10), tilt=rng.normal(0, 14))


# How often each posture is taken.
_POSES = (*5 * (_stand,), *3 * (_walk,), *2 * (_sit,), _bend, _squat, _dance)


def _mirrored(pose: _Pose) -> _Pose:
    return _Pose(
        (pose.arms[1], pose.arms[0]),
        (pose.legs[1], pose.legs[0]),
        pose.lean,
        -pose.tilt,
        pose.seated,
    )


# --- Looks ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Looks:
    """What a person wears and is built like; nothing in it belongs to one side of the body."""

    skin: Colour
    hair: Colour
    top: Colour
    bottom: Colour
    shoes: Colour
    accent: Colour
    hair_style: str
    sleeves: str
    legwear: str
    shirt: str
    hat: bool
    backpack: bool
    glasses: bool
    girth: float
    head: float
    smile: float


def _dress(rng: np.random.Generator) -> _Looks:
    child = rng.random() < 0.15
    skin = _mix(_pick(rng, _SKINS), _pick(rng, _SKINS), 0.8)
    return _Looks(
        skin=skin,
        hair=_shade(_pick(rng, _HAIRS), rng.uniform(0.8, 1.2)),
        top=_any_colour(rng, (0.05, 0.85), (0.3, 0.98)),
        bottom=_any_colour(rng, (0.05, 0.6), (0.18, 0.8)),
        shoes=_any_colour(rng, (0.0, 0.7), (0.12, 0.95)),
        accent=_any_colour(rng, (0.0, 0.8), (0.5, 1.0)),
        hair_style=_pick(rng, ("short", "short", "long", "bun", "ponytail", "curly", "bald")),
        sleeves=_pick(rng, ("long", "long", "short", "short", "none")),
        legwear=_pick(rng, ("long", "long", "long", "shorts", "skirt")),
        shirt=_pick(rng, ("plain", "plain", "stripes", "logo", "buttons")),
        hat=rng.random() < 0.2,
        backpack=rng.random() < 0.15,
        glasses=rng.random() < 0.2,
        girth=rng.uniform(0.85, 1.25),
        head=rng.uniform(0.103, 0.118) if child else rng.uniform(0.083, 0.094),
        smile=rng.uniform(-0.02, 0.14),
    )


# --- Figures --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """The convex hull of some spheres.

    `nearer` lifts it in the order of painting.  `seam` is a line of points on its surface, of
    another colour, that shows when they face the viewer.
    """

    name: str
    spheres: tuple[str, ...]
    colour: Colour
    nearer: float = 0.0
    seam: tuple[str, ...] = ()


@dataclass
class _Figure:
    """A person's spheres, as points and radii, and the parts that they span.

    `points` are 3 coordinates each, first of the body and, once `project` was called, of the
    view: x and y in pixels of the image, z in body heights towards the viewer.  `radii` are in
    body heights, then in pixels.
    """

    looks: _Looks
    seated: bool
    scale: float = 1.0
    points: dict[str, Array] = field(default_factory=dict)
    radii: dict[str, float] = field(default_factory=dict)
    parts: list[_Part] = field(default_factory=list)

    def sphere(self, name: str, point: Array, radius: float) -> None:
        self.points[name] = point
        self.radii[name] = radius

    def part(
        self,
        name: str,
        spheres: Sequence[str],
        colour: Colour,
        nearer: float = 0.0,
        seam: Sequence[str] = (),
    ) -> None:
        self.parts.append(_Part(name, tuple(spheres), colour, nearer, tuple(seam)))

    def depth(self, *names: str) -> float:
        """Returns the mean z of some points."""
        return sum(float(self.points[name][2]) for name in names) / len(names)

    def project(self, view: Array, scale: float) -> None:
        """Turns the body by `view` (3, 3) and maps it to pixels, its pelvis at (0, 0)."""
        turned = np.stack(list(self.points.values())) @ view.T
        enlarged = scale / (1 - 0.22 * turned[:, 2])  # what is near looks larger
        turned[:, 0] *= enlarged
        turned[:, 1] *= -enlarged
        self.scale = scale
        for index, name in enumerate(self.points):
            self.points[name] = turned[index]
            self.radii[name] *= float(enlarged[index])

    def move(self, x: float, y: float) -> None:
        """Shifts a projected figure by pixels."""
        for point in self.points.values():
            point[:2] += (x, y)

    def xy(self, *names: str) -> Array:
        """Returns the image positions (len(names), 2) of spheres."""
        return np.stack([self.points[name][:2] for name in names])

    def facing(self, name: str, centre: str) -> float:
        """Returns how far a point looks at the viewer, seen from `centre`: 1 straight, -1 away."""
        normal = (self.points[name] - self.points[centre]) * (1, 1, self.scale)
        return float(normal[2] / max(np.linalg.norm(normal), 1e-6))


# Points of the face, as multiples of the head's radius: to the left, up, forward.
_FACE = {
    "nose": (0.0, -0.12, 1.04),
    "mouth": (0.0, -0.5, 0.86),
    "left_eye": (0.35, 0.12, 0.86),
    "right_eye": (-0.35, 0.12, 0.86),
    "left_brow": (0.38, 0.42, 0.82),
    "right_brow": (-0.38, 0.42, 0.82),
    "left_cheek": (0.52, -0.26, 0.78),
    "right_cheek": (-0.52, -0.26, 0.78),
    "left_mouth": (0.27, -0.46, 0.83),
    "right_mouth": (-0.27, -0.46, 0.83),
}


def _figure(rng: np.random.Generator, looks: _Looks, pose: _Pose) -> _Figure:
    """Builds a person in the axes of the body, the pelvis at the origin."""
    figure = _Figure(looks, pose.seated)
    torso = _rotation("x", pose.lean) @ _rotation("z", pose.tilt)
    _add_torso(figure, torso)
    neck = torso @ (0, 0.325, 0.0)
    nod, turn, sway = rng.normal((-0.3 * pose.lean, 0, 0), (9, 22, 6))
    head = torso @ _rotation("y", turn) @ _rotation("x", nod) @ _rotation("z", sway)
    _add_head(figure, neck, head)
    for (side, sign), arm, leg in zip(_SIDES, pose.arms, pose.legs, strict=True):
        _add_arm(figure, side, sign, arm, torso)
        _add_leg(figure, side, sign, leg)
    if looks.legwear == "skirt":
        hems = ("left_hem", "right_hem")
        figure.part("skirt", ["left_hip", "right_hip", *hems], looks.bottom, nearer=0.03)
    return figure


def _add_torso(figure: _Figure, torso: Array) -> None:
    looks = figure.looks
    for side, sign in _SIDES:
        shoulder = torso @ (0.100 * sign, 0.285, 0)
        hip = np.array((0.052 * sign, 0.0, 0.0))
        waist = torso @ (0.040 * sign * looks.girth, 0.11, 0.005)
        figure.sphere(f"{side}_shoulder", shoulder, 0.034)
        figure.sphere(f"{side}_hip", hip, 0.056 * looks.girth)
        figure.sphere(f"{side}_waist", waist, 0.058 * looks.girth)
        figure.sphere(f"{side}_pack_top", torso @ (0.05 * sign, 0.25, -0.11), 0.045)
        figure.sphere(f"{side}_pack_bottom", torso @ (0.055 * sign, 0.07, -0.12), 0.05)
    figure.sphere("chest", torso @ (0, 0.21, 0.012), 0.074)
    figure.sphere("chest_front", torso @ (0, 0.20, 0.085), 0.032)
    figure.sphere("collar", torso @ (0, 0.305, 0.03), 0.02)
    figure.sphere("belly_front", torso @ (0, 0.03, 0.065), 0.02)
    spheres = [f"{side}_{name}" for side, _ in _SIDES for name in ("shoulder", "waist", "hip")]
    figure.part("torso", [*spheres, "chest"], looks.top)
    figure.part("pelvis", ["left_hip", "right_hip"], looks.bottom, nearer=0.003)
    if looks.backpack:
        pack = [f"{side}_pack_{end}" for side, _ in _SIDES for end in ("top", "bottom")]
        figure.part("backpack", pack, looks.accent)


def _add_head(figure: _Figure, neck: Array, turned: Array) -> None:
    looks, size = figure.looks, figure.looks.head
    centre = neck + turned @ (0, 0.025 + 0.9 * size, 0.012)

    def place(name: str, offset: tuple[float, float, float], radius: float) -> str:
        figure.sphere(name, centre + size * (turned @ offset), radius * size)
        return name

    place("head", (0, 0, 0), 0.94)
    place("chin", (0, -0.5, 0.24), 0.56)
    figure.sphere("neck", neck - (0, 0.02, 0), 0.036)
    for name, offset in _FACE.items():
        place(name, offset, 0.14)
    figure.part("neck", ["neck", "chin"], _shade(looks.skin, 0.88), nearer=-0.01)
    figure.part("head", ["head", "chin"], looks.skin, nearer=0.02)
    figure.part("nose", ["nose"], _shade(looks.skin, 0.94))
    for side, sign in _SIDES:
        place(f"{side}_ear", (1.0 * sign, -0.06, -0.06), 0.21)
        figure.part(f"{side}_ear", [f"{side}_ear"], _shade(looks.skin, 0.93), nearer=-0.004)

    if looks.hair_style != "bald":
        curly = looks.hair_style == "curly"
        place("hair", (0, 0.14, -0.24), 1.15 if curly else 0.96)
        figure.part("hair", ["hair"], looks.hair, nearer=0.008)
        fringe = [place(f"fringe_{side}", (0.62 * sign, 0.62, 0.38), 0.34) for side, sign in _SIDES]
        fringe += [place("fringe_top", (0, 0.8, 0.2), 0.34)]
        figure.part("fringe", fringe, looks.hair, nearer=0.02)
    match looks.hair_style:
        case "long":
            locks = [place(f"{s}_lock", (0.6 * g, -1.2, -0.42), 0.4) for s, g in _SIDES]
            figure.part("locks", ["hair", *locks], looks.hair, nearer=0.005)
        case "bun":
            figure.part("bun", [place("bun", (0, 0.95, -0.75), 0.42)], looks.hair)
        case "ponytail":
            place("tail_top", (0, 0.2, -1.15), 0.26)
            place("tail_end", (0, -1.1, -1.35), 0.14)
            figure.part("ponytail", ["tail_top", "tail_end"], looks.hair)
    if looks.hat:
        rim = ((0.7, 0.6, 0), (-0.7, 0.6, 0), (0, 0.6, 0.7), (0, 0.6, -0.7), (0, 0.98, 0))
        crown = [place(f"crown_{index}", offset, 0.34) for index, offset in enumerate(rim)]
        figure.part("hat", crown, looks.accent, nearer=0.035)
        peak = ((0.42, 0.5, 0.85), (-0.42, 0.5, 0.85), (0, 0.42, 1.45))
        brim = [place(f"peak_{index}", offset, 0.12) for index, offset in enumerate(peak)]
        figure.part("brim", brim, _shade(looks.accent, 0.8))


def _add_arm(figure: _Figure, side: str, sign: float, arm: _Arm, torso: Array) -> None:
    looks = figure.looks
    upper = torso @ _rotation("z", sign * arm.out) @ _rotation("x", -arm.forward)
    lower = upper @ _rotation("y", sign * arm.twist) @ _rotation("x", -arm.elbow)
    shoulder = figure.points[f"{side}_shoulder"]
    elbow = shoulder + upper @ (0, -0.165, 0)
    wrist = elbow + lower @ (0, -0.145, 0)
    figure.sphere(f"{side}_elbow", elbow, 0.031)
    figure.sphere(f"{side}_wrist", wrist, 0.024)
    figure.sphere(f"{side}_palm", wrist + lower @ (0, -0.024, 0.004), 0.028)
    figure.sphere(f"{side}_fingers", wrist + lower @ (0, -0.058, 0.006), 0.019)
    figure.sphere(f"{side}_thumb_base", wrist + lower @ (0, -0.012, 0.018), 0.013)
    figure.sphere(f"{side}_thumb", wrist + lower @ (-0.006 * sign, -0.036, 0.042), 0.011)
    figure.sphere(f"{side}_elbow_patch", elbow + upper @ (0, 0, -0.022), 0.018)
    figure.sphere(f"{side}_cuff", 0.45 * shoulder + 0.55 * elbow, 0.038)
    seam = [f"{side}_arm_seam_{end}" for end in ("top", "middle", "bottom")]
    figure.sphere(seam[0], shoulder + upper @ (0.028 * sign, 0, 0), 0.008)
    figure.sphere(seam[1], elbow + upper @ (0.026 * sign, 0, 0), 0.008)
    figure.sphere(seam[2], wrist + lower @ (0.018 * sign, 0, 0), 0.008)
    clothed = looks.sleeves == "long"
    colour = looks.top if clothed else looks.skin
    upper_seam, lower_seam = (seam[:2], seam[1:]) if clothed else ((), ())
    bones = [f"{side}_{name}" for name in ("shoulder", "elbow", "wrist")]
    figure.part(f"{side}_upper_arm", bones[:2], colour, 0.012, upper_seam)
    figure.part(f"{side}_forearm", bones[1:], colour, 0.016, lower_seam)
    figure.part(f"{side}_elbow_patch", [f"{side}_elbow_patch"], _shade(colour, 0.8), 0.014)
    if looks.sleeves == "short":
        figure.part(f"{side}_sleeve", [f"{side}_shoulder", f"{side}_cuff"], looks.top, 0.02)
    figure.part(f"{side}_hand", [f"{side}_palm", f"{side}_fingers"], looks.skin, 0.012)
    figure.part(f"{side}_thumb", [f"{side}_thumb_base", f"{side}_thumb"], looks.skin, 0.012)


def _add_leg(figure: _Figure, side: str, sign: float, leg: _Leg) -> None:
    looks = figure.looks
    upper = _rotation("z", sign * leg.out) @ _rotation("x", -leg.forward)
    lower = upper @ _rotation("x", leg.knee)
    hip = figure.points[f"{side}_hip"]
    knee = hip + upper @ (0, -0.235, 0)
    ankle = knee + lower @ (0, -0.235, 0)
    figure.sphere(f"{side}_knee", knee, 0.041 * looks.girth)
    figure.sphere(f"{side}_ankle", ankle, 0.029)
    figure.sphere(f"{side}_heel", ankle + lower @ (0, -0.022, -0.015), 0.029)
    figure.sphere(f"{side}_toe", ankle + lower @ (0.012 * sign, -0.03, 0.095), 0.023)
    figure.sphere(f"{side}_kneecap", knee + (upper + lower) @ (0, 0, 0.016), 0.026)
    seam = [f"{side}_leg_seam_{end}" for end in ("top", "middle", "bottom")]
    figure.sphere(seam[0], hip + upper @ (0.045 * sign, -0.03, 0), 0.01)
    figure.sphere(seam[1], knee + upper @ (0.034 * sign, 0, 0), 0.01)
    figure.sphere(seam[2], ankle + lower @ (0.023 * sign, 0, 0), 0.01)
    long = looks.legwear == "long"
    shin = looks.bottom if long else looks.skin
    thigh = looks.skin if looks.legwear == "skirt" else looks.bottom
    figure.part(f"{side}_foot", [f"{side}_heel", f"{side}_toe"], looks.shoes, 0.006)
    bones = [f"{side}_knee", f"{side}_ankle"]
    figure.part(f"{side}_shin", bones, shin, seam=seam[1:] if long else ())
    figure.part(f"{side}_kneecap", [f"{side}_kneecap"], _mix(shin, (255, 255, 255), 0.8), 0.004)
    if looks.legwear == "shorts":
        figure.sphere(f"{side}_short", 0.3 * hip + 0.7 * knee, 0.053 * looks.girth)
        figure.part(f"{side}_knee", [f"{side}_knee", f"{side}_short"], looks.skin, 0.002)
        figure.part(f"{side}_thigh", [f"{side}_hip", f"{side}_short"], thigh, 0.004, seam[:2])
    else:
        figure.sphere(f"{side}_hem", 0.45 * hip + 0.55 * knee, 0.064)
        bones = [f"{side}_hip", f"{side}_knee"]
        figure.part(f"{side}_thigh", bones, thigh, 0.004, seam[:2] if long else ())


# --- Painting people ------------------------------------------------------------------------------


# A seam farther behind the middle of its part (in body heights) is on the side turned away.
_SEAM_DEPTH = 0.012


def _paint_person(canvas: _Canvas, figure: _Figure, number: int) -> None:
    """Paints a projected figure from far to near; `number` counts people from 1."""
    depth = {
        index: figure.depth(*part.spheres) + part.nearer for index, part in enumerate(figure.parts)
    }
    for index in sorted(depth, key=lambda index: depth[index]):
        part = figure.parts[index]
        radii = np.array([figure.radii[name] for name in part.spheres])
        canvas.body(figure.xy(*part.spheres), radii, part.colour, number * _PARTS + index)
        if part.seam and figure.depth(*part.seam) > figure.depth(*part.spheres) - _SEAM_DEPTH:
            width = 2 * figure.radii[part.seam[0]]
            canvas.stroke(figure.xy(*part.seam), figure.looks.accent, width)
        if part.name == "torso":
            _paint_shirt(canvas, figure)
        elif part.name == "head":
            _paint_face(canvas, figure)


def _paint_shirt(canvas: _Canvas, figure: _Figure) -> None:
    looks = figure.looks
    if looks.shirt == "stripes":
        _paint_stripes(canvas, figure)
    if figure.facing("chest_front", "chest") < 0.25:
        return
    unit = 0.01 * figure.scale
    collar, logo, belly = figure.xy("collar", "chest_front", "belly_front")
    if looks.backpack:
        for side, _ in _SIDES:
            shoulder, waist = figure.xy(f"{side}_shoulder", f"{side}_waist")
            strap = np.stack([0.7 * shoulder + 0.3 * collar, waist])
            canvas.stroke(strap, looks.accent, 2.2 * unit)
    canvas.paint(_ellipse(collar, 3.2 * unit, 2.8 * unit), _shade(looks.skin, 0.88))
    if looks.shirt == "logo":
        canvas.paint(_ellipse(logo, 3.6 * unit, 3.2 * unit), looks.accent)
    elif looks.shirt == "buttons":
        canvas.stroke(np.stack([collar, logo, belly]), _shade(looks.top, 0.6), 0.5 * unit)
        for share in (0.2, 0.45, 0.7):
            x, y = share * belly + (1 - share) * collar
            canvas.paint(_ellipse((x, y), 0.8 * unit, 0.8 * unit), looks.accent)


def _paint_stripes(canvas: _Canvas, figure: _Figure) -> None:
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


def _paint_face(canvas: _Canvas, figure: _Figure) -> None:
    looks, unit = figure.looks, figure.radii["head"]
    for side, _ in _SIDES:
        facing = figure.facing(f"{side}_eye", "head")
        if facing < 0.05:
            continue
        eye, brow, cheek = figure.xy(f"{side}_eye", f"{side}_brow", f"{side}_cheek")
        width = 0.25 + 0.75 * facing  # foreshortened
        blush = _mix(looks.skin, (110, 90, 225), 0.72)
        canvas.paint(_ellipse(cheek, 0.19 * unit * width, 0.15 * unit), blush)
        canvas.paint(_ellipse(eye, 0.2 * unit * width, 0.19 * unit), (245, 248, 250))
        canvas.paint(_ellipse(eye, 0.11 * unit * width, 0.13 * unit), (34, 24, 22))
        half = np.array((0.2 * unit * width, 0))
        brows = np.stack([brow - half, brow - (0, 0.06 * unit), brow + half])
        canvas.stroke(brows, _shade(looks.hair, 0.7), 0.09 * unit)
        if looks.glasses:
            rim = _ellipse(eye, 0.29 * unit * width, 0.27 * unit)
            canvas.stroke(np.concatenate([rim, rim[:1]]), (52, 44, 40), 0.07 * unit)
    if figure.facing("mouth", "head") > 0.1:
        lips = figure.xy("left_mouth", "mouth", "right_mouth")
        lips[1, 1] += looks.smile * unit
        canvas.stroke(lips, (58, 48, 150), 0.11 * unit)


# --- Scenes ---------------------------------------------------------------------------------------


@functools.cache
def _grain() -> Array:
    """Returns uint8 (768, 768, 3) noise, normal with mean 128 and deviation 32."""
    rng = np.random.Generator(np.random.PCG64(0))
    grain = 128 + 32 * rng.standard_normal((768, 768, 3))
    return np.asarray(grain.clip(0, 255), np.uint8)


def _noise(rng: np.random.Generator, height: int, width: int, coarseness: int) -> Array:
    """Returns uint8 (height, width, 3) noise like `_grain`, smooth over `coarseness` pixels."""
    rows, columns = -(-height // coarseness), -(-width // coarseness)
    grain = _grain()
    top = rng.integers(grain.shape[0] - rows)
    left = rng.integers(grain.shape[1] - columns)
    patch = grain[top : top + rows, left : left + columns]
    if coarseness == 1:
        return patch
    return cv2.resize(patch, (width, height), interpolation=cv2.INTER_CUBIC)


def _add_noise(image: Array, noise: Array, deviation: float) -> None:
    """Adds noise of `_noise` with the given standard deviation in grey levels, in place."""
    weight = deviation / 32
    cv2.addWeighted(image, 1, noise, weight, -128 * weight, dst=image)


def _gradient(image: Array, top: Colour, bottom: Colour) -> None:
    """Fills an image, or a slice of its rows, from one colour to another."""
    share = np.linspace(0, 1, image.shape[0])[:, None, None]
    image[:] = (1 - share) * np.array(top) + share * np.array(bottom)


def _sky(rng: np.random.Generator) -> Colour:
    evening = rng.random() < 0.25
    hue = (0.85, 1.1) if evening else (0.5, 0.63)
    return _any_colour(rng, (0.15, 0.55), (0.65, 1.0), hue)


def _paint_room(rng: np.random.Generator, canvas: _Canvas) -> None:
    height, width = canvas.height, canvas.width
    wall, floor = _any_colour(rng, (0.03, 0.3), (0.5, 0.95)), _any_colour(rng, (0.1, 0.5))
    edge = int(height * rng.uniform(0.55, 0.8))
    _gradient(canvas.image[:edge], wall, _shade(wall, rng.uniform(0.75, 1.05)))
    _gradient(canvas.image[edge:], _shade(floor, 0.8), floor)
    if rng.random() < 0.5:
        step = rng.uniform(14, 40)
        for x in np.arange(0, width, step):
            canvas.paint(_box(x, 0, x + step / 2, edge), _shade(wall, 0.92))
    for x in np.linspace(-width, 2 * width, rng.integers(8, 22)):
        ends = np.array([(width / 2 + 0.5 * (x - width / 2), edge), (x, height)])
        canvas.stroke(ends, _shade(floor, 0.7), 1)
    canvas.paint(_box(0, edge - 5, width, edge), _shade(wall, 0.6))
    for _ in range(rng.integers(1, 5)):
        x, y = rng.uniform(0, width), rng.uniform(0, 0.6 * edge)
        w, h = rng.uniform(30, 90), rng.uniform(30, 80)
        _pick(rng, (_paint_picture, _paint_window, _paint_shelf))(rng, canvas, x, y, w, h)
    for _ in range(rng.integers(0, 4)):
        _pick(rng, (_paint_plant, _paint_crate, _paint_lamp))(
            rng, canvas, rng.uniform(0, width), edge + rng.uniform(5, 40), rng.uniform(40, 110)
        )


def _paint_picture(
    rng: np.random.Generator, canvas: _Canvas, x: float, y: float, w: float, h: float
) -> None:
    canvas.paint(_box(x, y, x + w, y + h), _any_colour(rng, (0.2, 0.6), (0.2, 0.6)))
    canvas.paint(_box(x + 4, y + 4, x + w - 4, y + h - 4), _any_colour(rng))
    for _ in range(rng.integers(1, 4)):
        u, v = rng.uniform(0.25, 0.75, size=2)
        r = rng.uniform(0.08, 0.22) * min(w, h)
        canvas.paint(_ellipse((x + u * w, y + v * h), r, r), _any_colour(rng))


def _paint_window(
    rng: np.random.Generator, canvas: _Canvas, x: float, y: float, w: float, h: float
) -> None:
    canvas.paint(_box(x, y, x + w, y + h), (235, 240, 242))
    sky = _sky(rng)
    for u in (0.06, 0.53):
        for v in (0.06, 0.53):
            pane = _box(x + u * w, y + v * h, x + (u + 0.41) * w, y + (v + 0.41) * h)
            canvas.paint(pane, _shade(sky, 1 - 0.2 * v))


def _paint_shelf(
    rng: np.random.Generator, canvas: _Canvas, x: float, y: float, w: float, h: float
) -> None:
    at = x
    while at < x + w:
        thick, tall = rng.uniform(4, 11), rng.uniform(0.4, 0.75) * h
        canvas.paint(_box(at, y + h - tall, at + thick - 1, y + h), _any_colour(rng))
        at += thick
    canvas.paint(_box(x - 5, y + h, x + w + 8, y + h + 5), (60, 88, 120))


def _paint_street(rng: np.random.Generator, canvas: _Canvas) -> None:
    height, width = canvas.height, canvas.width
    edge = int(height * rng.uniform(0.55, 0.75))
    sky = _sky(rng)
    _gradient(canvas.image[:edge], sky, _mix(sky, (255, 255, 255), 0.5))
    grey = rng.uniform(90, 190)
    _gradient(canvas.image[edge:], (grey, grey, grey), (0.8 * grey, 0.8 * grey, 0.82 * grey))
    x = -rng.uniform(0, 40)
    while x < width:
        w, top = rng.uniform(40, 120), rng.uniform(0.02, 0.5) * edge
        house = _any_colour(rng, (0.05, 0.5), (0.35, 0.9))
        canvas.paint(_box(x, top, x + w, edge), house)
        glass, pitch = _shade(house, rng.uniform(0.45, 0.7)), rng.uniform(13, 26)
        for row in np.arange(top + 8, edge - pitch, 1.3 * pitch):
            for column in np.arange(x + 6, x + w - 0.6 * pitch, pitch):
                canvas.paint(_box(column, row, column + 0.55 * pitch, row + 0.75 * pitch), glass)
        x += w + rng.uniform(-2, 14)
    canvas.paint(_box(0, edge, width, edge + 6), (grey + 40, grey + 40, grey + 40))
    for _ in range(rng.integers(0, 4)):
        _pick(rng, (_paint_tree, _paint_lamp, _paint_crate))(
            rng, canvas, rng.uniform(0, width), edge + rng.uniform(4, 30), rng.uniform(60, 170)
        )


def _paint_park(rng: np.random.Generator, canvas: _Canvas) -> None:
    height, width = canvas.height, canvas.width
    edge = int(height * rng.uniform(0.4, 0.7))
    sky = _sky(rng)
    _gradient(canvas.image[:edge], sky, _mix(sky, (255, 255, 255), 0.4))
    green = (rng.uniform(40, 110), rng.uniform(130, 200), rng.uniform(80, 170))
    _gradient(canvas.image[edge:], _shade(green, 0.8), green)
    for _ in range(rng.integers(1, 4)):
        x, r = rng.uniform(0, width), rng.uniform(60, 200)
        hill = _ellipse((x, edge + 0.5 * r), 1.6 * r, r)[12:]
        canvas.paint(np.minimum(hill, (np.inf, edge)), _shade(green, rng.uniform(0.55, 0.9)))
    for _ in range(rng.integers(0, 4)):
        x, y, r = rng.uniform(0, width), rng.uniform(0, 0.5 * edge), rng.uniform(10, 26)
        for shift in (-1, 0, 1):
            canvas.paint(_ellipse((x + shift * r, y), r, 0.6 * r), (250, 248, 245))
    for _ in range(rng.integers(1, 6)):
        _pick(rng, (_paint_tree, _paint_tree, _paint_plant))(
            rng, canvas, rng.uniform(0, width), edge + rng.uniform(0, 40), rng.uniform(50, 190)
        )
    if rng.random() < 0.5:
        x, spread = rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.6) * width
        path = [(x, edge), (x + 12, edge), (x + spread, height), (x - 0.6 * spread, height)]
        canvas.paint(np.array(path), (150, 190, 210))


def _paint_clutter(rng: np.random.Generator, canvas: _Canvas) -> None:
    height, width = canvas.height, canvas.width
    _gradient(canvas.image, _any_colour(rng), _any_colour(rng))
    for _ in range(rng.integers(8, 26)):
        x, y = rng.uniform(0, (width, height))
        w, h = rng.uniform(8, 90, size=2)
        shape = _pick(rng, (_ellipse((0, 0), w, h), _box(-w, -h, w, h), w * _unit_circle(3)))
        turn = _rotation("z", rng.uniform(0, 360))[:2, :2]
        canvas.paint(shape @ turn + (x, y), _any_colour(rng))


_SCENES = (_paint_room, _paint_room, _paint_street, _paint_park, _paint_clutter)


def _paint_distractors(rng: np.random.Generator, canvas: _Canvas) -> None:
    """Adds what resembles limbs and heads, without being any."""
    for _ in range(rng.integers(0, 4)):
        start = rng.uniform(0, (canvas.width, canvas.height))
        end = start + rng.normal(0, 45, size=2)
        colour = _pick(rng, _SKINS) if rng.random() < 0.4 else _any_colour(rng)
        radii = rng.uniform(3, 12, size=2)
        canvas.body(np.stack([start, end]), radii, colour, _NOT_A_PERSON)


# --- Things that stand about ----------------------------------------------------------------------
# Each is painted through `canvas.solid`, so that it hides what it covers, with its foot at (x, y).


def _paint_tree(rng: np.random.Generator, canvas: _Canvas, x: float, y: float, size: float) -> None:
    canvas.solid(_box(x - 0.05 * size, y - 0.5 * size, x + 0.05 * size, y), (50, 72, 98))
    leaf = (rng.uniform(30, 90), rng.uniform(90, 170), rng.uniform(40, 130))
    for _ in range(5):
        u, v = rng.uniform(-0.2, 0.2, size=2) * size
        r = rng.uniform(0.14, 0.24) * size
        crown = _ellipse((x + u, y - 0.68 * size + v), r, r)
        canvas.solid(crown, _shade(leaf, rng.uniform(0.75, 1.2)))


def _paint_plant(
    rng: np.random.Generator, canvas: _Canvas, x: float, y: float, size: float
) -> None:
    leaf = (rng.uniform(30, 90), rng.uniform(110, 180), rng.uniform(40, 110))
    for angle in rng.uniform(-70, 70, size=7):
        turn = _rotation("z", angle)[:2, :2]
        blade = _ellipse((0, -0.36 * size), 0.06 * size, 0.3 * size) @ turn.T
        colour = _shade(leaf, rng.uniform(0.7, 1.25))
        canvas.solid(blade + np.array((x, y - 0.25 * size)), colour)
    pot = [(-0.16, -0.3), (0.16, -0.3), (0.11, 0), (-0.11, 0)]
    canvas.solid(size * np.array(pot) + (x, y), _any_colour(rng, (0.3, 0.8), (0.4, 0.9)))


def _paint_crate(
    rng: np.random.Generator, canvas: _Canvas, x: float, y: float, size: float
) -> None:
    colour = _any_colour(rng, (0.2, 0.7), (0.35, 0.85))
    half, tall = rng.uniform(0.3, 0.6) * size, rng.uniform(0.5, 0.8) * size
    canvas.solid(_box(x - half, y - tall, x + half, y), _shade(colour, 0.6))
    for share in (0.05, 0.37, 0.69):
        top = y - tall + share * tall
        canvas.solid(_box(x - half + 2, top, x + half - 2, top + 0.27 * tall), colour)


def _paint_table(
    rng: np.random.Generator, canvas: _Canvas, x: float, y: float, size: float
) -> None:
    colour = _any_colour(rng, (0.3, 0.7), (0.3, 0.8))
    half, tall = rng.uniform(0.5, 0.9) * size, 0.6 * size
    for leg in (-0.9, 0.8):
        canvas.solid(_box(x + leg * half, y - tall, x + (leg + 0.1) * half, y), _shade(colour, 0.7))
    canvas.solid(_box(x - half, y - tall, x + half, y - 0.86 * tall), colour)


def _paint_lamp(rng: np.random.Generator, canvas: _Canvas, x: float, y: float, size: float) -> None:
    metal = _any_colour(rng, (0.0, 0.3), (0.15, 0.5))
    canvas.solid(_box(x - 0.025 * size, y - 1.5 * size, x + 0.025 * size, y), metal)
    canvas.solid(_ellipse((x, y), 0.13 * size, 0.035 * size), metal)
    shade = [(-0.09, -1.6), (0.09, -1.6), (0.18, -1.35), (-0.18, -1.35)]
    canvas.solid(size * np.array(shade) + (x, y), (170, 232, 250))


def _paint_ball(rng: np.random.Generator, canvas: _Canvas, x: float, y: float, size: float) -> None:
    radius = 0.22 * size
    centre = np.array([(x, y - radius)])
    canvas.body(centre, np.array([radius]), _any_colour(rng, (0.4, 0.9)), _NOT_A_PERSON)


_OBSTACLES = (_paint_plant, _paint_crate, _paint_table, _paint_lamp, _paint_ball, _paint_tree)


def _paint_seat(canvas: _Canvas, figure: _Figure, colour: Colour) -> None:
    hips, feet = figure.xy("left_hip", "right_hip"), figure.xy("left_ankle", "right_ankle")
    half, drop = 0.17 * figure.scale, 0.045 * figure.scale
    x, top = hips.mean(axis=0) + np.array((0, drop))
    bottom = max(feet[:, 1].max(), top + 0.1 * figure.scale)
    canvas.solid(_box(x - 0.9 * half, top, x + 0.9 * half, bottom), _shade(colour, 0.65))
    canvas.solid(_box(x - half, top, x + half, top + drop), colour)


def _paint_shadow(canvas: _Canvas, figure: _Figure) -> None:
    feet = figure.xy("left_heel", "right_heel", "left_toe", "right_toe")
    x, y = feet[:, 0].mean(), feet[:, 1].max()
    half = 0.5 * np.ptp(feet[:, 0]) + 0.08 * figure.scale
    left, right = (int(np.clip(edge, 0, canvas.width)) for edge in (x - half, x + half))
    top, bottom = (int(np.clip(y + edge, 0, canvas.height)) for edge in (-half, half))
    if left < right and top < bottom:
        region = canvas.image[top:bottom, left:right]
        shaded = region.copy()
        outline = _fixed_point(_ellipse((x - left, y - top), half, 0.2 * half))
        cv2.fillPoly(shaded, [outline], (30, 26, 26), cv2.LINE_AA, 4)
        cv2.addWeighted(region, 0.65, shaded, 0.35, 0, dst=region)


# --- Images ---------------------------------------------------------------------------------------


def _people(rng: np.random.Generator, height: int, width: int) -> list[_Figure]:
    """Returns one to five people, placed in an image of this size, the farthest first."""
    number = _pick(rng, (1, 1, 2, 2, 2, 2, 3, 3, 4, _MAX_PEOPLE))
    slots = rng.permutation(number)
    figures = []
    for slot in slots:
        pose = _pick(rng, _POSES)(rng)
        if rng.random() < 0.5:
            pose = _mirrored(pose)
        figure = _figure(rng, _dress(rng), pose)
        view = _view(rng, figure.seated)
        close_up = rng.random() < 0.08
        if close_up:
            stature = rng.uniform(1.0, 1.6) * height
        else:
            stature = rng.uniform(0.55, 0.98) * height * (1.06 - 0.08 * number)
        figure.project(view, stature)
        _place(rng, figure, (slot + rng.uniform(0.1, 0.9)) / number, close_up, height, width)
        figures.append(figure)
    return sorted(figures, key=lambda figure: figure.scale)


def _view(rng: np.random.Generator, seated: bool) -> Array:
    """Returns how a body is turned, (3, 3): most face the viewer, a fifth shows the back."""
    chance = rng.random()
    if chance < 0.6:
        yaw = rng.normal(0, 32)
    elif chance < 0.8:
        yaw = rng.normal(180, 30)
    else:
        yaw = rng.uniform(-180, 180)
    upright = seated or rng.random() < 0.9
    roll = rng.normal(0, 4) if upright else rng.normal(0, 25)
    return _rotation("z", roll) @ _rotation("x", rng.normal(6, 6)) @ _rotation("y", yaw)


def _place(
    rng: np.random.Generator,
    figure: _Figure,
    column: float,
    close_up: bool,
    height: int,
    width: int,
) -> None:
    """Moves a figure to a column (a share of the width) and to where its size belongs."""
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


def _finish(rng: np.random.Generator, image: Array) -> Array:
    """Returns the image as a camera may have taken it: blurred, tinted, too dark, noisy."""
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
    noise = _noise(rng, image.shape[0], image.shape[1], coarseness=1)
    _add_noise(image, noise, deviation=rng.uniform(1, 6))
    return image


def draw_image(split: str, index: int) -> tuple[Array, list[dict[str, Any]]]:
    """Draws one image of a split.

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
    seed, first_id = _SEED_AND_ID[split]
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, index))))
    height, width = _pick(rng, ((240, 320), (288, 384), (360, 480), (320, 256), (400, 304)))
    light = np.array((rng.uniform(-1, 1), -0.7))
    canvas = _Canvas(
        np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8), light
    )
    _pick(rng, _SCENES)(rng, canvas)
    _add_noise(canvas.image, _noise(rng, height, width, coarseness=6), rng.uniform(0, 6))
    _paint_distractors(rng, canvas)
    figures = _people(rng, height, width)
    for number, figure in enumerate(figures, start=1):
        _paint_shadow(canvas, figure)
        if figure.seated:
            _paint_seat(canvas, figure, _any_colour(rng))
        _paint_person(canvas, figure, number)
        if rng.random() < 0.12:
            x, y = figure.xy(_pick(rng, KEYPOINTS[5:]))[0] + rng.normal(0, 12, size=2)
            size = rng.uniform(0.25, 0.5) * figure.scale
            _pick(rng, _OBSTACLES)(rng, canvas, x, y + 0.4 * size, size)
    annotations = []
    for number, figure in enumerate(figures, start=1):
        annotation = _annotate(canvas.owner, figure, number)
        if annotation:
            identity = {"id": 10 * (first_id + index) + number, "image_id": first_id + index}
            annotations.append(identity | annotation)
    return _finish(rng, canvas.image), annotations


# --- Annotations ----------------------------------------------------------------------------------


def _shown_on() -> dict[str, frozenset[str]]:
    """Returns the parts of the body on which each keypoint can be seen."""
    shown = {"nose": frozenset({"nose", "head"})}
    for side, _ in _SIDES:
        own = {
            "eye": {"head", "nose"},
            "ear": {f"{side}_ear"},
            "shoulder": {"torso", f"{side}_upper_arm", f"{side}_sleeve"},
            "elbow": {f"{side}_upper_arm", f"{side}_forearm", f"{side}_elbow_patch"},
            "wrist": {f"{side}_forearm", f"{side}_hand", f"{side}_thumb"},
            "hip": {"torso", "pelvis", "skirt", f"{side}_thigh"},
            "knee": {f"{side}_thigh", f"{side}_shin", f"{side}_knee", f"{side}_kneecap"},
            "ankle": {f"{side}_shin", f"{side}_foot"},
        }
        shown |= {f"{side}_{name}": frozenset(parts) for name, parts in own.items()}
    return shown


_SHOWN_ON = _shown_on()
# How far behind the middle of a part (in body heights) a joint may lie and still show on it: the
# far shoulder of a person in profile does not.
_MAX_DEPTH = 0.06
# A hidden keypoint is labelled if its limb shows within this many body heights of it.
_GUESS_REACH = 0.03
# Points of the head that look farther away than this are not labelled.
_LEAST_FACING = -0.4


def _annotate(owner: Array, figure: _Figure, number: int) -> dict[str, Any] | None:
    """Returns the COCO annotation of a person, without ids; None if too little can be seen.

    Args:
        owner: uint8 (H, W), the finished owner map of `_Canvas`.
        figure: the projected person.
        number: the person's number in the owner map.
    """
    mask = owner // _PARTS == number
    area = int(np.count_nonzero(mask))
    if area < _MIN_VISIBLE_PIXELS:
        return None
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    left, top = int(columns[0]), int(rows[0])
    right, bottom = int(columns[-1]) + 1, int(rows[-1]) + 1
    keypoints = np.zeros((len(KEYPOINTS), 3))
    for index, name in enumerate(KEYPOINTS):
        x, y = figure.points[name][:2]
        if not (left <= x < right - 0.5 and top <= y < bottom - 0.5):
            continue
        if index < 5 and figure.facing(name, "head") < _LEAST_FACING:
            continue
        if _is_visible(owner, figure, number, name):
            keypoints[index] = x, y, 2
        elif _is_guessable(owner, figure, number, name):
            keypoints[index] = x, y, 1
    if np.count_nonzero(keypoints[:, 2] == 2) < _MIN_VISIBLE_KEYPOINTS:
        keypoints[:] = 0
    return {
        "category_id": 1,
        "iscrowd": 0,
        "area": area,
        "bbox": [left, top, right - left, bottom - top],
        "num_keypoints": int(np.count_nonzero(keypoints[:, 2])),
        "keypoints": [round(float(value), 2) for value in keypoints.ravel()],
    }


def _is_guessable(owner: Array, figure: _Figure, number: int, name: str) -> bool:
    """Tells whether a part on which a hidden keypoint lies can be seen close to it."""
    reach = max(1, round(_GUESS_REACH * figure.scale))
    column, row = (round(value) for value in figure.points[name][:2])
    near = owner[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
    parts = [
        number * _PARTS + index
        for index, part in enumerate(figure.parts)
        if part.name in _SHOWN_ON[name]
    ]
    return bool(np.isin(near, parts).any())


def _is_visible(owner: Array, figure: _Figure, number: int, name: str) -> bool:
    """Tells whether the pixel at a keypoint shows a part of the person on which it lies."""
    x, y, depth = figure.points[name]
    person, index = divmod(int(owner[round(y), round(x)]), _PARTS)
    if person != number:
        return False
    part = figure.parts[index]
    return part.name in _SHOWN_ON[name] and depth > figure.depth(*part.spheres) - _MAX_DEPTH


# --- Files ----------------------------------------------------------------------------------------


def write_split(split: str, images: int, archive: Path, annotations: Path) -> None:
    """Writes the first images of a split and their annotations, the same bytes every time.

    Args:
        split: "train" or "val".
        images: how many images to draw.
        archive: an uncompressed zip of JPEG files, named by image id as COCO does.
        annotations: a COCO person keypoints file.

    Raises:
        ValueError: the split is unknown or `images` is not positive.
        OSError: a file cannot be written.
    """
    if split not in SPLITS or images < 1:
        raise ValueError(f"cannot draw {images} images of split {split!r}")
    first_id = _SEED_AND_ID[split][1]
    records: list[dict[str, Any]] = []
    people: list[dict[str, Any]] = []
    with atomic_path(archive) as temporary, zipfile.ZipFile(temporary, "w") as file:
        for index in range(images):
            image, annotated = draw_image(split, index)
            name = f"{first_id + index:012d}.jpg"
            entry = zipfile.ZipInfo(name)  # has a constant time stamp
            entry.external_attr = 0o644 << 16
            file.writestr(entry, _jpeg(image))
            height, width = image.shape[:2]
            record = {"id": first_id + index, "file_name": name, "height": height, "width": width}
            records.append(record)
            people += annotated
    category = {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": KEYPOINTS,
        "skeleton": SKELETON,
    }
    info = {"description": f"Embedded pose sample, {split} split, drawn", "version": "1.0"}
    dataset = {
        "info": info,
        "images": records,
        "annotations": people,
        "categories": [category],
    }
    write_text(annotations, json.dumps(dataset) + "\n")


def _jpeg(image: Array) -> bytes:
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return encoded.tobytes()
