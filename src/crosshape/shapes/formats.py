"""Readers: the bytes of a file -> vertices and faces as they stand there, for OFF, OBJ, PLY, STL and clouds.

They are our own because they must be fast, lean and honest: numbers are parsed in bulk by numpy, what a
header promises is compared with the limits and with the bytes at hand before anything is allocated, and every
failure is an UnreadableShape that says which value is wrong. Nothing here opens a file. glTF and 3MF are in
scenes.py.
"""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosshape.errors import UnreadableShape
from crosshape.settings import Limits

NO_FACES = np.zeros((0, 3), np.int64)


@dataclass
class Raw:
    """vertices (V, 3), faces (F, 3) or (0, 3), normals of the vertices (V, 3) or None, what was dropped."""

    vertices: NDArray[Any]
    faces: NDArray[Any] = field(default_factory=lambda: NO_FACES)
    normals: NDArray[Any] | None = None
    notes: list[str] = field(default_factory=list)
    is_cloud: bool = False


# --- OFF ------------------------------------------------------------------------------------------

OFF_MAGIC = re.compile(rb"\s*(?P<kind>(?:ST)?C?N?4?n?OFF)(?P<binary>[ \t]+BINARY)?")
OFF_COUNTS = re.compile(rb"\s*(-?\d+)[ \t]+(-?\d+)(?:[ \t]+-?\d+)?[ \t\r]*(?:\n|$)")


def read_off(data: bytes, limits: Limits) -> Raw:
    """OFF, COFF, NOFF, STOFF and their mixtures, the counts glued to the magic or not, comments, polygons."""
    data = without_comments(newlines(data))
    magic = OFF_MAGIC.match(data)
    kind = magic["kind"].decode() if magic else "OFF"
    if magic and (magic["binary"] or "4" in kind or "n" in kind):
        raise UnreadableShape(
            f"{'binary ' if magic['binary'] else ''}{kind} is not read, only OFF in 3D as text"
        )
    counts = OFF_COUNTS.match(data, magic.end() if magic else 0)
    if not counts:
        raise UnreadableShape(
            f"no counts of vertices and faces after {kind}" if magic else "does not begin with OFF"
        )
    vertices, faces = int(counts[1]), int(counts[2])
    within(limits, vertices, faces)
    start = counts.end()
    promised(vertices * 6 + faces * 4 - 1, len(data) - start, f"{vertices:,} vertices and {faces:,} faces")

    ends = np.flatnonzero(np.frombuffer(data, np.uint8)[start:] == 10) + start
    if 0 < vertices <= len(ends):
        cut = int(ends[vertices - 1])
        try:
            place = numbers(data[start:cut])
            corners = numbers(data[cut:], np.int64)
        except UnreadableShape:
            place = corners = np.zeros(0)
        if place.size == 3 * vertices and corners.size == 4 * faces:
            table = corners.reshape(-1, 4)
            if (table[:, 0] == 3).all():
                return Raw(place.reshape(-1, 3), table[:, 1:])
    return _read_off_by_lines(data[start:], kind, vertices, faces, limits)


def _read_off_by_lines(body: bytes, kind: str, vertices: int, faces: int, limits: Limits) -> Raw:
    """The rest of an OFF file with colours, polygons, blank lines, or no lines at all."""
    notes: list[str] = []
    lines = [line for line in body.split(b"\n") if line and not line.isspace()]
    promise = f"the header promises {vertices:,} vertices and {faces:,} faces"
    if len(lines) >= vertices + faces:
        values, begins, sizes = rows(lines[:vertices])
        if vertices and sizes.min() < 3:
            number = int(sizes.argmin())
            raise UnreadableShape(f"vertex {number} has {sizes[number]} coordinates")
        place = values[begins[:, None] + np.arange(3)]
        normals = None
        if "N" in kind and vertices and sizes.min() >= 6:
            normals = values[begins[:, None] + np.arange(3, 6)]
        values, begins, sizes = rows(lines[vertices : vertices + faces])
        if faces and sizes.min() < 1:
            raise UnreadableShape(f"face {int(sizes.argmin())} has no corners")
        corners = whole(values[begins], "count of corners")
        if (corners < 0).any() or (corners > sizes - 1).any():
            number = int(((corners < 0) | (corners > sizes - 1)).argmax())
            raise UnreadableShape(
                f"face {number} promises {corners[number]:,} corners and has {sizes[number] - 1:,} numbers"
            )
        if len(lines) > vertices + faces:
            notes.append(f"{len(lines) - vertices - faces:,} lines after the last face ignored")
        return Raw(place, fan(values, begins + 1, corners, limits, notes), normals, notes)
    values = numbers(b" ".join(lines))
    width = 3 + 3 * ("N" in kind) + 4 * ("C" in kind) + 2 * ("ST" in kind)
    if values.size < width * vertices + faces:
        raise UnreadableShape(f"truncated: {promise}, the file ends after {len(lines):,} lines")
    table = values[: width * vertices].reshape(-1, width)
    begins, corners = walk(values[width * vertices :], faces, f"truncated: {promise}, the file ends before")
    triangles = fan(values[width * vertices :], begins, corners, limits, notes)
    return Raw(table[:, :3], triangles, table[:, 3:6] if "N" in kind else None, notes)


# --- OBJ ------------------------------------------------------------------------------------------


def read_obj(data: bytes, limits: Limits) -> Raw:
    """Wavefront OBJ: v and f lines; polygons, v/vt/vn corners, negative indices. The rest is passed over."""
    data = newlines(data)
    if b"\\\n" in data or b"\\\r" in data:
        data = re.sub(rb"\\\r?\n", b" ", data)
    if not data.endswith(b"\n"):
        data += b"\n"
    letters = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(letters == 10)
    begins = np.concatenate([[0], ends[:-1] + 1])
    if np.isin(letters[begins], (32, 9)).any():
        return read_obj(re.sub(rb"(?m)^[ \t]+", b"", data), limits)
    follows = np.isin(letters[np.minimum(begins + 1, ends)], (32, 9, 13, 10))
    is_vertex = follows & (letters[begins] == ord("v"))
    is_face = follows & (letters[begins] == ord("f"))
    vertices, faces = int(is_vertex.sum()), int(is_face.sum())
    if not vertices:
        raise UnreadableShape("0 vertices: no line begins with 'v'")
    within(limits, vertices, faces)

    text = without_comments(chosen_lines(data, begins, ends, is_vertex))
    values, first, sizes = table_rows(text, b"v", vertices)
    if sizes.min() < 3:
        number = int(sizes.argmin())
        raise UnreadableShape(f"vertex {number + 1} has {sizes[number]} coordinates")
    regular = (sizes == sizes[0]).all()
    place = values.reshape(vertices, -1)[:, 1:4] if regular else values[first[:, None] + np.arange(3)]
    if not faces:
        raise UnreadableShape(f"0 faces ({vertices:,} vertices without a face)")

    text = without_comments(chosen_lines(data, begins, ends, is_face))
    if b"/" in text:
        text = re.sub(rb"/[^ \t\r\n]*", b"", text)
    corners, first, sizes = table_rows(text, b"f", faces, np.int64)
    corners = corners[spans(first, sizes)]
    first = np.cumsum(sizes) - sizes
    if (corners == 0).any():
        number = int(np.searchsorted(first, (corners == 0).argmax(), side="right"))
        raise UnreadableShape(f"face {number:,} names vertex 0; OBJ counts from 1")
    if corners.size and corners.min() < 0:
        # Relative to the vertices above the face's line.
        above = np.searchsorted(np.flatnonzero(is_vertex), np.flatnonzero(is_face))
        corners = np.where(corners < 0, corners + np.repeat(above, sizes), corners - 1)
    else:
        corners -= 1
    notes: list[str] = []
    return Raw(place, fan(corners, first, sizes, limits, notes), notes=notes)


# --- PLY ------------------------------------------------------------------------------------------

PLY_TYPES = dict(
    zip(
        ("char", "uchar", "short", "ushort", "int", "uint", "float", "double")
        + ("int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"),
        ("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8") * 2,
        strict=True,
    )
)


@dataclass
class Element:
    """An element of a PLY header; a property is (name, type, type of its length or None for one value)."""

    name: str
    count: int
    properties: list[tuple[str, str, str | None]] = field(default_factory=list)


def read_ply(data: bytes, limits: Limits) -> Raw:
    """PLY, ascii and binary: a mesh, or a cloud where no element holds faces."""
    order, elements, start = _ply_header(data)
    names = [element.name for element in elements]
    if "vertex" not in names:
        raise UnreadableShape("the PLY header has no element 'vertex'")
    if "tristrips" in names and "face" not in names:
        raise UnreadableShape("triangle strips in PLY are not read")
    for element in elements:
        if element.name in ("vertex", "face"):
            kind = "vertices" if element.name == "vertex" else "faces"
            within(limits, *((element.count, 0) if kind == "vertices" else (0, element.count)))
    read = _ply_text if order == "ascii" else _ply_binary
    return read(data, start, elements, order, limits)


def _ply_header(data: bytes) -> tuple[str, list[Element], int]:
    if not re.match(rb"ply\s", data):
        raise UnreadableShape("does not begin with 'ply'")
    end = re.compile(rb"^[ \t]*end_header[ \t]*\r?(?:\n|$)", re.MULTILINE).search(data, 0, 1 << 20)
    if not end:
        raise UnreadableShape("truncated: the PLY header has no end")
    order, elements = "", list[Element]()
    for line in data[: end.start()].decode("latin-1").splitlines():
        words = line.split()
        try:
            match words:
                case ["format", "ascii", *_]:
                    order = "ascii"
                case ["format", "binary_little_endian", *_]:
                    order = "<"
                case ["format", "binary_big_endian", *_]:
                    order = ">"
                case ["element", name, count]:
                    elements.append(Element(name, int(count)))
                    if int(count) < 0:
                        raise ValueError
                case ["property", "list", length, type_, name]:
                    elements[-1].properties.append((name, PLY_TYPES[type_], PLY_TYPES[length]))
                    if PLY_TYPES[length][0] == "f":
                        raise ValueError
                case ["property", type_, name]:
                    elements[-1].properties.append((name, PLY_TYPES[type_], None))
                case ["element" | "property" | "format", *_]:
                    raise ValueError
        except (ValueError, KeyError, IndexError):
            raise UnreadableShape(f"a line of the PLY header makes no sense: {line.strip()[:60]!r}") from None
    if not order:
        raise UnreadableShape("the PLY header names no format that is known")
    return order, elements, end.end()


def _ply_vertices(columns: dict[str, NDArray[Any]]) -> Raw:
    if not {"x", "y", "z"} <= columns.keys():
        raise UnreadableShape("the vertices of the PLY header have no x, y and z")
    place = np.stack([columns[axis] for axis in "xyz"], axis=1).astype(np.float64)
    normals = None
    if {"nx", "ny", "nz"} <= columns.keys():
        normals = np.stack([columns[axis] for axis in ("nx", "ny", "nz")], axis=1).astype(np.float64)
    return Raw(place, normals=normals, is_cloud=True)


def _corner_list(element: Element) -> int:
    """Which property of the faces holds their corners."""
    for index, (name, type_, length) in enumerate(element.properties):
        if length and name in ("vertex_indices", "vertex_index") and type_[0] != "f":
            return index
    raise UnreadableShape("the faces of the PLY header have no list 'vertex_indices'")


def _ply_binary(data: bytes, start: int, elements: list[Element], order: str, limits: Limits) -> Raw:
    raw: Raw | None = None
    for element in elements:
        if element.name == "face" and element.count:
            if raw is None:
                raise UnreadableShape("the faces come before the vertices")
            start, triangles = _ply_binary_faces(data, start, element, order, limits, raw.notes)
            raw = Raw(raw.vertices, triangles, raw.normals, raw.notes)
        elif any(length for _, _, length in element.properties):
            if element.name == "vertex":
                raise UnreadableShape("vertices with lists in PLY are not read")
            start, _ = _ply_walk(data, start, element, order, -1)
        else:
            fields = [(f"{i}", order + type_) for i, (_, type_, _) in enumerate(element.properties)]
            kind = np.dtype(fields)
            size = kind.itemsize * element.count
            promised(size, len(data) - start, f"{element.count:,} of element '{element.name}'")
            if element.name == "vertex" and raw is None:
                table = np.frombuffer(data[start : start + size], kind)
                raw = _ply_vertices({p[0]: table[f"{i}"] for i, p in enumerate(element.properties)})
            start += size
    assert raw is not None
    return raw


def _ply_binary_faces(
    data: bytes, start: int, element: Element, order: str, limits: Limits, notes: list[str]
) -> tuple[int, NDArray[Any]]:
    which = _corner_list(element)
    type_ = element.properties[which][1]
    # Most files have lists of one length throughout, which numpy reads in one go.
    first = Element(element.name, 1, element.properties)
    _, (begin, _) = _ply_walk(data, start, first, order, which)
    fields: list[Any] = []
    place = start
    for i, (_, each, length) in enumerate(element.properties):
        if length is None:
            fields.append((f"{i}", order + each))
            place += int(each[1])
        else:
            count = int.from_bytes(data[place : place + int(length[1])], _endian(order))
            fields += [(f"n{i}", order + length), (f"{i}", order + each, (count,))]
            place += int(length[1]) + count * int(each[1])
    kind = np.dtype(fields)
    if kind.itemsize * element.count <= len(data) - start:
        table = np.frombuffer(data, kind, element.count, start)
        lists = [f"n{i}" for i, (_, _, length) in enumerate(element.properties) if length]
        if all((table[name] == table[name][0]).all() for name in lists):
            corners = table[f"{which}"]
            end = start + kind.itemsize * element.count
            if corners.shape[1] == 3:
                return end, corners.astype(np.int64)
            sizes = np.full(element.count, corners.shape[1])
            begins = np.arange(element.count) * corners.shape[1]
            return end, fan(corners.astype(np.int64).ravel(), begins, sizes, limits, notes)
    end, (begin, sizes) = _ply_walk(data, start, element, order, which)
    width = int(type_[1])
    letters = np.frombuffer(data, np.uint8)
    packed = letters[spans(begin, sizes * width)]
    corners = packed.view(order + type_).astype(np.int64)
    return end, fan(corners, np.cumsum(sizes) - sizes, sizes, limits, notes)


def _ply_walk(
    data: bytes, start: int, element: Element, order: str, which: int
) -> tuple[int, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """End of an element with lists; where the list `which` of each row begins, and its length."""
    endian = _endian(order)
    steps = [(int(type_[1]), int(length[1]) if length else 0) for _, type_, length in element.properties]
    least = sum(counter or width for width, counter in steps)
    promised(least * element.count, len(data) - start, f"{element.count:,} of element '{element.name}'")
    begins = np.zeros(element.count, np.int64)
    sizes = np.zeros(element.count, np.int64)
    place, total = start, len(data)
    for row in range(element.count):
        for index, (width, counter) in enumerate(steps):
            if counter:
                count = int.from_bytes(data[place : place + counter], endian)
                place += counter
                if index == which:
                    begins[row], sizes[row] = place, count
                place += count * width
            else:
                place += width
        if place > total:
            raise UnreadableShape(
                f"truncated: the header promises {element.count:,} of element '{element.name}', "
                f"the file ends in number {row + 1:,}"
            )
    return place, (begins, sizes)


def _endian(order: str) -> Any:
    return "little" if order == "<" else "big"


def _ply_text(data: bytes, start: int, elements: list[Element], order: str, limits: Limits) -> Raw:
    body = newlines(data[start:])
    least = sum(2 * element.count * max(1, len(element.properties)) for element in elements) - 1
    promised(least, len(body), " and ".join(f"{e.count:,} of element '{e.name}'" for e in elements))
    raw: Raw | None = None
    rest = body
    values = np.zeros(0)  # what is left, where the elements do not keep to lines
    by_lines = True
    for element in elements:
        if (
            element.name not in ("vertex", "face")
            and raw is not None
            and "face" not in [e.name for e in elements[elements.index(element) :]]
        ):
            break
        lists = any(length for _, _, length in element.properties)
        width = len(element.properties)
        if by_lines:
            text, after = take_lines(rest, element.count)
            try:
                part = numbers(text, np.int64) if lists else numbers(text)
            except UnreadableShape:
                part = numbers(text)
            if not lists and part.size != width * element.count:
                by_lines, values = False, numbers(rest)
            else:
                rest = after
        if not by_lines:
            part = values
        if not lists:
            if part.size < width * element.count:
                raise UnreadableShape(
                    f"truncated: the header promises {element.count:,} of element '{element.name}', "
                    f"there are {part.size // max(width, 1):,}"
                )
            if element.name == "vertex" and raw is None:
                table = part[: width * element.count].reshape(element.count, width)
                raw = _ply_vertices({p[0]: table[:, i] for i, p in enumerate(element.properties)})
            used = width * element.count
        elif element.name == "vertex":
            raise UnreadableShape("vertices with lists in PLY are not read")
        elif width != 1:
            used, begins, sizes = _ply_text_walk(part, element)
        else:
            promise = f"truncated: the header promises {element.count:,} faces, the file ends before"
            begins, sizes = walk(part, element.count, promise)
            used = int(sizes.sum()) + element.count
        if lists and element.name == "face" and element.count:
            if raw is None:
                raise UnreadableShape("the faces come before the vertices")
            _corner_list(element)
            raw = Raw(raw.vertices, fan(part, begins, sizes, limits, raw.notes), raw.normals, raw.notes)
        if not by_lines:
            values = values[used:]
    assert raw is not None
    return raw


def _ply_text_walk(
    values: NDArray[Any], element: Element
) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
    """Numbers used; where each face's corners begin among them, and how many: faces of more than a list."""
    which = _corner_list(element) if element.name == "face" else -1
    begins = np.zeros(element.count, np.int64)
    sizes = np.zeros(element.count, np.int64)
    place = 0
    for row in range(element.count):
        for index, (_, _, length) in enumerate(element.properties):
            if place >= values.size:
                raise UnreadableShape(
                    f"truncated: the header promises {element.count:,} of element '{element.name}', "
                    f"the file ends in number {row + 1:,}"
                )
            if length:
                count = int(values[place]) if 0 <= values[place] <= values.size else values.size
                if index == which:
                    begins[row], sizes[row] = place + 1, count
                place += count
            place += 1
    if place > values.size:
        raise UnreadableShape(f"truncated: the last of element '{element.name}' is not whole")
    return place, begins, sizes


# --- STL ------------------------------------------------------------------------------------------

STL_TRIANGLE = np.dtype([("normal", "<f4", (3,)), ("corners", "<f4", (3, 3)), ("colour", "<u2")])
STL_BETWEEN = re.compile(rb"end\s*loop.*?outer\s+loop", re.DOTALL)
STL_NAME = re.compile(
    rb"solid[^\r\n]*?(?=[\r\n]|(?<=\s)facet\s+(?:normal\s+(?:[-+.\d]|nan|inf)|outer\s+loop\s+vertex)|\Z)"
)
"""With the name: all to the end of the line, or to the first facet where that is on the same line."""


def read_stl(data: bytes, limits: Limits) -> Raw:
    """STL, binary and ascii. Every triangle has its own three vertices, as in the file."""
    triangles = int.from_bytes(data[80:84], "little")
    if len(data) < 84 or len(data) != 84 + 50 * triangles:
        head = data[:1024].lower()
        if head.lstrip().startswith(b"solid") and (b"facet" in head or b"endsolid" in head or len(data) < 84):
            return _stl_text(data, limits)
    if len(data) < 84:
        raise UnreadableShape(f"truncated: {len(data)} bytes, an STL header takes 84")
    within(limits, 0, triangles)
    promised(50 * triangles, len(data) - 84, f"{triangles:,} triangles")
    if not triangles:
        raise UnreadableShape("0 faces: the header promises 0 triangles")
    table = np.frombuffer(data, STL_TRIANGLE, triangles, 84)
    notes = []
    if len(data) > 84 + 50 * triangles:
        notes.append(f"{len(data) - 84 - 50 * triangles:,} bytes after the last triangle ignored")
    corners = table["corners"].astype(np.float64).reshape(-1, 3)
    return Raw(corners, np.arange(3 * triangles, dtype=np.int64).reshape(-1, 3), notes=notes)


def _stl_text(data: bytes, limits: Limits) -> Raw:
    data = STL_NAME.sub(b"solid", data.lower())  # a name may hold any word
    first = re.search(rb"outer\s+loop", data)
    last = data.rfind(b"endloop")
    if not first:
        raise UnreadableShape("0 faces: no facet between solid and endsolid")
    if last < first.end():
        raise UnreadableShape("truncated: no facet of the ascii STL is complete")
    within(limits, 0, data.count(b"endloop"))
    text = STL_BETWEEN.sub(b" ", data[first.end() : last])
    corners = text.count(b"vertex")
    values = numbers(text.replace(b"vertex", b" "))
    if corners % 3 or values.size != 3 * corners:
        raise UnreadableShape(f"{corners:,} corners and {values.size:,} coordinates do not make triangles")
    notes = []
    if data.find(b"endsolid", last) < 0:
        notes.append("ends without endsolid: perhaps not all of it is here")
    return Raw(values.reshape(-1, 3), np.arange(corners, dtype=np.int64).reshape(-1, 3), notes=notes)


DECIMAL_COMMA = re.compile(
    rb"[-+]?\d+,\d+(?:\s+[-+]?\d+(?:,\d+)?){2,}\s*"
    rb"|(?=.*\d,\d)[-+]?\d+(?:,\d+)?(?:\s*;\s*[-+]?\d+(?:,\d+)?){2,}[\s;]*"
)
"""A line such as 0,5 1,5 2,5 or 0,5;1,5;2,5."""

MOST_COLUMNS = 16
"""Numbers a point may have where there are fewer points than that; more are taken for a table that lies on its side."""

# --- clouds ---------------------------------------------------------------------------------------


def read_points(data: bytes, limits: Limits) -> Raw:
    """XYZ and PTS: a point a line, x y z, normals where columns 4 to 6 are unit. A count may come first."""
    text = without_comments(newlines(data))
    if b"//" in text:
        text = re.sub(rb"//[^\n]*", b"", text)
    if DECIMAL_COMMA.fullmatch(text.lstrip().partition(b"\n")[0].strip()):
        raise UnreadableShape("its numbers have commas as decimal points; write 0.5, not 0,5")
    if b"," in text or b";" in text:
        text = text.translate(bytes.maketrans(b",;", b"  "))
    notes: list[str] = []
    head, _, tail = text.lstrip().partition(b"\n")
    words = head.split()
    count = int(words[0][:20]) if len(words) == 1 and words[0].isdigit() else 0
    if count:
        within(limits, count, 0)
        promised(count * 6 - 1, len(tail), f"{count:,} points")
        text = tail
    elif tail and re.fullmatch(rb"(?i)\W*x\W+y\W+z\b.*", head.strip()):
        notes.append("a line of column names left out")
        text = tail
    text = b"\n" + text.strip()
    if re.search(rb"\n\s*\n", text):
        text = re.sub(rb"\n\s*\n", b"\n", text)
    lines = text.count(b"\n")
    if text == b"\n":
        raise UnreadableShape("0 points")
    within(limits, lines, 0)
    if lines < count:
        raise UnreadableShape(f"truncated: the header promises {count:,} points, {lines:,} are there")
    values, _, sizes = table_rows(text, b"", lines)
    if count and lines > count:
        notes.append(f"the header promises {count:,} points, {lines:,} are there")
    if sizes.min() != sizes.max():
        number = int((sizes != sizes[0]).argmax())
        raise UnreadableShape(f"point 1 has {sizes[0]} numbers and point {number + 1:,} has {sizes[number]}")
    return _columns(values.reshape(lines, -1)[:, 1:], notes)


def _columns(table: NDArray[Any], notes: list[str]) -> Raw:
    """A table with a point a row: x y z, then unit normals where columns 4 to 6 are such."""
    if table.shape[1] > MOST_COLUMNS and table.shape[1] > len(table):
        raise UnreadableShape(
            f"{len(table):,} rows of {table.shape[1]:,} numbers; a point a row is needed, x y z first (transposed?)"
        )
    if table.shape[1] < 3:
        raise UnreadableShape(f"{table.shape[1]} numbers a point; x, y and z are needed")
    normals = None
    if table.shape[1] >= 6:
        length = np.linalg.norm(table[:, 3:6].astype(np.float64), axis=1)
        if np.mean(np.abs(length - 1) < 0.02) > 0.99:
            normals = table[:, 3:6].astype(np.float64)
    return Raw(table[:, :3].astype(np.float64), normals=normals, notes=notes, is_cloud=True)


def read_npy(data: bytes, limits: Limits) -> Raw:
    """NPY: (N, 3) or more columns, of any number type; columns 4 to 6 are normals where they are unit."""
    table = _npy_array(data)
    if table.ndim != 2 or table.shape[1] < 3:
        raise UnreadableShape(f"an array of shape {table.shape}; (points, 3) is needed")
    within(limits, len(table), 0)
    if not len(table):
        raise UnreadableShape("0 points")
    return _columns(table, [])


def _npy_array(data: bytes) -> NDArray[Any]:
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
    except ValueError:
        raise UnreadableShape("does not begin as an NPY file") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # headers that Python 2 wrote
            if version == (1, 0):
                shape, fortran, kind = np.lib.format.read_array_header_1_0(stream)
            elif version == (2, 0):
                shape, fortran, kind = np.lib.format.read_array_header_2_0(stream)
            else:
                raise UnreadableShape(f"NPY version {version[0]}.{version[1]} is not read")
    except UnreadableShape:
        raise
    except Exception:  # the header is Python source for numpy, which can be wrong in many ways
        raise UnreadableShape("the NPY header makes no sense") from None
    if kind.hasobject:
        raise UnreadableShape("holds Python objects (a pickle), which are never opened")
    if kind.kind not in "fiu":
        raise UnreadableShape(f"numbers of type {kind}; real numbers are needed")
    count = 1
    for length in shape:
        count *= length
    if count < 0 or any(length < 0 for length in shape):
        raise UnreadableShape("the NPY header makes no sense")
    promised(count * kind.itemsize, len(data) - stream.tell(), f"an array of shape {shape}")
    flat = np.frombuffer(data, kind, count, stream.tell()) if count else np.zeros(0, kind)
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def read_npz(data: bytes, limits: Limits) -> Raw:
    """NPZ: 'points' (N, 3) with or without 'normals', or 'vertices' and 'faces', or one array of points."""
    archive = Archive(data, limits)
    arrays = {name[:-4]: name for name in archive.names if name.endswith(".npy")}

    def array(*names: str) -> NDArray[Any] | None:
        found = next((name for name in names if name in arrays), None)
        return None if found is None else _npy_array(archive.read(arrays[found]))

    faces = array("faces", "triangles")
    points = array("vertices") if faces is not None else array("points", "xyz", "pos", "vertices", "arr_0")
    if points is None and len(arrays) == 1:
        points = array(*arrays)
    if points is None:
        have = ", ".join(sorted(arrays)[:8]) or "none"
        raise UnreadableShape(f"no array 'points' or 'vertices' with 'faces' (arrays: {have[:120]})")
    if points.ndim != 2 or points.shape[1] < 3:
        raise UnreadableShape(f"an array of shape {points.shape}; (points, 3) is needed")
    if faces is None:
        within(limits, len(points), 0)
        if not len(points):
            raise UnreadableShape("0 points")
        raw = _columns(points, [])
        normals = array("normals")
        if normals is not None and normals.shape == raw.vertices.shape:
            raw.normals = normals.astype(np.float64)
        return raw
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu":
        raise UnreadableShape(
            f"'faces' is {faces.dtype} of shape {faces.shape}; whole numbers (faces, 3) are needed"
        )
    within(limits, len(points), len(faces))
    return Raw(points[:, :3].astype(np.float64), faces.astype(np.int64))


class Archive:
    """A zip whose promised and true sizes stay within the limits. Raises UnreadableShape."""

    def __init__(self, data: bytes, limits: Limits) -> None:
        try:
            self.zip = zipfile.ZipFile(io.BytesIO(data))
            entries = self.zip.infolist()
        except Exception:
            raise UnreadableShape("a broken or truncated zip archive") from None
        if len(entries) > 10_000:
            raise UnreadableShape(f"an archive of {len(entries):,} files")
        total = sum(entry.file_size for entry in entries)
        if total > limits.max_bytes:
            raise UnreadableShape(
                f"unpacks to {size_text(total)}; the limit is {size_text(limits.max_bytes)} (--max-bytes)"
            )
        if total > 200 * max(len(data), 1 << 16):
            raise UnreadableShape(
                f"an archive bomb: {size_text(len(data))} unpack to {size_text(total)}, over 200 times more"
            )
        self.names = [entry.filename for entry in entries]

    def read(self, name: str) -> bytes:
        """One file of the archive, never more than the archive says it is."""
        try:
            entry = self.zip.getinfo(name)
            with self.zip.open(entry) as stream:
                content = stream.read(entry.file_size + 1)
        except (KeyError, RuntimeError, NotImplementedError, OSError, EOFError, ValueError) as error:
            raise UnreadableShape(f"cannot unpack {name[:80]!r} ({_words(error)})") from None
        except Exception as error:  # zlib.error, BadZipFile, lzma and bz2 errors
            raise UnreadableShape(f"cannot unpack {name[:80]!r} ({_words(error)})") from None
        if len(content) != entry.file_size:
            raise UnreadableShape(f"cannot unpack {name[:80]!r}: it is not as long as the archive says")
        return content


def _words(error: BaseException) -> str:
    return (str(error) or type(error).__name__)[:120]


# --- parts of readers -----------------------------------------------------------------------------


def within(limits: Limits, vertices: int, faces: int) -> None:
    """Raises UnreadableShape where the counts exceed the limits."""
    if faces > limits.max_faces:
        raise UnreadableShape(f"{faces:,} faces; the limit is {limits.max_faces:,} (--max-faces)")
    if vertices > limits.max_vertices:
        raise UnreadableShape(f"{vertices:,} vertices; the limit is {limits.max_vertices:,}")
    if vertices < 0 or faces < 0:
        raise UnreadableShape(f"the header promises {vertices:,} vertices and {faces:,} faces")


def promised(least: int, have: int, what: str) -> None:
    """Raises UnreadableShape where so many bytes cannot hold what a header promises."""
    if least > have:
        raise UnreadableShape(
            f"truncated: the header promises {what}, at least {size_text(least)}; "
            f"{size_text(max(have, 0))} are there"
        )


def size_text(count: int) -> str:
    """A number of bytes a person can read: 980 bytes, 12 KB, 3.2 GB."""
    if count < 10_000:
        return f"{count:,} bytes"
    for unit, step in (("KB", 1e3), ("MB", 1e6), ("GB", 1e9)):
        if count < 1000 * step:
            return f"{count / step:.3g} {unit}"
    return f"{count / 1e12:,.3g} TB"


def newlines(data: bytes) -> bytes:
    """The same text with lines that end in a newline, also where they ended in a carriage return alone."""
    if data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
    return data if b"\n" in data or b"\r" not in data else data.replace(b"\r", b"\n")


def without_comments(text: bytes) -> bytes:
    """The text without what follows a # on its line."""
    return re.sub(rb"#[^\n]*", b"", text) if b"#" in text else text


def numbers(text: bytes, kind: Any = np.float64) -> NDArray[Any]:
    """All numbers of a text between blanks. Raises UnreadableShape with the first word that is none."""
    if not text or text.isspace():
        return np.zeros(0, kind)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)
            return np.fromstring(text, dtype=kind, sep=" ")
    except (ValueError, DeprecationWarning):
        for word in text.split():
            try:
                kind(word)
            except (ValueError, OverflowError):
                shown = word[:24].decode("utf-8", "replace")
                raise UnreadableShape(f"{shown!r} stands where a number belongs") from None
        raise UnreadableShape("a number that cannot be read") from None


def rows(lines: list[bytes]) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """The numbers of some lines, where each line's begin, and how many there are on it."""
    sizes = np.fromiter((len(line.split()) for line in lines), np.int64, len(lines))
    values = numbers(b" ".join(lines))
    if values.size != sizes.sum():
        raise UnreadableShape("a number that cannot be read")
    return values, np.cumsum(sizes) - sizes, sizes


def table_rows(
    text: bytes, letter: bytes, count: int, kind: Any = np.float64
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """As `rows`, for `count` lines that each follow a newline and begin with `letter`; much faster.

    A mark stands before the numbers of every line, so that one call can parse them all.
    """
    mark = np.nan if kind is np.float64 else np.iinfo(np.int64).min
    word = b" nan " if kind is np.float64 else b" %d " % mark
    values = numbers(text.replace(b"\n" + letter, word), kind)
    marks = np.flatnonzero(np.isnan(values) if kind is np.float64 else values == mark)
    if len(marks) != count:  # the mark is in the file itself: count word by word
        lines = text.split(b"\n" + letter)[1:]
        sizes = np.fromiter((len(line.split()) for line in lines), np.int64, len(lines))
        marks = np.cumsum(sizes + 1) - sizes - 1
        if values.size != sizes.sum() + len(lines):
            raise UnreadableShape("a number that cannot be read")
    sizes = np.diff(marks, append=values.size) - 1
    return values, marks + 1, sizes


def take_lines(text: bytes, count: int) -> tuple[bytes, bytes]:
    """The first `count` lines of a text, and the rest."""
    ends = np.flatnonzero(np.frombuffer(text, np.uint8) == 10)
    cut = 0 if count == 0 else int(ends[count - 1]) + 1 if count <= len(ends) else len(text)
    return text[:cut], text[cut:]


def chosen_lines(
    data: bytes, begins: NDArray[np.int64], ends: NDArray[np.int64], chosen: NDArray[np.bool_]
) -> bytes:
    """The chosen lines of a text, each after a newline; copied in runs, which are few in most files."""
    change = np.diff(chosen.view(np.int8), prepend=np.int8(0), append=np.int8(0))
    first, last = np.flatnonzero(change == 1), np.flatnonzero(change == -1) - 1
    runs = zip(begins[first].tolist(), ends[last].tolist(), strict=True)
    return b"\n" + b"\n".join([data[begin:end] for begin, end in runs])


def whole(values: NDArray[Any], what: str) -> NDArray[np.int64]:
    """Numbers as int64. Raises UnreadableShape where one is not whole."""
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    bad = ~(np.abs(values) < 2**53) | (values != np.trunc(values))
    if bad.any():
        raise UnreadableShape(f"{values[bad.argmax()]:g} as {what}; a whole number is needed")
    return values.astype(np.int64)


def walk(values: NDArray[Any], count: int, promise: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each of `count` lists begins in (length, item, ..., length, item, ...), and their lengths."""
    if not count:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    if values.size < count:
        raise UnreadableShape(f"{promise} number {values.size + 1:,}")
    step = int(values[0]) + 1 if 0 <= values[0] <= values.size else 0
    if step and step * count <= values.size and (values[: step * count : step] == values[0]).all():
        return np.arange(count) * step + 1, np.full(count, step - 1)
    begins = np.zeros(count, np.int64)
    sizes = np.zeros(count, np.int64)
    look: Any = memoryview(np.ascontiguousarray(values).data)  # a number of it costs less than of an array
    place, total = 0, values.size
    for row in range(count):
        if place >= total:
            raise UnreadableShape(f"{promise} number {row + 1:,}")
        length = look[place]
        if not (0 <= length <= total) or length != int(length):
            raise UnreadableShape(f"face {row} promises {length:,.10g} corners")
        begins[row], sizes[row] = place + 1, int(length)
        place += int(length) + 1
    if place > total:
        raise UnreadableShape(f"{promise} the end of number {count:,}")
    return begins, sizes


def spans(begins: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """begin, begin + 1, ... of every span, one after the other."""
    return np.repeat(begins - (np.cumsum(sizes) - sizes), sizes) + np.arange(int(sizes.sum()))


def fan(
    values: NDArray[Any],
    begins: NDArray[np.int64],
    sizes: NDArray[np.int64],
    limits: Limits,
    notes: list[str],
) -> NDArray[np.int64]:
    """Polygons, each a span of indices in `values` -> triangles (F, 3), a fan around each first corner."""
    if values.dtype.kind == "i" and values.size == 3 * len(sizes) and (sizes == 3).all():
        return values.reshape(-1, 3)
    short = sizes < 3
    if short.any():
        notes.append(f"{int(short.sum()):,} faces of fewer than 3 corners removed")
        begins, sizes = begins[~short], sizes[~short]
    count = int((sizes - 2).sum())
    within(limits, 0, count)
    triangles = np.empty((count, 3), np.int64)
    inner = spans(begins + 1, sizes - 2)
    triangles[:, 0] = whole(values[np.repeat(begins, sizes - 2)], "index")
    triangles[:, 1] = whole(values[inner], "index")
    triangles[:, 2] = whole(values[inner + 1], "index")
    return triangles
