"""Shapes made from code: classes, named parts and endless variety. Demo, tests and docs live on these.

`make_shape(label, seed)` is the same everywhere for the same label and seed. Z is up. Several classes are
easily taken for one another (stool, table and bench; mug, glass and vase; bolt, screw and nail), and within a
class proportions, style, optional parts and pose differ widely, so that telling them apart takes learning.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crosshape.errors import UsageError
from crosshape.shapes.making import furniture, hardware, outdoors, vessels
from crosshape.shapes.making.solids import Array, Parts, Random, joined, move

BUILDERS: dict[str, Callable[[Random], Parts]] = {
    builder.__name__: builder
    for builder in (
        outdoors.airplane,
        furniture.bed,
        furniture.bench,
        hardware.bolt,
        vessels.bottle,
        hardware.bracket,
        outdoors.car,
        furniture.chair,
        hardware.gear,
        vessels.glass,
        outdoors.guitar,
        hardware.hammer,
        outdoors.house,
        hardware.key,
        furniture.ladder,
        furniture.lamp,
        vessels.mug,
        hardware.nail,
        outdoors.rocket,
        hardware.screw,
        furniture.shelf,
        furniture.stool,
        furniture.table,
        vessels.teapot,
        vessels.vase,
        hardware.wheel,
        hardware.wrench,
    )
}

CLASSES: tuple[str, ...] = tuple(BUILDERS)
"""The classes of made shapes, in alphabetical order."""

WRITTEN = ("off", "obj", "stl", "ply", "glb")
"""The formats `write_shapes` goes through in turn."""


@dataclass(frozen=True)
class MadeShape:
    """A shape made from code, Z up, centred, inside the unit sphere, with a part number for every face."""

    name: str
    label: str
    vertices: Array
    """(V, 3) float32"""
    faces: Array
    """(F, 3) int64"""
    part_of_face: Array
    """(F,) int64, into part_names"""
    part_names: tuple[str, ...]
    """the same for every shape of a class, also where an optional part is missing"""


def make_shape(label: str, seed: int) -> MadeShape:
    """The shape number `seed` of a class; the same arrays for the same label and seed.

    Raises UsageError for a label that is not in CLASSES.
    """
    if label not in BUILDERS:
        raise UsageError(f"no made shape is called '{label}'; there are {', '.join(CLASSES)}")
    random = np.random.default_rng([zlib.crc32(label.encode()), seed])
    parts = BUILDERS[label](random)
    vertices, faces = joined([piece for pieces in parts.values() for piece in pieces])
    sizes = [sum(len(piece[1]) for piece in pieces) for pieces in parts.values()]
    owner = np.repeat(np.arange(len(parts)), sizes)
    stretch = np.exp(random.uniform(-0.12, 0.12, size=3))
    tilt = random.normal(0, np.radians(4), size=2)
    vertices, _ = move((vertices * stretch, faces), turn=(tilt[0], tilt[1], random.uniform(0, 2 * np.pi)))
    vertices = vertices - (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    vertices = vertices / np.linalg.norm(vertices, axis=1).max()
    corners = vertices[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    real = np.linalg.norm(normal, axis=1) > 1e-9
    return MadeShape(
        f"{label}_{seed:04d}", label, vertices.astype(np.float32), faces[real], owner[real], tuple(parts)
    )


def write_shapes(folder: str | Path, per_class: int, seed: int = 0) -> list[Path]:
    """Write the shapes seed + 1 .. seed + per_class of every class; the number in a file's name is its seed.

    <folder>/<label>/<label>_<seed>.<off, obj, stl, ply or glb in turn>; returns the paths. No files beside
    them: parts come back from make_shape(label, seed).
    """
    written = []
    for place, label in enumerate(CLASSES):
        (Path(folder) / label).mkdir(parents=True, exist_ok=True)
        for number in range(seed + 1, seed + per_class + 1):
            shape = make_shape(label, number)
            written.append(
                write_shape(shape, Path(folder) / label / f"{shape.name}.{WRITTEN[(number + place) % 5]}")
            )
    return written


def write_shape(shape: MadeShape, path: Path) -> Path:
    """One shape into a file of the format its suffix names; glTF is turned to its standard's Y up."""
    import trimesh

    vertices = shape.vertices
    if path.suffix == ".glb":
        vertices = vertices[:, [0, 2, 1]] * np.array([1, 1, -1], np.float32)
    trimesh.Trimesh(vertices, shape.faces, process=False).export(path)
    return path
