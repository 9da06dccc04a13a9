"""Work that takes long, off the path of the page: one thread, a bounded queue, and a guarded child for files."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

from crosshape.page.problems import Problem


class Worker:
    """One thread that does jobs in turn; at most `places` jobs wait or run at once.

    A place is taken before an upload is received and given back when its answer was made, so that a full
    queue is said at once and not after the last byte.
    """

    def __init__(self, name: str, places: int) -> None:
        self.name, self.places = name, places
        self.taken = 0
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    @contextlib.contextmanager
    def place(self) -> Iterator[Callable[..., Future[Any]]]:
        """A place in the queue: gives submit(function, *arguments) -> Future. Raises Problem where it is full."""
        with self._lock:
            if self.taken >= self.places or self._closed:
                full = (
                    f"{self.taken} are being worked on or wait, and no more may wait. Try again in a moment."
                )
                raise Problem(503, "queue-full", full, {"Retry-After": "3"})
            self.taken += 1
        try:
            yield self._submit
        finally:
            with self._lock:
                self.taken -= 1

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self.name, daemon=True)
                self._thread.start()
        self._jobs.put((future, lambda: function(*arguments)))
        return future

    def soon(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Do something without a place: what the server itself wants done, such as loading the model."""
        return self._submit(function, *arguments)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, function = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)
            del job, future, function

    def close(self) -> None:
        """Do no more jobs; the one that runs is not waited for."""
        with self._lock:
            self._closed = True
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is not None:
                job[0].cancel()
        self._jobs.put(None)
