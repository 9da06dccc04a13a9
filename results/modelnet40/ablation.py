"""The parts of recipe `dense`, one added after the other, in small: several seeds, each with its own fifth held out.

    python results/modelnet40/ablation.py modelnet40.lance --seeds 3
    python results/modelnet40/ablation.py modelnet40.lance --seeds 3 --ideas

Learns from the first 50 shapes of every class (by name) without the held-out fifth of them, with a slim network, and
is judged on that fifth as in `experiment.py`. Every row is appended to ablation.csv as soon as it is measured; rows
that are there already are not measured again. Prints the table of means and standard deviations over the seeds.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiment import judge
from torch import Tensor

from crosshape.console import print_table
from crosshape.learning import augment, training
from crosshape.learning.training import Learner, make_ready
from crosshape.networks.allocator import keep_memory
from crosshape.networks.model import untrained_model
from crosshape.settings import RECIPES, NetworkSettings
from crosshape.shapes import views
from crosshape.shapes.made import CLASSES, make_shape
from crosshape.shapes.surface import normalise, sample_surface
from crosshape.tasks.labelled import open_data

TABLE = Path(__file__).with_name("ablation.csv")
SLIM = NetworkSettings(k=16, edge_widths=(32, 32, 64, 128), point_width=512, image_width=32)
SIZES = {"points": 512, "encoding_points": 1024, "image_size": 64, "batch_size": 32, "epochs": 4}
NO_GRID = {"reconstruction_weight": 0.0}
STRONG = {"augmentation": "strong", **NO_GRID}
ALONE = {"cross_cloud_weight": 0.0, "cosine_weight": 0.0, **STRONG}


Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]
"""points (N, P, 3), views (N, V, S, S), the rows that are learned from."""


@dataclass(frozen=True)
class Row:
    """How one row of the table learns; what is not said is as in `dense`, in small."""

    changes: dict[str, Any] = field(default_factory=dict)
    recipe: str = "dense"
    network: dict[str, Any] = field(default_factory=dict)
    data: Callable[[np.ndarray, np.ndarray, np.ndarray], Arrays] | None = None
    """What is learned from and judged in place of the library's arrays; more shapes come after its own."""
    look: Callable[[float], Callable[..., Tensor]] | None = None
    """The share of training that is done -> what stands in for `augment_points`."""


def cut_away(done: float) -> Callable[..., Tensor]:
    """Up to 40 % of each cloud lie behind a random plane and are missing, as in `strong`; all else as in `paper`."""

    def look(points: Tensor, count: int, style: str, generator: torch.Generator, turn: float) -> Tensor:
        hidden = augment._beyond_cut(points, count, generator)
        order = (torch.rand(hidden.shape, generator=generator) + hidden).argsort(dim=1)[:, :count]
        seen = points.gather(1, order[:, :, None].expand(-1, -1, 3))
        return augment.augment_points(seen, count, style, generator, turn)

    return look


def few_points_first(done: float) -> Callable[..., Tensor]:
    """Half as many points in the first half of training."""

    def look(points: Tensor, count: int, style: str, generator: torch.Generator, turn: float) -> Tensor:
        return augment.augment_points(points, count // 2 if done < 0.5 else count, style, generator, turn)

    return look


def drawn_again(cloud: np.ndarray, **how: Any) -> views.Rendered:
    return views.render_points(cloud, size=2 * SIZES["image_size"], supersample=2, **how)


def depth_of(cloud: np.ndarray) -> np.ndarray:
    """(V, S, S) uint8: near is dark, far is light, the ground is white."""
    depth = drawn_again(cloud, depth=True).depth
    grey = np.where(np.isfinite(depth), 30 + 180 * (depth - views.DISTANCE + 1) / 2, views.GROUND)
    return views.downscale(grey.clip(0, 255).astype(np.uint8), SIZES["image_size"])


def depth_alone(points: np.ndarray, pictures: np.ndarray, rows: np.ndarray) -> Arrays:
    return points, np.stack([depth_of(cloud) for cloud in points]), rows


def depth_beside(points: np.ndarray, pictures: np.ndarray, rows: np.ndarray) -> Arrays:
    """Twelve more pictures of each shape, so that a grey one may have to find one of depth, and the other way round."""
    return points, np.concatenate([pictures, depth_alone(points, pictures, rows)[1]], axis=1), rows


def wide_discs(points: np.ndarray, pictures: np.ndarray, rows: np.ndarray) -> Arrays:
    """Every point a disc of 0.6 spacings instead of 0.25."""
    kept, views.DISC = views.DISC, 0.6
    try:
        again = [views.downscale(drawn_again(cloud).shading, SIZES["image_size"]) for cloud in points]
    finally:
        views.DISC = kept
    return points, np.stack(again), rows


def made_beside(points: np.ndarray, pictures: np.ndarray, rows: np.ndarray) -> Arrays:
    """540 shapes made from code (27 kinds), their views drawn from their points as those of the others."""
    clouds, seen = [], []
    for label in CLASSES:
        for seed in range(1, 21):
            made = make_shape(label, seed)
            vertices, _, _ = normalise(made.vertices, made.faces)
            clouds.append(sample_surface(vertices, made.faces, points.shape[1], seed)[0])
            seen.append(views.downscale(drawn_again(clouds[-1]).shading, SIZES["image_size"]))
    more = np.arange(len(points), len(points) + len(clouds))
    return (
        np.concatenate([points, np.stack(clouds).astype(points.dtype)]),
        np.concatenate([pictures, np.stack(seen)]),
        np.concatenate([rows, more]),
    )


ROWS = {
    "untrained": None,
    "recipe paper": Row(recipe="paper"),
    "cross-modality alone": Row({"cross_view": "none", **ALONE}),
    "cross-view alone": Row({"cross_modality": "none", **ALONE}),
    "both": Row(ALONE),
    "both, and clouds agree": Row({"cosine_weight": 0.0, **STRONG}),
    "that, and picture and cloud agree": Row(STRONG),
    "that, three pairs a shape": Row({"cross_modality": "pairs", **STRONG}),
    "that, triplets": Row({"cross_view": "triplet", **STRONG}),
    "augmentation of paper": Row(NO_GRID),
    "and the grid of the object: dense": Row(),
    "dense, clouds turned by 20 degrees at most": Row({"turn": 20.0}),
    "turned by 20 degrees, 8 neighbours": Row({"turn": 20.0}, network={"k": 8}),
    "that, temperature 0.2": Row({"turn": 20.0, "temperature": 0.2}),
    "that, and weight 30 of the grid": Row({"turn": 20.0, "temperature": 0.2, "reconstruction_weight": 30.0}),
}
IDEAS = {
    "dense, weight decay 0": Row({"weight_decay": 0.0}),
    "dense, weight decay 0.5": Row({"weight_decay": 0.5}),
    "dense, parts of clouds cut away": Row(look=cut_away),
    "dense, 256 points in the first half": Row(look=few_points_first),
    "dense, made shapes mixed in, as many steps": Row({"epochs": 3}, data=made_beside),
    "dense, pictures of depth": Row(data=depth_alone),
    "dense, pictures of depth beside the grey ones": Row(data=depth_beside),
    "dense, discs of 0.6 spacings": Row(data=wide_discs),
    "dense, wider point network": Row(network={"edge_widths": (64, 64, 128, 256), "point_width": 1024}),
    "dense, wider view network": Row(network={"image_width": 64}),
}
FIGURES = "points views both features map_points map_views map_both nn_points".split()
HEAD = ["date", "machine", "trained_with", "seed", "split", "minutes", *FIGURES]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("library")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", metavar="ROW", help="names of rows to measure now")
    parser.add_argument("--ideas", action="store_true", help="what is not in dense instead")
    options = parser.parse_args()
    keep_memory()
    torch.set_num_threads(options.threads)
    for seed in range(options.seeds):
        there = {row["trained_with"] for row in read() if row["seed"] == str(seed)}
        wanted = [name for name in options.only or (IDEAS if options.ideas else ROWS) if name not in there]
        if not wanted:
            continue
        data = open_data(options.library, image_size=SIZES["image_size"], fifth=1 + seed % 5)
        few = np.concatenate([np.flatnonzero(data.labels == c)[:50] for c in np.unique(data.labels)])
        points, pictures = (array[few] for array in data.arrays)
        test, labels = data.test(0)[few], data.labels[few]
        for name in wanted:
            row = {**ROWS, **IDEAS}[name]
            arrays = (points, pictures, np.flatnonzero(~test))
            if row and row.data:
                arrays = row.data(*arrays)
            model, minutes = learn(row, seed, *arrays)
            found = judge(model, arrays[0][: len(few)], arrays[1][: len(few)], labels, test)
            about = [datetime.date.today().isoformat(), f"{platform.machine()} {options.threads} threads cpu"]
            fresh = not TABLE.exists()
            with TABLE.open("a", newline="") as file:
                writer = csv.writer(file)
                if fresh:
                    writer.writerow(HEAD)
                figures = [round(found[key], 4) for key in FIGURES]
                writer.writerow([*about, name, seed, 1 + seed % 5, round(minutes, 1), *figures])
    show()


def learn(row: Row | None, seed: int, points: np.ndarray, pictures: np.ndarray, rows: np.ndarray):
    """The model of a row of the table, and the minutes that learning took."""
    if row is None:
        sizes = {"points": points.shape[1], "image_size": pictures.shape[2]}
        return untrained_model(SLIM, **sizes, seed=seed, clouds=points[rows], views=pictures[rows]), 0.0
    settings = replace(RECIPES[row.recipe], **{**SIZES, **row.changes}, seed=seed)
    learner = Learner(
        points, pictures, replace(SLIM, **row.network), settings, torch.device("cpu"), rows=rows
    )
    if row.look:
        training.augment_points = lambda *given: row.look(learner.place.step / learner.steps)(*given)
    try:
        with tempfile.TemporaryDirectory() as folder:
            learner.run(Path(folder), quiet=True)
    finally:
        training.augment_points = augment.augment_points
    make_ready(learner.model, settings, points, pictures, rows)
    return learner.model, learner.place.seconds / 60


def read() -> list[dict[str, str]]:
    if not TABLE.exists():
        return []
    with TABLE.open(newline="") as file:
        return list(csv.DictReader(file))


def show() -> None:
    found = read()
    lines = []
    for name in [*ROWS, *IDEAS]:
        rows = [row for row in found if row["trained_with"] == name]
        if rows:
            each = np.array([[float(row[key]) for key in FIGURES] for row in rows])
            spread = each.std(axis=0, ddof=1) if len(each) > 1 else np.zeros(len(FIGURES))
            cells = [f"{m:.3f} ± {s:.3f}" for m, s in zip(each.mean(axis=0), spread, strict=True)]
            lines.append([name, str(len(rows)), *cells])
    print_table(["trained with", "seeds", *FIGURES], lines)


if __name__ == "__main__":
    main()
