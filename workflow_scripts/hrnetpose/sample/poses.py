"""Postures: the angles of arms, legs and torso."""

from dataclasses import dataclass

import numpy as np

from hrnetpose.sample.colours import pick
from hrnetpose.sample.keypoints import SIDES


@dataclass(frozen=True)
class Arm:
    """Angles of an arm: hanging at zero; `twist` turns the bent elbow outwards."""

    forward: float
    out: float
    twist: float
    elbow: float


@dataclass(frozen=True)
class Leg:
    """Angles of a leg: straight down at zero; `knee` bends the shin backwards."""

    forward: float
    out: float
    knee: float


@dataclass(frozen=True)
class Pose:
    """A posture; arms and legs are ordered left, right."""

    arms: tuple[Arm, Arm]
    legs: tuple[Leg, Leg]
    lean: float = 0.0
    tilt: float = 0.0
    seated: bool = False


_ARM_GESTURES = {
    "hanging": Arm(forward=0, out=12, twist=-20, elbow=18),
    "on the hip": Arm(forward=-10, out=45, twist=-80, elbow=95),
    "waving": Arm(forward=20, out=100, twist=70, elbow=85),
    "raised": Arm(forward=0, out=155, twist=0, elbow=20),
    "reaching": Arm(forward=85, out=15, twist=0, elbow=15),
    "spread": Arm(forward=0, out=85, twist=0, elbow=12),
    "holding": Arm(forward=25, out=10, twist=-30, elbow=85),
    "on the phone": Arm(forward=35, out=35, twist=-25, elbow=140),
}


def _choose_gesture(rng: np.random.Generator, *names: str) -> Arm:
    """Return one of the named gestures, or of all if none is named, a little varied."""
    arm = _ARM_GESTURES[pick(rng, names or tuple(_ARM_GESTURES))]
    forward, out, twist, elbow = rng.normal((arm.forward, arm.out, arm.twist, arm.elbow), 11)
    return Arm(forward, out, twist, float(np.clip(elbow, 3, 150)))


def _stand(rng: np.random.Generator) -> Pose:
    legs = [Leg(rng.normal(2, 7), rng.uniform(1, 12), rng.uniform(0, 14)) for _ in SIDES]
    if rng.random() < 0.5:
        arms = (
            _choose_gesture(rng, "hanging"),
            _choose_gesture(rng, "hanging", "on the hip", "holding"),
        )
    else:
        arms = _choose_gesture(rng), _choose_gesture(rng)
    return Pose(arms, (legs[0], legs[1]), lean=rng.normal(2, 4), tilt=rng.normal(0, 4))


def _walk(rng: np.random.Generator) -> Pose:
    stride = rng.uniform(14, 42)
    ahead = Leg(stride, rng.uniform(0, 5), rng.uniform(3, 25))
    behind = Leg(-0.7 * stride, rng.uniform(0, 5), rng.uniform(10, 65))
    elbow = rng.uniform(12, 90)
    swing = rng.uniform(0.7, 1.2) * stride
    arms = Arm(-swing, 10, -10, elbow), Arm(swing, 10, -10, elbow)
    return Pose(arms, (ahead, behind), lean=rng.uniform(0, 14))


def _sit(rng: np.random.Generator) -> Pose:
    thigh, out = rng.uniform(70, 92), rng.uniform(2, 16)
    knees = thigh + rng.normal(0, 12, size=2)
    arms = (
        _choose_gesture(rng, "holding", "reaching"),
        _choose_gesture(rng, "holding", "hanging", "waving"),
    )
    legs = Leg(thigh, out, knees[0]), Leg(thigh, out, knees[1])
    return Pose(arms, legs, lean=rng.normal(0, 8), seated=True)


def _bend(rng: np.random.Generator) -> Pose:
    lean = rng.uniform(25, 65)
    legs = [Leg(rng.uniform(0, 30), rng.uniform(2, 12), rng.uniform(5, 40)) for _ in SIDES]
    arms = [Arm(rng.uniform(0.5, 1.1) * lean, 8, 0, rng.uniform(5, 50)) for _ in SIDES]
    return Pose((arms[0], arms[1]), (legs[0], legs[1]), lean=lean)


def _squat(rng: np.random.Generator) -> Pose:
    legs = [Leg(rng.uniform(75, 115), rng.uniform(8, 35), rng.uniform(95, 135)) for _ in SIDES]
    arms = (
        _choose_gesture(rng, "holding", "reaching", "spread"),
        _choose_gesture(rng, "holding", "reaching"),
    )
    return Pose(arms, (legs[0], legs[1]), lean=rng.uniform(10, 40))


def _dance(rng: np.random.Generator) -> Pose:
    legs = [Leg(rng.normal(15, 25), rng.uniform(5, 42), rng.uniform(0, 80)) for _ in SIDES]
    arms = _choose_gesture(rng, "raised", "waving", "spread", "reaching"), _choose_gesture(rng)
    return Pose(arms, (legs[0], legs[1]), lean=rng.normal(0, 10), tilt=rng.normal(0, 14))


# How often each posture is taken.
POSES = (*5 * (_stand,), *3 * (_walk,), *2 * (_sit,), _bend, _squat, _dance)


def mirror(pose: Pose) -> Pose:
    """Return the pose with left and right exchanged."""
    return Pose(
        (pose.arms[1], pose.arms[0]),
        (pose.legs[1], pose.legs[0]),
        pose.lean,
        -pose.tilt,
        pose.seated,
    )
