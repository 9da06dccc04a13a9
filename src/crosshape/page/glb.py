"""A mesh or a cloud as one binary glTF: a single primitive, Y up, metres or whatever the file's unit was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOAT, UINT16, UINT32, UINT8 = 5126, 5123, 5125, 5121
POINTS, TRIANGLES = 0, 4


def write_glb(
    vertices: NDArray[np.floating],
    faces: NDArray[np.integer] | None = None,
    *,
    centre: NDArray[np.floating] | Sequence[float] = (0.0, 0.0, 0.0),
    normals: NDArray[np.floating] | None = None,
    colours: NDArray[np.uint8] | None = None,
    extras: dict[str, Any] | None = None,
) -> bytes:
    """Vertices (V, 3), Z up, and faces (F, 3), or no faces for a cloud -> the bytes of a .glb.

    Positions are stored relative to `centre`, which becomes the node's translation, so that float32 is enough
    far from the origin. colours: (V, 3) uint8. extras: what stands in the asset's `extras`.
    """
    parts: list[tuple[bytes, dict[str, Any], int | None]] = []

    def accessor(array: NDArray[Any], kind: str, component: int, target: int | None, **more: Any) -> int:
        told = {"componentType": component, "count": len(array), "type": kind, **more}
        parts.append((array.tobytes(), told, target))
        return len(parts) - 1

    place = turned(vertices - np.asarray(centre, np.float64))
    bounds = {"min": place.min(0).tolist(), "max": place.max(0).tolist()}
    attributes = {"POSITION": accessor(place, "VEC3", FLOAT, 34962, **bounds)}
    if normals is not None:
        attributes["NORMAL"] = accessor(turned(normals), "VEC3", FLOAT, 34962)
    if colours is not None:
        opaque = np.full((len(colours), 4), 255, np.uint8)
        opaque[:, :3] = colours
        attributes["COLOR_0"] = accessor(opaque, "VEC4", UINT8, 34962, normalized=True)
    primitive: dict[str, Any] = {"attributes": attributes, "mode": POINTS}
    if faces is not None and len(faces):
        narrow = len(vertices) < 1 << 16
        corners = np.ascontiguousarray(faces, np.uint16 if narrow else np.uint32).reshape(-1)
        primitive |= {
            "mode": TRIANGLES,
            "indices": accessor(corners, "SCALAR", UINT16 if narrow else UINT32, 34963),
        }
    views, accessors, chunk = [], [], bytearray()
    for number, (data, told, target) in enumerate(parts):
        views.append({"buffer": 0, "byteOffset": len(chunk), "byteLength": len(data), "target": target})
        accessors.append({"bufferView": number, **told})
        chunk += data + bytes(-len(data) % 4)
    middle = turned(np.asarray(centre, np.float64)[None])[0].tolist()
    document = {
        "asset": {"version": "2.0", "generator": "crosshape", "extras": extras or {}},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "translation": middle}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(chunk)}],
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    total = 12 + 8 + len(text) + 8 + len(chunk)
    head = b"glTF" + (2).to_bytes(4, "little") + total.to_bytes(4, "little")
    first = len(text).to_bytes(4, "little") + b"JSON"
    second = len(chunk).to_bytes(4, "little") + b"BIN\0"
    return b"".join((head, first, text, second, chunk))


def turned(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """(N, 3) Z up -> Y up, float32."""
    return np.ascontiguousarray(vectors[:, [0, 2, 1]] * [1, 1, -1], np.float32)
