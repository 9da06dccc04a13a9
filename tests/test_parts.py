"""Parts: every shape is in exactly one, and processes that share the work leave what one process leaves."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from crosshape.cli import main
from crosshape.errors import UsageError
from crosshape.library.library import open_library
from crosshape.library.parts import Part, parse_part


def test_every_name_is_in_one_part():
    names = [f"folder/{number}.stl" for number in range(1000)] + ["", "\udcff.stl", "zweiß.obj"]
    held = [[name for name in names if name in Part(number, 7)] for number in range(1, 8)]
    assert sorted(sum(held, [])) == sorted(names)
    assert max(map(len, held)) < 1.3 * min(map(len, held))


def test_a_part_is_the_same_everywhere():
    assert [number for number in range(1, 9) if "chair/chair_0.obj" in Part(number, 8)] == [5]
    assert "anything" in Part(1, 1)


@pytest.mark.parametrize("text", ["3", "0/8", "9/8", "1/0", "-1/2", "a/b", "1/2/3", "", "1/99999999"])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(UsageError, match=f"--part {text}: "):
        parse_part(text)


def test_part_of_nothing_said():
    assert parse_part(None) is None and parse_part("2/3") == Part(2, 3)


@pytest.mark.slow
def test_processes_that_share_the_work_make_the_library_of_one(made_folder, embedded_library, tmp_path):
    run, path = embedded_library.path.parent / "run", tmp_path / "shared.lance"
    sizes = ["--points", "256", "--views", "4", "--image-size", "32", "--workers", "1"]

    def at_once(*commands):
        several = [
            subprocess.Popen(
                [sys.executable, "-m", "crosshape", *command, "--json"], stdout=subprocess.PIPE, text=True
            )
            for command in commands
        ]
        said = [json.loads(one.communicate(timeout=200)[0]) for one in several]
        assert [one.returncode for one in several] == [0] * len(several)
        return said

    count = range(1, 4)
    said = at_once(*(["add", str(made_folder), str(path), *sizes, "--part", f"{n}/3"] for n in count))
    assert sum(one["added"] for one in said) == sum(one["found"] for one in said) == 12
    said = at_once(*(["embed", str(run), str(path), "--part", f"{n}/3"] for n in count))
    assert sum(one["embedded"] for one in said) == 12 and {one["unchanged"] for one in said} == {0}
    shared = open_library(path)
    assert shared.names == embedded_library.names
    assert {one["model"] for one in said} == {next(iter(embedded_library.models()))} == set(shared.models())
    assert np.array_equal(shared.points(), embedded_library.points())
    assert np.array_equal(shared.views(), embedded_library.views())
    ours, theirs = shared.features(), embedded_library.features()
    assert np.allclose(ours.points, theirs.points, atol=0.02) and np.allclose(
        ours.views, theirs.views, atol=0.02
    )


def test_a_part_says_what_is_its_own(made_folder, embedded_library, tmp_path, capsys):
    path = tmp_path / "part.lance"
    sizes = ["--points", "256", "--views", "4", "--image-size", "32", "--workers", "1"]
    assert main(["add", str(made_folder), str(path), *sizes, "--part", "2/2"]) == 0
    mine = [name for name in embedded_library.names if name in Part(2, 2)]
    assert open_library(path).names == mine and 0 < len(mine) < 12
    assert f"{len(mine)} found = {len(mine)} added" in capsys.readouterr().out
    run = str(embedded_library.path.parent / "run")
    assert main(["embed", run, str(path), "--part", "1/2"]) == 0
    assert "0 of 0 shapes (part 1/2) embedded by model" in capsys.readouterr().out
    assert main(["embed", run, str(path), "--part", "3/2"]) == 2
