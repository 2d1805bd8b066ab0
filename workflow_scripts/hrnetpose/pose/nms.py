"""Non-maximum suppression by OKS: of predictions of the same person, the best is kept.

Both forms keep what mmpose's (mmpose/evaluation/functional/nms.py) keep, in the same order, also
where scores are equal: that order is `argsort`'s, reversed.
"""

import numpy as np
import numpy.typing as npt

from hrnetpose.pose import oks
from hrnetpose.pose.oks import Doubles, Numbers

Indices = npt.NDArray[np.intp]


def nms(
    keypoints: Numbers, scores: Numbers, areas: Numbers, sigmas: Doubles, threshold: float
) -> Indices:
    """Keep predictions, best first, that overlap no better one by more than `threshold`.

    Args:
        keypoints: [N, K, 2] in pixels, of one image.
        scores: [N].
        areas: [N] in square pixels.
        sigmas: float64 [K].
        threshold: the largest OKS that two kept predictions may have.

    Returns:
        Indices to keep, by falling score.
    """
    overlapping = oks.between_predictions(keypoints, areas, sigmas) > threshold
    left = np.ones(len(scores), bool)
    kept = []
    for best in scores.argsort()[::-1]:
        if left[best]:
            kept.append(best)
            left &= ~overlapping[best]
    return np.array(kept, np.intp)


def soft_nms(
    keypoints: Numbers,
    scores: Numbers,
    areas: Numbers,
    sigmas: Doubles,
    threshold: float,
    limit: int = 20,
) -> Indices:
    """Take predictions, best first, after each lowering the scores of those that overlap it.

    Scores are lowered by exp(-OKS^2 / threshold) (Bodla et al., Soft-NMS, ICCV 2017).

    Args:
        keypoints: [N, K, 2] in pixels, of one image.
        scores: [N]; they are not changed.
        areas: [N] in square pixels.
        sigmas: float64 [K].
        threshold: the larger, the less scores are lowered.
        limit: how many to take at most.

    Returns:
        Indices of those taken, in that order.
    """
    overlap = oks.between_predictions(keypoints, areas, sigmas)
    order = scores.argsort()[::-1]
    scores = scores[order]
    taken: list[int] = []
    while len(order) and len(taken) < limit:
        best, order = order[0], order[1:]
        taken.append(best)
        scores = scores[1:] * np.exp(-(overlap[best, order] ** 2) / threshold)
        again = scores.argsort()[::-1]
        order, scores = order[again], scores[again]
    return np.array(taken, np.intp)
