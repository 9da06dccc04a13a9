"""BatchNorm, LeakyReLU, maximum and mean over the points of a cloud, in one pass forward and one back.

The usual form keeps three tensors of the widest layer (B, N, W) for the backward pass; this one keeps its
input. Same outputs, gradients and running statistics to rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crosshape.networks.edges import SLOPE, remember
from crosshape.networks.kernels import array, kernel, narrowed, on_threads, widened


def norm_pool(z: Tensor, norm: nn.BatchNorm1d) -> Tensor:
    """(B, N, W) -> (B, 2 W): maximum and mean over the points of LeakyReLU(BatchNorm(z))."""
    if z.device.type != "cpu":
        return norm_pool_torch(z, norm)
    assert norm.running_mean is not None and norm.running_var is not None
    z = z.contiguous()
    if not norm.training:
        factor = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        shift = norm.bias - norm.running_mean * factor
        if torch.is_grad_enabled() and (z.requires_grad or factor.requires_grad):
            y = nn.functional.leaky_relu(z.to(factor.dtype) * factor + shift, SLOPE)
            return torch.cat([y.amax(dim=1), y.mean(dim=1)], dim=1)
        return _pool(z, factor.detach(), shift.detach())[0]
    pooled, mean, variance = _NormPool.apply(z, norm.weight, norm.bias, norm.eps)
    remember(norm, mean, variance, z.shape[0] * z.shape[1])
    return pooled


def norm_pool_torch(z: Tensor, norm: nn.BatchNorm1d) -> Tensor:
    """The same as `norm_pool` in torch alone, for every device, in the type of the norm's weight."""
    z = z.to(norm.weight.dtype)  # bfloat16 under autocast: rounded once, and not again by every operation
    y = nn.functional.leaky_relu(norm(z.flatten(0, 1)).view(z.shape), SLOPE)
    return torch.cat([y.amax(dim=1), y.mean(dim=1)], dim=1)


def _pool(z: Tensor, factor: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Pooled (B, 2 W) and the place (B, W) of each maximum."""
    batch, _, width = z.shape
    pooled = torch.empty(batch, 2 * width, dtype=factor.dtype)
    place = torch.empty(batch, width, dtype=torch.int32)
    arrays = array(z), factor.numpy(), shift.numpy(), pooled.numpy(), place.numpy()
    on_threads(_max_mean, batch, *arrays, least=1)
    return pooled, place


class _NormPool(torch.autograd.Function):
    """`norm_pool` of z in float32, float64 or bfloat16, all else in the type of weight."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        z, weight, bias = z.detach(), weight.detach(), bias.detach()
        flat = z.view(-1, z.shape[2])
        guess = flat[0].to(weight.dtype)
        sums = np.sum(on_threads(_moments, flat.shape[0], array(flat), guess.numpy()), axis=0)
        offset, square = torch.from_numpy(sums) / flat.shape[0]
        variance = (square - offset.square()).clamp_min(0)
        mean = (guess + offset).to(weight.dtype)
        rstd = torch.rsqrt(variance + eps).to(weight.dtype)
        factor = weight * rstd
        shift = bias - mean * factor
        pooled, place = _pool(z, factor, shift)
        ctx.save_for_backward(z, place, mean, rstd, factor, shift)
        variance = variance.to(weight.dtype)
        ctx.mark_non_differentiable(mean, variance)
        return pooled, mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        z, place, mean, rstd, factor, shift = ctx.saved_tensors
        batch, count = z.shape[:2]
        gradient = gradients[0].to(factor.dtype).contiguous()
        parts = place, gradient, factor, shift, mean, rstd
        arrays = array(z), *(part.numpy() for part in parts)
        sums = np.sum(on_threads(_pool_sums, batch, *arrays, least=1), axis=0)
        dbias, dweight = torch.from_numpy(sums).to(factor.dtype)
        dz = torch.empty_like(z)
        shares = (dbias / (batch * count)).numpy(), (dweight / (batch * count)).numpy()
        on_threads(_pool_back, batch, *arrays, *shares, array(dz), least=1)
        return dz, dweight, dbias, None


@kernel
def _moments(start, stop, z, guess):  # type: ignore[no-untyped-def]
    """Per channel, the sums of z - guess and of its square, in float64."""
    width = z.shape[1]
    sums = np.zeros((2, width), np.float64)
    for i in range(start, stop):
        for c in range(width):
            d = np.float64(widened(z[i, c]) - guess[c])
            sums[0, c] += d
            sums[1, c] += d * d
    return sums


@kernel
def _max_mean(start, stop, z, factor, shift, pooled, place):  # type: ignore[no-untyped-def]
    count, width = z.shape[1], z.shape[2]
    best = np.empty(width, factor.dtype)
    where = np.empty(width, np.int32)
    total = np.empty(width, factor.dtype)
    part = np.empty(width, factor.dtype)
    for b in range(start, stop):
        best[:] = -np.inf
        where[:] = 0
        total[:] = 0
        for block in range(0, count, 64):
            part[:] = 0
            for i in range(block, min(block + 64, count)):
                row = z[b, i]
                for c in range(width):
                    value = factor[c] * widened(row[c]) + shift[c]
                    value = value if value >= 0 else value * SLOPE
                    part[c] += value
                    higher = value > best[c]
                    best[c] = value if higher else best[c]
                    where[c] = i if higher else where[c]
            for c in range(width):
                total[c] += part[c]
        for c in range(width):
            pooled[b, c] = best[c]
            pooled[b, width + c] = total[c] / count
            place[b, c] = where[c]


@kernel
def _pool_sums(start, stop, z, place, gradient, factor, shift, mean, rstd):  # type: ignore[no-untyped-def]
    """Per channel, the sums of the gradient before the activation and of it times the normalised z."""
    count, width = z.shape[1], z.shape[2]
    sums = np.zeros((2, width), np.float64)
    plain = np.empty(width, factor.dtype)
    moved = np.empty(width, factor.dtype)
    for b in range(start, stop):
        for block in range(0, count, 64):
            plain[:] = 0
            moved[:] = 0
            for i in range(block, min(block + 64, count)):
                row = z[b, i]
                for c in range(width):
                    value = widened(row[c])
                    slope = 1.0 if factor[c] * value + shift[c] >= 0 else SLOPE
                    plain[c] += slope
                    moved[c] += slope * (value - mean[c])
            for c in range(width):
                share = gradient[b, width + c] / count
                sums[0, c] += share * plain[c]
                sums[1, c] += share * moved[c] * rstd[c]
        for c in range(width):
            top = widened(z[b, place[b, c], c])
            g = gradient[b, c] if factor[c] * top + shift[c] >= 0 else gradient[b, c] * SLOPE
            sums[0, c] += g
            sums[1, c] += g * (top - mean[c]) * rstd[c]
    return sums


@kernel
def _pool_back(start, stop, z, place, gradient, factor, shift, mean, rstd, a, b, dz):  # type: ignore[no-untyped-def]
    count, width = z.shape[1], z.shape[2]
    share = np.empty(width, factor.dtype)
    spread = np.empty(width, factor.dtype)
    for cloud in range(start, stop):
        for c in range(width):
            share[c] = gradient[cloud, width + c] / count
            spread[c] = b[c] * rstd[c]
        for i in range(count):
            row, out = z[cloud, i], dz[cloud, i]
            for c in range(width):
                value = widened(row[c])
                slope = 1.0 if factor[c] * value + shift[c] >= 0 else SLOPE
                value = factor[c] * (share[c] * slope - a[c] - spread[c] * (value - mean[c]))
                out[c] = narrowed(value, out[c])
        for c in range(width):  # the maximum's place, again with its own share of the gradient
            i = place[cloud, c]
            value = widened(z[cloud, i, c])
            slope = 1.0 if factor[c] * value + shift[c] >= 0 else SLOPE
            value = (share[c] + gradient[cloud, c]) * slope - a[c] - spread[c] * (value - mean[c])
            dz[cloud, i, c] = narrowed(factor[c] * value, dz[cloud, i, c])
