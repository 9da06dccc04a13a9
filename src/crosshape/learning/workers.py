"""Several processes that learn one model, on one machine or many: `torchrun --nproc-per-node 8 -m crosshape train ...`.

Every step each process looks at its part of the batch, all get the features of the whole, and every pair of it is
compared as in one process. A process alone is the same code: nothing is sent.

Weights are the same in all: gradients are summed, the rest is computed alike. BatchNorm of the two feature extractors
knows its own part of a batch alone, as is usual; the first process's statistics are kept.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from crosshape.errors import CrosshapeError, UsageError
from crosshape.networks.model import choose_device

T = TypeVar("T")

TORCHRUN = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}
PATIENCE = timedelta(hours=6)
"""So long the others may wait for what the first process does alone: arrays of a large library, likes. A process that
died is noticed at once."""
GONE = re.compile(r"clos|reset|timed? ?out|broken pipe|refused|peer|remote", re.IGNORECASE)


class Workers:
    """This process among `count`, by its number `rank`; `local` are on this machine."""

    def __init__(self, rank: int = 0, count: int = 1, local: int = 1) -> None:
        self.rank, self.count, self.local = rank, count, local

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    def told(self, call: Callable[[], T]) -> T:
        """What `call` gives in the first process, which alone makes it. Where it fails there, all end: the others
        without a word.
        """
        if self.count == 1:
            return call()
        answer: list[Any] = [None, None]
        failure: BaseException | None = None
        if self.first:
            try:
                answer[1] = call()
            except BaseException as error:
                answer[0], failure = True, error
        with lost():
            dist.broadcast_object_list(answer, src=0)
        if failure is not None:
            raise failure
        if answer[0]:
            raise SystemExit(1)
        return answer[1]

    def first_then_all(self, call: Callable[[], T]) -> T:
        """What `call` gives here, once it has been made in the first process: it may leave a file for the others."""
        if self.count == 1:
            return call()
        mine = []
        self.told(lambda: mine.append(call()))
        return mine[0] if mine else call()

    def batch_size(self, wanted: int, shapes: int) -> int:
        """Shapes in a step: as many as wanted, or all there are. Raises UsageError where the processes cannot have
        equal parts of two or more.
        """
        size = min(wanted, shapes)
        if size < wanted:  # the library is the limit, not the user's word
            size -= size % self.count
        if size % self.count or size < 2 * self.count:
            raise UsageError(
                f"batches of {size} shapes cannot be shared by {self.count} processes, two or more for each: take a "
                "batch size that is a multiple of the processes, or another number of them"
            )
        return size

    def part(self, size: int) -> slice:
        """The places of a batch of `size` that this process looks at."""
        each = size // self.count
        return slice(self.rank * each, (self.rank + 1) * each)

    def gather(self, features: Tensor, looks: int) -> Tensor:
        """(looks b, ...) of this process's part of a batch -> (looks B, ...) of the whole, as one process has them.

        Every process must go on with the same computation on all of it: then the gradient of what it put in is its own
        share, and nothing is sent back.
        """
        if self.count == 1:
            return features
        each = features.unflatten(0, (looks, -1))
        whole: Tensor = _Gather.apply(each, self)
        return whole.flatten(0, 1)

    def agree(self, stop: bool, device: torch.device) -> bool:
        """Whether any process was told to stop: all go on, or none."""
        if self.count == 1:
            return stop
        told = torch.tensor(float(stop), device=device)
        with lost():
            dist.all_reduce(told)
        return bool(told.item())

    def sum_gradients(self, apart: Iterable[nn.Parameter], alike: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of parameters that saw a process's own part of the batch (`apart`); of those that saw
        the whole in every process (`alike`) take the mean, so that rounding cannot part them.
        """
        if self.count == 1:
            return
        gradients = [p.grad for p in apart if p.grad is not None]
        shared = [p.grad for p in alike if p.grad is not None]
        for gradient in shared:
            gradient.div_(self.count)
        gradients += shared
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        with lost():
            dist.all_reduce(flat)
        for gradient, total in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(total.view_as(gradient))

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give the first process's values of these tensors to all, in place."""
        if self.count == 1:
            return
        with lost():
            for tensor in tensors:
                dist.broadcast(tensor.data, src=0)


class _Gather(torch.autograd.Function):
    """(L, b, ...) -> (L, B, ...), the parts of all processes in order; back comes the share of its own part."""

    @staticmethod
    def forward(ctx: Any, each: Tensor, workers: Workers) -> Tensor:
        each = each.detach().contiguous()
        parts = [torch.empty_like(each) for _ in range(workers.count)]
        with lost():
            dist.all_gather(parts, each)
        ctx.place = workers.rank * each.shape[1], each.shape[1]
        return torch.cat(parts, dim=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        start, length = ctx.place
        return gradients[0].narrow(1, start, length), None


@contextlib.contextmanager
def join(device: str) -> Iterator[tuple[Workers, torch.device]]:
    """This process among those that torchrun started, and the device it works on; alone where nobody did.

    Raises CrosshapeError where a process has no GPU of its own or the others cannot be reached, UsageError for a device
    that names one for all.
    """
    place = choose_device(device)
    if not under_torchrun():
        yield Workers(), place
        return
    rank, count, near = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if place.type == "cuda":
        if place.index is not None:
            raise UsageError(
                f"--device {device} is one GPU for {count} processes; leave it out, or give cuda"
            )
        place = choose_device(f"cuda:{near}")
        torch.cuda.set_device(place)
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise CrosshapeError(
            f"the {count} processes of torchrun did not find each other: {_reason(error)}."
        ) from None
    yield Workers(rank, count, local), place
    dist.destroy_process_group()  # not after an error: it would wait for processes that wait for this one


def under_torchrun() -> bool:
    """Whether torchrun started this process as one of several."""
    return os.environ.get("WORLD_SIZE", "1") != "1" and os.environ.keys() >= TORCHRUN


def speaks() -> bool:
    """Whether this process is the first, or the only one: before and after `join` as well."""
    return not under_torchrun() or os.environ["RANK"] == "0"


@contextlib.contextmanager
def lost() -> Iterator[None]:
    """Say that another process is gone, where torch says that a connection ended."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not GONE.search(str(error)):
            raise
        raise CrosshapeError(
            f"another process of this run does not answer ({_reason(error)}). Its own words say why; go on from what "
            "was saved with the same command and --resume."
        ) from None


def _reason(error: Exception) -> str:
    """The first sentence of what torch says, without the place in its source."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"^\[\S+\]\s*", "", first).split(". ")[0].rstrip(".")
