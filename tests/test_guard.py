"""The guarded pool: what a child does wrong costs one item, with a true reason, and nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crosshape.errors import CrosshapeError, UnreadableShape, UsageError
from crosshape.settings import Limits
from crosshape.shapes.guard import Guard, available_cores

SMALL = Limits(memory=256 << 20, seconds=20.0)


def double(number: int) -> int:
    return 2 * number


def act(what: str) -> Any:
    """Do something that a parser should not."""
    if what == "memory":
        return len(bytearray(1 << 30))
    if what == "hang":
        time.sleep(3600)
    if what == "spin":
        while True:
            pass
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "abort":
        os.abort()
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "processor":
        os.kill(os.getpid(), signal.SIGXCPU)
    if what == "leave":
        os._exit(3)
    if what == "unreadable":
        raise UnreadableShape("0 faces")
    if what == "error":
        raise ValueError("seven")
    if what == "deep":
        return act_deep()
    if what == "usage":
        raise UsageError("--up w makes no sense.")
    if what == "nonsense":
        os.write(int(sys.argv[1]), b"\xff" * 64)
    if what == "other pickle":
        words = b"cno_such_module\nx\n."
        os.write(int(sys.argv[1]), b"".join(n.to_bytes(8, "little") for n in (1, len(words))) + words)
    if what == "unpicklable":
        return threading.Lock()
    if what == "words":
        print("to standard output")
        print("to standard error", file=sys.stderr)
    return os.getpid()


def act_deep() -> Any:
    return act_deep()


def about_the_child(_: int) -> dict[str, Any]:
    return {
        "torch": "torch" in sys.modules,
        "threads": os.environ["OMP_NUM_THREADS"],
        "group": os.getpgrp() == os.getpid(),
    }


def arrays(size: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(size, dtype=np.float32).reshape(-1, 2), np.zeros((12, 224, 224), np.uint8)


@pytest.fixture(scope="module")
def guard() -> Iterator[Guard]:
    with Guard(1, SMALL) as pool:
        yield pool


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("memory", "needs more than 0.25 GiB of memory"),
        ("crash", "the reader crashed (SIGSEGV)"),
        ("abort", "the reader crashed (SIGABRT)"),
        ("killed", "the reader was killed, most likely because the machine ran out of memory"),
        ("processor", "took more than 20 s of processor time"),
        ("leave", "the reader ended with status 3"),
        ("unreadable", "0 faces"),
        ("error", "could not be read (ValueError: seven)"),
        ("deep", "nested too deeply"),
    ],
)
def test_one_fault_is_one_reason(guard: Guard, what: str, reason: str) -> None:
    with pytest.raises(UnreadableShape) as raised:
        guard.call(act, what)
    assert raised.value.reason == reason
    assert guard.call(double, 4) == 8


def test_hanging_and_spinning_children_are_stopped_and_replaced() -> None:
    limits = Limits(memory=256 << 20, seconds=0.5)
    with Guard(2, limits) as guard:
        start = time.monotonic()
        results = dict(guard.map(act, ["hang", "spin", "fine"]))
        assert time.monotonic() - start < 20
    assert isinstance(results["fine"], int)
    assert {results[what].reason for what in ("hang", "spin")} == {"took longer than 0.5 s"}


def test_processor_time_is_limited_without_the_parent(guard: Guard) -> None:
    import resource

    soft, _ = guard.call(resource.getrlimit, resource.RLIMIT_CPU)
    assert 20 <= soft <= 60
    assert guard.call(resource.getrlimit, resource.RLIMIT_CORE) == (0, 0)


def test_every_item_comes_back_once_for_any_number_of_workers() -> None:
    for workers in (1, 3):
        with Guard(workers, SMALL) as guard:
            assert sorted(guard.map(double, range(50))) == [(n, 2 * n) for n in range(50)]
            assert dict(guard.map(partial(pow, 2), [3, 4])) == {3: 8, 4: 16}
            assert list(guard.map(double, [])) == []


def test_items_are_drawn_as_needed_and_a_slow_reader_holds_the_children(guard: Guard) -> None:
    drawn = []

    def items() -> Iterator[int]:
        for number in range(1000):
            drawn.append(number)
            yield number

    results = guard.map(double, items())
    assert next(results) == (0, 0)
    time.sleep(0.3)
    assert len(drawn) < 10
    results.close()  # type: ignore[attr-defined]
    assert guard.call(double, 1) == 2


def test_arrays_come_back_whole(guard: Guard) -> None:
    numbers, views = guard.call(arrays, 1_000_000)
    assert np.array_equal(numbers, np.arange(1_000_000, dtype=np.float32).reshape(-1, 2))
    assert views.shape == (12, 224, 224)
    assert numbers.flags.writeable


def test_errors_that_concern_every_item_are_raised(guard: Guard) -> None:
    with pytest.raises(UsageError, match="--up w"):
        list(guard.map(act, ["usage"]))
    with pytest.raises(CrosshapeError, match="a result cannot be sent"):
        guard.call(act, "unpicklable")
    assert guard.call(double, 1) == 2


def test_children_are_quiet_single_threaded_and_without_torch(
    guard: Guard, capfd: pytest.CaptureFixture[str]
) -> None:
    from crosshape.shapes.prepare import prepare_file

    with pytest.raises(UnreadableShape):
        guard.call(prepare_file, "/absent/shape.off")
    assert guard.call(about_the_child, 0) == {"torch": False, "threads": "1", "group": True}
    guard.call(act, "words")
    assert capfd.readouterr() == ("", "")


def test_a_child_that_died_between_two_items_costs_nothing(guard: Guard) -> None:
    os.kill(guard.call(act, "pid"), signal.SIGKILL)
    assert guard.call(double, 5) == 10
    os.kill(guard.call(act, "pid"), signal.SIGKILL)
    time.sleep(0.2)
    assert guard.call(double, 5) == 10


def fail() -> None:
    raise RuntimeError("no numba here")


class OnlyHere:
    """A task that cannot be read in a child."""

    def __init__(self) -> None:
        self.home = os.getpid()

    def __setstate__(self, state: dict[str, int]) -> None:
        if os.getpid() != state["home"]:
            raise MemoryError


def test_a_task_that_cannot_be_read_is_said_and_the_next_one_is_done() -> None:
    with Guard(1, SMALL) as guard:
        with pytest.raises(CrosshapeError, match="a worker could not read its task: MemoryError$"):
            guard.call(double, OnlyHere())
        assert guard.call(double, 4) == 8


@pytest.mark.parametrize("what, why", [("nonsense", "ValueError"), ("other pickle", "UnpicklingError")])
def test_an_answer_that_is_nonsense_costs_one_item(what: str, why: str) -> None:
    with Guard(1, SMALL) as guard:
        with pytest.raises(UnreadableShape, match=rf"^the reader's answer cannot be read \({why}\)$"):
            guard.call(act, what)
        assert guard.call(double, 4) == 8


def test_a_child_that_cannot_start_says_why() -> None:
    with Guard(1, SMALL, warm=fail) as guard, pytest.raises(CrosshapeError, match="no numba here"):
        guard.call(double, 1)


def test_a_closed_guard_has_no_children() -> None:
    with Guard(2, SMALL) as guard:
        children = {pid for _, pid in guard.map(act, "abcdefgh")}
    assert children and not any(alive(pid) for pid in children)
    with pytest.raises(CrosshapeError, match="closed"):
        guard.call(double, 1)


PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is born deaf to it
sys.path.insert(0, {tests!r})
from test_guard import SMALL, act
from crosshape.shapes.guard import Guard
with Guard(2, SMALL) as guard:
    for _, pid in guard.map(act, ["a", "b", "c", "d"]):
        print(pid, flush=True)
    print("end", flush=True)
    list(guard.map(act, ["hang", "hang"]))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_orphans_however_the_parent_ends(number: signal.Signals) -> None:
    """Busy children end with a parent that was killed, told to end, or interrupted; no `if __name__` is needed."""
    code = PROGRAM.format(tests=str(Path(__file__).parent))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as parent:
        assert parent.stdout is not None
        children = {int(line) for line in iter(parent.stdout.readline, b"end\n")}
        time.sleep(0.2)
        parent.send_signal(number)
        assert parent.wait(20) != 0
        deadline = time.monotonic() + 10
        while any(alive(pid) for pid in children) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert children and not any(alive(pid) for pid in children)


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        os.kill(pid, 0)
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


def test_cores_are_counted() -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


@pytest.mark.slow
def test_the_guard_costs_less_than_a_millisecond_an_item() -> None:
    """The median over 400 items, each with the arrays of a prepared shape on its way back."""
    with Guard(1, SMALL) as guard:
        guard.call(arrays, 6144)
        times = []
        for _ in range(400):
            start = time.perf_counter()
            guard.call(arrays, 6144)
            times.append(time.perf_counter() - start)
        alone = []
        for _ in range(400):
            start = time.perf_counter()
            arrays(6144)
            alone.append(time.perf_counter() - start)
    cost = 1000 * (float(np.median(times)) - float(np.median(alone)))
    print(f"{cost:.3f} ms an item")
    assert cost < 2.0  # under 1 on an idle machine; doubled for busy ones


def test_children_are_read_from_where_many_files_are_open(tmp_path: Path) -> None:
    """select knows no descriptors above 1023."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1400:
        pytest.skip("no more than a thousand files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1400), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        with Guard(1) as guard:
            assert guard.call(len, "four") == 4
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Trap:
    """What a child would send that is not itself any more."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.what = (function, arguments)

    def __reduce__(self) -> Any:
        return self.what


def trap(name: str, place: str) -> Any:
    from crosshape.files import write_whole

    return {
        "system": Trap(os.system, f"touch {place}"),
        "open": Trap(open, place, "w"),
        "ours": Trap(write_whole, Path(place), b"x"),
        "eval": Trap(eval, f"open({place!r}, 'w')"),
        "class": Trap(subprocess.Popen, ["touch", place]),
    }[name]


@pytest.mark.parametrize("name", ["system", "open", "ours", "eval", "class"])
def test_nothing_but_data_is_taken_from_a_child(name: str, tmp_path: Path) -> None:
    place = tmp_path / "touched"
    with Guard(1, SMALL) as guard:
        with pytest.raises(UnreadableShape, match="the reader's answer cannot be read"):
            guard.call(trap, name, str(place))
        assert guard.call(double, 4) == 8
    assert not place.exists()


def test_arrays_numbers_paths_and_own_data_come_through() -> None:
    sent = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": np.float32(2),
        "c": {1, 2},
        "d": Path("x"),
        "e": SMALL,
        "f": 1j,
    }
    sent |= {"g": np.array(["x"]), "h": np.zeros(0, "<f2"), "i": np.asfortranarray(np.ones((2, 3), np.int64))}
    with Guard(1, SMALL) as guard:
        back = guard.call(dict, sent)
    assert all(np.array_equal(back[name], value) for name, value in sent.items())


def test_an_answer_larger_than_a_child_may_be_is_not_read() -> None:
    with Guard(1, Limits(memory=1 << 30)) as guard, pytest.raises(UnreadableShape):
        guard.call(claim)


def claim() -> Any:
    """Write a length that the parent would have to make room for."""
    for number in range(3, 64):
        with contextlib.suppress(OSError):
            channel = socket.socket(fileno=number)
            channel.sendall((1).to_bytes(8, "little") + (1 << 50).to_bytes(8, "little"))
            channel.detach()
    time.sleep(5)
