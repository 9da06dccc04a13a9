"""EdgeConv on the k nearest neighbours, factored: one small product per point instead of one per edge.

The usual form (Wang et al., Dynamic Graph CNN, arXiv 1801.07829, eq. 8) computes, for every edge,
h_ij = W [x_j - x_i, x_i], then BatchNorm over all edges, LeakyReLU, and the maximum over j. With
W = [W_d, W_c] this is h_ij = p_j + q_i, where p = W_d x and q = (W_c - W_d) x are products per point.
BatchNorm is affine and LeakyReLU is monotonic, so both commute with the maximum (the minimum where the scale
is negative: there the sign is moved into W). The batch statistics over all edges follow from sums over the
neighbours and from in-degrees. Same parameters, same outputs and gradients to rounding.

On a CPU the gathers are numba kernels that run on threads without the GIL, on a CUDA GPU those of `gpu.py`; elsewhere
they are torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crosshape.networks.kernels import array, by_triton, kernel, narrowed, on_threads, widened

SLOPE = 0.2
"""Slope of LeakyReLU below zero (second-hand)."""


class EdgeConv(nn.Module):
    """(B, N, C) and neighbours (B, N, k) -> (B, N, D), equal to the usual EdgeConv with one linear layer.

    `linear.weight` is (D, 2C) for [neighbour - point, point]; `norm` is the BatchNorm over all edges.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * channels, width, bias=False)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x: Tensor, neighbours: Tensor) -> Tensor:
        sign = torch.where(self.norm.weight.detach() >= 0, 1.0, -1.0).to(self.norm.weight.dtype)
        scale = self.norm.weight * sign
        difference, centre = (self.linear.weight * sign[:, None]).chunk(2, dim=1)
        both = nn.functional.linear(x, torch.cat([difference, centre - difference]))
        if self.training:
            y, mean, variance = edge_max_norm(both, scale, self.norm.bias, neighbours, self.norm.eps)
            remember(self.norm, mean * sign, variance, neighbours.numel())
            return y
        assert self.norm.running_mean is not None and self.norm.running_var is not None
        factor = scale * torch.rsqrt(self.norm.running_var + self.norm.eps)
        shift = self.norm.bias - self.norm.running_mean * sign * factor
        return edge_max(both, factor, shift, neighbours)


def edge_max_norm(
    both: Tensor, scale: Tensor, bias: Tensor, neighbours: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(B, N, 2D) [p, q], scale >= 0 -> LeakyReLU(BatchNorm(max_j p_j + q_i)) (B, N, D), mean, variance."""
    if both.device.type == "cpu":
        return _EdgeMaxNorm.apply(both, scale, bias, neighbours, eps)
    if by_triton(both):
        from crosshape.networks import gpu

        return gpu.EdgeMaxNorm.apply(both, scale, bias, neighbours, eps)
    return edge_max_norm_torch(both.to(scale.dtype), scale, bias, neighbours, eps)


def edge_max(both: Tensor, factor: Tensor, shift: Tensor, neighbours: Tensor) -> Tensor:
    """(B, N, 2D) [p, q], factor >= 0 -> LeakyReLU(factor (max_j p_j + q_i) + shift) (B, N, D)."""
    learning = torch.is_grad_enabled() and any(part.requires_grad for part in (both, factor, shift))
    if by_triton(both) and not learning:
        from crosshape.networks import gpu

        return gpu.edge_max(both, factor.detach(), shift.detach(), neighbours)
    if both.device.type == "cpu" and not learning:
        batch, count, width = both.shape[0], both.shape[1], both.shape[2] // 2
        y = torch.empty(batch, count, width, dtype=factor.dtype)
        on_threads(
            _max_affine,
            batch * count,
            array(both.contiguous().view(-1, 2 * width)),
            neighbours.view(-1, neighbours.shape[2]).numpy(),
            factor.detach().numpy(),
            shift.detach().numpy(),
            count,
            y.view(-1, width).numpy(),
        )
        return y
    p, q = both.to(factor.dtype).chunk(2, dim=2)
    return nn.functional.leaky_relu(factor * (gather(p, neighbours).amax(dim=2) + q) + shift, SLOPE)


@torch.no_grad()
def remember(norm: nn.BatchNorm1d, mean: Tensor, variance: Tensor, count: int) -> None:
    """Update running statistics as BatchNorm does: momentum, and the unbiased variance of `count` numbers."""
    assert norm.running_mean is not None and norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked += 1
    weight = norm.momentum if norm.momentum is not None else 1 / int(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), weight)
    norm.running_var.lerp_((variance * (count / max(count - 1, 1))).to(norm.running_var.dtype), weight)


def gather(x: Tensor, neighbours: Tensor) -> Tensor:
    """(B, N, C), (B, N, k) -> (B, N, k, C): the rows of each point's neighbours."""
    batch, count, channels = x.shape
    flat = neighbours.long() + torch.arange(batch, device=x.device)[:, None, None] * count
    return x.reshape(-1, channels)[flat.reshape(-1)].view(batch, count, -1, channels)


def edge_max_norm_torch(
    both: Tensor, scale: Tensor, bias: Tensor, neighbours: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The same as `edge_max_norm` in torch alone, for every device; what the kernels are tested against."""
    p, q = both.chunk(2, dim=2)
    k = neighbours.shape[2]
    edges = gather(p, neighbours)
    top, total = edges.amax(dim=2), edges.sum(dim=2)
    mean_p, mean_q = total.mean(dim=(0, 1)) / k, q.mean(dim=(0, 1))
    variance = (
        (edges - mean_p).square().mean(dim=(0, 1, 2))
        + (q - mean_q).square().mean(dim=(0, 1))
        + 2 * ((q - mean_q) * (total / k - mean_p)).mean(dim=(0, 1))
    )
    mean = mean_p + mean_q
    y = (top + q - mean) * (scale * torch.rsqrt(variance + eps)) + bias
    return nn.functional.leaky_relu(y, SLOPE), mean.detach(), variance.detach()


class _EdgeMaxNorm(torch.autograd.Function):
    """`edge_max_norm` on a CPU, with [p, q] in float32, float64 or bfloat16, all else in the type of scale."""

    @staticmethod
    def forward(
        ctx: Any, both: Tensor, scale: Tensor, bias: Tensor, neighbours: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch, count, k = neighbours.shape
        width = both.shape[2] // 2
        points, edges = batch * count, batch * count * k
        flat = both.detach().contiguous().view(points, 2 * width)
        pairs, near = array(flat), neighbours.view(points, k).numpy()
        scale, bias = scale.detach(), bias.detach()
        total, top = (torch.empty(points, width, dtype=scale.dtype) for _ in range(2))
        slot = torch.empty(points, width, dtype=torch.uint8)
        arrays = total.numpy(), slot.numpy(), top.numpy()
        sums = on_threads(_max_sum, points, pairs, near, count, *arrays)
        first, sources = _reversed(near, count)
        p_sum, q_sum = torch.from_numpy(np.sum(sums, axis=0))
        mean_p, mean_q = p_sum / edges, q_sum / points
        means = mean_p.numpy(), mean_q.numpy()
        sums = on_threads(_squares, points, pairs, total.numpy(), first, *means, k)
        variance = torch.from_numpy(np.sum(sums, axis=0)) / edges
        mean = (mean_p + mean_q).to(scale.dtype)
        rstd = torch.rsqrt(variance + eps).to(scale.dtype)
        factor = scale * rstd
        shift = bias - mean * factor
        y = torch.empty_like(top)
        on_threads(_affine, points, top.numpy(), factor.numpy(), shift.numpy(), y.numpy())
        ctx.save_for_backward(flat, total, slot, top, mean, rstd, factor, shift)
        ctx.graph = near, first, sources
        ctx.count = count
        variance = variance.to(scale.dtype)
        ctx.mark_non_differentiable(mean, variance)
        return y.view(batch, count, width), mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        flat, total, slot, top, mean, rstd, factor, shift = ctx.saved_tensors
        near, first, sources = ctx.graph
        points, width = top.shape
        dy = gradients[0].to(top.dtype).contiguous().view(points, width)
        dz = torch.empty_like(top)
        scales = mean.numpy(), rstd.numpy(), factor.numpy()
        sums = on_threads(
            _activation_back, points, top.numpy(), dy.numpy(), *scales, shift.numpy(), dz.numpy()
        )
        dbias, dscale = torch.from_numpy(np.sum(sums, axis=0)).to(top.dtype)
        shares = (dbias / near.size).numpy(), (dscale / near.size).numpy()
        dboth = torch.empty_like(flat)
        arrays = array(flat), near, total.numpy(), slot.numpy(), dz.numpy()
        clouds = points // ctx.count
        on_threads(
            _edges_back, clouds, *arrays, first, sources, *scales, *shares, ctx.count, array(dboth), least=1
        )
        return dboth.view(clouds, ctx.count, 2 * width), dscale, dbias, None, None


def _reversed(near: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Who has me as a neighbour: row starts (P + 1,), and those points (P k,)."""
    points, k = near.shape
    first = np.zeros(points + 1, np.int64)
    sources = np.empty(points * k, np.int32)
    on_threads(_reverse, points // count, near, count, first, sources, least=1)
    return first, sources


@kernel
def _max_sum(start, stop, both, near, count, total, slot, top):  # type: ignore[no-untyped-def]
    """Per point, sum over the neighbours' p, slot of the largest, and largest plus q; sums of p and q."""
    k, width = near.shape[1], total.shape[1]
    best = np.empty(width, total.dtype)
    acc = np.empty(width, total.dtype)
    arg = np.empty(width, np.uint8)
    sums = np.zeros((2, width), np.float64)
    for i in range(start, stop):
        base = i // count * count
        best[:] = -np.inf
        acc[:] = 0
        arg[:] = 0
        for s in range(0, k - 3, 4):  # four at a time: half the traffic of one at a time
            r0, r1 = both[base + near[i, s]], both[base + near[i, s + 1]]
            r2, r3 = both[base + near[i, s + 2]], both[base + near[i, s + 3]]
            s0, s1, s2, s3 = np.uint8(s), np.uint8(s + 1), np.uint8(s + 2), np.uint8(s + 3)
            for c in range(width):
                v0, v1, v2, v3 = widened(r0[c]), widened(r1[c]), widened(r2[c]), widened(r3[c])
                acc[c] += (v0 + v1) + (v2 + v3)
                left, mark = v1 if v1 > v0 else v0, s1 if v1 > v0 else s0
                right, other = v3 if v3 > v2 else v2, s3 if v3 > v2 else s2
                mark, left = other if right > left else mark, right if right > left else left
                arg[c] = mark if left > best[c] else arg[c]
                best[c] = left if left > best[c] else best[c]
        for s in range(k - k % 4, k):
            row, mark = both[base + near[i, s]], np.uint8(s)
            for c in range(width):
                value = widened(row[c])
                acc[c] += value
                arg[c] = mark if value > best[c] else arg[c]
                best[c] = value if value > best[c] else best[c]
        own = both[i, width:]
        for c in range(width):
            q = widened(own[c])
            total[i, c] = acc[c]
            slot[i, c] = arg[c]
            top[i, c] = best[c] + q
            sums[0, c] += acc[c]
            sums[1, c] += q
    return sums


@kernel
def _squares(start, stop, both, total, first, mean_p, mean_q, k):  # type: ignore[no-untyped-def]
    """Per channel, the sum over edges of (p_j - mean_p + q_i - mean_q)^2, from sums per point."""
    width = total.shape[1]
    sums = np.zeros(width, np.float64)
    for i in range(start, stop):
        degree = first[i + 1] - first[i]
        row, own, near = both[i], both[i, width:], total[i]
        for c in range(width):
            p = widened(row[c]) - mean_p[c]
            q = widened(own[c]) - mean_q[c]
            sums[c] += degree * p * p + q * (k * q + 2 * (near[c] - k * mean_p[c]))
    return sums


@kernel
def _affine(start, stop, top, factor, shift, y):  # type: ignore[no-untyped-def]
    for i in range(start, stop):
        for c in range(y.shape[1]):
            value = factor[c] * top[i, c] + shift[c]
            y[i, c] = value if value >= 0 else value * SLOPE


@kernel
def _max_affine(start, stop, both, near, factor, shift, count, y):  # type: ignore[no-untyped-def]
    k, width = near.shape[1], y.shape[1]
    best = np.empty(width, y.dtype)
    for i in range(start, stop):
        base = i // count * count
        best[:] = -np.inf
        for s in range(0, k - 3, 4):
            r0, r1 = both[base + near[i, s]], both[base + near[i, s + 1]]
            r2, r3 = both[base + near[i, s + 2]], both[base + near[i, s + 3]]
            for c in range(width):
                v0, v1, v2, v3 = widened(r0[c]), widened(r1[c]), widened(r2[c]), widened(r3[c])
                left = v1 if v1 > v0 else v0
                right = v3 if v3 > v2 else v2
                left = right if right > left else left
                best[c] = left if left > best[c] else best[c]
        for s in range(k - k % 4, k):
            row = both[base + near[i, s]]
            for c in range(width):
                value = widened(row[c])
                best[c] = value if value > best[c] else best[c]
        own = both[i, width:]
        for c in range(width):
            value = factor[c] * (best[c] + widened(own[c])) + shift[c]
            y[i, c] = value if value >= 0 else value * SLOPE


@kernel
def _activation_back(start, stop, top, dy, mean, rstd, factor, shift, dz):  # type: ignore[no-untyped-def]
    """dz = dy * LeakyReLU', and per channel the sums of dz and of dz * normalised maximum."""
    width = dz.shape[1]
    sums = np.zeros((2, width), np.float64)
    for i in range(start, stop):
        for c in range(width):
            g = dy[i, c] if factor[c] * top[i, c] + shift[c] >= 0 else dy[i, c] * SLOPE
            dz[i, c] = g
            sums[0, c] += g
            sums[1, c] += g * (top[i, c] - mean[c]) * rstd[c]
    return sums


@kernel
def _edges_back(  # type: ignore[no-untyped-def]
    start, stop, both, near, total, slot, dz, first, sources, mean, rstd, factor, a, b, count, dboth
):
    """Gradients of p and q: dh_ij = factor (g_ij - a - b (p_j + q_i - mean) rstd) summed over i, over j.

    g_ij is not 0 where i chose j: scattered within the cloud. The sum of q_i over who has j as a neighbour
    walks the reversed graph. A cloud has one thread, so every number has one writer.
    """
    k, width = near.shape[1], total.shape[1]
    picked = np.empty((count, width), total.dtype)
    around = np.empty(width, total.dtype)
    for cloud in range(start, stop):
        base = cloud * count
        picked[:] = 0
        for i in range(base, base + count):
            places, marks, gradient = near[i], slot[i], dz[i]
            for c in range(width):
                picked[places[marks[c]], c] += gradient[c]
        for i in range(base, base + count):
            around[:] = 0
            edge, last = first[i], first[i + 1]
            degree = last - edge
            while edge + 4 <= last:
                q0, q1 = both[sources[edge], width:], both[sources[edge + 1], width:]
                q2, q3 = both[sources[edge + 2], width:], both[sources[edge + 3], width:]
                for c in range(width):
                    around[c] += (widened(q0[c]) + widened(q1[c])) + (widened(q2[c]) + widened(q3[c]))
                edge += 4
            while edge < last:
                q0 = both[sources[edge], width:]
                for c in range(width):
                    around[c] += widened(q0[c])
                edge += 1
            row, own, dp, dq = both[i], both[i, width:], dboth[i], dboth[i, width:]
            for c in range(width):
                p, q = widened(row[c]), widened(own[c])
                spread = b[c] * rstd[c]
                chosen = picked[i - base, c] - degree * a[c]
                dp[c] = narrowed(factor[c] * (chosen - spread * (degree * (p - mean[c]) + around[c])), dp[c])
                chosen = dz[i, c] - k * a[c]
                dq[c] = narrowed(factor[c] * (chosen - spread * (total[i, c] + k * (q - mean[c]))), dq[c])


@kernel
def _reverse(start, stop, near, count, first, sources):  # type: ignore[no-untyped-def]
    """Reverse the graph of the clouds start..stop by counting."""
    k = near.shape[1]
    degree = np.empty(count + 1, np.int64)
    for cloud in range(start, stop):
        base = cloud * count
        degree[:] = 0
        for i in range(count):
            for s in range(k):
                degree[near[base + i, s] + 1] += 1
        edge = base * k
        for i in range(count):
            degree[i + 1] += degree[i]
        for i in range(count):
            first[base + i + 1] = edge + degree[i + 1]
        for i in range(count):
            for s in range(k):
                j = near[base + i, s]
                sources[edge + degree[j]] = base + i
                degree[j] += 1
