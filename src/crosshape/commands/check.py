"""Say of every shape in a folder whether it loads, and why not. Nothing is written.

Each file is read in a guarded child process. Exit status 1 where a file does not load.

  crosshape check parts/
  crosshape check parts/ --json | grep '"ok": false'
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crosshape.errors import UnreadableShape
    from crosshape.settings import Limits
    from crosshape.shapes.files import Found


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `crosshape check`."""
    from crosshape.commands.add import exclude_argument
    from crosshape.settings import Limits

    limits = Limits()
    parser.add_argument("shapes", metavar="SHAPES", help="a folder, or one file")
    parser.add_argument("--json", action="store_true", help="one object a line for every file found")
    parser.add_argument(
        "--up", default="auto", choices=("auto", "x", "y", "z"), help="the axis that points up in the files"
    )
    parser.add_argument(
        "--max-faces", type=int, default=limits.max_faces, metavar="N", help="most faces (%(default)s)"
    )
    parser.add_argument(
        "--max-bytes", type=int, default=limits.max_bytes, metavar="N", help="largest file (%(default)s)"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="child processes (default: one a core)")
    exclude_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Check the files and print what was found."""
    import dataclasses
    import time

    from crosshape.console import Progress, duration, print_json, print_line, printable, say
    from crosshape.errors import MOST_WORKERS, CrosshapeError, UsageError, check_count
    from crosshape.settings import Limits
    from crosshape.shapes.files import (
        FORMATS,
        counted_suffixes,
        excluded_words,
        find_shapes,
        links_words,
        unread_words,
    )

    for name in ("max_faces", "max_bytes", "workers"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} is {value}; it must be at least 1.")
    check_count("--workers", options.workers, MOST_WORKERS)
    limits = dataclasses.replace(Limits(), max_faces=options.max_faces, max_bytes=options.max_bytes)
    away: list[Path] = []
    excluded: list[Found] = []
    unread: list[Found] = []
    found = find_shapes(options.shapes, away, options.exclude, excluded, unread)
    if not found and excluded:
        raise CrosshapeError(f"nothing of {options.shapes} is left to check: {excluded_words(len(excluded))}")
    if not found:
        more = f" {unread_words(counted_suffixes(unread))}" if unread else ""
        more += f" {links_words(away)}" if away else ""
        raise CrosshapeError(f"{options.shapes} holds no shapes; known are {' '.join(FORMATS)}.{more}")
    progress = Progress("checking", len(found), "files")
    loaded = noted = 0
    start = time.monotonic()
    try:
        for item, line, notes in check(found, limits, options.up, options.workers):
            progress.advance()
            loaded += line["ok"]
            noted += bool(notes)
            if options.json:
                print_json(line)
            elif not line["ok"]:
                print_line(f"{printable(item.name)}: {line['reason']}")
            elif notes:
                print_line(f"{printable(item.name)}: loads; {'; '.join(notes)}")
    finally:
        progress.close()
    say(
        f"{len(found):,} files: {loaded:,} load ({noted:,} with notes), {len(found) - loaded:,} do not; "
        f"{duration(time.monotonic() - start)}."
    )
    if away:
        say(links_words(away))
    if unread:
        say(unread_words(counted_suffixes(unread)))
    if options.exclude:
        say(excluded_words(len(excluded)))
    return 0 if loaded == len(found) else 1


def check(
    found: list[Found], limits: Limits, up: str, workers: int | None
) -> Iterator[tuple[Found, dict[str, Any], tuple[str, ...]]]:
    """For every file, in the order given: the file, its line of --json, and what was dropped in loading."""
    from crosshape.shapes.files import encodable
    from crosshape.shapes.guard import Guard

    finished: dict[Found, Any] = {}
    ahead = iter(found)
    awaited = next(ahead, None)
    with Guard(workers, limits) as guard:
        for item, result in guard.map(partial(look, limits=limits, up=up), found):
            finished[item] = result
            while awaited in finished:
                result = finished.pop(awaited)
                notes = result[3] if isinstance(result, tuple) else ()
                if not encodable(str(awaited.path)):
                    notes = (*notes, "its name is not valid UTF-8, so it cannot be added")
                yield awaited, _line(awaited, result), notes
                awaited = next(ahead, None)


def look(item: Found, limits: Limits, up: str) -> tuple[int, int, int, tuple[str, ...]]:
    """Faces, points, bytes and notes of one file; runs in a child."""
    from crosshape.shapes.files import load_shape

    shape = load_shape(item.path, limits, up)
    return len(shape.faces), len(shape.vertices), shape.bytes, shape.notes


def _line(item: Found, result: tuple[int, int, int, tuple[str, ...]] | UnreadableShape) -> dict[str, Any]:
    ok = isinstance(result, tuple)
    faces, points, size = result[:3] if isinstance(result, tuple) else (None, None, None)
    if size is None:
        with contextlib.suppress(OSError):
            size = item.path.stat().st_size
    return {
        "path": os.fsencode(item.path).decode("utf-8", "backslashreplace"),
        "ok": ok,
        "reason": None if isinstance(result, tuple) else result.reason,
        "format": item.path.suffix[1:].lower(),
        "faces": faces,
        "points": points,
        "bytes": size,
    }
