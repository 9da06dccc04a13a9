"""Many who search at once are answered by one pass over the features: a product of matrices, not one for each."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

from crosshape.search.query import Gallery, Sought, fused

MOST = 64
"""Searches answered by one pass."""

BLOCK = 4096
"""Rows multiplied at once, so that the product stays small."""

Scores = NDArray[np.float32]
Asked = tuple[Gallery, Sought, str, "Future[Scores]"]


class Together:
    """One thread that takes all searches that wait and scores them in one pass."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Asked | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def scores(self, shapes: Gallery, one: Sought, over: str) -> Scores:
        """(N,): cosines with every shape, as `search.query.fused` gives them to rounding. Waits for its turn."""
        future: Future[Scores] = Future()
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="search", daemon=True)
                self._thread.start()
        self._waiting.put((shapes, one, over, future))
        return future.result()

    def close(self) -> None:
        """Answer no more."""
        self._waiting.put(None)

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch = [first]
            while len(batch) < MOST and not self._waiting.empty():
                more = self._waiting.get()
                if more is None:
                    self._waiting.put(None)
                    break
                batch.append(more)
            groups: dict[tuple[int, str], list[Asked]] = {}
            for asked in batch:
                groups.setdefault((id(asked[0]), asked[2]), []).append(asked)
            for group in groups.values():
                try:
                    found = scored(group[0][0], [one for _, one, _, _ in group], group[0][2])
                    for (*_, future), mine in zip(group, found, strict=True):
                        future.set_result(mine)
                except BaseException as error:
                    for *_, future in group:
                        if not future.done():
                            future.set_exception(error)
            del first, batch, groups


def scored(shapes: Gallery, what: list[Sought], over: str) -> list[Scores]:
    """For each that is sought its cosines (N,) with every shape."""
    if len(what) == 1:
        return [fused(shapes.points, shapes.views, what[0], over)]
    parts = [kind for kind in ("points", "views") if over in (kind, "both")]
    vectors = {kind: np.stack([getattr(one, kind) for one in what]) for kind in parts}
    out = np.zeros((len(what), len(shapes.names)), np.float32)
    for start in range(0, len(shapes.names), BLOCK):
        rows = slice(start, start + BLOCK)
        for kind in parts:
            out[:, rows] += vectors[kind] @ getattr(shapes, kind)[rows].T
    out /= len(parts)
    return list(out)
