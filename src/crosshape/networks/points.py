"""DGCNN: a graph CNN over the k nearest neighbours in feature space (Wang et al., arXiv 1801.07829).

The abstract of arXiv 2004.05749 says "graph convolutional network"; the layers (EdgeConv 64, 64, 128, 256,
k = 20, a 1x1 convolution, max and mean pooling, Linear 512 + BatchNorm + ReLU) are second-hand.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crosshape.networks.edges import EdgeConv
from crosshape.networks.neighbours import nearest_neighbours
from crosshape.networks.pooling import norm_pool
from crosshape.settings import FEATURES, NetworkSettings


class PointNetwork(nn.Module):
    """Clouds (B, N, 3), unit sphere, Z up -> features (B, 512)."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.k = settings.k
        self.in_space = settings.graph == "space"
        widths = settings.edge_widths
        self.edges = nn.ModuleList(
            EdgeConv(channels, width) for channels, width in zip((3, *widths), widths, strict=False)
        )
        self.mix = nn.Linear(sum(widths), settings.point_width, bias=False)
        self.mix_norm = nn.BatchNorm1d(settings.point_width)
        self.head = nn.Linear(2 * settings.point_width, FEATURES, bias=False)
        self.head_norm = nn.BatchNorm1d(FEATURES)

    def forward(self, points: Tensor) -> Tensor:
        """Clouds (B, N, 3) -> (B, 512), not negative."""
        return self.describe(self.pooled(points))

    def describe(self, pooled: Tensor) -> Tensor:
        """What `pooled` gives (B, 2 W) -> (B, 512)."""
        return nn.functional.relu(self.head_norm(self.head(pooled).to(self.head_norm.weight.dtype)))

    def pooled(self, points: Tensor) -> Tensor:
        """Clouds (B, N, 3) -> (B, 2 W): maximum and mean over the points, before the last layer."""
        return norm_pool(self.mix(torch.cat(self.layers(points), dim=2)), self.mix_norm)

    def point_features(self, points: Tensor) -> Tensor:
        """Clouds (B, N, 3) -> (B, N, C): every EdgeConv layer, and the pooled cloud beside every point."""
        layers = torch.cat(self.layers(points), dim=2)
        whole = norm_pool(self.mix(layers), self.mix_norm)
        layers = layers.to(whole.dtype)
        return torch.cat([layers, whole[:, None].expand(-1, layers.shape[1], -1)], dim=2)

    def layers(self, points: Tensor) -> list[Tensor]:
        """Clouds (B, N, 3) -> the outputs (B, N, width) of the EdgeConv layers, as products read them.

        Neighbours are sought among outputs in full precision.
        """
        x, full, out = points, points, []
        k = min(self.k, points.shape[1])
        near = None
        for edge in self.edges:
            if near is None or not self.in_space:
                near = nearest_neighbours(full, k)
            full = edge(x, near)
            x = full.to(_precision(full))
            out.append(x)
        return out


def _precision(x: Tensor) -> torch.dtype:
    """The type in which linear layers read x: once here, not again in each that reads it."""
    kind = x.device.type
    cast = torch.is_autocast_enabled(kind) and x.dtype == torch.float32
    return torch.get_autocast_dtype(kind) if cast else x.dtype
