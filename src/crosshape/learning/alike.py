"""Which shapes are most alike, as the model that a run starts from sees them: a guess at what is of one kind.

Drawing such shapes together in part, not only the pictures and clouds of one object, counters what contrast alone
does: it pushes apart two chairs as it does a chair and a car. Neighbours as positives: Van Gansbeke et al.
(SCAN, arXiv 2005.12320), Dwibedi et al. (NNCLR, arXiv 2104.14548); here they are found once, by both features.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from crosshape.networks.model import Model
from crosshape.shapes.views import downscale

VIEWS = 4
"""Views of a shape that are looked at."""
BLOCK = 1024
"""Shapes that are read, or compared with all others, at once."""


def most_alike(
    model: Model, points: np.ndarray, views: np.ndarray, rows: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """Clouds (N, P, 3), views uint8 (N, V, S, S), rows (R,) of them -> (N, K): for each of `rows` the K = min(count,
    R - 1) others of `rows` with the highest mean cosine, best first; -1 in all other rows.

    Views are scaled down to what the model reads; where they are smaller than that, points alone are compared.
    """
    vectors = np.concatenate(
        [_described(model, points, views, rows[i : i + BLOCK]) for i in range(0, len(rows), BLOCK)]
    )
    count = min(count, len(rows) - 1)
    likes = np.full((len(points), count), -1, np.int64)
    for start in range(0, len(rows), BLOCK):
        block = np.arange(start, min(start + BLOCK, len(rows)))
        scores = vectors[block] @ vectors.T
        scores[np.arange(len(block)), block] = -np.inf
        likes[rows[block]] = rows[np.argsort(-scores, axis=1, kind="stable")[:, :count]]
    return likes


def draw_alike(
    batch: NDArray[np.int64],
    count: int,
    likes: NDArray[np.int64],
    rows: NDArray[np.int64],
    chance: np.random.Generator,
) -> NDArray[np.int64]:
    """One of its likes for each of the first `count` of a batch (B,), or another of the `rows` (R,) where all of them
    are in the batch already: no row is in it twice. R is B + count or more.
    """
    there, drawn = set(batch.tolist()), []
    for options in likes[batch[:count]]:
        free = [one for one in chance.permutation(options).tolist() if one not in there]
        if not free:
            free = [int(chance.choice(np.setdiff1d(rows, list(there))))]
        drawn.append(free[0])
        there.add(free[0])
    return np.array(drawn, np.int64)


def alike_in(rows: NDArray[np.int64], likes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(B,) rows of a batch -> (B, B): whether one is among the likes of the other, never itself."""
    found = (likes[rows][:, :, None] == rows[None, None]).any(axis=1)
    return (found | found.T) & (rows[:, None] != rows[None])


def _described(
    model: Model, points: np.ndarray, views: np.ndarray, rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """(R, 512 or 1,024): the features of some shapes, each kind at length 1; no more of the arrays is read."""
    parts = [model.encode_points(np.asarray(points[rows]))]
    if views.shape[2] >= model.image_size:
        seen = np.linspace(0, views.shape[1], VIEWS, endpoint=False).astype(int)
        some = np.asarray(views[np.ix_(rows, seen)])
        if views.shape[2] > model.image_size:
            some = np.stack([downscale(each, model.image_size) for each in some])
        parts.append(model.encode_views(some).max(axis=1))
    return np.concatenate([normalize(torch.from_numpy(part), dim=1).numpy() for part in parts], axis=1)
