"""The networks: the factored EdgeConv is the usual one, and features do not depend on how they are asked for."""

from __future__ import annotations

import copy
import json
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY
from torch import nn

from crosshape.benchmark.plain import PlainDGCNN
from crosshape.cli import main
from crosshape.errors import CrosshapeError, UsageError
from crosshape.networks import convolutions
from crosshape.networks.convolutions import Convolution3x3, _Convolution
from crosshape.networks.correspondence import CorrespondenceNetwork
from crosshape.networks.edges import EdgeConv, edge_max_norm_torch, gather
from crosshape.networks.images import ImageNetwork, from_colour
from crosshape.networks.kernels import on_threads
from crosshape.networks.model import (
    Model,
    choose_device,
    gather_statistics,
    load_model,
    untrained_model,
)
from crosshape.networks.neighbours import CROWD, nearest_neighbours
from crosshape.networks.points import PointNetwork
from crosshape.networks.pooling import norm_pool, norm_pool_torch
from crosshape.networks.weights import load_image_weights
from crosshape.settings import NetworkSettings


def usual_edge_conv(x, neighbours, linear, norm):
    near = gather(x, neighbours)
    centre = x[:, :, None].expand_as(near)
    edges = linear(torch.cat([near - centre, centre], dim=3))
    edges = norm(edges.flatten(0, 2)).view(edges.shape)
    return nn.functional.leaky_relu(edges, 0.2).amax(dim=2)


def with_random_norms(module):
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d):
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
    return module


def both_ways(one, other, x):
    """Outputs and gradients (input, then parameters) of two modules for the same input and output gradient."""
    results = []
    for module in (one, other):
        leaf = x.clone().requires_grad_()
        y = module(leaf)
        (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)).sum().backward()
        results.append((y.detach(), leaf.grad, [p.grad for p in module.parameters()]))
    return results


@pytest.mark.parametrize(
    "batch, count, channels, width, k", [(2, 300, 3, 16, 20), (3, 40, 8, 5, 40), (1, 64, 4, 7, 1)]
)
def test_edge_conv_equals_the_usual_form(batch, count, channels, width, k):
    torch.manual_seed(batch)
    ours = with_random_norms(EdgeConv(channels, width)).double()
    usual = copy.deepcopy(ours)
    x = torch.randn(batch, count, channels, dtype=torch.float64)
    near = nearest_neighbours(x, k)
    call = type(
        "Usual", (nn.Module,), {"forward": lambda s, x: usual_edge_conv(x, near, usual.linear, usual.norm)}
    )()
    call.inner = usual
    wrapped = type("Ours", (nn.Module,), {"forward": lambda s, x: s.inner(x, near)})()
    wrapped.inner = ours
    (y, dx, dp), (y2, dx2, dp2) = both_ways(wrapped, call, x)
    torch.testing.assert_close(y, y2, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(dx, dx2, rtol=1e-8, atol=1e-9)
    for a, b in zip(dp, dp2, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)
    for a, b in zip(ours.buffers(), usual.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)
    ours.eval(), usual.eval()
    torch.testing.assert_close(ours(x, near), usual_edge_conv(x, near, usual.linear, usual.norm))


def test_kernels_equal_their_torch_form():
    torch.manual_seed(1)
    both = torch.randn(2, 50, 12, dtype=torch.float64)
    near = nearest_neighbours(torch.randn(2, 50, 3), 7)
    scale, bias = torch.rand(6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    from crosshape.networks.edges import edge_max_norm

    for one, other in zip(
        edge_max_norm(both, scale, bias, near, 1e-5),
        edge_max_norm_torch(both, scale, bias, near, 1e-5),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-11)


def test_dgcnn_equals_the_textbook_network_with_gradients_and_statistics():
    torch.manual_seed(2)
    ours = with_random_norms(PointNetwork(TINY)).double()
    usual = PlainDGCNN(ours).double()
    points = torch.randn(4, 128, 3, dtype=torch.float64)
    (y, dx, _), (y2, dx2, _) = both_ways(ours, usual, points)
    torch.testing.assert_close(y, y2, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(dx, dx2, rtol=1e-7, atol=1e-8)
    ours_norms = [m.running_var for m in ours.modules() if isinstance(m, nn.BatchNorm1d)]
    usual_norms = [m.running_var for m in usual.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    for a, b in zip(ours_norms, usual_norms, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)
    ours.eval(), usual.eval()
    torch.testing.assert_close(ours(points), usual(points), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("stride, size", [(1, (7, 7)), (2, (7, 7)), (2, (6, 9)), (1, (1, 2)), (2, (1, 1))])
def test_the_weights_gradient_as_one_product_is_the_convolutions(stride, size):
    torch.manual_seed(4)
    weight = torch.randn(5, 4, 3, 3, dtype=torch.float64)
    results = []
    for convolve in (_Convolution.apply, lambda x, w, s: nn.functional.conv2d(x, w, None, s, 1)):
        x, w = (
            torch.randn(2, 4, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1)),
            weight,
        )
        x, w = x.requires_grad_(), w.clone().requires_grad_()
        y = convolve(x, w, stride)
        (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)).sum().backward()
        results.append((y, x.grad, w.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_a_convolution_in_bfloat16_learns_as_torchs_own(monkeypatch):
    torch.manual_seed(4)
    ours = Convolution3x3(8, 6, 2)
    x = torch.randn(3, 8, 9, 9).bfloat16().contiguous(memory_format=torch.channels_last)
    gradients = []
    for places in (convolutions.PLACES, 0):
        monkeypatch.setattr(convolutions, "PLACES", places)
        ours.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            y = ours(x)
        assert y.dtype == torch.bfloat16 and ("_Convolution" in str(y.grad_fn)) == (places > 0)
        y.float().square().sum().backward()
        gradients.append((y.detach(), ours.weight.grad.clone()))
    torch.testing.assert_close(gradients[0][0], gradients[1][0])
    torch.testing.assert_close(gradients[0][1], gradients[1][1], rtol=2e-2, atol=0.5)


def test_norm_pool_equals_its_parts():
    torch.manual_seed(3)
    norm = with_random_norms(nn.Sequential(nn.BatchNorm1d(9))).double()
    other = copy.deepcopy(norm)

    class Ours(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = norm

        def forward(self, z):
            return norm_pool(z, self.norm[0])

    class Parts(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = other

        def forward(self, z):
            y = nn.functional.leaky_relu(self.norm(z.flatten(0, 1)).view(z.shape), 0.2)
            return torch.cat([y.amax(dim=1), y.mean(dim=1)], dim=1)

    z = torch.randn(3, 70, 9, dtype=torch.float64)
    (y, dz, dp), (y2, dz2, dp2) = both_ways(Ours(), Parts(), z)
    for a, b in [(y, y2), (dz, dz2), *zip(dp, dp2, strict=True)]:
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(norm[0].running_var, other[0].running_var)


@pytest.mark.parametrize(
    "given, kept", [("float64", "float64"), ("float32", "float32"), ("bfloat16", "float32")]
)
def test_norm_pool_is_the_same_without_kernels(given, kept):
    """In the type of its weights: pooled numbers of a cloud in bfloat16 are not rounded once more."""
    torch.manual_seed(3)
    given, kept = getattr(torch, given), getattr(torch, kept)
    norm = with_random_norms(nn.Sequential(nn.BatchNorm1d(9))).to(kept)[0]
    z = torch.randn(3, 70, 9, dtype=torch.float64).to(given)
    for training in (True, False):
        norms = [copy.deepcopy(norm).train(training) for _ in range(2)]
        ours, plain = norm_pool(z, norms[0]), norm_pool_torch(z, norms[1])
        assert ours.dtype == plain.dtype == kept
        close = {torch.float64: 1e-10, torch.float32: 1e-5}[kept]
        torch.testing.assert_close(plain, ours, rtol=close, atol=close)
        torch.testing.assert_close(norms[1].running_var, norms[0].running_var)
    assert norm_pool(z.to("meta"), norm.to("meta")).dtype == kept


@pytest.mark.parametrize("count, k", [(20, 20), (100, 20), (700, 20), (2000, 40)])
def test_neighbours_are_those_of_a_full_sort(count, k, random):
    x = torch.from_numpy(random.normal(size=(2, count, 5)))
    ours = nearest_neighbours(x, k).long().sort(dim=2).values
    full = torch.cdist(x, x).argsort(dim=2)[:, :, :k].sort(dim=2).values
    assert torch.equal(ours, full)


def clouds_in_space(random, count):
    """Clouds that a grid finds hard: a ball, a sphere, a plane, a line, two far lumps, an outlier, equal points."""
    ball = random.normal(size=(count, 3))
    plane, line, lumps, outlier, equal = ball.copy(), ball.copy(), 1e-3 * ball, ball.copy(), ball.copy()
    plane[:, 2] = 0.25
    line[:, 1:] = -1
    lumps[: count // 2] += 5
    outlier[0] = 1e4
    equal[::2] = equal[0]
    return {
        "ball": ball,
        "sphere": ball / np.linalg.norm(ball, axis=1, keepdims=True),
        "plane": plane,
        "line": line,
        "lumps": lumps,
        "outlier": outlier,
        "equal": equal,
    }


@pytest.mark.parametrize("kind", ["ball", "sphere", "plane", "line", "lumps", "outlier", "equal"])
@pytest.mark.parametrize("count, k", [(CROWD, 20), (1500, 1), (3000, 64)])
def test_neighbours_in_space_are_those_of_a_full_sort(kind, count, k, random):
    x = torch.from_numpy(np.stack([clouds_in_space(random, count)[kind] for _ in range(2)]))
    near = nearest_neighbours(x, k).long()
    assert all(len(set(row)) == k for row in near.flatten(0, 1).tolist())
    for cloud in range(2):
        distances = torch.cdist(x[cloud], x[cloud], compute_mode="donot_use_mm_for_euclid_dist")
        found = distances.gather(1, near[cloud]).sort(dim=1).values
        torch.testing.assert_close(found, distances.sort(dim=1).values[:, :k], rtol=1e-12, atol=1e-15)


def test_neighbours_in_space_stay_the_same_in_another_batch_and_type(random):
    x = torch.from_numpy(random.normal(size=(3, 1000, 3)))
    alone = torch.cat([nearest_neighbours(cloud[None], 20) for cloud in x])
    assert torch.equal(nearest_neighbours(x, 20), alone)
    single = nearest_neighbours(x.float(), 20).sort(dim=2).values
    assert (single == alone.sort(dim=2).values).double().mean() > 0.999


def test_a_cloud_larger_than_a_block_is_taken_in_blocks_of_rows(random, monkeypatch):
    x = torch.from_numpy(random.normal(size=(3, 300, 6)))
    whole = nearest_neighbours(x, 20)
    monkeypatch.setattr("crosshape.networks.neighbours._BLOCK", 300 * 70)
    assert torch.equal(nearest_neighbours(x, 20), whole)


@pytest.mark.parametrize("count", [300, CROWD + 100])
def test_neighbours_of_equal_points_and_of_no_numbers_are_valid_places(count):
    some = torch.zeros(1, count, 3)
    some[0, 5] = float("inf")
    some[0, 9] = float("nan")
    for x in (torch.zeros(1, count, 3), torch.full((1, count, 3), float("nan")), some):
        near = nearest_neighbours(x, 20)
        assert near.min() >= 0 and near.max() < count
        assert all(len(set(row)) == 20 for row in near[0].tolist())


def test_more_neighbours_than_points_is_refused():
    with pytest.raises(ValueError, match="k = 9 neighbours were asked of clouds of 8 points"):
        nearest_neighbours(torch.zeros(1, 8, 3), 9)


@pytest.fixture
def threads():
    """What sets torch's threads; as many as before afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_kernels_run_in_a_forked_child(threads):
    """Threads do not survive a fork: a child that waited for those of its parent would wait for ever."""
    threads(2)
    assert on_threads(lambda start, stop: stop - start, 128) == [64, 64]
    child = os.fork()
    if child == 0:
        signal.alarm(10)  # ends it
        done = on_threads(lambda start, stop: stop - start, 128)
        os._exit(0 if done == [64, 64] else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_kernels_of_any_size_share_their_threads(threads):
    def ours():
        return {one for one in threading.enumerate() if one.name.startswith("crosshape-edges")}

    threads(5)
    before = ours()
    for rows in (128, 192, 256, 320) * 4:
        assert sum(on_threads(lambda start, stop: stop - start, rows)) == rows
    assert len(ours() - before) <= 5


def test_the_graph_in_space_is_found_once_and_kept(random):
    x = torch.from_numpy(random.normal(size=(2, 200, 3)))
    torch.manual_seed(0)
    anew = PointNetwork(TINY).double().eval()
    once = PointNetwork(replace(TINY, graph="space")).double().eval()
    once.load_state_dict(anew.state_dict())
    y, near = x, nearest_neighbours(x, TINY.k)
    for edge, ours, other in zip(once.edges, once.layers(x), anew.layers(x), strict=True):
        y = edge(y, near)
        assert torch.equal(y, ours)
        assert torch.equal(ours, other) == (edge is once.edges[0])


def test_models_from_before_the_graph_was_a_setting_keep_their_fingerprint():
    model = untrained_model(TINY, points=64, image_size=16)
    assert "graph" not in model._sizes()["network"]
    other = untrained_model(replace(TINY, graph="space"), points=64, image_size=16)
    assert other._sizes()["network"]["graph"] == "space" and other.fingerprint != model.fingerprint


@pytest.fixture(scope="module")
def model():
    generator = np.random.default_rng(0)
    clouds = generator.normal(size=(40, 128, 3)).astype(np.float32)
    views = generator.integers(0, 256, (40, 2, 32, 32), dtype=np.uint8)
    return untrained_model(TINY, points=128, image_size=32, clouds=clouds, views=views)


def test_features_are_the_same_alone_and_in_a_batch(model, random):
    clouds = random.normal(size=(9, 128, 3)).astype(np.float32)
    views = random.integers(0, 256, (9, 3, 32, 32), dtype=np.uint8)
    together = model.encode_points(clouds)
    alone = np.concatenate([model.encode_points(clouds[i : i + 1]) for i in range(9)])
    np.testing.assert_allclose(together, alone, rtol=2e-2, atol=2e-3 * np.abs(together).max())
    assert together.shape == (9, 512) and together.dtype == np.float32
    pictures = model.encode_views(views)
    assert pictures.shape == (9, 3, 512)
    alone = np.concatenate([model.encode_views(views[i : i + 1]) for i in range(9)])
    np.testing.assert_allclose(pictures, alone, rtol=2e-2, atol=2e-3 * np.abs(pictures).max())


def test_the_order_of_points_does_not_matter(model, random):
    clouds = random.normal(size=(2, 128, 3)).astype(np.float32)
    shuffled = clouds[:, random.permutation(128)]
    one, other = model.encode_points(clouds), model.encode_points(shuffled)
    np.testing.assert_allclose(one, other, rtol=2e-2, atol=2e-2 * np.abs(one).max())


def test_point_features_have_a_row_a_point(model, random):
    clouds = torch.from_numpy(random.normal(size=(2, 100, 3)).astype(np.float32))
    with torch.no_grad():
        features = model.points.point_features(clouds)
    assert features.shape == (2, 100, sum(TINY.edge_widths) + 2 * TINY.point_width)
    whole = features[:, :, sum(TINY.edge_widths) :]
    assert torch.equal(whole[:, 0], whole[:, 99])


def test_all_pairs_of_the_judge_are_its_pairs():
    torch.manual_seed(4)
    judge = CorrespondenceNetwork(TINY)
    images, points = torch.randn(5, 512), torch.randn(7, 512)
    table = judge.all_pairs(images, points)
    one_by_one = torch.stack([judge(images, points[j].expand(5, -1)) for j in range(7)], dim=1)
    torch.testing.assert_close(table, one_by_one)
    hidden = torch.relu(judge.first(torch.cat([images[:1], points[:1]], dim=1)))
    torch.testing.assert_close(table[0, 0], judge.second(hidden)[0, 0])
    with torch.no_grad():  # in one pass, without the tensor between the layers
        torch.testing.assert_close(judge.all_pairs(images, points), table, rtol=1e-5, atol=1e-6)


def test_resnet_has_the_layers_and_names_of_resnet_18():
    network = ImageNetwork(NetworkSettings())
    names = dict(network.named_parameters())
    assert sum(p.numel() for p in names.values()) == 11_176_512 - 2 * 64 * 49
    for name in (
        "conv1.weight",
        "bn1.bias",
        "layer1.0.conv1.weight",
        "layer2.0.downsample.1.weight",
        "layer4.1.bn2.bias",
    ):
        assert name in names
    assert network(torch.zeros(1, 64, 64, dtype=torch.uint8)).shape == (1, 512)


def test_colour_weights_load_and_see_grey_as_three_equal_channels():
    torch.manual_seed(5)
    network = ImageNetwork(NetworkSettings()).eval()
    colour = {name: value.clone() for name, value in network.state_dict().items()}
    colour["conv1.weight"] = torch.randn(64, 3, 7, 7) / 12
    colour["fc.weight"], colour["fc.bias"] = torch.zeros(1000, 512), torch.zeros(1000)
    network.load_state_dict(from_colour(colour))
    grey = torch.rand(1, 32, 32)
    with torch.no_grad():
        first = network.conv1(grey[:, None])
        usual = nn.functional.conv2d(
            grey[:, None].expand(-1, 3, -1, -1), colour["conv1.weight"], stride=2, padding=3
        )
    torch.testing.assert_close(first, usual, rtol=1e-4, atol=1e-4)


def test_a_checkpoint_is_converted_and_loads_as_image_weights(tmp_path):
    network = ImageNetwork(NetworkSettings())
    colour = {f"module.{name}": value for name, value in network.state_dict().items()}
    colour["module.conv1.weight"] = torch.randn(64, 3, 7, 7)
    colour["module.fc.weight"] = torch.zeros(1000, 512)
    torch.save({"state_dict": colour, "epoch": 3}, tmp_path / "r.pth")
    assert main(["convert", str(tmp_path / "r.pth"), str(tmp_path / "r.safetensors")]) == 0
    fresh = ImageNetwork(NetworkSettings())
    load_image_weights(fresh, tmp_path / "r.safetensors")
    assert torch.equal(fresh.layer3[0].conv1.weight, network.layer3[0].conv1.weight)
    assert torch.equal(fresh.conv1.weight, colour["module.conv1.weight"].sum(dim=1, keepdim=True))


class Evil:
    def __reduce__(self):
        return (open, ("ran-code", "w"))


def test_checkpoints_that_want_to_run_code_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Evil()}, "evil.pth")
    Path("none.pth").write_bytes(b"not a checkpoint")
    torch.save([1, 2], "list.pth")
    words = {
        "evil": "holds more than tensors and could run code; it was not opened",
        "none": "is no checkpoint",
        "list": "holds no named tensors",
        "absent": "is not there",
    }
    for name, text in words.items():
        assert main(["convert", f"{name}.pth", "out.safetensors"]) == 1
        assert text in capsys.readouterr().err
    assert not Path("ran-code").exists() and not Path("out.safetensors").exists()


@pytest.mark.parametrize(
    "weights, words",
    [
        ({"x": torch.zeros(1)}, "holds no 'conv1.weight'"),
        ({"conv1.weight": torch.full((64, 3, 7, 7), float("nan"))}, "not finite"),
        ({"conv1.weight": torch.zeros(64, 3, 7, 7)}, "does not fit ResNet-18: Missing key"),
    ],
)
def test_image_weights_that_are_none(tmp_path, weights, words):
    from safetensors.torch import save_file

    save_file(weights, tmp_path / "w.safetensors")
    with pytest.raises(CrosshapeError, match=words):
        load_image_weights(ImageNetwork(TINY), tmp_path / "w.safetensors")
    with pytest.raises(CrosshapeError, match="Convert it first: crosshape convert"):
        load_image_weights(ImageNetwork(TINY), tmp_path / "w.pth")


def test_a_saved_model_is_the_same_model(model, tmp_path, random):
    model.save(tmp_path / "run")
    again = load_model(tmp_path / "run", "cpu")
    assert again.fingerprint == model.fingerprint
    clouds = random.normal(size=(2, 128, 3)).astype(np.float32)
    assert np.array_equal(again.encode_points(clouds), model.encode_points(clouds))


def test_a_different_weight_is_a_different_fingerprint(model):
    other = copy.deepcopy(model)
    before = other.fingerprint
    with torch.no_grad():
        other.correspondence.second.bias += 1
    assert other.fingerprint != before


@pytest.mark.parametrize(
    "spoil, words",
    [
        (
            lambda card, state: state.__setitem__("points.head.weight", torch.full((512, 64), float("nan"))),
            "not finite",
        ),
        (
            lambda card, state: state.__setitem__("points.head.weight", torch.zeros(3, 3)),
            r"is of shape \(3, 3\)",
        ),
        (lambda card, state: state.pop("points.head.weight"), "lacks the weights 'points.head.weight'"),
        (lambda card, state: state.__setitem__("extra", torch.zeros(1)), "unknown weights 'extra'"),
        (lambda card, state: card["model"]["network"].__setitem__("hidden", 10**9), "'hidden' is"),
        (lambda card, state: card["model"]["network"].__setitem__("graph", "tree"), "'graph' is 'tree'"),
        (lambda card, state: card["model"]["network"].__setitem__("kk", 3), "unknown setting 'kk'"),
        (lambda card, state: card["model"]["network"].__setitem__("k", "x"), "'k' in .* is 'x'.* damaged"),
        (lambda card, state: card["model"].__setitem__("points", "many"), "is not the card of a model"),
        (lambda card, state: card.pop("model"), "is not the card of a model"),
    ],
)
def test_a_strangers_model_is_checked_before_use(model, tmp_path, spoil, words):
    from safetensors.torch import load_file, save_file

    model.save(tmp_path)
    card = json.loads((tmp_path / "card.json").read_text())
    state = load_file(tmp_path / "model.safetensors")
    spoil(card, state)
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "card.json").write_text(json.dumps(card))
    with pytest.raises(CrosshapeError, match=words) as error:
        load_model(tmp_path, "cpu")
    assert not isinstance(error.value, UsageError)  # nobody typed it wrong: status 1, not 2


def test_broken_and_absent_models_are_named(model, tmp_path):
    with pytest.raises(CrosshapeError, match="is not there. Give a run folder"):
        load_model(tmp_path / "none", "cpu")
    with pytest.raises(CrosshapeError, match="holds no model"):
        load_model(tmp_path, "cpu")
    model.save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(CrosshapeError, match=r"model\.safetensors cannot be read"):
        load_model(tmp_path, "cpu")


def test_arrays_of_other_shapes_are_refused(model):
    with pytest.raises(UsageError, match=r"clouds must be of shape \(N, P, 3\), not \(3, 4\)"):
        model.encode_points(np.zeros((3, 4), np.float32))
    with pytest.raises(UsageError, match=r"views must be uint8 \(N, V, 32, 32\), not uint8 \(1, 2, 16, 16\)"):
        model.encode_views(np.zeros((1, 2, 16, 16), np.uint8))


def test_a_device_that_is_not_there_is_named(monkeypatch):
    with pytest.raises(CrosshapeError, match="device 'cuda:99' is not there"):
        choose_device("cuda:99")
    for name in ("gpu", "meta"):
        with pytest.raises(UsageError, match=f"unknown device '{name}'; use auto, cpu, cuda, cuda:1 or mps"):
            choose_device(name)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(
        CrosshapeError, match="device 'mps' is not there: no Apple GPU found. Use --device cpu"
    ):
        choose_device("mps")
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert choose_device("mps").type == "mps"


def test_statistics_are_the_mean_over_batches_and_all_else_stays():
    torch.manual_seed(1)
    network = nn.Sequential(nn.BatchNorm1d(3, momentum=0.3), nn.BatchNorm1d(3, momentum=0.2)).eval()
    batches = [torch.randn(5, 3), torch.randn(7, 3) + 2]

    def broken():
        yield batches[0]
        raise ValueError

    with pytest.raises(ValueError):
        gather_statistics(network, broken())
    gather_statistics(network, iter(batches))
    mean = torch.stack([batch.mean(dim=0) for batch in batches]).mean(dim=0)
    torch.testing.assert_close(network[0].running_mean, mean)
    assert [part.momentum for part in network] == [0.3, 0.2] and not network.training
    assert not any(part.training for part in network)


def test_untrained_models_repeat_by_seed_and_leave_the_global_generator_alone():
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    one, other = untrained_model(TINY, seed=1), untrained_model(TINY, seed=1)
    assert torch.equal(torch.rand(1), expected)
    assert one.fingerprint == other.fingerprint != untrained_model(TINY, seed=2).fingerprint
    assert isinstance(one, Model)
