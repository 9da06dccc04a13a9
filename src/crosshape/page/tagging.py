"""Tags: those that people give, those that are proposed from them, and those that the library holds.

What people said is kept beside the library in NAME.tags.json, written whole; `crosshape tag` reads it. The
library's own tags (`crosshape tag --write`) are shown until someone says otherwise; the library is not written.
"""

from __future__ import annotations

import json
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosshape.errors import CrosshapeError
from crosshape.files import write_whole
from crosshape.library.notes import tags_file
from crosshape.page.catalogue import Snapshot
from crosshape.page.jobs import Worker
from crosshape.page.problems import Problem
from crosshape.places import Address
from crosshape.search.tags import STATES, said_tags
from crosshape.sheets import csv_text

SENT = 500
"""Proposals of each state that an answer holds."""

WRITTEN = "in the library"
"""The state of a tag that `crosshape tag --write` kept and that nobody has accepted or refused yet."""


class Tagging:
    """The tags of a library's shapes: given, refused, proposed, written."""

    def __init__(self, library: Path | Address, propose: Callable[..., Any] | None = None) -> None:
        self.library, self.file = library, tags_file(library)
        self._propose = propose
        self._worker = Worker("tags", 2)
        self._lock = threading.Lock()
        self._key: Any = None
        self._working = False
        self._learned: list[dict[str, Any]] = []
        self._proposals: list[Any] = []
        self._why_not: str | None = None
        self._unsure: str | None = None
        self._said: tuple[Any, dict[str, str], set[tuple[str, str]]] | None = None
        self._shown: tuple[Any, list[tuple[str, ...]]] | None = None

    def kept(self) -> tuple[dict[str, str], set[tuple[str, str]]]:
        """(name -> tag that was given, (name, tag) that were refused). Raises Problem for a broken file."""
        mark, said = self._mark(), self._said
        if said is None or said[0] != mark or mark is None:
            try:
                said = (mark, *said_tags(self.library))
            except CrosshapeError as error:
                raise Problem(409, "broken-tags", str(error)) from None
            self._said = said
        return dict(said[1]), set(said[2])

    def _mark(self) -> Any:
        """Something that changes whenever the file does; None where there is none."""
        try:
            told = self.file.stat()
        except OSError:
            return None
        return told.st_mtime_ns, told.st_ino, told.st_size

    def say(self, name: str, tag: str, said: str) -> None:
        """give: this is its tag; refuse: it is not; clear: it has none. Raises Problem where it cannot be kept."""
        with self._lock:
            labels, refused = self.kept()
            if said == "refuse":
                refused.add((name, tag))
                if labels.get(name) == tag:
                    del labels[name]
            elif said == "give":
                labels[name] = tag
                refused.discard((name, tag))
            else:
                labels.pop(name, None)
            kept = {"labels": dict(sorted(labels.items())), "refused": sorted(refused)}
            text = json.dumps(kept, ensure_ascii=False, indent=1)
            try:
                write_whole(self.file, text.encode("utf-8", "surrogatepass") + b"\n")
            except OSError as error:
                words = f"{self.file.name} cannot be written: {error.strerror}."
                raise Problem(507, "cannot-keep", words) from None

    def shown(self, snapshot: Snapshot) -> list[tuple[str, ...]]:
        """The tags of every shape, by row: the one that was given, else the library's without those refused."""
        key = (id(snapshot), snapshot.version, self._mark())
        known = self._shown
        if known is None or known[0] != key:
            labels, refused = self.kept()
            tags = list(snapshot.tags)
            for name, tag in refused:
                row = snapshot.row_of(name)
                if row is not None:
                    tags[row] = tuple(one for one in tags[row] if one != tag)
            for name, tag in labels.items():
                row = snapshot.row_of(name)
                if row is not None:
                    tags[row] = (tag,)
            known = (key, tags)
            self._shown = known
        return known[1]

    def counts(self, snapshot: Snapshot) -> list[dict[str, Any]]:
        """Every tag that is shown, and of how many shapes, sorted by tag."""
        found = Counter(tag for some in self.shown(snapshot) for tag in some)
        return [{"tag": tag, "count": count} for tag, count in sorted(found.items())]

    def tagged(self, snapshot: Snapshot, tag: str) -> NDArray[np.bool_]:
        """(N,): which rows have a tag."""
        return np.fromiter((tag in some for some in self.shown(snapshot)), bool, len(snapshot))

    def of(self, snapshot: Snapshot, row: int) -> tuple[str | None, list[str]]:
        """(the tag that was given to a shape, those of the library that nobody has accepted or refused)."""
        given = self.kept()[0].get(snapshot.names[row])
        return given, [] if given is not None else list(self.shown(snapshot)[row])

    def state(self, snapshot: Snapshot, tag: str = "") -> dict[str, Any]:
        """The tags that were given, what was learned of them, and the proposals, all or of one tag, at most SENT of
        each state: those that are ready first, those of the library last.
        """
        labels, refused = self.kept()
        labels = {name: tag for name, tag in labels.items() if snapshot.row_of(name) is not None}
        tags = set(labels.values())
        told_no = sorted((name, tag) for name, tag in refused if tag in tags and name not in labels)
        key = (id(snapshot), snapshot.version, tuple(sorted(labels.items())), tuple(told_no))
        with self._lock:
            if labels and key != self._key and not self._working:
                self._working = True
                self._worker.soon(self._learn, snapshot, labels, told_no, key)
            current = key == self._key
            learned, proposals, why_not = self._learned, self._proposals, self._why_not
            unsure = self._unsure
            working = self._working
        found: list[tuple[int, str, float | None, str, float | None]] = []
        for one in proposals if labels else []:
            row = snapshot.row_of(one.name)
            if row is None or one.name in labels or (one.name, one.tag) in refused:
                continue
            if one.state != "not enough evidence":
                found.append((row, one.tag, one.score, one.state, one.precision))
        listed = {(row, word) for row, word, *_ in found}
        for row, words in enumerate(self.shown(snapshot)):
            if words and snapshot.names[row] not in labels:
                found += [(row, word, None, WRITTEN, None) for word in words if (row, word) not in listed]
        each = Counter(word for _, word, *_ in found)
        asked = [one for one in found if not tag or one[1] == tag]
        count = Counter(state for *_, state, _ in asked)
        sent = []
        for state in (*STATES, WRITTEN):
            sent += [one for one in asked if one[3] == state][:SENT]
        return {
            "working": working and not current,
            "why_not": why_not if labels and current else None,
            "unsure": unsure if labels and current else None,
            "given": [
                {"tag": word, "count": many} for word, many in sorted(Counter(labels.values()).items())
            ],
            "learned": learned if labels else [],
            "proposals": [
                {
                    "shape": snapshot.line(row),
                    "tag": word,
                    "score": score,
                    "state": state,
                    "precision": precision,
                }
                for row, word, score, state, precision in sent
            ],
            "proposed": [{"tag": word, "count": many} for word, many in sorted(each.items())],
            "ready": count["ready"],
            "total": len(asked) - count[WRITTEN],
            "written": count[WRITTEN],
        }

    def _learn(
        self, snapshot: Snapshot, labels: dict[str, str], refused: list[tuple[str, str]], key: Any
    ) -> None:
        learned: list[dict[str, Any]] = []
        proposals: list[Any] = []
        why_not = unsure = None
        try:
            from crosshape.search import query
            from crosshape.search.tags import doubt, propose

            if len(snapshot) > query.EXACT:  # all features would not fit the memory
                raise CrosshapeError(
                    f"The page learns from tags for up to {query.EXACT:,} shapes; crosshape tag does for more."
                )
            found, proposals = (self._propose or propose)(snapshot.library, labels, refused=refused)
            learned = [
                {"tag": one.tag, "labelled": one.labelled, "ready_precision": one.ready_precision}
                for one in found
            ]
            unsure = doubt(found)
        except CrosshapeError as error:
            why_not = str(error)
        except Exception as error:
            why_not = f"Learning from the tags failed ({type(error).__name__})."
            traceback.print_exc()  # a fault of ours: the page says that it happened, the terminal what
        finally:
            with self._lock:
                self._key, self._working = key, False
                self._learned, self._proposals, self._why_not = learned, proposals, why_not
                self._unsure = unsure

    def table(self) -> str:
        """name,tag of the tags that were given, as CSV."""
        return csv_text(["name", "tag"], sorted(self.kept()[0].items()))

    def close(self) -> None:
        """Learn no more."""
        self._worker.close()
