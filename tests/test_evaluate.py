"""The tasks on labelled data: sources, seeds, rows, the cache, the command and its texts."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY
from test_add import Inline
from test_library import fill

from crosshape.cli import main
from crosshape.commands.evaluate import make_sources
from crosshape.errors import CrosshapeError, UsageError
from crosshape.library.library import create_library
from crosshape.networks.model import untrained_model
from crosshape.settings import PrepareSettings
from crosshape.shapes.layouts import Item, Layout
from crosshape.tasks import evaluation
from crosshape.tasks.evaluation import Source, evaluate, pooled, vectors, wanted_features, why_not
from crosshape.tasks.labelled import FeatureSet, LabelledSet, encode, open_data
from crosshape.tasks.tables import latex, markdown, published_markdown, tables


@pytest.fixture(scope="module")
def clouds(tmp_path_factory):
    """Four classes of 14 clouds, .npy, without a test split: boxes of different proportions."""
    folder = tmp_path_factory.mktemp("clouds")
    generator = np.random.default_rng(0)
    for number, name in enumerate(("bar", "block", "plate", "tower")):
        (folder / name).mkdir()
        sides = np.array([(4, 1, 1), (2, 2, 2), (3, 3, 0.5), (1, 1, 5)][number])
        for shape in range(14):
            box = generator.uniform(-1, 1, (300, 3)) * sides * generator.uniform(0.8, 1.2, 3)
            np.save(folder / name / f"{shape:02d}.npy", box.astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder: a tiny model that was never trained."""
    folder = tmp_path_factory.mktemp("run") / "tiny"
    generator = np.random.default_rng(1)
    model = untrained_model(
        TINY,
        points=64,
        image_size=16,
        clouds=generator.uniform(-0.5, 0.5, (8, 64, 3)).astype(np.float32),
        views=generator.integers(0, 255, (8, 2, 16, 16), np.uint8),
    )
    model.save(folder)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def labelled(test=True, pictures=False, each=6):
    """A set of three classes in memory, every second shape a test one, or none; and features that tell them apart."""
    items = []
    for label in range(3):
        for number in range(each):
            split = "test" if test and number % 2 else "train"
            items.append(Item(f"c{label}/{number}", label, split, None, views=("a.png",) if pictures else ()))
    layout = Layout("folders", "", "data", ("c0", "c1", "c2"), tuple(items), "made", ())
    data = LabelledSet(layout, None if test else 1, (), "key", None, 0, lambda: (None, None))
    generator = np.random.default_rng(0)
    points = np.eye(3)[data.labels] + 0.1 * generator.normal(size=(len(data), 3))
    views = np.eye(3)[data.labels][:, None] + 0.1 * generator.normal(size=(len(data), 12, 3))
    return data, FeatureSet(points.astype(np.float32), views.astype(np.float32))


def test_rows_of_all_tasks_have_stable_keys():
    data, features = labelled()
    source = Source("run", lambda seed: features, lambda seed: lambda a, b: a @ b.T, comparable=True)
    rows = list(evaluate(data, [source], ["recognition", "retrieval", "retrieval-cross"]))
    assert [(r.task, r.features, r.views) for r in rows[:14]] == [
        ("recognition-3d", "points", None),
        *(("recognition-2d", "views", n) for n in (1, 2, 4, 6, 12)),
        ("recognition", "both", 12),
        ("retrieval-3d", "points", None),
        *(("retrieval-2d", "views", n) for n in (1, 2, 4, 6, 12)),
        ("retrieval", "both", 12),
    ]
    across = [(r.more["by"], r.views, r.more["ask"]) for r in rows[14:]]
    assert across == [
        (by, n, ask) for by in ("correspondence", "cosine") for n in (1, 12) for ask in ("picture", "shape")
    ]
    for row in rows:
        value = row.json()
        assert list(value)[:5] == ["task", "model", "features", "views", "protocol"]
        assert list(value)[-4:] == ["seeds", "std", "stds", "interval"]
        assert value["std"] is None
        assert next(iter(row.measures.values())) > 0.9
        assert {"accuracy", "mean_average_precision"} & value.keys()


def test_as_in_crosspoint_takes_the_features_as_they_are(monkeypatch):
    data, features = labelled()
    noise = np.random.default_rng(1).normal(size=(len(data), 5)).astype(np.float32)
    source = Source("run", lambda seed: FeatureSet(features.points, features.each_view, noise))
    given = {}

    def recognise(x, *rest, protocol, **more):
        given[protocol] = x
        return real(x, *rest, protocol=protocol, **more)

    real = evaluation.recognise
    monkeypatch.setattr(evaluation, "recognise", recognise)
    list(evaluate(data, [source], ["recognition-3d"], protocols=("default", "crosspoint")))
    assert given["default"].shape[1] == 3 + 5
    assert np.array_equal(given["crosspoint"], features.points[~data.test(0)])


def test_seeds_repeat_what_is_random_and_nothing_else():
    data, features = labelled(test=False, each=10)
    source = Source("run", lambda seed: features)
    (row,) = evaluate(data, [source], ["recognition-3d"], seeds=3)
    assert row.seeds == 3
    assert len(row.detail["seeds"]) == 3
    held = [tuple(d["rows"]) for d in row.detail["seeds"]]
    assert len(set(held)) == 3
    assert row.measures["accuracy"] == pytest.approx(
        np.mean([np.mean(data.labels[d["rows"]] == d["predictions"]) for d in row.detail["seeds"]])
    )
    assert set(row.stds) == {"accuracy", "mean_class_accuracy"}
    own_split, features = labelled()
    (fixed,) = evaluate(own_split, [Source("run", lambda seed: features)], ["retrieval-3d"], seeds=3)
    assert fixed.seeds == 1
    asked = []
    (drawn,) = evaluate(
        own_split,
        [Source("u", lambda seed: asked.append(seed) or features, seeded=True)],
        ["retrieval-3d"],
        seeds=3,
    )
    assert drawn.seeds == 3
    assert set(asked) == {0, 1, 2}


def test_spread_over_seeds_is_that_of_a_sample():
    means, stds = evaluation._spread({"accuracy": [1.0, 3.0]})
    assert means == {"accuracy": 2.0} and stds == {"accuracy": pytest.approx(np.sqrt(2))}
    assert evaluation._spread({"accuracy": [1.0]}) == ({"accuracy": 1.0}, {})


def test_few_shot_seeds_draw_other_episodes():
    items = [
        Item(f"c{label}/{number:02d}", label, "test" if number > 11 else "train", None)
        for label in range(5)
        for number in range(14)
    ]
    layout = Layout("folders", "", "data", tuple(f"c{i}" for i in range(5)), tuple(items), "made", ())
    data = LabelledSet(layout, None, (), "key", None, 0, lambda: (None, None))
    points = np.random.default_rng(0).normal(size=(70, 4)).astype(np.float32)
    (row,) = evaluate(
        data,
        [Source("run", lambda seed: FeatureSet(points, None))],
        ["few-shot"],
        features=["points"],
        seeds=2,
    )
    drawn = [(one["seed"], tuple(one["support"])) for one in row.detail["episodes"]]
    assert row.more["episodes"] == len(drawn) == 20
    assert {seed for seed, _ in drawn} == {0, 1} and len({support for _, support in drawn}) == 20


def test_the_gallery_may_be_all_shapes():
    data, features = labelled()
    source = Source("run", lambda seed: features)
    (test,) = evaluate(data, [source], ["retrieval-3d"])
    (everything,) = evaluate(data, [source], ["retrieval-3d"], gallery="all")
    assert len(test.detail["seeds"][0]["rows"]) == 9
    assert len(everything.detail["seeds"][0]["rows"]) == 18
    assert data.test(0)[test.detail["seeds"][0]["ranking"]].all()


def test_where_all_shapes_ask_no_test_split_is_needed():
    """Three shapes a class leave none for a fifth."""
    data, features = labelled(test=False, each=3)
    source = Source("run", lambda seed: features)
    assert not data.test(0).any()
    assert why_not(data, "retrieval", "all") is None
    (row,) = evaluate(data, [source], ["retrieval-3d"], gallery="all")
    assert len(row.detail["seeds"][0]["rows"]) == len(data)
    assert "no class has two test shapes" in why_not(data, "retrieval-3d")
    for words in ({"gallery": "test"}, {"tasks": ["retrieval-3d", "recognition-3d"]}):
        with pytest.raises(CrosshapeError, match="has 0 test shapes"):
            list(evaluate(data, [source], **{"tasks": ["retrieval-3d"], "gallery": "all", **words}))


def test_views_are_pooled_evenly_around_the_ring():
    each = np.arange(12.0)[None, :, None] * np.array([1, -1])
    assert pooled(each, 1).tolist() == [[0, 0]]
    assert pooled(each, 4).tolist() == [[9, 0]]
    assert pooled(each, 12).tolist() == [[11, 0]]
    both = vectors(FeatureSet(np.array([[3.0, 4.0]]), each), "both", 12)
    assert np.allclose(both, [[0.6, 0.8, 1, 0]])


def test_linear_machines_get_what_was_pooled_and_the_mean_view_too():
    each = np.arange(12.0)[None, :, None] * np.array([1, -1])
    features = FeatureSet(np.array([[3.0, 4.0]]), each, np.array([[0.0, 5.0]]))
    assert np.allclose(vectors(features, "points", None, linear=True), [[0.6, 0.8, 0, 1]])
    half = np.sqrt(0.5)
    assert np.allclose(vectors(features, "views", 12, linear=True), [[1, 0, half, -half]])
    assert np.allclose(vectors(features, "both", 12, linear=True), [[0.6, 0.8, 0, 1, 1, 0, half, -half]])
    assert np.allclose(vectors(features, "views", 1, linear=True), [[0, 0]])
    assert np.allclose(vectors(features, "points", None), [[3, 4]])
    assert np.allclose(vectors(FeatureSet(features.points, None), "points", None, linear=True), [[3, 4]])


def test_features_that_a_task_cannot_take():
    assert wanted_features("recognition-3d", None) == ("points",)
    assert wanted_features("retrieval", ["both", "points"]) == ("points", "both")
    with pytest.raises(UsageError, match="recognition-3d takes points as features, not views"):
        wanted_features("recognition-3d", ["views"])
    with pytest.raises(UsageError, match="there are no features 'wiews'; known are points, views, both"):
        wanted_features("recognition", ["wiews"])


def test_why_a_task_is_left_out():
    data, _ = labelled(each=3)
    assert why_not(data, "recognition") is None
    assert "no class has two test shapes" in why_not(data, "retrieval")
    assert why_not(data, "retrieval", "all") is None
    assert why_not(data, "few-shot") == (
        "few-shot needs 5 classes with 10 training shapes and a test shape each; there are 0."
    )
    pictures, _ = labelled(pictures=True)
    assert why_not(pictures, "recognition-3d") == "data holds pictures only, no shapes."


def test_a_folder_is_prepared_once_and_encoded_once(clouds, cache, run):
    from crosshape.networks.model import load_model

    model = load_model(run, "cpu")
    first = open_data(clouds, image_size=16, cache=cache, workers=1)
    again = open_data(
        clouds, image_size=16, cache=cache, workers=1, progress=lambda *_: pytest.fail("read again")
    )
    assert len(first) == first.splatted == again.splatted == 56
    assert np.array_equal(first.arrays[0], again.arrays[0])
    assert first.arrays[1].shape == (56, 12, 16, 16)
    assert first.layout.classes == ("bar", "block", "plate", "tower")
    one = encode(first, model)
    two = encode(again, model, progress=lambda *_: pytest.fail("encoded again"))
    assert np.array_equal(one.points, two.points)
    assert np.array_equal(one.each_view, two.each_view)
    pooled_only = encode(again, model, layer="pooled").points
    assert pooled_only.shape == (56, 2 * TINY.point_width)
    everything = encode(again, model, layer="all")
    assert np.array_equal(everything.points, one.points)
    assert np.array_equal(everything.pooled, pooled_only)
    assert not [p for p in cache.iterdir() if p.name.startswith(".")]


def test_a_library_gives_what_its_folder_gives(made_folder, made_library, cache):
    model = untrained_model(TINY, points=64, image_size=16)
    data = open_data(made_library.path, image_size=16)
    assert data.layout.classes == ("bolt", "chair", "mug", "table")
    assert data.names.tolist() == made_library.names
    assert data.splatted == 0
    assert encode(data, model).points.shape == (12, 512)
    folder = open_data(made_folder, image_size=16, cache=cache, workers=1)
    assert folder.names.tolist() == data.names.tolist()
    assert np.array_equal(folder.labels, data.labels)
    with pytest.raises(UsageError, match="is a library; leave --layout out"):
        open_data(made_library.path, image_size=16, layout="folders")


def test_of_a_library_only_what_is_asked_for_is_read(embedded_library, monkeypatch):
    from crosshape.library.library import Features
    from crosshape.networks.model import load_model

    model = load_model(embedded_library.path.parent / "run")
    data = open_data(embedded_library.path, image_size=model.image_size)
    whole = encode(data, model)
    assert encode(data, model, what=("views",)).points is None
    monkeypatch.setattr(Features, "each_view", property(lambda _: pytest.fail("views were read")))
    assert np.array_equal(encode(data, model, what=("points",)).points, whole.points)


class Stub:
    """Features that say which model made them, and of which points and views."""

    def __init__(self, fingerprint, number):
        self.fingerprint, self.number = fingerprint, number

    def encode_points(self, points, *, layer):
        return np.repeat(points.sum((1, 2))[:, None], 512, axis=1) + np.float32(self.number)

    def encode_views(self, views):
        return np.repeat(views.mean((2, 3), dtype=np.float32)[..., None], 512, axis=2) + np.float32(
            self.number
        )


def test_features_of_another_model_are_not_taken_from_the_cache(tmp_path):
    data, _ = labelled()
    points = np.random.default_rng(0).normal(size=(len(data), 8, 3)).astype(np.float32)
    data = replace(data, folder=tmp_path, read=lambda: (points, np.zeros((len(data), 2, 4, 4), np.uint8)))
    one, two, again = (encode(data, Stub(name, n)) for name, n in (("one", 1), ("two", 2), ("one", 3)))
    assert np.allclose(two.points, one.points + 1) and np.allclose(two.each_view, one.each_view + 1)
    assert np.array_equal(again.points, one.points) and np.array_equal(again.each_view, one.each_view)


def test_views_of_another_size_are_not_taken_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("crosshape.shapes.guard.Guard", Inline)
    for label in "ab":
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(2):
            cloud = np.random.default_rng(number).normal(size=(30, 3))
            np.save(tmp_path / "data" / label / f"{number}.npy", cloud)
    for size in (16, 8):
        data = open_data(tmp_path / "data", image_size=size, cache=tmp_path / "cache")
        assert data.arrays[1].shape == (4, 12, size, size)


def test_a_library_with_shapes_in_no_folder_keeps_rows_with_their_names(tmp_path):
    library = create_library(tmp_path / "parts.lance", PrepareSettings(points=16, views=3, image_size=8))
    fill(library, ["0.obj", "a/test/1.obj", "a/train/1.obj", "b/2.obj", "b/test/3.obj", "b/val.obj"])
    points = np.random.default_rng(0).normal(size=(6, 512)).astype(np.float32)
    library.write_features("model1", library.names, points, np.repeat(points[:, None], 3, axis=1))
    data = open_data(library.path, image_size=8)
    assert data.names.tolist() == library.names[1:]
    assert [item.split for item in data.layout.items] == ["test", "train", "train", "test", "train"]
    assert np.array_equal(data.arrays[0], library.points(library.names[1:]))
    assert np.array_equal(data.arrays[1], library.views(library.names[1:]))
    found = encode(data, Stub("model1", 1))
    assert np.array_equal(found.points, points[1:]) and np.array_equal(found.each_view[:, 0], points[1:])


def test_an_unreadable_shape_is_skipped_and_no_label_shifts(clouds, cache, tmp_path):
    import shutil

    shutil.copytree(clouds, tmp_path / "data")
    (tmp_path / "data" / "bar" / "05.npy").write_bytes(b"\x93NUMPY no")
    data = open_data(tmp_path / "data", image_size=16, workers=1)
    assert [name for name, _ in data.skipped] == ["bar/05.npy"]
    assert len(data) == 55 == len(data.arrays[0]) == len(data.labels)
    whole = open_data(clouds, image_size=16, cache=cache, workers=1)
    keep = whole.names != "bar/05.npy"
    assert np.array_equal(whole.arrays[0][keep], data.arrays[0])
    assert np.array_equal(whole.labels[keep], data.labels)


def words(run, *more):
    return ["evaluate", str(run), *map(str, more), "--device", "cpu", "--workers", "1"]


def test_the_command_prints_rows_and_keeps_a_record(run, clouds, cache, tmp_path, capsys):
    out = tmp_path / "results"
    options = ["--cache", cache, "--baselines", "--out", out, "--json", "--optimistic", "--crosspoint"]
    assert main(words(run, "recognition-3d", clouds, *options)) == 0
    printed = capsys.readouterr()
    rows = [json.loads(line) for line in printed.out.splitlines()]
    assert [(r["model"], r["protocol"]) for r in rows] == [
        (model, protocol)
        for model in ("run", "untrained", "D2")
        for protocol in ("default", "crosspoint", "optimistic")
    ]
    assert all(r["task"] == "recognition-3d" and 0 <= r["accuracy"] <= 1 for r in rows)
    assert rows[6]["accuracy"] > 0.6
    assert "The views of 56 shapes are splats of their points: they have no surface." in printed.err
    record = json.loads((out / "results.json").read_text())
    assert record["command"].endswith(
        f"--optimistic --out {out} --cache {cache} --workers 1 --device cpu --json"
    )
    assert record["data"]["fifth"] == 1
    assert record["rows"][0]["detail"]["seeds"][0]["C"] > 0
    assert len(record["data"]["names"]) == 56
    assert {"version", "date", "machine", "model", "seconds"} <= record.keys()
    assert (out / "results.md").read_text().count("| points |") == 9
    assert main(words(run, "recognition-3d", clouds, "--out", out)) == 1
    assert capsys.readouterr().err == f"crosshape: {out} is there already; give a folder that is not.\n"


def test_the_words_of_a_command_give_its_options_back():
    import argparse

    from crosshape.commands.evaluate import arguments, vars_of

    parser = argparse.ArgumentParser()
    arguments(parser)
    for text in (
        "r all d",
        "r segmentation d --labels 1,0.1 --shapes-per-class 5,10 --seeds 3 --fine-tune --tune-steps 900 --json",
        "r recognition d --features points,both --split 2 --layer pooled --gallery all",
        "r few-shot d --layer features",
    ):
        options = parser.parse_args(text.split())
        assert parser.parse_args(vars_of(options)) == options


def test_all_leaves_out_what_the_data_cannot_do(run, clouds, cache, capsys):
    assert main(words(run, "all", clouds, "--cache", cache)) == 0
    printed = capsys.readouterr()
    assert re.findall(r"(?m)^(\S+) was left out: ", printed.err) == ["few-shot", "segmentation"]
    for title in ("recognition", "retrieval", "retrieval-cross"):
        assert re.search(rf"(?m)^{title}$", printed.out)
    assert "nan" not in printed.out


@pytest.mark.parametrize(
    ("more", "status", "text"),
    [
        (["--split", "0"], 2, "there is no fifth 0; --split takes 1 to 5"),
        (["--split", "7"], 2, "there is no fifth 7; --split takes 1 to 5"),
        (["--features", "views"], 2, "recognition-3d takes points as features, not views"),
        (["--layout", "modelnot"], 2, "did you mean 'modelnet'?"),
        (["--seeds", "0"], 2, "--seeds is 0; it must be 1 to 1,000"),
        (["--tune-steps", "0"], 2, "--tune-steps 0: it must be at least 1"),
    ],
)
def test_what_cannot_be_meant_is_said(run, clouds, cache, capsys, more, status, text):
    assert main(words(run, "recognition-3d", clouds, "--cache", cache, *more)) == status
    assert text in capsys.readouterr().err


def test_data_that_cannot_be_measured_on(run, tmp_path, capsys):
    (tmp_path / "only" / "one").mkdir(parents=True)
    np.save(tmp_path / "only" / "one" / "a.npy", np.random.default_rng(0).normal(size=(50, 3)))
    assert main(words(run, "recognition-3d", tmp_path / "only", "--no-cache")) == 1
    assert "has one class only (one); a task needs two or more." in capsys.readouterr().err
    assert main(words(run, "recognition-3d", tmp_path / "gone")) == 1
    assert "gone does not exist." in capsys.readouterr().err


def test_no_shape_that_can_be_read(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(5):
            (tmp_path / name / f"{number}.npy").write_bytes(b"nothing")
    with pytest.raises(CrosshapeError, match="none of its 10 shapes could be read"):
        open_data(tmp_path, image_size=16, workers=1)


def test_tables_leave_out_columns_that_say_nothing():
    data, features = labelled()
    rows = list(evaluate(data, [Source("run", lambda seed: features)], ["recognition-3d", "retrieval-3d"]))
    (_, head, cells), (kind, *_) = tables(rows)
    assert head == ["features", "model", "accuracy", "class mean", "95 %", "seeds"]
    assert len(cells) == 1 and len(cells[0]) == len(head)
    assert kind == "retrieval"
    text = markdown(rows)
    assert "### recognition" in text and "C from 0.0001 0.0003" in text


def test_latex_escapes_and_published_figures_stand_apart():
    data, features = labelled()
    rows = list(evaluate(data, [Source("a_b & c", lambda seed: features)], ["recognition-3d"]))
    text = latex(rows)
    assert r"points & a\_b \& c & 1.000 & 1.000 & 1.000 to 1.000 & 1 \\" in text
    assert r"95 \% & seeds \\" in text
    assert published_markdown(data.layout) == ""
    forty = replace(data.layout, name="modelnet", classes=tuple(f"c{i:02d}" for i in range(40)))
    assert published_markdown(forty).startswith("### published, other data or renderings may apply\n")
    assert "| CMCV | DGCNN | 89.8 |" in published_markdown(forty)


def test_what_is_kept_of_changed_files_is_not_used(clouds, tmp_path):
    import shutil

    shutil.copytree(clouds, tmp_path / "data")

    def opened():
        return open_data(tmp_path / "data", image_size=16, cache=tmp_path / "cache", workers=1)

    first = opened()
    file = tmp_path / "data" / "bar" / "05.npy"
    np.save(file, np.load(file)[::-1, [1, 0, 2]] * 0.9)  # as large as before
    second = opened()
    row = first.names.tolist().index("bar/05.npy")
    assert second.key != first.key and not np.array_equal(second.arrays[0][row], first.arrays[0][row])
    assert np.array_equal(second.arrays[0][:row], first.arrays[0][:row])


def test_files_that_changed_places_are_read_again(clouds, tmp_path):
    import shutil

    shutil.copytree(clouds, tmp_path / "data")
    one, other = (tmp_path / "data" / name / "05.npy" for name in ("bar", "block"))

    def opened():
        return open_data(tmp_path / "data", image_size=16, cache=tmp_path / "cache", workers=1)

    first = opened()
    one.rename(tmp_path / "kept")
    other.rename(one)
    (tmp_path / "kept").rename(other)
    second = opened()
    rows = [first.names.tolist().index(name) for name in ("bar/05.npy", "block/05.npy")]
    assert np.array_equal(second.arrays[0][rows], first.arrays[0][rows[::-1]])


def test_pictures_that_were_changed_are_read_again(tmp_path):
    from PIL import Image
    from test_layouts import as_pictures

    as_pictures(tmp_path / "data")
    first = open_data(tmp_path / "data", image_size=8, cache=tmp_path / "cache", workers=1)
    Image.new("L", (8, 8), 99).save(first.layout.items[0].views[0])
    second = open_data(tmp_path / "data", image_size=8, cache=tmp_path / "cache", workers=1)
    assert second.arrays[1][0, 0, 0, 0] == 99 and first.arrays[1][0, 0, 0, 0] != 99


def test_what_a_lower_limit_left_out_is_not_left_out_for_ever(clouds, tmp_path):
    import shutil

    from crosshape.settings import Limits

    shutil.copytree(clouds, tmp_path / "data")
    np.save(tmp_path / "data" / "bar" / "05.npy", np.random.default_rng(0).normal(size=(5000, 3)))

    def opened(limits):
        return open_data(tmp_path / "data", image_size=16, cache=tmp_path / "cache", workers=1, limits=limits)

    assert [name for name, _ in opened(Limits(max_bytes=50_000)).skipped] == ["bar/05.npy"]
    assert opened(Limits()).skipped == ()


def test_the_untrained_rows_are_other_networks_that_saw_training_shapes_only(run, clouds, monkeypatch):
    from types import SimpleNamespace

    from crosshape.networks import model as networks

    model, data = networks.load_model(run), open_data(clouds, image_size=16)
    asked, seen = [], []
    plain = networks.untrained_model

    def spy(*given, **named):
        seen.append((named["seed"], named["clouds"], named["views"]))
        return plain(*given, **named)

    monkeypatch.setattr(networks, "untrained_model", spy)
    options = SimpleNamespace(layer="all", untrained=False, baselines=True, d2=False)
    run_, untrained, d2 = make_sources(data, model, lambda other: asked.append(other.fingerprint), options)
    for source in (run_, untrained):
        for seed in (0, 1):
            source.features(seed)
    assert asked[0] == model.fingerprint and len(set(asked)) == 3, "the run once, two seeds of random weights"
    points, views = data.arrays
    for seed, given, pictures in seen:
        rows = np.flatnonzero(~data.test(seed))
        assert {cloud.tobytes() for cloud in given} <= {points[row].tobytes() for row in rows}
        assert {view.tobytes() for view in pictures} <= {views[row].tobytes() for row in rows}
    assert d2.name == "D2"


def test_small_classes_without_a_test_shape_are_said(run, clouds, tmp_path, cache, capsys):
    import shutil

    for name, count in (("bar", 10), ("block", 10), ("tower", 3)):
        (tmp_path / name).mkdir()
        for file in sorted((clouds / name).iterdir())[:count]:
            shutil.copy(file, tmp_path / name)
    out = tmp_path / "out"
    assert main(words(run, "retrieval-3d", tmp_path, "--cache", cache, "--out", out)) == 0
    assert (
        "1 classes are too small for this fifth and have no test shape (first: tower)"
        in capsys.readouterr().err
    )
    assert "too small" in json.loads((out / "results.json").read_text())["data"]["warnings"][-1]


def test_a_drawn_side_does_not_depend_on_what_can_be_read(clouds, tmp_path):
    import shutil

    shutil.copytree(clouds, tmp_path / "data")
    whole = open_data(tmp_path / "data", image_size=16)
    sides = dict(zip(whole.names.tolist(), whole.test(3).tolist(), strict=True))
    for name in whole.names[:4]:
        (tmp_path / "data" / name).write_bytes(b"no cloud")
    some = open_data(tmp_path / "data", image_size=16)
    assert len(some.skipped) == 4 and len(some) == len(whole) - 4
    assert dict(zip(some.names.tolist(), some.test(3).tolist(), strict=True)).items() <= sides.items()


def test_what_was_killed_in_preparing_goes_after_a_day(clouds, tmp_path):
    import os
    import time

    old, new = tmp_path / ".preparing-old", tmp_path / ".preparing-new"
    for folder in (old, new):
        folder.mkdir()
        (folder / "views.npy").write_bytes(b"half")
    os.utime(old, (time.time() - 100_000,) * 2)
    open_data(clouds, image_size=16, cache=tmp_path)
    assert not old.exists() and new.exists()
