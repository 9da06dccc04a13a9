"""STEP, in which CAD programs keep exact surfaces: made triangles by OpenCASCADE (cascadio), where that is installed.

How finely is told relative to each edge, so that a screw and a ship take as many triangles; millimetres, whatever the
unit of the file.
"""

from __future__ import annotations

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


def read_step(data: bytes, limits: Limits) -> Raw:
    """STEP (ISO 10303-21; AP203, AP214, AP242): the triangles of all its bodies, in millimetres."""
    try:
        import cascadio
    except ImportError:
        raise UnreadableShape("STEP needs OpenCASCADE: pip install 'crosshape[step]'") from None
    if b"ISO-10303-21" not in data[:1024]:
        raise UnreadableShape("no STEP file: it does not begin with ISO-10303-21")
    made = cascadio.to_glb_bytes(
        data, cascadio.STEP, tol_linear=SAG, tol_angular=TURN, tol_relative=True, use_parallel=False
    )
    raw = read_gltf(made, limits, _nothing) if made else None
    if raw is None or not len(raw.faces):
        raise UnreadableShape("OpenCASCADE finds no body in it: it is damaged, or holds lines alone")
    return replace(raw, vertices=raw.vertices * MILLIMETRES)


def _nothing(name: str) -> bytes:
    raise UnreadableShape(f"names {name!r}, which is not read")
