"""How cost grows: one size changed at a time, the time measured, and the law that is expected of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from crosshape.benchmark import parts
from crosshape.benchmark.measuring import Side

STARTS: dict[str, Any] = {"points": 1024, "k": 20, "batch": 8}


@dataclass(frozen=True)
class Growth:
    """One size: seconds for one item, and the exponent of growth from the row before (1: linear)."""

    what: str
    size: int
    seconds: float
    growth: float | None
    law: str


def grow(quick: bool, threads: int) -> list[Growth]:
    """The table; `quick` takes two small sizes of each."""
    rows: list[Growth] = []

    def table(what: str, build: str, law: str, sizes: list[int], **fixed: Any) -> None:
        name = fixed.pop("name")
        before: Growth | None = None
        for size in sizes[:2] if quick else sizes:
            count = size if name == "threads" else threads
            given = fixed if name == "threads" else {**fixed, name: size}
            seconds = _seconds(f"{parts.__name__}:{build}", given, count)
            growth = math.log(seconds / before.seconds) / math.log(size / before.size) if before else None
            before = Growth(what, size, seconds, growth, law)
            rows.append(before)

    points = 256 if quick else 1024
    sizes = [256, 512, 1024, 2048, 4096]
    table(
        "points a cloud, neighbours in space (3 numbers)",
        "neighbours",
        "quadratic",
        sizes,
        name="points",
        channels=3,
        batch=4,
    )
    table(
        "points a cloud, neighbours in 128 numbers",
        "neighbours",
        "quadratic",
        sizes,
        name="points",
        channels=128,
        batch=4,
    )
    table(
        "points a cloud, DGCNN training step",
        "point_training",
        "linear, then quadratic",
        sizes,
        name="points",
        batch=4,
    )
    table(
        "k, DGCNN training step",
        "point_training",
        "a constant and k",
        [10, 20, 40],
        name="k",
        batch=4,
        points=points,
    )
    table(
        "batch, DGCNN training step",
        "point_training",
        "constant a cloud",
        [1, 4, 16, 64],
        name="batch",
        points=points,
    )
    table(
        "threads, DGCNN training step",
        "point_training",
        "1 / threads",
        [1, 2],
        name="threads",
        batch=8,
        points=points,
    )
    table(
        "faces, 12 views of 224",
        "rendering",
        "a constant and linear",
        [500, 5000, 50_000, 500_000, 1_000_000],
        name="faces",
        size=224,
    )
    table(
        "threads, 12 views of 224 of 50,000 faces",
        "rendering",
        "1 / threads",
        [1, 2],
        name="threads",
        faces=50_000,
        size=224,
    )
    return rows  # fmt: skip


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
