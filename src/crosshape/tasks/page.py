"""One self-contained page of an evaluation: figures, pictures, and what must be known to repeat it.

Rows and what they show in, HTML out (results.html is the template; everything it prints is escaped). The page
loads nothing from anywhere and has no script: pictures are data URIs, drawings are SVG.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crosshape.console import duration
from crosshape.report import Figure, Sprite, cells, columns, sprite
from crosshape.tasks.evaluation import Row, kind_of
from crosshape.tasks.shown import FRONTAL, NUMBERED, RUN, Chart, Confused, Grid, Shown, pictures, segmented
from crosshape.tasks.tables import HEADS, PUBLISHED, note, published, tables, word

if TYPE_CHECKING:
    from crosshape.shapes.layouts import Layout
    from crosshape.tasks.labelled import LabelledSet

CELL, LETTER, LONGEST = 15, 6.6, 26
"""Of a confusion matrix: units a cell, a letter of a class name, letters that are written."""

LISTED = 200
"""Skipped shapes that are listed; results.json has all."""

TITLES = {
    "recognition": "Which kind is it?",
    "retrieval": "Which shapes are like this one?",
    "retrieval-cross": "Which shape is in the picture?",
    "few-shot": "Learned from a few",
    "segmentation": "Which part is it?",
}


def results_page(
    about: Mapping[str, Any],
    rows: Sequence[Row],
    shown: Shown,
    layout: Layout,
    data: LabelledSet | None,
) -> str:
    """The page. about: what results.json says beside the rows (record.py)."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("crosshape", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["word"] = word
    places, sheet = _sheet(shown, data)
    models = [
        model for model in dict.fromkeys(row.model for row in rows) if model in (RUN, "untrained", "D2")
    ]
    figures = glance(rows, models)
    skipped = dict(data.skipped if data is not None else ()) | dict(about.get("parts", {}).get("skipped", ()))
    return environment.get_template("tasks/results.html").render(
        title=about["title"],
        about=about,
        facts=facts(about, layout, data),
        models=models,
        figures=figures,
        spread=any(value is not None for figure in figures for value in figure.spreads),
        tables={kind: (head, body, note(kind)) for kind, head, body in tables(rows)},
        titles=TITLES,
        shown=shown,
        charts={name: [svg(one) for one in getattr(shown, name)] for name in ("views", "curves", "budgets")},
        matrix=matrix(shown.confused) if shown.confused else None,
        sheet=sheet,
        places=places,
        frontal=FRONTAL,
        names=data.names.tolist() if data is not None else [],
        labels=[layout.classes[i] for i in data.labels] if data is not None else [],
        parts=[_parts(one) for one in shown.parts],
        by_class=by_class(rows),
        published=published(layout),
        published_title=PUBLISHED,
        card=json.dumps(about["model"]["card"], indent=1, ensure_ascii=False, default=str),
        took=duration(about["seconds"]),
        skipped=list(skipped.items()),
        listed=LISTED,
    )


def facts(about: Mapping[str, Any], layout: Layout, data: LabelledSet | None) -> list[tuple[str, str]]:
    """(number, what it counts)"""
    found = [(f"{len(layout.items):,}", "shapes"), (f"{len(layout.classes):,}", "classes")]
    if data is not None:
        test = int(data.test(0).sum())
        found[0] = (f"{len(data):,}", "shapes")
        found += [(f"{len(data) - test:,}", "to learn the classes from"), (f"{test:,}", "to test on")]
    return [*found, (str(about["model"]["fingerprint"]), "model"), (str(about["date"]), "measured")]


def glance(rows: Iterable[Row], models: Sequence[str]) -> list[Figure]:
    """The headline of every task by every model, of the most views: what a hurried reader looks at."""
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        if row.protocol != "default" or row.more.get("ask") == "shape":
            continue
        measure = next(iter(row.measures))
        task = kind_of(row.task)
        if task == "segmentation":
            if row.more["head"] != "frozen":
                continue
            key = "Parts, frozen features", f"{HEADS[measure]}; labelled: {row.more['labels']}"
        elif task == "few-shot":
            key = f"Few-shot, {row.features}", f"{row.more['ways']} ways, {row.more['shots']} shots"
        elif task == "retrieval-cross":
            key = "Picture finds shape", f"{HEADS[measure]}, by {row.more['by']}, {row.views} view(s)"
        else:
            key = f"{task.capitalize()}, {row.features}", HEADS[measure]
        best = found.setdefault(key, {})
        if task == "retrieval-cross" or (row.views or 0) >= (
            best[row.model].views or 0 if row.model in best else 0
        ):
            best[row.model] = row
    figures = []
    for (name, measure), by in found.items():
        values = tuple(next(iter(by[m].measures.values())) if m in by else None for m in models)
        spreads = tuple(next(iter(by[m].stds.values()), None) if m in by else None for m in models)
        figures.append(Figure(name, measure, values, spreads))
    return figures


def by_class(rows: Iterable[Row]) -> dict[str, Any] | None:
    """Mean IoU of every class by budget and head; None without segmentation."""
    rows = [row for row in rows if row.task == "segmentation"]
    if not rows:
        return None
    rows.sort(key=lambda row: -row.more["labelled"])
    budgets = list(dict.fromkeys((row.more["labels"], row.more["labelled"]) for row in rows))
    groups = [[row for row in rows if row.more["labels"] == name] for name, _ in budgets]
    classes = sorted({name for row in rows for name in row.detail["classes"]})
    return {
        "budgets": [
            (f"{name} ({count:,})", len(g)) for (name, count), g in zip(budgets, groups, strict=True)
        ],
        "heads": [segmented(row) for group in groups for row in group],
        "lines": [(c, [row.detail["classes"].get(c) for g in groups for row in g]) for c in classes],
    }


# Pictures: all small ones are one PNG, shown in pieces


def _sheet(shown: Shown, data: LabelledSet | None) -> tuple[dict[tuple[int, int], str], Sprite | None]:
    """Where every picture of the grids lies in one sheet, by (row, view), as a CSS background-position."""
    wanted = sorted({key for grid in shown.grids for key in wanted_pictures(grid)})
    if not wanted or data is None:
        return {}, None
    wide = columns(len(wanted))
    return dict(zip(wanted, cells(len(wanted)), strict=True)), sprite(pictures(data, wanted), wide)


def wanted_pictures(grid: Grid) -> set[tuple[int, int]]:
    """(row, view) of all that a grid draws: hits are shown by their frontal view."""
    asked = {(one.query, grid.view) for one in grid.asked}
    return asked | {(row, FRONTAL) for one in grid.asked for line in one.hits for row in line}


def png(picture: NDArray[np.uint8]) -> str:
    """(S, S, 4) -> a data URI."""
    from PIL import Image

    memory = io.BytesIO()
    Image.fromarray(picture, "RGBA").save(memory, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(memory.getvalue()).decode()


def _parts(one: Any) -> dict[str, Any]:
    from crosshape.tasks.heads import colours

    legend = [
        (name, "#{:02x}{:02x}{:02x}".format(*colour))
        for name, colour in zip(one.part_names, colours(len(one.part_names)).tolist(), strict=True)
    ]
    drawn = [(heading, iou, [png(side) for side in sides]) for heading, iou, sides in one.pictures]
    return {"name": one.name, "category": one.category, "legend": legend, "pictures": drawn}


# Drawings


def svg(chart: Chart) -> dict[str, Any]:
    """What an SVG of 640 x 360 needs: marks on both axes, points of every line, and words for who cannot see it."""
    left, right, top, bottom = 58, 624, 14, 310
    first, last = chart.ticks[0][0], chart.ticks[-1][0]

    room = max(12.0, *(4.2 * len(text) for _, text in (chart.ticks[0], chart.ticks[-1])))

    def x(value: float) -> float:
        return round(left + room + (right - left - 2 * room) * (value - first) / ((last - first) or 1), 1)

    def y(value: float) -> float:
        share = (min(max(value, chart.low), chart.high) - chart.low) / (chart.high - chart.low)
        return round(bottom - (bottom - top) * share, 1)

    step = 0.1 if chart.high - chart.low <= 0.5 else 0.2
    marks = [
        m * step for m in range(int(np.ceil(chart.low / step - 1e-9)), int(chart.high / step + 1e-9) + 1)
    ]
    lines, told = [], []
    for line in chart.lines:
        points = [(x(a), y(b)) for a, b in line.points]
        spans = [
            (x(a), y(low), y(high)) for (a, _), (low, high) in zip(line.points, line.spans, strict=False)
        ]
        lines.append(
            {
                "name": line.name,
                "tint": min(line.tint, 4),
                "level": line.level,
                "points": points,
                "spans": spans,
                "dots": not line.level and len(points) <= 12,
            }
        )
        every = line.points[:1] if line.level else line.points[:: max(1, len(line.points) // 4)]
        told.append(f"{line.name}: " + ", ".join(f"{b:.3f} at {a:g}" for a, b in every))
    return {
        "title": chart.title,
        "across": chart.across,
        "up": chart.up,
        "marks": [(y(m), f"{m:.1f}") for m in marks],
        "ticks": [(x(a), text) for a, text in chart.ticks],
        "lines": lines,
        "told": f"{chart.title}, {chart.up} by {chart.across}. " + ". ".join(told),
    }


def matrix(confused: Confused) -> dict[str, Any]:
    """What the SVG of a confusion matrix needs: only cells that are not empty."""
    names, counts = list(confused.matrix.classes), np.asarray(confused.matrix.counts)
    short = [name if len(name) <= LONGEST else name[: LONGEST - 1] + "\u2026" for name in names]
    margin = 10 + LETTER * max(map(len, short))
    tested = np.maximum(counts.sum(axis=1), 1)
    found = [
        (int(a), int(b), int(counts[a, b]), float(counts[a, b] / tested[a]))
        for a, b in zip(*np.nonzero(counts), strict=True)
    ]
    return {
        "names": names,
        "short": short,
        "margin": margin,
        "size": margin + CELL * len(names) + 2,
        "cell": CELL,
        "cells": found,
        "numbered": len(names) <= NUMBERED,
        "right": int(np.trace(counts)),
        "all": int(counts.sum()),
    }
