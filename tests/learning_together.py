"""One of several processes that learn one model: `learning_together.py RECIPE STEPS OUT`, with torchrun's variables.

Writes OUT/<rank>.safetensors: the gradients of the first step as they were added up, and the weights after the last.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from conftest import TINY
from safetensors.torch import save_file

from crosshape.learning.training import Learner
from crosshape.learning.workers import Workers, join
from crosshape.networks import model
from crosshape.settings import RECIPES

SIZES = {"points": 64, "image_size": 32, "batch_size": 8, "epochs": 4}
KINDS = {
    "paper": replace(RECIPES["paper"], **SIZES),
    "dense": replace(RECIPES["dense"], projection=8, **SIZES),
    "alike": replace(RECIPES["dense"], projection=8, alike=2, **SIZES),
}


def learner(kind: str, workers: Workers) -> Learner:
    """The same in every process."""
    torch.set_num_threads(1)
    chance = np.random.default_rng(0)
    points = chance.normal(size=(20, 96, 3)).astype(np.float32)
    views = chance.integers(0, 256, (20, 3, 32, 32), dtype=np.uint8)
    likes = (
        np.stack([np.roll(np.arange(20), -1), np.roll(np.arange(20), 3)], axis=1) if kind == "alike" else None
    )
    return Learner(points, views, TINY, KINDS[kind], torch.device("cpu"), likes=likes, workers=workers)


def gradients(one: Learner) -> dict[str, torch.Tensor]:
    """Of every parameter that has one, by name."""
    return {name: p.grad.clone() for name, p in one._parameters() if p.grad is not None}


def weights(one: Learner) -> dict[str, torch.Tensor]:
    """Of every parameter, by name; no statistics of BatchNorm."""
    return {name: p.detach().clone() for name, p in one._parameters()}


if __name__ == "__main__":
    kind, steps, out = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    with join("cpu") as (workers, _):
        model.fast_bfloat16 = lambda device: False
        one = learner(kind, workers)
        one.settings = replace(one.settings, clip=0.0)
        first: dict[str, torch.Tensor] = {}
        for _ in range(steps):
            one.step()
            first = first or gradients(one)
    tensors = {f"gradient.{n}": v for n, v in first.items()} | {
        f"weight.{n}": v for n, v in weights(one).items()
    }
    save_file({n: v.contiguous() for n, v in tensors.items()}, out / f"{workers.rank}.safetensors")
