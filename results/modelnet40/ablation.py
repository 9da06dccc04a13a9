"""The parts of recipe `dense`, one added after the other, in small: several seeds, each with its own fifth held out.

    python results/modelnet40/ablation.py modelnet40.lance --seeds 3

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
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from experiment import judge

from crosshape.console import print_table
from crosshape.learning.training import Learner, make_ready
from crosshape.networks.allocator import keep_memory
from crosshape.networks.model import untrained_model
from crosshape.settings import RECIPES, NetworkSettings
from crosshape.tasks.labelled import open_data

TABLE = Path(__file__).with_name("ablation.csv")
SLIM = NetworkSettings(k=16, edge_widths=(32, 32, 64, 128), point_width=512, image_width=32)
SIZES = {"points": 512, "encoding_points": 1024, "image_size": 64, "batch_size": 32, "epochs": 4}
NO_GRID = {"reconstruction_weight": 0.0}
STRONG = {"augmentation": "strong", **NO_GRID}
ALONE = {"cross_cloud_weight": 0.0, "cosine_weight": 0.0, **STRONG}
ROWS = {
    "untrained": None,
    "recipe paper": ("paper", {}),
    "cross-modality alone": ("dense", {"cross_view": "none", **ALONE}),
    "cross-view alone": ("dense", {"cross_modality": "none", **ALONE}),
    "both": ("dense", ALONE),
    "both, and clouds agree": ("dense", {"cosine_weight": 0.0, **STRONG}),
    "that, and picture and cloud agree": ("dense", STRONG),
    "that, three pairs a shape": ("dense", {"cross_modality": "pairs", **STRONG}),
    "that, triplets": ("dense", {"cross_view": "triplet", **STRONG}),
    "augmentation of paper": ("dense", NO_GRID),
    "and the grid of the object: dense": ("dense", {}),
    "dense, clouds turned by 20 degrees at most": ("dense", {"turn": 20.0}),
    "turned by 20 degrees, 8 neighbours": ("dense", {"turn": 20.0}, {"k": 8}),
    "that, temperature 0.2": ("dense", {"turn": 20.0, "temperature": 0.2}),
    "that, and weight 30 of the grid": (
        "dense",
        {"turn": 20.0, "temperature": 0.2, "reconstruction_weight": 30.0},
    ),
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
    options = parser.parse_args()
    keep_memory()
    torch.set_num_threads(options.threads)
    for seed in range(options.seeds):
        there = {row["trained_with"] for row in read() if row["seed"] == str(seed)}
        wanted = [name for name in options.only or ROWS if name not in there]
        if not wanted:
            continue
        data = open_data(options.library, image_size=SIZES["image_size"], fifth=1 + seed % 5)
        few = np.concatenate([np.flatnonzero(data.labels == c)[:50] for c in np.unique(data.labels)])
        points, views = (array[few] for array in data.arrays)
        test, labels = data.test(0)[few], data.labels[few]
        for name in wanted:
            model, minutes = learn(name, seed, points, views, np.flatnonzero(~test))
            found = judge(model, points, views, labels, test)
            about = [datetime.date.today().isoformat(), f"{platform.machine()} {options.threads} threads cpu"]
            fresh = not TABLE.exists()
            with TABLE.open("a", newline="") as file:
                writer = csv.writer(file)
                if fresh:
                    writer.writerow(HEAD)
                figures = [round(found[key], 4) for key in FIGURES]
                writer.writerow([*about, name, seed, 1 + seed % 5, round(minutes, 1), *figures])
    show()


def learn(name: str, seed: int, points: np.ndarray, views: np.ndarray, rows: np.ndarray):
    """The model of a row of the table, and the minutes that learning took."""
    if ROWS[name] is None:
        sizes = {"points": points.shape[1], "image_size": views.shape[2]}
        return untrained_model(SLIM, **sizes, seed=seed, clouds=points[rows], views=views[rows]), 0.0
    recipe, changes, *network = ROWS[name]
    settings = replace(RECIPES[recipe], **SIZES, seed=seed, **changes)
    slim = replace(SLIM, **network[0]) if network else SLIM
    learner = Learner(points, views, slim, settings, torch.device("cpu"), rows=rows)
    with tempfile.TemporaryDirectory() as folder:
        learner.run(Path(folder), quiet=True)
    make_ready(learner.model, settings, points, views, rows)
    return learner.model, learner.place.seconds / 60


def read() -> list[dict[str, str]]:
    if not TABLE.exists():
        return []
    with TABLE.open(newline="") as file:
        return list(csv.DictReader(file))


def show() -> None:
    found = read()
    lines = []
    for name in ROWS:
        rows = [row for row in found if row["trained_with"] == name]
        if rows:
            each = np.array([[float(row[key]) for key in FIGURES] for row in rows])
            spread = each.std(axis=0, ddof=1) if len(each) > 1 else np.zeros(len(FIGURES))
            cells = [f"{m:.3f} ± {s:.3f}" for m, s in zip(each.mean(axis=0), spread, strict=True)]
            lines.append([name, str(len(rows)), *cells])
    print_table(["trained with", "seeds", *FIGURES], lines)


if __name__ == "__main__":
    main()
