"""Search: like finds like, the texts of errors, what a query may be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY

from crosshape.cli import main
from crosshape.errors import CrosshapeError, UsageError
from crosshape.library.embedding import embed
from crosshape.library.library import Library, open_library
from crosshape.networks.model import load_model, untrained_model
from crosshape.search.query import best, gallery, search, unit


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
        ("\0", "; did you mean|. See the names: crosshape info "),
    ],
)
def test_an_unknown_query(embedded_library: Library, query: str, text: str) -> None:
    with pytest.raises(CrosshapeError) as error:
        search(embedded_library, query)
    assert str(error.value).startswith(
        f"'{query}' is neither a file nor the name of a shape in {embedded_library.path}"
    )
    assert any(part in str(error.value) for part in text.split("|"))


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
