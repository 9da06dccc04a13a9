"""A library of clouds in one small file, to learn from where there is neither the library nor a fast connection.

    python results/modelnet40/packed.py modelnet40.lance modelnet40.packed
    python results/modelnet40/experiment.py modelnet40.packed RUN --device cuda ...

Of every cloud, the places of its points on a grid of 2,048 cells a side over -1 to 1 (half a cell is 0.0005, a
hundredth of the spacing), in the order of a curve through the grid, differences alone, compressed: 2.8 MB a thousand
clouds of 1,024 points. The names come along, nothing else; views are drawn again, on all cores, when it is opened.
"""

from __future__ import annotations

import json
import lzma
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

BITS = 11
BYTES = 5
"""Bytes of a place along the curve: 3 x 11 bits."""
CHUNK = 64
"""Shapes that are drawn at a time."""


def pack(points: np.ndarray, names: list[str]) -> bytes:
    """Clouds (N, P, 3) in the unit sphere and their names -> the file."""
    cells = np.clip(np.round((points + 1) * (1 << (BITS - 1))), 0, (1 << BITS) - 1).astype(np.uint64)
    place = np.zeros(points.shape[:2], np.uint64)
    for bit in range(BITS):
        for axis in range(3):
            place |= ((cells[..., axis] >> np.uint64(bit)) & np.uint64(1)) << np.uint64(3 * bit + 2 - axis)
    step = np.diff(np.sort(place, axis=1), axis=1, prepend=np.uint64(0))
    parts = step.astype("<u8")[..., None].view(np.uint8)[..., :BYTES].transpose(2, 0, 1)
    head = json.dumps({"shape": points.shape[:2], "names": names}).encode()
    return len(head).to_bytes(4, "little") + lzma.compress(head + parts.tobytes(), preset=6)


def unpack(data: bytes) -> tuple[np.ndarray, list[str]]:
    """What `pack` was given, to half a cell, the points of a cloud in another order."""
    size, rest = int.from_bytes(data[:4], "little"), lzma.decompress(data[4:])
    head = json.loads(rest[:size])
    parts = np.frombuffer(rest, np.uint8, offset=size).reshape(BYTES, *head["shape"])
    step = np.zeros(head["shape"], np.uint64)
    for i in range(BYTES):
        step |= parts[i].astype(np.uint64) << np.uint64(8 * i)
    place = np.cumsum(step, axis=1, dtype=np.uint64)
    cells = np.zeros((*head["shape"], 3), np.float32)
    for bit in range(BITS):
        for axis in range(3):
            on = (place >> np.uint64(3 * bit + 2 - axis)) & np.uint64(1)
            cells[..., axis] += on.astype(np.float32) * (1 << bit)
    points = cells / np.float32(1 << (BITS - 1)) - 1
    points /= np.maximum(
        np.linalg.norm(points, axis=2, keepdims=True), 1
    )  # rounding may lead out of the sphere
    return points, head["names"]


def open_packed(path: str | Path, *, image_size: int, fifth: int):
    """The labelled set of a packed file, as `open_data` gives it for the library."""
    from crosshape.shapes.layouts import Item, Layout
    from crosshape.tasks.labelled import LabelledSet

    points, names = unpack(Path(path).read_bytes())
    classes = sorted({name.split("/")[0] for name in names})
    items = tuple(Item(name, classes.index(name.split("/")[0]), "train", Path(path)) for name in names)
    layout = Layout("packed", "", Path(path), tuple(classes), items, f"{len(names):,} packed clouds", ())
    return LabelledSet(layout, fifth, (), "", None, len(names), lambda: (points, draw(points, image_size)))


def draw(points: np.ndarray, size: int, workers: int | None = None) -> np.ndarray:
    """Clouds (N, P, 3) -> views (N, 12, size, size) uint8, as a library has them, on all cores."""
    if len(points) <= CHUNK:
        return _draw(points, size)
    out = np.empty((len(points), 12, size, size), np.uint8)
    _draw(points[:1], size)  # compiled once, before there are several processes
    blocks = [points[start : start + CHUNK] for start in range(0, len(points), CHUNK)]
    with ProcessPoolExecutor(workers or os.cpu_count(), get_context("fork")) as pool:
        for i, views in enumerate(pool.map(partial(_draw, size=size), blocks)):
            out[i * CHUNK : i * CHUNK + len(views)] = views
    return out


def _draw(points: np.ndarray, size: int) -> np.ndarray:
    from crosshape.shapes.surface import estimate_normals, normalise
    from crosshape.shapes.views import render_points

    out = np.empty((len(points), 12, size, size), np.uint8)
    for i, cloud in enumerate(points):
        whole = normalise(cloud, np.zeros((0, 3), np.int64))[0]
        out[i] = render_points(whole, estimate_normals(whole), size=size).shading
    return out


def main() -> None:
    from crosshape.library.library import open_library

    library = open_library(sys.argv[1])
    started = time.monotonic()
    points = np.asarray(library.training_arrays(32)[0])
    data = pack(points, list(library.names))
    Path(sys.argv[2]).write_bytes(data)
    back, names = unpack(data)
    if names != list(library.names) or back.shape != points.shape:
        raise SystemExit(f"{sys.argv[2]} cannot be read back")
    took = time.monotonic() - started
    print(f"{sys.argv[2]}: {len(names):,} clouds, {len(data) / 1e6:.1f} MB, {took:.0f} s")


if __name__ == "__main__":
    main()
