"""A learned head as a folder, and its use: parts on shapes nobody labelled, as coloured files.

The folder holds head.safetensors and head.json (classes, parts, the model's fingerprint, what it learned from);
a head belongs to the model whose features it learned on, and refuses any other.
"""

from __future__ import annotations

import colorsys
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from crosshape.errors import CrosshapeError, UsageError, command
from crosshape.files import parse_json, write_whole
from crosshape.settings import Limits
from crosshape.tasks.retrieval import unit
from crosshape.tasks.segmentation import (
    Head,
    HeadSettings,
    PartSet,
    encode_block,
    encode_features,
    predict,
    starts,
    train_head,
)

if TYPE_CHECKING:
    from crosshape.networks.model import Model
    from crosshape.shapes.files import Shape

WEIGHTS, CARD = "head.safetensors", "head.json"

ROUNDS = 4
"""Samples of a shape whose answers are put together; each is one cloud for the network."""


@dataclass(frozen=True)
class LearnedHead:
    """A head with the names it gives: parts[c] are those of classes[c]; centres (C, G) tell classes apart."""

    head: Head
    classes: tuple[str, ...]
    parts: tuple[tuple[str, ...], ...]
    centres: np.ndarray
    settings: HeadSettings
    points: int
    model: str
    learned_from: dict[str, Any]


class Parts(NamedTuple):
    """shape, its class, the number of the part of every face (of every point of a cloud), the parts' names."""

    shape: Shape
    category: str
    numbers: np.ndarray
    names: tuple[str, ...]


def learn_head(
    model: Model, data: PartSet, settings: HeadSettings | None = None, seed: int = 0, progress: Any = None
) -> LearnedHead:
    """A head for the frozen features of the model, learned from all shapes of `data`.

    Raises CrosshapeError where a class has no shape that could be read: nothing could be told from it.
    """
    settings = settings or HeadSettings()
    held = set(data.labels.tolist())
    empty = [name for label, name in enumerate(data.layout.classes) if label not in held]
    if empty:
        raise CrosshapeError(
            f"none of the labelled shapes of {', '.join(empty)} could be read. Mend a file of it, or move the folder "
            "away."
        )
    names = data.layout.part_names
    features = encode_features(model, data, np.arange(len(data.items)), progress)
    head = train_head(features, [len(parts) for parts in names], settings, seed, model.device)
    whole = unit(features.whole.numpy())
    centres = [whole[data.labels == label].mean(0) for label in range(len(names))]
    learned_from = {"data": data.layout.fingerprint, "shapes": len(data.items), "seed": seed}
    return LearnedHead(
        head,
        data.layout.classes,
        names,
        np.stack(centres),
        settings,
        data.points.shape[1],
        model.fingerprint,
        learned_from,
    )


def save_head(learned: LearnedHead, folder: str | Path) -> None:
    """Write the folder; each file appears whole or not at all. Raises CrosshapeError where there is a head already."""
    from safetensors.torch import save

    place = Path(folder)
    if (place / CARD).exists():
        raise CrosshapeError(f"{place} holds a head already; name another folder or remove it.")
    place.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in learned.head.state_dict().items()}
    state["centres"] = torch.from_numpy(np.ascontiguousarray(learned.centres, np.float32))
    card = {
        "format": 1,
        "model": learned.model,
        "points": learned.points,
        "classes": {name: list(parts) for name, parts in zip(learned.classes, learned.parts, strict=True)},
        "sizes": [learned.head.local.in_features, learned.head.whole.in_features],
        "settings": asdict(learned.settings),
        "learned_from": learned.learned_from,
    }
    write_whole(place / WEIGHTS, save(state, metadata={"format": "crosshape head", "version": "1"}))
    write_whole(place / CARD, json.dumps(card, indent=2).encode() + b"\n")


def load_head(folder: str | Path, model: Model) -> LearnedHead:
    """The head of a folder. Raises CrosshapeError where there is none, it is broken, or another model's."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from crosshape.settings import changed

    place = Path(folder)
    if not (place / CARD).is_file() or not (place / WEIGHTS).is_file():
        raise CrosshapeError(
            f"{folder} holds no head ({WEIGHTS}, {CARD}). Learn one: "
            f"{command('segment', 'RUN', '--learn', 'DATA', '--head', folder)}"
        )
    try:
        card = parse_json((place / CARD).read_bytes())
        parts = tuple(tuple(str(n) for n in names) for names in card["classes"].values())
        settings = changed(HeadSettings(), card["settings"], str(place / CARD))
        local, whole = (int(size) for size in card["sizes"])
        points, owner = int(card["points"]), str(card["model"])
        if not all(0 < size <= 1 << 20 for size in (local, whole, points, settings.hidden, *map(len, parts))):
            raise ValueError
        classes, learned_from = tuple(card["classes"]), dict(card["learned_from"])
    except (ValueError, KeyError, TypeError, AttributeError, UsageError):
        raise CrosshapeError(f"{place / CARD} is not the card of a head. Learn it again.") from None
    if owner != model.fingerprint:
        raise CrosshapeError(
            f"{folder} was learned on model {owner}, this run is {model.fingerprint}."
            f" Learn again: crosshape segment RUN --learn DATA --head FOLDER"
        )
    head = Head(local, whole, [len(names) for names in parts], settings)
    try:
        state = load_file(place / WEIGHTS)
        centres = state.pop("centres").numpy()
        if not all(bool(value.isfinite().all()) for value in state.values()):
            raise ValueError("numbers that are not finite")
        if centres.shape != (len(parts), whole) or not np.isfinite(centres).all():
            raise ValueError("centres of another size")
        head.load_state_dict(state)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CrosshapeError(f"{place / WEIGHTS} does not fit its card ({reason}). Learn it again.") from None
    return LearnedHead(
        head.to(model.device).eval(), classes, parts, centres, settings, points, owner, learned_from
    )


def segment_shape(model: Model, learned: LearnedHead, shape: Shape, category: str | None = None) -> Parts:
    """The part of every face of a mesh, of every point of a cloud.

    Four seeded samples are asked; a face takes the answers of the three sampled points nearest to its middle, a
    point of a cloud likewise. Without `category` the class is the one whose labelled shapes the pooled features
    are nearest to. Raises UsageError for a class the head does not know.
    """
    from scipy.spatial import cKDTree

    from crosshape.shapes.surface import normalise, sample_surface

    if category is not None and category not in learned.classes:
        raise UsageError(f"the head knows no class '{category}'; it knows {', '.join(learned.classes)}")
    vertices = normalise(shape.vertices, shape.faces)[0]
    seed = int(shape.content_hash[:15], 16)
    if shape.is_cloud:
        order = [np.random.default_rng(seed + r).permutation(len(vertices)) for r in range(ROUNDS)]
        clouds = np.stack([vertices[np.resize(o, learned.points)] for o in order])
        asked = vertices
    else:
        drawn = [sample_surface(vertices, shape.faces, learned.points, seed + r)[0] for r in range(ROUNDS)]
        clouds, asked = np.stack(drawn), vertices[shape.faces].mean(1)
    local, whole = encode_block(model, clouds)
    if category is None:
        near = unit(whole.cpu().numpy()) @ unit(learned.centres).T
        category = learned.classes[int(near.mean(0).argmax())]
    label = learned.classes.index(category)
    first = starts([len(names) for names in learned.parts])[label]
    chances = predict(learned.head, local, whole, np.full(len(clouds), label))
    names = learned.parts[label]
    mine = chances[:, :, first : first + len(names)].reshape(-1, len(names))
    _, nearest = cKDTree(clouds.reshape(-1, 3)).query(asked, k=min(3, len(mine)))
    votes = mine[np.reshape(nearest, (len(asked), -1))].sum(1)
    return Parts(shape, category, votes.argmax(1), names)


def colours(count: int) -> np.ndarray:
    """(count, 3) uint8: colours of parts, well apart."""
    shown = [colorsys.hsv_to_rgb((i * 0.61803 + 0.08) % 1, 0.62, 0.92 - 0.22 * (i % 2)) for i in range(count)]
    return np.round(np.array(shown).reshape(-1, 3) * 255).astype(np.uint8)


def write_parts(found: Parts, path: Path) -> None:
    """The shape coloured by part, as .ply (Z up, colours on faces) or .glb (Y up, colours on corners)."""
    import trimesh

    colour = colours(len(found.names))[found.numbers]
    vertices, faces = found.shape.vertices, found.shape.faces
    if path.suffix == ".glb":
        vertices = vertices[:, [0, 2, 1]] * [1, 1, -1]
        if len(faces):  # a corner has one colour, so faces no longer share corners
            vertices, colour = vertices[faces].reshape(-1, 3), np.repeat(colour, 3, axis=0)
            faces = np.arange(len(vertices)).reshape(-1, 3)
    if not len(faces):
        made: Any = trimesh.PointCloud(vertices, colors=colour)
    elif path.suffix == ".glb":
        made = trimesh.Trimesh(vertices, faces, vertex_colors=colour, process=False)
    else:
        made = trimesh.Trimesh(vertices, faces, face_colors=colour, process=False)
    write_whole(path, made.export(file_type=path.suffix[1:]))


def write_labels(found: Parts, path: Path) -> None:
    """The parts of a mesh as `crosshape segment --learn` reads them: a name, then its 1-based faces.

    Faces are numbered as in the file that `write_parts` makes, which lacks those that loading dropped.
    """
    lines = []
    for number, name in enumerate(found.names):
        faces = np.flatnonzero(found.numbers == number) + 1
        if len(faces):
            lines += [name, " ".join(map(str, faces.tolist())), ""]
    write_whole(path, "\n".join(lines).encode() + b"\n")


def load_guarded(path: Path, limits: Limits, up: str) -> Shape:
    """What a guarded child runs for one file."""
    from crosshape.shapes.files import load_shape

    return load_shape(path, limits, up)
