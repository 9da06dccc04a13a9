"""Parts of shapes from a few labelled ones: per-point features, a small head, metrics as on ShapeNet-Part.

A point is described by every EdgeConv layer at it and by the pooled cloud; a shared two-layer perceptron with
the category as one-hot tells its part, among the parts of that category only. Learned from all labelled
training shapes, a share of them, or K of every class; on frozen features, with the point network fine-tuned,
or (to compare with) with the same network trained from scratch on the same labels.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from crosshape.errors import CrosshapeError, UnreadableShape, UsageError
from crosshape.settings import Limits, setting
from crosshape.shapes.layouts import Item, Layout, part_points, split_items
from crosshape.tasks import metrics
from crosshape.tasks.evaluation import Row

if TYPE_CHECKING:
    from crosshape.networks.model import Model
    from crosshape.networks.points import PointNetwork

POINTS = 2048
"""Points of a shape, as ShapeNet-Part is measured."""

KEPT = 1 << 21
"""Labelled points whose features are kept for a head to learn from, drawn evenly from its labelled shapes."""


@dataclass(frozen=True)
class HeadSettings:
    """How a head learns; the same for every budget of labels and every data set."""

    hidden: int = setting(256, "units of the hidden layer")
    dropout: float = setting(0.5, "share of hidden units left out while learning")
    steps: int = setting(400, "steps on frozen features", "steps")
    tune_steps: int = setting(1000, "steps when the network learns too", "steps")
    batch_size: int = setting(16, "shapes in a step on frozen features", "shapes")
    tune_batch_size: int = setting(8, "shapes in a step when the network learns too", "shapes")
    points: int = setting(128, "points of a shape in a step on frozen features", "points")
    learning_rate: float = setting(2e-3, "of the head; AdamW, falling to 0 along a cosine")
    tune_learning_rate: float = setting(1e-3, "of a fine-tuned network")
    scratch_learning_rate: float = setting(2e-3, "of a network trained from scratch")
    weight_decay: float = setting(1e-2, "pull of the weights towards zero")


# --------------------------------------------------------------------------------------------------- metrics


def shape_iou(truth: np.ndarray, predicted: np.ndarray, parts: int) -> float:
    """(N,), (N,) part numbers of one shape -> mean IoU over the `parts` of its category.

    A part that neither truth nor prediction has counts as 1 (Qi et al., PointNet, arXiv 1612.00593).
    """
    hit = np.bincount(truth[truth == predicted], minlength=parts)[:parts]
    union = (
        np.bincount(truth, minlength=parts)[:parts] + np.bincount(predicted, minlength=parts)[:parts] - hit
    )
    return float(np.where(union > 0, hit / np.maximum(union, 1), 1.0).mean())


def class_miou(ious: np.ndarray, labels: np.ndarray) -> float:
    """(N,) IoU of shapes, (N,) their classes -> the mean over classes of the mean over their shapes."""
    return float(np.mean([ious[labels == label].mean() for label in np.unique(labels)]))


# ------------------------------------------------------------------------------------------------------ data


@dataclass(frozen=True)
class PartSet:
    """Labelled shapes in memory: points (N, P, 3) float32, parts (N, P) within the class; what was skipped."""

    layout: Layout
    items: tuple[Item, ...]
    points: np.ndarray
    parts: np.ndarray
    skipped: tuple[tuple[str, str], ...]

    @property
    def labels(self) -> np.ndarray:
        return np.array([item.label for item in self.items], np.int64)

    def split(self, fifth: int, seed: int) -> np.ndarray:
        """(N,) true for test shapes: the layout's own test split, else a seeded fifth of every class."""
        layout = self.layout if self.layout.has_test else split_items(self.layout, fifth, seed)
        held = {item.name for item in layout.of("test")}
        return np.array([item.name in held for item in self.items], bool)


def load_part_set(
    layout: Layout,
    points: int = POINTS,
    *,
    workers: int | None = None,
    limits: Limits | None = None,
    progress: Callable[[str, int], Any] | None = None,
) -> PartSet:
    """Points and parts of every labelled shape, seeded by content. CrosshapeError where there are none."""
    from crosshape.shapes.guard import Guard

    items = [item for item in layout.items if item.parts is not None]
    if not items:
        raise CrosshapeError(
            f"{layout.path} has no part labels; crosshape datasets --layouts tells the forms they have."
        )
    found: dict[str, Any] = {}
    bar = progress("Reading parts", len(items)) if progress else None
    with Guard(workers, limits) as guard:
        work = partial(part_points, count=points, limits=limits or Limits())
        for item, result in guard.map(work, items):
            found[item.name] = result
            if bar:
                bar.advance()
    if bar:
        bar.close()
    skipped = tuple((n, r.reason) for n, r in sorted(found.items()) if isinstance(r, UnreadableShape))
    kept = tuple(item for item in items if not isinstance(found[item.name], UnreadableShape))
    if not kept:
        raise CrosshapeError(
            f"none of the {len(items):,} labelled shapes of {layout.path} can be read: {skipped[0]}"
        )
    clouds = np.stack([found[item.name].points for item in kept])
    return PartSet(layout, kept, clouds, np.stack([found[item.name].parts for item in kept]), skipped)


def choose_shown(data: PartSet, fifth: int = 1, most: int = 12, seed: int = 0) -> np.ndarray:
    """The numbers of at most `most` test shapes of the first seed to look at, drawn by `seed`: one of every class
    that is drawn, a second of each only where classes are few.
    """
    test = np.random.default_rng(seed).permutation(np.flatnonzero(data.split(fifth, 0)))
    turn = np.array([np.count_nonzero(data.labels[test[:i]] == data.labels[n]) for i, n in enumerate(test)])
    chosen = test[np.argsort(turn, kind="stable")][:most]
    return chosen[np.lexsort((chosen, data.labels[chosen]))]


def choose_labelled(
    items: Sequence[Item], training: np.ndarray, share: float | None, per_class: int | None, seed: int
) -> np.ndarray:
    """The numbers of the training shapes whose labels may be used: a share, or K shapes, of every class.

    At least one of every class that has any. A larger budget of the same seed holds the smaller one. Raises UsageError
    for a share that is none, or fewer than one shape.
    """
    if share is not None and not 0 < share <= 1:
        raise UsageError(f"the share of labels is {share}; it must be above 0, at most 1")
    if per_class is not None and per_class < 1:
        raise UsageError(f"labelled shapes of a class are {per_class}; it must be 1 or more")
    chosen: list[int] = []
    by_class: dict[int, list[int]] = {}
    for number in np.flatnonzero(training).tolist():
        by_class.setdefault(items[number].label, []).append(number)
    for members in by_class.values():
        members.sort(key=lambda n: hashlib.sha256(f"labels/{seed}/{items[n].name}".encode()).digest())
        count = per_class or max(1, round((1.0 if share is None else share) * len(members)))
        chosen += members[:count]
    return np.array(sorted(chosen), np.int64)


# ------------------------------------------------------------------------------------------------------ head


class Head(nn.Module):
    """local (B, P, L), whole (B, G), category (B,) -> logits (B, P, parts of all classes).

    Parts of other classes are at -inf. The features are standardised by what the labelled points had. The first
    layer is split, W [local, whole, one-hot] = W_l local + W_g whole + W_c[category]: the whole and the category
    cost once a shape instead of once a point.
    """

    def __init__(self, local: int, whole: int, part_counts: Sequence[int], settings: HeadSettings) -> None:
        super().__init__()
        self.local = nn.Linear(local, settings.hidden)
        self.whole = nn.Linear(whole, settings.hidden, bias=False)
        self.category = nn.Embedding(len(part_counts), settings.hidden)
        nn.init.zeros_(self.category.weight)
        self.norm = nn.BatchNorm1d(settings.hidden)
        self.local_mean: Tensor
        self.local_scale: Tensor
        self.whole_mean: Tensor
        self.whole_scale: Tensor
        self.mask: Tensor
        self.dropout = nn.Dropout(settings.dropout)
        self.out = nn.Linear(settings.hidden, sum(part_counts))
        for name, width in (("local", local), ("whole", whole)):
            self.register_buffer(f"{name}_mean", torch.zeros(width))
            self.register_buffer(f"{name}_scale", torch.ones(width))
        mask = torch.full((len(part_counts), sum(part_counts)), float("-inf"))
        for category, (start, count) in enumerate(zip(starts(part_counts), part_counts, strict=True)):
            mask[category, start : start + count] = 0
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, local: Tensor, whole: Tensor, category: Tensor) -> Tensor:
        local = (local.float() - self.local_mean) * self.local_scale
        whole = (whole.float() - self.whole_mean) * self.whole_scale
        shared = self.whole(whole) + self.category(category)
        hidden = self.local(local) + shared[:, None]
        hidden = self.norm(hidden.flatten(0, 1)).view_as(hidden)
        return self.out(self.dropout(nn.functional.relu(hidden))) + self.mask[category][:, None]

    def standardise(self, local: Tensor, whole: Tensor) -> None:
        """Take mean and scale from features (M, L) and (N, G)."""
        for name, values in (("local", local.float()), ("whole", whole.float())):
            spread = values.std(0, correction=0) if len(values) > 1 else torch.ones_like(values[0])
            getattr(self, f"{name}_mean").copy_(values.mean(0))
            getattr(self, f"{name}_scale").copy_(1 / spread.clamp_min(0.05 * float(spread.mean()) + 1e-6))


def starts(part_counts: Sequence[int]) -> list[int]:
    """The first of the running part numbers of every class."""
    return [sum(part_counts[:i]) for i in range(len(part_counts))]


def split_features(network: PointNetwork, points: Tensor) -> tuple[Tensor, Tensor]:
    """Clouds (B, P, 3) -> every layer at the points (B, P, L), the pooled cloud (B, G)."""
    features = network.point_features(points)
    width = features.shape[2] - 2 * network.mix.out_features
    return features[:, :, :width], features[:, 0, width:]


@dataclass(frozen=True)
class Features:
    """local (N, P, L) float16, whole (N, G), parts (N, P) counted through all classes, category (N,)."""

    local: Tensor
    whole: Tensor
    parts: Tensor
    category: Tensor


def encode_features(
    model: Model, data: PartSet, chosen: np.ndarray, progress: Callable[[str, int], Any] | None = None
) -> Features:
    """Frozen features of the chosen shapes; of every shape as many points as `KEPT` leaves room for."""
    counts = [len(names) for names in data.layout.part_names]
    first = np.array(starts(counts))
    keep = min(data.points.shape[1], max(64, KEPT // max(1, len(chosen))))
    locals_, wholes, parts = [], [], []
    bar = progress("Features", len(chosen)) if progress else None
    for block in np.array_split(chosen, range(8, len(chosen), 8)):
        if not len(block):
            continue
        local, whole = encode_block(model, data.points[block])
        locals_.append(local[:, :keep].half().cpu())
        wholes.append(whole.cpu())
        parts.append(data.parts[block, :keep] + first[data.labels[block], None])
        if bar:
            bar.advance(len(block))
    if bar:
        bar.close()
    return Features(
        torch.cat(locals_),
        torch.cat(wholes),
        torch.from_numpy(np.concatenate(parts)),
        torch.from_numpy(data.labels[chosen]),
    )


def cloud_size(count: int, usual: int) -> int:
    """Points of the equal clouds that `count` points are dealt out to: all of them, or about as many as `usual`."""
    return count // max(n for n in range(1, max(1, count // usual) + 1) if count % n == 0)


def encode_block(
    model: Model, points: np.ndarray, network: PointNetwork | None = None
) -> tuple[Tensor, Tensor]:
    """Clouds (B, P, 3) -> local (B, P, L) and whole (B, G), BatchNorm in evaluation mode.

    The network sees clouds of about the size it learned on (`point_count`): more points are dealt out to
    several such clouds, every point is answered for once, and the wholes are averaged.
    """
    from crosshape.networks.model import autocast

    network = network or model.points
    batch, count, _ = points.shape
    deals = count // cloud_size(count, model.point_count)
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode(), autocast(model.device):
            clouds = torch.from_numpy(np.ascontiguousarray(points, np.float32)).to(model.device)
            dealt = clouds.view(batch, count // deals, deals, 3).transpose(1, 2).flatten(0, 1)
            local, whole = split_features(network, dealt)
            local = local.float().view(batch, deals, count // deals, -1).transpose(1, 2)
            return local.reshape(batch, count, -1), whole.float().view(batch, deals, -1).mean(1)
    finally:
        network.train(was_training)


def train_head(
    features: Features, part_counts: Sequence[int], settings: HeadSettings, seed: int, device: torch.device
) -> Head:
    """A head learned from frozen features; the same for the same features and seed (CPU)."""
    with _seeded(seed, device):
        head = Head(features.local.shape[2], features.whole.shape[1], part_counts, settings)
        head.standardise(features.local[:, ::8].flatten(0, 1), features.whole)
        head = head.to(device).train()
        generator = torch.Generator().manual_seed(seed)
        optimiser, schedule = _optimiser([(head, settings.learning_rate)], settings, settings.steps)
        shapes, points = features.parts.shape
        batch = settings.batch_size
        for _ in range(settings.steps):
            rows = _batch(shapes, batch, generator)
            picked = torch.randint(points, (len(rows), settings.points), generator=generator)
            local = features.local[rows[:, None], picked].to(device)
            parts = features.parts[rows[:, None], picked].to(device)
            logits = head(local, features.whole[rows].to(device), features.category[rows].to(device))
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), parts.flatten())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return head.eval()


def train_together(
    model: Model, data: PartSet, chosen: np.ndarray, settings: HeadSettings, seed: int, scratch: bool = False
) -> tuple[PointNetwork, Head]:
    """The point network and a head learned together, from the model's weights or from random ones (`scratch`).

    Clouds are scaled by 2/3 to 3/2 and shifted by up to 0.2 along each axis, as in the authors' later code. They
    have as many points as those that will be asked about (`encode_block`): neighbourhoods are as wide.
    """
    from crosshape.networks.model import autocast, untrained_model

    device = model.device
    counts = [len(names) for names in data.layout.part_names]
    first = torch.tensor(starts(counts))
    points = torch.from_numpy(data.points[chosen])
    category = torch.from_numpy(data.labels[chosen])
    parts = torch.from_numpy(data.parts[chosen]) + first[category][:, None]
    if scratch:
        fresh = untrained_model(
            model.settings,
            points=model.point_count,
            image_size=model.image_size,
            seed=seed,
            clouds=data.points[chosen],
        )
        network = fresh.points.to(device)
    else:
        network = copy.deepcopy(model.points)
    with _seeded(seed, device):
        some = [
            encode_block(model, data.points[chosen[i : i + 8]], network)
            for i in range(0, min(len(chosen), 64), 8)
        ]
        local, whole = torch.cat([a for a, _ in some]), torch.cat([b for _, b in some])
        head = Head(local.shape[2], whole.shape[1], counts, settings)
        head.standardise(local[:, ::8].flatten(0, 1).cpu(), whole.cpu())
        head = head.to(device).train()
        network.train().requires_grad_(True)
        rate = settings.scratch_learning_rate if scratch else settings.tune_learning_rate
        optimiser, schedule = _optimiser(
            [(network, rate), (head, settings.learning_rate)], settings, settings.tune_steps
        )
        generator = torch.Generator().manual_seed(seed)
        for _ in range(settings.tune_steps):
            rows = _batch(len(chosen), settings.tune_batch_size, generator)
            if len(rows) < 2:
                rows = rows.repeat(2)
            picked = torch.rand(len(rows), points.shape[1], generator=generator).argsort(1)
            picked = picked[:, : cloud_size(points.shape[1], model.point_count)]
            clouds = points[rows[:, None], picked]
            clouds = clouds * torch.empty(len(rows), 1, 3).uniform_(2 / 3, 3 / 2, generator=generator)
            clouds = clouds + torch.empty(len(rows), 1, 3).uniform_(-0.2, 0.2, generator=generator)
            with autocast(device):
                local, whole = split_features(network, clouds.to(device))
            logits = head(local, whole, category[rows].to(device))
            loss = nn.functional.cross_entropy(
                logits.flatten(0, 1), parts[rows[:, None], picked].flatten().to(device)
            )
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_([*network.parameters(), *head.parameters()], 10.0)
            optimiser.step()
            schedule.step()
    return network.eval(), head.eval()


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Inside, weights and dropout are drawn from `seed`; the global generator is as before afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _optimiser(modules: list[tuple[nn.Module, float]], settings: HeadSettings, steps: int) -> tuple[Any, Any]:
    groups = [{"params": list(m.parameters()), "lr": rate} for m, rate in modules]
    optimiser = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    return optimiser, torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)


def _batch(shapes: int, size: int, generator: torch.Generator) -> Tensor:
    """Row numbers of a step: drawn without repetition, all of them where there are fewer than `size`."""
    return torch.randperm(shapes, generator=generator)[:size]


def predict(head: Head, local: Tensor, whole: Tensor, labels: np.ndarray) -> np.ndarray:
    """Features of shapes with their classes (B,) -> the probability (B, P, parts of all classes), float32."""
    with torch.inference_mode():
        category = torch.from_numpy(np.asarray(labels, np.int64)).to(local.device)
        return head(local, whole, category).softmax(2).float().cpu().numpy()


# ------------------------------------------------------------------------------------------------ evaluation


@dataclass
class _Trial:
    """One head (and network) of one seed and budget, and what it scored."""

    budget: str
    seed: int
    test: np.ndarray
    labelled: int
    head: Head
    network: PointNetwork | None = None
    ious: dict[int, float] = field(default_factory=dict)
    right: dict[int, float] = field(default_factory=dict)
    guesses: dict[int, np.ndarray] = field(default_factory=dict)


def evaluate_segmentation(
    model: Model,
    data: Layout | PartSet,
    *,
    fractions: Sequence[float] = (1.0, 0.1, 0.05, 0.01),
    shapes_per_class: Sequence[int] = (),
    seeds: int = 1,
    fifth: int = 1,
    fine_tune: bool = False,
    scratch: bool = False,
    untrained: bool = False,
    settings: HeadSettings | None = None,
    shown: Sequence[int] | np.ndarray = (),
    workers: int | None = None,
    progress: Callable[[str, int], Any] | None = None,
) -> Iterator[Row]:
    """Rows of part segmentation: for every budget of labels frozen features, and what else is asked for.

    A seed draws the labelled shapes, the head's weights and, without a test split, the test fifth. Figures
    are means over seeds. `shapes_per_class`, where given, replaces `fractions`; of budgets that come to the same
    shapes the first is kept. shown: numbers of shapes whose predictions of the first seed the rows keep. Raises
    CrosshapeError where the data has no part labels or nothing to test on.
    """
    from crosshape.networks.model import untrained_model

    settings = settings or HeadSettings()
    parts = data if isinstance(data, PartSet) else load_part_set(data, workers=workers, progress=progress)
    budgets: list[tuple[str, float | None, int | None]] = [
        (f"{k} a class", None, k) for k in shapes_per_class
    ]
    budgets = budgets or [(f"{100 * share:g} %", share, None) for share in fractions]
    kept: dict[bytes, tuple[str, float | None, int | None]] = {}
    for text, share, count in budgets:
        chosen = choose_labelled(parts.items, ~parts.split(fifth, 0), share, count, 0)
        kept.setdefault(chosen.tobytes(), (text, share, count))
    plan = []
    for seed in range(seeds):
        test = parts.split(fifth, seed)
        if not test.any() or test.all():
            raise CrosshapeError(f"{parts.layout.path} leaves nothing to learn from or to test on.")
        for text, share, count in kept.values():
            plan.append((text, seed, test, choose_labelled(parts.items, ~test, share, count, seed)))
    shown = np.asarray(shown, np.int64)
    yield from _rows("run", "frozen", parts, _heads(model, parts, plan, settings, shown, progress), shown)
    if fine_tune:
        yield from _tuned(model, "run", parts, plan, settings, False, shown, progress)
    if untrained:
        trials = []
        for seed in range(seeds):
            clouds = parts.points[~parts.split(fifth, seed)]
            other = untrained_model(model.settings, points=model.point_count, seed=seed, clouds=clouds)
            own = [p for p in plan if p[1] == seed]
            trials += _heads(other.to(model.device), parts, own, settings, shown, progress)
        yield from _rows("untrained", "frozen", parts, trials, shown)
    if scratch:
        yield from _tuned(model, "from scratch", parts, plan, settings, True, shown, progress)


def _heads(
    model: Model,
    data: PartSet,
    plan: list[Any],
    settings: HeadSettings,
    shown: np.ndarray,
    progress: Any = None,
) -> list[_Trial]:
    """All heads of a plan on the frozen features of one model, each measured on its test shapes.

    Features are kept for one head at a time: how many points of a shape it learns from is a matter of its own shapes.
    """
    counts = [len(names) for names in data.layout.part_names]
    trials = []
    known: tuple[np.ndarray, Features] | None = None
    for budget, seed, test, chosen in plan:
        if known is None or not np.array_equal(known[0], chosen):
            known = (
                None  # the old features go first; all shapes of an official split are the same for every seed
            )
            known = chosen, encode_features(model, data, chosen, progress)
        head = train_head(known[1], counts, settings, seed, model.device)
        trials.append(_Trial(budget, seed, test, len(chosen), head))
    _measure(model, data, trials, shown, progress)
    return trials


def _tuned(
    model: Model,
    name: str,
    data: PartSet,
    plan: list[Any],
    settings: HeadSettings,
    scratch: bool,
    shown: np.ndarray,
    progress: Any,
) -> list[Row]:
    trials = []
    bar = progress("Training" if scratch else "Fine-tuning", len(plan)) if progress else None
    for budget, seed, test, chosen in plan:
        network, head = train_together(model, data, chosen, settings, seed, scratch)
        trial = _Trial(budget, seed, test, len(chosen), head, network)
        _measure(model, data, [trial], shown)
        trial.network = None
        trials.append(trial)
        if bar:
            bar.advance()
    if bar:
        bar.close()
    return _rows(name, "whole network" if scratch else "fine-tuned", data, trials, shown)


def _measure(
    model: Model, data: PartSet, trials: list[_Trial], shown: np.ndarray, progress: Any = None
) -> None:
    """Score every trial on its test shapes; shapes are encoded once for all trials on the same network."""
    counts = np.array([len(names) for names in data.layout.part_names])
    first = np.array(starts(counts.tolist()))
    wanted = np.flatnonzero(np.any([trial.test for trial in trials], axis=0))
    bar = progress("Testing", len(wanted)) if progress else None
    for block in np.array_split(wanted, range(8, len(wanted), 8)):
        if not len(block):
            continue
        local, whole = encode_block(model, data.points[block], trials[0].network)
        for trial in trials:
            rows = np.flatnonzero(trial.test[block])
            if not len(rows):
                continue
            chances = predict(trial.head, local[rows], whole[rows], data.labels[block[rows]])
            for shape, found in zip(block[rows], chances.argmax(2), strict=True):
                label = data.labels[shape]
                guess = found - first[label]
                trial.ious[int(shape)] = shape_iou(data.parts[shape], guess, int(counts[label]))
                trial.right[int(shape)] = float((guess == data.parts[shape]).mean())
                if trial.seed == 0 and shape in shown:
                    trial.guesses[int(shape)] = guess.astype(np.int16)
        if bar:
            bar.advance(len(block))
    if bar:
        bar.close()


def _rows(name: str, kind: str, data: PartSet, trials: list[_Trial], shown: np.ndarray) -> list[Row]:
    """A row for every budget: means and standard deviations over seeds, interval over test shapes.

    Its detail holds every seed, the mean IoU of every class, and of the shapes in `shown` their names, their IoU
    and the predicted parts (guesses: an array a shape).
    """
    rows, labels = [], data.labels
    for budget in dict.fromkeys(trial.budget for trial in trials):
        group = [trial for trial in trials if trial.budget == budget]
        each: dict[str, list[float]] = {"instance_miou": [], "class_miou": [], "accuracy": []}
        for trial in group:
            shapes = np.array(sorted(trial.ious))
            ious = np.array([trial.ious[s] for s in shapes])
            each["instance_miou"].append(float(ious.mean()))
            each["class_miou"].append(class_miou(ious, data.labels[shapes]))
            each["accuracy"].append(float(np.mean([trial.right[s] for s in shapes])))
        scores = np.concatenate([np.array([t.ious[s] for s in sorted(t.ious)]) for t in group])
        owners = np.concatenate([np.array(sorted(t.ious)) for t in group])
        means = {key: float(np.mean(values)) for key, values in each.items()}
        stds = {k: float(np.std(v, ddof=1)) for k, v in each.items()} if len(group) > 1 else {}
        more = {"labels": budget, "head": kind, "labelled": group[0].labelled, "tested": len(group[0].ious)}
        detail: dict[str, Any] = {
            "seeds": [{"seed": t.seed, **{k: v[i] for k, v in each.items()}} for i, t in enumerate(group)],
            "classes": {
                data.layout.classes[c]: float(
                    np.mean([t.ious[s] for t in group for s in t.ious if labels[s] == c])
                )
                for c in np.unique(labels[np.concatenate([list(t.ious) for t in group])])
            },
        }
        if group[0].guesses:
            detail |= {
                "shown": [data.items[s].name for s in shown],
                "shown_iou": [group[0].ious[s] for s in shown],
                "guesses": [group[0].guesses[s] for s in shown],
            }
        interval = metrics.bootstrap(scores, owners)
        rows.append(
            Row(
                "segmentation",
                name,
                "points",
                None,
                "default",
                means,
                stds,
                interval,
                len(group),
                more,
                detail,
            )
        )
    return rows
