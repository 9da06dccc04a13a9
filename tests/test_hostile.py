"""Hostile files: the parent lives, time is bounded, reasons are typed and true, nothing outside is opened."""

from __future__ import annotations

import codecs
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cascadio  # noqa: F401  (its import is not what is audited)
import hostile
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crosshape import cli
from crosshape.errors import UnreadableShape
from crosshape.settings import Limits
from crosshape.shapes import cad  # noqa: F401  (likewise)
from crosshape.shapes.files import FORMATS, Shape, find_shapes, load_shape
from crosshape.shapes.guard import Guard

LIMITS = Limits(memory=1 << 29, seconds=20.0)
opened: list[str] = []
hooked = False


def audited_load(path: Path) -> tuple[Any, list[str], float]:
    """Shape or reason, what was opened or called meanwhile, and the processor time it took; runs in a child."""
    global hooked
    if not hooked:
        load_all_readers()
        sys.addaudithook(note)
        hooked = True
    opened.clear()
    start = time.process_time()
    try:
        result: Any = load_shape(path, LIMITS)
    except UnreadableShape as error:
        result = error.reason
    return result, list(opened), time.process_time() - start


def load_all_readers() -> None:
    for codec in ("cp437", "utf_16_be", "utf_32_be", "utf_16_le", "utf_32_le", "utf_16", "utf_32"):
        codecs.lookup(codec)

    import crosshape.shapes.scenes  # noqa: F401


def note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and not isinstance(arguments[0], int):
        opened.append(f"{os.path.realpath(os.fsdecode(arguments[0]))}")
    elif event.split(".")[0] in ("socket", "subprocess", "ctypes", "urllib", "pickle") or event in (
        "os.system",
        "os.exec",
        "os.remove",
        "os.rename",
        "os.mkdir",
        "exec",
    ):
        opened.append(f"{event} {arguments!r}"[:200])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[hostile.Case]:
    return hostile.write_corpus(tmp_path_factory.mktemp("hostile") / "inside" / "shapes")


@pytest.fixture(scope="module")
def guard() -> Iterator[Guard]:
    with Guard(2, LIMITS) as pool:
        yield pool


def test_the_corpus_is_large_and_covers_all_formats(corpus: list[hostile.Case]) -> None:
    assert len(corpus) >= 200
    for suffix in FORMATS:
        assert sum(case.path.suffix == suffix for case in corpus) >= 15, suffix


def test_every_hostile_file_gives_a_true_reason(corpus: list[hostile.Case], guard: Guard) -> None:
    expected = {case.path: case.expected for case in corpus}
    wrong, slowest = [], 0.0
    seen = set()
    for path, answer in guard.map(audited_load, list(expected)):
        seen.add(path)
        if isinstance(answer, UnreadableShape):
            wrong.append(f"{path.name!r} ended its child: {answer.reason}")
            continue
        result, touched, seconds = answer
        slowest = max(slowest, seconds)
        folder = os.path.realpath(path.parent)
        outside = [name for name in touched if not name.startswith(folder + os.sep)]
        if outside and str(path) != "/dev/zero":
            wrong.append(f"{path.name!r} touched {outside}")
        want = expected[path]
        if isinstance(result, Shape):
            if want is not None and not want.startswith("LOADS OR"):
                wrong.append(f"{path.name!r} loads; expected {want!r}")
            sound(result)
        elif want is None or not re.search(want.removeprefix("LOADS OR: "), result):
            wrong.append(f"{path.name!r}: {result!r}; expected {want!r}")
        elif len(result) > 250 or not result.isprintable() or result.endswith("."):
            wrong.append(f"{path.name!r} has an untidy reason: {result!r}")
    assert not wrong, f"{len(wrong)} of {len(expected)}:\n" + "\n".join(wrong)
    assert seen == set(expected)
    assert slowest < 5.0


def sound(shape: Shape) -> None:
    """What every shape promises."""
    import numpy as np

    assert np.isfinite(shape.vertices).all() and len(shape.vertices)
    assert (shape.vertices.max(axis=0) - shape.vertices.min(axis=0)).max() > 0
    if not shape.is_cloud:
        assert np.array_equal(np.unique(shape.faces), np.arange(len(shape.vertices)))
        assert shape.area > 0 and np.isfinite(shape.area)
    assert shape.normals is None or shape.normals.shape == shape.vertices.shape
    assert len(shape.content_hash) == 64


def test_links_out_of_the_folder_are_not_found(corpus: list[hostile.Case]) -> None:
    folder = corpus[0].path.parent
    (folder / "stolen.off").symlink_to(folder.parent / "secret.off")
    (folder / "up").symlink_to(folder.parent.parent)
    (folder / "again.off").symlink_to(folder / "sound.off")
    names = {found.name for found in find_shapes(folder)}
    assert "stolen.off" not in names and not any(name.startswith("up/") for name in names)
    assert {"again.off", "fifo.obj", "loop.off", "not_utf8_\\xff.off", "new\nline.off"} <= names


def test_check_lives_through_all_of_it(
    corpus: list[hostile.Case], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = corpus[0].path.parent
    assert cli.main(["check", str(folder), "--json", "--workers", "2"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == len(find_shapes(folder)) > 450
    assert all(line["ok"] == (line["reason"] is None) for line in lines)
    assert cli.main(["check", str(folder), "--workers", "2"]) == 1
    shown = capsys.readouterr().out
    assert "esc\\x1b[31m.off" not in shown and "\x1b" not in shown and "control.obj" not in shown
    assert "empty.obj: empty file (0 bytes)\n" in shown


fuzzed = settings(
    max_examples=int(os.environ.get("CROSSHAPE_FUZZ_EXAMPLES", "60")),
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("name", hostile.SOUND)
def test_fuzz(name: str, tmp_path: Path) -> None:
    """Changed bytes of a sound file load or give a reason; CROSSHAPE_FUZZ_EXAMPLES sets how many are tried."""
    whole = hostile.SOUND[name]()
    path = tmp_path / name
    limits = Limits(max_bytes=1 << 24, max_faces=100_000, max_vertices=100_000)
    piece = st.one_of(
        st.binary(min_size=1, max_size=4),
        st.sampled_from(
            [b"-1", b"nan", b"1e308", b"99999999999", b"\n", b" ", b"\xff\xff\xff\xff", b"0", b"."]
        ),
    )
    change = st.tuples(st.integers(0, len(whole)), st.integers(0, 8), piece)

    @fuzzed
    @given(st.lists(change, min_size=1, max_size=4))
    def check(changes: list[tuple[int, int, bytes]]) -> None:
        content = bytearray(whole)
        for place, removed, added in changes:
            content[place : place + removed] = added
        path.write_bytes(content)
        try:
            shape = load_shape(path, limits)
        except UnreadableShape as error:
            # "broken" with a type is the last net: readers should say what is wrong themselves.
            assert not error.reason.startswith(f"broken {path.suffix[1:].upper()} ("), error.reason
        else:
            sound(shape)

    check()
