"""Few-shot recognition: N classes, K labelled shapes each, a linear support vector machine on frozen
features.

An episode draws N classes, K training shapes of each to learn from, and up to 20 test shapes of each to
recognise, as in the episodes of Sharma and Kaul (Self-supervised few-shot learning on point clouds, NeurIPS
2020) that OcCo and CrossPoint follow. Features are standardised by the mean and deviation of the whole
training split, which needs no labels. C is fixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crosshape.tasks import metrics, svm

SETTINGS = ((5, 10), (5, 20), (10, 10), (10, 20))
"""(ways, shots) that are usually quoted."""

C = 0.01
"""The C of every episode's machine."""


@dataclass(frozen=True)
class Episode:
    """One episode: its classes, the rows learned from and asked, and the share recognised."""

    classes: tuple[int, ...]
    support: tuple[int, ...]
    queries: tuple[int, ...]
    accuracy: float


@dataclass(frozen=True)
class FewShot:
    """The episodes of one setting; accuracy and std over episodes (std with N - 1)."""

    ways: int
    shots: int
    episodes: tuple[Episode, ...]

    @property
    def accuracy(self) -> float:
        """Mean over the episodes, 0 to 1."""
        return float(np.mean([e.accuracy for e in self.episodes]))

    @property
    def std(self) -> float:
        """Standard deviation over the episodes; NaN for one."""
        return (
            float(np.std([e.accuracy for e in self.episodes], ddof=1))
            if len(self.episodes) > 1
            else float("nan")
        )


def few_shot(
    features: ArrayLike,
    labels: ArrayLike,
    test: ArrayLike,
    ways: int,
    shots: int,
    *,
    queries: int = 20,
    episodes: int = 10,
    seed: int = 0,
) -> FewShot:
    """(N, D), (N,), (N,) true for test rows -> the episodes; classes with fewer than `shots` training rows or
    no test row are never drawn. Raises ValueError where fewer than `ways` classes are left, naming their
    number.
    """
    x, y, test = np.asarray(features, np.float64), np.asarray(labels, np.int64), np.asarray(test, bool)
    usable = eligible(y, test, shots)
    if len(usable) < ways:
        raise ValueError(
            f"{ways} classes with {shots} training shapes and a test shape are needed, not {len(usable)}"
        )
    centre, spread = x[~test].mean(axis=0), x[~test].std(axis=0)
    x = (x - centre) / np.where(spread > 1e-8, spread, 1.0)
    generator = np.random.default_rng([seed, ways, shots])
    done = []
    for _ in range(episodes):
        classes = np.sort(generator.choice(usable, ways, replace=False))
        support = np.concatenate([_draw(generator, (y == c) & ~test, shots) for c in classes])
        asked = np.concatenate([_draw(generator, (y == c) & test, queries) for c in classes])
        machine = svm.fit(x[support], y[support], C, standardise=False)
        right = metrics.accuracy(y[asked], machine.predict(x[asked]))
        done.append(Episode(_numbers(classes), _numbers(support), _numbers(asked), right))
    return FewShot(ways, shots, tuple(done))


def eligible(labels: NDArray[np.int64], test: NDArray[np.bool_], shots: int) -> NDArray[np.int64]:
    """(N,), (N,) -> the classes with at least `shots` training rows and one test row, sorted."""
    there = np.unique(labels)
    return np.array(
        [c for c in there if (~test[labels == c]).sum() >= shots and test[labels == c].any()], np.int64
    )


def _draw(generator: np.random.Generator, among: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
    rows = np.flatnonzero(among)
    return np.sort(generator.choice(rows, min(count, len(rows)), replace=False))


def _numbers(values: Sequence[int] | NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(int(v) for v in values)
