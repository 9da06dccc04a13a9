"""Put a trained run into the package, half precision, with its card.

    python results/modelnet40/ship.py RUN[,RUN...] RESULTS [BEFORE [NOTE]] [--whole RUN]

Of several runs, each started from the one before, the last is what ships. With --whole it is another run of the same
settings instead, trained on the fifth as well (`experiment.py --all`); the figures stay those of its twin that never
saw that fifth, and the card says so. BEFORE is the card.json of
the shipped model whose weights the first RUN started from (`--from`): its commands, epochs and steps are kept on the
new card, and its rows of untrained networks and D2 where RESULTS has none. NOTE is what else was done, in words.
RESULTS is the folder that `crosshape evaluate RUN all modelnet40.lance --split 1 [--baselines] --out RESULTS` wrote,
or several with a task each, with commas: their figures go on the card. At the end the features of the rounded model
are compared with those of the run, and how alike they are is printed.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

from crosshape import __version__
from crosshape.learning.run import read_metrics, read_settings
from crosshape.networks.model import SHIPPED, load_model
from crosshape.settings import RECIPES
from crosshape.shapes.made import CLASSES, make_shape
from crosshape.shapes.surface import normalise, sample_surface

NAME = "modelnet40"
FOUR_FIFTHS = "four of five in every class: 7,890 shapes"
MOST = 30_000_000
SHOWN = ("recognition-3d", "recognition-2d", "recognition", "retrieval-3d", "retrieval-2d", "retrieval")
KEPT = (
    "task",
    "model",
    "features",
    "views",
    "accuracy",
    "mean_average_precision",
    "nearest_neighbour",
    "interval",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=lambda names: [Path(name) for name in names.split(",")])
    parser.add_argument("results", type=lambda names: [Path(name) for name in names.split(",")])
    parser.add_argument("before", type=lambda name: json.loads(Path(name).read_text()), nargs="?", default={})
    parser.add_argument("note", nargs="*")
    parser.add_argument("--whole", type=Path)
    options = parser.parse_args()
    runs, before = options.runs, options.before
    measured = load_model(runs[-1], "cpu")
    found = [json.loads((folder / "results.json").read_text()) for folder in options.results]
    if any(one["model"]["fingerprint"] != measured.fingerprint for one in found):
        raise SystemExit(f"{sys.argv[2]} was measured with another model than {runs[-1]}")
    settings = [read_settings(one)[1] for one in runs]
    model, learned, note = measured, FOUR_FIFTHS, found[0]["data"]["note"]
    if options.whole:
        if read_settings(options.whole)[1] != settings[-1]:
            raise SystemExit(f"{options.whole} has other settings than {runs[-1]}")
        model, learned = load_model(options.whole, "cpu"), f"{FOUR_FIFTHS}; in the last stage all 9,843"
        note += f"; measured on its twin {measured.fingerprint}, which never saw that fifth"
        runs = [*runs[:-1], options.whole]
    stages = before.get("stages", 1) if before else 0
    commands = [before["command"]] if before else []
    commands += [command(stages + i, one) for i, one in enumerate(runs)] + options.note
    figures = [
        {key: shortened(row[key]) for key in KEPT if row.get(key) is not None}
        for one in found
        for row in one["rows"]
        if row["task"] in SHOWN
    ]
    there = {row["model"] for row in figures}
    figures += [row for row in before.get("validation", {}).get("figures", []) if row["model"] not in there]
    model.card = {
        "name": NAME,
        "trained_on": f"ModelNet40's training clouds of 1,024 points ({learned}), without labels; views splatted "
        "from the points",
        "command": "; ".join(commands),
        "stages": stages + len(runs),
        "epochs": before.get("epochs", 0) + sum(stage.epochs for stage in settings),
        "seed": settings[-1].seed,
        "steps": before.get("steps", 0) + sum(read_metrics(one)[-1]["step"] for one in runs),
        "made_with": f"crosshape {__version__}",
        "validation": {"on": note, "seeds": 1, "figures": figures},
        "limits": "grey renders and clouds of single objects that stand upright (Z up), in the unit sphere; best where "
        "shapes of a kind face the same way, as ModelNet40's do; one seed; photographs do not find their class",
        "license": "weights learned from ModelNet40, which is for academic research only: use them likewise",
    }
    target = SHIPPED / NAME
    model.save(target, half=True)
    size = sum(path.stat().st_size for path in target.iterdir())
    if size > MOST:
        raise SystemExit(f"{size:,} bytes are more than {MOST:,}")
    clouds = np.empty((64, 1024, 3), np.float32)
    for i in range(len(clouds)):
        made = make_shape(CLASSES[i % len(CLASSES)], i)
        clouds[i] = sample_surface(normalise(made.vertices, made.faces)[0], made.faces, 1024, i)[0]
    pair = [copy.deepcopy(m).encode_points(clouds) for m in (model, load_model(target, "cpu"))]
    first, second = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in pair)
    cosines = (first * second).sum(axis=1)
    print(
        f"{target}: {size / 1e6:.1f} MB; rounded against whole, cosine {cosines.min():.4f} to {cosines.max():.4f}"
    )


def command(number: int, run: Path) -> str:
    """How a stage was trained, the first from random weights, the next from the one before."""
    _, stage, facts = read_settings(run)
    gpu = json.loads((run / "card.json").read_text()).get("device", "cpu") != "cpu"
    words = [
        f"python results/modelnet40/experiment.py modelnet40.{'packed' if gpu else 'lance'} RUN{number} "
        f"--recipe {stage.recipe} {'--device cuda' if gpu else '--threads ' + str(facts['threads'])}"
    ]
    usual = RECIPES[stage.recipe]
    for name, value in asdict(stage).items():
        if name == "epochs" or value != getattr(usual, name):
            words.append(f"--set {name}={value}")
    words += ["--all"] if facts.get("split") == "all" else []
    words += [f"--from RUN{number - 1}"] if number else []
    return " ".join(words)


def shortened(value):
    """Four digits of a share, of both ends of an interval."""
    if isinstance(value, list):
        return [shortened(one) for one in value]
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
