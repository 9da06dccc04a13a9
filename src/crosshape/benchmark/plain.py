"""The textbook networks that crosshape is measured against. No part of the product uses them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crosshape.networks.edges import EdgeConv
from crosshape.networks.images import GREY_MEAN, GREY_STD, ImageNetwork
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
    """DGCNN as users know it, with a PointNetwork's weights: features per edge, a 1x1 convolution, maximum."""

    def __init__(self, network: PointNetwork) -> None:
        super().__init__()
        self.k = network.k
        self.convolutions = nn.ModuleList()
        for edge in network.edges:
            assert isinstance(edge, EdgeConv)
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
        """Clouds (B, N, 3) -> (B, 512)."""
        x, layers = points.transpose(2, 1), []
        for convolution in self.convolutions:
            x = convolution(edge_features(x, self.k)).max(dim=-1)[0]
            layers.append(x)
        x = self.mix(torch.cat(layers, dim=1))
        x = torch.cat([x.amax(dim=2), x.mean(dim=2)], dim=1)
        return torch.relu(self.head_norm(self.head(x)))


class PlainResNet18(nn.Module):
    """ResNet-18 in float32, channels first, with an ImageNetwork's weights (He et al., arXiv 1512.03385)."""

    def __init__(self, network: ImageNetwork) -> None:
        super().__init__()
        width = network.conv1.weight.shape[0]
        self.conv1 = nn.Conv2d(1, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = nn.Sequential(PlainBlock(width, width, 1), PlainBlock(width, width, 1))
        self.layer2 = nn.Sequential(PlainBlock(width, 2 * width, 2), PlainBlock(2 * width, 2 * width, 1))
        self.layer3 = nn.Sequential(PlainBlock(2 * width, 4 * width, 2), PlainBlock(4 * width, 4 * width, 1))
        self.layer4 = nn.Sequential(PlainBlock(4 * width, 8 * width, 2), PlainBlock(8 * width, 8 * width, 1))
        state = {name: value.contiguous() for name, value in network.state_dict().items()}
        self.load_state_dict(state, strict="widen.weight" not in state)
        self.widen = network.widen

    def forward(self, views: Tensor) -> Tensor:
        """Views float (B, S, S) in 0..1 or uint8 -> (B, 512)."""
        x = views.float() / 255 if views.dtype == torch.uint8 else views
        x = ((x - GREY_MEAN) / GREY_STD).unsqueeze(1)
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.widen(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))


class PlainBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or channels != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + shortcut)


def joint_step(
    images: nn.Module,
    points: nn.Module,
    judge: nn.Module,
    optimiser: torch.optim.Optimizer,
    clouds: Tensor,
    view_a: Tensor,
    view_b: Tensor,
    margin: float = 2.0,
    weight: float = 3.0,
) -> Tensor:
    """A step of arXiv 2004.05749: triplet of views, pairs of view and cloud; `judge` is two linear layers."""
    size = len(clouds)
    feature = points(clouds)
    image_a, image_b = images(torch.cat([view_a, view_b])).chunk(2)
    other = image_a.roll(1, dims=0)
    cross_view = nn.functional.triplet_margin_loss(image_a, image_b, other, margin=margin)
    pairs = torch.cat([torch.cat([image, feature], dim=1) for image in (image_a, image_b, other)])
    logits = judge(pairs).squeeze(1)
    truth = torch.cat([torch.ones(2 * size), torch.zeros(size)]).to(logits.device)
    loss = cross_view + weight * nn.functional.binary_cross_entropy_with_logits(logits, truth)
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], 10.0)
    optimiser.step()
    return loss.detach()
