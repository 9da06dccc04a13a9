"""A server of training runs that get killed: imports once, then forks for every line of standard input.

A line is JSON: run (folder), after (seconds until SIGKILL, or null), at (number of the write, flush or rename
at which the run kills itself, or null). The answer is a line of JSON: killed, fingerprint, calls.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from conftest import TINY

from crosshape.learning import run as folder
from crosshape.learning.training import Learner
from crosshape.settings import RECIPES

SETTINGS = replace(RECIPES["dense"], points=64, image_size=32, batch_size=6, epochs=2, projection=8)


def learner() -> Learner:
    chance = np.random.default_rng(0)
    points = chance.normal(size=(12, 96, 3)).astype(np.float32)
    views = chance.integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)
    return Learner(points, views, TINY, SETTINGS, torch.device("cpu"))


def die_at(number: int | None) -> list[int]:
    """Count writes, flushes and renames; SIGKILL at the given one. The count is kept in the list."""
    count = [0]

    def counted(function):
        def call(*arguments, **words):
            count[0] += 1
            if count[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **words)

        return call

    for name in ("fsync", "replace", "chmod", "write"):
        setattr(os, name, counted(getattr(os, name)))
    fdopen = os.fdopen

    class Halfway:
        """A file whose write is two writes, so that a kill between them leaves half of it."""

        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, content):
            middle = len(content) // 2
            counted(self.file.write)(content[:middle])
            self.file.flush()
            counted(self.file.write)(content[middle:])

    os.fdopen = lambda *arguments, **words: Halfway(fdopen(*arguments, **words))
    return count


def work(order: dict) -> None:
    run = Path(order["run"])
    count = die_at(order["at"])
    resume = (run / folder.SETTINGS).exists()
    with folder.begin(run, resume, overwrite=False):
        if not resume:
            folder.write_settings(run, TINY, SETTINGS)
        taught = learner()
        taught.run(run, quiet=True)
    Path(order["run"] + ".answer").write_text(
        json.dumps({"fingerprint": taught.model.fingerprint, "calls": count[0]})
    )


def main() -> None:
    torch.set_num_threads(1)
    learner().losses(learner().batch(0))["loss"].backward()  # compile before the clock runs
    for line in sys.stdin:
        order = json.loads(line)
        answer = Path(order["run"] + ".answer")
        answer.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                work(order)
                status = 0
            finally:
                os._exit(status)
        if order["after"] is not None:
            time.sleep(order["after"])
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status)
        if not killed and status != 0:
            print(json.dumps({"error": status}), flush=True)
            continue
        said = json.loads(answer.read_text()) if answer.exists() else {}
        print(json.dumps({"killed": killed, **said}), flush=True)


if __name__ == "__main__":
    main()
