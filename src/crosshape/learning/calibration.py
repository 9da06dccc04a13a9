"""BatchNorm statistics as the networks are asked, not as they learned: of whole, unchanged clouds and pictures.

While learning, statistics are gathered from cropped, stretched and cluttered inputs, with fewer points than a model
may be asked about, as a running mean over the last steps. Here they are gathered anew, the mean over batches that
hold nothing but the data ("precise BatchNorm": Wu and Johnson, arXiv 2105.07576). Weights stay as they are.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from crosshape.networks.model import Model, autocast, gather_statistics

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

    def pictures(some: np.ndarray) -> Tensor:
        return torch.from_numpy(views[some, some % ring])

    for network, read, size in ((model.points, clouds, 32), (model.images, pictures, 64)):
        parts = np.array_split(chosen, -(-len(chosen) // size))  # even ones, for each counts as much
        with autocast(model.device):
            gather_statistics(network, (read(np.sort(some)).to(model.device) for some in parts))
