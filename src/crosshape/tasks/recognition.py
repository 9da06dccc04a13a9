"""Recognition: a linear support vector machine on frozen features, its C chosen without the test shapes.

Protocol `default`: features standardised by the mean and standard deviation of the training rows; C from GRID
by overall accuracy in a stratified five-fold cross-validation of the training split (the smaller C on a tie), then
one fit on all of it. `crosspoint`: as in CrossPoint's published code, scikit-learn's SVC with a linear kernel,
C = 0.01, features as they are. `optimistic`: as default, but C from GRID by accuracy on the test split. It
flatters; for comparison with papers only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crosshape.tasks import metrics, svm

GRID = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""The values of C that are tried, in this order, until two in a row did worse than the best."""

FOLDS = 5
"""Parts of the training split; one alone tells C too badly: its best C moved by a factor of ten from draw to draw."""

FALLBACK = 0.01
"""C where the training split has no class with two shapes to choose by."""

PROTOCOLS = ("default", "crosspoint", "optimistic")


@dataclass(frozen=True)
class Recognition:
    """What came out: predictions (T,) for the test rows, the C used, and each C's accuracy where it was
    chosen.
    """

    truth: NDArray[np.int64]
    predictions: NDArray[np.int64]
    protocol: str
    C: float
    tried: dict[float, float]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(T,) whether each test row was recognised."""
        return self.truth == self.predictions

    @property
    def accuracy(self) -> float:
        """Overall accuracy, 0 to 1."""
        return metrics.accuracy(self.truth, self.predictions)

    @property
    def mean_class_accuracy(self) -> float:
        """The mean of the accuracies of the classes in the test rows, 0 to 1."""
        return metrics.mean_class_accuracy(self.truth, self.predictions)


def recognise(
    train_features: ArrayLike,
    train_labels: ArrayLike,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    *,
    protocol: str = "default",
    seed: int = 0,
    device: str = "cpu",
) -> Recognition:
    """(N, D), (N,), (T, D), (T,) -> predictions for the test rows; labels are whole numbers. seed: how the
    training rows are parted.

    Raises ValueError for one class only, features that are not finite, or an unknown protocol.
    """
    x, y = np.asarray(train_features, np.float32), np.asarray(train_labels, np.int64)
    test, truth = np.asarray(test_features, np.float32), np.asarray(test_labels, np.int64)
    if protocol == "crosspoint":
        from sklearn.svm import SVC

        machine = SVC(C=0.01, kernel="linear").fit(x, y)
        return Recognition(truth, machine.predict(test), protocol, 0.01, {})
    if protocol == "optimistic":
        machines = list(svm.fit_path(x, y, GRID, device=device))
        tried = {m.C: metrics.accuracy(truth, m.predict(test)) for m in machines}
        C = _best(tried)
        return Recognition(truth, machines[GRID.index(C)].predict(test), protocol, C, tried)
    if protocol != "default":
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, not {protocol!r}")

    tried = cross_validate(x, y, seed, device)
    C = _best(tried) if tried else FALLBACK
    return Recognition(truth, svm.fit(x, y, C, device=device).predict(test), protocol, C, tried)


def cross_validate(
    x: NDArray[np.float32], y: NDArray[np.int64], seed: int, device: str
) -> dict[float, float]:
    """Each C that was tried and its accuracy over all held-out parts; none where no class has two members."""
    parts = validation_parts(y, seed)
    held = [parts == part for part in range(FOLDS)]
    held = [h for h in held if h.any() and len(np.unique(y[~h])) > 1]
    tried: dict[float, float] = {}
    if not held:
        return tried
    worse = 0
    for machines in zip(*(svm.fit_path(x[~h], y[~h], GRID, device=device) for h in held), strict=True):
        right = sum(int((m.predict(x[h]) == y[h]).sum()) for m, h in zip(machines, held, strict=True))
        accuracy = right / sum(int(h.sum()) for h in held)
        worse = worse + 1 if tried and accuracy < max(tried.values()) else 0
        tried[machines[0].C] = accuracy
        if worse == 2:
            break
    return tried


def validation_parts(labels: ArrayLike, seed: int) -> NDArray[np.int64]:
    """(N,) labels -> (N,) the part, 0 to FOLDS - 1, that each row is held out with; -1 for the only one of its
    class, which never is. The members of a class are dealt out evenly.
    """
    labels = np.asarray(labels)
    generator = np.random.default_rng(seed)
    parts = np.full(len(labels), -1, np.int64)
    dealt = 0
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        if len(members) > 1:
            parts[members] = (dealt + np.arange(len(members))) % FOLDS
            dealt += len(members)
    return parts


def _best(tried: dict[float, float]) -> float:
    """The C with the highest accuracy; of equal ones the smallest."""
    return min(tried, key=lambda C: (-tried[C], C))
