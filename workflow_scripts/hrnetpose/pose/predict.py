"""From batches of crops to keypoints, plain and averaged over the mirrored image."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from hrnetpose.artifacts.model import ModelCard
from hrnetpose.batches import Array, Crops, Outputs
from hrnetpose.pose import decode
from hrnetpose.stage import StageError


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


def decoded(outputs: Outputs, card: ModelCard) -> list[Array]:
    """Return what the codec takes of a model's outputs, in its order.

    Raises:
        StageError: their shapes are not those that the keypoints of the card have.
    """
    taken = card.outputs[: len(card.codec.OUTPUTS)]
    found = [outputs[output.name] for output in taken]
    count = len(card.keypoints.names)
    for output, values, expected in zip(
        taken, found, card.codec.shapes(count, card.crop), strict=True
    ):
        shape = list(values.shape[1:])
        if len(shape) != len(expected) or not all(
            size in (known, None) for size, known in zip(expected, shape, strict=True)
        ):
            text = ", ".join("any" if size is None else str(size) for size in expected)
            raise StageError(
                f"gives {output.name} of {shape}, but the {count} keypoints and the codec "
                f"{card.codec.type} of its card need [{text}]"
            )
    return found


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
        values = decoded(plain, card)
        if flip:
            assert mirrored is not None
            indices, shift = card.keypoints.flip_indices, card.flip_shift
            flipped = decode.flip_back(decoded(mirrored, card), card.codec, indices, shift)
            for one, other in zip(flipped, values, strict=True):
                np.add(one, other, out=one)
                np.multiply(one, np.float32(0.5), out=one)
            values = list(flipped)
        positions, scores = decode.decode(values, card.codec, card.crop)
        found.append((decode.to_image(positions, card.crop, centers, scales), scores))
    return np.stack([one[0] for one in found]), np.stack([one[1] for one in found])
