"""A labelled set: the shapes of a known layout or of a library, with classes, a split, and arrays for the
networks.

What is read, sampled and rendered is kept in a cache folder, and so are features, so that a second evaluation
is fast. Everything is keyed by names, sizes and times of the files, settings and limits, and the model's fingerprint:
a change makes a new entry, never a wrong answer.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from crosshape import __version__
from crosshape.errors import CrosshapeError, UnreadableShape, UsageError
from crosshape.files import write_whole
from crosshape.settings import FEATURES, Limits, PrepareSettings
from crosshape.shapes.layouts import (
    OTHER_FORMS,
    SPLITS,
    Item,
    Layout,
    load_item,
    load_pictures,
    one_file_a_shape,
    open_layout,
    split_items,
)

if TYPE_CHECKING:
    from crosshape.library.library import Library

FORMAT = 2
"""Version of what the cache holds."""

HALF_MADE = ".preparing-"
"""How the names of folders begin that are being prepared."""

BLOCK = 32
"""Shapes that are encoded at a time; a shape's features do not depend on it."""


class Encoder(Protocol):
    """What a task asks of a model."""

    @property
    def fingerprint(self) -> str: ...
    def encode_points(self, points: np.ndarray, *, layer: str) -> np.ndarray: ...
    def encode_views(self, views: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class FeatureSet:
    """points (N, D) float32 and each_view (N, V, D) float32; None where there is no such thing.

    pooled (N, W) float32: the numbers before the point network's last layer, where they were asked for.
    """

    points: np.ndarray | None
    each_view: np.ndarray | None
    pooled: np.ndarray | None = None


@dataclass(frozen=True)
class LabelledSet:
    """Shapes in the order of `layout.items`, whose arrays are read when they are first asked for.

    fifth: which fifth of every class is held out where the data has no test split of its own, else None.
    skipped: (name, reason) of what could not be read; it is no longer among the items. key: hex digits that
    change with the data or the settings. folder: where features are kept, None for nowhere.
    splatted: how many shapes have views drawn from points, for lack of a surface.
    """

    layout: Layout
    fifth: int | None
    skipped: tuple[tuple[str, str], ...]
    key: str
    folder: Path | None
    splatted: int
    read: Callable[[], tuple[np.ndarray | None, np.ndarray]] = field(repr=False)
    library: Library | None = None
    whole: Layout | None = None
    """The layout with what was skipped, where something was: a shape's side of a drawn split does not depend on it."""

    def __len__(self) -> int:
        return len(self.layout.items)

    @cached_property
    def arrays(self) -> tuple[np.ndarray | None, np.ndarray]:
        """points (N, P, 3) float32, None for pictures, and views (N, V, S, S) uint8; may be memory maps."""
        return self.read()

    @cached_property
    def names(self) -> np.ndarray:
        """(N,) the names of the shapes, sorted."""
        return np.array([item.name for item in self.layout.items], dtype=str)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """(N,) the class of every shape, an index into `layout.classes`."""
        return self.layout.labels

    def split(self, seed: int) -> Layout:
        """The layout with its own test split, or with the one this seed draws."""
        if self.fifth is None:
            return self.layout
        drawn = split_items(self.whole or self.layout, self.fifth, seed)
        if self.whole is None:
            return drawn
        read = {item.name for item in self.layout.items}
        return replace(drawn, items=tuple(item for item in drawn.items if item.name in read))

    def test(self, seed: int) -> NDArray[np.bool_]:
        """(N,) true for the test shapes; all others (a validation split too) may be learned from."""
        return np.array([item.split == "test" for item in self.split(seed).items], bool)


def default_cache() -> Path:
    """Where prepared shapes and features are kept if nothing else is said: ~/.cache/crosshape/evaluate."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "crosshape" / "evaluate"


def open_data(
    path: str | os.PathLike[str],
    *,
    image_size: int,
    layout: str | None = None,
    fifth: int | None = None,
    cache: Path | None = None,
    workers: int | None = None,
    limits: Limits | None = None,
    progress: Callable[[str, int], Any] | None = None,
) -> LabelledSet:
    """The labelled set at a path, its views at image_size; prepared now, or taken from `cache`.

    Raises CrosshapeError where it fits no layout, has one class only or nothing to test on, UsageError for a
    layout or a fifth that cannot be meant.
    """
    from crosshape.library.library import is_library, open_library

    library = None
    if is_library(path):
        if layout is not None:
            raise UsageError(f"{path} is a library; leave --layout out")
        library = open_library(path)
        known = layout_of_library(library)
    else:
        known = open_layout(Path(path), layout)
    if fifth is not None or not known.has_test:
        split_items(known, fifth or 1)  # refuses here what it would refuse at every seed
        fifth = fifth or 1
    if len(known.classes) < 2:
        raise CrosshapeError(f"{path} has one class only ({known.classes[0]}); a task needs two or more.")
    if library is not None:
        key = _library_key(library, image_size)
        folder = cache / key if cache else None
        read = partial(_read_library, library, known, image_size, folder)
        splatted = library.facts()["faces"].to_pylist().count(0)
        return LabelledSet(known, fifth, (), key, folder, splatted, read, library)
    return _prepared(known, fifth, image_size, cache, workers, limits or Limits(), progress)


def layout_of_library(library: Library) -> Layout:
    """The shapes of a library as a layout: the class is the first folder of a name, the split its second,
    where it is train, val or test.

    Raises CrosshapeError where no name has a folder.
    """
    labels = library.labels()
    if labels is None:
        raise CrosshapeError(
            f"{library.path} has no labels: no name begins with a class folder. "
            "Add shapes in class folders: CLASS/NAME."
        )
    classes = tuple(sorted({label for label in labels if label}))
    items, bare = [], 0
    for name, label in zip(library.names, labels, strict=True):
        if not label:
            bare += 1
            continue
        second = name.split("/")[1].lower()
        split = second if second in SPLITS and name.count("/") > 1 else "train"
        items.append(Item(name, classes.index(label), split, Path()))  # its arrays are in the library
    kept, forms = one_file_a_shape(items)
    note = f"library: {len(kept):,} shapes in {len(classes)} classes"
    warnings = [f"{bare:,} shapes lie in no class folder and are left out"] if bare else []
    if forms:
        warnings.append(f"{len(forms):,} {OTHER_FORMS} (first: {forms[0]})")
    return Layout("library", "", library.path, classes, kept, note, tuple(warnings))


def _library_key(library: Library, image_size: int) -> str:
    facts = library.facts()
    both = [facts["name"].to_pylist(), facts["content_hash"].to_pylist(), repr(library.settings), image_size]
    return hashlib.sha256(repr(both).encode()).hexdigest()[:16]


def _read_library(
    library: Library, known: Layout, image_size: int, folder: Path | None
) -> tuple[np.ndarray, np.ndarray]:
    points, views = library.training_arrays(image_size, folder)
    if len(known.items) == len(library):
        return points, views
    place = {name: row for row, name in enumerate(library.names)}
    rows = [place[item.name] for item in known.items]
    return points[rows], views[rows]


def _prepared(
    layout: Layout,
    fifth: int | None,
    image_size: int,
    cache: Path | None,
    workers: int | None,
    limits: Limits,
    progress: Callable[[str, int], Any] | None,
) -> LabelledSet:
    """Read every item of a layout in guarded children, or take what an earlier evaluation kept."""
    settings = PrepareSettings()
    about = repr(
        (
            FORMAT,
            __version__,
            layout.fingerprint,
            settings,
            limits,
            image_size,
            [item.up for item in layout.items[:1]],
            _stamps(layout),
        )
    )
    key = hashlib.sha256(about.encode()).hexdigest()[:16]
    folder = cache / key if cache else None
    if folder is None or not (folder / "index.json").is_file():
        made = _prepare_all(layout, settings, image_size, cache, workers, limits, progress)
        if folder is None:
            loaded = _load(made)
            shutil.rmtree(made, ignore_errors=True)
            return _without_skipped(layout, loaded, fifth, key, None)
        try:
            made.rename(folder)
        except OSError:  # another evaluation was faster, or left a folder without its index
            if (folder / "index.json").is_file():
                shutil.rmtree(made, ignore_errors=True)
            else:
                shutil.rmtree(folder, ignore_errors=True)
                made.rename(folder)
    return _without_skipped(layout, _load(folder), fifth, key, folder)


def _stamps(layout: Layout) -> list[tuple[Any, ...]]:
    """Of every item its name, and name, size and time of change of the files it is read from."""

    @cache
    def stamp(file: Path) -> tuple[Any, ...]:
        try:
            status = file.stat()
        except OSError:
            return (file.name,)
        return file.name, status.st_size, status.st_mtime_ns

    return [
        (item.name, *(stamp(file) for file in (item.path, item.parts, *item.views) if file is not None))
        for item in layout.items
    ]


def _prepare_all(
    layout: Layout,
    settings: PrepareSettings,
    image_size: int,
    cache: Path | None,
    workers: int | None,
    limits: Limits,
    progress: Callable[[str, int], Any] | None,
) -> Path:
    """A new folder with points.npy and views.npy of all items that can be read, and index.json."""
    from crosshape.shapes.guard import Guard
    from crosshape.shapes.prepare import warm_up

    if cache:
        cache.mkdir(parents=True, exist_ok=True)
        sweep(cache)
    folder = Path(tempfile.mkdtemp(prefix=HALF_MADE, dir=cache))
    items = layout.items
    count = Counter(len(item.views) for item in items).most_common(1)[0][0] or settings.views
    views = np.lib.format.open_memmap(
        folder / "views.npy", "w+", np.uint8, (len(items), count, image_size, image_size)
    )
    points = None
    if not layout.has_pictures:
        points = np.lib.format.open_memmap(
            folder / "points.npy", "w+", np.float32, (len(items), settings.points, 3)
        )
    row = {item.name: number for number, item in enumerate(items)}
    skipped: dict[str, str] = {}
    splatted = 0
    bar = progress("Preparing", len(items)) if progress else None
    try:
        with Guard(workers, limits, warm_up) as guard:
            work = partial(prepare_item, settings=settings, image_size=image_size, count=count, limits=limits)
            for item, result in guard.map(work, items):
                if isinstance(result, UnreadableShape):
                    skipped[item.name] = result.reason
                else:
                    if points is not None:
                        points[row[item.name]] = result[0]
                    views[row[item.name]] = result[1]
                    splatted += result[2]
                if bar:
                    bar.advance()
        if bar:
            bar.close()
        for array in (points, views):
            if array is not None:
                array.flush()
        kept = [number for number, item in enumerate(items) if item.name not in skipped]
        if 0 < len(kept) < len(items):
            for file in folder.glob("*.npy"):
                _keep_rows(file, kept)
        index = {"format": FORMAT, "splatted": splatted, "skipped": dict(sorted(skipped.items()))}
        (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def sweep(cache: Path) -> None:
    """Remove what evaluations that were killed left half-made a day ago or longer."""
    for folder in cache.glob(f"{HALF_MADE}*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > 86_400:
                shutil.rmtree(folder, ignore_errors=True)


def _keep_rows(file: Path, rows: Sequence[int]) -> None:
    """Leave these rows of an array on disk, one after the other, so that none is ever copied to memory."""
    whole = np.load(file, mmap_mode="r", allow_pickle=False)
    made = np.lib.format.open_memmap(
        file.with_suffix(".kept"), "w+", whole.dtype, (len(rows), *whole.shape[1:])
    )
    for place, row in enumerate(rows):
        made[place] = whole[row]
    made.flush()
    file.with_suffix(".kept").replace(file)


def prepare_item(
    item: Item, settings: PrepareSettings, image_size: int, count: int, limits: Limits
) -> tuple[np.ndarray | None, np.ndarray, bool]:
    """points (P, 3) (None for pictures), views (V, S, S) of one item, as a library at image_size has them,
    and whether the views are splats.

    Raises UnreadableShape.
    """
    from crosshape.shapes.prepare import prepare_shape
    from crosshape.shapes.views import downscale

    if item.views:
        if len(item.views) != count:
            raise UnreadableShape(f"{len(item.views)} pictures where the others have {count}")
        return None, load_pictures(item, image_size), False
    shape = load_item(item, limits)
    prepared = prepare_shape(shape, settings)
    return prepared.points, downscale(prepared.views, image_size), shape.is_cloud


def _load(folder: Path) -> tuple[np.ndarray | None, np.ndarray, dict[str, Any]]:
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    points = None
    if (folder / "points.npy").is_file():
        points = np.load(folder / "points.npy", mmap_mode="r", allow_pickle=False)
    return points, np.load(folder / "views.npy", mmap_mode="r", allow_pickle=False), index


def _without_skipped(
    layout: Layout,
    loaded: tuple[np.ndarray | None, np.ndarray, dict[str, Any]],
    fifth: int | None,
    key: str,
    folder: Path | None,
) -> LabelledSet:
    points, views, index = loaded
    skipped = index["skipped"]
    keep = np.array([item.name not in skipped for item in layout.items], bool)
    if not keep.any():
        reason = next(iter(skipped.values()))
        raise CrosshapeError(f"{layout.path}: none of its {len(keep):,} shapes could be read ({reason}).")
    whole = None
    if not keep.all():
        whole = layout
        layout = replace(layout, items=tuple(i for i, k in zip(layout.items, keep, strict=True) if k))
    gone = tuple(skipped.items())
    return LabelledSet(
        layout, fifth, gone, key, folder, index["splatted"], lambda: (points, views), whole=whole
    )


def encode(
    data: LabelledSet,
    model: Encoder,
    *,
    what: Sequence[str] = ("points", "views"),
    layer: str = "features",
    progress: Callable[[str, int], Any] | None = None,
) -> FeatureSet:
    """The features of every shape by this model: the library's where it made them, kept ones, or new ones.

    what: points, views or both. layer: of the point network, "features", "pooled" (before its last layer, as
    points) or "all" (both).
    """
    library = data.library
    kept: FeatureSet | None = None
    if library is not None and set(library.models()) == {model.fingerprint}:
        found = library.features(model.fingerprint)
        place = {name: row for row, name in enumerate(found.names)}
        rows = [place[item.name] for item in data.layout.items]
        kept = FeatureSet(
            found.points[rows] if "points" in what else None,
            found.each_view[rows] if "views" in what else None,
        )
        if layer == "features" or "points" not in what:
            return kept

    def made(name: str, network: Callable[[np.ndarray], np.ndarray], index: int) -> np.ndarray | None:
        if not name.startswith(tuple(what)):
            return None
        file = data.folder / f"{name}-{model.fingerprint}.npy" if data.folder else None
        if file is not None and file.is_file():
            known = np.load(file, allow_pickle=False)
            if len(known) == len(data):
                return known
        array = data.arrays[index]
        if array is None:
            return None
        bar = progress(f"Encoding {name}", len(array)) if progress else None
        blocks = []
        for start in range(0, len(array), BLOCK):
            blocks.append(network(np.array(array[start : start + BLOCK])))
            if bar:
                bar.advance(len(blocks[-1]))
        if bar:
            bar.close()
        found = np.concatenate(blocks)
        if not np.isfinite(found).all():
            raise CrosshapeError(f"model {model.fingerprint} gives features that are not finite.")
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            out = io.BytesIO()
            np.save(out, found, allow_pickle=False)
            write_whole(file, out.getvalue())
        return found

    points = made(f"points-{layer}", lambda block: model.encode_points(block, layer=layer), 0)
    views = kept.each_view if kept is not None else made("views", model.encode_views, 1)
    if layer != "all" or points is None:
        return FeatureSet(points, views)
    return FeatureSet(points[:, :FEATURES], views, points[:, FEATURES:])
