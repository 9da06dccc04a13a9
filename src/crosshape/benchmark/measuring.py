"""Two sides of a case, each in its own process, taking turns: A B A B. Medians, spread, ratio, peak memory."""

from __future__ import annotations

import importlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from crosshape.errors import CrosshapeError

Work = tuple[Callable[[], Any], float]
"""One repetition, and how many items it does."""

SERVE = "from crosshape.benchmark.measuring import serve; serve()"


@dataclass(frozen=True)
class Outcome:
    """Rates are items a second: the median of the repetitions, and half of their range over it as spread."""

    part: str
    case: str
    plain: float | None
    ours: float | None
    unit: str
    ratio: float | None
    plain_spread: float | None
    ours_spread: float | None
    plain_mb: float | None
    ours_mb: float | None
    memory_ratio: float | None
    note: str = ""


class Side:
    """A child process that has built one side of a case and repeats it when told."""

    def __init__(self, build: str, side: str, sizes: dict[str, Any], threads: int, device: str) -> None:
        env = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
        env.pop("OMP_WAIT_POLICY", None)
        if side == "ours" or sizes.get("plain_allocator"):
            env["OMP_WAIT_POLICY"] = "PASSIVE"  # as the command line sets it
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )
        self.base = self._ask({"build": build, "side": side, "sizes": sizes, "device": device})["mb"]
        self.peak = self.base
        self.rates: list[float] = []

    def turn(self, counts: bool = True) -> None:
        answer = self._ask({})
        if not answer["items"]:
            raise CrosshapeError(
                "a side of the benchmark could do none of its items; what it said stands above."
            )
        self.peak = answer["mb"]
        if counts:
            self.rates.append(answer["items"] / answer["seconds"])

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)

    def _ask(self, words: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise CrosshapeError(f"a side of the benchmark ended with status {self.process.wait()}.")
        answer = json.loads(line)
        if "absent" in answer:
            raise Absent(answer["absent"])
        return answer


class Absent(CrosshapeError):
    """This machine lacks what one side of a case needs."""


def serve() -> None:
    """The loop of the child: build what the first line says, then one repetition a line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not fall among the answers
    work: Callable[[], Any] | None = None
    items = 0.0
    for line in sys.stdin:
        words = json.loads(line)
        answer: dict[str, Any] = {}
        if work is None:
            module, name = words["build"].split(":")
            build = getattr(importlib.import_module(module), name)
            try:
                work, items = build(words["side"], device=words["device"], **words["sizes"])
            except Absent as error:
                answer = {"absent": str(error)}
        else:
            start = time.perf_counter()
            counted = work()
            answer = {
                "seconds": time.perf_counter() - start,
                "items": items if counted is None else counted,
            }
        print(json.dumps({"mb": peak_mb(), **answer}), file=answers, flush=True)


def peak_mb() -> float:
    """The most memory (MB) this process, or the largest of its children that have ended, ever held.

    On Linux its own is VmHWM: ru_maxrss starts from what the parent held when it started this process.
    """
    unit = 1 if sys.platform == "darwin" else 1024
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    try:
        with open("/proc/self/status") as file:
            own = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return max(own, children) / 1e6


def compare(
    part: str,
    case: str,
    build: str,
    unit: str,
    sizes: dict[str, Any],
    *,
    threads: int,
    device: str = "cpu",
    repeats: int = 5,
) -> Outcome:
    """Both sides of a case, a warm-up each, then in turns. A side this machine lacks is None, with a note."""
    sides: dict[str, Side] = {}
    note = ""
    try:
        for name in ("plain", "ours"):
            try:
                sides[name] = Side(build, name, sizes, threads, device)
            except Absent as error:
                note = str(error)
        for side in sides.values():
            side.turn(counts=False)
        for _ in range(repeats):
            for side in sides.values():
                side.turn()
    finally:
        for side in sides.values():
            side.close()
    rate = {name: statistics.median(side.rates) for name, side in sides.items()}
    spread = {name: _spread(side.rates) for name, side in sides.items()}
    memory = {name: side.peak for name, side in sides.items()}
    both = len(sides) == 2
    return Outcome(
        part,
        case,
        rate.get("plain"),
        rate.get("ours"),
        unit,
        rate["ours"] / rate["plain"] if both else None,
        spread.get("plain"),
        spread.get("ours"),
        memory.get("plain"),
        memory.get("ours"),
        memory["ours"] / memory["plain"] if both else None,
        note,
    )


def _spread(rates: list[float]) -> float:
    return (max(rates) - min(rates)) / 2 / statistics.median(rates)


def machine(threads: int, device: str) -> dict[str, Any]:
    """What the figures were measured on."""
    from importlib import metadata

    versions = {}
    for name in ("crosshape", "torch", "numpy", "numba", "trimesh", "open3d", "pyrender", "embreex"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    facts = {
        "machine": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": threads,
        "device": device,
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
        "versions": versions,
    }
    if device.startswith("cuda"):
        import torch

        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


def cpu_model() -> str:
    """The processor's name and the matrix instructions it has."""
    try:
        with open("/proc/cpuinfo") as file:
            lines = dict(line.split(":", 1) for line in file.read().split("\n\n")[0].splitlines())
    except OSError:
        return platform.processor()
    facts = {key.strip(): value.strip() for key, value in lines.items()}
    flags = facts.get("flags", "").split()
    wide = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    return f"{facts.get('model name', platform.processor())} ({', '.join(wide)})"
