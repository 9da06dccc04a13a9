"""The Triton kernels of `gpu.py` beside torch: on a CUDA GPU, or without one in Triton's interpreter where Triton is
installed (pip install triton; pytest tests/test_kernels.py).
"""

from __future__ import annotations

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
pytest.importorskip("triton", reason="Triton is not installed")

from crosshape.networks import gpu
from crosshape.networks.edges import edge_max, edge_max_norm_torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def close(one, other, share):
    """Within a share of the largest number."""
    one, other = one.detach().double(), other.detach().double()
    assert torch.isfinite(one).all()
    assert (one - other).abs().max() <= share * other.abs().max().clamp_min(1e-9)


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


@pytest.mark.parametrize("count, k", [(33, 7), (20, 20), (130, 1), (300, 40)])
def test_smallest_are_those_of_topk(count, k):
    values = numbers(2, 9, count, seed=count)
    found = gpu.smallest(values, k)
    assert found.dtype == torch.int32
    expected = values.topk(k, dim=2, largest=False).indices.sort(dim=2).values
    assert torch.equal(found.long(), expected)


def test_smallest_of_equal_and_odd_numbers():
    values = torch.zeros(1, 4, 40, device=DEVICE)
    values[0, 1] = float("nan")
    values[0, 2] = float("inf")
    values[0, 2, 30] = -float("inf")
    values[0, 3, ::2] = -1
    values[0, 3, 5] = float("nan")
    found = gpu.smallest(values, 6)[0].tolist()
    assert found[0] == found[1] == [0, 1, 2, 3, 4, 5]
    assert found[2] == [0, 1, 2, 3, 4, 30]
    assert found[3] == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize("batch, count, width, k", [(2, 70, 8, 5), (3, 64, 20, 20), (1, 33, 64, 7)])
def test_edges_are_those_of_torch(batch, count, width, k):
    both, scale, bias = (
        numbers(batch, count, 2 * width) + 3,
        numbers(width, seed=1).abs(),
        numbers(width, seed=2),
    )
    near = gpu.smallest(torch.cdist(numbers(batch, count, 4), numbers(batch, count, 4)), k)
    out = numbers(batch, count, width, seed=3)
    results = []
    for function in (gpu.EdgeMaxNorm.apply, edge_max_norm_torch):
        leaves = [tensor.clone().requires_grad_() for tensor in (both, scale, bias)]
        y, mean, variance = function(*leaves, near, 1e-5)
        (y * out).sum().backward()
        results.append([y, mean, variance, *(leaf.grad for leaf in leaves)])
    for one, other in zip(*results, strict=True):
        close(one, other, 1e-4)
    with torch.no_grad():
        asked = gpu.edge_max(both, scale, bias, near)
        close(asked.cpu(), edge_max(both.cpu(), scale.cpu(), bias.cpu(), near.cpu()), 1e-5)


def test_edges_in_bfloat16_are_those_of_the_rounded_numbers():
    distinct = (
        numbers(2, 50, 32).argsort(dim=1) / 8 - 3
    )  # equal largest ones would share the gradient in torch
    both, scale, bias = distinct.bfloat16(), numbers(16, seed=1).abs(), numbers(16, seed=2)
    near = gpu.smallest(torch.cdist(numbers(2, 50, 4), numbers(2, 50, 4)), 9)
    leaf, exact = both.clone().requires_grad_(), both.float().requires_grad_()
    y = gpu.EdgeMaxNorm.apply(leaf, scale, bias, near, 1e-5)[0]
    expected = edge_max_norm_torch(exact, scale, bias, near, 1e-5)[0]
    close(y, expected, 1e-5)
    y.square().sum().backward()
    expected.square().sum().backward()
    assert leaf.grad.dtype == torch.bfloat16
    close(leaf.grad, exact.grad, 0.01)
