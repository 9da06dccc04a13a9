"""Did training help? An answer without labels, on shapes that training never saw.

Three questions, each against the same networks untrained: does the judge know which picture and which cloud
belong together; is a shape found again by one picture of it; is it found again by other points of its surface,
turned and jittered.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch

from crosshape.learning.augment import augment_points
from crosshape.networks.model import Model
from crosshape.shapes.views import downscale

LEAST = 100
"""Shapes a library must hold for some to be held out."""
GALLERY = 300
"""Shapes among which a held-out shape is looked for."""


@dataclass(frozen=True)
class Verdict:
    """Shares of held-out shapes, 0 to 1: right answers of the judge, found by a picture, found by a cloud."""

    judge: float
    by_picture: float
    by_cloud: float


def hold_out(count: int, share: float, seed: int) -> np.ndarray:
    """Sorted rows (H,) of `count` shapes that are kept from training; none of fewer than 100 shapes."""
    if count < LEAST or share <= 0:
        return np.zeros(0, np.int64)
    order = np.random.Generator(np.random.PCG64([seed, 77])).permutation(count)
    return np.sort(order[: max(1, min(round(share * count), GALLERY // 2))])


def gallery(count: int, held: np.ndarray, seed: int = 0) -> np.ndarray:
    """Sorted rows (G,) of `count` shapes: the held-out ones and, up to GALLERY, others among which they are sought."""
    others = np.setdiff1d(np.arange(count), held)
    chance = np.random.Generator(np.random.PCG64([seed, 79]))
    return np.sort(np.concatenate([held, chance.permutation(others)[: max(0, GALLERY - len(held))]]))


def measure(model: Model, points: np.ndarray, views: np.ndarray, held: np.ndarray, seed: int = 0) -> Verdict:
    """Points (G, P, 3) and views (G, V, S, S) of a `gallery`, rows (H,) of it that training never saw -> Verdict.

    The judge answers for every held-out picture with every held-out cloud, true and false pairs of equal
    weight (0.5 is chance). A shape is found where it is the nearest of the gallery, by cosine. Views are scaled
    down to the size that the model reads.
    """
    chance = np.random.Generator(np.random.PCG64([seed, 78]))
    rows = np.concatenate([held, np.setdiff1d(np.arange(len(points)), held)])
    ring = views.shape[1]
    shown = chance.integers(ring, size=len(held))

    each = model.encode_views(np.stack([downscale(np.asarray(views[row]), model.image_size) for row in rows]))
    picture = each[np.arange(len(held)), shown]
    rest = each.copy()
    rest[np.arange(len(held)), shown] = -np.inf
    by_picture = _found(picture, rest.max(axis=1))

    order = chance.permutation(points.shape[1])
    count = min(model.point_count, points.shape[1] // 2)
    clouds = np.asarray(points[rows])
    gallery = model.encode_points(clouds[:, order[:count]])
    generator = torch.Generator().manual_seed(seed)
    turned = augment_points(
        torch.from_numpy(clouds[: len(held), order[count:]].copy()), count, "rigid", generator
    )
    by_cloud = _found(model.encode_points(turned.numpy()), gallery)

    whole = model.encode_points(clouds[: len(held)])
    logits = model.correspond(picture, whole)
    true = np.diagonal(logits) > 0
    false = logits[~np.eye(len(held), dtype=bool)] > 0
    judge = (true.mean() + 1 - false.mean()) / 2 if len(false) else float(true.mean())
    return Verdict(float(judge), by_picture, by_cloud)


def _found(queries: np.ndarray, gallery: np.ndarray) -> float:
    """Share of queries (H, D) whose nearest by cosine among (G, D) is the row of the same number."""
    unit = [x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (queries, gallery)]
    return float(((unit[0] @ unit[1].T).argmax(axis=1) == np.arange(len(queries))).mean())


def words(verdicts: dict[str, Verdict], held: int, before: str | None = None) -> str:
    """A table and a sentence or two; verdicts are of `trained`, `untrained` and of models that come along.

    before: the run that training started from, which may have learned from these shapes.
    """
    unseen = "training never saw" if before is None else f"this training did not see ({before} may have)"
    lines = [
        f"without labels, on {held} shapes that {unseen}:",
        f"  {'':<12}  judge right  found by a picture  found by other points",
    ]
    for name, verdict in verdicts.items():
        judge, picture, cloud = (f"{100 * value:.0f} %" for value in asdict(verdict).values())
        lines.append(f"  {name:<12}{judge:>13}{picture:>20}{cloud:>23}")
    trained, untrained = verdicts["trained"], verdicts["untrained"]
    gains = {
        "pictures": trained.by_picture - untrained.by_picture,
        "clouds": trained.by_cloud - untrained.by_cloud,
    }
    noise = 2 * 0.5 / max(held, 1) ** 0.5
    helped = [name for name, gain in gains.items() if gain > noise]
    hurt = [name for name, gain in gains.items() if gain < -noise]
    others = {name: verdict for name, verdict in verdicts.items() if name not in ("trained", "untrained")}
    better = [
        name
        for name, verdict in others.items()
        if min(verdict.by_picture - trained.by_picture, verdict.by_cloud - trained.by_cloud) > noise
    ]
    if hurt:
        text = f"training made {' and '.join(hurt)} worse: train longer, on more shapes, or not at all."
    elif helped:
        text = f"training helped {' and '.join(helped)}."
    elif min(trained.by_picture, trained.by_cloud) > 0.95:
        text = "both are near the top with and without training; this measure cannot tell them apart."
    else:
        text = "training made no clear difference: train longer or on more shapes."
    lines.append(f"  {text}")
    if better:
        lines.append(
            f"  {better[0]}, which comes with crosshape, does better here: crosshape embed {better[0]} ..."
        )
    return "\n".join(lines)
