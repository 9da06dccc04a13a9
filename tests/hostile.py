"""Files that mean harm, made by code: a folder full of them, and for each the words its reason must hold.

write_corpus(folder) -> list of Case(path, expected), expected being a regular expression for the reason, or
None for a file that is odd but must load. Nothing here is large on disk.
"""

from __future__ import annotations

import base64
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import step
from PIL import Image

CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float64)
FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], dtype=np.int64)


@dataclass(frozen=True)
class Case:
    """A file, and what its reason must match; None where it must load."""

    path: Path
    expected: str | None


# --- sound files, from which the others are made ----------------------------------------------------


def off(magic: str = "OFF\n", corners: Any = CORNERS, faces: Any = FACES, counts: str = "") -> bytes:
    lines = [counts or f"{len(corners)} {len(faces)} 0"]
    lines += [" ".join(str(float(x)) for x in row) for row in corners]
    lines += [" ".join(map(str, (len(row), *row))) for row in faces]
    return (magic + "\n".join(lines) + "\n").encode()


def obj(corners: Any = CORNERS, faces: Any = FACES + 1, head: str = "") -> bytes:
    lines = [head] + ["v " + " ".join(str(float(x)) for x in row) for row in corners]
    lines += ["f " + " ".join(map(str, row)) for row in faces]
    return ("\n".join(lines) + "\n").encode()


def ply(order: str = "ascii", corners: Any = CORNERS, faces: Any = FACES, promised: Any = None) -> bytes:
    """order: ascii, binary_little_endian or binary_big_endian; promised: (vertices, faces) in the header."""
    count, count_faces = promised or (len(corners), len(faces))
    head = f"ply\nformat {order} 1.0\ncomment made by code\nelement vertex {count}\n"
    head += "".join(f"property float {axis}\n" for axis in "xyz")
    head += f"element face {count_faces}\nproperty list uchar int vertex_indices\nend_header\n"
    if order == "ascii":
        lines = [" ".join(str(float(x)) for x in row) for row in corners]
        lines += [" ".join(map(str, (len(row), *row))) for row in faces]
        return (head + "\n".join(lines) + "\n").encode()
    sign = "<" if "little" in order else ">"
    body = np.asarray(corners).astype(f"{sign}f4").tobytes()
    for row in faces:
        body += bytes([len(row)]) + np.asarray(row).astype(f"{sign}i4").tobytes()
    return head.encode() + body


def stl(triangles: Any = None, promised: int | None = None) -> bytes:
    table = CORNERS[FACES] if triangles is None else np.asarray(triangles)
    head = b"made by code".ljust(80, b"\0") + struct.pack("<I", len(table) if promised is None else promised)
    body = b"".join(bytes(12) + np.asarray(t, "<f4").tobytes() + bytes(2) for t in table)
    return head + body


def stl_text(triangles: Any = None) -> bytes:
    table = CORNERS[FACES] if triangles is None else np.asarray(triangles)
    lines = ["solid made"]
    for triangle in table:
        lines += ["  facet normal 0 0 1", "    outer loop"]
        lines += [f"      vertex {a} {b} {c}" for a, b, c in triangle]
        lines += ["    endloop", "  endfacet"]
    return "\n".join([*lines, "endsolid made", ""]).encode()


def gltf(change: Callable[[dict[str, Any]], object] | None = None, packed: bytes | None = None) -> bytes:
    """A tetrahedron as .gltf with its buffer inside; `change` may edit the document."""
    content = packed or CORNERS.astype("<f4").tobytes() + FACES.astype("<u2").tobytes()
    document: dict[str, Any] = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3"},
            {"bufferView": 1, "componentType": 5123, "count": 12, "type": "SCALAR"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": 48},
            {"buffer": 0, "byteOffset": 48, "byteLength": 24},
        ],
        "buffers": [
            {
                "byteLength": len(content),
                "uri": "data:application/octet-stream;base64," + base64.b64encode(content).decode(),
            }
        ],
    }
    if change:
        change(document)
    return json.dumps(document).encode()


def glb(change: Callable[[dict[str, Any]], object] | None = None) -> bytes:
    content = CORNERS.astype("<f4").tobytes() + FACES.astype("<u2").tobytes()

    def inside(document: dict[str, Any]) -> None:
        del document["buffers"][0]["uri"]
        if change:
            change(document)

    text = gltf(inside)
    text += b" " * (-len(text) % 4)
    total = 12 + 8 + len(text) + 8 + len(content)
    return b"".join(
        [
            b"glTF" + struct.pack("<II", 2, total),
            struct.pack("<I", len(text)) + b"JSON" + text,
            struct.pack("<I", len(content)) + b"BIN\0" + content,
        ]
    )


RELS = (
    '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Target="/3D/3dmodel.model" Id="r" '
    'Type="http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"/></Relationships>'
)
MESH_3MF = (
    "<mesh><vertices>"
    + "".join(f'<vertex x="{x}" y="{y}" z="{z}"/>' for x, y, z in CORNERS)
    + "</vertices><triangles>"
    + "".join(f'<triangle v1="{a}" v2="{b}" v3="{c}"/>' for a, b, c in FACES)
    + "</triangles></mesh>"
)
OBJECT_3MF = f'<object id="1" type="model">{MESH_3MF}</object>'
ITEM_3MF = '<item objectid="1"/>'


def model_3mf(objects: str = OBJECT_3MF, items: str = ITEM_3MF, head: str = "") -> str:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>{head}'
        '<model unit="millimeter" xmlns="http://schemas.microsoft.com/3dmanufacturing/core/2015/02" '
        'xmlns:p="http://schemas.microsoft.com/3dmanufacturing/production/2015/06">'
        f"<resources>{objects}</resources><build>{items}</build></model>"
    )


def threemf(
    model: str | bytes | None = None, rels: str = RELS, more: dict[str, bytes] | None = None
) -> bytes:
    return archive(
        {
            "_rels/.rels": rels.encode(),
            "3D/3dmodel.model": model_3mf() if model is None else model,
            **(more or {}),
        }
    )


def archive(files: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return stream.getvalue()


def npy(table: Any = CORNERS) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.asarray(table), allow_pickle=True)
    return stream.getvalue()


def npy_header(text: str, body: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    head = text.encode("latin-1")
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(head)) + head + body


def npz(**tables: Any) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **tables)
    return stream.getvalue()


def xyz(points: Any = CORNERS) -> bytes:
    return "".join(" ".join(map(str, row)) + "\n" for row in np.asarray(points).tolist()).encode()


SOUND: dict[str, Callable[[], bytes]] = {
    "sound.off": off,
    "glued.off": lambda: off("OFF"),
    "sound.obj": obj,
    "sound.ply": ply,
    "little.ply": lambda: ply("binary_little_endian"),
    "big.ply": lambda: ply("binary_big_endian"),
    "sound.stl": stl,
    "text.stl": stl_text,
    "sound.gltf": gltf,
    "sound.glb": glb,
    "sound.3mf": threemf,
    "sound.npy": npy,
    "mesh.npz": lambda: npz(vertices=CORNERS, faces=FACES),
    "cloud.npz": lambda: npz(points=CORNERS),
    "sound.xyz": xyz,
    "sound.pts": lambda: b"4\n" + xyz(),
}
"""One sound file of every format and dialect."""


# --- what is wrong with them ------------------------------------------------------------------------

NOT_FINITE = "0 faces after removing 4 with coordinates that are not finite"
TRUNCATED = (
    "truncated|cut off|0 points|0 faces|0 vertices|empty file|broken|does not begin|no counts|names vertex|number|"
    "has [0-2] coord|NPY header"
)


def spoiled() -> dict[str, tuple[bytes, str | None]]:
    """File name -> content, expected reason."""
    cases: dict[str, tuple[bytes, str | None]] = {}

    def add(name: str, content: bytes | str, expected: str | None) -> None:
        assert name not in cases, f"two files are called {name}"
        cases[name] = (content.encode() if isinstance(content, str) else content, expected)

    for name, make in SOUND.items():
        stem, _, suffix = name.partition(".")
        whole = make()
        add(name, whole, None)
        # Text without a count can be cut at a line and still be whole; what is left must load or say why not.
        lenient = suffix in ("xyz", "pts", "obj") or stem == "text"
        for part in (1, 4, 11, 30, 47, 60, 75, 90, 97):
            cut = whole[: len(whole) * part // 100]
            add(f"cut_{stem}_{part:02d}.{suffix}", cut, "LOADS OR: " + TRUNCATED if lenient else TRUNCATED)
        add(f"zeros_{stem}.{suffix}", bytes(300), ".")
        add(f"noise_{stem}.{suffix}", np.random.Generator(np.random.PCG64(len(name))).bytes(400), ".")
        add(f"pickle_{stem}.{suffix}", pickle.dumps({"a": [1, 2]}), "a Python pickle, which is never opened")
    for suffix in ("off", "obj", "ply", "stl", "gltf", "glb", "3mf", "npy", "npz", "xyz", "pts"):
        add(f"empty.{suffix}", b"", r"^empty file \(0 bytes\)$")
        for kind in ("PNG", "JPEG", "GIF"):
            stream = io.BytesIO()
            Image.new("L", (3, 3)).save(stream, kind)
            if kind == "PNG" or suffix in ("obj", "stl", "xyz"):
                expected = f"^a {kind} picture, not {suffix.upper()}$"
                add(f"picture_{kind.lower()}.{suffix}", stream.getvalue(), expected)
        if suffix not in ("3mf", "npz"):
            add(f"archive.{suffix}", archive({"a": b"b"}), "a zip archive")
        add(f"web.{suffix}", "<!DOCTYPE html><html>404</html>", "a web page")
        add(f"lfs.{suffix}", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer")

    nan, inf = np.full_like(CORNERS, np.nan), np.full_like(CORNERS, np.inf)
    huge, tiny, one = CORNERS * 1e308, CORNERS * 1e-200, CORNERS * 0 + 2.5
    flat = FACES[:, [0, 0, 1]]
    large = r"coordinates up to 1e\+308; the largest that make sense are 1e\+30"
    for name, make in {"off": off, "obj": obj, "ply": lambda corners: ply("ascii", corners)}.items():
        add(f"nan.{name}", make(corners=nan), NOT_FINITE)
        add(f"inf.{name}", make(corners=inf), NOT_FINITE)
        add(f"huge.{name}", make(corners=huge), large)
        add(f"tiny.{name}", make(corners=tiny), "an extent of 1e-200; the smallest that makes sense is 1e-30")
        add(f"one_place.{name}", make(corners=one), "^no extent: 4 points at one place$")
        some = CORNERS.copy()
        some[3] = np.nan
        add(f"some_nan.{name}", make(corners=some), None)
    add("flat.off", off(faces=flat), "^0 faces after removing 4 of zero area$")
    add("flat.obj", obj(faces=flat + 1), "^0 faces after removing 4 of zero area$")
    add("nan.stl", stl(nan[FACES]), NOT_FINITE)
    add("nan_text.stl", stl_text(nan[FACES]), NOT_FINITE)
    add("huge.stl", stl(CORNERS[FACES] * 3e38), r"coordinates up to 3e\+38")
    add("flat.stl", stl(one[FACES]), "^no extent: 12 points at one place$")
    for name, make_cloud in {"npy": npy, "xyz": xyz, "pts": xyz}.items():
        add(
            f"nan.{name}", make_cloud(nan), "^0 points after removing 4 with coordinates that are not finite$"
        )
        add(f"huge.{name}", make_cloud(huge), large)
        add(f"one_place.{name}", make_cloud(one), "^no extent: 4 points at one place$")
        add(f"single.{name}", make_cloud(CORNERS[:1]), "^no extent: 1 point at one place$")

    # OFF
    billions = "4000000000 4000000000 0"
    add("billions.off", off(counts=billions), r"^4,000,000,000 faces; the limit is [\d,]+ \(--max-faces\)$")
    add("millions.off", off(counts="9000000 9000000 0"), "truncated: the header promises 9,000,000 vertices")
    add("negative.off", off(counts="-4 4 0"), "the header promises -4 vertices and 4 faces")
    add("more_faces.off", off(counts="4 9 0"), "^truncated: the header promises 4 vertices and 9 faces")
    add("fewer_faces.off", off(counts="4 2 0"), None)
    add(
        "fewer_vertices.off",
        off(counts="2 6 0"),
        "face 0 promises 0 corners|names vertex|whole number|corners",
    )
    add("no_counts.off", "OFF\n", "no counts of vertices and faces after OFF")
    add("words.off", "OFF\n3 1 0\n0 0 0\n1 0 zero\n0 1 0\n3 0 1 2\n", "'zero' stands where a number belongs")
    add("index.off", off(faces=FACES + 1), "^face 2 of 4 names vertex 5 of 4$")
    add("negative_index.off", off(faces=FACES - 1), "names vertex 0 of 4")
    add(
        "fraction.off",
        "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1.5 2\n",
        "1.5 as index; a whole number is needed",
    )
    add(
        "corners.off",
        "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n900 0 1 2\n",
        "promises 900 corners and has 3 numbers",
    )
    add("binary.off", "OFF BINARY\n\0\0\0\4", "^binary OFF is not read")
    add("four.off", "4OFF\n1 1 0\n", "does not begin with OFF|4OFF is not read")
    add("no_faces.off", "OFF\n4 0 0\n" + off().decode().split("\n", 2)[2], "^0 faces")
    add("lines_of_two.off", "OFF\n3 1 0\n0.0 0\n1.0 0\n0.0 1\n3 0 1 2\n", "vertex 0 has 2 coordinates")
    add("pairs.off", off(faces=FACES[:, :2]), r"^0 faces \(4 faces of fewer than 3 corners removed\)$")
    add("colours.off", "COFF\n3 1 0\n0 0 0 1 1 1 1\n1 0 0 1 1 1 1\n0 1 0 1 1 1 1\n3 0 1 2 0.5 0.5 1\n", None)
    add("one_line.off", off().replace(b"\n", b" "), "no counts|truncated")

    # OBJ
    add("index.obj", obj(faces=FACES + 7), "^face 1 of 4 names vertex 7 of 4$")
    add("zero.obj", obj(faces=FACES), "^face 1 names vertex 0; OBJ counts from 1$")
    add("far_back.obj", obj(faces=-FACES - 9), "names vertex -?[0-9]+ of 4")
    add(
        "int64.obj",
        obj() + b"f 1 2 99999999999999999999999\n",
        "names vertex 9,223,372,036,854,775,807 of 4|broken",
    )
    add("least.obj", obj() + b"f 1 2 -9223372036854775808\n", "names vertex")
    add("letters.obj", obj() + b"f one two three\n", "'one' stands where a number belongs")
    add("short.obj", obj() + b"v 1 2\n", "^vertex 5 has 2 coordinates$")
    add("vertices.obj", obj(faces=[]), r"^0 faces \(4 vertices without a face\)$")
    add("comment.obj", "# nothing here\n" * 50, "0 vertices: no line begins with 'v'")
    add("mtllib.obj", obj(head="mtllib ../../../../etc/passwd\nmtllib /etc/passwd\nusemtl a"), None)
    add("slashes.obj", obj() + b"f 1/ 2// 3/4/5\nf ///// 1 2\n", None)
    add("many_corners.obj", obj() + b"f " + b"1 " * 30000 + b"\n", None)
    add("control.obj", obj() + b"\x00\x1b[2Jf \x07\n", None)
    add("bad_number.obj", obj() + b"v 1.2.3 4 5\n", "'1.2.3' stands where a number belongs")
    add("long_line.obj", b"v " + b"9" * 200000, "^vertex 1 has 1 coordinates$")

    # PLY
    for order in ("ascii", "binary_little_endian", "binary_big_endian"):
        add(
            f"billions_{order}.ply",
            ply(order, promised=(4, 4 * 10**9)),
            r"^4,000,000,000 faces; the limit is",
        )
        add(
            f"more_{order}.ply",
            ply(order, promised=(4, 400)),
            "^truncated: the header promises .*400 of element 'face'",
        )
        add(
            f"vertices_{order}.ply",
            ply(order, promised=(900000, 4)),
            "^truncated: the header promises 900,000",
        )
        add(f"index_{order}.ply", ply(order, faces=FACES + 5), "^face 1 of 4 names vertex 6 of 4$")
        add(f"negative_{order}.ply", ply(order, faces=-FACES - 1), "^face 1 of 4 names vertex")
    add("no_end.ply", "ply\nformat ascii 1.0\n" + "comment\n" * 99, "the PLY header has no end")
    add("no_vertex.ply", "ply\nformat ascii 1.0\nend_header\n", "has no element 'vertex'")
    add("no_xyz.ply", ply().replace(b"float z", b"float w"), "have no x, y and z")
    add("no_list.ply", ply().replace(b"vertex_indices", b"something"), "have no list 'vertex_indices'")
    add("type.ply", ply().replace(b"float x", b"quux x"), "makes no sense: 'property quux x'")
    add("count.ply", ply().replace(b"vertex 4", b"vertex four"), "makes no sense: 'element vertex four'")
    add("minus.ply", ply().replace(b"vertex 4", b"vertex -4"), "makes no sense: 'element vertex -4'")
    add("format.ply", ply().replace(b"ascii", b"klingon"), "makes no sense|names no format")
    add("no_element.ply", "ply\nformat ascii 1.0\nproperty float x\nend_header\n", "makes no sense")
    add(
        "faces_first.ply",
        "ply\nformat ascii 1.0\nelement face 1\nproperty list uchar int vertex_indices\n"
        "element vertex 1\nproperty float x\nproperty float y\nproperty float z\nend_header\n3 0 0 0\n0 0 0\n",
        "the faces come before the vertices",
    )
    add("no_points.ply", ply(corners=CORNERS[:0], faces=[]), "^0 points$|^0 faces")
    add(
        "void.ply",
        "ply\nformat binary_little_endian 1.0\nelement void 4000000000\nelement vertex 0\n"
        "property float x\nproperty float y\nproperty float z\nend_header\n",
        "0 points",
    )
    add("list_bomb.ply", ply("binary_little_endian")[:-13] + b"\xff" + bytes(12), "truncated")
    add("cloud.ply", ply(faces=[]), None)

    # STL
    add(
        "billions.stl",
        stl(promised=4_000_000_000),
        r"^4,000,000,000 faces; the limit is [\d,]+ \(--max-faces\)$",
    )
    add(
        "millions.stl",
        stl(promised=9_000_000),
        r"^truncated: the header promises 9,000,000 triangles, at least 450 MB; 200 bytes are there$",
    )
    add("none.stl", stl(triangles=[]), "^0 faces: the header promises 0 triangles$")
    add("solid.stl", "solid nothing\nendsolid nothing\n", "^0 faces: no facet between solid and endsolid$")
    add("words.stl", stl_text().replace(b"vertex 1", b"vertex one"), "'one.*' stands where a number belongs")
    add("five.stl", stl_text().replace(b"vertex", b"corner", 1), "stands where a number belongs|do not make")
    add(
        "loops.stl",
        "solid x\nfacet\nouter loop\nouter loop\nendloop\nendsolid",
        "stands where|do not make|0 faces",
    )
    add("trailing.stl", stl() + b"extra", None)
    add("short.stl", b"\x01" * 40, "^truncated: 40 bytes, an STL header takes 84$")

    # glTF and GLB
    def edit(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
        def change(document: dict[str, Any]) -> None:
            place: Any = document
            *way, last = [int(word) if word.isdigit() else word for word in path.split(".")]
            for word in way:
                place = place[word]
            if value is None:
                del place[last]
            else:
                place[last] = value

        return change

    circle = [{"mesh": 0, "children": [1]}, {"children": [0]}]
    chain = [{"children": [i + 1]} for i in range(3000)] + [{"mesh": 0}]
    for label, path, value, expected in (
        ("outside", "buffers.0.uri", "../../../../../etc/passwd", "which is outside its folder"),
        ("encoded", "buffers.0.uri", "%2e%2e/%2e%2e/secret.bin", "which is outside its folder"),
        ("absolute", "buffers.0.uri", "/etc/passwd", "which is no path inside its folder"),
        ("file_uri", "buffers.0.uri", "file:///etc/passwd", "nothing is fetched from anywhere"),
        ("http", "buffers.0.uri", "http://127.0.0.1:9/x.bin", "nothing is fetched from anywhere"),
        ("unc", "buffers.0.uri", "//host/share/x.bin", "nothing is fetched from anywhere"),
        ("backslash", "buffers.0.uri", "..\\x.bin", "which is no path inside its folder"),
        ("nul", "buffers.0.uri", "a\0b", "which is no path inside its folder"),
        ("missing", "buffers.0.uri", "missing.bin", "names 'missing.bin': No such file"),
        ("folder", "buffers.0.uri", "folder.obj", r"names 'folder.obj': not a file \(a folder\)|No such file"),
        ("link", "buffers.0.uri", "link_out.bin", "which is outside its folder"),
        ("base64", "buffers.0.uri", "data:;base64,!!!!", "the data of buffer 0 is not valid base64"),
        ("no_uri", "buffers.0.uri", None, "buffer 0 has no content"),
        ("number_uri", "buffers.0.uri", 7, "an address that is no text"),
        ("circle", "nodes", circle, "hangs below two nodes or below itself"),
        ("self", "nodes", [{"children": [0]}], "hangs below two nodes or below itself"),
        ("deep", "nodes", chain, "nodes lie more than 1,000 deep"),
        ("no_view", "accessors.0.bufferView", None, "^accessor 0 has no buffer$"),
        ("view", "accessors.0.bufferView", 99, "^bufferView 99 is named, there are 2$"),
        ("accessor", "meshes.0.primitives.0.indices", 99, "^accessor 99 is named, there are 2$"),
        ("mesh", "nodes.0.mesh", 5, "^mesh 5 is named, there are 1$"),
        ("node", "scenes.0.nodes", [7], "^node 7 is named, there are 1$"),
        ("scene", "scene", 3, "^scene 3 is named, there are 1$"),
        ("minus", "nodes.0.mesh", -1, "^mesh -1 is named, there are 1$"),
        ("text_index", "nodes.0.mesh", "0", "^mesh 0 is named, there are 1$"),
        ("count", "accessors.0.count", 5000, "^truncated: accessor 0 needs 60 KB of bufferView 0"),
        ("billions", "accessors.0.count", 4 * 10**9, "^4,000,000,000 vertices; the limit is"),
        ("fraction", "accessors.0.count", 3.5, "^accessor 0 promises 3.5 elements$"),
        ("negative", "accessors.0.count", -4, "^accessor 0 promises -4 elements$"),
        ("length", "bufferViews.0.byteLength", 10**15, "truncated: accessor 0 needs"),
        ("offset", "bufferViews.0.byteOffset", -8, "^bufferView 0 makes no sense$"),
        ("stride", "bufferViews.0.byteStride", 1, "^bufferView 0 makes no sense$"),
        ("type", "accessors.0.type", "VEC2", "^accessor 0 holds VEC2, 3 numbers are needed$"),
        ("component", "accessors.0.componentType", 1, "^accessor 0 holds 'VEC3' of 1$"),
        ("float_index", "meshes.0.primitives.0.indices", 0, "^accessor 0 holds VEC3, 1 numbers are needed$"),
        ("far_index", "accessors.0.count", 2, "^an index names vertex 4 of 2$"),
        ("version", "asset.version", "1.0", "glTF version '1.0'; only 2 is read"),
        ("draco", "extensionsRequired", ["KHR_draco_mesh_compression"], "compressed by KHR_draco"),
        ("nodes_object", "nodes", {}, "^'nodes' of the glTF is no list$"),
        ("matrix", "nodes.0.matrix", [1, 2], "makes no sense"),
        ("nan_matrix", "nodes.0.matrix", [float("nan")] * 16, NOT_FINITE),
        ("huge_scale", "nodes.0.scale", [1e300] * 3, r"coordinates up to 1e\+300"),
        ("zero_scale", "nodes.0.scale", [0, 0, 0], "^no extent: 4 points at one place$"),
        ("lines", "meshes.0.primitives.0.mode", 1, r"^0 faces \(1 parts of lines left out\)$"),
        ("empty_scene", "scenes.0.nodes", [], "^0 faces$"),
        ("primitives", "meshes.0.primitives", 4, "makes no sense"),
        ("sparse", "accessors.0.sparse", {"count": 9}, "replaces 9 of 4|makes no sense"),
    ):  # fmt: skip
        if label in ("no_uri",):
            add(f"{label}.gltf", gltf(edit(path, value)), expected)
            continue
        add(f"{label}.gltf", gltf(edit(path, value)), expected)
        if not path.startswith("buffers"):
            add(f"{label}.glb", glb(edit(path, value)), expected)
    many = {"nodes": [{"mesh": 0}] * 30000, "meshes": [{"primitives": [
        {"attributes": {"POSITION": 0}, "indices": 1}] * 1000}], "scenes": [{"nodes": list(range(30000))}]}  # fmt: skip
    add(
        "instances.gltf",
        gltf(lambda document: document.update(many)),
        "more than 1,000,000 instances of parts",
    )
    add("nested.gltf", "[" * 100000, "nested too deeply|its JSON is broken")
    add("nested.glb", b"glTF" + struct.pack("<II", 2, 90020) + struct.pack("<I", 90000) + b"JSON" + b"[" * 90000,
        "nested too deeply|its JSON is broken")  # fmt: skip
    add("list.gltf", "[1, 2]", "is JSON, but no glTF")
    add("latin.gltf", b'{"asset": "\xe9"}', "its JSON is broken")
    add("digits.gltf", '{"asset": ' + "9" * 9000 + "}", "its JSON is broken|makes no sense|is no object")
    add("version_1.glb", b"glTF" + struct.pack("<II", 1, 20) + bytes(8), "GLB version 1; only 2 is read")
    add("chunk.glb", b"glTF" + struct.pack("<II", 2, 28) + struct.pack("<I", 4 * 10**9) + b"JSON" + bytes(8),
        "truncated: the header promises a chunk b'JSON'")  # fmt: skip
    add("bin_first.glb", b"glTF" + struct.pack("<II", 2, 28) + struct.pack("<I", 8) + b"BIN\0" + bytes(8),
        "not JSON")  # fmt: skip

    # 3MF
    def objects(*texts: str) -> bytes:
        return threemf(model_3mf(OBJECT_3MF + "".join(texts), '<item objectid="2"/>'))

    def holder(number: int, *inner: int, attributes: str = "") -> str:
        parts = "".join(f'<component objectid="{i}" {attributes}/>' for i in inner)
        return f'<object id="{number}"><components>{parts}</components></object>'

    add("self.3mf", objects(holder(2, 2)), "^object 2 contains itself$")
    add("circle.3mf", objects(holder(2, 3), holder(3, 2)), "^object 2 contains itself$")
    doubling = [holder(i, *([i + 1] * 10)) for i in range(2, 12)] + [holder(12, 1)]
    add("doubling.3mf", objects(*doubling), r"^40,000,000,000 faces; the limit is")
    hollow = [holder(i, *([i + 1] * 10)) for i in range(2, 12)] + ['<object id="12"><mesh/></object>']
    add("hollow.3mf", objects(*hollow), "instances of objects; the limit is 1,000,000")
    add("deep.3mf", objects(*[holder(i, i + 1) for i in range(2, 400)], holder(400, 1)), "more than 200 deep")
    add("absent.3mf", objects(holder(2, 77)), "^object 77 is named and not there$")
    add("item.3mf", threemf(model_3mf(items='<item objectid="9"/>')), "^object 9 is named and not there$")
    add(
        "path.3mf",
        objects(holder(2, 1, attributes='p:path="/../../etc/passwd"')),
        "which is not in the archive",
    )
    add("transform.3mf", objects(holder(2, 1, attributes='transform="1 2 3"')), "a transform of 3 numbers")
    add("nan.3mf", objects(holder(2, 1, attributes=f'transform="{"nan " * 12}"')), NOT_FINITE)
    laughs = '<!DOCTYPE m [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    add("laughs.3mf", threemf(model_3mf(head=laughs)), "has a document type, which 3MF forbids")
    outside = '<!DOCTYPE m [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    add("entity.3mf", threemf(model_3mf(OBJECT_3MF.replace("<mesh>", "<mesh>&a;"), head=outside)),
        "has a document type, which 3MF forbids")  # fmt: skip
    add("doctype16.3mf", threemf(model_3mf(head=laughs).replace("UTF-8", "UTF-16").encode("utf-16")),
        "has a document type, which 3MF forbids")  # fmt: skip
    add("xml.3mf", threemf(model_3mf()[:-60]), "its XML is broken")
    add(
        "attribute.3mf",
        threemf(model_3mf(OBJECT_3MF.replace(' v3="1"', ""))),
        "its XML has no attribute 'v3'",
    )
    add(
        "number.3mf", threemf(model_3mf(OBJECT_3MF.replace('x="1.0"', 'x="one"'))), "could not convert string"
    )
    add("index.3mf", threemf(model_3mf(OBJECT_3MF.replace('v3="1"', 'v3="99"'))), "names vertex 99 of 4")
    add("int64.3mf", threemf(model_3mf(OBJECT_3MF.replace('v3="1"', f'v3="{10**30}"'))), "its XML has")
    add("no_model.3mf", archive({"readme.txt": b"hello"}), "an archive without a 3D model in it")
    add("no_mesh.3mf", threemf(model_3mf("<object id='1'><mesh/></object>")), "^0 faces$")
    add("bomb.3mf", threemf(bytes(60_000_000)), "^an archive bomb: .* unpack to 60 MB, over 200 times more$")
    add("not_xml.3mf", threemf(b"\x00\x01\x02"), "its XML is broken")
    add("names.3mf", threemf(rels=RELS.replace("/3D/", "/../../")), None)
    add("traversal.3mf", threemf(more={"../../../../tmp/evil.model": b"<x/>"}), None)
    add("crowd.3mf", archive({f"{i}": b"" for i in range(10_001)}), "^an archive of 10,001 files$")
    stored = bytearray(threemf())
    where = stored.find(b"<?xml", stored.find(b"3D/3dmodel")) if b"<?xml" in stored else 120
    stored[where + 40 : where + 60] = bytes(20)
    add("damaged.3mf", bytes(stored), "cannot unpack|broken")
    lying = bytearray(threemf())
    place = lying.rfind(b"PK\x01\x02")
    lying[place + 24 : place + 28] = struct.pack("<I", 10)
    add("lying.3mf", bytes(lying), "cannot unpack|broken")

    # STEP
    nothing = "^OpenCASCADE finds no body in it: it is damaged, or holds lines alone$"
    ball, both = step.sphere(), step.two()
    for suffix in ("step", "stp"):
        add(f"cut.{suffix}", both[: len(both) // 2], "^cut off: it does not end with END-ISO-10303-21$")
        add(f"begun.{suffix}", both[:40], "^cut off: ")
        add(f"words.{suffix}", "a cube, please", "^no STEP file: it does not begin with ISO-10303-21$")
        add(f"stl.{suffix}", stl_text(), "^no STEP file: ")
        add(f"page.{suffix}", "<!doctype html><p>404", "a web page, not STE?P")
        add(f"zip.{suffix}", archive({"a.step": ball}), "a zip archive, not STE?P")
        add(f"zeros.{suffix}", bytes(4096), "^no STEP file: ")
        add(f"no_data.{suffix}", "ISO-10303-21;\nHEADER;\nENDSEC;\nEND-ISO-10303-21;\n", nothing)
        add(f"no_body.{suffix}", ball.replace(b"MANIFOLD_SOLID_BREP", b"MANIFOLD_SOLID_BRAP"), nothing)
        add(f"no_surface.{suffix}", ball.replace(b"SPHERICAL_SURFACE", b"SPHERICAL_NOTHING"), nothing)
        add(f"half.{suffix}", both.replace(b"SPHERICAL_SURFACE", b"SPHERICAL_NOTHING"), None)
        add(f"inside_out.{suffix}", step.sphere(-5.0), nothing)
        add(f"point.{suffix}", step.sphere(0.0), nothing)
        add(f"flat.{suffix}", step.box((0, 20, 30)), "LOADS OR: " + nothing)
        add(f"huge.{suffix}", step.sphere(1e10), "LOADS OR: " + nothing)
        add(f"tiny.{suffix}", step.sphere(1e-12), "LOADS OR: " + nothing + "|extent|below")
        add(f"dangling.{suffix}", ball.replace(b"CLOSED_SHELL('',(#", b"CLOSED_SHELL('',(#9"), nothing)
        add(f"mark.{suffix}", b"\xef\xbb\xbf" + ball, None)
        add(f"passwords.{suffix}", step.elsewhere("/etc/passwd", "assigned"), None)
        add(f"device.{suffix}", step.elsewhere("/dev/zero", "associated"), None)

    # NPY and NPZ
    add(
        "objects.npy",
        npy(np.array([{"a": 1}], dtype=object)),
        "holds Python objects .a pickle., which are never",
    )
    add("objects.npz", npz(points=np.array([[1, 2, {}]], dtype=object)), "holds Python objects .a pickle.")
    add("text.npy", npy(np.array([["a", "b", "c"]])), "numbers of type <U1; real numbers are needed")
    add("complex.npy", npy(CORNERS.astype(complex)), "numbers of type complex128; real numbers are needed")
    add("flat.npy", npy(np.arange(12.0)), r"^an array of shape \(12,\); \(points, 3\) is needed$")
    add("cube.npy", npy(np.zeros((3, 3, 3))), r"^an array of shape \(3, 3, 3\)")
    add("none.npy", npy(np.zeros((0, 3))), "^0 points$")
    shape = "{'descr': '<f8', 'fortran_order': False, 'shape': %s, }"
    add("billions.npy", npy_header(shape % "(4000000000000, 3)", bytes(96)),
        "^truncated: the header promises an array of shape .*, at least 96 TB; 96 bytes are there$")  # fmt: skip
    add("negative.npy", npy_header(shape % "(-4, 3)", bytes(96)), "NPY header makes no sense")
    add("code.npy", npy_header("__import__('os').system('true')", bytes(96)), "NPY header makes no sense")
    add("nested.npy", npy_header("(" * 3000, bytes(9)), "NPY header makes no sense")
    add(
        "version.npy",
        npy_header(shape % "(4, 3)", bytes(96), b"\x09\x00"),
        "NPY version 9.0 is not read|no sense",
    )
    add("bool.npy", npy(CORNERS > 0), "numbers of type bool; real numbers are needed")
    add(
        "names.npz",
        npz(a=CORNERS, b=CORNERS),
        r"no array 'points' or 'vertices' with 'faces' \(arrays: a, b\)",
    )
    add("index.npz", npz(vertices=CORNERS, faces=FACES + 9), "^face 1 of 4 names vertex 10 of 4$")
    add("float_faces.npz", npz(vertices=CORNERS, faces=FACES * 0.5), "whole numbers .faces, 3. are needed")
    add(
        "bomb.npz",
        npz(points=np.zeros((3_000_000, 3))),
        "^an archive bomb: .* unpack to 72 MB, over 200 times",
    )
    add("nothing.npz", archive({}), "no array 'points'")

    # clouds as text
    add("ragged.xyz", "1 2 3\n1 2 3 4\n", "^point 1 has 3 numbers and point 2 has 4$")
    add("pairs.xyz", "1 2\n3 4\n", "^2 numbers a point; x, y and z are needed$")
    add("molecule.xyz", "2\nwater\nO 0 0 0\nH 0 0 1\n", "stands where a number belongs")
    add("promise.pts", b"4000000\n" + xyz(), "^truncated: the header promises 4,000,000 points")
    add("billions.pts", b"4000000000\n" + xyz(), "^4,000,000,000 vertices; the limit is")
    add("blank.xyz", "\n \n\t\n", "^0 points$")
    add("comments.pts", "# one\n# two\n", "^0 points$")
    add(
        "decimal_comma.xyz",
        "1,5 2,5 3,5\n2,5 3,5 7,5\n",
        "^its numbers have commas as decimal points; write 0.5",
    )
    add("utf16.xyz", xyz().decode().encode("utf-16"), "stands where a number belongs")
    return cases


def write_corpus(folder: Path) -> list[Case]:
    """Write all hostile files into `folder` (made here) and something to steal beside it."""
    folder.mkdir(parents=True)
    secret = folder.parent / "secret.bin"
    secret.write_bytes(CORNERS.astype("<f4").tobytes() + FACES.astype("<u2").tobytes())
    (folder.parent / "secret.off").write_bytes(off())
    cases = []
    for name, (content, expected) in spoiled().items():
        path = folder / name
        path.write_bytes(content)
        cases.append(Case(path, expected))
    (folder / "link_out.bin").symlink_to(secret)
    for name in ("new\nline.off", "esc\x1b[31m.off", "\u202egnp.off", "名前.off", "a b;c'd\".off", "-rf.off"):
        (folder / name).write_bytes(off())
        cases.append(Case(folder / name, None))
    odd = Path(os.fsdecode(os.fsencode(folder) + b"/not_utf8_\xff.off"))
    odd.write_bytes(off())
    cases.append(Case(odd, None))
    os.mkfifo(folder / "fifo.obj")
    cases.append(Case(folder / "fifo.obj", r"^not a file \(a FIFO\)$"))
    (folder / "folder.obj").mkdir()
    cases.append(Case(folder / "folder.obj", r"^not a file \(a folder\)$"))
    (folder / "broken_link.off").symlink_to(folder / "nowhere.off")
    cases.append(Case(folder / "broken_link.off", "^No such file or directory$"))
    (folder / "loop.off").symlink_to(folder / "loop.off")
    cases.append(Case(folder / "loop.off", "^Too many levels of symbolic links$"))
    cases.append(Case(folder / "absent.off", "^No such file or directory$"))
    cases.append(Case(Path("/dev/zero"), r"^not a file \(a device\)$"))
    with open(folder / "sparse.stl", "wb") as file:
        file.truncate(5 << 30)
    cases.append(Case(folder / "sparse.stl", r"^5.37 GB; the limit is 1.07 GB \(--max-bytes\)$"))
    cases.append(Case(folder / "word.docx", "'.docx' is no suffix of a shape|No such file"))
    return cases
