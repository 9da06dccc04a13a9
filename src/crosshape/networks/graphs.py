"""The networks in encoding, in operations that every runtime has; what `export.py` writes.

Float32 and no kernels of our own. EdgeConv is factored as in `edges.py`, with BatchNorm folded into its weights, so
that the maximum over the neighbours is taken of one gathered tensor. ResNet-18 (`images.py`) needs no other form.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crosshape.networks.correspondence import CorrespondenceNetwork
from crosshape.networks.edges import SLOPE, EdgeConv
from crosshape.networks.points import PointNetwork
from crosshape.settings import FEATURES


class Points(nn.Module):
    """Clouds (B, N, 3) float32, N >= k -> features (B, 512); a PointNetwork in encoding."""

    def __init__(self, network: PointNetwork) -> None:
        super().__init__()
        self.k, self.in_space = network.k, network.in_space
        self.edges = nn.ModuleList(Edges(edge) for edge in network.edges)  # type: ignore[arg-type]
        self.mix = _folded(network.mix, network.mix_norm)
        self.head = _folded(network.head, network.head_norm)

    def forward(self, points: Tensor) -> Tensor:
        x, layers = points, []
        near = None
        for edge in self.edges:
            if near is None or not self.in_space:
                near = self.nearest(x)
            x = edge(x, near)
            layers.append(x)
        x = nn.functional.leaky_relu(self.mix(torch.cat(layers, dim=2)), SLOPE)
        return nn.functional.relu(self.head(torch.cat([x.amax(dim=1), x.mean(dim=1)], dim=1)))

    def nearest(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, k): the k nearest points of every point, itself among them."""
        x = x - x.mean(dim=1, keepdim=True)
        closeness = torch.matmul(x, x.transpose(1, 2)) - 0.5 * x.square().sum(dim=2)[:, None]
        return closeness.topk(self.k, dim=2).indices


class Edges(nn.Module):
    """EdgeConv: (B, N, C) and neighbours (B, N, k) -> (B, N, D), as max_j p_j + q_i with BatchNorm in p and q."""

    def __init__(self, edge: EdgeConv) -> None:
        super().__init__()
        width, channels = edge.linear.weight.shape[0], edge.linear.weight.shape[1] // 2
        whole = _folded(edge.linear, edge.norm)
        difference, centre = whole.weight.detach().chunk(2, dim=1)
        self.near = nn.Linear(channels, width, bias=False)
        self.own = nn.Linear(channels, width)
        with torch.no_grad():
            self.near.weight.copy_(difference)
            self.own.weight.copy_(centre - difference)
            self.own.bias.copy_(whole.bias)

    def forward(self, x: Tensor, neighbours: Tensor) -> Tensor:
        p = self.near(x)
        first = torch.arange(p.shape[0], device=p.device)[:, None, None] * p.shape[1]
        edges = p.flatten(0, 1)[neighbours + first]  # (B, N, k, D)
        return nn.functional.leaky_relu(edges.amax(dim=2) + self.own(x), SLOPE)


class Correspondence(nn.Module):
    """Picture features (A, 512) and point features (B, 512) -> logits (A, B) of "same object"."""

    def __init__(self, network: CorrespondenceNetwork) -> None:
        super().__init__()
        hidden = network.first.weight.shape[0]
        self.images, self.points = nn.Linear(FEATURES, hidden), nn.Linear(FEATURES, hidden, bias=False)
        self.second = network.second
        image_weight, point_weight = network.first.weight.detach().chunk(2, dim=1)
        with torch.no_grad():
            self.images.weight.copy_(image_weight)
            self.images.bias.copy_(network.first.bias)
            self.points.weight.copy_(point_weight)

    def forward(self, images: Tensor, points: Tensor) -> Tensor:
        hidden = nn.functional.relu(self.images(images)[:, None] + self.points(points)[None])
        return self.second(hidden).squeeze(-1)


def _folded(linear: nn.Linear, norm: nn.BatchNorm1d) -> nn.Linear:
    """The linear layer and the BatchNorm after it, in encoding, as one linear layer."""
    assert norm.running_mean is not None and norm.running_var is not None
    factor = norm.weight.double() * torch.rsqrt(norm.running_var.double() + norm.eps)
    out = nn.Linear(linear.weight.shape[1], linear.weight.shape[0])
    with torch.no_grad():
        out.weight.copy_(linear.weight.double() * factor[:, None])
        out.bias.copy_(norm.bias.double() - norm.running_mean.double() * factor)
    return out
