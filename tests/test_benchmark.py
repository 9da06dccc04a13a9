"""The benchmark: plain and ours do the same work, and the command says what it measured. No times are asserted."""

from __future__ import annotations

import contextlib
import copy
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TINY

from crosshape.benchmark import measuring, parts, scaling, scripts
from crosshape.benchmark.chart import write_chart
from crosshape.benchmark.measuring import Absent, Outcome, compare, machine
from crosshape.benchmark.plain import PlainDGCNN, PlainResNet18, joint_step
from crosshape.cli import main
from crosshape.errors import CrosshapeError
from crosshape.learning import training
from crosshape.networks.edges import EdgeConv, edge_max_norm, edge_max_norm_torch
from crosshape.networks.images import ImageNetwork
from crosshape.networks.neighbours import nearest_neighbours
from crosshape.networks.pooling import norm_pool
from crosshape.search.query import best
from crosshape.tasks.retrieval import unit


def sleepy(side, device, items):
    """A case for the tests: plain and ours do nothing, `ours` twice as many times."""
    if side == "plain" and items == 0:
        raise Absent("no plain form is here")
    return lambda: print("libraries talk") or (2 if side == "ours" else 1), items


def test_resnet_equals_the_plain_one_with_gradients_and_statistics():
    torch.manual_seed(0)
    ours = ImageNetwork(replace(TINY, image_width=64)).double()
    plain = PlainResNet18(ours).double()
    views = torch.rand(4, 32, 32, dtype=torch.float64)
    weights = torch.randn(4, 512, dtype=torch.float64)
    out = []
    for network in (ours, plain):
        y = network(views)
        (y * weights).sum().backward()
        out.append((y, [p.grad for p in network.parameters()], list(network.buffers())))
    torch.testing.assert_close(out[0][0], out[1][0], rtol=1e-9, atol=1e-9)
    for one, other in zip(out[0][1], out[1][1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-8)
    for one, other in zip(out[0][2], out[1][2], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("k", [1, 6, 7, 20])
def test_kernels_read_and_write_bfloat16_as_torch_does(k):
    """The products in bfloat16 give what the torch form gives of the same numbers, to bfloat16's rounding."""
    torch.manual_seed(k)
    both = torch.stack([torch.randperm(240)[:120].view(2, 60) - 120 for _ in range(24)], dim=2) / 64
    both = both.bfloat16()  # no two of a channel are equal: the gradient of a tie is anyone's
    near = nearest_neighbours(torch.randn(2, 60, 3), k)
    scale, bias = torch.rand(12) + 0.5, torch.randn(12)
    pull = torch.randn(2, 60, 12)
    results = []
    for form in (edge_max_norm, edge_max_norm_torch):
        leaf = both.clone().requires_grad_()
        gain = scale.clone().requires_grad_()
        read = leaf if form is edge_max_norm else leaf.float()
        y, mean, variance = form(read, gain, bias, near, 1e-5)
        (y * pull).sum().backward()
        assert leaf.grad.dtype == torch.bfloat16
        results.append((y, mean, variance, leaf.grad.float(), gain.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-5, atol=1e-5)


def test_pooling_reads_and_writes_bfloat16_as_torch_does():
    torch.manual_seed(1)
    z = torch.randn(3, 70, 10).bfloat16()
    norm = torch.nn.BatchNorm1d(10)
    pull = torch.randn(3, 20)
    gradients = []
    for values in (z.clone().requires_grad_(), z.float().requires_grad_()):
        pooled = norm_pool(values, norm)
        (pooled * pull).sum().backward()
        gradients.append((pooled, values.grad.float()))
    torch.testing.assert_close(gradients[0][0], gradients[1][0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradients[0][1], gradients[1][1], rtol=1e-2, atol=1e-3)


def test_under_bfloat16_features_stay_close_to_the_textbook_network():
    torch.manual_seed(2)
    from crosshape.networks.points import PointNetwork

    ours = PointNetwork(TINY)
    plain = PlainDGCNN(ours)
    ours.eval(), plain.eval()
    clouds = torch.from_numpy(parts.some_clouds(4, 256))
    with torch.autocast("cpu", torch.bfloat16):
        y = ours(clouds)
    cosine = torch.cosine_similarity(y.float(), plain(clouds), dim=1)
    assert cosine.min() > 0.99


def test_an_edge_conv_gives_float32_whatever_it_reads():
    layer, x = EdgeConv(4, 8), torch.randn(2, 30, 4)
    near = nearest_neighbours(x, 5)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x, near).dtype == layer.eval()(x, near).dtype == torch.float32


def test_the_plain_joint_step_has_the_loss_and_the_gradients_of_recipe_paper(monkeypatch):
    monkeypatch.setattr(
        training, "autocast", lambda device: contextlib.nullcontext()
    )  # float32 on both sides
    learner = parts._learner(4, 64, 32, "cpu", 8)
    data = learner.batch(0)
    model = learner.model
    judge = copy.deepcopy(
        torch.nn.Sequential(model.correspondence.first, torch.nn.ReLU(), model.correspondence.second)
    )
    images, points = PlainResNet18(model.images).train(), PlainDGCNN(model.points).train()
    found = learner.losses(data)["loss"]
    found.backward()
    groups = [p for module in (images, points, judge) for p in module.parameters()]
    plain = joint_step(images, points, judge, torch.optim.SGD(groups, lr=0.0), *data[:3])
    torch.testing.assert_close(found.detach(), plain, rtol=1e-5, atol=1e-5)
    whole = [*model.images.parameters(), *model.points.parameters(), *model.correspondence.parameters()]
    norm = torch.sqrt(sum((p.grad**2).sum() for p in whole if p.grad is not None)).item()
    scale = min(1.0, 10.0 / norm)  # the plain step clips
    pairs = [
        (model.correspondence.first, judge[0]),
        (model.points.head, points.head),
        (model.points.edges[0].linear, points.convolutions[0][0]),
        (model.images.conv1, images.conv1),
    ]
    for mine, theirs in pairs:
        grad = theirs.weight.grad.view_as(mine.weight)
        assert grad.norm() > 0
        assert (mine.weight.grad * scale - grad).norm() < 1e-2 * grad.norm()


def test_full_sort_finds_what_search_finds(random):
    gallery, query = unit(random.normal(size=(500, 32))), unit(random.normal(size=32))
    found = best(gallery @ query, 10)
    assert np.array_equal(found, scripts.full_sort(gallery, query, 10))


def test_a_mesh_for_the_benchmark_has_the_faces_it_was_asked_for():
    for faces in (500, 5000, 1_000_000):
        vertices, corners = parts.a_mesh(faces)
        assert abs(len(corners) - faces) <= 0.1 * faces
        assert np.linalg.norm(vertices, axis=1).max() <= 1 and corners.max() < len(vertices)


def test_a_renderer_that_cannot_be_imported_is_named_and_not_used(tmp_path, monkeypatch):
    for name in ("open3d", "pyrender", "embreex"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('lib{name}.so: no such file')")
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    scripts.mesh_library.cache_clear()
    with pytest.raises(
        Absent, match=r"^open3d is installed but cannot be imported \(libopen3d\.so: no such file\)"
    ):
        scripts.mesh_library()
    (tmp_path / "embreex.py").write_text("")
    try:
        assert scripts.mesh_library() == "embreex"
    finally:  # leave no trace of them to other tests
        scripts.mesh_library.cache_clear()
        sys.modules.pop("embreex", None)


def test_other_renderers_see_what_crosshape_sees():
    try:
        library = scripts.mesh_library()
    except Absent:
        pytest.skip("no other renderer is installed")
    from crosshape.shapes.views import render_mesh

    vertices, faces = parts.a_mesh(2000)
    theirs = scripts.render(vertices, faces, 2, 64, library).astype(float)
    ours = render_mesh(vertices, faces, views=2, size=64, supersample=1).shading
    assert np.median(np.abs(theirs - ours)) <= (2 if library != "pyrender" else 60)
    assert np.mean((theirs == 255) != (ours == 255)) < 0.02


def test_sides_take_turns_in_processes_of_their_own():
    outcome = compare(
        "points", "a case", "test_benchmark:sleepy", "things/s", {"items": 4}, threads=1, repeats=3
    )
    assert outcome.plain > 0 and outcome.ratio == outcome.ours / outcome.plain
    assert 5 < outcome.plain_mb < 5000 and outcome.memory_ratio == outcome.ours_mb / outcome.plain_mb
    assert outcome.note == ""


def test_what_a_machine_lacks_is_said():
    outcome = compare(
        "points", "a case", "test_benchmark:sleepy", "things/s", {"items": 0}, threads=1, repeats=1
    )
    assert outcome.plain is None and outcome.ratio is None and outcome.ours > 0
    assert outcome.note == "no plain form is here"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """The children of `compare` find this file."""
    from pathlib import Path

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def test_the_machine_is_described():
    facts = machine(2, "cpu")
    assert facts["threads"] == 2 and "torch" in facts["versions"] and facts["cpu"]
    json.dumps(facts)


def test_the_chart_is_a_picture(tmp_path):
    rows = [
        Outcome("points", "one", 1.0, 8.0, "clouds/s", 8.0, 0.1, 0.1, 10.0, 5.0, 0.5),
        Outcome("prepare", "two", None, 3.0, "meshes/s", None, None, 0.1, None, 5.0, None, "nothing is here"),
    ]
    write_chart(rows, tmp_path / "speed.png", "a machine")
    assert (tmp_path / "speed.png").read_bytes()[:4] == b"\x89PNG"


def test_the_command_prints_the_machine_and_the_cases(capsys):
    assert main(["benchmark", "--part", "search", "--quick", "--threads", "1", "--json"]) == 0
    first, *rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert first["threads"] == 1 and first["cpu"] == measuring.cpu_model()
    keys = {"part", "case", "plain", "ours", "unit", "ratio", "memory_ratio"}
    assert rows and all(keys <= row.keys() and row["ratio"] > 0 for row in rows)


def test_growth_is_the_exponent_from_one_size_to_the_next(monkeypatch):
    """With times that grow as the square of the points and not at all with the batch."""
    asked = []

    def seconds(build, sizes, threads):
        asked.append((build, sizes, threads))
        return 1e-6 * sizes.get("points", 1000) ** 2 / threads

    monkeypatch.setattr(scaling, "_seconds", seconds)
    rows = scaling.grow(quick=False, threads=2)
    assert [row.growth for row in rows if row.size == 256] == [None] * 6
    for row in rows:
        if row.growth is not None:
            growth = (
                2 if row.what.startswith("points") else -1 if row.what[:7] in ("threads", "workers") else 0
            )
            assert row.growth == pytest.approx(growth), row
    assert {threads for _, sizes, threads in asked} == {1, 2}
    assert all(hasattr(parts, build.split(":")[1]) for build, _, _ in asked)


def test_the_table_of_growth_is_measured(monkeypatch, capsys):
    small = {"channels": 3, "batch": 1}
    tables = [
        scaling.Table(
            "points in space", "neighbours", "linear", "points", (64, 128, 256), {**small, "crowd": 1}
        ),
        scaling.Table("faces, 12 views", "rendering", "linear", "faces", (500, 600), {"size": 32}),
    ]
    monkeypatch.setattr(scaling, "TABLES", tables)
    assert main(["benchmark", "--scaling", "--quick", "--threads", "1", "--json"]) == 0
    machine, *rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["what"], row["size"]) for row in rows] == [
        ("points in space", 64),
        ("points in space", 128),
        ("faces, 12 views", 500),
        ("faces, 12 views", 600),
    ]
    assert machine["threads"] == 1 and all(row["seconds"] > 0 for row in rows)


def test_every_row_of_the_table_can_be_built():
    for table in scaling.TABLES:
        if table.build in ("neighbours", "point_training", "point_encoding"):
            sizes = {**table.fixed, **({} if table.name == "threads" else {table.name: table.values[0]})}
            sizes |= {name: min(value, 64) for name, value in sizes.items() if name == "points"}
            work, items = getattr(parts, table.build)("ours", device="cpu", **sizes)
            work()
            assert items == sizes.get("batch", 1)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["points", "views", "train", "encode"])
def test_quick_parts_run(part, capsys):
    assert main(["benchmark", "--part", part, "--quick", "--threads", "1", "--repeats", "1"]) == 0
    assert "ratio" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, text",
    [
        (["--threads", "0"], "--threads 0: it must be at least 1."),
        (["--repeats", "0"], "--repeats 0: it must be at least 1."),
        (["--shapes", "nowhere"], "--shapes nowhere: there is no such folder."),
        (["--chart", "a.txt"], "--chart a.txt: its name must end in .png or .svg."),
        (["--chart", "a.png", "--scaling"], "--chart draws ratios and --scaling has none; give one of them."),
    ],
)
def test_wrong_usage_is_refused(words, text, capsys):
    assert main(["benchmark", *words]) == 2
    assert capsys.readouterr().err == f"crosshape: {text}\n"


def idle(side, device, items):
    """A case for the tests: the plain side manages none of its items."""
    return lambda: 0 if side == "plain" else 2, items


def test_a_side_that_did_nothing_has_no_rate():
    with pytest.raises(CrosshapeError, match="could do none of its items"):
        compare("p", "c", "test_benchmark:idle", "items/s", {"items": 2}, threads=1, repeats=1)


@pytest.mark.parametrize("words", [["--part", "search"], ["--repeats", "2"], ["--shapes", "."]])
def test_what_says_nothing_to_scaling_is_refused(words, capsys):
    assert main(["benchmark", "--scaling", "--quick", *words]) == 2
    assert f"{words[0]} {words[1]} says nothing to --scaling" in capsys.readouterr().err


def test_the_folder_of_the_chart_is_looked_for_first(tmp_path, capsys):
    chart = tmp_path / "none" / "speed.png"
    assert main(["benchmark", "--part", "search", "--quick", "--chart", str(chart)]) == 1
    told = capsys.readouterr()
    assert not told.out and told.err == f"crosshape: {chart}: there is no folder {chart.parent}.\n"
