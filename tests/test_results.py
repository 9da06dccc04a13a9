"""The page and the pictures of an evaluation: they say what the rows say, load nothing, and stay small."""

import json
import re
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser

import numpy as np
import pytest
from conftest import TINY
from PIL import Image

from crosshape.cli import main
from crosshape.networks.model import untrained_model
from crosshape.shapes.layouts import Item, Layout
from crosshape.shapes.made import make_shape
from crosshape.tasks import segmentation as room
from crosshape.tasks import shown as look
from crosshape.tasks.drawing import write_pictures
from crosshape.tasks.evaluation import Row, Source, evaluate
from crosshape.tasks.heads import colours
from crosshape.tasks.labelled import FeatureSet, LabelledSet
from crosshape.tasks.page import results_page
from crosshape.tasks.tables import tables, word

HOSTILE = (
    "</script><script>alert(1)</script>\"'><img src=http://x.y/z onerror=alert(1)>$\\alpha_{$ \u85cd\u8272 "
    + 80 * "long "
)

ABOUT = {
    "title": "Features of run, judged on data",
    "command": "crosshape evaluate run all data",
    "version": "1",
    "model": {"fingerprint": "0123abcd", "card": {"recipe": "dense"}},
    "date": "2030-01-02",
    "seconds": 75.0,
    "machine": dict.fromkeys(("system", "processor", "threads", "device", "python", "torch"), "m"),
    "data": {"note": "folders: made", "layout": "folders", "variant": "", "fingerprint": "f", "warnings": ()},
    "left_out": ["few-shot was left out: too few."],
}


class Reader(HTMLParser):
    """Tags, attributes, text outside styles, and the cells of every table."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text, self.tables, self.inside = [], [], "", [], None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.inside = tag
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside != "style":
            self.text += data
        if self.inside in ("td", "th"):
            self.tables[-1][-1][-1] += data


def labelled(classes=("c0", "c1", "c2"), each=6, size=16, views=3, noise=0.4):
    """Classes of shapes, every second a test one, with noise as pictures; and features that nearly tell them apart."""
    items = tuple(
        Item(f"{name}/{n}", label, "test" if n % 2 else "train", None)
        for label, name in enumerate(classes)
        for n in range(each)
    )
    layout = Layout("folders", "", "data", tuple(classes), items, "made", ())
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (len(items), views, size, size), np.uint8)
    data = LabelledSet(layout, None, (("gone.off", "0 faces"),), "key", None, 0, lambda: (None, pictures))
    truth = np.eye(len(classes), dtype=np.float32)[data.labels]
    points = truth + noise * random.normal(size=truth.shape)
    seen = truth[:, None] + noise * random.normal(size=(len(items), views, len(classes)))
    return data, FeatureSet(points.astype(np.float32), seen.astype(np.float32))


def sources(features):
    judge = lambda seed: lambda a, b: a @ b.T  # noqa: E731
    return [
        Source("run", lambda seed: features, judge, comparable=True),
        Source("untrained", lambda seed: features, judge, seeded=True),
        Source("D2", lambda seed: FeatureSet(features.points, None)),
    ]


def page_of(rows, data, parts=None, layout=None):
    layout = layout or data.layout
    return results_page(ABOUT, rows, look.shown(rows, data, parts), layout, data)


@pytest.fixture(scope="module")
def measured():
    data, features = labelled()
    tasks = ["recognition", "retrieval", "retrieval-cross"]
    return list(evaluate(data, sources(features), tasks, seeds=2)), data


def test_the_page_says_what_the_rows_say(measured):
    rows, data = measured
    reader = Reader(page_of(rows, data))
    for _, head, body in tables(rows):
        found = next(t for t in reader.tables if t[0] == head)
        assert found[1:] == [[word(cell) for cell in line] for line in body]
    for words in ("0123abcd", "folders: made", "crosshape evaluate run all data", "1 min 15 s", "gone.off"):
        assert words in reader.text
    assert "few-shot was left out: too few." in reader.text and "Published" not in reader.text
    shares = re.findall(r"--v:([\d.e-]+)", page_of(rows, data))
    assert {float(s) for s in shares} >= {
        next(iter(r.measures.values())) for r in rows if r.task.endswith("-3d")
    }


def test_the_page_loads_nothing(measured):
    rows, data = measured
    reader = Reader(page := page_of(rows, data))
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(reader.tags)
    for name, value in reader.attributes:
        assert name not in ("srcset", "action") and not name.startswith("on")
        assert name != "src" or value.startswith("data:image/png;base64,")
        assert name != "href" or value.startswith("#")
    assert all(uri.startswith("data:image/png;base64,") for uri in re.findall(r"url\(([^)]*)\)", page))
    assert "http:" not in page and "https:" not in page and "@import" not in page
    assert dict(reader.attributes)["content"].startswith("default-src 'none'")
    ids = {value for name, value in reader.attributes if name == "id"}
    assert {value[1:] for name, value in reader.attributes if name == "href"} <= ids


def test_pictures_have_words_for_who_cannot_see_them(measured):
    rows, data = measured
    page = page_of(rows, data)
    for drawing in re.findall(r"<(?:svg|i|img)\b[^>]*>", page):
        assert re.search(r'(aria-label|alt)="[^"]{4,}"|aria-hidden="true"', drawing), drawing
    assert re.search(r'class="s wrong"[^>]*aria-label="hit \d: c\d/\d, wrong, it is c\d"', page)
    assert re.search(r'class="s right"[^>]*aria-label="hit \d: c\d/\d, right"', page)


def test_hits_are_marked_as_their_classes_say(measured):
    rows, data = measured
    within, across = look.retrieval_grids(rows, data.labels)
    assert within.lines == ("run", "untrained", "D2") and within.row.features == "both"
    assert across.lines == ("run", "run, cosine", "untrained")
    for grid in (within, across):
        assert len(grid.asked) == 3
        assert sorted(data.labels[a.query] for a in grid.asked) == [0, 1, 2], "one of a class"
        for asked in grid.asked:
            assert data.test(0)[asked.query] and all(asked.query not in line for line in asked.hits)
    page = page_of(rows, data)
    marks = [
        (a.query, h)
        for g in look.retrieval_grids(rows, data.labels)
        for a in g.asked
        for i in a.hits
        for h in i
    ]
    right = sum(data.labels[a] == data.labels[b] for a, b in marks)
    assert page.count('class="s right"') == right and page.count('class="s wrong"') == len(marks) - right
    assert 0 < right < len(marks)


def test_hostile_names_stay_text(tmp_path):
    data, features = labelled((HOSTILE, "b|c_%$", "d"))
    data = replace(data, skipped=((HOSTILE, HOSTILE),))
    rows = list(evaluate(data, sources(features)[:1], ["recognition", "retrieval", "retrieval-cross"]))
    found = look.shown(rows, data, None)
    reader = Reader(results_page({**ABOUT, "title": HOSTILE}, rows, found, data.layout, data))
    assert "script" not in reader.tags and "img" not in reader.tags
    assert not [a for a in reader.attributes if a[0].startswith("on")]
    assert HOSTILE in reader.text
    names = write_pictures(tmp_path / "pictures", found, data)
    assert names == [
        "confusion.png",
        "views.png",
        "precision-recall.png",
        "retrieval.png",
        "retrieval-cross.png",
    ]
    for name in names:
        with Image.open(tmp_path / "pictures" / name) as picture:
            assert 200 < picture.width < 4000 and 200 < picture.height < 4000, (name, picture.size)


def test_a_page_of_one_figure_has_no_empty_parts():
    data, features = labelled(noise=0.0)
    rows = list(evaluate(data, sources(features)[:1], ["recognition-3d"]))
    text = Reader(page_of(rows, data)).text
    assert "every test shape was recognised" in text
    for words in ("By number of views", "Precision and recall", "What is found", "Parts", "untrained", "D2"):
        assert words not in text


def test_a_split_with_one_class_to_test(tmp_path):
    data, features = labelled()
    items = tuple(replace(i, split="train") if i.label else i for i in data.layout.items)
    data = LabelledSet(replace(data.layout, items=items), None, (), "key", None, 0, lambda: data.arrays)
    rows = list(evaluate(data, sources(features), ["recognition-3d", "retrieval-3d"]))
    found = look.shown(rows, LabelledSet(data.layout, None, (), "k", None, 0, labelled()[0].read), None)
    assert len(found.grids[0].asked) == 1
    write_pictures(tmp_path / "p", found, labelled()[0])
    assert "c0" in results_page(ABOUT, rows, found, data.layout, labelled()[0])


def test_a_page_of_forty_classes_and_two_thousand_test_shapes_is_small():
    data, _ = labelled([f"class {i}" for i in range(40)], each=100, size=224)
    asking = np.flatnonzero(data.test(0))
    random = np.random.default_rng(0)

    def row(task, model, more):
        seed = {"rows": asking, "ranking": random.choice(asking, (len(asking), 10))}
        seed |= {"precision_recall": np.ones(21), "own_rank": np.arange(len(asking)) + 1}
        figures = {"mean_average_precision": 0.5}
        return Row(task, model, "both", 1, "default", figures, {}, None, 1, more, {"seeds": [seed]})

    models = ("run", "untrained", "D2")
    rows = [row("retrieval", model, {}) for model in models]
    rows += [row("retrieval-cross", model, {"ask": "picture", "by": "cosine"}) for model in models]
    page = page_of(rows, data)
    assert 3e6 < len(page) < 15e6, "noise, which no compression makes smaller"
    assert page.count('class="query"') == 2 * look.QUERIES


def test_a_hundred_and_sixty_classes_can_be_read():
    names = [f"kind {i} " + "x" * (i % 40) for i in range(160)]
    data, features = labelled(names, each=4, noise=0.6)
    rows = list(evaluate(data, sources(features)[:1], ["recognition-3d"]))
    page = page_of(rows, data)
    (confusion,) = [look.confusion(rows, data.labels, names)]
    assert len(confusion.pairs) == look.PAIRS and len(page) < 2e6
    assert [p[2] for p in confusion.pairs] == sorted((p[2] for p in confusion.pairs), reverse=True)
    assert page.count('class="on"') + page.count('class="off"') == np.count_nonzero(confusion.matrix.counts)


# ---------------------------------------------------------------------------------- what is drawn, by scikit-learn


def test_the_confusion_is_that_of_scikit_learn(measured):
    from sklearn.metrics import confusion_matrix

    rows, data = measured
    confused = look.confusion(rows, data.labels, data.layout.classes)
    assert confused.row.features == "both" and confused.row.model == "run"
    order = [data.layout.classes.index(name) for name in confused.matrix.classes]
    expected = sum(
        confusion_matrix(data.labels[s["rows"]], s["predictions"], labels=range(3))
        for s in confused.row.detail["seeds"]
    )
    assert confused.matrix.counts.tolist() == expected[np.ix_(order, order)].tolist()
    right = {
        name: counts[name_at] / sum(counts)
        for name_at, (name, counts) in enumerate(
            zip(confused.matrix.classes, confused.matrix.counts.tolist(), strict=True)
        )
    }
    assert {name: share for name, _, share in confused.recalls} == pytest.approx(right)
    assert sum(n for *_, n, _ in confused.pairs) == expected.sum() - np.trace(expected)


def test_the_curve_is_that_of_scikit_learn(measured):
    from sklearn.metrics import precision_recall_curve

    rows, data = measured
    features = labelled()[1]
    asking = np.flatnonzero(data.test(0))
    unit = features.points[asking] / np.linalg.norm(features.points[asking], axis=1, keepdims=True)
    scores = np.round(unit.astype(np.float64) @ unit.T.astype(np.float64), 10)
    curves = []
    for query, row in enumerate(asking):
        others = np.arange(len(asking)) != query
        hits = (data.labels[asking] == data.labels[row])[others]
        precision, recall, _ = precision_recall_curve(hits, scores[query][others])
        curves.append(
            [
                precision[recall >= x - 1e-9].max() if x else precision[recall > 0].max()
                for x in np.linspace(0, 1, 21)
            ]
        )
    chart = next(c for c in look.precision_recall(rows) if c.title == "points")
    line = next(one for one in chart.lines if one.name == "run")
    assert [y for _, y in line.points] == pytest.approx(np.mean(curves, axis=0), abs=1e-6)
    assert [one.name for one in chart.lines] == ["run", "untrained", "D2"]


def test_classes_that_are_confused_stand_together():
    counts = 20 * np.eye(6, dtype=int)
    counts[0, 4] = counts[4, 0] = 15
    order = look.together(counts).tolist()
    assert sorted(order) == [*range(6)] and abs(order.index(0) - order.index(4)) == 1
    assert look.together(np.array([[3]])).tolist() == [0]


def test_lines_by_views_carry_figures_and_intervals(measured):
    rows, _ = measured
    recognition, retrieval = look.by_views(rows)
    assert (recognition.up, retrieval.up) == ("accuracy", "mAP")
    line = recognition.lines[0]
    expected = [r for r in rows if r.task == "recognition-2d" and r.model == "run"]
    assert line.points == tuple((r.views, r.measures["accuracy"]) for r in expected)
    assert line.spans == tuple(r.interval for r in expected)
    levels = [one.name for one in recognition.lines if one.level]
    assert levels == ["run, points", "untrained, points", "D2, points"]
    assert all(
        c.low <= y <= c.high for c in (recognition, retrieval) for one in c.lines for _, y in one.points
    )


# ------------------------------------------------------------------------------------------------------- parts


@pytest.fixture(scope="module")
def parted(tmp_path_factory):
    """Labelled mugs and hammers in a folder, and the run folder of a tiny model."""
    import trimesh

    folder = tmp_path_factory.mktemp("parted")
    for label in ("mug", "hammer"):
        (folder / "data" / label).mkdir(parents=True)
        for seed in range(10):
            shape = make_shape(label, seed)
            mesh = trimesh.Trimesh(shape.vertices, shape.faces, process=False)
            mesh.export(folder / "data" / label / f"{seed}.off")
            lines = []
            for number, name in enumerate(shape.part_names):
                faces = np.flatnonzero(shape.part_of_face == number) + 1
                lines += [name, " ".join(map(str, faces))] if len(faces) else []
            (folder / "data" / label / f"{seed}_labels.txt").write_text("\n".join(lines) + "\n")
    random = np.random.default_rng(0)
    clouds, views = random.uniform(-0.5, 0.5, (8, 64, 3)), random.integers(0, 255, (8, 2, 16, 16), np.uint8)
    model = untrained_model(TINY, points=256, image_size=16, clouds=clouds.astype(np.float32), views=views)
    model.save(folder / "run")
    return folder


@pytest.fixture
def quick(monkeypatch):
    """Heads that learn for a moment."""
    short = partial(room.HeadSettings, hidden=16, steps=20)
    monkeypatch.setattr(room, "HeadSettings", short)
    monkeypatch.setattr(room, "POINTS", 256)


def test_all_with_parts_gives_the_whole_page(parted, tmp_path, capsys, quick):
    out = tmp_path / "out"
    options = [
        "--baselines",
        "--shapes-per-class",
        "1,2,2",
        "--out",
        out,
        "--no-cache",
        "--workers",
        1,
        "--device",
        "cpu",
    ]
    assert main([str(w) for w in ("evaluate", parted / "run", "all", parted / "data", *options)]) == 0
    said = capsys.readouterr().err
    assert re.search(
        r"(?m)^ +(\d+ min )?\d+ s  segmentation run points frozen 1 a class: instance miou 0\.\d{3}$", said
    )
    assert {p.name for p in out.iterdir()} == {
        *(f"results.{s}" for s in ("html", "json", "md", "tex")),
        "pictures",
    }
    names = {p.stem for p in (out / "pictures").iterdir()}
    assert names == {
        "confusion",
        "views",
        "precision-recall",
        "retrieval",
        "retrieval-cross",
        "labels",
        "parts",
    }
    record = json.loads((out / "results.json").read_text())
    page = Reader((out / "results.html").read_text())
    for row in record["rows"]:
        measure = row.get("accuracy", row.get("mean_average_precision"))
        measure = row.get("instance_miou", measure)
        lines = [
            line
            for table in page.tables
            for line in table
            if f"{measure:.3f}" in line and row["model"] in line
        ]
        assert lines, row
    parts = [row for row in record["rows"] if row["task"] == "segmentation"]
    assert [(r["model"], r["labels"]) for r in parts] == [
        (model, budget) for model in ("run", "untrained") for budget in ("1 a class", "2 a class")
    ], "budgets of the same shapes are measured once"
    assert "guesses" not in parts[0]["detail"] and len(parts[0]["detail"]["shown"]) == 4
    by_class = next(t for t in page.tables if t[1][:1] == ["class"] and "untrained" in t[1])
    assert by_class[0][1:] == ["2 a class (4)", "1 a class (2)"]
    two = parts[1]["detail"]["classes"]
    assert [(line[0], line[1]) for line in by_class[2:]] == [(c, f"{two[c]:.3f}") for c in ("hammer", "mug")]
    alternatives = [value for name, value in page.attributes if name == "alt"]
    assert len(alternatives) == 4 * 4 * 2 and "mug" in " ".join(alternatives)


def test_mean_iou_of_a_class_is_the_mean_over_its_shapes(parted):
    from crosshape.networks.model import load_model
    from crosshape.shapes.layouts import open_layout

    data = room.load_part_set(open_layout(parted / "data"), 256, workers=1)
    chosen = room.choose_shown(data, most=2)
    assert data.labels[chosen].tolist() == [0, 1] and data.split(1, 0)[chosen].all()
    quick = room.HeadSettings(hidden=16, steps=20)
    model = load_model(parted / "run", "cpu")
    (row,) = room.evaluate_segmentation(model, data, shapes_per_class=(2,), settings=quick, shown=chosen)
    assert np.mean(list(row.detail["classes"].values())) == pytest.approx(row.measures["class_miou"])
    for shape, guess, iou in zip(chosen, row.detail["guesses"], row.detail["shown_iou"], strict=True):
        count = len(data.layout.part_names[data.labels[shape]])
        assert room.shape_iou(data.parts[shape], guess, count) == pytest.approx(iou)
    first, *_ = look.coloured_parts([row], data)
    assert first.name == data.items[chosen[0]].name
    assert [heading for heading, *_ in first.pictures] == ["truth", "run, 2 a class"]


def test_a_pixel_has_the_colour_of_the_part_that_is_seen_there():
    random = np.random.default_rng(0)
    ball = random.normal(size=(2000, 3))
    ball = (0.9 * ball / np.linalg.norm(ball, axis=1, keepdims=True)).astype(np.float32)
    sides = look.painter(ball, 2, size=64)((ball[:, 2] < 0).astype(int))
    assert sides.shape == (2, 64, 64, 4) and sides.dtype == np.uint8
    for side in sides:
        assert (side[:3, :, 3] == 0).all() and (side[24:40, 24:40, 3] == 255).all()
        for row, part in (
            (12, 0),
            (56, 1),
        ):  # the camera looks down on it: most of what is seen is the upper half
            colour = side[row, 32, :3].astype(float)
            assert np.allclose(colour / colour.max(), colours(2)[part] / colours(2)[part].max(), atol=0.06), (
                row,
                colour,
            )


def test_without_out_nothing_is_kept_to_be_drawn(parted, monkeypatch, capsys, quick):
    import crosshape.tasks.shown

    monkeypatch.setattr(crosshape.tasks.shown, "shown", lambda *_: pytest.fail("pictures without --out"))
    monkeypatch.setattr(room, "choose_shown", lambda *_: pytest.fail("shapes are chosen without --out"))
    words = [
        "evaluate",
        parted / "run",
        "segmentation",
        parted / "data",
        "--shapes-per-class",
        1,
        "--workers",
        1,
    ]
    assert main([str(w) for w in (*words, "--device", "cpu")]) == 0
    assert "instance mIoU" in capsys.readouterr().out


def test_published_figures_stand_apart():
    data, features = labelled([f"c{i:02d}" for i in range(40)], each=4)
    rows = list(evaluate(data, sources(features)[:1], ["recognition-3d"]))
    reader = Reader(page_of(rows, data, layout=replace(data.layout, name="modelnet")))
    (table,) = [t for t in reader.tables if t[0][0] == "linear SVM on point features"]
    assert ["CMCV", "DGCNN", "89.8"] in table
    assert "Published, other data or renderings may apply" in reader.text


def test_a_row_without_spread_is_drawn():
    more = {"labels": "1 a class", "head": "frozen", "labelled": 3, "tested": 2}
    figures, detail = {"instance_miou": 0.5}, {"classes": {"a": 0.5}}
    row = Row("segmentation", "run", "points", None, "default", figures, {}, None, 1, more, detail)
    more = replace(
        row, more={**row.more, "labels": "2 a class", "labelled": 6}, measures={"instance_miou": 0.5}
    )
    (chart,) = look.by_budget([row, more])
    assert chart.ticks == ((0.0, "1 a class (3)"), (1.0, "2 a class (6)"))
    assert chart.low < chart.high and not chart.lines[0].spans


def test_pictures_of_a_library_are_its_views(embedded_library):
    from crosshape.tasks.labelled import open_data

    data = open_data(embedded_library.path, image_size=16)
    found = look.pictures(data, [(3, 1), (0, 9)])
    views = embedded_library.views()
    assert np.array_equal(found, views[[3, 0], [1, 3]]), "the last view where there are fewer"
    assert "arrays" not in vars(data), "the other views are not decoded"
