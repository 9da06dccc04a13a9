"""Cameras on a ring, and what they see of a mesh or a cloud: shaded pictures, depth, normals.

Conventions (docs/conventions.md): right-handed, Z up, the shape in the unit sphere. Camera i of n stands at azimuth
i * 360 / n degrees, counted from +X towards +Y, 30 degrees above the horizon, and looks at the centre. The cameras stand
outside the unit sphere, so no face can cross a near plane and none is clipped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosshape.shapes.surface import face_normals

DISTANCE = 3.0
"""From a camera to the centre of the shape, in radii of the unit sphere."""

FILL = 0.96
"""The unit sphere's outline is a circle of this share of the picture's width."""

GROUND, EDGE, FRONT = 255, 30, 210
"""Greys: the ground, a surface seen from its edge, a surface seen from the front; linear in the cosine between."""

ELEVATION = 30.0
"""Degrees above the horizon."""

LARGEST = 16384
"""Most samples (pixels times supersample) along one side."""


@dataclass(frozen=True)
class Rendered:
    """What V cameras saw, S x S pixels each, row 0 on top."""

    shading: NDArray[np.uint8]
    """(V, S, S): grey, 255 is ground."""
    depth: NDArray[np.float32] | None
    """(V, S, S): distance from the camera along its axis, in radii; inf is ground. Of the pixel's nearest sample."""
    normals: NDArray[np.int8] | None
    """(V, S, S, 3): the normal in the shape's axes, towards the camera, times 127; 0 is ground. Of the nearest sample."""


def camera_ring(views: int = 12, elevation: float = ELEVATION) -> NDArray[np.float64]:
    """-> (views, 3, 4): [R | t] takes a point of the shape to the camera's axes: x right, y down, z forward.

    A point at (x, y, z) there is seen at column (S / 2) + focal(S) x / z, row (S / 2) + focal(S) y / z of S pixels.
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
    """vertices (V, 3) in the unit sphere, faces (F, 3) -> views on a ring; the faces' winding does not matter.

    Flat faces, two-sided Lambert shading, the light at the camera. Raises ValueError for what lies outside the sphere.
    """
    from crosshape.shapes import raster

    corners, place = _inside(vertices, faces)
    unit_normals, _ = face_normals(corners, place)
    middle = size * supersample / 2
    length = focal(size * supersample)

    def draw(cameras: NDArray[np.float64], near: Any, owner: Any, finish: Callable[[int], None]) -> None:
        screen = np.empty((len(corners), 3), np.float32)
        cells = np.empty(len(corners), np.int32)
        kept = np.empty(len(place) + 1, np.int32)
        for i, camera in enumerate(cameras):
            raster.project(corners, camera, length, middle, screen, cells)
            count = raster.candidates(place, cells, kept)
            raster.draw_faces(place, screen, kept, count, near, owner)
            finish(i)

    return _render(draw, unit_normals, views, size, supersample, depth, normals, threads)


RADIUS = 1.0
SLANT = 0.35
BULGE = 0.5


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

    Every point is a disc across its normal, as wide as the distance to its neighbours; shaded like a mesh.
    """
    from scipy.spatial import cKDTree

    from crosshape.shapes import raster
    from crosshape.shapes.surface import NEIGHBOURS

    cloud, _ = _inside(points, np.zeros((0, 3), np.int32))
    distance, index = cKDTree(cloud).query(cloud, k=min(NEIGHBOURS, len(cloud)))
    distance, index = distance.reshape(len(cloud), -1), index.reshape(len(cloud), -1)
    if normals is None:
        unit_normals = raster.plane_normals(cloud, index)
    else:
        unit_normals = np.ascontiguousarray(normals, dtype=np.float32)
    radii = (RADIUS * distance[:, min(6, distance.shape[1] - 1)]).astype(np.float32)
    middle = size * supersample / 2
    length = focal(size * supersample)

    def draw(cameras: NDArray[np.float64], near: Any, owner: Any, finish: Callable[[int], None]) -> None:
        for i, camera in enumerate(cameras):
            raster.draw_discs(cloud, unit_normals, radii, camera, length, middle, SLANT, BULGE, near, owner)
            finish(i)

    return _render(draw, unit_normals, views, size, supersample, depth, False, threads)


def _inside(
    vertices: NDArray[np.floating], faces: NDArray[np.integer]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Vertices and faces as the z-buffer wants them. Raises ValueError for what it could not draw."""
    place = np.ascontiguousarray(vertices, dtype=np.float32).reshape(-1, 3)
    corners = np.ascontiguousarray(faces, dtype=np.int32).reshape(-1, 3)
    if corners.size and not (corners.min() >= 0 and corners.max() < len(place)):
        raise ValueError(f"a face names vertex {corners.max()}, there are {len(place)}")
    reach = np.einsum("ij,ij->i", place, place)
    if corners.size and not reach.max(initial=0.0) <= 1.001:
        used, corners = np.unique(corners, return_inverse=True)
        place, reach = place[used], reach[used]
        corners = np.ascontiguousarray(corners.reshape(-1, 3), dtype=np.int32)
    if not reach.max(initial=0.0) <= 1.001:
        raise ValueError("the shape must lie in the unit sphere; see normalise")
    return place, corners


def _render(
    draw: Callable[[NDArray[np.float64], Any, Any, Callable[[int], None]], None],
    unit_normals: NDArray[np.float32],
    views: int,
    size: int,
    supersample: int,
    depth: bool,
    normals: bool,
    threads: int,
) -> Rendered:
    from concurrent.futures import ThreadPoolExecutor

    from crosshape.shapes import raster

    samples = size * supersample
    if not 0 < samples <= LARGEST:
        raise ValueError(f"size {size} times supersample {supersample} must be between 1 and {LARGEST}")
    cameras = camera_ring(views)
    greys = np.array([GROUND, EDGE, FRONT], np.float32)
    shading = np.empty((views, size, size), np.uint8)
    far = np.empty((views, size, size) if depth else (views, 0, 0), np.float32)
    facing = np.empty((views, size, size, 3) if normals else (views, 0, 0, 0), np.int8)

    def part(first: int, last: int) -> None:
        near = np.zeros((samples, samples), np.float32)
        owner = np.full((samples, samples), -1, np.int32)

        def finish(i: int) -> None:
            raster.resolve(
                near,
                owner,
                unit_normals,
                cameras[first + i],
                focal(samples),
                samples / 2,
                supersample,
                greys,
                shading[first + i],
                far[first + i],
                facing[first + i],
            )

        draw(cameras[first:last], near, owner, finish)

    threads = max(1, min(threads, views))
    bounds = [views * i // threads for i in range(threads + 1)]
    if threads == 1:
        part(0, views)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(part, bounds[:-1], bounds[1:]))
    return Rendered(shading, far if depth else None, facing if normals else None)
