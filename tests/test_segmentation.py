"""Parts: metrics against naive loops, budgets of labels, the head, and learning from a few made shapes."""

import copy
import json

import numpy as np
import pytest
import torch
import trimesh

from crosshape.cli import main
from crosshape.errors import CrosshapeError, UsageError
from crosshape.networks.model import untrained_model
from crosshape.settings import NetworkSettings
from crosshape.shapes.layouts import open_layout
from crosshape.shapes.made import make_shape
from crosshape.tasks import segmentation as room
from crosshape.tasks.heads import (
    colours,
    learn_head,
    load_head,
    save_head,
    segment_shape,
    write_labels,
    write_parts,
)
from crosshape.tasks.segmentation import Head, HeadSettings, choose_labelled, class_miou, shape_iou

TINY = NetworkSettings(k=8, edge_widths=(8, 8, 16), point_width=32, image_width=8, hidden=16)
QUICK = HeadSettings(hidden=32, steps=60, tune_steps=6, tune_batch_size=4, dropout=0.2)


def naive_iou(truth, predicted, parts):
    """The ShapeNet-Part rule, a loop over parts and points."""
    ious = []
    for part in range(parts):
        both = either = 0
        for t, p in zip(truth, predicted, strict=True):
            both += t == part and p == part
            either += t == part or p == part
        ious.append(1.0 if either == 0 else both / either)
    return sum(ious) / parts


@pytest.mark.parametrize("seed", range(20))
def test_shape_iou_equals_the_naive_loop(seed):
    random = np.random.default_rng(seed)
    parts = int(random.integers(1, 7))
    present = random.permutation(parts)[: random.integers(1, parts + 1)]
    truth = random.choice(present, 50)
    predicted = np.where(random.random(50) < 0.4, random.integers(0, parts, 50), truth)
    assert shape_iou(truth, predicted, parts) == pytest.approx(naive_iou(truth, predicted, parts), abs=1e-12)


def test_a_part_absent_from_both_counts_as_one_and_from_one_as_zero():
    nothing = np.zeros(10, int)
    assert shape_iou(nothing, nothing, 3) == 1.0
    assert shape_iou(nothing, np.array([0] * 5 + [2] * 5), 3) == pytest.approx((0.5 + 1 + 0) / 3)
    assert shape_iou(nothing, np.ones(10, int), 2) == 0.0
    assert shape_iou(nothing, nothing, 1) == 1.0


def test_class_miou_is_the_mean_of_class_means():
    ious, labels = np.array([1.0, 0.0, 0.5, 0.9]), np.array([3, 3, 3, 7])
    expected = (
        sum(sum(i for i, m in zip(ious, labels, strict=True) if m == c) / sum(labels == c) for c in (3, 7))
        / 2
    )
    assert class_miou(ious, labels) == pytest.approx(expected) == pytest.approx(0.7)
    assert class_miou(ious[3:], labels[3:]) == 0.9


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Fifteen made shapes of three classes with their parts, as a folder that people would label."""
    root = tmp_path_factory.mktemp("labelled")
    for label in ("mug", "table", "hammer"):
        for seed in range(5):
            shape = make_shape(label, seed)
            (root / label).mkdir(exist_ok=True)
            trimesh.Trimesh(shape.vertices, shape.faces, process=False).export(root / label / f"{seed}.off")
            lines = []
            for number, name in enumerate(shape.part_names):
                faces = np.flatnonzero(shape.part_of_face == number) + 1
                if len(faces):
                    lines += [name, " ".join(map(str, faces))]
            (root / label / f"{seed}_labels.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def data(labelled):
    return room.load_part_set(open_layout(labelled), 256, workers=1)


@pytest.fixture(scope="module")
def model(data):
    return untrained_model(TINY, points=256, image_size=32, clouds=data.points)


def test_a_part_set_holds_points_with_the_parts_of_their_faces(data):
    assert data.points.shape == (15, 256, 3) and data.parts.shape == (15, 256)
    assert data.layout.classes == ("hammer", "mug", "table") and data.skipped == ()
    for item, parts in zip(data.items, data.parts, strict=True):
        assert parts.min() >= 0 and parts.max() < len(item.part_names)
    assert np.linalg.norm(data.points, axis=2).max() <= 1 + 1e-6


def test_unlabelled_data_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a" / "x.npy", np.eye(3, dtype=np.float32))
    with pytest.raises(CrosshapeError, match="has no part labels; crosshape datasets --layouts tells"):
        room.load_part_set(open_layout(tmp_path))


def test_budgets_are_stratified_nested_and_never_empty(data):
    training = ~data.split(1, 0)
    sets = [set(choose_labelled(data.items, training, None, k, 0)) for k in (1, 2, 3)]
    assert len(sets[0]) == 3 and {data.items[n].label for n in sets[0]} == {0, 1, 2}
    assert sets[0] < sets[1] < sets[2]
    assert set(choose_labelled(data.items, training, 1.0, None, 0)) == set(np.flatnonzero(training))
    assert set(choose_labelled(data.items, training, 0.01, None, 0)) == sets[0]
    assert any(set(choose_labelled(data.items, training, None, 1, seed)) != sets[0] for seed in range(1, 6))
    assert all(training[n] for n in sets[2])


@pytest.mark.parametrize(
    "budget, words",
    [
        ({"fractions": (0.5, 0.0)}, "the share of labels is 0.0; it must be above 0, at most 1"),
        ({"fractions": (float("nan"),)}, "the share of labels is nan; it must be above 0, at most 1"),
        ({"shapes_per_class": (0,)}, "labelled shapes of a class are 0; it must be 1 or more"),
    ],
)
def test_budgets_of_nothing_are_refused(model, data, budget, words):
    with pytest.raises(UsageError) as error:
        next(room.evaluate_segmentation(model, data, settings=QUICK, **budget))
    assert str(error.value) == words


def test_the_split_first_layer_equals_the_concatenated_one():
    head = Head(5, 7, (2, 3), HeadSettings(hidden=11)).eval()
    torch.manual_seed(0)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    local, whole, category = torch.randn(4, 6, 5), torch.randn(4, 7), torch.tensor([0, 1, 1, 0])
    head.standardise(torch.randn(50, 5) * 3 + 1, torch.randn(9, 7) * 2 - 1)
    found = head(local, whole, category)
    one_hot = torch.nn.functional.one_hot(category, 2).float()
    standard = torch.cat(
        [
            (local - head.local_mean) * head.local_scale,
            ((whole - head.whole_mean) * head.whole_scale)[:, None].expand(-1, 6, -1),
            one_hot[:, None].expand(-1, 6, -1),
        ],
        dim=2,
    )
    weight = torch.cat([head.local.weight, head.whole.weight, head.category.weight.T], dim=1)
    hidden = (standard @ weight.T + head.local.bias) / np.sqrt(1 + head.norm.eps)
    expected = head.out(torch.relu(hidden * head.norm.weight + head.norm.bias))
    assert found[0, :, 2:].eq(float("-inf")).all() and found[1, :, :2].eq(float("-inf")).all()
    for row, parts in ((0, slice(0, 2)), (1, slice(2, 5)), (3, slice(0, 2))):
        torch.testing.assert_close(found[row, :, parts], expected[row, :, parts], atol=1e-4, rtol=1e-4)


def test_a_head_is_the_same_for_the_same_seed_and_leaves_the_global_generator_alone(model, data):
    features = room.encode_features(model, data, np.arange(6))
    counts = [len(names) for names in data.layout.part_names]
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, same, other = (room.train_head(features, counts, QUICK, s, model.device) for s in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.out.weight, other.out.weight)


def test_features_of_a_shape_do_not_depend_on_its_batch(model, data):
    alone = [room.encode_block(model, data.points[i : i + 1]) for i in range(3)]
    local, whole = room.encode_block(model, data.points[:3])
    for i, (a, b) in enumerate(alone):
        torch.testing.assert_close(a[0], local[i], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(b[0], whole[i], atol=1e-5, rtol=1e-5)
    assert local.shape == (3, 256, 32) and whole.shape == (3, 64)


def test_more_points_than_the_network_learned_on_are_dealt_out_to_clouds_of_that_size(model, data):
    twice = np.concatenate([data.points[:2], data.points[2:4]], axis=1)
    local, whole = room.encode_block(model, twice)
    for deal in range(2):
        alone, pooled = room.encode_block(model, twice[:, deal::2])
        torch.testing.assert_close(local[:, deal::2], alone, atol=1e-5, rtol=1e-5)
        whole = whole - pooled / 2
    torch.testing.assert_close(whole, torch.zeros_like(whole), atol=1e-5, rtol=0)
    assert room.encode_block(model, twice[:, :509])[0].shape == (2, 509, 32)


def test_few_labelled_shapes_give_parts_on_others_better_than_the_largest_part(model, data):
    budgets = {"shapes_per_class": (1, 2), "seeds": 2, "settings": QUICK}
    kinds = {"untrained": True, "fine_tune": True, "scratch": True}
    rows = list(room.evaluate_segmentation(model, data, **budgets, **kinds))
    assert [(r.model, r.more["head"], r.more["labels"]) for r in rows] == [
        (name, kind, budget)
        for name, kind in (
            ("run", "frozen"),
            ("run", "fine-tuned"),
            ("untrained", "frozen"),
            ("from scratch", "whole network"),
        )
        for budget in ("1 a class", "2 a class")
    ]
    for row in rows:
        assert row.task == "segmentation" and row.seeds == 2
        assert set(row.measures) == {"instance_miou", "class_miou", "accuracy"} == set(row.stds)
        assert row.interval[0] <= row.measures["instance_miou"] <= row.interval[1]
        assert row.json()["instance_miou"] == row.measures["instance_miou"]
    guess = []
    for seed in range(2):
        for shape in np.flatnonzero(data.split(1, seed)):
            parts = len(data.items[shape].part_names)
            same = data.parts[data.labels == data.labels[shape]]
            largest = np.bincount(same.ravel(), minlength=parts).argmax()
            guess.append(shape_iou(data.parts[shape], np.full(256, largest), parts))
    assert rows[1].measures["instance_miou"] > np.mean(guess) + 0.05, np.mean(guess)


def test_nobody_learns_from_test_shapes_and_every_row_has_its_own_network(model, data, monkeypatch):
    model, asked, begun = copy.deepcopy(model), [], []
    with torch.no_grad():  # no seed has drawn these weights
        next(model.points.parameters()).add_(0.01)
    plain_heads, plain_together = room._heads, room.train_together

    def heads(other, parts, plan, *rest):
        asked.append((other.fingerprint, plan))
        return plain_heads(other, parts, plan, *rest)

    def together(other, parts, chosen, settings, seed, scratch=False):
        first = []
        plain_block = room.encode_block
        monkeypatch.setattr(
            room,
            "encode_block",
            lambda m, p, network=None: first.append(weights(network)) or plain_block(m, p, network),
        )
        made = plain_together(other, parts, chosen, settings, seed, scratch)
        monkeypatch.setattr(room, "encode_block", plain_block)
        begun.append((scratch, seed, chosen, first[0]))
        return made

    def weights(network):
        return next(network.parameters()).detach().clone()

    monkeypatch.setattr(room, "_heads", heads)
    monkeypatch.setattr(room, "train_together", together)
    kinds = {"untrained": True, "fine_tune": True, "scratch": True}
    list(room.evaluate_segmentation(model, data, shapes_per_class=(1, 2), seeds=2, settings=QUICK, **kinds))
    for _, plan in asked:
        for _, seed, test, chosen in plan:
            assert np.array_equal(test, data.split(1, seed)) and test.any() and not test[chosen].any()
    for _, seed, chosen, _ in begun:
        assert not data.split(1, seed)[chosen].any()
    names = [fingerprint for fingerprint, _ in asked]
    assert names[0] == model.fingerprint and len(set(names)) == len(names) == 3  # two seeds of random weights
    same = [(scratch, torch.equal(start, weights(model.points))) for scratch, _, _, start in begun]
    assert same == [(False, True)] * 4 + [(True, False)] * 4


def test_a_head_learns_the_same_whatever_is_measured_beside_it(model, data, monkeypatch):
    monkeypatch.setattr(room, "KEPT", 1500)
    alone = list(room.evaluate_segmentation(model, data, shapes_per_class=(1,), settings=QUICK))
    beside = list(room.evaluate_segmentation(model, data, shapes_per_class=(1, 4), settings=QUICK))
    assert beside[0].measures == alone[0].measures


def test_networks_learn_on_clouds_of_the_size_they_are_asked_about():
    assert [room.cloud_size(count, 1024) for count in (512, 1024, 1500, 2048, 4096)] == [
        512,
        1024,
        1500,
        1024,
        1024,
    ]
    assert room.cloud_size(2048, 2048) == 2048 and room.cloud_size(2048, 600) == 1024


def test_the_model_is_left_as_it_was(model, data):
    before = model.fingerprint
    list(room.evaluate_segmentation(model, data, shapes_per_class=(1,), settings=QUICK, fine_tune=True))
    assert model.fingerprint == before and not model.training


@pytest.fixture(scope="module")
def learned(model, data):
    return learn_head(model, data, QUICK)


def test_a_head_survives_its_folder(model, data, learned, tmp_path):
    from crosshape.shapes.files import load_shape

    save_head(learned, tmp_path / "head")
    again = load_head(tmp_path / "head", model)
    assert again.classes == learned.classes and again.parts == learned.parts
    shape = load_shape(data.items[0].path)
    one, two = segment_shape(model, learned, shape), segment_shape(model, again, shape)
    np.testing.assert_array_equal(one.numbers, two.numbers)
    assert one.category == two.category
    with pytest.raises(CrosshapeError, match="holds a head already"):
        save_head(learned, tmp_path / "head")


def test_a_head_of_another_model_and_broken_heads_are_refused(model, data, learned, tmp_path):
    other = untrained_model(TINY, points=256, image_size=32, seed=9)
    folder = tmp_path / "head"
    with pytest.raises(CrosshapeError, match=r"holds no head .* Learn one: crosshape segment RUN --learn"):
        load_head(folder, model)
    save_head(learned, folder)
    text = f"was learned on model {model.fingerprint}, this run is {other.fingerprint}. Learn again"
    with pytest.raises(CrosshapeError, match=text):
        load_head(folder, other)
    card = json.loads((folder / "head.json").read_text())
    for broken in (
        {**card, "classes": {"mug": ["a"]}},
        {**card, "sizes": [32, 65]},
        {**card, "sizes": [1 << 40, 64]},
        {**card, "settings": {**card["settings"], "hidden": 10**9}},
        {**card, "settings": {"hiden": 3}},
        {**card, "classes": 3},
        [],
    ):
        (folder / "head.json").write_text(json.dumps(broken))
        with pytest.raises(CrosshapeError, match="is not the card of a head|does not fit its card"):
            load_head(folder, model)
    (folder / "head.json").write_text(json.dumps(card))
    whole = (folder / "head.safetensors").read_bytes()
    (folder / "head.safetensors").write_bytes(whole[:-9])
    with pytest.raises(CrosshapeError, match="does not fit its card"):
        load_head(folder, model)


def test_clouds_get_a_part_for_every_point_and_unknown_classes_are_refused(model, learned, tmp_path):
    from crosshape.shapes.files import load_shape

    np.save(tmp_path / "c.npy", np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32))
    found = segment_shape(model, learned, load_shape(tmp_path / "c.npy"), "mug")
    assert found.numbers.shape == (300,) and found.category == "mug"
    assert found.names == learned.parts[learned.classes.index("mug")]
    with pytest.raises(UsageError, match="the head knows no class 'cup'; it knows hammer, mug, table"):
        segment_shape(model, learned, found.shape, "cup")
    write_parts(found, tmp_path / "c.ply")
    cloud = trimesh.load(tmp_path / "c.ply")
    np.testing.assert_array_equal(cloud.colors[:, :3], colours(len(found.names))[found.numbers])


def test_the_class_is_told_by_the_features_that_are_nearest(model, data, learned, monkeypatch):
    from crosshape.shapes.files import load_shape
    from crosshape.tasks import heads

    shape = load_shape(data.items[0].path)
    local = torch.zeros(4, 256, 32)
    for name, centre in zip(learned.classes, learned.centres, strict=True):
        whole = torch.from_numpy(np.float32(3 * centre)).expand(4, -1)
        monkeypatch.setattr(heads, "encode_block", lambda *_, whole=whole: (local, whole))
        found = segment_shape(model, learned, shape)
        assert found.category == name and found.names == learned.parts[learned.classes.index(name)]


@pytest.mark.parametrize("suffix", ["ply", "glb"])
def test_coloured_meshes_keep_their_faces_and_place(model, data, learned, tmp_path, suffix):
    from crosshape.shapes.files import load_shape

    shape = load_shape(data.items[4].path)
    found = segment_shape(model, learned, shape)
    write_parts(found, tmp_path / f"x.{suffix}")
    read = trimesh.load(tmp_path / f"x.{suffix}", force="mesh", process=False)
    corners = read.vertices[read.faces]
    if suffix == "glb":
        corners = np.stack([corners[..., 0], -corners[..., 2], corners[..., 1]], axis=2)
        shown = read.visual.vertex_colors[read.faces[:, 0]]
    else:
        shown = read.visual.face_colors
    np.testing.assert_allclose(corners, shape.vertices[shape.faces], atol=1e-5)
    np.testing.assert_array_equal(shown[:, :3], colours(len(found.names))[found.numbers])
    assert len(np.unique(colours(12), axis=0)) == 12


def test_written_labels_can_be_learned_from_again(model, data, learned, tmp_path):
    from crosshape.shapes.files import load_shape
    from crosshape.shapes.layouts import load_parts

    item = data.items[0]
    found = segment_shape(model, learned, load_shape(item.path), "hammer")
    (tmp_path / "hammer").mkdir()
    (tmp_path / "hammer" / "0.off").write_bytes(item.path.read_bytes())
    write_labels(found, tmp_path / "hammer" / "0_labels.txt")
    again = open_layout(tmp_path).items[0]
    names = np.array(again.part_names)[load_parts(again).parts]
    np.testing.assert_array_equal(names, np.array(found.names)[found.numbers])


def test_command_learns_and_colours(model, labelled, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("crosshape.tasks.heads.HeadSettings", lambda: QUICK)
    model.save(tmp_path / "run")
    run, head, out = str(tmp_path / "run"), str(tmp_path / "head"), tmp_path / "out"
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a.off").write_bytes((labelled / "mug" / "1.off").read_bytes())
    (tmp_path / "new" / "broken.off").write_text("OFF\n")
    words = ["segment", run, "--device", "cpu", "--workers", "1", "--points", "256", "--head", head]
    assert main([*words, str(tmp_path / "new")]) == 2
    assert "name the folder for the coloured shapes with --output" in capsys.readouterr().err
    assert (
        main([*words, "--learn", str(labelled), str(tmp_path / "new"), "--output", str(out), "--json"]) == 1
    )
    said = capsys.readouterr()
    lines = {line["path"].split("/")[-1]: line for line in map(json.loads, said.out.splitlines())}
    assert lines["a.off"]["ok"] and not lines["broken.off"]["ok"] and lines["broken.off"]["reason"]
    assert sum(lines["a.off"]["parts"].values()) == pytest.approx(1)
    assert sorted(p.name for p in out.iterdir()) == ["a.ply", "a_labels.txt"]
    assert "learned from 15 shapes: hammer (" in said.err
    assert main([*words, str(tmp_path / "new"), "--output", str(out)]) == 1
    assert "is there already" in capsys.readouterr().err
    (out / "a.ply").unlink()
    corrected = b"correct\n1 2 3\n"
    (out / "a_labels.txt").write_bytes(corrected)
    assert main([*words, str(tmp_path / "new"), "--output", str(out)]) == 1
    assert "a_labels.txt is there already" in capsys.readouterr().err
    assert (out / "a_labels.txt").read_bytes() == corrected
    assert main([*words, "--learn", str(labelled)]) == 1
    assert "holds a head already" in capsys.readouterr().err
    assert main(words) == 2


def test_a_class_none_of_whose_shapes_can_be_read_is_said(model, labelled, tmp_path):
    """Its centre would be no number, and every shape would be taken for it."""
    import shutil

    shutil.copytree(labelled, tmp_path / "data")
    for file in (tmp_path / "data" / "mug").glob("*.off"):
        file.write_text("OFF\n")
    part = room.load_part_set(open_layout(tmp_path / "data"), 256, workers=1)
    with pytest.raises(CrosshapeError, match="none of the labelled shapes of mug could be read. Mend a file"):
        learn_head(model, part, QUICK)
