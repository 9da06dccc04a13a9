"""Groups of like shapes, a typical shape for each, and a map of all.

HDBSCAN (Campello et al. 2013, scikit-learn) on the features' leading directions; what belongs to no dense place
stays alone. A fixed number of groups is made by joining (agglomerative, Ward) instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crosshape.errors import CrosshapeError, UsageError

if TYPE_CHECKING:
    from crosshape.library.library import Library

DIRECTIONS = 24
"""Leading directions of the features that are grouped by: density means little in 1,024."""

SAME = 1e-6
"""Places that are no further apart than this are one: features are of unit length, rounded at 1e-7."""

MOST = 20_000
"""Shapes that are joined into a fixed number of groups at most: their distances are all kept."""


@dataclass(frozen=True)
class Cluster:
    """A group: its number from 1 (largest first), its typical shape, all its names, the typical one first."""

    number: int
    typical: str
    names: list[str]


@dataclass(frozen=True)
class Grouping:
    """Groups; the names of shapes in none; places (N, 2), 0 to 1, of all shapes that were compared, and their names."""

    groups: list[Cluster]
    alone: list[str]
    places: np.ndarray
    names: list[str]


def group(
    library: Library, *, over: str = "both", least: int = 5, count: int | None = None, seed: int = 0
) -> Grouping:
    """Groups of at least `least` shapes, or exactly `count` groups; shapes without features are left out.

    Raises CrosshapeError where there is nothing.
    """
    from crosshape.search.query import check_over, compared

    check_over(over)
    shapes = compared(library)
    total = len(shapes.names)
    if least < 2:
        raise UsageError(f"--least is {least}; it must be 2 or more")
    if count is not None and not 1 <= count <= total:
        raise UsageError(f"--count is {count}; it must be 1 to {total:,}, the number of shapes")
    if total < 3:
        raise CrosshapeError(f"{library.path} holds {total} shapes with features; groups need 3 or more.")
    vectors = described(shapes.points, shapes.views, over)
    flat = leading(vectors, DIRECTIONS)
    labels = by_density(flat, least) if count is None else by_joining(flat, count, library)
    return Grouping(*gathered(labels, flat, shapes.names), placed(flat, seed), shapes.names)


def described(points: np.ndarray, views: np.ndarray, over: str) -> np.ndarray:
    """(N, 512 or 1024): the features that are compared."""
    chosen = {"points": [points], "views": [views], "both": [points, views]}[over]
    return np.concatenate(chosen, axis=1)


def leading(vectors: np.ndarray, count: int) -> np.ndarray:
    """(N, D) -> (N, <= count): places along the directions in which they differ most, as they are spread."""
    centred = vectors - vectors.mean(axis=0)
    gram = centred.T.astype(np.float64) @ centred
    values, axes = np.linalg.eigh(gram)
    best = np.argsort(-values)[: min(count, len(vectors) - 1)]
    axes = axes[:, best]
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])  # eigenvectors have no sign
    return (centred @ axes).astype(np.float32)


def by_density(places: np.ndarray, least: int) -> np.ndarray:
    """(N, D) -> labels (N,), -1 for those in no dense place."""
    from sklearn.cluster import HDBSCAN

    # "leaf" gives many tight groups where "eom" gives one or two that hold nearly everything (results/log.md).
    model = HDBSCAN(min_cluster_size=least, min_samples=2, cluster_selection_method="leaf", copy=True)
    return model.fit_predict(places)


def by_joining(places: np.ndarray, count: int, library: Library) -> np.ndarray:
    """(N, D) -> labels (N,) of exactly `count` groups. Raises CrosshapeError for too many shapes."""
    from sklearn.cluster import AgglomerativeClustering

    if len(places) > MOST:
        raise CrosshapeError(
            f"{library.path} holds {len(places):,} shapes; a fixed number of groups can be made of {MOST:,} at "
            "most. Leave out --count."
        )
    return AgglomerativeClustering(n_clusters=count, linkage="ward").fit_predict(places)


def gathered(labels: np.ndarray, places: np.ndarray, names: Sequence[str]) -> tuple[list[Cluster], list[str]]:
    """Groups, largest first (then by typical name), with the shape nearest to all others as typical one."""
    from scipy.spatial.distance import cdist

    found = []
    for label in sorted(set(labels.tolist()) - {-1}):
        rows = np.flatnonzero(labels == label)
        # The medoid: smallest sum of distances, over all members or 512 to 1,023 of them.
        some = places[rows[:: max(1, len(rows) // 512)]]
        blocks = np.array_split(places[rows], len(rows) // 4096 + 1)
        away = np.concatenate([cdist(block, some).sum(axis=1) for block in blocks])
        middle = rows[np.argmin(np.round(away, 6))]
        near = np.argsort(np.linalg.norm(places[rows] - places[middle], axis=1), kind="stable")
        ordered = [names[row] for row in rows[near]]
        found.append((names[middle], [names[middle], *(name for name in ordered if name != names[middle])]))
    found.sort(key=lambda one: (-len(one[1]), one[0]))
    groups = [Cluster(number, typical, members) for number, (typical, members) in enumerate(found, 1)]
    return groups, [name for name, label in zip(names, labels, strict=True) if label == -1]


def placed(places: np.ndarray, seed: int = 0) -> np.ndarray:
    """(N, D) -> (N, 2), 0 to 1: t-SNE up to 5,000 shapes, the two leading directions above."""
    flat = places[:, :2] if places.shape[1] >= 2 else np.repeat(places, 2, axis=1)
    apart = float(np.ptp(places, axis=0).max()) > SAME  # t-SNE dies of shapes that are all the same
    if 20 <= len(places) <= 5000 and apart:
        from sklearn.manifold import TSNE

        model = TSNE(2, perplexity=min(30.0, len(places) / 4), init="pca", random_state=seed)
        flat = model.fit_transform(places)
    low, high = flat.min(axis=0), flat.max(axis=0)
    return (flat - low) / np.maximum(high - low, 1e-12)
