"""Find shapes in folders; load one file, or say why it gives no shape.

`load_shape` works in the calling process; files of strangers are loaded through guard.py, which adds limits
on memory and time. It opens the file itself and, for a .gltf, buffers inside the file's own folder; nothing
else.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import itertools
import os
import stat
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosshape.errors import CrosshapeError, UnreadableShape, UsageError
from crosshape.settings import Limits
from crosshape.shapes import formats
from crosshape.shapes.formats import Raw, size_text

FORMATS: dict[str, str] = {
    ".off": "mesh",
    ".obj": "mesh",
    ".ply": "mesh or cloud",
    ".stl": "mesh",
    ".glb": "mesh or cloud",
    ".gltf": "mesh or cloud",
    ".3mf": "mesh",
    ".step": "mesh",
    ".stp": "mesh",
    ".npy": "cloud",
    ".npz": "mesh or cloud",
    ".xyz": "cloud",
    ".pts": "cloud",
}
"""Suffix (in any case) -> what such a file holds."""

UPRIGHT = ("glb", "gltf", "3mf", "step", "stp")
"""Formats that say, or in which it is the custom, which axis points up."""

UNREAD: dict[str, str] = {
    **dict.fromkeys(
        ".fbx .blend .dae .usd .usda .usdc .usdz .max .ma .mb .c4d .skp .3ds .x3d .wrl".split(),
        "export them as GLB or OBJ",
    ),
    **dict.fromkeys(
        ".igs .iges .sldprt .sldasm .ipt .catpart .prt .x_t .dwg .dxf".split(), "export them as STEP or STL"
    ),
    **dict.fromkeys(".zip .7z .rar .tar .gz".split(), "unpack them"),
}
"""Suffix (in any case) of a format that is not read -> what to do with such files."""

LARGEST = 1e30
"""Coordinates and extents lie between 1 / LARGEST and LARGEST, so that areas stay finite."""

FLAT = 1e-12
"""A face whose doubled area is below this part of its longest edge squared has no area."""


@dataclass(frozen=True)
class Found:
    """A file that may be a shape: its absolute path, and its name, the POSIX path within the folder given."""

    path: Path
    name: str


@dataclass(frozen=True)
class Shape:
    """vertices (V, 3) float64 in the file's units, Z up; faces (F, 3) int64, (0, 3) for a cloud.

    normals (V, 3), unit, or None. Every vertex of a mesh belongs to a face, every face has area. content_hash
    is the SHA-256 of the bytes, of external buffers too. notes says what was dropped.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    normals: NDArray[np.float64] | None
    format: str
    content_hash: str
    bytes: int
    notes: tuple[str, ...]
    area: float

    @property
    def is_cloud(self) -> bool:
        """Whether there are points only."""
        return len(self.faces) == 0


def find_shapes(
    path: str | PathLike[str],
    unfollowed: list[Path] | None = None,
    exclude: Sequence[str] = (),
    excluded: list[Found] | None = None,
    unread: list[Found] | None = None,
) -> list[Found]:
    """All files with a known suffix in a folder and below it, sorted by name; or the one file that is named.

    Hidden folders and *.lance are left out. Links to files are followed inside the folder only, links to
    folders never; those that were not are added to `unfollowed`. A folder below that may not be read is among
    the results, so that it is not overlooked in silence: it loads as an UnreadableShape. What has a name, or lies
    in a folder of a name, that matches a shell pattern of `exclude` is left out and added to `excluded`; * stands
    for / too. Files of formats that are not read (UNREAD) are added to `unread`. Raises CrosshapeError where the path
    does not exist, may not be read or, for a single file, has no known suffix; UsageError for an empty path or pattern.
    """
    if not os.fspath(path):
        raise UsageError("the path of the shapes is empty; name a folder or a file, '.' for this folder.")
    unwanted = _matcher(exclude)
    root = Path(path)
    try:
        is_folder = stat.S_ISDIR(root.stat().st_mode)
    except (OSError, ValueError) as error:
        raise CrosshapeError(f"{path} cannot be read: {_words(error)}.") from None
    top = Path(os.path.abspath(root))
    if not is_folder and top.suffix.lower() not in FORMATS:
        raise CrosshapeError(f"{path} has no suffix of a shape; known are {' '.join(FORMATS)}.")
    real = os.path.realpath(top)
    found = [] if is_folder else [Found(top, _name(top.name))]
    away: list[Path] = []
    foreigners: list[Found] = []
    folders = [""] if is_folder else []
    while folders:
        below = folders.pop()
        try:
            with os.scandir(os.path.join(top, below) if below else top) as entries:
                listed = list(entries)
        except OSError as error:
            if not below:
                raise CrosshapeError(f"{path} cannot be read: {_words(error)}.") from None
            found.append(Found(top / below, _name(below)))
            continue
        for entry in listed:
            name = f"{below}/{entry.name}" if below else entry.name
            suffix = os.path.splitext(entry.name)[1].lower()
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith(".") and not entry.name.endswith(".lance"):
                    folders.append(name)
            elif suffix in FORMATS and not entry.name.startswith("._"):
                if entry.is_symlink():
                    target = os.path.realpath(entry.path)
                    if os.path.isdir(target) or not target.startswith(os.path.join(real, "")):
                        away.append(Path(top, name))
                        continue
                found.append(Found(Path(top, name), _name(name)))
            elif entry.is_symlink() and entry.is_dir() and not entry.name.startswith("."):
                away.append(Path(top, name))
            elif suffix in UNREAD and not entry.is_symlink() and not entry.name.startswith("._"):
                foreigners.append(Found(Path(top, name), _name(name)))
    found.sort(key=lambda item: item.name)
    if unfollowed is not None:
        unfollowed.extend(one for one in sorted(away) if not unwanted(one.relative_to(top).as_posix()))
    if excluded is not None:
        excluded.extend(item for item in found if unwanted(item.name))
    if unread is not None:
        unread.extend(item for item in foreigners if not unwanted(item.name))
    return [item for item in found if not unwanted(item.name)]


def _matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Whether a POSIX path, or a folder of it, matches a shell pattern. Raises UsageError for one that is empty."""
    if isinstance(patterns, str):
        raise UsageError(f"exclude is the text '{patterns}'; give a list: ['{patterns}']")
    bare = [pattern.rstrip("/") for pattern in patterns]  # drafts/ is the folder drafts
    if not all(bare):
        raise UsageError("a pattern of --exclude is empty; write one such as drafts or '*.tmp.stl'.")

    def matches(name: str) -> bool:
        above = itertools.accumulate(name.split("/"), lambda folder, part: f"{folder}/{part}")
        return any(fnmatch.fnmatchcase(part, pattern) for part in above for pattern in bare)

    return matches


def links_words(unfollowed: Sequence[Path]) -> str:
    """What a user is told of links that `find_shapes` did not follow."""
    one = len(unfollowed) == 1
    return (
        f"{len(unfollowed):,} link{'' if one else 's'} to other folders {'was' if one else 'were'} not followed, "
        f"such as {_name(str(unfollowed[0]))}; add what {'it points' if one else 'they point'} to by its own path."
    )


def excluded_words(count: int) -> str:
    """What a user is told of files that `find_shapes` left out."""
    return f"{count:,} file{' was' if count == 1 else 's were'} left out (--exclude)."


def counted_suffixes(files: Sequence[Found]) -> dict[str, int]:
    """How many files have each suffix, most first."""
    counts = Counter(one.path.suffix.lower() for one in files)
    return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0])))


def unread_words(unread: Mapping[str, int]) -> str:
    """What a user is told of files of formats that are not read, counted by suffix."""
    count = sum(unread.values())
    shown: dict[str, list[str]] = {}
    for suffix, number in unread.items():
        shown.setdefault(UNREAD[suffix], []).append(f"{suffix} {number:,}")
    kinds = ", ".join(f"{', '.join(some)} ({advice})" for advice, some in shown.items())
    return f"{count:,} file{'' if count == 1 else 's'} of formats that are not read: {kinds}."


def encodable(text: str) -> bool:
    """Whether a name can be kept as UTF-8: not so where the system's bytes were none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _name(name: str) -> str:
    """A name as text that can be stored anywhere: bytes that are no UTF-8 become escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def load_shape(path: str | PathLike[str], limits: Limits | None = None, up: str = "auto") -> Shape:
    """The shape in a file, Z up. Raises UnreadableShape with a true reason, never anything else.

    up: the axis that points up in the file: x, y, z, or auto: y for glTF (its standard says so), else z.
    """
    limits = limits or Limits()
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    data = b""
    try:
        data = read_bytes(path, limits)
        if suffix not in FORMATS:
            raise UnreadableShape(f"'{suffix}' is no suffix of a shape; known are {' '.join(FORMATS)}")
        if not data:
            raise UnreadableShape("empty file (0 bytes)")
        hashed = hashlib.sha256(data)
        total = len(data)

        def neighbour(name: str) -> bytes:
            nonlocal total
            more = read_neighbour(path, name, limits)
            hashed.update(more)
            total += len(more)
            if total > limits.max_bytes:
                raise UnreadableShape(
                    f"{size_text(total)} with buffers; "
                    f"the limit is {size_text(limits.max_bytes)} (--max-bytes)"
                )
            return more

        with np.errstate(all="ignore"):
            raw = _reader(suffix)(data, limits, neighbour)
            vertices, faces, normals, area, notes = _checked(raw, limits)
        turn = _turn(up, suffix)
        return Shape(
            vertices=vertices if turn is None else np.ascontiguousarray(vertices @ turn.T),
            faces=faces,
            normals=normals if turn is None or normals is None else np.ascontiguousarray(normals @ turn.T),
            format=suffix[1:],
            content_hash=hashed.hexdigest(),
            bytes=total,
            notes=tuple(notes),
            area=area,
        )
    except UnreadableShape as error:
        other = foreign(data, suffix)
        if other:
            wanted = f"not {suffix[1:].upper()}" if suffix in FORMATS else "and no shape"
            raise UnreadableShape(f"{other}, {wanted}") from None
        raise error.with_traceback(None) from None
    except MemoryError:
        raise UnreadableShape("needs more memory than it is given") from None
    except RecursionError:
        raise UnreadableShape("nested too deeply") from None
    except OSError as error:
        raise UnreadableShape(_words(error)) from None
    except Exception as error:
        text = " ".join(str(error).split())[:160]
        raise UnreadableShape(f"broken {suffix[1:].upper()} ({type(error).__name__}: {text})") from None


def read_bytes(path: str | PathLike[str], limits: Limits) -> bytes:
    """The content of a regular file that is not too large. Raises UnreadableShape, OSError."""
    try:
        # A FIFO must not block, a device must not do anything.
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise UnreadableShape("not a file (a socket)") from None
        raise
    except ValueError as error:
        raise UnreadableShape(f"not a path ({error})") from None
    try:
        status = os.fstat(number)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableShape(f"not a file ({_kind(status.st_mode)})")
        if status.st_size > limits.max_bytes:
            raise UnreadableShape(
                f"{size_text(status.st_size)}; the limit is {size_text(limits.max_bytes)} (--max-bytes)"
            )
        with open(number, "rb", closefd=False) as file:
            data = file.read(status.st_size)
    finally:
        os.close(number)
    if len(data) != status.st_size:
        raise UnreadableShape("it changed while it was read")
    return data


def read_neighbour(path: str | PathLike[str], name: str, limits: Limits) -> bytes:
    """A file that another one names, from inside that one's folder only. Raises UnreadableShape."""
    folder = os.path.realpath(os.path.dirname(os.path.abspath(path)))
    shown = repr(name[:80])
    if "\0" in name or "\\" in name or os.path.isabs(name) or not name:
        raise UnreadableShape(f"names {shown}, which is no path inside its folder")
    target = os.path.realpath(os.path.join(folder, name))
    if not target.startswith(os.path.join(folder, "")):
        raise UnreadableShape(f"names {shown}, which is outside its folder")
    try:
        return read_bytes(target, limits)
    except OSError as error:
        raise UnreadableShape(f"names {shown}: {_words(error)}") from None
    except UnreadableShape as error:
        raise UnreadableShape(f"names {shown}: {error.reason}") from None


def foreign(data: bytes, suffix: str) -> str | None:
    """What a file is by its first bytes, where that is something else than its suffix says."""
    for begin, what, own in (
        (b"\x89PNG\r\n", "a PNG picture", ""),
        (b"\xff\xd8\xff", "a JPEG picture", ""),
        (b"GIF8", "a GIF picture", ""),
        (b"BM", "a BMP picture", ".off .obj .ply .stl .xyz .pts"),
        (b"%PDF", "a PDF document", ""),
        (b"PK\x03\x04", "a zip archive", ".3mf .npz"),
        (b"\x1f\x8b", "a gzip archive", ""),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive", ""),
        (b"\x7fELF", "a program (ELF)", ""),
        (b"MZ\x90", "a program (Windows)", ""),
        (b"\x89HDF", "an HDF5 file", ""),
        (b"SQLite format 3", "an SQLite database", ""),
        (b"version https://git-lfs", "a Git LFS pointer without its content", ""),
        (b"ISO-10303-21", "a STEP file", ".step .stp"),
        (b"glTF", "a GLB file", ".glb"),
        (b"\x93NUMPY", "an NPY file", ".npy"),
        (b"ply\n", "a PLY file", ".ply"),
        (b"ply\r", "a PLY file", ".ply"),
    ):
        if data.startswith(begin) and suffix not in own.split():
            return what
    if data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05") and data.endswith(b"."):
        return "a Python pickle, which is never opened"
    head = data[:256].lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    if head.startswith(b"off") and suffix in (".obj", ".ply", ".stl"):
        return "an OFF file"
    return None


def _reader(suffix: str) -> Callable[[bytes, Limits, Callable[[str], bytes]], Raw]:
    """The reader of a format, as a function of bytes, limits and a way to read neighbours."""
    if suffix in (".glb", ".gltf", ".3mf"):
        from crosshape.shapes import scenes

        if suffix == ".3mf":
            return lambda data, limits, _: scenes.read_3mf(data, limits)
        return scenes.read_gltf
    if suffix in (".step", ".stp"):
        from crosshape.shapes.cad import read_step

        return lambda data, limits, _: read_step(data, limits)
    plain: dict[str, Callable[[bytes, Limits], Raw]] = {
        ".off": formats.read_off,
        ".obj": formats.read_obj,
        ".ply": formats.read_ply,
        ".stl": formats.read_stl,
        ".npy": formats.read_npy,
        ".npz": formats.read_npz,
        ".xyz": formats.read_points,
        ".pts": formats.read_points,
    }
    return lambda data, limits, _: plain[suffix](data, limits)


def _turn(up: str, suffix: str) -> NDArray[np.float64] | None:
    """The rotation that takes the file's up axis to +Z, or None; raises UnreadableShape for no axis."""
    axis = ("y" if suffix in (".glb", ".gltf") else "z") if up == "auto" else up
    if axis == "z":
        return None
    if axis == "y":
        return np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    if axis == "x":
        return np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
    raise UnreadableShape(f"up axis {up!r}; known are auto, x, y and z")


def _checked(
    raw: Raw, limits: Limits
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64] | None, float, list[str]]:
    """Vertices, faces, normals, area and notes of what a reader found, without what is broken.

    Raises UnreadableShape where nothing is left, an index is out of range, or the extent is absurd.
    """
    vertices = np.ascontiguousarray(raw.vertices, dtype=np.float64)
    formats.within(limits, len(vertices), len(raw.faces))
    if raw.is_cloud:
        return _checked_cloud(vertices, raw)
    notes = list(raw.notes)
    faces = np.ascontiguousarray(raw.faces, dtype=np.int64)
    if not len(faces):
        raise UnreadableShape("0 faces" + "".join(f" ({note})" for note in notes[:1]))
    if not len(vertices):
        raise UnreadableShape(f"0 vertices for {len(faces):,} faces")
    if faces.min() < 0 or faces.max() >= len(vertices):
        face, corner = np.argwhere((faces < 0) | (faces >= len(vertices)))[0]
        raise UnreadableShape(
            f"face {face + 1:,} of {len(faces):,} names vertex {faces[face, corner] + 1:,} "
            f"of {len(vertices):,}"
        )
    removed: list[str] = []
    if not np.isfinite(vertices).all():
        finite = np.logical_and.reduce(np.isfinite(vertices), axis=1)
        whole = finite[faces].all(axis=1)
        if not whole.all():
            removed.append(f"{int((~whole).sum()):,} with coordinates that are not finite")
            faces = faces[whole]
    vertices, faces = _used(vertices, faces)
    if len(faces):
        _proportion(vertices)
        area, flat = _areas(vertices, faces)
        if flat.any():
            removed.append(f"{int(flat.sum()):,} of zero area")
            vertices, faces = _used(vertices, faces[~flat])
    if not len(faces):
        raise UnreadableShape(f"0 faces after removing {' and '.join(removed)}")
    notes += [f"removed faces: {what}" for what in removed]
    return vertices, faces, None, area, notes


def _checked_cloud(
    points: NDArray[np.float64], raw: Raw
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64] | None, float, list[str]]:
    notes = list(raw.notes)
    finite = np.logical_and.reduce(np.isfinite(points), axis=1)
    normals = raw.normals
    if not finite.all():
        notes.append(f"removed points: {int((~finite).sum()):,} with coordinates that are not finite")
        points = points[finite]
        normals = None if normals is None else normals[finite]
    if not len(points):
        lost = f" after removing {len(finite):,} with coordinates that are not finite" if len(finite) else ""
        raise UnreadableShape(f"0 points{lost}")
    _proportion(points)
    if normals is not None:
        length = np.linalg.norm(normals, axis=1)
        if not (np.isfinite(length) & (length > 1e-6)).all():
            notes.append("the normals of the file are not all unit vectors and were left out")
            normals = None
        else:
            normals = np.ascontiguousarray(normals / length[:, None])
    return points, formats.NO_FACES, normals, 0.0, notes


def _used(
    vertices: NDArray[np.float64], faces: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The vertices that faces use, and the faces renumbered."""
    mask = np.zeros(len(vertices), dtype=bool)
    mask[faces] = True
    if mask.all():
        return vertices, faces
    return vertices[mask], (np.cumsum(mask) - 1)[faces]


def _proportion(vertices: NDArray[np.float64]) -> None:
    """Raises UnreadableShape where coordinates are absurd, or all points are one."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    reach = max(np.abs(low).max(), np.abs(high).max())
    if reach > LARGEST:
        raise UnreadableShape(f"coordinates up to {reach:.3g}; the largest that make sense are {LARGEST:g}")
    extent = (high - low).max()
    if extent == 0:
        count = f"{len(vertices):,} points" if len(vertices) > 1 else "1 point"
        raise UnreadableShape(f"no extent: {count} at one place")
    if extent < 1 / LARGEST:
        raise UnreadableShape(f"an extent of {extent:.3g}; the smallest that makes sense is {1 / LARGEST:g}")


def _areas(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> tuple[float, NDArray[np.bool_]]:
    """The area of all faces together, and which of them have none."""
    flat = np.zeros(len(faces), dtype=bool)
    scale = float((vertices.max(axis=0) - vertices.min(axis=0)).max())
    total = 0.0
    for start in range(0, len(faces), 1 << 15):  # in pieces that stay in the cache
        part = faces[start : start + (1 << 15)]
        first = vertices[part[:, 0]]
        a = (vertices[part[:, 1]] - first) / scale
        b = (vertices[part[:, 2]] - first) / scale
        x = a[:, 1] * b[:, 2] - a[:, 2] * b[:, 1]
        y = a[:, 2] * b[:, 0] - a[:, 0] * b[:, 2]
        z = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
        doubled = np.sqrt(x * x + y * y + z * z)
        c = b - a
        longest = np.maximum(np.maximum(_squares(a), _squares(b)), _squares(c))
        flat[start : start + (1 << 15)] = doubled <= FLAT * longest
        total += float(doubled.sum()) / 2
    return total * scale * scale, flat


def _squares(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.einsum("ij,ij->i", edges, edges)


def _words(error: Any) -> str:
    """What the operating system said, without the path."""
    return getattr(error, "strerror", None) or str(error)


def _kind(mode: int) -> str:
    """What a path is that is no regular file."""
    for test, what in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    ):
        if test(mode):
            return what
    return "something else"
