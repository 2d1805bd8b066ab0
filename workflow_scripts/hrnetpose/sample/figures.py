"""A person's body: spheres, and the parts that they span."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hrnetpose.sample.colours import Colour, mix, shade
from hrnetpose.sample.geometry import Array, rotation
from hrnetpose.sample.keypoints import SIDES
from hrnetpose.sample.looks import Looks
from hrnetpose.sample.poses import Arm, Leg, Pose


@dataclass(frozen=True)
class Part:
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
class Figure:
    """A person's spheres, as points and radii, and the parts that they span.

    `points` are 3 coordinates each, first of the body and, once `project` was called, of the
    view: x and y in pixels of the image, z in body heights towards the viewer.  `radii` are in
    body heights, then in pixels.
    """

    looks: Looks
    seated: bool
    scale: float = 1.0
    points: dict[str, Array] = field(default_factory=dict)
    radii: dict[str, float] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)

    def add_sphere(self, name: str, point: Array, radius: float) -> None:
        self.points[name] = point
        self.radii[name] = radius

    def add_part(
        self,
        name: str,
        spheres: Sequence[str],
        colour: Colour,
        nearer: float = 0.0,
        seam: Sequence[str] = (),
    ) -> None:
        self.parts.append(Part(name, tuple(spheres), colour, nearer, tuple(seam)))

    def depth(self, *names: str) -> float:
        """Return the mean z of some points."""
        return sum(float(self.points[name][2]) for name in names) / len(names)

    def project(self, view: Array, scale: float) -> None:
        """Turn the body by `view` (3, 3) and map it to pixels, its pelvis at (0, 0)."""
        turned = np.stack(list(self.points.values())) @ view.T
        enlarged = scale / (1 - 0.22 * turned[:, 2])  # what is near looks larger
        turned[:, 0] *= enlarged
        turned[:, 1] *= -enlarged
        self.scale = scale
        for index, name in enumerate(self.points):
            self.points[name] = turned[index]
            self.radii[name] *= float(enlarged[index])

    def move(self, x: float, y: float) -> None:
        """Shift a projected figure by pixels."""
        for point in self.points.values():
            point[:2] += (x, y)

    def xy(self, *names: str) -> Array:
        """Return the image positions (len(names), 2) of spheres."""
        return np.stack([self.points[name][:2] for name in names])

    def facing(self, name: str, centre: str) -> float:
        """Return how far a point looks at the viewer, seen from `centre`: 1 straight, -1 away."""
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


def build_figure(rng: np.random.Generator, looks: Looks, pose: Pose) -> Figure:
    """Build a person in the axes of the body, the pelvis at the origin."""
    figure = Figure(looks, pose.seated)
    torso = rotation("x", pose.lean) @ rotation("z", pose.tilt)
    _add_torso(figure, torso)
    neck = torso @ (0, 0.325, 0.0)
    nod, turn, sway = rng.normal((-0.3 * pose.lean, 0, 0), (9, 22, 6))
    head = torso @ rotation("y", turn) @ rotation("x", nod) @ rotation("z", sway)
    _add_head(figure, neck, head)
    for (side, sign), arm, leg in zip(SIDES, pose.arms, pose.legs, strict=True):
        _add_arm(figure, side, sign, arm, torso)
        _add_leg(figure, side, sign, leg)
    if looks.legwear == "skirt":
        hems = ("left_hem", "right_hem")
        figure.add_part("skirt", ["left_hip", "right_hip", *hems], looks.bottom, nearer=0.03)
    return figure


def _add_torso(figure: Figure, torso: Array) -> None:
    looks = figure.looks
    for side, sign in SIDES:
        shoulder = torso @ (0.100 * sign, 0.285, 0)
        hip = np.array((0.052 * sign, 0.0, 0.0))
        waist = torso @ (0.040 * sign * looks.girth, 0.11, 0.005)
        figure.add_sphere(f"{side}_shoulder", shoulder, 0.034)
        figure.add_sphere(f"{side}_hip", hip, 0.056 * looks.girth)
        figure.add_sphere(f"{side}_waist", waist, 0.058 * looks.girth)
        figure.add_sphere(f"{side}_pack_top", torso @ (0.05 * sign, 0.25, -0.11), 0.045)
        figure.add_sphere(f"{side}_pack_bottom", torso @ (0.055 * sign, 0.07, -0.12), 0.05)
    figure.add_sphere("chest", torso @ (0, 0.21, 0.012), 0.074)
    figure.add_sphere("chest_front", torso @ (0, 0.20, 0.085), 0.032)
    figure.add_sphere("collar", torso @ (0, 0.305, 0.03), 0.02)
    figure.add_sphere("belly_front", torso @ (0, 0.03, 0.065), 0.02)
    spheres = [f"{side}_{name}" for side, _ in SIDES for name in ("shoulder", "waist", "hip")]
    figure.add_part("torso", [*spheres, "chest"], looks.top)
    figure.add_part("pelvis", ["left_hip", "right_hip"], looks.bottom, nearer=0.003)
    if looks.backpack:
        pack = [f"{side}_pack_{end}" for side, _ in SIDES for end in ("top", "bottom")]
        figure.add_part("backpack", pack, looks.accent)


def _add_head(figure: Figure, neck: Array, turned: Array) -> None:
    looks, size = figure.looks, figure.looks.head
    centre = neck + turned @ (0, 0.025 + 0.9 * size, 0.012)

    def place(name: str, offset: tuple[float, float, float], radius: float) -> str:
        figure.add_sphere(name, centre + size * (turned @ offset), radius * size)
        return name

    place("head", (0, 0, 0), 0.94)
    place("chin", (0, -0.5, 0.24), 0.56)
    figure.add_sphere("neck", neck - (0, 0.02, 0), 0.036)
    for name, offset in _FACE.items():
        place(name, offset, 0.14)
    figure.add_part("neck", ["neck", "chin"], shade(looks.skin, 0.88), nearer=-0.01)
    figure.add_part("head", ["head", "chin"], looks.skin, nearer=0.02)
    figure.add_part("nose", ["nose"], shade(looks.skin, 0.94))
    for side, sign in SIDES:
        place(f"{side}_ear", (1.0 * sign, -0.06, -0.06), 0.21)
        figure.add_part(f"{side}_ear", [f"{side}_ear"], shade(looks.skin, 0.93), nearer=-0.004)

    if looks.hair_style != "bald":
        curly = looks.hair_style == "curly"
        place("hair", (0, 0.14, -0.24), 1.15 if curly else 0.96)
        figure.add_part("hair", ["hair"], looks.hair, nearer=0.008)
        fringe = [place(f"fringe_{side}", (0.62 * sign, 0.62, 0.38), 0.34) for side, sign in SIDES]
        fringe += [place("fringe_top", (0, 0.8, 0.2), 0.34)]
        figure.add_part("fringe", fringe, looks.hair, nearer=0.02)
    match looks.hair_style:
        case "long":
            locks = [place(f"{s}_lock", (0.6 * g, -1.2, -0.42), 0.4) for s, g in SIDES]
            figure.add_part("locks", ["hair", *locks], looks.hair, nearer=0.005)
        case "bun":
            figure.add_part("bun", [place("bun", (0, 0.95, -0.75), 0.42)], looks.hair)
        case "ponytail":
            place("tail_top", (0, 0.2, -1.15), 0.26)
            place("tail_end", (0, -1.1, -1.35), 0.14)
            figure.add_part("ponytail", ["tail_top", "tail_end"], looks.hair)
    if looks.hat:
        rim = ((0.7, 0.6, 0), (-0.7, 0.6, 0), (0, 0.6, 0.7), (0, 0.6, -0.7), (0, 0.98, 0))
        crown = [place(f"crown_{index}", offset, 0.34) for index, offset in enumerate(rim)]
        figure.add_part("hat", crown, looks.accent, nearer=0.035)
        peak = ((0.42, 0.5, 0.85), (-0.42, 0.5, 0.85), (0, 0.42, 1.45))
        brim = [place(f"peak_{index}", offset, 0.12) for index, offset in enumerate(peak)]
        figure.add_part("brim", brim, shade(looks.accent, 0.8))


def _add_arm(figure: Figure, side: str, sign: float, arm: Arm, torso: Array) -> None:
    looks = figure.looks
    upper = torso @ rotation("z", sign * arm.out) @ rotation("x", -arm.forward)
    lower = upper @ rotation("y", sign * arm.twist) @ rotation("x", -arm.elbow)
    shoulder = figure.points[f"{side}_shoulder"]
    elbow = shoulder + upper @ (0, -0.165, 0)
    wrist = elbow + lower @ (0, -0.145, 0)
    figure.add_sphere(f"{side}_elbow", elbow, 0.031)
    figure.add_sphere(f"{side}_wrist", wrist, 0.024)
    figure.add_sphere(f"{side}_palm", wrist + lower @ (0, -0.024, 0.004), 0.028)
    figure.add_sphere(f"{side}_fingers", wrist + lower @ (0, -0.058, 0.006), 0.019)
    figure.add_sphere(f"{side}_thumb_base", wrist + lower @ (0, -0.012, 0.018), 0.013)
    figure.add_sphere(f"{side}_thumb", wrist + lower @ (-0.006 * sign, -0.036, 0.042), 0.011)
    figure.add_sphere(f"{side}_elbow_patch", elbow + upper @ (0, 0, -0.022), 0.018)
    figure.add_sphere(f"{side}_cuff", 0.45 * shoulder + 0.55 * elbow, 0.038)
    seam = [f"{side}_arm_seam_{end}" for end in ("top", "middle", "bottom")]
    figure.add_sphere(seam[0], shoulder + upper @ (0.028 * sign, 0, 0), 0.008)
    figure.add_sphere(seam[1], elbow + upper @ (0.026 * sign, 0, 0), 0.008)
    figure.add_sphere(seam[2], wrist + lower @ (0.018 * sign, 0, 0), 0.008)
    clothed = looks.sleeves == "long"
    colour = looks.top if clothed else looks.skin
    upper_seam, lower_seam = (seam[:2], seam[1:]) if clothed else ((), ())
    bones = [f"{side}_{name}" for name in ("shoulder", "elbow", "wrist")]
    figure.add_part(f"{side}_upper_arm", bones[:2], colour, 0.012, upper_seam)
    figure.add_part(f"{side}_forearm", bones[1:], colour, 0.016, lower_seam)
    figure.add_part(f"{side}_elbow_patch", [f"{side}_elbow_patch"], shade(colour, 0.8), 0.014)
    if looks.sleeves == "short":
        figure.add_part(f"{side}_sleeve", [f"{side}_shoulder", f"{side}_cuff"], looks.top, 0.02)
    figure.add_part(f"{side}_hand", [f"{side}_palm", f"{side}_fingers"], looks.skin, 0.012)
    figure.add_part(f"{side}_thumb", [f"{side}_thumb_base", f"{side}_thumb"], looks.skin, 0.012)


def _add_leg(figure: Figure, side: str, sign: float, leg: Leg) -> None:
    looks = figure.looks
    upper = rotation("z", sign * leg.out) @ rotation("x", -leg.forward)
    lower = upper @ rotation("x", leg.knee)
    hip = figure.points[f"{side}_hip"]
    knee = hip + upper @ (0, -0.235, 0)
    ankle = knee + lower @ (0, -0.235, 0)
    figure.add_sphere(f"{side}_knee", knee, 0.041 * looks.girth)
    figure.add_sphere(f"{side}_ankle", ankle, 0.029)
    figure.add_sphere(f"{side}_heel", ankle + lower @ (0, -0.022, -0.015), 0.029)
    figure.add_sphere(f"{side}_toe", ankle + lower @ (0.012 * sign, -0.03, 0.095), 0.023)
    figure.add_sphere(f"{side}_kneecap", knee + (upper + lower) @ (0, 0, 0.016), 0.026)
    seam = [f"{side}_leg_seam_{end}" for end in ("top", "middle", "bottom")]
    figure.add_sphere(seam[0], hip + upper @ (0.045 * sign, -0.03, 0), 0.01)
    figure.add_sphere(seam[1], knee + upper @ (0.034 * sign, 0, 0), 0.01)
    figure.add_sphere(seam[2], ankle + lower @ (0.023 * sign, 0, 0), 0.01)
    long = looks.legwear == "long"
    shin = looks.bottom if long else looks.skin
    thigh = looks.skin if looks.legwear == "skirt" else looks.bottom
    figure.add_part(f"{side}_foot", [f"{side}_heel", f"{side}_toe"], looks.shoes, 0.006)
    bones = [f"{side}_knee", f"{side}_ankle"]
    figure.add_part(f"{side}_shin", bones, shin, seam=seam[1:] if long else ())
    figure.add_part(f"{side}_kneecap", [f"{side}_kneecap"], mix(shin, (255, 255, 255), 0.8), 0.004)
    if looks.legwear == "shorts":
        figure.add_sphere(f"{side}_short", 0.3 * hip + 0.7 * knee, 0.053 * looks.girth)
        figure.add_part(f"{side}_knee", [f"{side}_knee", f"{side}_short"], looks.skin, 0.002)
        figure.add_part(f"{side}_thigh", [f"{side}_hip", f"{side}_short"], thigh, 0.004, seam[:2])
    else:
        figure.add_sphere(f"{side}_hem", 0.45 * hip + 0.55 * knee, 0.064)
        bones = [f"{side}_hip", f"{side}_knee"]
        figure.add_part(f"{side}_thigh", bones, thigh, 0.004, seam[:2] if long else ())
