"""What a person sees in the terminal: progress, tables, words. Quiet where nobody looks."""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, TextIO


def say(text: str) -> None:
    """One line of words to standard error."""
    with _aside(sys.stderr):
        print(text, file=sys.stderr, flush=True)


def print_line(text: str) -> None:
    """One line of words on standard output."""
    with _aside(sys.stdout):
        print(text, flush=True)


def print_json(value: dict[str, Any]) -> None:
    """One object on one line of standard output, keys in the order given; numbers that are not finite become null.

    Bytes of a file's name that are no UTF-8 are written as \\xNN.
    """
    escaped = codecs.lookup(sys.stdout.encoding or "utf-8").name != "utf-8"
    print_line(json.dumps(_plain(value), ensure_ascii=escaped, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {_encodable(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return _encodable(value)
    if isinstance(value, bool | int) or value is None:
        return value
    if hasattr(value, "item"):
        value = value.item()
        if not isinstance(value, float):
            return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    return _encodable(str(value))


def _encodable(text: str) -> str:
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character that stands for no byte
        data = text.encode("utf-8", "backslashreplace")
    return data.decode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """The text with control characters escaped, so that a file's name cannot drive the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


LEAST = 12
"""Characters that a shortened name keeps."""


def print_table(head: Sequence[str], rows: Sequence[Sequence[Any]], names: Sequence[str] = ()) -> None:
    """A table on standard output; numbers to the right, words to the left.

    Columns called `names` hold names: in a terminal the long ones are shortened in the middle, so that a row is a line.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    if names and sys.stdout.isatty():
        cells = _narrowed(head, cells, names, _columns(sys.stdout))
    widths = [max([len(h), *(len(row[i]) for row in cells)]) for i, h in enumerate(head)]
    right = [
        bool(rows) and all(isinstance(row[i], int | float) or row[i] is None for row in rows)
        for i in range(len(head))
    ]

    def line(values: Sequence[str]) -> str:
        parts = (v.rjust(w) if r else v.ljust(w) for v, w, r in zip(values, widths, right, strict=True))
        return "  ".join(parts).rstrip()

    print_line("\n".join(map(line, (head, ["-" * w for w in widths], *cells))))


def _narrowed(
    head: Sequence[str], cells: list[list[str]], names: Sequence[str], columns: int
) -> list[list[str]]:
    """The cells of a table whose names are shortened to what fits a line, the longest first, or to LEAST."""
    widths = [max([len(h), *(len(row[i]) for row in cells)]) for i, h in enumerate(head)]
    flexible = [i for i, h in enumerate(head) if h in names]
    while sum(widths) + 2 * (len(head) - 1) > columns:
        widest = max(flexible, key=lambda i: widths[i])
        if widths[widest] <= LEAST:
            break
        widths[widest] -= 1
    return [
        [shortened(cell, widths[i]) if i in flexible else cell for i, cell in enumerate(row)] for row in cells
    ]


def shortened(text: str, length: int) -> str:
    """A text of at most so many characters, with … for what is left out of its middle."""
    if len(text) <= length:
        return text
    end = (length - 1) // 2
    return f"{text[: length - 1 - end]}…{text[len(text) - end :]}"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    return printable(str(value))


def duration(seconds: float) -> str:
    """A time a person can read: 8 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


_CLEAR = "\r\x1b[K"
"""Empties the row of the terminal that the cursor is in."""


class Progress:
    """A progress line with rate and time left on standard error; silent where that is no terminal."""

    drawn: ClassVar[str] = ""
    """The line that stands in the terminal now."""

    def __init__(self, what: str, total: int, unit: str = "shapes") -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = self.begin = 0
        self.start = self.shown = time.monotonic()
        self.live = sys.stderr.isatty()

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count some as done and redraw, at most ten times a second."""
        self.done += count
        now = time.monotonic()
        if not self.live or (now - self.shown < 0.1 and self.done < self.total):
            return
        self.shown = now
        rate = (self.done - self.begin) / max(now - self.start, 1e-9)
        left = duration((self.total - self.done) / rate) if rate else "?"
        filled = 24 * self.done // max(self.total, 1)
        bar = "━" * filled + "╌" * (24 - filled)
        text = f"{self.what} {bar} {self.done}/{self.total}  {rate:.1f} {self.unit}/s  {left} left  {note}"
        Progress.drawn = text.rstrip()[: max(_columns(sys.stderr) - 1, 1)]  # _CLEAR empties one row only
        sys.stderr.write(f"{_CLEAR}{Progress.drawn}")
        sys.stderr.flush()

    def close(self) -> None:
        """End the line."""
        if self.live and self.done:
            Progress.drawn = ""
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()


@contextlib.contextmanager
def _aside(stream: TextIO) -> Iterator[None]:
    """Take the progress line away while a stream is written to in the same terminal, and draw it again."""
    apart = not (Progress.drawn and stream.isatty())
    if not apart:
        sys.stderr.write(_CLEAR)
        sys.stderr.flush()
    yield
    if not apart:
        sys.stderr.write(Progress.drawn)
        sys.stderr.flush()


def _columns(stream: TextIO) -> int:
    """How wide the terminal of a stream is."""
    with contextlib.suppress(OSError, ValueError):
        if columns := os.get_terminal_size(stream.fileno()).columns:
            return columns
    return shutil.get_terminal_size().columns
