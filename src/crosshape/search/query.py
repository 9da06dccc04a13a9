"""Which shapes of a library are like this one? By a file, by a name; over points, views, or both.

Vectors are compared by cosine. A named shape is not among its own hits. Equal scores are ordered by name.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crosshape.errors import CrosshapeError, UnreadableShape, UsageError

if TYPE_CHECKING:
    from crosshape.library.library import Library
    from crosshape.networks.model import Model
    from crosshape.settings import Limits
    from crosshape.shapes.prepare import Prepared

OVER = ("points", "views", "both")

DIGITS = 6
"""Scores are rounded to so many decimals before they are ordered: a matrix product is no more exact."""


@dataclass(frozen=True)
class Hit:
    """A shape that was found: rank from 1, score (1 is the same, 0 has nothing in common), name, path."""

    rank: int
    score: float
    name: str
    path: str


@dataclass(frozen=True)
class Sought:
    """What is looked for: features points (512,) and views (512,) of unit length; its own name, if it has one."""

    points: np.ndarray
    views: np.ndarray
    name: str | None = None


@dataclass(frozen=True)
class Gallery:
    """All shapes of a library at one version: names, paths, features (N, 512) float32 of unit length."""

    names: list[str]
    paths: list[str]
    points: np.ndarray
    views: np.ndarray
    model: str
    version: int


def search(
    library: Library,
    query: str | os.PathLike[str],
    *,
    top: int = 10,
    over: str = "both",
    model: Model | str | os.PathLike[str] | None = None,
    limits: Limits | None = None,
) -> list[Hit]:
    """The `top` shapes most like the query, best first.

    query: a shape file, or the name of a shape in the library; a file that exists comes first. over: points,
    views or both. model: what embedded the library, where it is no longer where it was. Raises CrosshapeError
    for a query that is neither, a file that gives no shape, a library without features, another model.
    """
    if over not in OVER:
        raise UsageError(f"over is {over!r}; it must be one of {', '.join(OVER)}")
    if top < 1:
        raise UsageError(f"top is {top}; it must be 1 or more")
    shapes = gallery(library)
    return nearest(shapes, sought(library, shapes, query, model, limits), top, over)


def gallery(library: Library) -> Gallery:
    """The library's shapes, ready to be asked; read once for each version. Raises CrosshapeError."""
    kept = library.__dict__.get("_gallery")
    if kept is None or kept.version != library.version:
        features = library.features(run=_run_named(library))
        paths = library.facts()["path"].to_pylist()
        kept = Gallery(
            features.names,
            paths,
            unit(features.points),
            unit(features.views),
            features.model,
            library.version,
        )
        library.__dict__["_gallery"] = kept
    return kept


def sought(
    library: Library,
    shapes: Gallery,
    query: str | os.PathLike[str],
    model: Model | str | os.PathLike[str] | None = None,
    limits: Limits | None = None,
) -> Sought:
    """What a query looks for. Raises CrosshapeError where it is no file and no name, or gives no shape."""
    path = Path(query)
    if _exists(path):
        prepared = prepare_query(path, library, limits)
        return encode_query(prepared, library_model(library, shapes.model, model))
    name = os.fspath(query)
    place = _place(shapes, name)
    if place is None:
        raise CrosshapeError(_unknown(name, library.path, shapes.names))
    return Sought(shapes.points[place], shapes.views[place], name)


def nearest(shapes: Gallery, what: Sought, top: int, over: str = "both") -> list[Hit]:
    """The `top` shapes of the gallery most like what is sought."""
    scores = np.zeros(len(shapes.names), np.float32)
    if over != "views":
        scores += shapes.points @ what.points
    if over != "points":
        scores += shapes.views @ what.views
    if over == "both":
        scores /= 2
    if what.name is not None:
        place = _place(shapes, what.name)
        if place is not None:
            scores[place] = -np.inf
            top = min(top, len(scores) - 1)
    rows = best(scores, top)
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


def unit(vectors: np.ndarray) -> np.ndarray:
    """(..., D) -> the same directions with length 1, float32; a zero vector stays zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors, np.float32), where=length > 0)


def prepare_query(path: Path, library: Library, limits: Limits | None = None) -> Prepared:
    """A file as the library would have prepared it, read in a guarded child. Raises CrosshapeError."""
    from crosshape.settings import Limits
    from crosshape.shapes.guard import Guard
    from crosshape.shapes.prepare import prepare_file

    limits = limits or Limits()
    try:
        with Guard(1, limits) as guard:
            return guard.call(prepare_file, str(path), library.settings, limits)
    except UnreadableShape as error:
        raise CrosshapeError(f"{path} gives no shape: {error.reason}.") from None


def encode_query(prepared: Prepared, model: Model) -> Sought:
    """The features of a prepared shape, of unit length, as `embed` makes them."""
    from crosshape.shapes.views import downscale

    views = model.encode_views(downscale(prepared.views, model.image_size)[None])
    points = model.encode_points(prepared.points[None])
    return Sought(unit(points[0]), unit(views[0].max(axis=0)))


def library_model(
    library: Library, fingerprint: str, model: Model | str | os.PathLike[str] | None = None
) -> Model:
    """The model that embedded the library: from where `embed` had it, or the one given.

    Raises CrosshapeError where it is not there any more, or is another one.
    """
    from crosshape.networks.model import load_model

    if model is not None and not isinstance(model, str | os.PathLike):
        loaded: Any = model
        name: str | None = model.source or "RUN"
    else:
        name = os.fspath(model) if model is not None else library.model_source(fingerprint)
        was = f"{library.path} was embedded by model {fingerprint}"
        if name is None:
            raise CrosshapeError(f"{was}, and not from a folder. Give its run with --model RUN.")
        try:
            loaded = load_model(name)
        except CrosshapeError:
            if model is not None:
                raise
            raise CrosshapeError(
                f"{was} from {name}, which is not there. Give it with --model RUN."
            ) from None
    if loaded.fingerprint != fingerprint:
        raise CrosshapeError(
            f"{library.path} was embedded by model {fingerprint}, {name} is {loaded.fingerprint}. "
            f"Embed again: crosshape embed {name} {library.path}"
        )
    return loaded


def _run_named(library: Library) -> str:
    """The run that embedded this library last, for the advice in errors."""
    models = [model for model, _ in library.models().most_common() if model]
    return (library.model_source(models[0]) if models else None) or "RUN"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _place(shapes: Gallery, name: str) -> int | None:
    from bisect import bisect_left

    place = bisect_left(shapes.names, name)
    return place if place < len(shapes.names) and shapes.names[place] == name else None


def _unknown(name: str, library: Path, names: list[str]) -> str:
    text = f"'{name}' is neither a file nor the name of a shape in {library}"
    ends = [known for known in names if known.endswith("/" + name) or Path(known).stem == Path(name).name]
    if len(ends) > 1:
        more = "" if len(ends) <= 3 else f" or {len(ends) - 3:,} others"
        shown = ", ".join(f"'{end}'" for end in ends[:3])
        return f"{text}; did you mean {shown}{more}?"
    near = ends or difflib.get_close_matches(name, names, n=1)
    if near:
        return f"{text}; did you mean '{near[0]}'?"
    return f"{text}. See the names: crosshape info {library}"
