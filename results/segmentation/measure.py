"""Parts from few labels: frozen features, an untrained network, and the same network trained from scratch.

    python results/segmentation/measure.py RUN DATA [--seeds 3] [--shapes-per-class 1,2,4] [--skip-scratch]

DATA: the labelled Princeton Segmentation Benchmark, CLASS/ID.off with CLASS/ID_labels.txt. Writes table.md,
results.json and parts.png beside this file. A fifth of every class is held out, drawn by the seed, and so are
the labelled shapes and the weights of the head.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="a run folder, or 'untrained' for the floor alone")
    parser.add_argument("data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shapes-per-class", default="1,2,4")
    parser.add_argument("--fine-tune", action="store_true")
    parser.add_argument("--skip-scratch", action="store_true")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()

    import torch

    from crosshape import __version__
    from crosshape.console import Progress
    from crosshape.networks.model import choose_device, load_model, untrained_model
    from crosshape.shapes.layouts import open_layout
    from crosshape.tasks.segmentation import HeadSettings, evaluate_segmentation, load_part_set

    start = time.monotonic()
    data = load_part_set(open_layout(options.data), progress=Progress)
    floor = options.run == "untrained"
    if floor:
        model = untrained_model(clouds=data.points).to(choose_device(options.device))
    else:
        model = load_model(options.run, options.device)
    settings = HeadSettings()
    rows = evaluate_segmentation(
        model,
        data,
        shapes_per_class=[int(word) for word in options.shapes_per_class.split(",")],
        seeds=options.seeds,
        fine_tune=options.fine_tune,
        scratch=not options.skip_scratch,
        untrained=not floor,
        settings=settings,
        progress=Progress,
    )
    lines = [
        "| features | head | labelled shapes | instance mIoU | class mIoU | accuracy | 95 % of instance mIoU |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        figures = [
            f"{100 * row.measures[k]:.1f} ± {100 * row.stds.get(k, float('nan')):.1f}" for k in row.measures
        ]
        low, high = row.interval or (float("nan"), float("nan"))
        name = "untrained" if floor and row.model == "run" else row.model
        head, labels = row.more["head"], f"{row.more['labels']} ({row.more['labelled']})"
        lines.append(
            f"| {name} | {head} | {labels} | {' | '.join(figures)} | {100 * low:.1f} to {100 * high:.1f} |"
        )
    facts = {
        "command": shlex.join(
            ["python", "results/segmentation/measure.py", *map(without_place, sys.argv[1:])]
        ),
        "date": datetime.date.today().isoformat(),
        "crosshape": __version__,
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, device {model.device}",
        "seconds": round(time.monotonic() - start),
        "model": model.fingerprint,
        "card": model.card,
        "data": data.layout.note,
        "data_fingerprint": data.layout.fingerprint,
        "skipped": data.skipped,
        "points": int(data.points.shape[1]),
        "head": asdict(settings),
    }
    text = [
        "# Parts from few labels",
        "",
        f"{data.layout.note}. A fifth of every class held out, drawn by each of {options.seeds} seeds;"
        f" {rows[0].more['tested']} test shapes a seed; means over the seeds ± standard deviation."
        f" {data.points.shape[1]:,} points of a shape, with the parts of the faces they lie on.",
        "",
        *lines,
        "",
        f"`{facts['command']}`, {facts['date']}, {facts['machine']}, {facts['seconds']:,} s, model {facts['model']}.",
        "",
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "table.md").write_text("\n".join(text))
    record = {**facts, "rows": [row.json() | {"detail": row.detail} for row in rows]}
    (options.out / "results.json").write_text(json.dumps(record, indent=1, default=str) + "\n")
    draw(model, data, settings, options.out / "parts.png")
    print("\n".join(text))


def without_place(word: str) -> str:
    """An argument as it is published: of a path elsewhere only the name."""
    return Path(word).name if word.startswith("/") else word


def draw(model, data, settings, path: Path) -> None:  # type: ignore[no-untyped-def]
    """Six test shapes: the truth above, below the parts predicted from two labelled shapes a class."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import torch

    from crosshape.tasks.heads import colours
    from crosshape.tasks.segmentation import (
        choose_labelled,
        encode_block,
        encode_features,
        predict,
        shape_iou,
        starts,
        train_head,
    )

    test = data.split(1, 0)
    chosen = choose_labelled(data.items, ~test, None, 2, 0)
    counts = [len(names) for names in data.layout.part_names]
    head = train_head(encode_features(model, data, chosen), counts, settings, 0, torch.device(model.device))
    wanted = [
        c for c in ("Airplane", "Chair", "Cup", "FourLeg", "Glasses", "Human") if c in data.layout.classes
    ]
    labels = [data.layout.classes.index(c) for c in wanted or data.layout.classes[:6]]
    shapes = [int(np.flatnonzero(test & (data.labels == label))[0]) for label in labels]
    figure = plt.figure(figsize=(2.2 * len(shapes), 4.8))
    for column, shape in enumerate(shapes):
        label = int(data.labels[shape])
        local, whole = encode_block(model, data.points[[shape]])
        guess = predict(head, local, whole, [label])[0].argmax(1) - starts(counts)[label]
        iou = shape_iou(data.parts[shape], guess, counts[label])
        for row, parts in enumerate((data.parts[shape], guess)):
            axis = figure.add_subplot(2, len(shapes), row * len(shapes) + column + 1, projection="3d")
            axis.scatter(*data.points[shape].T, c=colours(counts[label])[parts] / 255, s=2, depthshade=False)
            axis.set_axis_off()
            axis.set_box_aspect((1, 1, 1))
            axis.set(xlim=(-0.7, 0.7), ylim=(-0.7, 0.7), zlim=(-0.7, 0.7))
            axis.set_title(f"{wanted[column]}, truth" if row == 0 else f"IoU {iou:.2f}", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
