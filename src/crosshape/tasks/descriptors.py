"""D2, the shape distribution that needs no learning: the floor that learned features must leave behind.

Osada et al., Shape distributions, ACM Transactions on Graphics 21(4), 2002: the histogram of the distances
between random pairs of surface points.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def shape_distribution(
    points: ArrayLike, *, bins: int = 64, heights: int = 16, most: int = 512
) -> NDArray[np.float32]:
    """(N, P, 3) clouds in the unit sphere, Z up -> (N, bins + heights): square roots of the shares of distances,
    0 to 2, and of heights, -1 to 1.

    All pairs of `most` points, taken evenly from the order given. The distances do not see rotations; the heights
    do not see turns about the up axis (0 leaves them out). Square roots make the cosine of two histograms their
    Bhattacharyya coefficient, and both tasks do better with them (results/log.md).
    """
    points = np.asarray(points, np.float32)
    if points.ndim != 3 or points.shape[2] != 3 or points.shape[1] < 2:
        raise ValueError(f"points must be (N, P, 3) with P > 1, not {points.shape}")
    chosen = np.linspace(0, points.shape[1] - 1, min(most, points.shape[1])).astype(int)
    one, other = np.triu_indices(len(chosen), k=1)
    rows = np.empty((len(points), bins + heights), np.float32)
    for row, cloud in zip(rows, points, strict=True):
        few = cloud[chosen]
        square = (few**2).sum(axis=1)
        distance = np.sqrt(np.maximum(square[:, None] + square - 2 * few @ few.T, 0))[one, other]
        row[:bins] = _shares(distance * (bins / 2), bins)
        if heights:
            row[bins:] = _shares((cloud[:, 2] + 1) * (heights / 2), heights)
    return np.sqrt(rows)


def _shares(places: NDArray[np.floating], bins: int) -> NDArray[np.float64]:
    """(M,) positions in units of bins -> (bins,) shares; what lies outside counts in the first or last
    bin.
    """
    return np.bincount(np.clip(places.astype(np.int64), 0, bins - 1), minlength=bins) / len(places)
