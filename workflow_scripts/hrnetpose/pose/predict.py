"""From batches of crops to keypoints, plain and averaged over the mirrored image."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from hrnetpose.artifacts.model import ModelCard
from hrnetpose.batches import Array, Crops, Outputs
from hrnetpose.pose import decode


def infer(
    stream: Callable[[Iterable[Crops]], Iterator[Outputs]], batches: Iterable[Crops], mirror: bool
) -> Iterator[tuple[Outputs, Outputs | None]]:
    """Yield the outputs of each batch, plain and, if asked, of the mirrored crops.

    Args:
        stream: runs batches and yields their outputs in order.
        batches: uint8 [N, H, W, 3].
        mirror: run each batch mirrored, too.
    """

    def supply() -> Iterator[Crops]:
        for batch in batches:
            yield batch
            if mirror:
                yield batch[:, :, ::-1]

    results = stream(supply())
    for plain in results:
        yield plain, next(results) if mirror else None


def heatmaps(outputs: Outputs, card: ModelCard) -> Array:
    """Return the heatmaps among a model's outputs: float32 [N, C, h, w]."""
    return outputs[card.outputs[0].name]


def keypoints(
    plain: Outputs,
    mirrored: Outputs | None,
    flips: Sequence[int],
    card: ModelCard,
    centers: Array,
    scales: Array,
) -> tuple[Array, Array]:
    """Decode outputs under each protocol.

    Args:
        plain: of the crops.
        mirrored: of the mirrored crops; needed if there is a 1 in `flips`.
        flips: F protocols, 0: plain, 1: averaged with the mirrored image.
        card: how keypoints were encoded, and which are partners.
        centers: float32 [N, 2] of the boxes.
        scales: float32 [N, 2], their padded sizes.

    Returns:
        Positions in image pixels float32 [F, N, K, 2] and scores float32 [F, N, K].
    """
    found = []
    for flip in flips:
        averaged = heatmaps(plain, card)
        if flip:
            assert mirrored is not None
            codec = card.codec
            flipped = decode.flip_back(
                heatmaps(mirrored, card),
                card.keypoints.flip_indices,
                card.flip_shift,
                codec.flip_mode,
            )
            flipped += averaged
            flipped *= np.float32(0.5)
            averaged = flipped
        positions, scores = decode.decode(averaged, card.codec)
        size = averaged.shape[:1:-1]
        found.append((decode.to_image(positions, size, centers, scales, card.codec), scores))
    return np.stack([one[0] for one in found]), np.stack([one[1] for one in found])
