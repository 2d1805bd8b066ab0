"""Object keypoint similarity, OKS: between predictions, and of each with its own annotation.

The measure is COCO's (https://cocodataset.org/#keypoints-eval): the mean over keypoints of
exp(-d^2 / (2 s^2 k^2)), where d is a keypoint's distance, s^2 the object's area, and k twice the
keypoint's sigma.  A keypoint that is nowhere (NaN) is infinitely far away.
"""

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.floating]

# How many coordinates are compared at once.
_BLOCK = 2**18


def between_predictions(
    keypoints: Numbers, areas: Numbers, sigmas: Doubles
) -> npt.NDArray[np.float32]:
    """Return the OKS of each prediction with each, by the mean of their areas.

    This is the form that mmpose's NMS uses, to the last bit: distances are taken in the precision
    of the keypoints, sums in double precision, and the result is rounded to single precision.

    Args:
        keypoints: [N, K, 2] in pixels.
        areas: [N] in square pixels.
        sigmas: float64 [K].

    Returns:
        float32 [N, N], between 0 and 1.
    """
    count = len(keypoints)
    similarities = np.empty((count, count), np.float32)
    # A few rows at a time: what is summed over keypoints would be large for a crowd.
    step = max(1, _BLOCK // max(1, keypoints.size))
    for start in range(0, count, step):
        rows = slice(start, start + step)
        offsets = keypoints - keypoints[rows, None]
        squared = offsets[..., 0] ** 2 + offsets[..., 1] ** 2
        sizes = (areas[rows, None] + areas) / 2 + np.spacing(1.0)
        error = squared / (2 * sigmas) ** 2 / sizes[..., None] / 2
        similarities[rows] = _similarities(error).sum(axis=2) / len(sigmas)
    return similarities


def of_pairs(predicted: Doubles, keypoints: Doubles, areas: Doubles, sigmas: Doubles) -> Doubles:
    """Return the OKS of predictions with the object that each belongs to.

    Args:
        predicted: float64 [N, K, 2] in pixels.
        keypoints: float64 [N, K, 3], x, y in pixels and the visibility, which is 0 if not labelled.
        areas: float64 [N], the objects' areas in square pixels.
        sigmas: float64 [K].

    Returns:
        float64 [N], between 0 and 1; NaN for an object without labelled keypoints.
    """
    labelled = keypoints[..., 2] > 0
    squared = ((predicted - keypoints[..., :2]) ** 2).sum(axis=2)
    error = squared / (sigmas * 2) ** 2 / (areas + np.spacing(1))[:, None] / 2
    with np.errstate(invalid="ignore"):
        return (_similarities(error) * labelled).sum(axis=1) / labelled.sum(axis=1)


def _similarities(error: Numbers) -> Doubles:
    return np.nan_to_num(np.exp(-error), copy=False, nan=0.0)
