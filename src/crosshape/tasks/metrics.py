"""What the tasks measure: plain functions of numpy arrays, each tested against scikit-learn or a naive loop.

Truth and predictions are whole numbers. Retrieval measures take `hits` (Q, G) bool, a row a query, the
gallery in ranked order, true where the ranked item is relevant; a query without any relevant item gives NaN,
and means leave it out (`mean`). Ranks count from 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """(N,), (N,) -> the share of equal entries, 0 to 1; NaN where N is 0."""
    equal = _equal(truth, predicted)
    return float(equal.mean()) if equal.size else float("nan")


def mean_class_accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """(N,), (N,) -> the mean over the classes in `truth` of each class's accuracy, 0 to 1; NaN where N is
    0.
    """
    equal = _equal(truth, predicted)
    if not equal.size:
        return float("nan")
    _, member = np.unique(np.asarray(truth), return_inverse=True)
    return float(np.mean(np.bincount(member, weights=equal) / np.bincount(member)))


def confusion_matrix(truth: ArrayLike, predicted: ArrayLike, classes: int) -> NDArray[np.int64]:
    """(N,), (N,) in 0..classes-1 -> (classes, classes) counts, a row a true class, a column a predicted
    one.
    """
    truth, predicted = np.asarray(truth, np.int64), np.asarray(predicted, np.int64)
    for what, values in (("true", truth), ("predicted", predicted)):
        if values.size and (values.min() < 0 or values.max() >= classes):
            raise ValueError(f"a {what} label lies outside 0 to {classes - 1}")
    return np.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes)


def _equal(truth: ArrayLike, predicted: ArrayLike) -> NDArray[np.bool_]:
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise ValueError(f"truth {truth.shape} and predictions {predicted.shape} must be two equal rows")
    return truth == predicted


def average_precision(hits: NDArray[np.bool_]) -> Floats:
    """(Q, G) -> (Q,): the mean over the relevant items of the precision at their ranks, over the full
    list.
    """
    ranks = np.arange(1, hits.shape[1] + 1)
    precision = np.cumsum(hits, axis=1) / ranks
    return _per_relevant(np.sum(precision * hits, axis=1), hits)


def nearest_neighbour(hits: NDArray[np.bool_]) -> Floats:
    """(Q, G) -> (Q,): 1 where the first item is relevant, else 0."""
    first = hits[:, 0].astype(np.float64) if hits.shape[1] else np.zeros(len(hits))
    return np.where(hits.any(axis=1), first, np.nan)


def tier(hits: NDArray[np.bool_], times: int) -> Floats:
    """(Q, G) -> (Q,): the recall among the first `times` x R items, R the number of relevant ones.

    times = 1 is the first tier, times = 2 the second (Shilane et al., The Princeton Shape Benchmark, 2004).
    """
    relevant = hits.sum(axis=1)
    ranks = np.arange(1, hits.shape[1] + 1)
    found = np.sum(hits & (ranks <= times * relevant[:, None]), axis=1)
    return _per_relevant(found.astype(np.float64), hits)


def ndcg(hits: NDArray[np.bool_]) -> Floats:
    """(Q, G) -> (Q,): discounted gain of the full list over the best possible one, binary relevance.

    The form of PSB and SHREC: the gain at rank 1 counts whole, at rank i it is divided by log2(i).
    """
    ranks = np.arange(1, hits.shape[1] + 1)
    discount = 1 / np.log2(np.maximum(ranks, 2))
    best = np.concatenate([[0.0], np.cumsum(discount)])[hits.sum(axis=1)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(best > 0, (hits * discount).sum(axis=1) / best, np.nan)


def precision_recall(hits: NDArray[np.bool_], recalls: ArrayLike) -> Floats:
    """(Q, G), (R,) recalls -> (R,): interpolated precision (the best at that recall or beyond), mean over
    queries.
    """
    recalls = np.asarray(recalls, np.float64)
    curves = []
    for row in hits[hits.any(axis=1)]:
        at = np.flatnonzero(row) + 1
        found = np.arange(1, len(at) + 1)
        best = np.maximum.accumulate((found / at)[::-1])[::-1]
        curves.append(best[np.minimum(np.searchsorted(found / len(at), recalls - 1e-12), len(at) - 1)])
    return np.mean(curves, axis=0) if curves else np.full(len(recalls), np.nan)


def _per_relevant(total: Floats, hits: NDArray[np.bool_]) -> Floats:
    relevant = hits.sum(axis=1)
    return np.where(relevant > 0, total / np.maximum(relevant, 1), np.nan)


def mean(values: ArrayLike) -> float:
    """(N,) -> the mean without the NaN ones (queries that had nothing to find); NaN where nothing is left."""
    numbers = np.asarray(values, np.float64)
    numbers = numbers[~np.isnan(numbers)]
    return float(numbers.mean()) if numbers.size else float("nan")


def bootstrap(
    values: ArrayLike, shapes: ArrayLike | None = None, *, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """(N,) a score per test shape -> the 95 % interval of their mean, by drawing shapes with replacement.

    shapes: (N,) whose score each one is, where a shape has several (one a seed): shapes are drawn, not
    scores. NaN scores are left out. Percentile method of Efron; seeded.
    """
    values = np.asarray(values, np.float64)
    owner = (
        np.arange(len(values)) if shapes is None else np.unique(np.asarray(shapes), return_inverse=True)[1]
    )
    keep = ~np.isnan(values)
    if not keep.any():
        return float("nan"), float("nan")
    _, owner = np.unique(owner[keep], return_inverse=True)
    total, count = np.bincount(owner, weights=values[keep]), np.bincount(owner)
    generator = np.random.default_rng(seed)
    means = np.empty(draws)
    for draw in range(draws):
        drawn = generator.integers(0, len(count), size=len(count))
        means[draw] = total[drawn].sum() / count[drawn].sum()
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
