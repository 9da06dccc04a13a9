"""Duplicates to review: looked for when asked, kept beside the library; marks are notes, nothing is deleted.

Two files stand beside the library: NAME.pairs.json, what was found and for which content, and
NAME.marks.json, what people said of pairs. Both are written whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import traceback
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from crosshape.console import Progress
from crosshape.errors import CrosshapeError
from crosshape.files import parse_json, write_whole
from crosshape.library.notes import marks_file, said_marks
from crosshape.page.catalogue import Snapshot
from crosshape.page.jobs import Worker
from crosshape.page.problems import Problem
from crosshape.places import Address, beside
from crosshape.shapes.guard import available_cores
from crosshape.sheets import csv_text, plain_words


class Review:
    """The pairs that were found in a library, and the marks on them."""

    def __init__(self, library: Path | Address, find: Callable[..., list[Any]] | None = None) -> None:
        self.library = library
        self.pairs_file = beside(library, ".pairs.json")
        self.marks_file = marks_file(library)
        self._find = find
        self._worker = Worker("duplicates", 1)
        self._lock = threading.Lock()
        self._found: tuple[str, list[dict[str, Any]]] | None = None
        self._steps: Progress | None = None
        self._failed: str | None = None

    def state(self, snapshot: Snapshot) -> dict[str, Any]:
        """Whether duplicates were looked for in this content, how far that is, and the pairs with their marks."""
        key = content_key(snapshot)
        with self._lock:
            if self._found is None:
                self._found = self._kept()
            steps, found, failed = self._steps, self._found, self._failed
        if steps is not None:
            progress = {"what": steps.what, "done": steps.done, "total": steps.total}
            return {"state": "looking", "progress": progress, "pairs": [], "failed": None}
        if found is None:
            return {"state": "not-looked-for", "progress": None, "pairs": [], "failed": failed}
        marks = self.marks()
        pairs = []
        for pair in found[1]:
            ends = [snapshot.row.get(pair[end]["id"]) for end in ("a", "b")]
            if None in ends:
                continue
            shown = {end: snapshot.line(row) for end, row in zip("ab", ends, strict=True) if row is not None}
            mark = marks.get(in_order(shown["a"]["name"], shown["b"]["name"]))
            pairs.append({**pair, **shown, "mark": mark and mark["mark"]})
        state = "ready" if found[0] == key else "old"
        return {"state": state, "progress": None, "pairs": pairs, "failed": failed}

    def look(self, snapshot: Snapshot) -> None:
        """Begin to look for duplicates, in the background. Raises Problem where that is being done."""
        with self._lock:
            if self._steps is not None:
                raise Problem(409, "looking", "Duplicates are being looked for already.")
            self._steps, self._failed = Progress("beginning", 0), None
        self._worker.soon(self._look, snapshot)

    def _look(self, snapshot: Snapshot) -> None:
        from crosshape.page.catalogue import shape_id

        def progress(what: str, total: int) -> Progress:
            self._steps = Progress(what, total)
            return self._steps

        failed, found = None, None
        try:
            from crosshape.search.duplicates import find_duplicates

            find = self._find or find_duplicates
            workers = max(1, available_cores() - 1)
            groups = find(snapshot.library, workers=workers, progress=progress)
            pairs = []
            for number, group in enumerate(groups):
                for pair in group.pairs:
                    told = asdict(pair)
                    ends = {end: {"id": shape_id(told[end]), "name": told[end]} for end in ("a", "b")}
                    pairs.append({**told, **ends, "evidence": pair.evidence(), "group": number})
            found = (content_key(snapshot), pairs)
            with contextlib.suppress(OSError):
                text = json.dumps({"key": found[0], "pairs": pairs}, ensure_ascii=False, indent=1)
                write_whole(self.pairs_file, text.encode("utf-8", "surrogatepass"))
        except CrosshapeError as error:
            failed = str(error)
        except Exception as error:
            failed = f"Looking for duplicates failed ({type(error).__name__})."
            traceback.print_exc()  # a fault of ours: the page says that it happened, the terminal what
        finally:
            with self._lock:
                self._found = found or self._found
                self._failed, self._steps = failed, None

    def _kept(self) -> tuple[str, list[dict[str, Any]]] | None:
        try:
            kept = parse_json(self.pairs_file.read_bytes())
            if not all(isinstance(pair[end]["id"], str) for pair in kept["pairs"] for end in "ab"):
                return None
            return str(kept["key"]), list(kept["pairs"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def marks(self) -> dict[tuple[str, str], dict[str, Any]]:
        """What was said of pairs, as `said_marks` gives it. Raises Problem where the file is broken."""
        try:
            return said_marks(self.library)
        except CrosshapeError as error:
            raise Problem(409, "broken-marks", str(error)) from None

    def mark(self, a: str, b: str, mark: str | None) -> None:
        """Note what someone said of a pair, or take it back (None). Raises Problem where it cannot be kept."""
        a, b = in_order(a, b)
        with self._lock:
            marks = self.marks()
            marks.pop((a, b), None)
            if mark is not None:
                when = datetime.now(UTC).isoformat(timespec="seconds")
                marks[a, b] = {"a": a, "b": b, "mark": mark, "when": when}
            text = json.dumps({"pairs": list(marks.values())}, ensure_ascii=False, indent=1)
            try:
                write_whole(self.marks_file, text.encode("utf-8", "surrogatepass") + b"\n")
            except OSError as error:
                words = f"{self.marks_file.name} cannot be written: {error.strerror}."
                raise Problem(507, "cannot-keep", words) from None

    def close(self) -> None:
        """Begin nothing any more."""
        self._worker.close()


def in_order(a: str, b: str) -> tuple[str, str]:
    """A pair as it is kept: which of the two is named first says nothing."""
    return (a, b) if a <= b else (b, a)


def content_key(snapshot: Snapshot) -> str:
    """16 hexadecimal digits of what duplicates depend on: names and contents."""
    text = "\n".join(
        f"{name}\t{content}" for name, content in zip(snapshot.names, snapshot.contents, strict=True)
    )
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def marks_table(pairs: list[dict[str, Any]]) -> str:
    """The pairs as CSV; a name that a spreadsheet would take for a formula gets an apostrophe before it."""
    rows = (
        (one["a"]["name"], one["b"]["name"], one["kind"], plain_words(one["evidence"]), one["mark"] or "")
        for one in pairs
    )
    return csv_text(["a", "b", "kind", "evidence", "mark"], rows)
