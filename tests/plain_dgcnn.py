"""DGCNN in its usual form, as users know it: features per edge, a 1x1 convolution over them, maximum.

What the factored form is tested against; takes its weights from a PointNetwork.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crosshape.networks.points import PointNetwork


def edge_features(x: Tensor, k: int) -> Tensor:
    """(B, C, N) -> (B, 2C, N, k): [neighbour - point, point] over each point's k nearest neighbours."""
    inner = -2 * torch.matmul(x.transpose(2, 1), x)
    square = torch.sum(x**2, dim=1, keepdim=True)
    neighbours = (-square - inner - square.transpose(2, 1)).topk(k=k, dim=-1)[1]
    batch, channels, count = x.shape
    rows = x.transpose(2, 1)
    flat = neighbours + torch.arange(batch, device=x.device)[:, None, None] * count
    near = rows.reshape(batch * count, channels)[flat.reshape(-1)].view(batch, count, k, channels)
    centre = rows[:, :, None].expand_as(near)
    return torch.cat([near - centre, centre], dim=3).permute(0, 3, 1, 2)


class PlainDGCNN(nn.Module):
    def __init__(self, network: PointNetwork) -> None:
        super().__init__()
        self.k = network.k
        self.convolutions = nn.ModuleList()
        for edge in network.edges:
            width, channels = edge.linear.weight.shape
            convolution = nn.Conv2d(channels, width, 1, bias=False)
            convolution.weight.data.copy_(edge.linear.weight.detach()[:, :, None, None])
            norm = nn.BatchNorm2d(width)
            norm.load_state_dict(edge.norm.state_dict())
            self.convolutions.append(nn.Sequential(convolution, norm, nn.LeakyReLU(0.2)))
        width, channels = network.mix.weight.shape
        mix = nn.Conv1d(channels, width, 1, bias=False)
        mix.weight.data.copy_(network.mix.weight.detach()[:, :, None])
        norm1 = nn.BatchNorm1d(width)
        norm1.load_state_dict(network.mix_norm.state_dict())
        self.mix = nn.Sequential(mix, norm1, nn.LeakyReLU(0.2))
        self.head = nn.Linear(2 * width, network.head.weight.shape[0], bias=False)
        self.head.load_state_dict(network.head.state_dict())
        self.head_norm = nn.BatchNorm1d(network.head.weight.shape[0])
        self.head_norm.load_state_dict(network.head_norm.state_dict())

    def forward(self, points: Tensor) -> Tensor:
        x, layers = points.transpose(2, 1), []
        for convolution in self.convolutions:
            x = convolution(edge_features(x, self.k)).max(dim=-1)[0]
            layers.append(x)
        x = self.mix(torch.cat(layers, dim=1))
        x = torch.cat([x.amax(dim=2), x.mean(dim=2)], dim=1)
        return torch.relu(self.head_norm(self.head(x)))
