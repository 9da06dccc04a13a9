"""Retrieval: rank a gallery by likeness to each query, and measure how early the right ones come.

Scores are cosines (or logits of the correspondence network, across modalities). A query is never in its own
gallery. Equal scores are ranked by name: scores are compared after rounding to ten decimals, so that equal
vectors tie whatever the matrix product does to their last bits. Where a query has nothing to find it is
counted, and means leave it out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crosshape.tasks import metrics

Floats = NDArray[np.float64]
Scorer = Callable[[slice], NDArray[np.floating]]
Judge = Callable[[np.ndarray, np.ndarray], np.ndarray]
Names = Sequence[str] | NDArray[np.str_] | None

BLOCK = 256
"""Queries that are ranked at a time; bounds the memory, never changes a result."""

RECALLS = np.linspace(0, 1, 21)


@dataclass(frozen=True)
class Retrieval:
    """Measures per query, (Q,) each, NaN where a query had nothing to find; means as properties.

    ranking (Q, top): the first gallery rows, best first. precision_recall (21,):
    mean interpolated precision at recall 0, 0.05, ... 1. own_rank (Q,): across modalities, the rank of the
    query's own shape in the gallery it is otherwise left out of, from 1; None within one modality.
    """

    average_precision: Floats
    nearest: Floats
    first: Floats
    second: Floats
    gain: Floats
    precision_recall: Floats
    ranking: NDArray[np.int64]
    own_rank: NDArray[np.int64] | None = None

    @property
    def mean_average_precision(self) -> float:
        """Mean of the average precision over the full list, 0 to 1."""
        return metrics.mean(self.average_precision)

    @property
    def nearest_neighbour(self) -> float:
        """Share of queries whose first hit is of their class."""
        return metrics.mean(self.nearest)

    @property
    def first_tier(self) -> float:
        """Mean recall among the first R, R the number of relevant shapes."""
        return metrics.mean(self.first)

    @property
    def second_tier(self) -> float:
        """Mean recall among the first 2 R."""
        return metrics.mean(self.second)

    @property
    def ndcg(self) -> float:
        """Mean discounted gain over the best possible."""
        return metrics.mean(self.gain)

    @property
    def without_relevant(self) -> int:
        """Queries that had nothing to find, left out of the means."""
        return int(np.isnan(self.average_precision).sum())


def retrieve(features: ArrayLike, labels: ArrayLike, names: Names = None, *, top: int = 10) -> Retrieval:
    """(N, D), (N,) -> every row asks all other rows; relevant is what has its label. names: (N,) for ties,
    else row order.

    Raises ValueError for features that are not finite or whose number is not that of the labels.
    """
    unit = unit_length(features)
    return rank(lambda rows: unit[rows] @ unit.T, labels, names, top=top)


def retrieve_across(
    pictures: np.ndarray,
    clouds: np.ndarray,
    labels: ArrayLike,
    names: Names = None,
    *,
    ask: str = "picture",
    judge: Judge | None = None,
    top: int = 10,
) -> Retrieval:
    """pictures (N, V, D), clouds (N, D') features of N shapes -> across modalities; the score of two shapes
    is the mean over V pictures.

    ask "picture": a shape's pictures are the query and clouds the gallery; "shape": the other way about.
    judge: (A, D), (B, D') -> (A, B), higher is more alike; None is the cosine. Where a query's own shape
    would be ranked is measured as well.
    """
    judge = judge or cosine
    views = range(pictures.shape[1])

    def scores(rows: slice) -> NDArray[np.floating]:
        if ask == "picture":
            return np.mean([judge(pictures[rows, v], clouds) for v in views], axis=0)
        return np.mean([judge(pictures[:, v], clouds[rows]) for v in views], axis=0).T

    return rank(scores, labels, names, top=top, own=True)


def rank(
    scores: Scorer, labels: ArrayLike, names: Names = None, *, top: int = 10, own: bool = False
) -> Retrieval:
    """scores(slice of queries) -> (q, N); query i is shape i of the gallery and left out of it. own: measure
    its rank too.
    """
    labels = np.asarray(labels)
    count = len(labels)
    order = np.arange(count) if names is None else np.argsort(np.asarray(names, dtype=str), kind="stable")
    if len(order) != count:
        raise ValueError(f"{len(order)} names but {count} labels")
    place = np.argsort(order)
    top = min(top, max(count - 1, 0))
    parts: dict[str, list[NDArray]] = {key: [] for key in ("ap", "nn", "ft", "st", "dcg", "own")}
    ranking = np.empty((count, top), np.int64)
    curves = np.zeros(len(RECALLS))
    asked = 0
    for start in range(0, count, BLOCK):
        rows = np.arange(start, min(start + BLOCK, count))
        block = np.asarray(scores(slice(rows[0], rows[-1] + 1)), np.float64)
        if block.shape != (len(rows), count) or not np.isfinite(block).all():
            raise ValueError(
                f"scores must be finite numbers of shape {(len(rows), count)}, not {block.shape}"
            )
        block = np.round(block, 10)[:, order]
        if own:
            mine = block[np.arange(len(rows)), place[rows]][:, None]
            before = np.arange(count) < place[rows][:, None]
            parts["own"].append(1 + np.sum((block > mine) | ((block == mine) & before), axis=1))
        block[np.arange(len(rows)), place[rows]] = -np.inf
        ranked = order[np.argsort(-block, axis=1, kind="stable")[:, : count - 1]]
        hits = labels[ranked] == labels[rows][:, None]
        ranking[rows] = ranked[:, :top]
        parts["ap"].append(metrics.average_precision(hits))
        parts["nn"].append(metrics.nearest_neighbour(hits))
        parts["ft"].append(metrics.tier(hits, 1))
        parts["st"].append(metrics.tier(hits, 2))
        parts["dcg"].append(metrics.ndcg(hits))
        some = int(hits.any(axis=1).sum())
        if some:
            curves += some * metrics.precision_recall(hits, RECALLS)
            asked += some
    whole = {key: np.concatenate(values) if values else np.zeros(0) for key, values in parts.items()}
    return Retrieval(
        whole["ap"],
        whole["nn"],
        whole["ft"],
        whole["st"],
        whole["dcg"],
        curves / asked if asked else np.full(len(RECALLS), np.nan),
        ranking,
        whole["own"].astype(np.int64) if own else None,
    )


def cosine(one: ArrayLike, other: ArrayLike) -> Floats:
    """(A, D), (B, D) -> (A, B) cosines."""
    return unit_length(one) @ unit_length(other).T


def unit_length(features: ArrayLike) -> Floats:
    """(..., D) -> the same directions with length 1; a zero vector stays zero. Raises ValueError where not
    finite.
    """
    features = np.asarray(features, np.float64)
    if not np.isfinite(features).all():
        raise ValueError("features must be finite numbers")
    return unit(features)


def unit(vectors: np.ndarray) -> np.ndarray:
    """(..., D) -> the same directions with length 1, in the same precision; a zero vector stays zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
