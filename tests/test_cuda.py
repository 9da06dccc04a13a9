"""On a CUDA GPU everything is as on a CPU, to rounding (the kernels of `gpu.py` by themselves: test_kernels.py)."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from conftest import TINY

from crosshape.learning.training import Learner
from crosshape.networks import edges
from crosshape.networks.edges import EdgeConv, edge_max_norm_torch
from crosshape.networks.model import Model, untrained_model
from crosshape.networks.neighbours import nearest_neighbours
from crosshape.networks.points import PointNetwork
from crosshape.settings import RECIPES, NetworkSettings, changed

pytestmark = pytest.mark.cuda
DEVICE = torch.device("cuda")


def close(one, other, share):
    """Within a share of the largest number."""
    one, other = one.detach().double().cpu(), other.detach().double().cpu()
    assert torch.isfinite(one).all()
    assert (one - other).abs().max() <= share * other.abs().max().clamp_min(1e-9)


@pytest.mark.parametrize("count, k", [(33, 7), (512, 20), (1024, 20), (1500, 40), (4096, 20)])
@pytest.mark.parametrize("channels", [3, 64])
def test_neighbours_are_the_k_nearest(count, k, channels):
    x = torch.randn(3, count, channels, generator=torch.Generator().manual_seed(count))
    found = nearest_neighbours(x.to(DEVICE), k)
    assert found.dtype == torch.int32 and found.shape == (3, count, k)
    assert (found.sort(dim=2).values.diff(dim=2) > 0).all()
    distance = torch.cdist(x.double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist")
    mine = distance.gather(2, found.long().cpu()).sort(dim=2).values
    close(mine, distance.topk(k, dim=2, largest=False).values, 1e-4)


def test_neighbours_of_equal_and_odd_numbers():
    x = torch.zeros(2, 100, 3, device=DEVICE)
    x[1, 3] = float("nan")
    found = nearest_neighbours(x, 10)
    assert ((found >= 0) & (found < 100)).all()
    assert (found[0].sort(dim=1).values.diff(dim=1) > 0).all()


@pytest.mark.parametrize(
    "batch, count, width, k", [(2, 70, 8, 5), (3, 200, 48, 20), (4, 512, 64, 20), (2, 300, 256, 20)]
)
def test_edges_are_those_of_torch(batch, count, width, k):
    random = torch.Generator(DEVICE).manual_seed(width)
    both, x = (torch.randn(batch, count, n, device=DEVICE, generator=random) for n in (2 * width, 3))
    both += 3
    scale, bias, out = (torch.randn(n, device=DEVICE, generator=random) for n in (width, width, width))
    near = nearest_neighbours(x, k)
    results = []
    for function in (edges.edge_max_norm, edge_max_norm_torch):
        leaves = [tensor.clone().requires_grad_() for tensor in (both, scale.abs(), bias)]
        y, mean, variance = function(*leaves, near, 1e-5)
        (y * out).sum().backward()
        results.append([y, mean, variance, *(leaf.grad for leaf in leaves)])
    for one, other in zip(*results, strict=True):
        close(one, other, 2e-4)
    with torch.no_grad():
        mine = edges.edge_max(both, scale.abs(), bias, near)
    close(mine, edges.edge_max(both.cpu(), scale.abs().cpu(), bias.cpu(), near.cpu()), 1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_edge_conv_in_bfloat16_is_near(training):
    layer = EdgeConv(16, 64).to(DEVICE).train(training)
    x = torch.randn(4, 300, 16, device=DEVICE)
    near = nearest_neighbours(x, 20)
    with torch.no_grad():
        exact = copy.deepcopy(layer).cpu()(x.cpu(), near.cpu())
        with torch.autocast("cuda", torch.bfloat16):
            close(layer(x, near), exact, 0.03)


def test_point_network_learns_as_on_a_cpu():
    """In space, for there neighbours are the same on both; features differ by rounding alone."""
    torch.manual_seed(0)
    network = PointNetwork(NetworkSettings(graph="space"))
    clouds = torch.randn(4, 256, 3).clamp(-1, 1)
    sides = []
    for device in ("cpu", "cuda"):
        mine = copy.deepcopy(network).to(device)
        features = mine(clouds.to(device))
        (features * torch.linspace(-1, 1, 512, device=device)).sum().backward()
        sides.append([features, *(p.grad for p in mine.parameters()), *(b for b in mine.buffers())])
    for one, other in zip(*sides, strict=True):
        close(other.float(), one.float(), 5e-3)


def test_features_are_those_of_a_cpu():
    """Cosine above 0.995 with the model that comes along: bfloat16 on one side at least."""
    from crosshape.benchmark.parts import some_clouds, some_views
    from crosshape.networks.model import load_model

    clouds, views = some_clouds(16, 1024), some_views(8, 4, 112)
    found = []
    for device in ("cpu", "cuda"):
        model = load_model("modelnet40", device)
        parts = model.encode_points(clouds), model.encode_views(views).reshape(-1, 512)
        found.append([part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts])
    for one, other in zip(*found, strict=True):
        print("cosine at least", (one * other).sum(axis=1).min())
        assert (one * other).sum(axis=1).min() > 0.995


@pytest.mark.parametrize("recipe", ["paper", "dense"])
def test_a_run_learns_and_goes_on_where_it_was(recipe, tmp_path):
    clouds = np.random.default_rng(0).normal(size=(24, 128, 3)).clip(-1, 1).astype(np.float32)
    views = np.random.default_rng(1).integers(0, 256, (24, 4, 32, 32), dtype=np.uint8)
    settings = changed(
        RECIPES[recipe], {"epochs": 4, "batch_size": 8, "points": 64, "encoding_points": 0, "image_size": 32}
    )
    learner = Learner(clouds, views, TINY, settings, DEVICE)
    assert torch.is_tensor(learner.points)
    (tmp_path / "run").mkdir()
    before = {name: value.clone() for name, value in learner.model.state_dict().items()}
    learner.run(tmp_path / "run", quiet=True)
    after = learner.model.state_dict()
    assert all(value.isfinite().all() for value in after.values())
    assert not torch.equal(before["points.mix.weight"], after["points.mix.weight"])
    again = Learner(clouds, views, TINY, settings, DEVICE)
    again.run(tmp_path / "run", quiet=True)
    assert again.place.step == learner.place.step
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, after[name]), name
    first, second = (side.optimiser.state_dict()["state"] for side in (learner, again))
    assert first.keys() == second.keys()


def test_networks_in_training_answer_as_on_a_cpu():
    """Features and logits of a batch, the same weights and inputs, no bfloat16."""
    model = untrained_model(TINY, points=128, image_size=32)
    clouds, views = torch.randn(8, 128, 3).clamp(-1, 1), torch.rand(8, 32, 32)
    values = []
    for device in ("cpu", "cuda"):
        mine: Model = copy.deepcopy(model).to(device).train()
        image, point = mine.images(views.to(device)), mine.points(clouds.to(device))
        logits = mine.correspondence.all_pairs(image, point)
        values.append([image, point, logits])
    for one, other in zip(*values, strict=True):
        close(other, one, 0.02)
