"""Bounds that no network exceeds: a mistyped number ends in one line, not in swapping.

Of mmpose's own top-down models the largest have 2,700 layers (RSN-50 with three stages) and 631
million parameters (ViTPose-huge), and no config has a number above 2,048.
"""

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hrnetpose.stage import StageError, name, shown

NUMBER = 1_000_000
LAYERS = 50_000
PARAMETERS = 2**30
"""Twice what an ONNX file holds: what is replaced while a model is built is counted, too."""


def check(source: object, model: Any) -> None:
    """Refuse a whole number in a config's model that no network has.

    Args:
        source: the config's file, for messages.
        model: the section, or anything in its place.

    Raises:
        StageError: there is one.
    """
    for place, number in _list_numbers(model, "model"):
        if isinstance(number, int) and number > NUMBER:
            raise StageError(
                f"{source}: {place} is {shown(number)}; expected at most {NUMBER:,}: no network "
                "has so many blocks, channels or pixels"
            )


@contextmanager
def watch(model: Any) -> Iterator[None]:
    """Stop building a network that has more layers or parameters than any.

    Small numbers can make a large product.

    Raises:
        StageError: from where the network is built; the message names the largest number.
    """
    from torch.nn.modules import module

    counts: Counter[str] = Counter()

    def count(kind: str, more: int, most: int) -> None:
        counts[kind] += more
        if counts[kind] > most:
            raise StageError(f"the model has more than {most:,} {kind}; {blame(model)}")

    hooks = [
        module.register_module_module_registration_hook(lambda *_: count("layers", 1, LAYERS)),
        # PyTorch fills a layer's parameters after it has registered them.
        module.register_module_parameter_registration_hook(
            lambda layer, key, value: count("parameters", value.numel(), PARAMETERS)
        ),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def blame(model: Any) -> str:
    """Name the largest number of a model that is too large."""
    finite = [found for found in _list_numbers(model, "model") if math.isfinite(found[1])]
    place, number = max(finite, key=lambda found: found[1], default=("none", 0))
    return f"the largest number in its config is {place}, {number:,}; correct that, or others"


def _list_numbers(value: Any, place: str) -> Iterator[tuple[str, int | float]]:
    """Yield the numbers of a section with their places."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _list_numbers(inner, f"{place}.{name(str(key), 100)}")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _list_numbers(inner, f"{place}[{index}]")
    elif isinstance(value, int | float):
        yield place, value
