"""Lay one shape on another and measure what is between them.

Both shapes are normalised (centre 0, radius 1), so that a copy that was moved and scaled differs by a rotation,
or a rotation and a mirror, only. Frames of principal axes give candidates (Q E_a^T for all signed permutations Q
that the spreads allow, more where spreads are equal and axes say nothing); the best are refined by point-to-plane
ICP (Chen and Medioni 1991). Distances are measured both ways, from points of one surface to the faces of the
other, as shares of the radius.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

ALIKE = 0.05
"""Spreads along two axes that differ by less (in radii) may be exchanged, and leave the axes between them open."""

FIRST, COARSELY, THEN = 48, 128, 256
"""Points that try a rotation, that refine it on the library's points, and on dense ones."""

HOPELESS = 1.9
"""Spacings of the points above which the best of all rotations is not refined."""

TRIM = 0.01
"""Radii within which a point takes part in a refinement, and three times the middle distance."""

STARTS = 2
"""Rotations that are refined, and as many with a mirror."""

NEAR, WIDER = 6, ((64, 0.5), (512, 0.3))
"""Entries of the tree whose faces are measured against; more where that leaves more than CLOSE, unless it does so for
more than that share of the points (then the surfaces differ)."""

CLOSE = 5e-4
"""Radii below which a distance need not be made sure of."""


@dataclass(frozen=True, eq=False)
class Surface:
    """points, normals (N, 3) in the unit sphere; triangles (N, 3, 3): the face each point lies on, or None.

    moments (3, 3): of the whole surface, where it is known and not to be guessed from the points.
    """

    points: Floats
    normals: Floats
    triangles: Floats | None = None
    moments: Floats | None = None

    @cached_property
    def tree(self) -> Any:
        """The points as a k-d tree."""
        from scipy.spatial import cKDTree

        return cKDTree(self.points)

    @cached_property
    def spacing(self) -> float:
        """The middle distance from a point to its nearest neighbour."""
        near = float(np.median(self.tree.query(self.points[:FIRST], k=2)[0][:, 1]))
        if near > 0:
            return near
        from scipy.spatial import cKDTree

        some = np.unique(self.points, axis=0)  # a cloud of few points has them several times
        return float(np.median(cKDTree(some).query(some[:: max(1, len(some) // FIRST)], k=2)[0][:, 1]))

    @cached_property
    def frame(self) -> tuple[Floats, Floats]:
        """Principal axes (3, 3), a column each, right-handed, widest first; spreads (3,)."""
        moments = np.cov(self.points.T.astype(np.float64)) if self.moments is None else self.moments
        values, axes = np.linalg.eigh(moments)
        axes = axes[:, ::-1]
        if np.linalg.det(axes) < 0:
            axes = axes * [1, 1, -1]
        return axes, np.sqrt(np.maximum(values[::-1], 0))


@dataclass(frozen=True)
class Pose:
    """point of b = scale * turn @ (point of a) + shift, in normalised coordinates; turn may hold a mirror."""

    turn: Floats
    scale: float = 1.0
    shift: Floats = field(default_factory=lambda: np.zeros(3))

    @property
    def mirrored(self) -> bool:
        """Whether left and right are exchanged."""
        return bool(np.linalg.det(self.turn) < 0)

    @property
    def angle(self) -> float:
        """Degrees of the turn; of a mirrored pose, of the turn that follows a mirror of x."""
        turn = self.turn @ np.diag([-1.0, 1, 1]) if self.mirrored else self.turn
        return float(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))))

    def apply(self, points: Floats) -> Floats:
        return self.scale * points @ self.turn.T + self.shift

    def back(self, points: Floats) -> Floats:
        return (points - self.shift) @ self.turn / self.scale


IDENTITY = Pose(np.eye(3))


@lru_cache(maxsize=1)
def axis_turns() -> Floats:
    """(24, 3, 3): the proper signed permutations of the axes."""
    found = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            turn = np.eye(3)[list(order)] * np.array(signs)[:, None]
            if np.linalg.det(turn) > 0:
                found.append(turn)
    return np.stack(found)


@lru_cache(maxsize=1)
def all_turns() -> Floats:
    """(24 * 30, 3, 3): turns spread over all there are, for shapes without distinct axes."""
    from scipy.spatial.transform import Rotation

    few = Rotation.random(30, random_state=0).as_matrix()
    return np.einsum("aij,bjk->abik", axis_turns(), few).reshape(-1, 3, 3)


def spin(axis: int, degrees: float) -> Floats:
    """(3, 3): a turn about a coordinate axis."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler("xyz"[axis], degrees, degrees=True).as_matrix()


def candidate_turns(a: Surface, b: Surface) -> tuple[Floats, Floats]:
    """(C, 3, 3) each: the turns that may lay a on b, and the mirrored ones."""
    frame_a, spread_a = a.frame
    frame_b, spread_b = b.frame
    fits = [q for q in axis_turns() if np.abs(np.abs(q) @ spread_a - spread_b).max() < ALIKE]
    turns = list(fits)
    equal = [axis for axis in range(3) if np.ptp(np.delete(spread_a, axis)) < ALIKE]
    if len(equal) == 3:
        turns += list(all_turns())
    else:
        turns += [spin(axis, d) @ q for axis in equal for d in range(15, 90, 15) for q in fits]
    found = np.stack(turns) if turns else np.empty((0, 3, 3))
    proper = frame_b @ found @ frame_a.T
    upright = np.stack([spin(2, degrees) for degrees in (0, 90, 180, 270)])
    # With -Q the axes are laid on each other as well, by an odd number of mirrors.
    return np.concatenate([proper, upright]), np.concatenate([-proper, upright @ np.diag([-1.0, 1, 1])])


def surface_moments(vertices: Floats, faces: NDArray[np.integer]) -> Floats:
    """(3, 3): the mean of x x^T over a surface, exact: each triangle p, q, r of area A has
    A / 12 (p p^T + q q^T + r r^T + s s^T) with s = p + q + r.
    """
    corners = vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    parts = np.concatenate([corners, corners.sum(axis=1, keepdims=True)], axis=1)
    return np.einsum("f,fki,fkj->ij", area, parts, parts) / (12 * area.sum())


def frame_poses(a: Surface, b: Surface) -> list[Pose]:
    """The eight poses that lay the principal axes of a on those of b, proper ones first."""
    signs = [np.diag([x, y, x * y]) for x in (1.0, -1.0) for y in (1.0, -1.0)]
    turns = [b.frame[0] @ sign @ a.frame[0].T for sign in signs]
    return [Pose(turn) for turn in turns] + [Pose(-turn) for turn in turns]


def coarse(a: Surface, b: Surface, starts: int = STARTS) -> tuple[float, list[Pose]]:
    """How far a lies from b at best, in spacings of b (1 is what two samples of one surface have), and the poses.

    Proper poses first, then mirrored ones; each refined on the samples.
    """
    turns, mirrored = candidate_turns(a, b)
    every = np.concatenate([turns, mirrored])
    some = a.points[:FIRST].astype(np.float64)
    moved = np.einsum("cij,nj->cni", every, some)
    away = b.tree.query(moved.reshape(-1, 3))[0].reshape(len(every), -1).mean(axis=1)
    poses: list[Pose] = []
    least = away.min()
    if least > HOPELESS * b.spacing:
        return least / max(b.spacing, 1e-6), []
    least = np.inf
    some = a.points[:COARSELY].astype(np.float64)
    for half in (np.arange(len(turns)), np.arange(len(turns), 2 * len(turns))):
        chosen: list[int] = []
        for row in half[np.argsort(away[half], kind="stable")]:
            if len(chosen) == starts or away[row] > 1.5 * away.min() + 0.01:
                break
            if all(
                np.trace(every[row].T @ every[other]) < 1 + 2 * np.cos(np.radians(12)) for other in chosen
            ):
                chosen.append(int(row))
        for row in chosen:
            pose = refine(a, b, Pose(every[row]), rounds=6, count=COARSELY)
            least = min(least, float(b.tree.query(pose.apply(some))[0].mean()))
            poses.append(pose)
    return least / max(b.spacing, 1e-6), poses


def refine(
    a: Surface, b: Surface, pose: Pose, *, rounds: int = 12, count: int = THEN, free: bool = False
) -> Pose:
    """The pose after some rounds of point-to-plane ICP; with `free` scale and shift change too."""
    points = a.points[:count].astype(np.float64)
    for _ in range(rounds):
        moved = pose.apply(points)
        away, near = b.tree.query(moved)
        keep = away <= max(3 * np.median(away), TRIM)
        target, normal, at = b.points[near][keep], b.normals[near][keep].astype(np.float64), moved[keep]
        gap = np.einsum("ij,ij->i", target - at, normal)
        columns = [np.cross(at, normal)]
        if free:
            columns += [normal, np.einsum("ij,ij->i", at, normal)[:, None]]
        system = np.concatenate(columns, axis=1)
        step = np.linalg.lstsq(
            system.T @ system + 1e-9 * np.eye(system.shape[1]), system.T @ gap, rcond=None
        )[0]
        turn = _turn(step[:3])
        scale = float(np.clip(1 + step[6], 0.8, 1.25)) if free else 1.0
        shift = step[3:6] if free else np.zeros(3)
        pose = Pose(turn @ pose.turn, pose.scale * scale, scale * turn @ pose.shift + shift)
        if np.abs(step).max() < 1e-7:
            break
    return pose


def _turn(vector: Floats) -> Floats:
    from scipy.spatial.transform import Rotation

    return Rotation.from_rotvec(vector).as_matrix()


def distances(a: Surface, b: Surface, pose: Pose, count: int = 1024) -> tuple[Floats, Floats]:
    """From `count` points of a to b, and of b to a, after the pose; in radii of b."""
    there = to_surface(pose.apply(a.points[:count].astype(np.float64)), b)
    back = to_surface(pose.back(b.points[:count].astype(np.float64)), a) * pose.scale
    return there, back


def to_surface(points: Floats, surface: Surface) -> Floats:
    """(N, 3) -> (N,): distance to the nearest of the faces that the NEAR sampled points about lie on.

    Without faces each sampled point is a disc of 1.5 spacings across its normal.
    """
    if surface.triangles is not None:
        out = np.full(len(points), np.inf)
        left = np.arange(len(points))
        for count, share in ((NEAR, 1.0), *WIDER):  # long thin faces next to others need more
            if len(left) > share * len(points):
                break
            near = surface.tree.query(points[left], k=min(count, len(surface.points)))[1].reshape(
                len(left), -1
            )
            away = to_triangles(
                np.repeat(points[left], near.shape[1], axis=0), surface.triangles[near.ravel()]
            )
            out[left] = away.reshape(near.shape).min(axis=1)
            left = np.flatnonzero(out > CLOSE)
            if len(left) == 0:
                break
        return out
    near = surface.tree.query(points, k=min(NEAR, len(surface.points)))[1].reshape(len(points), -1)
    gap = points[:, None] - surface.points[near]
    above = np.einsum("nkj,nkj->nk", gap, surface.normals[near])
    aside = np.sqrt(np.maximum((gap**2).sum(axis=2) - above**2, 0))
    return np.sqrt(above**2 + np.maximum(aside - 1.5 * surface.spacing, 0) ** 2).min(axis=1)


def to_triangles(points: Floats, triangles: Floats) -> Floats:
    """(N, 3), (N, 3, 3) -> (N,): the distance of each point to its triangle (Ericson 2005, 5.1.5)."""
    a, b, c = (triangles[:, i].astype(np.float64) for i in range(3))
    best = np.full(len(points), np.inf)
    for start, end in ((a, b), (b, c), (c, a)):
        edge = end - start
        along = np.einsum("ij,ij->i", points - start, edge) / np.maximum((edge**2).sum(axis=1), 1e-300)
        gap = points - start - np.clip(along, 0, 1)[:, None] * edge
        best = np.minimum(best, (gap**2).sum(axis=1))
    normal = np.cross(b - a, c - a)
    size = np.maximum((normal**2).sum(axis=1), 1e-300)
    above = np.einsum("ij,ij->i", points - a, normal)
    foot = points - (above / size)[:, None] * normal
    inside = (normal**2).sum(axis=1) > 0  # a face without area is its edges
    for start, end in ((a, b), (b, c), (c, a)):
        inside &= np.einsum("ij,ij->i", np.cross(end - start, foot - start), normal) >= 0
    return np.sqrt(np.where(inside, np.minimum(best, above**2 / size), best))
