"""The report page: self-contained, escaped, true to its data."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crosshape import report as report_module
from crosshape.report import LINES, Confusion, Figure, Report, alike, apart, cells, chart, flat, sprite

HOSTILE = "</script><script>alert(1)</script>\"'><img src=http://x.y/z>"


class Reader(HTMLParser):
    """Counts tags, keeps text outside scripts and the contents of scripts."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text, self.scripts, self.inside = [], [], "", [], None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside != "style":
            self.text += data


def small(**more):
    random = np.random.default_rng(0)
    count = 6
    base = {
        "title": "Title",
        "lead": "Lead",
        "names": [f"{i}.off" for i in range(count)],
        "views": random.integers(0, 256, (count, 3, 16, 16), dtype=np.uint8),
    }
    return Report(**{**base, **more})


def full(**more):
    near = np.array([[j for j in range(6) if j != i] for i in range(6)])
    parts = {
        "labels": ["a", "a", "a", "b", "b", "b"],
        "facts": [("6", "shapes")],
        "sources": ("trained", "D2"),
        "figures": [Figure("One", "share", (0.5, 0.25), (0.01, None)), Figure("Two", "share", (1.0, None))],
        "curves": [{"epoch": 1, "cross_view": 2.0, "judge_accuracy": 0.5}, {"epoch": 2, "cross_view": 1.0}],
        "confusion": Confusion(["a", "b"], np.array([[2, 1], [0, 3]])),
        "neighbours": {"trained": near},
        "queries": [0, 3],
        "places": np.random.default_rng(1).random((6, 2)),
        "groups": [[0, 1, 3], [2, 4, 5]],
        "skipped": [("x.off", "0 faces")],
        "method": ["Carefully."],
    }
    return small(**{**parts, **more})


def test_self_contained():
    page = full().html()
    reader = Reader(page)
    assert not {"link", "img", "iframe", "object", "embed", "base"} & set(reader.tags)
    assert not [a for a in reader.attributes if a[0] in ("src", "href", "srcset", "action")]
    assert all(uri.startswith("data:image/png;base64,") for uri in re.findall(r"url\(([^)]*)\)", page))
    assert "http:" not in page and "https:" not in page and "@import" not in page
    assert dict(reader.attributes)["content"].startswith("default-src 'none'")


def test_everything_is_told():
    text = Reader(full().html()).text
    for words in ("Title", "Lead", "Did it learn?", "50.0", "± 1.0", "25.0", "100.0", "–", "trained", "D2"):
        assert words in text
    for words in ("Which shapes", "A map", "What belongs", "What is taken", "How it learned", "All 6 shapes"):
        assert words in text
    assert "x.off" in text and "0 faces" in text and "Carefully." in text


def test_parts_without_data_are_left_out():
    text = Reader(small().html()).text
    for words in (
        "Did it learn?",
        "Which shapes",
        "A map",
        "What belongs",
        "What is taken",
        "How it learned",
    ):
        assert words not in text
    assert "All 6 shapes" in text and "Nothing: every file that was found was read." in text


def test_right_and_wrong_are_marked():
    page = full(groups=[], queries=[0]).html()
    body = page[page.index('id="neighbours"') : page.index('id="map"')]
    assert body.count('class="s right"') == 2 and body.count('class="s wrong"') == 3
    without = full(labels=None, confusion=None).html()
    assert 'class="s right"' not in without and 'class="s wrong"' not in without
    groups = full(queries=[]).html()
    body = groups[groups.index('id="groups"') : groups.index('id="confusion"')]
    assert body.count('class="s wrong"') == 2, "one stranger in each group"


def test_hostile_texts_stay_texts():
    names = [HOSTILE, *"bcdef"]
    page = full(
        title=HOSTILE,
        names=names,
        labels=[HOSTILE] * 6,
        skipped=[(HOSTILE, HOSTILE)],
        method=[HOSTILE],
        sources=(HOSTILE, "D2"),
        neighbours={HOSTILE: np.zeros((6, 5), int)},
        facts=[(HOSTILE, HOSTILE)],
    ).html()
    reader = Reader(page)
    assert reader.tags.count("script") == 2 and "img" not in reader.tags
    assert json.loads(reader.scripts[0])["names"] == names
    assert "<script>alert" not in page


def test_sizes_must_agree():
    with pytest.raises(ValueError, match="^labels are of 2 shapes, names of 6$"):
        small(labels=["a", "b"])
    with pytest.raises(ValueError, match="^trained are of 1 shapes, names of 6$"):
        small(neighbours={"trained": np.zeros((1, 3), int)})
    with pytest.raises(ValueError, match="^a page shows 1 to 2000 shapes, not 0; choose some of them$"):
        small(names=[], views=np.zeros((0, 3, 4, 4), np.uint8))


def test_ends_of_neighbours_are_dropped():
    near = np.full((6, 6), -1)
    near[0, 0] = 4
    reader = Reader(full(neighbours={"trained": near}).html())
    assert json.loads(reader.scripts[0])["near"]["trained"] == [[4], [], [], [], [], []]


def test_sprite_keeps_every_picture_at_its_cell():
    pictures = np.full((5, 8, 8), 255, np.uint8)
    for i in range(5):
        pictures[i, 2:6, 2:6] = 40 * i
    made = sprite(pictures, 3)
    assert (made.columns, made.rows) == (3, 2)
    sheet = Image.open(io.BytesIO(base64.b64decode(made.uri.partition(",")[2]))).convert("RGBA")
    assert sheet.size == (24, 16)
    pixels = np.asarray(sheet).reshape(2, 8, 3, 8, 4).swapaxes(1, 2).reshape(6, 8, 8, 4)
    assert (pixels[:5, 2:6, 2:6, 3] == 255).all(), "a surface hides the page"
    assert (pixels[:5, 0, :, 3] == 0).all() and (pixels[5, :, :, 3] == 0).all(), "ground does not"
    brightness = pixels[:5, 3, 3, :3].sum(axis=1, dtype=int)
    assert (np.diff(brightness) > 0).all(), "in their order"
    assert cells(5)[0] == "0% 0%" and cells(5)[4] == "50% 100%" and cells(1) == ["0% 0%"]


def test_chart_reaches_from_end_to_end():
    drawn = chart("loss", {"one": [(0, 0.0), (10, 4.0)]}, 0.0, None)
    assert drawn["lines"]["one"] == "44.0,268.0 632.0,10.0"
    assert drawn["marks"][0] == (268.0, "0") and drawn["marks"][-1] == (10.0, "4")


def test_apart_and_flat():
    crowd = np.full((9, 2), 0.5) + np.random.default_rng(0).normal(0, 0.01, (9, 2))
    spread = apart(crowd, 0.1)
    far = np.linalg.norm(spread[:, None] - spread, axis=2) + np.eye(9)
    assert far.min() > 0.06 and spread.min() >= 0.05 and spread.max() <= 0.95
    places = flat(np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32))
    assert places.shape == (12, 2) and places.min() == 0 and places.max() == 1


def test_alike_finds_clear_groups():
    features = np.eye(3)[[0, 1, 0, 2, 1, 0]] + np.random.default_rng(0).normal(0, 0.01, (6, 3))
    assert alike(features, 3) == [[0, 2, 5], [1, 4], [3]]


def test_written_as_a_whole(tmp_path):
    report = full()
    report.write(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text("utf-8") == report.html()
    assert len(list(tmp_path.iterdir())) == 1


def test_every_part_of_the_loss_has_a_colour():
    style = Path(report_module.__file__).with_name("report.css").read_text()
    for number in range(len(LINES)):
        assert f"polyline.c{number} {{" in style and f"li.c{number}::before {{" in style
        assert style.count(f"--c{number}: #") == 2  # by day and by night
