"""A linear support vector machine for many classes: what scikit-learn's LinearSVC minimises, by L-BFGS in
torch.

One against the rest, squared hinge: 1/2 |w|^2 + C sum_i max(0, 1 - y_i (w x_i + b))^2 with the bias b inside
|w|, as LinearSVC has it (intercept_scaling = 1). All classes are solved together, so a step is two matrix
products.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class LinearSVM:
    """A fitted machine: weights (D, K), bias (K,) over raw features; classes (K,) sorted labels."""

    classes: NDArray[np.int64]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    C: float
    converged: bool

    def scores(self, features: ArrayLike) -> NDArray[np.float32]:
        """(N, D) -> (N, K): signed distance to each class's plane, times |w|."""
        return np.asarray(features, np.float32) @ self.weights + self.bias

    def predict(self, features: ArrayLike) -> NDArray[np.int64]:
        """(N, D) -> (N,) labels; of equal scores the class that sorts first wins."""
        return self.classes[self.scores(features).argmax(axis=1)]


def fit(
    features: ArrayLike, labels: ArrayLike, C: float = 1.0, *, standardise: bool = True, device: str = "cpu"
) -> LinearSVM:
    """(N, D) finite numbers, (N,) whole-number labels of at least two classes -> the machine."""
    return next(fit_path(features, labels, (C,), standardise=standardise, device=device))


def fit_path(
    features: ArrayLike,
    labels: ArrayLike,
    Cs: Sequence[float],
    *,
    standardise: bool = True,
    device: str = "cpu",
    tolerance: float = 3e-5,
    steps: int = 1000,
) -> Iterator[LinearSVM]:
    """One machine for each C in turn, each started from the one before (so give C in rising order).

    standardise: every feature gets mean 0 and standard deviation 1 over these N rows before the fit (a
    constant one becomes 0), and the machine returned does that by itself. tolerance: the fit ends where the
    gradient's largest entry is below it times its largest entry at zero weights. Raises ValueError for
    features that are not finite, or one class only.
    """
    raw = np.ascontiguousarray(np.asarray(features, np.float32))
    if raw.ndim != 2 or not len(raw) or not np.isfinite(raw).all():
        raise ValueError("features must be (N, D) finite numbers, N > 0")
    classes, member = np.unique(np.asarray(labels, np.int64), return_inverse=True)
    if len(member) != len(raw):
        raise ValueError(f"{len(raw)} features but {len(member)} labels")
    if len(classes) < 2:
        raise ValueError("a support vector machine needs at least two classes")
    if any(not C > 0 for C in Cs):
        raise ValueError("C must be greater than 0")

    centre = raw.mean(axis=0, dtype=np.float64) if standardise else np.zeros(raw.shape[1])
    spread = raw.std(axis=0, dtype=np.float64) if standardise else np.ones(raw.shape[1])
    scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 1e-8 * (np.abs(centre) + 1e-12))
    x = torch.from_numpy((raw - centre) * scale).to(device, torch.float32)
    x = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
    y = x.new_full((len(raw), len(classes)), -1.0)
    y[torch.arange(len(raw), device=device), torch.from_numpy(member).to(device)] = 1.0

    gram = x.T @ x
    w = x.new_zeros(x.shape[1], len(classes))
    for C in Cs:
        w, converged = _minimise(x, y, gram, w, C, tolerance, steps)
        solved = w.double().cpu().numpy()
        weights = solved[:-1] * scale[:, None]
        bias = solved[-1] - centre @ weights
        yield LinearSVM(classes, weights.astype(np.float32), bias.astype(np.float32), float(C), converged)


def _minimise(
    x: torch.Tensor,
    y: torch.Tensor,
    gram: torch.Tensor,
    start: torch.Tensor,
    C: float,
    tolerance: float,
    steps: int,
) -> tuple[torch.Tensor, bool]:
    """x (N, D), y (N, K) of -1 and 1, gram (D, D) x.T x -> the weights (D, K) that minimise, whether they do.

    The search runs in z = L.T w, where L L.T = I + 2 C x.T x is the second derivative at w = 0, so that
    ill-conditioned features take tens of steps instead of thousands.
    """
    eye = torch.eye(len(gram), dtype=torch.float64, device=x.device)
    lower, failed = torch.linalg.cholesky_ex(eye + 2 * C * gram.double())
    if failed:  # 2 C times the rounding of x.T x in float32 outweighs I
        lower = torch.linalg.cholesky(eye + 2 * C * (x.double().T @ x.double()))
    lower = lower.to(x.dtype)
    solve = torch.linalg.solve_triangular
    z = (lower.T @ start).contiguous().requires_grad_(True)

    def closure() -> torch.Tensor:
        with torch.no_grad():
            w = solve(lower.T, z, upper=True)
            short = (1 - y * (x @ w)).clamp_(min=0)
            value = 0.5 * (w.double() ** 2).sum() + C * (short.double() ** 2).sum()
            z.grad = solve(lower, w - 2 * C * (x.T @ short.mul_(y)), upper=False).contiguous()
        return value

    enough = tolerance * float(solve(lower, 2 * C * (x.T @ y), upper=False).abs().max())
    optimiser = torch.optim.LBFGS(
        [z],
        max_iter=steps,
        max_eval=2 * steps,
        history_size=10,
        tolerance_grad=enough,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )
    optimiser.step(closure)
    closure()
    assert z.grad is not None
    return solve(lower.T, z.detach(), upper=True), float(z.grad.abs().max()) <= enough
