"""Finding and loading: every dialect of every format gives the same shape; limits, notes and texts are exact."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest

from crosshape import cli
from crosshape.errors import CrosshapeError, UnreadableShape, UsageError
from crosshape.settings import Limits, PrepareSettings
from crosshape.shapes.files import FORMATS, Found, find_shapes, load_shape
from crosshape.shapes.prepare import prepare_file
from crosshape.shapes.surface import normalise
from crosshape.shapes.views import render_mesh

AREA = 1.5 + np.sqrt(3) / 2
"""Of the tetrahedron in hostile.py."""


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def reason(path: Path, **changes: Any) -> str:
    with pytest.raises(UnreadableShape) as raised:
        load_shape(path, Limits(**changes))
    return raised.value.reason


@pytest.mark.parametrize("name", hostile.SOUND)
def test_every_format_gives_the_same_shape(name: str, tmp_path: Path) -> None:
    content = hostile.SOUND[name]()
    shape = load_shape(write(tmp_path / name, content), up="z")
    assert shape.vertices.dtype == np.float64 and shape.faces.dtype == np.int64
    assert {tuple(row) for row in shape.vertices} == {tuple(row) for row in hostile.CORNERS}
    assert shape.content_hash == hashlib.sha256(content).hexdigest()
    assert (shape.bytes, shape.format, shape.notes) == (len(content), name.split(".")[1], ())
    if FORMATS["." + shape.format] == "mesh" or "mesh" in name or shape.format in ("ply", "glb", "gltf"):
        assert len(shape.faces) == 4
        assert shape.area == pytest.approx(AREA)
        assert np.array_equal(shape.vertices[shape.faces], hostile.CORNERS[hostile.FACES])
    else:
        assert shape.is_cloud and shape.faces.shape == (0, 3)


SQUARE = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=float)
V4 = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"
OFF4 = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n"
PLY4 = "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
LIST = "property list uchar int vertex_index\n"
DIALECTS = {
    "quad.off": f"OFF\n4 1 0\n{OFF4}4 0 1 2 3\n",
    "glued.off": f"OFF4 2 0\n{OFF4}3 0 1 2\n3 0 2 3\n",
    "one_head.off": f"OFF 4 2 0\n{OFF4}3 0 1 2\n3 0 2 3",
    "two_counts.off": f"OFF\n4 2\n{OFF4}3 0 1 2\n3 0 2 3\n",
    "comments.off": f"# a\nOFF # b\n# c\n4 2 0 # d\n{OFF4.replace('1 1 0', '1 1 0 # e')}# f\n3 0 1 2\n\n3 0 2 3\n",
    "windows.off": f"OFF\n4 2 0\n{OFF4}3 0 1 2\n3 0 2 3\n".replace("\n", "\r\n"),
    "mac.off": f"OFF\n4 2 0\n{OFF4}3 0 1 2\n3 0 2 3\n".replace("\n", "\r"),
    "bom.off": f"\ufeffOFF\n4 2 0\n{OFF4}3 0 1 2\n3 0 2 3\n",
    "face_colours.off": f"OFF\n4 2 0\n{OFF4}3 0 1 2 255 0 0\n3 0 2 3 0.5 0.5 0.5 1\n",
    "some_colours.off": f"OFF\n4 2 0\n{OFF4}3 0 1 2\n3 0 2 3 9 9 9\n",
    "vertex_colours.off": f"COFF\n4 1 0\n{OFF4.replace(chr(10), ' 1 0 0 1' + chr(10))}4 0 1 2 3\n",
    "normals.off": f"NOFF\n4 1 0\n{OFF4.replace(chr(10), ' 0 0 1' + chr(10))}4 0 1 2 3\n",
    "no_lines.off": f"OFF\n4 2 0\n{OFF4.replace(chr(10), ' ')} 3 0 1 2 3 0 2 3",
    "wrapped.off": "OFF\n4 2 0\n0 0 0 1 0 0\n1 1 0 0 1 0\n3 0 1 2 3 0 2 3\n",
    "no_magic.off": f"4 2 0\n{OFF4}3 0 1 2\n3 0 2 3\n",
    "indented.off": "OFF\n 4 2 0\n"
    + "".join(f"  {line}\n" for line in f"{OFF4}3 0 1 2\n3 0 2 3".split("\n")),
    "quad.obj": f"{V4}f 1 2 3 4\n",
    "slashes.obj": f"{V4}vt 0 0\nvn 0 0 1\nf 1/1/1 2/1/1 3/1/1\nf 1//1 3//1 4//1\n",
    "textures.obj": f"mtllib a.mtl\no b\n{V4}vt 0 0\ng c\ns 1\nusemtl d\nf 1/1 2/1 3/1 4/1\n",
    "negative.obj": "v 0 0 0\nv 1 0 0\nv 1 1 0\nf -3 -2 -1\nv 0 1 0\nf 1 -2 -1\n",
    "continued.obj": f"{V4}f 1 2 \\\n3 4\n",
    "continued_windows.obj": f"{V4}f 1 2 \\\n3 4\n".replace("\n", "\r\n"),
    "indented.obj": f"{V4}f 1 2 3 4\n".replace("v", "\t v").replace("f", "  f"),
    "comments.obj": f"# v 9 9 9\n{V4.replace('1 1 0', '1 1 0 # f 1 2 3')}f 1 2 3 4 # f 9 9 9\n",
    "colours.obj": V4.replace("\n", " 0.5 0.5 0.5\n") + "f 1 2 3 4",
    "some_colours.obj": V4.replace("v 1 1 0", "v 1 1 0 1.0") + "f 1 2 3\nf 1 3 4",
    "tabs.obj": f"{V4}f 1 2 3 4\n".replace(" ", "\t"),
    "mixed.obj": f"{V4}v 9 9 9\nf 1 2 3\nl 1 2\nf 1 3 4\np 1\nf 1 2\n",
    "exponents.obj": "v 0e0 -0. .0\nv 1e0 0 0\nv +1 10e-1 0\nv 0 0.1e+1 0\nf 1 2 3 4\n",
    "quad.ply": f"{PLY4}element face 1\n{LIST}end_header\n{OFF4}4 0 1 2 3\n",
    "uint.ply": f"{PLY4}element face 2\n{LIST.replace('int', 'uint')}end_header\n{OFF4}3 0 1 2\n3 0 2 3\n",
    "mixed.ply": f"{PLY4}element face 3\n{LIST}end_header\n{OFF4}3 0 1 2\n3 0 2 3\n4 0 0 0 0\n",
    "colours.ply": f"{PLY4}property uchar red\nelement face 1\n{LIST}property uchar red\nend_header\n"
    f"{OFF4.replace(chr(10), ' 9' + chr(10))}4 0 1 2 3 9\n",
    "no_lines.ply": f"{PLY4}element face 1\n{LIST}end_header\n{OFF4}4 0 1 2 3\n".replace("0 0\n1", "0 0 1"),
    "windows.ply": f"{PLY4}element face 1\n{LIST}end_header\n{OFF4}4 0 1 2 3\n".replace("\n", "\r\n"),
    "camera.ply": f"{PLY4}element face 1\n{LIST}element camera 1\nproperty float a\nend_header\n"
    f"{OFF4}4 0 1 2 3\n7\n",
    "before.ply": f"ply\nformat ascii 1.0\nelement camera 1\nproperty float a\n{PLY4.split('1.0')[1][1:]}"
    f"element face 1\n{LIST}end_header\n7\n{OFF4}4 0 1 2 3\n",
}


@pytest.mark.parametrize("name", DIALECTS)
def test_dialects(name: str, tmp_path: Path) -> None:
    shape = load_shape(write(tmp_path / name, DIALECTS[name]))
    assert np.array_equal(shape.vertices, SQUARE)
    assert shape.faces.tolist() == [[0, 1, 2], [0, 2, 3]]


def ply_binary(order: str, faces: list[list[int]]) -> bytes:
    """A square with doubles, extra fields, and a second list in every face."""
    sign = "<" if "little" in order else ">"
    head = (
        f"ply\nformat {order} 1.0\nelement vertex 4\nproperty uchar red\nproperty double x\nproperty double y\n"
        f"property double z\nelement face {len(faces)}\nproperty float a\nproperty list uchar ushort vertex_indices\n"
        "property list ushort float texcoord\nelement edge 1\nproperty int v\nend_header\n"
    )
    body = b"".join(b"\x07" + row.astype(f"{sign}f8").tobytes() for row in SQUARE)
    for face in faces:
        body += bytes(4) + bytes([len(face)]) + np.array(face, f"{sign}u2").tobytes()
        body += np.array([2], f"{sign}u2").tobytes() + bytes(8)
    return head.encode() + body + bytes(4)


@pytest.mark.parametrize("order", ["binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize("faces", [[[0, 1, 2, 3]], [[0, 1, 2], [0, 2, 3]], [[0, 1, 2], [0, 2, 3], [0, 1]]])
def test_binary_ply_with_more_in_it(order: str, faces: list[list[int]], tmp_path: Path) -> None:
    shape = load_shape(write(tmp_path / "a.ply", ply_binary(order, faces)))
    assert np.array_equal(shape.vertices, SQUARE)
    assert shape.faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    assert shape.notes == (("1 faces of fewer than 3 corners removed",) if len(faces) == 3 else ())


@pytest.mark.parametrize("head", [b"solid says it is text", b"binary"])
def test_binary_stl_whatever_its_header_says(head: bytes, tmp_path: Path) -> None:
    content = head.ljust(80) + hostile.stl()[80:]
    assert load_shape(write(tmp_path / "a.stl", content)).area == pytest.approx(AREA)


def test_text_stl_in_capitals_and_of_several_solids(tmp_path: Path) -> None:
    text = hostile.stl_text()
    upper = load_shape(write(tmp_path / "a.stl", text.upper()))
    assert np.array_equal(upper.vertices, load_shape(write(tmp_path / "b.stl", text)).vertices)
    assert len(load_shape(write(tmp_path / "c.stl", text + text)).faces) == 8
    cut = load_shape(write(tmp_path / "d.stl", text[: text.rfind(b"facet normal")]))
    assert len(cut.faces) == 3
    assert cut.notes == ("ends without endsolid: perhaps not all of it is here",)


@pytest.mark.parametrize("change", [bytes.lower, bytes.upper, bytes.title], ids=["lower", "upper", "title"])
@pytest.mark.parametrize(
    "name",
    ["", "vertex_part", "Vertex 1 2 3", "outer loop", "my endloop", "solid endsolid", "facet normal to it"],
)
def test_text_stl_whatever_its_case_and_its_name(
    name: str, change: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    one = change(hostile.stl_text()).replace(change(b"made"), name.encode())
    for text, faces in ((one, 4), (one + one, 8), (one.replace(b"\n", b"\r"), 4)):
        shape = load_shape(write(tmp_path / "a.stl", text))
        assert len(shape.faces) == faces and shape.area == pytest.approx(faces / 4 * AREA)
        assert shape.notes == ()


def test_words_of_text_stl_may_be_written_each_in_its_own_way(tmp_path: Path) -> None:
    text = hostile.stl_text().replace(b"endloop", b"EndLoop").replace(b"vertex", b"Vertex", 5)
    assert load_shape(write(tmp_path / "a.stl", text)).area == pytest.approx(AREA)
    cut = load_shape(write(tmp_path / "b.stl", text[: text.rfind(b"endsolid")]))
    assert cut.notes == ("ends without endsolid: perhaps not all of it is here",)


@pytest.mark.parametrize("name", [b"", b"made", b"outer loop"])
def test_text_stl_on_one_line(name: bytes, tmp_path: Path) -> None:
    text = b" ".join(hostile.stl_text().replace(b"made", name).split())
    for content in (text, text.replace(b"facet normal 0 0 1 outer", b"facet outer")):
        assert len(load_shape(write(tmp_path / "a.stl", content)).faces) == 4


# --- clouds -----------------------------------------------------------------------------------------

UNIT = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0], [0.6, 0.8, 0]])


@pytest.mark.parametrize(
    "name", ["a.npy", "f.npy", "a.npz", "a.xyz", "a.pts", "a.ply", "comma.xyz", "names.xyz", "leica.pts"]
)
def test_clouds_with_normals(name: str, tmp_path: Path) -> None:
    both = np.hstack([hostile.CORNERS, UNIT])
    lines = hostile.xyz(both)
    properties = "".join(f"property float {axis}\n" for axis in ("x", "y", "z", "nx", "ny", "nz"))
    content = {
        "a.npy": hostile.npy(both),
        "f.npy": hostile.npy(np.asfortranarray(both.astype(np.float32))),
        "a.npz": hostile.npz(points=hostile.CORNERS, normals=UNIT),
        "a.xyz": lines,
        "a.pts": lines,
        "comma.xyz": lines.replace(b" ", b","),
        "names.xyz": b"//X Y Z Nx Ny Nz\n" + lines,
        "leica.pts": b"4\n" + lines,
        "a.ply": f"ply\nformat ascii 1.0\nelement vertex 4\n{properties}end_header\n".encode() + lines,
    }[name]
    shape = load_shape(write(tmp_path / name, content))
    assert shape.is_cloud and shape.area == 0
    assert np.allclose(shape.vertices, hostile.CORNERS)
    assert shape.normals is not None and np.allclose(shape.normals, UNIT, atol=1e-6)


def test_columns_that_are_no_normals_are_not_taken_for_such(tmp_path: Path) -> None:
    colours = np.hstack([hostile.CORNERS, np.full((4, 3), 128.0)])
    assert load_shape(write(tmp_path / "a.xyz", hostile.xyz(colours))).normals is None
    named = load_shape(write(tmp_path / "b.xyz", b"x,y,z\n" + hostile.xyz().replace(b" ", b",")))
    assert named.notes == ("a line of column names left out",) and len(named.vertices) == 4
    none = hostile.npz(points=hostile.CORNERS, normals=np.zeros((4, 3)))
    shape = load_shape(write(tmp_path / "c.npz", none))
    assert shape.normals is None
    assert shape.notes == ("the normals of the file are not all unit vectors and were left out",)


# --- scenes -----------------------------------------------------------------------------------------


def test_gltf_scenes_are_merged_with_their_transforms(tmp_path: Path) -> None:
    half = float(np.sqrt(0.5))

    def change(document: dict[str, Any]) -> None:
        document["scenes"] = [{"nodes": [3]}, {"nodes": [0, 1]}]
        document["scene"] = 1
        document["nodes"] = [
            {"mesh": 0, "translation": [10, 0, 0], "scale": [2, 2, 2]},
            {"children": [2], "rotation": [0, 0, half, half]},
            {"mesh": 0, "matrix": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 5, 1]},
            {"mesh": 0, "translation": [99, 99, 99]},
        ]

    shape = load_shape(write(tmp_path / "a.gltf", hostile.gltf(change)), up="z")
    turned = hostile.CORNERS @ np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    assert np.allclose(shape.vertices, np.vstack([hostile.CORNERS * 2 + [10, 0, 0], turned + [0, 0, 5]]))
    assert np.array_equal(shape.faces, np.vstack([hostile.FACES, hostile.FACES + 4]))


def test_a_mirrored_gltf_node_keeps_its_outside_outside(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["nodes"] = [{"mesh": 0}, {"mesh": 0, "scale": [-1, 1, 1]}]
        document["scenes"] = [{"nodes": [0, 1]}]

    shape = load_shape(write(tmp_path / "a.gltf", hostile.gltf(change)), up="z")
    corners = shape.vertices[shape.faces]
    volumes = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))
    assert np.allclose(volumes[4:].sum(), volumes[:4].sum()) and volumes.sum() != 0


@pytest.mark.parametrize(("mode", "expected"), [(5, [[0, 1, 2], [3, 2, 1]]), (6, [[0, 1, 2], [0, 2, 3]])])
def test_gltf_strips_and_fans(mode: int, expected: list[list[int]], tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["meshes"][0]["primitives"][0] = {"attributes": {"POSITION": 0}, "mode": mode}

    shape = load_shape(write(tmp_path / "a.gltf", hostile.gltf(change)))
    assert shape.faces.tolist() == expected


def test_gltf_points_sparse_and_normalised(tmp_path: Path) -> None:
    def points(document: dict[str, Any]) -> None:
        document["meshes"][0]["primitives"][0]["mode"] = 0

    assert load_shape(write(tmp_path / "a.gltf", hostile.gltf(points))).is_cloud

    packed = hostile.CORNERS.astype("<f4").tobytes() + hostile.FACES.astype("<u2").tobytes()
    packed += np.array([3], "<u4").tobytes() + np.array([0, 0, 7], "<f4").tobytes()

    def sparse(document: dict[str, Any]) -> None:
        document["bufferViews"] += [
            {"buffer": 0, "byteOffset": 72, "byteLength": 4},
            {"buffer": 0, "byteOffset": 76, "byteLength": 12},
        ]
        document["accessors"][0]["sparse"] = {
            "count": 1,
            "indices": {"bufferView": 2, "componentType": 5125},
            "values": {"bufferView": 3},
        }

    shape = load_shape(write(tmp_path / "b.gltf", hostile.gltf(sparse, packed)), up="z")
    assert shape.vertices.max() == 7

    small = (hostile.CORNERS * 127).astype("<i1")
    padded = np.hstack([small, np.zeros((4, 1), "<i1")]).tobytes() + hostile.FACES.astype("<u2").tobytes()

    def normalised(document: dict[str, Any]) -> None:
        document["accessors"][0] |= {"componentType": 5120, "normalized": True}
        document["bufferViews"] = [
            {"buffer": 0, "byteLength": 16, "byteStride": 4},
            {"buffer": 0, "byteOffset": 16, "byteLength": 24},
        ]

    shape = load_shape(write(tmp_path / "c.gltf", hostile.gltf(normalised, padded)), up="z")
    assert np.allclose(shape.vertices, hostile.CORNERS)


def test_gltf_buffers_beside_it_count_in_bytes_and_hash(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["buffers"][0]["uri"] = "data/b%20in.bin"

    path = write(tmp_path / "a.gltf", hostile.gltf(change))
    packed = hostile.CORNERS.astype("<f4").tobytes() + hostile.FACES.astype("<u2").tobytes()
    write(tmp_path / "data" / "b in.bin", packed)
    first = load_shape(path)
    assert first.area == pytest.approx(AREA)
    assert first.bytes == path.stat().st_size + len(packed)
    assert first.content_hash == hashlib.sha256(path.read_bytes() + packed).hexdigest()
    (tmp_path / "data" / "b in.bin").write_bytes(packed[:12] + np.float32(9).tobytes() + packed[16:])
    assert load_shape(path).content_hash != first.content_hash


def test_3mf_components_and_other_models(tmp_path: Path) -> None:
    more = hostile.model_3mf(hostile.OBJECT_3MF.replace('id="1"', 'id="7"'), items="")
    objects = (
        hostile.OBJECT_3MF
        + '<object id="2"><components><component objectid="1" transform="2 0 0 0 2 0 0 0 2 10 0 0"/>'
        + '<component p:path="/3D/Objects/more.model" objectid="7"/></components></object>'
    )
    model = hostile.model_3mf(objects, '<item objectid="2" transform="0 1 0 -1 0 0 0 0 1 0 0 5"/>')
    content = hostile.threemf(model, more={"3D/Objects/more.model": more.encode()})
    shape = load_shape(write(tmp_path / "a.3mf", content))
    turn = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    expected = np.vstack([hostile.CORNERS * 2 + [10, 0, 0], hostile.CORNERS]) @ turn + [0, 0, 5]
    assert np.allclose(shape.vertices, expected)
    assert len(shape.faces) == 8


def test_what_supports_a_3mf_is_left_out_where_nothing_says_what_is_built(tmp_path: Path) -> None:
    support = hostile.OBJECT_3MF.replace('id="1" type="model"', 'id="2" type="support"')
    content = hostile.threemf(hostile.model_3mf(hostile.OBJECT_3MF + support, items=""))
    assert len(load_shape(write(tmp_path / "a.3mf", content)).faces) == 4


@pytest.mark.parametrize("suffix", ["obj", "off", "ply", "stl", "glb", "3mf"])
def test_files_that_trimesh_writes(suffix: str, tmp_path: Path) -> None:
    """The same triangles as in trimesh, which also wrote them."""
    trimesh = pytest.importorskip("trimesh")
    scene = trimesh.Scene()
    body = trimesh.creation.icosphere(subdivisions=2)
    scene.add_geometry(
        trimesh.creation.box((1, 2, 3)), transform=trimesh.transformations.euler_matrix(1, 2, 3)
    )
    scene.add_geometry(body, transform=trimesh.transformations.translation_matrix((5, 0, 0)))
    whole = scene.to_geometry()
    path = tmp_path / f"a.{suffix}"
    (scene if suffix in ("glb", "3mf") else whole).export(path)
    shape = load_shape(path, up="z")
    assert len(shape.faces) == len(whole.faces)
    assert shape.area == pytest.approx(whole.area, rel=1e-5)
    ours, theirs = shape.vertices[shape.faces].mean(axis=1), whole.triangles_center
    order = [np.lexsort(centres.round(3).T) for centres in (ours, theirs)]
    assert np.allclose(ours[order[0]], theirs[order[1]], atol=1e-4)


# --- what is done to all ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("up", "expected"),
    [("z", (1, 2, 3)), ("y", (1, -3, 2)), ("x", (2, 3, 1))],
)
def test_the_up_axis_becomes_z_without_mirroring(
    up: str, expected: tuple[float, ...], tmp_path: Path
) -> None:
    corners = np.vstack([hostile.CORNERS[:3], [[1, 2, 3]]])
    path = write(tmp_path / "a.off", hostile.off(corners=corners))
    before, after = load_shape(path, up="z"), load_shape(path, up=up)
    assert after.vertices[3].tolist() == list(expected)

    def volume(shape: Any) -> float:
        return float(np.linalg.det(shape.vertices[shape.faces]).sum())

    assert volume(after) == pytest.approx(volume(before)) and volume(before) != 0


@pytest.mark.parametrize("up", ["z", "y", "x"])
def test_normals_of_a_cloud_turn_with_it(up: str, tmp_path: Path) -> None:
    shape = load_shape(write(tmp_path / "a.npy", hostile.npy(np.hstack([UNIT, UNIT]))), up=up)
    assert shape.normals is not None and np.allclose(shape.normals, shape.vertices)


def test_gltf_is_y_up_and_the_rest_z_up(tmp_path: Path) -> None:
    path = write(tmp_path / "a.glb", hostile.glb())
    assert np.array_equal(load_shape(path).vertices, load_shape(path, up="y").vertices)
    assert not np.array_equal(load_shape(path).vertices, load_shape(path, up="z").vertices)
    with pytest.raises(UnreadableShape, match="^up axis 'w'; known are auto, x, y and z$"):
        load_shape(path, up="w")


def test_what_is_broken_is_removed_counted_and_said(tmp_path: Path) -> None:
    text = f"{V4}v 5 5 5\nv nan 0 0\nv 0.5 0 0\nf 1 2 3 4\nf 1 1 2\nf 1 2 7\nf 1 2 6\nf 1 2\n"
    shape = load_shape(write(tmp_path / "a.obj", text))
    assert np.array_equal(shape.vertices, SQUARE)
    assert shape.faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    assert shape.notes == (
        "1 faces of fewer than 3 corners removed",
        "removed faces: 1 with coordinates that are not finite",
        "removed faces: 2 of zero area",
    )
    cloud = np.vstack([hostile.CORNERS, [[np.inf, 0, 0]]])
    shape = load_shape(write(tmp_path / "a.npy", hostile.npy(cloud)))
    assert len(shape.vertices) == 4
    assert shape.notes == ("removed points: 1 with coordinates that are not finite",)


def test_small_faces_far_from_each_other_keep_their_area(tmp_path: Path) -> None:
    tiny = np.vstack([hostile.CORNERS * 1e-5, [[1e3, 0, 0], [0, 1e3, 0], [0, 0, 1e3]]])
    faces = np.vstack([hostile.FACES, [[4, 5, 6]]])
    shape = load_shape(write(tmp_path / "a.off", hostile.off(corners=tiny, faces=faces)))
    assert len(shape.faces) == 5 and shape.notes == ()


def test_text_of_a_mesh_that_is_nothing_but_flat(tmp_path: Path) -> None:
    faces = np.tile([[0, 1, 1]], (212, 1))
    path = write(tmp_path / "lid.obj", hostile.obj(faces=faces + 1))
    assert reason(path) == "0 faces after removing 212 of zero area"


def test_limits(tmp_path: Path) -> None:
    path = write(tmp_path / "a.off", hostile.off())
    size = path.stat().st_size
    assert reason(path, max_bytes=size - 1) == f"{size} bytes; the limit is {size - 1} bytes (--max-bytes)"
    assert reason(path, max_faces=3) == "4 faces; the limit is 3 (--max-faces)"
    assert reason(path, max_vertices=3) == "4 vertices; the limit is 3"
    polygon = write(tmp_path / "b.obj", V4 + "f 1 2 3 4\n")
    assert reason(polygon, max_faces=1) == "2 faces; the limit is 1 (--max-faces)"
    for name, make in hostile.SOUND.items():
        other = write(tmp_path / name, make())
        kind = "faces" if not load_shape(other).is_cloud else "vertices"
        assert re.match(rf"\d+ {kind}; the limit is 3", reason(other, **{f"max_{kind}": 3}))


def test_find_shapes_sorts_by_name_and_leaves_out_what_is_hidden(tmp_path: Path) -> None:
    for name in (
        "b/a.OBJ",
        "a/z.off",
        "a.stl",
        "a b.npy",
        ".git/x.off",
        "x.lance/data/y.npy",
        "._a.stl",
        "n.txt",
    ):
        write(tmp_path / name, "")
    (tmp_path / "empty").mkdir()
    found = find_shapes(tmp_path)
    assert [item.name for item in found] == ["a b.npy", "a.stl", "a/z.off", "b/a.OBJ"]
    assert all(item.path.is_absolute() and item.path.exists() for item in found)
    [single] = find_shapes(tmp_path / "a" / "z.off")
    assert (single.name, single.path) == ("z.off", tmp_path / "a" / "z.off")
    assert find_shapes(tmp_path / "empty") == []


EVERY = ["a.stl", "b.tmp.stl", "drafts/old/c.off", "drafts/x.stl", "sub/drafts/y.off", "sub/old/z.stl"]


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        ([], EVERY),
        (["drafts"], ["a.stl", "b.tmp.stl", "sub/drafts/y.off", "sub/old/z.stl"]),
        (["drafts/", "sub/drafts"], ["a.stl", "b.tmp.stl", "sub/old/z.stl"]),
        (["*drafts"], ["a.stl", "b.tmp.stl", "sub/old/z.stl"]),
        (["*/old/*"], ["a.stl", "b.tmp.stl", "drafts/x.stl", "sub/drafts/y.off"]),
        (["*.stl"], ["drafts/old/c.off", "sub/drafts/y.off"]),
        (["*.tmp.stl", "?.stl", "s[t-v]b"], ["drafts/old/c.off", "drafts/x.stl"]),
        (["DRAFTS", "old", "x.stl", "/a.stl"], EVERY),
        (["*"], []),
    ],
)
def test_what_matches_a_pattern_is_not_found(tmp_path: Path, patterns: list[str], left: list[str]) -> None:
    for name in EVERY:
        write(tmp_path / name, "")
    (tmp_path / "drafts" / "away.stl").symlink_to("/")
    away: list[Path] = []
    excluded: list[Found] = []
    found = [item.name for item in find_shapes(tmp_path, away, patterns, excluded)]
    assert found == left and sorted([*found, *(item.name for item in excluded)]) == EVERY
    assert bool(away) == ("drafts/x.stl" in found)


def test_a_pattern_that_means_nothing_and_a_file_that_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.stl", "")
    for empty in ("", "/"):
        with pytest.raises(UsageError, match="a pattern of --exclude is empty; write one such as drafts or"):
            find_shapes(tmp_path, exclude=["x", empty])
    with pytest.raises(UsageError, match=r"exclude is the text 'a\*'; give a list: \['a\*'\]"):
        find_shapes(tmp_path, exclude="a*")
    assert find_shapes(path, exclude=["*.stl"]) == [] and len(find_shapes(path, exclude=["b*"])) == 1


def test_find_shapes_says_what_it_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(CrosshapeError, match=r"absent cannot be read: No such file or directory\.$"):
        find_shapes(tmp_path / "absent")
    path = write(tmp_path / "a.docx", "")
    with pytest.raises(CrosshapeError, match=r"a\.docx has no suffix of a shape; known are \.off \.obj"):
        find_shapes(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_not_overlooked(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.off", hostile.off())
    path = write(tmp_path / "b.off", hostile.off())
    path.chmod(0)
    (tmp_path / "in").chmod(0)
    try:
        assert [item.name for item in find_shapes(tmp_path)] == ["b.off", "in"]
        assert reason(path) == reason(tmp_path / "in") == "Permission denied"
    finally:
        (tmp_path / "in").chmod(0o700)


# --- prepare, check ---------------------------------------------------------------------------------


def test_prepared_is_the_same_for_the_same_content(tmp_path: Path) -> None:
    settings = PrepareSettings(points=128, views=3, image_size=32)
    first = prepare_file(write(tmp_path / "a.off", hostile.off()), settings)
    again = prepare_file(write(tmp_path / "b" / "c.off", hostile.off()), settings)
    assert first.points.shape == first.normals.shape == (128, 3)
    assert first.views.shape == (3, 32, 32) and first.views.dtype == np.uint8
    assert first.points.dtype == first.normals.dtype == np.float32
    for name in ("points", "normals", "views"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert first.facts == again.facts
    assert (first.facts.faces, first.facts.vertices, first.facts.extents) == (4, 4, (1.0, 1.0, 1.0))
    assert first.facts.area == pytest.approx(AREA)


def test_views_are_drawn_as_finely_as_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.off", hostile.off())
    shape = load_shape(path)
    vertices = normalise(shape.vertices, shape.faces)[0]
    for fine in (1, 3):
        views = prepare_file(path, PrepareSettings(points=32, views=2, image_size=16, supersample=fine)).views
        drawn = render_mesh(vertices, shape.faces, views=2, size=16, supersample=fine)
        assert np.array_equal(views, drawn.shading)


def test_centre_and_radius_take_points_back_to_their_place(tmp_path: Path) -> None:
    corners = hostile.CORNERS * 3 + [5, -7, 11]
    path = write(tmp_path / "a.off", hostile.off(corners=corners))
    prepared = prepare_file(path, PrepareSettings(points=4096, views=1, image_size=16))
    points = prepared.points * prepared.facts.radius + prepared.facts.centre
    for axis, low in enumerate((5, -7, 11)):
        assert abs(points[:, axis].min() - low) < 1e-4 and points[:, axis].max() <= low + 3.0001
    assert points.mean(axis=0) == pytest.approx(prepared.facts.centre, abs=0.02)


def test_prepared_cloud(tmp_path: Path) -> None:
    cloud = np.random.Generator(np.random.PCG64(0)).normal(size=(300, 3))
    cloud /= np.linalg.norm(cloud, axis=1)[:, None]
    settings = PrepareSettings(points=128, views=2, image_size=32)
    made = prepare_file(write(tmp_path / "a.npy", hostile.npy(cloud)), settings)
    assert np.abs((made.points * made.normals).sum(axis=1)).mean() > 0.9
    assert (made.views < 255).any() and made.facts.area == 0


def test_check_prints_one_object_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "b.off", hostile.off())
    write(tmp_path / "a.obj", "")
    write(tmp_path / "c.npy", hostile.npy())
    assert cli.main(["check", str(tmp_path), "--json", "--workers", "2"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [list(line) for line in lines] == [
        ["path", "ok", "reason", "format", "faces", "points", "bytes"]
    ] * 3
    assert [Path(line.pop("path")).name for line in lines] == ["a.obj", "b.off", "c.npy"]
    assert list(lines[0].values()) == [False, "empty file (0 bytes)", "obj", None, None, 0]
    assert list(lines[1].values()) == [True, None, "off", 4, 4, len(hostile.off())]
    assert (lines[2]["faces"], lines[2]["points"]) == (0, 4)


def test_check_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.obj", f"{V4}f 1 2 3 4\nf 1 1 1\n")
    assert cli.main(["check", str(tmp_path), "--workers", "1"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "a.obj: loads; removed faces: 1 of zero area\n"
    assert re.match(r"1 files: 1 load \(1 with notes\), 0 do not; \d+ s\.\n", shown.err)
    assert cli.main(["check", str(tmp_path), "--workers", "0"]) == 2
    assert capsys.readouterr().err == "crosshape: --workers is 0; it must be at least 1.\n"
    (tmp_path / "empty").mkdir()
    assert cli.main(["check", str(tmp_path / "empty")]) == 1
    assert "empty holds no shapes; known are .off .obj" in capsys.readouterr().err


def test_the_table_in_the_docs_names_every_format_and_limit() -> None:
    text = (Path(__file__).parents[1] / "docs" / "formats.md").read_text()
    for suffix in FORMATS:
        assert f"`{suffix}`" in text, suffix
    limits = Limits()
    for value in (f"{limits.max_faces:,}", f"{limits.max_vertices:,}", f"{limits.seconds:g} s"):
        assert value in text, value
    assert f"{limits.max_bytes >> 30} GiB" in text and f"{limits.memory >> 30} GiB" in text


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "count"), [("meshes", 1558), ("labeled-psb", 190), ("formats", 21), ("ModelNet40", 9843)]
)
def test_every_real_file_loads(folder: str, count: int, capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(os.environ["CROSSHAPE_TEST_DATA"]) / folder
    if not root.is_dir():
        pytest.skip(f"{root} is not there")
    assert cli.main(["check", str(root), "--json"]) == 0
    assert capsys.readouterr().out.count('"ok": true') == count


@pytest.mark.parametrize("line", ["0,5 1,5 2,5", "0,5;1,5;2,5", "-0,25\t1\t2,5", "0;1,5;2 ;"])
def test_commas_as_decimal_points_are_said(tmp_path: Path, line: str) -> None:
    with pytest.raises(UnreadableShape, match="commas as decimal points; write 0.5, not 0,5"):
        load_shape(write(tmp_path / "a.xyz", f"{line}\n".encode() * 9))


@pytest.mark.parametrize("line", ["{},1,2", "{}, 1, 2", "{};1;2", "{} 1 2", "{},\t1,\t2", "{},1,2,0,0,1;"])
def test_commas_between_numbers_are_read(tmp_path: Path, line: str) -> None:
    text = "\n".join(line.format(n) for n in range(9))
    shape = load_shape(write(tmp_path / "a.xyz", text.encode()))
    assert shape.vertices.tolist() == [[n, 1, 2] for n in range(9)]


@pytest.mark.parametrize("shape", [(3, 1024), (6, 64), (480, 640)])
def test_a_table_on_its_side_is_no_cloud(tmp_path: Path, shape: tuple[int, int]) -> None:
    table = np.random.default_rng(0).normal(size=shape)
    for name, content in (("a.npy", hostile.npy(table)), ("a.npz", hostile.npz(points=table))):
        with pytest.raises(UnreadableShape, match=r"a point a row is needed, x y z first \(transposed\?\)"):
            load_shape(write(tmp_path / name, content))
    assert len(load_shape(write(tmp_path / "b.npy", hostile.npy(table.T[:, :12]))).vertices)


def test_more_points_than_the_header_promises_are_noted(tmp_path: Path) -> None:
    shape = load_shape(write(tmp_path / "a.pts", b"2\n" + hostile.xyz()))
    assert len(shape.vertices) == 4 and "the header promises 2 points, 4 are there" in shape.notes


def test_a_disk_that_is_full_is_said_with_the_name_of_the_file(tmp_path: Path, monkeypatch) -> None:
    import errno
    import os

    from crosshape.files import write_whole

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as error:
        write_whole(tmp_path / "page.html", b"x")
    assert error.value.filename == str(tmp_path / "page.html") and list(tmp_path.iterdir()) == []


def test_a_file_stays_as_private_as_it_was_and_a_new_one_follows_the_mask(tmp_path: Path) -> None:
    import os

    from crosshape.files import write_whole

    before = os.umask(0o077)
    try:
        write_whole(tmp_path / "marks.json", b"1")
        assert (tmp_path / "marks.json").stat().st_mode & 0o777 == 0o600
        (tmp_path / "marks.json").chmod(0o640)
        write_whole(tmp_path / "marks.json", b"2")
        assert (tmp_path / "marks.json").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)
