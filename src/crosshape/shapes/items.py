"""One labelled shape of a data set, and its arrays: the shape, its parts, its pictures.

Whatever does not fit (a part number outside its range, a face without a part) is an UnreadableShape with the
place and the value: labels never shift in silence.
"""

from __future__ import annotations

import functools
import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from crosshape.errors import CrosshapeError, UnreadableShape
from crosshape.settings import Limits

if TYPE_CHECKING:
    from crosshape.shapes.files import Shape


@dataclass(frozen=True)
class Item:
    """One labelled shape: where it lies and what it is; all that loading needs, nothing loaded."""

    name: str
    label: int
    split: str
    path: Path
    row: int | None = None
    """The row in an h5 file."""
    parts: Path | None = None
    """The file with the part of every point or face; may be `path` itself."""
    part_names: tuple[str, ...] = ()
    part_base: int = 0
    """The number in the file that means the first part of this class."""
    views: tuple[Path, ...] = ()
    """Pictures of the shape, in the order of their numbers."""
    up: str = "auto"


class Labelled(NamedTuple):
    """A shape with the part (0-based, within its class) of every face of a mesh or every point of a cloud."""

    shape: Shape
    parts: np.ndarray


class PartPoints(NamedTuple):
    """points (N, 3) float32, unit sphere; parts (N,) int64 within the class; source (N,) face or point."""

    points: np.ndarray
    parts: np.ndarray
    source: np.ndarray


def load_item(item: Item, limits: Limits = Limits()) -> Shape:  # noqa: B008
    """The shape of an item, Z up. Raises UnreadableShape with the reason."""
    from crosshape.shapes.files import load_shape

    if item.views:
        raise UnreadableShape("there are only pictures of it")
    if item.row is not None:
        arrays = h5_arrays(item.path, item.path.stat().st_mtime_ns)
        normals = arrays["normal"][item.row] if "normal" in arrays else None
        return _cloud(arrays["data"][item.row][:, :3], normals, item, "h5", None)
    if item.path.suffix.lower() in (".txt", ".pts"):
        table, data = _table(item.path, limits)
        normals = table[:, 3:6] if table.shape[1] >= 6 else None
        return _cloud(table[:, :3], normals, item, item.path.suffix.lower()[1:], data)
    return load_shape(item.path, limits, item.up)


def _cloud(
    points: np.ndarray, normals: np.ndarray | None, item: Item, form: str, data: bytes | None
) -> Shape:
    from crosshape.shapes.files import Shape

    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] < 3:
        raise UnreadableShape(f"its table has the shape {points.shape}; a cloud has three columns or more")
    if not np.isfinite(points).all():
        raise UnreadableShape(f"{int((~np.isfinite(points)).any(1).sum()):,} points are not finite numbers")
    if len(points) == 0 or np.ptp(points, axis=0).max() == 0:
        raise UnreadableShape("all its points are the same")
    if normals is not None:
        normals = np.asarray(normals, np.float64)
        if normals.shape != points.shape or not np.isfinite(normals).all():
            normals = None
    if data is None:
        data = np.ascontiguousarray(points, "<f4").tobytes()
    turned = _z_up(points, item.up)
    turned_normals = _z_up(normals, item.up) if normals is not None else None
    digest = hashlib.sha256(data).hexdigest()
    return Shape(turned, np.empty((0, 3), np.int64), turned_normals, form, digest, len(data), (), 0.0)


def _z_up(points: np.ndarray, up: str) -> np.ndarray:
    """Turned (never mirrored) so that the axis `up` of the file is Z."""
    if up == "y":
        return np.stack([points[:, 0], -points[:, 2], points[:, 1]], axis=1)
    if up == "x":
        return points[:, [1, 2, 0]]
    return points


def _table(path: Path, limits: Limits) -> tuple[np.ndarray, bytes]:
    """The numbers of a text file, a line a point, by blanks or commas; and its bytes."""
    try:
        if path.stat().st_size > limits.max_bytes:
            raise UnreadableShape(
                f"{path.stat().st_size:,} bytes, more than the limit of {limits.max_bytes:,}"
            )
        data = path.read_bytes()
        lines = io.StringIO(data.decode("ascii").replace(",", " "))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            table = np.loadtxt(lines, dtype=np.float64, ndmin=2, comments=None)
    except OSError as error:
        raise UnreadableShape(f"{path.name}: {error.strerror}") from None
    except (ValueError, UnicodeDecodeError):
        raise UnreadableShape(f"{path.name} is not a table of numbers") from None
    if table.shape[0] == 0 or table.shape[0] > limits.max_vertices:
        raise UnreadableShape(f"{path.name} has {table.shape[0]:,} lines")
    return table, data


def load_parts(item: Item, limits: Limits = Limits()) -> Labelled:  # noqa: B008
    """The shape and its parts as they are in the files. Raises UnreadableShape where the two do not fit."""
    if item.parts is None:
        raise UnreadableShape("its parts are not labelled")
    shape = load_item(item, limits)
    if shape.faces.shape[0]:
        return Labelled(shape, _parts_of_faces(item, shape, limits))
    if item.row is not None:
        numbers = h5_arrays(item.path, item.path.stat().st_mtime_ns)["pid"][item.row].astype(np.float64)
    elif item.parts == item.path:
        numbers = _table(item.path, limits)[0][:, -1]
    else:
        numbers = _table(item.parts, limits)[0][:, 0]
    if len(numbers) != len(shape.vertices):
        raise UnreadableShape(f"{len(shape.vertices):,} points but {len(numbers):,} part labels")
    parts = numbers - item.part_base
    wrong = np.flatnonzero((parts < 0) | (parts >= len(item.part_names)) | (parts != np.floor(parts)))
    if len(wrong):
        last = item.part_base + len(item.part_names) - 1
        raise UnreadableShape(
            f"part {numbers[wrong[0]]:g} at point {wrong[0] + 1} is outside {item.part_base} to {last}"
            f" ({len(wrong):,} such points)"
        )
    return Labelled(shape, parts.astype(np.int64))


def _parts_of_faces(item: Item, shape: Shape, limits: Limits) -> np.ndarray:
    """(F,) int64: the part of every face that was kept. Raises UnreadableShape where one has none or two."""
    assert item.parts is not None
    numbers = read_part_file(item.parts)
    kept = _kept_faces(item, shape, limits)
    parts = np.full(len(shape.faces) if kept is None else kept.total, -1, np.int64)
    for name, faces in numbers.items():
        if len(faces) == 0:
            continue
        if faces.min() < 1 or faces.max() > len(parts):
            worst = faces.max() if faces.max() > len(parts) else faces.min()
            raise UnreadableShape(f"part '{name}' names face {worst}; there are {len(parts):,} faces")
        if (parts[faces - 1] >= 0).any() or len(np.unique(faces)) < len(faces):
            raise UnreadableShape(f"part '{name}' names a face that has a part already")
        parts[faces - 1] = item.part_names.index(name)
    bare = np.flatnonzero(parts < 0)
    if len(bare):
        raise UnreadableShape(f"{len(bare):,} of {len(parts):,} faces have no part (first: {bare[0] + 1})")
    return parts if kept is None else parts[kept.numbers]


class _Kept(NamedTuple):
    numbers: np.ndarray
    total: int


def _kept_faces(item: Item, shape: Shape, limits: Limits) -> _Kept | None:
    """Which faces of the file the shape still has, where loading dropped some; None where it has them all.

    Kept faces stay in order and a dropped one (no area, not finite) never equals a kept one, so one pass over
    the corners finds them. Raises UnreadableShape where that cannot be said.
    """
    if not any(note.startswith("removed faces") for note in shape.notes):
        return None
    if item.path.suffix.lower() != ".off":
        raise UnreadableShape(
            f"{shape.notes[0]}, so its face numbers no longer fit; remove them from the file"
        )
    from crosshape.shapes.formats import read_off

    raw = read_off(item.path.read_bytes(), limits)
    corners = np.asarray(raw.vertices, np.float64)[raw.faces].reshape(-1, 3)
    before = _z_up(corners, item.up).reshape(-1, 9) + 0.0
    after = shape.vertices[shape.faces].reshape(-1, 9) + 0.0
    numbers = np.empty(len(after), np.int64)
    found = 0
    for number, face in enumerate(before):
        if found < len(after) and (face == after[found]).all():
            numbers[found] = number
            found += 1
    if found < len(after):
        raise UnreadableShape("its faces changed on loading, so face numbers no longer fit")
    return _Kept(numbers, len(before))


def part_points(item: Item, count: int = 2048, seed: int = 0, limits: Limits = Limits()) -> PartPoints:  # noqa: B008
    """`count` points of the shape in the unit sphere with their parts; seeded by content and `seed`.

    A mesh is sampled by area and a point takes the part of its face; of a cloud points are drawn, each at
    most once while there are enough.
    """
    from crosshape.shapes.surface import normalise, sample_surface

    shape, parts = load_parts(item, limits)
    vertices = normalise(shape.vertices, shape.faces)[0]
    start = int(hashlib.sha256(f"{shape.content_hash}/{seed}".encode()).hexdigest()[:15], 16)
    if len(shape.faces):
        points, _, source = sample_surface(vertices, shape.faces, count, start)
    else:
        order = np.random.default_rng(start).permutation(len(vertices))
        source = np.resize(order, count)
        points = vertices[source]
    return PartPoints(np.asarray(points, np.float32), parts[source], source)


def load_pictures(item: Item, size: int | None = None) -> np.ndarray:
    """(V, S, S) uint8: the grey pictures of an item, scaled to `size`. Raises UnreadableShape."""
    from PIL import Image

    from crosshape.shapes.views import eight_bit

    pictures = []
    for path in item.views:
        try:
            with Image.open(path, formats=("PNG", "JPEG")) as picture:
                width, height = picture.size
                if width * height > 40_000_000:
                    raise UnreadableShape(f"{path.name} has {width} x {height} pixels, more than 40 million")
                if width != height:
                    raise UnreadableShape(f"{path.name} is {width} x {height} pixels, not square")
                grey = eight_bit(picture).convert("L")
                if size is not None and size != width:
                    grey = grey.resize(
                        (size, size), Image.Resampling.BOX if size < width else Image.Resampling.BICUBIC
                    )
                pictures.append(np.asarray(grey))
        except (OSError, ValueError, SyntaxError) as error:
            raise UnreadableShape(f"{path.name} is not a whole picture ({type(error).__name__})") from None
    if not pictures:
        raise UnreadableShape("there are no pictures of it")
    if len({p.shape for p in pictures}) > 1:
        raise UnreadableShape(f"its pictures have different sizes: {sorted({p.shape for p in pictures})}")
    return np.stack(pictures)


def read_part_file(path: Path) -> dict[str, np.ndarray]:
    """Part name -> its 1-based faces, from lines of a name and lines of numbers. Raises UnreadableShape."""
    parts: dict[str, list[np.ndarray]] = {}
    current = ""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise UnreadableShape(f"{path.name} is not a text file") from None
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        if all(word.isascii() and word.isdigit() and len(word) < 12 for word in words):
            if not current:
                raise UnreadableShape(f"{path.name} line {number} has face numbers before the name of a part")
            parts[current].append(np.array(words, np.int64))
        else:
            current = " ".join(words)
            parts.setdefault(current, [])
    if not parts:
        raise UnreadableShape(f"{path.name} names no part")
    return {name: np.concatenate([*faces, np.empty(0, np.int64)]) for name, faces in parts.items()}


def open_h5(path: Path) -> Any:
    """The open file. Raises CrosshapeError for what is no whole h5 file."""
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError:
        raise CrosshapeError(
            f"{path} is not a whole HDF5 file; it may be cut short. Fetch it again."
        ) from None


def h5_dataset(table: Any, path: Path, name: str) -> Any:
    """A plain dataset of the file itself: links and storage outside of it are refused."""
    import h5py

    link = table.get(name, getlink=True) if name in table else None
    found = table[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
        raise CrosshapeError(f"{path} holds no plain dataset '{name}'.")
    return found


@functools.lru_cache(maxsize=8)
def h5_arrays(path: Path, modified: int) -> dict[str, np.ndarray]:
    """Every array of a file that items are read from; the last eight files stay in memory."""
    with open_h5(path) as table:
        try:
            return {n: h5_dataset(table, path, n)[()] for n in ("data", "normal", "pid") if n in table}
        except OSError:
            raise UnreadableShape(f"{path.name} is damaged: its points cannot be read") from None
