"""Judge learned features by a task, on data with labels.

    crosshape evaluate runs/parts recognition data/ModelNet40
    crosshape evaluate runs/parts all data/ModelNet40 --seeds 3 --baselines --out results/parts

TASK is one of

    recognition-3d     linear SVM on the features of points
    recognition-2d     the same on those of views, by number of views
    recognition        both of these, and points and views together
    retrieval-3d       every test shape asks all others, by points
    retrieval-2d       the same by views, by number of views
    retrieval          both of these, and points and views together
    retrieval-cross    a picture finds its shape, a shape its picture
    few-shot           5 or 10 classes from 10 or 20 shapes each
    segmentation       parts from few labelled shapes
    all                whatever DATA has labels for

DATA: a folder, h5 or CSV file in a layout that is known (crosshape datasets --layouts), or a library whose
names begin with a class folder. Where DATA has no test split, a fifth of every class is held out, drawn by
the seed. Nothing is chosen on test shapes here; docs/tasks.md states the protocols, and which defaults were
once settled by looking at such.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crosshape.console import Progress
    from crosshape.networks.model import Model
    from crosshape.shapes.layouts import Layout
    from crosshape.tasks.evaluation import Row, Source
    from crosshape.tasks.labelled import FeatureSet, LabelledSet
    from crosshape.tasks.segmentation import HeadSettings, PartSet

TASKS = (
    "recognition-3d",
    "recognition-2d",
    "recognition",
    "retrieval-3d",
    "retrieval-2d",
    "retrieval",
    "retrieval-cross",
    "few-shot",
    "segmentation",
    "all",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder, or the name of a model that comes along")
    parser.add_argument(
        "task", metavar="TASK", choices=TASKS, help="what to do with the features (see above)"
    )
    parser.add_argument(
        "data", metavar="DATA", help="labelled shapes: a folder, h5 or CSV file, or a library"
    )
    parser.add_argument(
        "--features", metavar="LIST", help="of points,views,both (default: all that the task takes)"
    )
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="repeat what is random N times (default 1)"
    )
    parser.add_argument(
        "--split",
        type=int,
        metavar="K",
        help="which fifth (1 to 5) is the test split where DATA has none (default 1)",
    )
    parser.add_argument("--layout", metavar="L", help="read DATA in this layout instead of recognising it")
    parser.add_argument(
        "--gallery",
        choices=("test", "all"),
        default="test",
        help="what retrieval asks: test shapes (default) or all",
    )
    parser.add_argument("--baselines", action="store_true", help="rows to compare with: --untrained and --d2")
    parser.add_argument(
        "--untrained", action="store_true", help="a row for the same networks with random weights"
    )
    parser.add_argument("--d2", action="store_true", help="a row for the shape distribution D2 with heights")
    parser.add_argument(
        "--crosspoint", action="store_true", help="recognition also as in CrossPoint (SVC, C = 0.01)"
    )
    parser.add_argument(
        "--optimistic", action="store_true", help="recognition also with the best C on test; flatters"
    )
    parser.add_argument(
        "--layer",
        choices=("features", "pooled", "all"),
        default="all",
        help="what describes a shape: features, the 512 numbers that search compares; pooled, those before the "
        "point network's last layer; all (default): for linear machines both, and views by mean and maximum",
    )
    parser.add_argument(
        "--labels",
        type=shares,
        default=[1.0, 0.1, 0.05, 0.01],
        metavar="LIST",
        help="segmentation: shares of training shapes with labelled parts (default 1,0.1,0.05,0.01)",
    )
    parser.add_argument(
        "--shapes-per-class",
        type=counts,
        default=[],
        metavar="LIST",
        help="segmentation: labelled shapes of every class instead",
    )
    parser.add_argument(
        "--fine-tune", action="store_true", help="segmentation: also with the point network learning too"
    )
    parser.add_argument(
        "--scratch", action="store_true", help="segmentation: also the same network from random weights"
    )
    parser.add_argument(
        "--tune-steps",
        type=int,
        metavar="N",
        help="segmentation: steps of --fine-tune and --scratch alike (default 1000)",
    )
    parser.add_argument(
        "--out", metavar="FOLDER", help="a new folder for results.html, .json, .md, .tex and pictures"
    )
    parser.add_argument(
        "--cache", metavar="FOLDER", help="keeps shapes and features (default ~/.cache/crosshape/evaluate)"
    )
    parser.add_argument("--no-cache", action="store_true", help="keep nothing")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes that read shapes (default: one a core)"
    )
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")
    parser.add_argument("--json", action="store_true", help="one object a line for every row")


def run(options: argparse.Namespace) -> int:
    import shlex
    import signal
    import time
    from functools import partial

    from crosshape.console import duration, print_json, printable, say
    from crosshape.errors import MOST_WORKERS, CrosshapeError, UsageError, check_count
    from crosshape.networks.model import load_model
    from crosshape.shapes.layouts import open_layout
    from crosshape.tasks.evaluation import evaluate, wanted_features, why_not
    from crosshape.tasks.labelled import default_cache, encode, open_data
    from crosshape.tasks.record import facts, write
    from crosshape.tasks.segmentation import load_part_set

    check_count("--workers", options.workers, MOST_WORKERS)
    check_count("--seeds", options.seeds, 1000)
    if options.split is not None and not 1 <= options.split <= 5:
        raise UsageError(f"there is no fifth {options.split}; --split takes 1 to 5")
    start = time.monotonic()
    features = options.features.split(",") if options.features else None
    if options.task not in ("all", "segmentation"):
        wanted_features(options.task, features)
    if options.tune_steps is not None and options.tune_steps < 1:
        raise UsageError(f"--tune-steps {options.tune_steps}: it must be at least 1")
    if options.out and Path(options.out).exists():
        raise CrosshapeError(f"{options.out} is there already; give a folder that is not.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is half-made goes
    model = load_model(options.run, options.device)
    cache = None if options.no_cache else Path(options.cache) if options.cache else default_cache()
    rows: list[Row] = []
    tasks = chosen(options.task)

    def show(found: Iterable[Row]) -> None:
        for row in found:
            rows.append(row)
            say(f"{duration(time.monotonic() - start):>12}  {in_words(row)}")
            if options.json:
                print_json(row.json())

    data: LabelledSet | None = None
    left_out: list[str] = []
    if tasks != ["segmentation"]:
        data = open_data(
            options.data,
            image_size=model.image_size,
            layout=options.layout,
            fifth=options.split,
            cache=cache,
            workers=options.workers,
            progress=told,
        )
        describe(data)
        layer = layer_for(tasks, options.layer)
        encoded = partial(encode, data, what=needed(tasks, features), layer=layer, progress=told)
        sources = make_sources(data, model, encoded, options)
        protocols = ["default"]
        protocols += ["crosspoint"] if options.crosspoint else []
        protocols += ["optimistic"] if options.optimistic else []
        done = []
        for task in tasks:
            reason = None if task == "segmentation" else why_not(data, task, options.gallery)
            if reason and task == options.task:
                raise CrosshapeError(reason)
            if reason:
                left_out.append(f"{task} was left out: {reason}")
                say(left_out[-1])
            elif task != "segmentation":
                done.append(task)
        show(
            evaluate(
                data,
                sources,
                done,
                features=features,
                seeds=options.seeds,
                protocols=protocols,
                gallery=options.gallery,
                device=str(model.device),
                deep=options.layer == "all",
            )
        )
    layout = data.layout if data is not None else open_layout(Path(options.data), options.layout)
    parts: PartSet | None = None
    if "segmentation" in tasks:
        reason = no_parts(layout, options)
        if reason:
            left_out.append(f"segmentation was left out: {reason}")
            say(left_out[-1])
        else:
            parts = load_part_set(layout, workers=options.workers, progress=told)
            for name, why in parts.skipped:
                say(f"{printable(name)} has no parts that can be read: {printable(why)}")
            show(segmentation(model, parts, options))
    if not rows:
        raise CrosshapeError(f"{printable(options.data)} has nothing that {options.task} can be measured on.")
    if not options.json:
        print_tables(rows)
    if options.out:
        about = facts(
            layout,
            data,
            parts,
            model,
            title=f"Features of {Path(options.run).resolve().name}, judged on {Path(options.data).resolve().name}",
            command=shlex.join(["crosshape", "evaluate", *vars_of(options)]),
            seconds=time.monotonic() - start,
            left_out=left_out,
            fifth=options.split or 1,
            head=head_settings(options),
        )
        drawn = write(Path(options.out), about, rows, layout, data, parts)
        say(f"{options.out}: results.json, .md, .tex, .html; pictures/{', '.join(drawn)}")
    say(f"Done in {duration(time.monotonic() - start)}.")
    skipped = [*(data.skipped if data is not None else ()), *(parts.skipped if parts is not None else ())]
    return 1 if skipped else 0


def told(what: str, total: int, unit: str = "shapes") -> Progress:
    """A progress line; where there is no terminal for one, a line that says what begins."""
    from crosshape.console import Progress, say

    bar = Progress(what, total, unit)
    if not bar.live:
        say(f"{what}: {total:,} {unit}")
    return bar


def in_words(row: Row) -> str:
    """A row as one line of progress: what it is of, and its first measure."""
    name, value = next(iter(row.measures.items()))
    words = [row.task, row.model, row.features, f"{row.views} views" if row.views else ""]
    words += [
        str(row.more[key]) for key in ("head", "labels", "ask", "by", "ways", "shots") if key in row.more
    ]
    words += [row.protocol if row.protocol != "default" else ""]
    return f"{' '.join(filter(None, words))}: {name.replace('_', ' ')} {value:.3f}"


def chosen(task: str) -> list[str]:
    """The tasks that a word stands for."""
    if task == "all":
        return ["recognition", "retrieval", "retrieval-cross", "few-shot", "segmentation"]
    return [task]


def needed(tasks: list[str], features: list[str] | None) -> tuple[str, ...]:
    """Which of points and views have to be encoded."""
    from crosshape.tasks.evaluation import wanted_features

    if "retrieval-cross" in tasks:
        return ("points", "views")
    wanted = {name for task in tasks if task != "segmentation" for name in wanted_features(task, features)}
    return ("points", "views") if "both" in wanted else tuple(sorted(wanted))


def layer_for(tasks: list[str], layer: str) -> str:
    """What has to be encoded: where no task has a linear machine, the features are enough."""
    from crosshape.tasks.evaluation import LINEAR

    linear = any(task.startswith(LINEAR) for task in tasks)
    return "features" if layer == "all" and not linear else layer


def describe(data: LabelledSet) -> None:
    """Say on standard error what is measured on: counts, warnings, what was skipped."""
    from crosshape.console import printable, say

    test = int(data.test(0).sum())
    say(
        f"{printable(data.split(0).note)}. {len(data) - test:,} to learn the classes from, {test:,} to test on."
    )
    for warning in data.split(0).warnings:
        say(f"Note: {printable(warning)}.")
    for name, reason in data.skipped[:10]:
        say(f"{printable(name)} was skipped: {printable(reason)}")
    if len(data.skipped) > 10:
        say(f"... and {len(data.skipped) - 10:,} more.")
    if data.splatted:
        say(f"The views of {data.splatted:,} shapes are splats of their points: they have no surface.")


def make_sources(
    data: LabelledSet, model: Model, encoded: Callable[[Model], FeatureSet], options: argparse.Namespace
) -> list[Source]:
    """The model, and what it is compared with."""
    from functools import cache

    from crosshape.networks.model import untrained_model
    from crosshape.tasks.descriptors import shape_distribution
    from crosshape.tasks.evaluation import Source
    from crosshape.tasks.labelled import FeatureSet

    @cache
    def own(seed: int) -> FeatureSet:
        return encoded(model)

    pairs = options.layer != "pooled"
    sources = [
        Source("run", own, (lambda _: model.correspond) if pairs else None, model.comparable and pairs)
    ]

    @cache
    def random(seed: int) -> Model:
        import numpy as np

        points, views = data.arrays
        learned = np.sort(np.random.default_rng(seed).permutation(np.flatnonzero(~data.test(seed)))[:256])
        other = untrained_model(
            model.settings,
            points=model.point_count,
            image_size=model.image_size,
            seed=seed,
            clouds=None if points is None else np.asarray(points[learned]),
            views=np.asarray(views[learned]),
        )
        return other.to(model.device)

    @cache
    def floor(seed: int) -> FeatureSet:
        return encoded(random(seed))

    if options.untrained or options.baselines:
        judge = (lambda seed: random(seed).correspond) if pairs else None
        sources.append(Source("untrained", floor, judge, seeded=True))

    @cache
    def d2(seed: int) -> FeatureSet:
        points = data.arrays[0]
        return FeatureSet(None if points is None else shape_distribution(points), None)

    if options.d2 or options.baselines:
        sources.append(Source("D2", d2))
    return sources


def no_parts(layout: Layout, options: argparse.Namespace) -> str | None:
    """Why there is no segmentation on this data; None where there is. An error where it alone was asked for."""
    from crosshape.errors import CrosshapeError, UsageError

    if not layout.has_parts:
        reason = f"{options.data} has no labels of parts."
        if options.task == "segmentation":
            raise CrosshapeError(f"{reason} crosshape datasets --layouts lists the layouts that have.")
        return reason
    if options.split is not None and layout.has_test:
        raise UsageError(f"{options.data} has a test split of its own; leave --split out")
    return None


def segmentation(model: Model, parts: PartSet, options: argparse.Namespace) -> Iterator[Row]:
    """The rows of part segmentation; with --out they keep what is predicted for some shapes."""
    from crosshape.tasks.segmentation import choose_shown, evaluate_segmentation

    fifth = options.split or 1
    return evaluate_segmentation(
        model,
        parts,
        fractions=options.labels,
        shapes_per_class=options.shapes_per_class,
        seeds=options.seeds,
        fifth=fifth,
        fine_tune=options.fine_tune,
        scratch=options.scratch,
        settings=head_settings(options),
        untrained=options.untrained or options.baselines,
        shown=choose_shown(parts, fifth) if options.out else (),
        progress=told,
    )


def head_settings(options: argparse.Namespace) -> HeadSettings:
    """How heads, and networks with them, learn in segmentation."""
    from dataclasses import replace

    from crosshape.tasks.segmentation import HeadSettings

    settings = HeadSettings()
    return settings if options.tune_steps is None else replace(settings, tune_steps=options.tune_steps)


def shares(text: str) -> list[float]:
    """ "1,0.1" -> [1.0, 0.1]; each above 0, at most 1."""
    values = [float(word) for word in text.split(",")]
    if not all(0 < value <= 1 for value in values):
        raise ValueError
    return values


def counts(text: str) -> list[int]:
    """ "1,5" -> [1, 5]; each at least 1."""
    values = [int(word) for word in text.split(",")]
    if not all(value >= 1 for value in values):
        raise ValueError
    return values


def print_tables(rows: list[Row]) -> None:
    """The tables on standard output, the protocol of each below it."""
    from crosshape.console import print_table
    from crosshape.tasks.tables import note, tables

    for number, (kind, head, cells) in enumerate(tables(rows)):
        print(("\n" if number else "") + kind)
        print_table(head, cells)
        if note(kind):
            print(note(kind))


def vars_of(options: argparse.Namespace) -> list[str]:
    """The words that would give these options, those at their default left out."""
    parser = argparse.ArgumentParser()
    arguments(parser)
    words = [options.run, options.task, options.data]
    for action in parser._actions:
        value = getattr(options, action.dest, None)
        if action.option_strings and value not in (None, False, action.default):
            text = ",".join(f"{v:g}" for v in value) if isinstance(value, list) else str(value)
            words += [action.option_strings[0]] + ([] if value is True else [text])
    return words
