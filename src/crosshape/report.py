"""One self-contained page about what a model learned: pictures, figures, neighbours, a map.

Plain data in, HTML out (report.html is the template; everything it prints is escaped). The page loads nothing
from anywhere: pictures are data URIs, drawings are SVG, the few lines of script are its own. Parts that a
report has no data for are left out. `crosshape demo` makes one; any caller may fill a Report.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosshape.files import write_whole

MOST = 2_000
"""Shapes a page may show; more make a file too large to open with pleasure."""

NEAR, DRAWN = 6, 5
"""Neighbours of a shape that are kept for a click, and that are drawn for a query."""

GROUND, FRONT = 255, 210
"""Greys of a view (shapes/views.py): ground, and a surface seen from the front; between lie soft edges."""

DARK, LIGHT = (38, 50, 78), (205, 217, 238)
"""The colours (R, G, B) that grey 0 and grey FRONT become."""


@dataclass(frozen=True)
class Figure:
    """One measured figure for every source of features; None where a source has no such features."""

    name: str
    measure: str
    values: tuple[float | None, ...]
    """shares, 0 to 1, more is better"""
    spreads: tuple[float | None, ...] = ()
    """standard deviation over seeds, None for one seed"""


@dataclass(frozen=True)
class Confusion:
    """counts (C, C): a row a true class, a column a predicted one."""

    classes: Sequence[str]
    counts: NDArray[np.integer]


@dataclass(frozen=True)
class Report:
    """All that the page shows of N shapes. Texts are plain text; the page escapes them.

    Raises ValueError for more than MOST shapes, for none, and for parts whose sizes differ.
    """

    title: str
    lead: str
    names: Sequence[str]
    views: NDArray[np.uint8]
    """(N, V, S, S), grey, 255 is ground"""
    labels: Sequence[str] | None = None
    facts: Sequence[tuple[str, str]] = ()
    """(number, what it counts)"""
    sources: Sequence[str] = ()
    """the columns of the figures; the first is the model that the page is about"""
    figures: Sequence[Figure] = ()
    curves: Sequence[Mapping[str, Any]] = ()
    """rows of metrics.jsonl: epoch and numbers by name"""
    confusion: Confusion | None = None
    neighbours: Mapping[str, NDArray[np.integer]] = field(default_factory=dict)
    """by source, (N, k) rows of the nearest shapes, best first, -1 where there is no more"""
    queries: Sequence[int] = ()
    """rows whose neighbours are drawn"""
    places: NDArray[np.floating] | None = None
    """(N, 2) of the map, 0 to 1"""
    groups: Sequence[Sequence[int]] = ()
    skipped: Sequence[tuple[str, str]] = ()
    """(path, reason)"""
    method: Sequence[str] = ()
    """how it was measured, a paragraph each"""

    def __post_init__(self) -> None:
        count = len(self.names)
        if not 1 <= count <= MOST:
            raise ValueError(f"a page shows 1 to {MOST} shapes, not {count}; choose some of them")
        sizes = {"views": self.views, "labels": self.labels, "places": self.places, **self.neighbours}
        for name, part in sizes.items():
            if part is not None and len(part) != count:
                raise ValueError(f"{name} are of {len(part)} shapes, names of {count}")
        if self.views.ndim != 4:
            raise ValueError(f"views must be (N, V, S, S), not {self.views.shape}")

    def html(self) -> str:
        """The page."""
        from jinja2 import Environment, PackageLoader, StrictUndefined

        environment = Environment(
            loader=PackageLoader("crosshape", ""),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
        )
        turning = turning_rows(self.labels, len(self.names))
        pictures = self.views[turning]
        return environment.get_template("report.html").render(
            report=self,
            cells=cells(len(self.names)),
            sheet=sprite(self.views[:, 0], columns(len(self.names))),
            turning=sprite(pictures.reshape(-1, *pictures.shape[2:]), pictures.shape[1]),
            turning_rows=turning,
            places=None if self.places is None else spread_out(self),
            sorted_labels=sorted(set(self.labels or ())),
            groups=named_groups(self),
            charts=charts(self.curves),
            near={name: clean(rows, NEAR) for name, rows in self.neighbours.items()},
            drawn=DRAWN,
        )

    def write(self, path: str | Path) -> None:
        """Write the page, as a whole or not at all."""
        write_whole(Path(path), self.html().encode())


def clean(rows: NDArray[np.integer], most: int) -> list[list[int]]:
    """Rows of neighbours (N, k) -> at most so many of each, without the -1 where a list ended."""
    return [[int(row) for row in line[:most] if row >= 0] for line in rows]


# Pictures: all small ones are one PNG, shown in pieces, so that each is kept once.


@dataclass(frozen=True)
class Sprite:
    """A data URI of many pictures, and how many stand beside and below each other."""

    uri: str
    columns: int
    rows: int


def columns(count: int) -> int:
    """How many pictures stand side by side in a sheet of so many."""
    return max(1, int(np.ceil(np.sqrt(count))))


def cells(count: int) -> list[str]:
    """The CSS background-position of every picture of a sheet of so many."""
    wide = columns(count)
    across, down = max(wide - 1, 1), max(-(-count // wide) - 1, 1)
    return [f"{100 * (i % wide) / across:.4g}% {100 * (i // wide) / down:.4g}%" for i in range(count)]


def sprite(pictures: NDArray[np.uint8], wide: int) -> Sprite:
    """Pictures (N, S, S), `wide` side by side -> one PNG: the greys as colours, the ground as nothing."""
    from PIL import Image

    count, size = pictures.shape[:2]
    high = -(-count // wide)
    sheet = np.full((high * wide, size, size), GROUND, np.uint8)
    sheet[:count] = pictures
    sheet = sheet.reshape(high, wide, size, size).swapaxes(1, 2).reshape(high * size, wide * size)
    grey = np.arange(256)
    share = np.clip(grey / FRONT, 0, 1)[:, None]
    palette = np.rint(np.array(DARK) + share * (np.array(LIGHT) - np.array(DARK))).astype(np.uint8)
    opacity = np.rint(255 * np.clip((GROUND - grey) / (GROUND - FRONT), 0, 1)).astype(np.uint8)
    image = Image.frombytes("P", (wide * size, high * size), sheet.tobytes())
    image.putpalette(palette.tobytes())
    memory = io.BytesIO()
    image.save(memory, "PNG", optimize=True, transparency=opacity.tobytes())
    return Sprite("data:image/png;base64," + base64.b64encode(memory.getvalue()).decode(), wide, high)


def turning_rows(labels: Sequence[str] | None, count: int, most: int = 24) -> list[int]:
    """The shapes that turn on top of the page: the first of every class, or some evenly; at most so many."""
    rows = list(range(count))
    if labels is not None:
        rows = sorted({label: row for row, label in reversed(list(enumerate(labels)))}.values())
    return [rows[i * len(rows) // min(most, len(rows))] for i in range(min(most, len(rows)))]


# Map, groups and curves


def spread_out(report: Report) -> dict[str, Any]:
    """The map, in percent: size of a picture, places (N, 2), and of class names, below the middlemost shape."""
    size = min(7.0, 66 / np.sqrt(len(report.names)))
    spots = 100 * apart(np.asarray(report.places, np.float64), size / 100)
    labels = np.array(report.labels if report.labels is not None else [])
    middles = {}
    for label in np.unique(labels):
        own = spots[labels == label]
        inmost = np.linalg.norm(own - np.median(own, axis=0), axis=1).argmin()
        middles[str(label)] = [own[inmost, 0], min(own[inmost, 1] + 0.45 * size, 99)]
    return {"size": size, "spots": spots.tolist(), "middles": middles}


def apart(places: NDArray[np.float64], size: float, rounds: int = 60) -> NDArray[np.float64]:
    """Places (N, 2) in the unit square, pushed from each other until few lie closer than `size`."""
    for _ in range(rounds):
        gap = places[:, None] - places
        far = np.linalg.norm(gap, axis=2) + 1e-9
        push = np.clip(0.9 * size - far, 0, None)
        np.fill_diagonal(push, 0)
        places = places + 0.25 * (gap / far[:, :, None] * push[:, :, None]).sum(axis=1)
        places = np.clip(places, size / 2, 1 - size / 2)
    return places


def named_groups(report: Report) -> list[dict[str, Any]]:
    """Every group: its rows, and the label most of them have."""
    groups = []
    for rows in report.groups:
        inside = [report.labels[row] for row in rows] if report.labels is not None else []
        common = max(sorted(set(inside)), key=inside.count, default=None)
        groups.append({"rows": list(rows), "label": common, "count": inside.count(common or "")})
    return groups


LINES = {
    "cross_view": "view and view",
    "cross_modality": "picture and cloud, by the judge",
    "cosine": "picture and cloud, by cosine",
    "cross_cloud": "cloud and cloud",
    "reconstruction": "the grid of the object",
}


def charts(curves: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The parts of the loss, and the accuracy of the correspondence network, as lines to draw."""
    if len(curves) < 2:
        return []
    lines = {
        title: [(row["epoch"], row[name]) for row in curves if name in row] for name, title in LINES.items()
    }
    judge = [(row["epoch"], row["judge_accuracy"]) for row in curves if "judge_accuracy" in row]
    drawn = [chart("loss", {title: line for title, line in lines.items() if line}, 0.0, None)]
    return drawn + ([chart("accuracy", {"the judge is right": judge}, 0.5, 1.0)] if judge else [])


def chart(
    unit: str, lines: Mapping[str, Sequence[tuple[float, float]]], low: float, high: float | None
) -> dict[str, Any]:
    """Lines [(x, y)] -> what an SVG of 640 x 300 needs: points, and marks on the axis."""
    every = [point for line in lines.values() for point in line]
    right = max((x for x, _ in every), default=0) or 1.0
    top = high if high is not None else max((y for _, y in every), default=0) or 1.0

    def down(y: float) -> float:
        return 10 + 258 * (1 - (min(max(y, low), top) - low) / (top - low))

    drawn = {
        title: " ".join(f"{44 + 588 * x / right:.1f},{down(y):.1f}" for x, y in line)
        for title, line in lines.items()
    }
    marks = [low + share * (top - low) for share in (0, 0.25, 0.5, 0.75, 1)]
    return {
        "unit": unit,
        "lines": drawn,
        "marks": [(down(y), f"{y:.2g}") for y in marks],
        "right": f"{right:g}",
    }


# What a caller may fill a report with


def flat(features: NDArray[np.floating], seed: int = 0) -> NDArray[np.floating]:
    """Features (N, D) -> places (N, 2) in the unit square, by t-SNE on cosines; N from 4."""
    from sklearn.manifold import TSNE

    nearby = min(15.0, (len(features) - 1) / 3)
    places = TSNE(perplexity=nearby, init="pca", metric="cosine", random_state=seed).fit_transform(features)
    low, high = places.min(axis=0), places.max(axis=0)
    return (places - low) / np.maximum(high - low, 1e-12)


def alike(features: NDArray[np.floating], count: int) -> list[list[int]]:
    """Features (N, D) of length 1 -> `count` groups of rows, largest first, by Ward's linkage."""
    from sklearn.cluster import AgglomerativeClustering

    owner = AgglomerativeClustering(n_clusters=count).fit_predict(features)
    groups = [np.flatnonzero(owner == i).tolist() for i in range(count)]
    return sorted(groups, key=lambda rows: (-len(rows), rows))
