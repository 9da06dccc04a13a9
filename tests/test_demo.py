"""The demo: goes on where it was, refuses what it must not touch, and measures on shapes training never saw."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY

from crosshape import demo
from crosshape.cli import main
from crosshape.errors import CrosshapeError
from crosshape.library.library import open_library
from crosshape.shapes import made

SMALL = demo.DemoSettings(seen=3, new=2, minutes=0.01)
SHORT = replace(demo.TRAIN, epochs=1, points=64, image_size=32, projection=16)


@pytest.fixture
def tiny(monkeypatch):
    """Four classes, tiny networks, one untrained model."""
    monkeypatch.setattr(made, "CLASSES", ("bolt", "chair", "mug", "table"))
    monkeypatch.setattr(demo, "SEEDS", 1)
    monkeypatch.setattr(demo, "NETWORK", TINY)
    monkeypatch.setattr(demo, "PREPARE", replace(demo.PREPARE, points=128, views=4, image_size=32))


@pytest.mark.slow
def test_whole_path_and_going_on(tiny, tmp_path, capsys):
    folder = tmp_path / "demo"
    report = demo.run_demo(folder, SMALL, training=SHORT, device="cpu")
    seen, new = open_library(folder / "shapes.lance"), open_library(folder / "new-shapes.lance")
    assert (len(seen), len(new)) == (12, 8)
    hashes = [set(library.facts()["content_hash"].to_pylist()) for library in (seen, new)]
    assert not hashes[0] & hashes[1], "measured on other shapes than learned from"
    assert report.sources == ("trained", "untrained", "D2") and len(report.figures) == 7
    for figure in report.figures:
        assert all(value is None or 0 <= value <= 1 for value in figure.values)
    assert [figure.values[2] is None for figure in report.figures] == [
        False,
        True,
        False,
        True,
        False,
        True,
        True,
    ]
    assert report.confusion.counts.sum() == 8 and sorted(sum(report.groups, [])) == list(range(8))
    assert (folder / "report.html").stat().st_size > 10_000
    assert {path.name for path in folder.iterdir()} == set(demo.PARTS)

    with pytest.raises(CrosshapeError, match="already holds a demo; its report is .* Add --overwrite"):
        demo.run_demo(folder, SMALL, training=SHORT, device="cpu")

    (folder / "report.html").unlink()
    weights = (folder / "run" / "model.safetensors").read_bytes()
    version = new.version
    again = demo.run_demo(folder, SMALL, training=SHORT, device="cpu")
    assert (folder / "run" / "model.safetensors").read_bytes() == weights, "trained only once"
    assert open_library(folder / "new-shapes.lance").version == version, "added and embedded only once"
    assert [figure.values for figure in again.figures] == [figure.values for figure in report.figures]


def test_refuses_other_folders(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("keep")
    assert main(["demo", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error == f"crosshape: {tmp_path} is not empty and holds no demo; give a new folder.\n"
    assert main(["demo", str(tmp_path), "--overwrite"]) == 1
    assert main(["demo", str(tmp_path / "mine.txt")]) == 1
    error = capsys.readouterr().err
    assert error.endswith(f"{tmp_path / 'mine.txt'} is a file; give a folder for the demo.\n")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_refuses_another_demo(tmp_path, capsys):
    demo.begin(tmp_path / "a", SMALL, False)
    demo.begin(tmp_path / "a", SMALL, False)
    with pytest.raises(
        CrosshapeError, match="was begun with --seen 3, not 4. Give the same to go on, --overwrite"
    ):
        demo.begin(tmp_path / "a", replace(SMALL, seen=4), False)
    (tmp_path / "a" / "demo.json").write_text("{")
    with pytest.raises(CrosshapeError, match="demo.json cannot be read. Add --overwrite"):
        demo.begin(tmp_path / "a", SMALL, False)


def test_overwrite_deletes_only_what_a_demo_makes(tmp_path):
    folder = tmp_path / "a"
    demo.begin(folder, SMALL, False)
    (folder / "run").mkdir()
    (folder / "run" / "model.safetensors").write_text("old")
    (folder / "report.html").write_text("old")
    (folder / "mine.txt").write_text("keep")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "keep.obj").write_text("keep")
    (folder / "shapes").symlink_to(elsewhere)
    demo.begin(folder, replace(SMALL, seen=9), True)
    assert {path.name for path in folder.iterdir()} == {"mine.txt", "demo.json"}
    assert (elsewhere / "keep.obj").exists()


@pytest.mark.parametrize(
    "words", [["--seen", "1"], ["--new", "1"], ["--minutes", "0"], ["--seed", "-1"], ["--new", "x"]]
)
def test_wrong_usage(words, tmp_path, capsys):
    assert main(["demo", str(tmp_path / "new"), *words]) == 2
    assert words[0] in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_the_machine_learns_from_seen_shapes_and_is_asked_about_new_ones(monkeypatch):
    from crosshape.tasks import recognition

    seen, new = np.arange(24.0).reshape(12, 2), -np.arange(16.0).reshape(8, 2)
    labels = np.repeat([0, 1], 6), np.repeat([0, 1], 4)
    plain, asked = recognition.recognise, []
    monkeypatch.setattr(recognition, "recognise", lambda *given: asked.append(given) or plain(*given))
    source = demo.Encoded((seen, new), (seen + 100, new - 100), np.stack([new, new], axis=1))
    demo.measured({demo.TRAINED: [source]}, labels, [f"{i}" for i in range(8)])
    assert len(asked) == 2
    for given, (learned, tested) in zip(asked, (source.points, source.views), strict=True):
        assert given[0] is learned and given[1] is labels[0] and given[2] is tested and given[3] is labels[1]
