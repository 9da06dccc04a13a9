"""How kernels run on a CPU: compiled by numba once, on plain threads without the GIL."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch
from numba import njit

kernel = njit(nogil=True, cache=True, fastmath={"contract", "arcp", "nsz", "reassoc"})
"""Compile for this machine and keep the result; no parallel=True, whose threads do not survive a fork."""


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="crosshape-edges")


def on_threads(work: Callable[..., Any], rows: int, *arrays: Any, least: int = 64) -> list[Any]:
    """Run work(start, stop, *arrays) over the rows on as many threads as torch has; results in order.

    A thread gets `least` rows or more.
    """
    workers = min(torch.get_num_threads(), max(1, rows // least))
    if workers == 1:
        return [work(0, rows, *arrays)]
    bounds = [rows * i // workers for i in range(workers + 1)]
    tasks = [_threads(workers).submit(work, bounds[i], bounds[i + 1], *arrays) for i in range(1, workers)]
    return [work(bounds[0], bounds[1], *arrays), *(task.result() for task in tasks)]
