"""What a person wears and is built like."""

from dataclasses import dataclass

import numpy as np

from hrnetpose.sample.colours import SKINS, Colour, choose_colour, mix, pick, shade

_HAIRS: tuple[Colour, ...] = (
    (28, 26, 30), (30, 44, 66), (38, 68, 112), (84, 158, 214), (40, 82, 170), (176, 178, 180),
)  # fmt: skip


@dataclass(frozen=True)
class Looks:
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


def choose_looks(rng: np.random.Generator) -> Looks:
    """Return the looks of a person; one in seven is a child."""
    child = rng.random() < 0.15
    skin = mix(pick(rng, SKINS), pick(rng, SKINS), 0.8)
    return Looks(
        skin=skin,
        hair=shade(pick(rng, _HAIRS), rng.uniform(0.8, 1.2)),
        top=choose_colour(rng, (0.05, 0.85), (0.3, 0.98)),
        bottom=choose_colour(rng, (0.05, 0.6), (0.18, 0.8)),
        shoes=choose_colour(rng, (0.0, 0.7), (0.12, 0.95)),
        accent=choose_colour(rng, (0.0, 0.8), (0.5, 1.0)),
        hair_style=pick(rng, ("short", "short", "long", "bun", "ponytail", "curly", "bald")),
        sleeves=pick(rng, ("long", "long", "short", "short", "none")),
        legwear=pick(rng, ("long", "long", "long", "shorts", "skirt")),
        shirt=pick(rng, ("plain", "plain", "stripes", "logo", "buttons")),
        hat=rng.random() < 0.2,
        backpack=rng.random() < 0.15,
        glasses=rng.random() < 0.2,
        girth=rng.uniform(0.85, 1.25),
        head=rng.uniform(0.103, 0.118) if child else rng.uniform(0.083, 0.094),
        smile=rng.uniform(-0.02, 0.14),
    )
