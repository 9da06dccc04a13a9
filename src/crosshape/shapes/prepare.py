"""From a file to what a library keeps of it: points, normals, views and facts."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike

import numpy as np

from crosshape.settings import Limits, PrepareSettings
from crosshape.shapes.files import Shape, load_shape


@dataclass(frozen=True)
class Facts:
    """What is known of a shape besides its arrays, in the units of its file, Z up."""

    format: str
    bytes: int
    content_hash: str
    faces: int
    vertices: int
    area: float
    extents: tuple[float, float, float]
    centre: tuple[float, float, float]
    radius: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Prepared:
    """points, normals (N, 3) float32 in the unit sphere; views (V, S, S) uint8; facts."""

    points: np.ndarray
    normals: np.ndarray
    views: np.ndarray
    facts: Facts


def prepare_file(
    path: str | PathLike[str], settings: PrepareSettings | None = None, limits: Limits | None = None
) -> Prepared:
    """Load, normalise, sample and render one file. Raises UnreadableShape."""
    settings = settings or PrepareSettings()
    return prepare_shape(load_shape(path, limits or Limits(), settings.up), settings)


def prepare_shape(shape: Shape, settings: PrepareSettings | None = None) -> Prepared:
    """Points, views and facts of a shape; the same for the same content and settings (seeded by its hash)."""
    from crosshape.shapes.surface import estimate_normals, normalise, sample_cloud, sample_surface
    from crosshape.shapes.views import render_mesh, render_points

    settings = settings or PrepareSettings()
    seed = int(shape.content_hash[:16], 16)
    vertices, centre, radius = normalise(shape.vertices, shape.faces)
    views, size, supersample = settings.views, settings.image_size, settings.supersample
    if shape.is_cloud:
        known = estimate_normals(vertices) if shape.normals is None else shape.normals
        points, normals = sample_cloud(vertices, known, settings.points, seed)
        rendered = render_points(vertices, known, views=views, size=size, supersample=supersample)
    else:
        points, normals, _ = sample_surface(vertices, shape.faces, settings.points, seed)
        rendered = render_mesh(vertices, shape.faces, views=views, size=size, supersample=supersample)
    low, high = shape.vertices.min(0), shape.vertices.max(0)
    facts = Facts(
        format=shape.format,
        bytes=shape.bytes,
        content_hash=shape.content_hash,
        faces=len(shape.faces),
        vertices=len(shape.vertices),
        area=shape.area,
        extents=_three(high - low),
        centre=_three(centre),
        radius=float(radius),
        notes=shape.notes,
    )
    return Prepared(points, normals, rendered.shading, facts)


def warm_up() -> None:
    """Compile and load what reading and rendering need, so that the first file is not charged for it."""
    import hashlib

    ends = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float64)
    faces = np.array([[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]], dtype=np.int64)
    small = PrepareSettings(points=32, views=2, image_size=16)
    for chosen in (faces, faces[:0]):
        name = hashlib.sha256(chosen.tobytes()).hexdigest()
        prepare_shape(Shape(ends, chosen, None, "made", name, 0, (), 1.0), small)


def _three(values: np.ndarray) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
