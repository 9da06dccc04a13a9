"""Readers of scenes, merged with their transforms: glTF, GLB and 3MF.

Counts are added up over all instances before a single one is built; circles among nodes or components,
references out of range and compressed geometry are named. Pictures and materials are not looked at.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import urllib.parse
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from crosshape.errors import UnreadableShape
from crosshape.settings import Limits
from crosshape.shapes.formats import Archive, Raw, promised, size_text, within

# --- glTF -----------------------------------------------------------------------------------------

COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
POINTS, TRIANGLES, STRIP, FAN = 0, 4, 5, 6
COMPRESSED = ("KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_meshopt_compression")
DEEPEST = 1000
"""Nodes may lie so deep inside each other."""

INSTANCES = 1_000_000
"""A scene may use its meshes so many times."""


def read_gltf(data: bytes, limits: Limits, neighbour: Callable[[str], bytes]) -> Raw:
    """glTF 2.0 and GLB: triangles of the scene, points where it has none. Y up, as the standard says."""
    document, attached = _glb(data) if data.startswith(b"glTF") else (data, None)
    try:
        scene = json.loads(document)
    except (ValueError, UnicodeDecodeError):
        raise UnreadableShape("its JSON is broken or cut off") from None
    if not isinstance(scene, dict) or "asset" not in scene:
        raise UnreadableShape("is JSON, but no glTF (no 'asset')")
    version = str(_get(scene, "asset", dict).get("version", ""))
    if not version.startswith("2"):
        raise UnreadableShape(f"glTF version {version[:12]!r}; only 2 is read")
    compressed = [name for name in COMPRESSED if name in _get(scene, "extensionsRequired", list, [])]
    if compressed:
        raise UnreadableShape(f"its geometry is compressed by {compressed[0]}, which is not read")
    try:
        return Gltf(scene, attached, limits, neighbour).merged()
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        text = " ".join(str(error).split())[:80]
        raise UnreadableShape(f"a part of the glTF makes no sense ({type(error).__name__}: {text})") from None


def _glb(data: bytes) -> tuple[bytes, bytes | None]:
    """The JSON and the binary chunk of a GLB."""
    if len(data) < 20:
        raise UnreadableShape(f"truncated: {len(data)} bytes, a GLB header takes 20")
    version = int.from_bytes(data[4:8], "little")
    if version != 2:
        raise UnreadableShape(f"GLB version {version}; only 2 is read")
    promised(int.from_bytes(data[8:12], "little"), len(data), "a GLB")
    document, attached, place = None, None, 12
    while place + 8 <= len(data) and (document is None or attached is None):
        length, kind = int.from_bytes(data[place : place + 4], "little"), data[place + 4 : place + 8]
        promised(length, len(data) - place - 8, f"a chunk {kind!r}")
        part = data[place + 8 : place + 8 + length]
        if document is None:
            if kind != b"JSON":
                raise UnreadableShape(f"the first chunk of the GLB is {kind!r}, not JSON")
            document = part
        elif kind == b"BIN\0":
            attached = part
        place += 8 + length
    if document is None:
        raise UnreadableShape("truncated: no JSON chunk")
    return document, attached


@dataclass
class Gltf:
    """A glTF document and its buffers, opened when they are needed."""

    scene: dict[str, Any]
    attached: bytes | None
    limits: Limits
    neighbour: Callable[[str], bytes]
    buffers: dict[int, bytes] = field(default_factory=dict)
    arrays: dict[tuple[int, int], NDArray[Any]] = field(default_factory=dict)

    def merged(self) -> Raw:
        """All triangles of the scene in one mesh, or all its points in one cloud."""
        parts: list[tuple[NDArray[np.float64], dict[str, Any]]] = []
        meshes: dict[int, list[dict[str, Any]]] = {}
        for matrix, mesh in self.instances():
            if mesh not in meshes:
                meshes[mesh] = self.primitives(mesh)
            parts += [(matrix, part) for part in meshes[mesh]]
            if len(parts) > INSTANCES:
                raise UnreadableShape(f"more than {INSTANCES:,} instances of parts")
        modes = {mode: [(m, p) for m, p in parts if p.get("mode", TRIANGLES) == mode] for mode in range(7)}
        chosen = modes[TRIANGLES] + modes[STRIP] + modes[FAN]
        notes = []
        others = len(parts) - len(chosen) - len(modes[POINTS])
        if others:
            notes.append(f"{others:,} parts of lines left out")
        if not chosen and modes[POINTS]:
            chosen = modes[POINTS]
        elif modes[POINTS]:
            notes.append(f"{len(modes[POINTS]):,} parts of points left out")
        vertices = faces = 0
        for _, part in chosen:
            count = self.count(part["attributes"]["POSITION"])
            vertices += count
            corners = self.count(part["indices"]) if "indices" in part else count
            mode = part.get("mode", TRIANGLES)
            faces += 0 if mode == POINTS else corners // 3 if mode == TRIANGLES else max(corners - 2, 0)
            within(self.limits, vertices, faces)
        places, corner_lists, start = [np.zeros((0, 3))], [np.zeros((0, 3), np.int64)], 0
        for matrix, part in chosen:
            place = self.accessor(part["attributes"]["POSITION"], 3).astype(np.float64)
            places.append(place @ matrix[:3, :3].T + matrix[:3, 3])
            if part.get("mode", TRIANGLES) != POINTS:
                order = self.triangles(part, len(place)) + start
                mirrored = np.linalg.det(matrix[:3, :3]) < 0  # then the other side is the front, says glTF
                corner_lists.append(order[:, ::-1] if mirrored else order)
            start += len(place)
        is_cloud = bool(chosen) and chosen is modes[POINTS]
        return Raw(np.concatenate(places), np.concatenate(corner_lists), notes=notes, is_cloud=is_cloud)

    def instances(self) -> Iterator[tuple[NDArray[np.float64], int]]:
        """Every mesh of the scene with its matrix; of all root nodes where no scene is chosen."""
        nodes = _get(self.scene, "nodes", list, [])
        scenes = _get(self.scene, "scenes", list, [])
        if scenes:
            roots = _item(scenes, self.scene.get("scene", 0), "scene").get("nodes", [])
        else:
            children = {child for node in nodes for child in node.get("children", [])}
            roots = [index for index in range(len(nodes)) if index not in children]
        seen: set[int] = set()
        waiting = [(index, np.eye(4), 1) for index in reversed(roots)]
        if nodes and not waiting and not scenes:
            raise UnreadableShape("its nodes go round in a circle")
        while waiting:
            index, matrix, depth = waiting.pop()
            node = _item(nodes, index, "node")
            if index in seen:
                raise UnreadableShape(f"node {index} hangs below two nodes or below itself")
            if depth > DEEPEST:
                raise UnreadableShape(f"nodes lie more than {DEEPEST:,} deep inside each other")
            seen.add(index)
            matrix = matrix @ _matrix(node)
            if "mesh" in node:
                yield matrix, node["mesh"]
            waiting += [(child, matrix, depth + 1) for child in reversed(node.get("children", []))]

    def primitives(self, mesh: int) -> list[dict[str, Any]]:
        """The parts of a mesh that have positions."""
        parts = _item(_get(self.scene, "meshes", list, []), mesh, "mesh")["primitives"]
        for part in parts:
            compressed = [name for name in COMPRESSED if name in part.get("extensions", {})]
            if compressed:
                raise UnreadableShape(f"its geometry is compressed by {compressed[0]}, which is not read")
        return [part for part in parts if "POSITION" in part["attributes"]]

    def triangles(self, part: dict[str, Any], vertices: int) -> NDArray[np.int64]:
        """The triangles (F, 3) of a part, in its own vertices."""
        if "indices" in part:
            order = self.accessor(part["indices"], 1).ravel()
            if order.dtype.kind != "u":
                raise UnreadableShape(f"indices of type {order.dtype}; unsigned whole numbers are needed")
            order = order.astype(np.int64)
        else:
            order = np.arange(vertices)
        if order.size and order.max() >= vertices:
            raise UnreadableShape(f"an index names vertex {order.max() + 1:,} of {vertices:,}")
        mode = part.get("mode", TRIANGLES)
        if mode == TRIANGLES:
            return order[: len(order) // 3 * 3].reshape(-1, 3)
        if len(order) < 3:
            return np.zeros((0, 3), np.int64)
        if mode == FAN:
            return np.stack([np.full(len(order) - 2, order[0]), order[1:-1], order[2:]], axis=1)
        strip = np.stack([order[:-2], order[1:-1], order[2:]], axis=1)
        strip[1::2] = strip[1::2, ::-1]
        return strip

    def count(self, index: int) -> int:
        """How many elements an accessor promises."""
        count = _item(_get(self.scene, "accessors", list, []), index, "accessor")["count"]
        if type(count) is not int or count < 0:
            raise UnreadableShape(f"accessor {index} promises {count!r} elements")
        return count

    def accessor(self, index: int, width: int) -> NDArray[Any]:
        """The elements (count, width) of an accessor; normalised whole numbers become -1 to 1."""
        if (index, width) in self.arrays:
            return self.arrays[index, width]
        accessor = _item(_get(self.scene, "accessors", list, []), index, "accessor")
        count = self.count(index)
        within(self.limits, 0, count // 3)
        if accessor["componentType"] not in COMPONENTS or accessor["type"] not in WIDTHS:
            raise UnreadableShape(
                f"accessor {index} holds {accessor['type']!r} of {accessor['componentType']!r}"
            )
        kind = np.dtype(COMPONENTS[accessor["componentType"]])
        if WIDTHS[accessor["type"]] != width:
            raise UnreadableShape(f"accessor {index} holds {accessor['type']}, {width} numbers are needed")
        if "bufferView" in accessor:
            table = self.view(
                accessor["bufferView"], accessor.get("byteOffset", 0), kind, count, width, index
            )
        elif "sparse" in accessor:
            table = np.zeros((count, width), kind)
        else:
            raise UnreadableShape(f"accessor {index} has no buffer")
        if "sparse" in accessor:
            table = table.copy()
            few, at, to = (accessor["sparse"][key] for key in ("count", "indices", "values"))
            if type(few) is not int or not 0 <= few <= count:
                raise UnreadableShape(f"accessor {index} replaces {few!r} of {count:,} elements")
            where = self.view(
                *(at["bufferView"], at.get("byteOffset", 0), np.dtype(COMPONENTS[at["componentType"]])),
                *(few, 1, index),
            ).ravel()
            if where.dtype.kind != "u" or (where >= count).any():
                raise UnreadableShape(f"accessor {index} replaces elements it does not have")
            table[where] = self.view(to["bufferView"], to.get("byteOffset", 0), kind, few, width, index)
        if accessor.get("normalized") and kind.kind in "iu":
            table = np.maximum(table / np.iinfo(kind).max, -1.0)
        self.arrays[index, width] = table
        return table

    def view(
        self, index: int, offset: int, kind: np.dtype[Any], count: int, width: int, user: int
    ) -> NDArray[Any]:
        """Elements (count, width) in a buffer view. Raises UnreadableShape where they reach beyond it."""
        view = _item(_get(self.scene, "bufferViews", list, []), index, "bufferView")
        packed = self.buffer(view["buffer"])
        begin, length = view.get("byteOffset", 0), view["byteLength"]
        size = width * kind.itemsize
        stride = view.get("byteStride", size)
        if any(type(n) is not int or n < 0 for n in (begin, length, offset, stride)) or (
            stride < size and count > 1
        ):
            raise UnreadableShape(f"bufferView {index} makes no sense")
        need = offset + stride * (count - 1) + size if count else 0
        if begin + length > len(packed) or need > length:
            have = min(length, max(len(packed) - begin, 0))
            raise UnreadableShape(
                f"truncated: accessor {user} needs {size_text(need)} of bufferView {index}, "
                f"{size_text(have)} are there"
            )
        if not count:
            return np.zeros((0, width), kind)
        return np.ndarray((count, width), kind, packed, begin + offset, (stride, kind.itemsize))

    def buffer(self, index: int) -> bytes:
        """A buffer's bytes: the GLB's own, from a data URI, or from a file in the same folder."""
        if index not in self.buffers:
            buffer = _item(_get(self.scene, "buffers", list, []), index, "buffer")
            uri = buffer.get("uri")
            if uri is None:
                if self.attached is None or index != 0:
                    raise UnreadableShape(f"buffer {index} has no content")
                self.buffers[index] = self.attached
            elif not isinstance(uri, str):
                raise UnreadableShape(f"buffer {index} has an address that is no text")
            elif uri.startswith("data:"):
                head, _, text = uri.partition(",")
                try:
                    if not head.endswith(";base64"):
                        raise ValueError
                    self.buffers[index] = base64.b64decode(text, validate=True)
                except (ValueError, binascii.Error):
                    raise UnreadableShape(f"the data of buffer {index} is not valid base64") from None
            elif re.match(r"[A-Za-z][A-Za-z0-9+.-]*:|//", uri):
                raise UnreadableShape(f"names {uri[:80]!r}, and nothing is fetched from anywhere")
            else:
                self.buffers[index] = self.neighbour(urllib.parse.unquote(uri))
        return self.buffers[index]


def _get(owner: dict[str, Any], key: str, kind: type, default: Any = None) -> Any:
    value = owner.get(key, default)
    if not isinstance(value, kind):
        raise UnreadableShape(f"'{key}' of the glTF is no {'list' if kind is list else 'object'}")
    return value


def _item(items: list[Any], index: Any, what: str) -> Any:
    if type(index) is not int or not 0 <= index < len(items):
        raise UnreadableShape(f"{what} {str(index)[:20]} is named, there are {len(items):,}")
    if not isinstance(items[index], dict):
        raise UnreadableShape(f"{what} {index} is no object")
    return items[index]


def _matrix(node: dict[str, Any]) -> NDArray[np.float64]:
    """The 4 x 4 matrix of a node, given as such or as translation, rotation (x, y, z, w) and scale."""
    if "matrix" in node:
        return np.array(node["matrix"], dtype=np.float64).reshape(4, 4).T
    matrix = np.eye(4)
    x, y, z, w = (float(v) for v in node.get("rotation", (0, 0, 0, 1)))
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, :3] *= np.array(node.get("scale", (1, 1, 1)), dtype=np.float64).reshape(3)
    matrix[:3, 3] = np.array(node.get("translation", (0, 0, 0)), dtype=np.float64).reshape(3)
    return matrix


# --- 3MF ------------------------------------------------------------------------------------------


@dataclass
class Part:
    """An object of a 3MF model: its own mesh, or other objects as components (key, matrix (4, 3))."""

    vertices: array[float] = field(default_factory=lambda: array("d"))
    faces: array[int] = field(default_factory=lambda: array("q"))
    components: list[tuple[tuple[str, str], NDArray[np.float64]]] = field(default_factory=list)
    kind: str = "model"


def read_3mf(data: bytes, limits: Limits) -> Raw:
    """3MF: what is to be built, with components and transforms, also from other models of the archive."""
    archive = Archive(data, limits)
    models = [name for name in archive.names if name.lower().endswith(".model")]
    if not models:
        raise UnreadableShape("an archive without a 3D model in it")
    by_name = {f"/{name.lstrip('/')}".lower(): name for name in models}
    start = _start(archive, by_name)
    parts: dict[tuple[str, str], Part] = {}
    build: list[tuple[tuple[str, str], NDArray[np.float64]]] = []
    read: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name in read:
            continue
        if name not in by_name:
            raise UnreadableShape(f"names {name[:80]!r}, which is not in the archive")
        read.add(name)
        items = _model(archive.read(by_name[name]), name, parts, limits)
        if name == start:
            build = items
        waiting += [key[0] for key, _ in items if key[0] not in read]
        waiting += [key[0] for part in parts.values() for key, _ in part.components if key[0] not in read]
    if not build:
        build = [(key, _no_turn()) for key, part in parts.items() if key[0] == start and part.kind == "model"]
    return _merged(build, parts, limits)


def _start(archive: Archive, by_name: dict[str, str]) -> str:
    """The model file that the archive's relationships name, else 3D/3dmodel.model, else the first."""
    for name in archive.names:
        if name.lower() == "_rels/.rels":
            text = archive.read(name)
            for tag in re.findall(rb"<Relationship\b[^>]*>", text):
                target = re.search(rb'Target\s*=\s*["\']([^"\']*)', tag)
                if target and b"3dmodel" in tag.lower() and b"/3dmodel" in tag:
                    found = f"/{target[1].decode('utf-8', 'replace').lstrip('/')}".lower()
                    if found in by_name:
                        return found
    return "/3d/3dmodel.model" if "/3d/3dmodel.model" in by_name else next(iter(by_name))


def _model(
    text: bytes, name: str, parts: dict[tuple[str, str], Part], limits: Limits
) -> list[tuple[tuple[str, str], NDArray[np.float64]]]:
    """Read one model file into `parts`; returns its build items."""
    build: list[tuple[tuple[str, str], NDArray[np.float64]]] = []
    part = Part()

    def begin(tag: str, values: dict[str, str]) -> None:
        nonlocal part
        tag = tag.rpartition(":")[2]
        if tag == "vertex":
            part.vertices.extend((float(values["x"]), float(values["y"]), float(values["z"])))
            if len(part.vertices) > 3 * limits.max_vertices:
                within(limits, len(part.vertices) // 3, 0)
        elif tag == "triangle":
            part.faces.extend((int(values["v1"]), int(values["v2"]), int(values["v3"])))
            if len(part.faces) > 3 * limits.max_faces:
                within(limits, 0, len(part.faces) // 3)
        elif tag == "object":
            part = Part(kind=values.get("type", "model"))
            parts[name, values["id"]] = part
        elif tag in ("component", "item"):
            path = next((v for k, v in values.items() if k.rpartition(":")[2] == "path"), name)
            key = (f"/{path.lstrip('/')}".lower(), values["objectid"])
            (part.components if tag == "component" else build).append((key, _placed(values.get("transform"))))

    def refuse(*_: object) -> None:
        raise UnreadableShape("its XML has a document type, which 3MF forbids")

    parser = expat.ParserCreate()
    parser.StartElementHandler = begin
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise UnreadableShape(f"its XML is broken ({error})") from None
    except (KeyError, ValueError, OverflowError) as error:
        word = f"no attribute {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:80]
        raise UnreadableShape(f"its XML has {word} in line {parser.CurrentLineNumber:,}") from None
    return build


def _no_turn() -> NDArray[np.float64]:
    return np.eye(4, 3)


def _placed(text: str | None) -> NDArray[np.float64]:
    """A transform of 3MF: twelve numbers, the rows of a (4, 3) matrix that multiplies from the right."""
    if text is None:
        return _no_turn()
    values = [float(word) for word in text.split()]
    if len(values) != 12:
        raise ValueError(f"a transform of {len(values)} numbers")
    return np.array(values).reshape(4, 3)


def _merged(
    build: list[tuple[tuple[str, str], NDArray[np.float64]]],
    parts: dict[tuple[str, str], Part],
    limits: Limits,
) -> Raw:
    """One mesh of all that is built. Instances are counted before they are made."""
    size: dict[tuple[str, str], tuple[int, int, int]] = {}

    def measure(key: tuple[str, str], above: tuple[tuple[str, str], ...]) -> tuple[int, int, int]:
        """Vertices, faces and instances of an object with all its components."""
        if key in above:
            raise UnreadableShape(f"object {key[1][:20]} contains itself")
        if key not in parts:
            raise UnreadableShape(f"object {key[1][:20]} is named and not there")
        if len(above) > 200:
            raise UnreadableShape("objects lie more than 200 deep inside each other")
        if key not in size:
            part = parts[key]
            inner = [measure(child, (*above, key)) for child, _ in part.components]
            size[key] = (
                len(part.vertices) // 3 + sum(n[0] for n in inner),
                len(part.faces) // 3 + sum(n[1] for n in inner),
                1 + sum(n[2] for n in inner),
            )
        return size[key]

    total = [sum(counts) for counts in zip((0, 0, 0), *(measure(key, ()) for key, _ in build), strict=True)]
    within(limits, total[0], total[1])
    if total[2] > INSTANCES:
        raise UnreadableShape(f"{total[2]:,} instances of objects; the limit is {INSTANCES:,}")
    places, corners, start = [np.zeros((0, 3))], [np.zeros((0, 3), np.int64)], 0
    waiting = build[::-1]
    while waiting:
        key, matrix = waiting.pop()
        part = parts[key]
        if part.faces:
            place = np.array(part.vertices).reshape(-1, 3)
            order = np.array(part.faces).reshape(-1, 3)
            if order.min() < 0 or order.max() >= len(place):
                raise UnreadableShape(
                    f"a triangle of object {key[1][:20]} names vertex {order.max()} of {len(place):,}"
                )
            places.append(place @ matrix[:3] + matrix[3])
            corners.append(order + start)
            start += len(place)
        for child, inner in reversed(part.components):
            both = inner @ matrix[:3]
            both[3] += matrix[3]
            waiting.append((child, both))
    return Raw(np.concatenate(places), np.concatenate(corners))
