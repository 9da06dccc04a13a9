"""The run folder: settings, weights, optimiser, log, card; a run that was stopped goes on exactly.

run.toml            settings of networks and training
model.safetensors   weights, with card.json: trained on what, how long, by which version
state.safetensors   all that training needs to go on: weights, optimiser, place in the data
metrics.jsonl       one object a line: step, epoch, losses, rates; tensorboard/ holds the same
likes.npy           with setting `alike`: the shapes most like each one, found before the first step
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import io
import json
import shutil
import signal
import threading
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crosshape.errors import CrosshapeError, UsageError
from crosshape.files import parse_json, write_whole
from crosshape.settings import NetworkSettings, TrainSettings, changed

SETTINGS, STATE, METRICS, LIKES = "run.toml", "state.safetensors", "metrics.jsonl", "likes.npy"


@dataclass
class Place:
    """Where training stands: steps done, seconds spent."""

    step: int = 0
    seconds: float = 0.0


@contextlib.contextmanager
def alone(run: Path) -> Iterator[None]:
    """Hold the run folder for this process. Raises CrosshapeError where another one is training into it."""
    with (run / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CrosshapeError(
                f"another process is training into {run}; wait for it, or use a new folder."
            ) from None
        except OSError:  # a file system without locks
            pass
        yield


@contextlib.contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C came, or SIGTERM where it means the same: to be asked between two steps, so that none is left half
    done. A second one stops at once.
    """
    told: list[int] = []

    def note(number: int, _: object) -> None:
        if told:
            raise KeyboardInterrupt
        told.append(number)

    changed: list[signal.Signals] = []
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is signal.default_int_handler:
                signal.signal(number, note)
                changed.append(number)
    try:
        yield lambda: bool(told)
    finally:
        for number in changed:
            signal.signal(number, signal.default_int_handler)


def write_settings(run: Path, network: NetworkSettings, training: TrainSettings, **facts: Any) -> None:
    """Write run.toml: [network], [training] and the facts at the top. Raises ValueError for numbers that are not
    finite.
    """
    lines = [f"{name} = {_toml(value)}" for name, value in facts.items()]
    for title, settings in (("network", network), ("training", training)):
        lines += ["", f"[{title}]"]
        lines += [f"{name} = {_toml(value)}" for name, value in dataclasses.asdict(settings).items()]
    write_whole(run / SETTINGS, "\n".join([*lines, ""]).encode("utf-8", "replace"))


def _toml(value: Any) -> str:
    """A text, a number, true or false, or a list of these: as JSON, which may leave a delete character as it is."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", r"\u007f")


def read_settings(run: Path) -> tuple[NetworkSettings, TrainSettings, dict[str, Any]]:
    """Settings of a run and the facts beside them. Raises CrosshapeError for a file that is none."""
    path = run / SETTINGS
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CrosshapeError(f"{run} is no run: it has no {SETTINGS}. Start one: crosshape train.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CrosshapeError(f"{path} cannot be read: {error}.") from None
    except RecursionError:
        raise CrosshapeError(f"{path} cannot be read: too many brackets within one another.") from None
    network = changed(NetworkSettings(), _part(table, "network", path), str(path))
    training = changed(TrainSettings(), _part(table, "training", path), str(path))
    return network, training, {k: v for k, v in table.items() if k not in ("network", "training")}


def _part(table: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    part = table.get(name, {})
    if not isinstance(part, dict):
        raise CrosshapeError(f"{path}: [{name}] is not a table of settings.")
    return part


def _clean(run: Path, everything: bool) -> None:
    """Remove what a killed process was writing, or all of a run."""
    for name in (STATE, METRICS, SETTINGS, LIKES, "model.safetensors", "card.json"):
        for half in run.glob(f".{name}.*"):
            half.unlink(missing_ok=True)
        if everything:
            (run / name).unlink(missing_ok=True)
    if everything:
        shutil.rmtree(run / "tensorboard", ignore_errors=True)


@contextlib.contextmanager
def begin(run: Path, resume: bool, overwrite: bool) -> Iterator[None]:
    """Hold the run folder for this process, made where it is not there: with `resume` to go on with the run in it, else
    to begin one. With `overwrite` the run that is there stays until `replace` is called.

    Raises CrosshapeError where a run is there already and neither word was given, where there is none to go on with,
    where the folder holds something else, or where another process is training into it.
    """
    if resume and overwrite:
        raise UsageError("--resume continues a run and --overwrite replaces it; give one of them.")
    if run.exists() and not run.is_dir():
        raise CrosshapeError(f"{run} is a file; give a folder for the run.")
    if not (run / ".lock").exists():
        _check_folder(run, resume, overwrite)  # before anything is written there
        run.mkdir(parents=True, exist_ok=True)
    with alone(run):  # another process at work there is told before anything is touched
        _check_folder(run, resume, overwrite)  # it may have been at work until now
        _clean(run, everything=False)
        yield


def _check_folder(run: Path, resume: bool, overwrite: bool) -> None:
    """Refuse a folder as `begin` says."""
    if not (run / SETTINGS).exists():
        if run.is_dir() and any(p.name != "cache" and not p.name.startswith(".") for p in run.iterdir()):
            raise CrosshapeError(f"{run} is not empty and holds no run; give a new folder.")
        if resume:
            raise CrosshapeError(f"{run} holds no run to resume. Leave --resume out to start one.")
    elif not resume and not overwrite:
        raise CrosshapeError(
            f"{run} already holds a run ({progress_of(run)}). "
            "Add --resume to continue it or --overwrite to replace it."
        )


def replace(run: Path) -> None:
    """Remove a run whose place another one takes, when all is ready that the other one needs; in `begin`."""
    _clean(run, everything=True)


def progress_of(run: Path) -> str:
    """A few words: how far a run is."""
    try:
        place = _metadata(run / STATE)
    except (CrosshapeError, OSError):
        return "nothing saved yet"
    steps, every = int(place["step"]), max(int(place["steps_per_epoch"]), 1)
    return f"epoch {steps // every} of {int(place['steps']) // every}"


def unfinished(run: Path) -> str | None:
    """How far a run is whose model has steps left, as in "unfinished, epoch 3 of 60"; None for what is no such run."""
    try:
        card, wanted = parse_json((run / "card.json").read_bytes()), read_settings(run)[1].epochs
        done, ready = card.get("epochs"), card.get("ready", True)
    except (OSError, ValueError, AttributeError, CrosshapeError):
        return None
    if not isinstance(done, int | float) or (done >= wanted and ready):
        return None
    return f"unfinished, {progress_of(run)}"


def save_state(run: Path, tensors: dict[str, Tensor], place: Place, steps: int, steps_per_epoch: int) -> None:
    """Write weights, optimiser and place as one file, so that they always belong together."""
    from safetensors.torch import save

    facts = {"step": place.step, "seconds": place.seconds, "steps": steps, "steps_per_epoch": steps_per_epoch}
    flat = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_whole(run / STATE, save(flat, metadata={"place": json.dumps(facts)}))


def load_state(run: Path) -> tuple[dict[str, Tensor], Place] | None:
    """What `save_state` wrote, None where nothing was saved. Raises CrosshapeError for a broken file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not (run / STATE).exists():
        return None
    facts = _metadata(run / STATE)
    try:
        tensors = load_file(run / STATE)
    except (SafetensorError, ValueError) as error:
        raise CrosshapeError(f"{run / STATE} is broken: {error}. Start again with --overwrite.") from None
    return tensors, Place(int(facts["step"]), float(facts["seconds"]))


def save_likes(run: Path, likes: np.ndarray) -> None:
    """Write (N, K) row numbers, whole or not at all."""
    out = io.BytesIO()
    np.save(out, likes.astype(np.int64), allow_pickle=False)
    write_whole(run / LIKES, out.getvalue())


def load_likes(run: Path, count: int) -> np.ndarray:
    """What `save_likes` wrote for a library of `count` shapes. Raises CrosshapeError for any other file."""
    try:
        likes: np.ndarray = np.load(io.BytesIO((run / LIKES).read_bytes()), allow_pickle=False)
        if likes.dtype != np.int64 or likes.ndim != 2 or len(likes) != count or likes.max() >= count:
            raise ValueError
    except (OSError, ValueError, EOFError):
        raise CrosshapeError(
            f"{run / LIKES} is not the list of likes of these {count:,} shapes. Start again with --overwrite."
        ) from None
    return likes


def _metadata(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            facts: dict[str, Any] = parse_json((file.metadata() or {})["place"])
        for name in ("step", "seconds", "steps", "steps_per_epoch"):
            float(facts[name])
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError, KeyError, ValueError, TypeError):
        raise CrosshapeError(f"{path} is not the state of a run. Start again with --overwrite.") from None
    return facts


def optimiser_tensors(optimiser: torch.optim.Optimizer, names: list[str]) -> dict[str, Tensor]:
    """The optimiser's state as named tensors: optimiser.<parameter>.<what>."""
    state = optimiser.state_dict()["state"]
    return {
        f"optimiser.{names[i]}.{what}": torch.as_tensor(value)
        for i, values in state.items()
        for what, value in values.items()
        if value is not None
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, names: list[str], tensors: dict[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` gave."""
    whole = optimiser.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    places = {name: i for i, name in enumerate(names)}
    for name, value in tensors.items():
        parameter, what = name.removeprefix("optimiser.").rsplit(".", 1)
        state.setdefault(places[parameter], {})[what] = value
    optimiser.load_state_dict({**whole, "state": state})


class Metrics:
    """Append rows to metrics.jsonl and TensorBoard; rows after `step` (of a run that was cut) are dropped."""

    def __init__(self, run: Path, step: int) -> None:
        from tensorboardX import SummaryWriter

        self.path = run / METRICS
        kept = []
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                try:
                    row = parse_json(line)
                except ValueError:
                    continue
                if row["step"] <= step:
                    kept.append(line)
        write_whole(self.path, "".join(f"{line}\n" for line in kept).encode())
        self.file = self.path.open("a")
        self.board = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)

    def write(self, row: dict[str, Any]) -> None:
        self.file.write(json.dumps(row) + "\n")
        self.file.flush()
        for name, value in row.items():
            if isinstance(value, float):
                self.board.add_scalar(name, value, row["step"])

    def close(self) -> None:
        self.file.close()
        self.board.close()


def read_metrics(run: str | Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, in order."""
    path = Path(run) / METRICS
    return [parse_json(line) for line in path.read_text().splitlines()] if path.exists() else []
