"""The map: every shape has a place in the unit square, like shapes near each other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crosshape.files import parse_json, write_whole
from crosshape.search.groups import SAME

LANDMARKS = 4000
"""Shapes that are laid out by t-SNE; of more, the rest is placed among those it is most like."""

KEEP = 50
"""Principal components that the layout is made of."""


def components(points: NDArray[np.floating], views: NDArray[np.floating]) -> NDArray[np.float32]:
    """Features (N, D) and (N, E), of unit length -> (N, 50 or fewer): their principal components."""
    both = np.concatenate([points, views], axis=1)
    sample = both[:: max(1, len(both) // 8192)].astype(np.float64)
    middle = sample.mean(axis=0)
    _, axes = np.linalg.eigh(
        np.cov(sample - middle, rowvar=False) if len(sample) > 1 else np.eye(both.shape[1])
    )
    axes = axes[:, ::-1][:, :KEEP]
    axes *= np.where(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])] < 0, -1, 1)
    return ((both - middle.astype(np.float32)) @ axes.astype(np.float32)).astype(np.float32)


def flat(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """(N, K) -> (N, 2): the first two components, in the unit square. At once, for the first look."""
    return square(vectors[:, :2])


def spread(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """(N, K) -> (N, 2): t-SNE, in the unit square; seeded. Minutes for many: runs in a child."""
    from sklearn.manifold import TSNE
    from sklearn.neighbors import NearestNeighbors

    if len(vectors) < 5 or np.ptp(vectors, axis=0).max() <= SAME:
        return square(vectors[:, :2])
    chosen = np.unique(np.linspace(0, len(vectors) - 1, min(len(vectors), LANDMARKS)).astype(np.int64))
    nearby = min(30.0, (len(chosen) - 1) / 3)
    made = TSNE(perplexity=nearby, init="pca", random_state=0).fit_transform(vectors[chosen])
    places = np.empty((len(vectors), 2))
    places[chosen] = made
    rest = np.setdiff1d(np.arange(len(vectors)), chosen)
    if len(rest):
        count = min(4, len(chosen))
        distance, near = NearestNeighbors(n_neighbors=count).fit(vectors[chosen]).kneighbors(vectors[rest])
        weight = 1 / np.maximum(distance, 1e-6) ** 2
        weight /= weight.sum(axis=1, keepdims=True)
        # A little apart from each other, or shapes between the same landmarks would hide one another.
        step = np.ptp(made, axis=0) * 0.2 / np.sqrt(len(chosen))
        shake = np.random.default_rng(0).normal(size=(len(rest), 2)) * step
        places[rest] = (made[near] * weight[..., None]).sum(axis=1) + shake
    return square(places)


def square(places: NDArray[np.floating]) -> NDArray[np.float32]:
    """(N, 2) -> the same in the unit square, proportions kept, rounded to four decimals as they are kept."""
    wide = np.zeros((len(places), 2))
    wide[:, : places.shape[1]] = places
    low, high = wide.min(axis=0), wide.max(axis=0)
    longest = max(float((high - low).max()), 1e-12)
    return ((wide - (low + high) / 2) / longest + 0.5).round(4).astype(np.float32)


def read_map(path: Path, key: str, count: int) -> NDArray[np.float32] | None:
    """The places that were kept for this key, or None."""
    try:
        kept = parse_json(path.read_bytes())
        places = np.array([kept["x"], kept["y"]], np.float32).T
        if kept["key"] == key and places.shape == (count, 2) and np.isfinite(places).all():
            return places
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def write_map(path: Path, key: str, places: NDArray[np.float32]) -> None:
    """Keep the places; each appears whole or not at all. Raises OSError."""

    rounded = np.round(places.astype(np.float64), 4)
    kept = {"key": key, "x": rounded[:, 0].tolist(), "y": rounded[:, 1].tolist()}
    write_whole(path, json.dumps(kept).encode())
