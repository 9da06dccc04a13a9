"""Learning: losses against naive loops, augmentation, resuming to the bit, and that it learns at all."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import time
import types
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TINY

import crosshape
from crosshape.cli import main
from crosshape.errors import CrosshapeError, UsageError
from crosshape.learning import losses
from crosshape.learning import run as folder
from crosshape.learning.alike import alike_in, draw_alike, most_alike
from crosshape.learning.augment import _beyond_cut, _turns, augment_points, augment_views, clutter
from crosshape.learning.occupancy import CELLS, FILL, WIDTH, occupancy
from crosshape.learning.run import METRICS, STATE, read_metrics, read_settings
from crosshape.learning.training import Learner, check, learning_rate, make_ready, train
from crosshape.learning.verdict import Verdict, hold_out, measure, words
from crosshape.networks.model import load_model, untrained_model
from crosshape.settings import RECIPES, PrepareSettings, TrainSettings, changed

SMALL = replace(RECIPES["dense"], points=128, image_size=32, batch_size=4, epochs=4, projection=16)


def test_triplet_against_a_loop():
    torch.manual_seed(0)
    a, p, n = torch.randn(3, 6, 5, dtype=torch.float64)
    naive = [max(0.0, float((x - y).norm() - (x - z).norm()) + 2.0) for x, y, z in zip(a, p, n, strict=True)]
    assert float(losses.triplet(a, p, n, 2.0)) == pytest.approx(np.mean(naive), abs=1e-5)


def test_same_object_against_a_loop():
    logits, truth = torch.tensor([3.0, -1.0, 0.5]), torch.tensor([1.0, 0.0, 0.0])
    naive = [
        -math.log(1 / (1 + math.exp(-x))) if t else -math.log(1 - 1 / (1 + math.exp(-x)))
        for x, t in zip(logits.tolist(), truth.tolist(), strict=True)
    ]
    assert float(losses.same_object(logits, truth)) == pytest.approx(np.mean(naive), rel=1e-5)


def test_occupancy_against_a_loop(random):
    """A cell is as full as the points near its middle say; a turned cloud fills turned cells."""
    points = torch.from_numpy(random.uniform(-0.9, 0.9, (2, 7, 3)).astype(np.float32))
    found = occupancy(points).view(2, CELLS, CELLS, CELLS)
    middle = [(i + 0.5) * 2 / CELLS - 1 for i in range(CELLS)]
    for cloud, x, y, z in random.integers(0, [2, CELLS, CELLS, CELLS], (200, 4)):
        place = torch.tensor([middle[x], middle[y], middle[z]])
        density = np.mean(
            [math.exp(-float((p - place).square().sum()) / (2 * WIDTH**2)) for p in points[cloud]]
        )
        assert float(found[cloud, x, y, z]) == pytest.approx(1 - math.exp(-FILL * density), abs=1e-5)
    quarter = points[:, :, [1, 0, 2]] * torch.tensor([-1.0, 1.0, 1.0])
    turned = occupancy(quarter).view(2, CELLS, CELLS, CELLS)
    assert torch.allclose(turned, found.transpose(1, 2).flip(1), atol=1e-5)


def test_reconstruction_against_a_loop(random):
    logits = torch.from_numpy(random.normal(size=(3, 5)).astype(np.float32))
    truth = torch.from_numpy(random.uniform(0.01, 0.99, (3, 5)).astype(np.float32))
    naive = [
        t * math.log(t / p) + (1 - t) * math.log((1 - t) / (1 - p))
        for t, p in zip(truth.flatten().tolist(), logits.sigmoid().flatten().tolist(), strict=True)
    ]
    assert float(losses.reconstruction(logits, truth)) == pytest.approx(np.mean(naive), rel=1e-4)
    assert float(losses.reconstruction(truth.logit(), truth)) == pytest.approx(0, abs=1e-6)
    empty = losses.reconstruction(torch.full((2, 4), -80.0), torch.zeros(2, 4))
    assert float(empty) == 0


def test_softmax_agreement_against_a_loop():
    torch.manual_seed(1)
    one, other = torch.randn(2, 5, 7, dtype=torch.float64)
    total = 0.0
    for a, b in ((one, other), (other, one)):
        for i in range(5):
            scores = [float(torch.cosine_similarity(a[i], b[j], dim=0)) / 0.2 for j in range(5)]
            total += -scores[i] + math.log(sum(math.exp(s) for s in scores))
    assert float(losses.softmax_agreement(one, other, 0.2)) == pytest.approx(total / 10)


def test_softmax_agreement_with_likes_against_a_loop():
    torch.manual_seed(1)
    one, other = torch.randn(2, 5, 7, dtype=torch.float64)
    alike = torch.zeros(5, 5)
    alike[0, 3] = alike[3, 0] = 0.5
    total = 0.0
    for a, b in ((one, other), (other, one)):
        for i in range(5):
            scores = [float(torch.cosine_similarity(a[i], b[j], dim=0)) / 0.2 for j in range(5)]
            whole = math.log(sum(math.exp(s) for s in scores))
            weights = [1.0 if i == j else float(alike[i, j]) for j in range(5)]
            total += sum(w * (whole - s) for w, s in zip(weights, scores, strict=True)) / sum(weights)
    assert float(losses.softmax_agreement(one, other, 0.2, alike)) == pytest.approx(total / 10)
    alone = losses.softmax_agreement(one, other, 0.2, torch.zeros(5, 5))
    assert float(alone) == pytest.approx(float(losses.softmax_agreement(one, other, 0.2)))


def test_shapes_are_alike_by_both_features(random):
    clouds = random.normal(size=(7, 64, 3)).astype(np.float32)
    clouds[5] = clouds[1] + 1e-4
    views = random.integers(0, 255, (7, 3, 64, 64)).astype(np.uint8)
    views[5] = views[1]
    model = untrained_model(TINY, points=64, image_size=32, clouds=clouds, views=views)
    rows = np.array([0, 1, 3, 5, 6])
    likes = most_alike(model, clouds, views, rows, 2)
    assert likes.shape == (7, 2) and likes[1, 0] == 5 and likes[5, 0] == 1
    assert (likes[[2, 4]] == -1).all() and np.isin(likes[rows], rows).all()
    assert all(row not in likes[row] for row in rows)
    assert most_alike(model, clouds, views, rows, 9).shape == (7, 4)
    by_points = most_alike(model, clouds, views[:, :, :16, :16], rows, 4)  # too small to be looked at
    features = model.encode_points(clouds[rows])
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    order = np.argsort(-(features @ features.T - 2 * np.eye(5)), axis=1)[:, :4]
    assert np.array_equal(by_points[rows], rows[order])


def test_likes_in_blocks_are_those_of_the_whole(random, monkeypatch):
    clouds = random.normal(size=(9, 64, 3)).astype(np.float32)
    views = random.integers(0, 255, (9, 3, 32, 32)).astype(np.uint8)
    model = untrained_model(TINY, points=64, image_size=32, clouds=clouds, views=views)
    whole = most_alike(model, clouds, views, np.arange(9), 3)
    monkeypatch.setattr("crosshape.learning.alike.BLOCK", 4)
    assert np.array_equal(most_alike(model, clouds, views, np.arange(9), 3), whole)


def test_likes_are_drawn_beside_their_shapes():
    likes = np.array([[1, 2], [0, 2], [0, 1], [4, 5], [3, 5], [3, 4], [0, 1]])
    rows = np.arange(7)
    for seed in range(20):
        drawn = draw_alike(np.array([0, 3]), 2, likes, rows, np.random.default_rng(seed))
        assert drawn[0] in (1, 2) and drawn[1] in (4, 5)
        drawn = draw_alike(np.array([0, 1]), 2, likes, rows, np.random.default_rng(seed))
        assert drawn[0] == 2 and drawn[1] in (3, 4, 5, 6)  # 0, 1 and 2 are there already
        assert draw_alike(np.array([0, 1]), 1, likes, rows[:3], np.random.default_rng(seed)) == [2]
    found = alike_in(np.array([0, 3, 2, 5]), likes)
    assert np.array_equal(found, np.array([[0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]], bool))


def test_all_pairs_against_a_loop():
    torch.manual_seed(2)
    table = torch.randn(4, 4, dtype=torch.float64)
    which, true, false = 0.0, 0.0, 0.0
    for m in (table, table.T):
        for i in range(4):
            which += (-float(m[i, i]) + math.log(sum(math.exp(float(v)) for v in m[i]))) / 8
    for i in range(4):
        for j in range(4):
            chance = 1 / (1 + math.exp(-float(table[i, j])))
            if i == j:
                true -= math.log(chance) / 4
            else:
                false -= math.log(1 - chance) / 12
    assert float(losses.all_pairs(table)) == pytest.approx(which + (true + false) / 2)


def test_losses_fall_where_pairs_agree():
    x = torch.eye(4)
    assert losses.softmax_agreement(x, x, 0.1) < losses.softmax_agreement(x, x.roll(1, 0), 0.1)
    assert losses.all_pairs(8 * x - 4) < losses.all_pairs(4 - 8 * x)
    assert losses.triplet(x, x, x.roll(1, 0), 1.0) == 0 or losses.triplet(x, x, x.roll(1, 0), 1.0) < 0.01


@pytest.mark.parametrize("style", ["paper", "strong"])
def test_clouds_change_within_their_bounds_and_repeat_by_seed(style, random):
    clouds = random.normal(size=(16, 200, 3)).astype(np.float32)
    clouds /= np.linalg.norm(clouds, axis=2, keepdims=True)
    points = torch.from_numpy(clouds)
    one = augment_points(points, 100, style, torch.Generator().manual_seed(3))
    same = augment_points(points, 100, style, torch.Generator().manual_seed(3))
    other = augment_points(points, 100, style, torch.Generator().manual_seed(4))
    assert one.shape == (16, 100, 3)
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert one.abs().max() <= 1.5 + 0.2 + 0.03
    heights = one[:, :, 2].amax(dim=1) - one[:, :, 2].amin(dim=1)
    assert heights.max() <= 2 * 1.5 + 0.05
    if style == "paper":  # a turn about the up axis keeps heights; nothing is cut away
        assert heights.min() >= 2 * 2 / 3 * 0.85


def test_a_strong_cut_takes_one_end_of_a_cloud_away():
    line = torch.linspace(-1, 1, 200)[None, :, None] * torch.tensor([1.0, 0.5, -0.5])
    cut = _beyond_cut(line.expand(64, -1, -1), 100, torch.Generator().manual_seed(3)) > 0
    share = cut.float().mean(dim=1)
    assert share.min() < 0.1 and 0.3 < share.max() <= 0.4
    assert (cut[:, 1:] != cut[:, :-1]).sum(dim=1).max() == 1, "one end, and nothing of the other"
    most = _beyond_cut(line.expand(64, -1, -1), 190, torch.Generator().manual_seed(3)) > 0
    assert most.sum(dim=1).max() <= 10, "as many are left as are drawn"


def test_a_strong_turn_tilts_by_ten_degrees_at_most():
    clouds = torch.zeros(200, 4, 3)
    for style, least, most in (("strong", 8, 10.001), ("paper", 0, 0.05)):
        turns = _turns(clouds, style, torch.Generator().manual_seed(3), 180.0)
        tilt = torch.rad2deg(torch.acos(turns[:, 2, 2].clamp(-1, 1)))
        assert least <= tilt.max() <= most
        assert torch.allclose(turns @ turns.transpose(1, 2), torch.eye(3).expand(200, 3, 3), atol=1e-6)


@pytest.mark.parametrize(("turn", "least"), [(0, 0), (20, 15), (180, 150)])
def test_clouds_turn_about_the_up_axis_as_far_as_they_may(turn, least):
    clouds = torch.tensor([1.0, 0.0, 0.5]).expand(200, 40, 3)
    out = augment_points(clouds, 32, "rigid", torch.Generator().manual_seed(3), turn).mean(dim=1)
    angle = torch.rad2deg(torch.atan2(out[:, 1], out[:, 0]))
    assert least <= angle.max() <= turn + 1 and -turn - 1 <= angle.min() <= -least
    assert (out[:, 2] - 0.5).abs().max() < 0.01


@pytest.mark.parametrize(("turn", "least", "most"), [(0.0, 0.0, 0.1), (180.0, 0.5, 1.0)])
def test_a_step_turns_its_clouds_as_far_as_the_setting_says(turn, least, most, random):
    points = np.zeros((6, 100, 3), np.float32)
    points[:, :, 0] = np.linspace(-1, 1, 100)  # along x: the narrower in y, the less turned
    views = random.integers(0, 256, (6, 4, 32, 32), dtype=np.uint8)
    settings = replace(SMALL, points=64, batch_size=6, turn=turn)
    clouds = Learner(points, views, TINY, settings, torch.device("cpu")).batch(0).clouds
    width = clouds.amax(dim=1) - clouds.amin(dim=1)
    assert least < (width[:, 1] / width.norm(dim=1)).max() < most


def test_views_keep_size_range_and_repeat_by_seed(random):
    views = torch.from_numpy(random.integers(0, 256, (8, 40, 40), dtype=np.uint8))
    for style in ("paper", "strong"):
        one = augment_views(views, style, torch.Generator().manual_seed(3))
        same = augment_views(views, style, torch.Generator().manual_seed(3))
        assert one.shape == (8, 40, 40) and one.dtype == torch.float32
        assert one.min() >= 0 and one.max() <= 1 and torch.equal(one, same)
        assert not torch.allclose(one, views.float() / 255)


@pytest.mark.parametrize("style", ["paper", "strong"])
def test_half_of_the_views_are_flipped(style):
    ramp = torch.linspace(50, 200, 32).to(torch.uint8).expand(200, 32, 32)
    seen = augment_views(ramp, style, torch.Generator().manual_seed(3))
    assert 0.4 < (seen[:, 16, 0] > seen[:, 16, -1]).float().mean() < 0.6


def test_saving_takes_a_small_part_of_the_time_however_short_epochs_are(random, tmp_path, monkeypatch):
    points = random.normal(size=(6, 100, 3)).clip(-0.5, 0.5).astype(np.float32)
    views = random.integers(0, 256, (6, 4, 32, 32), dtype=np.uint8)
    settings = replace(SMALL, points=64, batch_size=6, epochs=10)
    learner = Learner(points, views, TINY, settings, torch.device("cpu"))
    saved, clock = [], [0.0]

    def slowly(run):
        clock[0] += 2  # and looking at the clock a little, however busy the machine
        saved.append(learner.place.step)

    def monotonic():
        clock[0] += 0.01
        return clock[0]

    monkeypatch.setattr(learner, "_save", slowly)
    monkeypatch.setattr("crosshape.learning.training.time", types.SimpleNamespace(monotonic=monotonic))
    learner.run(tmp_path, quiet=True)
    assert saved == [
        0,
        1,
        10,
    ]  # where it starts; the first epoch tells how long saving takes; the last is always kept


@pytest.mark.parametrize(("crop", "least"), [(0.0, 0.8), (0.3, 0.3), (1.0, 1.0)])
def test_a_step_crops_its_views_as_far_as_the_setting_says(crop, least, random):
    points = random.normal(size=(64, 100, 3)).clip(-0.5, 0.5).astype(np.float32)
    ramp = np.linspace(50, 200, 64).astype(np.uint8)  # across: what is left of it says how wide the crop was
    views = np.broadcast_to(ramp, (64, 4, 64, 64)).copy()
    settings = replace(SMALL, points=64, batch_size=64, image_size=64, crop=crop)
    batch = Learner(points, views, TINY, settings, torch.device("cpu")).batch(0)
    middle = torch.cat([batch.view_a, batch.view_b])[:, 32]
    share = (middle[:, 1] - middle[:, -2]).abs() * (255 / 150) * (64 / 61)
    assert least - 0.03 < share.min() < least + 0.1 and 0.95 < share.max() < 1.03


def test_clutter_changes_its_share_of_the_pictures_and_keeps_the_shape_to_be_seen(random):
    views = torch.ones(400, 32, 32)
    views[:, 10:22, 10:22] = torch.from_numpy(random.uniform(0.1, 0.8, (400, 12, 12)).astype(np.float32))
    changed = clutter(views, 0.25, torch.Generator().manual_seed(1))
    same = (changed == views).all(dim=2).all(dim=1)
    assert 0.65 < same.float().mean() < 0.85
    assert changed.min() >= 0 and changed.max() <= 1
    assert torch.equal(changed, clutter(views, 0.25, torch.Generator().manual_seed(1)))
    everything = clutter(views, 1.0, torch.Generator().manual_seed(2))
    edge = (everything[:, 10:22, 9] - everything[:, 10:22, 10]).abs().mean()
    ground = (everything[:, 10:22, 3] - everything[:, 10:22, 4]).abs().mean()
    assert edge > 2 * ground, "what is object differs from what is behind it"
    assert (everything[:, 0, 0] < 1).float().mean() > 0.4, "the ground is not white any more"
    one = augment_views((255 * views).to(torch.uint8), "strong", torch.Generator().manual_seed(3))
    other = augment_views((255 * views).to(torch.uint8), "strong", torch.Generator().manual_seed(3), 0.5)
    assert 0.3 < (one != other).flatten(1).any(dim=1).float().mean() <= 1


def test_step_sizes_follow_their_schedule():
    paper = RECIPES["paper"]
    assert [learning_rate(paper, s, 100) for s in (0, 49, 50, 75)] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-5])
    dense = RECIPES["dense"]
    sizes = [learning_rate(dense, s, 1000) for s in range(1000)]
    assert sizes[0] < sizes[20] < sizes[49] and max(sizes) <= dense.learning_rate
    assert sizes[-1] < 1e-3 * dense.learning_rate and all(
        a >= b for a, b in zip(sizes[60:], sizes[61:], strict=False)
    )


def test_the_paper_recipe_is_the_paper():
    paper = RECIPES["paper"]
    assert (paper.batch_size, paper.learning_rate, paper.weight_decay, paper.optimiser) == (
        32,
        1e-3,
        5e-4,
        "sgd",
    )
    assert (paper.margin, paper.cross_view_weight, paper.cross_modality_weight) == (2.0, 1.0, 3.0)
    assert (paper.cross_view, paper.cross_modality, paper.projection) == ("triplet", "pairs", 0)
    assert paper.cross_cloud_weight == paper.cosine_weight == 0 and paper.points == 1024


@pytest.mark.parametrize("recipe", ["paper", "dense"])
def test_every_network_learns_in_a_step(recipe, random):
    settings = replace(RECIPES[recipe], points=64, image_size=32, batch_size=6)
    points = random.normal(size=(6, 100, 3)).astype(np.float32)
    views = random.integers(0, 256, (6, 4, 32, 32), dtype=np.uint8)
    learner = Learner(points, views, TINY, settings, torch.device("cpu"))
    before = {name: value.clone() for name, value in learner.model.named_parameters()}
    learner.step()
    learner.step()
    still = [n for n, v in learner.model.named_parameters() if torch.equal(v, before[n])]
    assert still == []


def test_the_grid_alone_teaches_both_networks(random):
    """With nothing else on, and one look at a cloud; the judge is asked nothing, so it stays as it was."""
    off = {"cross_view": "none", "cross_modality": "none", "cross_cloud_weight": 0.0, "cosine_weight": 0.0}
    points = random.normal(size=(6, 100, 3)).astype(np.float32) / 4
    views = random.integers(0, 256, (6, 4, 32, 32), dtype=np.uint8)
    settings = replace(SMALL, points=64, batch_size=6, weight_decay=0.0, **off)
    learner = Learner(points, views, TINY, settings, torch.device("cpu"))
    before = {name: value.clone() for name, value in learner.model.named_parameters()}
    assert set(learner.step()) == {"loss", "reconstruction"}
    learner.step()
    still = {name for name, value in learner.model.named_parameters() if torch.equal(value, before[name])}
    assert still == {name for name in before if name.startswith("correspondence.")}


def small_learner(random, settings, **more):
    """Six shapes of random points and views, all of them in every batch."""
    points = random.normal(size=(6, 100, 3)).astype(np.float32) / 4
    views = random.integers(0, 256, (6, 4, 32, 32), dtype=np.uint8)
    settings = replace(settings, points=64, image_size=32, batch_size=6)
    return Learner(points, views, TINY, settings, torch.device("cpu"), **more)


def test_the_loss_is_the_sum_of_its_parts_by_their_weights(random):
    weights = {
        f"{part}_weight": 2.0**number
        for number, part in enumerate(
            ("cross_view", "cross_modality", "cross_cloud", "cosine", "reconstruction")
        )
    }
    learner = small_learner(random, replace(SMALL, **weights))
    parts = learner.losses(learner.batch(0))
    expected = sum(weight * parts[name.removesuffix("_weight")].item() for name, weight in weights.items())
    assert parts["loss"].item() == pytest.approx(expected, rel=1e-4)


def test_a_step_is_of_the_size_of_its_place_and_no_longer_than_the_clip(random):
    learner = small_learner(random, replace(RECIPES["paper"], clip=1e-3, weight_decay=0.0))
    learner.place.step = 80  # of 100: down by ten, twice
    before = [value.detach().clone() for value in learner.model.parameters()]
    learner.step()
    assert learner.optimiser.param_groups[0]["lr"] == pytest.approx(1e-5)
    went = [new.detach() - old for new, old in zip(learner.model.parameters(), before, strict=True)]
    length = torch.cat([one.flatten().double() for one in went]).norm()
    assert 0 < length <= 2e-8  # 1e-5 times 1e-3, and rounding


def test_norms_and_biases_do_not_decay(random):
    groups = small_learner(random, replace(SMALL, weight_decay=0.05)).optimiser.param_groups
    for group in groups:
        assert all((value.ndim > 1) == (group["weight_decay"] == 0.05) for value in group["params"])
    assert sorted(group["weight_decay"] for group in groups) == [0.0, 0.05]


def test_a_shape_that_is_alike_counts_as_much_as_is_asked_for(random):
    likes = (np.arange(6)[:, None] + [1, 2]) % 6
    learner = small_learner(random, replace(SMALL, alike=2, alike_weight=0.25), likes=likes)
    assert learner.batch(0).alike.unique().tolist() == [0.0, 0.25]


def test_two_views_of_a_batch_differ_and_belong_to_its_shapes():
    views = np.zeros((6, 4, 32, 32), np.uint8)
    views += (40 * np.arange(6, dtype=np.uint8))[:, None, None, None] + np.arange(4, dtype=np.uint8)[
        :, None, None
    ]
    settings = replace(RECIPES["paper"], points=64, image_size=32, batch_size=3)
    learner = Learner(np.zeros((6, 64, 3), np.float32), views, TINY, settings, torch.device("cpu"))
    seen = set()
    for step in range(learner.steps_per_epoch):
        _, a, b, *_ = learner.batch(step)
        a, b = (255 * a[:, 16, 16]).round().int().tolist(), (255 * b[:, 16, 16]).round().int().tolist()
        assert all(x // 40 == y // 40 and x != y for x, y in zip(a, b, strict=True))
        seen |= {x // 40 for x in a}
    assert seen == set(range(6))


def test_a_run_holds_what_it_says(made_library, tmp_path):
    run = tmp_path / "run"
    model = train(made_library, run, settings=SMALL, network=TINY, quiet=True)
    network, training, facts = read_settings(run)
    assert (network, training) == (TINY, SMALL)
    assert facts["library"] == str(made_library.path)
    card = json.loads((run / "card.json").read_text())
    assert card["trained_on"] == "12 shapes" and card["epochs"] == 4 and card["recipe"] == "dense"
    assert load_model(run, "cpu").fingerprint == model.fingerprint == card["fingerprint"]
    rows = read_metrics(run)
    assert (
        rows[-1]["step"] == 12
        and {"loss", "cross_view", "cross_modality", "judge_accuracy"} <= rows[-1].keys()
    )
    assert list((run / "tensorboard").iterdir())


def test_settings_come_back_whatever_a_path_is_called(tmp_path):
    facts = {"library": 'my "parts"\\\t\x01\x7f \u00e9 \u2028 \U0001f529.lance', "shapes": 12, "threads": 2}
    settings = replace(SMALL, learning_rate=1e-9, seed=(1 << 63) - 1)
    folder.write_settings(tmp_path, TINY, settings, **facts)
    assert read_settings(tmp_path) == (TINY, settings, facts)
    folder.write_settings(tmp_path, TINY, settings, started_from="not UTF-8: \udcff")
    assert read_settings(tmp_path)[2] == {"started_from": "not UTF-8: ?"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        folder.write_settings(tmp_path, TINY, replace(settings, margin=math.inf))
    assert read_settings(tmp_path)[1] == settings


def test_a_run_that_was_stopped_ends_with_the_same_weights(made_library, tmp_path, monkeypatch, capsys):
    whole = train(made_library, tmp_path / "whole", settings=SMALL, network=TINY, quiet=True)
    real_step = Learner.step

    def stopping(self):
        if self.place.step == 5:
            raise KeyboardInterrupt
        return real_step(self)

    monkeypatch.setattr(Learner, "step", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(made_library, tmp_path / "cut", settings=SMALL, network=TINY, quiet=True)
    assert "--resume" in capsys.readouterr().err
    monkeypatch.setattr(Learner, "step", real_step)
    resumed = train(made_library, tmp_path / "cut", resume=True, quiet=True)
    assert resumed.fingerprint == whole.fingerprint
    assert [row["step"] for row in read_metrics(tmp_path / "cut")][-1] == 12


def test_a_run_with_likes_that_was_stopped_ends_with_the_same_weights(made_library, tmp_path, monkeypatch):
    settings = replace(SMALL, alike=3)
    train(made_library, tmp_path / "first", settings=SMALL, network=TINY, quiet=True)
    start = {"settings": settings, "initial": tmp_path / "first", "quiet": True}
    whole = train(made_library, tmp_path / "whole", **start)
    step = Learner.step

    def stop(self):
        if self.place.step == 5:
            raise KeyboardInterrupt
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", stop)
        with pytest.raises(KeyboardInterrupt):
            train(made_library, tmp_path / "run", **start)
    resumed = train(made_library, tmp_path / "run", resume=True, quiet=True)
    assert resumed.fingerprint == whole.fingerprint
    (tmp_path / "run" / "likes.npy").write_bytes(b"none")
    with pytest.raises(CrosshapeError, match="likes.npy is not the list of likes of these"):
        train(made_library, tmp_path / "run", resume=True)
    with pytest.raises(UsageError, match="setting 'alike' needs a model that tells what is alike"):
        train(made_library, tmp_path / "other", settings=settings, network=TINY)
    assert not (tmp_path / "other").exists()


def test_a_trained_model_is_made_ready_for_whole_clouds(made_library, tmp_path):
    for name, count in (("left", 0), ("ready", 200)):
        settings = replace(SMALL, encoding_points=count)
        train(made_library, tmp_path / name, settings=settings, network=TINY, quiet=True)
    left, ready = (load_model(tmp_path / name, "cpu") for name in ("left", "ready"))
    assert (left.point_count, ready.point_count) == (128, min(200, made_library.settings.points))
    norms = {name for name, _ in left.named_buffers() if name.endswith(("running_mean", "running_var"))}
    for name, value in left.state_dict().items():
        if name not in norms and not name.endswith("num_batches_tracked"):
            assert torch.equal(value, ready.state_dict()[name]), name
    assert not torch.equal(left.points.head_norm.running_mean, ready.points.head_norm.running_mean)
    again = train(made_library, tmp_path / "ready", resume=True, quiet=True)
    assert again.fingerprint == ready.fingerprint


def test_a_run_that_is_there_is_not_overwritten(made_library, tmp_path):
    run = tmp_path / "run"
    train(made_library, run, settings=replace(SMALL, epochs=1), network=TINY, quiet=True)
    with pytest.raises(CrosshapeError) as error:
        train(made_library, run, settings=SMALL, network=TINY)
    assert str(error.value) == (
        f"{run} already holds a run (epoch 1 of 1). Add --resume to continue it or --overwrite to replace it."
    )
    (run / "notes.txt").write_text("mine")
    train(made_library, run, settings=replace(SMALL, epochs=2), network=TINY, overwrite=True, quiet=True)
    assert read_settings(run)[1].epochs == 2 and (run / "notes.txt").read_text() == "mine"


def test_a_run_stays_until_the_one_in_its_place_can_begin(made_library, tmp_path, monkeypatch):
    run = tmp_path / "run"
    train(made_library, run, settings=replace(SMALL, epochs=1), network=TINY, quiet=True)
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    words = {"settings": SMALL, "network": TINY, "overwrite": True, "quiet": True}
    with pytest.raises(CrosshapeError, match="nope.safetensors cannot be read"):
        train(made_library, run, image_weights=tmp_path / "nope.safetensors", **words)

    def stopped(self, seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(Learner, "epochs_in", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(made_library, run, minutes=1.0, **words)
    for minutes in (-1.0, 0.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="minutes is .*; it must be more than 0"):
            train(made_library, run, minutes=minutes, **words)
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("recipe", ["paper", "dense"])
def test_measuring_the_first_steps_changes_nothing(recipe, random, one_thread):
    settings = replace(RECIPES[recipe], points=64, image_size=32, batch_size=6)
    points = random.normal(size=(12, 100, 3)).astype(np.float32)
    views = random.integers(0, 256, (12, 4, 32, 32), dtype=np.uint8)
    measured, other = (Learner(points, views, TINY, settings, torch.device("cpu")) for _ in range(2))
    chance = torch.random.get_rng_state()
    assert measured.epochs_in(1.0) >= 1
    assert measured.place == folder.Place() and torch.equal(chance, torch.random.get_rng_state())
    assert measured.optimiser.state_dict() == other.optimiser.state_dict()
    for _ in range(2):
        assert torch.equal(measured.step()["loss"], other.step()["loss"])
    for name, module in measured._modules().items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, other._modules()[name].state_dict()[key]), (name, key)


def test_as_many_epochs_by_the_clock_are_those_by_number(made_library, tmp_path, monkeypatch, one_thread):
    measure_ = Learner.epochs_in
    monkeypatch.setattr(Learner, "epochs_in", lambda self, seconds: 2 * bool(measure_(self, seconds)))
    words = {"network": TINY, "quiet": True}
    timed = train(made_library, tmp_path / "timed", settings=SMALL, minutes=1.0, **words)
    counted = train(made_library, tmp_path / "counted", settings=replace(SMALL, epochs=2), **words)
    assert timed.fingerprint == counted.fingerprint
    assert read_settings(tmp_path / "timed")[1].epochs == 2 == timed.card["epochs"]


def test_the_whole_step_is_timed_until_the_device_is_done(random, monkeypatch, one_thread):
    points = random.normal(size=(6, 100, 3)).astype(np.float32)
    views = random.integers(0, 256, (6, 4, 32, 32), dtype=np.uint8)
    settings = replace(SMALL, points=64, batch_size=6)
    learner = Learner(points, views, TINY, settings, torch.device("cpu"))
    monkeypatch.setattr(learner.optimiser, "step", lambda: time.sleep(0.2))
    assert learner.epochs_in(2.2) <= 10
    waited = []
    monkeypatch.setattr("torch.accelerator.synchronize", waited.append)
    learner.device = torch.device("cuda")
    learner._now()
    assert waited == [learner.device]


def test_torch_is_left_as_it_was(made_library, tmp_path, monkeypatch):
    """Threads that a busy machine or the run that is gone on with asks for, and cuDNN's way, hold while it learns."""
    before = torch.get_num_threads(), torch.backends.cudnn.benchmark
    seen = []

    def slow(self, seconds):
        torch.set_num_threads(1)
        return 1

    def stopped(self):
        seen.append((torch.get_num_threads(), torch.backends.cudnn.benchmark))
        raise KeyboardInterrupt

    monkeypatch.setattr(Learner, "epochs_in", slow)
    monkeypatch.setattr(Learner, "step", stopped)
    try:
        torch.set_num_threads(2)
        torch.backends.cudnn.benchmark = False
        for words in ({"settings": SMALL, "network": TINY, "minutes": 1.0}, {"resume": True}):
            with pytest.raises(KeyboardInterrupt):
                train(made_library, tmp_path / "run", **words)
            assert (torch.get_num_threads(), torch.backends.cudnn.benchmark) == (2, False)
        assert seen == [(1, True), (1, True)]
    finally:
        torch.set_num_threads(before[0])
        torch.backends.cudnn.benchmark = before[1]


def test_words_that_contradict_or_find_nothing(made_library, tmp_path):
    with pytest.raises(UsageError, match="give one of them"):
        train(made_library, tmp_path / "run", resume=True, overwrite=True)
    with pytest.raises(CrosshapeError, match="holds no run to resume"):
        train(made_library, tmp_path / "run", settings=SMALL, resume=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "holiday.txt").write_text("photos")
    with pytest.raises(CrosshapeError, match="is not empty and holds no run"):
        train(made_library, tmp_path / "full", settings=SMALL)
    (tmp_path / "file").write_text("")
    with pytest.raises(CrosshapeError, match="is a file; give a folder"):
        train(made_library, tmp_path / "file", settings=SMALL)


def test_another_process_at_work_is_left_alone(made_library, tmp_path):
    """Neither its half-written files nor its run are touched by a second one."""
    train(made_library, tmp_path / "run", settings=replace(SMALL, epochs=1), network=TINY, quiet=True)
    half = tmp_path / "run" / f".{STATE}.abc"
    half.write_bytes(b"half")
    with folder.alone(tmp_path / "run"):
        for words in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(CrosshapeError, match="another process is training into"):
                train(made_library, tmp_path / "run", settings=SMALL, network=TINY, **words)
    assert half.exists() and (tmp_path / "run" / STATE).exists()
    train(made_library, tmp_path / "run", resume=True, quiet=True)
    assert not half.exists()


def test_two_runs_do_not_begin_in_one_new_folder(made_library, tmp_path, monkeypatch):
    """The second one is told while the first still looks at its first steps, and the settings are the first one's."""
    run, words = tmp_path / "run", {"network": TINY, "quiet": True}

    def meanwhile(self, seconds):
        with pytest.raises(CrosshapeError, match="another process is training into"):
            train(made_library, run, settings=replace(SMALL, epochs=1, seed=5), **words)
        return 2

    monkeypatch.setattr(Learner, "epochs_in", meanwhile)
    train(made_library, run, settings=SMALL, minutes=1.0, **words)
    assert read_settings(run)[1] == replace(SMALL, epochs=2)


def test_a_run_that_another_process_began_meanwhile_is_left_alone(tmp_path, monkeypatch):
    """Between the first look at a folder and the lock."""
    (tmp_path / "run").mkdir()
    alone = folder.alone

    def late(run):
        folder.write_settings(run, TINY, SMALL)
        return alone(run)

    monkeypatch.setattr(folder, "alone", late)
    with (
        pytest.raises(CrosshapeError, match="already holds a run"),
        folder.begin(tmp_path / "run", False, False),
    ):
        pass


@pytest.mark.parametrize(
    "words, reason",
    [
        (
            "--resume --epochs 9 --set k=4",
            "--resume goes on with the settings of the run; leave --epochs, --set out",
        ),
        ("--epochs 2 --minutes 1", "--minutes sets the number of epochs; give --epochs or --minutes"),
        ("--set recipe=paper", "--set recipe=paper: name the recipe with --recipe"),
    ],
)
def test_words_of_training_that_exclude_each_other(made_library, tmp_path, capsys, words, reason):
    assert main(["train", str(made_library.path), str(tmp_path / "run"), *words.split()]) == 2
    assert capsys.readouterr().err == f"crosshape: {reason}\n"


def test_what_a_run_started_from_stays_on_its_card(made_library, tmp_path):
    one = train(made_library, tmp_path / "one", settings=replace(SMALL, epochs=1), network=TINY, quiet=True)
    one.card["license"] = "for research"
    one.save(tmp_path / "one")
    settings = replace(SMALL, epochs=1)
    two = train(made_library, tmp_path / "two", settings=settings, initial=tmp_path / "one", quiet=True)
    again = train(made_library, tmp_path / "two", resume=True, quiet=True)
    for model in (two, again):
        assert model.card["started_from"] == f"{tmp_path / 'one'} ({one.fingerprint})"
        assert model.card["license"] == "for research"


def test_what_goes_on_from_a_model_does_so_by_a_recipe_of_its_own(made_library, tmp_path):
    train(made_library, tmp_path / "one", settings=replace(SMALL, epochs=1), network=TINY, quiet=True)
    small = ["--epochs", "1", "--points", "64", "--image-size", "32", "--set", "projection=16"]
    words = ["train", str(made_library.path)]
    first = ["--from", str(tmp_path / "one")]
    assert main([*words, str(tmp_path / "two"), *first, *small]) == 0
    _, settings, _ = folder.read_settings(tmp_path / "two")
    assert settings.recipe == "further" and settings.learning_rate == RECIPES["further"].learning_rate
    assert (settings.epochs, settings.image_size, settings.alike) == (1, 32, 8)
    assert main([*words, str(tmp_path / "three"), *first, *small, "--recipe", "dense"]) == 0
    _, settings, _ = folder.read_settings(tmp_path / "three")
    assert (settings.recipe, settings.alike) == ("dense", 0)
    assert len(folder.load_likes(tmp_path / "two", len(made_library))) == len(made_library)


def test_a_recipe_that_goes_on_needs_a_model_to_go_on_from(made_library, tmp_path, capsys):
    words = ["train", str(made_library.path), str(tmp_path / "run"), "--points", "64", "--image-size", "32"]
    assert main([*words, "--recipe", "further"]) == 2
    assert "needs a model that tells what is alike: --from RUN" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_broken_state_is_named(made_library, tmp_path):
    run = tmp_path / "run"
    train(made_library, run, settings=replace(SMALL, epochs=1), network=TINY, quiet=True)
    (run / STATE).write_bytes((run / STATE).read_bytes()[:100])
    with pytest.raises(CrosshapeError, match=r"state\.safetensors is not the state of a run"):
        train(made_library, run, resume=True)


def test_metrics_cut_in_the_middle_of_a_line_are_mended(made_library, tmp_path):
    run = tmp_path / "run"
    train(made_library, run, settings=replace(SMALL, epochs=1), network=TINY, quiet=True)
    with (run / METRICS).open("a") as file:
        file.write('{"step": 99, "loss"')
    train(made_library, run, resume=True, quiet=True)
    assert all(row["step"] <= 3 for row in read_metrics(run))


@pytest.mark.parametrize(
    "values, words",
    [
        ({"batchsize": 4}, "unknown setting 'batchsize' in run.toml; did you mean 'batch_size'?"),
        ({"epochs": "many"}, "setting 'epochs' in run.toml is 'many'; it must be of type int, as in 100"),
    ],
)
def test_settings_that_do_not_exist(values, words):
    with pytest.raises(UsageError) as error:
        changed(TrainSettings(), values, "run.toml")
    assert str(error.value) == words


@pytest.mark.parametrize(
    "values, words",
    [
        ({"optimiser": "adam"}, "setting 'optimiser' is 'adam'; it must be sgd or adamw"),
        ({"points": 4096}, "setting 'points' is 4096; it must be 32 to 256 (what the library holds)"),
        ({"turn": 270.0}, "setting 'turn' is 270.0; it must be 0.0 to 180.0"),
        ({"batch_size": 1}, "setting 'batch_size' is 1; it must be 2 to 65536"),
        (
            {
                "cross_view": "none",
                "cross_modality": "none",
                "cross_cloud_weight": 0.0,
                "cosine_weight": 0.0,
                "reconstruction_weight": 0.0,
            },
            "there is nothing to learn from: of cross_view, cross_modality, cross_cloud_weight, cosine_weight and "
            "reconstruction_weight one must be on",
        ),
        ({"cross_view_weight": -1.0}, "setting 'cross_view_weight' is -1.0; it must be 0.0 to 1000000.0"),
        ({"weight_decay": -1.0}, "setting 'weight_decay' is -1.0; it must be 0.0 to 10.0"),
        ({"margin": math.nan}, "setting 'margin' is nan; it must be 0.0 to 1000000.0"),
        ({"cosine_weight": math.inf}, "setting 'cosine_weight' is inf; it must be 0.0 to 1000000.0"),
        ({"clip": -3.0}, "setting 'clip' is -3.0; it must be 0.0 to 1000000000.0"),
        ({"alike": -1}, "setting 'alike' is -1; it must be 0 to 1000"),
        (
            {"alike": 3, "cross_view": "triplet"},
            "setting 'alike' takes its negatives from the whole batch: no triplet, no pairs beside it",
        ),
        ({"seed": -1}, "setting 'seed' is -1; it must be 0 to 9223372036854775807"),
    ],
)
def test_settings_that_cannot_be(made_library, tmp_path, values, words):
    with pytest.raises(UsageError) as error:
        train(made_library, tmp_path / "run", settings=replace(SMALL, **values), network=TINY)
    assert str(error.value) == words
    assert not (tmp_path / "run").exists()


def test_every_number_of_training_has_bounds(made_library):
    """No setting takes a number below 0, one without end, or what is no number."""
    for recipe in RECIPES.values():
        fits = replace(recipe, points=128, image_size=32)
        check(fits, made_library)
        for name, value in vars(fits).items():
            wrong = {int: (-1, 1 << 70), float: (-1.0, math.inf, math.nan)}.get(type(value), ())
            for one in wrong:
                with pytest.raises(UsageError, match=f"setting '{name}' is .*; it must be "):
                    check(replace(fits, **{name: one}), made_library)


def test_a_start_that_is_not_there_leaves_no_run(made_library, tmp_path):
    with pytest.raises(CrosshapeError, match="nowhere is not there"):
        train(made_library, tmp_path / "run", settings=SMALL, initial=tmp_path / "nowhere")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "values, words",
    [
        ({"graph": "tree"}, "settings: 'graph' is 'tree'; it must be features or space."),
        ({"k": 0}, "settings: 'k' is 0; it must be between 1 and 256."),
        ({"edge_widths": ()}, "settings: 'edge_widths' is (); it must be between 1 and 4096."),
    ],
)
def test_networks_that_cannot_be(made_library, tmp_path, values, words):
    with pytest.raises(CrosshapeError) as error:
        train(made_library, tmp_path / "run", settings=SMALL, network=replace(TINY, **values))
    assert str(error.value) == words
    assert not (tmp_path / "run").exists()


def test_training_tells_pairs_apart(made_library, tmp_path):
    """After a few epochs the judge knows pictures and clouds of the shapes it saw from false pairs."""
    settings = replace(SMALL, epochs=60, batch_size=12, learning_rate=3e-3)
    train(made_library, tmp_path / "run", settings=settings, network=TINY, quiet=True)
    rows = read_metrics(tmp_path / "run")
    late = np.mean([row["judge_accuracy"] for row in rows[-10:]])  # a row is one step of 12 pairs
    assert late > 0.65 > rows[0]["judge_accuracy"]
    assert rows[-1]["cross_cloud"] < 0.8 * rows[0]["cross_cloud"]
    assert rows[-1]["reconstruction"] < 0.5 * rows[0]["reconstruction"]


def test_held_out_shapes_are_few_and_repeat_by_seed():
    assert len(hold_out(99, 0.05, 0)) == 0 and len(hold_out(1000, 0.0, 0)) == 0
    held = hold_out(1000, 0.05, 3)
    assert len(held) == len(set(held.tolist())) == 50 and held.max() < 1000
    assert np.array_equal(held, hold_out(1000, 0.05, 3)) and not np.array_equal(held, hold_out(1000, 0.05, 4))


def test_the_verdict_knows_a_perfect_model_and_a_blind_one(random):
    points = random.normal(size=(40, 128, 3)).astype(np.float32)
    views = random.integers(0, 256, (40, 3, 32, 32), dtype=np.uint8)

    class Seer:
        """Knows every shape by the size of its cloud and the grey of its views."""

        point_count, image_size, blind = 64, 32, False

        def code(self, values):
            number = np.argmin(np.abs(values[:, None] - np.arange(40)), axis=1)
            return np.eye(40, dtype=np.float32)[number * (not self.blind)]

        def encode_points(self, clouds):
            return self.code(np.linalg.norm(clouds, axis=2).mean(axis=1))

        def encode_views(self, pictures):
            flat = pictures.reshape(-1, 32 * 32).mean(axis=1)
            return self.code(flat).reshape(*pictures.shape[:2], 40)

        def correspond(self, pictures, clouds):
            return pictures @ clouds.T - 0.5

    for i in range(40):
        points[i] *= i / np.linalg.norm(points[i], axis=1, keepdims=True)
        views[i] = i
    held = np.arange(0, 40, 2)
    assert measure(Seer(), points, views, held) == Verdict(1.0, 1.0, 1.0)
    blind = Seer()
    blind.blind = True
    seen = measure(blind, points, views, held)
    assert seen.judge == 0.5 and seen.by_picture <= 0.05 and seen.by_cloud <= 0.05
    text = words({"trained": Verdict(1, 1, 1), "untrained": seen}, 20)
    assert "training helped pictures and clouds." in text and "made" not in text
    assert "worse" in words({"trained": seen, "untrained": Verdict(1, 1, 1)}, 20)
    known = {"trained": seen, "untrained": seen, "chairs": Verdict(1, 1, 1)}
    assert "chairs, which comes with crosshape, does better here: crosshape embed chairs" in words(known, 20)
    assert "comes with" not in words({**known, "chairs": Verdict(1, 1, 0)}, 20)


def test_the_verdict_never_asks_for_what_is_shown(random):
    """Not for the view that is the query, nor for the points that it is made of."""
    points = random.normal(size=(20, 128, 3)).astype(np.float32)
    points *= 0.1 * np.arange(128)[:, None] / np.linalg.norm(points, axis=2, keepdims=True)
    views = np.arange(60, dtype=np.uint8).reshape(20, 3, 1, 1) * np.ones((16, 16), np.uint8)

    class Literal:
        """Knows a view only if it is the very same one, and a point by its distance from the centre."""

        point_count, image_size = 64, 16
        seen: list[set[int]] = []

        def encode_points(self, clouds):
            self.seen.append(set(np.rint(10 * np.linalg.norm(clouds, axis=2)).astype(int).ravel().tolist()))
            return np.ones((len(clouds), 60), np.float32)

        def encode_views(self, pictures):
            return np.eye(60, dtype=np.float32)[pictures[..., 0, 0]]

        def correspond(self, pictures, clouds):
            return pictures @ clouds.T

    model = Literal()
    assert measure(model, points, views, np.arange(0, 20, 2)).by_picture <= 0.1
    there, asked, _ = model.seen
    assert len(there) == len(asked) == 64 and not there & asked


def test_a_gain_within_chance_is_no_gain():
    before, after = Verdict(0.5, 0.5, 0.5), Verdict(0.6, 0.6, 0.4)
    assert "training made no clear difference" in words({"trained": after, "untrained": before}, 20)
    text = words({"trained": after, "untrained": before, "chairs": Verdict(0.6, 0.7, 0.5)}, 20)
    assert "does better here" not in text
    assert "training made clouds worse" in words({"trained": after, "untrained": before}, 400)


def test_a_model_that_comes_along_is_found_by_name_and_joins_the_verdict(
    made_library, made_folder, tmp_path, monkeypatch, capsys
):
    model = untrained_model(TINY, points=128, image_size=48, clouds=made_library.points())
    model.card["name"] = "parts"
    model.save(tmp_path / "weights" / "parts", half=True)
    monkeypatch.setattr("crosshape.networks.model.SHIPPED", tmp_path / "weights")
    monkeypatch.chdir(tmp_path)
    loaded = crosshape.load("parts")
    assert loaded.fingerprint == json.loads((tmp_path / "weights/parts/card.json").read_text())["fingerprint"]
    assert loaded.fingerprint != model.fingerprint and loaded.source == "parts"
    pairs = [m.encode_points(made_library.points()) for m in (loaded, model)]
    first, second = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in pairs)
    assert (first * second).sum(axis=1).mean() > 0.98  # near points change places
    size = (tmp_path / "weights/parts/model.safetensors").stat().st_size
    assert size < 0.55 * sum(4 * value.numel() for value in model.state_dict().values())
    with pytest.raises(CrosshapeError, match=r"Models that come with crosshape: parts\."):
        crosshape.load("prts")
    monkeypatch.setattr("crosshape.learning.verdict.LEAST", 10)
    settings = replace(SMALL, epochs=1, held_out=0.25)
    prepare = PrepareSettings(points=256, views=4, image_size=48)  # larger than what is learned from
    library = crosshape.add(made_folder, tmp_path / "large.lance", settings=prepare, workers=1)
    train(library, tmp_path / "run", settings=settings, network=TINY)
    assert re.search(r"trained .*\n  untrained .*\n  parts ", capsys.readouterr().err)
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    assert list(card["verdict"]) == ["trained", "untrained", "parts"]
    train(made_library, tmp_path / "from", settings=settings, initial="parts", quiet=True)
    assert crosshape.load(tmp_path / "from").settings == TINY


def test_weights_too_large_for_half_are_refused(tmp_path):
    model = untrained_model(TINY, points=64, image_size=16)
    with torch.no_grad():
        model.points.mix.weight[0, 0] = 1e6
    with pytest.raises(ValueError, match="too large for 16 bits"):
        model.save(tmp_path / "m", half=True)
    assert not (tmp_path / "m" / "model.safetensors").exists()


def test_calibration_gathers_the_statistics_of_what_a_model_is_asked_about(random):
    from crosshape.learning.calibration import calibrate
    from crosshape.networks.model import untrained_model

    clouds = (0.2 * random.normal(size=(70, 128, 3)) + [1.0, 0, 0]).astype(np.float32)
    views = random.integers(0, 256, (70, 3, 32, 32), dtype=np.uint8)
    other = random.normal(size=(70, 128, 3)).astype(np.float32)
    model = untrained_model(TINY, points=96, image_size=32, clouds=other, views=views[:, :1])
    weights = {name: value.clone() for name, value in model.named_parameters()}
    first, before = model.points.edges[0].norm, model.encode_points(clouds)
    calibrate(model, clouds, views, np.arange(65))
    again = untrained_model(TINY, points=96, image_size=32, clouds=other, views=views[:, :1])
    calibrate(again, clouds, views, np.arange(65))
    assert model.fingerprint == again.fingerprint
    assert all(torch.equal(weights[name], value) for name, value in model.named_parameters())
    assert not model.points.training and first.momentum == 0.1
    assert not np.allclose(before, model.encode_points(clouds))
    # a convolution's statistics by hand: the mean over batches of 64 and fewer, a batch of one left out
    picked = np.random.default_rng(0).permutation(np.arange(65))[:64]
    pictures = torch.from_numpy(views[np.sort(picked), np.sort(picked) % 3])
    x = ((pictures.float() / 255 - 0.45) / 0.225)[:, None]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=False):
        mean = model.images.conv1(x).mean(dim=(0, 2, 3))
    torch.testing.assert_close(model.images.bn1.running_mean, mean, rtol=5e-2, atol=5e-2)


def test_statistics_are_of_training_shapes_alone(random):
    clouds = random.normal(size=(40, 128, 3)).astype(np.float32)
    views = random.integers(0, 256, (40, 3, 32, 32), dtype=np.uint8)
    model = untrained_model(TINY, points=96, image_size=32, clouds=clouds, views=views)
    clouds[30:] = np.nan
    make_ready(model, replace(SMALL, encoding_points=96), clouds, views, np.arange(30))
    assert model.points.head_norm.running_mean.isfinite().all()


@pytest.mark.skipif(
    signal.getsignal(signal.SIGINT) is not signal.default_int_handler,
    reason="Ctrl-C means something else here",
)
def test_ctrl_c_waits_for_the_end_of_a_step_and_the_run_goes_on_to_the_bit(random, tmp_path):
    points = random.normal(size=(12, 100, 3)).clip(-0.5, 0.5).astype(np.float32)
    views = random.integers(0, 256, (12, 4, 32, 32), dtype=np.uint8)
    settings = replace(SMALL, points=64, batch_size=6, epochs=3)

    def learner():
        return Learner(points, views, TINY, settings, torch.device("cpu"))

    whole, broken = learner(), learner()
    (tmp_path / "whole").mkdir()
    (tmp_path / "broken").mkdir()
    whole.run(tmp_path / "whole", quiet=True)
    losses = broken.losses

    def interrupted(batch):
        parts = losses(batch)  # BatchNorm has counted this batch already
        if broken.place.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return parts

    broken.losses = interrupted
    with pytest.raises(KeyboardInterrupt):
        broken.run(tmp_path / "broken", quiet=True)
    assert broken.place.step == 3  # of 6
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    on = learner()
    on.run(tmp_path / "broken", quiet=True)
    assert on.place.step == 6
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, on.model.state_dict()[name]), name


def test_a_run_is_not_resumed_on_other_shapes(made_library, made_folder, tmp_path, capsys):
    import shutil

    from crosshape.cli import main
    from crosshape.library.adding import add

    run = tmp_path / "run"
    train(made_library, run, settings=SMALL, network=TINY, quiet=True)
    before = (run / "model.safetensors").read_bytes()
    shutil.copytree(made_library.path, tmp_path / "grown.lance")
    add(made_folder / "mug" / "mug_0.obj", tmp_path / "grown.lance", prefix="more", workers=1)
    assert main(["train", str(tmp_path / "grown.lance"), str(run), "--resume"]) == 1
    told = capsys.readouterr().err
    assert f"{run} learns from other shapes than {tmp_path / 'grown.lance'} holds now: 12 of" in told
    assert f"13 now. A run keeps its shapes. Start another one from it: crosshape train {tmp_path}" in told
    assert (run / "model.safetensors").read_bytes() == before
    shutil.copytree(made_library.path, tmp_path / "elsewhere.lance")
    train(tmp_path / "elsewhere.lance", run, resume=True, quiet=True)


def test_features_of_an_unfinished_run_are_said_to_be_such(made_library, tmp_path, capsys):
    import shutil
    import tomllib

    from crosshape.cli import main

    run = tmp_path / "run"
    train(made_library, run, settings=SMALL, network=TINY, quiet=True)
    shutil.copytree(made_library.path, tmp_path / "a.lance")
    assert main(["embed", str(run), str(tmp_path / "a.lance")]) == 0
    assert "is unfinished" not in capsys.readouterr().err
    epochs = tomllib.loads((run / "run.toml").read_text())["training"]["epochs"]
    text = (run / "run.toml").read_text()
    (run / "run.toml").write_text(text.replace(f"epochs = {epochs}\n", f"epochs = {epochs + 5}\n"))
    assert main(["embed", str(run), str(tmp_path / "a.lance")]) == 0
    assert "is unfinished, epoch" in capsys.readouterr().err


def test_negatives_of_recipe_paper_are_of_any_kind():
    """A library lies sorted by name, and names tell kinds: the other shape of a pair must not be the next by name."""
    kind = np.repeat(np.arange(20), 20)
    points = np.random.default_rng(0).normal(size=(400, 32, 3)).astype(np.float32)
    views = np.broadcast_to(kind[:, None, None, None].astype(np.uint8) * 10, (400, 2, 16, 16))
    settings = replace(RECIPES["paper"], points=32, image_size=16, augmentation="paper")
    learner = Learner(points, views, TINY, settings, torch.device("cpu"))
    same = []
    for step in range(12):
        shown = learner.batch(step).view_a.amax(dim=(1, 2))
        same.append(float((shown == shown.roll(1)).float().mean()))
    assert np.mean(same) < 0.12  # one in twenty by chance


def test_a_run_killed_before_its_first_epoch_goes_on_from_where_it_started(
    made_library, tmp_path, monkeypatch
):
    train(made_library, tmp_path / "first", settings=SMALL, network=TINY, quiet=True)
    settings = replace(SMALL, seed=5)
    words = {"settings": settings, "initial": tmp_path / "first", "quiet": True}
    whole = train(made_library, tmp_path / "whole", **words)

    class Killed(BaseException):
        pass

    def kill(self, *_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", kill)
        with pytest.raises(Killed):
            train(made_library, tmp_path / "run", **words)
    assert train(made_library, tmp_path / "run", resume=True, quiet=True).fingerprint == whole.fingerprint
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "run", kill)
        with pytest.raises(Killed):
            train(made_library, tmp_path / "other", **words)
    with pytest.raises(
        CrosshapeError, match="stopped before its first state was saved. Start it again with --over"
    ):
        train(made_library, tmp_path / "other", resume=True)


def test_half_a_step_is_not_saved(made_library, tmp_path, monkeypatch):
    whole = train(made_library, tmp_path / "whole", settings=SMALL, network=TINY, quiet=True)
    losses = Learner.losses

    def stop(self, batch):
        found = losses(self, batch)  # BatchNorm has counted
        if self.place.step == 7:
            raise KeyboardInterrupt
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "losses", stop)
        with pytest.raises(KeyboardInterrupt):
            train(made_library, tmp_path / "run", settings=SMALL, network=TINY, quiet=True)
    assert train(made_library, tmp_path / "run", resume=True, quiet=True).fingerprint == whole.fingerprint


def test_weights_that_are_no_numbers_do_not_replace_a_saved_state(made_library, tmp_path, monkeypatch):
    whole = train(made_library, tmp_path / "whole", settings=SMALL, network=TINY, quiet=True)
    step = Learner.step

    def spoil(self):
        found = step(self)
        if self.place.step == 5:
            with torch.no_grad():
                next(self.model.points.parameters()).fill_(math.nan)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", spoil)
        patch.setattr("crosshape.learning.training.SAVE_EVERY", 0.0)
        with pytest.raises(CrosshapeError, match="not finite at step 5; .* The last saved state is kept"):
            train(made_library, tmp_path / "run", settings=SMALL, network=TINY, quiet=True)
    assert train(made_library, tmp_path / "run", resume=True, quiet=True).fingerprint == whole.fingerprint


def test_other_networks_than_those_that_training_starts_from_are_refused(made_library, tmp_path, capsys):
    train(made_library, tmp_path / "first", settings=replace(SMALL, epochs=1), network=TINY, quiet=True)
    words = ["train", str(made_library.path), str(tmp_path / "run"), "--from", str(tmp_path / "first")]
    assert main([*words, "--set", "k=6", "--points", "64", "--image-size", "32"]) == 2
    assert "--from keeps the networks of" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_a_folder_with_nothing_but_a_cache_can_be_trained_into(made_library, tmp_path):
    (tmp_path / "run" / "cache").mkdir(parents=True)
    (tmp_path / "run" / "cache" / "points-1.npy").write_bytes(b"half")
    train(made_library, tmp_path / "run", settings=replace(SMALL, epochs=1), network=TINY, quiet=True)


def test_a_run_that_was_not_made_ready_is_unfinished(made_library, tmp_path, monkeypatch):
    settings = replace(SMALL, encoding_points=200)
    with monkeypatch.context() as patch:
        patch.setattr("crosshape.learning.training.make_ready", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(made_library, tmp_path / "run", settings=settings, network=TINY, quiet=True)
    assert folder.unfinished(tmp_path / "run") == "unfinished, epoch 4 of 4"
    assert load_model(tmp_path / "run", "cpu").card["ready"] is False
    train(made_library, tmp_path / "run", resume=True, quiet=True)
    assert folder.unfinished(tmp_path / "run") is None
    model = load_model(tmp_path / "run", "cpu")
    model.card["ready"] = False
    make_ready(model, settings, made_library.points(), made_library.views(), np.arange(12))
    assert model.card["ready"] is True  # whoever makes it ready, as the scripts in results do


@pytest.mark.parametrize("count", [33, 65, 66, 97])
def test_statistics_are_gathered_from_even_parts(count, monkeypatch):
    from crosshape.learning import calibration

    model = untrained_model(TINY, points=64, image_size=16)
    seen = []
    points = np.random.default_rng(0).normal(size=(count, 64, 3)).astype(np.float32)
    views = np.zeros((count, 2, 16, 16), np.uint8)
    model.points.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    calibration.calibrate(model, points, views, np.arange(count))
    assert sum(seen) == count and max(seen) <= 32 and max(seen) - min(seen) <= 1


@pytest.mark.parametrize("size", [4, 5, 8])
def test_no_shape_is_in_a_batch_twice(size):
    """Also where all that are like one are in it already: a judge of all pairs would call the two different."""
    likes = np.array([[1, 2], [0, 2], [0, 1], [0, 1], [0, 1], [0, 1], [0, 1], [0, 1]])
    views = np.broadcast_to(30 * np.arange(8, dtype=np.uint8)[:, None, None, None], (8, 2, 32, 32))
    settings = replace(SMALL, alike=2, batch_size=size, points=64)
    clouds = np.zeros((8, 64, 3), np.float32)
    one, again = (Learner(clouds, views, TINY, settings, torch.device("cpu"), likes=likes) for _ in range(2))
    for step in range(12):
        shown = (255 * one.batch(step).view_a[:, 16, 16]).round().int().tolist()
        assert len(shown) == len(set(shown)) == size
        assert torch.equal(one.batch(step).view_a, again.batch(step).view_a)


def test_words_that_a_resumed_run_would_pass_over_are_refused(made_library, tmp_path, capsys):
    for more in (["--recipe", "paper"], ["--image-weights", "nowhere"], ["--threads", "1"]):
        assert main(["train", str(made_library.path), str(tmp_path / "run"), "--resume", *more]) == 2
        assert f"leave {more[0]} out" in capsys.readouterr().err
