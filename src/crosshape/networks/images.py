"""ResNet-18 on one grey channel (He et al., arXiv 1512.03385), with torchvision's parameter names.

Global average pool, no classifier: 512 numbers a view (second-hand). Weights trained on colour pictures load
with `from_colour`: a grey picture is a colour picture with three equal channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crosshape.networks.convolutions import Convolution3x3
from crosshape.settings import FEATURES, NetworkSettings

GREY_MEAN, GREY_STD = 0.45, 0.225
"""Of ImageNet, averaged over its colours; pictures are standardised by these."""


class ImageNetwork(nn.Module):
    """Grey views, uint8 (B, S, S) or float (B, S, S) in 0..1 -> features (B, 512)."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        width = settings.image_width
        self.conv1 = nn.Conv2d(1, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(width, width, stride=1)
        self.layer2 = _stage(width, 2 * width, stride=2)
        self.layer3 = _stage(2 * width, 4 * width, stride=2)
        self.layer4 = _stage(4 * width, 8 * width, stride=2)
        self.widen = nn.Identity() if 8 * width == FEATURES else nn.Linear(8 * width, FEATURES, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, views: Tensor) -> Tensor:
        x = views.float().div(255) if views.dtype == torch.uint8 else views
        x = ((x - GREY_MEAN) / GREY_STD)[:, None].contiguous(memory_format=torch.channels_last)
        x = self.maxpool(nn.functional.relu(self.bn1(self.conv1(x)), inplace=True))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        full = torch.float64 if x.dtype == torch.float64 else torch.float32
        return self.widen(x.mean(dim=(2, 3), dtype=full)).to(full)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = Convolution3x3(channels, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = Convolution3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or channels != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = nn.functional.relu(self.bn1(self.conv1(x)), inplace=True)
        return nn.functional.relu(self.bn2(self.conv2(y)) + shortcut, inplace=True)


def _stage(channels: int, width: int, stride: int) -> nn.Sequential:
    return nn.Sequential(BasicBlock(channels, width, stride), BasicBlock(width, width, 1))


def from_colour(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's ResNet-18 weights (conv1 (64, 3, 7, 7), with or without fc) -> weights for grey views."""
    grey = {name: value for name, value in weights.items() if not name.startswith("fc.")}
    if grey["conv1.weight"].shape[1] == 3:
        grey["conv1.weight"] = grey["conv1.weight"].sum(dim=1, keepdim=True)
    return grey
