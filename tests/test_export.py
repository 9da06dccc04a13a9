"""Export: ONNX files give what the model gives, the page's example runs, and nothing of anybody's is replaced."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY
from torch import nn

from crosshape.cli import main
from crosshape.errors import CrosshapeError
from crosshape.networks import export
from crosshape.networks.graphs import Points
from crosshape.networks.model import Model, load_model
from crosshape.networks.points import PointNetwork


def made_model(**changes):
    """A tiny model whose BatchNorms have seen something: scales of both signs, means, variances."""
    torch.manual_seed(3)
    model = Model(replace(TINY, **changes), points=64, image_size=32)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
            nn.init.normal_(part.running_mean, std=0.1)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
    model.card = {"name": "tiny {{ one }} & <b>", "epochs": 3, "license": "CC0"}
    return model.eval()


def made_inputs(random, batch, count):
    clouds = random.normal(size=(batch, count, 3)).astype(np.float32)
    clouds /= np.linalg.norm(clouds, axis=2).max(axis=1)[:, None, None]
    return clouds, random.integers(0, 256, (batch, 2, 32, 32), np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    made_model().save(folder)
    return folder


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "deeper" / "model"
    assert main(["export", str(run), str(folder)]) == 0
    return folder


@pytest.mark.parametrize("graph", ["features", "space"])
def test_the_graph_of_plain_operations_is_the_point_network(graph, random):
    model = made_model(graph=graph)
    clouds = torch.from_numpy(made_inputs(random, 3, 100)[0])
    with torch.inference_mode():
        given, expected = Points(model.points)(clouds), model.points(clouds)
    assert torch.allclose(given, expected, rtol=1e-4, atol=1e-4)
    assert expected.abs().max() > 0.1


def test_the_factored_graph_is_exact(random):
    network = PointNetwork(TINY).double().eval()
    clouds = torch.from_numpy(made_inputs(random, 2, 60)[0]).double()
    plain = Points(network.float()).double()
    with torch.inference_mode():
        assert torch.allclose(plain(clouds), network.double()(clouds), atol=1e-5)


@pytest.mark.parametrize("batch, count", [(1, 64), (4, 100), (2, TINY.k)])
def test_onnx_gives_what_the_model_gives(exported, run, random, batch, count):
    model = load_model(run, "cpu")
    model.point_count = count
    clouds, views = made_inputs(random, batch, count)
    of_clouds = export.run_onnx(exported / "points.onnx", points=clouds)
    of_views = export.run_onnx(exported / "images.onnx", views=views[:, 0])
    with torch.inference_mode():
        expected = model.points(torch.from_numpy(clouds)).numpy()
        expected_views = model.images(torch.from_numpy(views[:, 0])).numpy()
    assert np.allclose(of_clouds, expected, rtol=1e-3, atol=1e-3)
    assert np.allclose(of_views, expected_views, rtol=1e-3, atol=1e-3)
    logits = export.run_onnx(exported / "correspondence.onnx", images=of_views[:1], points=of_clouds)
    assert logits.shape == (1, batch)
    assert np.allclose(logits, model.correspond(expected_views[:1], expected), rtol=1e-3, atol=1e-3)


def test_the_folder_is_a_run(exported, run):
    assert sorted(path.name for path in exported.iterdir()) == sorted(export.FILES)
    assert load_model(exported, "cpu").fingerprint == load_model(run, "cpu").fingerprint
    assert main(["info", str(exported)]) == 0


def test_the_example_of_the_page_runs(exported, run, random, monkeypatch):
    page = (exported / "README.md").read_text()
    assert page.startswith("---\nlibrary_name: crosshape\n")
    assert "# tiny {{ one }} & <b>\n" in page and "- licence: CC0" in page
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    clouds, views = made_inputs(random, 3, 64)
    np.save(exported.parent / "clouds.npy", clouds * 7 + 2)
    np.save(exported.parent / "views.npy", views)
    monkeypatch.chdir(exported)
    names: dict = {}
    exec(code.replace('load("', 'load("../'), names)
    model = load_model(run, "cpu")
    centred = clouds - clouds.mean(axis=1, keepdims=True)
    centred /= np.linalg.norm(centred, axis=2).max(axis=1)[:, None, None]
    assert np.allclose(names["of_clouds"], model.encode_points(centred), rtol=0.05, atol=0.05)
    assert np.allclose(np.diag(names["alike"]), 1, atol=1e-5) and names["alike"].shape == (3, 3)
    assert np.allclose(names["pooled"], model.encode_views(views).max(axis=1), rtol=0.05, atol=0.05)
    assert names["same"].shape == (6, 3)


def test_what_it_says(exported, run, tmp_path, capsys):
    assert main(["export", str(run), str(tmp_path / "x"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["folder"] == str(tmp_path / "x") and said["model"] == load_model(run).fingerprint
    assert set(said["difference"]) == {"points.onnx", "images.onnx", "correspondence.onnx"}
    assert max(said["difference"].values()) < 1e-4
    # once more: refused, then replaced
    assert main(["export", str(run), str(tmp_path / "x")]) == 1
    assert "is there already. Add --overwrite to replace it." in capsys.readouterr().err
    (tmp_path / "x" / "README.md").write_text("old")
    assert main(["export", str(run), str(tmp_path / "x"), "--overwrite"]) == 0
    assert "old" not in (tmp_path / "x" / "README.md").read_text()
    assert "points.onnx: as the model, to " in capsys.readouterr().out


def test_nothing_else_is_replaced(run, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("mine", "file"):
        assert main(["export", str(run), str(tmp_path / name), "--overwrite"]) == 1
        assert "Give the name of a new" in capsys.readouterr().err
    assert main(["export", str(run), str(run), "--overwrite"]) == 1
    assert (tmp_path / "mine" / "README.md").read_text() == "mine"
    assert load_model(run).settings == TINY


@pytest.mark.parametrize(
    "wrong", [lambda x: 3 * x + 9, lambda x: x * 1.01, lambda x: x[::-1], lambda x: x * np.nan]
)
@pytest.mark.parametrize("which", ["points.onnx", "images.onnx", "correspondence.onnx"])
def test_a_file_that_differs_is_not_written(monkeypatch, tmp_path, wrong, which):
    monkeypatch.setattr(export, "_write", lambda network, path, inputs: path.write_bytes(b""))
    model = made_model()

    def run_onnx(path, **inputs):
        given = {name: torch.from_numpy(value) for name, value in inputs.items()}
        with torch.inference_mode():
            if path.name == "points.onnx":
                found = model.points(given["points"]).numpy()
            elif path.name == "images.onnx":
                found = model.images(given["views"]).numpy()
            else:
                found = model.correspond(inputs["images"], inputs["points"])
        return wrong(found) if path.name == which else found

    monkeypatch.setattr(export, "run_onnx", run_onnx)
    with pytest.raises(CrosshapeError, match=rf"{which} does not give what the model gives \(off by"):
        export.export_model(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_says_nothing_is_written_all_the_same(monkeypatch, tmp_path):
    model = made_model()
    for part in model.points.head_norm, model.images.bn1:
        nn.init.zeros_(part.weight)
        nn.init.constant_(part.bias, -1)
    assert export.export_model(model, tmp_path / "out")["points.onnx"] == 0


def test_more_neighbours_than_points_are_asked_of_as_many_points(tmp_path):
    model = made_model(k=80)
    assert model.point_count == 64
    assert export.export_model(model, tmp_path / "out")["points.onnx"] < 1e-4


def test_the_folder_one_stands_in_is_left_alone(exported, run, tmp_path, monkeypatch, capsys):
    before = sorted(path.name for path in exported.iterdir())
    monkeypatch.chdir(exported)
    assert main(["export", str(run), ".", "--overwrite"]) == 1
    assert ". cannot be replaced from here" in capsys.readouterr().err
    assert sorted(path.name for path in exported.iterdir()) == before
    (tmp_path / "link").symlink_to(exported)
    assert main(["export", str(run), str(tmp_path / "link"), "--overwrite"]) == 1
    assert "link is a link" in capsys.readouterr().err


def test_the_old_folder_stays_where_the_new_one_cannot_be_put(run, tmp_path, monkeypatch):
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "points.onnx").write_text("old")
    monkeypatch.setattr(export, "_written", lambda model, new: {})
    rename = Path.rename

    def refused(self, target):
        if self.name == "new":
            raise PermissionError("no")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(PermissionError):
        export.export_model(load_model(run, "cpu"), folder, overwrite=True)
    assert (folder / "points.onnx").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_without_the_packages_it_says_which(monkeypatch, run, tmp_path, capsys):
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxscript" else True)
    assert main(["export", str(run), str(tmp_path / "out")]) == 1
    told = capsys.readouterr().err
    assert "writing ONNX needs onnxscript: pip install onnxscript\n" in told
    assert not (tmp_path / "out").exists()


def test_ctrl_c_between_the_old_folder_and_the_new_one_leaves_the_old_one(run, tmp_path, monkeypatch):
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "points.onnx").write_text("old")
    monkeypatch.setattr(export, "_written", lambda model, new: {})
    rename = Path.rename

    def interrupted(self, target):
        moved = rename(self, target)
        if self == folder:
            raise KeyboardInterrupt
        return moved

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export.export_model(load_model(run, "cpu"), folder, overwrite=True)
    assert (folder / "points.onnx").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_onnxruntime_leaves_nothing_in_the_home(exported, tmp_path):
    code = (
        "import sys, numpy as np\nfrom crosshape.networks.export import run_onnx\n"
        "run_onnx(sys.argv[1], **{sys.argv[2]: np.zeros((1, 64, 3), np.float32)})"
    )
    import onnxruntime

    file = exported / "points.onnx"
    given = onnxruntime.InferenceSession(str(file)).get_inputs()[0].name
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    subprocess.run(
        [sys.executable, "-c", code, str(file), given], check=True, env=env | {"HOME": str(tmp_path)}
    )
    assert not list((tmp_path / ".cache").glob("Microsoft*")) and not list(tmp_path.rglob("deviceid"))
