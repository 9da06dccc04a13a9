"""Which shapes of a library are there twice, and in which way. Nothing is ever deleted.

Three steps. Candidates: shapes of equal content, of like area, spread and distances from the centre, and the
nearest by learned features where there are some. Coarse alignment on the library's points throws most of them out.
Then both files are read again, in guarded children, laid on each other and measured both ways, surface to surface;
what is decided is decided by that. Where a file is gone or was changed the library's points stand in for it.

Each group has a representative, its first name, and every other content of it was measured against that one, so
that no chain of small changes joins shapes that differ. Shapes of the same bytes are copies of the first of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from crosshape.errors import UnreadableShape
from crosshape.search.alignment import (
    IDENTITY,
    Pose,
    Surface,
    coarse,
    distances,
    frame_poses,
    refine,
    surface_moments,
)
from crosshape.settings import FEATURES, Limits

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from crosshape.console import Progress
    from crosshape.library.library import Library

KINDS = {
    "identical": "the same bytes",
    "re-exported": "the same surface in the same place: another format, order, welding or precision",
    "moved": "the same surface, turned or shifted",
    "scaled": "the same surface in another size, as by other units",
    "mirrored": "the same surface, left and right exchanged",
    "re-meshed": "nearly the same surface made of other faces: decimated, subdivided, repaired",
    "changed": "mostly the same surface, with small changes",
}
"""From the simplest to the loosest; a pair has the simplest kind that explains it."""

SAME, AREA = 0.002, 0.002
"""The same surface: 99 % of the points of each lie within this share of the radius of the other, and the areas
differ by less than this share."""

SAME_FACES, AREA_FACES = 0.004, 0.001
"""The same for copies with as many faces, whose areas agree still better: what is left between them is in the
measuring (long thin faces, faces one on another)."""

REMESHED = 0.02
"""The same for a surface that was re-meshed."""

CHANGED, MOST = 0.015, 0.75
"""Of a changed shape at least the share MOST of both surfaces lies within CHANGED of the other."""

FARTHEST = 0.12
"""99 % of a changed shape lies within this."""

HANDED = 1.5
"""A mirror must bring loose copies nearer by this factor before it is believed."""

FACES = 0.01
"""Share by which the number of faces may differ in a copy that was not re-meshed (exports drop some)."""

SIZE = 0.002
"""Relative difference of radii from which a copy is scaled."""

TURN, SHIFT = 0.2, 0.002
"""Degrees, and share of the radius, from which a copy is moved."""

DENSE = 6144
"""Points of a surface that is measured; faces that get none are added by their middles."""

COARSE = 1.4
"""Spacings of the library's points up to which a pair is measured; 1 is what two samples of one shape have."""

CELLS = 1 << 23
"""Pairs that are looked at at once: tables of 64 MB."""

PASSES = 32
"""Times that some candidates are aligned when their turn comes. What is left then is aligned at once: where hardly any
shape turns out to be a copy, one turn after the other would leave most processors idle.
"""

NEIGHBOURS = 4
"""Nearest shapes by features, and by invariants, that become candidates."""

UNITS = {
    25.4: "inches and millimetres",
    1000.0: "metres and millimetres",
    10.0: "centimetres and millimetres",
    100.0: "metres and centimetres",
    2.54: "inches and centimetres",
    39.3701: "metres and inches",
    304.8: "feet and millimetres",
    30.48: "feet and centimetres",
    12.0: "feet and inches",
    3.28084: "metres and feet",
}


@dataclass(frozen=True)
class Pair:
    """b is a copy of a, and how: b = scale * turn(a) + a shift, in the units of the files, Z up.

    distance: 99 % of both surfaces lie within this of the other, in radii; sampled: it was measured on the
    library's points, because a file was not there as it was.
    """

    a: str
    b: str
    kind: str
    distance: float = 0.0
    scale: float = 1.0
    units: str = ""
    angle: float = 0.0
    mirrored: bool = False
    shift: float = 0.0
    sampled: bool = False
    linked: bool = False
    """Whether both names are of one file: one is a link."""

    def evidence(self) -> str:
        """One line of words."""
        if self.kind == "identical":
            return "one file under two names (a link)" if self.linked else "the same bytes"
        parts = []
        if abs(self.scale - 1) > SIZE:
            parts.append(f"scaled by {self.scale:.6g}" + (f" ({self.units})" if self.units else ""))
        if self.mirrored:
            parts.append("mirrored")
        if self.angle > TURN:
            parts.append(f"turned by {self.angle:.1f} degrees")
        if self.shift > SHIFT:
            parts.append(f"shifted by {self.shift:.3g} radii")
        parts.append(f"99 % within {100 * self.distance:.2g} % of the radius")
        return ", ".join(parts) + (" (by samples)" if self.sampled else "")


@dataclass(frozen=True)
class Group:
    """A representative and its copies, simplest kinds first; identical ones are of the first name of that content."""

    representative: str
    pairs: list[Pair]

    @property
    def names(self) -> list[str]:
        return [self.representative, *(pair.b for pair in self.pairs)]


@dataclass(frozen=True)
class Side:
    """One shape for a child that measures: its file, and what the library has of it."""

    path: str
    content_hash: str
    points: np.ndarray = field(repr=False)
    normals: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class Measured:
    """Quantiles of the distance both ways, in radii: 99 % and MOST; the pose; what the same surface may differ by;
    whether samples stood in for a file.
    """

    pose: Pose
    distance: float
    most: float
    tolerance: float
    sampled: bool


def find_duplicates(
    library: Library,
    *,
    workers: int | None = None,
    limits: Limits | None = None,
    progress: Callable[[str, int], Progress] | None = None,
) -> list[Group]:
    """Groups of copies in a library, largest first; features are used where the library has them."""
    facts = library.facts().to_pylist()
    limits = limits or Limits()
    groups: dict[int, list[Pair]] = {}
    rows = _without_identical(facts, groups)
    kept = [facts[row] for row in rows]
    points = library.points([fact["name"] for fact in kept])
    normals = library.normals([fact["name"] for fact in kept])
    pairs = candidates(kept, points, _features(library, rows))
    surfaces = {row: Surface(points[row], normals[row]) for row in np.unique(pairs).tolist()}
    sides = [
        Side(fact["path"], fact["content_hash"], p, n)
        for fact, p, n in zip(kept, points, normals, strict=True)
    ]
    found = _compared(pairs, kept, surfaces, sides, library.settings.up, workers, limits, progress)
    for (a, b), pair in found.items():
        groups.setdefault(rows[a], []).append(pair)
        groups[rows[a]] += groups.pop(rows[b], [])
    order = list(KINDS)
    result = [
        Group(
            facts[row]["name"],
            sorted(some, key=lambda p: (order.index(p.kind), p.b)),
        )
        for row, some in groups.items()
    ]
    return sorted(result, key=lambda group: (-len(group.pairs), group.representative))


def _without_identical(facts: list[dict[str, Any]], groups: dict[int, list[Pair]]) -> list[int]:
    """The first row of each content; the others become pairs of its group."""
    first: dict[str, int] = {}
    for row, fact in enumerate(facts):
        known = first.setdefault(fact["content_hash"], row)
        if known != row:
            pair = Pair(facts[known]["name"], fact["name"], "identical", linked=_one_file(facts[known], fact))
            groups.setdefault(known, []).append(pair)
    return sorted(first.values())


def _one_file(one: dict[str, Any], other: dict[str, Any]) -> bool:
    try:
        return os.path.samefile(one["path"], other["path"])
    except OSError:
        return False


def _features(library: Library, rows: Sequence[int]) -> np.ndarray | None:
    """(N, 1024) both features of unit length, zeros for shapes that have none; None where no shape has any."""
    from crosshape.tasks.retrieval import unit

    if not set(library.models()) - {None}:
        return None
    features = library.features(partly=True)
    if features.known is not None:
        features.points[~features.known] = features.views[~features.known] = 0.0
    return np.concatenate([unit(features.points), unit(features.views)], axis=1)[list(rows)] / np.sqrt(2)


def candidates(
    facts: Sequence[dict[str, Any]], points: np.ndarray, features: np.ndarray | None
) -> np.ndarray:
    """Pairs (M, 2), a < b, in order, of rows that may be copies: all of equal invariants, and some nearest ones."""
    from scipy.spatial.distance import cdist

    count = len(facts)
    if count < 2:
        return np.empty((0, 2), np.int64)
    marks, area = invariants(facts, points)
    packed = [np.empty(0, np.int64)]
    step = max(16, min(256, CELLS // count))
    for start in range(0, count, step):
        rows = np.arange(start, min(start + step, count))
        gap = cdist(marks[rows], marks, "chebyshev")
        ratio = np.abs(area[rows, None] - area[None])
        ratio = np.where(np.isnan(ratio), 0.0, ratio)  # clouds have no area
        near = (gap < 0.05) & (ratio < 0.01)
        loose = np.where(ratio < 0.35, gap, np.inf)
        loose[np.arange(len(rows)), rows] = np.inf
        for lists in [loose] if features is None else [loose, _unlike(features, rows, loose)]:
            best = np.argpartition(lists, min(NEIGHBOURS, count - 1), axis=1)[:, :NEIGHBOURS]
            chosen = np.take_along_axis(lists, best, axis=1) < np.inf
            limit = np.take_along_axis(gap, best, axis=1) < 0.12
            at, column = np.nonzero(chosen & limit)
            near[at, best[at, column]] = True
        near[np.arange(len(rows)), rows] = False
        at, column = np.nonzero(near)
        packed.append(np.minimum(rows[at], column) * count + np.maximum(rows[at], column))
    return np.stack(np.divmod(np.unique(np.concatenate(packed)), count), axis=1)


def _unlike(features: np.ndarray, rows: np.ndarray, loose: np.ndarray) -> np.ndarray:
    assert features.shape[1] == 2 * FEATURES
    return np.where(loose < np.inf, 1 - features[rows] @ features.T, np.inf)


def invariants(facts: Sequence[dict[str, Any]], points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What moving, turning, scaling and mirroring leave: marks (N, 19), log area (N,) of radius 1, NaN for clouds.

    Marks are the spreads along the principal axes and sixteen quantiles of the distance from the centre.
    """
    radial = np.linalg.norm(points, axis=2)
    quantiles = np.quantile(radial, (np.arange(16) + 0.5) / 16, axis=1).T
    spreads = np.sqrt(np.maximum(np.linalg.eigvalsh(np.einsum("npi,npj->nij", points, points)), 0))
    area = np.array([fact["area"] / fact["radius"] ** 2 if fact["faces"] else np.nan for fact in facts])
    return np.concatenate([quantiles, spreads / np.sqrt(points.shape[1])], axis=1), np.log(area)


def _compared(
    pairs: np.ndarray,
    facts: Sequence[dict[str, Any]],
    surfaces: dict[int, Surface],
    sides: Sequence[Side],
    up: str,
    workers: int | None,
    limits: Limits,
    progress: Callable[[str, int], Progress] | None,
) -> dict[tuple[int, int], Pair]:
    """(representative, copy) -> pair. In rounds: whoever has no earlier candidate left represents, and its candidates
    are aligned and measured; so shapes that were found to be copies are never compared with each other.
    """
    from concurrent.futures import ThreadPoolExecutor

    from crosshape.console import printable, say
    from crosshape.shapes.guard import Guard, available_cores

    left = pairs
    starts: dict[tuple[int, int], list[Pose]] = {}  # of those that lie on each other on the library's points
    found: dict[tuple[int, int], Pair] = {}
    first = np.full(len(facts), len(facts))  # of each copy, the representative it stays with
    missed: list[str] = []
    passes = 0
    work = partial(measure_files, up=up, limits=limits)
    bar = progress("comparing", len(left)) if progress and len(left) else None
    try:
        with (
            Guard(workers, limits, warm=warm_up) as guard,
            ThreadPoolExecutor(workers or available_cores()) as pool,
        ):
            while len(left):
                later = np.zeros(len(facts), bool)
                later[left[:, 1]] = True
                turn = ~later[left[:, 0]]
                tasks = _tuples(left[turn])
                fresh = [
                    pair for pair in (_tuples(left) if passes == PASSES else tasks) if pair not in starts
                ]
                if fresh:
                    passes += 1
                    starts |= _aligned(fresh, surfaces, pool, bar)
                    gone = np.array([pair for pair in fresh if pair not in starts], np.int64).reshape(-1, 2)
                    left = left[~np.isin(left @ (len(facts), 1), gone @ (len(facts), 1))]
                    continue
                items = {pair: (sides[pair[0]], sides[pair[1]], starts[pair]) for pair in tasks}
                for (a, b), measured in _map(guard, work, items):
                    if isinstance(measured, UnreadableShape):
                        missed.append(measured.reason)
                        continue
                    result = judge(facts[a], facts[b], measured)
                    # A shape that is a copy of two representatives stays with the first.
                    if result is not None and a < first[b]:
                        found.pop((int(first[b]), b), None)
                        found[a, b], first[b] = result, a
                before = len(left)
                a, b = left.T
                left = left[~turn & (first[a] == len(facts)) & (a < first[b])]
                if bar:
                    bar.advance(before - len(left))
    finally:
        if bar:
            bar.close()
    if missed:
        say(f"{len(missed):,} pairs could not be compared, the first because {printable(missed[0])}.")
    return found


def _tuples(pairs: np.ndarray) -> list[tuple[int, int]]:
    return [(a, b) for a, b in pairs.tolist()]


def _aligned(
    pairs: Sequence[tuple[int, int]], surfaces: dict[int, Surface], pool: Executor, bar: Progress | None
) -> dict[tuple[int, int], list[Pose]]:
    """Those that lie on each other on the library's points, and their poses; the others are done."""
    kept = {}
    for start in range(0, len(pairs), 4096):
        some = pairs[start : start + 4096]
        answers = pool.map(lambda pair: coarse(surfaces[pair[0]], surfaces[pair[1]]), some)
        for pair, (away, poses) in zip(some, answers, strict=True):
            if away <= COARSE:
                kept[pair] = poses
            elif bar:
                bar.advance()
    return kept


def _map(guard: Any, work: Any, items: dict[tuple[int, int], Any]) -> Any:
    """The guard's answers by key, items drawn in order."""
    keyed = partial(_keyed, work=work)
    for (key, _), result in guard.map(keyed, list(items.items())):
        yield key, result


def _keyed(item: tuple[Any, Any], work: Any) -> Any:
    return work(item[1])


def warm_up() -> None:
    """Load and compile what measuring needs."""
    from crosshape.shapes.prepare import warm_up as prepare

    prepare()
    points = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    coarse(Surface(points, points), Surface(points, points))


def measure_files(item: tuple[Side, Side, list[Pose]], up: str, limits: Limits) -> Measured:
    """Lay two shapes on each other, from their files; runs in a guarded child."""
    first, second, poses = item
    a, sampled_a = _surface(first, up, limits)
    b, sampled_b = _surface(second, up, limits)
    pose, distance, most = lay(a, b, poses)
    return Measured(pose, distance, most, tolerance(a, b), sampled_a or sampled_b)


_loaded: dict[tuple[str, str], Surface | None] = {}


def _surface(side: Side, up: str, limits: Limits) -> tuple[Surface, bool]:
    """The surface in a file, or of the library's points where the file is not what it was; True if so."""
    key = (side.path, side.content_hash)
    if key not in _loaded:
        if len(_loaded) >= 8:
            del _loaded[next(iter(_loaded))]
        _loaded[key] = file_surface(side.path, side.content_hash, up, limits)
    surface = _loaded[key]
    return (Surface(side.points, side.normals), True) if surface is None else (surface, False)


def file_surface(path: str, content_hash: str, up: str, limits: Limits) -> Surface | None:
    """Points and faces of the mesh in a file, normalised; None where it is not there, changed, or a cloud."""
    from crosshape.shapes.files import load_shape
    from crosshape.shapes.surface import face_normals, normalise, sample_surface

    try:
        shape = load_shape(path, limits, up)
    except UnreadableShape:
        return None
    if shape.is_cloud or shape.content_hash != content_hash:
        return None
    vertices = normalise(shape.vertices, shape.faces)[0].astype(np.float64)
    points, normals, faces = sample_surface(vertices, shape.faces, DENSE, int(content_hash[:16], 16))
    rest = np.setdiff1d(np.arange(len(shape.faces)), faces)
    triangles = vertices[shape.faces]
    return Surface(
        np.concatenate([points, triangles[rest].mean(axis=1).astype(np.float32)]),
        np.concatenate([normals, face_normals(vertices, shape.faces)[0][rest]]),
        triangles[np.concatenate([faces, rest])].astype(np.float32),
        surface_moments(vertices, shape.faces),
    )


def lay(a: Surface, b: Surface, poses: Sequence[Pose]) -> tuple[Pose, float, float]:
    """The simplest pose in which a and b are the same, else the best; its distance at 99 % and at MOST."""
    limit = tolerance(a, b)
    best = (IDENTITY, *_quantiles(a, b, IDENTITY, 1024))
    if best[1] <= limit:
        return best
    framed = frame_poses(a, b)
    for mirrored in (False, True):
        tried = [pose for pose in framed if pose.mirrored == mirrored]
        tried += [refine(a, b, pose) for pose in poses if pose.mirrored == mirrored]
        tried += [refine(a, b, IDENTITY)] if not mirrored else []
        scored = [(*_quantiles(a, b, pose, 256)[::-1], row) for row, pose in enumerate(tried)]
        for _, _, row in sorted(scored)[:2]:
            for pose in (tried[row], refine(a, b, tried[row], rounds=20)):
                result = (pose, *_quantiles(a, b, pose, 1024))
                if result[1] <= limit:
                    return result
                best = min(best, result, key=_looseness)
    pose = refine(a, b, best[0], rounds=20, free=True)
    return min(best, (pose, *_quantiles(a, b, pose, 1024)), key=_looseness)


def _looseness(laid: tuple[Pose, float, float]) -> float:
    pose, far, most = laid
    return (most + far / 10) * (HANDED if pose.mirrored else 1.0)


def tolerance(a: Surface, b: Surface) -> float:
    """SAME between meshes; what two samples of one surface differ by, where one of them is a sample."""
    if a.triangles is not None and b.triangles is not None:
        return SAME
    return max(SAME, 0.5 * max(s.spacing for s in (a, b) if s.triangles is None))


def _quantiles(a: Surface, b: Surface, pose: Pose, count: int) -> tuple[float, float]:
    both = [np.quantile(d, [0.99, MOST]) for d in distances(a, b, pose, count)]
    far, most = np.max(both, axis=0)
    return float(far), float(most)


def judge(a: dict[str, Any], b: dict[str, Any], measured: Measured) -> Pair | None:
    """The kind of a pair by its facts and what was measured; None where it is no copy."""
    pose, distance = measured.pose, measured.distance
    both = a["faces"] > 0 and b["faces"] > 0
    area = abs(np.log((a["area"] / a["radius"] ** 2) / (b["area"] / b["radius"] ** 2))) if both else 0.0
    same = distance <= measured.tolerance and (area <= AREA or measured.sampled)
    same |= both and a["faces"] == b["faces"] and distance <= SAME_FACES and area <= AREA_FACES
    scale = pose.scale * b["radius"] / a["radius"]
    scaled = abs(scale - 1) > SIZE
    centre = np.array(b["centre"]) / b["radius"]
    turned = pose.turn @ np.array(a["centre"]) / a["radius"]
    # A copy in other units keeps its place in them: its centre is scaled too.
    shift = float(np.linalg.norm(centre - turned)) if scaled else _shift(a, b)
    if same and abs(a["faces"] - b["faces"]) <= max(2, FACES * max(a["faces"], b["faces"])):
        if pose.mirrored:
            kind = "mirrored"
        elif scaled:
            kind = "scaled"
        else:
            kind = "moved" if pose.angle > TURN or shift > SHIFT else "re-exported"
    elif (
        distance <= max(REMESHED, 1.5 * measured.tolerance)
        and area <= 0.25
        and (a["faces"] != b["faces"] or measured.sampled)
    ):  # as many faces, elsewhere: nobody re-meshed it
        kind = "re-meshed"
    elif measured.most <= CHANGED and distance <= FARTHEST and area <= 0.35:
        kind = "changed"
    else:
        return None
    return Pair(
        a["name"],
        b["name"],
        kind,
        distance,
        scale,
        unit_name(scale),
        pose.angle,
        pose.mirrored,
        shift,
        measured.sampled,
    )


def _shift(a: dict[str, Any], b: dict[str, Any]) -> float:
    return float(
        np.linalg.norm(np.array(b["centre"]) - np.array(a["centre"])) / max(a["radius"], b["radius"])
    )


@lru_cache(maxsize=256)
def unit_name(scale: float) -> str:
    """The units that a scale is between, or nothing."""
    factor = max(scale, 1 / scale)
    for known, name in UNITS.items():
        if abs(factor / known - 1) < SIZE:
            return name
    return ""
