"""STEP, in which CAD programs keep exact surfaces: made triangles by OpenCASCADE (cascadio), where that is installed.

How finely is told relative to each edge, so that a screw and a ship take as many triangles; millimetres, whatever the
unit of the file.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace

from crosshape.errors import UnreadableShape
from crosshape.settings import Limits
from crosshape.shapes.formats import Raw
from crosshape.shapes.scenes import read_gltf

SAG, TURN = 0.01, 0.25
"""A triangle may lie off its surface by this part of an edge, and turn from its neighbour by so many radians: a circle
becomes 26 lines or more."""

MILLIMETRES = 1000.0
"""OpenCASCADE answers in metres."""


FACE = re.compile(rb"\bADVANCED_FACE\s*\(")
ELSEWHERE = re.compile(
    rb"\b((?:DOCUMENT|DOCUMENT_FILE|APPLIED_EXTERNAL_IDENTIFICATION_ASSIGNMENT)\s*\(\s*)'(?:[^']|'')+'",
    re.IGNORECASE,
)
"""Names of other files, which OpenCASCADE would open wherever they lie."""


def read_step(data: bytes, limits: Limits) -> Raw:
    """STEP (ISO 10303-21; AP203, AP214, AP242): the triangles of all its bodies, in millimetres.

    Other files that it names are not opened; they, and faces that OpenCASCADE leaves out, are counted in the notes.
    """
    try:
        import cascadio
    except ModuleNotFoundError:
        raise UnreadableShape("STEP needs OpenCASCADE: pip install cascadio") from None
    data = data.removeprefix(b"\xef\xbb\xbf")
    if b"ISO-10303-21" not in data[:1024]:
        raise UnreadableShape("no STEP file: it does not begin with ISO-10303-21")
    data, elsewhere = ELSEWHERE.subn(rb"\1''", data)
    made = cascadio.to_glb_bytes(
        data,
        cascadio.STEP,
        tol_linear=SAG,
        tol_angular=TURN,
        tol_relative=True,
        use_parallel=False,
        include_brep=True,
    )
    raw = read_gltf(made, limits, _nothing) if made else None
    if raw is None or not len(raw.faces):
        if b"END-ISO-10303-21" not in data[-4096:]:
            raise UnreadableShape("cut off: it does not end with END-ISO-10303-21")
        raise UnreadableShape("OpenCASCADE finds no body in it: it is damaged, or holds lines alone")
    wanted, read = len(FACE.findall(data)), _surfaces(made)
    notes = list(raw.notes)
    if read < wanted:
        notes.append(f"left out: {wanted - read:,} of {wanted:,} surfaces, which OpenCASCADE cannot read")
    if elsewhere:
        notes.append(f"not opened: {elsewhere:,} names of other files")
    return replace(raw, vertices=raw.vertices * MILLIMETRES, notes=notes)


def _surfaces(glb: bytes) -> int:
    """How many exact surfaces the triangles of cascadio's GLB came from."""
    length = int.from_bytes(glb[12:16], "little")
    scene = json.loads(glb[20 : 20 + length])
    parts = (part for mesh in scene.get("meshes", ()) for part in mesh["primitives"])
    return sum(len(part.get("extensions", {}).get("TM_brep_faces", {}).get("faces", ())) for part in parts)


def _nothing(name: str) -> bytes:
    raise UnreadableShape(f"names {name!r}, which is not read")
