"""The z-buffer: numba loops over faces, discs and samples; arrays in, arrays out, no checks (views.py makes them).

Every loop runs without the interpreter's lock and starts no threads of its own, so it is safe on any thread and after a
fork. Nothing is compiled with fast-math: the same arrays give the same bytes on every machine.

Screen: x to the right, y down, in samples; the centre of sample (row, column) lies at (column + 0.5, row + 0.5).
A buffer `near` holds 1/z (0 where nothing is), `owner` the number of the face or point that was seen (-1).
1/z is linear on the screen, so faces and discs need no division between the ends of a row.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

compiled = numba.njit(nogil=True, cache=True, error_model="numpy")


@compiled
def project(vertices: Array, camera: Array, focal: float, middle: float, screen: Array, cells: Array) -> None:
    """vertices (V, 3), camera (3, 4) -> screen (V, 3) float32: x, y, 1/z; cells (V,) int32: next column << 16 | next row."""
    for i in range(len(vertices)):
        x, y, z = vertices[i, 0], vertices[i, 1], vertices[i, 2]
        inverse = 1.0 / (camera[2, 0] * x + camera[2, 1] * y + camera[2, 2] * z + camera[2, 3])
        across = np.float32(
            middle + focal * inverse * (camera[0, 0] * x + camera[0, 1] * y + camera[0, 2] * z + camera[0, 3])
        )
        down = np.float32(
            middle + focal * inverse * (camera[1, 0] * x + camera[1, 1] * y + camera[1, 2] * z + camera[1, 3])
        )
        screen[i, 0] = across
        screen[i, 1] = down
        screen[i, 2] = inverse
        cells[i] = (np.int32(np.ceil(across - 0.5)) << 16) | np.int32(np.ceil(down - 0.5))


@compiled
def candidates(faces: Array, cells: Array, kept: Array) -> int:
    """The numbers of the faces whose box holds the centre of a sample, written to kept; returns how many."""
    count = 0
    for f in range(len(faces)):
        a, b, c = cells[faces[f, 0]], cells[faces[f, 1]], cells[faces[f, 2]]
        differ = (a ^ b) | (a ^ c)
        kept[count] = f
        count += np.int64(((differ & 0xFFFF) != 0) & ((differ >> 16) != 0))
    return count


@compiled
def draw_faces(faces: Array, screen: Array, kept: Array, count: int, near: Array, owner: Array) -> None:
    """Faces kept[:count] into near, owner (S, S). A sample belongs to a face when its centre lies inside; faces that share
    an edge share its ends, so no sample falls between them."""
    size = near.shape[0]
    for i in range(count):
        f = kept[i]
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        if screen[a, 1] > screen[b, 1]:
            a, b = b, a
        if screen[b, 1] > screen[c, 1]:
            b, c = c, b
            if screen[a, 1] > screen[b, 1]:
                a, b = b, a
        x0, y0, z0 = np.float64(screen[a, 0]), np.float64(screen[a, 1]), np.float64(screen[a, 2])
        x1, y1, z1 = np.float64(screen[b, 0]), np.float64(screen[b, 1]), np.float64(screen[b, 2])
        x2, y2, z2 = np.float64(screen[c, 0]), np.float64(screen[c, 1]), np.float64(screen[c, 2])
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0.0:
            continue
        inverse = 1.0 / area
        step_x = ((z1 - z0) * (y2 - y0) - (z2 - z0) * (y1 - y0)) * inverse
        step_y = ((x1 - x0) * (z2 - z0) - (x2 - x0) * (z1 - z0)) * inverse
        long = (x2 - x0) / (y2 - y0)
        turn = max(0, min(size, np.int64(np.ceil(y1 - 0.5))))
        for half in range(2):
            if half == 0:
                first_row, last_row = max(0, np.int64(np.ceil(y0 - 0.5))), turn
                short, from_x, from_y = (x1 - x0) / (y1 - y0), x0, y0
            else:
                first_row, last_row = turn, min(size, np.int64(np.ceil(y2 - 0.5)))
                short, from_x, from_y = (x2 - x1) / (y2 - y1), x1, y1
            for row in range(first_row, last_row):
                y = row + 0.5
                one = x0 + (y - y0) * long
                two = from_x + (y - from_y) * short
                first = max(0, np.int64(np.ceil(min(one, two) - 0.5)))
                last = min(size, np.int64(np.ceil(max(one, two) - 0.5)))
                z = np.float32(z0 + (first + 0.5 - x0) * step_x + (y - y0) * step_y)
                step = np.float32(step_x)
                for column in range(first, last):
                    if z > near[row, column]:
                        near[row, column] = z
                        owner[row, column] = f
                    z += step


@compiled
def draw_discs(
    points: Array,
    normals: Array,
    radii: Array,
    camera: Array,
    focal: float,
    middle: float,
    slant: float,
    bulge: float,
    near: Array,
    owner: Array,
) -> None:
    """Discs around points (N, 3), across normals (N, 3), of radii (N,), in exact perspective, into near, owner (S, S).

    A disc seen at a cosine below `slant` is turned up to it, so that it never gets thinner than that. Its rim lies back by
    `bulge` radii, so that where discs overlap the nearest centre wins and no rim cuts into a neighbour.
    A disc is never smaller than 3/4 of a sample in radius.
    """
    size = near.shape[0]
    for i in range(len(points)):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        p0 = camera[0, 0] * x + camera[0, 1] * y + camera[0, 2] * z + camera[0, 3]
        p1 = camera[1, 0] * x + camera[1, 1] * y + camera[1, 2] * z + camera[1, 3]
        p2 = camera[2, 0] * x + camera[2, 1] * y + camera[2, 2] * z + camera[2, 3]
        x, y, z = normals[i, 0], normals[i, 1], normals[i, 2]
        n0 = camera[0, 0] * x + camera[0, 1] * y + camera[0, 2] * z
        n1 = camera[1, 0] * x + camera[1, 1] * y + camera[1, 2] * z
        n2 = camera[2, 0] * x + camera[2, 1] * y + camera[2, 2] * z
        far = np.sqrt(p0 * p0 + p1 * p1 + p2 * p2)
        w0, w1, w2 = p0 / far, p1 / far, p2 / far
        cosine = n0 * w0 + n1 * w1 + n2 * w2
        if cosine < 0.0:
            n0, n1, n2, cosine = -n0, -n1, -n2, -cosine
        if cosine < slant:
            s0, s1, s2 = n0 - cosine * w0, n1 - cosine * w1, n2 - cosine * w2
            scale = np.sqrt((1.0 - slant * slant) / max(s0 * s0 + s1 * s1 + s2 * s2, 1e-12))
            n0, n1, n2 = scale * s0 + slant * w0, scale * s1 + slant * w1, scale * s2 + slant * w2
        plane = 1.0 / (n0 * p0 + n1 * p1 + n2 * p2)
        radius = max(np.float64(radii[i]), 0.75 * p2 / focal)
        square = radius * radius
        # On the ray (u, v, 1) the disc's plane is met at 1/z = alpha u + beta v + gamma, inside the disc where
        # |(u, v, 1) - p / z|^2 <= (radius / z)^2: along a row both are polynomials of u.
        alpha, beta, gamma = n0 * plane, n1 * plane, n2 * plane
        a0, a1, a2 = 1.0 - p0 * alpha, -p1 * alpha, -p2 * alpha
        quadratic = a0 * a0 + a1 * a1 + a2 * a2 - square * alpha * alpha
        reach = focal * radius / (p2 - radius)
        centre = middle + focal * p1 / p2
        first_row = max(0, np.int64(np.ceil(centre - reach - 0.5)))
        last_row = min(size, np.int64(np.ceil(centre + reach - 0.5)))
        push = bulge / radius
        rim = square / (p2 * p2)
        for row in range(first_row, last_row):
            v = (row + 0.5 - middle) / focal
            e = beta * v + gamma
            b0, b1, b2 = -p0 * e, v - p1 * e, 1.0 - p2 * e
            linear = a0 * b0 + a1 * b1 + a2 * b2 - square * alpha * e
            constant = b0 * b0 + b1 * b1 + b2 * b2 - square * e * e
            inside = linear * linear - quadratic * constant
            if inside <= 0.0:
                continue
            half = np.sqrt(inside) / quadratic
            first = max(0, np.int64(np.ceil(middle + focal * (-linear / quadratic - half) - 0.5)))
            last = min(size, np.int64(np.ceil(middle + focal * (-linear / quadratic + half) - 0.5)))
            for column in range(first, last):
                u = (column + 0.5 - middle) / focal
                depth = np.float32(
                    alpha * u + e - push * (quadratic * u * u + 2.0 * linear * u + constant + rim)
                )
                if depth > near[row, column]:
                    near[row, column] = depth
                    owner[row, column] = i


@compiled
def resolve(
    near: Array,
    owner: Array,
    unit_normals: Array,
    camera: Array,
    focal: float,
    middle: float,
    supersample: int,
    greys: Array,
    shading: Array,
    depth: Array,
    normals: Array,
) -> None:
    """Samples (S * supersample, S * supersample) -> shading (S, S) uint8, and where they have a size: depth (S, S) float32
    (inf: ground) and normals (S, S, 3) int8 (0: ground) of the nearest sample of each pixel. Empties near and owner.

    greys: ground, grey of a face seen from its edge, grey of one seen from the front.
    """
    size = shading.shape[0]
    ground, edge, span = greys[0], greys[1], greys[2] - greys[1]
    share = np.float32(1.0 / (supersample * supersample))
    for row in range(size):
        for column in range(size):
            total = np.float32(0.0)
            best = np.float32(0.0)
            winner = -1
            for j in range(row * supersample, (row + 1) * supersample):
                v = np.float32((j + 0.5 - middle) / focal)
                for i in range(column * supersample, (column + 1) * supersample):
                    face = owner[j, i]
                    if face < 0:
                        total += ground
                        continue
                    u = np.float32((i + 0.5 - middle) / focal)
                    # the ray through the sample in the shape's own axes, against the face's normal
                    x = camera[0, 0] * u + camera[1, 0] * v + camera[2, 0]
                    y = camera[0, 1] * u + camera[1, 1] * v + camera[2, 1]
                    z = camera[0, 2] * u + camera[1, 2] * v + camera[2, 2]
                    cosine = x * unit_normals[face, 0] + y * unit_normals[face, 1] + z * unit_normals[face, 2]
                    total += edge + span * np.float32(abs(cosine) / np.sqrt(u * u + v * v + np.float32(1.0)))
                    if near[j, i] > best:
                        best = near[j, i]
                        winner = face
                    near[j, i] = 0.0
                    owner[j, i] = -1
            shading[row, column] = np.uint8(total * share + np.float32(0.5))
            if depth.size:
                depth[row, column] = np.float32(1.0) / best
            if normals.size:
                if winner < 0:
                    normals[row, column, :] = 0
                    continue
                u = (column + 0.5) * supersample - middle
                v = (row + 0.5) * supersample - middle
                facing = 0.0
                for axis in range(3):
                    ray = camera[0, axis] * u + camera[1, axis] * v + camera[2, axis] * focal
                    facing += ray * unit_normals[winner, axis]
                sign = -127.0 if facing > 0.0 else 127.0
                for axis in range(3):
                    normals[row, column, axis] = np.int8(np.rint(sign * unit_normals[winner, axis]))


@compiled
def plane_normals(cloud: Array, neighbours: Array) -> Array:
    """cloud (N, 3), neighbours (M, k) -> unit normals (M, 3) float32 of the planes nearest to them, +Z where any plane fits.

    The eigenvector of the smallest eigenvalue of the 3 x 3 covariance, in closed form, in float64.
    """
    result = np.empty((len(neighbours), 3), np.float32)
    k = neighbours.shape[1]
    for m in range(len(neighbours)):
        m0 = m1 = m2 = 0.0
        for j in range(k):
            i = neighbours[m, j]
            m0 += cloud[i, 0]
            m1 += cloud[i, 1]
            m2 += cloud[i, 2]
        m0, m1, m2 = m0 / k, m1 / k, m2 / k
        xx = yy = zz = xy = xz = yz = 0.0
        for j in range(k):
            i = neighbours[m, j]
            x, y, z = cloud[i, 0] - m0, cloud[i, 1] - m1, cloud[i, 2] - m2
            xx += x * x
            yy += y * y
            zz += z * z
            xy += x * y
            xz += x * z
            yz += y * z
        result[m, 0], result[m, 1], result[m, 2] = smallest_axis(xx, yy, zz, xy, xz, yz)
    return result


@compiled
def smallest_axis(
    xx: float, yy: float, zz: float, xy: float, xz: float, yz: float
) -> tuple[float, float, float]:
    """The six numbers of a symmetric 3 x 3 matrix -> unit eigenvector of its smallest eigenvalue (trigonometric form)."""
    mean = (xx + yy + zz) / 3.0
    xx, yy, zz = xx - mean, yy - mean, zz - mean
    size = np.sqrt((xx * xx + yy * yy + zz * zz + 2.0 * (xy * xy + xz * xz + yz * yz)) / 6.0)
    if not size > 1e-12 * mean:
        return 0.0, 0.0, 1.0
    determinant = (xx * (yy * zz - yz * yz) - xy * (xy * zz - yz * xz) + xz * (xy * yz - yy * xz)) / (
        2.0 * size**3
    )
    angle = np.arccos(min(1.0, max(-1.0, determinant))) / 3.0
    value = 2.0 * size * np.cos(angle + 2.0 * np.pi / 3.0)
    xx, yy, zz = xx - value, yy - value, zz - value
    best = -1.0
    n0, n1, n2 = 0.0, 0.0, 1.0
    # the rows of (matrix - value) span the plane across the vector: the longest cross product of two of them gives it
    for pair in range(3):
        if pair == 0:
            c0, c1, c2 = xy * yz - xz * yy, xz * xy - xx * yz, xx * yy - xy * xy
        elif pair == 1:
            c0, c1, c2 = xy * zz - xz * yz, xz * xz - xx * zz, xx * yz - xy * xz
        else:
            c0, c1, c2 = yy * zz - yz * yz, yz * xz - xy * zz, xy * yz - yy * xz
        length = c0 * c0 + c1 * c1 + c2 * c2
        if length > best:
            best, n0, n1, n2 = length, c0, c1, c2
    if not best > 1e-20 * size**4:
        # points along a line: the matrix is a multiple of d d^T; across d lies its cross product with the smallest axis
        if xx <= min(yy, zz):
            n0, n1, n2 = (0.0, xz, -xy) if yy + zz > 0.0 and abs(xz) + abs(xy) > 0.0 else (1.0, 0.0, 0.0)
        elif yy <= zz:
            n0, n1, n2 = (-yz, 0.0, xy) if abs(yz) + abs(xy) > 0.0 else (0.0, 1.0, 0.0)
        else:
            n0, n1, n2 = (yz, -xz, 0.0) if abs(yz) + abs(xz) > 0.0 else (0.0, 0.0, 1.0)
    length = np.sqrt(n0 * n0 + n1 * n1 + n2 * n2)
    return n0 / length, n1 / length, n2 / length
