"""The main job as a person does it, by commands: check, add, train, embed, search, info; on made and on real files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from crosshape.cli import main

SMALL = ["--epochs", "2", "--points", "128", "--image-size", "32", "--batch-size", "8"]
TINY = [
    "--set",
    "k=8",
    "--set",
    "edge_widths=(8, 8, 16)",
    "--set",
    "point_width=32",
    "--set",
    "image_width=8",
]


def lines(capsys) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def the_main_job(shapes: Path, query: Path, name: str, folder: Path, capsys) -> list[dict]:
    """Run it; the hits of the search, best first."""
    library, run = str(folder / "parts.lance"), str(folder / "run")
    assert main(["check", str(shapes), "--json"]) == 0
    found = len(lines(capsys))
    assert main(["add", str(shapes), library, "--json", "--image-size", "64", "--points", "256"]) == 0
    report = lines(capsys)[-1]
    assert report["found"] == found == report["added"]
    assert main(["add", str(shapes), library, "--json"]) == 0
    again = lines(capsys)[-1]
    assert again["unchanged"] == found and again["added"] == again["updated"] == again["skipped"] == 0
    assert main(["train", library, run, *SMALL, *TINY]) == 0
    assert main(["embed", run, library]) == 0
    capsys.readouterr()
    assert main(["search", library, str(query), "--json", "--top", "3"]) == 0
    hits = lines(capsys)
    assert [hit["rank"] for hit in hits] == [1, 2, 3] and hits[0]["score"] >= hits[2]["score"]
    assert list(hits[0]) == ["rank", "score", "name", "path"]
    assert hits[0]["name"] == name, "a shape's own file finds it first"
    assert main(["info", library]) == main(["info", run]) == main(["info", str(query)]) == 0
    assert f"{found}" in capsys.readouterr().out
    return hits


def test_on_made_shapes(made_folder, tmp_path, capsys):
    query = made_folder / "mug" / "mug_1.stl"
    the_main_job(made_folder, query, "mug/mug_1.stl", tmp_path, capsys)


@pytest.mark.real
@pytest.mark.slow
def test_on_real_meshes(real_shapes, tmp_path, capsys):
    """Every fortieth of the real meshes, with the default networks and one epoch."""
    files = sorted((real_shapes / "meshes").rglob("*.obj"))[::40]
    for file in files:
        target = tmp_path / "shapes" / file.parent.name / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    query = tmp_path / "shapes" / files[7].parent.name / files[7].name
    name = f"{files[7].parent.name}/{files[7].name}"
    the_main_job(tmp_path / "shapes", query, name, tmp_path, capsys)
