"""What a person sees in the terminal: progress, tables, words. Quiet where nobody looks."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any


def say(text: str) -> None:
    """One line of words to standard error."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: dict[str, Any]) -> None:
    """One object on one line of standard output, keys in the order given; numbers that are not finite become null."""
    print(json.dumps(_plain(value), ensure_ascii=False, allow_nan=False), flush=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    if hasattr(value, "item"):
        value = value.item()
        if not isinstance(value, float):
            return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    return str(value)


def printable(text: str) -> str:
    """The text with control characters escaped, so that a file's name cannot drive the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def print_table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table on standard output; numbers to the right, words to the left."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max([len(h), *(len(row[i]) for row in cells)]) for i, h in enumerate(head)]
    right = [
        bool(rows) and all(isinstance(row[i], int | float) or row[i] is None for row in rows)
        for i in range(len(head))
    ]

    def line(values: Sequence[str]) -> str:
        parts = (v.rjust(w) if r else v.ljust(w) for v, w, r in zip(values, widths, right, strict=True))
        return "  ".join(parts).rstrip()

    print(line(head))
    print(line(["-" * w for w in widths]))
    for row in cells:
        print(line(row))
    sys.stdout.flush()


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


class Progress:
    """A progress line with rate and time left on standard error; silent where that is no terminal."""

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
        sys.stderr.write(f"\r\x1b[K{text.rstrip()}")
        sys.stderr.flush()

    def close(self) -> None:
        """End the line."""
        if self.live and self.done:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
