"""From batches of crops to keypoints, plain and averaged over the mirrored image."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from hrnetpose.artifacts.model import ModelCard
from hrnetpose.pose import decode

Crops = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def heatmaps(
    stream: Callable[[Iterable[Crops]], Iterator[Floats]],
    batches: Iterable[Crops],
    size: int,
    mirror: bool,
) -> Iterator[tuple[Floats, Floats | None]]:
    """Yields the heatmaps of each batch, plain and, if asked, of the mirrored crops.

    A batch that is not full is padded: an engine may be fixed to its batch, and results must not
    depend on how a dataset is cut into shards.

    Args:
        stream: runs batches of `size` and yields their heatmaps in order.
        batches: uint8 [N, H, W, 3] with N <= size.
        size: what the engine takes.
        mirror: run each batch mirrored, too.
    """
    counts: deque[int] = deque()

    def supply() -> Iterator[Crops]:
        for batch in batches:
            counts.append(len(batch))
            full = padded(batch, size)
            yield full
            if mirror:
                yield full[:, :, ::-1]

    results = stream(supply())
    for plain in results:
        count = counts.popleft()
        yield plain[:count], next(results)[:count] if mirror else None


def padded(batch: Crops, size: int) -> Crops:
    """Returns the batch with black crops behind it, `size` in all."""
    if len(batch) == size:
        return batch
    return np.concatenate([batch, np.zeros((size - len(batch), *batch.shape[1:]), np.uint8)])


def keypoints(
    plain: Floats,
    mirrored: Floats | None,
    flips: Sequence[int],
    card: ModelCard,
    centers: Floats,
    scales: Floats,
) -> tuple[Floats, Floats]:
    """Decodes heatmaps under each protocol.

    Args:
        plain: float32 [N, C, h, w].
        mirrored: the same of the mirrored crops; needed if there is a 1 in `flips`.
        flips: F protocols, 0: plain, 1: averaged with the mirrored image.
        card: how keypoints were encoded, and which are partners.
        centers: float32 [N, 2] of the boxes.
        scales: float32 [N, 2], their padded sizes.

    Returns:
        Positions in image pixels float32 [F, N, K, 2] and scores float32 [F, N, K].
    """
    found = []
    for flip in flips:
        averaged = plain
        if flip:
            assert mirrored is not None
            codec = card.codec
            flipped = decode.flip_back(
                mirrored, card.keypoints.flip_indices, card.flip_shift, codec.flip_mode
            )
            flipped += plain
            flipped *= np.float32(0.5)
            averaged = flipped
        positions, scores = decode.decode(averaged, card.codec)
        size = averaged.shape[:1:-1]
        found.append((decode.to_image(positions, size, centers, scales, card.codec), scores))
    return np.stack([one[0] for one in found]), np.stack([one[1] for one in found])
