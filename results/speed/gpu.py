"""The same figures on a CUDA GPU: python results/speed/gpu.py [--device cuda] [--times 4]

Prints one JSON object a line: the device and its measured peak rates; each case beside its plain form, the batch
so many times that of a CPU; the floor of the DGCNN training step (its operations and bytes over those rates) and how
far above it the step is; the time of an epoch over as many clouds as ModelNet40's training split has. Both sides of
a case are in one process and take turns. `--device cpu --tiny` tests the script itself.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from crosshape.benchmark.measuring import machine
from crosshape.benchmark.parts import cases, some_clouds, some_views
from crosshape.learning.training import Learner
from crosshape.networks.model import choose_device, fast_bfloat16
from crosshape.settings import NetworkSettings, TrainSettings


def timed(work: Callable[[], object], device: torch.device, times: int) -> float:
    """Seconds of one repetition: the median, after a warm-up."""
    seconds = []
    for _ in range(times + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[1:]))


def side_by_side(case: dict[str, Any], times: int, device: str, repeats: int = 5) -> dict[str, Any]:
    """Items a second of both sides of a case, medians of turns."""
    module, name = case["build"].split(":")
    build = getattr(importlib.import_module(module), name)
    sizes = {**case["sizes"], "batch": times * case["sizes"]["batch"]}
    works = {side: build(side, device=device, **sizes) for side in ("plain", "ours")}
    rates: dict[str, list[float]] = {side: [] for side in works}
    for turn in range(2 + repeats):
        for side, (work, items) in works.items():
            start = time.perf_counter()
            work()
            if turn > 1:
                rates[side].append(items / (time.perf_counter() - start))
    plain, ours = (float(np.median(rates[side])) for side in ("plain", "ours"))
    words = {"case": case["case"].rsplit(", batch", 1)[0], "sizes": sizes, "unit": case["unit"]}
    return {**words, "plain": plain, "ours": ours, "ratio": ours / plain}


def peaks(device: torch.device, size: int) -> dict[str, float]:
    """Operations a second of a product of size^2 matrices (training's type, and float32), bytes a second of a copy."""
    kind = torch.bfloat16 if fast_bfloat16(device) else torch.float32
    out = {}
    for name, dtype in (("product", kind), ("float32", torch.float32)):
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        out[name] = 2 * size**3 / timed(lambda a=a, b=b: a @ b, device, 10)
    source = torch.randn(4 * size, size, device=device)
    target = torch.empty_like(source)
    out["bytes"] = 2 * source.nbytes / timed(lambda: target.copy_(source), device, 10)
    return out


def floor(batch: int, points: int, rates: dict[str, float], settings: NetworkSettings) -> float:
    """Seconds below which a training step of DGCNN cannot be: all products and the least traffic, none at once.

    Products: forward and twice backward, neighbours once in float32. Bytes (2 a number): each layer's p, q
    and output written and read once forward and once back, each edge's p read once and its gradient once;
    distances written and read once in float32.
    """
    rows, k = batch * points, settings.k
    products = distances = traffic = 0.0
    channels = 3
    for width in settings.edge_widths:
        products += 3 * 2 * rows * channels * 2 * width
        distances += 2 * rows * points * channels
        traffic += 2 * (2 * 2 * 3 * rows * width + 2 * rows * k * width) + 8 * rows * points
        channels = width
    mixed = sum(settings.edge_widths)
    products += 3 * 2 * rows * mixed * settings.point_width
    traffic += 2 * 2 * 2 * rows * (mixed + settings.point_width)
    return products / rates["product"] + distances / rates["float32"] + traffic / rates["bytes"]


def epoch(device: torch.device, shapes: int, points: int, size: int, batch: int, steps: int) -> float:
    """Seconds of an epoch of recipe paper (2 views a shape) over so many shapes, from some of its steps."""
    clouds, views = some_clouds(64, 2 * points), some_views(64, 4, size)
    repeats = -(-shapes // 64)
    settings = TrainSettings(batch_size=batch, points=points, image_size=size)
    learner = Learner(
        np.tile(clouds, (repeats, 1, 1))[:shapes],
        np.tile(views, (repeats, 1, 1, 1))[:shapes],
        NetworkSettings(),
        settings,
        device,
    )
    return timed(learner.step, device, steps) * learner.steps_per_epoch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--times", type=int, default=4, help="batches so many times as large as on a CPU")
    parser.add_argument("--only", default="", help="cases with these words in their name")
    parser.add_argument("--tiny", action="store_true", help="small sizes: does the script run?")
    options = parser.parse_args()
    device = choose_device(options.device)
    print(json.dumps(machine(torch.get_num_threads(), str(device))), flush=True)
    rates = peaks(device, 256 if options.tiny else 8192)
    print(json.dumps({"peaks": rates}), flush=True)
    for part in ("points", "views", "train", "encode"):
        for case in cases(part, options.tiny, None):
            if case["sizes"].get("plain_allocator") or options.only not in case["case"]:
                continue
            row = side_by_side(case, options.times, str(device))
            print(json.dumps(row), flush=True)
            if case["build"].endswith(":point_training"):
                batch = row["sizes"]["batch"]
                least = floor(batch, row["sizes"]["points"], rates, NetworkSettings())
                step = batch / row["ours"]
                print(json.dumps({"floor_s": least, "step_s": step, "times": step / least}), flush=True)
    batch, points = (4, 128) if options.tiny else (32 * options.times, 1024)
    shapes = 64 if options.tiny else 9843
    seconds = epoch(device, shapes, points, 32 if options.tiny else 112, batch, 2 if options.tiny else 50)
    print(json.dumps({"epoch_s": seconds, "shapes": shapes, "points": points, "batch": batch}), flush=True)


if __name__ == "__main__":
    main()
