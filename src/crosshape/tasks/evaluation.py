"""The tasks run on a labelled set: sources of features, seeds, and a row for each figure.

A source is the model in question or something to compare it with: the same networks untrained, or the shape
distribution D2. `seeds` repeats what is random: the test split where it is drawn here, the validation part
that C is chosen on, the few-shot episodes, and the weights of the untrained networks. Where nothing of a task
is random it is run once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosshape.errors import CrosshapeError, UsageError
from crosshape.tasks import metrics
from crosshape.tasks.fewshot import SETTINGS, eligible, few_shot
from crosshape.tasks.labelled import FeatureSet, LabelledSet
from crosshape.tasks.recognition import recognise
from crosshape.tasks.retrieval import Judge, Retrieval, cosine, retrieve, retrieve_across, unit_length

FEATURES = ("points", "views", "both")

LINEAR = ("recognition", "few-shot")
"""Tasks whose linear machine is given all layers (see `vectors`) where they are there; the others compare by cosine
what search compares too."""

VIEWS = (1, 2, 4, 6, 12)
"""Numbers of views that get a row each."""

MEASURES = {
    "recognition": ("accuracy", "mean_class_accuracy"),
    "retrieval": ("mean_average_precision", "nearest_neighbour", "first_tier", "second_tier", "ndcg"),
    "few-shot": ("accuracy",),
}
"""What a task measures; the first is its headline, which `std` and `interval` are of."""


@dataclass(frozen=True)
class Source:
    """Where features come from: features(seed) of every shape; correspond: (A, 512) pictures, (B, 512) clouds
    -> (A, B).

    comparable: whether a picture's and a cloud's vector may be compared by cosine. seeded: whether the seed
    matters.
    """

    name: str
    features: Callable[[int], FeatureSet]
    correspond: Callable[[int], Judge] | None = None
    comparable: bool = False
    seeded: bool = False


@dataclass(frozen=True)
class Row:
    """One figure with its spread: means over `seeds` and their standard deviation (N - 1; empty for one
    seed).

    views: how many were pooled, None without pictures. interval: 95 % bootstrap over test shapes of the
    headline measure. detail: what is needed to look closer (C, tried, episodes, predictions, ranking).
    """

    task: str
    model: str
    features: str
    views: int | None
    protocol: str
    measures: dict[str, float]
    stds: dict[str, float]
    interval: tuple[float, float] | None
    seeds: int
    more: dict[str, Any] = field(default_factory=dict)
    detail: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def json(self) -> dict[str, Any]:
        """Stable keys; `std` is that of the first measure, `stds` are all of them."""
        return {
            "task": self.task,
            "model": self.model,
            "features": self.features,
            "views": self.views,
            "protocol": self.protocol,
            **self.more,
            **self.measures,
            "seeds": self.seeds,
            "std": next(iter(self.stds.values()), None),
            "stds": self.stds,
            "interval": list(self.interval) if self.interval else None,
        }


def evaluate(
    data: LabelledSet,
    sources: Sequence[Source],
    tasks: Iterable[str],
    *,
    features: Sequence[str] | None = None,
    seeds: int = 1,
    protocols: Sequence[str] = ("default",),
    gallery: str = "test",
    device: str = "cpu",
    deep: bool = True,
) -> Iterator[Row]:
    """Yield the rows of these tasks (without segmentation), each source after the other for every figure.

    features: which of points, views and both; None is whatever the task and the data have. gallery: "test",
    or "all" where every shape asks all others. deep: whether linear machines get all layers (`vectors`).
    Raises UsageError for a task without any of the features asked for, CrosshapeError where the split leaves
    nothing to learn from or test.
    """
    if seeds < 1:
        raise UsageError(f"--seeds {seeds}: it must be at least 1")
    tasks, test = list(tasks), data.test(0)
    splits = gallery == "test" or any(not task.startswith("retrieval") for task in tasks)
    if splits and (not test.any() or test.all() or len(np.unique(data.labels[~test])) < 2):
        raise CrosshapeError(
            f"{data.layout.path} has {int(test.sum())} test shapes and {int((~test).sum())} others in "
            f"{len(np.unique(data.labels[~test]))} classes; give data with more shapes in a class."
        )
    for task in tasks:
        wanted = wanted_features(task, features)
        if task == "retrieval-cross":
            for source in sources:
                yield from _across(data, source, seeds, gallery)
            continue
        kind = kind_of(task)
        for which in wanted:
            for views in _numbers_of_views(data, sources, kind, which):
                for source in sources:
                    yield from _figure(
                        data, source, kind, which, views, seeds, protocols, gallery, device, deep
                    )


def kind_of(task: str) -> str:
    """recognition-3d, recognition-2d and recognition are one kind of task."""
    return task.removesuffix("-2d").removesuffix("-3d")


def wanted_features(task: str, asked: Sequence[str] | None) -> tuple[str, ...]:
    """The features a task is run with. Raises UsageError for an unknown one or one that the task cannot
    take.
    """
    for name in asked or ():
        if name not in FEATURES:
            raise UsageError(f"there are no features '{name}'; known are {', '.join(FEATURES)}")
    able = ("points",) if task.endswith("-3d") else ("views",) if task.endswith("-2d") else FEATURES
    wanted = tuple(name for name in able if asked is None or name in asked)
    if not wanted:
        raise UsageError(f"{task} takes {', '.join(able)} as features, not {', '.join(asked or ())}")
    return wanted


def asked(data: LabelledSet, seed: int, gallery: str) -> NDArray[np.int64]:
    """(Q,) the rows that ask and are asked in retrieval: the test shapes, or all."""
    return np.flatnonzero(data.test(seed)) if gallery == "test" else np.arange(len(data))


def why_not(data: LabelledSet, task: str, gallery: str = "test") -> str | None:
    """Why this data cannot be used for a task, as a sentence; None where it can."""
    if data.layout.has_pictures and (task.endswith("-3d") or task == "retrieval-cross"):
        return f"{data.layout.path} holds pictures only, no shapes."
    labels = data.labels[asked(data, 0, gallery)]
    if task.startswith("retrieval") and np.bincount(labels, minlength=1).max() < 2:
        return (
            "no class has two test shapes, so there is nothing to find; "
            "--gallery all lets every shape ask all others."
        )
    if task == "few-shot":
        test = data.test(0)
        if all(len(eligible(data.labels, test, shots)) < ways for ways, shots in SETTINGS):
            ways, shots = SETTINGS[0]
            return (
                f"few-shot needs {ways} classes with {shots} training shapes and a test shape each; there are "
                f"{len(eligible(data.labels, test, shots))}."
            )
    return None


def _numbers_of_views(
    data: LabelledSet, sources: Sequence[Source], kind: str, which: str
) -> tuple[int | None, ...]:
    if which == "points":
        return (None,)
    views = next((f.each_view for f in (s.features(0) for s in sources) if f.each_view is not None), None)
    if views is None:
        return ()
    most = views.shape[1]
    if which == "both" or kind == "few-shot":
        return (most,)
    return tuple(sorted({n for n in VIEWS if n <= most} | {most}))


def pooled(each_view: np.ndarray, views: int) -> np.ndarray:
    """(N, V, D) -> (N, D): the largest of each number over `views` of the V views, evenly around, the first
    included.
    """
    return each_view[:, around(each_view, views)].max(axis=1)


def around(each_view: np.ndarray, views: int) -> NDArray[np.int64]:
    """(N, V, D) -> (views,) numbers of views evenly around the ring of V, the first included."""
    return np.arange(views) * each_view.shape[1] // views


def vectors(features: FeatureSet, which: str, views: int | None, linear: bool = False) -> np.ndarray | None:
    """(N, D) of points, of pooled views, or of both beside each other at length 1 each; None where one is
    missing.

    linear: for a linear machine, with the numbers before the point network's last layer beside the features
    (where the set has them), and the mean over the views beside the largest.
    """
    parts: list[np.ndarray] = []
    if which != "views":
        if features.points is None:
            return None
        parts.append(features.points)
        if linear and features.pooled is not None:
            parts.append(features.pooled)
    if which != "points":
        if features.each_view is None or views is None:
            return None
        parts.append(pooled(features.each_view, views))
        if linear and views > 1:
            parts.append(features.each_view[:, around(features.each_view, views)].mean(axis=1))
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([unit_length(part) for part in parts], axis=1).astype(np.float32)


def _figure(
    data: LabelledSet,
    source: Source,
    kind: str,
    which: str,
    views: int | None,
    seeds: int,
    protocols: Sequence[str],
    gallery: str,
    device: str,
    deep: bool,
) -> Iterator[Row]:
    """The rows of one task, source and kind of feature: one, one a protocol, or one a few-shot setting."""

    @cache
    def as_they_are(seed: int) -> np.ndarray | None:
        return vectors(source.features(seed if source.seeded else 0), which, views)

    @cache
    def for_machines(seed: int) -> np.ndarray | None:
        return vectors(source.features(seed if source.seeded else 0), which, views, linear=True)

    of = for_machines if kind in LINEAR and deep else as_they_are

    if of(0) is None:
        return
    name = {"points": f"{kind}-3d", "views": f"{kind}-2d", "both": kind}[which]
    drawn = data.fifth is not None
    if kind == "recognition":
        for protocol in protocols:
            random = drawn or source.seeded or protocol == "default"
            given = as_they_are if protocol == "crosspoint" else of
            yield _recognition(
                data, source.name, name, which, views, protocol, given, seeds if random else 1, device
            )
    elif kind == "retrieval":
        runs = seeds if (drawn and gallery == "test") or source.seeded else 1
        results = []
        for seed in range(runs):
            rows = asked(data, seed, gallery)
            results.append((rows, retrieve(_there(of(seed))[rows], data.labels[rows], data.names[rows])))
        yield _retrieval_row(name, source.name, which, views, results, {"gallery": gallery})
    else:
        yield from _few_shot(data, source.name, which, views, of, seeds)


def _there(array: np.ndarray | None) -> np.ndarray:
    assert array is not None
    return array


def _recognition(
    data: LabelledSet,
    model: str,
    name: str,
    which: str,
    views: int | None,
    protocol: str,
    of: Callable[[int], np.ndarray | None],
    seeds: int,
    device: str,
) -> Row:
    each: dict[str, list[float]] = {key: [] for key in MEASURES["recognition"]}
    correct, tested, detail = [], [], []
    for seed in range(seeds):
        x, test = _there(of(seed)), data.test(seed)
        result = recognise(
            x[~test],
            data.labels[~test],
            x[test],
            data.labels[test],
            protocol=protocol,
            seed=seed,
            device=device,
        )
        each["accuracy"].append(result.accuracy)
        each["mean_class_accuracy"].append(result.mean_class_accuracy)
        correct.append(result.correct)
        tested.append(np.flatnonzero(test))
        detail.append(
            {
                "C": result.C,
                "tried": {str(C): value for C, value in result.tried.items()},
                "rows": tested[-1],
                "predictions": result.predictions,
            }
        )
    interval = metrics.bootstrap(np.concatenate(correct), np.concatenate(tested))
    means, stds = _spread(each)
    return Row(name, model, which, views, protocol, means, stds, interval, seeds, {}, {"seeds": detail})


def _retrieval_row(
    name: str,
    model: str,
    which: str,
    views: int | None,
    results: Sequence[tuple[NDArray[np.int64], Retrieval]],
    more: dict[str, Any],
) -> Row:
    each = {key: [float(getattr(r, key)) for _, r in results] for key in MEASURES["retrieval"]}
    if results[0][1].own_rank is not None:
        ranks = [_there(r.own_rank) for _, r in results]
        each["own_first"] = [float((r == 1).mean()) for r in ranks]
        each["own_in_ten"] = [float((r <= 10).mean()) for r in ranks]
    interval = metrics.bootstrap(
        np.concatenate([r.average_precision for _, r in results]),
        np.concatenate([rows for rows, _ in results]),
    )
    more = {**more, "without_relevant": results[0][1].without_relevant}
    detail: list[dict[str, Any]] = []
    for rows, r in results:
        one = {"rows": rows, "ranking": rows[r.ranking], "precision_recall": r.precision_recall}
        detail.append(one if r.own_rank is None else one | {"own_rank": r.own_rank})
    means, stds = _spread(each)
    return Row(
        name, model, which, views, "default", means, stds, interval, len(results), more, {"seeds": detail}
    )


def _few_shot(
    data: LabelledSet,
    model: str,
    which: str,
    views: int | None,
    of: Callable[[int], np.ndarray | None],
    seeds: int,
) -> Iterator[Row]:
    """A row a setting that the data is large enough for; std over all episodes of all seeds."""
    for ways, shots in SETTINGS:
        if any(len(eligible(data.labels, data.test(seed), shots)) < ways for seed in range(seeds)):
            continue
        episodes = []
        for seed in range(seeds):
            result = few_shot(_there(of(seed)), data.labels, data.test(seed), ways, shots, seed=seed)
            episodes += [(seed, episode) for episode in result.episodes]
        means, stds = _spread({"accuracy": [episode.accuracy for _, episode in episodes]})
        kept = [
            {
                "seed": seed,
                "classes": [data.layout.classes[c] for c in episode.classes],
                "support": data.names[list(episode.support)],
                "queries": data.names[list(episode.queries)],
                "accuracy": episode.accuracy,
            }
            for seed, episode in episodes
        ]
        more = {"ways": ways, "shots": shots, "episodes": len(episodes)}
        yield Row(
            "few-shot", model, which, views, "default", means, stds, None, seeds, more, {"episodes": kept}
        )


def _across(data: LabelledSet, source: Source, seeds: int, gallery: str) -> Iterator[Row]:
    """picture to shape and shape to picture, by the correspondence network and by cosine, with one view and
    with all.
    """
    first = source.features(0)
    if first.points is None or first.each_view is None:
        return
    runs = seeds if (data.fifth is not None and gallery == "test") or source.seeded else 1
    ways: list[str] = (["correspondence"] if source.correspond else []) + (
        ["cosine"] if source.comparable else []
    )
    for by in ways:
        for views in sorted({1, first.each_view.shape[1]}):
            for ask in ("picture", "shape"):
                results = []
                for seed in range(runs):
                    found = source.features(seed if source.seeded else 0)
                    rows = asked(data, seed, gallery)
                    pictures, clouds = _there(found.each_view)[rows], _there(found.points)[rows]
                    judge = cosine if by == "cosine" else _judge(source, seed)
                    result = retrieve_across(
                        pictures[:, around(pictures, views)],
                        clouds,
                        data.labels[rows],
                        data.names[rows],
                        ask=ask,
                        judge=judge,
                    )
                    results.append((rows, result))
                yield _retrieval_row(
                    "retrieval-cross",
                    source.name,
                    "both",
                    views,
                    results,
                    {"ask": ask, "by": by, "gallery": gallery},
                )


def _judge(source: Source, seed: int) -> Judge:
    assert source.correspond is not None
    return source.correspond(seed if source.seeded else 0)


def _spread(each: dict[str, list[float]]) -> tuple[dict[str, float], dict[str, float]]:
    """Mean, and standard deviation (N - 1) where there is more than one, of every measure."""
    means = {key: float(np.mean(values)) for key, values in each.items()}
    stds = {key: float(np.std(values, ddof=1)) for key, values in each.items() if len(values) > 1}
    return means, stds
