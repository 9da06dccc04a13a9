"""How kernels run on a CPU: compiled by numba once, on plain threads without the GIL."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from numba import njit, types
from numba.extending import overload
from torch import Tensor

kernel = njit(nogil=True, cache=True, fastmath={"contract", "arcp", "nsz", "reassoc"})
"""Compile for this machine and keep the result; no parallel=True: its threads are started once, and a forked child,
which has none of them, would wait for them for ever.
"""


@cache
def _has_triton() -> bool:
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    return True


def by_triton(tensor: Tensor) -> bool:
    """Whether the kernels of `gpu.py` are for this tensor: on a CUDA GPU, not in float64, Triton installed."""
    return tensor.device.type == "cuda" and tensor.dtype != torch.float64 and _has_triton()


def array(tensor: Tensor) -> np.ndarray:
    """A tensor's memory as numpy sees it; bfloat16, which numpy has not, as uint16 (see `widened`)."""
    tensor = tensor.detach()
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def widened(x: Any) -> Any:
    """Within a kernel: the number that x stands for, where a uint16 is the upper half of a float32."""
    raise NotImplementedError


def narrowed(value: Any, like: Any) -> Any:
    """Within a kernel: a number as `like` is kept, to the nearest where that is the upper half of a float32."""
    raise NotImplementedError


@overload(widened, inline="always")
def _widened(x):  # type: ignore[no-untyped-def]
    if isinstance(x, types.Integer):
        return lambda x: np.uint32(np.uint32(x) << np.uint32(16)).view(np.float32)
    return lambda x: x


@overload(narrowed, inline="always")
def _narrowed(value, like):  # type: ignore[no-untyped-def]
    if not isinstance(like, types.Integer):
        return lambda value, like: value

    def rounded(value, like):  # type: ignore[no-untyped-def]
        bits = np.float32(value).view(np.uint32)
        odd = (bits >> np.uint32(16)) & np.uint32(1)
        return np.uint16((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))

    return rounded


@lru_cache(maxsize=1)
def _threads(count: int) -> ThreadPoolExecutor:
    """One pool, made anew where torch is given another number of threads, and in a forked child."""
    return ThreadPoolExecutor(count, thread_name_prefix="crosshape-edges")


if hasattr(os, "register_at_fork"):  # where processes fork at all
    os.register_at_fork(after_in_child=_threads.cache_clear)


def on_threads(work: Callable[..., Any], rows: int, *arrays: Any, least: int = 64) -> list[Any]:
    """Run work(start, stop, *arrays) over the rows on as many threads as torch has; results in order.

    A thread gets `least` rows or more.
    """
    most = torch.get_num_threads()
    workers = min(most, max(1, rows // least))
    if workers == 1:
        return [work(0, rows, *arrays)]
    bounds = [rows * i // workers for i in range(workers + 1)]
    pool = _threads(most)
    tasks = [pool.submit(work, bounds[i], bounds[i + 1], *arrays) for i in range(1, workers)]
    return [work(bounds[0], bounds[1], *arrays), *(task.result() for task in tasks)]
