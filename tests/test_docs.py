"""The documents tell the truth: the reference is generated, examples run, links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md"), *ROOT.glob("results/**/*.md")]
)


def test_the_command_reference_is_what_the_commands_say():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (ROOT / "docs" / "commands.md").read_text()
    assert written == module.reference(), "out of date: run python docs/generate.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"


def test_the_file_map_of_the_readme_names_what_is_there():
    text = (ROOT / "README.md").read_text()
    names = re.findall(r"^\s+([a-z_]+\.py|[a-z_]+/)\s{2,}", text, re.MULTILINE)
    assert len(names) > 20, "the file map is gone"
    there = {p.name for p in ROOT.glob("src/**/*.py")} | {
        f"{p.name}/" for p in ROOT.glob("**/") if ".venv" not in p.parts
    }
    assert [name for name in names if name not in there] == []


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    """The example is run as printed, on made shapes, with a recipe cut to one short epoch."""
    from crosshape import settings
    from crosshape.shapes.made import make_shape, write_shape

    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks, "the README has no Python example"
    parts = tmp_path / "parts"
    parts.mkdir()
    for number, label in enumerate(("gear", "bolt", "bracket", "mug", "chair", "table")):
        write_shape(make_shape(label, number), parts / f"{label}.stl")
    for name, recipe in settings.RECIPES.items():
        monkeypatch.setitem(settings.RECIPES, name, replace(recipe, epochs=1, points=64, image_size=32))
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {"__name__": "readme"}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), scope)
    found = capsys.readouterr().out.splitlines()
    assert len(found) == 5 and all(line.endswith(".stl") for line in found)
    assert scope["features"].points.shape == (512,) and scope["features"].views.shape == (12, 512)
