"""A pool of child processes in which the files of strangers are read, with limits on memory and time.

A child that is killed, crashes or hangs costs one item, which gets a true reason, and is replaced. Children
are started afresh (never forked: threads and native libraries do not survive it), keep their imports between
items, and end with their parent however it ends. Arrays come back beside the pickle (protocol 5), uncopied.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import pickle
import queue
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from crosshape.errors import CrosshapeError, UnreadableShape
from crosshape.settings import Limits

Item = TypeVar("Item")

START_SECONDS = 180.0
"""Time a child may take to import and compile before its first item."""

BOOT = "import sys; sys.path[:] = sys.argv[4:]; from crosshape.shapes.guard import serve; serve()"

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)

SLACK = 64 << 20
"""Bytes an answer may have beside what a child may hold."""

PLAIN = {
    ("builtins", "set"),
    ("builtins", "frozenset"),
    ("builtins", "complex"),
    ("builtins", "bytearray"),
    ("builtins", "slice"),
    ("builtins", "range"),
    ("collections", "Counter"),
    ("collections", "OrderedDict"),
    ("pathlib", "PosixPath"),
    ("pathlib", "PurePosixPath"),
    ("pathlib._local", "PosixPath"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
}
"""What an answer may name besides this package's own data."""


class Guard:
    """A pool of `workers` guarded children; use as a context manager.

    map(function, items)    yields (item, result or UnreadableShape) in order of completion
    call(function, *args)   one result; raises UnreadableShape

    `function` is a function of a module (or a functools.partial of one); it, the items and the results are
    pickled. What it raises becomes an UnreadableShape with a reason, except other CrosshapeErrors, which are
    raised here: they concern every item. `warm` is called once in every child, before its limits are set:
    what compiles or loads big tables belongs there.
    """

    def __init__(
        self,
        workers: int | None = None,
        limits: Limits | None = None,
        warm: Callable[[], object] | None = None,
    ) -> None:
        self.workers = max(1, workers or available_cores())
        self.limits = limits or Limits()
        self.warm = warm
        self._idle: list[Child] = []
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all children; a guard that was closed starts no new ones."""
        with self._lock:
            self._closed = True
            children, self._idle = self._idle, []
        for child in children:
            child.end()

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """function(*arguments) in a child. Raises UnreadableShape."""
        child = self._take()
        try:
            result = child.run(function, arguments)
        except BaseException:
            child.end()
            raise
        self._give(child)
        if isinstance(result, CrosshapeError):
            raise result
        return result

    def map(
        self, function: Callable[[Item], Any], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Any | UnreadableShape]]:
        """(item, function(item) or UnreadableShape) in order of completion; items are drawn as needed."""
        waiting = iter(items)
        draw = threading.Lock()
        stop = threading.Event()
        # Bounded, so that children wait for a slow reader instead of filling the memory.
        done: queue.Queue[Any] = queue.Queue(maxsize=2 * self.workers)
        running: set[Child] = set()

        def work() -> None:
            child: Child | None = None
            try:
                while not stop.is_set():
                    with draw:
                        item = next(waiting, done)
                    if item is done:
                        break
                    if child is None:
                        child = self._take()
                        running.add(child)
                    result = child.run(function, (item,))
                    if isinstance(result, CrosshapeError) and not isinstance(result, UnreadableShape):
                        raise result
                    put((item, result))
            except BaseException as error:
                put(error)
            finally:
                if child is not None:
                    running.discard(child)
                    if stop.is_set():
                        child.end()
                    else:
                        self._give(child)
                put(None)

        def put(value: Any) -> None:
            while not stop.is_set():
                with contextlib.suppress(queue.Full):
                    done.put(value, timeout=0.5)
                    return

        threads = [threading.Thread(target=work, daemon=True) for _ in range(self.workers)]
        for thread in threads:
            thread.start()
        try:
            left = len(threads)
            while left:
                value = done.get()
                if value is None:
                    left -= 1
                elif isinstance(value, BaseException):
                    raise value
                else:
                    yield value
        finally:
            stop.set()
            for child in list(running):
                child.kill()
            for thread in threads:
                thread.join()

    def _take(self) -> Child:
        with self._lock:
            if self._closed:
                raise CrosshapeError("the pool of workers was closed.")
            if self._idle:
                return self._idle.pop()
        return Child(self.limits, self.warm)

    def _give(self, child: Child) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < self.workers:
                self._idle.append(child)
                return
        child.end()


class Child:
    """One guarded process, started at its first item, and again after it died."""

    def __init__(self, limits: Limits, warm: Callable[[], object] | None) -> None:
        self.limits, self.warm = limits, warm
        self.process: subprocess.Popen[bytes] | None = None
        self.channel: socket.socket | None = None

    def run(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """The function's result, or the CrosshapeError it or the child's death amounts to."""
        channel = self.hand_over(function, arguments)
        deadline = time.monotonic() + self.limits.seconds
        try:
            return receive(channel, deadline, Answer, self.limits.memory + SLACK)
        except TimeoutError:
            self.end()
            return UnreadableShape(f"took longer than {self.limits.seconds:g} s")
        except (EOFError, OSError):
            return UnreadableShape(self.post_mortem())
        except Exception as error:  # whatever unpickling bytes that `send` never wrote comes to
            self.end()
            return UnreadableShape(f"the reader's answer cannot be read ({type(error).__name__})")

    def hand_over(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> socket.socket:
        """Give the child its task and wait until it has it, imports included; what happens then is the item's."""
        for _ in range(3):
            if self.process is None or self.process.poll() is not None:
                self.start()
            assert self.channel is not None
            with contextlib.suppress(EOFError, OSError):
                send(self.channel, (function, arguments))
                _read(self.channel, 1, time.monotonic() + START_SECONDS)
                return self.channel
            self.end()
        raise CrosshapeError("worker processes end before they do anything. Try fewer workers.")

    def start(self) -> None:
        """Start the process and wait until it has imported and compiled what it needs."""
        self.end()
        ours, theirs = socket.socketpair()
        with tempfile.TemporaryFile() as words:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-c", BOOT),
                    *(str(theirs.fileno()), str(self.limits.memory), str(self.limits.seconds)),
                    *filter(None, sys.path),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.PIPE,  # never written: its end tells the child that the parent is gone
                stdout=subprocess.DEVNULL,
                stderr=words,
                env={**os.environ, **ONE_THREAD},
                process_group=0,  # Ctrl-C is for the parent, which then ends its children
            )
            theirs.close()
            self.channel = ours
            try:
                send(ours, self.warm)
                ready = receive(ours, time.monotonic() + START_SECONDS, Answer, SLACK)
            except (EOFError, OSError) as error:
                words.seek(0)
                last = words.read()[-2000:].decode("utf-8", "replace").strip().splitlines()
                self.end()
                detail = last[-1] if last else type(error).__name__
                raise CrosshapeError(
                    f"a worker process could not start ({detail}). Try fewer workers."
                ) from None
        if ready != "ready":
            self.end()
            raise CrosshapeError(f"a worker process could not start ({ready}). Try fewer workers.")

    def post_mortem(self) -> str:
        """Why the child ended by itself, in words."""
        assert self.process is not None
        try:
            status = self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.end()
            return "the reader stopped answering"
        self.end()
        if status == -signal.SIGXCPU:
            return f"took more than {self.limits.seconds:g} s of processor time"
        if status == -signal.SIGKILL:
            return "the reader was killed, most likely because the machine ran out of memory"
        if status < 0:
            return f"the reader crashed ({signal.Signals(-status).name})"
        return f"the reader ended with status {status}"

    def kill(self) -> None:
        """Kill the process at once; whoever waits for its answer learns of it."""
        if self.process is not None:
            self.process.kill()

    def end(self) -> None:
        """Kill the process, if there is one, and close what belonged to it."""
        process, channel = self.process, self.channel
        self.process = self.channel = None
        if process is not None:
            process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()
        if channel is not None:
            channel.close()


def available_cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def send(channel: socket.socket, value: Any) -> None:
    """Write a value: lengths, pickle, and the memory of its arrays as it lies."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    views = [memoryview(head), *(buffer.raw() for buffer in buffers)]
    lengths = b"".join(len(view).to_bytes(8, "little") for view in views)
    channel.sendall(len(views).to_bytes(8, "little") + lengths)
    for view in views:
        channel.sendall(view)


class Answer(pickle.Unpickler):
    """Takes data from a child and nothing else: it has read files of strangers, and may not be itself any more.

    Data are numbers, texts, containers, numpy's arrays, paths, and this package's dataclasses, named tuples and errors.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in PLAIN:
            return super().find_class(module, name)
        if module.startswith("crosshape.") and "." not in name:
            found = super().find_class(module, name)
            if isinstance(found, type) and (
                dataclasses.is_dataclass(found)
                or (issubclass(found, tuple) and hasattr(found, "_fields"))
                or issubclass(found, CrosshapeError)
            ):
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is no data")


def receive(
    channel: socket.socket,
    deadline: float | None = None,
    reader: type[pickle.Unpickler] = pickle.Unpickler,
    most: int = 1 << 62,
) -> Any:
    """Read a value of `most` bytes that `send` wrote. Raises EOFError where the other side is gone, or TimeoutError."""
    count = int.from_bytes(_read(channel, 8, deadline), "little")
    if count > 1 << 20:
        raise ValueError(f"{count:,} parts")
    table = _read(channel, 8 * count, deadline)
    lengths = [int.from_bytes(table[i : i + 8], "little") for i in range(0, 8 * count, 8)]
    if sum(lengths) > most:
        raise ValueError(f"{sum(lengths):,} bytes")
    parts = [_read(channel, length, deadline) for length in lengths]
    return reader(io.BytesIO(parts[0]), buffers=parts[1:]).load()


def _read(channel: socket.socket, length: int, deadline: float | None) -> bytearray:
    data = bytearray(length)
    view = memoryview(data)
    ready = select.poll()  # select itself knows no descriptors above 1023
    ready.register(channel, select.POLLIN)
    while view:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0 or not ready.poll(1000 * left):
                raise TimeoutError
        got = channel.recv_into(view)
        if got == 0:
            raise EOFError
        view = view[got:]
    return data


def serve() -> None:
    """What a child does: warm up, set its limits, then answer until the parent is gone."""
    number, memory, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    channel = socket.socket(fileno=number)
    try:
        warm = receive(channel)
        if warm is not None:
            warm()
    except EOFError:
        return
    except Exception as error:
        send(channel, f"{type(error).__name__}: {error}")
        return
    _limit_memory(memory)
    send(channel, "ready")
    while True:
        try:
            function, arguments = receive(channel)
        except EOFError:
            return
        except Exception as error:
            words = f"a worker could not read its task: {type(error).__name__}: {error}"
            channel.sendall(b"+")
            send(channel, CrosshapeError(words.removesuffix(": ")))
            continue
        _limit_processor_time(seconds)
        channel.sendall(b"+")
        answer: Any
        try:
            answer = function(*arguments)
        except CrosshapeError as error:
            answer = error.with_traceback(None)
        except MemoryError:
            answer = UnreadableShape(f"needs more than {memory / 2**30:.3g} GiB of memory")
        except RecursionError:
            answer = UnreadableShape("nested too deeply")
        except Exception as error:
            answer = UnreadableShape(f"could not be read ({type(error).__name__}: {str(error)[:200]})")
        try:
            send(channel, answer)
        except OSError:
            return
        except Exception as error:
            send(channel, CrosshapeError(f"a result cannot be sent: {type(error).__name__}: {error}"))
        del answer, function, arguments


def _end_with_parent() -> None:
    with contextlib.suppress(OSError):
        os.read(0, 1)
    os._exit(0)


def _limit_memory(memory: int) -> None:
    """Let this process write `memory` bytes more than it has now, where the system can hold it to that."""
    import resource

    with contextlib.suppress(OSError, ValueError, StopIteration):
        with open("/proc/self/status") as status:
            line = next(line for line in status if line.startswith("VmData"))
        idle = int(line.split()[1]) * 1024
        resource.setrlimit(resource.RLIMIT_DATA, (idle + memory, idle + memory))
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_processor_time(seconds: float) -> None:
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF)
    allowed = int(usage.ru_utime + usage.ru_stime + seconds) + 1
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CPU, (allowed, resource.RLIM_INFINITY))
