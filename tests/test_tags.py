"""Tags: what was learned is right as often as it says; labels are read with clear errors."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
from test_library import fill

from crosshape.cli import main
from crosshape.commands.tag import write_csv as write_table
from crosshape.errors import CrosshapeError, UsageError
from crosshape.library.library import Library, create_library, open_library
from crosshape.library.notes import tags_file
from crosshape.page.tagging import Tagging
from crosshape.search import query
from crosshape.search.query import Where, search
from crosshape.search.tags import (
    READY,
    SURE,
    Learned,
    doubt,
    judge,
    propose,
    read_labels,
    threshold,
    write_tags,
)
from crosshape.settings import PrepareSettings
from crosshape.sheets import safe_cell


@pytest.fixture
def mixed(tmp_path: Path) -> Library:
    """Lids, bolts and things that are neither, in a space where the first two overlap a little."""
    random = np.random.default_rng(2)
    names = [f"{kind}/{i:03d}.obj" for kind in ("bolt", "lid", "odd") for i in range(80)]
    library = create_library(tmp_path / "parts.lance", PrepareSettings(points=8, views=2, image_size=8))
    fill(library, names)
    middles = random.normal(size=(3, 512)) * 0.12
    vectors = (middles[np.repeat(range(3), 80)] + random.normal(size=(240, 512)) * 0.5).astype(np.float32)
    library.write_features("aaaa1111", names, vectors, np.stack([vectors, vectors], axis=1))
    return library


def many_kinds(folder: Path, apart: float) -> Library:
    """Twelve kinds of 40 shapes, which run into each other the less the further they lie apart."""
    random = np.random.default_rng(0)
    names = [f"{kind:02d}/{number:02d}.obj" for kind in range(12) for number in range(40)]
    library = create_library(folder / "parts.lance", PrepareSettings(points=8, views=2, image_size=8))
    fill(library, names)
    middles = random.normal(size=(12, 512)) * apart
    vectors = (middles[np.repeat(range(12), 40)] + random.normal(size=(480, 512)) * 0.3).astype(np.float32)
    library.write_features("aaaa1111", names, vectors, np.stack([vectors, vectors], axis=1))
    return library


def some_labels(library: Library, count: int) -> dict[str, str]:
    return {name: name.split("/")[0] for name in library.names if int(name[-7:-4]) < count}


def test_ready_tags_are_right_as_often_as_promised(mixed: Library) -> None:
    learned, proposals = propose(mixed, some_labels(mixed, 30))
    assert [one.tag for one in learned] == ["bolt", "lid", "odd"] and learned[0].labelled == 30
    ready = [one for one in proposals if one.state == "ready"]
    right = np.mean([one.name.startswith(one.tag) for one in ready])
    assert len(ready) > 40 and right >= 0.9
    assert len(proposals) == 150 and all(0 <= one.score <= 1 for one in proposals)
    states = [one.state for one in proposals]
    assert states == sorted(states, key=["ready", "to review", "not enough evidence"].index)
    assert propose(mixed, some_labels(mixed, 30))[1] == proposals


def test_nothing_is_promised_where_most_shapes_are_of_kinds_nobody_labelled(tmp_path: Path, capsys) -> None:
    library = many_kinds(tmp_path, 0.25)
    names = library.names

    def proposed(kinds: int, **more):
        tags = {f"{kind:02d}": "ab"[kind % 2] if kinds == 12 else f"{kind:02d}" for kind in range(kinds)}
        labels = {name: tags[name[:2]] for name in names if name[:2] in tags and int(name[3:5]) < 20}
        learned, proposals = propose(library, labels, **more)
        shown = [one for one in proposals if one.state != "not enough evidence"]
        return learned, shown, [one for one in shown if tags.get(one.name[:2]) != one.tag]

    learned, shown, wrong = proposed(12)
    assert learned[0].unknown <= 0.1 and doubt(learned) is None
    assert sum(one.state == "ready" for one in shown) > 100 and len(wrong) < 0.05 * len(shown)
    learned, shown, wrong = proposed(2)
    assert 0.6 < learned[0].unknown <= 1.0  # ten of eleven in truth
    assert "of the shapes without a tag look like no labelled one" in (doubt(learned) or "")
    assert len(shown) > 20 and all((one.state, one.precision) == ("to review", None) for one in shown)
    assert (
        len(shown) < 100
    )  # of 440, of which two classifiers between two kinds would know one or the other in each

    file = tmp_path / "labels.csv"
    file.write_text(
        "\n".join(f"{name},{name[:2]}" for name in names if name[:2] < "02" and int(name[3:5]) < 20)
    )
    assert main(["tag", str(library.path), "--from", str(file)]) == 0
    assert "label" in (said := capsys.readouterr().err) and "Give some of those shapes a tag" in said


def test_refused_proposals_are_learned_from(tmp_path: Path) -> None:
    library = many_kinds(tmp_path, 0.05)
    labels = {name: name[:2] for name in library.names if name[:2] < "02" and int(name[3:5]) < 20}
    half = [name for name in library.names if name[:2] >= "02" and int(name[3:5]) < 20]

    def wrong(refused) -> int:
        _, proposals = propose(library, labels, refused=refused)
        shown = [one for one in proposals if one.state != "not enough evidence"]
        return sum(one.name[:2] >= "02" and int(one.name[3:5]) >= 20 for one in shown)

    assert wrong({(name, tag) for name in half for tag in ("00", "01")}) < wrong(set()) / 2


def test_few_labels_promise_little(mixed: Library) -> None:
    learned, proposals = propose(mixed, some_labels(mixed, 3))
    assert all(
        one.ready is None for one in learned
    )  # three of three right, and one wrong counted in, is 0.75
    assert {one.state for one in proposals} <= {"to review", "not enough evidence"}
    assert all(one.precision is None for one in proposals)
    assert any(one.review_precision for one in propose(mixed, some_labels(mixed, 10))[0])


def test_thresholds_against_a_count_by_hand() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    right = np.array([True, True, True, False, True])
    assert threshold(scores, right, 0.7) == (0.7, 0.75)  # 3 of 3, one wrong counted in
    assert threshold(scores, right, 0.6) == (0.5, 0.667)  # 4 of 5, one more wrong: 4 of 6
    assert threshold(scores, right, 0.9) == (None, None)
    for count in (SURE - 1, SURE):
        ready = threshold(np.linspace(1, 0.5, count), np.ones(count, bool), READY)
        assert ready == ((0.5, 0.95) if count == SURE else (None, None))
    about = Learned("a", 5, 0.9, 0.97, 0.5, 0.7)
    assert judge(about, 0.9) == ("ready", 0.97)
    assert judge(about, 0.6) == ("to review", 0.7)
    assert judge(about, 0.4) == ("not enough evidence", None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no labels. Write a line for each labelled shape: name,tag"),
        ("name,tag\nlid/000.obj\n", "line 2: two columns are needed, name and tag."),
        ("lid/00.obj,lid\n", "line 1: there is no shape 'lid/00.obj'; did you mean 'lid/0"),
        ("lid/000.obj,a\n\nlid/000.obj,b\n", "line 3: 'lid/000.obj' has two tags, 'a' and 'b'."),
        ("lid/000.obj,\xff", "is no CSV in UTF-8; save it as"),
    ],
)
def test_labels_that_are_refused(mixed: Library, tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(CrosshapeError) as error:
        read_labels(path, mixed.names)
    assert words in str(error.value) and str(path) in str(error.value)


def test_what_was_said_on_the_page_counts_as_well(
    mixed: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["tag", str(mixed.path), "--json"]
    assert main(words) == 1
    assert "nobody gave a tag on the page of" in capsys.readouterr().err
    labels = some_labels(mixed, 30)
    by_hand = {name: tag for name, tag in labels.items() if tag != "odd"}
    refused = [
        ["bolt/050.obj", "bolt"],
        ["bolt/051.obj", "bolt"],
        ["odd/000.obj", "odd"],
        ["gone.obj", "lid"],
    ]
    said = {"labels": {**by_hand, "gone.obj": "lid"}, "refused": refused}
    tags_file(mixed.path).write_text(json.dumps(said))
    file = tmp_path / "labels.csv"
    file.write_text("\n".join(f"{name},{tag}" for name, tag in labels.items() if tag == "odd"))
    write_tags(mixed, {"bolt/050.obj": ["bolt", "m6"], "lid/079.obj": ["old"], "lid/000.obj": ["lid"]})
    assert main([*words, "--from", str(file), "--write"]) == 0
    out, err = capsys.readouterr()
    rows = {row["name"]: row for row in map(json.loads, out.splitlines())}
    assert len(rows) == 150 and {row["tag"] for row in rows.values()} == {"bolt", "lid", "odd"}
    assert rows["bolt/050.obj"]["tag"] != "bolt" and rows["bolt/051.obj"]["tag"] != "bolt"
    assert "1 tags of the page are of shapes that are not in the library any more." in err
    assert "60 more tags were given on the page." in err
    assert "3 tags of the library were removed: they are neither given nor ready now." in err
    stored = open_library(mixed.path).tags()
    ready = {row["name"]: [row["tag"]] for row in rows.values() if row["state"] == "ready"}
    assert stored == ready | {name: [tag] for name, tag in labels.items()}
    assert stored.get("bolt/050.obj") not in (["bolt"], ["m6"]) and stored["odd/000.obj"] == ["odd"]
    assert stored["bolt/000.obj"] == ["bolt"] and "bolt" not in stored.get("bolt/051.obj", [])


def test_accents_of_many_labels_are_composed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = sorted(f"Geh\u00e4use/{i:03d}.stl" for i in range(50))
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(f"{normalize('NFD', name)},box" for name in names), encoding="utf-8")
    made: list[int] = []
    by_composed = query.by_composed
    monkeypatch.setattr(query, "by_composed", lambda names: made.append(1) or by_composed(names))
    assert read_labels(path, names) == dict.fromkeys(names, "box") and len(made) == 1


def test_tables_written_here_are_read_here(mixed: Library, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(f"name,tag\nlid/000.obj,{safe_cell('=1+1')}\nlid/001.obj,'quoted\n")
    assert read_labels(path, mixed.names) == {"lid/000.obj": "=1+1", "lid/001.obj": "'quoted"}


def test_one_tag_or_too_few_labels(mixed: Library) -> None:
    with pytest.raises(CrosshapeError, match="there is only one tag; a second one, such as 'other'"):
        propose(mixed, dict.fromkeys(mixed.names[:5], "bolt"))
    with pytest.raises(CrosshapeError, match="no tag has 3 labelled shapes or more; label some more."):
        propose(mixed, {"lid/000.obj": "a", "lid/001.obj": "b"})
    with pytest.raises(UsageError, match="over is 'x'; it must be one of points, views, both"):
        propose(mixed, some_labels(mixed, 3), over="x")


def test_tags_are_learned_from_what_is_asked_for(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    names = [f"{kind}/{i:03d}.obj" for kind in ("bolt", "lid") for i in range(12)]
    library = create_library(tmp_path / "parts.lance", PrepareSettings(points=8, views=2, image_size=8))
    fill(library, names)
    points, views = random.normal(size=(2, 24, 512)).astype(np.float32)
    points[:12, 0] += 40
    library.write_features("aaaa1111", names, points, np.stack([views, views], axis=1))
    right = {
        over: [
            one.name.startswith(one.tag) for one in propose(library, some_labels(library, 6), over=over)[1]
        ]
        for over in ("points", "views")
    }
    assert all(right["points"]) and len(right["points"]) == 12 and not all(right["views"])


def test_written_tags_are_found_by_search(
    mixed: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "labels.csv", tmp_path / "out.csv"
    lines = [f"{name},{'=bolt' if tag == 'bolt' else tag}" for name, tag in some_labels(mixed, 30).items()]
    path.write_text("\n".join(["name,tag", *lines]))
    words = ["tag", str(mixed.path), "--from", str(path), "--csv", str(out), "--write"]
    assert main([*words, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [list(row) for row in rows] == [["name", "tag", "score", "state", "precision"]] * 150
    with open(out, newline="") as file:
        table = list(csv.DictReader(file))
    assert {row["tag"] for row in table} == {"'=bolt", "lid", "odd"}  # no spreadsheet computes it
    ready = {row["name"] for row in rows if (row["state"], row["tag"]) == ("ready", "lid")}
    given = {name for name, tag in some_labels(mixed, 30).items() if tag == "lid"}
    library = open_library(mixed.path)
    hits = search(library, "lid/000.obj", top=999, where=Where(tag="lid"))
    assert {hit.name for hit in hits} | {"lid/000.obj"} == ready | given
    with pytest.raises(CrosshapeError, match="There is no tag 'Lids'; did you mean 'lid'?"):
        search(library, "lid/000.obj", where=Where(tag="Lids"))
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == [
        *("tag", "labelled", "ready", "precision", "to", "review", "precision")
    ]
    fill(library, ["new/1.obj"])  # a library with tags still takes shapes
    assert len(open_library(mixed.path)) == 241


def test_shapes_without_features_are_left_out_and_keep_their_tags(
    mixed: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = some_labels(mixed, 30)
    learned, proposals = propose(mixed, labels)
    fill(mixed, ["lid/new.obj", "lid/old.obj", "z.obj"])
    write_tags(mixed, {"lid/old.obj": ["seal"], "odd/079.obj": ["seal"]})
    labels["lid/new.obj"] = "lid"
    assert propose(mixed, labels) == (learned, proposals)
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(f"{name},{tag}" for name, tag in labels.items()))
    assert main(["tag", str(mixed.path), "--from", str(path), "--write"]) == 1
    assert (
        "3 of 243 shapes are left out" in (err := capsys.readouterr().err)
        and "1 tags of the library were" in err
    )
    tags = open_library(mixed.path).tags()
    assert (tags["lid/old.obj"], tags["lid/new.obj"], "z.obj" in tags) == (["seal"], ["lid"], False)
    assert tags.get("odd/079.obj") != ["seal"]


def test_equal_scores_are_on_one_side_of_a_threshold() -> None:
    scores, right = np.full(100, 0.5), np.arange(100) < 20
    assert threshold(scores, right, 0.9) == (None, None)
    assert threshold(scores, right, 0.1) == (0.5, 0.198)
    scores = np.array([0.9, 0.9, 0.4, 0.4])
    assert threshold(scores, np.array([True, True, True, False]), 0.6) == (0.4, 0.6)
    assert threshold(scores, np.array([True, True, True, False]), 0.65) == (0.9, 0.667)


def test_precision_of_what_is_to_be_reviewed_is_its_own(mixed: Library, monkeypatch) -> None:
    """100 right ones above 60 wrong ones: nothing below the ready ones is worth a look."""
    import crosshape.search.tags as room

    names = mixed.names[:160]
    held = np.zeros((160, 2))
    held[:, 0] = np.linspace(1, 0.5, 160)
    monkeypatch.setattr(room, "_held_out", lambda *_: (held, {"bolt": [], "other": []}))
    monkeypatch.setattr(room, "_like", lambda *_: (np.ones((80, 2), bool), 0.0))

    def learned(right: int) -> Learned:
        truth = {
            name: "bolt" if row < 100 or 160 - right <= row else "other" for row, name in enumerate(names)
        }
        return propose(mixed, truth)[0][0]

    about = learned(0)
    assert about.tag == "bolt" and about.ready == held[103, 0] and about.ready_precision == 0.952
    assert about.review is None and about.review_precision is None
    about = learned(50)  # 6 wrong ones, then 50 right ones
    assert about.ready == held[103, 0] and about.review == held[159, 0]
    assert about.review_precision == round(50 / (50 + 6 + 1), 3)


def test_one_shape_alone_that_is_something_else(mixed: Library) -> None:
    labels = dict.fromkeys(mixed.names[:10], "bolt") | {"odd/000.obj": "other"}
    with pytest.raises(CrosshapeError, match="only one labelled shape is not 'bolt'; label another one"):
        propose(mixed, labels)
    assert propose(mixed, labels | {"odd/001.obj": "other"})[0][0].tag == "bolt"
    assert propose(mixed, labels | {"odd/001.obj": "screw"})[0][0].tag == "bolt"


def test_nothing_is_proposed_for_a_shape_that_every_tag_was_refused_for(mixed: Library) -> None:
    labels = some_labels(mixed, 10)
    refused = {("odd/050.obj", tag) for tag in ("bolt", "lid", "odd")} | {("odd/051.obj", "odd")}
    found = {one.name: one for one in propose(mixed, labels, refused=refused)[1]}
    assert "odd/050.obj" not in found and found["odd/051.obj"].tag != "odd" and len(found) == 209


def test_names_and_tags_come_back_from_a_table_as_they_were(tmp_path: Path) -> None:
    names = ["a\u00a0b.stl", "\u90e8\u3000\u4e00.stl", "10.05\u202fPM.obj", "fam\u200dily.stl", "x/ lead.stl"]
    names += ["'=odd.stl", "''+a.stl", "=a.stl", " =a.stl", "'a.stl", "'", "-", " lead.stl", "last \u00a0"]
    names += [
        "tab\t.stl",
        "\ttab.stl",
        "a\nb.stl",
        "\ra.stl",
        "a\rb\x1b.stl",
        "a;b,c.stl",
        'q"u.stl',
        "\u0085.stl",
    ]
    labels = {name: f"{name.strip()}!" for name in names}
    tagging = Tagging(tmp_path / "parts.lance")
    for name, tag in labels.items():
        tagging.say(name, tag, "give")
    path = tmp_path / "labels.csv"
    path.write_text(tagging.table(), encoding="utf-8", newline="")
    assert read_labels(path, sorted(names)) == labels
    write_table(str(path), [{"name": name, "tag": tag} for name, tag in labels.items()])
    assert read_labels(path, sorted(names)) == labels
    with open(path, newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not any(
        cell.lstrip()[:1] in ("=", "+", "-", "@") or cell[:1] in ("\t", "\r", "\n") for cell in cells
    )


def test_proposals_are_not_taken_for_labels(mixed: Library, tmp_path: Path, capsys) -> None:
    path, out = tmp_path / "labels.csv", tmp_path / "out.csv"
    text = "\n".join(["name,tag", *(f"{name},{tag}" for name, tag in some_labels(mixed, 10).items())])
    path.write_text(text)
    words = ["tag", str(mixed.path), "--from", str(path), "--csv"]
    (tmp_path / "link.csv").symlink_to(path)
    for place in (path, tmp_path / "link.csv"):
        assert main([*words, str(place)]) == 2
        assert (
            "is read by this command, and would be lost" in capsys.readouterr().err
            and path.read_text() == text
        )
    assert main([*words, str(out)]) == 0
    with pytest.raises(CrosshapeError, match="holds proposals, not labels. Keep the lines that are right"):
        read_labels(out, mixed.names)


@pytest.mark.parametrize("text", ["name;tag\n{};lid\n", "Name,TAG\n{},lid\n", "{}\tlid\n", "\ufeff{};lid"])
def test_labels_of_other_spreadsheets(mixed: Library, tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.csv").write_text(text.format("lid/000.obj"), encoding="utf-8")
    assert read_labels(tmp_path / "labels.csv", mixed.names) == {"lid/000.obj": "lid"}
    (tmp_path / "labels.csv").write_bytes("name;tag\nlid/000.obj;Tür\n".encode("latin-1"))
    with pytest.raises(CrosshapeError, match="is no CSV in UTF-8; save it as 'CSV UTF-8'."):
        read_labels(tmp_path / "labels.csv", mixed.names)


@pytest.mark.parametrize(
    "text",
    [
        "plain, left.stl;lid\n",
        "plain, left.stl\tlid\n",
        '"plain, left.stl",lid\n',
        "name;tag\nplain, left.stl;lid",
    ],
)
def test_what_stands_between_cells_is_what_makes_the_first_a_shape(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.csv").write_text(text)
    assert read_labels(tmp_path / "labels.csv", ["plain, left.stl", "plain.stl"]) == {
        "plain, left.stl": "lid"
    }


def test_tags_that_are_taken_back_leave_the_library(mixed: Library, tmp_path: Path, capsys) -> None:
    path = tmp_path / "labels.csv"
    labels = some_labels(mixed, 5)
    words = ["tag", str(mixed.path), "--from", str(path), "--write"]
    for gone in ([], ["lid/000.obj", "lid/001.obj"]):
        path.write_text("\n".join(f"{name},{tag}" for name, tag in labels.items() if name not in gone))
        tags_file(mixed.path).write_text(json.dumps({"labels": {"odd/079.obj": "page"}, "refused": []}))
        assert main(words) == 0
        assert ("2 tags of the library were removed" in capsys.readouterr().err) == bool(gone)
        given = {name: [tag] for name, tag in labels.items() if name not in gone}
        assert open_library(mixed.path).tags() == given | {"odd/079.obj": ["page"]}


def test_it_is_said_that_nothing_is_ready_and_why(mixed: Library, tmp_path: Path, capsys) -> None:
    path = tmp_path / "labels.csv"
    for count in (3, 30):
        path.write_text("\n".join(f"{name},{tag}" for name, tag in some_labels(mixed, count).items()))
        assert main(["tag", str(mixed.path), "--from", str(path)]) == 0
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("Nothing is ready: that takes 19 labelled shapes of a tag") == (count == 3)
