"""The command line: help for everything, exact words for mistakes, nothing heavy before it is needed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from crosshape import console
from crosshape.cli import COMMANDS, main


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name, capsys):
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"crosshape {name}" in text.split("\n\n", 1)[1], "an example stands in the description"
    for line in text.splitlines():
        assert "None" not in line, f"a default that says nothing: {line}"


def test_the_overview_names_every_command(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(line in text for line in COMMANDS.values())


def test_wrong_usage_is_status_2(capsys):
    assert main([]) == 2
    assert main(["serch"]) == 2
    assert "there is no command 'serch'; did you mean 'search'?" in capsys.readouterr().err
    assert main(["train"]) == 2
    assert main(["train", "a", "b", "--set", "epochs"]) == 2
    assert "--set epochs: write NAME=VALUE" in capsys.readouterr().err
    assert main(["train", "a", "b", "--set", "epoch=3"]) == 2
    assert "unknown setting 'epoch' in --set; did you mean 'epochs'?" in capsys.readouterr().err


def test_a_library_that_is_not_there_is_status_1(capsys, tmp_path):
    assert main(["train", str(tmp_path / "none.lance"), str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert "none.lance" in error and "Traceback" not in error


def test_help_and_import_load_nothing_heavy():
    heavy = [
        "torch",
        "numba",
        "trimesh",
        "lance",
        "scipy",
        "sklearn",
        "matplotlib",
        "PIL",
        "numpy",
        "pyarrow",
    ]
    code = (
        "import sys, crosshape, crosshape.cli; crosshape.cli.main(['--help']); "
        f"bad = [m for m in {heavy} if m in sys.modules]; sys.exit(repr(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_loads_no_torch(name):
    code = f"import sys; from crosshape.cli import main; main([{name!r}, '--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, f"crosshape {name} --help imports torch"


def test_public_names_load():
    import crosshape

    for name in crosshape.__all__:
        assert getattr(crosshape, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        crosshape.nothing  # noqa: B018


@pytest.mark.parametrize("given, kept", [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_idle_threads_sleep_unless_the_user_says_otherwise(given, kept, tmp_path, monkeypatch, capsys):
    """OpenMP reads it when torch is loaded, so it must be there before."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if given:
        monkeypatch.setenv("OMP_WAIT_POLICY", given)
    assert main(["info", str(tmp_path / "none")]) == 1
    assert os.environ["OMP_WAIT_POLICY"] == kept


@pytest.mark.parametrize(
    "words",
    [
        ["search", "chair/chair_0.obj", "--html"],
        ["group", "--html"],
        ["duplicates", "--csv"],
        ["duplicates", "--html"],
    ],
)
def test_what_is_no_table_or_page_is_not_replaced_by_one(embedded_library, tmp_path, capsys, words):
    what, other = ("table", "page.html") if words[-1] == "--csv" else ("page", "labels.csv")
    command, *rest = words
    for name in ("bracket.obj", other):
        file = tmp_path / name
        file.write_text("v 0 0 0\n")
        assert main([command, str(embedded_library.path), *rest, str(file)]) == 2
        assert f"{file} is there already, and no {what}; name another" in capsys.readouterr().err
        assert file.read_text() == "v 0 0 0\n"


def test_a_table_and_a_page_are_two_files(embedded_library, tmp_path, capsys):
    (tmp_path / "link.html").symlink_to("same.html")
    same, link = (str(tmp_path / name) for name in ("same.html", "link.html"))
    for place in (same, link):
        assert main(["duplicates", str(embedded_library.path), "--csv", same, "--html", place]) == 2
        assert "--csv and --html name the same file; name two" in capsys.readouterr().err
    assert not (tmp_path / "same.html").exists()


@pytest.mark.parametrize(
    "words, what",
    [
        (["search", "bracket.stl", "LIBRARY"], "bracket.stl is the name of a shape or a picture"),
        (["embed", "LIBRARY", "modelnet40"], "modelnet40 is the name of a model"),
        (["train", "RUN", "LIBRARY"], "is a run"),
        (["duplicates", "photo.JPG"], "photo.JPG is the name of a shape or a picture"),
    ],
)
def test_words_in_another_order_are_not_made_into_a_library(embedded_library, capsys, words, what):
    places = {"LIBRARY": str(embedded_library.path), "RUN": str(embedded_library.path.parent / "run")}
    assert main([places.get(word, word) for word in words]) == 1
    told = capsys.readouterr().err
    assert (
        what in told
        and "not a library. Are the words in the right order?" in told
        and "crosshape add" not in told
    )


def test_commands_that_are_advised_can_be_pasted(tmp_path, capsys):
    (tmp_path / "my parts").mkdir()
    (tmp_path / "my parts" / "a.obj").write_text("")
    assert main(["info", str(tmp_path / "my parts")]) == 1
    said = capsys.readouterr().err
    assert f"crosshape add '{tmp_path}/my parts' '{tmp_path}/my parts.lance'" in said


TRIANGLE = "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"


def crosshape(*words: str, **options) -> subprocess.CompletedProcess:
    """The program as its users run it; `env` adds to the environment."""
    options["env"] = {**os.environ, **options.get("env", {})}
    return subprocess.run([sys.executable, "-m", "crosshape", *words], stderr=subprocess.PIPE, **options)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8:strict"])
def test_names_that_cannot_be_encoded_are_escaped(encoding, tmp_path):
    for name in ("e\u0301.obj", "\U0001f600.obj", "bad\udcff.obj"):
        (tmp_path / name).write_text(TRIANGLE)
    env = {"PYTHONIOENCODING": encoding}
    done = crosshape("check", str(tmp_path), "--json", "--workers", "1", env=env, stdout=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    names = {Path(json.loads(line)["path"]).name for line in done.stdout.splitlines()}
    assert names == {"e\u0301.obj", "\U0001f600.obj", "bad\\xff.obj"}
    done = crosshape("info", str(tmp_path / "bad\udcff.obj"), "--json", env=env, stdout=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.decode())["path"] == str(tmp_path / "bad\\xff.obj")
    done = crosshape("info", str(tmp_path / "e\u0301.obj"), env=env, stdout=subprocess.PIPE)
    assert done.returncode == 0, done.stderr


def test_an_object_is_json_whatever_is_in_it(capsys):
    console.print_json({"bad\udcff": ["half\ud800", "whole é"]})
    assert json.loads(capsys.readouterr().out.encode()) == {"bad\\xff": ["half\\ud800", "whole é"]}


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["--help"], ["--version"], ["add", "--help"]])
def test_help_that_nobody_reads_is_no_fault(words, unbuffered):
    reader, writer = os.pipe()
    os.close(reader)
    done = crosshape(*words, stdout=writer, env={"PYTHONUNBUFFERED": unbuffered})
    os.close(writer)
    assert done.returncode in (0, 1) and not done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_disk_is_said_once():
    with open("/dev/full", "w") as full:
        done = crosshape("--help", stdout=full)
    assert done.returncode == 1
    assert (
        done.stderr.decode().startswith("crosshape: No space left on device.")
        and b"Traceback" not in done.stderr
    )
    assert len(done.stderr.splitlines()) == 1


def test_help_with_a_command_is_its_help(capsys):
    assert main(["help", "search"]) == 0
    assert capsys.readouterr().out.startswith("usage: crosshape search ")
    assert main(["help", "serch"]) == 2
    assert "did you mean 'search'?" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="streams are closed by a shell")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_streams_may_be_closed(closed, tmp_path):
    (tmp_path / "a.obj").write_text(TRIANGLE)
    words = [sys.executable, "-m", "crosshape", "check", str(tmp_path), "--json", "--workers", "1"]
    done = subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", *words], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert done.stdout.startswith(b'{"path": ') is (closed == "2>&-")


class Screen(io.StringIO):
    """A terminal that keeps what is written."""

    def isatty(self) -> bool:
        return True


def one_screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Standard output and error in one terminal of 60 columns."""
    one = Screen()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, one)
    monkeypatch.setenv("COLUMNS", "60")
    return one


def test_names_in_a_table_fit_the_terminal_and_stay_whole_elsewhere(monkeypatch, capsys):
    rows = [
        [1, 0.5, "Vehicles (from Marketplace)/SM_Truck_Body_LOD0_final_v2.obj", "a.obj"],
        [2, 0.25, "b.obj", "c"],
    ]
    table = ["rank", "score", "name", "like"], rows, ["name", "like"]
    console.print_table(*table)
    assert rows[0][2] in capsys.readouterr().out
    screen = one_screen(monkeypatch)
    console.print_table(*table)
    lines = screen.getvalue().splitlines()
    assert max(map(len, lines)) == 60 and len(lines) == 4
    assert "…" in lines[2] and lines[2].endswith("LOD0_final_v2.obj  a.obj") and "b.obj" in lines[3]
    assert console.shortened("a_very_long_name.obj", 12) == "a_very…e.obj"
    monkeypatch.setenv("COLUMNS", "10")
    console.print_table(*table)
    assert "Vehicl…2.obj" in screen.getvalue()


def test_the_progress_line_takes_one_row(monkeypatch):
    screen = one_screen(monkeypatch)
    bar = console.Progress("training", 3)
    bar.shown = 0
    bar.advance(1, "loss " * 30)
    assert len(screen.getvalue().removeprefix("\r\x1b[K")) == 59
    bar.close()
    assert screen.getvalue().endswith("\r\x1b[K")


def test_lines_stand_apart_from_the_progress_line(monkeypatch, tmp_path):
    screen = one_screen(monkeypatch)
    for number in range(3):
        (tmp_path / f"{number}.obj").write_text("")
    assert main(["check", str(tmp_path), "--workers", "1"]) == 1
    told = [row.rsplit("\x1b[K", 1)[-1] for row in screen.getvalue().split("\n") if ".obj: " in row]
    assert [line.split(":")[0] for line in told] == ["0.obj", "1.obj", "2.obj"]
    bar = console.Progress("checking", 2)
    bar.shown = 0
    bar.advance()
    drawn = console.Progress.drawn
    console.say("a word")
    assert screen.getvalue().endswith(f"{drawn}\r\x1b[Ka word\n{drawn}")
    bar.close()
    console.say("an end")
    assert screen.getvalue().endswith("\r\x1b[Kan end\n")


@pytest.mark.parametrize("what, library", [(".", "{here}.lance"), ("/", "LIBRARY"), ("..", "{above}.lance")])
def test_a_folder_without_a_name_gives_a_library_one(what, library, tmp_path, monkeypatch, capsys):
    here = tmp_path / "parts"
    here.mkdir()
    (here / "a.obj").write_text("")
    monkeypatch.chdir(here)
    assert main(["info", what]) == 1
    advice = f"crosshape add {what} {library.format(here=here, above=tmp_path)}"
    assert capsys.readouterr().err.endswith(f" {advice}\n")


def test_remove_asks_for_no_more_than_it_needs(capsys):
    assert main(["remove"]) == 2
    assert capsys.readouterr().err.endswith("the following arguments are required: LIBRARY\n")
