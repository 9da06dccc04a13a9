"""How to make one score of points and views: every shape asks all others, class folders as labels.

    python results/search/fusion.py meshes.lance

Prints mean average precision and nearest neighbour. Half of the shapes (fixed seed) choose, the other half is
what is reported; both halves ask the whole library.
"""

from __future__ import annotations

import sys

import numpy as np

from crosshape.console import print_table
from crosshape.library.library import open_library
from crosshape.search.query import gallery


def main() -> None:
    library = open_library(sys.argv[1])
    shapes, labels = gallery(library), np.array(library.labels())
    chosen = np.random.default_rng(0).random(len(labels)) < 0.5
    points, views = shapes.points @ shapes.points.T, shapes.views @ shapes.views.T
    each = library.features().each_view
    each = each / np.linalg.norm(each, axis=2, keepdims=True)
    mean = each.mean(axis=1)
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    rows = {
        "points": points,
        "views, largest": views,
        "views, mean": mean @ mean.T,
        "mean of cosines": points + views,
        "mean of cosines, views mean": points + mean @ mean.T,
        "mean of standardised cosines": standard(points) + standard(views),
        "mean of centred cosines": centred(shapes.points) + centred(shapes.views),
        "standardised, centred": standard(centred(shapes.points)) + standard(centred(shapes.views)),
        "reciprocal ranks (k = 60)": reciprocal(points) + reciprocal(views),
        "0.35 points + 0.65 views": 0.35 * points + 0.65 * views,
        "0.65 points + 0.35 views": 0.65 * points + 0.35 * views,
    }
    table = []
    for name, scores in rows.items():
        precision, nearest = measure(scores, labels)
        halves = [[float(np.nanmean(m[part])) for m in (precision, nearest)] for part in (chosen, ~chosen)]
        table.append([name, *halves[0], *halves[1]])
    print_table(["score", "mAP (choosing)", "NN", "mAP (reported)", "NN"], table)


def standard(scores: np.ndarray) -> np.ndarray:
    """Each query's scores with mean 0 and deviation 1."""
    return (scores - scores.mean(axis=1, keepdims=True)) / scores.std(axis=1, keepdims=True)


def centred(unit: np.ndarray) -> np.ndarray:
    """Cosines after the library's mean was taken away."""
    away = unit - unit.mean(axis=0)
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    return away @ away.T


def reciprocal(scores: np.ndarray) -> np.ndarray:
    """1 / (60 + rank)."""
    return 1 / (60.0 + np.argsort(np.argsort(-scores, axis=1), axis=1))


def measure(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average precision and nearest neighbour (N,), NaN for shapes that are alone in their class."""
    scores = scores.astype(np.float64).copy()
    np.fill_diagonal(scores, -np.inf)
    order = np.argsort(-np.round(scores, 10), axis=1, kind="stable")[:, :-1]
    hits = labels[order] == labels[:, None]
    found = hits.sum(axis=1)
    with np.errstate(invalid="ignore"):
        precision = (np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1) * hits).sum(axis=1) / found
    return precision, np.where(found > 0, hits[:, 0], np.nan)


if __name__ == "__main__":
    main()
