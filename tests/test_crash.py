"""Killed anywhere, disk full, not writable: a library is old or new, never half, and going on completes it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from conftest import TINY
from test_add import OPTIONS, SMALL, Inline, whole, write_box, write_boxes
from test_embed import Stub

from crosshape.errors import CrosshapeError
from crosshape.library import adding, embedding
from crosshape.library import library as rooms
from crosshape.library.adding import add
from crosshape.library.embedding import embed
from crosshape.library.library import is_library, open_library
from crosshape.networks.model import untrained_model

HERE = Path(__file__).resolve().parent
CHILD = (
    "import sys; sys.path[:0] = sys.argv[1:2]; from test_crash import JOBS; JOBS[sys.argv[2]](sys.argv[3])"
)
COMMAND = (
    "import sys; from crosshape.library import adding; adding.BATCH = 3; "
    "from crosshape.cli import main; sys.exit(main(sys.argv[1:]))"
)


class Model(Stub):
    """The stub for views of 16 pixels."""

    def encode_views(self, views: np.ndarray) -> np.ndarray:
        return self.scale * np.repeat(views.mean((2, 3), dtype=np.float32)[..., None], 512, axis=2)


def job_add(folder: str) -> None:
    import crosshape.shapes.guard

    crosshape.shapes.guard.Guard = Inline  # type: ignore[misc,assignment]
    adding.BATCH = 4
    add(Path(folder, "shapes"), Path(folder, "parts.lance"), settings=SMALL)


def job_embed(folder: str) -> None:
    embedding.COMMIT = 4
    embed(Model("bbbb1111", 2.0), Path(folder, "parts.lance"))  # type: ignore[arg-type]


def job_forget(folder: str) -> None:
    library = open_library(Path(folder, "parts.lance"))
    library.remove(["even/"] if "even/0.off" in library.names else [], forget=True)


def job_merge(folder: str) -> None:
    rooms.MANY = 2
    rooms.KEEP = rooms.timedelta(0)
    open_library(Path(folder, "parts.lance")).tidy()


JOBS = {"add": job_add, "change": job_add, "embed": job_embed, "forget": job_forget, "merge": job_merge}


def prepare(job: str, folder: Path) -> None:
    """What is there before a job."""
    write_boxes(folder / "shapes", 10)
    if job == "add":
        return
    job_add(str(folder))
    embed(Model("aaaa1111"), folder / "parts.lance")  # type: ignore[arg-type]
    if job == "change":
        for i in (0, 3, 6, 7, 8):
            write_box(folder / "shapes" / ("odd" if i % 2 else "even") / f"{i}.off", 0.5, 0.5, 0.5 + i)
        os.utime(folder / "shapes" / "odd" / "1.off", ns=(1, 1))
        write_box(folder / "shapes" / "new.off", 3.0, 4.0, 5.0)


def rows(folder: Path) -> dict[str, Any]:
    """All rows by name; empty where there is no library yet."""
    path = folder / "parts.lance"
    if not path.exists() or rooms.is_blank(path):
        return {}
    library = open_library(path)
    table = whole(library)
    assert table["name"].to_pylist() == library.names and len(set(library.names)) == len(library)
    assert len(library.points()) == len(library.views()) == len(library) == library.dataset.count_rows()
    return {row["name"]: row for row in table.to_pylist()}


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler or sys.platform != "linux":
        pytest.skip("needs a C compiler on Linux")
    shim = tmp_path_factory.mktemp("shim") / "kill_at.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", shim, HERE / "kill_at.c", "-ldl"], check=True)
    return shim


def kill_at(shim: Path, job: str, start: Path, folder: Path, number: int) -> tuple[int, int]:
    """Run a job on a copy of what was there before; its exit status and the number of calls it made."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(start, folder)
    count = folder.parent / "count"
    count.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "LD_PRELOAD": str(shim),
        "KILL_BELOW": str(folder / "parts.lance"),
        "KILL_AT": str(number),
        "KILL_COUNT": str(count),
    }
    words = [sys.executable, "-c", CHILD, str(HERE), job, str(folder)]
    status = subprocess.run(words, env=environment, timeout=120, check=False).returncode
    return status, int(count.read_text()) if count.exists() else 0


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crosshape.shapes.guard.Guard", Inline)
    monkeypatch.setattr(adding, "BATCH", 4)
    monkeypatch.setattr(embedding, "COMMIT", 4)
    for name in ("MANY", "KEEP"):
        monkeypatch.setattr(rooms, name, getattr(rooms, name))


def check_kills(job: str, part: float, shim: Path, tmp_path: Path) -> None:
    """Kill a job at this part of the calls that change a file, evenly spread; check, go on, check."""
    start, work = tmp_path / "start", tmp_path / "work"
    prepare(job, work)
    work.rename(start)
    shutil.copytree(start, work)  # back to where its absolute paths are right
    old = rows(work)
    status, calls = kill_at(shim, job, start, work, 0)
    assert status == 0 and calls > 8
    new = rows(work)
    assert (new != old) == (job != "merge")
    step = max(1, round(1 / part))
    numbers = list(range(1 + random.Random(job).randrange(step), calls + 1, step))
    for number in numbers:
        status, _ = kill_at(shim, job, start, work, number)
        assert status == -signal.SIGKILL, f"call {number} of {calls} did not happen"
        for name, row in rows(work).items():
            assert row in (old.get(name), new.get(name)), f"{name} after a kill at call {number}"
        if job != "forget":
            assert set(old) <= set(rows(work))
        JOBS[job](str(work))
        assert rows(work) == new, f"went on after a kill at call {number}"
        if job == "forget":
            left = b"".join(path.read_bytes() for path in (work / "parts.lance").rglob("*") if path.is_file())
            assert b"even/" not in left, f"forgotten after a kill at call {number}"


@pytest.mark.parametrize(("job", "part"), [("add", 1 / 20), ("embed", 1 / 20), ("forget", 1 / 25)])
def test_killed_at_some_writes(job: str, part: float, shim: Path, tmp_path: Path, inline: None) -> None:
    check_kills(job, part, shim, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("job", JOBS)
def test_killed_at_every_write(job: str, shim: Path, tmp_path: Path, inline: None) -> None:
    check_kills(job, 1.0, shim, tmp_path)


def check_moments(kills: int, seed: int, tmp_path: Path) -> None:
    """Kill the command with its workers at seeded moments, going on each time, until it was killed so often."""
    shapes = write_boxes(tmp_path / "shapes", 24)
    reference = whole(add(shapes, tmp_path / "reference.lance", settings=SMALL))
    path = tmp_path / "parts.lance"
    words = [sys.executable, "-c", COMMAND, "add", str(shapes), str(path), *OPTIONS, "--workers", "2"]
    moment, done, seen = random.Random(seed), 0, 0
    begin = time.monotonic()
    subprocess.run(words, check=True, capture_output=True, timeout=300)
    duration = time.monotonic() - begin
    assert whole(path).equals(reference)
    shutil.rmtree(path)
    while done < kills:
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=moment.uniform(0.0, 1.2 * duration))
            assert process.returncode == 0 and whole(path).equals(reference)
            shutil.rmtree(path)
            seen = 0
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            done += 1
            if path.exists() and is_library(path):
                table = whole(path)
                known = pc.is_in(reference["name"], table["name"].combine_chunks())
                assert table.equals(reference.filter(known)) and len(table) >= seen
                seen = len(table)
    subprocess.run(words, check=True, capture_output=True, timeout=300)
    assert whole(path).equals(reference)


def test_killed_at_some_moments(tmp_path: Path) -> None:
    check_moments(1, 0, tmp_path)


@pytest.mark.long
def test_killed_at_a_hundred_moments(tmp_path: Path) -> None:
    check_moments(100, 1, tmp_path)


EMBED = (
    "import sys; from crosshape.library import embedding; embedding.COMMIT = 4; "
    "from crosshape.cli import main; sys.exit(main(sys.argv[1:]))"
)


def check_embed_moments(kills: int, seed: int, tmp_path: Path) -> None:
    """Kill `embed` with a second model at seeded moments: each row keeps the old features or has the new."""
    shapes = write_boxes(tmp_path / "shapes", 40)
    path, start = tmp_path / "parts.lance", tmp_path / "start.lance"
    add(shapes, path, settings=SMALL)
    for name in ("first", "second"):
        untrained_model(TINY, points=64, image_size=16, seed=len(name)).save(tmp_path / name)
    embed(tmp_path / "first", path)
    shutil.copytree(path, start)
    old = rows(tmp_path)
    words = [sys.executable, "-c", EMBED, "embed", str(tmp_path / "second"), str(path)]
    begin = time.monotonic()
    subprocess.run(words, check=True, capture_output=True, timeout=300)
    duration = time.monotonic() - begin
    new = rows(tmp_path)
    assert all(new[name] != row for name, row in old.items())
    moment, done, between, seen = random.Random(seed), 0, 0, len(old)
    while done < kills:
        if seen == len(old):
            shutil.rmtree(path)
            shutil.copytree(start, path)
            seen = 0
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=moment.uniform(0.3, 1.1) * duration)
            assert process.returncode == 0 and rows(tmp_path) == new
            seen = len(old)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            done += 1
            now = rows(tmp_path)
            assert now.keys() == old.keys()
            assert all(row in (old[name], new[name]) for name, row in now.items())
            ready = sum(row == new[name] for name, row in now.items())
            assert ready >= seen
            between += 0 < ready < len(old)
            seen = ready
    subprocess.run(words, check=True, capture_output=True, timeout=300)
    assert rows(tmp_path) == new
    assert kills < 100 or between  # some kills found it half way


def test_embed_killed_at_some_moments(tmp_path: Path) -> None:
    check_embed_moments(2, 0, tmp_path)


@pytest.mark.long
def test_embed_killed_at_a_hundred_moments(tmp_path: Path) -> None:
    check_embed_moments(100, 1, tmp_path)


def test_sigterm_keeps_what_was_ready(tmp_path: Path) -> None:
    shapes = write_boxes(tmp_path / "shapes", 200)
    path = tmp_path / "parts.lance"
    words = [sys.executable, "-c", COMMAND, "add", str(shapes), str(path), *OPTIONS, "--workers", "1"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (is_library(path) and len(open_library(path))):
        time.sleep(0.02)
    process.terminate()
    _, words_said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "What was ready is in the library; run the same command again to go on." in words_said
    count = len(open_library(path))
    assert 0 < count < 200
    library = add(shapes, path)
    assert library.report is not None
    assert (library.report.unchanged, library.report.added) == (count, 200 - count)


LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (int(20e3), int(20e3))); " + COMMAND


def test_a_file_that_may_not_grow_loses_nothing(tmp_path: Path, inline: None) -> None:
    shapes = write_boxes(tmp_path / "shapes", 2)
    path = tmp_path / "parts.lance"
    before = whole(add(shapes, path, settings=SMALL))
    write_boxes(tmp_path / "shapes", 40)
    words = [sys.executable, "-c", LIMITED, "add", str(shapes), str(path), "--workers", "1"]
    words[2] = words[2].replace("BATCH = 3", "BATCH = 30")
    end = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert end.returncode == 1
    assert end.stderr == (
        f"crosshape: cannot write {path}: a file would be larger than this account may write. "
        "Raise the limit (ulimit -f) and run the same command again; nothing was lost.\n"
    )
    assert whole(path).equals(before)
    library = add(shapes, path)
    assert library.report is not None and library.report.added == 38


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Any:
    """A disk of 1 MB, where this account may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    )
    if not done or done.returncode:
        pytest.skip("cannot mount a small disk here")
    yield folder
    subprocess.run(["umount", folder], check=False)


def test_a_full_disk_loses_nothing(tiny_disk: Path, tmp_path: Path, inline: None) -> None:
    shapes = write_boxes(tmp_path / "shapes", 3)
    path = tiny_disk / "parts.lance"
    add(shapes, path, settings=SMALL)
    embed(Model("aaaa1111"), path)  # type: ignore[arg-type]
    before = whole(path)
    ballast = tiny_disk / "ballast"
    room = os.statvfs(tiny_disk).f_bavail * os.statvfs(tiny_disk).f_bsize
    ballast.write_bytes(b"x" * (room - 12_288))
    write_boxes(tmp_path / "shapes", 30)
    with pytest.raises(CrosshapeError) as error:
        add(shapes, path)
    assert str(error.value) == (
        f"cannot write {path}: the disk is full. Free some space and run the same command again; "
        "nothing was lost."
    )
    assert whole(path).equals(before)
    with pytest.raises(CrosshapeError, match="the disk is full"):
        embed(Model("bbbb1111"), path)  # type: ignore[arg-type]
    assert whole(path).equals(before)
    ballast.unlink()
    assert len(add(shapes, path)) == 30


def test_a_disk_that_cannot_be_written(tiny_disk: Path, tmp_path: Path, inline: None) -> None:
    shapes = write_boxes(tmp_path / "shapes", 3)
    path = tiny_disk / "parts.lance"
    before = whole(add(shapes, path, settings=SMALL))
    subprocess.run(["mount", "-o", "remount,ro", tiny_disk], check=True)
    write_boxes(tmp_path / "shapes", 5)
    for change in (lambda: add(shapes, path), lambda: open_library(path).remove(["odd/1.off"])):
        with pytest.raises(CrosshapeError) as error:
            change()
        assert str(error.value) == (
            f"cannot write {path}: the file system is read-only. Choose a folder that can be written."
        )
    assert whole(path).equals(before)  # reading goes on


def test_json_of_a_broken_pipe_is_no_traceback(tmp_path: Path) -> None:
    shapes = write_boxes(tmp_path / "shapes", 2)
    (shapes / "bad.off").write_text("")
    words = [
        sys.executable,
        "-m",
        "crosshape",
        "add",
        str(shapes),
        str(tmp_path / "p.lance"),
        *OPTIONS,
        "--json",
    ]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    assert process.wait(timeout=60) == 1
    assert len(open_library(tmp_path / "p.lance")) == 2
