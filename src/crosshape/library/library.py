"""The library: one Lance dataset, a row a shape. Reading, features, removing; `adding.py` fills it.

Every change is one Lance commit, so a library is always at its old version or at its new one. Writers work side by
side and commit in turns; where turns cannot be taken (object storage, file systems without locks) a commit that would
undo another one is refused by Lance and tried again on the newer version. `name` is the primary key, so two writers
that bring the same name never make two rows of it.
"""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import hashlib
import io
import itertools
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa

from crosshape.errors import CrosshapeError, UsageError, command, nearest, nearest_name
from crosshape.files import parse_json
from crosshape.places import Address, located
from crosshape.settings import FEATURES, PrepareSettings
from crosshape.shipped import first_model, model_words

if TYPE_CHECKING:
    import lance

    from crosshape.library.adding import AddReport, Skipped
    from crosshape.search.query import Hit

T = TypeVar("T")

FORMAT = 1
"""Version of the columns. A library that says more was written by a newer crosshape."""

HEAVY = ("points", "normals", "views", "feature_points", "feature_views", "feature_each_view")
"""The columns that are arrays; all others are facts."""

LARGEST = {"points": 1 << 20, "views": 1000, "image_size": 4096, "supersample": 8}
"""Most of each that a library is made or opened with."""

BLOCK = 256
"""Rows that are read or written at once."""

SMALL, MANY = 4096, 16
"""Fragments of fewer rows than SMALL are merged as soon as there are MANY of them."""

KEEP = timedelta(hours=1)
"""How long the files of a version stay, for those who still read it, after the next one was made."""

_REFUSED_AFAR = {
    "NoSuchBucket": "there is no such bucket",
    "redentials": "no keys for it were found. Set those of the store, such as AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY (and AWS_ENDPOINT for a store of your own)",
    "storage account": "no keys for it were found. Set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    "token request": "no keys for it were found. Set GOOGLE_APPLICATION_CREDENTIALS",
    "InvalidAccessKeyId": "the store does not know these keys",
    "SignatureDoesNotMatch": "the store does not know these keys",
    "403": "the store refuses it: these keys may not do that",
    "error sending request": "the store cannot be reached. Is its address (AWS_ENDPOINT) right, and the network there",
}
"""What object stores say, and what that means."""

_OWN = {"data", "_versions", "_transactions", "_deletions", "_indices", ".writing", ".committing"}


def library_schema(settings: PrepareSettings) -> pa.Schema:
    """The columns of a library, its prepare settings in the metadata under `crosshape` (JSON)."""
    numbers = settings.points * 3
    feature = pa.list_(pa.float32(), FEATURES)
    columns = [
        pa.field("name", pa.string(), False, {"lance-schema:unenforced-primary-key": "true"}),
        pa.field("path", pa.string()),
        pa.field("content_hash", pa.string()),
        pa.field("format", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("faces", pa.int64()),
        pa.field("vertices", pa.int64()),
        pa.field("area", pa.float64()),
        pa.field("extents", pa.list_(pa.float64(), 3)),
        pa.field("centre", pa.list_(pa.float64(), 3)),
        pa.field("radius", pa.float64()),
        pa.field("notes", pa.list_(pa.string())),
        pa.field("modified", pa.int64()),
        pa.field("points", pa.list_(pa.float32(), numbers)),
        pa.field("normals", pa.list_(pa.float16(), numbers)),
        pa.field("views", pa.list_(pa.large_binary())),
        pa.field("feature_points", feature),
        pa.field("feature_views", feature),
        pa.field("feature_each_view", pa.list_(pa.float32(), settings.views * FEATURES)),
        pa.field("model", pa.string()),
    ]
    about = {"format": FORMAT, "prepare": dataclasses.asdict(settings)}
    return pa.schema(columns, metadata={"crosshape": json.dumps(about)})


def open_library(path: str | os.PathLike[str] | Address) -> Library:
    """The library at a path, or at an address in object storage (s3://BUCKET/NAME), at its newest version.

    Raises CrosshapeError where there is none, where it is something else, where a newer crosshape wrote it.
    """
    path = located(path)
    if isinstance(path, Address):
        if not is_library(path):
            raise CrosshapeError(f"there is no library {path}. Make one: {command('add', 'SHAPES', path)}")
        return Library(path, _newest(path))
    if (what := _something_else(path)) is not None:
        raise CrosshapeError(f"{path} is {what}, not a library. Are the words in the right order?")
    if not path.exists():
        raise CrosshapeError(f"there is no library {path}. Make one: {command('add', 'SHAPES', path)}")
    if not path.is_dir():
        raise CrosshapeError(f"{path} is a file, not a library (a folder that crosshape add makes).")
    if is_blank(path):
        raise CrosshapeError(
            f"{path} is an empty folder, not a library. Make one: {command('add', 'SHAPES', path)}"
        )
    if not is_library(path):
        folder = path if path.name not in ("", "..") else path.resolve()  # such as "." and "/"
        library = f"{folder}.lance" if folder.name else "LIBRARY"
        raise CrosshapeError(
            f"{path} is a folder, but not a library. Make one of the shapes in it: {command('add', path, library)}"
        )
    with lance_words(path, "open"):
        return Library(path, _newest(path))


def _something_else(path: Path) -> str | None:
    """What lies at a path, or has such a name, that is known and no library."""
    from crosshape.search.pictures import PICTURES
    from crosshape.shapes.files import FORMATS

    if (path / "model.safetensors").is_file() or (path / "run.toml").is_file():
        return "a run"
    if not path.exists() and (Path(__file__).parents[1] / "weights" / str(path) / "card.json").is_file():
        return "the name of a model"
    if path.suffix.lower() in (*FORMATS, *PICTURES) and not path.is_dir():
        return "a file" if path.exists() else "the name of a shape or a picture"
    return None


def is_library(path: str | os.PathLike[str] | Address) -> bool:
    """Whether something with versions lies at this path or address; opening it tells whether it is one of ours.

    Raises CrosshapeError for an address that cannot be asked.
    """
    path = located(path)
    if isinstance(path, Path):
        return any(Path(path, "_versions").glob("*.manifest"))
    with lance_words(path, "open"):
        try:
            _newest(path)
        except ValueError as error:
            if "was not found" in str(error):
                return False
            raise
    return True


def is_blank(path: Path) -> bool:
    """Whether a folder holds nothing, or only what a writer left that was killed before its first version."""
    return not is_library(path) and all(entry.name in _OWN for entry in path.iterdir())


def create_library(path: str | os.PathLike[str] | Address, settings: PrepareSettings) -> Library:
    """A new, empty library, or the one that is there already.

    Raises CrosshapeError where the path is taken by something else, UsageError for sizes beyond all reason.
    """
    path = located(path)
    if settings.up not in ("auto", "x", "y", "z"):
        raise UsageError(f"up = {settings.up!r}: it must be auto, x, y or z.")
    for name, size in dataclasses.asdict(settings).items():
        if name != "up" and not 1 <= size <= LARGEST[name]:
            raise UsageError(f"{name} = {size:,}: it must be between 1 and {LARGEST[name]:,}.")
    if is_library(path) or (
        isinstance(path, Path) and path.exists() and not (path.is_dir() and is_blank(path))
    ):
        return open_library(path)
    with lance_words(path, "write"):
        import lance

        if isinstance(path, Path):
            path.mkdir(parents=True, exist_ok=True)
        empty = library_schema(settings).empty_table()
        with contextlib.suppress(FileExistsError):
            try:
                lance.write_dataset(empty, _literal(path), mode="create")
            except (OSError, ValueError) as error:
                if not any(word in str(error) for word in ("already exists", "preempted", "onflict")):
                    raise
    return open_library(path)


@contextlib.contextmanager
def lance_words(path: Path | Address, doing: str) -> Iterator[None]:
    """What Lance or the operating system refused, as a CrosshapeError that says what to do.

    doing: "open", "read" or "write".
    """
    from crosshape.shapes.files import encodable

    if not encodable(str(path)):
        raise CrosshapeError(
            f"cannot {doing} {path}: this path is not valid UTF-8. Rename it or choose another."
        )
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        text = str(error)
        if isinstance(error, OSError) and error.errno is not None:
            text = os.strerror(error.errno)
        there = isinstance(path, Address) or path.exists()
        if doing == "read" and not there:
            raise CrosshapeError(f"{path} is gone: it was moved or removed. Put it back.") from error
        for sign, words in {
            **(_REFUSED_AFAR if isinstance(path, Address) else {}),
            "No space left": "the disk is full. Free some space and run the same command again; "
            "nothing was lost",
            "File too large": "a file would be larger than this account may write. Raise the limit "
            "(ulimit -f) and run the same command again; nothing was lost",
            "quota": "the disk quota is used up. Free some space and run the same command again; "
            "nothing was lost",
            "Permission denied": "permission denied. Check who may read and write there",
            "Read-only": "the file system is read-only. Choose a folder that can be written",
            "Not a directory": "a part of this path is a file, not a folder",
            "onflict": "other writers kept changing it. Run the same command again; nothing was lost",
            "was not found": "a part of it is missing, or was removed just now",
        }.items():
            if sign in text:
                raise CrosshapeError(f"cannot {doing} {path}: {words}.") from error
        first = text.splitlines()[0][:300].rstrip(".") + "." if text else f"{type(error).__name__}."
        if not there or isinstance(path, Address):
            raise CrosshapeError(f"cannot {doing} {path}: {first}") from error
        raise CrosshapeError(
            f"cannot {doing} {path}: {first} It may be damaged or not a library of this crosshape."
        ) from error


@contextlib.contextmanager
def writing(path: Path | Address, alone: bool = False) -> Iterator[None]:
    """Hold the library as one of its writers, or alone; the operating system lets go when the process dies.

    Only `remove --forget` wants to be alone: it deletes files that no version names, and a writer's
    files are such until it commits. Raises CrosshapeError where that cannot be.
    """
    if isinstance(path, Address):
        if alone:
            raise CrosshapeError(
                f"cannot forget in {path}: object storage has no locks, so that files cannot be deleted safely. "
                "Remove without --forget; the files of older versions go with the next change after an hour."
            )
        yield
        return
    try:
        import fcntl
    except ImportError:
        yield
        return
    with lance_words(path, "write"):
        handle = os.open(path / ".writing", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(handle, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            what = (
                "another process is writing to it"
                if alone
                else "another process is removing from it for good"
            )
            raise CrosshapeError(f"cannot write {path}: {what}. Run the same command again later.") from None
        except OSError:
            if alone:
                raise CrosshapeError(
                    f"cannot write {path}: its file system has no locks, so that files cannot be "
                    "forgotten safely. Copy the library to a local disk, or remove without --forget."
                ) from None
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def in_turn(path: Path | Address) -> Iterator[None]:
    """Wait until no other process is between reading the newest version and committing to it.

    Lance refuses a commit that meets another one, and whoever is refused writes everything again. Where a file system
    has no locks, and in object storage, that is what happens.
    """
    if isinstance(path, Address):
        yield
        return
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(path / ".committing", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@dataclass(frozen=True)
class Features:
    """Features of every shape of a library in the order of `names`: points, views (N, 512) float32.

    `views` is the largest of a shape's views in each number; `each_view` (N, V, 512) is read when asked for, from the
    version that the others are of. `known` (N,) bool: which shapes have features of this model, the others' rows mean
    nothing; None where all have.
    """

    names: list[str]
    points: np.ndarray
    views: np.ndarray
    model: str
    _library: Library = field(repr=False, compare=False)
    known: np.ndarray | None = None

    @cached_property
    def each_view(self) -> np.ndarray:
        """(N, V, 512) float32: the feature of every view."""
        views = self._library.settings.views
        return self._library.numbers("feature_each_view", None, (views, FEATURES), np.float32)


class Library:
    """An open library at one version; its order is everywhere that of `names`, sorted."""

    def __init__(self, path: Path | Address, dataset: lance.LanceDataset) -> None:
        self.path = path
        self.dataset = dataset
        self.settings = _stored_settings(path, dataset.schema)
        self.report: AddReport | None = None
        self._kept: tuple[int, dict[Any, Any]] = (self.version, {})

    def __repr__(self) -> str:
        return f"Library({str(self.path)!r}, version {self.version})"

    def __len__(self) -> int:
        return len(self._stored_names)

    @property
    def version(self) -> int:
        """The number of the version that is open; every commit makes the next."""
        return int(self.dataset.version)

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """The files that `add`, if it returned this library, left out, and why."""
        return self.report.skipped if self.report else ()

    def refresh(self) -> None:
        """Go to the newest version."""
        with lance_words(self.path, "open"):
            self.dataset = _newest(self.path)
        for name in ("_stored_names", "names", "_rank", "_place"):
            self.__dict__.pop(name, None)

    def kept(self, key: Any, make: Callable[[], T]) -> T:
        """What `make` gives, made once for the version that is open and dropped with it."""
        version, things = self._kept
        if version != self.version:
            self._kept = version, things = self.version, {}
        if key not in things:
            things[key] = make()
        return things[key]

    @cached_property
    def _stored_names(self) -> list[str]:
        with lance_words(self.path, "read"):
            return list(self.dataset.to_table(columns=["name"])["name"].to_pylist())

    @cached_property
    def names(self) -> list[str]:
        """The names of the shapes, sorted; the order of every array of this library."""
        return sorted(self._stored_names)

    @cached_property
    def _rank(self) -> np.ndarray:
        """(N,) int64: where the row that is stored at each place stands in `names`."""
        order = sorted(range(len(self)), key=self._stored_names.__getitem__)
        rank = np.empty(len(self), np.int64)
        rank[order] = np.arange(len(self))
        return rank

    @cached_property
    def _place(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self._stored_names)}

    def _places(self, names: Sequence[str]) -> list[int]:
        """Where named shapes are stored; an unknown name is an error that offers the nearest one."""
        _check_list(names)
        places = []
        for name in names:
            if name not in self._place:
                near = nearest_name(name, self.names)
                if any(known.startswith(f"{name}/") for known in self.names):
                    near = f"{name}/"
                elif name.endswith("/") or not near:
                    folders = nearest(name.rstrip("/"), self.folders(), 1)
                    near = f"{folders[0]}/" if folders else near
                hint = f"; did you mean '{near}'?" if near else "."
                if near and near.endswith("/"):
                    hint += " That is the folder, with all shapes below it."
                raise CrosshapeError(f"there is no shape '{name}' in {self.path}{hint}")
            places.append(self._place[name])
        return places

    def blocks(self, columns: list[str], names: Sequence[str] | None) -> Iterator[tuple[np.ndarray, Any]]:
        """Yield (rows of the answer, record batch) until every wanted shape was read once."""
        with lance_words(self.path, "read"):
            if names is None:
                done = 0
                for batch in self.dataset.scanner(columns=columns, batch_size=BLOCK).to_batches():
                    yield self._rank[done : done + batch.num_rows], batch
                    done += batch.num_rows
                return
            places = self._places(names)
            for start in range(0, len(places), BLOCK):
                table = self.dataset.take(places[start : start + BLOCK], columns=columns)
                yield np.arange(start, start + table.num_rows), table.combine_chunks().to_batches()[0]

    def numbers(
        self,
        column: str,
        names: Sequence[str] | None,
        shape: tuple[int, ...],
        dtype: Any,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """(N, *shape): a column of fixed-size lists, in the order of the names; zeros where a shape has none."""
        if out is None:
            out = np.zeros((len(self) if names is None else len(names), *shape), dtype)
        for rows, batch in self.blocks([column], names):
            there, values = filled(rows, batch.column(0))
            out[there] = values.reshape(len(there), *shape)
        return out

    def facts(self) -> pa.Table:
        """The light columns of all shapes as an Arrow table, sorted by name."""
        with lance_words(self.path, "read"):
            return self.dataset.to_table(
                columns=[c for c in self.dataset.schema.names if c not in HEAVY]
            ).sort_by("name")

    def content_hashes(self) -> dict[str, str]:
        """The hash of the file's content by the name of the shape."""
        with lance_words(self.path, "read"):
            table = self.dataset.to_table(columns=["name", "content_hash"])
        return dict(zip(table["name"].to_pylist(), table["content_hash"].to_pylist(), strict=True))

    def missing(self, folder: str | os.PathLike[str] | None = None) -> list[str]:
        """The names of the shapes whose files are not there (any more); with `folder` of those that came from it."""
        below = "" if folder is None else os.path.join(os.path.abspath(folder), "")
        rows = self.facts().select(["name", "path"]).to_pylist()
        return [row["name"] for row in rows if row["path"].startswith(below) and _is_gone(row["path"])]

    def folders(self) -> list[str]:
        """Every folder of a name, sorted: a/b and a of a/b/c.obj."""
        found: set[str] = set()
        for folder in {name.rpartition("/")[0] for name in self.names}:
            while folder and folder not in found:
                found.add(folder)
                folder = folder.rpartition("/")[0]
        return sorted(found)

    def labels(self) -> list[str] | None:
        """The first folder of each name, "" where it has none; None where no name has one."""
        labels = [name.split("/", 1)[0] if "/" in name else "" for name in self.names]
        return labels if any(labels) else None

    def points(self, names: Sequence[str] | None = None) -> np.ndarray:
        """(N, P, 3) float32: points on the surfaces, in the unit sphere; of all or of the named shapes."""
        return self.numbers("points", names, (self.settings.points, 3), np.float32)

    def normals(self, names: Sequence[str] | None = None) -> np.ndarray:
        """(N, P, 3) float32: the unit normals at `points` (stored as float16)."""
        return self.numbers("normals", names, (self.settings.points, 3), np.float32)

    def views(self, names: Sequence[str] | None = None, size: int | None = None) -> np.ndarray:
        """(N, V, S, S) uint8: grey views, averaged down to `size` by area where it is given."""
        size = self._view_size(size)
        count = len(self) if names is None else len(names)
        out = np.empty((count, self.settings.views, size, size), np.uint8)
        self._decode(out, names)
        return out

    def view_png(self, name: str, index: int) -> bytes:
        """One view of one shape as it is stored: a grey PNG."""
        if not 0 <= index < self.settings.views:
            raise UsageError(f"view {index} of {name}: views are numbered 0 to {self.settings.views - 1}.")
        (_, batch), *_ = self.blocks(["views"], [name])
        return bytes(batch.column(0)[0][index].as_py())

    def _view_size(self, size: int | None) -> int:
        if size is None:
            return self.settings.image_size
        if not 1 <= size <= self.settings.image_size:
            raise UsageError(
                f"{self.path} has views of {self.settings.image_size} pixels; {size} cannot be made of them. "
                "Take a model or a setting of smaller views, or add the shapes to a new library with "
                f"--image-size {size}."
            )
        return size

    def _decode(self, out: np.ndarray, names: Sequence[str] | None) -> None:
        """Fill out (N, V, S, S) with views decoded on threads (Pillow lets go of the interpreter)."""

        from crosshape.shapes.views import downscale

        def fill(row: int, pictures: list[bytes]) -> None:
            out[row] = downscale(np.stack([decode_view(png) for png in pictures]), out.shape[-1])

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for rows, batch in self.blocks(["views"], names):
                list(pool.map(fill, rows, batch.column(0).to_pylist()))

    def training_arrays(
        self, image_size: int, cache: str | os.PathLike[str] | None = None, memory_limit: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(points (N, P, 3) float32, views (N, V, S, S) uint8) of all shapes, in memory where they fit.

        Where they take more than `memory_limit` bytes (half of the free memory if None) they are read-only
        memory maps of files under `cache`, made once for what this library holds now. Raises CrosshapeError
        where they do not fit and there is no cache.
        """
        size = self._view_size(image_size)
        points_shape = (len(self), self.settings.points, 3)
        views_shape = (len(self), self.settings.views, size, size)
        need = 4 * int(np.prod(points_shape)) + int(np.prod(views_shape))
        limit = available_memory() // 2 if memory_limit is None else memory_limit
        if need <= limit:
            return self.points(), self.views(size=size)
        if cache is None:
            raise CrosshapeError(
                f"points and views of {self.path} at {size} pixels take {need / 1e9:.1f} GB, and "
                f"{limit / 1e9:.1f} GB may be used. Choose a smaller image size, or a cache folder on a disk."
            )
        folder = Path(cache)
        folder.mkdir(parents=True, exist_ok=True)
        key = self.content_key()
        points = _mapped(
            folder / f"points-{key}.npy",
            points_shape,
            np.float32,
            lambda out: self.numbers("points", None, points_shape[1:], np.float32, out),
        )
        views = _mapped(
            folder / f"views-{size}-{key}.npy", views_shape, np.uint8, lambda out: self._decode(out, None)
        )
        return points, views

    def content_key(self) -> str:
        """Twelve hex digits of names, contents and prepare settings; features do not count."""
        rows = self.facts().select(["name", "content_hash"]).to_pylist()
        text = json.dumps([dataclasses.asdict(self.settings), rows], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def models(self) -> Counter[str | None]:
        """How many shapes have features of which model; None counts those without."""

        def counted() -> Counter[str | None]:
            with lance_words(self.path, "read"):
                return Counter(self.dataset.to_table(columns=["model"])["model"].to_pylist())

        return Counter(self.kept("models", counted))

    def leading_model(self, run: str | os.PathLike[str] = "RUN") -> tuple[str, int]:
        """The model that most shapes have features of (of equals the first by name), and how many shapes have.

        Raises CrosshapeError where there are no shapes, or none has any; `run` is named in its text.
        """
        if not len(self):
            raise CrosshapeError(
                f"{self.path} holds no shapes. Add some: {command('add', 'SHAPES', self.path)}"
            )
        counts = [(-count, model) for model, count in self.models().items() if model is not None]
        if not counts:
            first = first_model(self.settings.image_size) if run == "RUN" else None
            own = f", or with a run of your own in place of {first}" if first else ""
            raise CrosshapeError(
                f"{self.path} has no features yet. Make them: {command('embed', first or run, self.path)}{own}"
            )
        count, model = min(counts)
        return model, -count

    def model_source(self, model_id: str) -> str | None:
        """Where `embed` had the model with this fingerprint: a run folder, or the name of a shipped model."""
        with lance_words(self.path, "read"):
            return dict(self.dataset.config()).get(f"crosshape.model.{model_id}")

    def remember_model(self, model_id: str, source: str | None) -> None:
        """Note where a model is, so that files can be compared with what it embedded."""
        if source is None or self.model_source(model_id) == source:
            return
        with writing(self.path):
            self._change(lambda newest: newest.update_config({f"crosshape.model.{model_id}": source}))
        self.refresh()

    def search(self, query: str | os.PathLike[str], *, top: int = 10, **choices: Any) -> list[Hit]:
        """The `top` shapes most like a shape file or a named shape; see `crosshape.search.query.search`."""
        from crosshape.search.query import search

        return search(self, query, top=top, **choices)

    def tags(self) -> dict[str, list[str]]:
        """Name -> tags of the shapes that have some in the library."""
        if "tags" not in self.dataset.schema.names:
            return {}
        with lance_words(self.path, "read"):
            table = self.dataset.to_table(columns=["name", "tags"])
        pairs = zip(table["name"].to_pylist(), table["tags"].to_pylist(), strict=True)
        return {name: tags for name, tags in pairs if tags}

    def model_of(self, name: str) -> str | None:
        """The fingerprint of the model that a shape's features are of, or None. Raises CrosshapeError."""
        with lance_words(self.path, "read"):
            return self.dataset.take(self._places([name]), columns=["model"])["model"][0].as_py()

    def without_features(self, model_id: str, places: range | None = None) -> list[str]:
        """The names of shapes that have no features of this model, in the order they are stored; of some places."""
        with lance_words(self.path, "read"):
            table = self.dataset.to_table(columns=["name", "model"])
        if places is not None:
            table = table.slice(places.start, len(places))
        pairs = zip(table["name"].to_pylist(), table["model"].to_pylist(), strict=True)
        return [name for name, model in pairs if model != model_id]

    def features(
        self, model_id: str | None = None, run: str | os.PathLike[str] = "RUN", *, partly: bool = False
    ) -> Features:
        """The features of all shapes, made by the model with this fingerprint (by the one of most shapes if None).

        Raises CrosshapeError where some are absent or were made by another model, unless `partly`; `run` is named in
        its text.
        """
        again = command("embed", run, self.path)
        leading, _ = self.leading_model(run)
        models = self.models()
        missing = models.pop(None, 0)
        wanted = model_id or leading
        others = sorted(model for model in models if model and model != wanted)
        if others and wanted not in models:
            raise CrosshapeError(
                f"{self.path} was embedded by model {', '.join(map(model_words, others))}, this run is "
                f"{model_words(wanted)}. "
                f"Embed again: {again}"
            )
        if (others or missing) and not partly:
            parts = [f"{models[wanted]:,} of {len(self):,} shapes by model {model_words(wanted)}"]
            parts += [f"{models[model]:,} by {model_words(model)}" for model in others]
            parts += [f"{missing:,} not yet"] if missing else []
            raise CrosshapeError(
                f"{self.path} was embedded only in part: {', '.join(parts)}. Finish it: {again}"
            )
        points = self.numbers("feature_points", None, (FEATURES,), np.float32)
        views = self.numbers("feature_views", None, (FEATURES,), np.float32)
        known = None
        if others or missing:
            known = np.zeros(len(self), bool)
            for rows, batch in self.blocks(["model"], None):
                known[rows] = np.array([one == wanted for one in batch.column(0).to_pylist()], bool)
        with lance_words(self.path, "read"):  # another library object: this one goes to newer versions
            here = Library(self.path, self.dataset.checkout_version(self.version))
        return Features(self.names, points, views, wanted, here, known)

    def write_features(
        self, model_id: str, names: Sequence[str], points: np.ndarray, views: np.ndarray
    ) -> int:
        """Write features points (N, 512), views (N, V, 512) of the named shapes in one commit; how many were.

        Only these columns are written. A shape that was changed or removed since this library was opened is
        left as it is: its features would be those of the old content.
        """
        points = np.ascontiguousarray(points, np.float32)
        views = np.ascontiguousarray(views, np.float32)
        expected = ((len(names), FEATURES), (len(names), self.settings.views, FEATURES))
        if (points.shape, views.shape) != expected:
            raise UsageError(f"features of shape {points.shape} and {views.shape}; {expected} were expected.")
        if not (np.isfinite(points).all() and np.isfinite(views).all()):
            raise CrosshapeError(f"model {model_id} gives features that are not finite; nothing was written.")
        columns = {
            "feature_points": _fixed(points),
            "feature_views": _fixed(views.max(axis=1)),
            "feature_each_view": _fixed(views),
            "model": pa.array([model_id] * len(names), pa.string()),
        }
        with writing(self.path):
            written = self.write_columns(names, columns)
            self.refresh()
            self.tidy()
        return written

    def write_columns(self, names: Sequence[str], columns: dict[str, pa.Array]) -> int:
        """Replace some columns of the named rows in one commit; the files of all other columns stay.

        Rows whose content is no longer what this library was opened with are left out. Returns how many were
        written.
        """
        import lance

        hashes = self.content_hashes()
        table = pa.table({"name": pa.array(list(names), pa.string()), **columns})

        def replace(newest: lance.LanceDataset) -> int:
            now = Library(self.path, newest).content_hashes()
            keep = [name in now and now[name] == hashes.get(name) for name in names]
            part = table.filter(pa.array(keep, pa.bool_()))
            wanted = set(part["name"].to_pylist())
            fragments, fields, written = [], set(), set()
            for fragment in newest.get_fragments():
                held = fragment.to_table(columns=["name"])["name"].to_pylist()
                if not wanted.isdisjoint(held):
                    changed, touched = fragment.update_columns(part, left_on="name", right_on="name")
                    fragments.append(changed)
                    fields |= set(touched)
                    before = {file.path for file in fragment.metadata.files}
                    written |= {file.path for file in changed.files} - before
            if not fragments:
                return 0
            change = lance.LanceOperation.Update(
                updated_fragments=fragments,
                fields_modified=sorted(fields),
                update_mode="rewrite_columns",
            )
            try:
                lance.LanceDataset.commit(_literal(self.path), change, read_version=newest.version)
            except (OSError, ValueError, RuntimeError):
                if isinstance(self.path, Path):
                    for file in written:  # no version will ever name them
                        (self.path / "data" / file).unlink(missing_ok=True)
                raise
            return part.num_rows

        return self._change(replace)

    def rename(self, files: Mapping[str, tuple[str, str, int]]) -> list[str]:
        """Give rows, by name, another name, path and time of change; all that was made of them goes along.

        First the rows come under their new names, then the old ones go: a process that is killed between loses
        nothing. Returns the old names of those that were there.
        """
        old = [name for name in files if name in self._place]
        if not old:
            return []
        with lance_words(self.path, "read"):
            table = self.dataset.take(self._places(old))
        for place, column in enumerate(("name", "path", "modified")):
            values = pa.array([files[name][place] for name in old], table.schema.field(column).type)
            table = table.set_column(table.schema.get_field_index(column), table.schema.field(column), values)
        with writing(self.path):
            self._merge(table)
            self._change(lambda newest: newest.delete(_named(old)))
            self.refresh()
        return old

    def _merge(self, table: pa.Table) -> None:
        """Add the rows of a table, replacing those of the same name, in one commit; go to that version."""

        def merge(newest: lance.LanceDataset) -> None:
            rows = newest.merge_insert("name")
            rows.when_matched_update_all().when_not_matched_insert_all().execute(table)

        self._change(merge)
        self.refresh()

    def _change(self, change: Callable[[lance.LanceDataset], T]) -> T:
        """What a change says that it made to the newest version, in its turn; where another writer came first it is
        made again on what is there then, 20 times at most.
        """
        attempt = 0
        with lance_words(self.path, "write"):
            while True:
                try:
                    with in_turn(self.path):
                        return change(_newest(self.path))
                except (OSError, ValueError, RuntimeError) as error:
                    attempt += 1
                    if "onflict" not in str(error) or attempt == 20:
                        raise
                time.sleep(0.05 * (attempt - 1))

    def named(self, names: Sequence[str]) -> list[str]:
        """The names meant, sorted: one that ends in "/" is every shape below it. Raises CrosshapeError for one that
        is not there.
        """
        _check_list(names)
        found: set[str] = set()
        for name in names:
            below: list[str] = []
            if name.endswith("/"):  # whose next character is 0
                ends = (bisect.bisect_left(self.names, end) for end in (name, name[:-1] + "0"))
                below = self.names[slice(*ends)]
            if not below:
                self._places([name])
            found |= set(below or [name])
        return sorted(found)

    def remove(self, names: Sequence[str], forget: bool = False) -> list[str]:
        """Take shapes out, with all that was made of them, in one commit; returns their names.

        A name that ends in "/" means every shape below it. With `forget` nothing of them stays on disk: what
        remains is written anew without them and the older versions are deleted, also for shapes that were
        removed before; no other process may write meanwhile. Raises CrosshapeError for a name that is not
        there, before anything is removed.
        """
        gone = self.named(names)
        with writing(self.path, alone=forget):
            with lance_words(self.path, "write"):
                if gone:
                    self.dataset = _newest(self.path)
                    self.dataset.delete(_named(gone))
                if forget and isinstance(self.path, Path):
                    self.dataset.optimize.compact_files(
                        target_rows_per_fragment=SMALL, materialize_deletions_threshold=0.0
                    )
                    self.dataset = _newest(self.path)
                    self.dataset.cleanup_old_versions(older_than=timedelta(0), delete_unverified=True)
                    for file in self.path.rglob("*"):  # Lance leaves what a killed writer was about to rename
                        if file.name.startswith(".tmp") or ".manifest#" in file.name:
                            file.unlink()
            self.refresh()
            if not forget:
                self.tidy()
        return gone

    def tidy(self) -> None:
        """Merge small fragments when there are many, drop versions that were replaced an hour ago; never an error."""
        fragments = self.dataset.get_fragments()
        small = sum(fragment.count_rows() < SMALL for fragment in fragments)
        holes = sum(fragment.num_deletions for fragment in fragments)
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            if small >= MANY or holes > max(BLOCK, len(self) // 4):
                with in_turn(self.path):
                    self.refresh()
                    self.dataset.optimize.compact_files(target_rows_per_fragment=SMALL)
                self.refresh()
            # Lance counts from when a version was made; a reader may have opened an old one just now.
            versions: list[Any] = sorted(self.dataset.versions(), key=lambda one: one["version"])
            now = datetime.now()
            replaced = [
                old["timestamp"]
                for old, new in itertools.pairwise(versions)
                if new["timestamp"] <= now - KEEP
            ]
            if replaced:
                self.dataset.cleanup_old_versions(older_than=now - max(replaced))


def _named(names: Sequence[str]) -> str:
    """The condition that holds for rows of these names."""
    quoted = ", ".join("'" + name.replace("'", "''") + "'" for name in names)
    return f"name IN ({quoted})"


def decode_view(png: bytes) -> np.ndarray:
    """(S, S) uint8: a stored view."""
    from PIL import Image

    with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
        return np.asarray(picture, np.uint8)


def available_memory(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that can be taken without swapping, the container's limit included; 4 GB where nobody says.

    groups: the folder of control groups, version 2, or 1 with the files of memory in a folder of their own. What they
    count as used includes the cache of files, which makes room when asked (`inactive_file`).
    """
    free = 4 << 30
    with contextlib.suppress(OSError, ValueError):
        free = _counted(Path("/proc/meminfo"), "MemAvailable:") << 10
    for most, used, cached in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        with contextlib.suppress(OSError, ValueError):
            left = int((groups / most).read_text()) - int((groups / used).read_text())
            with contextlib.suppress(OSError, ValueError):
                left += _counted((groups / most).with_name("memory.stat"), cached)
            free = min(free, left)
    return max(free, 0)


def _counted(file: Path, what: str) -> int:
    """The number after a word in a file of lines of words and numbers. Raises OSError, ValueError."""
    for line in file.read_text().splitlines():
        word, _, number = line.partition(" ")
        if word == what:
            return int(number.removesuffix("kB"))
    raise ValueError(what)


def _is_gone(path: str) -> bool:
    """Whether nothing lies at a path; what may not be looked at is not gone."""
    try:
        os.stat(path)
    except OSError as error:
        return isinstance(error, FileNotFoundError | NotADirectoryError)
    return False


def _newest(path: Path | Address) -> Any:
    import lance

    return lance.dataset(_literal(path))


def _stored_settings(path: Path | Address, schema: pa.Schema) -> PrepareSettings:
    """The prepare settings in the metadata of a schema; raises CrosshapeError where they are none of ours."""
    text = (schema.metadata or {}).get(b"crosshape")
    if not schema.names:
        raise CrosshapeError(f"{path} is damaged: its newest version holds nothing. Make it again.")
    if text is None:
        raise CrosshapeError(
            f"{path} is a Lance dataset, but not a library: crosshape did not make it. Choose another path."
        )
    try:
        about = parse_json(text)
        made_by = int(about["format"])
        if made_by > FORMAT:
            raise CrosshapeError(
                f"{path} was written by a newer crosshape (format {made_by}, this one reads {FORMAT}). "
                "Update crosshape."
            )
        settings = PrepareSettings(**about["prepare"])
        sizes = {name: getattr(settings, name) for name in LARGEST}
        if not all(isinstance(size, int) and 0 < size <= LARGEST[name] for name, size in sizes.items()):
            raise ValueError(f"sizes {sizes}")
        expected = library_schema(settings)
        wrong = [
            f.name for f in expected if f.name not in schema.names or schema.field(f.name).type != f.type
        ]
        if wrong:
            raise ValueError(f"column {wrong[0]} is missing or of another type")
    except (ValueError, TypeError, KeyError) as error:
        raise CrosshapeError(f"{path} is damaged or not a library of this crosshape: {error}") from error
    return settings


def _check_list(names: Sequence[str]) -> None:
    if isinstance(names, str):
        raise UsageError(f"names is the text '{names}'; give a list: ['{names}']")


def _literal(path: Path | Address) -> str:
    """A path from the root, for Lance, to which "~/" and "c:" at the beginning of one mean something else."""
    return os.path.abspath(path) if isinstance(path, Path) else str(path)


def filled(rows: np.ndarray, column: Any) -> tuple[np.ndarray, np.ndarray]:
    """Those of rows (B,) that have a list in a column of fixed-size lists, and the numbers of these lists."""
    if column.null_count:
        rows = rows[column.is_valid().to_numpy(zero_copy_only=False)]
    return rows, column.flatten().to_numpy(zero_copy_only=False)


def _fixed(values: np.ndarray) -> pa.FixedSizeListArray:
    """An array (N, ...) as N fixed-size lists."""
    width = int(np.prod(values.shape[1:]))
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), width)


def _mapped(path: Path, shape: tuple[int, ...], dtype: Any, fill: Callable[[np.ndarray], Any]) -> np.ndarray:
    """A read-only memory map of a .npy file; where it is not there, filled under another name and renamed."""
    if not path.exists():
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            out = np.lib.format.open_memmap(temporary, "w+", dtype=dtype, shape=shape)
            fill(out)
            out.flush()
            del out
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    return np.load(path, mmap_mode="r", allow_pickle=False)
