"""Parts on shapes: learn a head from a few labelled ones, then colour the rest.

    crosshape segment runs/parts --learn labelled/ --head heads/parts
    crosshape segment runs/parts new/*.stl --head heads/parts --output coloured/

DATA of --learn is a folder with part labels (crosshape datasets --layouts), the simplest being
CLASS/NAME.off with CLASS/NAME_labels.txt: a part's name on a line, then a line with the 1-based numbers of its
faces. For every shape the output folder gets a coloured PLY (or GLB) and, for a mesh, its NAME_labels.txt, which
can be corrected and learned from again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from crosshape.console import Progress, print_json, print_table, printable, say
from crosshape.errors import MOST_WORKERS, CrosshapeError, UnreadableShape, UsageError, check_count

if TYPE_CHECKING:
    from crosshape.networks.model import Model
    from crosshape.tasks.heads import LearnedHead


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder, or the name of a model that comes along")
    parser.add_argument("shapes", metavar="SHAPE", nargs="*", help="shape files or folders of them")
    parser.add_argument("--head", required=True, metavar="HEAD", help="the folder of the head")
    parser.add_argument("--learn", metavar="DATA", help="learn the head from these labelled shapes first")
    parser.add_argument("--layout", metavar="L", help="read DATA in this layout instead of recognising it")
    parser.add_argument("--output", metavar="FOLDER", help="where coloured shapes go")
    parser.add_argument("--format", choices=("ply", "glb"), default="ply", help="of them (default ply)")
    parser.add_argument(
        "--class", dest="category", metavar="NAME", help="of the shapes (default: told by their features)"
    )
    parser.add_argument(
        "--up", choices=("auto", "x", "y", "z"), default="auto", help="the axis that points up in the files"
    )
    parser.add_argument(
        "--points",
        type=int,
        default=2048,
        metavar="N",
        help="of a labelled shape to learn from (default 2048)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the head's weights (default 0)")
    parser.add_argument("--workers", type=int, metavar="N", help="processes that read (default: one a core)")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")
    parser.add_argument("--json", action="store_true", help="one object a line")


def run(options: argparse.Namespace) -> int:
    if not options.learn and not options.shapes:
        raise UsageError("name shapes to segment, or --learn DATA to learn a head, or both")
    if options.points < 64:
        raise UsageError(f"--points is {options.points}; it must be at least 64")
    check_count("--workers", options.workers, MOST_WORKERS)
    check_count("--seed", options.seed, (1 << 63) - 1, least=0)
    if options.shapes and not options.output:
        raise UsageError("name the folder for the coloured shapes with --output")
    from crosshape.networks.model import load_model
    from crosshape.tasks.heads import learn_head, load_head, save_head

    model = load_model(options.run, options.device)
    skipped = 0
    if options.learn:
        from crosshape.shapes.layouts import open_layout
        from crosshape.tasks.segmentation import load_part_set

        if Path(options.head, "head.json").exists():
            raise CrosshapeError(f"{options.head} holds a head already; name another folder or remove it")
        layout = open_layout(options.learn, options.layout, options.up)
        for warning in layout.warnings:
            say(printable(f"Note: {warning}."))
        data = load_part_set(layout, options.points, workers=options.workers, progress=Progress)
        for name, reason in data.skipped:
            say(printable(f"{name} was skipped: {reason}."))
        skipped += len(data.skipped)
        learned = learn_head(model, data, seed=options.seed, progress=Progress)
        save_head(learned, options.head)
        parts = ", ".join(
            f"{c} ({', '.join(p)})" for c, p in zip(learned.classes, learned.parts, strict=True)
        )
        say(printable(f"{options.head}: learned from {len(data.items):,} shapes: {parts}"))
    if options.shapes:
        skipped += colour(model, load_head(options.head, model), options)
    return 1 if skipped else 0


def labels_beside(target: Path) -> Path:
    """Where the labels of the faces are written: beside the coloured shape."""
    return target.with_name(f"{target.stem}_labels.txt")


def colour(model: Model, learned: LearnedHead, options: argparse.Namespace) -> int:
    """Segment and write every shape; returns how many were skipped."""
    from functools import partial

    import numpy as np

    from crosshape.settings import Limits
    from crosshape.shapes.files import find_shapes
    from crosshape.shapes.guard import Guard
    from crosshape.tasks.heads import load_guarded, segment_shape, write_labels, write_parts

    found = [f for path in options.shapes for f in find_shapes(path)]
    folder = Path(options.output)
    targets: dict[Path, Path] = {}
    taken: set[Path] = set()
    for file in found:
        target = folder / f"{Path(file.name).with_suffix('').as_posix()}.{options.format}"
        there = next((one for one in (target, labels_beside(target)) if one.exists()), None)
        if there or target in taken:
            raise CrosshapeError(
                f"{there or target} is there already or would be written twice; choose another --output"
            )
        targets[file.path] = target
        taken.add(target)
    rows, skipped = [], 0
    with Guard(options.workers) as guard:
        work = partial(load_guarded, limits=Limits(), up=options.up)
        for path, shape in guard.map(work, list(targets)):
            if not isinstance(shape, UnreadableShape):
                try:
                    result = segment_shape(model, learned, shape, options.category)
                except UnreadableShape as error:
                    shape = error
            if isinstance(shape, UnreadableShape):
                skipped += 1
                say(printable(f"{path} was skipped: {shape.reason}."))
                if options.json:
                    print_json({"path": str(path), "ok": False, "reason": shape.reason})
                continue
            target = targets[path]
            target.parent.mkdir(parents=True, exist_ok=True)
            write_parts(result, target)
            if not shape.is_cloud:
                write_labels(result, labels_beside(target))
                for dropped in (one for one in shape.notes if one.startswith("removed faces")):
                    say(printable(f"{path}: {dropped}; its labels fit {target}, not the file itself."))
            counts = np.bincount(result.numbers, minlength=len(result.names)) / len(result.numbers)
            shares = {n: float(s) for n, s in zip(result.names, counts, strict=True)}
            if options.json:
                print_json(
                    {
                        "path": str(path),
                        "ok": True,
                        "class": result.category,
                        "parts": shares,
                        "output": str(target),
                    }
                )
            text = ", ".join(f"{n} {100 * s:.0f} %" for n, s in shares.items() if s)
            rows.append((str(target), result.category, text))
    if not options.json:
        print_table(("output", "class", "parts, by share of faces or points"), sorted(rows))
    return skipped
