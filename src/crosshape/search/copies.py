"""Known copies of a user's own shapes, of every kind of duplicate, to measure what is found of them.

Copies are made in a guarded child from a seed, with noise as files have it: other precision, order, formats, and
vertices moved by up to a ten-thousandth of the radius.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crosshape.errors import CrosshapeError, UnreadableShape, UsageError
from crosshape.search.duplicates import KINDS, UNITS, find_duplicates
from crosshape.settings import Limits

if TYPE_CHECKING:
    from crosshape.console import Progress
    from crosshape.library.library import Library

NOISE = (0.0, 1e-6, 1e-5, 1e-4)
"""Standard deviations of the noise on vertices, in radii; one is drawn for each copy."""

EXPORTS = ("obj", "stl", "ply", "off", "glb")


@dataclass(frozen=True)
class Score:
    """Of one kind: copies made; found as this kind; as a simpler one; as a looser one; pairs reported; wrong ones.

    Simpler is right where a shape is symmetric: mirrored it is the same shape turned. A pair is wrong if it joins
    copies of different shapes that were no duplicates before, or calls a changed copy the same surface.
    """

    kind: str
    made: int
    found: int
    simpler: int
    looser: int
    reported: int
    wrong: int

    @property
    def recall(self) -> float:
        """Share of the copies that were found as this kind or a simpler one."""
        return (self.found + self.simpler) / self.made if self.made else float("nan")

    @property
    def precision(self) -> float:
        """Share of the reported pairs that are right."""
        return 1 - self.wrong / self.reported if self.reported else float("nan")


def calibrate(
    library: Library,
    count: int,
    *,
    seed: int = 0,
    embed_copies: bool = True,
    workers: int | None = None,
    limits: Limits | None = None,
    progress: Callable[[str, int], Progress] | None = None,
) -> tuple[list[Score], list[str]]:
    """Make copies of `count` shapes of all kinds, look for duplicates among them, and count.

    Returns a score for each kind, and the pairs of different shapes that were found (also those that are copies
    in the library itself: nobody told, so they are counted in no score). Raises CrosshapeError where too few
    files can be read.
    """
    if count < 1:
        raise UsageError(f"--calibrate is {count}; it must be 1 or more")
    from crosshape.library.adding import add

    limits = limits or Limits()
    with tempfile.TemporaryDirectory(prefix="crosshape-") as folder:
        origins = make_copies(library, Path(folder, "shapes"), count, seed, workers, limits, progress)
        copies = add(
            Path(folder, "shapes"),
            Path(folder, "copies.lance"),
            settings=library.settings,
            limits=limits,
            workers=workers,
            progress=progress,
        )
        if embed_copies:
            _embed(library, copies, progress)
        groups = find_duplicates(copies, workers=workers, limits=limits, progress=progress)
    return count_scores(groups, origins, set(copies.names))


def make_copies(
    library: Library,
    folder: Path,
    count: int,
    seed: int,
    workers: int | None,
    limits: Limits,
    progress: Callable[[str, int], Progress] | None,
) -> list[str]:
    """Write <folder>/<number>/0-original.* and a copy of each kind; the names of the originals by number."""
    from crosshape.shapes.guard import Guard
    from crosshape.shapes.prepare import warm_up

    facts = [row for row in library.facts().to_pylist() if row["faces"]]
    order = np.random.default_rng(seed).permutation(len(facts))
    chosen = sorted((facts[row] for row in order[:count]), key=lambda row: row["name"])
    if not chosen:
        raise CrosshapeError(f"{library.path} holds no meshes to copy.")
    items = []
    for number, row in enumerate(chosen):
        place = folder / f"{number:05d}"
        place.mkdir(parents=True)
        items.append((row["path"], row["content_hash"], str(place), seed + number))
    bar = progress("copying", len(items)) if progress else None
    made = 0
    try:
        with Guard(workers, limits, warm=warm_up) as guard:
            for item, result in guard.map(partial(copies_of, up=library.settings.up, limits=limits), items):
                if isinstance(result, UnreadableShape):
                    shutil.rmtree(item[2], ignore_errors=True)
                else:
                    made += 1
                if bar:
                    bar.advance()
    finally:
        if bar:
            bar.close()
    if not made:
        raise CrosshapeError(f"none of the files of {library.path} is where it was; copies need them.")
    return [row["name"] for row in chosen]


def copies_of(item: tuple[str, str, str, int], up: str, limits: Limits) -> int:
    """Write the original and one copy of each kind; runs in a guarded child. Raises UnreadableShape."""
    from crosshape.shapes.files import load_shape

    path, content_hash, folder, seed = item
    shape = load_shape(path, limits, up)
    if shape.content_hash != content_hash:
        raise UnreadableShape("it was changed")
    if shape.bytes != os.path.getsize(path):
        raise UnreadableShape("it names other files, without which a copy is nothing")
    random = np.random.default_rng(seed)
    suffix = Path(path).suffix.lower()
    shutil.copy(path, Path(folder, f"0-original{suffix}"))
    shutil.copy(path, Path(folder, f"identical{suffix}"))
    vertices, faces = shape.vertices, shape.faces
    radius = float(np.linalg.norm(vertices - vertices.mean(axis=0), axis=1).max())
    turned = vertices @ _rotation(random).T + random.normal(size=3) * radius
    scaled = vertices * _factor(random)
    meshes = {
        "re-exported": (vertices, faces),
        "moved": (turned, faces),
        "scaled": (scaled @ _rotation(random).T if random.random() < 0.5 else scaled, faces),
        "mirrored": (vertices * [-1, 1, 1] @ _rotation(random).T, faces[:, ::-1]),
        "re-meshed": subdivided(vertices, faces)
        if random.random() < 0.5
        else decimated(vertices, faces, radius / random.uniform(40, 80)),
        "changed": changed(vertices, faces, radius, random),
    }
    for kind, (points, corners) in meshes.items():
        size = float(np.linalg.norm(points - points.mean(axis=0), axis=1).max())
        noisy = points + random.normal(size=points.shape) * size * random.choice(NOISE) / np.sqrt(3)
        _write(Path(folder, kind), noisy, corners, up, random)
    return len(meshes)


def _rotation(random: np.random.Generator) -> np.ndarray:
    """A turn as people make them: about the up axis, by right angles, or any."""
    from scipy.spatial.transform import Rotation

    choice = random.integers(3)
    if choice == 0:
        return Rotation.from_euler("z", random.uniform(5, 355), degrees=True).as_matrix()
    if choice == 1:
        return Rotation.from_euler(
            "xyz"[random.integers(3)], 90 * random.integers(1, 4), degrees=True
        ).as_matrix()
    return Rotation.random(random_state=int(random.integers(1 << 31))).as_matrix()


def _factor(random: np.random.Generator) -> float:
    factor = float(random.choice(list(UNITS)))
    return factor if random.random() < 0.5 else 1 / factor


def subdivided(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every face in four, by the middles of its edges; vertices are not shared."""
    corners = vertices[faces]
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
    parts = np.stack([a, ab, ca, ab, b, bc, ca, bc, c, ab, bc, ca], axis=1).reshape(-1, 3)
    return parts, np.arange(len(parts)).reshape(-1, 3)


def decimated(vertices: np.ndarray, faces: np.ndarray, cell: float) -> tuple[np.ndarray, np.ndarray]:
    """Vertices of one cell of a grid become their mean (Rossignac and Borrel 1993); flat faces go."""
    _, cells = np.unique(np.floor((vertices - vertices.min(axis=0)) / cell), axis=0, return_inverse=True)
    cells = cells.ravel()
    counts = np.bincount(cells)
    means = np.stack([np.bincount(cells, vertices[:, i]) / counts for i in range(3)], axis=1)
    new = cells[faces]
    keep = (new[:, 0] != new[:, 1]) & (new[:, 1] != new[:, 2]) & (new[:, 2] != new[:, 0])
    return means, new[keep] if keep.any() else new


def changed(
    vertices: np.ndarray, faces: np.ndarray, radius: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A dent, a stretch by 3 %, or a small box put on."""
    choice = random.integers(3)
    if choice == 0:
        centre = vertices[random.integers(len(vertices))]
        weight = np.exp(-((np.linalg.norm(vertices - centre, axis=1) / (0.15 * radius)) ** 2))
        return vertices + 0.06 * radius * weight[:, None] * _unit(random), faces
    if choice == 1:
        return vertices * (1 + 0.03 * (np.arange(3) == random.integers(3))), faces
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * 0.05 * radius
    box = [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]]
    box += [[2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
    place = vertices[random.integers(len(vertices))]
    return np.concatenate([vertices, corners + place]), np.concatenate([faces, np.array(box) + len(vertices)])


def _unit(random: np.random.Generator) -> np.ndarray:
    vector = random.normal(size=3)
    return vector / np.linalg.norm(vector)


def _write(path: Path, vertices: np.ndarray, faces: np.ndarray, up: str, random: np.random.Generator) -> None:
    """Write a mesh in a drawn format, vertices and faces in a drawn order, so that it is read as it is here."""
    import trimesh

    order = random.permutation(len(vertices))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    corners = place[faces][random.permutation(len(faces))]
    corners = np.roll(corners, int(random.integers(3)), axis=1)
    suffix = str(random.choice(EXPORTS))
    axis = ("y" if suffix == "glb" else "z") if up == "auto" else up
    points = vertices[order]
    if axis != "z":
        points = points[:, [0, 2, 1] if axis == "y" else [2, 0, 1]] * [1, 1, -1 if axis == "y" else 1]
    mesh = trimesh.Trimesh(points, corners, process=False)
    mesh.export(path.with_suffix("." + suffix))


def _embed(library: Library, copies: Library, progress: Callable[[str, int], Progress] | None) -> None:
    """Features of the copies, by the model of the library; none where that is not there any more."""
    from crosshape.library.embedding import embed
    from crosshape.search.query import library_model

    models = library.models()
    if len(models) == 1 and None not in models:
        try:
            model = library_model(library, str(next(iter(models))))
        except CrosshapeError:
            return
        embed(model, copies, progress=progress)


def count_scores(groups: Any, origins: Sequence[str], names: set[str]) -> tuple[list[Score], list[str]]:
    """Scores by kind, and the pairs that join different shapes, those of two originals among them."""
    order = list(KINDS)
    own: dict[str, str] = {}
    across: list[tuple[str, str, str]] = []
    twins: set[frozenset[str]] = set()
    for group in groups:
        for pair in group.pairs:
            (x, a), (y, b) = (name.split("/", 1) for name in (pair.a, pair.b))
            if x == y:
                if a.startswith("0-"):
                    own[f"{y}/{b.split('.')[0]}"] = pair.kind
            else:
                across.append((x, y, pair.kind))
                if a.startswith("0-") and b.startswith("0-"):
                    twins.add(frozenset((x, y)))
    doubtful = set().union(*twins) if twins else set()
    scores = []
    for rank, kind in enumerate(order):
        made = [
            n
            for n in names
            if n.split("/", 1)[1].split(".")[0] == kind and n.split("/", 1)[0] not in doubtful
        ]
        kinds = [own.get(name.split(".")[0]) for name in made]
        ranks = [order.index(k) for k in kinds if k is not None]
        reported = sum(k == kind for k in own.values())
        wrong = sum(k == kind and frozenset((x, y)) not in twins for x, y, k in across)
        false = sum(k == kind and name.endswith("/changed") for name, k in own.items()) if rank < 5 else 0
        scores.append(
            Score(
                kind,
                len(made),
                sum(r == rank for r in ranks),
                sum(r < rank for r in ranks),
                sum(r > rank for r in ranks),
                reported + wrong,
                wrong + false,
            )
        )
    notes = sorted({f"{origins[int(x)]}  {origins[int(y)]}  ({kind})" for x, y, kind in across})
    return scores, notes
