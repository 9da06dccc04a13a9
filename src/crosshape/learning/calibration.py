"""BatchNorm statistics as the networks are asked, not as they learned: of whole, unchanged clouds and pictures.

While learning, statistics are gathered from cropped, stretched and cluttered inputs, with fewer points than a model
may be asked about, as a running mean over the last steps. Here they are gathered anew, the mean over batches that
hold nothing but the data ("precise BatchNorm": Wu and Johnson, arXiv 2105.07576). Weights stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from crosshape.networks.model import Model, autocast

SHAPES = 1536
"""How many shapes the statistics are of."""


def calibrate(model: Model, points: np.ndarray, views: np.ndarray, rows: np.ndarray, seed: int = 0) -> None:
    """Gather the statistics of `model` anew from clouds (N, P, 3) and views (N, V, S, S) of some of `rows`.

    A cloud gives its first `point_count` points, a shape one of its views. The same for the same seed (CPU).
    """
    chosen = np.random.default_rng(seed).permutation(rows)[:SHAPES]
    ring = views.shape[1]

    def clouds(some: np.ndarray) -> Tensor:
        return torch.from_numpy(np.array(points[some][:, : model.point_count], np.float32))

    _gather(model.points, clouds, chosen, 32, model.device)
    _gather(model.images, lambda some: torch.from_numpy(views[some, some % ring]), chosen, 64, model.device)


def _gather(
    network: nn.Module,
    read: Callable[[np.ndarray], Tensor],
    rows: np.ndarray,
    size: int,
    device: torch.device,
) -> None:
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta, was_training = [norm.momentum for norm in norms], network.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for the plain mean over batches
    network.train()
    try:
        with torch.no_grad(), autocast(device):
            for some in np.array_split(rows, -(-len(rows) // size)):  # even ones, for each counts as much
                network(read(np.sort(some)).to(device))
    finally:
        network.train(was_training)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
