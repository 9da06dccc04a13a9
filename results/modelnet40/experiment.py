"""One experiment on ModelNet40's training clouds: train a recipe on four fifths, judge it on the fifth.

    crosshape add ModelNet40 modelnet40.lance --points 1024 --image-size 112
    python results/modelnet40/experiment.py modelnet40.lance RUN --recipe dense --epochs 6 --set points=512

Appends a row to results/modelnet40/table.csv and never overwrites one. A run that was stopped goes on where it
was. In place of the library, modelnet40.packed does (packed.py). `--split K` chooses the fifth that is held out of
training and of the SVM's training rows; nothing is chosen on it but the recipe, which is why the official test split
is a blind measurement. `--all` trains on that fifth as well, once the recipe is settled: its row in the table is then
of shapes that were learned from, without labels.
Views are splatted from 1,024 points. points, views, both: accuracy of the linear machine on all layers, as in
`crosshape evaluate`; features: on the 512 numbers of a cloud alone; the others are of what search compares.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import platform
from pathlib import Path

import numpy as np
import torch
from packed import open_packed

from crosshape.commands.train import arguments as train_arguments
from crosshape.commands.train import chosen
from crosshape.learning.alike import most_alike
from crosshape.learning.run import LIKES, begin, load_likes, save_likes, write_settings
from crosshape.learning.training import Learner, make_ready
from crosshape.networks.allocator import keep_memory
from crosshape.networks.model import choose_device, load_model, untrained_model
from crosshape.settings import FEATURES, NetworkSettings
from crosshape.tasks.evaluation import vectors
from crosshape.tasks.labelled import FeatureSet, open_data
from crosshape.tasks.recognition import recognise
from crosshape.tasks.retrieval import retrieve

TABLE = Path(__file__).with_name("table.csv")
HEAD = (
    "date recipe settings seed split epochs minutes shapes_per_second machine "
    "points views both features map_points map_views map_both nn_points"
).split()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    train_arguments(parser)
    parser.add_argument("--split", type=int, default=1)
    parser.add_argument("--all", action="store_true", help="train on the fifth as well")
    parser.add_argument("--untrained", action="store_true", help="the floor: no training at all")
    options = parser.parse_args()
    keep_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    settings, network = chosen(options)
    before = load_model(options.initial, "cpu") if options.initial else None
    network = network or (before.settings if before else NetworkSettings())
    if settings.alike and before is None:
        parser.error("alike needs --from")
    opened = open_packed if options.library.endswith(".packed") else open_data
    data = opened(options.library, image_size=settings.image_size, fifth=options.split)
    points, views = data.arrays
    assert points is not None
    test = data.test(0)
    split = "all" if options.all else options.split
    run = Path(options.run)
    if options.untrained:
        model = untrained_model(
            network,
            points=1024,
            image_size=settings.image_size,
            seed=settings.seed,
            clouds=points[~test],
            views=views[~test],
        )
        seconds, rate = 0.0, 0.0
    else:
        rows = np.arange(len(points)) if options.all else np.flatnonzero(~test)
        with begin(run, resume=(run / "run.toml").exists(), overwrite=False):
            likes = None
            if settings.alike and (run / LIKES).exists():
                likes = load_likes(run, len(points))
            elif settings.alike:
                likes = most_alike(before.eval(), points, views, rows, settings.alike)
            learner = Learner(
                points, views, network, settings, choose_device(options.device), rows=rows, likes=likes
            )
            if before:
                learner.model.load_state_dict(before.state_dict())
            write_settings(run, network, settings, split=split, threads=torch.get_num_threads())
            if likes is not None:
                save_likes(run, likes)
            learner.run(run)
            model, seconds = learner.model, learner.place.seconds
            rate = learner.place.step * learner.batch_size / seconds
            make_ready(model, settings, points, views, rows)
            model.save(run)
    row = judge(model, points, views, data.labels, test)
    about = {
        "date": datetime.date.today().isoformat(),
        "recipe": "untrained" if options.untrained else settings.recipe,
        "settings": " ".join([*options.set, *([f"from={before.fingerprint}"] if before else [])]),
        "seed": settings.seed,
        "split": split,
        "epochs": 0 if options.untrained else settings.epochs,
        "minutes": round(seconds / 60, 1),
        "shapes_per_second": round(rate, 1),
        "machine": f"{platform.machine()} {torch.get_num_threads()} threads {name_of(model.device)}",
    }
    fresh = not TABLE.exists()
    with TABLE.open("a", newline="") as file:
        writer = csv.DictWriter(file, HEAD)
        if fresh:
            writer.writeheader()
        writer.writerow({**about, **{name: round(value, 4) for name, value in row.items()}})
    print({**about, **row})


def name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def judge(model, points, views, labels, test) -> dict[str, float]:
    """Linear SVM accuracies and retrieval on the held-out fifth; C is chosen on the training rows alone."""
    device = str(model.device)
    found = model.encode_points(points, layer="all")
    features = FeatureSet(found[:, :FEATURES], model.encode_views(views), found[:, FEATURES:])
    row = {}
    for which in ("points", "views", "both"):
        given = vectors(features, which, views.shape[1], linear=True)
        row[which] = recognise(given[~test], labels[~test], given[test], labels[test], device=device).accuracy
        asked = vectors(features, which, views.shape[1])[test]
        row[f"map_{which}"] = retrieve(asked, labels[test]).mean_average_precision
    given = features.points
    row["features"] = recognise(
        given[~test], labels[~test], given[test], labels[test], device=device
    ).accuracy
    row["nn_points"] = retrieve(given[test], labels[test]).nearest_neighbour
    return row


if __name__ == "__main__":
    main()
