"""From a folder of shapes to a library: guarded workers read what is new or changed, batches commit it."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crosshape.errors import CrosshapeError, UnreadableShape, UsageError, command
from crosshape.settings import Limits, PrepareSettings

if TYPE_CHECKING:
    from crosshape.console import Progress
    from crosshape.library.library import Library
    from crosshape.library.parts import Part
    from crosshape.shapes.files import Found

BATCH = 256
"""Shapes that are committed at once; a killed process loses at most these."""

FRESH = 0.05
"""Seconds a file must be old before it is read: a second write within one tick of the clock has its time."""


@dataclass(frozen=True)
class Skipped:
    """A file that is not in the library, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class AddReport:
    """What became of every file that was found: found = added + updated + unchanged + len(skipped).

    `moved` says which shapes, old name to new name, were found again as another file of the folder: unchanged.
    `unfollowed` are links to folders, or out of the folder, that were not followed; they are not counted, nor are the
    `excluded` files, which were left out by their names, nor the `unread` ones (suffix -> how many), whose formats are
    not read.
    """

    found: int = 0
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    skipped: tuple[Skipped, ...] = ()
    unfollowed: tuple[str, ...] = ()
    seconds: float = 0.0
    excluded: int = 0
    moved: dict[str, str] = field(default_factory=dict)
    unread: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = f"{self.added:,} added, {self.updated:,} updated, {self.unchanged:,} unchanged"
        return f"{self.found:,} found = {parts}, {len(self.skipped):,} skipped"


@dataclass(frozen=True)
class File:
    """A file as it was found: the name it gets, its path, size, time of change (ns), hash of its content."""

    name: str
    path: str
    bytes: int
    modified: int
    content_hash: str = ""


@dataclass
class Work:
    """What is to be done: files to read, paths and times to correct; and what became of the others.

    `known` holds what the library said of each name before; `moved` are old names and the files that they became.
    """

    known: dict[str, dict[str, Any]]
    read: list[File] = field(default_factory=list)
    touched: list[File] = field(default_factory=list)
    moved: list[tuple[str, File]] = field(default_factory=list)
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    skipped: list[Skipped] = field(default_factory=list)

    def keep(self, file: File) -> None:
        """Count a file whose content the library has; its path and time may have to be corrected."""
        self.unchanged += 1
        row = self.known.get(file.name)
        if row and (row["path"], row["modified"]) != (file.path, file.modified):
            self.touched.append(file)


def add(
    shapes: str | os.PathLike[str],
    library: str | os.PathLike[str],
    *,
    settings: PrepareSettings | None = None,
    limits: Limits | None = None,
    workers: int | None = None,
    prefix: str = "",
    rehash: bool = False,
    exclude: Sequence[str] = (),
    part: Part | str | None = None,
    progress: Callable[[str, int], Progress] | None = None,
) -> Library:
    """The library at a path, made or brought up to date with a folder of shapes or one file.

    `.report` of the answer says what became of every file, `.skipped` which were left out and why. Without
    `settings` a library keeps those it was made with. `exclude` are shell patterns, as in ("drafts", "*.tmp.stl"):
    files below the folder whose name, or that of a folder of theirs, matches one are not looked at, and what the
    library has of them stays. `part`, "3/8" or a Part, takes the third of eight parts of the files alone, so that
    several processes add one folder together. `progress(what, total)` makes a progress bar
    (`crosshape.console.Progress`). Raises CrosshapeError where no shape is found, where the path is taken by
    something else, and where the library was made with other settings.
    """
    from crosshape.library.library import create_library, writing
    from crosshape.library.parts import parse_part
    from crosshape.shapes.files import counted_suffixes, find_shapes

    start = time.monotonic()
    limits = limits or Limits()
    share = parse_part(part)
    prefix = _folder(prefix)
    unfollowed: list[Path] = []
    excluded: list[Found] = []
    unread: list[Found] = []
    found = find_shapes(shapes, unfollowed, exclude, excluded, unread)
    if not found:
        raise CrosshapeError(_nothing_found(Path(shapes), unfollowed, excluded, unread))
    if share:
        found, excluded, unread = (
            [one for one in some if prefix + one.name in share] for some in (found, excluded, unread)
        )
    open_one = create_library(library, settings or PrepareSettings())
    if settings is not None:
        words = [
            *(["--prefix", prefix] if prefix else []),
            *(w for one in exclude for w in ("--exclude", one)),
        ]
        _check_settings(open_one, settings, shapes, words)
    with writing(open_one.path):
        gone = open_one.missing(shapes) if Path(shapes).is_dir() else []
        work = _plan(found, gone, open_one, prefix, limits, rehash, workers, progress)
        moved = _move(work, open_one)
        _read_all(work, open_one, limits, workers, progress)
        _correct(work.touched, open_one)
        open_one.tidy()
    open_one.report = AddReport(
        found=len(found),
        added=work.added,
        updated=work.updated,
        unchanged=work.unchanged,
        skipped=tuple(sorted(work.skipped, key=lambda one: one.path)),
        unfollowed=tuple(map(str, unfollowed)),
        seconds=time.monotonic() - start,
        excluded=len(excluded),
        moved=moved,
        unread=counted_suffixes(unread),
    )
    return open_one


def _plan(
    found: list[Found],
    gone: list[str],
    library: Library,
    prefix: str,
    limits: Limits,
    rehash: bool,
    workers: int | None,
    progress: Callable[[str, int], Progress] | None,
) -> Work:
    """Sort what was found: there already, moved, to be read (in the order of content), impossible.

    gone: the shapes of the same folder whose files are not there any more.
    """
    from crosshape.shapes.files import encodable

    rows = library.facts().select(["name", "path", "bytes", "modified", "content_hash"]).to_pylist()
    known = {row["name"]: row for row in rows}
    names = {} if prefix else {row["path"]: row["name"] for row in rows}
    work = Work(known)
    behind = cache(os.path.realpath)
    doubtful: list[File] = []
    for one in found:
        try:
            status = os.stat(one.path)
        except OSError as error:
            work.skipped.append(Skipped(str(one.path), _reason(error)))
            continue
        name, path = prefix + one.name, str(one.path)
        taken = known.get(name)
        if taken is None or (taken["path"] != path and os.path.exists(taken["path"])):
            real = os.path.join(behind(os.path.dirname(path)), os.path.basename(path))
            # A file that came with another folder, or by way of a link now, keeps its name.
            name = names.get(path, names.get(real, name))
        file = File(name, path, status.st_size, status.st_mtime_ns)
        row = known.get(file.name)
        if not encodable(file.name) or not encodable(file.path):
            work.skipped.append(Skipped(printable_path(file.path), "its name is not valid UTF-8; rename it"))
        elif row and not rehash and _same_file(file, row):
            work.unchanged += 1
        elif not stat.S_ISREG(status.st_mode) or file.bytes > limits.max_bytes:
            work.read.append(file)
        else:
            doubtful.append(file)
    newest = max((file.modified for file in doubtful), default=0) / 1e9
    time.sleep(min(max(newest + FRESH - time.time(), 0.0), FRESH))
    for file, content_hash in _hashes(doubtful, workers, progress):
        if isinstance(content_hash, OSError):
            work.skipped.append(Skipped(file.path, _reason(content_hash)))
            continue
        file = dataclasses.replace(file, content_hash=content_hash)
        row = known.get(file.name)
        if row is None:
            work.read.append(file)
        elif row["content_hash"] == content_hash:
            work.keep(file)
        elif not os.path.exists(row["path"]) or os.path.samefile(row["path"], file.path):
            work.read.append(file)
        else:
            reason = f"the name '{file.name}' is taken by {row['path']}; add it with --prefix NAME/"
            work.skipped.append(Skipped(file.path, reason))
    work.read.sort(key=lambda file: (file.content_hash, file.name))
    if not rehash:
        _find_moved(work, gone)
    return work


def _find_moved(work: Work, gone: list[str]) -> None:
    """Files that hold what a shape held whose own file is gone: the shape was moved, rather to the same file name."""
    waiting: dict[str, list[str]] = {}
    for name in sorted(gone):
        waiting.setdefault(work.known[name]["content_hash"], []).append(name)
    read = []
    for file in work.read:
        old = waiting.get(file.content_hash) if file.name not in work.known else None
        if old:
            same = [name for name in old if os.path.basename(name) == os.path.basename(file.name)]
            work.moved.append(((same or old)[0], file))
            old.remove(work.moved[-1][0])
        else:
            read.append(file)
    work.read = read
    work.moved.sort(key=lambda pair: pair[0])


def _move(work: Work, library: Library) -> dict[str, str]:
    """Give the rows of moved files their new names; those that another process took meanwhile are read instead."""
    from crosshape.library.notes import rename_notes

    done: dict[str, str] = {}
    for start in range(0, len(work.moved), BATCH):
        some = work.moved[start : start + BATCH]
        # Notes first: of a process that is killed between, the next run renames the rows alone.
        rename_notes(library.path, {old: file.name for old, file in some})
        renamed = library.rename({old: (file.name, file.path, file.modified) for old, file in some})
        for old, file in some:
            if old in renamed:
                done[old] = file.name
                work.unchanged += 1
            else:
                work.read.append(file)
    return done


def _read_all(
    work: Work,
    library: Library,
    limits: Limits,
    workers: int | None,
    progress: Callable[[str, int], Progress] | None,
) -> None:
    """Read, sample and render what is to be read, commit it in batches; on Ctrl-C too what is ready."""
    from crosshape.shapes.guard import Guard
    from crosshape.shapes.prepare import warm_up

    if not work.read:
        return
    files = {file.path: file for file in work.read}
    known = library.content_hashes()
    batch: list[dict[str, Any]] = []

    def commit() -> None:
        nonlocal known
        rows, batch[:] = batch[:], []
        if library.dataset.latest_version != library.version:  # another process wrote
            library.refresh()
            known = library.content_hashes()
        new = [row for row in rows if known.get(row["name"]) != row["content_hash"]]
        if new:
            tags = library.tags() if any(row["name"] in known for row in new) else {}
            library._merge(_table([{**row, "tags": tags.get(row["name"])} for row in new], library))
        updated = sum(row["name"] in known for row in new)
        work.updated += updated
        work.added += len(new) - updated
        for row in rows:
            if known.get(row["name"]) == row["content_hash"]:
                work.keep(files[row["path"]])
        known.update((row["name"], row["content_hash"]) for row in new)

    bar = progress("adding", len(work.read)) if progress else None
    prepare = partial(prepare_row, settings=library.settings, limits=limits)
    try:
        with Guard(workers, limits, warm=warm_up) as guard:
            for path, row in guard.map(prepare, files):
                if isinstance(row, UnreadableShape):
                    work.skipped.append(Skipped(path, row.reason))
                else:
                    file = files[path]
                    batch.append({**row, "name": file.name, "path": path, "modified": file.modified})
                if len(batch) == BATCH:
                    commit()
                if bar:
                    bar.advance(note=f"{len(work.skipped):,} skipped" if work.skipped else "")
    finally:
        if bar:
            bar.close()
        if batch:
            commit()


def prepare_row(path: str, settings: PrepareSettings, limits: Limits) -> dict[str, Any]:
    """What a library keeps of a file, views as grey PNGs; runs in a worker. Raises UnreadableShape."""
    from crosshape.shapes.prepare import prepare_file

    prepared = prepare_file(path, settings, limits)
    return {
        **vars(prepared.facts),
        "points": prepared.points,
        "normals": prepared.normals.astype("float16"),
        "views": [encode_view(view) for view in prepared.views],
    }


def encode_view(view: Any) -> bytes:
    """A grey PNG of a view (S, S) uint8, without loss and without row filters.

    Pillow tries filters on every row; that takes 2.5 times as long to write and 1.4 times as long to read,
    and such views get no smaller by it.
    """
    import struct
    import zlib

    import numpy as np

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = view.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each row begins with its filter: 0, none
    rows[:, 1:] = view
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(rows.tobytes(), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _table(rows: list[dict[str, Any]], library: Library) -> Any:
    """Rows as an Arrow table with all columns of the library; features are null."""
    import numpy as np
    import pyarrow as pa

    rows = sorted(rows, key=lambda row: row["name"])
    columns = []
    for column in library.dataset.schema:
        if column.name in ("points", "normals"):
            values = np.stack([row[column.name].reshape(-1) for row in rows])
            columns.append(pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1]))
        elif column.name in rows[0]:
            columns.append(pa.array([_plain(row[column.name]) for row in rows], column.type))
        else:
            columns.append(pa.nulls(len(rows), column.type))
    return pa.table(columns, schema=library.dataset.schema)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _correct(touched: Iterable[File], library: Library) -> None:
    """Write the new path and time of files that hold what the library has of them."""
    import pyarrow as pa

    files = list(touched)
    if files:
        columns = {
            "path": pa.array([file.path for file in files], pa.string()),
            "modified": pa.array([file.modified for file in files], pa.int64()),
        }
        library.write_columns([file.name for file in files], columns)
        library.refresh()


def _same_file(file: File, row: dict[str, Any]) -> bool:
    return (file.path, file.bytes, file.modified) == (row["path"], row["bytes"], row["modified"])


def _hashes(
    files: list[File], workers: int | None, progress: Callable[[str, int], Progress] | None
) -> Iterator[tuple[File, str | OSError]]:
    """(file, SHA-256 of its content or why it cannot be read) for each, on threads."""

    def hashed(file: File) -> str | OSError:
        try:
            with open(file.path, "rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            return error

    bar = progress("comparing", len(files)) if progress else None
    pool = ThreadPoolExecutor(workers or os.cpu_count())
    try:
        for file, result in zip(files, pool.map(hashed, files), strict=True):
            yield file, result
            if bar:
                bar.advance()
    finally:
        pool.shutdown(cancel_futures=True)
        if bar:
            bar.close()


def _reason(error: OSError) -> str:
    return f"cannot be opened: {error.strerror or error}"


def printable_path(path: str) -> str:
    """A path with bytes that are no UTF-8 written as \\xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _folder(prefix: str) -> str:
    """A prefix of names as a folder: "" or "mine/". Raises UsageError for one that is no folder below."""
    parts = prefix.rstrip("/").split("/")
    if not prefix:
        return ""
    if not prefix.isprintable() or any(part in ("", ".", "..") for part in parts):
        raise UsageError(
            f"--prefix {prefix!r} must be a folder such as mine/, without '..' or a leading '/'."
        )
    return "/".join(parts) + "/"


def _check_settings(
    library: Library, wanted: PrepareSettings, shapes: str | os.PathLike[str], more: Sequence[str]
) -> None:
    """Raises CrosshapeError where a library was made with other settings; `more` words belong to the command again."""
    for name, value in dataclasses.asdict(wanted).items():
        kept = getattr(library.settings, name)
        if kept != value:
            usual = dataclasses.asdict(PrepareSettings())
            for one, number in dataclasses.asdict(wanted).items():
                if number != usual[one]:
                    more = [*more, f"--{one.replace('_', '-')}", str(number)]
            stem, dot, suffix = str(library.path).rpartition(".lance")
            new = f"{stem}-{value}{dot}{suffix}" if stem and not suffix else f"{library.path}-{value}"
            raise CrosshapeError(
                f"{library.path} was made with {name} = {kept}, not {value}. Leave out --{name.replace('_', '-')}, or "
                f"add the shapes to a new library: {command('add', shapes, new, *more)}"
            )


def _nothing_found(path: Path, unfollowed: list[Path], excluded: list[Found], unread: list[Found]) -> str:
    from crosshape.shapes.files import FORMATS, counted_suffixes, excluded_words, links_words, unread_words

    if excluded:
        return f"nothing of {path} is left to add: {excluded_words(len(excluded))}"
    known = ", ".join(sorted(FORMATS))
    if path.is_file():
        return f"{path} is not a shape file. Known are {known}."
    more = f" {unread_words(counted_suffixes(unread))}" if unread else ""
    more += f" {links_words(unfollowed)}" if unfollowed else ""
    return f"{path} holds no shape files, also not in the folders below it. Known are {known}.{more}"
