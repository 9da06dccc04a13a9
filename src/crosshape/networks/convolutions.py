"""3 x 3 convolution whose weights get their gradient from one matrix product where few places are left.

In bfloat16 on a CPU, oneDNN's gradient of the weights takes up to 3.7 times as long as the product of output
gradients and unfolded input where a batch has few output places, as in the last stages of ResNet-18
(docs/speed.md). The product is the same sum in another order.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

PLACES = 2048
"""Output places of a batch up to which the product is used; above, oneDNN is as fast or faster."""


class Convolution3x3(nn.Conv2d):
    """nn.Conv2d of 3 x 3 with padding 1 and no bias: same parameters, same results to rounding."""

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__(channels, width, 3, stride=stride, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        stride = self.stride[0]
        places = x.shape[0] * -(-x.shape[2] // stride) * -(-x.shape[3] // stride)
        if x.dtype == torch.bfloat16 and x.device.type == "cpu" and places <= PLACES:
            return _Convolution.apply(x, self.weight.to(x.dtype), stride)
        return super().forward(x)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return nn.functional.conv2d(x, weight, None, stride, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        step = [ctx.stride, ctx.stride]
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = torch.ops.aten.convolution_backward(
                gradient, x, weight, None, step, [1, 1], [1, 1], False, [0, 0], 1, [True, False, False]
            )[0]
        flat = gradient.permute(0, 2, 3, 1).reshape(-1, len(weight))
        product = flat.t() @ unfolded(x, ctx.stride)
        return dx, product.view(len(weight), 3, 3, -1).permute(0, 3, 1, 2), None


def unfolded(x: Tensor, stride: int) -> Tensor:
    """(B, C, H, W) -> (B H' W', 9 C): the 3 x 3 places that a convolution with padding 1 reads, row by row."""
    picture = nn.functional.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    batch, height, width, channels = picture.shape
    rows, columns = (height - 3) // stride + 1, (width - 3) // stride + 1
    over, down, right, along = picture.stride()
    size = batch, rows, columns, 3, 3, channels
    windows = picture.as_strided(size, (over, stride * down, stride * right, down, right, along))
    return windows.reshape(batch * rows * columns, 9 * channels)
