"""Search: like finds like, the texts of errors, what a query may be."""

from __future__ import annotations

import difflib
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import TINY
from PIL import Image
from test_library import fill

from crosshape.cli import main
from crosshape.errors import CrosshapeError, UsageError, nearest_name
from crosshape.library.adding import add
from crosshape.library.embedding import embed
from crosshape.library.library import Library, create_library, open_library
from crosshape.networks.model import load_model, untrained_model
from crosshape.search import index, query
from crosshape.search.groups import group
from crosshape.search.pictures import object_mask, read_picture
from crosshape.search.query import Where, ask, best, gallery, place_of, search
from crosshape.settings import PrepareSettings
from crosshape.tasks.retrieval import unit


@pytest.fixture(scope="module")
def moved(embedded_library: Library, tmp_path_factory: pytest.TempPathFactory) -> Library:
    """A copy of the embedded library whose model is gone from where it was."""
    folder = tmp_path_factory.mktemp("moved")
    shutil.copytree(embedded_library.path, folder / "parts.lance")
    library = open_library(folder / "parts.lance")
    library.remember_model(gallery(library).model, "runs/parts")
    return library


def test_a_file_of_the_library_finds_itself_first(embedded_library: Library, made_folder: Path) -> None:
    for over in ("points", "views", "both"):
        hits = embedded_library.search(made_folder / "mug/mug_1.stl", top=3, over=over)
        assert [hit.rank for hit in hits] == [1, 2, 3]
        assert hits[0].name == "mug/mug_1.stl" and hits[0].score == pytest.approx(1, abs=1e-4)
        assert hits[0].path == str(made_folder / "mug/mug_1.stl")
        assert hits[0].score >= hits[1].score >= hits[2].score


def test_a_named_shape_is_compared_with_all_others(embedded_library: Library) -> None:
    features = embedded_library.features()
    own = features.names.index("bolt/bolt_0.obj")
    points, views = unit(features.points), unit(features.views)
    expected = {
        "points": points @ points[own],
        "views": views @ views[own],
        "both": (points @ points[own] + views @ views[own]) / 2,
    }
    for over, scores in expected.items():
        order = [row for row in np.argsort(-scores, kind="stable") if row != own]
        hits = search(embedded_library, "bolt/bolt_0.obj", top=100, over=over)
        assert [hit.name for hit in hits] == [features.names[row] for row in order]
        assert np.allclose([hit.score for hit in hits], scores[order], atol=1e-6)


def test_equal_scores_are_ordered_by_name() -> None:
    scores = np.array([0.5, 0.9, 0.5 + 1e-8, 0.9 + 1e-9, 0.1], np.float32)
    for top, expected in ((1, [1]), (2, [1, 3]), (3, [1, 3, 0]), (5, [1, 3, 0, 2, 4]), (9, [1, 3, 0, 2, 4])):
        assert best(scores, top).tolist() == expected
    assert best(scores, 0).tolist() == []


def test_the_command_prints_a_table_or_objects(
    embedded_library: Library, made_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["search", str(embedded_library.path), str(made_folder / "chair/chair_0.obj"), "--top", "2"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["rank", "score", "name"]
    assert lines[2].split() == ["1", "1.000", "chair/chair_0.obj"] and len(lines) == 4
    assert main([*words, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [list(row) for row in rows] == [["rank", "score", "name", "path"]] * 2


def test_a_library_follows_its_new_features(
    embedded_library: Library, made_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(embedded_library.path, tmp_path / "parts.lance")
    library = open_library(tmp_path / "parts.lance")
    query = "chair/chair_0.obj"
    before = search(library, query)
    untrained_model(TINY, points=128, image_size=32, seed=5).save(tmp_path / "other")
    embed(tmp_path / "other", library)
    assert library.model_source(gallery(library).model) == str(tmp_path / "other")
    assert [hit.score for hit in search(library, query)] != [hit.score for hit in before]
    assert search(library, made_folder / query)[0].name == query


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("chair_0.obj", "; did you mean 'chair/chair_0.obj'?"),
        ("chair_0", "; did you mean 'chair/chair_0.obj'?"),
        ("chair/chair_O.obj", "; did you mean 'chair/chair_0.obj'?"),
        ("\0", "; did you mean|. Names there are like '"),
    ],
)
def test_an_unknown_query(embedded_library: Library, query: str, text: str) -> None:
    with pytest.raises(CrosshapeError) as error:
        search(embedded_library, query)
    assert str(error.value).startswith(
        f"'{query}' is neither a file nor the name of a shape in {embedded_library.path}"
    )
    assert any(part in str(error.value) for part in text.split("|"))


def test_accents_may_be_written_either_way() -> None:
    names = sorted(["cafe\u0301.off", "caf\u00e9/a.off", "tee.off"])
    assert place_of(names, "caf\u00e9.off") == names.index("cafe\u0301.off")
    assert place_of(names, "cafe\u0301/a.off") == names.index("caf\u00e9/a.off")
    assert place_of(names, "tee.off") == names.index("tee.off") and place_of(names, "th\u00e9.off") is None
    both = sorted(["cafe\u0301.off", "caf\u00e9.off"])
    assert [place_of(both, name) for name in both] == [0, 1]


def test_a_mistyped_name_of_many_is_found_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    names = sorted(f"project-{i % 97:02d}/bracket-{i:06d}-rev{i % 5}.step" for i in range(20_000))
    compared: list[str] = []
    set_first = difflib.SequenceMatcher.set_seq1

    def counted(self: difflib.SequenceMatcher, text: str) -> None:
        compared.append(text)
        set_first(self, text)

    monkeypatch.setattr(difflib.SequenceMatcher, "set_seq1", counted)
    for typed, meant in [
        ("project-70/braket-001234-rev4.step", "project-70/bracket-001234-rev4.step"),
        ("Project-12/bracket-0O1273-rev3.step", "project-12/bracket-001273-rev3.step"),
    ]:
        assert meant in names and nearest_name(typed, names) == meant
    assert len(compared) <= 1000
    assert nearest_name("xy", names) is nearest_name("", names) is nearest_name("xyz", []) is None
    assert nearest_name("ac", ["ab", "b"]) is None and nearest_name("abd", ["abc"]) == "abc"


def test_wrong_usage(embedded_library: Library, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="over is 'all'; it must be one of points, views, both"):
        search(embedded_library, "x", over="all")
    assert main(["search", str(embedded_library.path), "mug/mug_0.obj", "--top", "0"]) == 2
    assert capsys.readouterr().err == "crosshape: top is 0; it must be 1 or more\n"


def test_a_file_that_gives_no_shape(embedded_library: Library, tmp_path: Path) -> None:
    path = tmp_path / "broken.obj"
    path.write_text("")
    with pytest.raises(CrosshapeError) as error:
        search(embedded_library, path)
    assert str(error.value) == f"{path} gives no shape: empty file (0 bytes)."


def test_a_model_that_was_moved(moved: Library, embedded_library: Library, made_folder: Path) -> None:
    query = made_folder / "mug/mug_0.obj"
    model = gallery(moved).model
    with pytest.raises(CrosshapeError) as error:
        search(moved, query)
    assert str(error.value) == (
        f"{moved.path} was embedded by model {model} from runs/parts, which is not there. "
        "Give it with --model RUN."
    )
    assert search(moved, "mug/mug_0.obj")
    run = embedded_library.path.parent / "run"
    assert search(moved, query, model=run)[0].name == "mug/mug_0.obj"
    assert search(moved, query, model=load_model(run))[0].name == "mug/mug_0.obj"


def test_why_a_model_that_is_there_cannot_be_read(
    moved: Library, embedded_library: Library, made_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(moved.path, tmp_path / "parts.lance")
    shutil.copytree(embedded_library.path.parent / "run", tmp_path / "run")
    library = open_library(tmp_path / "parts.lance")
    library.remember_model(gallery(library).model, str(tmp_path / "run"))
    weights = tmp_path / "run" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CrosshapeError, match="model.safetensors cannot be read: .* Copy or train it again"):
        search(library, made_folder / "mug/mug_0.obj")
    weights.unlink()
    with pytest.raises(CrosshapeError, match="run holds no model"):
        search(library, made_folder / "mug/mug_0.obj")


def test_another_model_is_refused(moved: Library, made_folder: Path, tmp_path: Path) -> None:
    untrained_model(TINY, points=128, image_size=32, seed=9).save(tmp_path / "other")
    other = load_model(tmp_path / "other")
    with pytest.raises(CrosshapeError) as error:
        search(moved, made_folder / "mug/mug_0.obj", model=tmp_path / "other")
    assert str(error.value) == (
        f"{moved.path} was embedded by model {gallery(moved).model}, {tmp_path / 'other'} is "
        f"{other.fingerprint}. Embed again: crosshape embed {tmp_path / 'other'} {moved.path}"
    )


def test_a_library_without_features(made_library: Library) -> None:
    with pytest.raises(CrosshapeError) as error:
        search(made_library, "mug/mug_0.obj")
    text = f"{made_library.path} has no features yet. Make them: crosshape embed RUN {made_library.path}"
    assert str(error.value) == text


def test_several_queries_are_answered_by_their_mean(embedded_library: Library, made_folder: Path) -> None:
    one, other = "mug/mug_0.obj", made_folder / "bolt/bolt_1.stl"
    scores = [
        {hit.name: hit.score for hit in search(embedded_library, part, top=12)} for part in (one, other)
    ]
    both = search(embedded_library, [one, other], top=12)
    assert len(both) == 11 and one not in [hit.name for hit in both]
    for hit in both:
        assert hit.score == pytest.approx((scores[0][hit.name] + scores[1][hit.name]) / 2, abs=2e-6)


@pytest.mark.parametrize(
    ("where", "keeps"),
    [
        (Where(folder="mug"), lambda row: row["name"].startswith("mug/")),
        (Where(formats=("stl", "off")), lambda row: row["format"] in ("stl", "off")),
        (Where(min_faces=500, max_faces=3000), lambda row: 500 <= row["faces"] <= 3000),
        (Where(min_size=1.7), lambda row: max(row["extents"]) >= 1.7),
        (
            Where(max_size=1.7, folder="chair/"),
            lambda row: max(row["extents"]) <= 1.7 and row["name"][0] == "c",
        ),
    ],
)
def test_hits_have_the_facts_that_are_asked_for(embedded_library: Library, where: Where, keeps) -> None:
    expected = {row["name"] for row in embedded_library.facts().to_pylist() if keeps(row)} - {
        "table/table_0.obj"
    }
    assert 0 < len(expected) < 12
    assert {h.name for h in search(embedded_library, "table/table_0.obj", top=99, where=where)} == expected


@pytest.mark.parametrize("exact", [query.EXACT, 1])
def test_facts_that_nothing_has(
    embedded_library: Library, monkeypatch: pytest.MonkeyPatch, exact: int
) -> None:
    monkeypatch.setattr(query, "EXACT", exact)
    with pytest.raises(CrosshapeError) as error:
        search(embedded_library, "mug/mug_0.obj", where=Where(folder="it's", min_faces=10**9))
    assert str(error.value) == (
        f"no shape of {embedded_library.path} has these facts: "
        "faces at least 1,000,000,000, in folder 'it's'. There is no folder 'it's', but bolt, chair, mug, table."
    )
    for where, words in (
        (Where(folder="Chairs/"), "There is no folder 'Chairs'; did you mean 'chair'?"),
        (Where(folder="u"), "There is no folder 'u'; did you mean 'mug'?"),
        (
            Where(formats=("fbx", "obj"), folder="mugs"),
            "There is no folder 'mugs'; did you mean 'mug'? There is no ",
        ),
        (Where(formats=("fbx", "xyz")), "format 'fbx', but obj, off, stl. There is no format 'xyz', but"),
        (Where(formats=("obj",), min_faces=10**9), "format obj."),
    ):
        with pytest.raises(CrosshapeError) as error:
            search(embedded_library, "mug/mug_0.obj", where=where)
        assert words in str(error.value) and str(error.value)[-1] in ".?"
    with pytest.raises(
        CrosshapeError, match="has no tags. Learn some: crosshape tag .* --from labels.csv --write"
    ):
        search(embedded_library, "mug/mug_0.obj", where=Where(tag="x"))


@pytest.mark.parametrize(
    "words, reason",
    [
        ("--min-size nan", "a bound of size is nan; it must be 0 to 1e+15."),
        ("--max-size inf", "a bound of size is inf; it must be 0 to 1e+15."),
        (
            "--faces 1:99999999999999999999",
            "a bound of faces is 99999999999999999999; it must be 0 to 1e+15.",
        ),
        ("--faces 5:1", "faces of at least 5 and at most 1: no number is both."),
        ("--min-size 5 --max-size 1", "size of at least 5.0 and at most 1.0: no number is both."),
    ],
)
def test_facts_that_cannot_be(embedded_library: Library, words: str, reason: str, capsys) -> None:
    assert main(["search", str(embedded_library.path), "mug/mug_0.obj", *words.split()]) == 2
    assert capsys.readouterr().err == f"crosshape: {reason}\n"


def test_a_model_that_is_named_is_looked_at(embedded_library: Library, tmp_path: Path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    words = ["search", str(embedded_library.path), "mug/mug_0.obj", "--model", str(tmp_path / "empty")]
    assert main(words) == 1
    assert "empty holds no model" in capsys.readouterr().err


def test_a_page_that_has_no_place_is_said_by_its_name(
    embedded_library: Library, tmp_path: Path, capsys
) -> None:
    asked = ["search", str(embedded_library.path), "mug/mug_0.obj", "--html"]
    for place, reason in (
        (tmp_path / "no" / "x.html", f"there is no folder {tmp_path / 'no'}"),
        (tmp_path, "that is a folder; name a file"),
    ):
        assert main([*asked, str(place)]) == 1
        assert capsys.readouterr().err.splitlines()[-1] == f"crosshape: {place}: {reason}."


def view_as_picture(library: Library, name: str, index: int, path: Path) -> Path:
    Image.fromarray(library.views([name])[0, index]).convert("RGB").resize((200, 200)).save(path)
    return path


def test_a_picture_is_compared_with_every_view(embedded_library: Library, tmp_path: Path) -> None:
    each = unit(embedded_library.features().each_view)
    asked = each[5, 2]
    assert np.allclose(
        query.best_views(embedded_library, asked[None])[0], (each @ asked).max(axis=1), atol=1e-6
    )
    path = view_as_picture(embedded_library, "table/table_2.off", 1, tmp_path / "picture.png")
    hits = search(embedded_library, path, top=4)
    assert len(hits) == 4 and hits[0].score <= 1
    with pytest.raises(UsageError, match="a picture has no points; search over views or both"):
        search(embedded_library, path, over="points")


def test_an_object_is_cut_out_and_centred(tmp_path: Path) -> None:
    """A dark ellipse on a ground that gets lighter to the right, off the middle, is the whole of what is seen."""
    y, x = np.mgrid[0:240, 0:320]
    inside = ((x - 90) / 60) ** 2 + ((y - 150) / 30) ** 2 <= 1
    ground = 150 + x / 8 + np.random.default_rng(0).normal(0, 2, x.shape)
    colours = np.where(inside, 60 + y / 8, ground)[..., None] * [1.0, 0.9, 0.8]
    mask = object_mask(colours)
    assert mask is not None and (mask == inside).mean() > 0.99
    path = tmp_path / "picture.png"
    Image.fromarray(colours.clip(0, 255).astype(np.uint8)).save(path)
    seen = read_picture(path, 100)
    rows, columns = np.flatnonzero((seen < 250).any(1)), np.flatnonzero((seen < 250).any(0))
    assert abs(columns[0] + columns[-1] - 99) <= 2 and abs(rows[0] + rows[-1] - 99) <= 2
    assert abs(np.ptp(columns) + 1 - 80) <= 3 and abs(np.ptp(rows) + 1 - 40) <= 3
    assert seen[0, 0] == 255 and 30 <= seen[50, 50] <= 210


def test_a_picture_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    colours = np.full((60, 90, 3), 240, np.uint8)
    colours[20:50, 10:40] = np.linspace(20, 200, 30, dtype=np.uint8)[:, None, None]
    upright = Image.fromarray(colours)
    upright.save(tmp_path / "upright.png")
    turn = Image.Exif()
    turn[0x0112] = 6  # a quarter to the right
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=turn)
    seen = [read_picture(tmp_path / name, 40) for name in ("upright.png", "turned.png")]
    assert np.array_equal(*seen) and not np.array_equal(seen[0], seen[0].T)


def test_noise_without_a_ground_is_taken_whole(random: np.random.Generator) -> None:
    assert object_mask(random.uniform(0, 255, (60, 80, 3))) is None


def test_that_a_picture_holds_no_object_is_said(
    embedded_library: Library, tmp_path: Path, random: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    brown = np.array([120, 80, 40]) + random.normal(0, 3, (90, 90, 3))
    texture = tmp_path / "brown.png"
    Image.fromarray(brown.clip(0, 255).astype(np.uint8)).save(texture)
    view = view_as_picture(embedded_library, "table/table_2.off", 1, tmp_path / "view.png")
    words = "; the whole picture was compared.\n"
    for queries, said in (
        ([texture], f"No object stands out from the ground{words}"),
        ([texture, view], f"No object stands out from the ground in 1 of the queries{words}"),
        ([view], ""),
    ):
        assert main(["search", str(embedded_library.path), *map(str, queries), "--top", "1"]) == 0
        err = capsys.readouterr().err
        assert said in err and ("No object" in err) is bool(said)


def test_what_is_transparent_is_ground(tmp_path: Path) -> None:
    pixels = np.zeros((60, 60, 4), np.uint8)
    pixels[20:40, 10:50] = (90, 60, 30, 255)
    Image.fromarray(pixels).save(tmp_path / "cut.webp", lossless=True)
    seen = read_picture(tmp_path / "cut.webp", 50)
    assert (seen < 250).sum() == pytest.approx(40 * 20, rel=0.1)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.png", b"", "it is no PNG, JPEG or WebP picture"),
        ("a.jpg", b"GIF89a\1\0\1\0\0\0\0;", "it is no PNG, JPEG or WebP picture"),
        ("a.png", "huge", "8,000 x 8,000 pixels; the limit is 40 million pixels"),
        ("a.png", "small", "4 x 90 pixels; 8 x 8 are the least"),
        ("a.webp", "cut", "it cannot be decoded ("),
    ],
)
def test_pictures_that_are_refused(
    embedded_library: Library, tmp_path: Path, name: str, content: bytes | str, reason: str
) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "cut":
        Image.effect_noise((64, 64), 90).convert("RGB").save(path)
        path.write_bytes(path.read_bytes()[:-900])
    else:
        Image.new("1", (8000, 8000) if content == "huge" else (4, 90)).save(path)
    with pytest.raises(CrosshapeError) as error:
        search(embedded_library, path)
    assert str(error.value).startswith(f"{path} gives no picture: {reason}")


def test_nothing_like_this_is_measured_on_the_library_itself(
    embedded_library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(embedded_library, "mug/mug_0.obj", calibrate=True).usual is None  # twelve shapes say nothing
    shapes = gallery(embedded_library)
    usual = query.Usual(np.linspace(0.5, 0.9, 101))
    assert usual.low == pytest.approx(0.504) and usual.middle == pytest.approx(0.7)
    hit = query.Hit(1, 0.503, shapes.names[0], "")
    assert query.Answer([hit], usual).nothing_like_this
    assert not query.Answer([query.Hit(1, 0.51, "a", "")], usual).nothing_like_this
    assert query.Answer([hit], usual, likest=0.503).nothing_like_this
    kept_out = query.Answer([hit], usual, likest=0.504)
    assert kept_out.unlike and not kept_out.nothing_like_this
    monkeypatch.setattr(query, "ASKED", 12)
    grown = [*range(12)] * 2
    wide = query.Gallery(
        [shapes.names[i] + str(n) for n, i in enumerate(grown)],
        [""] * 24,
        shapes.points[grown],
        shapes.views[grown],
        shapes.model,
    )
    found = query.usual_scores(embedded_library, wide, "points", False)
    assert found is not None and np.allclose(found.scores, 1, atol=1e-5)  # every shape is there twice


def test_what_the_facts_keep_out_is_not_said_to_be_missing(
    embedded_library: Library, made_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    path = str(made_folder / "mug" / "mug_0.obj")
    scores = [hit.score for hit in search(embedded_library, path, where=Where(folder="chair"))]
    usual = query.Usual(np.full(20, (1 + scores[0]) / 2))
    monkeypatch.setattr(query, "usual_scores", lambda *_: usual)
    assert ask(embedded_library, path, calibrate=True).likest is None
    answer = ask(embedded_library, path, calibrate=True, where=Where(folder="chair"))
    assert answer.likest == pytest.approx(1, abs=1e-4) and not answer.nothing_like_this
    assert main(["search", str(embedded_library.path), path, "--folder", "chair"]) == 0
    told = capsys.readouterr().err
    assert (
        "Nothing like this has these facts: the best score is" in told and "Without them it is 1.000;" in told
    )


def test_the_index_of_a_large_library_agrees_with_exact_search(
    embedded_library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, random: np.random.Generator
) -> None:
    library = create_library(tmp_path / "big.lance", PrepareSettings(points=8, views=2, image_size=8))
    names = [f"{'ab'[i % 2]}/{i:04d}.obj" for i in range(600)]
    fill(library, names)
    middle = random.normal(size=(20, 512)).astype(np.float32)
    near = middle[random.integers(0, 20, 600)] + random.normal(scale=0.4, size=(600, 512)).astype(np.float32)
    library.write_features("aaaa1111", library.names, near, np.stack([near, near], axis=1))
    exact = {over: search(library, "a/0010.obj", top=5, over=over) for over in ("points", "both")}
    folder = search(library, "a/0010.obj", top=5, where=Where(folder="b"))
    monkeypatch.setattr(query, "EXACT", 100)
    for over, hits in exact.items():
        answer = ask(library, "a/0010.obj", top=5, over=over)
        assert [h.name for h in answer.hits] == [h.name for h in hits]
        assert np.allclose([h.score for h in answer.hits], [h.score for h in hits], atol=2e-6)
        assert answer.note.startswith("Found by index over 600 shapes; recall of the first ten measured: ")
    assert float(answer.note.rsplit(" ", 1)[1].rstrip(".")) >= index.RECALL
    assert [h.name for h in search(library, "a/0010.obj", top=5, where=Where(folder="b"))] == [
        h.name for h in folder
    ]
    with pytest.raises(CrosshapeError, match="neither a file nor the name of a shape"):
        search(library, "a/9999.obj")


@pytest.mark.parametrize("apart", [False, True])
def test_what_few_shapes_have_is_found_by_the_index_all_the_same(
    apart: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, random: np.random.Generator
) -> None:
    library = create_library(tmp_path / "big.lance", PrepareSettings(points=8, views=2, image_size=8))
    rare = random.permutation(2500) < 50
    names = [f"{'b' if rare[i] else 'a'}/{i:04d}.obj" for i in range(2500)]
    fill(library, names)
    middle = random.normal(size=(40, 512)).astype(np.float32)
    kind = random.integers(0, 20, 2500) + (
        20 * rare if apart else 0
    )  # apart: what passes is like nothing else
    near = middle[kind] + random.normal(scale=0.5, size=(2500, 512)).astype(np.float32)
    features = dict(zip(names, near, strict=True))
    ordered = np.stack([features[name] for name in library.names])
    library.write_features("aaaa1111", library.names, ordered, np.stack([ordered, ordered], axis=1))
    asked, where = [name for name in names if name.startswith("a")][:5], Where(folder="b")
    exact = [search(library, name, over="points", where=where) for name in asked]
    monkeypatch.setattr(query, "EXACT", 100)
    # Measured without a filter, so few cells would do.
    monkeypatch.setattr(index, "WIDTHS", ((2, 10),))
    answers = [ask(library, name, over="points", where=where) for name in asked]
    found = [
        len({hit.name for hit in answer.hits} & {hit.name for hit in hits})
        for answer, hits in zip(answers, exact, strict=True)
    ]
    assert np.mean(found) >= 9.5
    assert "recall of the first ten measured without filters: " in answers[0].note


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 100_000,
        "[]",
        '{"rows": 12}',
        '{"rows": 12, "cells": "many", "refine": 1, "recall": 1}',
        '{"rows": 12, "cells": 1e999, "refine": 1, "recall": 1}',
        '{"rows": 12, "cells": 99999999999, "refine": 1, "recall": 1}',
    ],
)
def test_what_a_stranger_wrote_of_an_index_is_made_again(
    embedded_library: Library, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "parts.lance"
    shutil.copytree(embedded_library.path, path)
    library = open_library(path)
    key = f"crosshape.index.{index.COLUMNS['points']}"
    library.dataset.update_config({key: text})
    assert index.known(open_library(path), index.COLUMNS["points"]) is None
    index.make(library, index.COLUMNS["points"])
    library.dataset.update_config({key: '{"rows": 12, "cells": 8, "refine": 2, "recall": 0.99}'})
    assert index.known(open_library(path), index.COLUMNS["points"]) == index.Index(12, 8, 2, 0.99)


def test_an_index_of_less_than_half_of_the_shapes_is_made_again(
    embedded_library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(embedded_library.path, tmp_path / "parts.lance")
    library = open_library(tmp_path / "parts.lance")
    made = index.make(library, "feature_points")
    for count, found in ((24, made), (25, None)):
        monkeypatch.setattr(Library, "leading_model", lambda *_, count=count: ("aaaa1111", count))
        assert index.known(library, "feature_points") == found


def test_a_picture_asks_for_views_alone(random: np.random.Generator) -> None:
    points, views, picture = unit(random.normal(size=(3, 512)).astype(np.float32))
    shown = query.Sought(None, None, picture)
    assert list(index.combined([shown], "both")) == ["views"]
    both = index.combined([query.Sought(points, views), shown], "both")
    assert np.allclose(both["points"], points / 4) and np.allclose(both["views"], views / 4 + picture / 2)
    alone = index.combined([query.Sought(points, views), shown], "views")
    assert list(alone) == ["views"] and np.allclose(alone["views"], (views + picture) / 2)


def test_a_page_of_hits(embedded_library: Library, tmp_path: Path) -> None:
    path = tmp_path / "hits.html"
    words = ["search", str(embedded_library.path), "mug/mug_0.obj", "--top", "3", "--html", str(path)]
    assert main(words) == 0
    text = path.read_text()
    assert text.count("data:image/png;base64,") == 4 and "http" not in text.replace("http-equiv", "")
    assert "mug/mug_0.obj" in text


@pytest.mark.parametrize("text", ["100", "a:b", "1.5:2"])
def test_faces_must_be_a_range(
    embedded_library: Library, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", str(embedded_library.path), "mug/mug_0.obj", "--faces", text]) == 2
    expected = f"crosshape: --faces is '{text}'; write MIN:MAX, as in 100:5000, 100: or :5000\n"
    assert capsys.readouterr().err == expected


def test_an_index_of_other_features_is_made_again(embedded_library: Library, tmp_path: Path) -> None:
    library = create_library(tmp_path / "parts.lance", PrepareSettings(points=8, views=2, image_size=8))
    names = [f"a/{i:04d}.obj" for i in range(600)]
    fill(library, names)
    near = np.random.default_rng(0).normal(size=(600, 512)).astype(np.float32)
    library.write_features("aaaa1111", library.names, near, np.stack([near, near], axis=1))
    made = index.make(library, "feature_points")
    assert index.known(open_library(library.path), "feature_points") == made
    library.write_features("bbbb2222", library.names, -near, np.stack([near, near], axis=1))
    assert index.known(open_library(library.path), "feature_points") is None


def test_that_a_shape_finds_itself_is_no_recall(
    embedded_library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(embedded_library.path, tmp_path / "parts.lance")
    library = open_library(tmp_path / "parts.lance")
    features = library.features()

    def found(most: int) -> index.Index:
        """What is measured of an index that finds a shape itself and `most` others."""

        def nearest(_: Library, column: str, vector: np.ndarray, count: int, *rest: object) -> pa.Table:
            order = np.argsort(-unit(features.points) @ unit(vector), kind="stable")
            return pa.table({"name": [features.names[row] for row in order[: min(count, most + 1)]]})

        monkeypatch.setattr(index, "nearest", nearest)
        return index.measure(library, "feature_points")

    assert [found(most).recall for most in (0, 5, 10)] == [0.0, 0.5, 1.0]
    assert (found(10).cells, found(0).cells) == (index.WIDTHS[0][0], index.WIDTHS[-1][0])
    library.remove(library.names[1:])
    assert found(0).recall == 1.0  # one shape alone misses nothing


def test_bounds_may_be_numbers_of_numpy(embedded_library: Library) -> None:
    everything = search(embedded_library, "chair/chair_0.obj", top=12)
    where = Where(min_size=np.float64(0.0), max_faces=np.int64(10**9), min_faces=np.float32(1))
    assert [hit.name for hit in search(embedded_library, "chair/chair_0.obj", top=12, where=where)] == [
        hit.name for hit in everything
    ]


def test_adding_to_an_embedded_library_says_what_is_left_to_do(
    embedded_library: Library, made_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(embedded_library.path, tmp_path / "my parts.lance")
    words = ["add", str(made_folder), str(tmp_path / "my parts.lance")]
    assert main(words) == 0 and "features" not in capsys.readouterr().err
    assert main([*words, "--prefix", "more/", "--json"]) == 0
    said = capsys.readouterr()
    run = embedded_library.path.parent / "run"
    assert f"features of one model: crosshape embed {run} '{tmp_path}/my parts.lance'" in said.err
    assert json.loads(said.out)["added"] == 12


@pytest.fixture
def grown(embedded_library: Library, made_folder: Path, tmp_path: Path) -> Library:
    """An embedded library and three shapes more, copies of shapes in it, without features."""
    shutil.copytree(embedded_library.path, tmp_path / "parts.lance")
    files = sorted(made_folder.rglob("*.obj"))[:3]
    for number, file in enumerate(files):
        (tmp_path / "new").mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / "new" / f"{number}.obj")
    return add(tmp_path / "new", tmp_path / "parts.lance", prefix="new", workers=1)


def test_a_library_that_grew_is_searched_without_what_is_new(
    grown: Library, embedded_library: Library, made_folder: Path, tmp_path: Path
) -> None:
    total, asked = len(embedded_library), embedded_library.names[0]
    mug = made_folder / "mug" / "mug_0.obj"
    picture = view_as_picture(embedded_library, asked, 2, tmp_path / "view.png")
    for query_, over in ((asked, "both"), (mug, "points"), (picture, "both"), ([asked, mug], "views")):
        before = ask(embedded_library, query_, top=total, over=over, calibrate=True)
        after = ask(grown, query_, top=total + 3, over=over, calibrate=True)
        assert [hit.name for hit in after.hits] == [hit.name for hit in before.hits]
        assert np.allclose([h.score for h in after.hits], [h.score for h in before.hits], atol=2e-6)
        assert after.left_out == 3 and before.left_out == 0
        assert (after.usual is None) == (before.usual is None)
        if before.usual and after.usual:
            assert np.allclose(after.usual.scores, before.usual.scores)
    assert after.note.startswith(f"3 of {total + 3} shapes are left out, for they have no features of model ")
    assert after.note.endswith(f"crosshape embed {query.run_named(grown)} {grown.path}")
    with pytest.raises(CrosshapeError, match="'new/0.obj' has no features of model .* yet. Make them: "):
        search(grown, "new/0.obj")
    assert group(grown, count=3).names == embedded_library.names
    embed(query.library_model(grown, query._embedded_by(grown)), grown)
    assert ask(grown, asked).left_out == 0


def test_with_two_models_the_one_of_most_shapes_answers(embedded_library: Library, tmp_path: Path) -> None:
    shutil.copytree(embedded_library.path, tmp_path / "parts.lance")
    library = open_library(tmp_path / "parts.lance")
    names = library.names
    wanted = [hit.name for hit in search(library, names[0], top=len(names))]
    other = np.ones((2, 512), np.float32)
    library.write_features(
        "0ther000", names[1:3], other, np.repeat(other[:, None], library.settings.views, 1)
    )
    answer = ask(library, names[0], top=len(names))
    assert [hit.name for hit in answer.hits] == [name for name in wanted if name not in names[1:3]]
    assert answer.left_out == 2
    other = np.ones((4, 512), np.float32)  # six and six: the first by name leads
    library.write_features("0ther000", names[8:], other, np.repeat(other[:, None], library.settings.views, 1))
    library.remember_model("0ther000", "other")
    assert library.leading_model() == ("0ther000", 6) and query.run_named(library) == "other"


def test_the_command_answers_and_says_what_is_left_out(
    grown: Library, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = tmp_path / "hits.html"
    words = ["search", str(grown.path), grown.names[0], "--top", "2", "--json", "--html", str(page)]
    assert main(words) == 1
    told = capsys.readouterr()
    assert [json.loads(line)["rank"] for line in told.out.splitlines()] == [1, 2]
    assert "3 of" in told.err and "left out" in told.err and "left out" in page.read_text()


def test_an_index_knows_what_has_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, random: np.random.Generator
) -> None:
    library = create_library(tmp_path / "big.lance", PrepareSettings(points=8, views=2, image_size=8))
    names = [f"a/{i:04d}.obj" for i in range(1000)]
    fill(library, names)
    features = random.normal(size=(300, 512)).astype(np.float32)
    library.write_features("aaaa1111", names[:300], features, np.stack([features, features], axis=1))
    exact = search(library, names[7], top=5)
    monkeypatch.setattr(query, "EXACT", 100)
    answer = ask(library, names[7], top=5)
    assert answer.hits == exact and answer.left_out == 700
    assert index.known(library, index.COLUMNS["points"]), "made again for every search"
    other = np.tile(features[7], (2, 1))
    library.write_features("bbbb2222", names[300:302], other, np.stack([other, other], axis=1))
    assert [hit.name for hit in ask(library, names[7], top=5).hits] == [hit.name for hit in exact]
    with pytest.raises(CrosshapeError, match=f"'{names[300]}' has no features of model aaaa1111 yet"):
        ask(library, names[300])


def test_a_part_of_a_hit_cannot_be_asked_for(embedded_library: Library) -> None:
    with pytest.raises(UsageError, match=r"top is 2\.5; it must be 1 or more"):
        search(embedded_library, embedded_library.names[0], top=2.5)  # type: ignore[arg-type]


@pytest.fixture
def strangers(tmp_path: Path, random: np.random.Generator) -> tuple[Library, np.ndarray]:
    """24 shapes that look all different and have the same points; the features (24, 512) of their views."""
    library = create_library(tmp_path / "parts.lance", PrepareSettings(points=8, views=2, image_size=8))
    names = [f"{i:02d}.obj" for i in range(24)]
    fill(library, names)
    seen = random.normal(size=(24, 512)).astype(np.float32)
    library.write_features("aaaa1111", names, np.ones((24, 512), np.float32), np.stack([seen, seen], axis=1))
    return library, unit(seen)


def test_what_is_usual_is_a_score_against_other_shapes(strangers: tuple[Library, np.ndarray]) -> None:
    library, seen = strangers
    usual = ask(library, library.names[0], over="views", calibrate=True).usual
    expected = np.sort((seen @ seen.T - 2 * np.eye(24)).max(axis=1))
    assert usual is not None and np.allclose(usual.scores, expected, atol=1e-6) and expected.max() < 0.5


def test_what_is_usual_of_a_picture_is_a_score_of_pictures(
    strangers: tuple[Library, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    library, seen = strangers
    monkeypatch.setattr(query, "sought", lambda *_: [query.Sought(None, None, seen[3])])
    usual = ask(library, "photo.png", calibrate=True).usual
    expected = np.sort((seen @ seen.T - 2 * np.eye(24)).max(axis=1))
    assert usual is not None and np.allclose(usual.scores, expected, atol=1e-6)


def test_a_bound_is_among_what_it_allows(embedded_library: Library) -> None:
    rows = embedded_library.facts().to_pylist()
    for value, where in (
        (lambda row: row["faces"], lambda n: Where(min_faces=n, max_faces=n)),
        (lambda row: max(row["extents"]), lambda n: Where(min_size=n, max_size=n)),
    ):
        wanted = value(rows[4])
        expected = [row["name"] for row in rows if value(row) == wanted]
        assert sorted(query.filtered(embedded_library, where(wanted)) or []) == expected
