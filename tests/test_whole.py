"""Files are written whole, to where they belong, or not at all."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from crosshape.files import write_whole


def test_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, b"old")
    write_whole(path, b"new")
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.txt", tmp_path / "link.txt"
    real.write_bytes(b"old")
    link.symlink_to(real)
    write_whole(link, b"new")
    assert link.is_symlink() and real.read_bytes() == b"new"


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write_whole(pipe, b"content")
    reader.join(20)
    assert got == [b"content"] and pipe.is_fifo()


@pytest.mark.parametrize(
    "name, reason", [("no/x", "there is no folder"), ("", "that is a folder; name a file")]
)
def test_what_cannot_be_written_is_said(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(OSError, match=reason) as error:
        write_whole(tmp_path / name, b"content")
    assert error.value.filename == str(tmp_path / name)
