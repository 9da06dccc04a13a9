"""The models that come with crosshape: small, whole, found by name, and better than nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import crosshape
from crosshape.cli import main
from crosshape.learning.run import write_settings
from crosshape.library.library import open_library
from crosshape.networks.model import SHIPPED, load_model, shipped, untrained_model
from crosshape.settings import NetworkSettings, PrepareSettings, TrainSettings
from crosshape.shapes.made import CLASSES, make_shape
from crosshape.shapes.surface import normalise, sample_surface
from crosshape.tasks.retrieval import retrieve


def test_they_are_small_and_say_what_they_are():
    assert shipped() == ["modelnet40"]
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) < 30_000_000
    for name in shipped():
        card = json.loads((SHIPPED / name / "card.json").read_text())
        assert {"trained_on", "command", "validation", "limits", "license", "fingerprint"} <= card.keys()
        model = crosshape.load(name)
        assert model.fingerprint == card["fingerprint"] and model.source == name
        figures = card["validation"]["figures"]
        run, untrained = (
            next(f["accuracy"] for f in figures if f["model"] == model and f["task"] == "recognition-3d")
            for model in ("run", "untrained")
        )
        assert run > untrained


def test_a_library_is_embedded_and_searched_without_training(made_folder, tmp_path, capsys):
    """Each step says the next one, and the model is named beside its fingerprint."""
    path = tmp_path / "my parts.lance"
    small = ["--views", "3", "--image-size", "112", "--workers", "1"]
    assert main(["add", str(made_folder), str(path), *small]) == 0
    assert f"Next: crosshape embed modelnet40 '{path}'\n" in capsys.readouterr().err
    assert main(["search", str(path), "mug/mug_1.stl"]) == 1
    assert "embed modelnet40 '" in (err := capsys.readouterr().err) and "a run of your own" in err
    assert main(["embed", "modelnet40", str(path)]) == 0
    out, err = capsys.readouterr()
    mark = f"modelnet40 ({load_model('modelnet40').fingerprint})"
    assert f"12 of 12 shapes embedded by model {mark} in" in out
    assert f"Next: crosshape search '{path}' SHAPE, or crosshape serve '{path}'\n" in err
    assert main(["info", str(path)]) == 0
    assert f"features       {mark} 12\n" in capsys.readouterr().out
    assert main(["add", str(made_folder), str(path)]) == 0 and main(["embed", "modelnet40", str(path)]) == 0
    assert "Next" not in capsys.readouterr().err
    assert main(["search", str(path), str(made_folder / "mug" / "mug_1.stl"), "--top", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "mug/mug_1.stl"
    assert open_library(path).models() == {load_model("modelnet40").fingerprint: 12}


def test_info_shows_their_card(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["info", "modelnet40", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "modelnet40"
    assert main(["info", "modelnet41"]) == 1
    assert capsys.readouterr().err == (
        "crosshape: modelnet41 does not exist. Models that come with crosshape: modelnet40.\n"
    )


def test_info_tells_an_unfinished_run_and_a_head(tmp_path, capsys):
    card = {"name": "parts", "epochs": 3.0}
    (tmp_path / "card.json").write_text(json.dumps(card))
    write_settings(tmp_path, NetworkSettings(), TrainSettings(epochs=9))
    assert main(["info", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"].startswith("unfinished, nothing saved yet; go on: ")
    (tmp_path / "card.json").write_text(json.dumps({**card, "epochs": 9.0}))
    assert main(["info", str(tmp_path), "--json"]) == 0
    assert "state" not in json.loads(capsys.readouterr().out)
    head = tmp_path / "head"
    head.mkdir()
    words = {"model": "0badcafe", "classes": {"mug": ["body", "handle"]}, "learned_from": {"shapes": 4}}
    (head / "head.json").write_text(json.dumps(words))
    assert main(["info", str(head), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"kind": "head", "path": str(head), **words}
    (head / "head.json").write_text("[]")
    assert main(["info", str(head)]) == 1
    assert "is not the card of a head" in capsys.readouterr().err


@pytest.mark.slow
def test_it_finds_the_kind_of_made_shapes_better_than_the_untrained_networks():
    """It never saw these: 81 shapes of 27 kinds."""
    clouds, labels = [], []
    for number, label in enumerate(CLASSES):
        for seed in range(3):
            made = make_shape(label, seed)
            vertices, _, _ = normalise(made.vertices, made.faces)
            clouds.append(sample_surface(vertices, made.faces, 1024, seed)[0])
            labels.append(number)
    points = np.stack(clouds).astype(np.float32)
    model = load_model("modelnet40", "cpu")
    floor = untrained_model(model.settings, points=1024, image_size=model.image_size, clouds=points)
    ours, theirs = (
        retrieve(m.encode_points(points), np.array(labels)).mean_average_precision for m in (model, floor)
    )
    assert ours > theirs + 0.05


def test_a_folder_of_its_name_with_data_in_it_does_not_hide_it(made_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "modelnet40" / "chair").mkdir(parents=True)
    model = crosshape.load("modelnet40")
    assert model.fingerprint == json.loads((SHIPPED / "modelnet40" / "card.json").read_text())["fingerprint"]
    assert main(["info", "modelnet40"]) == 0
    assert model.fingerprint in capsys.readouterr().out
    settings = PrepareSettings(points=64, views=2, image_size=112)
    library = crosshape.add(made_folder / "mug", tmp_path / "parts.lance", settings=settings, workers=1)
    crosshape.embed(model, library)
    untrained_model(NetworkSettings(), points=64, image_size=16).save(tmp_path / "modelnet40")
    file = next((made_folder / "mug").glob("*.obj"))
    assert library.search(file, top=1)[0].score == pytest.approx(1, abs=1e-3), "by the one that embedded it"


def test_kernels_are_kept_where_neither_code_nor_home_can_be_written(tmp_path, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr("os.access", lambda *_: False)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    crosshape._keep_kernels()
    own = Path(os.environ["NUMBA_CACHE_DIR"])
    assert own.parent == tmp_path and own.stat().st_mode & 0o077 == 0
    own.chmod(0o777)  # somebody else could have put code there
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    crosshape._keep_kernels()
    assert Path(os.environ["NUMBA_CACHE_DIR"]) != own
    monkeypatch.delenv("NUMBA_CACHE_DIR")
