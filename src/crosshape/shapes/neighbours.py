"""What its neighbours tell of the surface a point was taken from: the normal there, the faces between."""

# mypy: disable-error-code="assignment,call-overload,operator,arg-type"
# (inside the loops numba gives the types)
from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float32]

compiled = numba.njit(nogil=True, cache=True, error_model="numpy")


def nearest(cloud: Floats, places: Floats, k: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """cloud (N, 3), places (M, 3) -> distances (M, k), numbers (M, k) of the k nearest points."""
    from scipy.spatial import cKDTree

    distance, number = cKDTree(cloud).query(places, k=min(k, len(cloud)))
    return distance.reshape(len(places), -1), number.reshape(len(places), -1)


def normals_from(cloud: Floats, distance: NDArray[np.float64], number: NDArray[np.int64]) -> Floats:
    """cloud (N, 3), its nearest neighbours (N, k) -> unit normals (N, 3) float32 of any sign, smoothed."""
    distance, number = np.ascontiguousarray(distance), np.ascontiguousarray(number)
    normals, flatness = plane_normals(cloud, number)
    return smooth_normals(normals, flatness, distance, number)


@compiled
def plane_normals(cloud: Array, number: Array) -> tuple[Array, Array]:
    """cloud (N, 3), number (M, k) -> unit normals (M, 3) float32 of planes through them, flatness (M,).

    The normal is the eigenvector of the smallest eigenvalue of their covariance (Hoppe et al. 1992), +Z where
    every plane fits; flatness is 1 for points in a plane and 0 for points that fill a ball, a tube or a line.
    """
    normals = np.empty((len(number), 3), np.float32)
    flatness = np.empty(len(number))
    k = number.shape[1]
    for m in range(len(number)):
        m0 = m1 = m2 = 0.0
        for j in range(k):
            i = number[m, j]
            m0 += cloud[i, 0]
            m1 += cloud[i, 1]
            m2 += cloud[i, 2]
        m0, m1, m2 = m0 / k, m1 / k, m2 / k
        xx = yy = zz = xy = xz = yz = 0.0
        for j in range(k):
            i = number[m, j]
            x, y, z = cloud[i, 0] - m0, cloud[i, 1] - m1, cloud[i, 2] - m2
            xx += x * x
            yy += y * y
            zz += z * z
            xy += x * y
            xz += x * z
            yz += y * z
        n0, n1, n2, small, second = smallest_axis(xx, yy, zz, xy, xz, yz)
        normals[m, 0], normals[m, 1], normals[m, 2] = n0, n1, n2
        flatness[m] = max(0.0, 1.0 - 2.0 * small / second) if second > 0.0 else 0.0
    return normals, flatness


@compiled
def smooth_normals(normals: Array, flatness: Array, distance: Array, number: Array) -> Array:
    """Unit normals (N, 3) of any sign -> the axis nearest to those of the neighbours (N, k).

    The largest eigenvector of the sum of w n n^T, w = flatness^2 exp(-(distance / middle distance)^2):
    signs do not matter, and the flat sides of an edge win over the rounded normals on it.
    """
    k = number.shape[1]
    result = np.empty_like(normals)
    for i in range(len(normals)):
        reach = max(distance[i, k // 2], 1e-12)
        xx = yy = zz = xy = xz = yz = 0.0
        for j in range(k):
            m = number[i, j]
            ratio = distance[i, j] / reach
            w = max(flatness[m], 0.02) ** 2 * np.exp(-ratio * ratio)
            x, y, z = np.float64(normals[m, 0]), np.float64(normals[m, 1]), np.float64(normals[m, 2])
            xx -= w * x * x
            yy -= w * y * y
            zz -= w * z * z
            xy -= w * x * y
            xz -= w * x * z
            yz -= w * y * z
        n0, n1, n2, _small, _middle = smallest_axis(xx, yy, zz, xy, xz, yz)
        result[i, 0], result[i, 1], result[i, 2] = n0, n1, n2
    return result


@compiled
def smallest_axis(
    xx: float, yy: float, zz: float, xy: float, xz: float, yz: float
) -> tuple[float, float, float, float, float]:
    """A symmetric 3 x 3 matrix -> unit eigenvector of the smallest eigenvalue, that one, the middle one.

    By the roots of the characteristic cubic (Smith 1961). Where eigenvalues are equal, any of their vectors.
    """
    mean = (xx + yy + zz) / 3.0
    xx, yy, zz = xx - mean, yy - mean, zz - mean
    size = np.sqrt((xx * xx + yy * yy + zz * zz + 2.0 * (xy * xy + xz * xz + yz * yz)) / 6.0)
    if not size > 1e-12 * abs(mean):
        return 0.0, 0.0, 1.0, mean, mean
    determinant = (xx * (yy * zz - yz * yz) - xy * (xy * zz - yz * xz) + xz * (xy * yz - yy * xz)) / (
        2.0 * size**3
    )
    angle = np.arccos(min(1.0, max(-1.0, determinant))) / 3.0
    large = 2.0 * size * np.cos(angle)
    small = 2.0 * size * np.cos(angle + 2.0 * np.pi / 3.0)
    middle = -large - small
    xx, yy, zz = xx - small, yy - small, zz - small
    # the rows of (matrix - eigenvalue) lie across the vector: it is the longest cross product of two of them
    x, y, z = xy * yz - xz * yy, xz * xy - xx * yz, xx * yy - xy * xy
    best = x * x + y * y + z * z
    c0, c1, c2 = xy * zz - xz * yz, xz * xz - xx * zz, xx * yz - xy * xz
    length = c0 * c0 + c1 * c1 + c2 * c2
    if length > best:
        best, x, y, z = length, c0, c1, c2
    c0, c1, c2 = yy * zz - yz * yz, yz * xz - xy * zz, xy * yz - yy * xz
    length = c0 * c0 + c1 * c1 + c2 * c2
    if length > best:
        best, x, y, z = length, c0, c1, c2
    if not best > 1e-20 * size**4:
        # a line: what is left is a multiple of d d^T, and anything across d will do
        if xx >= yy and xx >= zz:
            x, y, z = -xy, xx, 0.0
        elif yy >= zz:
            x, y, z = 0.0, -yz, yy
        else:
            x, y, z = zz, 0.0, -xz
        best = x * x + y * y + z * z
    length = np.sqrt(best)
    return x / length, y / length, z / length, small + mean, middle + mean


@compiled
def faces_between(cloud: Array, number: Array, reach: Array, faces: Array) -> int:
    """cloud (N, 3), number (N, k), reach (N,) -> how many faces; those that fit are in faces (F, 3).

    A face joins three neighbours when no other neighbour lies in the smallest ball around their circle (a
    Gabriel face of the Delaunay triangulation) and that circle's radius is at most the mean reach of the
    three.
    """
    count = 0
    k = number.shape[1]
    for i in range(len(number)):
        for first in range(1, k - 1):
            j = number[i, first]
            ax = np.float64(cloud[j, 0]) - cloud[i, 0]
            ay = np.float64(cloud[j, 1]) - cloud[i, 1]
            az = np.float64(cloud[j, 2]) - cloud[i, 2]
            aa = ax * ax + ay * ay + az * az
            for second in range(first + 1, k):
                m = number[i, second]
                bx = np.float64(cloud[m, 0]) - cloud[i, 0]
                by = np.float64(cloud[m, 1]) - cloud[i, 1]
                bz = np.float64(cloud[m, 2]) - cloud[i, 2]
                bb = bx * bx + by * by + bz * bz
                limit = (reach[i] + reach[j] + reach[m]) / 3.0
                if bb > 4.0 * limit * limit:
                    continue
                ab = ax * bx + ay * by + az * bz
                cross = aa * bb - ab * ab
                if cross <= 1e-12 * aa * bb:
                    continue
                if aa * bb * (aa + bb - 2.0 * ab) > 4.0 * cross * limit * limit:
                    continue  # the circle's radius is (product of the sides) / (4 area)
                half = 0.5 / cross
                s, t = (
                    bb * (aa - ab) * half,
                    aa * (bb - ab) * half,
                )  # its centre, seen from point i: s a + t b
                x, y, z = s * ax + t * bx, s * ay + t * by, s * az + t * bz
                square = x * x + y * y + z * z
                empty = True
                for other in range(1, k):
                    o = number[i, other]
                    if o == j or o == m:  # noqa: SIM109
                        continue
                    dx = cloud[o, 0] - cloud[i, 0] - x
                    dy = cloud[o, 1] - cloud[i, 1] - y
                    dz = cloud[o, 2] - cloud[i, 2] - z
                    if dx * dx + dy * dy + dz * dz < square * (1.0 - 1e-6):
                        empty = False
                        break
                if not empty:
                    continue
                if (j < i and knows(number, j, i, m)) or (m < i and knows(number, m, i, j)):
                    continue  # the smallest of those who see the other two has it already
                if count < len(faces):
                    faces[count, 0], faces[count, 1], faces[count, 2] = i, j, m
                count += 1
    return count


@compiled
def knows(number: Array, i: int, one: int, two: int) -> bool:
    """Whether both points are among the neighbours of point i."""
    found = 0
    for j in range(number.shape[1]):
        found += (number[i, j] == one) + (number[i, j] == two)
    return found == 2
