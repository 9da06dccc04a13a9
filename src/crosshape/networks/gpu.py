"""The kernels of EdgeConv and of the search for neighbours once more, for CUDA GPUs, in Triton.

The same sums as in `edges.py` and `neighbours.py`, where they are explained: no tensor of edges (B, N, k, D) is made,
forward or back. Gradients that meet in one place are added by atomics, so two runs differ in the last bits.
Triton comes with PyTorch for CUDA on Linux; where it is missing, torch alone does the work. Without a GPU the
kernels can be tried in Triton's interpreter (TRITON_INTERPRET=1, tests/test_kernels.py).
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from crosshape.networks import edges

SLOPE = tl.constexpr(edges.SLOPE)
_TILE = 2048
"""Numbers (points x channels) that a program holds at once."""
_TILES = 4
"""Tiles a program goes through when it sums."""


def smallest(values: Tensor, k: int) -> Tensor:
    """(B, N, M) float32 -> (B, N, k) int32: where the k smallest numbers of each row are, in order of place."""
    rows, width = values.shape[0] * values.shape[1], values.shape[2]
    found = torch.empty(*values.shape[:2], k, dtype=torch.int32, device=values.device)
    block = triton.next_power_of_2(width)
    with torch.cuda.device_of(values):
        _smallest[(rows,)](values.contiguous(), found, width, k, block, num_warps=max(1, block // 1024))
    return found


def edge_max(both: Tensor, factor: Tensor, shift: Tensor, near: Tensor) -> Tensor:
    """`edges.edge_max` without gradients: (B, N, 2D), (D,), (D,), (B, N, k) int32 -> (B, N, D) float32."""
    batch, count, k = near.shape
    width = both.shape[2] // 2
    y = torch.empty(batch, count, width, dtype=torch.float32, device=both.device)
    rows, block = _tile(width)
    arrays = both.contiguous(), near.contiguous(), factor, shift, y
    with torch.cuda.device_of(both):
        _max_affine[(triton.cdiv(batch * count, rows),)](*arrays, batch * count, count, width, k, rows, block)
    return y


class EdgeMaxNorm(torch.autograd.Function):
    """`edges.edge_max_norm`: [p, q] (B, N, 2D) in float32, bfloat16 or float16, all else in float32."""

    @staticmethod
    def forward(
        ctx: Any, both: Tensor, scale: Tensor, bias: Tensor, near: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch, count, k = near.shape
        width, points = both.shape[2] // 2, batch * count
        flat, near = both.detach().contiguous().view(points, 2 * width), near.contiguous()
        scale, bias = scale.detach(), bias.detach()
        total, top = (torch.empty(points, width, device=flat.device) for _ in range(2))
        slot = torch.empty(points, width, dtype=torch.uint8, device=flat.device)
        guess = flat[:count].float().mean(dim=0)
        guess = guess[:width] + guess[width:]
        rows, block = _tile(width)
        programs = triton.cdiv(points, rows * _TILES)
        sums = torch.empty(programs, 2, width, device=flat.device)
        arrays = flat, near, guess, total, slot, top, sums
        with torch.cuda.device_of(both):
            _max_sum[(programs,)](*arrays, points, count, width, k, rows, block, _TILES)
        offset, square = sums.sum(dim=0) / (points * k)
        variance = (square - offset.square()).clamp_min(0)
        mean = guess + offset
        rstd = torch.rsqrt(variance + eps)
        factor = scale * rstd
        shift = bias - mean * factor
        y = torch.nn.functional.leaky_relu(torch.addcmul(shift, top, factor), SLOPE.value)
        ctx.save_for_backward(flat, near, total, slot, top, mean, rstd, factor, shift)
        ctx.mark_non_differentiable(mean, variance)
        return y.view(batch, count, width), mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        flat, near, total, slot, top, mean, rstd, factor, shift = ctx.saved_tensors
        batch, count, k = near.shape
        points, width = top.shape
        dy = gradients[0].float().contiguous()
        dz = torch.empty_like(top)
        picked, around = torch.zeros(2, points, width, device=flat.device)
        degree = torch.zeros(points, device=flat.device)
        rows, block = _tile(width)
        programs = triton.cdiv(points, rows * _TILES)
        sums = torch.empty(programs, 2, width, device=flat.device)
        arrays = flat, near, slot, top, dy, mean, rstd, factor, shift, dz, picked, around, degree, sums
        with torch.cuda.device_of(flat):
            _scatter_back[(programs,)](*arrays, points, count, width, k, rows, block, _TILES)
        dbias, dscale = sums.sum(dim=0)
        share, spread = dbias / (points * k), dscale / (points * k) * rstd
        dboth = torch.empty_like(flat)
        parts = flat, total, dz, picked, around, degree, mean, factor, share, spread, dboth
        with torch.cuda.device_of(flat):
            _edges_back[(triton.cdiv(points, rows),)](*parts, points, width, k, rows, block)
        return dboth.view(batch, count, 2 * width), dscale, dbias, None, None


def _tile(width: int) -> tuple[int, int]:
    """Points and channels, powers of two, of a tile."""
    block = triton.next_power_of_2(width)
    return max(1, _TILE // block), block


@triton.jit
def _smallest(values, found, width, K: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """One row a program: the K-th smallest by halving between whole numbers that are ordered as the values are."""
    row = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, BLOCK)
    inside = place < width
    bits = tl.load(values + row * width + place, inside, other=0.0).to(tl.int32, bitcast=True)
    key = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    key = tl.where(inside, tl.minimum(key, 0x7FFFFFFE), 0x7FFFFFFF)
    low = tl.min(key, 0).to(tl.int64)
    high = tl.max(tl.where(inside, key, -0x7FFFFFFF), 0).to(tl.int64)
    while low < high:
        middle = (low + high) >> 1
        enough = tl.sum((key <= middle.to(tl.int32)).to(tl.int32), 0) >= K
        low, high = tl.where(enough, low, middle + 1), tl.where(enough, middle, high)
    bound = low.to(tl.int32)
    below = (key < bound).to(tl.int32)
    level = (key == bound).to(tl.int32)
    left = K - tl.sum(below, 0)
    take = (below == 1) | ((level == 1) & (tl.cumsum(level, 0) <= left))
    slot = tl.cumsum(take.to(tl.int32), 0) - 1
    tl.store(found + row * K + slot, place, take & inside)


@triton.jit
def _max_affine(  # type: ignore[no-untyped-def]
    both,
    near,
    factor,
    shift,
    y,
    points,
    count,
    width,
    K: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    channel = tl.arange(0, BLOCK)[None, :]
    i = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    inside = (i < points) & (channel < width)
    base = i // count * count
    best = tl.full((ROWS, BLOCK), float("-inf"), tl.float32)
    for s in range(K):
        j = base + tl.load(near + i * K + s, i < points, other=0)
        best = tl.maximum(best, tl.load(both + j * 2 * width + channel, inside, other=0.0).to(tl.float32))
    q = tl.load(both + i * 2 * width + width + channel, inside, other=0.0).to(tl.float32)
    scale = tl.load(factor + channel, channel < width, other=0.0)
    value = scale * (best + q) + tl.load(shift + channel, channel < width, other=0.0)
    tl.store(y + i * width + channel, tl.where(value >= 0, value, value * SLOPE), inside)


@triton.jit
def _max_sum(  # type: ignore[no-untyped-def]
    both,
    near,
    guess,
    total,
    slot,
    top,
    sums,
    points,
    count,
    width,
    K: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    TILES: tl.constexpr,
):
    """Per point, sum over the neighbours' p, slot of the largest, and largest plus q; per program and channel, the
    sums over edges of p + q - guess and of its square.
    """
    channel = tl.arange(0, BLOCK)[None, :]
    middle = tl.load(guess + channel, channel < width, other=0.0)
    first = tl.zeros((ROWS, BLOCK), tl.float32)
    second = tl.zeros((ROWS, BLOCK), tl.float32)
    for tile in range(TILES):
        i = ((tl.program_id(0).to(tl.int64) * TILES + tile) * ROWS + tl.arange(0, ROWS))[:, None]
        inside = (i < points) & (channel < width)
        base = i // count * count
        q = tl.load(both + i * 2 * width + width + channel, inside, other=0.0).to(tl.float32)
        best = tl.full((ROWS, BLOCK), float("-inf"), tl.float32)
        mark = tl.zeros((ROWS, BLOCK), tl.int32)
        plain = tl.zeros((ROWS, BLOCK), tl.float32)
        for s in range(K):
            j = base + tl.load(near + i * K + s, i < points, other=0)
            p = tl.load(both + j * 2 * width + channel, inside, other=0.0).to(tl.float32)
            plain += p
            mark = tl.where(p > best, s, mark)
            best = tl.maximum(best, p)
            away = tl.where(inside, p + q - middle, 0.0)
            first += away
            second += away * away
        tl.store(total + i * width + channel, plain, inside)
        tl.store(slot + i * width + channel, mark.to(tl.uint8), inside)
        tl.store(top + i * width + channel, best + q, inside)
    out = sums + tl.program_id(0) * 2 * width + tl.arange(0, BLOCK)
    tl.store(out, tl.sum(first, 0), tl.arange(0, BLOCK) < width)
    tl.store(out + width, tl.sum(second, 0), tl.arange(0, BLOCK) < width)


@triton.jit
def _scatter_back(  # type: ignore[no-untyped-def]
    both,
    near,
    slot,
    top,
    dy,
    mean,
    rstd,
    factor,
    shift,
    dz,
    picked,
    around,
    degree,
    sums,
    points,
    count,
    width,
    K: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    TILES: tl.constexpr,
):
    """dz = dy * LeakyReLU'; per program and channel, the sums of dz and of dz * normalised maximum. To each point,
    dz from where it was the largest, q from everywhere it is a neighbour, and how often it is one.
    """
    channel = tl.arange(0, BLOCK)[None, :]
    known = channel < width
    middle, narrow = tl.load(mean + channel, known, other=0.0), tl.load(rstd + channel, known, other=0.0)
    scale, move = tl.load(factor + channel, known, other=0.0), tl.load(shift + channel, known, other=0.0)
    first = tl.zeros((ROWS, BLOCK), tl.float32)
    second = tl.zeros((ROWS, BLOCK), tl.float32)
    for tile in range(TILES):
        i = ((tl.program_id(0).to(tl.int64) * TILES + tile) * ROWS + tl.arange(0, ROWS))[:, None]
        there = i < points
        inside = there & known
        base = i // count * count
        here = i * width + channel
        largest = tl.load(top + here, inside, other=0.0)
        g = tl.load(dy + here, inside, other=0.0)
        g = tl.where(scale * largest + move >= 0, g, g * SLOPE)
        tl.store(dz + here, g, inside)
        first += g
        second += g * (largest - middle) * narrow
        mark = tl.load(slot + here, inside, other=0).to(tl.int32)
        winner = base + tl.load(near + i * K + mark, inside, other=0)
        tl.atomic_add(picked + winner * width + channel, g, inside, sem="relaxed")
        q = tl.load(both + i * 2 * width + width + channel, inside, other=0.0).to(tl.float32)
        for s in range(K):
            j = base + tl.load(near + i * K + s, there, other=0)
            tl.atomic_add(around + j * width + channel, q, inside, sem="relaxed")
            tl.atomic_add(degree + j, tl.where(there, 1.0, 0.0), there, sem="relaxed")
    out = sums + tl.program_id(0) * 2 * width + tl.arange(0, BLOCK)
    tl.store(out, tl.sum(first, 0), tl.arange(0, BLOCK) < width)
    tl.store(out + width, tl.sum(second, 0), tl.arange(0, BLOCK) < width)


@triton.jit
def _edges_back(  # type: ignore[no-untyped-def]
    both,
    total,
    dz,
    picked,
    around,
    degree,
    mean,
    factor,
    share,
    spread,
    dboth,
    points,
    width,
    K: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Gradients of p and q from what `_scatter_back` brought together (see `edges._edges_back`)."""
    channel = tl.arange(0, BLOCK)[None, :]
    known = channel < width
    i = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    inside = (i < points) & known
    middle, scale = tl.load(mean + channel, known, other=0.0), tl.load(factor + channel, known, other=0.0)
    a, b = tl.load(share + channel, known, other=0.0), tl.load(spread + channel, known, other=0.0)
    here, own = i * width + channel, i * 2 * width + channel
    p = tl.load(both + own, inside, other=0.0).to(tl.float32)
    q = tl.load(both + own + width, inside, other=0.0).to(tl.float32)
    times = tl.load(degree + i, i < points, other=0.0)
    chosen = tl.load(picked + here, inside, other=0.0) - times * a
    near = times * (p - middle) + tl.load(around + here, inside, other=0.0)
    tl.store(dboth + own, (scale * (chosen - b * near)).to(dboth.dtype.element_ty), inside)
    chosen = tl.load(dz + here, inside, other=0.0) - K * a
    near = tl.load(total + here, inside, other=0.0) + K * (q - middle)
    tl.store(dboth + own + width, (scale * (chosen - b * near)).to(dboth.dtype.element_ty), inside)
