"""The k nearest neighbours of every point of a cloud.

In feature space all distances are computed, in blocks that stay in the cache, and the k smallest of each row are
picked by a kernel. In space (three numbers) a grid of cells leaves only the points around to look at, so the cost
grows with the points and not with their square. Both are exact.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from crosshape.networks.kernels import by_triton, kernel, on_threads

_BLOCK = 1 << 21
"""Distances held at once on a CPU: 8 MB in float32, which stays in the last-level cache."""

PICKED = 8192
"""Points a cloud up to which a kernel of our own picks the nearest on a CUDA GPU."""

CROWD = 512
"""Points a cloud from which the grid is faster than all distances (results/speed/speed.md)."""


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
            if by_triton(order) and count <= PICKED:
                from crosshape.networks import gpu

                return gpu.smallest(order, k)
            return order.topk(k, dim=2, largest=False, sorted=False).indices.int()
        found = torch.empty(x.shape[0], count, k, dtype=torch.int32)
        if x.shape[2] == 3 and count >= CROWD:
            _in_space(x.contiguous().numpy(), found.numpy())
        else:
            _among_all(x, half, found)
        return found


def _among_all(x: Tensor, half: Tensor, found: Tensor) -> None:
    """All distances, a block of whole clouds at a time; where one cloud is more than a block, of its rows."""
    batch, count, k = found.shape
    rows = found.view(-1, k).numpy()
    norms = half.numpy()
    for start, stop in _blocks(batch, max(1, _BLOCK // (count * count))):
        part = x[start:stop]
        for first, last in _blocks(count, count if stop - start > 1 else max(64, _BLOCK // count)):
            dots = torch.bmm(part[:, first:last], part.transpose(1, 2)).view(-1, count).numpy()
            out = rows[start * count + first :]
            on_threads(_nearest, len(dots), dots, norms[start:stop], last - first, out)


def _blocks(count: int, size: int) -> list[tuple[int, int]]:
    return [(start, min(start + size, count)) for start in range(0, count, size)]


def _in_space(x: np.ndarray, found: np.ndarray) -> None:
    """Points (B, N, 3) -> found (B, N, k), by a grid of cells that hold some ten points of a surface each."""
    batch, count, _ = x.shape
    side = max(1, round((count / 10) ** 0.5))
    low, high = x.min(axis=1), x.max(axis=1)
    with np.errstate(invalid="ignore"):
        width = np.maximum((high - low).max(axis=1) / side, np.finfo(x.dtype).tiny)
    order = np.empty((batch, count), np.int32)
    starts = np.zeros((batch, side**3 + 1), np.int32)
    on_threads(_cells, batch, x, low, width, side, order, starts, least=1)
    on_threads(_nearest_in_cells, batch * count, x, low, width, side, order, starts, found)


@kernel
def _nearest(start, stop, dots, norms, rows, found):  # type: ignore[no-untyped-def]
    """The k smallest of |x_j|^2 / 2 - x_i x_j for each row of dots (B rows, N), into found (B rows, k).

    The minima of 64 or more interleaved groups bound the k-th smallest number from above (k groups hold one
    number each that is no larger), so only about k groups are looked at again, for little more than k
    candidates. Halving finds a bound with k or k + 1 such groups without a branch that depends on data.
    """
    count, k = dots.shape[1], found.shape[1]
    groups = 64
    while groups < 2 * k or (groups < 128 and groups * 16 <= count):
        groups *= 2
    whole = count // groups
    minima = np.empty(groups, dots.dtype)
    values = np.empty(count + 1, dots.dtype)
    kept = np.empty(count + 1, np.int32)
    for row in range(start, stop):
        line, norm = dots[row], norms[row // rows]
        size = 0
        if whole < 4:
            for j in range(count):
                values[j] = norm[j] - line[j]
                kept[j] = j
            size = count
        else:
            for g in range(groups):
                minima[g] = norm[g] - line[g]
            for block in range(1, whole):
                part = line[block * groups : (block + 1) * groups]
                other = norm[block * groups : (block + 1) * groups]
                for g in range(groups):
                    value = other[g] - part[g]
                    minima[g] = value if value < minima[g] else minima[g]
            bound = _bound(minima, k)
            for g in range(groups):
                if minima[g] <= bound:
                    for block in range(whole):
                        j = block * groups + g
                        value = norm[j] - line[j]
                        values[size] = value
                        kept[size] = j
                        size += 1 if value <= bound else 0
            for j in range(whole * groups, count):
                value = norm[j] - line[j]
                values[size] = value
                kept[size] = j
                size += 1 if value <= bound else 0
        for slot in range(size, k):  # below k only where numbers are not numbers: any places will do
            kept[slot] = slot
        _smallest(values, kept, size, k)
        for slot in range(k):
            found[row, slot] = kept[slot]


@kernel
def _largest(values):  # type: ignore[no-untyped-def]
    place, best = 0, values[0]
    for i in range(1, values.shape[0]):
        if values[i] > best:
            place, best = i, values[i]
    return place, best


@kernel
def _bound(values, k):  # type: ignore[no-untyped-def]
    """A number that k or more of the values do not exceed, and few more than k; about the k-th smallest."""
    low, bound = values[0], values[0]
    for i in range(values.shape[0]):
        low = values[i] if values[i] < low else low
        bound = values[i] if values[i] > bound else bound
    for _ in range(10):
        middle = 0.5 * (low + bound)
        below = 0
        for i in range(values.shape[0]):
            below += 1 if values[i] <= middle else 0
        if below < k:
            low = middle
        else:
            bound = middle
            if below <= k + 1:
                break
    return bound


@kernel
def _cells(start, stop, x, low, width, side, order, starts):  # type: ignore[no-untyped-def]
    """Sort the points of every cloud by cell (x, y, z; z runs fastest), by counting."""
    count = x.shape[1]
    cell = np.empty(count, np.int32)
    for cloud in range(start, stop):
        first = starts[cloud]
        for i in range(count):
            place = 0
            for axis in range(3):
                place = place * side + _cell(x[cloud, i, axis], low[cloud, axis], width[cloud], side)
            cell[i] = place
            first[place + 1] += 1
        for place in range(first.shape[0] - 1):
            first[place + 1] += first[place]
        for i in range(count):
            order[cloud, first[cell[i]]] = i
            first[cell[i]] += 1
        for place in range(first.shape[0] - 1, 0, -1):
            first[place] = first[place - 1]
        first[0] = 0


@kernel
def _cell(value, low, width, side):  # type: ignore[no-untyped-def]
    """The cell of a coordinate, 0 to side - 1, also where it is not a number."""
    place = (value - low) / width
    return int(min(place, side - 1.0)) if place > 0 else 0


@kernel
def _nearest_in_cells(start, stop, x, low, width, side, order, starts, found):  # type: ignore[no-untyped-def]
    """The k nearest points of each point, among the cells around its own, as far out as it takes."""
    count, k = x.shape[1], found.shape[2]
    values = np.empty(count + 1, x.dtype)
    kept = np.empty(count + 1, np.int32)
    middle = np.empty(3, np.int64)
    for row in range(start, stop):
        cloud, i = row // count, row % count
        points, cells, first = x[cloud], order[cloud], starts[cloud]
        px, py, pz = points[i, 0], points[i, 1], points[i, 2]
        inside = width[cloud]  # how far the point is from the nearest side of its own cell
        for axis in range(3):
            middle[axis] = _cell(points[i, axis], low[cloud, axis], width[cloud], side)
            left = points[i, axis] - low[cloud, axis] - middle[axis] * width[cloud]
            inside = min(inside, min(left, width[cloud] - left))
        reach = 1
        while True:
            size = 0
            z0, z1 = max(middle[2] - reach, 0), min(middle[2] + reach, side - 1)
            for cx in range(max(middle[0] - reach, 0), min(middle[0] + reach, side - 1) + 1):
                for cy in range(max(middle[1] - reach, 0), min(middle[1] + reach, side - 1) + 1):
                    base = (cx * side + cy) * side
                    for place in range(first[base + z0], first[base + z1 + 1]):
                        j = cells[place]
                        dx, dy, dz = points[j, 0] - px, points[j, 1] - py, points[j, 2] - pz
                        square = dx * dx + dy * dy + dz * dz
                        values[size] = square if square == square else np.inf
                        kept[size] = j
                        size += 1
            if size >= k:
                size = _below(values, kept, size, k)
                _smallest(values, kept, size, k)
                sure = inside * x.dtype.type(0.9999) + reach * width[cloud]
                if _largest(values[:k])[1] <= sure * sure:
                    break
            if reach >= side:
                break
            reach = reach + 1 if reach < 4 else 2 * reach
        for slot in range(k):
            found[cloud, i, slot] = kept[slot]


@kernel
def _below(values, kept, size, k):  # type: ignore[no-untyped-def]
    """Keep k or a few more of the first `size` values, the smallest among them, in front; how many."""
    if size <= 2 * k:
        return size
    bound = _bound(values[:size], k)
    left = 0
    for slot in range(size):
        values[left] = values[slot]
        kept[left] = kept[slot]
        left += 1 if values[slot] <= bound else 0
    return left


@kernel
def _smallest(values, kept, size, k):  # type: ignore[no-untyped-def]
    """Bring the k smallest of the first `size` values, and their places, to the front."""
    worst, limit = _largest(values[:k])
    for slot in range(k, size):
        if values[slot] < limit:
            values[worst] = values[slot]
            kept[worst] = kept[slot]
            worst, limit = _largest(values[:k])
