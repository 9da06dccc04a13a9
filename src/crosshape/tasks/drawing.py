"""The pictures of an evaluation as PNG files, to be put into a paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crosshape.report import DARK, FRONT, GROUND, LIGHT
from crosshape.tasks.shown import FRONTAL, NUMBERED, Chart, Coloured, Confused, Grid, Shown, pictures

if TYPE_CHECKING:
    from crosshape.tasks.labelled import LabelledSet

COLOURS = ("#3b6fd8", "#d9822b", "#1e9e63", "#a04fc9", "#8a6d3b")
MARKERS, DASHES = "osDv^", ("-", (0, (6, 2.5)), (0, (1.5, 1.5)), "-.", ":")
GOOD, BAD, INK, SOFT = "#1e9e63", "#d6455d", "#1b2233", "#5d6880"

LETTERS = 22
"""Letters of a class name that are written."""


def write_pictures(folder: Path, shown: Shown, data: LabelledSet | None) -> list[str]:
    """Write confusion.png, views.png, precision-recall.png, retrieval.png, retrieval-cross.png, labels.png and
    parts.png, those that there is something for, into a new folder; returns their names.
    """
    import warnings

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    style: Any = {
        "text.parse_math": False,
        "font.size": 9,
        "text.color": INK,
        "axes.edgecolor": "#b9c1d0",
        "axes.labelcolor": INK,
        "xtick.color": SOFT,
        "ytick.color": SOFT,
    }
    made: dict[str, Any] = {}
    with pyplot.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")  # a name in letters the font has not
        if shown.confused:
            made["confusion"] = _confusion(shown.confused)
        for name, charts in (
            ("views", shown.views),
            ("precision-recall", shown.curves),
            ("labels", shown.budgets),
        ):
            if charts:
                made[name] = _charts(charts)
        for one in shown.grids:
            if data is not None:
                made["retrieval" if one.title == "shape to shape" else "retrieval-cross"] = _grid(one, data)
        if shown.parts:
            made["parts"] = _parts(shown.parts)
        folder.mkdir()
        for name, figure in made.items():
            figure.savefig(folder / f"{name}.png", dpi=160, bbox_inches="tight", facecolor="white")
            pyplot.close(figure)
    return [f"{name}.png" for name in made]


def short(name: str, letters: int = LETTERS) -> str:
    """A name that fits, without control characters."""
    from crosshape.console import printable

    name = printable(name)
    return name if len(name) <= letters else name[: letters - 1] + "\u2026"


def _charts(charts: Sequence[Chart]) -> Any:
    from matplotlib import pyplot

    figure, every = pyplot.subplots(
        1, len(charts), figsize=(4.2 * len(charts), 3.4), squeeze=False, layout="constrained"
    )
    named: dict[Any, Any] = {}  # a name has the same colour on every chart
    for axes, chart in zip(every[0], charts, strict=True):
        for line in chart.lines:
            colour, tint = COLOURS[min(line.tint, 4)], min(line.tint, 4)
            x, y = np.array(line.points).T
            if line.level:
                axes.plot(x, y, color=colour, lw=1.2, ls=":", label=line.name)
            elif len(x) > 12:
                axes.plot(x, y, color=colour, lw=1.8, ls=DASHES[tint], label=line.name)
            else:
                axes.plot(x, y, color=colour, lw=1.6, marker=MARKERS[tint], ms=5, label=line.name)
            if line.spans:
                low, high = np.array(line.spans).T
                axes.vlines(x, low, high, color=colour, lw=1, alpha=0.7)
        axes.set_title(chart.title, fontsize=10, loc="left")
        axes.set(xlabel=chart.across, ylabel=chart.up, ylim=(chart.low, chart.high + 1e-3))
        axes.set_xticks([x for x, _ in chart.ticks], [text for _, text in chart.ticks])
        axes.grid(axis="y", color="#e3e7ef", lw=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        named.update({line.get_label(): line for line in axes.get_lines()})
    columns = min(len(named), 3 * len(charts))  # below the axes: within them it would lie on a line
    figure.legend(
        named.values(), named.keys(), loc="outside lower center", ncols=columns, frameon=False, fontsize=8
    )
    return figure


def _confusion(confused: Confused) -> Any:
    from matplotlib import pyplot
    from matplotlib.colors import LinearSegmentedColormap

    counts = np.asarray(confused.matrix.counts)
    names = [short(name) for name in confused.matrix.classes]
    count = len(names)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 1.6 + max(2.0, 0.2 * count if count <= 60 else 0.13 * count)
    figure, axes = pyplot.subplots(figsize=(side, side))
    for colour, some in ((GOOD, np.eye(count, dtype=bool)), (BAD, ~np.eye(count, dtype=bool))):
        tones = LinearSegmentedColormap.from_list("tones", ["white", colour])
        axes.imshow(
            np.ma.masked_array(np.where(counts > 0, 0.16 + 0.74 * shares, 0), ~some),
            cmap=tones,
            vmin=0,
            vmax=1,
        )
    if count <= NUMBERED:
        for a, b in zip(*np.nonzero(counts), strict=True):
            axes.text(b, a, str(counts[a, b]), ha="center", va="center", fontsize=5.5)
    size = 7.5 if count <= 60 else 5
    axes.set_xticks(range(count), names, rotation=90, fontsize=size)
    axes.set_yticks(range(count), names, fontsize=size)
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#e6eaf1", lw=0.4)
    axes.tick_params(which="both", length=0)
    axes.set_xlabel("taken for")
    axes.set_ylabel("is")
    return figure


def _tinted(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(..., S, S) greys -> (..., S, S, 3): coloured as on the page, on white."""
    values = grey.astype(np.float32)[..., None]
    colour = np.array(DARK) + np.clip(values / FRONT, 0, 1) * (np.array(LIGHT) - np.array(DARK))
    opaque = np.clip((GROUND - values) / (GROUND - FRONT), 0, 1)
    return (opaque * colour + (1 - opaque) * 255).round().astype(np.uint8)


def _canvas(width: float, height: float, scale: float) -> Any:
    """Axes in units of pictures, the origin at the top left."""
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(width * scale, height * scale))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return figure, axes


def _grid(grid: Grid, data: LabelledSet) -> Any:
    """A row a query: what asked, then the first hits of the run."""
    from matplotlib.patches import Rectangle

    hits = max(len(one.hits[0]) for one in grid.asked)
    figure, axes = _canvas(hits + 1.3, 1.16 * len(grid.asked) + 0.1, 0.85)
    labels = [data.layout.classes[i] for i in data.labels]
    keys = [(one.query, grid.view) for one in grid.asked]
    keys += [(row, FRONTAL) for one in grid.asked for row in one.hits[0]]
    drawn = dict(zip(keys, _tinted(pictures(data, keys)), strict=True))
    for number, one in enumerate(grid.asked):
        top = 0.1 + 1.16 * number
        axes.imshow(drawn[one.query, grid.view], extent=(0.05, 1, top + 0.95, top), zorder=1)
        axes.text(
            0.52, top + 0.98, short(labels[one.query], 16), ha="center", va="top", fontsize=6.5, weight="bold"
        )
        for place, row in enumerate(one.hits[0]):
            left = 1.3 + place
            good = labels[row] == labels[one.query]
            colour = GOOD if good else BAD
            axes.imshow(drawn[row, FRONTAL], extent=(left, left + 0.95, top + 0.95, top), zorder=1)
            frame = Rectangle(
                (left, top),
                0.95,
                0.95,
                fill=False,
                ec=colour,
                lw=1.3,
                ls="-" if good else (0, (3, 2)),
                zorder=2,
            )
            axes.add_patch(frame)
            axes.text(
                left + 0.9,
                top + 0.05,
                "\u2713" if good else "\u2717",
                color=colour,
                ha="right",
                va="top",
                fontsize=8,
            )
            if not good:
                axes.text(
                    left + 0.475,
                    top + 0.98,
                    short(labels[row], 16),
                    color=colour,
                    ha="center",
                    va="top",
                    fontsize=6,
                )
    axes.set(xlim=(0, hits + 1.3), ylim=(1.16 * len(grid.asked) + 0.1, 0))
    return figure


def _parts(parts: Sequence[Coloured]) -> Any:
    """Bands of six shapes: above the truth, below what was predicted."""
    lines = [heading for heading, _, _ in parts[0].pictures]
    bands = [parts[start : start + 6] for start in range(0, len(parts), 6)]
    high = 1.12 * len(lines) + 0.35
    width, height = 1.1 + len(bands[0]), high * len(bands)
    figure, axes = _canvas(width, height, 1.15)
    for band, some in enumerate(bands):
        for line, heading in enumerate(lines):
            top = band * high + 0.3 + 1.12 * line
            axes.text(
                1.02, top + 0.5, heading.replace(", ", ",\n"), ha="right", va="center", fontsize=7, color=SOFT
            )
            for column, one in enumerate(some):
                _, iou, sides = one.pictures[line]
                left = 1.1 + column
                axes.imshow(sides[0], extent=(left, left + 1, top + 1, top))
                if line == 0:
                    axes.text(
                        left + 0.5,
                        top - 0.04,
                        short(one.category, 16),
                        ha="center",
                        fontsize=8,
                        weight="bold",
                    )
                elif iou is not None:
                    axes.text(left + 0.5, top + 1.07, f"IoU {iou:.2f}", ha="center", fontsize=6.5, color=SOFT)
    axes.set(xlim=(0, width), ylim=(height, 0))
    return figure
