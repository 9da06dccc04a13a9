"""The whole path on shapes made from code: make, add, train, embed, measure, report. Needs no data.

Training sees the shapes of `shapes/`, without their labels. Everything is measured on `new-shapes/`, made
with other seeds, which no training ever saw; labels serve only to measure. Beside the trained networks stand
the same networks untrained and the D2 shape distribution, which needs no learning.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crosshape.console import Progress, duration, say
from crosshape.errors import CrosshapeError, UsageError
from crosshape.files import parse_json, write_whole
from crosshape.report import Confusion, Figure, Report, alike, flat
from crosshape.settings import RECIPES, NetworkSettings, PrepareSettings, TrainSettings

if TYPE_CHECKING:
    from crosshape.library.library import Library
    from crosshape.networks.model import Model

SETTINGS, REPORT = "demo.json", "report.html"
PARTS = ("shapes", "new-shapes", "shapes.lance", "new-shapes.lance", "run", REPORT, SETTINGS)
"""What a demo folder holds, and all that --overwrite deletes."""

PREPARE = PrepareSettings(points=1024, image_size=128)
NETWORK = NetworkSettings(k=16, edge_widths=(32, 32, 64, 128), point_width=512, image_width=32)
"""Slimmer than the default networks, so that a few minutes on two cores are enough to learn something."""
TRAIN = replace(RECIPES["dense"], points=256, encoding_points=512, image_size=64, held_out=0.0)

SEEDS = 3
"""Untrained models that are measured."""

TRAINED, UNTRAINED, CLASSICAL = "trained", "untrained", "D2"


@dataclass(frozen=True)
class DemoSettings:
    """How large a demo is; kept in the folder, so that it goes on only as it began."""

    seen: int = 14
    """shapes a class to learn from"""
    new: int = 6
    """shapes a class to measure with"""
    minutes: float = 4.5
    """of training; the number of epochs follows"""
    seed: int = 0


@dataclass(frozen=True)
class Encoded:
    """Features of the seen and the new shapes by one source: points (N, D), views (N, D') or None."""

    points: tuple[np.ndarray, np.ndarray]
    views: tuple[np.ndarray, np.ndarray] | None = None
    each_view: np.ndarray | None = None
    """(N, V, D') of the new shapes"""
    judge: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None


def run_demo(
    folder: str | Path,
    settings: DemoSettings | None = None,
    *,
    training: TrainSettings | None = None,
    device: str = "auto",
    overwrite: bool = False,
) -> Report:
    """Make, learn, measure, and write FOLDER/report.html; a demo that was stopped goes on where it was.

    `training` replaces the settings of the demo (then its epochs count, not the minutes). Raises
    CrosshapeError for a folder that holds something else, another demo, or a finished one.
    """
    from crosshape.learning.training import train
    from crosshape.library.adding import add
    from crosshape.library.embedding import embed
    from crosshape.networks.model import choose_device
    from crosshape.shapes.made import CLASSES, write_shapes

    started = time.monotonic()
    settings = settings or DemoSettings()
    if not (2 <= settings.seen <= 5000 and 2 <= settings.new <= 70):
        raise UsageError(
            "a demo learns from 2 to 5000 shapes a class (--seen) and measures with 2 to 70 (--new)."
        )
    if not (0 < settings.minutes < 10_000 and 0 <= settings.seed < 1000):
        raise UsageError("--minutes must be more than 0, --seed between 0 and 999.")
    choose_device(device)
    folder = Path(folder)
    begin(folder, settings, overwrite)
    libraries = []
    say(f"1/4  making {len(CLASSES) * (settings.seen + settings.new)} shapes of {len(CLASSES)} classes")
    for name, count, first in (("shapes", settings.seen, 0), ("new-shapes", settings.new, settings.seen)):
        if not (folder / f"{name}.lance").exists():
            write_shapes(folder / name, count, 10_000 * settings.seed + first)
        libraries.append(add(folder / name, folder / f"{name}.lance", settings=PREPARE, progress=Progress))
    seen, new = libraries

    run = folder / "run"
    resume = (run / "run.toml").exists()
    say(f"2/4  learning from {len(seen)} shapes, without labels, for about {settings.minutes:g} minutes")
    model = train(
        seen,
        run,
        settings=training or replace(TRAIN, seed=settings.seed),
        network=NETWORK,
        minutes=None if training else settings.minutes,
        resume=resume,
        device=device,
    )
    for library in libraries:
        embed(model, library, progress=Progress)
    say(f"3/4  measuring on {len(new)} new shapes that training did not see")
    report = measure(seen, new, model, run, settings, None if resume else started)
    say("4/4  writing the report")
    report.write(folder / REPORT)
    return report


def begin(folder: Path, settings: DemoSettings, overwrite: bool) -> None:
    """Make the folder and note the settings in it; see `run_demo` for what is refused."""
    if folder.exists() and not folder.is_dir():
        raise CrosshapeError(f"{folder} is a file; give a folder for the demo.")
    note = folder / SETTINGS
    if note.is_file():
        if overwrite:
            for name in PARTS:
                path = folder / name
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
        else:
            check_same(folder, settings)
    elif folder.is_dir() and any(folder.iterdir()):
        raise CrosshapeError(f"{folder} is not empty and holds no demo; give a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(note, json.dumps(asdict(settings), indent=2).encode() + b"\n")


def check_same(folder: Path, settings: DemoSettings) -> None:
    """Refuse to go on with a demo that is finished or was begun with other settings."""
    again = "Add --overwrite to make it anew, or give another folder."
    if (folder / REPORT).exists():
        raise CrosshapeError(f"{folder} already holds a demo; its report is {folder / REPORT}. {again}")
    try:
        kept = parse_json((folder / SETTINGS).read_bytes())
        different = [name for name, value in asdict(settings).items() if kept[name] != value]
    except (ValueError, KeyError, TypeError):
        raise CrosshapeError(f"{folder / SETTINGS} cannot be read. {again}") from None
    if different:
        name = different[0]
        raise CrosshapeError(
            f"{folder} was begun with --{name} {kept[name]}, not {getattr(settings, name)}. "
            "Give the same to go on, --overwrite to make it anew, or another folder."
        )


def measure(
    seen: Library, new: Library, model: Model, run: Path, settings: DemoSettings, started: float | None
) -> Report:
    """Recognition and retrieval of the new shapes by every source, and all that the page shows of them.

    started: time.monotonic() when the demo began, None where it goes on with an earlier one.
    """
    from crosshape.learning.run import read_metrics
    from crosshape.tasks.metrics import confusion_matrix
    from crosshape.tasks.retrieval import retrieve

    classes = sorted(set(seen.labels() or ()))
    labels = tuple(
        np.array([classes.index(label) for label in library.labels() or ()]) for library in (seen, new)
    )
    sources = encoded(seen, new, model, settings.seed)
    figures, predictions = measured(sources, labels, new.names)
    ours = sources[TRAINED][0]
    both = beside(ours)
    neighbours = {}
    for name in (TRAINED, UNTRAINED):
        neighbours[name] = retrieve(beside(sources[name][0]), labels[1], new.names, top=6).ranking
    first = {int(label): row for row, label in reversed(list(enumerate(labels[1])))}
    curves = read_metrics(run)
    report = seen.report, new.report
    return Report(
        title="What crosshape learned from shapes without labels",
        lead=(
            f"{len(seen)} shapes of {len(classes)} kinds, made from code, were shown to two networks, as "
            "pictures and as point clouds. Nobody told them what the shapes are. Here is what they make of "
            f"{len(new)} new ones."
        ),
        names=new.names,
        labels=[classes[label] for label in labels[1]],
        views=new.views(),
        facts=(
            (f"{len(seen)}", "shapes to learn from"),
            (f"{len(new)}", "new shapes to measure with"),
            (f"{len(classes)}", "kinds"),
            (f"{round(curves[-1]['epoch']) if curves else 0}", "epochs"),
            (duration(60 * float(model.card["minutes"])), "of training"),
            (
                f"{model.card['device']}, {model.card['threads']}",
                "processor thread" if model.card["threads"] == 1 else "processor threads",
            ),
            *([(duration(time.monotonic() - started), "from start to page")] if started else []),
        ),
        sources=tuple(sources),
        figures=figures,
        curves=curves,
        confusion=Confusion(classes, confusion_matrix(labels[1], predictions, len(classes))),
        neighbours=neighbours,
        queries=[first[label] for label in sorted(first)],
        places=flat(both, settings.seed),
        groups=alike(both, len(classes)),
        skipped=[(one.path, one.reason) for part in report if part for one in part.skipped],
        method=method(seen, new),
    )


def encoded(seen: Library, new: Library, model: Model, seed: int) -> dict[str, list[Encoded]]:
    """By source, an Encoded for every seed: the trained model, the same networks untrained, D2."""
    from crosshape.networks.model import untrained_model
    from crosshape.tasks.descriptors import shape_distribution

    stored = seen.features(model.fingerprint), new.features(model.fingerprint)
    trained = Encoded(
        (stored[0].points, stored[1].points),
        (stored[0].views, stored[1].views),
        stored[1].each_view,
        model.correspond,
    )
    clouds = seen.points(), new.points()
    views = seen.views(size=model.image_size), new.views(size=model.image_size)
    bar = Progress("untrained", SEEDS * (len(seen) + len(new)))
    untrained = []
    for number in range(SEEDS):
        other = untrained_model(
            model.settings,
            points=model.point_count,
            image_size=model.image_size,
            seed=seed + number,
            clouds=clouds[0],
            views=views[0],
        ).to(model.device)
        each = [other.encode_views(part, progress=bar) for part in views]
        points = [other.encode_points(part) for part in clouds]
        untrained.append(
            Encoded(
                (points[0], points[1]), (each[0].max(axis=1), each[1].max(axis=1)), each[1], other.correspond
            )
        )
    bar.close()
    classical = Encoded((shape_distribution(clouds[0]), shape_distribution(clouds[1])))
    return {TRAINED: [trained], UNTRAINED: untrained, CLASSICAL: [classical]}


def beside(source: Encoded) -> np.ndarray:
    """Both features of the new shapes beside each other, at length 1 each."""
    from crosshape.tasks.retrieval import unit_length

    assert source.views is not None
    return np.concatenate([unit_length(source.points[1]), unit_length(source.views[1])], axis=1)


def measured(
    sources: dict[str, list[Encoded]], labels: tuple[np.ndarray, ...], names: list[str]
) -> tuple[list[Figure], np.ndarray]:
    """The figures of every source, means over its seeds; and what the first one's points were taken for."""
    from crosshape.tasks.recognition import recognise
    from crosshape.tasks.retrieval import retrieve, retrieve_across

    rows = (
        ("Recognition, 3D", "linear SVM on point features"),
        ("Recognition, 2D", "linear SVM on view features"),
        ("Retrieval, 3D", "mean average precision"),
        ("Retrieval, 2D", "mean average precision"),
        ("Nearest shape, 3D", "is of the same kind"),
        ("Nearest shape, 2D", "is of the same kind"),
        ("Picture finds shape", f"its own, first of {len(names)} clouds, by the judge of pairs"),
    )
    values: list[dict[str, list[float]]] = [{name: [] for name in sources} for _ in rows]
    predictions = None
    for name, runs in sources.items():
        for source in runs:
            for place, features in enumerate((source.points, source.views)):
                if features is None:
                    continue
                found = recognise(features[0], labels[0], features[1], labels[1])
                if predictions is None:
                    predictions = found.predictions
                asked = retrieve(features[1], labels[1], names)
                values[place][name].append(found.accuracy)
                values[2 + place][name].append(asked.mean_average_precision)
                values[4 + place][name].append(asked.nearest_neighbour)
            if source.each_view is not None and source.judge is not None:
                across = retrieve_across(
                    source.each_view[:, :1], source.points[1], labels[1], names, judge=source.judge
                )
                values[6][name].append(float(np.mean(across.own_rank == 1)))
    figures = [
        Figure(
            *row,
            tuple(float(np.mean(v)) if v else None for v in value.values()),
            tuple(float(np.std(v, ddof=1)) if len(v) > 1 else None for v in value.values()),
        )
        for row, value in zip(rows, values, strict=True)
    ]
    assert predictions is not None
    return figures, predictions


def method(seen: Library, new: Library) -> list[str]:
    """What a reader must know to trust the figures."""
    kinds = len(set(new.labels() or ()))
    return [
        f"The networks learned from the {len(seen)} shapes of shapes/ without labels, and never saw the "
        f"{len(new)} of new-shapes/, which were made with other seeds. All figures are of the new shapes. "
        f"Each is one of {kinds} kinds, so guessing is right in {100 / kinds:.1f} % of all cases.",
        "Recognition: a linear support vector machine learns from the features and labels of the seen shapes "
        "and names the new ones; its C is chosen on the seen shapes, by five-fold cross-validation. Retrieval: every "
        "new shape asks all other new shapes, ranked by the cosine of their features. 3D means the features of a point "
        "cloud, 2D those of 12 views, their largest in each number. Map, groups and neighbours use both "
        "beside each other, at length 1 each.",
        "Untrained are the same networks with random weights and with BatchNorm statistics from the seen "
        f"shapes; mean and standard deviation of {SEEDS} seeds. D2 is the histogram of distances between "
        "surface points (Osada et al., 2002), with one of heights; it takes no pictures. The trained column "
        "is one run with one seed.",
        "These shapes are simple and made from code: the figures say that the method works here, not how "
        "well it does on yours.",
    ]
