"""The judge: do this picture and this cloud belong to the same object? Two fully connected layers.

The hidden width is second-hand. The first layer splits, W [f_img, f_pts] = W_i f_img + W_p f_pts, so all
pictures are judged against all clouds for little more than the pairs alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crosshape.networks.kernels import kernel, on_threads
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
        """Picture features (A, 512) and point features (B, 512) -> logits (A, B).

        Without gradients on a CPU the (A, B, hidden) tensor between the layers is never made.
        """
        left, right = self._halves(images, points)
        if not torch.is_grad_enabled() and left.device.type == "cpu" and left.dtype == torch.float32:
            weight, bias = self.second.weight[0].numpy(), float(self.second.bias)
            logits = torch.empty(len(left), len(right))
            arrays = left.contiguous().numpy(), right.contiguous().numpy(), weight, bias, logits.numpy()
            on_threads(_pair_logits, len(left), *arrays, least=8)
            return logits
        return self.second(nn.functional.relu(left[:, None] + right)).float().squeeze(-1)

    def _halves(self, images: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        image_weight, point_weight = self.first.weight.chunk(2, dim=1)
        left = nn.functional.linear(images, image_weight, self.first.bias)
        return left, nn.functional.linear(points, point_weight)


@kernel
def _pair_logits(start, stop, left, right, weight, bias, logits):  # type: ignore[no-untyped-def]
    for i in range(start, stop):
        row = left[i]
        for j in range(len(right)):
            other = right[j]
            total = weight[0] * 0
            for h in range(len(weight)):
                value = row[h] + other[h]
                total += weight[h] * (value if value > 0 else value * 0)
            logits[i, j] = total + bias
