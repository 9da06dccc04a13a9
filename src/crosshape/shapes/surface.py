"""From a mesh or a cloud of any size and place to points and normals in the unit sphere; explicit seeds only.

Every function gives the same answer for the same arrays and seed, wherever and however often it is called.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crosshape.errors import UnreadableShape

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

CROWD = 8
"""A cloud is thinned to this many times the points that are wanted before normals are estimated."""

PLANE = 12
"""Points a normal is estimated from, the point itself among them; results/log.md: what else was measured."""

PLASTIC = (0.7548776662466927, 0.5698402909980532)
"""Steps of the R2 sequence: 1/g and 1/g**2 of the plastic number g (M. Roberts, 2018)."""


def checked(faces: NDArray[np.integer], vertices: int) -> NDArray[np.integer]:
    """Faces (F, 3) as the loops want them. Raises ValueError where one names a vertex that does not exist."""
    if len(faces) and not (faces.min() >= 0 and faces.max() < vertices):
        raise ValueError(f"faces name vertices {faces.min()} to {faces.max()}, there are {vertices}")
    return np.ascontiguousarray(faces)


def normalise(vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> tuple[Floats, Doubles, float]:
    """(V, 3), (F, 3) or (0, 3) -> vertices (V, 3) float32 of centre 0, radius 1; centre (3,); radius.

    The centre is the centroid of the surface (by area), for a cloud the mean of its points. The radius is the
    largest distance from it to a vertex that a face uses, for a cloud to a point. Computed in float64.
    Raises UnreadableShape where there is nothing to scale: no points, not finite, or all at one place.
    """
    from crosshape.shapes import raster

    place = np.ascontiguousarray(vertices, dtype=np.float64).reshape(-1, 3)
    faces = checked(faces, len(place))
    mask = np.full(len(place), len(faces) == 0)
    raster.mark_used(faces, mask)
    used = place if mask.all() else place[mask]
    if len(used) == 0:
        raise UnreadableShape("it has no points")
    low, high = used.min(axis=0), used.max(axis=0)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise UnreadableShape("it has coordinates that are not finite numbers")
    middle = low / 2 + high / 2
    extent = float((high / 2 - low / 2).max())
    if extent <= 1e-12 * float(np.abs(middle).max()) or extent < 1e-150:
        raise UnreadableShape("all its points lie at one place")
    with np.errstate(over="ignore", invalid="ignore"):  # vertices that no face uses may lie anywhere
        unit = (place - middle) / extent  # about 1 across, so that no square below runs over
    offset = raster.area_centroid(unit, faces) if len(faces) else unit.mean(axis=0)
    reach = (unit if used is place else unit[mask]) - offset
    radius = float(np.sqrt((reach * reach).sum(axis=1).max()))
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = ((unit - offset) / radius).astype(np.float32)
    return scaled, middle + offset * extent, radius * extent


def face_normals(vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> tuple[Floats, Doubles]:
    """(V, 3), (F, 3) -> unit normals (F, 3) float32 by the order of corners, 0 without area; area (F,)."""
    from crosshape.shapes import raster

    normals, area = np.empty((len(faces), 3), np.float32), np.empty(len(faces))
    raster.face_normals(np.ascontiguousarray(vertices), checked(faces, len(vertices)), normals, area)
    return normals, area


def sample_surface(
    vertices: NDArray[np.floating], faces: NDArray[np.integer], count: int, seed: int
) -> tuple[Floats, Floats, Integers]:
    """(V, 3), (F, 3) -> points (count, 3) float32 by area, their faces' normals, face numbers (count,).

    One point for each of `count` equal stretches of the summed area; several points on one face follow the R2
    sequence instead of falling at random. Then the order is shuffled: any first part is a fair sample too.
    Raises UnreadableShape for a surface without area.
    """
    normals, area = face_normals(vertices, faces)
    total = np.cumsum(area)
    if len(total) == 0 or not total[-1] > 0:
        raise UnreadableShape("its surface has no area")
    random = np.random.Generator(np.random.PCG64(seed))
    place = (np.arange(count) + random.random(count)) / count * total[-1]
    chosen = np.minimum(np.searchsorted(total, place, side="right"), np.flatnonzero(area)[-1])
    runs = np.arange(count) - np.searchsorted(chosen, chosen, side="left")  # 0, 1, 2 ... within each face
    shift = random.random((count, 2))[np.searchsorted(chosen, chosen, side="left")]
    across, along = ((shift + runs[:, None] * np.asarray(PLASTIC)) % 1.0).T
    root = np.sqrt(across)
    weights = np.stack([1 - root, root * (1 - along), root * along], axis=1)
    corners = np.asarray(vertices, dtype=np.float64)[faces[chosen]]
    points = (weights[:, :, None] * corners).sum(axis=1)
    order = random.permutation(count)
    return points[order].astype(np.float32), normals[chosen[order]], chosen[order].astype(np.int64)


def sample_cloud(
    points: NDArray[np.floating], normals: NDArray[np.floating] | None, count: int, seed: int
) -> tuple[Floats, Floats]:
    """(P, 3), unit normals (P, 3) or None -> (count, 3), (count, 3) float32: points drawn without repeats.

    Where there are fewer points than `count`, each is taken equally often, to within one. Missing normals are
    estimated from the neighbours, in a cloud thinned to CROWD times `count` points where it has more.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    order = random.permutation(len(points))[: CROWD * count]
    cloud = np.asarray(points)[order].astype(np.float32)
    known = estimate_normals(cloud) if normals is None else np.asarray(normals)[order].astype(np.float32)
    taken = random.permutation(np.arange(count) % len(cloud))
    return cloud[taken], known[taken]


def estimate_normals(points: NDArray[np.floating], k: int = PLANE) -> Floats:
    """(N, 3) -> unit normals (N, 3) float32 from the k nearest points of each; their sign says nothing.

    The plane nearest to the neighbours, then smoothed over them.
    """
    from crosshape.shapes.neighbours import nearest, normals_from

    cloud = np.ascontiguousarray(points, dtype=np.float32)
    return normals_from(cloud, *nearest(cloud, cloud, k))
