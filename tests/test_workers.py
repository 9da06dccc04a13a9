"""Several processes learn what one process learns that looks at the same parts of every batch."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from learning_together import gradients, learner, weights
from safetensors.torch import load_file

from crosshape.cli import main
from crosshape.errors import CrosshapeError, UsageError
from crosshape.learning import training
from crosshape.learning import workers as together
from crosshape.learning.training import learning_rate
from crosshape.learning.workers import Workers, join
from crosshape.networks import model as networks
from crosshape.networks.model import load_model

AT = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
HERE = Path(__file__).parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
SMALL = "--points 64 --image-size 32 --batch-size 4 --set k=8 --set edge_widths=(8,8) --set point_width=32".split()
SMALL += "--set image_width=8 --set hidden=16 --set encoding_points=128 --device cpu".split()


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def as_many(count: int, *words: str) -> None:
    """Run learning_together.py in so many processes."""
    port = free_port()
    several = [
        subprocess.Popen(
            [sys.executable, str(HERE / "learning_together.py"), *words],
            env={
                **os.environ,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(count),
                "LOCAL_WORLD_SIZE": str(count),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
            },
        )
        for rank in range(count)
    ]
    assert [one.wait(200) for one in several] == [0] * count


def step_in_parts(one, count):
    """A step of one process that looks at the parts of `count` processes one after the other."""
    parts = []
    for rank in range(count):
        one.workers = Workers(rank, count)
        parts.append(one.batch(one.place.step))
    one.workers = Workers()

    def whole(tensors, looks):
        return torch.cat([tensor.unflatten(0, (looks, -1)) for tensor in tensors], dim=1).flatten(0, 1)

    with networks.autocast(one.device):
        image = whole([one.model.images(torch.cat([p.view_a, p.view_b])) for p in parts], 2)
        looks = len(parts[0].clouds) // len(parts[0].view_a)
        point = whole([one.model.points(p.clouds) for p in parts], looks)
    occupied = None if parts[0].occupied is None else torch.cat([p.occupied for p in parts])
    loss = one.compare(image, point, parts[0].alike, occupied)["loss"]
    for group in one.optimiser.param_groups:
        group["lr"] = learning_rate(one.settings, one.place.step, one.steps)
    one.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    found = gradients(one)
    one.optimiser.step()
    one.place.step += 1
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind, count", [("paper", 2), ("dense", 2), ("alike", 2), ("dense", 4)])
def test_gradients_and_weights_are_those_of_one_process(kind, count, tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "fast_bfloat16", lambda device: False)
    as_many(count, kind, "3", str(tmp_path))
    one = learner(kind, Workers())
    found = [step_in_parts(one, count) for _ in range(3)][0]
    each = [load_file(tmp_path / f"{rank}.safetensors") for rank in range(count)]
    assert {n.removeprefix("gradient.") for n in each[0] if n.startswith("gradient.")} == set(found)
    for name, gradient in found.items():
        given = each[0][f"gradient.{name}"]
        assert torch.allclose(given, gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max() + 1e-3)), (
            name
        )
    assert max(float(gradient.abs().max()) for gradient in found.values()) > 1e-3
    for name, weight in weights(one).items():
        assert torch.allclose(each[0][f"weight.{name}"], weight, atol=2e-4), name
        for other in each[1:]:  # to the bit
            assert torch.equal(each[0][f"weight.{name}"], other[f"weight.{name}"]), name


def test_one_process_sends_nothing():
    alone = Workers()
    x = torch.arange(6.0)
    assert alone.gather(x, 2) is x and alone.part(7) == slice(0, 7) and alone.told(lambda: 5) == 5
    alone.sum_gradients([torch.nn.Parameter(x)], [])
    alone.share([x])


def test_every_shape_of_a_batch_is_somebody_s():
    places = [place for rank in range(3) for place in range(12)[Workers(rank, 3).part(12)]]
    assert places == list(range(12))


def test_parts_differ_in_chance_and_make_up_the_batch():
    one, other, whole = (learner("dense", workers) for workers in (Workers(0, 2), Workers(1, 2), Workers()))
    a, b, both = one.batch(0), other.batch(0), whole.batch(0)
    assert len(a.view_a) == len(b.view_a) == 4 and len(both.view_a) == 8
    assert torch.allclose(a.occupied.sum(0) + b.occupied.sum(0), both.occupied.sum(0))
    assert not torch.equal(a.clouds, b.clouds)


def test_a_part_is_of_all_kinds_where_the_library_lies_sorted_by_them():
    one = learner("dense", Workers(0, 2))
    one.points[:10] = 0  # the first half of the library: another kind
    shares = [float((one.batch(step).occupied.max(1).values > 0.99).float().mean()) for step in range(8)]
    assert 0.2 < sum(shares) / len(shares) < 0.8


@pytest.mark.parametrize("size, count", [(8, 3), (2, 2)])
def test_a_batch_that_cannot_be_shared_is_refused(size, count):
    from crosshape.learning.training import Learner

    one = learner("dense", Workers())
    with pytest.raises(UsageError, match=f"batches of {size} shapes cannot be shared by {count} processes"):
        Learner(
            one.points,
            one.views,
            one.model.settings,
            replace(one.settings, batch_size=size),
            one.device,
            workers=Workers(0, count),
        )


def test_one_gpu_is_not_for_all(monkeypatch):
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", **AT}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(together, "choose_device", lambda name: torch.device(name))
    with pytest.raises(UsageError, match="--device cuda:1 is one GPU for 2 processes"), join("cuda:1"):
        pass


def test_a_lost_process_is_told_in_words():
    with (
        pytest.raises(CrosshapeError, match=r"does not answer \(Connection closed by peer\). Its"),
        together.lost(),
    ):
        raise RuntimeError("[/a/b/pair.cc:553] Connection closed by peer. This is typical.\nmore")
    with pytest.raises(RuntimeError, match="CUDA out of memory"), together.lost():
        raise RuntimeError("CUDA out of memory")


@pytest.mark.parametrize(
    "size, shapes, count, given", [(64, 152, 3, None), (255, 152, 3, 150), (64, 31, 4, 28)]
)
def test_a_small_library_gives_the_largest_batch_that_can_be_shared(size, shapes, count, given):
    if given is None:
        with pytest.raises(UsageError, match="batches of 64 shapes cannot be shared by 3 processes"):
            Workers(0, count).batch_size(size, shapes)
    else:
        assert Workers(0, count).batch_size(size, shapes) == given


def test_a_refused_batch_leaves_the_run_that_is_there(made_library, tmp_path, monkeypatch):
    run = tmp_path / "run"
    words = ["train", str(made_library.path), str(run), *SMALL, "--epochs", "1"]
    assert main(words) == 0
    before = load_model(run, "cpu").fingerprint

    @contextlib.contextmanager
    def three(device):
        yield Workers(0, 3), torch.device("cpu")

    monkeypatch.setattr(training, "join", three)
    assert main([*words, "--overwrite"]) == 2
    assert load_model(run, "cpu").fingerprint == before


def test_variables_of_another_launcher_mean_nothing(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with join("cpu") as (workers, _):
        assert workers.count == 1 and workers.first


@pytest.mark.slow
def test_torchrun_trains_resumes_and_refuses(made_library, tmp_path):
    run, library = tmp_path / "run", str(made_library.path)
    words = [*TORCHRUN, "--master-port", free_port(), "-m", "crosshape", "train", library, str(run)]
    done = subprocess.run([*words, *SMALL, "--epochs", "2"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is trained. Next:") == 1
    assert len(re.findall(r"epoch 2\.0/2", done.stderr)) == 1
    model = load_model(run, "cpu")
    assert model.card["processes"] == 2 and model.card["epochs"] == 2
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == [3, 6]  # 12 shapes, 4 a step, told at the end of each epoch

    again = subprocess.run([*words, *SMALL], capture_output=True, text=True, timeout=300)
    assert again.returncode == 1
    assert again.stderr.count("already holds a run (epoch 2 of 2)") == 1

    on = subprocess.run([*words, "--resume"], capture_output=True, text=True, timeout=300)
    assert on.returncode == 0, on.stderr
    assert load_model(run, "cpu").fingerprint == model.fingerprint


@pytest.mark.slow
def test_a_run_of_which_a_process_was_killed_goes_on_to_the_bit(made_library, tmp_path):
    def words(run):
        torchrun = [*TORCHRUN, "--master-port", free_port()]
        return [*torchrun, "-m", "crosshape", "train", str(made_library.path), str(tmp_path / run)]

    epochs = ["--epochs", "40"]
    whole = subprocess.Popen([*words("whole"), *SMALL, *epochs], stderr=subprocess.DEVNULL)
    broken = subprocess.Popen([*words("broken"), *SMALL, *epochs], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    card = tmp_path / "broken" / "card.json"  # there from the start, with no epoch
    while not card.exists() or not json.loads(card.read_text())["epochs"]:
        assert broken.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    children = subprocess.run(["pgrep", "-P", str(broken.pid)], capture_output=True, text=True).stdout.split()
    assert len(children) == 2
    os.kill(int(children[1]), signal.SIGKILL)
    _, told = broken.communicate(timeout=120)
    assert broken.returncode != 0
    assert "another process of this run does not answer" in told or "stopped at epoch" in told
    assert 0 < load_model(tmp_path / "broken", "cpu").card["epochs"] < 40
    subprocess.run([*words("broken"), "--resume"], check=True, stderr=subprocess.DEVNULL, timeout=300)
    assert whole.wait(300) == 0
    ours, theirs = (load_model(tmp_path / run, "cpu") for run in ("broken", "whole"))
    assert ours.card["epochs"] == 40 and ours.fingerprint == theirs.fingerprint
