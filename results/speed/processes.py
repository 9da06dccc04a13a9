"""The joint step of `dense` by one process with T threads and by T processes with one thread each, in turns.

    python results/speed/processes.py --threads 2 --times 3

A line of JSON a measurement: processes, threads, shapes_per_second (of the whole batch). Random clouds and views: a
step costs the same whatever they show.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time

BATCH, STEPS = 64, 12


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--threads", type=int, default=2, help="threads of the one process, and how many processes"
    )
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--work", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work)
        return
    for _ in range(options.times):
        for processes in (1, options.threads):
            threads = options.threads // processes
            torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
            subprocess.run(
                [*torchrun, __file__, "--work", str(threads)],
                check=True,
                env={**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"},
            )


def work(threads: int) -> None:
    """One of the processes: two steps to warm up, then STEPS that count."""
    import numpy as np
    import torch

    from crosshape.learning.training import Learner
    from crosshape.learning.workers import join
    from crosshape.networks.allocator import keep_memory
    from crosshape.settings import RECIPES, NetworkSettings

    keep_memory()
    torch.set_num_threads(threads)
    chance = np.random.default_rng(0)
    points = chance.normal(size=(4 * BATCH, 1024, 3)).astype(np.float32)
    views = chance.integers(0, 256, (4 * BATCH, 2, 64, 64), dtype=np.uint8)
    with join("cpu") as (workers, place):
        learner = Learner(points, views, NetworkSettings(), RECIPES["dense"], place, workers=workers)
        for _ in range(2):
            learner.step()
        start = time.monotonic()
        for _ in range(STEPS):
            learner.step()
        rate = STEPS * learner.batch_size / (time.monotonic() - start)
        if workers.first:
            row = {"processes": workers.count, "threads": threads, "shapes_per_second": round(rate, 2)}
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
