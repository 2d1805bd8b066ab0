"""Whether a lower precision is worth it."""

from hrnetpose.artifacts.engine import EngineCard
from hrnetpose.artifacts.perf import Perf

WORTH = 1.1
"""A precision that gains less than this on fp32 is not worth its errors."""


def precision(card: EngineCard, perf: Perf, reference: Perf | None) -> str | None:
    """Says that a precision is not worth it, and why; None if it is, or cannot be told.

    Args:
        card: the engine's.
        perf: its speed.
        reference: the speed of the same model and backend at fp32, on the same machine.
    """
    if card.requested == "fp32" or reference is None:
        return None
    ratio = perf.throughput.fps / reference.throughput.fps
    if ratio >= WORTH:
        return None
    return f"{card.requested} {_cause(card, perf)}, {ratio:.1f} x fp32: not worth it"


def _cause(card: EngineCard, perf: Perf) -> str:
    """Returns what is known of why it is slow; a share of the limit is no guess."""
    where = f"on this {'GPU' if perf.host.gpu else 'CPU'}"
    executed = perf.precision.executed
    if not perf.host.gpu and not perf.host.is_native(card.requested):
        runs = "" if executed == card.requested else f", runs {executed}"
        return f"{where}: no native units{runs}"
    if executed != card.requested:
        return f"{where}: runs {executed}"
    layers = card.executed.layers
    total = sum(layers.values())
    if layers.get(executed, 0) < total:
        return f"{where}: only {layers.get(executed, 0)} of {total} heavy layers run in it"
    fraction = perf.roofline.fraction
    reached = "" if fraction is None else f", which reaches {fraction:.0%} of its limit"
    return f"{where}: this model{reached}"
