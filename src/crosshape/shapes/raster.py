"""The z-buffer, and other numba loops over the faces of a mesh; arrays in, arrays out, checked by the callers.

The loops run without the interpreter's lock and start no threads of their own: safe on any thread and after a
fork. Nothing is compiled with fast-math, so that no sum depends on how a processor groups it.

Screen: x to the right, y down, in samples; sample (row, column) has its centre at (column + 0.5, row + 0.5).
A buffer `near` holds 1/z (0 where nothing is), `owner` the number of the face or point that was seen (-1).
1/z is linear on the screen, so faces and discs need no division between the ends of a row.
"""

# mypy: disable-error-code="assignment,call-overload,operator,arg-type"
# (inside the loops numba gives the types)
from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

compiled = numba.njit(nogil=True, cache=True, error_model="numpy")

UNSIGNED: Any = np.uintp
"""An index known not to be negative: saves the wrap-around that numba adds to the others."""


@compiled
def project(
    vertices: Array, camera: Array, focal: float, middle: float, screen: Array, cells: Array, box: Array
) -> None:
    """vertices (V, 3), camera (3, 4) -> screen (V, 3) float32: x, y, 1/z; cells (V,) int32; box (4,) int64.

    A cell is the next column << 16 | the next row of samples. The box: first and last + 1 column and row.
    """
    low_x, high_x, low_y, high_y = 1 << 15, 0, 1 << 15, 0
    for i in range(len(vertices)):
        x, y, z = vertices[i, 0], vertices[i, 1], vertices[i, 2]
        inverse = 1.0 / (camera[2, 0] * x + camera[2, 1] * y + camera[2, 2] * z + camera[2, 3])
        right = camera[0, 0] * x + camera[0, 1] * y + camera[0, 2] * z + camera[0, 3]
        down = camera[1, 0] * x + camera[1, 1] * y + camera[1, 2] * z + camera[1, 3]
        across = np.float32(middle + focal * inverse * right)
        along = np.float32(middle + focal * inverse * down)
        screen[i, 0] = across
        screen[i, 1] = along
        screen[i, 2] = inverse
        column, row = np.int32(np.ceil(across - 0.5)), np.int32(np.ceil(along - 0.5))
        cells[i] = (column << 16) | row
        low_x, high_x = min(low_x, column), max(high_x, column)
        low_y, high_y = min(low_y, row), max(high_y, row)
    box[0], box[1], box[2], box[3] = low_x, high_x, low_y, high_y


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
def draw_faces(
    faces: Array, screen: Array, cells: Array, kept: Array, count: int, near: Array, owner: Array
) -> None:
    """Faces kept[:count] into near, owner (S, S).

    A sample belongs to a face when its centre lies inside. Faces that share an edge compute the same ends of
    each row from it, so that no sample falls between them. Most faces of a fine mesh have one centre in their
    box: these are compared with what is there first and then tested at that centre, without any rows.
    """
    size = near.shape[0]
    for i in range(count):
        f = kept[UNSIGNED(i)]
        a, b, c = UNSIGNED(faces[f, 0]), UNSIGNED(faces[f, 1]), UNSIGNED(faces[f, 2])
        one_cell, two_cell, three_cell = cells[a], cells[b], cells[c]
        column, last = low_high(one_cell >> 16, two_cell >> 16, three_cell >> 16)
        row, last_row = low_high(one_cell & 0xFFFF, two_cell & 0xFFFF, three_cell & 0xFFFF)
        if last == column + 1 and last_row == row + 1:
            r, k = UNSIGNED(row), UNSIGNED(column)
            if max(screen[a, 2], screen[b, 2], screen[c, 2]) <= near[r, k]:
                continue
            x0, y0 = screen[a, 0] - (column + 0.5), screen[a, 1] - (row + 0.5)
            x1, y1 = screen[b, 0] - (column + 0.5), screen[b, 1] - (row + 0.5)
            x2, y2 = screen[c, 0] - (column + 0.5), screen[c, 1] - (row + 0.5)
            w0, w1, w2 = x1 * y2 - x2 * y1, x2 * y0 - x0 * y2, x0 * y1 - x1 * y0
            if (min(w0, w1, w2) >= 0.0) | (max(w0, w1, w2) <= 0.0):
                z = np.float32((w0 * screen[a, 2] + w1 * screen[b, 2] + w2 * screen[c, 2]) / (w0 + w1 + w2))
                if z > near[r, k]:
                    near[r, k] = z
                    owner[r, k] = f
            continue
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
        step_x = ((z1 - z0) * (y2 - y0) - (z2 - z0) * (y1 - y0)) / area
        step_y = ((x1 - x0) * (z2 - z0) - (x2 - x0) * (z1 - z0)) / area
        step = np.float32(step_x)
        long, upper, lower = (x2 - x0) / (y2 - y0), (x1 - x0) / (y1 - y0), (x2 - x1) / (y2 - y1)
        first_row = max(0, np.int64(np.ceil(y0 - 0.5)))
        last_row = min(size, np.int64(np.ceil(y2 - 0.5)))
        for row in range(first_row, last_row):
            y = row + 0.5
            one = x0 + (y - y0) * long
            two = x0 + (y - y0) * upper if y < y1 else x1 + (y - y1) * lower
            first = max(0, np.int64(np.ceil(min(one, two) - 0.5)))
            last = min(size, np.int64(np.ceil(max(one, two) - 0.5)))
            z = np.float32(z0 + (first + 0.5 - x0) * step_x + (y - y0) * step_y)
            r = UNSIGNED(row)
            if last - first < 16:
                for column in range(first, last):
                    k = UNSIGNED(column)
                    if z > near[r, k]:
                        near[r, k] = z
                        owner[r, k] = f
                    z += step
            else:  # in this form the compiler takes many samples at once, which pays from about 16 on
                for n in range(np.int32(last - first)):
                    k = UNSIGNED(first + n)
                    here = z + np.float32(n) * step
                    if here > near[r, k]:
                        near[r, k] = here
                        owner[r, k] = f


@compiled
def low_high(a: int, b: int, c: int) -> tuple[int, int]:
    """The least and the greatest of three."""
    return min(a, b, c), max(a, b, c)


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
    start: int,
    near: Array,
    owner: Array,
) -> None:
    """Discs around points (N, 3), across normals (N, 3), of radii (N,) into near, owner (S, S).

    In exact perspective; numbered from `start`. A disc seen at a cosine below `slant` is turned up to it,
    so that it is never thinner. Its rim lies back by `bulge` radii, so that where discs overlap the nearest
    centre wins and no rim cuts into a neighbour. A disc of a
    radius below 3/4 of a sample gets that and faces the camera: it covers a sample wherever it lies.
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
        radius, least = np.float64(radii[i]), slant
        if radius < 0.75 * p2 / focal:
            radius, least = 0.75 * p2 / focal, 1.0
        if cosine < least:
            s0, s1, s2 = n0 - cosine * w0, n1 - cosine * w1, n2 - cosine * w2
            scale = np.sqrt((1.0 - least * least) / max(s0 * s0 + s1 * s1 + s2 * s2, 1e-12))
            n0, n1, n2 = scale * s0 + least * w0, scale * s1 + least * w1, scale * s2 + least * w2
        plane = 1.0 / (n0 * p0 + n1 * p1 + n2 * p2)
        square = radius * radius
        # The ray (u, v, 1) meets the disc's plane at 1/z = alpha u + beta v + gamma, inside the disc where
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
                    owner[row, column] = start + i


@compiled
def resolve(
    near: Array,
    owner: Array,
    unit_normals: Array,
    camera: Array,
    focal: float,
    middle: float,
    supersample: int,
    box: Array,
    greys: Array,
    shading: Array,
    depth: Array,
    normals: Array,
) -> None:
    """Samples (S * supersample, S * supersample) -> shading (S, S) uint8; near and owner are emptied.

    Also, unless these have size 0: depth (S, S) float32, inf on the ground, and normals (S, S, 3) int8, 0
    on the ground, both of the nearest sample of a pixel. box: first and last + 1 column and row of samples
    that may be covered. greys: of the ground, of a face seen from its edge, of one seen from the front.
    """
    size = shading.shape[0]
    ground, edge, span = greys[0], greys[1], greys[2] - greys[1]
    share = np.float32(1.0 / (supersample * supersample))
    pixel = np.float32(1.0 / focal)
    shift = np.float32(0.5 - middle)
    inner = np.float32(0.5 * (supersample - 1))
    rays = camera[:, :3].astype(np.float32)
    left, right = max(0, box[0] // supersample), min(size, (box[1] - 1) // supersample + 1)
    top, bottom = max(0, box[2] // supersample), min(size, (box[3] - 1) // supersample + 1)
    shading[:] = np.uint8(ground)
    if depth.size:
        depth[:] = np.inf
    if normals.size:
        normals[:] = 0
    for row in range(top, bottom):
        first_j = row * supersample
        for column in range(left, right):
            first_i = column * supersample
            face = owner[UNSIGNED(first_j), UNSIGNED(first_i)]
            same = True
            for j in range(first_j, first_j + supersample):
                for i in range(first_i, first_i + supersample):
                    same &= owner[UNSIGNED(j), UNSIGNED(i)] == face
            if same:
                if face < 0:
                    continue
                u, v = (first_i + inner + shift) * pixel, (first_j + inner + shift) * pixel
                grey = edge + span * abs(facing(unit_normals, face, rays, u, v))
            else:
                total = np.float32(0.0)
                for j in range(first_j, first_j + supersample):
                    for i in range(first_i, first_i + supersample):
                        here = owner[UNSIGNED(j), UNSIGNED(i)]
                        if here < 0:
                            total += ground
                        else:
                            u, v = (i + shift) * pixel, (j + shift) * pixel
                            total += edge + span * abs(facing(unit_normals, here, rays, u, v))
                grey = total * share
            shading[row, column] = np.uint8(grey + np.float32(0.5))
            if depth.size or normals.size:
                best = np.float32(0.0)
                for j in range(first_j, first_j + supersample):
                    for i in range(first_i, first_i + supersample):
                        if near[j, i] > best:
                            best, face = near[j, i], owner[j, i]
                if depth.size:
                    depth[row, column] = np.float32(1.0) / best
                if normals.size:
                    u, v = (first_i + inner + shift) * pixel, (first_j + inner + shift) * pixel
                    sign = -127.0 if facing(unit_normals, face, rays, u, v) > 0.0 else 127.0
                    for axis in range(3):
                        normals[row, column, axis] = np.int8(np.rint(sign * unit_normals[face, axis]))
        for j in range(first_j, first_j + supersample):
            near[j, left * supersample : right * supersample] = 0.0
            owner[j, left * supersample : right * supersample] = -1


@compiled
def facing(unit_normals: Array, face: int, rays: Array, u: float, v: float) -> float:
    """The cosine between a face's normal and the ray (u, v, 1) of a camera whose axes are rays[0..2]."""
    x = rays[0, 0] * u + rays[1, 0] * v + rays[2, 0]
    y = rays[0, 1] * u + rays[1, 1] * v + rays[2, 1]
    z = rays[0, 2] * u + rays[1, 2] * v + rays[2, 2]
    f = UNSIGNED(face)
    along = x * unit_normals[f, 0] + y * unit_normals[f, 1] + z * unit_normals[f, 2]
    return along / np.sqrt(u * u + v * v + np.float32(1.0))


@compiled
def face_normals(vertices: Array, faces: Array, normals: Array, area: Array) -> None:
    """vertices (V, 3), faces (F, 3) -> unit normals (F, 3), 0 where there is no area; area (F,) float64."""
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, az = np.float64(vertices[a, 0]), np.float64(vertices[a, 1]), np.float64(vertices[a, 2])
        bx, by, bz = vertices[b, 0] - ax, vertices[b, 1] - ay, vertices[b, 2] - az
        cx, cy, cz = vertices[c, 0] - ax, vertices[c, 1] - ay, vertices[c, 2] - az
        x, y, z = by * cz - bz * cy, bz * cx - bx * cz, bx * cy - by * cx
        length = np.sqrt(x * x + y * y + z * z)
        area[f] = 0.5 * length
        scale = 1.0 / length if length > 0.0 else 0.0
        normals[f, 0], normals[f, 1], normals[f, 2] = x * scale, y * scale, z * scale


@compiled
def mark_used(faces: Array, used: Array) -> None:
    """faces (F, 3) -> True in used (V,) for every vertex a face names."""
    for f in range(len(faces)):
        used[faces[f, 0]] = used[faces[f, 1]] = used[faces[f, 2]] = True


@compiled
def area_centroid(vertices: Array, faces: Array) -> Array:
    """vertices (V, 3) float64, faces (F, 3) -> centroid (3,) of the surface by area, 0 where it has none."""
    total, result = 0.0, np.zeros(3)
    for f in range(len(faces)):
        a, b, c = vertices[faces[f, 0]], vertices[faces[f, 1]], vertices[faces[f, 2]]
        bx, by, bz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
        cx, cy, cz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
        x, y, z = by * cz - bz * cy, bz * cx - bx * cz, bx * cy - by * cx
        area = np.sqrt(x * x + y * y + z * z)
        total += area
        for axis in range(3):
            result[axis] += area * (a[axis] + b[axis] + c[axis])
    return result / (3.0 * total) if total > 0.0 else np.zeros(3)
