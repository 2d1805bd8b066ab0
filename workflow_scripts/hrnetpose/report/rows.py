"""The report's rows: all that is known of each variant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from hrnetpose.artifacts.accuracy import Accuracy, Delta, KeypointView, ProtocolResult
from hrnetpose.artifacts.engine import ENGINE_CARD, EngineCard
from hrnetpose.artifacts.measured import say_executed
from hrnetpose.artifacts.parity import Parity
from hrnetpose.artifacts.perf import Perf
from hrnetpose.artifacts.verdicts import Verdict
from hrnetpose.limits import Limits
from hrnetpose.report import verdict
from hrnetpose.report.failures import Variant
from hrnetpose.stage import StageError

Figures = TypeVar("Figures", Accuracy, Parity, Perf)
Published = dict[str, dict[str, dict[str, float]]]
"""Published figures by model and protocol: `{"w32": {"det+flip": {"AP": 0.749}}}`."""
OwnLimits = Mapping[str, Mapping[str, float | None]]
"""Limits of single variants: `{"int8": {"ap_drop": 0.02}}`."""


@dataclass(frozen=True)
class Row:
    """One variant.

    Parts that a stage failed to make are missing, and the variant says why; the accuracy is also
    missing if the model is untrained.
    """

    variant: Variant
    engine: EngineCard | None
    perf: Perf | None
    accuracy: Accuracy | None
    parity: Parity | None = None
    published: dict[str, dict[str, float]] = field(default_factory=dict)
    """Published AP, AP50 and fps by protocol (`det+flip`), on the same dataset."""
    verdict: Verdict | None = None
    """Whether its precision pays; None if its speed is missing."""

    @property
    def name(self) -> str:
        """The variant's name."""
        return self.variant.name

    @property
    def precision(self) -> str:
        """The precision asked for and, where it differs, the one executed."""
        requested = self.variant.precision
        executed = self.engine.executed.precision if self.engine else requested
        note = say_executed(requested, executed)
        return f"{requested}, {note}" if note else requested

    @property
    def viewed(self) -> ProtocolResult | None:
        """The first protocol on annotated boxes, where each prediction has its truth."""
        results = self.accuracy.protocols if self.accuracy else []
        return next((result for result in results if result.keypoints), None)

    @property
    def view(self) -> KeypointView | None:
        """What the keypoints themselves say under that protocol."""
        return self.viewed.keypoints if self.viewed else None

    @property
    def ap(self) -> float | None:
        """AP under the headline protocol."""
        return self.accuracy.metrics.AP if self.accuracy else None

    @property
    def delta(self) -> Delta | None:
        """Change of AP against the reference under the headline protocol."""
        return self.accuracy.delta if self.accuracy else None


def join(
    variants: Sequence[Variant] | None,
    engines: Sequence[Path],
    perfs: Sequence[Path],
    accuracies: Sequence[Path],
    parities: Sequence[Path],
    published: Published,
    limits: Limits,
    own_limits: OwnLimits,
) -> list[Row]:
    """Put together what belongs to one variant.

    Args:
        variants: the rows, and what failed of them; None for those of the engines.
        engines: their folders.
        perfs: speeds.
        accuracies: accuracies.
        parities: drifts.
        published: what somebody else measured.
        limits: what the user allows.
        own_limits: of single variants; they count instead of the common ones.

    Raises:
        StageError: a figure was measured on another engine than the one that is there, or is
            missing though no stage failed.
    """
    cards = {
        card.variant: card for card in (EngineCard.read(folder / ENGINE_CARD) for folder in engines)
    }
    if variants is None:
        variants = [Variant.of(card) for card in cards.values()]
    speed = _read(Perf, perfs, cards)
    accuracy = _read(Accuracy, accuracies, cards)
    parity = _read(Parity, parities, cards)
    for variant in variants:
        if variant.name not in speed and not variant.lacks("speed"):
            raise StageError(f"--perf: none of the files is of variant {variant.name!r}")
    found = [verdict.Found(cards[name], perf, accuracy.get(name)) for name, perf in speed.items()]
    ap_drop = {name: own_limits.get(name, {}).get("ap_drop", limits.ap_drop) for name in speed}
    verdicts = {one.variant: one for one in verdict.judge(found, ap_drop)}
    return [
        Row(
            variant=variant,
            engine=cards.get(variant.name),
            perf=speed.get(variant.name),
            accuracy=accuracy.get(variant.name),
            parity=parity.get(variant.name),
            published=published.get(variant.model, {}),
            verdict=verdicts.get(variant.name),
        )
        for variant in variants
    ]


def _read(
    kind: type[Figures], paths: Sequence[Path], cards: Mapping[str, EngineCard]
) -> dict[str, Figures]:
    """Read figures by variant; refuses those of another engine than the one that is there."""
    found = {}
    for path in paths:
        figures = kind.read(path)
        engine = figures.engine
        card = cards.get(engine.variant)
        if card is None or card.sha256 != engine.sha256:
            raise StageError(
                f"{path}: was measured on another engine of {engine.variant!r} than the one that "
                "is there; delete the file and run again"
            )
        found[engine.variant] = figures
    return found
