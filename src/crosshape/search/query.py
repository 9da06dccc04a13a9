"""Which shapes of a library are like this one? By files, pictures, names; over points, views, or both.

Vectors are compared by cosine. A named shape is not among its own hits. Equal scores are ordered by name. Up to
EXACT shapes every one is compared; above, Lance's vector index finds candidates (index.py).

A picture is one view, so it is compared with every view of a shape, and the best one counts.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import normalize

import numpy as np

from crosshape.errors import CrosshapeError, UnreadableShape, UsageError, command, nearest, nearest_name
from crosshape.places import Address
from crosshape.settings import FEATURES
from crosshape.shipped import model_words
from crosshape.tasks.retrieval import unit

if TYPE_CHECKING:
    from crosshape.library.library import Library
    from crosshape.networks.model import Model
    from crosshape.settings import Limits
    from crosshape.shapes.prepare import Prepared

OVER = ("points", "views", "both")

DIGITS = 6
"""Scores are rounded to so many decimals before they are ordered: a matrix product is no more exact."""

EXACT = 100_000
"""Shapes up to which every one is compared: above, the vectors fill the memory and loading them takes longer than
a person waits."""

ASKED = 128
"""Shapes of the library that are asked themselves, to learn what scores are usual here."""

LARGEST = 1e15
"""Bounds of facts are below it."""

FEW = 12
"""Folders, formats or tags that are all named where one is asked for that is not there."""

UNLIKE = 0.01
"""A query is like nothing here if its best score is below that of all but this share of the asked."""

Query = str | os.PathLike[str]


@dataclass(frozen=True)
class Hit:
    """A shape that was found: rank from 1, score (1 is the same, 0 has nothing in common), name, path."""

    rank: int
    score: float
    name: str
    path: str


@dataclass(frozen=True)
class Where:
    """Facts that every hit must have; None asks for nothing. Sizes are largest extents, in the files' units.

    tagged, untagged: names that have the tag, and that do not have it, whatever the library says of them.
    """

    min_size: float | None = None
    max_size: float | None = None
    min_faces: int | None = None
    max_faces: int | None = None
    formats: tuple[str, ...] = ()
    folder: str | None = None
    tag: str | None = None
    tagged: tuple[str, ...] | None = None
    untagged: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises UsageError for bounds that no shape can keep."""
        for what, low, high in (
            ("size", self.min_size, self.max_size),
            ("faces", self.min_faces, self.max_faces),
        ):
            for bound in (low, high):
                if bound is not None and not 0 <= bound < LARGEST:
                    raise UsageError(f"a bound of {what} is {bound}; it must be 0 to {LARGEST:g}.")
            if low is not None and high is not None and low > high:
                raise UsageError(f"{what} of at least {low} and at most {high}: no number is both.")

    def words(self) -> str:
        """The same for people: what is asked for, one after the other."""
        parts = []
        for what, low, high in (
            ("size", self.min_size, self.max_size),
            ("faces", self.min_faces, self.max_faces),
        ):
            parts += [f"{what} at least {low:,}"] if low is not None else []
            parts += [f"{what} at most {high:,}"] if high is not None else []
        parts += [f"format {' or '.join(self.formats)}"] if self.formats else []
        parts += [f"in folder '{self.folder}'"] if self.folder else []
        parts += [f"tag '{self.tag}'"] if self.tag is not None else []
        parts += ["tagged by name"] if self.tag is None and self.tagged is not None else []
        return ", ".join(parts)

    def sql(self) -> str | None:
        """The same as a condition of SQL on the library's columns; None where nothing is asked for."""
        parts = []
        for column, low, high in (
            ("array_max(extents)", self.min_size, self.max_size),
            ("faces", self.min_faces, self.max_faces),
        ):
            parts += [f"{column} >= {_number(low)}"] if low is not None else []
            parts += [f"{column} <= {_number(high)}"] if high is not None else []
        if self.formats:
            parts.append(f"format IN ({', '.join(map(_quoted, self.formats))})")
        if self.folder:
            parts.append(f"starts_with(name, {_quoted(self.folder.rstrip('/') + '/')})")
        if self.tag is not None or self.tagged is not None:
            has = []
            if self.tag is not None:
                but = f" AND name NOT IN ({', '.join(map(_quoted, self.untagged))})" if self.untagged else ""
                has.append(f"array_has(tags, {_quoted(self.tag)}){but}")
            if self.tagged:
                has.append(f"name IN ({', '.join(map(_quoted, self.tagged))})")
            parts.append(f"({' OR '.join(has)})" if len(has) > 1 else has[0] if has else "false")
        return " AND ".join(parts) or None


def _number(bound: float) -> str:
    """A bound as SQL: numpy's numbers would show their type."""
    return repr(int(bound) if float(bound).is_integer() else float(bound))


@dataclass(frozen=True)
class Sought:
    """What is looked for, of unit length: points (512,), views (512,), or the picture (512,) alone; its name; whether
    the whole picture was taken, for no object stands out in it.
    """

    points: np.ndarray | None
    views: np.ndarray | None
    picture: np.ndarray | None = None
    name: str | None = None
    whole: bool = False


@dataclass(frozen=True)
class Usual:
    """Best scores (A,), sorted, that shapes of the library get against its other shapes."""

    scores: np.ndarray

    @property
    def low(self) -> float:
        """Below this a best score means: nothing like this here."""
        return float(np.quantile(self.scores, UNLIKE))

    @property
    def middle(self) -> float:
        return float(np.median(self.scores))


@dataclass(frozen=True)
class Answer:
    """Hits, best first; what is usual here (None for small libraries); how they were found, in sentences, if not all
    shapes were compared.

    left_out: shapes that were not compared, for they have no features of the model that most shapes have.
    likest: the best score of all shapes, where only those with some facts may be hits; None where all may.
    """

    hits: list[Hit]
    usual: Usual | None = None
    note: str = ""
    left_out: int = 0
    likest: float | None = None

    @property
    def nothing_like_this(self) -> bool:
        """Whether even the shape most like the query is less like it than the library's shapes are like each other."""
        there = self.usual and self.likest is not None and self.likest >= self.usual.low
        return self.unlike and not there

    @property
    def unlike(self) -> bool:
        """Whether that is so of the best hit, though a shape without the facts asked for may be like the query."""
        return bool(self.usual and self.hits and self.hits[0].score < self.usual.low)


@dataclass(frozen=True)
class Gallery:
    """All shapes of a library at one version: names, paths, features (N, 512) float32 of unit length.

    known (N,) bool: which shapes have features of this model; None where all have.
    """

    names: list[str]
    paths: list[str]
    points: np.ndarray
    views: np.ndarray
    model: str
    known: np.ndarray | None = None


def search(
    library: Library,
    query: Query | Sequence[Query],
    *,
    top: int = 10,
    over: str = "both",
    where: Where | None = None,
    model: Model | str | os.PathLike[str] | None = None,
    limits: Limits | None = None,
) -> list[Hit]:
    """The `top` shapes most like the query, best first.

    query: a shape file, a picture, the name of a shape in the library, or several of them; a file that exists
    comes before a name. over: points, views or both; a picture has views only. model: what embedded the
    library, where it is no longer where it was. Shapes without features of the model that most have are left out
    (`ask` counts them). Raises CrosshapeError for a query that is neither, a file that gives no shape, facts that
    no shape has, a library without features, another model.
    """
    return ask(library, query, top=top, over=over, where=where, model=model, limits=limits).hits


def ask(
    library: Library,
    query: Query | Sequence[Query],
    *,
    top: int = 10,
    over: str = "both",
    where: Where | None = None,
    model: Model | str | os.PathLike[str] | None = None,
    limits: Limits | None = None,
    calibrate: bool = False,
) -> Answer:
    """As `search`, with what scores are usual in this library if `calibrate` and there is one query."""
    from crosshape.search import index

    check_over(over)
    if not isinstance(top, int | np.integer) or top < 1:
        raise UsageError(f"top is {top}; it must be 1 or more")
    queries = [query] if isinstance(query, str | os.PathLike) else list(query)
    if not queries or not all(os.fspath(one) for one in queries):
        raise UsageError("search needs a query: a shape file, a picture or the name of a shape")
    what = sought(library, queries, model, limits)
    _check_pictures(what, over)
    if len(library) > EXACT:
        filtered(library, where, most=1)  # says where no shape has such facts
        return index.ask(library, what, top, over, where)
    shapes = gallery(library, partly=True)
    scores = scores_of(library, shapes, what, over)
    usual = None
    if calibrate and len(what) == 1:  # the mean over several is lower by nature
        usual = usual_scores(library, shapes, over, what[0].picture is not None)
    keep = allowed(library, shapes, where)
    hits = ranked(scores, shapes, what, top, keep)
    likest = (
        None if keep is None else max((hit.score for hit in ranked(scores, shapes, what, 1)), default=None)
    )
    return Answer(hits, usual, *left_out(library, what), likest)


def gallery(library: Library, *, partly: bool = False) -> Gallery:
    """The library's shapes, ready to be asked; read once for each version.

    partly: also where not all have features of one model. Raises CrosshapeError.
    """

    def read() -> Gallery:
        found = library.features(run=run_named(library), partly=partly)
        paths = library.facts()["path"].to_pylist()
        return Gallery(found.names, paths, unit(found.points), unit(found.views), found.model, found.known)

    shapes = library.kept("gallery", read)
    if shapes.known is not None and not partly:
        library.features(run=run_named(library))  # says what is missing
    return shapes


def compared(library: Library) -> Gallery:
    """The shapes that have features of the model that most have. Raises CrosshapeError where none has."""
    shapes = gallery(library, partly=True)
    if shapes.known is None:
        return shapes
    rows = np.flatnonzero(shapes.known)
    names, paths = ([some[row] for row in rows] for some in (shapes.names, shapes.paths))
    return Gallery(names, paths, shapes.points[rows], shapes.views[rows], shapes.model)


def left_out(library: Library, what: Sequence[Sought] = ()) -> tuple[str, int]:
    """What is said of shapes that search leaves out and of pictures without an object; how many shapes are left out."""
    model, count = library.leading_model()
    left, words = len(library) - count, []
    if whole := sum(one.whole for one in what):
        where = "" if len(what) == 1 else f" in {whole:,} of the queries"
        words.append(f"No object stands out from the ground{where}; the whole picture was compared.")
    if left:
        words.append(
            f"{left:,} of {len(library):,} shapes are left out, for they have no features of model "
            f"{model_words(model)} yet. Make them: {command('embed', run_named(library), library.path)}"
        )
    return " ".join(words), left


def sought(
    library: Library,
    queries: Sequence[Query],
    model: Model | str | os.PathLike[str] | None = None,
    limits: Limits | None = None,
) -> list[Sought]:
    """What queries look for. Raises CrosshapeError where one is no file and no name, or gives nothing."""
    found: list[Sought] = []
    loaded = library_model(library, _embedded_by(library), model) if model is not None else None
    for query in queries:
        path = Path(query)
        if not _exists(path):
            found.append(_named(library, os.fspath(query)))
            continue
        whole: list[Path] = []
        seen = prepare_query(path, library, limits, whole)
        loaded = loaded or library_model(library, _embedded_by(library), model)
        found.append(
            encode_picture(seen, loaded, whole=bool(whole))
            if isinstance(seen, np.ndarray)
            else encode_query(seen, loaded)
        )
    return found


def scores_of(library: Library, shapes: Gallery, what: Sequence[Sought], over: str) -> np.ndarray:
    """(N,) float32: the mean over what is sought of its cosine with every shape; of both kinds: their mean."""
    total = np.zeros(len(shapes.names), np.float32)
    pictures = [one.picture for one in what if one.picture is not None]
    if pictures:
        total += best_views(library, np.stack(pictures)).sum(axis=0)
    for one in what:
        if one.picture is None:
            total += fused(shapes.points, shapes.views, one, over)
    return total / len(what)


def fused(points: np.ndarray, views: np.ndarray, one: Sought, over: str) -> np.ndarray:
    """points, views (N, 512) of unit length -> cosines (N,) with what is sought; of both kinds: their mean."""
    parts = []
    if over != "views":
        parts.append(points @ one.points)
    if over != "points":
        parts.append(views @ one.views)
    return sum(parts[1:], parts[0]) / len(parts)


def best_views(library: Library, pictures: np.ndarray) -> np.ndarray:
    """pictures (Q, 512) of unit length -> (Q, N): the largest cosine with a view of each shape; read in blocks."""
    from crosshape.library.library import filled

    out = np.zeros((len(pictures), len(library)), np.float32)
    views = library.settings.views
    for rows, batch in library.blocks(["feature_each_view"], None):
        there, values = filled(rows, batch.column(0))
        each = unit(values.reshape(-1, FEATURES))
        out[:, there] = (pictures @ each.T).reshape(len(pictures), len(there), views).max(axis=2)
    return out


def ranked(
    scores: np.ndarray, shapes: Gallery, what: Sequence[Sought], top: int, keep: np.ndarray | None = None
) -> list[Hit]:
    """The `top` shapes by score, without those that are sought by name, not kept, or without features."""
    if shapes.known is not None:
        keep = shapes.known if keep is None else keep & shapes.known
    left = len(scores) if keep is None else int(keep.sum())
    if keep is not None:
        scores = np.where(keep, scores, -np.inf)
    for one in what:
        place = None if one.name is None else place_of(shapes.names, one.name)
        if place is not None and np.isfinite(scores[place]):
            scores[place] = -np.inf
            left -= 1
    rows = best(scores, min(top, left))
    return [
        Hit(rank, round(float(scores[row]), DIGITS), shapes.names[row], shapes.paths[row])
        for rank, row in enumerate(rows, 1)
    ]


def best(scores: np.ndarray, top: int) -> np.ndarray:
    """(N,) -> the rows of the `top` largest, largest first; equal ones (to 6 decimals) in the order of rows."""
    rounded = np.round(scores.astype(np.float64), DIGITS)
    rows = np.arange(len(rounded))
    if top < len(rounded):
        rows = np.flatnonzero(rounded >= np.partition(rounded, -top)[-top]) if top else rows[:0]
    return rows[np.argsort(-rounded[rows], kind="stable")][:top]


def usual_scores(library: Library, shapes: Gallery, over: str, picture: bool) -> Usual | None:
    """What best score a shape, or one view of it, of this library gets against its other shapes.

    ASKED shapes are asked, chosen by a fixed seed. None for fewer than 20 shapes: that would say nothing.
    """
    known = np.arange(len(shapes.names)) if shapes.known is None else np.flatnonzero(shapes.known)
    if len(known) < 20:
        return None

    def measure() -> Usual:
        random = np.random.default_rng(0)
        rows = known[np.sort(random.choice(len(known), min(ASKED, len(known)), replace=False))]
        if picture:
            names = [shapes.names[row] for row in rows]
            each = library.numbers("feature_each_view", names, (library.settings.views, FEATURES), np.float32)
            chosen = random.integers(0, each.shape[1], len(rows))
            scores = best_views(library, unit(each[np.arange(len(rows)), chosen]))
        else:
            scores = np.stack(
                [
                    fused(shapes.points, shapes.views, Sought(shapes.points[row], shapes.views[row]), over)
                    for row in rows
                ]
            )
        scores[np.arange(len(rows)), rows] = -np.inf
        return Usual(np.sort(scores[:, known].max(axis=1)))

    return library.kept(("usual", over, picture), measure)


def allowed(library: Library, shapes: Gallery, where: Where | None) -> np.ndarray | None:
    """(N,) bool: which shapes have the facts that are asked for; None for all. Raises CrosshapeError for none."""
    names = filtered(library, where)
    if names is None:
        return None
    return np.isin(np.asarray(shapes.names, dtype=object), np.asarray(names, dtype=object))


def filtered(library: Library, where: Where | None, most: int | None = None) -> list[str] | None:
    """The names of the shapes, `most` of them, that have the facts that are asked for; None for all.

    Raises CrosshapeError where no shape has, and for a tag where none were kept.
    """
    from crosshape.library.library import lance_words

    condition = where.sql() if where else None
    if where is None or condition is None:
        return None
    if where.tag is not None and "tags" not in library.dataset.schema.names:
        raise CrosshapeError(
            f"{library.path} has no tags. Learn some: "
            f"{command('tag', library.path, '--from', 'labels.csv', '--write')}"
        )
    with lance_words(library.path, "read"):
        table = library.dataset.to_table(columns=["name"], filter=condition, limit=most)
    if not len(table):
        raise CrosshapeError(
            f"no shape of {library.path} has these facts: {where.words()}.{not_there(library, where)}"
        )
    return list(table["name"].to_pylist())


def not_there(library: Library, where: Where) -> str:
    """Of a folder, a format, a tag that no shape has: which are meant, or which there are; "" where all are there."""
    asked: list[tuple[str, str, set[str]]] = []
    if where.folder:
        asked.append(("folder", where.folder.rstrip("/"), set(library.folders())))
    if where.formats:
        there = set(library.facts()["format"].to_pylist())
        asked += [("format", one, there) for one in where.formats]
    if where.tag is not None and not where.tagged:
        asked.append(("tag", where.tag, {tag for some in library.tags().values() for tag in some}))
    text = ""
    for what, wanted, known in asked:
        if wanted in known:
            continue
        few = sorted(known) if len(known) <= FEW else []
        if near := [f"'{one}'" for one in nearest(wanted, known)]:
            text += f" There is no {what} '{wanted}'; did you mean {' or '.join(near)}?"
        elif few:
            text += f" There is no {what} '{wanted}', but {', '.join(few)}."
        else:
            text += f" There is no {what} '{wanted}'."
    return text


def prepare_query(
    path: Path, library: Library, limits: Limits | None = None, whole: list[Path] | None = None
) -> Prepared | np.ndarray:
    """A shape file as the library would have prepared it, or a picture (S, S) uint8; in a guarded child.

    A picture in which no object stands out is added to `whole`. Raises CrosshapeError where the file gives neither.
    """
    from crosshape.search.pictures import PICTURES, see_picture
    from crosshape.settings import Limits
    from crosshape.shapes.guard import Guard
    from crosshape.shapes.prepare import prepare_file

    limits = limits or Limits()
    picture = path.suffix.lower() in PICTURES
    try:
        with Guard(1, limits) as guard:
            if picture:
                seen, missing = guard.call(see_picture, str(path), library.settings.image_size)
                if missing and whole is not None:
                    whole.append(path)
                return seen
            return guard.call(prepare_file, str(path), library.settings, limits)
    except UnreadableShape as error:
        what = "picture" if picture else "shape"
        raise CrosshapeError(f"{path} gives no {what}: {error.reason}.") from None


def encode_query(prepared: Prepared, model: Model) -> Sought:
    """The features of a prepared shape, of unit length, as `embed` makes them."""
    from crosshape.shapes.views import downscale

    views = model.encode_views(downscale(prepared.views, model.image_size)[None])
    points = model.encode_points(prepared.points[None])
    return Sought(unit(points[0]), unit(views[0].max(axis=0)))


def encode_picture(picture: np.ndarray, model: Model, whole: bool = False) -> Sought:
    """The feature of a picture (S, S) uint8 that was cleaned to look like a view; whole: no object stands out in it."""
    from crosshape.shapes.views import downscale

    small = downscale(picture[None], model.image_size)
    return Sought(None, None, unit(model.encode_views(small[None])[0, 0]), whole=whole)


def library_model(
    library: Library, fingerprint: str, model: Model | str | os.PathLike[str] | None = None
) -> Model:
    """The model that embedded the library: from where `embed` had it, or the one given.

    Raises CrosshapeError where it is not there any more, cannot be read, or is another one.
    """
    from crosshape.networks.model import SHIPPED, load_model, shipped

    if model is not None and not isinstance(model, str | os.PathLike):
        loaded: Any = model
        name: str | None = model.source or "RUN"
    else:
        name = os.fspath(model) if model is not None else library.model_source(fingerprint)
        was = f"{library.path} was embedded by model {model_words(fingerprint)}"
        if name is None:
            raise CrosshapeError(f"{was}, and not from a folder. Give its run with --model RUN.")
        folder = SHIPPED / name if model is None and name in shipped() else Path(name)
        if model is None and not _exists(folder):
            raise CrosshapeError(f"{was} from {name}, which is not there. Give it with --model RUN.")
        loaded = load_model(folder)
    if loaded.fingerprint != fingerprint:
        raise CrosshapeError(
            f"{library.path} was embedded by model {model_words(fingerprint)}, {name} is {loaded.fingerprint}. "
            f"Embed again: {command('embed', name, library.path)}"
        )
    return loaded


def _embedded_by(library: Library) -> str:
    """The fingerprint of the model that embedded most of the library. Raises CrosshapeError."""
    return library.leading_model(run_named(library))[0]


def _named(library: Library, name: str) -> Sought:
    """A shape of the library by its exact name. Raises CrosshapeError, offering the nearest ones."""
    model = _embedded_by(library)
    place = place_of(library.names, name)
    if place is None:
        raise CrosshapeError(_unknown(name, library.path, library.names))
    if len(library) <= EXACT:
        shapes = gallery(library, partly=True)
        if shapes.known is not None and not shapes.known[place]:
            raise CrosshapeError(without(library, name))
        return Sought(shapes.points[place], shapes.views[place], None, name)
    name = library.names[place]
    if library.model_of(name) != model:
        raise CrosshapeError(without(library, name))
    points, views = (
        unit(library.numbers(column, [name], (FEATURES,), np.float32)[0])
        for column in ("feature_points", "feature_views")
    )
    return Sought(points, views, None, name)


def without(library: Library, name: str) -> str:
    """What is said of a shape that cannot be asked for yet."""
    return (
        f"'{name}' has no features of model {model_words(_embedded_by(library))} yet. "
        f"Make them: {command('embed', run_named(library), library.path)}"
    )


def check_over(over: str) -> None:
    """Raises UsageError for what cannot be compared."""
    if over not in OVER:
        raise UsageError(f"over is {over!r}; it must be one of {', '.join(OVER)}")


def _check_pictures(what: Sequence[Sought], over: str) -> None:
    if over == "points" and any(one.picture is not None for one in what):
        raise UsageError("a picture has no points; search over views or both")


def run_named(library: Library) -> str:
    """The run that the features of most shapes are of, RUN where nobody knows, for the advice in errors."""
    try:
        model, _ = library.leading_model()
    except CrosshapeError:  # no shapes, or no features yet
        return "RUN"
    source = library.model_source(model)
    return source if source and (os.sep not in source or Path(source).exists()) else "RUN"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def place_of(names: list[str], name: str) -> int | None:
    """Where a name is among sorted ones, or None. Accents may be composed or not, where that is unambiguous."""
    from bisect import bisect_left

    place = bisect_left(names, name)
    if place < len(names) and names[place] == name:
        return place
    if name.isascii():
        return None
    same = by_composed(names).get(normalize("NFC", name), [])
    return bisect_left(names, same[0]) if len(same) == 1 else None


def by_composed(names: Sequence[str]) -> dict[str, list[str]]:
    """The names with letters beyond ASCII, by what they are with accents composed."""
    same: dict[str, list[str]] = {}
    for name in names:
        if not name.isascii():
            same.setdefault(normalize("NFC", name), []).append(name)
    return same


def _unknown(name: str, library: Path | Address, names: list[str]) -> str:
    text = f"'{name}' is neither a file nor the name of a shape in {library}"
    stem = Path(name).name
    ends = [
        known for known in names if known.endswith("/" + name) or (stem in known and Path(known).stem == stem)
    ]
    if len(ends) > 1:
        more = "" if len(ends) <= 3 else f" or {len(ends) - 3:,} others"
        shown = ", ".join(f"'{end}'" for end in ends[:3])
        return f"{text}; did you mean {shown}{more}?"
    near = ends[0] if ends else nearest_name(name, names)
    if near:
        return f"{text}; did you mean '{near}'?"
    return f"{text}. Names there are like '{names[0]}'." if names else f"{text}, which is empty."
