"""What the pictures of an evaluation show, as plain data: lines, a confusion matrix, hits, coloured parts.

Computed from the rows alone and from what they were measured on, so that a page and its pictures say what the
rows say. Drawn by tasks/drawing.py (PNG) and tasks/page.py (HTML).
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crosshape.report import Confusion
from crosshape.tasks import metrics
from crosshape.tasks.evaluation import Row, kind_of

if TYPE_CHECKING:
    from crosshape.tasks.labelled import LabelledSet
    from crosshape.tasks.segmentation import PartSet

QUERIES, HITS = 12, 8
"""Queries that are drawn, at most one of a class, and the first hits of each."""

PAIRS = 20
"""Pairs of classes that are listed as taken for one another, the most frequent first."""

NUMBERED = 45
"""Classes up to which a confusion matrix has its counts written in."""

FRONTAL = 1
"""The view that stands for a shape: 30 degrees off the front, so that depth can be seen."""

SIZE = 112
"""Pixels of a shape's picture, at most."""

RUN = "run"


@dataclass(frozen=True)
class Line:
    """Points (x, y) of one model; spans (low, high) of every y, or none. level: y does not depend on x.

    tint: 0 the run, 1 untrained, 2 D2, 3 and on what else there is.
    """

    name: str
    tint: int
    points: tuple[tuple[float, float], ...]
    spans: tuple[tuple[float, float], ...] = ()
    level: bool = False


@dataclass(frozen=True)
class Chart:
    """Lines over one axis with named ticks; shares, drawn from `low` to `high`."""

    title: str
    across: str
    up: str
    ticks: tuple[tuple[float, str], ...]
    lines: tuple[Line, ...]
    low: float
    high: float


@dataclass(frozen=True)
class Confused:
    """Who was taken for whom: counts over all seeds, classes in an order that puts confused ones together.

    pairs: (true, taken for, how often, share of the true class), most frequent first. recalls: (class, tested,
    share recognised), the worst first.
    """

    row: Row
    matrix: Confusion
    pairs: tuple[tuple[str, str, int, float], ...]
    recalls: tuple[tuple[str, int, float], ...]


@dataclass(frozen=True)
class Asked:
    """One query of a grid: its row, and for every line of the grid the rows of its first hits."""

    query: int
    hits: tuple[tuple[int, ...], ...]
    own_ranks: tuple[int, ...] = ()
    """across modalities: where its own other half would come, by line, from 1"""


@dataclass(frozen=True)
class Grid:
    """Queries and their first hits by every model of `lines`; view: the picture that asks."""

    title: str
    row: Row
    lines: tuple[str, ...]
    asked: tuple[Asked, ...]
    view: int


@dataclass(frozen=True)
class Coloured:
    """A test shape in the colours of its parts: the truth, then what each head said.

    pictures: (heading, IoU or None, (2, S, S, 4) uint8 from two sides).
    """

    name: str
    category: str
    part_names: tuple[str, ...]
    pictures: tuple[tuple[str, float | None, NDArray[np.uint8]], ...]


@dataclass(frozen=True)
class Shown:
    """All pictures of an evaluation; what the data has nothing for is empty or None."""

    views: tuple[Chart, ...] = ()
    curves: tuple[Chart, ...] = ()
    budgets: tuple[Chart, ...] = ()
    confused: Confused | None = None
    grids: tuple[Grid, ...] = ()
    parts: tuple[Coloured, ...] = ()


def shown(rows: Sequence[Row], data: LabelledSet | None, parts: PartSet | None) -> Shown:
    """Everything that these rows can show."""
    return Shown(
        views=by_views(rows),
        curves=precision_recall(rows),
        budgets=by_budget(rows),
        confused=confusion(rows, data.labels, data.layout.classes) if data is not None else None,
        grids=retrieval_grids(rows, data.labels) if data is not None else (),
        parts=coloured_parts(rows, parts) if parts is not None else (),
    )


def tint(model: str, others: Sequence[str] = ()) -> int:
    """The number of a model's colour."""
    known = (RUN, "untrained", "D2", *others)
    return known.index(model) if model in known else len(known)


# Lines


def by_views(rows: Iterable[Row]) -> tuple[Chart, ...]:
    """Accuracy and mean average precision by number of views; the figure of the points as a level beside it."""
    rows = [row for row in rows if row.protocol == "default"]
    charts = []
    for task, measure, title in (
        ("recognition", "accuracy", "Recognition"),
        ("retrieval", "mean_average_precision", "Retrieval"),
    ):
        flat = [row for row in rows if row.task == f"{task}-2d" and row.views is not None]
        if len({row.views for row in flat}) < 2:
            continue
        lines = []
        for model in dict.fromkeys(row.model for row in flat):
            own = sorted((row for row in flat if row.model == model), key=lambda row: row.views or 0)
            points = tuple((float(row.views or 0), row.measures[measure]) for row in own)
            spans = tuple(row.interval for row in own if row.interval)
            lines.append(Line(f"{model}, views", tint(model), points, spans))
        ends = min(row.views or 0 for row in flat), max(row.views or 0 for row in flat)
        for row in rows:
            if row.task == f"{task}-3d":
                y = row.measures[measure]
                line = Line(f"{row.model}, points", tint(row.model), tuple((x, y) for x in ends), (), True)
                lines.append(line)
        ticks = tuple((float(n), str(n)) for n in sorted({row.views or 0 for row in flat}))
        up = "accuracy" if task == "recognition" else "mAP"
        charts.append(Chart(title, "views", up, ticks, tuple(lines), *_reach(lines)))
    return tuple(charts)


def precision_recall(rows: Iterable[Row]) -> tuple[Chart, ...]:
    """Mean interpolated precision by recall, a chart for points, views (all of them) and both."""
    from crosshape.tasks.retrieval import RECALLS

    charts = []
    rows = [row for row in rows if kind_of(row.task) == "retrieval"]
    for features in dict.fromkeys(row.features for row in rows):
        lines = []
        for row in _most_views([row for row in rows if row.features == features]):
            curve = np.mean([seed["precision_recall"] for seed in row.detail["seeds"]], axis=0)
            points = tuple((float(x), float(y)) for x, y in zip(RECALLS, curve, strict=True))
            lines.append(Line(row.model, tint(row.model), points))
        ticks = tuple((x, f"{x:g}") for x in (0.0, 0.25, 0.5, 0.75, 1.0))
        charts.append(Chart(features, "recall", "precision", ticks, tuple(lines), 0.0, 1.0))
    return tuple(charts)


def by_budget(rows: Iterable[Row]) -> tuple[Chart, ...]:
    """Instance mIoU by how many shapes had their parts labelled; nothing for one budget."""
    rows = [row for row in rows if row.task == "segmentation"]
    budgets = sorted({(row.more["labelled"], row.more["labels"]) for row in rows})
    if len(budgets) < 2:
        return ()
    place = {budget: float(x) for x, budget in enumerate(budgets)}
    lines = []
    kinds = list(dict.fromkeys((row.model, row.more["head"]) for row in rows))
    others = [
        name for name in dict.fromkeys(segmented(row) for row in rows) if name not in (RUN, "untrained")
    ]
    for model, head in kinds:
        own = [row for row in rows if (row.model, row.more["head"]) == (model, head)]
        own.sort(key=lambda row: row.more["labelled"])
        points = tuple(
            (place[row.more["labelled"], row.more["labels"]], row.measures["instance_miou"]) for row in own
        )
        name = segmented(own[0])
        spans = tuple(row.interval for row in own if row.interval)
        lines.append(Line(name, tint(name, others), points, spans))
    ticks = tuple((place[budget], f"{budget[1]} ({budget[0]:,})") for budget in budgets)
    return (Chart("Parts", "labelled shapes", "instance mIoU", ticks, tuple(lines), *_reach(lines)),)


def segmented(row: Row) -> str:
    """What a row of segmentation is called where the head must be told too."""
    head = row.more["head"]
    return row.model if head in ("frozen", "whole network") else f"{row.model}, {head}"


def _most_views(rows: Iterable[Row]) -> list[Row]:
    """Of every model the row that pooled the most views."""
    best: dict[str, Row] = {}
    for row in rows:
        if row.model not in best or (row.views or 0) > (best[row.model].views or 0):
            best[row.model] = row
    return list(best.values())


def _reach(lines: Iterable[Line]) -> tuple[float, float]:
    """The tenths that enclose all that is drawn."""
    every = [y for line in lines for y in [*(y for _, y in line.points), *np.ravel(line.spans)]]
    low, high = np.floor(10 * min(every) + 1e-9) / 10, np.ceil(10 * max(every) - 1e-9) / 10
    return max(0.0, float(low)), min(1.0, max(float(high), float(low) + 0.1))


# Who was taken for whom


def confusion(rows: Iterable[Row], labels: NDArray[np.int64], classes: Sequence[str]) -> Confused | None:
    """The confusion of the run by its richest features, over all seeds; None without recognition.

    Classes that were neither tested nor predicted are left out.
    """
    own = [r for r in rows if kind_of(r.task) == "recognition" and r.model == RUN and r.protocol == "default"]
    row = richest(own)
    if row is None:
        return None
    counts = np.zeros((len(classes), len(classes)), np.int64)
    for seed in row.detail["seeds"]:
        counts += metrics.confusion_matrix(labels[seed["rows"]], seed["predictions"], len(classes))
    there = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
    there = there[together(counts[np.ix_(there, there)])]
    counts = counts[np.ix_(there, there)]
    names = [classes[i] for i in there.tolist()]
    tested = counts.sum(axis=1)
    off = counts - np.diag(np.diag(counts))
    wrong = sorted(zip(*np.nonzero(off), strict=True), key=lambda p: (-off[p], -off[p] / tested[p[0]], p))
    pairs = [(names[a], names[b], int(off[a, b]), float(off[a, b] / tested[a])) for a, b in wrong[:PAIRS]]
    recalls = [(names[i], int(n), float(counts[i, i] / n)) for i, n in enumerate(tested) if n]
    recalls.sort(key=lambda r: (r[2], r[0]))
    return Confused(row, Confusion(names, counts), tuple(pairs), tuple(recalls))


def richest(rows: Iterable[Row]) -> Row | None:
    """The row with both features, else points, else views, of the most views; None of none."""
    order = {"both": 0, "points": 1, "views": 2}
    return min(rows, key=lambda row: (order[row.features], -(row.views or 0)), default=None)


def together(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """(C, C) counts -> an order of the classes in which those that are confused stand beside each other."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    if len(counts) < 3:
        return np.arange(len(counts))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    far = 1 - np.minimum(1, shares + shares.T)
    np.fill_diagonal(far, 0)
    return leaves_list(linkage(squareform(far, checks=False), "average", optimal_ordering=True)).astype(
        np.int64
    )


# Hits


def retrieval_grids(rows: Sequence[Row], labels: NDArray[np.int64]) -> tuple[Grid, ...]:
    """The first hits of some queries by every model: within a modality, and of a picture among clouds."""
    grids = []
    within = [row for row in rows if kind_of(row.task) == "retrieval"]
    best = richest(row for row in within if row.model == RUN)
    if best is not None:
        same = [r for r in within if (r.features, r.views) == (best.features, best.views)]
        if best.features == "both":  # D2 has no pictures; its line is that of its points
            have = {row.model for row in same}
            same += [r for r in within if r.features == "points" and r.model not in have]
        grids.append(_grid("shape to shape", best, [(r.model, r) for r in same], labels, FRONTAL))
    across = [r for r in rows if r.task == "retrieval-cross" and r.more["ask"] == "picture" and r.views == 1]
    if across:
        several = len({row.more["by"] for row in across}) > 1
        names = [
            f"{r.model}, {r.more['by']}" if several and r.more["by"] == "cosine" else r.model for r in across
        ]
        lines = list(zip(names, across, strict=True))
        grids.append(_grid("picture to shape", across[0], lines, labels, 0))
    return tuple(grids)


def _grid(
    title: str, row: Row, lines: Sequence[tuple[str, Row]], labels: NDArray[np.int64], view: int
) -> Grid:
    """The grid of these named rows, all of the same queries in their first seed."""
    first = [r.detail["seeds"][0] for _, r in lines]
    asking = np.asarray(first[0]["rows"])
    chosen = choose_queries(labels[asking], QUERIES)
    asked = []
    for place in chosen:
        hits = tuple(tuple(int(hit) for hit in one["ranking"][place][:HITS]) for one in first)
        ranks = tuple(int(one["own_rank"][place]) for one in first if one.get("own_rank") is not None)
        asked.append(Asked(int(asking[place]), hits, ranks))
    return Grid(title, row, tuple(name for name, _ in lines), tuple(asked), view)


def choose_queries(labels: NDArray[np.int64], most: int, seed: int = 0) -> list[int]:
    """(Q,) classes of what asks -> places of at most `most` of them, drawn by the seed, one of a class at most.

    Classes with one member only are left out while others are enough: they have nothing to find.
    """
    generator = np.random.default_rng(seed)
    classes, members = np.unique(labels, return_counts=True)
    order = generator.permutation(len(classes))
    order = order[np.argsort(members[order] < 2, kind="stable")][:most]
    return [int(generator.choice(np.flatnonzero(labels == classes[c]))) for c in sorted(order)]


def pictures(data: LabelledSet, wanted: Sequence[tuple[int, int]]) -> NDArray[np.uint8]:
    """(row, view) of shapes -> (N, S, S) grey pictures, at most `SIZE` wide; fewer views take the last there is."""
    from PIL import Image

    from crosshape.shapes.views import downscale

    library = data.library
    if library is not None:  # it gives single views, without all others being decoded
        names, last = data.names.tolist(), library.settings.views - 1
        stored = [library.view_png(names[row], min(view, last)) for row, view in wanted]
        chosen = np.stack([np.asarray(Image.open(io.BytesIO(one)).convert("L")) for one in stored])
    else:
        views = data.arrays[1]
        chosen = np.stack([views[row, min(view, views.shape[1] - 1)] for row, view in wanted])
    return downscale(chosen, SIZE) if chosen.shape[1] > SIZE else chosen


# Parts


def coloured_parts(rows: Iterable[Row], data: PartSet) -> tuple[Coloured, ...]:
    """The test shapes whose predictions the rows of the first budget and of the smallest kept."""
    rows = [row for row in rows if "guesses" in row.detail]
    if not rows:
        return ()
    sizes = [row.more["labelled"] for row in rows]
    most, least = max(sizes), min(sizes)
    chosen = [row for row in rows if row.more["labelled"] == most and segmented(row) == RUN]
    chosen += [row for row in rows if row.more["labelled"] == least and row not in chosen]
    number = {item.name: i for i, item in enumerate(data.items)}
    found = []
    for place, name in enumerate(rows[0].detail["shown"]):
        shape = number[name]
        label = int(data.labels[shape])
        names = data.layout.part_names[label]
        paint = painter(data.points[shape], len(names))
        drawn: list[tuple[str, float | None, NDArray[np.uint8]]] = [("truth", None, paint(data.parts[shape]))]
        for row in chosen:
            heading = f"{segmented(row)}, {row.more['labels']}"
            drawn.append((heading, row.detail["shown_iou"][place], paint(row.detail["guesses"][place])))
        found.append(Coloured(name, data.layout.classes[label], names, tuple(drawn)))
    return tuple(found)


def painter(points: NDArray[np.float32], count: int, size: int = 160) -> Any:
    """A cloud (N, 3) in the unit sphere -> a function of its parts (N,) that gives pictures (2, S, S, 4) uint8.

    From two sides, each point's neighbourhood in the colour of its part; the ground is transparent. The renderer
    gives shading and depth; a pixel takes the part of the point nearest to what is seen there.
    """
    from PIL import Image
    from scipy.spatial import cKDTree

    from crosshape.shapes.views import EDGE, FRONT, GROUND, camera_ring, focal, render_points
    from crosshape.tasks.heads import colours

    turn = np.radians(30)  # so that the first side is not seen from straight ahead
    turned = points @ np.array(
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]], np.float32
    )
    wide = 2 * size
    seen = render_points(turned, views=2, size=wide, depth=True)
    assert seen.depth is not None
    grid = np.arange(wide) + 0.5 - wide / 2
    nearest = np.zeros((2, wide, wide), np.int64)
    tree = cKDTree(turned)
    for view, camera in enumerate(camera_ring(2)):
        row, column = np.nonzero(np.isfinite(seen.depth[view]))
        far = seen.depth[view, row, column]
        place = np.stack([grid[column] / focal(wide), grid[row] / focal(wide), np.ones(len(far))], axis=1)
        nearest[view, row, column] = tree.query((place * far[:, None] - camera[:, 3]) @ camera[:, :3])[1]
    grey = seen.shading.astype(np.float32)
    light = 0.35 + 0.65 * np.clip((grey - EDGE) / (FRONT - EDGE), 0, 1)
    opaque = np.clip((GROUND - grey) / (GROUND - FRONT), 0, 1) * np.isfinite(seen.depth)

    def paint(parts: NDArray[np.integer]) -> NDArray[np.uint8]:
        shade = colours(count)[parts][nearest] * light[..., None]
        colour = np.concatenate([shade, 255 * opaque[..., None]], axis=3).round().astype(np.uint8)
        small = [Image.fromarray(one, "RGBA").convert("RGBa").reduce(2).convert("RGBA") for one in colour]
        return np.stack([np.asarray(one) for one in small])

    return paint
