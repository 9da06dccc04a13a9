"""Same in, same out, on a CPU: whatever the order and the number of workers, and a second time; byte for byte."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from test_main_job import SMALL, TINY

from crosshape.cli import main
from crosshape.library.library import open_library
from crosshape.page.server import create_app
from crosshape.page.service import Service
from crosshape.shapes.made import make_shape, write_shape

SIZES = ["--image-size", "32", "--points", "256", "--views", "4"]


def chain(shapes: Path, folder: Path, steps: list[list[str]]) -> dict[str, object]:
    """add in these steps, train, embed, evaluate, search: everything that came out, without times and paths."""
    library, run = folder / "parts.lance", folder / "run"
    for words in steps:
        assert main(["add", words[0], str(library), *SIZES, *words[1:]]) == 0
    assert main(["train", str(library), str(run), *SMALL, *TINY, "--threads", "1"]) == 0
    assert main(["embed", str(run), str(library)]) == 0
    out = folder / "results"
    words = ["evaluate", str(run), "retrieval", str(library), "--gallery", "all", "--baselines"]
    assert main([*words, "--no-cache", "--out", str(out)]) == 0
    opened = open_library(library)
    table = opened.dataset.to_table().sort_by("name").drop_columns(["path", "modified"])
    content = hashlib.sha256()
    for column in table.column_names:
        content.update(f"{column} {table[column].to_pylist()!r}".encode())
    return {
        "library": content.hexdigest(),
        "features": hashlib.sha256(opened.features().points.tobytes()).hexdigest(),
        "weights": hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest(),
        "tables": json.loads((out / "results.json").read_text())["rows"],
        "latex": (out / "results.tex").read_text(),
        "hits": opened.search(shapes / "mug" / "mug_1.stl"),
    }


@pytest.mark.slow
def test_the_whole_chain_gives_the_same_in_any_order_with_any_workers_and_again(
    made_folder, tmp_path, capsys
):
    shapes = tmp_path / "shapes"
    shutil.copytree(made_folder, shapes)
    for label in ("chair", "mug", "bolt", "table"):
        for number in (3, 4, 5):
            write_shape(make_shape(label, number), shapes / label / f"{label}_{number}.ply")
    whole = [str(shapes)]
    pieces = [[str(shapes / name), "--prefix", name] for name in ("table", "chair", "mug", "bolt")]
    found = []
    for number, steps in enumerate(
        ([[*whole, "--workers", "1"]], [[*whole, "--workers", "2"]], [[*p, "--workers", "2"] for p in pieces])
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        found.append(chain(shapes, folder, steps))
    for other in found[1:]:
        for name, value in found[0].items():
            assert other[name] == value, name
    assert len(found[0]["tables"]) >= 4 and len(found[0]["hits"]) == 10


def test_a_library_removed_under_a_running_server_is_said(embedded_library, tmp_path):
    path = tmp_path / "parts.lance"
    shutil.copytree(embedded_library.path, path)
    service = Service(path, places=2)
    try:
        app = create_app(service)
        client = TestClient(app, base_url="http://127.0.0.1:8765", raise_server_exceptions=False)
        first = client.get("/shapes").json()["shapes"][0]
        picture, search = f"/shapes/{first['id']}/views/0.png", f"/search?id={first['id']}"
        before = client.get(search).json()["hits"]
        shutil.rmtree(path)
        answer = client.get(picture)
        assert answer.status_code == 409 and answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"] == f"{path} is gone: it was moved or removed. Put it back."
        assert client.get("/shapes").json()["total"] == 12  # what is in memory still answers
        assert client.get(search).json()["hits"] == before
        assert client.get("/healthz").status_code == 200
        shutil.copytree(embedded_library.path, path)
        assert client.get(picture).content.startswith(b"\x89PNG")
    finally:
        service.close()
