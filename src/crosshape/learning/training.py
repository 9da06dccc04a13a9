"""The joint training of the three networks, written out from top to bottom.

Source: arXiv 2004.05749 (recipe `paper`); `dense` asks the same questions of every pair in the batch.
Order and augmentation of a step depend on the seed and the number of the step alone, so a run that was
stopped goes on with the same weights, bit for bit, on a CPU with the same number of threads.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from crosshape import __version__
from crosshape.console import Progress, duration, say
from crosshape.errors import CrosshapeError, UsageError, command
from crosshape.learning import losses
from crosshape.learning import run as folder
from crosshape.learning.alike import alike_in, draw_alike, most_alike
from crosshape.learning.augment import augment_points, augment_views
from crosshape.learning.calibration import calibrate
from crosshape.learning.occupancy import CELLS, occupancy
from crosshape.learning.verdict import gallery, hold_out, measure, words
from crosshape.learning.workers import Workers, join
from crosshape.networks.allocator import keep_memory
from crosshape.networks.model import (
    Model,
    autocast,
    check_sizes,
    load_model,
    shipped,
    untrained_model,
)
from crosshape.networks.weights import load_image_weights
from crosshape.settings import FEATURES, RECIPES, NetworkSettings, TrainSettings, usual_recipe

if TYPE_CHECKING:
    from crosshape.library.library import Library

SAVE_EVERY = 300.0
"""Seconds between two saved states within an epoch."""
MOST_EPOCHS = 100_000
LOG_EVERY = 10
"""Steps between two rows of metrics.jsonl."""


def train(
    library: Library | str | Path,
    run: str | Path,
    *,
    recipe: str | None = None,
    settings: TrainSettings | None = None,
    network: NetworkSettings | None = None,
    initial: str | Path | None = None,
    image_weights: str | Path | None = None,
    device: str = "auto",
    minutes: float | None = None,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> Model:
    """Learn features of a library's shapes, with no labels, into the folder `run`; returns the model.

    `settings` default to those of the recipe, and that to "dense", or "further" with `initial` ("paper" is the third);
    with `resume` those of the run are used. `initial` is a run or a shipped model to start from, `image_weights` a
    file of ResNet-18 weights.
    `minutes` sets the number of epochs to what fits in that time, measured on the first steps. Ctrl-C saves and
    raises KeyboardInterrupt. Under torchrun its processes learn one model together, and the first one writes it.
    Raises CrosshapeError for a run that is there already, a library too small, a device that is not there.
    """
    from crosshape.library.library import Library, available_memory, open_library

    keep_memory()
    run = Path(run)
    shapes = library if isinstance(library, Library) else open_library(library)
    recipe = recipe or usual_recipe(initial)
    if recipe not in RECIPES:
        raise UsageError(f"unknown recipe '{recipe}'; known are {', '.join(RECIPES)}")
    if minutes is not None and not 0 < minutes < math.inf:
        raise UsageError(f"minutes is {minutes}; it must be more than 0")
    with _torch_as_it_was(), contextlib.ExitStack() as lock:
        with join(device) as (workers, place):
            quiet = quiet or not workers.first
            if not resume:
                training = settings or RECIPES[recipe]
                plan = new_plan(shapes, training, network, initial, image_weights, workers)
            workers.told(lambda: lock.enter_context(folder.begin(run, resume, overwrite)))
            if resume:
                plan, minutes = stored_plan(run, shapes, workers), None
            network, training, facts, start = plan
            points, views = workers.first_then_all(
                lambda: shapes.training_arrays(
                    training.image_size, run / "cache", available_memory() // (2 * workers.local)
                )
            )
            held = hold_out(len(points), training.held_out, training.seed)
            rows = np.setdiff1d(np.arange(len(points)), held)
            likes = None
            if training.alike and start:
                like = partial(
                    find_likes, start.to(place), shapes, points, views, rows, training.alike, run, quiet
                )
                likes = workers.told(like)
            elif training.alike:
                likes = folder.load_likes(run, len(points))
            learner = Learner(
                points, views, network, training, place, rows=rows, likes=likes, workers=workers
            )
            if start:
                learner.model.load_state_dict(start.state_dict())
            if image_weights and not resume:
                load_image_weights(learner.model.images, Path(image_weights))
            if minutes is not None:
                if not quiet:
                    say("measuring the first steps, to know how many there is time for")
                training = learner.settings = replace(training, epochs=learner.epochs_in(60 * minutes))
            if not resume and workers.first:
                if overwrite:
                    folder.replace(run)
                facts["threads"] = torch.get_num_threads()
                folder.write_settings(run, network, training, **facts)
                if likes is not None:
                    folder.save_likes(run, likes)
            learner.origin = {name: facts[name] for name in ("started_from", "license") if name in facts}
            try:
                learner.run(run, quiet)
                if training.encoding_points and not quiet:
                    say("gathering BatchNorm statistics of whole clouds and unchanged views")
                if workers.first:
                    make_ready(learner.model, training, points, views, rows)
                    learner.model.save(run)
            except KeyboardInterrupt:
                if workers.first:
                    say(f"\nstopped at {folder.progress_of(run)}; saved. Go on with:")
                    how = f"torchrun --nproc-per-node {workers.local} -m " if workers.count > 1 else ""
                    say(f"  {how}{command('train', shapes.path, run, '--resume')}")
                raise
            model = learner.model  # of which every process gets the first one's
            workers.share(model.state_dict().values())
            model.point_count, model.card, model.source = workers.told(
                lambda: (model.point_count, model.card, model.source)
            )
        if len(held) and workers.first:
            tell(learner.model, shapes, points, views, held, run, quiet)
    return learner.model


class Plan(NamedTuple):
    """What a run learns by: settings, what run.toml keeps beside them, and the model that a new run starts from."""

    network: NetworkSettings
    training: TrainSettings
    facts: dict[str, Any]
    start: Model | None


def new_plan(
    library: Library,
    training: TrainSettings,
    network: NetworkSettings | None,
    initial: str | Path | None,
    image_weights: str | Path | None,
    workers: Workers,
) -> Plan:
    """The plan of a new run; refused where it cannot be, before there is a folder."""
    check(training, library)
    start = load_model(initial, "cpu") if initial else None
    if training.alike and start is None:
        raise UsageError("setting 'alike' needs a model that tells what is alike: --from RUN or --from NAME")
    if start and network not in (None, start.settings):
        raise UsageError(f"--from keeps the networks of {initial}; leave settings of the networks out")
    network = network or (start.settings if start else NetworkSettings())
    check_sizes(network, "settings")
    held = hold_out(len(library), training.held_out, training.seed)
    workers.batch_size(training.batch_size, len(library) - len(held))
    facts = {"library": str(library.path), "shapes": len(library), "content": library.content_key()}
    facts["version"] = __version__
    if workers.count > 1:
        facts["processes"] = workers.count
    if image_weights:
        facts["image_weights"] = str(image_weights)
    if start:
        facts["started_from"] = f"{initial} ({start.fingerprint})"
        facts |= {name: start.card[name] for name in ("license",) if name in start.card}
    return Plan(network, training, facts, start)


def stored_plan(run: Path, library: Library, workers: Workers) -> Plan:
    """The plan of the run that is there; from here on as many threads as it has. Refused for other shapes."""
    network, training, facts = folder.read_settings(run)
    check(training, library)
    check_sizes(network, str(run / folder.SETTINGS))
    content = library.content_key()
    if facts.get("content", content) != content:
        raise CrosshapeError(
            f"{run} learns from other shapes than {library.path} holds now: {facts.get('shapes')} of "
            f"{facts.get('library')} then, {len(library):,} now. A run keeps its shapes. Start another one from "
            f"it: {command('train', library.path, 'RUN', '--from', run)}"
        )
    if not (run / folder.STATE).exists() and {"started_from", "image_weights"} & set(facts):
        raise CrosshapeError(
            f"{run} was stopped before its first state was saved. Start it again with --overwrite, from "
            f"{facts.get('started_from', facts.get('image_weights'))}."
        )
    if int(facts.get("processes", 1)) == workers.count:
        torch.set_num_threads(int(facts.get("threads", torch.get_num_threads())))
    return Plan(network, training, facts, None)


@contextlib.contextmanager
def _torch_as_it_was() -> Iterator[None]:
    """Put back at the end what learning sets for the whole process: threads, and how convolutions are chosen."""
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = benchmark


def find_likes(
    start: Model,
    library: Library,
    points: np.ndarray,
    views: np.ndarray,
    rows: np.ndarray,
    count: int,
    run: Path,
    quiet: bool,
) -> np.ndarray:
    """What `most_alike` says of the training shapes, with views as large as the model reads where there are some."""
    if not quiet:
        say(f"looking for the {count} shapes most like each one")
    if views.shape[2] < start.image_size <= library.settings.image_size:
        views = library.training_arrays(start.image_size, cache=run / "cache")[1]
    return most_alike(start.eval(), points, views, rows, count)


def make_ready(
    model: Model, settings: TrainSettings, points: np.ndarray, views: np.ndarray, rows: np.ndarray
) -> None:
    """Prepare a trained model for encoding: `encoding_points` a cloud, statistics gathered from `rows` anew."""
    if settings.encoding_points:
        model.point_count = min(settings.encoding_points, points.shape[1])
        calibrate(model, points, views, rows)
    model.card["ready"] = True


def tell(
    model: Model,
    library: Library,
    points: np.ndarray,
    views: np.ndarray,
    held: np.ndarray,
    run: Path,
    quiet: bool = False,
) -> None:
    """Say, and write on the card, whether training helped, judged without labels on held-out shapes.

    Models that come along are asked as well, on larger views where they want them and the library has them.
    """
    floor = untrained_model(
        model.settings, points=model.point_count, image_size=model.image_size, clouds=points, views=views
    )
    rows = gallery(len(points), held)
    mine = np.searchsorted(rows, held)
    some, seen = np.asarray(points[rows]), np.asarray(views[rows])
    verdicts = {"trained": measure(model, some, seen, mine)}
    verdicts["untrained"] = measure(floor.to(model.device), some, seen, mine)
    names = [library.names[row] for row in rows]
    for name in shipped():
        other = load_model(name, str(model.device))
        if other.image_size > library.settings.image_size:
            continue
        large = library.views(names, size=other.image_size) if other.image_size > seen.shape[2] else seen
        verdicts[name] = measure(other, some, large, mine)
    model.card["verdict"] = {name: asdict(verdict) for name, verdict in verdicts.items()}
    model.save(run)
    if not quiet:
        origin = str(model.card.get("started_from", "")).split(" (")[0]
        say(words(verdicts, len(held), origin if origin and origin not in shipped() else None))


def check(settings: TrainSettings, library: Library) -> None:
    """Refuse settings that cannot be, naming the setting, its value and what it may be."""
    choices = {
        "optimiser": ("sgd", "adamw"),
        "schedule": ("steps", "cosine"),
        "cross_view": ("triplet", "softmax", "none"),
        "cross_modality": ("pairs", "all-pairs", "none"),
        "augmentation": ("paper", "strong"),
    }
    for name, known in choices.items():
        if getattr(settings, name) not in known:
            raise UsageError(
                f"setting '{name}' is {getattr(settings, name)!r}; it must be {' or '.join(known)}"
            )
    bounds = {
        "epochs": (1, MOST_EPOCHS),
        "batch_size": (2, 1 << 16),
        "points": (32, library.settings.points),
        "image_size": (32, library.settings.image_size),
        "learning_rate": (1e-9, 10.0),
        "weight_decay": (0.0, 10.0),
        "clip": (0.0, 1e9),
        "margin": (0.0, 1e6),
        "cross_view_weight": (0.0, 1e6),
        "cross_modality_weight": (0.0, 1e6),
        "cross_cloud_weight": (0.0, 1e6),
        "cosine_weight": (0.0, 1e6),
        "reconstruction_weight": (0.0, 1e6),
        "temperature": (1e-4, 10.0),
        "held_out": (0.0, 0.5),
        "projection": (0, 8192),
        "encoding_points": (0, 1 << 20),
        "crop": (0.0, 1.0),
        "turn": (0.0, 180.0),
        "clutter": (0.0, 1.0),
        "alike": (0, 1000),
        "alike_weight": (0.0, 100.0),
        "seed": (0, (1 << 63) - 1),
    }
    for name, (low, high) in bounds.items():
        if not low <= getattr(settings, name) <= high:  # what is no number is within no bounds
            kept = " (what the library holds)" if name in ("points", "image_size") else ""
            raise UsageError(
                f"setting '{name}' is {getattr(settings, name)}; it must be {low} to {high}{kept}"
            )
    weights = [
        settings.cross_view_weight if settings.cross_view != "none" else 0,
        settings.cross_modality_weight if settings.cross_modality != "none" else 0,
        settings.cross_cloud_weight,
        settings.cosine_weight,
        settings.reconstruction_weight,
    ]
    if not any(weights):
        raise UsageError(
            "there is nothing to learn from: of cross_view, cross_modality, cross_cloud_weight, cosine_weight and "
            "reconstruction_weight one must be on"
        )
    if settings.alike and (settings.cross_view == "triplet" or settings.cross_modality == "pairs"):
        raise UsageError(
            "setting 'alike' takes its negatives from the whole batch: no triplet, no pairs beside it"
        )
    if len(library) < 4:
        raise CrosshapeError(
            f"{library.path} holds {len(library)} shapes; learning needs 4, and hundreds to be of use."
        )
    if library.settings.views < 2:
        raise CrosshapeError(f"{library.path} has 1 view a shape; learning needs 2. Add with --views 12.")


class Batch(NamedTuple):
    """What a step learns from, on the device."""

    clouds: Tensor
    """(B or 2 B, n, 3): one or two looks at each cloud, changed."""
    view_a: Tensor
    """(B, S, S), changed; view_b: another view of the same shapes."""
    view_b: Tensor
    alike: Tensor | None
    """(B, B), with `alike`: how much another object counts as the same one."""
    occupied: Tensor | None
    """(B, cells), with `reconstruction_weight`: how full each cell around an object is."""


class Learner:
    """Arrays, networks, optimiser and place in the data; `run` is the loop."""

    def __init__(
        self,
        points: np.ndarray,
        views: np.ndarray,
        network: NetworkSettings,
        settings: TrainSettings,
        device: torch.device,
        model: Model | None = None,
        rows: np.ndarray | None = None,
        likes: np.ndarray | None = None,
        workers: Workers | None = None,
    ) -> None:
        self.settings, self.device, self.likes = settings, device, likes
        self.workers = workers or Workers()
        self.rows = np.arange(len(points)) if rows is None else rows
        self.points, self.views = _reside(points, device), _reside(views, device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.model = model or Model(network, points=settings.points, image_size=settings.image_size)
            self.image_head, self.point_head = _head(settings.projection), _head(settings.projection)
            cells = CELLS**3 if settings.reconstruction_weight else 0
            self.image_decoder, self.point_decoder = _head(cells, bias=True), _head(cells, bias=True)
        self.model.comparable = settings.cosine_weight > 0 and settings.projection == 0
        for module in self._modules().values():
            module.to(device).train()
        torch.backends.cudnn.benchmark = True  # sizes stay the same from step to step
        self.batch_size = self.workers.batch_size(settings.batch_size, len(self.rows))
        self.steps_per_epoch = len(self.rows) // self.batch_size
        self.place = folder.Place()
        parameters = sorted(
            self._parameters(), key=lambda pair: pair[1].ndim <= 1
        )  # as the optimiser groups them
        self.names = [name for name, _ in parameters]
        self.optimiser = _optimiser(settings, [parameter for _, parameter in parameters])
        self.generator = torch.Generator(device=device)
        self.origin: dict[str, Any] = {}

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.steps_per_epoch * self.settings.epochs

    def run(self, run: Path, quiet: bool = False) -> None:
        """Train from where the run stands to the end; save after every epoch (where that takes less than a twentieth of
        the time), within long ones, and on Ctrl-C, which waits for the end of a step.
        """
        with folder.asked_to_stop() as asked:
            self._run(run, quiet, asked)
            if self.workers.agree(asked(), self.device):
                raise KeyboardInterrupt
        self.model.eval()

    def _run(self, run: Path, quiet: bool, asked: Callable[[], bool]) -> None:
        if not self._restore(run):
            self._save(
                run
            )  # what training starts from, so that a run killed before its first epoch goes on from there
        self.workers.share(
            value for module in self._modules().values() for value in module.state_dict().values()
        )
        metrics = folder.Metrics(run, self.place.step) if self.workers.first else None
        progress = Progress("training", self.steps * self.batch_size)
        progress.live = progress.live and not quiet
        progress.done = self.place.step * self.batch_size
        progress.begin = progress.done
        started, before = time.monotonic(), self.place.seconds
        saved, took = started, 0.0
        recent: list[dict[str, Tensor]] = []
        note = ""
        between = True
        row: dict[str, float] = {}
        # On a GPU it takes waiting for a step to agree with the others, so that is not done after each.
        agreed = 1 if self.workers.count == 1 or self.device.type == "cpu" else LOG_EVERY
        try:
            while self.place.step < self.steps:
                if self.place.step % agreed == 0 and self.workers.agree(asked(), self.device):
                    raise KeyboardInterrupt
                between = False
                parts = self.step()
                between = True
                recent.append(parts)
                self.place.seconds = before + time.monotonic() - started
                epoch = self.place.step / self.steps_per_epoch
                ended = self.place.step % self.steps_per_epoch == 0
                if self.place.step % LOG_EVERY == 0 or ended:
                    row = _mean(recent)
                    recent = []
                    if not math.isfinite(row["loss"]):
                        raise CrosshapeError(
                            f"the loss is not finite at step {self.place.step}; use a smaller learning_rate. "
                            "The last saved state is kept."
                        )
                    row["shapes_per_second"] = self.place.step * self.batch_size / self.place.seconds
                    if metrics:
                        metrics.write({"step": self.place.step, "epoch": round(epoch, 4), **row})
                    note = _words(row, epoch, self.settings.epochs)
                progress.advance(self.batch_size, note)
                now = time.monotonic()
                if now - saved > (20 * took if ended else SAVE_EVERY):
                    self._save(run)
                    saved = time.monotonic()
                    took = saved - now
                if ended and not progress.live and not quiet and _telling(round(epoch), self.settings.epochs):
                    say(f"{_words(row, epoch, self.settings.epochs)}, {duration(self.place.seconds)}")
        except KeyboardInterrupt:
            if between:  # half a step is not kept
                self._save(run)
            raise
        finally:
            progress.close()
            if metrics:
                metrics.close()
        self._save(run)

    def step(self) -> dict[str, Tensor]:
        """One step of the joint training; the parts of the loss and the accuracy of the judge."""
        parts = self.losses(self.batch(self.place.step))
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.settings, self.place.step, self.steps)
        self.optimiser.zero_grad(set_to_none=True)
        parts["loss"].backward()
        apart = [*self.model.images.parameters(), *self.model.points.parameters()]
        mine = {id(parameter) for parameter in apart}
        self.workers.sum_gradients(apart, (p for _, p in self._parameters() if id(p) not in mine))
        if self.settings.clip > 0:
            nn.utils.clip_grad_norm_([p for _, p in self._parameters()], self.settings.clip)
        self.optimiser.step()
        self.place.step += 1
        return {name: value.detach() for name, value in parts.items()}

    def batch(self, step: int) -> Batch:
        """What the step of that number learns from, this process's part of it: the same for the same seed (CPU)."""
        settings, size = self.settings, self.batch_size
        epoch, within = divmod(step, self.steps_per_epoch)
        order = np.random.Generator(np.random.PCG64([settings.seed, epoch])).permutation(self.rows)
        rows = order[within * size : (within + 1) * size]
        chance = np.random.Generator(np.random.PCG64([settings.seed, epoch, within + 1]))
        alike, part = None, self.workers.part(size)
        # Rows stay as they were drawn: sorted by name, neighbours would be of one kind, and a negative is a neighbour.
        if self.likes is not None:
            rows = rows[: (size + 1) // 2]
            rows = np.concatenate([rows, draw_alike(rows, size // 2, self.likes, self.rows, chance)])
            alike = torch.from_numpy(alike_in(rows, self.likes)).to(self.device, torch.float32)
            alike = settings.alike_weight * alike
        rows = rows[part]
        ring = self.views.shape[1]
        first = chance.integers(ring, size=size)
        second = (first + chance.integers(1, ring, size=size)) % ring
        self.generator.manual_seed(int(chance.integers(1 << 62)) + self.workers.rank)
        first, second, size = first[part], second[part], len(rows)
        clouds = _take(self.points, rows, self.device)
        occupied = occupancy(clouds) if settings.reconstruction_weight else None
        looks = 2 if settings.cross_cloud_weight else 1
        clouds = augment_points(
            torch.cat([clouds] * looks),
            settings.points,
            settings.augmentation,
            self.generator,
            settings.turn,
        )
        pictures = torch.cat(
            [_take(self.views, (rows, first), self.device), _take(self.views, (rows, second), self.device)]
        )
        pictures = augment_views(
            pictures, settings.augmentation, self.generator, settings.clutter, settings.crop
        )
        return Batch(clouds, pictures[:size], pictures[size:], alike, occupied)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The parts of the loss of one batch, their weighted sum as "loss", and the accuracy of the judge."""
        with autocast(self.device):
            image = self.model.images(torch.cat([batch.view_a, batch.view_b]))
            point = self.model.points(batch.clouds)
        image = self.workers.gather(image, 2)
        point = self.workers.gather(point, len(batch.clouds) // len(batch.view_a))
        occupied = batch.occupied if batch.occupied is None else self.workers.gather(batch.occupied, 1)
        return self.compare(image, point, batch.alike, occupied)

    def compare(
        self, image: Tensor, point: Tensor, alike: Tensor | None, occupied: Tensor | None
    ) -> dict[str, Tensor]:
        """`losses` of features of a whole batch: pictures (2 B, 512), clouds (B or 2 B, 512)."""
        settings, size = self.settings, len(image) // 2
        image_a, image_b = image[:size], image[size:]
        other_view, points = image_a.roll(1, dims=0), point[:size]
        parts: dict[str, Tensor] = {}
        total = torch.zeros((), device=self.device)

        if settings.cross_view == "triplet":
            parts["cross_view"] = losses.triplet(image_a, image_b, other_view, settings.margin)
        elif settings.cross_view == "softmax":
            left, right = self.image_head(image).chunk(2)
            parts["cross_view"] = losses.softmax_agreement(left, right, settings.temperature, alike)
        if "cross_view" in parts:
            total = total + settings.cross_view_weight * parts["cross_view"]

        judge = self.model.correspondence
        if settings.cross_modality == "pairs":
            logits = judge(torch.cat([image_a, image_b, other_view]), torch.cat([points] * 3))
            truth = torch.cat([logits.new_ones(2 * size), logits.new_zeros(size)])
            parts["cross_modality"] = losses.same_object(logits, truth)
            parts["judge_accuracy"] = ((logits > 0) == (truth > 0)).float().mean()
        elif settings.cross_modality == "all-pairs":
            first, second = _halves(point, size)
            pairs = [judge.all_pairs(image_a, first), judge.all_pairs(image_b, second)]
            parts["cross_modality"] = torch.stack([losses.all_pairs(logits) for logits in pairs]).mean()
            parts["judge_accuracy"] = torch.stack([_balanced_accuracy(logits) for logits in pairs]).mean()
        if "cross_modality" in parts:
            total = total + settings.cross_modality_weight * parts["cross_modality"]

        if settings.cross_cloud_weight:
            left, right = self.point_head(point).chunk(2)
            parts["cross_cloud"] = losses.softmax_agreement(left, right, settings.temperature, alike)
            total = total + settings.cross_cloud_weight * parts["cross_cloud"]
        if settings.cosine_weight:
            picture = self.image_head(image_a) + self.image_head(image_b)
            cloud = torch.stack(_halves(self.point_head(point), size)).mean(dim=0)
            parts["cosine"] = losses.softmax_agreement(picture, cloud, settings.temperature, alike)
            total = total + settings.cosine_weight * parts["cosine"]
        if settings.reconstruction_weight:
            assert occupied is not None
            told = [
                losses.reconstruction(self.image_decoder(image), occupied.repeat(2, 1)),
                losses.reconstruction(self.point_decoder(point), occupied.repeat(len(point) // size, 1)),
            ]
            parts["reconstruction"] = torch.stack(told).sum()
            total = total + settings.reconstruction_weight * parts["reconstruction"]
        return {"loss": total, **parts}

    def epochs_in(self, seconds: float) -> int:
        """How many epochs fit in so many seconds, by the fastest of a few steps; at least one. All but the number of
        threads is as before afterwards.

        On a busy machine threads wait for each other: where one alone is faster, it is used from here on. Of several
        processes each keeps its threads, and what the first one measured holds for all.
        """
        modules, place = self._modules().values(), self.place
        weights = [{n: v.clone() for n, v in module.state_dict().items()} for module in modules]
        optimiser = copy.deepcopy(self.optimiser.state_dict())
        threads = torch.get_num_threads()
        took: dict[int, float] = {}
        for count in sorted({threads, 1} if self.workers.count == 1 else {threads}, reverse=True):
            torch.set_num_threads(count)
            self.place = folder.Place()
            times = [self._now()]
            for _ in range(5):
                self.step()
                times.append(self._now())
            took[count] = min(np.diff(times)[1:])
        best = min(took, key=lambda count: took[count])
        torch.set_num_threads(best)
        for module, values in zip(modules, weights, strict=True):
            module.load_state_dict(values)
        self.optimiser.zero_grad(set_to_none=True)
        self.optimiser.load_state_dict(optimiser)
        self.place = place
        fits = seconds / (1.1 * took[best] * self.steps_per_epoch)
        return self.workers.told(lambda: max(1, min(MOST_EPOCHS, int(fits))))

    def _now(self) -> float:
        """The clock, once the device has done what it was given."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        return time.monotonic()

    def _parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        for title, module in self._modules().items():
            yield from module.named_parameters(prefix=title)

    def _modules(self) -> dict[str, nn.Module]:
        return {
            "model": self.model,
            "image_head": self.image_head,
            "point_head": self.point_head,
            "image_decoder": self.image_decoder,
            "point_decoder": self.point_decoder,
        }

    def _save(self, run: Path) -> None:
        if not self.workers.first:
            return
        if not all(bool(parameter.isfinite().all()) for _, parameter in self._parameters()):
            raise CrosshapeError(
                f"weights are not finite at step {self.place.step}; use a smaller learning_rate. The last saved "
                "state is kept."
            )
        tensors = {
            f"{title}.{name}": value
            for title, module in self._modules().items()
            for name, value in module.state_dict().items()
        }
        tensors |= folder.optimiser_tensors(self.optimiser, self.names)
        folder.save_state(run, tensors, self.place, self.steps, self.steps_per_epoch)
        self.model.card = self._card(run)
        self.model.save(run)
        self.model.source = str(Path(run).absolute())

    def _restore(self, run: Path) -> bool:
        found = folder.load_state(run)
        if found is None:
            return False
        tensors, place = found
        try:
            for title, module in self._modules().items():
                prefix = f"{title}."
                module.load_state_dict(
                    {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
                )
            kept = {n: v for n, v in tensors.items() if n.startswith("optimiser.")}
            folder.restore_optimiser(self.optimiser, self.names, kept)
        except (RuntimeError, KeyError, ValueError) as error:
            raise CrosshapeError(
                f"{run / folder.STATE} does not fit the settings of {run / folder.SETTINGS}: "
                f"{str(error).splitlines()[0]} Start again with --overwrite."
            ) from None
        self.place = place
        return True

    def _card(self, run: Path) -> dict[str, Any]:
        return {
            "name": run.name,
            "trained_on": f"{len(self.rows)} shapes",
            **self.origin,
            "recipe": self.settings.recipe,
            "epochs": round(self.place.step / self.steps_per_epoch, 3),
            "minutes": round(self.place.seconds / 60, 1),
            "ready": not self.settings.encoding_points,
            "device": str(self.device),
            "threads": torch.get_num_threads(),
            **({"processes": self.workers.count} if self.workers.count > 1 else {}),
            "crosshape": __version__,
            "torch": torch.__version__,
        }


def learning_rate(settings: TrainSettings, step: int, steps: int) -> float:
    """The step size at a step of so many."""
    share = step / max(steps, 1)
    if settings.schedule == "steps":
        return settings.learning_rate * (0.1 ** ((share >= 0.5) + (share >= 0.75)))
    warm = min(0.05, 100 / max(steps, 1))
    if share < warm:
        return settings.learning_rate * (step + 1) / (warm * steps + 1)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (share - warm) / (1 - warm)))


def _optimiser(settings: TrainSettings, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """SGD as in the paper, or AdamW without decay of norms and biases."""
    if settings.optimiser == "sgd":
        return torch.optim.SGD(
            parameters, lr=settings.learning_rate, momentum=0.9, weight_decay=settings.weight_decay
        )
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=parameters[0].device.type == "cuda")


def _head(width: int, bias: bool = False) -> nn.Module:
    """What is between features and a loss, and thrown away: to so many numbers; nothing for none."""
    if not width:
        return nn.Identity()
    return nn.Sequential(
        nn.Linear(FEATURES, FEATURES, bias=False),
        nn.BatchNorm1d(FEATURES),
        nn.ReLU(inplace=True),
        nn.Linear(FEATURES, width, bias=bias),
    )


def _reside(array: np.ndarray, device: torch.device) -> Any:
    """The whole array on a GPU where it fits in half of the free memory; elsewhere the array itself."""
    if device.type == "cuda" and array.nbytes < torch.cuda.mem_get_info(device)[0] // 2:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)
    return array


def _take(array: Any, index: Any, device: torch.device) -> Tensor:
    if isinstance(array, Tensor):
        parts = index if isinstance(index, tuple) else (index,)
        return array[tuple(torch.from_numpy(part).to(device, non_blocking=True) for part in parts)]
    return torch.from_numpy(np.ascontiguousarray(array[index])).to(device)


def _halves(point: Tensor, size: int) -> list[Tensor]:
    """Features of one or two looks at each cloud -> two, the same one twice where there is one."""
    return [point[:size], point[-size:]]


def _balanced_accuracy(logits: Tensor) -> Tensor:
    """How often the judge is right on logits (B, B), the diagonal as weighty as all the rest."""
    right = logits.detach() > 0
    true = right.diagonal().float().mean()
    false = (right.sum() - right.diagonal().sum()) / max(logits.numel() - len(logits), 1)
    return (true + 1 - false) / 2


def _mean(rows: list[dict[str, Tensor]]) -> dict[str, float]:
    """Means over rows of tensors, read from the device once."""
    return {name: float(torch.stack([row[name] for row in rows]).mean()) for name in rows[0]}


def _telling(epoch: int, epochs: int) -> bool:
    """Where nobody watches a line, tell of about twenty epochs of a run."""
    return epochs <= 20 or epoch == epochs or epoch % max(1, epochs // 20) == 0


def _words(row: dict[str, float], epoch: float, epochs: int) -> str:
    names = {
        "cross_view": "views",
        "cross_modality": "modalities",
        "cross_cloud": "clouds",
        "cosine": "cosine",
        "reconstruction": "grid",
    }
    parts = ", ".join(f"{word} {row[name]:.3f}" for name, word in names.items() if name in row)
    judge = f", judge {100 * row['judge_accuracy']:.0f} %" if "judge_accuracy" in row else ""
    return f"epoch {epoch:.1f}/{epochs}: loss {row['loss']:.3f} ({parts}){judge}"
