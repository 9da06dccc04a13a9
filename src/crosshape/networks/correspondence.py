"""The judge: do this picture and this cloud belong to the same object? Two fully connected layers.

The hidden width is second-hand. The first layer splits, W [f_img, f_pts] = W_i f_img + W_p f_pts, so all
pictures are judged against all clouds for little more than the pairs alone.
"""

from __future__ import annotations

from torch import Tensor, nn

from crosshape.settings import FEATURES, NetworkSettings


class CorrespondenceNetwork(nn.Module):
    """Picture features (B, 512) and point features (B, 512) -> logits (B,) of "same object"."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.first = nn.Linear(2 * FEATURES, settings.hidden)
        self.second = nn.Linear(settings.hidden, 1)

    def forward(self, images: Tensor, points: Tensor) -> Tensor:
        left, right = self._halves(images, points)
        return self.second(nn.functional.relu(left + right)).float().squeeze(-1)

    def all_pairs(self, images: Tensor, points: Tensor) -> Tensor:
        """Picture features (A, 512) and point features (B, 512) -> logits (A, B)."""
        left, right = self._halves(images, points)
        return self.second(nn.functional.relu(left[:, None] + right)).float().squeeze(-1)

    def _halves(self, images: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        image_weight, point_weight = self.first.weight.chunk(2, dim=1)
        left = nn.functional.linear(images, image_weight, self.first.bias)
        return left, nn.functional.linear(points, point_weight)
