"""Parts: every shape is in exactly one, and processes that share the work leave what one process leaves."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import crosshape
from crosshape.cli import main
from crosshape.errors import UsageError
from crosshape.library.library import open_library
from crosshape.library.parts import Part, parse_part
from crosshape.settings import PrepareSettings


def test_every_name_is_in_one_part():
    names = [f"folder/{number}.stl" for number in range(1000)] + ["", "\udcff.stl", "zweiß.obj"]
    held = [[name for name in names if name in Part(number, 7)] for number in range(1, 8)]
    assert sorted(sum(held, [])) == sorted(names)
    assert max(map(len, held)) < 1.3 * min(map(len, held))


def test_a_part_is_the_same_everywhere():
    assert [number for number in range(1, 9) if "chair/chair_0.obj" in Part(number, 8)] == [5]
    assert "anything" in Part(1, 1)


@pytest.mark.parametrize(
    "text",
    [
        "3",
        "0/8",
        "9/8",
        "1/0",
        "-1/2",
        "a/b",
        "1/2/3",
        "",
        "1/99999999",
        "+1/+2",
        " 1/ 2",
        "1_0/2_0",
        "١/٢",
        "1/2\n",
    ],
)
def test_what_is_no_part_is_refused(text):
    with pytest.raises(UsageError, match="part "):
        parse_part(text)


@pytest.mark.parametrize("number, count", [(0, 2), (5, 4), (1, 0), (1.0, 2), ("1", 2), (True, 2)])
def test_what_is_no_part_cannot_be_made(number, count):
    with pytest.raises(UsageError, match="the first is from 1 to the second"):
        Part(number, count)


def test_part_of_nothing_said():
    assert parse_part(None) is None and parse_part("2/3") == parse_part(Part(2, 3)) == Part(2, 3)


@pytest.mark.parametrize("total, count", [(0, 3), (2, 3), (12, 5), (100, 7)])
def test_every_place_is_in_one_part(total, count):
    assert [p for number in range(1, count + 1) for p in Part(number, count).places(total)] == list(
        range(total)
    )


def test_words_of_a_part_are_taken_in_python_too(made_folder, tmp_path):
    settings = PrepareSettings(points=64, views=1, image_size=32)
    halves = [
        crosshape.add(made_folder, tmp_path / f"{n}.lance", settings=settings, workers=1, part=f"{n}/2").names
        for n in (1, 2)
    ]
    assert all(halves) and len(sum(halves, [])) == 12
    with pytest.raises(UsageError, match="part '2'"):
        crosshape.add(made_folder, tmp_path / "3.lance", part="2")


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
    assert (
        f"{len(mine)} found = {len(mine)} added, 0 updated, 0 unchanged, 0 skipped of part 2/2)"
        in capsys.readouterr().out
    )
    run = str(embedded_library.path.parent / "run")
    first, rest = len(mine) // 2, len(mine) - len(mine) // 2
    assert main(["embed", run, str(path), "--part", "1/2"]) == 0
    assert f"{first} of {first} shapes (part 1/2) embedded by model" in capsys.readouterr().out
    assert main(["embed", run, str(path), "--part", "2/2", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["embedded"], said["unchanged"], said["part"]) == (rest, 0, "2/2")
    assert main(["embed", run, str(path), "--part", "3/2"]) == 2


@pytest.mark.slow
def test_writers_at_once_wait_for_each_other(made_folder, tmp_path):
    """Eight at once leave one set of files each, not one for every attempt."""
    path = tmp_path / "l.lance"
    crosshape.add(made_folder, path, settings=PrepareSettings(points=256, views=4, image_size=32), workers=1)
    library = open_library(path)

    def files():
        return {file.name for file in (path / "data").iterdir()}

    before, names = files(), library.names
    script = (
        "import sys, numpy as np; from crosshape.library.library import open_library\n"
        "library = open_library(sys.argv[1]); sys.stdin.readline()\n"
        "library.write_features('abcd1234', [sys.argv[2]], np.ones((1, 512)), np.ones((1, 4, 512)))"
    )
    several = [
        subprocess.Popen([sys.executable, "-c", script, str(path), name], stdin=subprocess.PIPE, text=True)
        for name in names[:8]
    ]
    for one in several:
        one.stdin.write("go\n")
        one.stdin.flush()
    assert [one.wait(120) for one in several] == [0] * 8
    assert len(files() - before) <= 8 and open_library(path).models()["abcd1234"] == 8
