"""Search in large libraries: Lance's vector index finds candidates, the stored vectors rank them.

The index on each feature column (inverted lists, one bit a number: RaBitQ, Gao and Long 2024) is made when it is
first needed, and its recall is measured against exact search on shapes of the library before it is used; how widely
it is searched is what reached RECALL. What was measured stands in the dataset's configuration and is said with every
answer. Where hits must have facts, the search is as much wider as fewer shapes have them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from crosshape.files import parse_json
from crosshape.library.library import lance_words
from crosshape.search.query import Answer, Hit, Sought, Where, best, left_out
from crosshape.settings import FEATURES
from crosshape.tasks.retrieval import unit

if TYPE_CHECKING:
    from crosshape.library.library import Library

RECALL = 0.95
"""Of the ten nearest by exact search, how many the index must find, in the mean."""

TRIALS = 48
"""Shapes that are asked to measure it."""

WIDTHS = ((8, 5), (16, 10), (32, 10), (32, 20), (64, 20), (128, 40))
"""(cells looked into, candidates for each hit that are compared exactly), tried in this order."""

SAMPLE, ROUNDS = 32, 15
"""Vectors for each cell that its middle is learned from, and rounds of k-means: making the index takes a twentieth
of the time that Lance's 256 and 50 with product quantisation take, at the same recall (results/search)."""

COLUMNS = {"points": "feature_points", "views": "feature_views"}


@dataclass(frozen=True)
class Index:
    """What was measured of the index of a column: rows then, how widely it is searched, recall of the first ten."""

    rows: int
    cells: int
    refine: int
    recall: float


def ask(library: Library, what: Sequence[Sought], top: int, over: str, where: Where | None) -> Answer:
    """The hits over the index, made now if it is missing; a picture is compared with the views pooled, for reading all
    views takes too long.
    """
    vectors = combined(what, over)
    condition = where.sql() if where else None
    condition = " AND ".join(f"({one})" for one in (condition, of_model(library)) if one) or None
    passing = passed(library, condition)
    missing, count = left_out(library, what)
    found: dict[str, tuple[str, np.ndarray, np.ndarray]] = {}
    recalls = []
    for kind, vector in vectors.items():
        measured = ready(library, COLUMNS[kind])
        recalls.append(measured.recall)
        wanted = (top + len(what)) * (5 if len(vectors) > 1 else 1)
        how = widened(library, measured, passing)
        table = nearest(library, COLUMNS[kind], vector, wanted, how, condition)
        if len(table) < min(wanted, passing):  # what passes lies far from what is asked for
            table = nearest(
                library, COLUMNS[kind], vector, wanted, replace(how, cells=len(library)), condition
            )
        found.update(_rows(table))
    names = sorted(found)
    if not names:
        return Answer([], None, f"No shape with features has these facts. {missing}".rstrip(), count)
    scores = np.zeros(len(names), np.float32)
    for place, kind in enumerate(COLUMNS, 1):
        if kind in vectors:
            scores += unit(np.stack([found[name][place] for name in names])) @ vectors[kind]
    for one in what:
        if one.name in found:
            scores[names.index(one.name)] = -np.inf
    rows = [row for row in best(scores, top) if np.isfinite(scores[row])]
    hits = [
        Hit(rank, round(float(scores[row]), 6), names[row], found[names[row]][0])
        for rank, row in enumerate(rows, 1)
    ]
    measured_how = "measured without filters" if where and where.sql() else "measured"
    note = f"Found by index over {len(library):,} shapes; recall of the first ten {measured_how}: {min(recalls):.3f}."
    return Answer(hits, None, f"{note} {missing}".rstrip(), count)


def of_model(library: Library) -> str | None:
    """The condition of SQL that a row has features of the model that most have; None where all have."""
    model, count = library.leading_model()
    return None if count == len(library) else f"model = '{model}'"


def passed(library: Library, condition: str | None) -> int:
    """How many rows a condition of SQL lets pass."""
    if condition is None:
        return len(library)
    with lance_words(library.path, "read"):
        return int(library.dataset.count_rows(condition))


def widened(library: Library, measured: Index, passing: int) -> Index:
    """How widely to search where only so many rows pass: they lie as thinly in the cells as they are few."""
    cells = math.ceil(measured.cells * library.leading_model()[1] / max(passing, 1))
    return replace(measured, cells=min(cells, len(library)))  # there are never more cells than rows


def combined(what: Sequence[Sought], over: str) -> dict[str, np.ndarray]:
    """Kind of feature -> the vector (512,) whose products with the unit features add up to the score.

    The score is a mean of cosines, so the mean of unit vectors asks for several at once, exactly.
    """
    sums = {kind: np.zeros(FEATURES, np.float32) for kind in COLUMNS}
    for one in what:
        if one.picture is not None:
            sums["views"] += one.picture
            continue
        for kind in COLUMNS if over == "both" else (over,):
            sums[kind] += getattr(one, kind) / (2 if over == "both" else 1)
    return {kind: total / len(what) for kind, total in sums.items() if total.any()}


def nearest(
    library: Library, column: str, vector: Any, count: int, how: Index, condition: str | None = None
) -> Any:
    """The `count` rows whose vector in the column is nearest, as an Arrow table with both features."""
    with lance_words(library.path, "read"):
        return library.dataset.to_table(
            columns=["name", "path", *COLUMNS.values(), "_distance"],
            nearest={
                "column": column,
                "q": np.asarray(vector, np.float32),
                "k": count,
                "metric": "cosine",
                "nprobes": how.cells,
                "refine_factor": how.refine,
            },
            filter=condition,
            prefilter=True,
        )


def ready(library: Library, column: str) -> Index:
    """The index of a column as it was measured; made where it is not known (any more)."""
    return known(library, column) or make(library, column)


def known(library: Library, column: str) -> Index | None:
    """The index of a column as it was measured; None where it is missing, or knows less than half of the rows that have
    features: shapes came, or were embedded anew.
    """
    with lance_words(library.path, "read"):
        text = library.dataset.config().get(f"crosshape.index.{column}")
        held = [
            one.num_rows_indexed for one in library.dataset.describe_indices() if column in one.field_names
        ]
    try:
        kept = parse_json(text) if text is not None else {}
        rows, cells, refine = (int(kept[name]) for name in ("rows", "cells", "refine"))
        found = Index(rows, cells, refine, float(kept["recall"]))
    except (ValueError, TypeError, KeyError, OverflowError):  # none, or not ours: made again
        return None
    sound = 0 < found.cells <= 1 << 20 and 0 < found.refine <= 1000 and 0 <= found.recall <= 1
    return found if sound and library.leading_model()[1] <= 2 * min(found.rows, sum(held)) else None


def make(library: Library, column: str) -> Index:
    """Make the index of a column and measure it; what was measured is kept in the dataset's configuration."""
    from crosshape.console import say
    from crosshape.library.library import writing

    say(f"Making the index of {column} over {len(library):,} shapes; this is done once.")
    with writing(library.path), lance_words(library.path, "write"):
        library.dataset.create_index(
            column,
            "IVF_RQ",
            metric="cosine",
            num_partitions=max(1, round(math.sqrt(len(library)))),
            sample_rate=SAMPLE,
            max_iters=ROUNDS,
            replace=True,
        )
        library.refresh()
        measured = measure(library, column)
        library.dataset.update_config({f"crosshape.index.{column}": json.dumps(asdict(measured))})
    library.refresh()
    return measured


def measure(library: Library, column: str) -> Index:
    """How widely the index must be searched for RECALL, on TRIALS shapes of the library against all others."""
    random = np.random.default_rng(0)
    condition, (model, count) = of_model(library), library.leading_model()
    stored = library.dataset.to_table(columns=["model"])["model"].to_pylist()
    places = np.array([place for place, one in enumerate(stored) if one == model])
    rows = np.sort(random.choice(places, min(TRIALS, count), replace=False))
    table = library.dataset.take(rows.tolist(), columns=["name", column])
    asked = table[column].combine_chunks().flatten().to_numpy().reshape(-1, FEATURES)
    own = [{name} for name in table["name"].to_pylist()]
    # That a shape finds itself says nothing, so eleven are asked for and ten others compared.
    exact = [a - b for a, b in zip(exact_nearest(library, column, asked, 11, condition), own, strict=True)]
    recall = 0.0
    for cells, refine in WIDTHS:
        how = Index(count, cells, refine, 0.0)
        hits = [set(nearest(library, column, v, 11, how, condition)["name"].to_pylist()) for v in asked]
        missed = [len(b - a) / max(1, len(b)) for a, b in zip(hits, exact, strict=True)]
        recall = 1 - float(np.mean(missed))
        if recall >= RECALL:
            break
    return Index(count, cells, refine, round(recall, 4))


def exact_nearest(
    library: Library, column: str, asked: np.ndarray, count: int, condition: str | None = None
) -> list[set[str]]:
    """The names of the `count` rows nearest to each of asked (Q, 512), every row compared, read in blocks."""
    asked = unit(asked)
    scores = np.full((len(asked), 0), 0, np.float32)
    names = np.empty((len(asked), 0), dtype=object)
    scanner = library.dataset.scanner(columns=["name", column], filter=condition, batch_size=8192)
    for batch in scanner.to_batches():
        block = unit(batch.column(1).flatten().to_numpy().reshape(-1, FEATURES))
        scores = np.concatenate([scores, asked @ block.T], axis=1)
        fresh = np.broadcast_to(np.array(batch.column(0).to_pylist(), dtype=object), (len(asked), len(block)))
        names = np.concatenate([names, fresh], axis=1)
        keep = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        scores = np.take_along_axis(scores, keep, axis=1)
        names = np.take_along_axis(names, keep, axis=1)
    return [set(row) for row in names]


def _rows(table: Any) -> dict[str, tuple[str, np.ndarray, np.ndarray]]:
    """Name -> (path, points, views) of a table."""
    vectors = [
        table[column].combine_chunks().flatten().to_numpy().reshape(-1, FEATURES)
        for column in COLUMNS.values()
    ]
    names, paths = table["name"].to_pylist(), table["path"].to_pylist()
    return {name: (paths[i], vectors[0][i], vectors[1][i]) for i, name in enumerate(names)}
