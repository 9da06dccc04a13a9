"""EdgeConv on the k nearest neighbours, factored: one small product per point instead of one per edge.

The usual form (Wang et al., Dynamic Graph CNN, arXiv 1801.07829, eq. 8) computes, for every edge,
h_ij = W [x_j - x_i, x_i], then BatchNorm over all edges, LeakyReLU, and the maximum over j. With
W = [W_d, W_c] this is h_ij = p_j + q_i, where p = W_d x and q = (W_c - W_d) x are products per point.
BatchNorm is affine and LeakyReLU is monotonic, so both commute with the maximum (the minimum where the scale
is negative: there the sign is moved into W). The batch statistics over all edges follow from sums over the
neighbours and from in-degrees. Same parameters, same outputs and gradients to rounding.

On a CPU the gathers are numba kernels that run on threads without the GIL; elsewhere they are torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crosshape.networks.kernels import kernel, on_threads

SLOPE = 0.2
"""Slope of LeakyReLU below zero (second-hand)."""

_BLOCK = 1 << 22
"""Distances held at once on a CPU: 16 MB in float32, which stays in the last-level cache."""


def nearest_neighbours(x: Tensor, k: int) -> Tensor:
    """(B, N, C) -> (B, N, k) int32: each point's k nearest points, itself among them, in no fixed order.

    Distances are Euclidean, computed in the type of x from centred points, never in bfloat16.
    """
    count = x.shape[1]
    if k > count:
        raise ValueError(f"k = {k} neighbours were asked of clouds of {count} points; use k <= {count}")
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        x = x.detach()
        x = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        x = x - x.mean(dim=1, keepdim=True)
        half = x.square().sum(dim=2).mul_(0.5)
        if x.device.type != "cpu":
            order = torch.baddbmm(half[:, None], x, x.transpose(1, 2), alpha=-1)
            return order.topk(k, dim=2, largest=False, sorted=False).indices.int()
        found = torch.empty(x.shape[0], count, k, dtype=torch.int32)
        rows = found.view(-1, k).numpy()
        step = max(1, _BLOCK // (count * count))
        for start in range(0, x.shape[0], step):
            part = x[start : start + step]
            dots = torch.bmm(part, part.transpose(1, 2)).view(-1, count).numpy()
            norms = half[start : start + step].numpy()
            on_threads(_nearest, len(dots), dots, norms, rows[start * count :])
        return found


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
        both = both.to(self.norm.weight.dtype)
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
    return edge_max_norm_torch(both, scale, bias, neighbours, eps)


def edge_max(both: Tensor, factor: Tensor, shift: Tensor, neighbours: Tensor) -> Tensor:
    """(B, N, 2D) [p, q], factor >= 0 -> LeakyReLU(factor (max_j p_j + q_i) + shift) (B, N, D)."""
    if both.device.type == "cpu" and not (torch.is_grad_enabled() and both.requires_grad):
        batch, count, width = both.shape[0], both.shape[1], both.shape[2] // 2
        y = torch.empty(batch, count, width, dtype=both.dtype)
        on_threads(
            _max_affine,
            batch * count,
            both.detach().contiguous().view(-1, 2 * width).numpy(),
            neighbours.view(-1, neighbours.shape[2]).numpy(),
            factor.detach().numpy(),
            shift.detach().numpy(),
            count,
            y.view(-1, width).numpy(),
        )
        return y
    p, q = both.chunk(2, dim=2)
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
    """`edge_max_norm` on a CPU; the backward pass walks the reversed graph, so every row has one writer."""

    @staticmethod
    def forward(
        ctx: Any, both: Tensor, scale: Tensor, bias: Tensor, neighbours: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch, count, k = neighbours.shape
        width = both.shape[2] // 2
        points, edges = batch * count, batch * count * k
        flat = both.detach().contiguous().view(points, 2 * width)
        near = neighbours.view(points, k).numpy()
        total = torch.empty(points, width, dtype=both.dtype)
        slot = torch.empty(points, width, dtype=torch.uint8)
        sums = on_threads(_max_sum, points, flat.numpy(), near, count, total.numpy(), slot.numpy())
        first, sources, slots = _reversed(near, count)
        p_sum, q_sum = torch.from_numpy(np.sum(sums, axis=0))
        mean_p, mean_q = p_sum / edges, q_sum / points
        sums = on_threads(
            _squares, points, flat.numpy(), total.numpy(), first, mean_p.numpy(), mean_q.numpy(), k
        )
        variance = torch.from_numpy(np.sum(sums, axis=0)) / edges
        mean = (mean_p + mean_q).to(both.dtype)
        rstd = torch.rsqrt(variance + eps).to(both.dtype)
        factor = scale.detach() * rstd
        shift = bias.detach() - mean * factor
        y = torch.empty(points, width, dtype=both.dtype)
        on_threads(
            _picked_affine,
            points,
            flat.numpy(),
            near,
            slot.numpy(),
            factor.numpy(),
            shift.numpy(),
            count,
            y.numpy(),
        )
        ctx.save_for_backward(flat, total, slot, y, mean, rstd, scale.detach(), bias.detach())
        ctx.graph = near, first, sources, slots
        ctx.count, ctx.k = count, k
        variance = variance.to(both.dtype)
        ctx.mark_non_differentiable(mean, variance)
        return y.view(batch, count, width), mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        flat, total, slot, y, mean, rstd, scale, bias = ctx.saved_tensors
        near, first, sources, slots = ctx.graph
        count, k = ctx.count, ctx.k
        points, width = y.shape
        dy = gradients[0].contiguous().view(points, width)
        dz = torch.empty_like(y)
        sums = on_threads(
            _activation_back,
            points,
            flat.numpy(),
            near,
            slot.numpy(),
            y.numpy(),
            dy.numpy(),
            mean.numpy(),
            rstd.numpy(),
            count,
            dz.numpy(),
        )
        summed = torch.from_numpy(np.sum(sums, axis=0))
        dbias, dscale = summed[0].to(y.dtype), summed[1].to(y.dtype)
        edges = points * k
        dboth = torch.empty_like(flat)
        on_threads(
            _edges_back,
            points,
            flat.numpy(),
            total.numpy(),
            slot.numpy(),
            dz.numpy(),
            first,
            sources,
            slots,
            mean.numpy(),
            rstd.numpy(),
            (scale * rstd).numpy(),
            (dbias / edges).numpy(),
            (dscale / edges).numpy(),
            k,
            dboth.numpy(),
        )
        return dboth.view(-1, count, 2 * width), dscale, dbias, None, None


def _reversed(near: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Who has me as a neighbour: row starts (P + 1,), the points (P k,) and my slot with them (P k,)."""
    points, k = near.shape
    first = np.zeros(points + 1, np.int64)
    sources = np.empty(points * k, np.int32)
    slots = np.empty(points * k, np.uint8)
    on_threads(_reverse, points // count, near, count, first, sources, slots, least=1)
    return first, sources, slots


@kernel
def _nearest(start, stop, dots, norms, found):  # type: ignore[no-untyped-def]
    """The k smallest of |x_j|^2 / 2 - x_i x_j for each row of dots (B N, N), into found (B N, k).

    The minima of 64 interleaved groups bound the k-th smallest number from above (k groups hold one number
    each that is no larger), so one pass keeps little more than k candidates.
    """
    count, k = dots.shape[1], found.shape[1]
    groups = 64
    while groups < 2 * k:
        groups *= 2
    minima = np.empty(groups, dots.dtype)
    heap = np.empty(k, dots.dtype)
    values = np.empty(count, dots.dtype)
    kept = np.empty(count, np.int32)
    for row in range(start, stop):
        line, norm = dots[row], norms[row // count]
        for j in range(count):
            values[j] = norm[j] - line[j]
        bound = np.inf
        if count >= 4 * groups:
            for g in range(groups):
                minima[g] = values[g]
            whole = count // groups
            for block in range(1, whole):
                base = block * groups
                for g in range(groups):
                    minima[g] = min(minima[g], values[base + g])
            bound = _kth(minima, k)
        size = 0
        for place in range(count):
            if values[place] <= bound:
                kept[size] = place
                size += 1
        if size <= k:  # below k only where numbers are not numbers: any places will do
            for slot in range(size, k):
                kept[slot] = slot
            for slot in range(k):
                found[row, slot] = kept[slot]
            continue
        for slot in range(k):
            heap[slot] = values[kept[slot]]
            found[row, slot] = kept[slot]
        worst, limit = _largest(heap)
        for slot in range(k, size):
            value = values[kept[slot]]
            if value < limit:
                heap[worst] = value
                found[row, worst] = kept[slot]
                worst, limit = _largest(heap)


@kernel
def _largest(values):  # type: ignore[no-untyped-def]
    place, best = 0, values[0]
    for i in range(1, values.shape[0]):
        if values[i] > best:
            place, best = i, values[i]
    return place, best


@kernel
def _kth(values, k):  # type: ignore[no-untyped-def]
    """The k-th smallest number; reorders values (quickselect)."""
    low, high, target = 0, values.shape[0] - 1, k - 1
    while low < high:
        pivot = values[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if target <= j:
            high = j
        elif target >= i:
            low = i
        else:
            break
    return values[target]


@kernel
def _max_sum(start, stop, both, near, count, total, slot):  # type: ignore[no-untyped-def]
    """Per point, sum over the neighbours' p and the slot of the largest; per channel, sums of both halves."""
    k, width = near.shape[1], total.shape[1]
    best = np.empty(width, both.dtype)
    acc = np.empty(width, both.dtype)
    arg = np.empty(width, np.uint8)
    sums = np.zeros((2, width), np.float64)
    for i in range(start, stop):
        base = i // count * count
        row = both[base + near[i, 0]]
        for c in range(width):
            best[c] = row[c]
            acc[c] = row[c]
            arg[c] = 0
        for s in range(1, k):
            row = both[base + near[i, s]]
            mark = np.uint8(s)
            for c in range(width):
                value = row[c]
                acc[c] += value
                higher = value > best[c]
                best[c] = value if higher else best[c]
                arg[c] = mark if higher else arg[c]
        for c in range(width):
            total[i, c] = acc[c]
            slot[i, c] = arg[c]
            sums[0, c] += acc[c]
            sums[1, c] += both[i, width + c]
    return sums


@kernel
def _squares(start, stop, both, total, first, mean_p, mean_q, k):  # type: ignore[no-untyped-def]
    """Per channel, the sum over edges of (p_j - mean_p + q_i - mean_q)^2, from sums per point."""
    width = total.shape[1]
    sums = np.zeros(width, np.float64)
    for i in range(start, stop):
        degree = first[i + 1] - first[i]
        row, near = both[i], total[i]
        for c in range(width):
            p = row[c] - mean_p[c]
            q = row[width + c] - mean_q[c]
            sums[c] += degree * p * p + q * (k * q + 2 * (near[c] - k * mean_p[c]))
    return sums


@kernel
def _picked_affine(start, stop, both, near, slot, factor, shift, count, y):  # type: ignore[no-untyped-def]
    width = y.shape[1]
    for i in range(start, stop):
        base = i // count * count
        for c in range(width):
            top = both[base + near[i, slot[i, c]], c]
            value = factor[c] * (top + both[i, width + c]) + shift[c]
            y[i, c] = value if value >= 0 else value * SLOPE


@kernel
def _max_affine(start, stop, both, near, factor, shift, count, y):  # type: ignore[no-untyped-def]
    k, width = near.shape[1], y.shape[1]
    best = np.empty(width, both.dtype)
    for i in range(start, stop):
        base = i // count * count
        row = both[base + near[i, 0]]
        for c in range(width):
            best[c] = row[c]
        for s in range(1, k):
            row = both[base + near[i, s]]
            for c in range(width):
                best[c] = max(best[c], row[c])
        for c in range(width):
            value = factor[c] * (best[c] + both[i, width + c]) + shift[c]
            y[i, c] = value if value >= 0 else value * SLOPE


@kernel
def _activation_back(start, stop, both, near, slot, y, dy, mean, rstd, count, dz):  # type: ignore[no-untyped-def]
    """dz = dy * LeakyReLU', and per channel the sums of dz and of dz * normalised maximum."""
    width = y.shape[1]
    sums = np.zeros((2, width), np.float64)
    for i in range(start, stop):
        base = i // count * count
        for c in range(width):
            g = dy[i, c] if y[i, c] >= 0 else dy[i, c] * SLOPE
            top = both[base + near[i, slot[i, c]], c]
            dz[i, c] = g
            sums[0, c] += g
            sums[1, c] += g * (top + both[i, width + c] - mean[c]) * rstd[c]
    return sums


@kernel
def _edges_back(  # type: ignore[no-untyped-def]
    start, stop, both, total, slot, dz, first, sources, slots, mean, rstd, factor, a, b, k, dboth
):
    """Gradients of p and q: dh_ij = factor (g_ij - a - b (p_j + q_i - mean) rstd) summed over i, over j."""
    width = total.shape[1]
    picked = np.empty(width, both.dtype)
    around = np.empty(width, both.dtype)
    for i in range(start, stop):
        picked[:] = 0
        around[:] = 0
        for e in range(first[i], first[i + 1]):
            source, mark = sources[e], slots[e]
            gradient, row, marks = dz[source], both[source], slot[source]
            for c in range(width):
                around[c] += row[width + c]
                picked[c] += gradient[c] if marks[c] == mark else 0
        degree = first[i + 1] - first[i]
        for c in range(width):
            p, q = both[i, c], both[i, width + c]
            spread = b[c] * rstd[c]
            dboth[i, c] = factor[c] * (
                picked[c] - degree * a[c] - spread * (degree * (p - mean[c]) + around[c])
            )
            dboth[i, width + c] = factor[c] * (
                dz[i, c] - k * a[c] - spread * (total[i, c] + k * (q - mean[c]))
            )


@kernel
def _reverse(start, stop, near, count, first, sources, slots):  # type: ignore[no-untyped-def]
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
                place = edge + degree[j]
                degree[j] += 1
                sources[place] = base + i
                slots[place] = s
