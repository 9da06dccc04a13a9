"""Tags that people give, and those that are proposed from them, to accept or refuse.

What people said is kept beside the library in NAME.tags.json, written whole; `labels.csv` of it is what
`crosshape tag --from` reads.
"""

from __future__ import annotations

import csv
import io
import json
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crosshape.errors import CrosshapeError
from crosshape.files import write_whole
from crosshape.page.catalogue import Snapshot
from crosshape.page.jobs import Worker
from crosshape.page.problems import Problem
from crosshape.page.review import harmless


class Tagging:
    """The tags of a library's shapes: given, refused, proposed."""

    def __init__(self, library: Path, propose: Callable[..., Any] | None = None) -> None:
        self.file = library.with_name(library.name + ".tags.json")
        self._propose = propose
        self._worker = Worker("tags", 2)
        self._lock = threading.Lock()
        self._key: Any = None
        self._working = False
        self._learned: list[dict[str, Any]] = []
        self._proposals: list[Any] = []
        self._why_not: str | None = None

    def kept(self) -> tuple[dict[str, str], set[tuple[str, str]]]:
        """(name -> tag that was given, (name, tag) that were refused). Raises Problem for a broken file."""
        try:
            kept = json.loads(self.file.read_bytes())
            return dict(kept["labels"]), {(name, tag) for name, tag in kept["refused"]}
        except FileNotFoundError:
            return {}, set()
        except (OSError, ValueError, KeyError, TypeError):
            words = f"{self.file.name} cannot be read. Mend it or move it away; it is not overwritten."
            raise Problem(409, "broken-tags", words) from None

    def say(self, name: str, tag: str, said: str) -> None:
        """give: this is its tag; refuse: it is not; clear: it has none. Raises Problem where it cannot be kept."""
        with self._lock:
            labels, refused = self.kept()
            if said == "refuse":
                refused.add((name, tag))
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

    def state(self, snapshot: Snapshot) -> dict[str, Any]:
        """The tags that were given, what was learned of them, and the proposals, those that are ready first."""
        labels, refused = self.kept()
        labels = {name: tag for name, tag in labels.items() if snapshot.row_of(name) is not None}
        key = (id(snapshot), tuple(sorted(labels.items())))
        with self._lock:
            if labels and key != self._key and not self._working:
                self._working = True
                self._worker.soon(self._learn, snapshot, labels, key)
            current = key == self._key
            learned, proposals, why_not = self._learned, self._proposals, self._why_not
            working = self._working
        shown = []
        for one in proposals if labels else []:
            row = snapshot.row_of(one.name)
            if row is None or one.name in labels or (one.name, one.tag) in refused:
                continue
            if one.state == "not enough evidence":
                continue
            told = {"tag": one.tag, "score": one.score, "state": one.state, "precision": one.precision}
            shown.append({"shape": snapshot.line(row), **told})
        return {
            "working": working and not current,
            "why_not": why_not if labels and current else None,
            "given": [
                {"tag": tag, "count": count} for tag, count in sorted(Counter(labels.values()).items())
            ],
            "learned": learned if labels else [],
            "proposals": shown[:500],
            "total": len(shown),
        }

    def _learn(self, snapshot: Snapshot, labels: dict[str, str], key: Any) -> None:
        learned: list[dict[str, Any]] = []
        proposals: list[Any] = []
        why_not = None
        try:
            from crosshape.search.tags import propose

            found, proposals = (self._propose or propose)(snapshot.library, labels)
            learned = [
                {"tag": one.tag, "labelled": one.labelled, "ready_precision": one.ready_precision}
                for one in found
            ]
        except CrosshapeError as error:
            why_not = str(error)
        except Exception as error:
            why_not = f"Learning from the tags failed ({type(error).__name__})."
            raise
        finally:
            with self._lock:
                self._key, self._working = key, False
                self._learned, self._proposals, self._why_not = learned, proposals, why_not

    def table(self) -> str:
        """name,tag of the tags that were given, as CSV."""
        out = io.StringIO()
        rows = csv.writer(out)
        rows.writerow(["name", "tag"])
        rows.writerows([harmless(name), harmless(tag)] for name, tag in sorted(self.kept()[0].items()))
        return out.getvalue()

    def close(self) -> None:
        """Learn no more."""
        self._worker.close()
