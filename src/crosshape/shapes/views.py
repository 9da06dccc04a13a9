"""Cameras on a ring, and what they see of a mesh or a cloud: shaded pictures, depth, normals.

Conventions (docs/conventions.md): right-handed, Z up, the shape in the unit sphere. Camera i of n stands at
azimuth i * 360 / n degrees, from +X towards +Y, 30 degrees above the horizon, and looks at the centre.
Cameras stand outside the unit sphere, so no face can cross a near plane and none is clipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosshape.shapes.surface import PLANE, checked, face_normals

DISTANCE = 3.0
"""From a camera to the centre of the shape, in radii of the unit sphere."""

FILL = 0.96
"""The unit sphere's outline is a circle of this share of the picture's width."""

GROUND, EDGE, FRONT = 255, 30, 210
"""Greys: the ground, a surface seen from its edge, one seen from the front; linear in the cosine between."""

ELEVATION = 30.0
"""Degrees above the horizon."""

LARGEST = 16384
"""Most samples (pixels times supersample) along one side."""


AROUND, SPACING, UNEVEN, REACH, DISC = 20, 7, 1.6, 1.6, 0.25
"""Of a cloud: faces join the 20 points nearest to each other. The spacing at a point is the distance to the
7th, at most 1.6 times the middle one; a face's circle has a radius of at most 1.6 spacings, a point's disc
of 0.25."""

SLANT, BULGE = 0.35, 0.5
"""A disc is never seen at a cosine below 0.35; its rim lies back by half its radius."""


@dataclass(frozen=True)
class Rendered:
    """What V cameras saw, S x S pixels each, row 0 on top."""

    shading: NDArray[np.uint8]
    """(V, S, S): grey, 255 is ground."""
    depth: NDArray[np.float32] | None
    """(V, S, S): distance along the camera's axis, in radii; inf is ground. Of a pixel's nearest sample."""
    normals: NDArray[np.int8] | None
    """(V, S, S, 3): normal in the shape's axes, to the camera, times 127; 0 is ground. Of the same sample."""


def camera_ring(views: int = 12, elevation: float = ELEVATION) -> NDArray[np.float64]:
    """-> (views, 3, 4): [R | t] takes a point of the shape to the camera's axes: x right, y down, z forward.

    A point at (x, y, z) there is seen at column S / 2 + focal(S) x / z and row S / 2 + focal(S) y / z of S.
    """
    azimuth = np.arange(views) * (2 * np.pi / views)
    tilt = np.radians(elevation)
    zero = np.zeros(views)
    right = np.stack([-np.sin(azimuth), np.cos(azimuth), zero], axis=1)
    forward = -np.stack(
        [np.cos(azimuth) * np.cos(tilt), np.sin(azimuth) * np.cos(tilt), zero + np.sin(tilt)], axis=1
    )
    down = np.cross(forward, right)
    shift = np.stack([zero, zero, zero + DISTANCE], axis=1)
    return np.concatenate([np.stack([right, down, forward], axis=1), shift[:, :, None]], axis=2)


def focal(size: int) -> float:
    """Pixels -> focal length in pixels: the outline of the unit sphere takes FILL of the width."""
    return size / 2 * FILL * float(np.sqrt(DISTANCE * DISTANCE - 1))


def render_mesh(
    vertices: NDArray[np.floating],
    faces: NDArray[np.integer],
    *,
    views: int = 12,
    size: int = 224,
    supersample: int = 2,
    depth: bool = False,
    normals: bool = False,
    threads: int = 1,
) -> Rendered:
    """vertices (V, 3) in the unit sphere, faces (F, 3) -> views on a ring; their winding does not matter.

    Flat faces, two-sided Lambert shading, the light at the camera.
    Raises ValueError for what lies outside the sphere.
    """
    corners, place = _inside(vertices, faces)
    unit_normals, _ = face_normals(corners, place)
    return _render(corners, place, None, unit_normals, views, size, supersample, depth, normals, threads)


def render_points(
    points: NDArray[np.floating],
    normals: NDArray[np.floating] | None = None,
    *,
    views: int = 12,
    size: int = 224,
    supersample: int = 2,
    depth: bool = False,
    threads: int = 1,
) -> Rendered:
    """points (N, 3) in the unit sphere, unit normals (N, 3) or None (from the neighbours) -> views on a ring.

    Neighbours are joined by faces, shaded by the normals of their corners, and every point is a small disc
    across its normal, so that thin parts are seen too. (Discs wide enough to close all gaps thicken every
    edge.) Raises ValueError for what lies outside the sphere.
    """
    from crosshape.shapes import neighbours

    cloud, _ = _inside(points, np.zeros((0, 3), np.int32))
    if len(cloud) == 0:
        raise ValueError("a cloud without points cannot be seen")
    known = None if normals is None else np.array(normals, dtype=np.float32).reshape(-1, 3)
    distance, number = neighbours.nearest(cloud, cloud, AROUND)
    if distance.shape[1] > 1 and not distance[:, 1].all():  # the same point twice
        cloud, first = np.unique(cloud, axis=0, return_index=True)
        known = None if known is None else known[first]
        distance, number = neighbours.nearest(cloud, cloud, AROUND)
    if known is None:
        known = neighbours.normals_from(cloud, distance[:, :PLANE], number[:, :PLANE])
    spacing = distance[:, min(SPACING, distance.shape[1] - 1)]
    spacing = np.minimum(spacing, UNEVEN * np.median(spacing))
    faces = np.empty((16 * len(cloud), 3), np.int32)
    faces = faces[: neighbours.faces_between(cloud, number, REACH * spacing, faces)]
    one, two, three = (known[faces[:, i]] for i in range(3))
    for other in (two, three):  # normals know no side: turn them to that of the first corner
        other *= np.where((one * other).sum(axis=1) < 0, np.float32(-1), np.float32(1))[:, None]
    middle = one + two + three
    middle /= np.maximum(np.linalg.norm(middle, axis=1), 1e-6)[:, None]
    unit_normals = np.concatenate([middle, known])
    radii = (DISC * spacing).astype(np.float32)
    return _render(cloud, faces, radii, unit_normals, views, size, supersample, depth, False, threads)


def _inside(
    vertices: NDArray[np.floating], faces: NDArray[np.integer]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Vertices and faces as the z-buffer wants them. Raises ValueError for what it could not draw."""
    place = np.ascontiguousarray(vertices, dtype=np.float32).reshape(-1, 3)
    corners = np.ascontiguousarray(checked(faces, len(place)), dtype=np.int32).reshape(-1, 3)
    reach = np.einsum("ij,ij->i", place, place)
    if corners.size and not reach.max(initial=0.0) <= 1.01:
        used, numbers = np.unique(corners, return_inverse=True)
        place, reach = place[used], reach[used]
        corners = np.ascontiguousarray(numbers.reshape(-1, 3), dtype=np.int32)
    if not reach.max(initial=0.0) <= 1.01:
        raise ValueError("the shape must lie in the unit sphere; see normalise")
    return place, corners


def _render(
    vertices: NDArray[np.float32],
    faces: NDArray[np.int32],
    radii: NDArray[np.float32] | None,
    unit_normals: NDArray[np.float32],
    views: int,
    size: int,
    supersample: int,
    depth: bool,
    normals: bool,
    threads: int,
) -> Rendered:
    """Faces and, where there are radii, a disc on every vertex; unit_normals: of faces, then of discs."""
    from concurrent.futures import ThreadPoolExecutor

    from crosshape.shapes import raster

    samples = size * supersample
    if not 0 < samples <= LARGEST:
        raise ValueError(f"size {size} times supersample {supersample} must be between 1 and {LARGEST}")
    cameras = camera_ring(views)
    middle, length = samples / 2, focal(samples)
    greys = np.array([GROUND, EDGE, FRONT], np.float32)
    shading = np.empty((views, size, size), np.uint8)
    far = np.empty((views, size, size) if depth else (views, 0, 0), np.float32)
    facing = np.empty((views, size, size, 3) if normals else (views, 0, 0, 0), np.int8)

    def draw(first: int, last: int) -> None:
        near = np.zeros((samples, samples), np.float32)
        owner = np.full((samples, samples), -1, np.int32)
        screen = np.empty((len(vertices), 3), np.float32)
        cells = np.empty(len(vertices), np.int32)
        kept = np.empty(len(faces) + 1, np.int32)
        box = np.empty(4, np.int64)
        margin = 1  # a disc's radius in samples, at most
        if radii is not None:
            margin += int(length * radii.max(initial=0.0) / (DISTANCE - 1.01 - radii.max(initial=0.0))) + 1
        for i in range(first, last):
            raster.project(vertices, cameras[i], length, middle, screen, cells, box)
            count = raster.candidates(faces, cells, kept)
            raster.draw_faces(faces, screen, cells, kept, count, near, owner)
            if radii is not None:
                discs = unit_normals[len(faces) :]
                raster.draw_discs(
                    vertices, discs, radii, cameras[i], length, middle, SLANT, BULGE, len(faces), near, owner
                )
                box += np.array([-margin, margin, -margin, margin])
            picture = (shading[i], far[i], facing[i])
            raster.resolve(
                near, owner, unit_normals, cameras[i], length, middle, supersample, box, greys, *picture
            )

    threads = max(1, min(threads, views))
    bounds = [views * i // threads for i in range(threads + 1)]
    if threads == 1:
        draw(0, views)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(draw, bounds[:-1], bounds[1:]))
    return Rendered(shading, far if depth else None, facing if normals else None)


def downscale(views: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Views (V, S, S) uint8 -> (V, size, size) uint8, averaged by area, as a library gives them."""
    from PIL import Image

    factor, rest = divmod(views.shape[1], size)
    if views.shape[1] == size:
        return views
    pictures = (Image.fromarray(view) for view in views)
    if factor > 1 and not rest:
        return np.stack([np.asarray(picture.reduce(factor), np.uint8) for picture in pictures])
    box = Image.Resampling.BOX
    return np.stack([np.asarray(picture.resize((size, size), box), np.uint8) for picture in pictures])


def eight_bit(picture: Any) -> Any:
    """A grey Pillow picture of 16 bits with 8, others as they are: Pillow's own conversion cuts what is above 255."""
    if not picture.mode.startswith("I"):
        return picture
    from PIL import Image

    return Image.fromarray((np.asarray(picture).clip(0, 65535) / 257).round().astype(np.uint8))
