"""The library as the page needs it: one snapshot per version in memory, exchanged when a newer one is there."""

from __future__ import annotations

import hashlib
import re
import threading
import time
import unicodedata
from collections import Counter, OrderedDict
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosshape import __version__
from crosshape.errors import CrosshapeError
from crosshape.library.library import Library, open_library
from crosshape.page.problems import Problem
from crosshape.places import Address
from crosshape.search.query import Gallery, gallery

LOOK = 1.0
"""Seconds between two looks whether the library has a newer version."""

SORTS = ("name", "faces", "size", "bytes", "changed")


@dataclass(frozen=True)
class Filters:
    """What shapes must be: words in the name, a folder, formats, ranges of faces and of size (longest side), a tag."""

    text: str = ""
    folder: str = ""
    format: str = ""
    min_faces: int | None = None
    max_faces: int | None = None
    min_size: float | None = None
    max_size: float | None = None
    tag: str = ""

    def __bool__(self) -> bool:
        return any(getattr(self, f.name) != f.default for f in fields(self))


class Snapshot:
    """A library at one version: names in their order, ids, facts as arrays, features once they are asked for."""

    def __init__(self, library: Library) -> None:
        self.library, self.version = library, library.version
        facts = library.facts()
        self.names: list[str] = facts["name"].to_pylist()
        self.ids = [shape_id(name) for name in self.names]
        self.row = {one: row for row, one in enumerate(self.ids)}
        self.formats: list[str] = facts["format"].to_pylist()
        hashes = facts["content_hash"].to_pylist()
        self.contents = [text[:12] for text in hashes]
        self.mark = f"{library.settings} {__version__}"
        """What, besides a file's content, its pictures and its mesh depend on: which way is up, their size."""
        self.pictures = [hashlib.sha256((text + self.mark).encode()).hexdigest()[:12] for text in hashes]
        self.faces = facts["faces"].to_numpy()
        self.vertices = facts["vertices"].to_numpy()
        self.bytes = facts["bytes"].to_numpy()
        self.changed = facts["modified"].to_numpy()
        extents = facts["extents"].combine_chunks()
        self.size = np.asarray(extents.flatten()).reshape(len(self.names), 3).max(axis=1, initial=0.0)
        column = facts["tags"].to_pylist() if "tags" in facts.column_names else [None] * len(self.names)
        self.tags = [tuple(some or ()) for some in column]
        """Those that `crosshape tag --write` keeps in the library."""
        self._facts = facts
        self._lock = threading.Lock()
        self._gallery: Gallery | None = None
        self._kept: OrderedDict[Any, NDArray[np.int64]] = OrderedDict()

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def folded(self) -> list[str]:
        """The names without case and accents."""
        return [folded(name) for name in self.names]

    @cached_property
    def rank(self) -> NDArray[np.int64]:
        """(N,): where each row stands by name as people sort: without case, 2 before 10."""
        order = sorted(range(len(self)), key=lambda row: natural(self.folded[row]))
        rank = np.empty(len(self), np.int64)
        rank[order] = np.arange(len(self))
        return rank

    @cached_property
    def folders(self) -> list[tuple[str, int]]:
        """Every folder that shapes lie in or below, and how many, sorted by name."""
        counts: Counter[str] = Counter()
        for name in self.names:
            at = name.find("/")
            while at != -1:
                counts[name[:at]] += 1
                at = name.find("/", at + 1)
        return sorted(counts.items())

    @cached_property
    def labels(self) -> tuple[list[str], NDArray[np.int64]]:
        """The first folders, those of most shapes first, and for each shape its number among them (-1: none)."""
        first = [name.split("/", 1)[0] if "/" in name else "" for name in self.names]
        known = [
            label for label, _ in sorted(Counter(first).items(), key=lambda one: (-one[1], one[0])) if label
        ]
        number = {label: i for i, label in enumerate(known)}
        return known, np.array([number.get(label, -1) for label in first], np.int64)

    def gallery(self) -> Gallery:
        """The features, ready to be asked; read once. Raises CrosshapeError where no shape has any."""
        with self._lock:
            if self._gallery is None:
                self._gallery = gallery(self.library, partly=True)
            return self._gallery

    def find(self, one: str) -> int:
        """The row of a shape by its id. Raises Problem 404."""
        row = self.row.get(one)
        if row is None:
            words = "There is no shape of this id; it may have been removed from the library."
            raise Problem(404, "no-such-shape", words)
        return row

    def row_of(self, name: str) -> int | None:
        """The row of a shape by its name, or None."""
        return self.row.get(shape_id(name))

    def named(self, name: str) -> int:
        """The row of a shape by its name. Raises Problem 404."""
        row = self.row_of(name)
        if row is None:
            raise Problem(404, "no-such-shape", f"There is no shape named '{name}' in the library.")
        return row

    def rows(
        self, filters: Filters, sort: str = "name", tagged: NDArray[np.bool_] | None = None
    ) -> NDArray[np.int64]:
        """The rows that pass the filters, in an order: one of SORTS, largest first with "-" before it.

        tagged (N,): the rows that have the tag that is asked for; people change tags without a new version.
        """
        if filters.tag:
            return self._sorted(np.flatnonzero(self.mask(filters, tagged)), sort)
        key = (filters, sort)
        kept = self._kept.get(key)
        if kept is None:
            kept = self._sorted(np.flatnonzero(self.mask(filters)), sort)
            self._kept[key] = kept
            while len(self._kept) > 32:
                self._kept.popitem(last=False)
        return kept

    def mask(self, filters: Filters, tagged: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """(N,): which rows pass the filters; tagged: those that have the tag."""
        mask = np.ones(len(self), bool) if tagged is None else tagged.copy()
        if filters.min_faces is not None:
            mask &= self.faces >= filters.min_faces
        if filters.max_faces is not None:
            mask &= self.faces <= filters.max_faces
        if filters.min_size is not None:
            mask &= self.size >= filters.min_size
        if filters.max_size is not None:
            mask &= self.size <= filters.max_size
        if filters.format:
            wanted = set(filters.format.split(","))
            mask &= np.fromiter((format in wanted for format in self.formats), bool, len(self))
        if filters.folder:
            below = filters.folder.rstrip("/") + "/"
            mask &= np.fromiter((name.startswith(below) for name in self.names), bool, len(self))
        for word in folded(filters.text).split():
            mask &= np.fromiter((word in name for name in self.folded), bool, len(self))
        return mask

    def _sorted(self, rows: NDArray[np.int64], sort: str) -> NDArray[np.int64]:
        by, down = sort.removeprefix("-"), sort.startswith("-")
        if by == "name":
            rows = rows[self.rank[rows].argsort()]
            return rows[::-1] if down else rows
        values = {"faces": self.faces, "size": self.size, "bytes": self.bytes, "changed": self.changed}[by][
            rows
        ]
        return rows[np.argsort(-values if down else values, kind="stable")]

    def line(self, row: int) -> dict[str, Any]:
        """What the page shows of a shape everywhere."""
        return {
            "id": self.ids[row],
            "name": self.names[row],
            "format": self.formats[row],
            "faces": int(self.faces[row]),
            "vertices": int(self.vertices[row]),
            "bytes": int(self.bytes[row]),
            "size": float(self.size[row]),
            "picture": self.pictures[row],
        }

    def facts(self, row: int) -> dict[str, Any]:
        """All facts of one shape, its path among them."""
        return self._facts.slice(row, 1).to_pylist()[0]


class Catalogue:
    """Follows a library on disk: `now()` is its newest snapshot, made beside the one still in use."""

    def __init__(self, path: Path | Address) -> None:
        self.path = path
        self.snapshot = Snapshot(open_library(path))
        self._seen = self._mark()
        self._looked = time.monotonic()
        self._lock = threading.Lock()
        self._gone: str | None = None

    def now(self) -> Snapshot:
        """The newest snapshot. Raises Problem 503 where the library is not there any more. May take its time."""
        if time.monotonic() - self._looked >= LOOK and self._lock.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._looked = time.monotonic()
                self._lock.release()
        if self._gone is not None:
            raise Problem(503, "library-gone", self._gone, {"Retry-After": "5"})
        return self.snapshot

    def _look(self) -> None:
        mark = self._mark()
        if mark == self._seen and self._gone is None:
            return
        try:
            library = open_library(self.path)
            # A version that only notes where a model is, or merges files, changes nothing that is shown,
            # but is opened all the same: the files of older ones go after an hour.
            self.snapshot = Snapshot(library)
            self._gone = None
            self._seen = mark
        except CrosshapeError as error:
            self._gone = f"The library cannot be read any more: {error}"

    def _mark(self) -> Any:
        """Something that changes whenever the library has another version."""
        try:
            if isinstance(self.path, Address):
                return self.snapshot.library.dataset.latest_version
            return Path(self.path, "_versions").stat().st_mtime_ns
        except (OSError, ValueError, RuntimeError):
            return None


class Kept:
    """Bytes by key, the least used thrown out first, so many bytes in all."""

    def __init__(self, most: int) -> None:
        self.most, self.size = most, 0
        self._lock = threading.Lock()
        self._items: OrderedDict[Any, bytes] = OrderedDict()

    def get(self, key: Any) -> bytes | None:
        """The bytes, if they are kept."""
        with self._lock:
            found = self._items.get(key)
            if found is not None:
                self._items.move_to_end(key)
            return found

    def put(self, key: Any, value: bytes) -> None:
        """Keep bytes, unless they would take more than a quarter of the room."""
        if len(value) > self.most // 4:
            return
        with self._lock:
            self.size += len(value) - len(self._items.pop(key, b""))
            self._items[key] = value
            while self.size > self.most:
                self.size -= len(self._items.popitem(last=False)[1])


def shape_id(name: str) -> str:
    """The id of a shape: 20 hexadecimal digits of its name's SHA-256; the same wherever the name is the same."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:20]


def folded(text: str) -> str:
    """Text without case and accents, so that mobel, M\u00f6bel and Mo\u0308bel are one."""
    apart = unicodedata.normalize("NFKD", text.casefold())
    return "".join(sign for sign in apart if not unicodedata.combining(sign))


def natural(text: str) -> list[tuple[str, int, str]]:
    """What a name is sorted by so that 2 comes before 10: text, then length and digits of the number after it."""
    parts = re.split(r"([0-9]+)", text)
    return [
        (words, len(number), number)
        for words, number in zip(parts[::2], [part.lstrip("0") for part in parts[1::2]] + [""], strict=True)
    ]
