"""How cost grows: one size changed at a time, the time measured, and the law that is expected of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from crosshape.benchmark import parts
from crosshape.benchmark.measuring import Side


@dataclass(frozen=True)
class Growth:
    """One size: seconds for one item, and the exponent of growth from the row before (1: linear)."""

    what: str
    size: int
    seconds: float
    growth: float | None
    law: str


@dataclass(frozen=True)
class Table:
    """What grows by `name` (a size of the build, or threads) while the other sizes stay."""

    what: str
    build: str
    law: str
    name: str
    values: tuple[int, ...]
    fixed: dict[str, Any]


POINTS = (256, 512, 1024, 2048, 4096)

TABLES = (
    Table("points, neighbours in space by the grid", "neighbours", "linear", "points", (*POINTS, 16384),
          {"channels": 3, "batch": 4, "crowd": 1}),
    Table("points, neighbours in space among all", "neighbours", "quadratic", "points", (*POINTS, 16384),
          {"channels": 3, "batch": 4, "crowd": 1 << 30}),
    Table("points, neighbours in 64 numbers", "neighbours", "quadratic", "points", POINTS,
          {"channels": 64, "batch": 4}),
    Table("points, neighbours in 128 numbers", "neighbours", "quadratic", "points", POINTS,
          {"channels": 128, "batch": 4}),
    Table("points, DGCNN training step", "point_training", "linear, then quadratic", "points", POINTS,
          {"batch": 4}),
    Table("points, DGCNN encoding", "point_encoding", "linear, then quadratic", "points", POINTS,
          {"batch": 4}),
    Table("k, DGCNN training step of 1,024 points", "point_training", "a constant and k", "k", (10, 20, 40),
          {"batch": 4, "points": 1024}),
    Table("batch, DGCNN training step of 1,024 points", "point_training", "the same a cloud", "batch",
          (2, 4, 16, 64), {"points": 1024}),  # BatchNorm over one cloud is not defined
    Table("batch, DGCNN encoding of 1,024 points", "point_encoding", "the same a cloud", "batch",
          (1, 4, 16, 64), {"points": 1024}),
    Table("threads, DGCNN training step of 1,024 points", "point_training", "1 / threads", "threads", (1, 2),
          {"batch": 8, "points": 1024}),
    Table("faces, 12 views of 224", "rendering", "a constant and linear", "faces",
          (500, 5000, 50_000, 500_000, 1_000_000), {"size": 224}),
    Table("threads, 12 views of 224 of 50,000 faces", "rendering", "1 / threads", "threads", (1, 2),
          {"faces": 50_000, "size": 224}),
    Table("workers, add 108 made shapes", "add_shapes", "1 / workers", "threads", (1, 2),
          {"folder": None, "count": 108}),
)  # fmt: skip


def grow(quick: bool, threads: int) -> list[Growth]:
    """The tables; `quick` takes the two smallest sizes of each, with fewer points and faces."""
    rows: list[Growth] = []
    for table in TABLES:
        fixed = {**table.fixed}
        if quick:
            small = {"points": 256, "faces": 500, "count": 27}
            fixed = {name: min(value, small.get(name, value)) if value else value
                     for name, value in fixed.items()}  # fmt: skip
        before: Growth | None = None
        for size in table.values[:2] if quick else table.values:
            count = size if table.name == "threads" else threads
            given = fixed if table.name == "threads" else {**fixed, table.name: size}
            seconds = _seconds(f"{parts.__name__}:{table.build}", given, count)
            growth = math.log(seconds / before.seconds) / math.log(size / before.size) if before else None
            before = Growth(table.what, size, seconds, growth, table.law)
            rows.append(before)
    return rows


def _seconds(build: str, sizes: dict[str, Any], threads: int) -> float:
    """Seconds an item of our side: the median of three repetitions after a warm-up."""
    side = Side(build, "ours", sizes, threads, "cpu")
    try:
        side.turn(counts=False)
        for _ in range(3):
            side.turn()
    finally:
        side.close()
    return 1 / sorted(side.rates)[1]
