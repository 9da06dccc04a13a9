"""Solids made from code: every one is a skin drawn through rings of points.

Z is up, units are the caller's. Rings run counter-clockwise seen against the direction of travel, so that
faces point outwards. Caps are fans around the middle of a ring, right for outlines
that it sees whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

Array = np.ndarray
Random = np.random.Generator
Piece = tuple[Array, Array]
"""vertices (V, 3) float64, faces (F, 3) int64"""
Parts = dict[str, list[Piece]]
"""the pieces of a shape by the name of their part; an optional part that is missing has an empty list"""


def loft(rings: ArrayLike, closed: bool = False) -> Piece:
    """rings (M, n, 3) -> the skin through them; capped at both ends, or joined into a loop where closed."""
    points = np.asarray(rings, dtype=np.float64)
    count, around = points.shape[:2]
    row = np.arange(count if closed else count - 1)[:, None] * around
    above = (row + around) % (count * around)
    here = np.arange(around)
    there = (here + 1) % around
    faces = [
        np.stack([row + here, row + there, above + there], axis=-1).reshape(-1, 3),
        np.stack([row + here, above + there, above + here], axis=-1).reshape(-1, 3),
    ]
    vertices = points.reshape(-1, 3)
    if not closed:
        bottom, top, last = len(vertices), len(vertices) + 1, (count - 1) * around
        faces.append(np.stack([np.full(around, bottom), there, here], axis=-1))
        faces.append(np.stack([np.full(around, top), last + here, last + there], axis=-1))
        vertices = np.concatenate([vertices, points[:1].mean(axis=1), points[-1:].mean(axis=1)])
    return vertices, np.concatenate(faces)


def circle(radius: float = 1.0, sides: int = 32) -> Array:
    """(sides, 2) points of a circle, or of a regular polygon where sides are few."""
    angle = 2 * np.pi * (np.arange(sides) + 0.5) / sides
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def rectangle(width: float, depth: float, corner: float = 0.0, steps: int = 5) -> Array:
    """(n, 2) points of a rectangle around the origin, its corners rounded by the radius `corner`."""
    corner = min(corner, 0.499 * width, 0.499 * depth)
    if corner <= 0:
        corner, steps = 0.0, 1
    angle = np.linspace(0, np.pi / 2, steps) if steps > 1 else np.array([np.pi / 4])
    arc = corner * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    x, y = width / 2 - corner, depth / 2 - corner
    turns = [(1, 1, 0), (-1, 1, 1), (-1, -1, 2), (1, -1, 3)]
    quarter = np.array([[0.0, 1.0], [-1.0, 0.0]])
    return np.concatenate(
        [arc @ np.linalg.matrix_power(quarter, k) + (sx * x, sy * y) for sx, sy, k in turns]
    )


def smooth(points: ArrayLike, times: int = 3, closed: bool = False) -> Array:
    """(n, d) corners -> a smooth line, by cutting the corners (Chaikin 1974); ends stay where they are."""
    line = np.asarray(points, dtype=np.float64)
    for _ in range(times):
        following = np.roll(line, -1, axis=0) if closed else line[1:]
        before = line if closed else line[:-1]
        cut = np.stack([0.75 * before + 0.25 * following, 0.25 * before + 0.75 * following], axis=1)
        cut = cut.reshape(-1, line.shape[1])
        line = cut if closed else np.concatenate([line[:1], cut, line[-1:]])
    return line


def level(outline: Array, z: float) -> Array:
    """(n, 2) outline -> (n, 3) at height z."""
    return np.column_stack([outline, np.full(len(outline), z)])


def slab(outline: ArrayLike, low: float, high: float, bevel: float = 0.0, top: float = 1.0) -> Piece:
    """An outline (n, 2) extruded from z = low to high, its edges bevelled, the top scaled by `top`."""
    flat = np.asarray(outline, dtype=np.float64)
    middle = flat.mean(axis=0)
    bevel = min(bevel, 0.45 * (high - low))
    inset = 1 - bevel / max(np.abs(flat - middle).max(), 1e-9)
    levels = [(low, inset), (low + bevel, 1.0), (high - bevel, 1.0), (high, inset)]
    if bevel <= 0:
        levels = [(low, 1.0), (high, 1.0)]
    span = max(high - low, 1e-9)
    return loft(
        [level(middle + (flat - middle) * s * (1 + (top - 1) * (z - low) / span), z) for z, s in levels]
    )


def plate(outer: ArrayLike, inner: ArrayLike, low: float, high: float) -> Piece:
    """An outline (n, 2) with a hole (n, 2), extruded from z = low to high."""
    out, hole = np.asarray(outer, dtype=np.float64), np.asarray(inner, dtype=np.float64)
    return loft([level(out, low), level(out, high), level(hole, high), level(hole, low)], closed=True)


def box(size: Sequence[float], at: ArrayLike = (0, 0, 0), bevel: float = 0.0, top: float = 1.0) -> Piece:
    """A box of size (x, y, z) around the point `at`, its edges bevelled, its top scaled by `top`."""
    outline = rectangle(size[0], size[1], bevel, 3)
    return move(slab(outline, -size[2] / 2, size[2] / 2, bevel, top), at)


def lathe(
    profile: ArrayLike, sides: int = 40, wave: tuple[int, float] = (0, 0.0), twist: float = 0.0
) -> Piece:
    """A profile of (radius, z) from bottom to top turned around Z.

    wave = (count, depth) flutes the wall; twist turns it, in radians per unit of z.
    """
    line = np.asarray(profile, dtype=np.float64)
    around = 1 + wave[1] * np.cos(wave[0] * 2 * np.pi * np.arange(sides) / sides)
    angle = 2 * np.pi * np.arange(sides) / sides + twist * line[:, 1:]
    radius = line[:, :1] * around
    return loft(
        np.stack(
            [radius * np.cos(angle), radius * np.sin(angle), np.broadcast_to(line[:, 1:], angle.shape)],
            axis=-1,
        )
    )


def vessel(
    profile: ArrayLike, wall: float, sides: int = 40, wave: tuple[int, float] = (0, 0.0), twist: float = 0.0
) -> Piece:
    """A hollow lathe: the outside (radius, z) from bottom to rim, the inside set in by the wall."""
    outside = np.asarray(profile, dtype=np.float64)
    floor = outside[0, 1] + wall
    inside = outside[outside[:, 1] > floor][::-1] - (wall, 0.0)
    deepest = [max(np.interp(floor, outside[:, 1], outside[:, 0]) - wall, 0.2 * wall), floor]
    return lathe(
        np.concatenate([outside, np.maximum(inside, (0.2 * wall, -np.inf)), [deepest]]), sides, wave, twist
    )


def sweep(path: ArrayLike, section: Array, closed: bool = False, scale: ArrayLike = 1.0) -> Piece:
    """A section (n, 2) carried along a path (m, 3) without twisting; scale (m,) is its size there."""
    line = np.asarray(path, dtype=np.float64)
    around = np.concatenate([line[-1:], line, line[:1]])
    ahead = around[2:] - around[:-2] if closed else np.gradient(line, axis=0)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    side = np.cross(ahead[0], (0.0, 0.0, 1.0))
    if np.linalg.norm(side) < 1e-6:
        side = np.array([1.0, 0.0, 0.0])
    rings = []
    scales = np.broadcast_to(np.asarray(scale, dtype=np.float64), (len(line),))
    for point, direction, size in zip(line, ahead, scales, strict=True):
        side = side - direction * (side @ direction)
        side = side / np.linalg.norm(side)
        rings.append(point + size * (section[:, :1] * side + section[:, 1:] * np.cross(side, direction)))
    vertices, faces = loft(rings, closed)
    return vertices, faces[:, ::-1]


def tube(path: ArrayLike, radius: float, closed: bool = False, sides: int = 12) -> Piece:
    """A round tube along a path (m, 3)."""
    return sweep(path, circle(radius, sides), closed)


def rod(start: ArrayLike, end: ArrayLike, radius: float, tip: float | None = None, sides: int = 16) -> Piece:
    """A cylinder or cone between two points; `tip` is the radius at the end."""
    return sweep(np.array([start, end]), circle(1.0, sides), scale=[radius, radius if tip is None else tip])


def ball(radius: ArrayLike, at: ArrayLike = (0, 0, 0), sides: int = 24) -> Piece:
    """A sphere or ellipsoid (radius: one number or three) around the point `at`."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, sides // 2 + 1)
    vertices, faces = lathe(np.stack([np.cos(angle), np.sin(angle)], axis=1), sides)
    return vertices * np.asarray(radius, dtype=np.float64) + at, faces


def move(piece: Piece, by: ArrayLike = (0, 0, 0), turn: Sequence[float] = (0, 0, 0)) -> Piece:
    """The piece turned around X, then Y, then Z (radians), then shifted."""
    x, y, z = turn
    around_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    around_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    around_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    vertices, faces = piece
    return vertices @ (around_z @ around_y @ around_x).T + np.asarray(by, dtype=np.float64), faces


def four(x: float, y: float) -> list[tuple[float, float]]:
    """The four corners of a rectangle around the origin, counter-clockwise."""
    return [(x, y), (-x, y), (-x, -y), (x, -y)]


def chance(r: Random, of: float) -> bool:
    """True with the probability `of`."""
    return bool(r.random() < of)


def joined(pieces: Sequence[Piece]) -> Piece:
    """Several pieces as one, in their order."""
    starts = np.cumsum([0, *(len(vertices) for vertices, _ in pieces)])
    faces = [faces + start for (_, faces), start in zip(pieces, starts[:-1], strict=True)]
    return np.concatenate([vertices for vertices, _ in pieces]), np.concatenate(faces)
